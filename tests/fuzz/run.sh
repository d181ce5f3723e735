#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh SECONDS [TARGET...]: builds the fuzz preset and runs every target (or those named: fuzz_json ...) for SECONDS each,
# one per core at once. Ends non-zero when one of them crashed, hung or leaked.
set -eu
if [ $# -lt 1 ]; then
	echo "usage: tests/fuzz/run.sh SECONDS [fuzz_TARGET...]" >&2
	exit 2
fi
cd "$(dirname "$0")/../.."
export DF_FUZZ_SECONDS=$1
shift
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$(nproc)"
only=""
for target in "$@"; do
	only="$only${only:+|}/$target\$"
done
exec ctest --test-dir build/fuzz -j "$(nproc)" --output-on-failure --timeout $((DF_FUZZ_SECONDS * 2 + 120)) \
	--no-tests=error -L fuzz -R "${only:-.}"
