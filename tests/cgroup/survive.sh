#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# A program that its control group kills without the library survives the same load with NM_BYTES_AUTO.
# NEBULA_LOAD: the program (load.c). Makes a group of 64 MiB, of whichever version counts memory here, and removes it.
# Exit status: 0; 1 it is not so; 77 skipped: no such group can be made.
set -uo pipefail
load=${NEBULA_LOAD:?the program to run}
limit=$((64 << 20))
seconds=60
out=$(mktemp)
group= version=

# group is set once the folder is ours
clean() {
    rm -f "$out"
    [ -n "$group" ] || return 0
    # the kernel takes a moment to let go of a process that it killed
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        rmdir "$group" 2>/dev/null && return 0
        sleep 0.2
    done
    echo "could not remove $group"
}
trap clean EXIT
trap 'exit 1' INT TERM

skip() {
    echo "skipped: $*"
    exit 77
}
fail() {
    echo "FAILED: $*"
    sed 's/^/  /' "$out"
    exit 1
}

# mount_of TYPE OPTION: where that hierarchy is mounted; OPTION: "" or a word of its options
mount_of() {
    awk -v type="$1" -v option="$2" '{
        for (i = 7; i < NF && $i != "-"; i++);
        if ($(i + 1) == type && (option == "" || index("," $NF ",", "," option ","))) { print $5; exit }
    }' /proc/self/mountinfo
}

# put VALUE FILE: also quiet where the file is not there or does not take it
put() { { echo "$1" >"$2"; } 2>/dev/null; }

why=()
# not_here REASON
not_here() {
    why+=("$*")
    return 1
}

# make_group PARENT LIMIT_FILE SWAP_FILE SWAP_BYTES: sets group, or notes what is in the way
make_group() {
    local made=$1/nebula-survive-$$
    mkdir "$made" 2>/dev/null || not_here "no group can be made in $1 (that takes root and a writable mount)" || return
    group=$made
    [ -e "$group/$2" ] || not_here "groups in $1 do not count memory" || return
    put "$limit" "$group/$2" || not_here "$2 in $1 takes no limit" || return
    # Swap would only put the end off. Where it is not counted the file is missing.
    put "$4" "$group/$3" || true
    put 0 "$group/memory.swappiness" || true
    (put "$BASHPID" "$group/cgroup.procs") || not_here "no process can be moved into groups in $1"
}

for version in v1 v2; do
    if [ $version = v1 ]; then
        mount=$(mount_of cgroup memory)
        arguments=(memory.limit_in_bytes memory.memsw.limit_in_bytes "$limit")
        events=memory.oom_control
    else
        mount=$(mount_of cgroup2 "")
        arguments=(memory.max memory.swap.max 0)
        events=memory.events
    fi
    [ -n "$mount" ] || { not_here "$version is not mounted for memory"; continue; }
    make_group "$mount" "${arguments[@]}" && break
    [ -z "$group" ] || { rmdir "$group" 2>/dev/null; group=; }
done
[ -n "$group" ] || skip "$(printf '%s; ' "${why[@]}")"

kills() { awk '$1 == "oom_kill" { print $2; found = 1 } END { if (!found) print "unknown" }' "$group/$events"; }
value() { awk -v name="$1" '$1 == name { print $2 }' "$out"; }
# run VARIANT: in the group; leaves its output in $out, its exit status in $status
run() {
    # the braces are for the shell's own "Killed"
    { timeout "$seconds" bash -c 'echo $$ >"$1/cgroup.procs" && exec "$2" "$3"' run "$group" "$load" "$1" >"$out" 2>&1; } 2>/dev/null
    status=$?
}

# Outside of the group the load is an ordinary one: what kills it there is the limit.
timeout "$seconds" "$load" malloc >"$out" 2>&1 || fail "malloc without a limit: exit status $?"
[ "$(value refused)" = 0 ] || fail "malloc without a limit refuses requests"

[ "$(kills)" = 0 ] || [ "$(kills)" = unknown ] || fail "the new group has killed already"
run malloc
[ $status -eq 137 ] || fail "malloc in a group of $limit bytes: exit status $status, 137 (killed) wanted"
killed=$(kills)
[ "$killed" = unknown ] || [ "$killed" -ge 1 ] || fail "malloc was killed, but not by its group"

run nebula
[ $status -eq 0 ] || fail "nebula in the same group: exit status $status"
[ "$(kills)" = "$killed" ] || fail "the group has killed again"
hard=$(value hard_bytes)
[ "$hard" -le $((limit - limit / 8)) ] || fail "a hard limit of $hard bytes is not the group's less an eighth"
[ "$(value refused)" -gt 0 ] || fail "nothing was refused: the load proves nothing"
[ "$(value answered)" -gt "$(value refused)" ] || fail "more refused than answered"
[ "$(value cached)" -gt 0 ] && [ "$(value found)" -gt 0 ] || fail "nothing was cached"

echo "cgroup $version of $limit bytes: malloc was killed (oom_kill $killed);"
echo "nebula finished on $hard bytes: $(value answered) answered, $(value refused) refused, $(value cached) results cached"
