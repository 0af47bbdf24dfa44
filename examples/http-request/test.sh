#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# http-request from outside: routes, refusals, broken clients, reports, the end. HTTP_REQUEST: the program.
set -uo pipefail
program=${HTTP_REQUEST:-}
[ -n "$program" ] && [ -x "$program" ] || { echo "skipped: the program is not there (HTTP_REQUEST)"; exit 77; }
command -v curl >/dev/null || { echo "skipped: curl is not there"; exit 77; }

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
# start OPTION...: the service on a free port; $url and $port when it answers
start() {
    : >"$dir/out" # not the port of the one before
    "$program" "$@" >"$dir/out" 2>"$dir/err" &
    pid=$!
    local i
    for ((i = 0; i < 200; i++)); do
        port=$(sed -n 's|^http-request: http://127.0.0.1:||p' "$dir/out")
        [ -z "$port" ] || break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    url=http://127.0.0.1:$port
    get / 200
}
# stop SIGNAL LEAKS: ends it; leaks of requests wanted. Exit status 0, nothing of the rest leaked, no sanitizer's report.
stop() {
    kill "-$1" "$pid"
    wait "$pid"
    local status=$?
    pid=
    [ $status -eq 0 ] || fail "$1: exit status $status"
    tail -n 1 "$dir/out" | grep -qE \
        "^http-request: closed: [1-9][0-9]* requests with $2 leaks; the rest: 0 leaks, peak [1-9][0-9]* of 67108864 bytes$" ||
        fail "$1: the last line"
    if grep -qE 'Sanitizer|runtime error' "$dir/err"; then fail "a sanitizer's report"; fi
}
# get PATH STATUS [CURL OPTION...]: leaves the body in $dir/body
get() {
    local path=$1 wanted=$2 status
    shift 2
    status=$(curl -sS -m 60 -o "$dir/body" -w '%{http_code}' "$@" "$url$path" 2>"$dir/curl")
    [ "$status" = "$wanted" ] || fail "$path: status $status, $wanted wanted: $(cat "$dir/curl")"
}
body_has() { grep -qE -- "$1" "$dir/body" || fail "the body lacks \"$1\": $(head -c 300 "$dir/body")"; }
# until_true COMMAND...: waits up to 10 s for what another process does in its own time
until_true() {
    local i
    for ((i = 0; i < 200; i++)); do
        if "$@"; then return 0; fi
        sleep 0.05
    done
    fail "this did not become true: $*"
}
requests_at_work() { # those that /stats shows beside its own
    curl -sS -m 60 "$url/stats" | awk '/request and task scopes/ { n += $1 } END { exit !(n - 1 == '"$1"') }'
}

head -c 200000 /dev/urandom >"$dir/fits"
head -c 100000 /dev/urandom >"$dir/fits_twice"
head -c 300000 /dev/urandom >"$dir/big"

routes() {
    get / 200
    body_has '^request 1 of this connection; [0-9]+ bytes of 262144 used$'
    get /echo 200 -d 'some text'
    body_has '^some text$'
    get /echo 200 -X POST
    [ ! -s "$dir/body" ] || fail "an empty body comes back empty"
    get /upper 200 -d 'some Text 1'
    body_has '^SOME TEXT 1$'
    get /nothing 404
    get /echo 405 -D "$dir/head"
    grep -qi '^Allow: POST' "$dir/head" || fail "405 names the method"
    get / 405 -d x
    get /stats 200
    body_has '^process "server": granted [0-9,]+.*, peak [0-9,]+, hard 67,108,864'
    body_has '^  service "io": '
    body_has '^    pool "buffers": '
    body_has '^  session "127\.0\.0\.1:[0-9]+": '
    body_has '^    1 request and task scopes: '
    get '/stats?format=text' 200
    get '/stats?format=xml' 400
    # a library that prints this format answers it, another one says that it does not
    for format in json prometheus; do
        case $(curl -sS -m 60 -o "$dir/body" -w '%{http_code}' "$url/stats?format=$format") in
        200) [ "$format" != json ] || ! command -v python3 >/dev/null || python3 -m json.tool <"$dir/body" >/dev/null || fail "JSON" ;;
        501) body_has 'does not print' ;;
        *) fail "/stats?format=$format" ;;
        esac
    done
}

budget() {
    get /echo 200 --data-binary "@$dir/fits"
    cmp -s "$dir/fits" "$dir/body" || fail "200,000 bytes come back as they were"
    get /echo 200 -H 'Transfer-Encoding: chunked' --data-binary "@$dir/fits_twice"
    cmp -s "$dir/fits_twice" "$dir/body" || fail "100,000 bytes of unannounced length come back as they were"
    # too large: announced, asked for by Expect, unannounced; the next request works, on the same connection too
    get /echo 413 -H 'Expect:' --data-binary "@$dir/big"
    body_has '^more than the budget of a request$'
    get /echo 413 -H 'Expect: 100-continue' --data-binary "@$dir/big"
    get /echo 413 -H 'Transfer-Encoding: chunked' --data-binary "@$dir/big"
    get / 200
    curl -sS -m 60 -H 'Expect:' --data-binary "@$dir/big" "$url/echo" --next -sS -m 60 -d after "$url/echo" \
        -w ' %{http_code} %{num_connects}' >"$dir/body" 2>"$dir/curl"
    body_has '^after 200 0$'
    # an announcement that no machine can keep
    talk 'POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9223372036854775807\r\n\r\n'
    body_has '^HTTP/1.1 413 '
}

