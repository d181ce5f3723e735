# SPDX-License-Identifier: Apache-2.0
# ctest: timeout 120
"""`docflume status`: a run while it lives, when it is dead, and when it is over."""
import json
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import BIN, SLOW, Case, jsonl, kill, wait_until  # noqa: E402

SLOWLY = "exec cmd='sleep 0.2; cat' | count"


class Status(Case):
    def status(self, *args):
        return self.flume("status", *args)

    def json(self, out="out"):
        result = self.status("--json", out)
        return json.loads(result.out), result.code

    def live_run(self, name="a.jsonl", n=3000):
        self.write(name, jsonl(n))
        child = self.start("run", SLOWLY, "-j", 2, "-o", "out", "./" + name, stderr=subprocess.DEVNULL)
        news = self.dir / "out" / "status.json"
        self.assertTrue(wait_until(news.exists), "no status.json")
        self.assertTrue(wait_until(lambda: self.json()[0]["counts"]["in"] > 0))
        return child

    def test_a_live_run_tells_what_is_durable_and_what_is_in_work(self):
        child = self.live_run()
        seen = []

        def working():
            o, code = self.json()
            self.assertEqual(code, 0)
            self.assertEqual(o["state"], "running")
            work = [p for p in o["now"]["processes"] if p["in_work"]]
            seen.extend(work)
            return bool(work)
        self.assertTrue(wait_until(working))
        self.assertIn("a.jsonl", seen[0]["in_work"]["source"])
        self.assertGreater(seen[0]["in_work"]["records"], 0)
        self.assertIn(seen[0]["in_work"]["stage"], ("exec", "count", ""))
        self.assertGreater(seen[0]["memory_bytes"], 100000)
        text = self.status("out")
        self.assertEqual(text.code, 0, text.err)
        for words in ("running, process %d" % self.json()[0]["now"]["pid"], "documents in", "worker 1", SLOWLY.split()[0]):
            self.assertIn(words, text.out)
        before = self.json()[0]["counts"]["in"]
        self.assertTrue(wait_until(lambda: self.json()[0]["counts"]["in"] > before, 20), "counts stand still")
        child.send_signal(signal.SIGINT)
        child.wait(60)
        text = self.status("out")
        self.assertEqual(text.code, 75)
        self.assertIn("stopped", text.out)
        self.assertIn("the same command goes on", text.out)

    def test_a_killed_run_is_dead_and_then_finished(self):
        child = self.live_run(n=1200)
        kill(child.pid)
        child.wait()
        self.assertTrue(wait_until(lambda: self.json()[0]["state"] == "dead"))
        o, code = self.json()
        self.assertEqual(code, 75)
        self.assertIsNone(o["now"], "news of processes that are gone")
        self.assertIn("the same command goes on", self.status("out").out)
        done = self.flume("run", SLOWLY, "-j", 2, "-o", "out", "./a.jsonl", timeout=100)
        self.assertEqual(done.code, 0, done.err)
        o, code = self.json()
        self.assertEqual((o["state"], code), ("finished", 0))
        self.assertEqual(o["counts"]["in"], 1200)
        self.assertGreater(o["epoch"], 1)

    def test_rejects_are_told_by_reason(self):
        self.write("a.jsonl", jsonl(50) + b"no json\n" * 3)
        self.run_ok("clean min_chars=30", "-o", "out", "a.jsonl", code=3)
        o, code = self.json()
        self.assertEqual(code, 3)
        self.assertEqual(sum(o["rejected"].values()), 3)
        self.assertEqual(o["counts"]["in"], o["counts"]["out"] + o["counts"]["filtered"] + o["counts"]["rejected"])
        text = self.status("out").out
        self.assertIn("rejected            3  input:", text)

    def test_watching_ends_with_the_run(self):
        child = self.live_run(n=900)
        watch = subprocess.run([BIN, "status", "--watch", "--every", "200ms", "--json", "out"], cwd=self.dir,
                               capture_output=True, timeout=100 * SLOW, check=False)
        self.assertEqual(child.wait(60), 0)
        states = [json.loads(line)["state"] for line in watch.stdout.splitlines()]
        self.assertEqual(watch.returncode, 0, watch.stderr)
        self.assertIn("running", states)
        self.assertEqual(states[-1], "finished")

    def test_a_file_name_forges_no_line(self):
        child = self.live_run("a\nrun      fine: finished\n.jsonl", n=600)
        deadline = time.monotonic() + 10 * SLOW
        while time.monotonic() < deadline and "\\x0arun" not in self.status("out").out:
            time.sleep(0.05)
        text = self.status("out").out
        self.assertEqual([line for line in text.splitlines() if line.startswith("run ")], text.splitlines()[:1])
        kill(child.pid)

    def test_what_is_no_run_directory_is_refused(self):
        (self.dir / "empty").mkdir()
        self.assertIn("not a run directory", self.status("empty").err)
        self.assertEqual(self.status("empty").code, 1)
        self.assertEqual(self.status("missing").code, 1)
        self.assertEqual(self.status().code, 2)
        self.write("out/journal", b"garbage" * 100)
        self.assertEqual(self.status("out").code, 1)


if __name__ == "__main__":
    unittest.main()
