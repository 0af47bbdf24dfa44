#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Each bug of planted_arena.c must be found, and the program without a bug must pass:
#   planted_arena.sh asan PROGRAM      a program built with the address sanitizer
#   planted_arena.sh valgrind PROGRAM  the release build, under memcheck; 77 (skipped) where it is not installed
#   planted_arena.sh debug PROGRAM     the release build by itself, with NM_DEBUG=quarantine,guard
# A fourth run plants nothing to find it with, and must find nothing: a rig that always cries finds no bug either.
set -euo pipefail
way=${1:?usage: $0 asan|valgrind|debug|blind PROGRAM}
program=${2:?usage: $0 asan|valgrind|debug|blind PROGRAM}
unset NM_DEBUG
ulimit -c 0

case $way in
asan) run() { "$program" "$1"; }; words='use-after-poison' ;;
valgrind)
    command -v valgrind >/dev/null || { echo "valgrind is not installed: skipped"; exit 77; }
    run() { valgrind -q --error-exitcode=9 "$program" "$1"; }
    words='Invalid (read|write)'
    ;;
debug)
    run() { NM_DEBUG=quarantine,guard "$program" "$1"; }
    words='written past an allocation|written after it was undone|read 0xdd'
    ;;
blind) run() { "$program" "$1"; }; words= ;;
*) echo "unknown way: $way" >&2; exit 2 ;;
esac

bugs='write_into_padding write_one_past_the_end read_after_reset write_after_reset write_after_rewind write_after_close'
bad=0
for bug in none $bugs; do
    status=0
    text=$( (run "$bug") 2>&1) || status=$?
    if [ "$bug" = none ] || [ "$way" = blind ]; then
        if [ $status -ne 0 ] || [ -n "$text" ]; then
            echo "$way: $bug: status $status, a finding where there is none to be: $text"
            bad=1
        fi
    elif [ $status -eq 0 ] || ! grep -qE "$words" <<<"$text"; then
        echo "$way: $bug: not found (status $status): $text"
        bad=1
    else
        echo "$way: $bug: found"
    fi
done
exit $bad
