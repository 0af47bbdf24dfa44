#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Counts the instructions of what programs do most often, with callgrind over bench/instructions, and prints a table.
#   scripts/count-instructions.sh [BUILD_DIR]
# BUILD_DIR (build) is configured with the release preset and gcc if it is not there yet. Each work runs with two counts, and the
# difference is divided, so that start and end of the program fall out. `allocation` is alloc16 without the counting of the loop
# around it: the allocation, the look at NULL and the store. Fails if that is more than MOST_PER_ALLOCATION (14), or a lease with
# its release more than MOST_PER_LEASE (72): unlike a time, an instruction count can be told on a busy machine.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build}
most=${MOST_PER_ALLOCATION:-14}
most_lease=${MOST_PER_LEASE:-72}
command -v valgrind >/dev/null || { echo "count-instructions: valgrind is missing (scripts/setup.sh bench)" >&2; exit 2; }
if [ -e "$build/CMakeCache.txt" ]; then
    cmake -B "$build" -DNEBULA_BENCH=ON >/dev/null
else
    cmake --preset release -B "$build" -DCMAKE_C_COMPILER="${CC:-gcc}" -DNEBULA_BENCH=ON >/dev/null
fi
cmake --build "$build" --target bench-instructions >/dev/null

# Callgrind's own total of one run.
count() {
    local out
    out=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$build/bench/instructions" "$1" "$2" 2>&1) ||
        { echo "$out" >&2; exit 2; }
    sed -n 's/^==[0-9]*== Collected : //p' <<<"$out" | grep -x '[0-9][0-9]*' ||
        { echo "count-instructions: callgrind printed no total" >&2; exit 2; }
}

# row WORK COUNT WHAT: prints the instructions of one, and leaves them in $each.
row() {
    local few many
    few=$(count "$1" "$2")
    many=$(count "$1" $((3 * $2)))
    each=$(awk -v few="$few" -v many="$many" -v n=$((2 * $2)) 'BEGIN { printf "%.2f", (many - few) / n }')
    # more often must be more: else the work did not happen
    awk -v each="$each" 'BEGIN { exit !(each >= 1) }' || { echo "count-instructions: $1 counts nothing" >&2; exit 2; }
    printf '%s,%s,%s\n' "$1" "$each" "$3"
}

echo "work,instructions,of"
row loop 100000 "one round of an empty loop"
loop=$each
row register 100000 "one 16-byte allocation by a hand-written loop, with its store and the loop"
row alloc16 100000 "one 16-byte allocation in an arena, with its store, the loop and a reset for each 1000"
allocation=$(awk -v all="$each" -v loop="$loop" 'BEGIN { printf "%.2f", all - loop }')
echo "allocation,$allocation,alloc16 less loop: at most $most"
row request 2000 "open a scope and an arena, 50 allocations, close"
row request_leak_report 2000 "the same with the leak report on"
row mark_rewind 20000 "allocate, mark, allocate, rewind"
row lease 100000 "lease a buffer, store a word, release it: at most $most_lease"
lease=$each
row lease_many 96000 "the same, 32 with one call"

if awk -v a="$allocation" -v most="$most" 'BEGIN { exit !(a > most) }'; then
    echo "count-instructions: $allocation instructions for a 16-byte allocation, at most $most are allowed" >&2
    exit 1
fi
if awk -v a="$lease" -v most="$most_lease" 'BEGIN { exit !(a > most) }'; then
    echo "count-instructions: $lease instructions for a lease and its release, at most $most_lease are allowed" >&2
    exit 1
fi
