#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# clang-tidy over src and tools, with the flags of a configured build: scripts/tidy.sh [BUILD_DIR]
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build}
# clang-tidy counts the warnings it suppressed in system headers on stderr; --quiet does not hide that line.
git ls-files -z 'src/*.c' 'tools/*.c' |
    xargs -0 -r -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet 2> >(grep -vE '^[0-9]+ warnings? generated' >&2)
