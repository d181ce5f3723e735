# SPDX-License-Identifier: Apache-2.0
"""Workers whose pipeline waits for the network: many leases at once, kills and stops among calls, money, keys that must be nowhere.
Against a server of its own on loopback, or the model fake/..., which answers after a timer.
ctest: serial
ctest: timeout 300"""
import http.server
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import sys
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
import flume
from rundir import RunCase

KEY = "sk-planted-" + "7d1f0c9e" * 4


def documents(n, size):
    return b"".join(json.dumps({"id": f"d{i}", "text": f"document {i} " + "x" * (size - 45)}).encode() + b"\n"
                    for i in range(n))


class Network(RunCase):
    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"),
                    "OPENAI_API_KEY": KEY, "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config")}

    def server(self, **options):
        server = api.Server(**options).start()
        self.addCleanup(server.stop)
        return server

    def llm(self, server, more="", model="gpt-4o-mini", host="127.0.0.1"):
        return (f"llm model={model} base_url=http://{host}:{server.port}/v1 prompt='{{{{id}}}} {{{{text}}}}' "
                f"max_tokens=50 {more}")

    def docflume(self, *args, code=0, **more):
        result = self.flume("run", *args, env=self.env, **more)
        self.assertEqual(result.code, code, result.err)
        return result

    def begin(self, *args, **more):
        return self.start("run", *args, env=self.env, **more)

    def wait_until(self, what, condition, seconds=20):
        until = time.monotonic() + seconds * flume.SLOW
        while not condition():
            self.assertLess(time.monotonic(), until, what)
            time.sleep(0.02)

    def workers(self, child):
        """Those that have joined: a process is a worker before it has become one."""
        return [pid for pid, role in flume.children_of(child.pid).items() if role == "worker"]

    def assert_all_once(self, n, out="out"):
        self.assertEqual(sorted(row["id"] for row in self.rows(out)), sorted(f"d{i}" for i in range(n)))

    # ------------------------------------------------------------------ many at once

    def test_two_thousand_documents_of_1_kb_wait_together(self):
        server = self.server(delay=2500)
        self.write("in.jsonl", documents(2000, 1024))
        self.docflume(self.llm(server), "-j", 3, "-o", "out", "in.jsonl")
        self.assert_all_once(2000)
        self.counts_add_up()
        self.assertGreaterEqual(server.stats()["max_in_flight"], 1900 if flume.SLOW == 1 else 500)
        peak = max(p["peak_rss_bytes"] for p in self.state()["processes"] if p["role"] == "worker")
        if flume.SLOW == 1:
            self.assertLess(peak, 80 << 20)

    def test_leases_begin_as_calls_are_sent_and_not_all_at_once(self):
        """6,000 documents of 100 bytes would all be handed in at once; what is out follows the calls in flight."""
        server = self.server(delay=100)
        self.write("in.jsonl", documents(6000, 100))
        child = self.begin(self.llm(server, "concurrency=300"), "-j", 1, "--cache", "no", "-o", "out", "in.jsonl", stderr=-3, stdout=-3)
        most = 0
        while child.poll() is None:
            try:
                news = json.loads((self.dir / "out" / "status.json").read_text())
                most = max([most] + [p.get("calls_out", 0) for p in news["processes"]])
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.02)
        self.assertEqual(child.returncode, 0)
        self.assertGreaterEqual(most, 256)  # as many waited as there is use for
        self.assertLess(most, 300 + 256 + 3 * 512)
        self.assertEqual(server.stats()["max_in_flight"], 300)
        self.assert_all_once(6000)

    def test_small_text_files_wait_together(self):
        server = self.server(delay=1500)
        for i in range(100):
            self.write(f"texts/{i}.txt", f"text number {i}")
        self.docflume(self.llm(server), "-j", 2, "-o", "out", "texts")
        self.assertEqual(len(self.rows("out")), 100)
        self.assertGreaterEqual(server.stats()["max_in_flight"], 95)

    def test_long_documents_are_as_many_in_flight_as_is_allowed_in_one_worker(self):
        server = self.server(delay=1000 * flume.SLOW)
        self.write("in.jsonl", b"".join(json.dumps({"id": f"d{i}", "text": f"{i} " + "long words " * 5900}).encode() + b"\n" for i in range(900)))
        self.docflume(self.llm(server, "concurrency=450"), "-o", "out", "in.jsonl")
        self.assert_all_once(900)
        self.assertGreaterEqual(server.stats()["max_in_flight"], 430)

    def test_order_is_kept_though_answers_come_in_any(self):
        server = self.server(delay=30, seed=3, faults="500:0.2", fault_retry_ms=-1)
        self.write("in.jsonl", documents(600, 900))
        self.docflume(self.llm(server), "-k", "-j", 3, "-o", "out", "in.jsonl")
        self.assertEqual([row["id"] for row in self.rows("out")], [f"d{i}" for i in range(600)])

    def test_what_waits_is_told_apart_from_what_computes(self):
        self.write("in.jsonl", documents(50, 300))
        self.docflume("strip | llm model=fake/any?delay=500ms prompt='{{id}}'", "-j", 1, "-o", "out", "in.jsonl")
        stages = {stage["name"]: stage for stage in self.state()["stages"]}
        self.assertGreaterEqual(stages["llm"]["waiting_seconds"], 0.49)  # both ends are rounded to the loop's turns
        self.assertLess(stages["llm"]["seconds"], 0.4 * flume.SLOW)
        self.assertNotIn("waiting_seconds", stages["strip"])

    # ------------------------------------------------------------------ deaths

    def test_a_deadline_is_no_matter_of_a_document_that_waits(self):
        self.write("in.jsonl", documents(200, 900))
        self.docflume("llm model=fake/any?delay=3s prompt='{{id}}'", "-j", 2, "--doc-timeout", "700ms", "-o", "out",
                      "in.jsonl")
        faults = self.state()["faults"]
        self.assertEqual((faults["strikes"], faults["last_epoch"]["processes_died"]), (0, 0))
        self.assert_all_once(200)

    def test_killed_workers_lose_nothing_pay_only_for_what_was_in_flight_and_blame_nobody(self):
        server = self.server(delay=700)
        self.write("in.jsonl", documents(1500, 1024))
        child = self.begin(self.llm(server, "concurrency=250"), "-j", 3, "-o", "out", "in.jsonl")
        paid, killed = 250, 0
        for answers in (300, 700, 1000):
            self.wait_until("answers come", lambda n=answers: server.stats()["texts_paid"] >= n or child.poll() is not None)
            at_work = self.workers(child)
            if at_work and child.poll() is None:
                os.kill(at_work[0], signal.SIGKILL)
                killed += 1
        out, err = child.communicate(timeout=60 * flume.SLOW)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assertGreaterEqual(killed, 2)
        self.assert_all_once(1500)
        self.counts_add_up()
        self.assertEqual(self.state()["faults"]["strikes"], 0)
        self.assertLessEqual(server.stats()["requests"], 1500 + killed * paid)
        self.assertEqual(server.stats()["violations"], 0)

    def test_a_stop_finishes_what_is_in_flight_and_nothing_is_paid_twice(self):
        server = self.server(delay=600)
        self.write("in.jsonl", documents(800, 1024))
        command = [self.llm(server, "concurrency=100"), "-j", 2, "-o", "out", "in.jsonl"]
        child = self.begin(*command)
        self.wait_until("answers come", lambda: server.stats()["texts_paid"] >= 150)
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=40 * flume.SLOW)
        self.assertEqual(child.returncode, 75, err.decode())
        self.assertLess(time.monotonic() - begun, 10 * flume.SLOW)
        self.docflume(*command)
        self.assert_all_once(800)
        stats = server.stats()
        self.assertEqual((stats["requests"], stats["paid_twice"]), (800, 0))

    def test_a_run_goes_on_with_other_limits_and_not_with_another_question(self):
        server = self.server(delay=10)
        self.write("in.jsonl", documents(120, 300))
        self.docflume(self.llm(server, "rpm=60 concurrency=50 attempts=3"), "-o", "out", "--grace", "100ms", "--time-limit", "700ms", "in.jsonl", code=75)
        result = self.docflume(self.llm(server, "rpm=60 temperature=1"), "-o", "out", "in.jsonl", code=1)
        self.assertRegex(result.err, r"pipeline: now '.*temperature=1'")
        self.assertNotIn("rpm", result.err)  # which is no reason
        self.docflume(self.llm(server, "timeout=1m"), "--llm.concurrency", "20", "-o", "out", "in.jsonl")
        self.assert_all_once(120)
        self.assertEqual(server.stats()["paid_twice"], 0)
        self.assertNotIn("rpm", self.state()["pipeline"])
        self.assertIn("complete already", self.docflume(self.llm(server, "rpm=7"), "-o", "out", "in.jsonl").err)
        self.assertEqual(self.flume("verify", "out").code, 0)

    def test_answers_to_what_was_read_are_kept_though_the_input_changes_before_they_come(self):
        server = self.server(delay=900)
        self.write("in.jsonl", documents(200, 300))
        child = self.begin(self.llm(server), "-j", 2, "-o", "out", "in.jsonl", stdout=-3)
        self.wait_until("all is asked", lambda: server.stats()["requests"] == 200)
        with open(self.dir / "in.jsonl", "ab") as f:
            f.write(documents(1, 300))
        self.assertEqual(child.wait(20 * flume.SLOW), 0, child.stderr.read())
        self.assert_all_once(200)

    def test_a_run_directory_that_is_removed_ends_the_run_before_all_is_asked(self):
        server = self.server(delay=200)
        self.write("in.jsonl", documents(400, 300))
        child = self.begin(self.llm(server, "concurrency=20"), "-j", 2, "-o", "out", "in.jsonl", stdout=-3)
        self.wait_until("answers come", lambda: server.stats()["texts_paid"] >= 40)
        shutil.rmtree(self.dir / "out")
        err = child.communicate(timeout=20 * flume.SLOW)[1].decode()
        self.assertEqual(child.returncode, 1, err)
        self.assertIn("the run directory 'out' was removed", err)
        self.assertLess(server.stats()["requests"], 200)

    def test_a_folder_of_sockets_that_is_removed_is_told_and_the_same_command_goes_on(self):
        server = self.server(delay=300)
        self.write("in.jsonl", documents(300, 300))
        command = [self.llm(server, "concurrency=20"), "-j", 2, "-o", "out", "in.jsonl"]
        self.env["TMPDIR"] = self.env["XDG_RUNTIME_DIR"] = str(self.dir / "tmp")
        (self.dir / "tmp").mkdir()
        child = self.begin(*command, stdout=-3)
        self.wait_until("answers come", lambda: server.stats()["texts_paid"] >= 20)
        for folder in (self.dir / "tmp").glob("docflume-*"):
            shutil.rmtree(folder)
        for pid in self.workers(child):
            os.kill(pid, signal.SIGKILL)
        err = child.communicate(timeout=20 * flume.SLOW)[1].decode()
        self.assertEqual(child.returncode, 1, err)
        self.assertIn("was removed (by whatever cleans up there)", err)
        self.docflume(*command)
        self.assert_all_once(300)

    # ------------------------------------------------------------------ money, days, keys

    def test_a_budget_stops_the_run_is_never_passed_and_goes_on_with_a_larger_one(self):
        server = self.server(delay=20)
        self.write("in.jsonl", documents(300, 600))
        command = [self.llm(server), "-j", 2, "-o", "out", "in.jsonl"]
        result = self.docflume(*command, "--budget", "0.0005", code=4)
        self.assertIn("budget", result.err)
        self.assertEqual(self.state()["state"], "stopped")
        costs = self.state()["costs"]
        self.assertLessEqual(costs["usd"] + costs["usd_reserved"], 0.0005)
        self.assertGreater(costs["usd"], 0)
        first = server.stats()["requests"]
        self.assertLess(first, 300)
        self.docflume(*command, "--budget", "1")
        self.assert_all_once(300)
        self.assertEqual(server.stats()["requests"], 300)
        self.assertGreater(self.state()["costs"]["usd"], costs["usd"])

    def test_a_purse_that_is_lost_forgets_neither_the_budget_nor_what_was_spent(self):
        server = self.server(delay=20)
        self.write("in.jsonl", documents(300, 600))
        command = [self.llm(server), "-j", 2, "-o", "out", "in.jsonl"]
        self.docflume(*command, "--budget", "0.0008", code=4)
        spent, requests = self.state()["costs"]["usd"], server.stats()["requests"]
        self.assertGreater(spent, 0.0005)
        for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(b""), lambda p: p.write_bytes(bytes(20480))):
            damage(self.dir / "out" / "purse")
            result = self.docflume(*command, code=4)  # with the budget it was begun with
            self.assertIn("'purse' in the run directory was lost", result.err)
            self.assertAlmostEqual(self.state()["costs"]["usd"], spent, delta=0.00002)
            self.assertLessEqual(self.state()["costs"]["usd"], 0.0008)
        self.assertLessEqual(server.stats()["requests"], requests + 4)
        self.docflume(*command, "--budget", "1")
        self.assert_all_once(300)

    def test_costs_of_a_run_that_died_when_all_was_done_are_told_by_the_next_life(self):
        server = self.server(delay=5)
        self.write("in.jsonl", documents(50, 300))
        command = [self.llm(server), "-o", "out", "in.jsonl"]
        self.docflume(*command)
        costs = self.state()["costs"]["usd"]
        run = json.loads((self.dir / "out" / "run.json").read_text())
        run["state"] = "running"  # as it is between the journal's last record and the last run.json
        del run["costs"]
        (self.dir / "out" / "run.json").write_text(json.dumps(run))
        self.assertIn("complete already", self.docflume(*command).err)
        self.assertEqual((self.state()["state"], self.state()["costs"]["usd"]), ("finished", costs))

    def test_the_status_of_a_killed_run_tells_what_it_cost(self):
        server = self.server(delay=300)
        self.write("in.jsonl", documents(400, 900))
        child = self.begin(self.llm(server, "concurrency=40"), "-j", 2, "--budget", "3", "-o", "out", "in.jsonl", stderr=-3, stdout=-3)
        self.wait_until("answers come", lambda: server.stats()["texts_paid"] >= 80)
        child.kill()
        child.wait()
        self.wait_until("it is dead", lambda: "dead" in self.flume("status", "out").out)
        self.assertRegex(self.flume("status", "out").out, r"costs +\d+ calls for \$0\.0\d+ \(\$0\.0\d+ of it only maybe\), of \$3\.00\n")
        self.assertGreater(json.loads(self.flume("status", "out", "--json").out)["costs"]["usd_spent"], 0.0001)

    def test_a_daily_limit_stops_the_run_with_its_words(self):
        server = self.server(delay=5)
        self.write("in.jsonl", documents(200, 600))
        result = self.docflume(self.llm(server, "rpd=60"), "-j", 2, "-o", "out", "in.jsonl", code=4)
        self.assertEqual(len(re.findall("daily limit hit for model", result.err)), 1, result.err)
        self.assertLessEqual(server.stats()["requests"], 60)
        self.docflume(self.llm(server, "rpd=60"), "-j", 2, "-o", "out", "in.jsonl", code=4)
        self.assertLessEqual(server.stats()["requests"], 60)

    def test_a_refused_key_ends_the_run_and_is_said_once(self):
        server = self.server(key="another")
        self.write("in.jsonl", documents(200, 600))
        result = self.docflume(self.llm(server), "-j", 4, "-o", "out", "in.jsonl", code=1)
        self.assertEqual(len([line for line in result.err.splitlines() if "error" in line]), 1, result.err)
        self.assertNotIn(KEY, result.err)
        self.assertEqual(self.state()["state"], "failed")

    def test_a_missing_key_is_said_once_by_the_run_and_not_by_each_worker(self):
        self.write("in.jsonl", documents(50, 600))
        del self.env["OPENAI_API_KEY"]
        self.env.update({"OPENAI_API_KEY": ""})
        result = self.docflume("llm model=gpt-4o-mini prompt='{{text}}'", "-j", 4, "-o", "out", "in.jsonl", code=1)
        self.assertEqual(len([line for line in result.err.splitlines() if "OPENAI_API_KEY" in line]), 1, result.err)

    def test_a_planted_key_is_in_no_file_no_message_and_no_command_line(self):
        server = self.server(delay=300, error_delay=500, key=KEY, faults="401@150+429:0.05+500:0.05+reset:0.02",
                             fault_retry_ms=50)
        self.write("in.jsonl", documents(300, 700))
        child = self.begin(self.llm(server, "concurrency=60"), "-v", "-j", 2, "-o", "out", "in.jsonl")
        lines, limits = set(), []
        self.wait_until("workers start", lambda: len(self.workers(child)) == 2 or child.poll() is not None)
        for pid in [child.pid, flume.coordinator_of(child.pid), *self.workers(child)]:
            try:
                lines.add(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
                limits.append(pathlib.Path(f"/proc/{pid}/limits").read_text())
            except OSError:
                continue
        out, err = child.communicate(timeout=60 * flume.SLOW)
        self.assertGreaterEqual(len(limits), 3)
        for text in limits:
            self.assertRegex(text, r"Max core file size +0 +0 ")
        self.assertGreater(len(lines), 1)
        found = [p for p in [out, err, *lines] if KEY.encode() in p]
        for path in self.dir.rglob("*"):
            if KEY in path.name or (path.is_file() and KEY.encode() in path.read_bytes()):
                found.append(path)
        self.assertEqual(found, [])
        self.assertTrue((self.dir / "out" / "trace.jsonl").stat().st_size > 0)
        self.assertEqual((self.dir / "out" / "trace.jsonl").stat().st_mode & 0o777, 0o600)

    def test_a_confined_worker_finds_names(self):
        server = self.server()
        self.write("in.jsonl", documents(3, 300))
        self.docflume(self.llm(server, host="localhost"), "-o", "out", "in.jsonl")
        self.assert_all_once(3)

    # ------------------------------------------------------------------ to a collector

    def test_a_trace_goes_to_a_collector_at_the_end_and_one_that_is_not_there_changes_nothing(self):
        got = []

        class Collector(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass
        collector = http.server.HTTPServer(("127.0.0.1", 0), Collector)
        self.addCleanup(collector.server_close)
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(collector.shutdown)
        self.write("in.jsonl", documents(5, 300))
        pipeline = "llm model=fake/any?delay=5ms prompt='{{id}}'"
        self.docflume(pipeline, "-o", "out", "--otlp", f"http://127.0.0.1:{collector.server_port}", "in.jsonl")
        self.assertEqual({path for path, _ in got}, {"/v1/traces"})
        names = [span["name"] for _, body in got for r in body["resourceSpans"] for s in r["scopeSpans"] for span in s["spans"]]
        self.assertGreaterEqual(len([name for name in names if name.startswith("chat ")]), 5)
        result = self.docflume(pipeline, "-o", "two", "--otlp", f"http://127.0.0.1:{self.unused_port()}", "in.jsonl",
                               timeout=120)
        self.assertIn("was not sent", result.err)

    @staticmethod
    def unused_port():
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    # ------------------------------------------------------------------ one answer as it comes

    def test_a_stream_is_the_answer_and_nothing_else(self):
        server = self.server(answer="one_two_three_four", gap=50)
        self.write("one.jsonl", documents(1, 300))
        result = self.docflume(self.llm(server), "--stream", "one.jsonl")
        self.assertEqual(result.out.strip(), "one two three four")
        self.assertEqual(server.stats()["streams"], 1)

    def test_a_worker_that_dies_in_the_middle_of_a_stream_is_not_asked_again(self):
        """Its successor would write the whole answer behind the piece that stands there."""
        server = self.server(answer="one_two_three_four_five_six", gap=150)
        self.write("one.jsonl", documents(1, 300))
        child = self.begin(self.llm(server), "--stream", "--cache", "no", "one.jsonl")
        begin = child.stdout.read(3)
        worker, = self.workers(child)
        os.kill(worker, signal.SIGKILL)
        out, err = child.communicate(timeout=20 * flume.SLOW)
        self.assertEqual(child.returncode, 1, err.decode())
        self.assertTrue("one two three four five".startswith((begin + out).decode()), begin + out)
        self.assertIn("cannot be taken back", err.decode())
        self.assertEqual(server.stats()["requests"], 1)

    def test_a_worker_that_dies_before_the_first_word_of_a_stream_is_replaced(self):
        server = self.server(answer="one_two_three", delay=700)
        self.write("one.jsonl", documents(1, 300))
        child = self.begin(self.llm(server), "--stream", "--cache", "no", "one.jsonl")
        self.wait_until("it asks", lambda: server.stats()["requests"] == 1)
        os.kill(self.workers(child)[0], signal.SIGKILL)
        out, err = child.communicate(timeout=20 * flume.SLOW)
        self.assertEqual((child.returncode, out.decode().strip()), (0, "one two three"), err.decode())

    def test_a_stream_of_more_than_one_document_is_refused(self):
        server = self.server()
        self.write("two.jsonl", documents(2, 300))
        result = self.docflume(self.llm(server), "--stream", "two.jsonl", code=1)
        self.assertIn("one document", result.err)
        self.assertEqual((result.out, server.stats()["requests"]), ("", 0))
        self.docflume(self.llm(server), "--stream", "-o", "-", "two.jsonl", code=2)
        self.docflume("strip", "--stream", "two.jsonl", code=2)

    # ------------------------------------------------------------------ while it goes on

    def test_a_run_that_waits_says_what_for(self):
        self.write("in.jsonl", documents(200, 400))
        for name, more, stage, words, word in (("limit", {}, "rpm=30", "a limit of requests or tokens", "rate limit"),
                                         ("server", {"faults": "500:1", "fault_retry_ms": -1}, "", "a server that fails or is silent",
                                          "server fails"),
                                         ("money", {"delay": 20000}, "", "money that other calls have reserved", "budget")):
            server = self.server(**more)
            budget = ["--budget", "0.0005"] if name == "money" else []
            child = self.begin(self.llm(server, stage), "-j", 1, "--cache", "no", *budget, "--bar", "always", "-o", name, "in.jsonl", stdout=-3)
            self.wait_until(f"it says that it waits for {words}", lambda: " for " + words in self.flume("status", name).out, 10)
            news = json.loads((self.dir / name / "status.json").read_text())["processes"][0]
            self.assertEqual(news["waits_for"], words)
            self.assertLess(news["calls_in_flight"], news["calls_out"])
            child.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            child.send_signal(signal.SIGTERM)
            err = child.communicate(timeout=20 * flume.SLOW)[1].decode()
            self.assertEqual(child.returncode, 75, err)
            self.assertIn(f" wait ({word})", err)

    def test_status_tells_what_is_out_and_what_it_cost(self):
        server = self.server(delay=400)
        self.write("in.jsonl", documents(400, 900))
        child = self.begin(self.llm(server, "concurrency=40"), "-j", 2, "--budget", "3", "-o", "out", "in.jsonl",
                           stderr=-3, stdout=-3)
        news = {}

        def told():
            try:
                news.update(json.loads((self.dir / "out" / "status.json").read_text()))
            except (OSError, ValueError):
                return child.poll() is not None
            return news.get("costs", {}).get("usd_spent", 0) > 0
        self.wait_until("status tells costs", told)
        self.assertEqual(news["costs"]["usd_budget"], 3)
        self.assertGreater(sum(p["calls_out"] for p in news["processes"]), 0)
        text = self.flume("status", "out").out
        if child.poll() is None:
            self.assertRegex(text, r"costs +\d+ calls for \$0\.0")
        child.wait(60 * flume.SLOW)
        self.assertEqual(child.returncode, 0)
        # and when it is over
        spent = self.state()["costs"]
        self.assertRegex(self.flume("status", "out").out, r"costs +400 calls for \$0\.\d+, of \$3\.00\n")
        over = json.loads(self.flume("status", "--json", "out").out)
        self.assertIsNone(over["now"])
        self.assertEqual(over["costs"]["calls"], 400)
        self.assertEqual(over["costs"]["unpriced_calls"], 0)
        self.assertEqual(over["costs"]["usd_budget"], 3)
        self.assertAlmostEqual(over["costs"]["usd_spent"], spent["usd"], 8)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    unittest.main()
