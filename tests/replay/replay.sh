#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# nebula-replay from outside: workload, formats, refusals, output files, exit statuses. NEBULA_REPLAY: the program.
set -uo pipefail
replay=${NEBULA_REPLAY:?the program to test}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# fail WHAT: notes a failure and shows the last run
fail() {
    echo "FAILED: $*"
    echo "  status $status"
    sed 's/^/  out: /' "$dir/out" | head -n 20
    sed 's/^/  err: /' "$dir/err" | head -n 20
    failed=1
}
# run ARGUMENT...: leaves its output in $dir/out and $dir/err, its exit status in $status; stdin is the caller's
run() {
    timeout 120 "$replay" "$@" >"$dir/out" 2>"$dir/err"
    status=$?
}
wants() { [ "$status" -eq "$1" ] || fail "$2: exit status $1 wanted"; }
err_has() { grep -qF -- "$1" "$dir/err" || fail "\"$1\" wanted on standard error"; }
out_has() { grep -qF -- "$1" "$dir/out" || fail "\"$1\" wanted on standard output"; }
# The columns that do not depend on time and machine: policy to granted bytes. One shard: keys are spread over several by a
# random hash, so that two runs with more than one are not the same.
figures() { cut -d, -f2-12 "$1"; }

# A trace of some 2,000 keys, sizes by key. A program under a sanitizer is slow and gets a shorter one.
requests=${NEBULA_TEST_REQUESTS:-12000}
awk -v n="$requests" 'BEGIN { srand(7); for (i = 0; i < n; i++) { k = int(3000 * rand() ^ 3); print k, 100 + k * 7919 % 3000 } }' \
    >"$dir/small.txt"

# ---- the built-in workload
run --requests $((requests * 2 / 3)) --csv "$dir/a.csv" </dev/null
wants 0 "built-in workload"
out_has "leaks: 0, broken laws: 0"
tail -n 1 "$dir/out" | grep -qE '^# root scope: 0 bytes held at the end, peak [1-9][0-9]* bytes' ||
    fail "the last line tells what the root scope held and its peak"
[ "$(wc -l <"$dir/a.csv")" -eq 5 ] || fail "two policies and two budgets make four rows"
run --requests $((requests * 2 / 3)) --budget 1MiB,3MiB --shards 1 --csv "$dir/a1.csv" </dev/null
run --requests $((requests * 2 / 3)) --budget 1MiB,3MiB --shards 1 --seed 1 --csv "$dir/b.csv" </dev/null
cmp -s <(figures "$dir/a1.csv") <(figures "$dir/b.csv") || fail "the same seed gives the same rows"
run --requests $((requests * 2 / 3)) --budget 1MiB,3MiB --shards 1 --seed 2 --csv "$dir/b.csv" </dev/null
cmp -s <(figures "$dir/a1.csv") <(figures "$dir/b.csv") && fail "another seed gives other rows"

# ---- the header is the contract
header=trace,policy,objective,threads,budget_bytes,requests,object_miss_ratio,byte_miss_ratio,evictions,rejections
header+=,used_bytes,granted_bytes,rss_peak_bytes,requests_per_second,p50_ns,p99_ns,p999_ns,leaks
[ "$(head -n 1 "$dir/a.csv")" = "$header" ] || fail "the columns of the CSV"

# ---- one trace, five ways
lines=$(wc -l <"$dir/small.txt")
gzip -c "$dir/small.txt" >"$dir/small.txt.gz"
xz -c "$dir/small.txt" >"$dir/small.txt.xz"
zstd -qc "$dir/small.txt" >"$dir/small.txt.zst"
run --budget 1MiB,10% --csv "$dir/plain.csv" "$dir/small.txt"
wants 0 "a text trace"
[ "$(grep -c "^small.txt,[a-z]*,hits,1,[0-9]*,$lines,0\.[0-9]*,0\.[0-9]*," "$dir/plain.csv")" -eq 4 ] ||
    fail "four rows of $lines requests"
