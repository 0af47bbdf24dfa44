#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# A few short real traces: no law breaks. NEBULA_REPLAY: the program; NEBULA_TRACES: the folder. 77: skipped, no traces.
set -euo pipefail
replay=${NEBULA_REPLAY:?the program to test}
folder=${NEBULA_TRACES:-../shared/traces}

present() { # NAME...: those that are there, with their folder
    local name
    for name; do if [ -r "$folder/$name.txt.zst" ]; then echo "$folder/$name.txt.zst"; fi; done
}
names=(lirs-cpp lirs-gli lirs-multi2 lirs-multi3 lirs-2_pools build-headers)
# Set where the program is slow, under a sanitizer.
if [ -n "${NEBULA_TEST_REQUESTS:-}" ]; then names=(lirs-cpp lirs-gli lirs-multi2 build-headers); fi
mapfile -t alone < <(present "${names[@]}")
mapfile -t together < <(present lirs-cpp lirs-gli lirs-multi2)
if [ ${#together[@]} -eq 0 ]; then
    echo "no traces in $folder: skipped"
    exit 77
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# check THREADS LEAST_ROWS TRACE...
check() {
    local threads=$1 least=$2
    shift 2
    timeout 250 "$replay" --budget 1%,10% --policy slru,lru --threads "$threads" --csv "$dir/rows.csv" "$@" |
        tee "$dir/table"
    grep -q '^# leaks: 0, broken laws: 0$' "$dir/table"
    grep -q '^# root scope: 0 bytes held at the end, ' "$dir/table"
    # columns: 5 budget, 11 used, 12 granted, 18 leaks
    awk -F, -v least="$least" '
        NR > 1 && !($11 <= $12 && $12 <= $5 && $18 == 0) { print "broken: " $0; bad = 1 }
        END { if (NR - 1 < least) { print "only " NR - 1 " rows"; bad = 1 } exit bad }' "$dir/rows.csv"
}
check 1 $((4 * ${#alone[@]} - 2)) "${alone[@]}" # the 1 % point of build-headers is below 10 entries
check 4 $((4 * ${#together[@]})) "${together[@]}"
