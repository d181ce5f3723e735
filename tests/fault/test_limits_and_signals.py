# SPDX-License-Identifier: Apache-2.0
"""Limits of the system, standard descriptors that are closed, an output that nobody takes, inputs with errors over several lives."""
import collections
import fcntl
import gzip
import itertools
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import time
import unittest
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import BIN, SLOW, children_of, document, jsonl, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402

SLOWLY = "exec cmd='sleep 0.1; cat'"


def all_gone(pids):
    return wait_until(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids))


class Skipping(RunCase):
    def test_very_many_records_of_a_gz_are_skipped_and_the_rest_comes(self):
        n, tail = 400000 // SLOW, 50
        with gzip.open(self.dir / "a.jsonl.gz", "wb", 1) as f:
            f.write(b'{"id":"skipped","text":"this one is passed over"}\n' * n + jsonl(tail))
        result = self.run_ok("-k", "--skip", n, "strip", "a.jsonl.gz")
        self.assertEqual(result.ids(), ["d%06d" % i for i in range(tail)])
        self.assertNotIn("warning", result.err)

    def test_an_archive_of_very_many_members_without_documents_gives_those_that_follow(self):
        def member(name, content):
            file = tarfile.TarInfo(name)
            file.size = len(content)
            return file.tobuf() + content + b"\0" * (-len(content) % 512)

        picture = member("picture.png", b"")
        with gzip.open(self.dir / "a.tar.gz", "wb", 1) as f:
            for _ in range(14):
                f.write(picture * (10000 // SLOW))
            f.write(member("a.jsonl", jsonl(50)) + b"\0" * 1024)
        result = self.run_ok("-k", "strip", "a.tar.gz")
        self.assertEqual(result.ids(), ["d%06d" % i for i in range(50)])


class NobodyReads(RunCase):
    """stdout is a pipe that is full, and the other side does not read and does not close."""

    def blocked(self, *args):
        self.write("a.jsonl", jsonl(4000))
        (self.dir / "s").mkdir()
        self.reading, writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        with open(self.dir / "err", "wb") as err:
            child = self.start("run", "-j", "2", "--cell-size", "16k", "strip", *args, "a.jsonl", stdout=writing, stderr=err,
                               env={"XDG_RUNTIME_DIR": str(self.dir / "s")})
        os.close(writing)

        def full():
            n, = struct.unpack("i", fcntl.ioctl(self.reading, termios.FIONREAD, b"\0" * 4))
            return n == size
        self.assertTrue(wait_until(full), "the pipe is never full")
        time.sleep(0.3)  # what is in work comes to its end, and only the sink waits
        self.assertIsNone(child.poll(), self.err())
        self.assertTrue(list((self.dir / "s").iterdir()), "the socket folder is elsewhere")
        return child

    def err(self):
        return (self.dir / "err").read_text(errors="replace")

    def ends(self, child, seconds):
        try:
            return child.wait(timeout=seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.fail("it waits for its reader for ever: " + self.err())

    def test_two_ctrl_c_end_it_within_seconds_and_leave_nothing_behind(self):
        child = self.blocked()
        kids = children_of(child.pid)
        child.send_signal(signal.SIGINT)
        self.assertTrue(wait_until(lambda: "interrupted: finishing what is in work" in self.err()), self.err())
        time.sleep(0.05)  # two signals of a process within 5 ms are one request
        child.send_signal(signal.SIGINT)
        self.assertEqual(self.ends(child, 6), 75, self.err())
        self.assertIn("nobody takes the output", self.err())
        self.assertEqual(list((self.dir / "s").iterdir()), [], "a folder of sockets is left")
        self.assertTrue(all_gone(kids), "workers outlive their coordinator")

    def test_after_one_ctrl_c_a_reader_that_wakes_up_gets_whole_lines(self):
        child = self.blocked()
        child.send_signal(signal.SIGINT)
        self.assertTrue(wait_until(lambda: "interrupted: finishing what is in work" in self.err()), self.err())
        with open(os.dup(self.reading), "rb") as f:
            out = f.read()
        self.assertEqual(self.ends(child, 20), 75, self.err())
        ids = [json.loads(line)["id"] for line in out.splitlines()]
        self.assertEqual(len(set(ids)), len(ids))
        self.assertTrue(out.endswith(b"}\n"))
        self.assertEqual(list((self.dir / "s").iterdir()), [])

    @unittest.skipUnless(os.environ.get("DF_SOAK"), "two minutes: with DF_SOAK=1")
    def test_each_minute_it_says_whom_it_waits_for(self):
        child = self.blocked()
        said = "nobody has read stdout for"
        self.assertTrue(wait_until(lambda: said in self.err(), 70), self.err())
        begin = time.monotonic()
        self.assertTrue(wait_until(lambda: self.err().count(said) == 2, 70), self.err())
        self.assertGreater(time.monotonic() - begin, 55)
        with open(os.dup(self.reading), "rb") as f:
            self.assertEqual(len(f.read().splitlines()), 4000)
        self.assertEqual(self.ends(child, 20), 0, self.err())

    def test_a_reader_that_only_pauses_loses_nothing(self):
        child = self.blocked("-k")
        with open(os.dup(self.reading), "rb") as f:
            ids = [json.loads(line)["id"] for line in f]
        self.assertEqual(self.ends(child, 20), 0, self.err())
        self.assertEqual(ids, ["d%06d" % i for i in range(4000)])


class OpenFiles(RunCase):
    JOBS = 64 if SLOW == 1 else 16

    def limited(self, soft, hard, *args):
        child = subprocess.Popen([BIN, *map(str, args)], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
        self.children.append(child)
        return child

    def corpus(self):
        self.write("a.jsonl", jsonl(self.JOBS * 8, words=60))
        return ("run", "-j", self.JOBS, "--cell-size", "1k", SLOWLY, "a.jsonl")

    def test_many_workers_under_a_low_soft_limit(self):
        command = self.corpus()
        child = self.limited(self.JOBS * 3, resource.getrlimit(resource.RLIMIT_NOFILE)[1], *command)
        most = 0

        def all_there():
            nonlocal most
            most = max(most, len(children_of(child.pid)))
            return most == self.JOBS or child.poll() is not None
        wait_until(all_there, 20)
        out, err = child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertEqual(most, self.JOBS, "not all workers were there: the test has lost its point")
        ids = collections.Counter(json.loads(line)["id"] for line in out.splitlines())
        self.assertEqual((len(ids), max(ids.values())), (self.JOBS * 8, 1))
        self.assertNotIn(b"warning", err)

    def test_a_hard_limit_that_is_too_low_is_an_error_that_says_so(self):
        command = self.corpus()
        child = self.limited(self.JOBS * 3, self.JOBS * 3, *command, "-o", "out")
        out, err = child.communicate(timeout=60 * SLOW)
        self.assertEqual((child.returncode, out), (1, b""), err.decode())
        for words in ("open files", "ulimit -n", "-j", "the limit is %d" % (self.JOBS * 3)):
            self.assertIn(words, err.decode())
        self.assertFalse((self.dir / "out").exists(), "something was begun")

    def test_few_workers_are_content_with_a_low_hard_limit(self):
        self.write("a.jsonl", jsonl(100))
        out, err = self.limited(192, 192, "run", "-j", "2", "-k", "strip", "a.jsonl").communicate(timeout=60 * SLOW)
        self.assertEqual(out, jsonl(100), err.decode())


class Closed(RunCase):
    """`<&-`, `>&-`, `2>&-`: what is opened next gets the number that is free."""
    COMBINATIONS = [tuple(sorted(c)) for n in range(4) for c in itertools.combinations((0, 1, 2), n)]
    BAD = '{"id":"bad","text":\n'

    def without(self, closed, *args, stdin="/dev/null"):
        """The exit code of a run whose descriptors `closed` are closed. What the others took is in files `o` and `e`."""
        shell = 'exec "$@" <"$0" >o 2>e' + "".join(" %d>&-" % fd for fd in closed)
        child = subprocess.Popen(["sh", "-c", shell, stdin, BIN, "run", *args], cwd=self.dir, stdin=subprocess.DEVNULL)
        self.children.append(child)
        try:
            code = child.wait(timeout=20 * SLOW)
        except subprocess.TimeoutExpired:
            self.fail("hangs without %s" % (closed,))
        return code, (self.dir / "o").read_bytes(), (self.dir / "e").read_bytes()

    def clean(self, closed, n):
        """No file of the run directory has a line of the log, and the documents are all there."""
        self.assertRegex((self.dir / "out" / "lock").read_bytes(), rb"\A\d+\n?\Z", closed)
        for path in (self.dir / "out").iterdir():
            data = path.read_bytes()
            for words in (b"docflume: ", b"documents in =", b"peak memory", b"warning"):
                self.assertNotIn(words, data, "%s without %s" % (path.name, closed))
            if path.suffix == ".jsonl":
                for line in data.splitlines():
                    json.loads(line)
        self.assertEqual([r["id"] for r in self.rows()], ["d%06d" % i for i in range(n)], closed)

    def test_a_run_to_files_is_the_same_whatever_is_closed(self):
        self.write("a.jsonl", jsonl(40) + self.BAD.encode())
        self.write("b.jsonl.gz", gzip.compress(jsonl(40, first=40)))  # a reader has a descriptor for its input
        for closed in self.COMBINATIONS:
            with self.subTest(closed=closed):
                shutil.rmtree(self.dir / "out", ignore_errors=True)
                code, out, err = self.without(closed, "-v", "-j", "1", "-k", "-o", "out", "strip", "a.jsonl", "b.jsonl.gz")
                self.assertEqual((code, out), (3, b""), err)
                self.assertEqual(err == b"", 2 in closed)
                self.clean(closed, 80)
                again, _, err = self.without(closed, "-v", "-j", "1", "-k", "-o", "out", "strip", "a.jsonl", "b.jsonl.gz")
                self.assertEqual(again, 3, err)  # the journal is one
                self.clean(closed, 80)

    def test_stdin_is_read_though_the_others_are_closed(self):
        self.write("in", jsonl(40))
        for closed in ((1,), (2,), (1, 2)):
            with self.subTest(closed=closed):
                shutil.rmtree(self.dir / "out", ignore_errors=True)
                code, _, err = self.without(closed, "-v", "-k", "-o", "out", "strip", "-", stdin="in")
                self.assertEqual(code, 0, err)
                self.clean(closed, 40)

    def test_a_closed_stdin_that_is_to_be_read_is_an_input_with_an_error(self):
        for closed in ((0,), (0, 1), (0, 2), (0, 1, 2)):
            with self.subTest(closed=closed):
                shutil.rmtree(self.dir / "out", ignore_errors=True)
                code, _, err = self.without(closed, "-o", "out", "strip", "-")
                self.assertIn(code, (1, 3), err)
                self.assertNotIn(b"died", err)

    def test_rows_for_a_closed_stdout_are_a_failure_and_go_nowhere_else(self):
        self.write("a.jsonl", jsonl(40))
        for closed in ((1,), (0, 1), (1, 2), (0, 1, 2)):
            with self.subTest(closed=closed):
                code, out, err = self.without(closed, "--rejects", "r.jsonl", "strip", "a.jsonl")
                self.assertEqual((code, out), (1, b""), err)
                self.assertNotIn(b"d000001", err)
                self.assertNotIn(b"d000001", (self.dir / "r.jsonl").read_bytes() if (self.dir / "r.jsonl").exists() else b"")

    def test_rows_come_on_stdout_though_the_others_are_closed(self):
        self.write("a.jsonl", jsonl(40))
        for closed in ((0,), (2,), (0, 2)):
            with self.subTest(closed=closed):
                code, out, err = self.without(closed, "-v", "-k", "strip", "a.jsonl")
                self.assertEqual((code, out), (0, jsonl(40)), err)


class Truncated(RunCase):
    def corpus(self, n, n_good):
        whole = gzip.compress("".join(json.dumps(document(i)) + "\n" for i in range(n)).encode())
        cut = whole[:len(whole) * 2 // 3]
        self.n_left = zlib.decompressobj(31).decompress(cut).count(b"\n")
        self.assertTrue(0 < self.n_left < n)
        self.write("a.jsonl.gz", cut)
        self.write("b.jsonl", jsonl(n_good, first=5000))

    def check(self, n_good):
        ids = [r["id"] for r in self.rows()]
        self.assertEqual(len(set(ids)), len(ids), "came twice")
        self.assertEqual(len([i for i in ids if i >= "d005000"]), n_good)
        self.assertEqual(len(ids), n_good + self.n_left)
        self.assertEqual(self.counts_add_up()["out"], len(ids))

    def written(self):
        """Rows of the cut file that are in a part, which may be open yet."""
        return sum(pathlib.Path(p).read_text().count('{"id": "d000') for p in self.parts("jsonl.open"))

    def test_a_truncated_gz_is_an_error_in_its_own_life_and_whenever_it_is_run_again(self):
        self.corpus(3000, 200)
        command = ("strip", "-o", "out", "a.jsonl.gz", "b.jsonl")
        first = self.run_ok(*command, code=3)
        self.assertIn("a.jsonl.gz", first.err)
        self.check(200)
        rows = self.rows()
        for _ in range(2):
            again = self.run_ok(*command, code=3)
            self.assertIn("complete already", again.err)
            self.assertEqual(self.rows(), rows)

    def test_a_truncated_gz_is_an_error_for_a_later_life_that_does_not_meet_it(self):
        self.corpus(300, 1000)
        command = ("-j", "2", "--cell-size", "4k", SLOWLY, "-o", "out", "a.jsonl.gz", "b.jsonl")
        with open(self.dir / "err", "wb") as err:
            child = self.start("run", *command, stderr=err)
        self.assertTrue(wait_until(lambda: "a.jsonl.gz" in (self.dir / "err").read_text(), 20), "it was never told")
        self.assertTrue(wait_until(lambda: self.written() == self.n_left, 20), "%d rows" % self.written())
        time.sleep(0.2)  # the journal has them too
        self.assertIsNone(child.poll(), "it ended too early for this test")
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(timeout=30 * SLOW), 75)
        second = self.run_ok(*command, code=3)
        self.assertNotIn("a.jsonl.gz", second.err, "it was met again: the test has lost its point")
        self.check(1000)


if __name__ == "__main__":
    unittest.main()
