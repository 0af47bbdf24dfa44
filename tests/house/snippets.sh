#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The documents show what is so: snippets.sh SOURCE_DIR BUILD_DIR
#   "<!-- from FILE -->"       the code below it stands in that file, line for line; no C without such a line
#   "<!-- printed by NAME -->" the lines below it are printed by that example, whatever the numbers
set -euo pipefail
cd "${1:?usage: $0 SOURCE_DIR BUILD_DIR}"
build=${2:?usage: $0 SOURCE_DIR BUILD_DIR}
mapfile -t documents < <(echo README.md; find docs -name '*.md')

bad=0 seen=0 printed=0
say() {
    echo "$*"
    bad=1
}
# block DOCUMENT LINE: what is between the fences that begin on the line after LINE
block() { awk -v from="$2" 'NR > from + 1 && /^```$/ { exit } NR > from + 1' "$1"; }
# Numbers and addresses, and so the width of columns, differ between machines and versions; a site's folder between builds.
shape() { sed -E 's|[^ ]*/examples/|examples/|g; s/0x[0-9a-f]+/0/g; s/[0-9][0-9,.]*/0/g; s/ +/ /g'; }

while IFS=: read -r document line text; do
    file=$(sed -E 's/.*<!-- from ([^ ]+) -->.*/\1/' <<<"$text")
    snippet=$(block "$document" "$line")
    seen=$((seen + 1))
    if [ ! -f "$file" ] || [ -z "$snippet" ] || [[ "$(<"$file")" != *"$snippet"* ]]; then
        say "$document:$line: this is not what $file has"
    fi
done < <(grep -nE '^<!-- from [^ ]+ -->$' "${documents[@]}" /dev/null)

while IFS=: read -r document line text; do
    program=$build/examples/$(sed -E 's/.*<!-- printed by ([^ ]+) -->.*/\1/' <<<"$text")
    sample=$(block "$document" "$line" | shape)
    output=$("$program" 2>&1) || say "$document:$line: $program failed"
    printed=$((printed + 1))
    if [ -z "$sample" ] || [[ "$(shape <<<"$output")" != *"$sample"* ]]; then
        say "$document:$line: this is not what $program prints, which is"
        printf '%s\n' "$output"
    fi
done < <(grep -nE '^<!-- printed by [^ ]+ -->$' "${documents[@]}" /dev/null)

for document in "${documents[@]}"; do
    while read -r line; do
        say "$document:$line: C that is from no file: nobody compiles it"
    done < <(awk '/^```c$/ && previous !~ /^<!-- from [^ ]+ -->$/ { print NR } { previous = $0 }' "$document")
done
[ "$seen" -gt 0 ] || say "no document has code from a file"
[ "$printed" -gt 0 ] || say "no document shows what a program prints"
exit $bad
