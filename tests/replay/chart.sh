#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# nebula-replay --chart and --curve from outside. NEBULA_REPLAY: the program. 77: skipped, no gnuplot.
set -uo pipefail
replay=${NEBULA_REPLAY:?the program to test}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    echo "  status $status"
    sed 's/^/  out: /' "$dir/out" | head -n 20
    sed 's/^/  err: /' "$dir/err" | head -n 20
    failed=1
}
run() {
    timeout 250 "$replay" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    status=$?
}
wants() { [ "$status" -eq "$1" ] || fail "$2: exit status $1 wanted"; }

# ---- without gnuplot, the reason is told before the first run, and no file appears
(
    PATH=$dir
    "$replay" --requests 1000 --chart "$dir/none.svg" >"$dir/out" 2>"$dir/err" </dev/null
)
status=$?
wants 1 "no gnuplot on the PATH"
grep -q '^nebula-replay: chart: gnuplot is needed and was not found' "$dir/err" || fail "the reason on standard error"
[ ! -s "$dir/out" ] && [ ! -e "$dir/none.svg" ] || fail "nothing is run and nothing is written"
if ! command -v gnuplot >/dev/null; then
    [ $failed -eq 0 ] && echo "gnuplot is not installed: skipped" && exit 77
    exit 1
fi

well_formed() { # FILE: by a parser, if there is one; by its end else
    if command -v xmllint >/dev/null; then
        xmllint --noout "$1" 2>>"$dir/err"
    elif command -v python3 >/dev/null; then
        python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$1" 2>>"$dir/err"
    else
        [ "$(head -c 5 "$1")" = "<?xml" ] && [ "$(tail -n 1 "$1")" = "</svg>" ]
    fi
}
# line SVG TITLE: how many lines (paths in the group of that title) there are with at least 2 points beside the legend's sample
line() {
    awk -v title="<title>$2</title>" '
        /<g id="gnuplot_plot_/ { inside = index($0, title) > 0 }
        inside && /<path / { collecting = 1; path = "" }
        collecting { path = path $0; if (/\/>/) { collecting = 0; if (gsub(/L/, "L", path) >= 3) count++ } }
        END { print count + 0 }' "$1"
}
requests=${NEBULA_TEST_REQUESTS:-40000}
policies=${NEBULA_TEST_POLICIES:-slru,lru,s3fifo,adaptive}

# ---- a chart of the built-in workload
run --requests "$requests" --policy "$policies" --budget 256KiB,1MiB,4MiB,16MiB --chart "$dir/a.svg" --csv "$dir/a.csv"
wants 0 "a chart"
well_formed "$dir/a.svg" || fail "the SVG is well-formed"
for policy in ${policies//,/ }; do
    [ "$(line "$dir/a.svg" "$policy")" -eq 1 ] || fail "$policy has one line"
done
for text in 'Miss ratio by cache budget: built-in' 'cache budget, bytes (logarithmic)' 'object miss ratio, % of requests' '1 MiB'; do
    grep -qF "$text" "$dir/a.svg" || fail "\"$text\" in the picture"
done
grep -qF '<title>Gnuplot</title>' "$dir/a.svg" && fail "the picture has a title of its own"

# ---- what the caches predict: in the chart, in the table and in a file, beside what was measured
run --requests "$requests" --policy "$policies" --budget 16MiB --curve="$dir/curve.csv" --csv "$dir/b.csv" --chart "$dir/b.svg"
wants 0 "a curve"
well_formed "$dir/b.svg" || fail "the SVG with predictions is well-formed"
[ "$(wc -l <"$dir/curve.csv")" -gt 1 ] || fail "a cache of 16 MiB predicts"
for policy in ${policies//,/ }; do
    told=$(grep -c ",$policy," "$dir/curve.csv")
    [ "$(line "$dir/b.svg" "$policy, predicted")" -eq $((told > 1)) ] || fail "$policy has a predicted line if it predicts"
done
# each prediction that was measured stands beside the figures of the rows; all lie within 0 and 1
awk -F, '
    NR == FNR { if (FNR > 1) { object[$2 "," $5] = $7; bytes[$2 "," $5] = $8 } next }
    FNR == 1 { if ($0 != "trace,policy,objective,threads,at_budget_bytes,budget_bytes,predicted_object_miss_ratio,predicted_byte_miss_ratio,object_miss_ratio,byte_miss_ratio,weighed_object_miss_ratio,weighed_byte_miss_ratio") bad = 1; next }
    { key = $2 "," $6 }
    $9 != "" && ($9 != object[key] || $10 != bytes[key]) { print "not the row of " key; bad = 1 }
    $9 != "" { compared++ }
    $5 != 16777216 || $7 < -0.01 || $7 > 1.01 { print "out of range: " $0; bad = 1 }
    END { if (!compared) { print "nothing compared"; bad = 1 } exit bad }' "$dir/b.csv" "$dir/curve.csv" >>"$dir/err" ||
    fail "the CSV of the curve"
grep -q '^# [0-9]* predictions of object misses at 1/4 to 4 times the budget: off by ' "$dir/out" || fail "the table sums up how far they are off"

# ---- bytes, several traces, names that mean something to others
odd="$dir/it's <a> & \"b\".txt"
awk 'BEGIN { srand(3); for (i = 0; i < 4000; i++) print int(900 * rand() ^ 2), 2000 }' >"$odd"
cp "$odd" "$dir/second.txt"
run --policy lru --objective bytes --budget 200KiB,400KiB,800KiB --chart - "$odd" "$dir/second.txt"
wants 0 "a chart of two traces on standard output"
cp "$dir/out" "$dir/c.svg"
well_formed "$dir/c.svg" || fail "the SVG of two traces is well-formed"
[ "$(line "$dir/c.svg" lru)" -eq 2 ] || fail "each trace has a line"
grep -qF 'byte miss ratio, % of bytes requested' "$dir/c.svg" || fail "the objective decides what is drawn"
grep -qF "it's &lt;a" "$dir/c.svg" || fail "the name is written as text"
grep -q '^# leaks: 0, broken laws: 0$' "$dir/err" || fail "the table goes to standard error"

# ---- refusals
echo keep >"$dir/keep.svg"
run --requests 100 --budget 1 --chart "$dir/keep.svg"
wants 1 "nothing to draw"
grep -qF 'nebula-replay: chart: there is nothing to draw' "$dir/err" || fail "the reason on standard error"
[ "$(cat "$dir/keep.svg")" = keep ] || fail "an older picture stays"
run --chart "$dir/nowhere/a.svg"
wants 1 "a folder that is not there"
grep -qF "nebula-replay: $dir/nowhere/a.svg: cannot write: " "$dir/err" || fail "the reason on standard error"
find "$dir" -name '*.svg.*' | grep -q . && fail "nothing is left beside the files"

[ $failed -eq 0 ] && echo "all as wanted"
exit $failed
