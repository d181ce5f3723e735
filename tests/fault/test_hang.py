# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 300
"""Documents that hang, workers that are stopped, a group that is stopped as a whole: nothing waits for ever, and only the guilty are rejected."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import BIN, SLOW, Case, children_of, jsonl, kill, wait_until  # noqa: E402

DEADLINE = 3 * SLOW
# A document that hangs, wherever the command finds it; the sleep has a length that names this test's processes.
NAP = 4000 + os.getpid() % 1000
HANGS = "exec timeout_ms=3600000 cmd='while read -r l; do case \"$l\" in *HANG-ME*) sleep %d;; esac; echo \"$l\"; done'" % NAP


def sleepers():
    found = []
    for entry in os.listdir("/proc"):
        try:
            argv = pathlib.Path("/proc", entry, "cmdline").read_bytes() if entry.isdigit() else b""
        except OSError:
            continue
        if argv == b"sleep\0%d\0" % NAP:
            found.append(int(entry))
    return found


def state(pid):
    try:
        stat = pathlib.Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    return stat[stat.rindex(")") + 2]


def workers(pid):
    return sorted(p for p, role in children_of(pid).items() if role == "worker")


class Hangs(Case):
    def test_a_document_that_hangs_is_rejected_with_stage_deadline_and_attempts(self):
        lines = jsonl(400).splitlines()
        lines[211] = lines[211].replace(b'"text": "', b'"text": "HANG-ME ', 1)
        self.write("a.jsonl", b"\n".join(lines) + b"\n")
        result = self.run_ok("-j", "3", "--doc-timeout", "%d" % SLOW, "--rejects", "rejects.jsonl", HANGS, "a.jsonl", code=3)
        self.assertEqual(sorted(result.ids()), sorted("d%06d" % i for i in range(400) if i != 211))
        rejects = [json.loads(line)["docflume"] for line in (self.dir / "rejects.jsonl").read_text().splitlines()]
        self.assertEqual(len(rejects), 1)
        self.assertEqual((rejects[0]["stage"], rejects[0]["class"], rejects[0]["attempts"]), ("exec", "timeout", 3))
        self.assertEqual(rejects[0]["offset"], len(b"\n".join(lines[:211])) + 1)
        self.assertIn("longer than %d s (--doc-timeout) in stage 'exec' 3 times" % SLOW, rejects[0]["error"])
        self.assertIn("longer than %d s (--doc-timeout) in stage 'exec' 3 times; it is rejected" % SLOW, result.err)
        self.assertTrue(wait_until(lambda: not sleepers()), "the command outlives its worker")

    def test_a_long_document_that_gives_signs_of_progress_is_left_alone(self):
        self.write("a.jsonl", jsonl(6))
        result = self.run_ok("-j", "1", "--doc-timeout", "%d" % SLOW, "exec cmd='while read -r l; do sleep %.1f; echo \"$l\"; done'" % (0.5 * SLOW), "a.jsonl")
        self.assertEqual(len(result.ids()), 6)
        self.assertNotIn("died", result.err)

    def test_a_reader_of_stdout_that_pauses_past_the_deadline_costs_nobody_anything(self):
        text = "word " * 40000  # becomes 24 MB of rows, which is more than all queues on the way hold
        self.write("a.jsonl", "".join(json.dumps({"id": "d%d" % i, "text": text}) + "\n" for i in range(12)))
        deadline = SLOW if SLOW == 1 else 4 * SLOW  # one of these documents is 0.5 s of work under ThreadSanitizer, on a free core
        child = self.start("run", "-j", "2", "--doc-timeout", "%d" % deadline, "chunk chars=1000 overlap=990", "a.jsonl")
        time.sleep(deadline + 4 * SLOW)
        self.assertIsNone(child.poll(), "nothing made it wait")
        out, err = child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertNotIn("ending it", err.decode())
        self.assertNotIn("died", err.decode())
        self.assertEqual(out.count(b'"start":0,'), 12)

    def test_a_worker_that_is_stopped_in_a_document_gives_its_leases_back_within_the_deadline_and_two_seconds(self):
        self.write("a.jsonl", jsonl(3000))
        with open(self.dir / "out.jsonl", "wb") as out:
            child = self.start("run", "-j", "2", "--doc-timeout", "%d" % DEADLINE, "exec cmd='sleep 0.2; cat'", "a.jsonl", stdout=out)
            self.assertTrue(wait_until(lambda: len(workers(child.pid)) == 2))
            time.sleep(0.5 * SLOW)
            victim = workers(child.pid)[0]
            kill(victim, signal.SIGSTOP)
            since = time.monotonic()
            self.assertTrue(wait_until(lambda: state(victim) in (None, "Z"), DEADLINE + 10), "it is still there")
            took = time.monotonic() - since
            _, err = child.communicate(timeout=120 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        print("stopped in a document: leases back after %.2f s (deadline %d s)" % (took, DEADLINE))
        self.assertLess(took, DEADLINE + 2)
        self.assertIn(b"stopped", err)
        ids = [json.loads(line)["id"] for line in (self.dir / "out.jsonl").read_bytes().splitlines()]
        self.assertEqual(sorted(ids), sorted("d%06d" % i for i in range(3000)))

    def test_a_worker_that_is_stopped_between_documents_gives_its_leases_back_likewise(self):
        child = self.start("run", "-j", "2", "--doc-timeout", "%d" % DEADLINE, "strip", stdin=subprocess.PIPE)
        os.set_blocking(child.stdout.fileno(), False)
        child.stdin.write(jsonl(50))
        child.stdin.flush()
        got = bytearray()

        def all_out(n):
            got.extend(child.stdout.read() or b"")
            return got.count(b"\n") >= n

        self.assertTrue(wait_until(lambda: all_out(50)))
        for victim in workers(child.pid):
            kill(victim, signal.SIGSTOP)
        since = time.monotonic()
        child.stdin.write(jsonl(50, first=50))  # leases go to workers that do not know it
        child.stdin.flush()
        self.assertTrue(wait_until(lambda: all_out(100), DEADLINE + 10), "the second half never comes")
        took = time.monotonic() - since
        child.stdin.close()
        child.stdin = None
        os.set_blocking(child.stdout.fileno(), True)
        rest, err = child.communicate(timeout=60 * SLOW)
        got.extend(rest)
        self.assertEqual(child.returncode, 0, err.decode())
        print("stopped between documents: rows out after %.2f s (deadline %d s)" % (took, DEADLINE))
        self.assertLess(took, DEADLINE + 2)
        self.assertEqual(sorted(json.loads(line)["id"] for line in got.splitlines()), sorted("d%06d" % i for i in range(100)))

    def test_a_stopped_group_that_goes_on_has_lost_nobody(self):
        self.write("a.jsonl", jsonl(1200))
        with open(self.dir / "out.jsonl", "wb") as out:
            child = subprocess.Popen([BIN, "run", "-j", "2", "--doc-timeout", "%d" % (2 * SLOW), "exec cmd='sleep 0.2; cat'", "a.jsonl"],
                                     cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, start_new_session=True)
            self.children.append(child)
            self.assertTrue(wait_until(lambda: len(workers(child.pid)) == 2))
            time.sleep(0.4 * SLOW)
            self.assertIsNone(child.poll(), "too quick to be stopped")
            os.killpg(child.pid, signal.SIGSTOP)  # Ctrl-Z
            time.sleep(5 * SLOW)
            os.killpg(child.pid, signal.SIGCONT)
            _, err = child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertNotIn("replac", err.decode())
        self.assertNotIn("ending it", err.decode())
        self.assertEqual(len((self.dir / "out.jsonl").read_bytes().splitlines()), 1200)


if __name__ == "__main__":
    unittest.main()
