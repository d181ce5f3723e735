#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# one.sh PROGRAM CORPUS FOUND SECONDS: runs one libFuzzer target. Seeds are read from CORPUS; what is found goes to FOUND
# (kept between runs, read too), an input that crashes to FOUND/crash-*. $DF_FUZZ_SECONDS wins over SECONDS.
set -eu
program=$1 corpus=$2 found=$3 seconds=${DF_FUZZ_SECONDS:-$4}
mkdir -p "$found"
seeds=()
if [ -d "$corpus" ]; then
	seeds=("$corpus")
else
	echo "one.sh: no seed corpus '$corpus'; starting from nothing"
fi
if ! "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
	-artifact_prefix="$found/crash-" "$found" "${seeds[@]}"; then
	echo "one.sh: '${program##*/}' failed; the input is the newest of $found/crash-*: keep it in $corpus with its fix"
	exit 1
fi