for kind in gz xz zst; do
    run --budget 1MiB,10% --csv "$dir/packed.csv" "$dir/small.txt.$kind"
    wants 0 "a $kind trace"
    cmp -s <(figures "$dir/plain.csv") <(figures "$dir/packed.csv") || fail "$kind gives the rows of the plain file"
done
run --budget 1MiB,10% --csv - - <"$dir/small.txt"
wants 0 "standard input from a file"
cmp -s <(figures "$dir/plain.csv") <(figures "$dir/out") || fail "standard input gives the rows of the file"
run --budget 1MiB,10% --csv - - < <(cat "$dir/small.txt.gz")
wants 0 "standard input from a pipe"
cmp -s <(figures "$dir/plain.csv") <(figures "$dir/out") || fail "a packed pipe gives the rows of the file"
run --budget 1MiB,10% --csv - <(cat "$dir/small.txt")
wants 0 "a pipe given by name"
cmp -s <(figures "$dir/plain.csv") <(figures "$dir/out") || fail "a pipe gives the rows of the file"
cat "$dir/small.txt.gz" "$dir/small.txt.gz" >"$dir/twice.gz"
run --budget 1MiB --policy lru --csv - "$dir/twice.gz"
wants 0 "a gzip file of two members"
grep -q ",$((2 * lines)),0\." "$dir/out" || fail "both members of a gzip file are read"

# ---- oracleGeneral: the same trace gives the same rows
byte() { printf '\\x%02x' $(($1 & 255)); }
number() { # VALUE COUNT: little endian
    local i
    for ((i = 0; i < $2; i++)); do byte $(($1 >> (8 * i))); done
}
head -n 300 "$dir/small.txt" >"$dir/short.txt"
while read -r key size; do
    printf '%s' "$(number 0 4)$(number "$key" 8)$(number "$size" 4)$(number -1 8)"
done <"$dir/short.txt" >"$dir/escaped"
printf '%b' "$(cat "$dir/escaped")" >"$dir/short.bin"
[ "$(wc -c <"$dir/short.bin")" -eq 7200 ] || fail "300 records of 24 bytes were made"
run --budget 128KiB --csv "$dir/text.csv" "$dir/short.txt"
wants 0 "the short trace as text"
run --budget 128KiB --format oracle --csv "$dir/oracle.csv" "$dir/short.bin"
wants 0 "the short trace as oracleGeneral"
cmp -s <(figures "$dir/text.csv") <(figures "$dir/oracle.csv") || fail "both formats give the same rows"
[ "$(wc -l <"$dir/oracle.csv")" -eq 3 ] || fail "the oracle rows are there"
head -c 7190 "$dir/short.bin" >"$dir/cut.bin"
run --budget 128KiB --format oracle "$dir/cut.bin"
wants 1 "a record cut short"
err_has "$dir/cut.bin: record 300: "
run --budget 128KiB "$dir/short.bin"
wants 1 "a binary trace taken for text"
err_has "--format"

# ---- sizes
yes '' | awk 'NR > 3000 { exit } { print NR * NR % 1009 }' >"$dir/nosize.txt"
sed 's/$/ 1/' "$dir/nosize.txt" >"$dir/ones.txt"
sed 's/$/ 8192/' "$dir/nosize.txt" >"$dir/eight.txt"
run --budget 1MiB --default-size 8KiB --csv "$dir/nosize.csv" "$dir/nosize.txt"
wants 0 "a trace without sizes"
run --budget 1MiB --default-size 8KiB --csv "$dir/ones.csv" "$dir/ones.txt"
wants 0 "a trace whose sizes are all 1"
out_has "all sizes are 1: taken as 8.00 KiB"
run --budget 1MiB --csv "$dir/eight.csv" "$dir/eight.txt"
cmp -s <(figures "$dir/nosize.csv") <(figures "$dir/eight.csv") || fail "the default size stands for a missing one"
cmp -s <(figures "$dir/ones.csv") <(figures "$dir/eight.csv") || fail "the default size stands for sizes that are all 1"
awk 'BEGIN { for (i = 0; i < 1000; i++) { print i % 50, 1000; if (i % 100 == 0) print "big", 3000000 } }' >"$dir/big.txt"
run --budget 1MiB --policy lru --csv - "$dir/big.txt"
wants 0 "objects above the budget"
[ "$(tail -n 1 "$dir/out" | cut -d, -f10)" = 10 ] || fail "each of them counts as rejected"

