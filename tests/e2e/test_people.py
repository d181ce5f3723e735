# SPDX-License-Identifier: Apache-2.0
"""What people see and press: the bar on a terminal, lines elsewhere, quiet and JSON logs, Ctrl-C, help."""
import collections
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from flume import BIN, SLOW, children_of, jsonl, wait_until
from rundir import RunCase

SLOWLY = "exec cmd='sleep 0.1; cat'"


class Terminal:
    """A program whose stdin and stderr are a terminal of its own, which sends it signals as a terminal does."""

    def __init__(self, case, *args, columns=100, env=None, stdout=subprocess.DEVNULL, program=(BIN,)):
        try:
            self.master, slave = pty.openpty()
        except OSError as e:
            raise unittest.SkipTest(f"no terminals here: {e}") from e
        case.addCleanup(os.close, self.master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.child = subprocess.Popen([*program, *args], cwd=case.dir, stdin=slave, stdout=stdout, stderr=slave, start_new_session=True,
                                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                                      env={**os.environ, "TERM": "xterm", **(env or {})})
        case.children.append(self.child)
        os.close(slave)
        self.text = ""

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # nobody holds the other side any more
                return False
        return True

    def until(self, words, seconds=20):
        deadline = time.monotonic() + seconds * SLOW
        while words not in self.text and time.monotonic() < deadline and self.read(0.1):
            pass
        return words in self.text

    def press(self, key):
        os.write(self.master, key)

    def end(self, seconds=30):
        deadline = time.monotonic() + seconds * SLOW
        while self.child.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        while select.select([self.master], [], [], 0)[0] and self.read(0):
            pass
        return self.child.poll()


class People(RunCase):
    def corpus(self, n=600):
        self.write("a.jsonl", jsonl(n))
        return n

    def run_for(self, *args, **more):
        """A run of a second or two."""
        return Terminal(self, "run", "-j", "2", "--cell-size", "4k", SLOWLY, *args, "a.jsonl", **more)


class Bars(People):
    def test_a_terminal_gets_a_bar_with_rate_time_left_and_workers(self):
        self.corpus(800)
        t = self.run_for("-o", "out")
        self.assertEqual(t.end(), 0, t.text)
        bars = [x for x in t.text.split("\r\x1b[K") if x.startswith("[")]
        self.assertGreater(len(bars), 5)
        self.assertTrue(re.search(r"^\[[=> ]{20}\] +\d+ % [\d,]+ documents, [\d,]+/s, [\d.]+ k?B/s, .* left, 2 workers [#.]{2}",
                                  bars[-1]), bars[-1])
        self.assertTrue(all(len(b.split("\n")[0]) < 100 for b in bars), "a bar is wider than the terminal")

    def test_the_bar_is_gone_before_the_closing_lines(self):
        self.corpus()
        t = self.run_for("-o", "out")
        self.assertEqual(t.end(), 0)
        tail = t.text.split("\r\x1b[K")[-1]
        self.assertTrue(tail.startswith("docflume: 600 documents in = 600 out"), repr(tail))

    def test_a_narrow_terminal_gets_a_bar_that_fits(self):
        self.corpus(800)
        t = self.run_for("-o", "out", columns=40)
        self.assertEqual(t.end(), 0)
        bars = [x for x in t.text.split("\r\x1b[K") if x.startswith("[")]
        self.assertTrue(bars)
        self.assertTrue(all(len(b.split("\n")[0]) < 40 for b in bars))

    def test_bar_never_and_quiet_draw_none(self):
        self.corpus()
        for args in (("--bar", "never"), ("-q",)):
            t = self.run_for(*args, "-o", "out" + args[0])
            self.assertEqual(t.end(), 0)
            self.assertNotIn("\x1b", t.text)
        self.assertEqual(t.text, "")

    def test_a_file_as_stderr_gets_no_control_characters(self):
        self.corpus()
        err = self.run_ok("-j", "2", "--cell-size", "4k", SLOWLY, "a.jsonl").err
        self.assertNotIn("\r", err)
        self.assertNotIn("\x1b", err)

    def test_elsewhere_a_long_run_writes_a_plain_line_every_few_seconds(self):
        n = self.corpus(70)
        result = self.run_ok("-j", "1", "--cell-size", "1k", "exec cmd='sleep 0.5; cat'", "--output-format", "none", "a.jsonl")
        lines = result.err.splitlines()
        progress = [x for x in lines if re.match(r"docflume: +\d+ % [\d,]+ documents, [\d,]+/s, .*, 1 workers [#.]$", x)]
        self.assertTrue(progress, result.err)
        self.assertIn("%d documents in" % n, result.err)


class CtrlC(People):
    def test_it_reaches_the_whole_group_and_the_run_can_go_on(self):
        n = self.corpus(800)
        t = self.run_for("-o", "out")
        self.assertTrue(t.until(" documents,"), t.text)
        self.assertTrue(wait_until(lambda: len(children_of(t.child.pid)) == 2))
        kids = children_of(t.child.pid)
        t.press(b"\x03")
        self.assertEqual(t.end(), 75, t.text)
        self.assertIn("interrupted: finishing what is in work", t.text)
        self.assertIn("stopped early; the same command goes on from here", t.text)
        self.assertNotIn("warning", t.text, "a worker took the signal for itself")
        self.assertTrue(wait_until(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in kids)))
        self.assertEqual(self.state()["state"], "stopped")
        before = self.counts_add_up()["in"]
        self.assertTrue(0 < before < n, before)
        self.run_ok("-j", "2", "--cell-size", "4k", SLOWLY, "-o", "out", "a.jsonl")
        counts = collections.Counter(r["id"] for r in self.rows())
        self.assertEqual((len(counts), max(counts.values())), (n, 1))
        self.assertEqual(self.counts_add_up()["in"], n)

    def test_a_second_one_ends_it_at_once_and_loses_nothing(self):
        n = self.corpus(300)
        command = ("run", "-j", "2", "--cell-size", "4k", "exec cmd='sleep 8; cat'", "-o", "out", "a.jsonl")
        t = Terminal(self, *command)
        self.assertTrue(t.until("2 workers ##"), t.text)
        t.press(b"\x03")
        self.assertTrue(t.until("finishing what is in work"))
        begin = time.monotonic()
        t.press(b"\x03")
        self.assertEqual(t.end(), 75, t.text)
        self.assertLess(time.monotonic() - begin, 6 * SLOW)
        self.assertEqual(self.counts_add_up()["in"], 0)
        self.run_ok("strip", "--force-restart", "-o", "out", "a.jsonl")
        self.assertEqual(len(self.rows()), n)

    def test_on_stdout_what_was_written_is_counted(self):
        self.corpus(800)
        with open(self.dir / "rows", "wb") as rows:
            t = self.run_for(stdout=rows)
            self.assertTrue(t.until(" documents,"), t.text)
            t.press(b"\x03")
            self.assertEqual(t.end(), 75, t.text)
        written = (self.dir / "rows").read_bytes()
        self.assertTrue(written == b"" or written.endswith(b"}\n"))
        self.assertIn(" %s rows;" % format(written.count(b"\n"), ","), t.text)
        self.assertNotIn("the same command goes on", t.text, "nothing on stdout can go on")

    def test_term_is_as_good(self):
        self.corpus(800)
        child = self.start("run", "-j", "2", "--cell-size", "4k", SLOWLY, "-o", "out", "a.jsonl")
        self.assertTrue(wait_until(lambda: children_of(child.pid)))
        time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=30 * SLOW)
        self.assertEqual(child.returncode, 75, err)
        self.assertIn(b"asked to stop", err)


