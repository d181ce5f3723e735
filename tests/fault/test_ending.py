# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 400
"""Runs that end early: signals to one process and to all, --grace, --time-limit, --max-errors, a reader of stdout that goes away."""
import collections
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import BIN, SLOW, children_of, coordinator_of, jsonl, kill, processes_below, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402
from test_people import Terminal  # noqa: E402

SLOWLY = "exec cmd='sleep 0.1; cat'"
BUSY = "exec cmd='sleep $(cat nap); cat'"


class EndingCase(RunCase):
    def begin(self, *args, stdout=subprocess.DEVNULL, **more):
        with open(self.dir / "err", "ab") as err:
            child = subprocess.Popen([BIN, "run", *map(str, args)], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=stdout, stderr=err, **more)
        self.children.append(child)
        return child

    def err(self):
        said = (self.dir / "err").read_text(errors="replace")
        # what a sanitizer says of its symbolizer, which a confined worker may not start
        return re.sub(r"==\d+==WARNING: (failed to fork|Failed to use)[^\n]*\n", "", said)

    def end(self, child, seconds=20):
        try:
            return child.wait(timeout=seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.fail("it does not end: " + self.err()[-3000:])

    def at_work(self, child, n=2):
        self.assertTrue(wait_until(lambda: len(children_of(child.pid)) == n or child.poll() is not None), self.err())
        time.sleep(0.4 * SLOW)
        self.assertIsNone(child.poll(), self.err())

    def goes_on(self, n, *command, code=0):
        self.run_ok(*command, code=code)
        counts = collections.Counter(r["id"] for r in self.rows())
        self.assertEqual((len(counts), max(counts.values())), (n, 1))


class Signals(EndingCase):
    def corpus(self, nap="0.1"):
        self.write("a.jsonl", jsonl(400))
        self.write("nap", nap)
        return ("-j", "2", "--cell-size", "1k", BUSY, "-o", "out", "a.jsonl")

    def stopped(self, child, word="asked to stop"):
        self.assertEqual(self.end(child), 75, self.err())
        self.assertIn(word + ": finishing what is in work", self.err())
        self.assertIn("the same command goes on", self.err())
        self.assertEqual(self.state()["state"], "stopped")

    def test_each_stops_it_whether_guard_or_coordinator_or_both_get_it(self):
        command = self.corpus()
        for sig, word in ((signal.SIGINT, "interrupted"), (signal.SIGTERM, "asked to stop"), (signal.SIGUSR1, "asked to stop"),
                          (signal.SIGHUP, "the terminal has gone")):
            for whom in ("guard", "coordinator", "group"):
                with self.subTest(sig=sig, whom=whom):
                    shutil.rmtree(self.dir / "out", ignore_errors=True)
                    (self.dir / "err").unlink(missing_ok=True)
                    child = self.begin(*command, start_new_session=True)
                    self.at_work(child)
                    if whom == "group":
                        os.killpg(child.pid, sig)
                    else:
                        os.kill(child.pid if whom == "guard" else coordinator_of(child.pid), sig)
                    self.stopped(child, word)
        self.write("nap", "0")
        self.goes_on(400, *command)

    def test_what_is_in_work_is_finished_also_when_all_processes_get_the_signal(self):
        command = self.corpus("1")
        child = self.begin(*command, start_new_session=True)
        self.at_work(child)
        for sig in (signal.SIGTERM, signal.SIGHUP):  # workers obey their coordinator alone
            os.killpg(child.pid, sig)
            time.sleep(0.001)
            break
        self.stopped(child)
        self.assertGreater(self.counts_add_up()["in"], 0, "what was in work is lost: " + self.err())
        self.assertNotIn("was ended by signal", self.err())

    def test_timeout_signals_twice_and_means_once(self):
        command = self.corpus("1")
        with open(self.dir / "err", "wb") as err:
            child = subprocess.Popen(["timeout", str(1.5 * SLOW), BIN, "run", *command], cwd=self.dir, stdin=subprocess.DEVNULL, stderr=err)
        self.children.append(child)
        self.assertEqual(self.end(child), 124, self.err())
        self.assertTrue(wait_until(lambda: self.state()["state"] == "stopped"), self.err())
        self.assertGreater(self.counts_add_up()["in"], 0, "it was taken for two: " + self.err())

    def test_nohup_is_respected(self):
        command = self.corpus()
        child = self.begin(*command, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.at_work(child)
        child.send_signal(signal.SIGHUP)
        os.kill(coordinator_of(child.pid), signal.SIGHUP)
        self.write("nap", "0")
        self.assertEqual(self.end(child), 0, self.err())

    def test_a_signal_before_the_work_begins_counts(self):
        command = ("--grace", "1s", *self.corpus("5"))
        for ms in (1, 3, 6, 10, 15, 25, 40):
            child = self.begin(*command)
            time.sleep(ms / 1000)
            child.send_signal(signal.SIGTERM)
            code = self.end(child, 10)  # -15: it came before the program did
            self.assertIn(code, (75, -signal.SIGTERM), self.err())
        self.write("nap", "0")
        self.goes_on(400, *command)

    def test_a_second_one_ends_it_at_once_and_the_same_command_goes_on(self):
        command = self.corpus("20")
        for whom in ("guard", "coordinator"):
            child = self.begin(*command)
            self.at_work(child)
            pid = child.pid if whom == "guard" else coordinator_of(child.pid)
            kids = children_of(child.pid)
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.2)
            self.assertIsNone(child.poll())
            begin = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            self.assertEqual(self.end(child), 75, self.err())
            self.assertLess(time.monotonic() - begin, 2 * SLOW)
            self.assertTrue(wait_until(lambda: not any(os.path.exists("/proc/%d" % p) for p in kids), 2))
        self.write("nap", "0")
        self.goes_on(400, *command)

    def test_a_coordinator_that_cannot_answer_is_ended_by_its_guard(self):
        command = self.corpus("20")
        child = self.begin(*command)
        self.at_work(child)
        os.kill(coordinator_of(child.pid), signal.SIGSTOP)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(child, 10), 75, self.err())
        self.assertIn("killing it", self.err())
        self.write("nap", "0")
        self.goes_on(400, *command)

    def test_grace_is_how_long_work_may_take(self):
        command = self.corpus("20")
        for grace, least, most in (("0", 0, 1.5), ("1500ms", 1.2, 3.5)):
            child = self.begin("--grace", grace, *command)
            self.at_work(child)
            begin = time.monotonic()
            child.send_signal(signal.SIGINT)
            self.assertEqual(self.end(child), 75, self.err())
            took = time.monotonic() - begin
            self.assertTrue(least <= took < most * SLOW, took)
        self.write("nap", "0")
        self.goes_on(400, *command)