# ---- broken lines
broken() { # TEXT WHAT: a trace of two good lines around a broken third one
    printf 'a 1000\nb 2000\n%b\nc 3000\n' "$1" >"$dir/broken.txt"
    run --budget 1MiB "$dir/broken.txt"
    wants 1 "$2"
    err_has "nebula-replay: $dir/broken.txt: line 3: $2"
}
broken '' "the line has no key"
broken 'a b c' "the line has more than two fields"
broken 'a 1x' "the size is not a decimal number"
broken 'a -1' "the size is negative"
broken 'a 1099511627777' "the size is above 2^40"
broken 'a\0b 1' "the line has a NUL byte"
broken "$(printf 'k%.0s' {1..65536}) 1" "the key is longer than 65,535 bytes"
broken "$(printf 'k%.0s' {1..70000})" "the line is longer than 65,600 bytes"
run --budget 1MiB "$dir/broken.txt" "$dir/small.txt" --csv "$dir/after.csv"
wants 1 "a broken trace before a good one"
[ "$(wc -l <"$dir/after.csv")" -eq 3 ] || fail "the good one is replayed all the same"
(
    awk 'NR % 100 == 0 { print "x y z" } { print }' "$dir/small.txt"
) >"$dir/some.txt"
run --budget 1MiB,10% --skip-bad --csv "$dir/some.csv" "$dir/some.txt"
wants 0 "--skip-bad"
out_has "$((requests / 100)) broken lines skipped"
# Lines are replayed by batches of 512, and after each the laws are looked at, which tells the policy of hits. Broken lines in between shift the
# batches, so a hit or two are told earlier; a whole batch of them in front shifts nothing.
paste -d, "$dir/plain.csv" <(sed 's/some.txt/small.txt/' "$dir/some.csv") |
    awk -F, 'FNR > 1 && ($1 != $19 || $2 != $20 || $6 != $24 || ($7 - $25) ^ 2 > 0.001 ^ 2) { exit 1 }' ||
    fail "the rest is replayed as if they were not there"
{ for ((i = 0; i < 512; i++)); do echo "x y z"; done; cat "$dir/small.txt"; } >"$dir/front.txt"
run --budget 1MiB,10% --skip-bad --csv "$dir/front.csv" "$dir/front.txt"
wants 0 "--skip-bad of a whole batch"
cmp -s <(figures "$dir/plain.csv") <(figures "$dir/front.csv") || fail "a batch of broken lines changes nothing"
run --skip-bad - < <(echo "a b")
wants 1 "nothing but broken lines"
err_has "standard input: has no request"

# ---- unreadable traces
: >"$dir/empty.txt"
gzip -c "$dir/empty.txt" >"$dir/empty.txt.gz"
for file in "$dir/empty.txt" "$dir/empty.txt.gz"; do
    run "$file"
    wants 1 "an empty trace"
    err_has "nebula-replay: $file: is empty"
