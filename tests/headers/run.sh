#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Each public header alone, all together, as C17 and as C++17, with each compiler that is there;
# then options.cpp is compiled, linked and run: run.sh INCLUDE_DIR STATIC_LIBRARY
set -euo pipefail
shopt -s nullglob

include=${1:?usage: $0 INCLUDE_DIR STATIC_LIBRARY}
library=${2:?usage: $0 INCLUDE_DIR STATIC_LIBRARY}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

headers=()
for header in "$include"/nebula/*.h; do headers+=("nebula/${header##*/}"); done
[ ${#headers[@]} -gt 0 ] || { echo "no headers in $include/nebula"; exit 1; }

# Twice, so that a missing include guard shows.
for header in "${headers[@]}"; do
    printf '#include <%s>\n#include <%s>\n' "$header" "$header" >"$work/alone-${header##*/}"
    echo "#include <$header>"
done >"$work/together.h"

tried=0
check() { # COMPILER LANGUAGE STANDARD
    command -v "$1" >/dev/null || { echo "$1: not here, left out"; return 0; }
    for file in "$work"/*.h; do
        "$1" -x "$2" -std="$3" -Wall -Wextra -Werror -I"$include" -fsyntax-only -include "$file" /dev/null
    done
    echo "$1 $3: ${#headers[@]} headers"
    tried=$((tried + 1))
}
check gcc c c17
check clang c c17
for cxx in g++ clang++; do
    check $cxx c++ c++17
    command -v $cxx >/dev/null || continue
    $cxx -std=c++17 -Wall -Wextra -Werror -I"$include" "$here/options.cpp" "$library" -pthread -o "$work/options"
    "$work/options"
    echo "$cxx: options.cpp runs"
done
[ $tried -gt 0 ]
