#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# How far is a live curve off? Replays every trace of NEBULA_TRACES (default ../shared/traces) through nebula-replay at a few budgets and at
# those that the caches then predict for, and sets predicted object misses against measured ones, over the requests that the
# curve stands for, at 1/4, 1/2, 2 and 4 times each budget.
#   scripts/compare-curves.sh [CSV]     CSV: where the predictions go (default build/compare-curves.csv)
#   BUDGETS, POLICIES, OBJECTIVE: other lists than 1%,5%,10% and lru,slru,s3fifo,adaptive; bytes instead of hits
#   TRACES: names of some of the traces, without their ending, instead of all
#   BUILD: the build tree (default build)
# A table of the mean and the worst error by trace and policy, and of all. Exit status: 0; 1 something went wrong; 77 there are no traces.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
folder=${NEBULA_TRACES:-../shared/traces}
csv=${1:-$build/compare-curves.csv}

[ -x "$build/bin/nebula-replay" ] || { echo "$build/bin/nebula-replay is not there: build it" >&2; exit 1; }
shopt -s nullglob
traces=()
read -ra names <<<"${TRACES:-*}"
for name in "${names[@]}"; do traces+=("$folder"/$name.txt "$folder"/$name.txt.gz "$folder"/$name.txt.xz "$folder"/$name.txt.zst); done
present=()
for trace in "${traces[@]}"; do if [ -r "$trace" ]; then present+=("$trace"); fi; done
[ ${#present[@]} -gt 0 ] || { echo "no traces in $folder" >&2; exit 77; }

"$build/bin/nebula-replay" --quiet --policy "${POLICIES:-lru,slru,s3fifo,adaptive}" --budget "${BUDGETS:-1%,5%,10%}" \
    --objective "${OBJECTIVE:-hits}" --curve="$csv" "${present[@]}" >"$csv.log"
# columns: 1 trace, 2 policy, 5 the predicting cache's budget, 6 the budget predicted for, 7 predicted, 11 measured
awk -F, '
    function add(key, error, at) {
        count[key]++; sum[key] += error
        if (error >= worst[key]) { worst[key] = error; where[key] = at }
    }
    NR == 1 || $11 == "" || $6 / $5 < 0.24 || $6 / $5 > 4.1 || ($6 / $5 > 0.9 && $6 / $5 < 1.1) { next }
    {
        error = $7 > $11 ? $7 - $11 : $11 - $7
        at = sprintf("%.2f times %.2f MiB", $6 / $5, $5 / 1048576)
        if (!($1 in traces)) { traces[$1]; trace[++trace_count] = $1 }
        if (!($2 in policies)) { policies[$2]; policy[++policy_count] = $2 }
        add($1 "," $2, error, at)
        add("all," $2, error, $1 ", " at)
        add("all,all", error, $1 ", " $2 ", " at)
    }
    function line(name, policy, key) {
        key = name "," policy
        if (key in count) printf "%-26s %-9s %6d %8.4f %8.4f  %s\n", name, policy, count[key], sum[key] / count[key], worst[key], where[key]
    }
    END {
        printf "%-26s %-9s %6s %8s %8s  %s\n", "trace", "policy", "points", "mean", "worst", "which is at"
        for (t = 1; t <= trace_count; t++) for (p = 1; p <= policy_count; p++) line(trace[t], policy[p])
        for (p = 1; p <= policy_count; p++) line("all", policy[p])
        line("all", "all")
        exit !("all,all" in count)
    }' "$csv"