done
run "$dir/absent.txt"
wants 1 "an absent trace"
err_has "nebula-replay: $dir/absent.txt: No such file or directory"
run "$dir"
wants 1 "a directory"
err_has "nebula-replay: $dir: is a directory"
for kind in gz xz zst; do
    bytes=$(wc -c <"$dir/small.txt.$kind")
    for keep in 3 $((bytes / 2)) $((bytes - 1)); do
        head -c "$keep" "$dir/small.txt.$kind" >"$dir/cut.$kind"
        run --budget 1MiB "$dir/cut.$kind"
        wants 1 "$kind cut to $keep of $bytes bytes"
        err_has "nebula-replay: $dir/cut.$kind: "
    done
    for at in $((bytes / 3)) $((bytes / 2)) $((bytes - 6)); do
        cp "$dir/small.txt.$kind" "$dir/flipped.$kind"
        old=$(od -An -tu1 -j "$at" -N 1 "$dir/flipped.$kind" | tr -d ' ')
        printf '%b' "$(byte $((old ^ 16)))" | dd of="$dir/flipped.$kind" bs=1 seek="$at" conv=notrunc status=none
        run --budget 1MiB "$dir/flipped.$kind"
        wants 1 "$kind with one bit changed at byte $at"
        err_has "nebula-replay: $dir/flipped.$kind: "
    done
done

# ---- usage
usage() { # MESSAGE ARGUMENT...
    local message=$1
    shift
    run "$@" </dev/null
    wants 2 "$*"
    err_has "nebula-replay: $message"
    [ -s "$dir/out" ] && fail "$*: nothing on standard output"
}
usage "--policy lfu: unknown policy; allowed: slru, lru, s3fifo, adaptive" --policy slru,lfu
usage "--policy : unknown policy; allowed: slru, lru" --policy slru,
for bad in 0 0% -1 "12 parsecs" 1001% 129TiB 8388607TiB 99999999999TiB; do
    usage "--budget: $bad: must be a size between 1 byte and 128TiB" --budget="1MiB,$bad"
done
usage "--threads 0: must be a number from 1 to 256" --threads 0
usage "--threads 257: must be a number from 1 to 256" --threads 257
usage "--shards 3: must be a power of two from 1 to 256" --shards 3
usage "--objective both: must be hits or bytes" --objective both
usage "--format csv: must be text or oracle" --format csv
usage "--default-size 0: must be a size from 1 to 1TiB" --default-size 0
usage "--requests 0: must be a number from 1 to" --requests 0
usage "--seed x: must be a number from 0 to" --seed x
usage "--requests, --seed: only for the built-in workload" --seed 1 "$dir/small.txt"
usage "--format oracle: needs a TRACE" --format oracle
usage "-: standard input can be replayed only once" - -
usage "--csv, --json, --chart, --curve: standard output takes only one of them" --csv - --json -
usage "--csv, --json, --chart, --curve: standard output takes only one of them" --chart - --curve=-
usage "unrecognized option '--frobnicate'" --frobnicate
run --help
wants 0 "--help"
out_has "Usage: nebula-replay"
run --version
wants 0 "--version"
out_has "nebula-replay "

# ---- points that make no sense
run --budget 1,1MiB --csv "$dir/skip.csv" "$dir/small.txt"
wants 0 "a budget below the least one"
[ "$(grep -c 'skipped: below the cache.s least budget of ' "$dir/out")" -eq 2 ] || fail "it is skipped, with the reason"
[ "$(wc -l <"$dir/skip.csv")" -eq 3 ] || fail "it is in no row"
printf 'a 1000000\nb 1000000\n' >"$dir/two.txt"
run --budget 100% --policy lru "$dir/two.txt"
wants 0 "a budget below 10 average entries"
out_has "skipped: below 10 average entries of "
out_has "0 runs, 1 thread, objective hits; 0 failed, 1 points skipped"

# ---- a percentage is of the footprint, and the whole of it misses only what is new
run --budget 200% --csv - "$dir/small.txt"
wants 0 "a budget of twice the footprint"
unique=$(cut -d' ' -f1 "$dir/small.txt" | sort -u | wc -l)
ratio=$(awk -v u="$unique" -v n="$lines" 'BEGIN { printf "%.6f", u / n }')
[ "$(cut -d, -f7 "$dir/out" | grep -c "^$ratio\$")" -eq 2 ] || fail "only the first request of a key misses ($ratio)"
[ "$(cut -d, -f9,10 "$dir/out" | grep -c '^0,0$')" -eq 2 ] || fail "nothing is evicted or rejected"

