# SPDX-License-Identifier: Apache-2.0
"""The eighteen traps of TRAPS.md: each has its tests, and these are there; and those that have no better place.
ctest: plain"""
import os
import pathlib
import re
import sys
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "e2e")]
import flume


def sources():
    return [p for p in TESTS.rglob("*") if p.suffix in (".c", ".py", ".sh") and p.is_file()]


class Traps(flume.Case):
    def test_each_trap_has_its_row_and_every_test_that_is_named_is_there(self):
        rows = re.findall(r"^\| (\d+) \|.*", (TESTS / "fault" / "TRAPS.md").read_text(), re.M)
        self.assertEqual([int(n) for n in rows], list(range(1, 19)))
        there = set(re.findall(r"\b(test_\w+)\b *\(", "".join(p.read_text(errors="replace") for p in sources())))
        for row in (TESTS / "fault" / "TRAPS.md").read_text().splitlines():
            if re.match(r"\| \d", row):
                named = re.findall(r"`(test_\w+)`", row)
                self.assertTrue(named, row)
                self.assertEqual([name for name in named if name not in there], [], row)

    def test_a_worker_has_its_own_threads_and_no_other_whatever_the_environment_says(self):
        """Trap 7: OpenBLAS starts threads when it is loaded, as many as its variable says."""
        child = self.start("run", "strip", "-j", 1, stdin=-1, env={"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"})
        child.stdin.write(flume.jsonl(3))
        child.stdin.flush()
        child.stdout.readline()
        worker, = [pid for pid, role in flume.children_of(child.pid).items() if role == "worker"]
        time.sleep(0.1)
        extra = 1 if "tsan" in flume.BIN else 0  # ThreadSanitizer's own
        self.assertLessEqual(len(os.listdir(f"/proc/{worker}/task")), 4 + extra)  # link, compute, the socket library's two
        self.assertIn(b"OPENBLAS_NUM_THREADS=1\0", pathlib.Path(f"/proc/{worker}/environ").read_bytes())
        child.stdin.close()
        self.assertEqual(child.wait(20 * flume.SLOW), 0)

    def test_no_test_needs_a_file_from_outside_of_the_repository(self):
        """Trap 18: a clone alone must pass."""
        outside = "/".join(("..", "shared"))
        self.assertEqual([str(p) for p in sources() if outside in p.read_text(errors="replace")], [])


if __name__ == "__main__":
    unittest.main()
