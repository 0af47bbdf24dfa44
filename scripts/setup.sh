#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Installs with the system's package manager what is missing; silent when nothing is.
#   scripts/setup.sh            what the build and the tests need
#   scripts/setup.sh ci         also what .ci/run needs: clang and its tools, g++
#   scripts/setup.sh coverage   also gcovr
#   scripts/setup.sh bench      also the allocators, pools and caches that the benchmarks compare with, and valgrind, which counts instructions
set -euo pipefail

group=${1:-build}
case $group in build | ci | coverage | bench) ;; *) echo "usage: $0 [ci|coverage|bench]" >&2; exit 2 ;; esac

have() { command -v "$1" >/dev/null 2>&1; }
module() { have pkg-config && pkg-config --exists "$1"; }
header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]; }
# The sanitizers' runtime is a package of its own on some systems; only a link tells.
sanitizes() { echo 'int main(void) { return 0; }' | "$1" -fsanitize=address,undefined -x c - -o /dev/null 2>/dev/null; }

if have apt-get; then manager=apt; elif have dnf; then manager=dnf; elif have pacman; then manager=pacman; else manager=none; fi

missing=()
# need "PROBE" APT DNF PACMAN: remembers the package where the probe fails; "-" where no package is wanted.
need() {
    local name=$2
    eval "$1" && return
    case $manager in dnf) name=$3 ;; pacman) name=$4 ;; esac
    [ "$name" = - ] || missing+=("$name")
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    local command
    case $manager in
    apt) command=(apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends) ;;
    dnf) command=(dnf install -y) ;;
    pacman) command=(pacman -S --needed --noconfirm) ;;
    none)
        echo "setup: no package manager that this script knows; missing (Debian's names): ${missing[*]}" >&2
        exit 1
        ;;
    esac
    if [ "$(id -u)" -ne 0 ] && ! have sudo; then
        echo "setup: missing ${missing[*]}; as root, run: ${command[*]} ${missing[*]}" >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}"
    # A list that is too old to install from is common in containers, so refresh it, but only when it is needed.
    if [ $manager = apt ]; then as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update; fi
    as_root env DEBIAN_FRONTEND=noninteractive "${command[@]}" "${missing[@]}"
    missing=()
}

need 'have cc || have gcc || have clang' gcc gcc gcc
need 'header stdio.h' libc6-dev glibc-devel glibc
need 'have make' make make make
need 'have cmake' cmake cmake cmake
need 'have pkg-config' pkg-config pkgconf-pkg-config pkgconf
need 'module cmocka' libcmocka-dev libcmocka-devel cmocka
need 'module libarchive' libarchive-dev libarchive-devel libarchive
need 'module jansson' libjansson-dev jansson-devel jansson
need 'module sqlite3' libsqlite3-dev sqlite-devel sqlite
need 'module zlib' zlib1g-dev zlib-devel zlib
need 'module lua5.4 || module lua-5.4 || module "lua >= 5.4"' liblua5.4-dev lua-devel lua
need 'have gzip' gzip gzip gzip
need 'have xz' xz-utils xz xz
need 'have zstd' zstd zstd zstd
need 'have gnuplot' gnuplot-nox gnuplot gnuplot
need 'module libmicrohttpd' libmicrohttpd-dev libmicrohttpd-devel libmicrohttpd
need 'have curl' curl curl curl
need 'module liburing' liburing-dev liburing-devel liburing

if [ "$group" = ci ]; then
    need 'have git' git git git
    need 'have gcc' gcc gcc gcc
    need 'have g++' g++ gcc-c++ gcc
    need 'have clang' clang clang clang
    need 'have clang-format' clang-format clang-tools-extra clang
    need 'have clang-tidy' clang-tidy clang-tools-extra clang
    need 'have valgrind' valgrind valgrind valgrind
    install_missing
    need 'sanitizes gcc' - libasan gcc
    # Debian names the runtime after clang's version; newer releases also have a package without it.
    sanitizes clang || need false "libclang-rt-$(clang -dumpversion | sed 's/\..*//')-dev" compiler-rt compiler-rt
fi
if [ "$group" = coverage ]; then need 'have gcovr' gcovr gcovr gcovr; fi
if [ "$group" = bench ]; then
    need 'have valgrind' valgrind valgrind valgrind
    need 'module jemalloc' libjemalloc-dev jemalloc-devel jemalloc
    need 'header mimalloc.h || header mimalloc-2.0/mimalloc.h' libmimalloc-dev mimalloc-devel -
    need 'module talloc' libtalloc-dev libtalloc-devel talloc
    need 'module apr-1' libapr1-dev apr-devel apr
    need 'module libtcmalloc_minimal' libgoogle-perftools-dev gperftools-devel gperftools
    need 'module libdpdk' libdpdk-dev dpdk-devel dpdk
    need 'module ck' libck-dev ck-devel -
    need 'module liburcu-cds' liburcu-dev userspace-rcu-devel liburcu
    need 'have c++ || have g++ || have clang++' g++ gcc-c++ gcc
    need 'header boost/lockfree/stack.hpp' libboost-dev boost-devel boost
    need 'module tbb' libtbb-dev tbb-devel onetbb
    need 'have cargo' cargo cargo rust
    need 'compgen -G "/usr/share/cargo/registry/crossbeam-queue-0.3*" >/dev/null' librust-crossbeam-queue-dev rust-crossbeam-queue-devel -
    need 'compgen -G "/usr/share/cargo/registry/lru-0.7*" >/dev/null' librust-lru-dev - -
    need 'module glib-2.0' libglib2.0-dev glib2-devel glib2
    need 'module rocksdb' librocksdb-dev rocksdb-devel rocksdb
    need 'header leveldb/cache.h' libleveldb-dev leveldb-devel leveldb
    need 'have javac' default-jdk-headless java-devel jdk-openjdk
    need '[ -e /usr/share/java/caffeine.jar ]' libcaffeine-java - -
fi
install_missing
