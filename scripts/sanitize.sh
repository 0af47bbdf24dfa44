#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Builds and tests under a sanitizer: scripts/sanitize.sh asan|tsan [COMPILER [BUILD_DIR]]
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:?usage: $0 asan|tsan [COMPILER [BUILD_DIR]]}
compiler=${2:-cc}
build=${3:-build-$preset}
jobs=$(nproc)

# ThreadSanitizer's fixed shadow does not fit below the most random mmap bases (vm.mmap_rnd_bits above 28):
# where a trivial program cannot start, the tests run without address randomisation.
prefix=()
if [ "$preset" = tsan ]; then
    probe=$(mktemp -d)
    trap 'rm -rf "$probe"' EXIT
    echo 'int main(void) { return 0; }' >"$probe/probe.c"
    "$compiler" -fsanitize=thread "$probe/probe.c" -o "$probe/probe"
    # More than one try: whether it fits is a matter of chance each time.
    for _ in 1 2 3 4 5 6 7 8; do
        if ! "$probe/probe" >/dev/null 2>&1; then
            prefix=(setarch "$(uname -m)" -R)
            "${prefix[@]}" "$probe/probe"
            echo "sanitize: the thread sanitizer needs fixed addresses here: running under setarch -R"
            break
        fi
    done
fi

cmake --preset "$preset" -B "$build" -DCMAKE_C_COMPILER="$compiler" >/dev/null
cmake --build "$build" --parallel "$jobs"
# The sanitizers slow the law tests 5 to 20 times; the full count is the release build's.
export NEBULA_LAW_OPS=${NEBULA_LAW_OPS:-100000}
"${prefix[@]}" ctest --test-dir "$build" --output-on-failure --parallel "$jobs" --no-label-summary --no-tests=error
