#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# sizes.sh: no source file has more than 900 lines; above 400 it is named, for somebody to think about.
set -u
cd "$(dirname "$0")/../.."
find base proto coordinator worker cli plugins tests -name '*.c' -o -name '*.cpp' -o -name '*.h' 2>/dev/null | sort | xargs wc -l |
	awk '$2 == "total" { next }
	{ n++ }
	$1 > 900 { print $2 ": " $1 " lines, more than 900: cut it in two"; bad = 1; next }
	$1 > 400 { print $2 ": " $1 " lines (fine, but look whether it is two things)" }
	END { print "sizes: " n " files"; exit bad || n < 10 }'
