#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Code in a document that says "<!-- from FILE -->" stands in that file, line for line: snippets.sh SOURCE_DIR
set -euo pipefail
cd "${1:?usage: $0 SOURCE_DIR}"

bad=0 seen=0
while IFS=: read -r document line text; do
    file=$(sed -E 's/.*<!-- from ([^ ]+) -->.*/\1/' <<<"$text")
    # the block that begins on the next line, without its fences
    snippet=$(awk -v from="$line" 'NR > from + 1 && /^```$/ { exit } NR > from + 1' "$document")
    seen=$((seen + 1))
    if [ ! -f "$file" ] || [ -z "$snippet" ] || [[ "$(<"$file")" != *"$snippet"* ]]; then
        echo "$document:$line: this is not what $file has"
        bad=1
    fi
done < <(grep -nE '^<!-- from [^ ]+ -->$' README.md $(find docs -name '*.md') /dev/null)
[ "$seen" -gt 0 ] || { echo "no document has code from a file"; exit 1; }
exit $bad
