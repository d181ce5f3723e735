# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 400
"""kill -9 in the middle: of workers, readers and the coordinator. Nothing is lost, nothing comes twice."""
import collections
import glob
import gzip
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, Case, children_of, jsonl, kill, wait_until  # noqa: E402

N = 60000 // SLOW
# A sanitizer's process takes half a second to begin: it is killed more seldom, and works longer on less.
BETWEEN_KILLS = 0.05 if SLOW == 1 else 0.4
NAP = 0.01 if SLOW == 1 else 0.1
SLEEPS = f"exec cmd='sleep {NAP}; cat'"


class Kills(Case):
    def once_each(self, ids, n=N):
        counts = collections.Counter(ids)
        self.assertEqual([i for i, c in counts.items() if c > 1][:5], [], "came twice")
        self.assertEqual(len(counts), n, "lost")

    def kill_some(self, child, role, seconds, seed=7):
        rnd, killed, deadline = random.Random(seed), 0, time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < deadline:
            victims = [pid for pid, r in children_of(child.pid).items() if r == role]
            if victims:
                killed += kill(rnd.choice(sorted(victims)))
            time.sleep(BETWEEN_KILLS)
        return killed

    def output_of(self, out):
        rows = []
        for path in sorted(glob.glob(str(self.dir / out / "part-*.jsonl"))):
            with open(path, encoding="utf-8") as f:
                rows += [json.loads(line) for line in f]
        return rows

    def test_workers_are_killed_and_stdout_has_everything_once(self):
        self.write("a.jsonl", jsonl(N))
        with open(self.dir / "out.jsonl", "wb") as out:
            child = self.start("run", SLEEPS, "a.jsonl", stdout=out)
            killed = self.kill_some(child, "worker", 3 * SLOW)
            _, err = child.communicate(timeout=120 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertGreater(killed, 5)
        self.once_each(json.loads(line)["id"] for line in (self.dir / "out.jsonl").read_bytes().splitlines())

    def test_workers_are_killed_and_order_is_kept(self):
        data = jsonl(N)
        self.write("a.jsonl", data)
        with open(self.dir / "out.jsonl", "wb") as out:
            child = self.start("run", "-k", SLEEPS, "a.jsonl", stdout=out)
            killed = self.kill_some(child, "worker", 3 * SLOW)
            _, err = child.communicate(timeout=120 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertGreater(killed, 5)
        self.assertEqual((self.dir / "out.jsonl").read_bytes(), data)

    def test_readers_are_killed_and_their_successors_go_on(self):
        for i in range(4):
            self.write("%d.jsonl.gz" % i, gzip.compress(jsonl(N // 4, first=i * (N // 4)), 1))
        with open(self.dir / "out.jsonl", "wb") as out:
            child = self.start("run", SLEEPS, ".", stdout=out)
            self.assertTrue(wait_until(lambda: "reader" in children_of(child.pid).values()))
            for _ in range(2):
                for pid, role in children_of(child.pid).items():
                    if role == "reader":
                        kill(pid)
                time.sleep(0.1)
            _, err = child.communicate(timeout=120 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertIn("reader", err.decode())
        self.once_each(json.loads(line)["id"] for line in (self.dir / "out.jsonl").read_bytes().splitlines())

    def test_all_workers_and_readers_are_killed_together_again_and_again(self):
        self.write("a.jsonl", jsonl(N // 2))
        for i in range(2):
            self.write("%d.jsonl.gz" % i, gzip.compress(jsonl(N // 4, first=N // 2 + i * (N // 4)), 1))
        killed, rounds = 0, 0
        with open(self.dir / "out.jsonl", "wb") as out:
            child = self.start("run", "-j", "4", SLEEPS, ".", stdout=out)
            deadline = time.monotonic() + 4 * SLOW
            while child.poll() is None and time.monotonic() < deadline:
                victims = children_of(child.pid)
                killed += sum(kill(pid) for pid in victims)
                rounds += len(victims) > 1
                time.sleep(0.3 * SLOW)
            _, err = child.communicate(timeout=200 * SLOW)
        self.assertIn(child.returncode, (0, 3), err.decode())
        self.assertGreater(rounds, 3)
        ids = [json.loads(line)["id"] for line in (self.dir / "out.jsonl").read_bytes().splitlines()]
        self.assertEqual(len(ids), len(set(ids)), "came twice")
        if child.returncode == 0:
            self.once_each(ids, 2 * (N // 4) + N // 2)
        else:  # three deaths over one compressed input are its end, and are told
            self.assertIn("could not be read", err.decode())
            self.assertLessEqual({"d%06d" % i for i in range(N // 2)}, set(ids))

    def test_the_coordinator_is_killed_and_the_same_command_goes_on(self):
        self.write("a.jsonl", jsonl(N // 2))
        self.write("b.jsonl.gz", gzip.compress(jsonl(N - N // 2, first=N // 2), 1))
        lives, rnd = 0, random.Random(3)
        while True:
            child = self.start("run", SLEEPS, "-o", "out", "--part-size", "300k", "a.jsonl", "b.jsonl.gz")
            lives += 1
            if lives <= 6:
                time.sleep((0.3 + rnd.random() * 0.5) * SLOW)
                kids = children_of(child.pid)
                kill(child.pid)
                child.wait()
                self.assertTrue(wait_until(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in kids)),
                                "workers outlive their coordinator")
                continue
            _, err = child.communicate(timeout=200 * SLOW)
            self.assertEqual(child.returncode, 0, err.decode())
            break
        rows = self.output_of("out")
        self.once_each(r["id"] for r in rows)
        state = json.loads((self.dir / "out" / "run.json").read_text())
        counts = state["counts"]
        self.assertEqual(counts["in"], N)
        self.assertEqual(counts["in"], counts["out"] + sum(counts["filtered"].values()) + sum(counts["rejected"].values()))
        again = self.flume("run", SLEEPS, "-o", "out", "--part-size", "300k", "a.jsonl", "b.jsonl.gz")
        self.assertEqual(again.code, 0, again.err)
        self.assertIn("complete already", again.err)
        self.assertEqual(self.output_of("out"), rows)

    def test_everything_is_killed_together_and_the_same_command_goes_on(self):
        self.write("a.jsonl", jsonl(N))
        for _ in range(3):
            child = self.start("run", SLEEPS, "-o", "out", "a.jsonl")
            time.sleep(0.5 * SLOW)
            for pid in [child.pid, *children_of(child.pid)]:
                kill(pid)
            child.wait()
        result = self.flume("run", SLEEPS, "-o", "out", "a.jsonl", timeout=120)
        self.assertEqual(result.code, 0, result.err)
        self.once_each(r["id"] for r in self.output_of("out"))

    def test_interrupted_it_finishes_what_is_in_work_and_exits_75(self):
        self.write("a.jsonl", jsonl(N))
        self.write("nap", "0.3")  # so slow that a signal always comes in the middle, on the quietest machine
        pipeline = "exec cmd='sleep $(cat nap); cat'"
        child = self.start("run", pipeline, "-o", "out", "a.jsonl")
        time.sleep(1.0 * SLOW)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 75, err.decode())
        self.write("nap", "0")
        result = self.flume("run", pipeline, "-o", "out", "a.jsonl", timeout=120)
        self.assertEqual(result.code, 0, result.err)
        self.once_each(r["id"] for r in self.output_of("out"))


# A document that ends the worker which works on it: the command sends the signal to its parent.
POISON = "exec cmd='while read -r l; do case \"$l\" in *KILL-ME*) kill -%s $PPID; sleep 1;; esac; echo \"$l\"; done'"


class Poison(Case):
    def corpus(self):
        lines = jsonl(300).splitlines()
        for i in (17, 150):
            lines[i] = lines[i].replace(b'"text": "', b'"text": "KILL-ME ', 1)
        self.write("a.jsonl", b"\n".join(lines) + b"\n")
        return lines

    def test_a_record_that_kills_its_worker_is_rejected_after_three_strikes(self):
        self.corpus()
        result = self.run_ok("-j", "2", "--cell-size", "2k", "--rejects", "rejects.jsonl", POISON % "SEGV", "a.jsonl", code=3, timeout=100)
        ids = result.ids()
        self.assertEqual(len(ids), 298)
        self.assertEqual(len(set(ids)), 298)
        self.assertFalse({"d000017", "d000150"} & set(ids))
        rejects = [json.loads(line) for line in (self.dir / "rejects.jsonl").read_text().splitlines()]
        self.assertEqual({r["id"] for r in rejects if "id" in r} or {"d000017", "d000150"}, {"d000017", "d000150"})
        self.assertEqual(len(rejects), 2)
        for r in rejects:
            how = "by signal 11 (Segmentation fault)" if SLOW == 1 else "with exit code"  # as a sanitizer ends
            self.assertIn("ended 3 workers " + how, r["docflume"]["error"])
            self.assertIn("in stage 'exec'", r["docflume"]["error"])

    def test_a_strangers_sigkill_never_condemns_a_record(self):
        self.write("a.jsonl", jsonl(40))
        with open(self.dir / "out.jsonl", "wb") as out:
            child = self.start("run", "-j", "2", "--cell-size", "1k", "exec cmd='sleep 0.15; cat'", "a.jsonl", stdout=out)
            deadline = time.monotonic() + 4 * SLOW
            while child.poll() is None and time.monotonic() < deadline:
                for pid, role in children_of(child.pid).items():
                    if role == "worker":
                        kill(pid)
                time.sleep(0.2 * SLOW)
            _, err = child.communicate(timeout=100 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertEqual(len((self.dir / "out.jsonl").read_bytes().splitlines()), 40)


if __name__ == "__main__":
    unittest.main()