class Words(People):
    def test_quiet_says_nothing_when_all_is_well_and_keeps_the_exit_code(self):
        self.corpus(20)
        self.assertEqual(self.run_ok("-q", "strip", "a.jsonl").err, "")
        self.write("b.jsonl", "bad\n")
        self.assertEqual(self.run_ok("-q", "strip", "b.jsonl", code=3).err, "")
        self.assertIn("none.jsonl", self.run_ok("-q", "strip", "none.jsonl", code=1).err)

    def test_json_logs_are_a_json_object_a_line_in_every_case(self):
        self.corpus(20)
        self.write("b.jsonl", "bad\n")
        self.write("c.jsonl.gz", b"\x1f\x8b\x08\0broken")
        for args, code in ((("strip", "a.jsonl"), 0), (("strip", "b.jsonl", "c.jsonl.gz"), 3), (("strip", "no\n\"\\pe.jsonl"), 1),
                           (("exec cmd='kill -SEGV $PPID'", "-j", "1", "b.jsonl"), 3)):
            result = self.run_ok("--log-format", "json", *args, code=code)
            for line in result.err.splitlines():
                entry = json.loads(line)
                self.assertEqual(set(entry), {"time", "level", "process", "message"})
                self.assertIn(entry["level"], ("error", "warning", "info", "debug"))
            self.assertTrue(result.err)

    def test_verbose_says_more(self):
        self.corpus(20)
        plain, more = self.run_ok("strip", "a.jsonl").err, self.run_ok("-v", "strip", "a.jsonl").err
        self.assertGreater(len(more.splitlines()), len(plain.splitlines()))

    def test_stdout_carries_data_only(self):
        self.corpus(50)
        for args in (("-v",), ("--log-format", "json"), ("--bar", "always")):
            result = self.run_ok("-k", *args, "strip", "a.jsonl")
            self.assertEqual(result.out.encode(), jsonl(50), args)
        noisy = self.run_ok("-k", "exec cmd='echo noise >&2; cat'", "a.jsonl")
        self.assertEqual(noisy.out.encode(), jsonl(50))
        self.assertEqual(self.run_ok("strip", "-o", "out", "a.jsonl").out, "")

    def test_help_and_version_go_to_stdout_and_exit_0(self):
        for args in (("--help",), ("-h",), ("help",), ("help", "run"), ("run", "--help"), ("stages", "--help"), ("--version",),
                     ("version",), ("help", "stages")):
            result = self.flume(*args)
            self.assertEqual((result.code, result.err), (0, ""), args)
            self.assertTrue(result.out.strip(), args)
        for word in ("run", "search", "stages", "models"):
            self.assertIn(word, self.flume("--help").out)


if __name__ == "__main__":
    unittest.main()
