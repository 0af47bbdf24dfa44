#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Replays every trace of NEBULA_TRACES (default ../shared/traces) with SLRU and LRU at 1 % and 10 % of its footprint, and says
# whether all is as promised: no law broken, no leak, granted <= budget, fewer misses by SLRU than by LRU on the mean.
#   scripts/replay-all.sh [CSV]     NEBULA_REPLAY: the program (default build/bin/nebula-replay)
#   CSV: where the rows go (default build/replay-all.csv)
# Exit status: 0; 1 something is off; 77 there are no traces.
set -uo pipefail
cd "$(dirname "$0")/.."
replay=${NEBULA_REPLAY:-build/bin/nebula-replay}
folder=${NEBULA_TRACES:-../shared/traces}
csv=${1:-build/replay-all.csv}

[ -x "$replay" ] || { echo "$replay is not there: run make build" >&2; exit 1; }
shopt -s nullglob
traces=("$folder"/*.txt "$folder"/*.txt.gz "$folder"/*.txt.xz "$folder"/*.txt.zst)
[ ${#traces[@]} -gt 0 ] || { echo "no traces in $folder" >&2; exit 77; }

table=$(mktemp)
trap 'rm -f "$table"' EXIT
rm -f "$csv"
"$replay" --budget 1%,10% --policy slru,lru --csv "$csv" "${traces[@]}" | tee "$table"
status=${PIPESTATUS[0]}
[ -e "$csv" ] || { echo "no rows: exit status $status" >&2; exit 1; }

leaks=$(sed -n 's/^# leaks: \([0-9]*\), broken laws: .*/\1/p' "$table")
laws=$(sed -n 's/^# leaks: .*, broken laws: \([0-9]*\)$/\1/p' "$table")
echo
awk -F, -v traces=${#traces[@]} -v status="$status" -v leaks="${leaks:-1}" -v laws="${laws:-1}" '
    NR == 1 { next }
    {
        # from the end: the first column may be a quoted name with commas
        policy = $(NF - 16); miss = $(NF - 11); granted = $(NF - 6); budget = $(NF - 13)
        rows++
        if (granted > budget) above++
        sum[policy] += miss
        count[policy]++
    }
    END {
        slru = count["slru"] ? sum["slru"] / count["slru"] : 1
        lru = count["lru"] ? sum["lru"] / count["lru"] : 0
        printf "rows %d of %d traces\nbroken laws %d\nleaks %d\nrows with granted > budget %d\n", rows, traces, laws, leaks, above
        printf "mean object miss ratio: SLRU %.6f, LRU %.6f\n", slru, lru
        fine = status == 0 && laws == 0 && leaks == 0 && !above && rows > 0 && count["slru"] == count["lru"] && slru < lru
        print fine ? "all as promised" : "NOT as promised (exit status of the replay: " status ")"
        exit !fine
    }' "$csv"
