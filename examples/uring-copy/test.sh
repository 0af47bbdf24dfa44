#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# uring-copy from outside: sizes, both ways, refusals of the kernel, failures, what is left behind. URING_COPY: the program,
# SHORT: the same with short.c, REFUSED: refused.c. Its files lie in a folder below the current one.
set -uo pipefail
program=${URING_COPY:-} short=${SHORT:-} refused=${REFUSED:-}
for file in "$program" "$short" "$refused"; do
    [ -n "$file" ] && [ -x "$file" ] || { echo "skipped: the programs are not there (URING_COPY, SHORT, REFUSED)"; exit 77; }
done
dir=$(mktemp -d "$PWD/uring-copy.XXXXXX") || exit 1
memory=
trap 'chmod -R u+w "$dir"; rm -rf "$dir" ${memory:+"$memory"}' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    sed 's/^/  out: /' "$dir/out"
    sed 's/^/  err: /' "$dir/err"
    failed=1
}
# copies OPTION...: the last two are FROM and TO. It says that it went well, the copy is equal, nothing else is left.
copies() {
    local from=${*: -2:1} to=${*: -1}
    timeout 120 "${run[@]}" "$program" "$@" >"$dir/out" 2>"$dir/err" || fail "exit status $?: $*"
    cmp "$from" "$to" >>"$dir/err" 2>&1 || fail "not equal: $*"
    grep -qE "^uring-copy: $(stat -Lc %s "$from") bytes, .*, [0-9]+ of [0-9]+ buffers at work at most$" "$dir/out" || fail "the last line: $*"
    nothing_left "$(dirname "$to")" "$*"
}
# refuses WHAT WHY OPTION...: exit status 1, one line that says what and why
refuses() {
    local what=$1 why=$2
    shift 2
    timeout 120 "${run[@]}" "$program" "$@" >"$dir/out" 2>"$dir/err"
    local status=$?
    [ $status -eq 1 ] || fail "exit status $status, 1 wanted: $*"
    grep -qE "^uring-copy: $what: $why\$" "$dir/err" || fail "no line \"uring-copy: $what: $why\": $*"
    nothing_left "$dir" "$*"
}
nothing_left() { [ -z "$(find "$1" -name '.uring-copy-*')" ] || fail "a part of a file is left: $2"; }
said() { grep -qE "^uring-copy: $1" "$dir/out" "$dir/err" -h || fail "this was not said: $1"; }
unsaid() { ! grep -qE "$1" "$dir/err" || fail "this was said: $1"; }
has() { grep -qE "$1" "$dir/out" || fail "the last line lacks $1"; }

run=()
head -c $((64 << 20)) /dev/urandom >"$dir/source" # once: all smaller files are its beginnings

# Is io_uring to be had here? Where it is not, the program must say why, with one of the reasons that it may have.
head -c 1 "$dir/source" >"$dir/from"
copies "$dir/from" "$dir/to"
way=io_uring
if ! grep -q ', io_uring,' "$dir/out"; then
    said 'io_uring: (Function not implemented|Operation not permitted|Permission denied|Cannot allocate memory): copying with'
    way='preadv and pwritev'
    echo "io_uring is refused here: both ways are one"
fi

direct=true
! grep -q O_DIRECT "$dir/err" || direct=false

for option in '' --no-uring '--buffered' '--no-uring --buffered'; do
    for bytes in 0 1 4095 4096 4097 $(((1 << 20) + 7)) $((64 << 20)); do
        head -c "$bytes" "$dir/source" >"$dir/from"
        rm -f "$dir/to"
        copies $option "$dir/from" "$dir/to"
        case $option in
        *--no-uring*) has ', preadv and pwritev, ' ;;
        *) has ", $way, " ;;
        esac
        case $option in *--buffered*) has 'read through it, written through it' ;; esac
        rm -f "$dir/to"
        [ "$bytes" -le 2000000 ] || continue
        copies $option --depth 3 --block 4096 "$dir/from" "$dir/to" # many stretches, few buffers
        [ "$bytes" -lt 12288 ] || has ', 3 of 3 buffers at work at most$'
    done
    copies $option --depth 64 --block 65536 --fsync "$dir/source" "$dir/to"
    copies $option --depth 2 --huge-pages "$dir/source" "$dir/to"
