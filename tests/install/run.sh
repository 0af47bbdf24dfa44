#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Installs a finished build, moves the tree, and builds and runs consumer.c against it in every promised way: run.sh BUILD_DIR
set -euo pipefail

build=${1:?usage: $0 BUILD_DIR}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Tests run at the same time as this one; a user's variables must not choose another prefix or language.
unset DESTDIR PKG_CONFIG_SYSROOT_DIR

cmake --install "$build" --prefix "$work/first" >/dev/null
# Moved: no file may remember where it was installed.
prefix=$work/moved
mv "$work/first" "$prefix"
for file in lib/libnebula-memory.a lib/libnebula-memory.so lib/pkgconfig/nebula-memory.pc include/nebula/memory.h; do
    [ -e "$prefix/$file" ] || { echo "install: $file is missing"; find "$prefix" | sort; exit 1; }
done

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
cc=${CC:-cc}
version=$(pkg-config --modversion nebula-memory)
expect() { # NAME COMMAND...
    local name=$1 said
    shift
    said=$("$@")
    [ "$said" = "$version" ] || { echo "install: $name says version '$said', the package says '$version'"; exit 1; }
    echo "install: $name runs, version $said"
}

read -ra shared <<<"$(pkg-config --cflags --libs nebula-memory)"
"$cc" -std=c17 -Wall -Wextra -Werror "$here/consumer.c" "${shared[@]}" -o "$work/shared"
expect "pkg-config, shared" env LD_LIBRARY_PATH="$prefix/lib" "$work/shared"

# pkg-config --static adds what the archive needs; the archive itself is chosen by its full name.
read -ra static <<<"$(pkg-config --static --cflags --libs nebula-memory | sed 's/-lnebula-memory/-l:libnebula-memory.a/')"
"$cc" -std=c17 -Wall -Wextra -Werror "$here/consumer.c" "${static[@]}" -o "$work/static"
expect "pkg-config, static" "$work/static"

cmake -S "$here" -B "$work/project" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$work/project" >/dev/null
expect "find_package, shared" "$work/project/consumer"
expect "find_package, static" "$work/project/consumer-static"

if [ -e "$prefix/bin/nebula-replay" ]; then
    "$prefix/bin/nebula-replay" --help >/dev/null
    [ -e "$prefix/share/man/man1/nebula-replay.1" ] || { echo "install: nebula-replay.1 is missing"; exit 1; }
    echo "install: nebula-replay runs and has its manual page"
fi
