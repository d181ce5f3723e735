# SPDX-License-Identifier: Apache-2.0
"""Calls of APIs that go wrong, through the whole program against tests/api: nothing lost, nothing partial passed as whole, few requests
more than calls, each fault within its time-out and with its class.
ctest: timeout 300"""
import json
import os
import pathlib
import shutil
import struct
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
import flume
import inject
import power
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

    def test_a_model_that_is_over_and_has_a_fall_back_is_said_to_be_replaced_once(self):
        self.documents(50)
        server = self.server(key="another")
        result = self.docflume("-o", "out", "-j", 3, self.llm(server, "fallback=fake/any"), "in.jsonl")
        self.assert_answers(50)
        self.assertEqual(result.err.count("fall-backs are asked from now on"), 1, result.err)
        self.assertRegex(result.err, r'warning: model "gpt-4o-mini": status 401.*OPENAI_API_KEY.*; fall-backs are asked from now on')

    def test_larger_cells_make_fewer_and_larger_requests_of_embeddings(self):
        self.documents(3000)
        requests = {}
        for size in ("16k", "1m"):
            server = self.server()
            self.docflume("-o", size, "-j", 2, "--cache", "no", "--cell-size", size,
                          f"embed model=text-embedding-3-small dimensions=16 base_url={server.url()}", "in.jsonl")
            requests[size] = server.stats()["requests"]
            self.assertEqual(sum(len(part.read_text().splitlines()) for part in (self.dir / size).glob("part-*.jsonl")), 3000)
        self.assertEqual(requests["1m"], 2)  # of 2,048 and 952
        self.assertGreater(requests["16k"], 3000 / 512)

    def test_a_host_that_is_not_there_is_named_once_and_with_what_is_wrong(self):
        self.documents(1)
        for url, words in (("http://127.0.0.1:1", "Connection refused"), ("http://no-such-host.invalid", "its name is not known to the resolver")):
            with self.subTest(url):
                self.tidy()
                child = self.start("run", "-o", "out", f"llm model=openai/any base_url={url}/v1 prompt='{{{{text}}}}'", "in.jsonl", env=self.env)
                line = child.stderr.readline().decode()
                child.kill()
                self.assertIn(f"cannot reach '{url}': {words}; trying again\n", line)

    def tidy(self):
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        shutil.rmtree(self.dir / "limits", ignore_errors=True)