class Keys(EndingCase):
    """A terminal's keys reach guard, coordinator and workers together."""

    def corpus(self, nap="0.1"):
        self.write("a.jsonl", jsonl(200))
        self.write("nap", nap)
        return ("-j", "2", "--cell-size", "1k", BUSY, "-o", "out", "a.jsonl")

    def test_ctrl_c_is_one_request(self):
        t = Terminal(self, "run", *self.corpus("1.5"))
        self.assertTrue(t.until("workers ##"), t.text)
        t.press(b"\x03")
        self.assertEqual(t.end(), 75, t.text)
        self.assertGreater(self.counts_add_up()["in"], 0, "it was taken for two: " + t.text)

    def test_ctrl_c_while_processes_start_ends_none_of_them(self):
        """A child is there before it can say that Ctrl-C is not meant for it."""
        self.write("a.jsonl", jsonl(20))
        for ms in range(8, 44, 3):
            child = subprocess.Popen([BIN, "run", "-j", "4", "strip", "-o", f"out{ms}", "a.jsonl"], cwd=self.dir, start_new_session=True, stderr=subprocess.PIPE)
            time.sleep(ms / 1000)
            os.killpg(child.pid, signal.SIGINT)
            err = child.communicate(timeout=20 * SLOW)[1].decode()
            self.assertIn(child.returncode, (0, 75, -2), err)
            self.assertNotIn("died", err)
            self.assertNotIn("was ended", err)

    def test_ctrl_z_stops_all_of_it_and_nobody_is_taken_for_dead(self):
        self.corpus()
        t = Terminal(self, BIN, "run", "-j", "2", "--cell-size", "1k", BUSY, "-o", "out", "a.jsonl", program=SHELL)
        self.assertTrue(t.until("workers ##"), t.text)
        guard = next(p for p, role in processes_below(t.child.pid).items() if role == "run")
        everybody = [guard, coordinator_of(guard), *children_of(guard)]
        self.assertEqual(len(everybody), 4)
        t.press(b"\x1a")
        self.assertTrue(t.until("shell: it stopped"), t.text)
        self.assertTrue(wait_until(lambda: all(state_of(p) == "T" for p in everybody), 2), [(p, state_of(p)) for p in everybody])
        self.assertTrue(t.until("shell: code 0", 30), t.text)
        for words in ("silent", "starting it again", "was ended", "died"):
            self.assertNotIn(words, t.text)
        self.assertEqual(len({r["id"] for r in self.rows()}), 200)
        t.end()


# What a shell with job control does for one command: a group of its own in the foreground, and after Ctrl-Z a pause of more than the
# time after which a silent worker is given up, then `fg`.
SHELL = [sys.executable, "-c", """
import os, signal, sys, time
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(pid, os.WUNTRACED)
if os.WIFSTOPPED(status):
    sys.stderr.write("shell: it stopped\\n")
    time.sleep(11)
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    os.tcsetpgrp(0, os.getpgrp())
sys.stderr.write("shell: code %d\\n" % os.waitstatus_to_exitcode(status))
"""]


