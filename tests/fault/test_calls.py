# SPDX-License-Identifier: Apache-2.0
"""Calls of APIs that go wrong, through the whole program against tests/api: nothing lost, nothing partial passed as whole, few requests
more than calls, each fault within its time-out and with its class.
ctest: timeout 300"""
import json
import pathlib
import shutil
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
import flume
from rundir import RunCase


class CallCase(RunCase):
    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"),
                    "OPENAI_API_KEY": "sk-planted-0123456789", "HOME": str(self.dir),
                    "XDG_CONFIG_HOME": str(self.dir / "config")}

    def server(self, **options):
        server = api.Server(**options).start()
        self.addCleanup(server.stop)
        return server

    def documents(self, n):
        self.write("in.jsonl", b"".join(json.dumps({"id": f"d{i}", "text": f"document {i}"}).encode() + b"\n" for i in range(n)))

    def llm(self, server, more="", **behaviour):
        return (f"llm model=gpt-4o-mini base_url={server.url(**behaviour)} prompt='{{{{id}}}} {{{{text}}}}' "
                f"max_tokens=50 {more}")

    def docflume(self, *args, code=0, **more):
        result = self.flume("run", *args, env=self.env, **more)
        self.assertEqual(result.code, code, result.err)
        return result

    def assert_answers(self, n, out="out"):
        rows = self.rows(out)
        self.assertEqual(sorted(row["id"] for row in rows), sorted(f"d{i}" for i in range(n)))
        for row in rows:
            self.assertTrue(row["answer"])
        return rows


class Calls(CallCase):
    # ------------------------------------------------------------------ faults in passing

    def test_five_percent_of_faults_lose_nothing_and_cost_no_more_requests_than_faults(self):
        self.documents(2000)
        server = self.server(faults="429:0.025+500:0.025", delay=5, fault_retry_ms=20)
        self.docflume("-o", "out", "-j", 2, self.llm(server, "concurrency=200"), "in.jsonl")
        stats = server.stats()
        self.assert_answers(2000)
        self.assertEqual(stats["paid_twice"], 0)
        self.assertGreater(stats["requests"], 2040)
        self.assertLessEqual(stats["requests"], 2000 + 2000 * 0.07)
        self.assertEqual(stats["early_retries"], 0)

    def test_thirty_percent_of_faults_lose_nothing_and_cost_half_as_many_requests_more(self):
        self.documents(1000)
        server = self.server(faults="429:0.1+500:0.1+reset:0.1", delay=5, fault_retry_ms=20)
        self.docflume("-o", "out", "-j", 2, self.llm(server, "concurrency=100"), "in.jsonl", timeout=200)
        stats = server.stats()
        self.assert_answers(1000)
        self.assertLessEqual(stats["requests"], 1500)

    def test_told_600_where_300_are_allowed_no_call_is_lost_and_few_are_refused(self):
        self.documents(150)
        server = self.server(rpm=300 * 6, limit="bucket", burst=1, told_rpm=600 * 6)  # six times as fast as in the tale
        begun = time.monotonic()
        self.docflume("-o", "out", "-j", 3, self.llm(server, f"rpm={600 * 6}"), "in.jsonl", timeout=200)
        took = time.monotonic() - begun
        stats = server.stats()
        self.assert_answers(150)
        self.assertEqual(stats["early_retries"], 0)
        self.assertLess(took, 30 * flume.SLOW)

    # ------------------------------------------------------------------ faults for good

    def fault_for_good(self, kind, seconds, classes, **behaviour):
        self.documents(3)
        server = self.server(faults=f"{kind}:1", **behaviour)
        begun = time.monotonic()
        self.docflume("-o", "out", "-j", 1, self.llm(server, "timeout=500ms attempts=2 cache=false"), "in.jsonl", code=3,
                      timeout=100)
        took = time.monotonic() - begun
        requests = server.stats()["requests"]
        self.assertEqual(self.rows("out"), [])
        self.assertLess(took, seconds * flume.SLOW, kind)
        self.assertLessEqual(requests, 6, kind)
        rejects = self.rows("out", "rejects")
        self.assertEqual(len(rejects), 3)
        for reject in rejects:
            self.assertIn(reject["docflume"]["class"], classes, (kind, reject))
        return rejects

    def test_each_fault_ends_within_its_time_with_its_class_and_nothing_partial_is_passed_on(self):
        for kind, classes in (("stall", ["timeout"]), ("reset", ["closed"]), ("500", ["closed"]), ("cut", ["closed"]), ("cuthead", ["closed"]),
                              ("badjson", ["parse"]), ("html", ["parse"]), ("close", ["closed"]), ("stallbody", ["timeout"]), ("empty", ["parse"]), ("slow", ["timeout"]),
                              ("gzipbomb", ["limit", "parse", "closed", "timeout"]), ("endless", ["limit", "timeout", "closed"]),
                              ("400", ["range"])):
            with self.subTest(kind):
                self.tidy()
                self.fault_for_good(kind, 10, classes)

    def tidy(self):
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        shutil.rmtree(self.dir / "limits", ignore_errors=True)


class Recorded(CallCase):
    def test_what_was_recorded_is_given_again_without_a_server_and_no_key_is_in_it(self):
        server = self.server()
        self.documents(40)
        first = self.docflume(self.llm(server), "--record", "tape.jsonl", "--cache", "no", "-k", "in.jsonl")
        server.stop()
        tape = (self.dir / "tape.jsonl").read_bytes()
        self.assertEqual(tape.count(b"\n"), 40)
        self.assertNotIn(b"planted", tape)
        self.assertEqual((self.dir / "tape.jsonl").stat().st_mode & 0o777, 0o600)
        again = self.docflume("llm model=recorded/tape.jsonl prompt='{{id}} {{text}}' max_tokens=50", "--cache", "no", "-k", "in.jsonl")
        self.assertEqual(again.out, first.out)

    def test_a_stream_that_was_recorded_is_one_again(self):
        server = self.server()
        self.documents(1)
        ask = "llm model=%s prompt='{{text}}' max_tokens=50"
        first = self.docflume(ask % ("gpt-4o-mini base_url=" + server.url()), "--record", "tape.jsonl", "--cache", "no", "--stream", "in.jsonl")
        server.stop()
        again = self.docflume(ask % "recorded/tape.jsonl", "--cache", "no", "--stream", "in.jsonl")
        self.assertEqual(again.out, first.out)
        self.assertIn("document 0", first.out)

    def test_an_ask_that_was_not_recorded_is_said(self):
        self.write("tape.jsonl", b"")
        self.documents(1)
        result = self.flume("run", "llm model=recorded/tape.jsonl prompt=x", "in.jsonl", env=self.env)
        self.assertNotEqual(result.code, 0)
        self.assertIn("record it again", result.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
