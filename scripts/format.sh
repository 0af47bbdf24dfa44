#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# clang-format over all our C files: scripts/format.sh checks, scripts/format.sh -i changes them.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=(--dry-run -Werror)
if [ "${1:-}" = -i ]; then mode=(-i); fi
git ls-files -z --cached --others --exclude-standard '*.c' '*.h' '*.cpp' | xargs -0 -r clang-format "${mode[@]}"