def state_of(pid):
    try:
        return pathlib.Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "gone"


class TimeLimit(EndingCase):
    def test_it_stops_the_run_and_the_same_command_goes_on(self):
        n = 1500
        self.write("a.jsonl", jsonl(n))
        self.write("nap", "0.1")
        command = ("-j", "2", "--cell-size", "1k", BUSY, "-o", "out", "a.jsonl")
        begin = time.monotonic()
        child = self.begin("--time-limit", "1s", *command)
        self.assertEqual(self.end(child), 75, self.err())
        self.assertTrue(0.9 < time.monotonic() - begin < 3 * SLOW)
        self.assertIn("the time limit", self.err())
        self.assertEqual(self.state()["state"], "stopped")
        done = self.counts_add_up()["in"]
        self.assertTrue(0 < done < n)
        child = self.begin("--time-limit", "1s", *command)
        self.assertEqual(self.end(child), 75, self.err())
        self.assertGreater(self.counts_add_up()["in"], done, "the second one did nothing")
        self.write("nap", "0")
        self.goes_on(n, "--time-limit", "1h", *command)

    def test_a_coordinator_that_is_killed_does_not_lengthen_it(self):
        self.write("a.jsonl", jsonl(400))
        begin = time.monotonic()
        child = self.begin("--time-limit", "2s", "-j", "2", "--cell-size", "1k", SLOWLY, "-o", "out", "a.jsonl")
        for _ in range(2):
            time.sleep(0.6)
            kill(coordinator_of(child.pid) or 0) if coordinator_of(child.pid) else None
        self.assertEqual(self.end(child), 75, self.err())
        self.assertLess(time.monotonic() - begin, 2.9 * SLOW, self.err())
        self.assertIn("starting it again", self.err())


class MaxErrors(EndingCase):
    def corpus(self, n=2000, every=20, name="a.jsonl"):
        lines = jsonl(n).splitlines(True)
        for i in range(0, n, every):
            lines[i] = b'{"id":"bad%d","text":\n' % i
        self.write(name, b"".join(lines))
        return n - n // every

    def command(self, *args):
        return ("-j", "1", "--cell-size", "1k", *args, "exec cmd='sleep 0.01; cat'", "-o", "out", "a.jsonl")

    def test_a_number_ends_the_run_with_the_reason_and_a_larger_one_goes_on(self):
        good = self.corpus()
        for halt in ("soon", "now"):
            with self.subTest(halt=halt):
                shutil.rmtree(self.dir / "out", ignore_errors=True)
                result = self.run_ok(*self.command("--max-errors", "5", "--halt", halt), code=1)
                error = next(line for line in result.err.splitlines() if "error:" in line)
                self.assertRegex(error, r"\d+ documents of \d+ failed, more than '--max-errors 5' allows; the commonest reason is \S+ \(\d+\)")
                self.assertIn("larger limit", error)
                state = self.state()
                self.assertEqual(state["state"], "failed")
                self.assertIn("--max-errors 5", state["error"])
                counts = self.counts_add_up()
                self.assertGreater(counts["rejected_total"], 0 if halt == "now" else 5)
                self.assertLess(counts["in"], 2000)
                self.assertEqual(len(self.rows()), counts["out"], "run.json counts what the journal has not")
        again = self.run_ok(*self.command("--max-errors", "5"), code=1)
        self.assertIn("failed, more than", again.err)
        self.goes_on(good, *self.command("--max-errors", "100"), code=3)

    def test_exactly_as_many_as_allowed_are_allowed(self):
        good = self.corpus(400)
        self.goes_on(good, *self.command("--max-errors", "20"), code=3)
        self.run_ok(*self.command("--max-errors", "20"), code=3)
        again = self.run_ok(*self.command("--max-errors", "19"), code=1)
        self.assertIn("complete already", again.err)

    def test_a_percentage_waits_for_a_thousand_documents(self):
        lines = jsonl(3000).splitlines(True)
        for i in range(20):
            lines[i] = b"{\n"
        self.write("a.jsonl", b"".join(lines))  # all at the beginning: 100 %% of the first twenty, 0.7 %% of all
        self.goes_on(2980, *self.command("--max-errors", "5%"), code=3)
        shutil.rmtree(self.dir / "out")
        result = self.run_ok(*self.command("--max-errors", "0.5%"), code=1)
        self.assertIn("--max-errors 0.5%", result.err)

    def test_a_percentage_is_looked_at_when_a_short_run_is_over(self):
        self.corpus(200, 10)
        self.run_ok(*self.command("--max-errors", "10%"), code=3)
        shutil.rmtree(self.dir / "out")
        result = self.run_ok(*self.command("--max-errors", "9.9%"), code=1)
        self.assertIn("20 documents of 200 failed", result.err)
        again = self.run_ok(*self.command("--max-errors", "9.9%"), code=1)
        self.assertIn("20 documents of 200 failed", again.err)

    def test_inputs_that_cannot_be_read_count(self):
        self.write("a.jsonl", jsonl(50))
        self.write("b.jsonl.gz", b"\x1f\x8b\x08\x00 this is no gzip")
        result = self.run_ok("--max-errors", "0", "strip", "-o", "out", "a.jsonl", "b.jsonl.gz", code=1)
        self.assertIn("0 documents and 1 input of", result.err)
        self.run_ok("--max-errors", "1", "strip", "-o", "out", "a.jsonl", "b.jsonl.gz", code=3)

    def test_errors_of_earlier_lives_count(self):
        self.corpus(2000, 40)
        child = self.begin("-j", "2", "--cell-size", "2k", "--max-errors", "30", SLOWLY, "-o", "out", "a.jsonl")
        self.assertTrue(wait_until(lambda: sum(os.path.getsize(p) for p in self.parts("jsonl*")) > 10000))
        time.sleep(0.3)
        kill(coordinator_of(child.pid))
        self.assertEqual(self.end(child), 1, self.err())
        self.assertIn("starting it again", self.err())
        self.assertIn("failed, more than '--max-errors 30'", self.err())


