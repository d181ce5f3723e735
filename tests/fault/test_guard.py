# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 400
"""The guard: a coordinator that is killed is started again; a guard that is killed takes everything with it; nothing is left behind."""
import collections
import datetime
import fcntl
import json
import os
import pathlib
import random
import re
import signal
import stat
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, children_of, coordinator_of, jsonl, kill, processes_below, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402

N = 6000 // SLOW
NAP = "exec cmd='sleep 0.1; cat'"


class GuardCase(RunCase):
    def setUp(self):
        super().setUp()
        self.sockets = pathlib.Path(tempfile.mkdtemp(prefix="df-"))  # a short path: sockets are made in it
        self.addCleanup(shutil.rmtree, self.sockets, ignore_errors=True)
        self.env = {"XDG_RUNTIME_DIR": str(self.sockets)}
        self.err_path = self.dir / "err"

    def begin(self, *args, stdout=subprocess.DEVNULL, **more):
        with open(self.err_path, "ab") as err:
            return self.start("run", *args, stdout=stdout, stderr=err, env=self.env, **more)

    def err(self):
        return self.err_path.read_text(errors="replace")

    def coordinator(self, child):
        found = []

        def there():
            found.append(coordinator_of(child.pid))
            return found[-1] or child.poll() is not None
        wait_until(there)
        return found[-1]

    def end(self, child, seconds=60):
        try:
            return child.wait(timeout=seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.fail("it does not end: " + self.err()[-3000:])

    def once_each(self, n):
        counts = collections.Counter(r["id"] for r in self.rows())
        self.assertEqual([i for i, c in counts.items() if c > 1][:5], [], "came twice")
        self.assertEqual(len(counts), n, "lost")

    def there(self, pids):
        """Those that still run, as /proc tells; one that only waits to be collected by the machine's first process does not."""
        found = []
        for pid in pids:
            try:
                line = pathlib.Path("/proc/%d/stat" % pid).read_text()
            except OSError:
                continue
            if line[line.rindex(")") + 2] not in "ZX":
                found.append(line[:120])
        return found

    def all_gone(self, pids, seconds=5):
        return wait_until(lambda: not self.there(pids), seconds)

    def all_of(self, child):
        coordinator = self.coordinator(child)
        return [coordinator, *children_of(child.pid)]

    def sockets_left(self):
        return sorted(p.name for p in self.sockets.iterdir())


class CoordinatorDies(GuardCase):
    def test_killed_twenty_times_in_one_run_it_comes_to_its_end_and_each_document_comes_once(self):
        self.write("a.jsonl", jsonl(N))
        rnd, killed = random.Random(5), 0
        child = self.begin("-j", "2", "--cell-size", "2k", "exec cmd='sleep 0.05; cat'", "-o", "out", "--part-size", "100k", "a.jsonl")
        wanted = 20 if SLOW == 1 else 4
        while child.poll() is None and killed < wanted:
            first = self.coordinator(child)
            rows = sum(os.path.getsize(p) for p in self.parts("jsonl*"))
            # a life that committed something: else three in a row would rightly be the end
            wait_until(lambda: child.poll() is not None or sum(os.path.getsize(p) for p in self.parts("jsonl*")) > rows)
            time.sleep(0.25 + 0.1 * rnd.random())
            killed += first is not None and kill(first)
            wait_until(lambda: coordinator_of(child.pid) not in (first, None) or child.poll() is not None)
        self.assertEqual(self.end(child), 0, self.err()[-3000:])
        self.assertEqual(killed, wanted, "it ended too early for this test: " + self.err()[-3000:])
        self.once_each(N)
        self.assertEqual(self.counts_add_up()["in"], N)
        self.assertEqual(self.state()["epochs"], killed + 1)
        self.assertEqual(self.err().count("starting it again"), killed)
        self.assertEqual(self.sockets_left(), [])

    def test_three_deaths_before_anything_was_done_are_told_and_the_same_command_goes_on(self):
        self.write("a.jsonl", jsonl(60))
        command = ("-j", "1", "--cell-size", "1k", "exec cmd='sleep $(cat nap); cat'", "-o", "out", "a.jsonl")
        self.write("nap", "30")
        child = self.begin(*command)
        last = None
        for _ in range(3):
            self.assertTrue(wait_until(lambda: coordinator_of(child.pid) not in (last, None)), self.err())
            last = self.coordinator(child)
            self.assertTrue(wait_until(lambda: children_of(child.pid)))
            kill(last, signal.SIGTRAP)  # sanitizers have an opinion on SIGSEGV
        self.assertEqual(self.end(child), 75, self.err())
        message = self.err().splitlines()[-1]
        for words in ("signal 5", "3 in a row", "the same command goes on"):
            self.assertIn(words, message)
        self.assertEqual(self.sockets_left(), [])
        self.write("nap", "0")
        self.assertEqual(self.end(self.begin(*command)), 0, self.err())
        self.once_each(60)

    def test_on_stdout_it_says_how_far_it_came(self):
        self.write("a.jsonl", jsonl(400))
        with open(self.dir / "rows", "wb") as rows:
            child = self.begin("-j", "2", "--cell-size", "1k", "exec cmd='sleep 0.05; cat'", "a.jsonl", stdout=rows)
        self.assertTrue(wait_until(lambda: (self.dir / "rows").stat().st_size > 0))
        time.sleep(0.3)
        kill(self.coordinator(child))
        self.assertEqual(self.end(child), 1, self.err())
        written = (self.dir / "rows").read_bytes()
        told = re.search(r"signal 9 \(Killed\); (\d+) documents and (\d+) rows had been written to stdout", self.err())
        self.assertTrue(told, self.err())
        self.assertIn("-o DIR", self.err())
        self.assertEqual(int(told[2]), written.count(b"\n"), "at rest between two leases it is exact")
        self.assertEqual(self.sockets_left(), [])

    def test_with_stdin_as_input_it_does_not_begin_again(self):
        child = self.begin("-j", "1", NAP, "-o", "out", stdin=subprocess.PIPE)
        child.stdin.write(jsonl(200))
        child.stdin.flush()
        self.assertTrue(wait_until(lambda: self.parts("jsonl*")))
        kill(self.coordinator(child))
        self.assertEqual(self.end(child), 1, self.err())
        self.assertIn("cannot be read again", self.err())
        self.assertIn("--spool", self.err())
        self.assertNotIn("starting it again", self.err())

    def test_force_restart_is_done_once(self):
        self.write("a.jsonl", jsonl(40))
        self.run_ok("strip", "-o", "out", "a.jsonl")
        self.write("b.jsonl", jsonl(300, first=1000))
        child = self.begin("-j", "1", "--cell-size", "1k", "exec cmd='sleep 0.02; cat'", "--force-restart", "-o", "out", "b.jsonl")
        self.assertTrue(wait_until(lambda: any(os.path.getsize(p) for p in self.parts("jsonl*")) and (self.dir / "out.old-1").exists()))
        time.sleep(0.3)
        kill(self.coordinator(child))
        self.assertEqual(self.end(child), 0, self.err())
        self.assertIn("starting it again", self.err())
        self.assertEqual(sorted(p.name for p in self.dir.glob("out*")), ["out", "out.old-1"])
        self.assertEqual(self.state()["epochs"], 2)
        self.once_each(300)

    def test_its_exit_code_is_the_guards(self):
        self.write("a.jsonl", jsonl(3) + b"{\n")
        for code, args in ((0, ("--limit", "2", "strip", "a.jsonl")), (3, ("strip", "a.jsonl")), (1, ("strip", "none.jsonl"))):
            self.assertEqual(self.end(self.begin(*args)), code, self.err())
        self.assertNotIn("starting it again", self.err())

    def test_a_stop_that_it_did_not_survive_is_not_undone(self):
        self.write("a.jsonl", jsonl(400))
        child = self.begin("-j", "1", "--cell-size", "1k", "exec cmd='sleep 3; cat'", "-o", "out", "a.jsonl")
        self.assertTrue(wait_until(lambda: children_of(child.pid)))
        time.sleep(0.3 * SLOW)
        child.send_signal(signal.SIGTERM)
        self.assertTrue(wait_until(lambda: "finishing what is in work" in self.err()), self.err())
        kill(self.coordinator(child))
        self.assertEqual(self.end(child), 75, self.err())
        self.assertIn("the same command goes on", self.err())
        self.assertNotIn("starting it again", self.err())


class Takeover(GuardCase):
    N = 1000000 if os.environ.get("DF_SOAK") else 100000 // SLOW

    def test_a_new_epoch_gives_out_work_within_half_a_second(self):
        line = b'{"id":"d%07d","text":"a few words about the sea","metadata":{}}\n'
        self.write("a.jsonl", b"".join(line % i for i in range(self.N)))
        child = self.begin("-v", "-j", "2", "--log-format", "json", "exec cmd='sleep %g; cat'" % (0.1 * SLOW), "-o", "out", "a.jsonl")
        took = []
        for _ in range(5):
            size = sum(os.path.getsize(p) for p in self.parts("jsonl*"))
            wait_until(lambda: sum(os.path.getsize(p) for p in self.parts("jsonl*")) > size + 2000 or child.poll() is not None)
            time.sleep(0.3)
            told = self.err().count("its first lease went out")
            first = self.coordinator(child)
            if child.poll() is not None:
                break
            at = time.time()
            kill(first)
            self.assertTrue(wait_until(lambda: self.err().count("its first lease went out") > told or child.poll() is not None), self.err()[-2000:])
            when = [json.loads(s)["time"] for s in self.err().splitlines() if "its first lease went out" in s]
            if len(when) > told:
                self.assertRegex(when[-1], r"\.\d{6}Z$")
                took.append(datetime.datetime.strptime(when[-1], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc).timestamp() - at)
        if child.poll() is None:
            child.kill()
        self.assertTrue(took, self.err()[-2000:])
        print("takeover of %d documents: %s ms" % (self.N, " ".join("%.0f" % (1000 * t) for t in sorted(took))))
        self.assertLess(sorted(took)[len(took) // 2], 0.5 * SLOW)


class GuardDies(GuardCase):
    def test_everything_ends_with_it_and_the_same_command_goes_on(self):
        self.write("a.jsonl", jsonl(300))
        command = ("-j", "2", "--cell-size", "1k", "exec cmd='sleep $(cat nap); cat'", "-o", "out", "a.jsonl")
        self.write("nap", "0.2")
        child = self.begin(*command)
        self.assertTrue(wait_until(lambda: len(children_of(child.pid)) == 2))
        time.sleep(0.5 * SLOW)
        pids = self.all_of(child)
        self.write("nap", "0")
        self.assertEqual(len(pids), 3)
        child.kill()
        child.wait()
        self.assertTrue(self.all_gone(pids), "something outlives the guard")
        self.assertEqual(len(self.sockets_left()), 1, "what cleans up was killed")
        self.assertEqual(self.end(self.begin(*command)), 0, self.err())
        self.once_each(300)
        self.assertEqual(self.sockets_left(), [], "the next start did not sweep")

    def test_a_guard_that_dies_before_its_coordinator_looks_takes_it_along(self):
        self.write("a.jsonl", jsonl(300))  # 30 s of naps: nothing ends by itself while we look
        for i in range(20):
            child = self.begin("-j", "1", NAP, "-o", "out%d" % i, "a.jsonl")
            time.sleep(0.002 * i)
            below = processes_below(child.pid)
            child.kill()
            child.wait()
            self.assertTrue(self.all_gone(below), "at %d ms: %s" % (2 * i, self.there(below)))


class StaleSockets(GuardCase):
    def make(self, name, mode=0o700, lock=True, content=("control", "results", "lane-100001")):
        path = self.sockets / name
        path.mkdir()
        path.chmod(mode)
        for file in (*content, *(["lock"] if lock else [])):
            (path / file).write_bytes(b"")
        return path

    def run_once(self):
        self.write("a.jsonl", jsonl(3))
        self.assertEqual(self.end(self.begin("strip", "a.jsonl")), 0, self.err())

    def test_ours_go_and_all_others_stay(self):
        self.make("docflume-0123abcd")
        live = self.make("docflume-00000001")
        held = os.open(live / "lock", os.O_RDWR)
        self.addCleanup(os.close, held)
        fcntl.flock(held, fcntl.LOCK_EX)
        self.make("docflume-00000002", mode=0o755)
        self.make("docflume-00000003", lock=False)
        self.make("docflume-00000004", content=("control", "somebody's thesis"))
        self.make("docflume-test-xyz")
        self.make("docflume-0000000g")
        target = self.make("elsewhere")
        (self.sockets / "docflume-00000005").symlink_to(target)
        (self.sockets / "docflume-00000006").write_bytes(b"a file")
        empty = self.make("docflume-00000007", lock=False, content=())
        os.utime(empty, (time.time() - 3600, time.time() - 3600))
        self.make("docflume-00000008", lock=False, content=())
        linked = self.make("docflume-00000009", content=(), lock=False)
        (linked / "lock").symlink_to(target / "lock")
        self.run_once()
        self.assertEqual(self.sockets_left(), [
            "docflume-00000001", "docflume-00000002", "docflume-00000003", "docflume-00000004", "docflume-00000005", "docflume-00000006",
            "docflume-00000008", "docflume-00000009", "docflume-0000000g", "docflume-test-xyz", "elsewhere"])
        self.assertTrue((self.sockets / "docflume-00000004" / "somebody's thesis").exists())
        self.assertEqual(sorted(p.name for p in target.iterdir()), ["control", "lane-100001", "lock", "results"])
        self.assertEqual(sorted(p.name for p in live.iterdir()), ["control", "lane-100001", "lock", "results"])

    def test_very_many_are_not_all_removed_at_one_start(self):
        for i in range(200):
            self.make("docflume-%08x" % i)
        self.run_once()
        self.assertTrue(100 < len(self.sockets_left()) < 200, len(self.sockets_left()))

    def test_its_own_folder_is_private_and_locked(self):
        self.write("b.jsonl", jsonl(100))
        child = self.begin("-j", "1", "--cell-size", "1k", NAP, "-o", "out", "b.jsonl")
        self.assertTrue(wait_until(lambda: children_of(child.pid)))
        name, = self.sockets_left()
        self.assertRegex(name, r"^docflume-[0-9a-f]{8}$")
        self.assertEqual(stat.S_IMODE((self.sockets / name).stat().st_mode), 0o700)
        with open(self.sockets / name / "lock", "rb") as lock, self.assertRaises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.run_once()
        self.assertEqual(self.sockets_left(), [name], "a live one was swept")
        self.assertEqual(self.end(child), 0, self.err())
        self.assertEqual(self.sockets_left(), [])


if __name__ == "__main__":
    unittest.main()
