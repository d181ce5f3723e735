# SPDX-License-Identifier: Apache-2.0
"""Runs that end while calls are out: what was answered is kept, and what was perhaps paid is said, whichever way the run ends.
ctest: timeout 120"""
import json
import pathlib
import shutil
import signal
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
import flume
from rundir import RunCase


class EndingCase(RunCase):
    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": "sk-planted-0123456789", "HOME": str(self.dir),
                    "XDG_CONFIG_HOME": str(self.dir / "config"), "XDG_CACHE_HOME": str(self.dir / "cache")}

    def server(self, **options):
        server = api.Server(**options).start()
        self.addCleanup(server.stop)
        return server

    def documents(self, n, size=0):
        """A cell has 16 KB of them: only with a `size` there are cells for all workers."""
        self.write("in.jsonl", b"".join(json.dumps({"id": f"d{i}", "text": f"document {i}" + " x" * (size // 2)}).encode() + b"\n" for i in range(n)))

    def llm(self, server, more="", **behaviour):
        return f"llm model=gpt-4o-mini base_url={server.url(**behaviour)} prompt='{{{{id}}}} {{{{text}}}}' max_tokens=50 {more}"

    def begin(self, *args, **more):
        return self.start("run", *args, env=self.env, **more)

    def ended(self, child):
        _, err = child.communicate(timeout=60 * flume.SLOW)
        return err.decode()

    def kept(self):
        """Answers in the cache on disk."""
        result = self.flume("cache", "stats", "--json", env=self.env)
        self.assertEqual(result.code, 0, result.err)
        return json.loads(result.out)["entries"]

    def worst(self, server):
        """USD that one call of those documents reserves."""
        self.documents(1)
        self.assertEqual(self.flume("run", "-o", "worst", "--budget", "1", "--cache", "no", self.llm(server, "attempts=1 timeout=300ms", delay=2000), "in.jsonl",
                                    env=self.env).code, 3)
        return self.state("worst")["costs"]["usd"]

    def remove(self, name):
        shutil.rmtree(self.dir / name, ignore_errors=True)


class Endings(EndingCase):
    def test_a_reader_that_has_enough_loses_none_of_the_answers_that_were_out(self):
        server = self.server()
        self.documents(400, size=1000)
        child = self.begin("-j", "2", self.llm(server, "concurrency=60", delay=250), "in.jsonl")
        child.stdout.readline()
        child.stdout.close()
        err = child.stderr.read().decode()
        self.assertEqual(child.wait(20), 0, err)
        stats = server.stats()
        self.assertGreater(stats["requests"], 60)
        self.assertLess(stats["requests"], 400)
        self.assertEqual(self.kept(), stats["requests"], err)

    def test_answers_of_a_run_that_is_stopped_without_grace_are_kept_and_the_rest_is_maybe_paid(self):
        for signals in (1, 2):
            with self.subTest(signals=signals):
                for name in ("out", "cache", "worst"):
                    self.remove(name)
                server = self.server()
                worst = self.worst(server)
                before = server.stats()["requests"]
                self.documents(3000)
                child = self.begin("-o", "out", "-j", "2", "--grace", "0" if signals == 1 else "30", self.llm(server, "concurrency=40", delay=40), "in.jsonl")
                self.assertTrue(flume.wait_until(lambda: server.stats()["requests"] - before > 400))
                for _ in range(signals):
                    child.send_signal(signal.SIGTERM)
                    time.sleep(0.02)
                err = self.ended(child)
                self.assertEqual(child.returncode, 75, err)
                sent = server.stats()["requests"] - before
                costs = self.state()["costs"]
                kept = self.kept()
                self.assertGreater(kept, 300)
                maybe = costs["usd_maybe_paid"] / worst
                # each request was answered and is in the cache, or is one that may have been paid
                self.assertGreaterEqual(kept + maybe * 1.05 + 0.5, sent, (kept, maybe, sent, err))
                self.assertLessEqual(costs["usd_reserved"], 0)

    def test_a_run_that_is_halted_at_once_says_what_its_calls_may_have_cost(self):
        server = self.server(bad="document_7")
        self.documents(100)
        self.write("bad.jsonl", b'{"id":"b","text":7}\n' * 20)
        child = self.begin("-o", "out", "-j", "2", "--halt", "now", "--max-errors", "3", "--budget", "5", self.llm(server, "concurrency=40", delay=3000), "in.jsonl", "bad.jsonl")
        begun = time.monotonic()
        err = self.ended(child)
        self.assertEqual(child.returncode, 1, err)
        self.assertLess(time.monotonic() - begun, 3 * flume.SLOW)
        costs, requests = self.state()["costs"], server.stats()["requests"]
        self.assertEqual(costs["usd_reserved"], 0, costs)
        if requests:
            self.assertGreater(costs["usd_maybe_paid"], 0, (costs, requests, err))
            self.assertIn("perhaps never paid", err)


class Limits(EndingCase):
    """The folder of limits in every bad state: one line, no worker after the other that dies of it."""

    def test_a_folder_of_limits_that_cannot_be_used_ends_the_run_at_once_with_one_line(self):
        server = self.server()
        self.documents(50)
        (self.dir / "file").write_text("")
        result = self.flume("run", "-o", "out", "-j", "3", self.llm(server), "in.jsonl", env={**self.env, "DOCFLUME_LIMITS": str(self.dir / "file")})
        self.assertEqual(result.code, 1, result.err)
        self.assertEqual(result.err.count("cannot open the folder of limits"), 1, result.err)
        self.assertNotIn("done again", result.err)
        self.assertEqual(server.stats()["requests"], 0)

    def test_limits_that_were_damaged_are_said_to_begin_anew_by_one_voice(self):
        server = self.server()
        self.documents(50)
        self.assertEqual(self.flume("run", "-o", "out", "--cache", "no", self.llm(server, "rpd=1000"), "in.jsonl", env=self.env).code, 0)
        for record in (self.dir / "limits").iterdir():
            with open(record, "r+b") as f:
                f.seek(512)
                f.write(b"damaged")
        result = self.flume("run", "-o", "again", "-j", "3", self.llm(server, "rpd=1000"), "in.jsonl", env=self.env)
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(result.err.count("they begin anew, what was counted today is lost"), 1, result.err)


if __name__ == "__main__":
    unittest.main()
