#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Is the whole cache as good as its policies alone? Replays every trace of NEBULA_TRACES (default ../shared/traces) through
# nebula-replay with one shard, and sets each row against the policy alone (bench/policies --against).
#   scripts/compare-policies.sh [CSV]     CSV: where nebula-replay's rows go (default build/compare-policies.csv)
#   BUDGETS, POLICIES, OBJECTIVE: other lists than 0.1%,1%,5%,10%,20% and lru,slru,s3fifo,adaptive; bytes instead of hits
#   BUILD: the build tree (default build), configured with NEBULA_BENCH
# Exit status: 0; 1 something went wrong; 77 there are no traces.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
folder=${NEBULA_TRACES:-../shared/traces}
csv=${1:-$build/compare-policies.csv}

for program in "$build/bin/nebula-replay" "$build/bench/policies"; do
    [ -x "$program" ] || { echo "$program is not there: configure $build with -DNEBULA_BENCH=ON and build it" >&2; exit 1; }
done
shopt -s nullglob
traces=("$folder"/*.txt "$folder"/*.txt.gz "$folder"/*.txt.xz "$folder"/*.txt.zst)
[ ${#traces[@]} -gt 0 ] || { echo "no traces in $folder" >&2; exit 77; }

"$build/bin/nebula-replay" --quiet --shards 1 --policy "${POLICIES:-lru,slru,s3fifo,adaptive}" \
    --budget "${BUDGETS:-0.1%,1%,5%,10%,20%}" --objective "${OBJECTIVE:-hits}" --csv "$csv" "${traces[@]}" >/dev/null
"$build/bench/policies" --against "$csv" "${traces[@]}"
