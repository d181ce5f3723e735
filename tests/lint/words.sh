#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# words.sh: calls that the sources do without, and words that belong to a developer's machine and not to the project.
set -u
cd "$(dirname "$0")/../.."
bad=0

# code FILE...: the source without comments and string contents, with line numbers kept.
strip_comments='
BEGIN { block = 0 }
FNR == 1 { block = 0 }
{
	line = $0; out = ""
	while (line != "") {
		if (block) {
			i = index(line, "*/")
			if (!i) { line = ""; break }
			line = substr(line, i + 2); block = 0; continue
		}
		if (match(line, /^"([^"\\]|\\.)*"/) || match(line, /^\x27([^\x27\\]|\\.)*\x27/)) {
			out = out "\"\""; line = substr(line, RLENGTH + 1); continue
		}
		if (substr(line, 1, 2) == "//") break
		if (substr(line, 1, 2) == "/*") { block = 1; line = substr(line, 3); continue }
		out = out substr(line, 1, 1); line = substr(line, 2)
	}
	print FILENAME ":" FNR ":" out
}'

mapfile -t sources < <(find base proto coordinator worker cli plugins tests -name '*.c' -o -name '*.h' -o -name '*.cpp' 2>/dev/null | sort)
if [ ${#sources[@]} -lt 10 ]; then
	echo "words: found ${#sources[@]} sources; that cannot be all of the tree"
	exit 1
fi

mapfile -t product < <(printf '%s\n' "${sources[@]}" | grep -v '^tests/')
# Unbounded, not re-entrant, silent about errors, or a shell in disguise. What to use instead: base/str.h, base/io.h. Tests may do
# what `more` names.
calls='strcpy|strcat|stpcpy|strncat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|popen|alloca|mktemp|tmpnam|tempnam'
more='asctime|ctime|gmtime|localtime|setjmp|longjmp|scanf|sscanf|vfork|rand|srand|system'
if awk "$strip_comments" "${sources[@]}" | grep -E "(^|[^A-Za-z0-9_>.])($calls)[[:space:]]*\(" ||
	awk "$strip_comments" "${product[@]}" | grep -E "(^|[^A-Za-z0-9_>.])($more)[[:space:]]*\("; then
	echo "words: the calls above are banned (tests/lint/words.sh says which and why)"
	bad=1
fi

# A library folder neither ends the process nor prints. (main files, the command line and tests do.)
mapfile -t library < <(printf '%s\n' "${sources[@]}" | grep -E '^(base|proto|worker)/' | grep -vE '^base/log\.c$')
if awk "$strip_comments" "${library[@]}" | grep -E '(^|[^A-Za-z0-9_>.])(printf|puts|perror|exit)[[:space:]]*\('; then
	echo "words: library code returns errors; it neither prints nor ends the process"
	bad=1
fi

# Written in pieces, so that this file may pass its own check.
places="/wo""rk/|\.\./sha""red|/ro""ot/|/ho""me/[a-z]+/|fa""rm-[a-z]|artifac""tory|nex""us\.|regis""try\.[a-z0-9-]+\.(internal|local|corp)"
mapfile -d '' -t files < <(git ls-files -z 2>/dev/null)
if [ ${#files[@]} -eq 0 ]; then
	mapfile -d '' -t files < <(find . -type f -not -path './build/*' -not -path './.git/*' -print0)
fi
if printf '%s\0' "${files[@]}" | grep -zvE '^LICENSE$|/corpus/|\.npy$|tests/data/.*\.json' |
	xargs -0 grep -nIE "$places" -- 2>/dev/null; then
	echo "words: the lines above name a place on somebody's machine"
	bad=1
fi

for source in "${sources[@]}"; do
	head -n 1 "$source" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$source: no SPDX line"; bad=1; }
done
[ $bad = 0 ] && echo "words: ${#sources[@]} sources, ${#files[@]} files"
exit $bad