# ---- options that go into the rows, and threads
run --budget 1MiB --objective bytes --shards 1 --threads 4 --csv - "$dir/small.txt"
wants 0 "four threads"
[ "$(grep -c "^small.txt,s\?lru,bytes,4,1048576,$lines,.*,0\$" "$dir/out")" -eq 2 ] || fail "objective, threads, all requests, 0 leaks"
err_has "leaks: 0, broken laws: 0"
awk -F, 'NR > 1 && !($11 <= $12 && $12 <= $5 && $13 > 0 && $14 > 0 && $15 <= $16 && $16 <= $17) { exit 1 }' "$dir/out" ||
    fail "used <= granted <= budget, p50 <= p99 <= p999"

# ---- files appear whole or not at all
run --budget 1MiB --policy slru --json "$dir/a.json" --csv "$dir/a.csv" "$dir/small.txt"
wants 0 "CSV and JSON"
[ "$(grep -c '^ *"[a-z0-9_]*": ' "$dir/a.json")" -eq 18 ] || fail "a JSON object has the 18 columns"
IFS=, read -r -a names <"$dir/a.csv"
for name in "${names[@]}"; do grep -q "^ *\"$name\": " "$dir/a.json" || fail "$name is in the JSON"; done
used=$(tail -n 1 "$dir/a.csv" | cut -d, -f11)
grep -q "\"used_bytes\": $used," "$dir/a.json" || fail "the values are those of the CSV"
if command -v jq >/dev/null; then jq -e 'length == 1' "$dir/a.json" >/dev/null || fail "jq reads the JSON"; fi
odd="$dir/a,\"b\".txt"
cp "$dir/small.txt" "$odd"
run --budget 1MiB --policy lru --csv - "$odd"
grep -qF '"a,""b"".txt",lru,' "$dir/out" || fail "a name with comma and quotes is quoted in the CSV"
run --budget 1MiB --policy lru --json - "$odd"
grep -qF '"trace": "a,\"b\".txt"' "$dir/out" || fail "and in the JSON"
echo keep >"$dir/keep.csv"
run --csv "$dir/keep.csv" "$dir/absent.txt"
wants 1 "no row at all"
[ "$(cat "$dir/keep.csv")" = keep ] || fail "a file is not replaced by nothing"
chmod 640 "$dir/keep.csv"
ln -s keep.csv "$dir/link.csv"
run --budget 1MiB --csv "$dir/link.csv" "$dir/small.txt"
[ -L "$dir/link.csv" ] && [ "$(head -n 1 "$dir/keep.csv")" = "$header" ] || fail "a link is followed"
[ "$(stat -c %a "$dir/keep.csv")" = 640 ] || fail "a replaced file keeps its mode"
run --budget 1MiB --csv /dev/null "$dir/small.txt"
wants 0 "a device"
[ -c /dev/null ] || fail "a device is written to, not replaced"
run --csv "$dir/nowhere/a.csv" "$dir/small.txt"
wants 1 "a folder that is not there"
err_has "nebula-replay: $dir/nowhere/a.csv: cannot write: "
[ -s "$dir/out" ] && fail "that is found before the first run"
if [ -c /dev/full ]; then
    timeout 60 "$replay" --budget 1MiB "$dir/small.txt" >/dev/full 2>"$dir/err"
    status=$?
    wants 1 "standard output is full"
    err_has "cannot write"
fi
find "$dir" -name '*.csv.*' -o -name '*.json.*' | grep -q . && fail "nothing is left beside the files"

[ $failed -eq 0 ] && echo "all as wanted"
exit $failed
