# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 400
"""--spool: stdin is kept first, and then the run survives what a run over files survives. Without it: an honest end."""
import collections
import gzip
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, children_of, coordinator_of, jsonl, kill, kill_whole, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402

N = 3000
SLOWLY = "exec cmd='sleep $(cat nap); cat'"
ARGS = ("-j", "2", "--cell-size", "2k", SLOWLY, "-o", "out", "--spool", "kept")


class SpoolCase(RunCase):
    def setUp(self):
        super().setUp()
        (self.dir / "kept").mkdir()
        self.write("nap", "0.2")

    def kept(self):
        return sorted(p.name for p in (self.dir / "kept").iterdir())

    def whole(self):
        return [n for n in self.kept() if n.endswith(".stdin")]

    def once_each(self, n=N, first=0):
        counts = collections.Counter(r["id"] for r in self.rows())
        self.assertEqual([i for i, c in counts.items() if c > 1][:5], [], "came twice")
        self.assertEqual(set(counts), {"d%06d" % i for i in range(first, first + n)})
        self.assertEqual(self.counts_add_up()["in"], n)

    def begin(self, data, *args):
        """The run with `data` on stdin; returns when the first results are committed."""
        self.write("data", data)
        with open(self.dir / "data", "rb") as stdin:
            child = self.start("run", *(args or ARGS), stdin=stdin)
        self.assertTrue(wait_until(lambda: any(os.path.getsize(p) for p in self.parts("jsonl.open"))), "no results")
        return child

    def go_on(self, data=b"", code=0, args=ARGS):
        self.write("nap", "0")
        return self.run_ok(*args, stdin=data, code=code)


class Kept(SpoolCase):
    def test_stdin_is_read_in_parallel_and_the_copy_is_private_and_removed_at_the_end(self):
        child = self.begin(jsonl(N))
        name, = self.whole()
        self.assertEqual(stat.S_IMODE((self.dir / "kept" / name).stat().st_mode), 0o600)
        self.assertEqual((self.dir / "kept" / name).read_bytes(), jsonl(N))
        self.assertEqual(list(children_of(child.pid).values()), ["worker", "worker"])  # no reader between
        self.write("nap", "0")
        _, err = child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.once_each()
        self.assertEqual(self.kept(), [])

    def test_made_ids_and_messages_say_stdin(self):
        self.write("nap", "0")
        self.run_ok(*ARGS, stdin=b'{"text":"a"}\nnonsense\n', code=3)
        self.assertEqual([r["id"] for r in self.rows()], ["stdin#0"])
        reject, = self.rows(name="rejects")
        self.assertEqual((reject["docflume"]["source"], reject["docflume"]["offset"]), ("stdin", 13))

    def test_compressed_and_csv_and_empty_stdin(self):
        self.write("nap", "0")
        for data, args, n in ((gzip.compress(jsonl(50)), (), 50), (b"id,text\n1,a\n2,b\n", ("--input-format", "csv"), 2), (b"", (), 0)):
            self.run_ok(*ARGS, "--force-restart", *args, stdin=data)
            self.assertEqual(len(self.rows()), n)
            self.assertEqual(self.kept(), [])

    def test_killed_whole_the_same_command_goes_on_and_does_not_read_stdin(self):
        for format_of in (bytes, gzip.compress):
            kill_whole(self.begin(format_of(jsonl(N)), *ARGS, "--force-restart"))
            result = self.go_on(jsonl(10, first=9000000))  # another stdin, which must not matter
            self.assertIn("stdin is not read", result.err)
            self.once_each()
            self.assertEqual(self.kept(), [])
            self.write("nap", "0.2")

    def test_the_coordinator_is_killed_and_its_successor_goes_on_from_the_copy(self):
        child = self.begin(jsonl(N))
        kill(coordinator_of(child.pid))
        time.sleep(0.3 * SLOW)
        self.write("nap", "0")
        _, err = child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.once_each()

    def test_a_finished_run_is_left_alone_whatever_stdin_brings(self):
        self.write("nap", "0")
        self.run_ok(*ARGS, stdin=jsonl(N))
        before = self.picture()
        for data in (jsonl(N), b"", jsonl(5, seed=9)):
            self.assertIn("complete already", self.run_ok(*ARGS, stdin=data).err)
        self.assertEqual(self.picture(), before)
        self.assertEqual(self.kept(), [])
        result = self.run_ok("strip", *ARGS[5:], stdin=jsonl(5), code=1)
        self.assertIn("another pipeline", result.err)

    def test_another_number_of_workers_goes_on_too(self):
        kill_whole(self.begin(jsonl(N)))
        self.go_on(args=("-j", "3", *ARGS[2:]))
        self.once_each()


