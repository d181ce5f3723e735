# SPDX-License-Identifier: Apache-2.0
# ctest: serial
# ctest: plain
# ctest: timeout 600
"""One worker of three is a hundred times slower than the others (stopped for 99 ms of each 100): the run takes hardly longer
than with that worker left out, nothing is lost and nothing comes twice.

DF_SLOW_DOCS: documents (default 30000, some 2 s of two cores, and more where that takes less than 1.5 s; 100000 for a figure
to tell). The aim is a ratio of 1.2."""
import collections
import json
import os
import pathlib
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, Case, children_of, jsonl, kill, wait_until  # noqa: E402

N = int(os.environ.get("DF_SLOW_DOCS", 30000)) // (4 if SLOW > 1 else 1)
LEAST = 1.5  # seconds that a run must last for a slow worker to be noticed in it
PIPELINE = " | ".join(["normalize", "lower", "count"] * 12)  # work without side effects, some 0.1 ms for each document
RATIO_MAX = 1.6  # a loaded machine, and a run so short that the wait for what is late shows
RUN, STOPPED = 0.001, 0.099


class Brake(threading.Thread):
    """Lets a process run for 1 ms of each 100 ms, until told to stop."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.turns, self.over = pid, 0, threading.Event()

    def run(self):
        while kill(self.pid, signal.SIGSTOP) and not self.over.wait(STOPPED):
            self.turns += kill(self.pid, signal.SIGCONT)
            time.sleep(RUN)
        kill(self.pid, signal.SIGCONT)

    def end(self):
        self.over.set()
        self.join()


class SlowWorker(Case):
    def setUp(self):
        super().setUp()
        self.documents(N)

    def documents(self, n):
        self.n = n
        self.write("a.jsonl", jsonl(n, words=200))

    def once(self, jobs, slow, options, after=0):
        """The wall time of one run; the bytes that it wrote; how often the slow worker was let go."""
        brake, began = None, time.monotonic()
        with open(self.dir / "out.jsonl", "wb") as out:
            child = self.start("run", PIPELINE, "-v", "--bar", "never", "-j", jobs, *options, "a.jsonl", stdout=out)
            if slow:
                self.assertTrue(wait_until(lambda: len(children_of(child.pid)) == jobs))
                time.sleep(after)
                brake = Brake(max(children_of(child.pid)))
                brake.start()
            try:
                _, err = child.communicate(timeout=120 * SLOW)
            finally:
                if brake:
                    brake.end()
        took = time.monotonic() - began
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertNotIn(b"was ended by", err)
        return took, (self.dir / "out.jsonl").read_bytes(), brake.turns if brake else 0

    def without_it(self, options):
        """A run of two workers, of enough documents to last."""
        took, rows, _ = self.once(2, False, options)
        while took < LEAST:
            self.documents(2 * self.n)
            took, rows, _ = self.once(2, False, options)
        return took, rows

    def compare(self, *options, after=0):
        ratios = []
        for _ in range(3):  # the best of three: others use this machine, too
            without, expected = self.without_it(options)
            with_it, rows, turns = self.once(3, True, options, after)
            self.assertGreater(turns, 5, "the run was over before one worker was slow")
            self.same_rows(rows, expected, "-k" in options)
            ratios.append(with_it / without)
            print("\nratio %.2f (aim: 1.2): %.2f s with a third worker that is slow %s%s, %.2f s of two without it" %
                  (ratios[-1], with_it, "after %.1f s" % after if after else "from the beginning",
                   "".join(", " + o for o in options), without), flush=True)
            if ratios[-1] <= 1.2:
                break
        if SLOW == 1:
            self.assertLessEqual(min(ratios), RATIO_MAX)

    def same_rows(self, rows, expected, ordered):
        if ordered:
            self.assertTrue(rows == expected, "order is not kept")
            return
        ids = collections.Counter(json.loads(line)["id"] for line in rows.splitlines())
        self.assertEqual([i for i, n in ids.items() if n > 1][:5], [], "came twice")
        self.assertEqual(len(ids), self.n, "lost")

    def test_a_run_takes_hardly_longer_than_without_its_slow_worker(self):
        self.compare()

    def test_the_same_when_it_becomes_slow_with_large_leases_in_hand(self):
        self.compare(after=0.4)

    def test_the_same_with_order_kept(self):
        self.compare("-k")


if __name__ == "__main__":
    unittest.main(verbosity=2)
