#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# headers.sh: every header compiles alone, with each C compiler there is; those that speak of C++ (extern "C") as C++ too.
set -u
cd "$(dirname "$0")/../.."
flags="-I. -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wshadow -Wvla -Werror -fsyntax-only"
flags="$flags $(pkg-config --cflags libzmq msgpack libarchive simdjson icu-uc libfyaml nettle cmocka)"
mapfile -t headers < <(find base proto coordinator worker cli plugins tests -name '*.h' 2>/dev/null | sort)
if [ ${#headers[@]} -lt 5 ]; then
	echo "headers: found ${#headers[@]} headers; that cannot be all of the tree"
	exit 1
fi

# one COMPILER HEADER: prints the compiler's words when the header does not stand alone.
one() {
	local cc=$1 header=$2 lang=c std=c17 more=
	# In C++ the project's C headers are a guest's: a struct and a function of one name, compound literals.
	case $cc in *++) lang=c++ std=c++17 more="-Wno-shadow -Wno-pedantic" ;; esac
	# By an #include, not as the main file: "pragma once in main file" and unused static functions are no faults.
	if ! said=$(printf '#include "%s"\nextern int df_translation_unit;\n' "$header" |
		$cc -x $lang -std=gnu${std#c} $flags $more - 2>&1); then
		printf '%s does not compile alone with %s:\n%s\n' "$header" "$cc" "$said"
		return 1
	fi
}
export -f one
export flags

list() {
	for header in "${headers[@]}"; do
		for cc in gcc clang; do
			command -v $cc >/dev/null && echo "$cc $header"
		done
		grep -q 'extern "C"' "$header" && echo "g++ $header"
	done
}
list | xargs -P "$(nproc)" -L 1 bash -c 'one "$0" "$1"' || { echo "headers: FAILED"; exit 1; }
echo "headers: ${#headers[@]} headers compile alone"
