# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 600
"""Nine documents among many end or hang their workers, while strangers kill workers too: exactly the nine are quarantined.
DF_POISON_DOCS: how many documents; 20,000 when not given, 200,000 in a soak."""
import collections
import json
import os
import pathlib
import random
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, Case, children_of, jsonl, kill  # noqa: E402

N = int(os.environ.get("DF_POISON_DOCS", 20000 // SLOW))
DEADLINE = 2 * SLOW
# What the document says is done to the worker that works on it ($PPID is the worker's other half, see worker/process/spawner.h).
COMMAND = ("exec timeout_ms=3600000 cmd='awk -v p=$PPID \"/SEGV-ME/ { system(\\\"kill -SEGV \\\" p); system(\\\"sleep 2\\\") } "
           "/ABRT-ME/ { system(\\\"kill -ABRT \\\" p); system(\\\"sleep 2\\\") } /HANG-ME/ { system(\\\"sleep 600\\\") } { print }\"'")
KINDS = {"SEGV-ME": "by signal 11", "ABRT-ME": "by signal 6", "HANG-ME": "longer than %d s (--doc-timeout)" % DEADLINE}


class Poison(Case):
    def corpus(self):
        """The marked documents as {id: kind}: in the same cell, in neighbouring ones, the first, the last."""
        lines = jsonl(N).splitlines()
        rnd = random.Random(5)
        places = [0, 1, N - 1, N // 2, N // 2 + 1] + rnd.sample(range(100, N // 2 - 100), 4)
        marked = {}
        for k, i in enumerate(places):
            kind = list(KINDS)[k % 3]
            lines[i] = lines[i].replace(b'"text": "', b'"text": "%s ' % kind.encode(), 1)
            marked["d%06d" % i] = kind
        self.write("a.jsonl", b"\n".join(lines) + b"\n")
        return marked

    def test_nine_documents_in_many_are_quarantined_and_nothing_else(self):
        marked = self.corpus()
        kills, rnd = 0, random.Random(11)
        began = time.monotonic()
        with open(self.dir / "out.jsonl", "wb") as out, open(self.dir / "err", "wb") as err:
            child = self.start("run", "-j", "4", "--doc-timeout", "%d" % DEADLINE, "--rejects", "rejects.jsonl", COMMAND, "a.jsonl", stdout=out, stderr=err)
            while child.poll() is None and time.monotonic() < began + 500 * SLOW:
                victims = sorted(p for p, role in children_of(child.pid).items() if role == "worker")
                if victims and kills < 40:
                    kills += kill(rnd.choice(victims))
                time.sleep(0.3 * SLOW)
        took = time.monotonic() - began
        told = (self.dir / "err").read_text()
        self.assertEqual(child.poll(), 3, told[-3000:])
        rows = collections.Counter(json.loads(line)["id"] for line in (self.dir / "out.jsonl").read_bytes().splitlines())
        rejects = [json.loads(line) for line in (self.dir / "rejects.jsonl").read_text().splitlines()]
        offsets, at = {}, 0
        for line in (self.dir / "a.jsonl").read_bytes().splitlines(keepends=True):
            offsets[at] = json.loads(line)["id"]
            at += len(line)
        quarantined = {offsets[r["docflume"]["offset"]]: r["docflume"] for r in rejects}
        self.assertEqual(sorted(quarantined), sorted(marked), told[-3000:])
        self.assertEqual(len(rejects), len(marked))
        self.assertEqual(set(rows.values()), {1}, "came twice")
        self.assertEqual(len(rows), N - len(marked), "lost")
        self.assertFalse(set(rows) & set(marked))
        for i, reason in quarantined.items():
            if SLOW == 1 or "with exit code" not in reason["error"] or marked[i] == "HANG-ME":
                self.assertIn(KINDS[marked[i]], reason["error"])  # a sanitizer makes an exit of a signal
            self.assertIn("in stage 'exec'", reason["error"])
            self.assertEqual((reason["stage"], reason["attempts"]), ("exec", 3))
            self.assertEqual(reason["class"], "timeout" if marked[i] == "HANG-ME" else "child")
        print("%d documents, 9 that end or hang their workers, %d workers killed by strangers: exactly these 9 quarantined, %.1f s" % (N, kills, took))


if __name__ == "__main__":
    unittest.main()
