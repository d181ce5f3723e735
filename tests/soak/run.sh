#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [NAME...]: the long tests, all or those named (README.md); figures go to build/soak/report.txt. Expects build/release and
# build/dev to be built, as `./bootstrap soak` does.
set -u
cd "$(dirname "$0")/../.."
export DOCFLUME=${DOCFLUME:-$PWD/build/release/docflume} DF_SOAK_DIR=${DF_SOAK_DIR:-$PWD/build/soak}
export PYTHONPATH=$PWD/tests/soak
tests=$PWD/build/dev/tests failed=0
mkdir -p "$DF_SOAK_DIR"
[ $# -gt 0 ] || set -- million redispatch poison hang slow cuts injected power sim lanes tiny durable rates

# log NAME COMMAND...: runs it, keeps all of its words, shows the last ones.
log() {
	local name=$1 status=0
	shift
	"$@" >"$DF_SOAK_DIR/$name.log" 2>&1 || status=$?
	grep -E '^(figure|ratio|p50|seeds|injected|images|lanes|[0-9]+ )|^figure:' "$DF_SOAK_DIR/$name.log" | tail -n 8
	if [ $status = 0 ]; then
		echo "$name: passed" | tee -a "$DF_SOAK_DIR/report.txt"
	else
		echo "$name: FAILED, see $DF_SOAK_DIR/$name.log" | tee -a "$DF_SOAK_DIR/report.txt"
		failed=1
	fi
}

date >>"$DF_SOAK_DIR/report.txt"
for name in "$@"; do
	echo "== $name"
	case $name in
	million | tiny | durable) python3 tests/soak/$name.py || failed=1 ;;
	redispatch) DF_KILLS=400 log $name python3 tests/fault/test_redispatch.py ;;
	poison) DF_POISON_DOCS=200000 log $name python3 tests/fault/test_poison.py ;;
	hang) log $name python3 tests/fault/test_hang.py ;;
	slow) DF_SLOW_DOCS=100000 log $name python3 tests/fault/test_slow_worker.py ;;
	cuts)
		log cuts-store "$tests/test_cuts"
		log cuts python3 tests/fault/test_cuts.py
		;;
	injected)
		DF_SOAK=1 DF_SHIM_DIR=$tests DOCFLUME=$PWD/build/dev/docflume log injected-io python3 tests/fault/test_injected_io.py
		DF_SOAK=1 DF_SHIM_DIR=$tests DOCFLUME=$PWD/build/dev/docflume log injected-memory python3 tests/fault/test_injected_memory.py
		;;
	power) DF_SOAK=1 DF_SHIM_DIR=$tests DOCFLUME=$PWD/build/dev/docflume log $name python3 tests/fault/test_power_loss.py ;;
	sim) DF_SIM_SEEDS=10000 log $name "$tests/test_spine" ;;
	rates) DF_SOAK=1 log $name python3 tests/fault/test_rates.py ;;
	lanes) log $name "$tests/test_lanes" ;;
	*)
		echo "run.sh: no test '$name'" >&2
		exit 2
		;;
	esac
done
exit $failed