class ReaderOfStdout(EndingCase):
    def test_head_gets_its_lines_and_the_run_ends_without_a_word_of_error(self):
        self.write("a.jsonl", jsonl(20000))
        child = self.begin("-k", "strip", "a.jsonl", stdout=subprocess.PIPE)
        first = child.stdout.readline()
        kids = children_of(child.pid)
        child.stdout.close()
        self.assertEqual(self.end(child, 5), 0, self.err())
        self.assertEqual(json.loads(first)["id"], "d000000")
        self.assertRegex(self.err(), r"\Adocflume: the reader of stdout has gone; stopped after [\d,]+ rows\n\Z")
        self.assertTrue(wait_until(lambda: not any(os.path.exists("/proc/%d" % p) for p in kids), 2))

    def test_one_that_leaves_while_nothing_is_written_is_noticed(self):
        self.write("a.jsonl", jsonl(10))
        child = self.begin("-j", "1", "exec cmd='sleep 60; cat'", "a.jsonl", stdout=subprocess.PIPE)
        self.at_work(child, 1)
        kids = children_of(child.pid)
        begin = time.monotonic()
        child.stdout.close()
        self.assertEqual(self.end(child, 10), 0, self.err())
        self.assertLess(time.monotonic() - begin, 4 * SLOW)
        self.assertTrue(wait_until(lambda: not any(os.path.exists("/proc/%d" % p) for p in kids), 2))
        self.assertEqual(len(self.err().splitlines()), 1, self.err())

    def test_a_run_to_files_does_not_care(self):
        self.write("a.jsonl", jsonl(100))
        child = self.begin("-j", "1", "--cell-size", "2k", SLOWLY, "-o", "out", "a.jsonl", stdout=subprocess.PIPE)
        child.stdout.close()
        self.assertEqual(self.end(child), 0, self.err())
        self.assertEqual(len(self.rows()), 100)


class Words(EndingCase):
    def test_a_files_name_cannot_forge_a_line_of_the_log(self):
        name = "x\ndocflume: error: all is lost\x1b[2J\x07.jsonl"
        self.write(name + ".gz", gzip.compress(jsonl(300))[:-200])
        result = self.run_ok("strip", "-o", "out", name + ".gz", code=3)
        self.assertIn(r"x\ndocflume: error: all is lost\x1b[2J\x07", result.err)
        for line in result.err.splitlines():
            self.assertFalse(line.startswith("docflume: error"), line)
        self.assertNotIn("\x1b", result.err)

    @unittest.skipIf("tsan" in BIN, "ThreadSanitizer itself writes there, of reports that are suppressed, and waits")
    def test_a_stderr_that_nobody_reads_holds_nobody(self):
        self.write("a.jsonl", jsonl(200))
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(writing, False)
        try:
            while True:
                os.write(writing, b"x" * 4096)
        except BlockingIOError:
            pass
        os.set_blocking(writing, True)
        child = subprocess.Popen([BIN, "run", "-v", "-j", "2", "--cell-size", "1k", "strip", "-o", "out", "a.jsonl"], cwd=self.dir,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing)
        os.close(writing)
        self.children.append(child)
        self.assertEqual(self.end(child, 20), 0)
        self.assertEqual(len(self.rows()), 200)


if __name__ == "__main__":
    unittest.main()