class Money(CallCase):
    def begin(self, *args, **more):
        return self.start("run", *args, env={**self.env, **more})

    def costs(self):
        return self.state()["costs"]

    def ended(self, child, code=0):
        _, err = child.communicate(timeout=60 * flume.SLOW)
        self.assertEqual(child.returncode, code, err.decode())
        return err.decode()

    @staticmethod
    def workers(child):
        return [pid for pid, role in flume.children_of(child.pid).items() if role == "worker"]

    @staticmethod
    def paid(server):
        """What the server would have on its invoice for gpt-4o-mini."""
        stats = server.stats()
        return (stats["tokens_in"] * 0.15 + stats["tokens_out"] * 0.60) / 1e6

    def worst(self, n=1):
        """Of one document of self.documents(): each byte that is sent a token, and all of max_tokens; in USD, more or less."""
        self.documents(n)
        server = self.server(faults="reset:1")
        self.docflume("-o", "probe", "-j", 1, self.llm(server, "attempts=1 cache=false"), "in.jsonl", code=3)
        server.stop()
        return self.state("probe")["costs"]["usd"] / n

    # ------------------------------------------------------------------ held by others

    def test_money_that_another_worker_holds_is_waited_for(self):
        worst = self.worst()
        self.documents(6)
        server = self.server(delay=700)
        # enough for one at a time, and then for what they really cost
        begun = time.monotonic()
        self.docflume("-o", "out", "-j", 3, "--budget", f"{worst * 1.9:.9f}", "--cache", "no", self.llm(server), "in.jsonl", code=0)
        self.assert_answers(6)
        self.assertGreater(time.monotonic() - begun, 6 * 0.7)
        self.assertEqual(server.stats()["max_in_flight"], 1)
        self.assertLessEqual(self.costs()["usd"], worst * 1.9)
        self.assertGreaterEqual(self.costs()["usd"] + 1e-9, self.paid(server))

    def test_what_a_killed_worker_held_is_maybe_paid_and_the_others_go_on(self):
        worst = self.worst()
        self.documents(60)
        server = self.server(delay=1500)
        child = self.begin("-o", "out", "-j", "2", "--budget", "1", self.llm(server, "concurrency=40"), "in.jsonl")
        self.assertTrue(flume.wait_until(lambda: server.stats()["requests"] >= 20))
        for pid in self.workers(child):  # whichever has sent them
            flume.kill(pid)
        err = self.ended(child)
        self.assert_answers(60)
        costs = self.costs()
        self.assertGreater(costs["usd_maybe_paid"], 0.8 * worst)
        self.assertLessEqual(costs["usd_reserved"], 0)
        self.assertIn("perhaps never paid", err)
        self.assertGreaterEqual(costs["usd"] + 1e-9, self.paid(server))

    def test_a_budget_that_a_killed_worker_held_ends_the_run_soon_and_is_not_overshot(self):
        worst = self.worst()
        self.documents(4)
        server = self.server(delay=2500)
        begun = time.monotonic()
        child = self.begin("-o", "out", "-j", "2", "--budget", f"{worst * 1.5:.9f}", "--cache", "no", self.llm(server), "in.jsonl")
        self.assertTrue(flume.wait_until(lambda: server.stats()["requests"] >= 1))
        for pid in self.workers(child):  # one of them has sent, the others wait for it
            flume.kill(pid)
        err = self.ended(child, code=4)
        self.assertLess(time.monotonic() - begun, 20 * flume.SLOW)
        self.assertIn("perhaps never paid", err)
        self.assertEqual(server.stats()["requests"], 1)
        self.assertLessEqual(self.costs()["usd"], worst * 1.5)

    def test_money_without_a_cache_is_warned_of_once_and_only_where_there_is_some(self):
        server = self.server()
        self.documents(5)
        words = "pays again for those that were not written yet"
        for n, count, more in ((1, 1, ("--budget", "1", "--cache", "no")), (2, 0, ("--cache", "no")), (3, 0, ("--budget", "1", "--cache", "c"))):
            result = self.docflume("-o", f"out{n}", "-j", 3, *more, self.llm(server), "in.jsonl")
            self.assertEqual(result.err.count(words), count, result.err)
        result = self.docflume("-o", "out4", "-j", 3, "--cache", "no", self.llm(server, "rpd=100"), "in.jsonl")
        self.assertEqual(result.err.count(words), 1, result.err)
        result = self.docflume("-o", "out6", "-j", 3, "--budget", "1", self.llm(server, "cache=false"), "in.jsonl")
        self.assertEqual(result.err.count(words), 1, result.err)
        self.assertIn("(cache=false)", result.err)
        result = self.docflume("-o", "out5", "-j", 3, "--cache", "no", "--budget", "1", "llm model=fake/any prompt='{{text}}'", "in.jsonl")
        self.assertEqual(result.err.count(words), 0, result.err)

    # ------------------------------------------------------------------ what is booked

    def test_what_was_perhaps_paid_is_booked_by_what_became_of_the_request(self):
        worst = self.worst()
        # kind: (of the worst case, how much may at least and at most be "maybe")
        for kind, least, most in (("500", 0, 0), ("503", 0, 0), ("400", 0, 0), ("close", 0.9, 1.1), ("stall", 0.9, 1.1), ("cut", 0.9, 1.1), ("badjson", 0.9, 1.1)):
            with self.subTest(kind):
                for name in ("out", "limits"):
                    shutil.rmtree(self.dir / name, ignore_errors=True)
                server = self.server(faults=f"{kind}:1")
                self.documents(1)
                result = self.docflume("-o", "out", "-j", 1, "--budget", "1", self.llm(server, "timeout=500ms attempts=1 cache=false"), "in.jsonl",
                                       code=3)
                costs = self.costs()
                self.assertEqual(server.stats()["requests"], 1)
                self.assertGreaterEqual(costs["usd_maybe_paid"], least * worst, kind)
                self.assertLessEqual(costs["usd_maybe_paid"], most * worst, kind)
                self.assertLessEqual(costs["usd_maybe_paid"], costs["usd"])
                self.assertEqual("perhaps never paid" in result.err, most > 0, result.err)
                server.stop()

    # ------------------------------------------------------------------ power

    @unittest.skipUnless((inject.LIBRARIES / "libdf_shim_io.so").exists(), "no shim in this build")
    def test_a_power_cut_forgets_no_more_than_was_spent_in_the_last_second(self):
        self.documents(300)
        server = self.server(delay=100)
        home = self.dir
        trace = home / "trace"
        with open(trace, "wb") as f:
            f.truncate(64 << 20)
        shim = inject.Shim(home, "io", trace=trace)
        command = ["-o", home / "out", "-j", "2", "--budget", "1", "--cache", "no", self.llm(server, "concurrency=4"), "in.jsonl"]
        child = self.begin(*command, **shim.env)
        purse, spent, syncs, at = home / "out" / "purse", [], [], power.FIRST
        self.assertTrue(flume.wait_until(purse.exists))
        inode = purse.stat().st_ino
        begun = time.monotonic()
        with open(trace, "rb", buffering=0) as f:
            while time.monotonic() < begun + 5.4:
                used, = struct.unpack("<Q", os.pread(f.fileno(), 8, 0))
                while at < power.FIRST + used:
                    size, op, its_inode, *_ = power.RECORD.unpack(os.pread(f.fileno(), power.RECORD.size, at))
                    if size == 0:
                        break
                    if op == power.SYNC_END and its_inode == inode:
                        syncs.append((time.monotonic(), purse.read_bytes()))  # what lasts, give or take what a turn of this loop takes
                    at += size
                spent.append((time.monotonic(), self.paid(server)))
                time.sleep(0.02)
        flume.kill_whole(child)
        cut, paid = time.monotonic(), self.paid(server)
        self.assertGreater(paid, 0)
        self.assertGreaterEqual(len(syncs), 4)
        self.assertLessEqual(len(syncs), 9)
        self.assertLess(cut - syncs[-1][0], 1.4 * flume.SLOW)
        image = syncs[-1][1]
        committed = struct.unpack_from("<q", image, 24)[0] / 1e9
        before = max((usd for when, usd in spent if when <= syncs[-1][0] - 0.1), default=0)
        self.assertGreaterEqual(committed + 1e-9, before)
        lost = max(paid - committed, 0)
        self.assertLess(lost, paid / (cut - begun) * 1.4 * flume.SLOW)
        purse.write_bytes(image)
        self.docflume(*command)
        self.assert_answers(300)
        self.assertGreaterEqual(self.costs()["usd"] + lost + 1e-9, self.paid(server))


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
