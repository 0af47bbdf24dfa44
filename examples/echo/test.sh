#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# echo from outside: more connections than buffers, idle ones, clients that do not read, the end. ECHO_SERVER and ECHO_CLIENT:
# the programs.
set -uo pipefail
server=${ECHO_SERVER:-} client=${ECHO_CLIENT:-}
for file in "$server" "$client"; do
    [ -n "$file" ] && [ -x "$file" ] || { echo "skipped: the programs are not there (ECHO_SERVER, ECHO_CLIENT)"; exit 77; }
done
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    sed 's/^/  out: /' "$dir/out" | tail -n 5
    sed 's/^/  err: /' "$dir/err" | tail -n 20
    failed=1
}
# start OPTION...: the server on a free port; $port when it answers
start() {
    : >"$dir/out" # not the port of the one before
    "$server" "$@" >"$dir/out" 2>"$dir/err" &
    pid=$!
    local i
    for ((i = 0; i < 200; i++)); do
        port=$(sed -n 's|^echo: 127.0.0.1:||p' "$dir/out")
        [ -z "$port" ] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    fail "the server did not start: $*"
    exit 1
}
# stop SIGNAL LINE...: ends it; what it must have printed. Nothing leaked, nothing held, no sanitizer's report.
stop() {
    kill "-$1" "$pid"
    wait "$pid"
    local status=$? line
    pid=
    [ $status -eq 0 ] || fail "$1: exit status $status"
    shift
    for line in "$@" 'echo: pool "buffers": .*, 0 leased, ' 'echo: closed: [0-9]+ bytes echoed in [0-9]+ turns, 0 leaks, peak [1-9][0-9]* of [1-9][0-9]* bytes$'; do
        grep -qE "^$line" "$dir/out" || fail "no line \"$line\""
    done
    [ ! -s "$dir/err" ] || fail "something on standard error"
}
# speaks OPTION...: the client is content
speaks() {
    timeout 150 "$client" --port "$port" "$@" >"$dir/said" 2>&1 || { cat "$dir/said"; fail "client: $*"; }
}
slow=1
[ -z "${ASAN_OPTIONS:-}${TSAN_OPTIONS:-}" ] || slow=3

echo "500 connections, 4 buffers"
start --buffers 4 --timeout-ms 60000
speaks --connections 500 --bytes 100000 --rounds 2 --pause-ms 300 --seconds 120
speaks --connections 100 --bytes 1 --rounds 20 --seconds 60
stop TERM 'echo: connections: 600 taken, 0 refused, 500 open at most$' 'echo: buffers: 4 of 4 out at most, 0 taken back' \
    'echo: pool .*, [1-9][0-9]* leases refused$'

echo "900 idle connections, 1 buffer"
start --buffers 1
speaks --idle 900 --connections 3 --bytes 3000000 --rounds 2 --seconds 120
stop INT 'echo: connections: 903 taken, 0 refused, 903 open at most$' 'echo: buffers: 1 of 1 out at most, 0 taken back' \
    'echo: pool "buffers": 1 in memory'

echo "clients that do not read"
start --buffers 3 --timeout-ms $((500 * slow))
speaks --stalled 12 --connections 50 --bytes 20000 --idle 5 --seconds 120
stop TERM 'echo: connections: 67 taken, 0 refused, 67 open at most$' 'echo: buffers: 3 of 3 out at most, 12 taken back'
turns=$(sed -n 's/^echo: closed: .* in \([0-9]*\) turns.*/\1/p' "$dir/out")
[ "$turns" -lt 5000 ] || fail "it went round $turns times, mostly while it waited for a buffer"

echo "odd sizes: buffers of a byte and of a prime"
start --buffers 2 --buffer-bytes 1
speaks --connections 20 --bytes 200 --rounds 2 --seconds 120
stop TERM 'echo: buffers: [12] of 2 out at most'
start --buffers 7 --buffer-bytes 4099
speaks --connections 50 --bytes 50000 --pause-ms 300 --seconds 120
stop TERM 'echo: buffers: 7 of 7 out at most'

echo "fewer connections than clients"
start --connections 10 --buffers 2
"$client" --port "$port" --idle 11 --connections 0 --seconds 2 >"$dir/said" 2>&1
[ $? -eq 1 ] && grep -q 'round 1: the time ran out' "$dir/said" || { cat "$dir/said"; fail "the 11th waits in the listener's queue"; }
speaks --connections 10 --bytes 1000 --rounds 3
stop TERM 'echo: connections: 2[01] taken, 0 refused, 10 open at most$'

echo "the end comes while connections are open, some of them stuck"
start --buffers 2
"$client" --port "$port" --idle 20 --stalled 5 --connections 0 --seconds 60 >"$dir/said" 2>&1 &
speaking=$!
sleep $slow
stop TERM 'echo: connections: 25 taken, 0 refused, 25 open at most$' 'echo: buffers: 2 of 2 out at most'
wait $speaking # its connections are gone

echo "usage"
for wrong in '--port 70000' '--port x' '--buffers 0' '--buffer-bytes -1' '--connections 0' '--timeout-ms 0' '--nothing' 'word' '--port'; do
    "$server" $wrong >"$dir/out" 2>"$dir/err"
    [ $? -eq 2 ] || fail "$wrong: exit status 2 wanted"
    grep -qE "^echo: ${wrong%% *}: " "$dir/err" || fail "$wrong: what and why"
done
"$server" --help >"$dir/out" 2>"$dir/err" || fail "--help"
grep -q -- '--buffers N' "$dir/out" || fail "--help names the options"
start
timeout 60 "$server" --port "$port" >"$dir/out2" 2>"$dir/err2"
[ $? -eq 1 ] || fail "a port that is taken: exit status 1 wanted"
grep -q '^echo: 127.0.0.1: Address already in use' "$dir/err2" || fail "a port that is taken: what and why"
timeout 60 "$server" --address here >"$dir/out2" 2>"$dir/err2"
[ $? -eq 1 ] && grep -q '^echo: here: ' "$dir/err2" || fail "an address that is none: what and why"
stop TERM

[ $failed -eq 0 ] && echo "all is as wanted"
exit $failed
