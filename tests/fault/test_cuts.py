# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
"""A run directory, as a killed run and as a finished one left it, with its files cut, flipped or gone: the same command ends exactly once, or refuses
with the name of the file and changes nothing. A sample with the real program; tests/sim/test_cuts.c does every byte and every bit."""
import collections
import pathlib
import random
import re
import shutil
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, jsonl, kill, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402

N = 1500
RUN = ("run", "exec cmd='sleep $(cat nap); cat'", "-o", "out", "-j", "2", "--part-size", "64k", "--cell-size", "4k", "a.jsonl")


class Cuts(RunCase):
    def setUp(self):
        super().setUp()
        self.rnd = random.Random(self.id())
        self.write("a.jsonl", jsonl(N - 3) + b'{"text":1}\n{broken\n"string"\n')

    def make_killed(self):
        """Killed with a part closed and another open and half full."""
        for _ in range(5):  # a part that has just begun is empty
            self.kill_one()
            if self.names(".open") and self.names(".jsonl"):
                return
            shutil.rmtree(self.dir / "image")
        self.fail("no run was killed with a part half full")

    def kill_one(self):
        self.write("nap", "0.05")
        child = self.start(*RUN)
        self.assertTrue(wait_until(lambda: self.parts("jsonl") and self.parts("jsonl.open"), 60))
        time.sleep(0.3)
        self.write("nap", "5")  # from here on it stands nearly still
        time.sleep(0.6 * SLOW)
        self.assertIsNone(child.poll(), "the run is over already")
        kill(child.pid)
        child.wait()
        self.write("nap", "0")
        self.assertTrue(wait_until(lambda: "in use" not in self.flume("verify", "out").err, 20))
        (self.dir / "out").rename(self.dir / "image")

    def make_finished(self):
        self.write("nap", "0")
        self.assertEqual(self.flume(*RUN).code, 3)
        (self.dir / "out").rename(self.dir / "image")

    def names(self, *endings):
        return sorted(p.name for p in (self.dir / "image").iterdir() if p.name.endswith(endings) and p.stat().st_size)

    def exactly_once(self):
        self.assertEqual(self.flume("verify", "out").code, 0)
        ids = collections.Counter(r["id"] for r in self.rows())
        self.assertEqual(max(ids.values()), 1)
        self.assertEqual(len(ids), N - 3)
        self.assertEqual(len(self.rows(name="rejects")), 3)
        self.assertEqual(self.counts_add_up()["in"], N)

    def with_damage(self, name, change):
        """change(bytes) -> bytes, or None: the file is gone. 'once' or 'refused'."""
        out = self.dir / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.dir / "image", out)
        data = change((out / name).read_bytes())
        if data is None:
            (out / name).unlink()
        else:
            (out / name).write_bytes(data)
        before = self.picture()
        result = self.flume(*RUN, timeout=120)
        if result.code == 3:
            self.exactly_once()
            return "once"
        self.assertEqual(result.code, 1, result.err)
        self.assertRegex(result.err, r"'(journal|part-\d+|rejects-\d+)", result.err)
        self.assertRegex(result.err, r"\d", "no place")
        self.assertEqual({n: h for n, h in self.picture().items() if n not in ("lock", "run.json", "status.json")},
                         {n: h for n, h in before.items() if n not in ("lock", "run.json", "status.json")})
        shutil.copy(self.dir / "image" / name, out / name)  # what was missing is put back
        result = self.flume(*RUN, timeout=120)
        self.assertEqual(result.code, 3, result.err)
        self.exactly_once()
        return "refused"

    def cut(self, data):
        return data[:self.rnd.randrange(len(data))]

    def cut_a_little(self, data):
        return data[:-self.rnd.randrange(1, 60)]

    def flip(self, data):
        at, data = self.rnd.randrange(len(data)), bytearray(data)
        data[at] ^= 1 << self.rnd.randrange(8)
        return bytes(data)

    def sample(self, plan):
        seen = collections.Counter()
        for names, change, times in plan:
            self.assertTrue(names)
            for _ in range(times):
                seen[self.with_damage(self.rnd.choice(names), change)] += 1
        print("%s: %s" % (self.id().split(".")[-1], dict(seen)))
        return seen

    def test_a_killed_run_goes_on_once_or_is_refused(self):
        self.make_killed()
        seen = self.sample([(["journal"], self.cut, 4), (["journal"], self.cut_a_little, 2), (["journal"], self.flip, 4),
                            (self.names(".open"), self.cut, 3), (self.names(".open"), self.flip, 3),
                            (self.names(".open"), lambda data: None, 1), (self.names(".jsonl"), self.cut, 2),
                            (self.names(".jsonl"), lambda data: None, 1), (self.names(".open"), lambda data: data + b"torn", 1)])
        self.assertEqual(sum(seen.values()), 21)
        self.assertTrue(seen["once"] and seen["refused"], seen)

    def test_a_finished_run_is_left_alone_or_refused(self):
        self.make_finished()
        seen = self.sample([(["journal"], self.cut, 3), (["journal"], self.cut_a_little, 1), (["journal"], self.flip, 3),
                            (self.names(".jsonl"), self.cut, 2), (self.names(".jsonl"), lambda data: None, 1)])
        self.assertTrue(seen["refused"], seen)

    def test_no_journal_at_all(self):
        self.make_killed()
        self.assertEqual(self.with_damage("journal", lambda data: None), "refused")
        self.assertEqual(self.with_damage("journal", lambda data: b""), "refused")

    def test_what_is_done_again_is_said(self):
        """As after a power cut with --fsync rotate: the journal has a commit whose data never reached the disk."""
        self.write("nap", "0.05")
        more = ("--fsync", "rotate", "--part-size", "8m")
        child = self.start(*RUN, *more)
        self.assertTrue(wait_until(lambda: self.parts("jsonl.open"), 60))
        time.sleep(0.3)
        self.write("nap", "5")
        time.sleep(0.8 * SLOW)
        kill(child.pid)
        child.wait()
        self.write("nap", "0")
        self.assertTrue(wait_until(lambda: "in use" not in self.flume("verify", "out").err, 20))
        path = pathlib.Path(self.parts("jsonl.open")[-1])
        path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])
        result = self.flume(*RUN, *more, timeout=120)
        self.assertEqual(result.code, 3, result.err)
        said = re.search(r"'(part-\d+\.jsonl\.open)' has \d+ bytes, but the journal says \d+: stepped back to the commit before; (\d+) cells are done again",
                         result.err)
        self.assertTrue(said, result.err)
        self.assertEqual(said[1], path.name)
        self.assertGreater(int(said[2]), 0)
        self.exactly_once()


if __name__ == "__main__":
    unittest.main()