done

echo "short reads and writes"
plain=$program program=$short
for option in '' --no-uring '--buffered' '--no-uring --buffered'; do
    for bytes in 0 1 4095 4097 $(((1 << 20) + 7)); do
        head -c "$bytes" "$dir/source" >"$dir/from"
        rm -f "$dir/to"
        copies $option --block 16384 --depth 5 "$dir/from" "$dir/to"
        $direct && unsaid 'O_DIRECT' # it went on at whole blocks
    done
done
program=$plain

if [ -d /dev/shm ] && memory=$(mktemp -d /dev/shm/uring-copy.XXXXXX); then # another kind of file system
    head -c 1000001 "$dir/source" >"$dir/from"
    copies "$dir/from" "$memory/there"
    rm -f "$dir/to"
    copies "$memory/there" "$dir/to"
fi

echo "holes, names, modes"
truncate -s 5M "$dir/sparse"
printf x | dd of="$dir/sparse" bs=1 seek=3000000 conv=notrunc status=none
copies "$dir/sparse" "$dir/to"
head -c 10000 "$dir/source" >"$dir/from"
chmod 640 "$dir/from" && rm "$dir/to"
(umask 022 && cd "$dir" && "$program" from to >out 2>err) || fail "names without a folder"
[ "$(stat -c %a "$dir/to")" = 640 ] || fail "a new file has its source's mode"
chmod 606 "$dir/to"
copies "$dir/from" "$dir/to"
[ "$(stat -c %a "$dir/to")" = 606 ] || fail "a file that is replaced keeps its mode"
ln -s to "$dir/link"
copies "$dir/source" "$dir/link"
[ -L "$dir/link" ] && cmp -s "$dir/source" "$dir/to" || fail "the file behind a link is replaced, not the link"
chmod 400 "$dir/from" && rm "$dir/to"
copies "$dir/from" "$dir/to"
chmod 600 "$dir/from" "$dir/to"

echo "what the kernel refuses"
for error in 38 1 13 12; do # ENOSYS, EPERM, EACCES, ENOMEM
    for what in uring register; do
        run=("$refused" "$what" $error)
        "${run[@]}" true 2>"$dir/err" || { echo "no seccomp here: $(cat "$dir/err")"; break 2; }
        rm -f "$dir/to"
        copies "$dir/source" "$dir/to"
        said 'io_uring: .*: copying with preadv and pwritev$'
        has ', preadv and pwritev, '
    done
