#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# format.sh [--fix]: clang-format agrees with every C and C++ source that git tracks.
set -u
cd "$(dirname "$0")/../.."
command -v clang-format >/dev/null || { echo "SKIP: clang-format is not installed"; exit 77; }
case $(clang-format --version) in
*"version 14."*) ;;
*) echo "SKIP: the sources are formatted by clang-format 14, here is $(clang-format --version)"; exit 77 ;;
esac
git rev-parse --git-dir >/dev/null 2>&1 || { echo "SKIP: not a git clone"; exit 77; }
mapfile -d '' -t files < <(git ls-files -z -- '*.c' '*.h' '*.cpp')
if [ "${1:-}" = --fix ]; then
	exec clang-format -i -- "${files[@]}"
fi
if ! printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -n 8 clang-format --dry-run -Werror --ferror-limit=1 --; then
	echo "format: run tests/lint/format.sh --fix"
	exit 1
fi
echo "format: ${#files[@]} files agree with .clang-format"
