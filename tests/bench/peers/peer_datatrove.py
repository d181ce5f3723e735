#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peer_datatrove.py PARTS_DIR OUT_DIR N jsonl|none: what `strip | clean min_chars=100 | count` does, by datatrove with N processes:
JSONL reader, a filter, a step that counts, and (jsonl) the uncompressed JSONL writer. PARTS_DIR holds N files, one per process (the
cut is not timed). Prints one JSON line; the time is that of run() alone, without the imports."""
import json
import os
import shutil
import sys
import time

os.environ.setdefault("LOGURU_LEVEL", "ERROR")
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


class Strip(PipelineStep):
    def run(self, data, rank=0, world_size=1):
        for doc in data:
            doc.text = doc.text.strip()
            yield doc


class Count(PipelineStep):
    def run(self, data, rank=0, world_size=1):
        for doc in data:
            text = doc.text
            doc.metadata.update(chars=len(text), bytes=len(text.encode()), words=len(text.split()), lines=text.count("\n") + 1)
            yield doc


def long_enough(doc):
    return len(doc.text) >= 100


def main():
    parts, out, n, form = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    shutil.rmtree(out, ignore_errors=True)
    steps = [JsonlReader(parts, glob_pattern="*.jsonl"), Strip(), LambdaFilter(long_enough), Count()]
    if form == "jsonl":
        steps.append(JsonlWriter(out + "/data", compression=None))
    start = time.perf_counter()
    LocalPipelineExecutor(pipeline=steps, tasks=n, workers=n, logging_dir=out + "/log").run()
    seconds = time.perf_counter() - start
    size = sum(os.path.getsize(os.path.join(parts, f)) for f in os.listdir(parts))
    print(json.dumps({"peer": "datatrove", "form": form, "procs": n, "seconds": round(seconds, 3), "GBps": size / 1e9 / seconds}))


if __name__ == "__main__":
    main()