# talk BYTES: sends them as they are and leaves what comes back in $dir/body
talk() {
    exec 3<>"/dev/tcp/127.0.0.1/$port" || { fail "no connection"; return; }
    printf "$1" >&3
    timeout 5 head -n 1 <&3 >"$dir/body"
    exec 3>&-
}

broken_clients() {
    talk '\001\002garbage\r\n\r\n'
    talk 'GET / HTTP/1.1\r\n\r\n' # no Host
    body_has '^HTTP/1.1 400 '
    talk 'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n'
    body_has '^HTTP/1.1 4'
    # gone in the middle of its body: the request's scope closes all the same, and its buffer goes back
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this' >&3
    until_true requests_at_work 1
    exec 3>&-
    until_true requests_at_work 0
    get / 200
}

connections() {
    # one connection, three requests
    curl -sS -m 60 "$url/" "$url/" "$url/" -w '%{num_connects}\n' >"$dir/body"
    body_has '^request 3 of this connection'
    [ "$(grep -c '^[01]$' "$dir/body")" -eq 3 ] && [ "$(grep -c '^1$' "$dir/body")" -eq 1 ] || fail "keep-alive"
    # 50 at one time, each with a body of its own
    local i pids=()
    for ((i = 0; i < 50; i++)); do
        (
            { printf '%s:' "$i"; cat "$dir/fits_twice"; } >"$dir/in.$i"
            curl -sS -m 120 --data-binary "@$dir/in.$i" "$url/echo" -o "$dir/out.$i" 2>/dev/null && cmp -s "$dir/in.$i" "$dir/out.$i"
        ) &
        pids+=($!)
    done
    local bad=0 p
    for p in "${pids[@]}"; do wait "$p" || bad=$((bad + 1)); done
    [ $bad -eq 0 ] || fail "$bad of 50 parallel requests did not get their body back"
}

many_sessions() { # more than one I/O buffer can tell of; all of them are in /stats, and gone when their connections are
    local i fd fds=()
    for ((i = 0; i < 200; i++)); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$port" || break
        fds+=("$fd")
    done
    sessions_open() { [ "$(curl -sS -m 60 "$url/stats" | grep -c '^  session ')" "$@" ]; }
    until_true sessions_open -gt 200
    get /stats 200
    [ "$(wc -c <"$dir/body")" -gt 16384 ] || fail "the tree should be larger than a buffer"
    body_has '^    pool "buffers": '
    for fd in "${fds[@]}"; do exec {fd}>&-; done
    until_true sessions_open -lt 10
}

leaks() {
    get /leak 200
    body_has 'see the log'
    until_true grep -q '^scope "GET /leak" (kind request) closed with 2 allocations' "$dir/err"
    grep -qE '^ +1 x .* scope "forgotten" +opened at examples/http-request/routes\.c:[0-9]+$' "$dir/err" || fail "the scope's line"
    grep -qE '^ +1 x +4,096 +pool +"drafts" +leased at examples/http-request/routes\.c:[0-9]+$' "$dir/err" || fail "the buffer's line"
    [ "$(grep -c 'closed with' "$dir/err")" -eq 1 ] || fail "one report, of the deliberate leak"
}

for threads in 0 1 2; do
    echo "threads: $threads"
    start --threads $threads
    routes
    budget
    broken_clients
    connections
    many_sessions
    leaks
    stop TERM 2
done

echo "one buffer"
start --buffers 1 --request-bytes 65536
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345' >&3
until_503() { [ "$(curl -sS -m 60 -o "$dir/body" -D "$dir/head" -w '%{http_code}' "$url/")" = 503 ]; }
until_true until_503
grep -qi '^Retry-After: 1' "$dir/head" || fail "503 says when to come again"
printf '67890' >&3
timeout 10 grep -qaE '1234567890' <(timeout 5 cat <&3) || fail "the request that has the buffer gets its answer"
exec 3>&-
until_200() { [ "$(curl -sS -m 60 -o "$dir/body" -w '%{http_code}' "$url/")" = 200 ]; }
until_true until_200
get /echo 413 -H 'Expect:' --data-binary "@$dir/fits_twice"
# a request at work and a connection that waits do not hold up the end
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345' >&3
until_true until_503
stop INT 0
exec 3>&-

echo "usage"
: >"$dir/out"
for wrong in '--port 70000' '--port x' '--threads -1' '--request-bytes 1' '--buffers 0' '--nothing' 'word' '--port'; do
    "$program" $wrong >"$dir/out" 2>"$dir/err"
    [ $? -eq 2 ] || fail "$wrong: exit status 2 wanted"
    grep -qE "^http-request: ${wrong%% *}: " "$dir/err" || fail "$wrong: what and why"
done
"$program" --help >"$dir/out" 2>"$dir/err" || fail "--help"
grep -q -- '--request-bytes N' "$dir/out" || fail "--help names the options"
start
timeout 60 "$program" --port "$port" >"$dir/out2" 2>"$dir/err2"
[ $? -eq 1 ] || fail "a port that is taken: exit status 1 wanted"
grep -q '^http-request: http: ' "$dir/err2" || fail "a port that is taken: what and why"
stop TERM 0

[ $failed -eq 0 ] && echo "all is as wanted"
exit $failed
