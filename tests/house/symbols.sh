#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The shared library exports nm_* and nothing else: symbols.sh LIBRARY
set -euo pipefail

symbols=$(nm -D --defined-only "${1:?usage: $0 LIBRARY}" | awk '{ print $NF }')
# No nm_ symbol at all would also be "nothing else"; then the check looks at the wrong file.
grep -q '^nm_version$' <<<"$symbols" || { echo "$1: nm_version is not exported"; exit 1; }
if grep -v '^nm_' <<<"$symbols"; then
    echo "$1: exports the symbols above"
    exit 1
fi
