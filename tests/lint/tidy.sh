#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tidy.sh [FILE...]: clang-tidy with .clang-tidy on every source of the compile database ($DF_BUILD_DIR, build/dev).
# A file that was clean is not looked at again until it, a header, its flags or .clang-tidy change (build/tidy-clean/).
# ctest: timeout 1200
set -u
cd "$(dirname "$0")/../.."
command -v clang-tidy >/dev/null || { echo "SKIP: clang-tidy is not installed"; exit 77; }
database=${DF_BUILD_DIR:-build/dev}
[ -f "$database/compile_commands.json" ] || { echo "SKIP: no compile_commands.json in '$database'"; exit 77; }
export database clean=build/tidy-clean
mkdir -p "$clean"

# Everything besides the file itself that decides the answer.
common=$( (clang-tidy --version; cat .clang-tidy tests/lint/tidy.sh
	find base proto coordinator worker cli plugins tests -name '*.h' 2>/dev/null | sort | xargs cat) | sha256sum | cut -c 1-32)
export common

one() {
	local file=$1 key
	key=$clean/$( (echo "$common"; echo "$file"; cat "$file") | sha256sum | cut -c 1-40)
	[ -e "$key" ] && return 0
	# gcc's own flags mean nothing to clang: unknown ones are no findings.
	if said=$(clang-tidy --quiet -p "$database" --extra-arg=-Wno-unknown-warning-option \
		--extra-arg=-Wno-ignored-optimization-argument "$file" 2>&1); then
		: >"$key"
		return 0
	fi
	printf '%s\n' "$said" | grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header-filter'
	return 1
}
export -f one

if [ $# -gt 0 ]; then
	files=("$@")
else
	mapfile -t files < <(python3 - "$database" <<-'END'
		import json, os, sys
		here = os.getcwd() + os.sep
		names = {os.path.realpath(os.path.join(e["directory"], e["file"])) for e in json.load(open(sys.argv[1] + "/compile_commands.json"))}
		print("\n".join(sorted(n[len(here):] for n in names if n.startswith(here) and not n.startswith(here + "build" + os.sep) and os.path.exists(n))))
	END
	)
fi
if [ ${#files[@]} -lt 1 ] || [ -z "${files[0]}" ]; then
	echo "tidy: the compile database names no source of this tree"
	exit 1
fi
printf '%s\n' "${files[@]}" | xargs -P "${DF_JOBS:-$(nproc)}" -n 1 bash -c 'one "$0"' || { echo "tidy: FAILED"; exit 1; }
find "$clean" -type f -mtime +30 -delete
echo "tidy: ${#files[@]} files are clean"