class Anew(SpoolCase):
    def copying(self, data=b"x" * 100000):
        """A run that has read some of stdin and waits for more."""
        child = self.start("run", *ARGS, stdin=subprocess.PIPE)
        child.stdin.write(data)
        child.stdin.flush()
        self.assertTrue(wait_until(lambda: self.kept() and (self.dir / "kept" / self.kept()[0]).stat().st_size == len(data)))
        return child

    def test_killed_while_copying_nothing_is_taken_for_the_whole(self):
        child = self.copying(jsonl(100)[:-5])
        kill_whole(child)
        self.assertEqual(self.whole(), [])
        self.assertFalse((self.dir / "out").exists())
        self.go_on(jsonl(N))
        self.once_each()

    def test_a_coordinator_killed_while_copying_is_not_started_over_the_rest_of_stdin(self):
        child = self.copying(jsonl(100))
        kill(coordinator_of(child.pid))
        self.assertEqual(child.wait(timeout=20 * SLOW), 1)
        self.assertIn(b"cannot go on", child.stderr.read())
        self.assertFalse((self.dir / "out").exists())
        self.go_on(jsonl(N))
        self.once_each()

    def test_a_signal_while_copying_ends_with_75_and_leaves_nothing(self):
        for sig in (signal.SIGINT, signal.SIGTERM):
            child = self.copying()
            child.send_signal(sig)
            self.assertEqual(child.wait(timeout=20 * SLOW), 75)
            self.assertIn(b"while stdin was being copied", child.stderr.read())
            self.assertEqual(self.kept(), [])

    def test_a_copy_left_by_a_run_that_is_gone_is_not_taken(self):
        kill_whole(self.begin(jsonl(N)))
        subprocess.run(["rm", "-rf", self.dir / "out"], check=True)
        self.assertEqual(len(self.whole()), 1)
        self.go_on(jsonl(20, first=500))
        self.once_each(20, 500)

    def test_force_restart_takes_the_new_stdin(self):
        kill_whole(self.begin(jsonl(N)))
        self.go_on(jsonl(20, first=500), args=(*ARGS, "--force-restart"))
        self.once_each(20, 500)
        self.assertTrue((self.dir / "out.old-1").exists())


class Refused(SpoolCase):
    def test_a_copy_that_was_lost_or_changed(self):
        kill_whole(self.begin(jsonl(N)))
        path = self.dir / "kept" / self.whole()[0]
        with open(path, "ab") as f:
            f.write(b"{}\n")
        result = self.go_on(jsonl(N), code=1)
        self.assertIn("input 'stdin'", result.err)
        path.unlink()
        result = self.go_on(jsonl(N), code=1)
        self.assertIn("cannot go on", result.err)
        self.assertIn("--force-restart", result.err)

    def test_a_second_run_at_the_same_time_is_refused_and_harms_nobody(self):
        child = self.begin(jsonl(N))
        self.assertIn("in use", self.run_ok(*ARGS, stdin=jsonl(5), code=1).err)
        self.assertIn("in use", self.run_ok(*ARGS, "--force-restart", stdin=jsonl(5), code=1).err)
        self.write("nap", "0")
        child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 0)
        self.once_each()

    def test_what_others_put_there_is_not_followed(self):
        child = self.begin(jsonl(N))
        name, = self.whole()
        kill_whole(child)
        subprocess.run(["rm", "-rf", self.dir / "out", self.dir / "kept" / name], check=True)
        victim = self.write("victim", "precious")
        (self.dir / "kept" / (name + ".part")).symlink_to(victim)
        self.assertIn(".part", self.run_ok(*ARGS, stdin=jsonl(5), code=1).err)
        self.assertEqual(victim.read_text(), "precious")

    def test_a_folder_that_is_not_there(self):
        result = self.run_ok(*ARGS[:-1], "nowhere", stdin=jsonl(5), code=1)
        self.assertIn("cannot keep stdin in the folder 'nowhere'", result.err)

    def test_a_full_disk_is_said_and_leaves_room(self):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", self.dir / "kept"], stderr=subprocess.DEVNULL, check=False).returncode:
            self.skipTest("no right to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", self.dir / "kept"], check=False)
        result = self.run_ok(*ARGS, stdin=jsonl(20000), code=1)
        self.assertIn("No space left", result.err)
        self.assertIn("--spool", result.err)
        self.assertEqual(self.kept(), [])
        self.assertFalse((self.dir / "out").exists())


class Without(SpoolCase):
    def test_stdin_without_spool_ends_honestly_with_counts(self):
        child = self.begin(jsonl(N), *ARGS[:-2])
        kill(coordinator_of(child.pid))
        self.assertEqual(child.wait(timeout=20 * SLOW), 1)
        err = child.stderr.read().decode()
        self.assertRegex(err, r"\d+ documents and \d+ rows had been written")
        self.assertIn("--spool", err)
        again = self.run_ok(*ARGS[:-2], stdin=jsonl(N), code=1)
        self.assertIn("cannot be read again", again.err)
        self.assertIn("--spool", again.err)


if __name__ == "__main__":
    unittest.main()
