#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# A few short real traces: no law breaks. NEBULA_REPLAY: the program; NEBULA_TRACES: the folder. 77: skipped, no traces.
set -euo pipefail
replay=${NEBULA_REPLAY:?the program to test}
folder=${NEBULA_TRACES:-../shared/traces}

traces=()
for name in lirs-cpp lirs-gli lirs-multi2 lirs-multi3 lirs-2_pools build-headers; do
    if [ -r "$folder/$name.txt.zst" ]; then traces+=("$folder/$name.txt.zst"); fi
done
if [ ${#traces[@]} -eq 0 ]; then
    echo "no traces in $folder: skipped"
    exit 77
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for threads in 1 4; do
    timeout 250 "$replay" --budget 1%,10% --policy slru,lru --threads $threads --csv "$dir/rows.csv" "${traces[@]}" |
        tee "$dir/table"
    grep -q '^# leaks: 0, broken laws: 0$' "$dir/table"
    grep -q '^# root scope: 0 bytes held at the end, ' "$dir/table"
    # columns: 5 budget, 11 used, 12 granted, 18 leaks; the 1 % point of build-headers is below 10 entries
    awk -F, -v least=$((4 * ${#traces[@]} - 2)) '
        NR > 1 && !($11 <= $12 && $12 <= $5 && $18 == 0) { print "broken: " $0; bad = 1 }
        END { if (NR - 1 < least) { print "only " NR - 1 " rows"; bad = 1 } exit bad }' "$dir/rows.csv"
done
