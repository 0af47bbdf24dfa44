#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Rules of the house that can be read off the files: licence line, length, who may include whom.
set -euo pipefail
cd "${1:?usage: $0 SOURCE_DIR}"
git rev-parse --show-toplevel >/dev/null 2>&1 || { echo "not a git work tree: skipped"; exit 77; }

bad=0
say() {
    echo "$*"
    bad=1
}

# JSON has no comments; the licence texts are the licence.
mapfile -t files < <(git ls-files --cached --others --exclude-standard -- ':!*.md' ':!*.json' ':!LICENSES' ':!.gitattributes')
for file in "${files[@]}"; do
    [ -f "$file" ] || continue # removed in the work tree, not yet in the index
    head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0 OR MIT' || say "$file: no SPDX line in its first three lines"
    case $file in
    *.c | *.h) [ "$(wc -l <"$file")" -le 900 ] || say "$file: more than 900 lines" ;;
    esac
done

# Downwards only: a part includes parts of a lower rank and itself. Arena, pool and cache share a rank, so they do not
# know each other; base and check are below all.
declare -A rank=([base]=0 [check]=1 [os]=2 [block]=3 [scope]=4 [arena]=5 [pool]=5 [cache]=5)
for part in "${!rank[@]}"; do
    [ -d "src/$part" ] || continue
    while IFS=: read -r file line text; do
        other=$(sed -E 's/.*"([a-z]+)\/.*/\1/' <<<"$text")
        [ -n "${rank[$other]:-}" ] && [ "$other" != "$part" ] || continue
        [ "${rank[$other]}" -lt "${rank[$part]}" ] || say "$file:$line: $part may not include $other"
    done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"[a-z]+/' "src/$part" --include='*.[ch]' || true)
done

# Programs, examples and the documents' snippets use what is installed, nothing else.
if grep -rnE '#[[:space:]]*include[[:space:]]+"(base|os|check|block|scope|arena|pool|cache)/' tools examples --include='*.[ch]'; then
    say "the lines above include private headers of the library"
fi
exit $bad