done
seccomp=true
[ ${#run[@]} -eq 0 ] && seccomp=false
"${run[@]}" true 2>/dev/null || seccomp=false
if $seccomp; then
    run=("$refused" direct 22)
    for option in '' --no-uring; do
        rm -f "$dir/to"
        copies $option "$dir/source" "$dir/to"
        said "$dir/source: O_DIRECT: Invalid argument: going through the page cache$"
        said "$dir/to: O_DIRECT: Invalid argument: going through the page cache$"
        has 'read through it, written through it'
    done
    if [ "$way" = io_uring ]; then # an error that is none of those is not passed over
        run=("$refused" register 14)
        refuses io_uring 'Bad address' "$dir/source" "$dir/to"
    fi
    # Full after 40,960 bytes: not the room for all of it, which fallocate would tell, but a write that comes to nothing.
    run=("$refused" fallocate 95)
    copies "$dir/source" "$dir/to"
    limited() { ulimit -f 40 && "$refused" fallocate 95 "$@"; }
    for option in '' --no-uring '--buffered' '--no-uring --buffered' '--block 4096 --depth 3' '--no-uring --block 16384 --depth 1'; do
        (limited timeout 120 "$program" $option "$dir/source" "$dir/limited" >"$dir/out.1" 2>"$dir/err.1")
        status=$?
        mv "$dir/out.1" "$dir/out" && mv "$dir/err.1" "$dir/err"
        [ $status -eq 1 ] || fail "a write that fails: exit status $status, 1 wanted: $option"
        said "$dir/limited: File too large$"
        [ ! -e "$dir/limited" ] || fail "half a file is left: $option"
        nothing_left "$dir" "$option"
    done
fi
run=()
(ulimit -f 40 && exec "$program" "$dir/source" "$dir/to" >/dev/null 2>"$dir/err.1")
[ $? -eq 1 ] || fail "no room: exit status 1 wanted"
mv "$dir/err.1" "$dir/err"
said "$dir/to: File too large$"
cmp -s "$dir/source" "$dir/to" || fail "the file that was there before is there after a failure"
nothing_left "$dir" "no room"

echo "bad input"
refuses "$dir/none" 'No such file or directory' "$dir/none" "$dir/to"
refuses "$dir" 'Is a directory' "$dir" "$dir/to"
refuses "$dir" 'Is a directory' "$dir/from" "$dir"
refuses "$dir/no/to" 'No such file or directory' "$dir/from" "$dir/no/to"
refuses "$dir/from/to" 'Not a directory' "$dir/from" "$dir/from/to"
refuses "$dir/from" 'the same file as FROM' "$dir/from" "$dir/from"
ln -f "$dir/from" "$dir/same"
refuses "$dir/same" 'the same file as FROM' "$dir/from" "$dir/same"
ln -sf from "$dir/link"
refuses "$dir/link" 'the same file as FROM' "$dir/from" "$dir/link"
ln -sf none "$dir/link"
refuses "$dir/link" 'No such file or directory' "$dir/from" "$dir/link"
mkfifo "$dir/pipe"
refuses "$dir/pipe" 'not a regular file' "$dir/pipe" "$dir/to"
refuses "$dir/pipe" 'not a regular file' "$dir/from" "$dir/pipe"
refuses /dev/null 'not a regular file' "$dir/from" /dev/null
if [ "$(id -u)" -ne 0 ]; then # nothing is refused to root
    chmod 0 "$dir/same" && refuses "$dir/same" 'Permission denied' "$dir/same" "$dir/to" && chmod 600 "$dir/same"
    chmod 400 "$dir/to" && refuses "$dir/to" 'Permission denied' "$dir/source" "$dir/to" && chmod 600 "$dir/to"
fi
cmp -s "$dir/source" "$dir/to" || fail "none of that has changed TO"
# The kernel's own files are as long as a page by their size, and shorter by what they hold.
short=/sys/kernel/mm/transparent_hugepage/enabled
if [ -r $short ]; then
    for option in '' --no-uring; do refuses $short 'is shorter than its size says' $option $short "$dir/to"; done
fi

echo "a signal"
if truncate -s 1G "$dir/hole" 2>/dev/null; then
    for option in '' --no-uring; do
        "$program" $option --block 4096 --depth 1 "$dir/hole" "$dir/stopped" >"$dir/out" 2>"$dir/err" &
        pid=$!
        for ((i = 0; i < 500; i++)); do
            [ -z "$(find "$dir" -name '.uring-copy-*')" ] || break
            sleep 0.01
        done
        kill -TERM $pid
        wait $pid
        [ $? -eq 1 ] || fail "a signal: exit status 1 wanted: $option"
        said "$dir/stopped: stopped by a signal$"
        [ ! -e "$dir/stopped" ] || fail "half a file is left: $option"
        nothing_left "$dir" "a signal $option"
    done
    rm "$dir/hole"
fi

echo "usage"
for wrong in '--depth 0' '--depth 257' '--depth x' '--block 0' '--block 5000' '--block 134217728' '--block -4096' '--depth' '--nothing' '--fsync=1'; do
    "$program" $wrong "$dir/from" "$dir/to" >"$dir/out" 2>"$dir/err"
    [ $? -eq 2 ] || fail "$wrong: exit status 2 wanted"
    grep -qE "^uring-copy: ${wrong%% *}: " "$dir/err" || fail "$wrong: what and why"
done
for wrong in '' one 'one two three'; do
    "$program" $wrong >"$dir/out" 2>"$dir/err"
    [ $? -eq 2 ] || fail "arguments \"$wrong\": exit status 2 wanted"
done
"$program" --help >"$dir/out" 2>"$dir/err" || fail "--help"
grep -q -- '--depth N' "$dir/out" || fail "--help names the options"

[ $failed -eq 0 ] && echo "all is as wanted"
exit $failed
