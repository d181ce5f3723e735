# SPDX-License-Identifier: Apache-2.0
# ctest: timeout 120
"""`docflume trace`: the table, the form for Perfetto, and a small OpenTelemetry receiver that is as strict as the real ones."""
import email.utils
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from flume import SLOW, Case, children_of, coordinator_of, wait_until  # noqa: E402

RUN = "00000000deadbeef"
T0 = 1700000000 * 10**9
PLANTED = "sk-planted-7f3c9a"


def span(i, **more):
    row = {"span": "%016x" % (i + 1), "parent": "%016x" % (10**6 + i % 50), "run": RUN, "pid": 100 + i % 3, "kind": "call",
           "name": "chat gpt-4o-mini", "doc": "d%03d" % (i % 50), "stage": "llm", "model": "gpt-4o-mini", "provider": "openai",
           "start_ns": T0 + i * 10**6, "duration_ns": 5 * 10**6, "queue_ns": 10**6, "attempts": 1, "status": 200, "in": 100,
           "out": 10, "usd": 0.00002, "class": "ok"}
    row.update(more)
    return json.dumps(row, separators=(",", ":"))


class Receiver(http.server.BaseHTTPRequestHandler):
    """OTLP/HTTP JSON. `script` says how requests are answered, one entry each: a status, or (status, headers, body)."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        s = self.server
        with s.lock:
            s.seen.append((self.path, dict(self.headers), body))
            answer = s.script.pop(0) if s.script else 200
        status, headers, text = answer if isinstance(answer, tuple) else (answer, {}, b"{}")
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        if status == 200:  # before the answer: who has it looks at once
            with s.lock:
                s.taken.append(json.loads(body))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


def any_value(v):
    """One member of AnyValue, of the right JSON type."""
    assert len(v) == 1, v
    key, x = next(iter(v.items()))
    kinds = {"stringValue": str, "boolValue": bool, "intValue": str, "doubleValue": (int, float)}
    assert isinstance(x, kinds[key]), v
    return int(x) if key == "intValue" else x


def checked_spans(requests):
    """All spans of ExportTraceServiceRequests, each as (span, {attribute: value}), after checking the shape."""
    spans = []
    for request in requests:
        assert set(request) == {"resourceSpans"}
        for resource in request["resourceSpans"]:
            names = {a["key"]: any_value(a["value"]) for a in resource["resource"]["attributes"]}
            assert names["service.name"] == "docflume"
            for scope in resource["scopeSpans"]:
                assert scope["scope"]["name"] == "docflume"
                assert 0 < len(scope["spans"]) <= 512
                for s in scope["spans"]:
                    assert re.fullmatch("[0-9a-f]{32}", s["traceId"]) and int(s["traceId"], 16)
                    assert re.fullmatch("[0-9a-f]{16}", s["spanId"]) and int(s["spanId"], 16)
                    assert re.fullmatch("[0-9a-f]{16}", s.get("parentSpanId", "0" * 16))
                    assert isinstance(s["startTimeUnixNano"], str) and isinstance(s["endTimeUnixNano"], str)
                    assert int(s["endTimeUnixNano"]) >= int(s["startTimeUnixNano"]) > 10**18
                    assert s["kind"] in (1, 3) and s["name"]
                    assert set(s) <= {"traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano",
                                      "endTimeUnixNano", "attributes", "status"}
                    spans.append((s, {a["key"]: any_value(a["value"]) for a in s["attributes"]}))
    return spans


class Receivers(Case):
    def receiver(self, *script):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        server.lock, server.seen, server.taken, server.script = threading.Lock(), [], [], list(script)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server, "http://127.0.0.1:%d" % server.server_port


class Trace(Receivers):
    def trace_file(self, n=1300, tail=""):
        # documents: their parents are not in the file and must be made
        self.write("run/trace.jsonl", "\n".join(span(i) for i in range(n)) + "\n" + tail)

    def test_the_table_tells_calls_latency_tokens_and_money(self):
        self.trace_file(100, tail=span(5000, **{"class": "rate", "status": 429}) + "\n" + span(6000)[:77])
        result = self.flume("trace", "run")
        self.assertEqual(result.code, 0, result.err)
        rows = [line.split() for line in result.out.splitlines() if line.startswith("gpt-4o-mini")]
        self.assertEqual([row[1:4] for row in rows], [["ok", "100", "0"], ["rate", "1", "0"]])
        self.assertIn("0.002000", rows[0])
        self.assertIn("1 lines of the trace are torn", result.out)

    def test_a_chrome_trace_is_one_json_with_an_event_for_each_span(self):
        self.trace_file(200, tail=span(9999)[:50])
        result = self.flume("trace", "run", "--chrome", "out.json")
        self.assertEqual((result.code, result.out), (0, ""), result.err)
        trace = json.loads((self.dir / "out.json").read_text())
        events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
        self.assertEqual(sum(e["cat"] == "call" for e in events), 200)
        self.assertEqual(sum(e["cat"] == "document" for e in events), 50)
        self.assertEqual(sum(e["cat"] == "run" for e in events), 1)
        self.assertEqual(self.flume("trace", "run", "--chrome", "-").out, (self.dir / "out.json").read_text())

    def test_every_span_reaches_the_receiver_once_in_requests_of_512(self):
        self.trace_file(1300)
        server, url = self.receiver()
        result = self.flume("trace", "run", "--otlp", url)
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual({path for path, _, _ in server.seen}, {"/v1/traces"})
        self.assertEqual({h["Content-Type"] for _, h, _ in server.seen}, {"application/json"})
        spans = checked_spans(server.taken)
        ids = [s["spanId"] for s, _ in spans]
        self.assertEqual(len(ids), len(set(ids)))
        calls = [(s, a) for s, a in spans if a["docflume.kind"] == "call"]
        self.assertEqual(len(calls), 1300)
        for s, a in calls:
            self.assertEqual((s["kind"], a["gen_ai.operation.name"], a["gen_ai.provider.name"], a["gen_ai.request.model"],
                              a["gen_ai.usage.input_tokens"], a["gen_ai.usage.output_tokens"]),
                             (3, "chat", "openai", "gpt-4o-mini", 100, 10))
        self.assertEqual(len({s["traceId"] for s, _ in spans}), 1)
        # every parent is there, and exactly one span has none
        self.assertEqual({s["parentSpanId"] for s, _ in spans if "parentSpanId" in s} - set(ids), set())
        self.assertEqual(sum("parentSpanId" not in s for s, _ in spans), 1)
        before = sorted(ids)
        self.flume("trace", "run", "--otlp", url + "/v1/traces")
        self.assertEqual(sorted(s["spanId"] for s, _ in checked_spans(server.taken)), sorted(before * 2))

    def test_a_receiver_that_is_busy_is_asked_again_and_not_before_it_says(self):
        self.trace_file(10)
        server, url = self.receiver(503, (429, {"Retry-After": "1"}, b""))
        result = self.flume("trace", "run", "--otlp", url)
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(len(server.seen), 3)
        self.assertEqual(len({body for _, _, body in server.seen}), 1)
        self.assertEqual(len([1 for s, a in checked_spans(server.taken) if a["docflume.kind"] == "call"]), 10)

    def test_a_date_in_retry_after_holds_too(self):
        self.trace_file(10)
        server, url = self.receiver((503, {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}, b""))
        began = time.monotonic()
        self.assertEqual(self.flume("trace", "run", "--otlp", url).code, 0)
        self.assertGreater(time.monotonic() - began, 0.95)
        self.assertEqual(len(server.seen), 2)

    def test_what_a_receiver_says_cannot_reach_the_terminal_raw(self):
        self.trace_file(10)
        words = json.dumps({"partialSuccess": {"rejectedSpans": 7, "errorMessage": "a\nb\x1b[31m\u009bc\x7f"}}).encode()
        server, url = self.receiver((200, {}, words), (200, {}, words.replace(b"7", b"0")))
        self.assertIn("rejected 7 of them: a b [31m  c \n", self.flume("trace", "run", "--otlp", url).err)
        self.assertIn("the receiver says: a b [31m  c \n", self.flume("trace", "run", "--otlp", url).err)
        server.script[:] = [(200, {}, words)]
        result = self.flume("run", "llm model=fake/any prompt=x", "-o", "out", "--cache", "no", "--otlp", url, stdin=b'{"id":"d","text":"t"}\n')
        self.assertRegex(result.err, "rejected 7 spans: a b .31m  c")

    def test_a_refusal_says_what_to_do_and_how_far_it_came(self):
        self.trace_file(1300)
        for status, headers, words in ((401, {}, "OTEL_EXPORTER_OTLP_HEADERS"), (307, {"Location": "http://x/"}, "redirect"),
                                       (429, {"Retry-After": "3600"}, "in 3600 s"), (404, {}, "'/v1/traces'")):
            _, url = self.receiver(200, (status, headers, b""))
            result = self.flume("trace", "run", "--otlp", url)
            self.assertEqual(result.code, 1, result.err)
            self.assertIn(words, result.err)
            self.assertIn("status %d" % status, result.err)
            self.assertIn("512 spans are sent", result.err)

    def test_a_refusal_is_told_and_not_tried_again(self):
        self.trace_file(10)
        server, url = self.receiver(400)
        result = self.flume("trace", "run", "--otlp", url)
        self.assertEqual(result.code, 1)
        self.assertIn("status 400", result.err)
        self.assertEqual(len(server.seen), 1)

    def test_spans_that_the_receiver_rejects_are_counted(self):
        self.trace_file(10)
        words = json.dumps({"partialSuccess": {"rejectedSpans": "4", "errorMessage": "too old"}}).encode()
        _, url = self.receiver((200, {}, words))
        result = self.flume("trace", "run", "--otlp", url)
        self.assertEqual(result.code, 0, result.err)
        self.assertIn("rejected 4 of them: too old", result.err)

    def test_headers_come_from_the_environment_and_are_never_told(self):
        self.trace_file(10)
        server, url = self.receiver(400, 200)
        env = {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=%s%%20b, other=2" % PLANTED, "OPENAI_API_KEY": PLANTED}
        told = ""
        for args in (["run", "--otlp", url + "/v1/traces?k=" + PLANTED], ["run", "--otlp", url],
                     ["run", "--otlp", url.replace("//", "//user:%s@" % PLANTED)], ["run", "--chrome", "-"], ["run"]):
            result = self.flume("trace", *args, env=env)
            told += result.out + result.err
            self.assertEqual(result.code, 2 if "@" in args[-1] else 1 if "?" in args[-1] else 0, result.err)
        self.assertEqual(len(server.seen), 2)
        self.assertNotIn(PLANTED, told)
        self.assertEqual(server.seen[-1][1]["x-key"], PLANTED + " b")
        self.assertEqual(server.seen[-1][1]["other"], "2")
        self.assertTrue(all(PLANTED.encode() not in body for _, _, body in server.seen))
        bad = self.flume("trace", "run", "--otlp", url, env={"OTEL_EXPORTER_OTLP_HEADERS": "x-key=%s%%0d%%0aevil:1" % PLANTED})
        self.assertEqual(bad.code, 2, bad.err)
        self.assertNotIn(PLANTED, bad.err)

    def test_what_cannot_be_is_told_with_its_reason(self):
        for args, code, words in ((["nowhere"], 1, "there is no trace"), ([], 2, "one run directory"),
                                  (["run", "--otlp", "localhost:4318"], 2, "http://"),
                                  (["run", "--otlp", "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
                                  (["run", "--chrome", "/nowhere/x"], 1, "/nowhere/x")):
            self.trace_file(3)
            result = self.flume("trace", *args)
            self.assertEqual(result.code, code, (args, result.err))
            self.assertIn(words, result.err)


    def test_a_document_that_two_stages_ask_about_is_one(self):
        self.write("in.jsonl", "".join('{"id":"d%d","text":"x"}\n' % i for i in range(30)))
        pipeline = "llm model=fake/any prompt='{{id}}' | llm model=fake/any prompt='{{text}}' output=more"
        self.assertEqual(self.flume("run", pipeline, "-o", "out", "--cache", "no", "in.jsonl").code, 0)
        self.assertIn("60 calls of 30 documents", self.flume("trace", "out").out)

    def test_attempts_are_inside_their_calls_and_calls_inside_their_documents(self):
        self.write("in.jsonl", "".join('{"id":"d%d","text":"x"}\n' % i for i in range(3000)))
        pipeline = "llm model='fake/any?delay=3ms' prompt='{{id}}'"
        self.assertEqual(self.flume("run", pipeline, "-j", 2, "-o", "out", "--cache", "no", "in.jsonl").code, 0)
        self.assertEqual(self.flume("trace", "out", "--chrome", "c.json").code, 0)
        events = [e for e in json.loads((self.dir / "c.json").read_text())["traceEvents"] if e["ph"] == "X"]
        lanes = {}
        for e in events:
            lanes.setdefault((e["pid"], e["tid"]), []).append(e)
        attempts = inside = 0
        for lane in lanes.values():
            open_ones = []
            for e in sorted(lane, key=lambda e: (e["ts"], -e["dur"])):
                while open_ones and open_ones[-1]["ts"] + open_ones[-1]["dur"] <= e["ts"]:
                    open_ones.pop()
                attempts += e["cat"] == "attempt"
                inside += e["cat"] == "attempt" and [o["cat"] for o in open_ones[-2:]] == ["document", "call"]
                open_ones.append(e)
        self.assertEqual((attempts, inside), (3000, 3000))


class Silent(Case):
    """A receiver that does not answer: the run is over, and so is the wait soon."""

    def silent(self):
        """Accepts whatever comes (the kernel does it), and never says a word."""
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        s.listen(16)
        self.addCleanup(s.close)
        return "http://127.0.0.1:%d" % s.getsockname()[1]

    def pipeline(self, out, url):
        self.write("in.jsonl", "".join('{"id":"d%d","text":"x"}\n' % i for i in range(20)))
        return ["run", "llm model=fake/any prompt='{{id}}'", "-o", out, "--cache", "no", "--otlp", url, "in.jsonl"]

    def test_a_receiver_that_never_answers_holds_up_a_finished_run_for_its_patience_alone(self):
        began = time.monotonic()
        result = self.flume(*self.pipeline("out", self.silent()), env={"OTEL_EXPORTER_OTLP_TIMEOUT": "1500"})
        took = time.monotonic() - began
        self.assertEqual(result.code, 0, result.err)
        self.assertRegex(result.err, "the trace was not sent: .*docflume trace --otlp URL out")
        self.assertLess(took, 1.5 + 4 * SLOW)
        self.assertGreater(took, 1.4)
        self.assertEqual(json.loads((self.dir / "out/run.json").read_text())["state"], "finished")
        again = self.flume("trace", "out", "--otlp", self.silent(), env={"OTEL_EXPORTER_OTLP_TIMEOUT": "300"})
        self.assertEqual(again.code, 1, again.err)

    def test_without_a_word_about_it_the_patience_is_ten_seconds(self):
        began = time.monotonic()
        result = self.flume(*self.pipeline("out", self.silent()))
        self.assertEqual(result.code, 0, result.err)
        self.assertIn("was not sent", result.err)
        self.assertLess(time.monotonic() - began, 10 + 4 * SLOW)

    def test_a_signal_ends_the_wait_at_once_and_the_run_keeps_its_code(self):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            out = "out-%d" % sig
            child = self.start(*self.pipeline(out, self.silent()))

            def finished():
                path = self.dir / out / "run.json"
                return path.exists() and json.loads(path.read_text())["state"] == "finished"
            self.assertTrue(wait_until(finished, 20))
            self.assertTrue(wait_until(lambda: not children_of(child.pid) and coordinator_of(child.pid) is None))
            time.sleep(0.3)
            self.assertIsNone(child.poll())
            began = time.monotonic()
            child.send_signal(sig)
            err = child.communicate(timeout=20)[1].decode()
            self.assertLess(time.monotonic() - began, 1 * SLOW)
            self.assertEqual(child.returncode, 0, err)
            self.assertRegex(err, "was not sent: a signal")

    def test_a_receiver_that_is_not_there_costs_two_seconds(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d" % s.getsockname()[1]
        began = time.monotonic()
        result = self.flume(*self.pipeline("out", url))
        self.assertEqual(result.code, 0, result.err)
        self.assertIn("was not sent", result.err)
        self.assertLess(time.monotonic() - began, 2 + 3 * SLOW)

    def test_an_address_that_is_none_is_refused_before_anything_is_done(self):
        for url in ("nonsense", "ftp://localhost", "http://", "http://:4318", "http://localhost:0", "http://localhost:99999",
                    "http://local host:1", "http://a:b:c", "http://[::1", "http://me:%s@localhost:4318" % PLANTED,
                    "localhost:4318"):
            for command in (self.pipeline("out", url), ["trace", "out", "--otlp", url]):
                result = self.flume(*command)
                self.assertEqual(result.code, 2, (url, result.err))
                self.assertNotIn(PLANTED, result.err)
            self.assertFalse((self.dir / "out").exists(), url)
        for name, value in (("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"), ("OTEL_EXPORTER_OTLP_HEADERS", "x")):
            result = self.flume(*self.pipeline("out", "http://localhost:4318"), env={name: value})
            self.assertEqual(result.code, 2, result.err)
            self.assertIn(name, result.err)
            self.assertFalse((self.dir / "out").exists())


class Api(http.server.BaseHTTPRequestHandler):
    """An OpenAI that answers every second request with 500, with secrets in headers and bodies."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.seen.append((dict(self.headers), body))
            bad = len(self.server.seen) % 2 == 1
        answer = {"error": {"message": "no, planted-error", "code": "planted-code"}} if bad else {
            "id": "x", "object": "chat.completion", "model": "any", "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "planted-answer"}}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}}
        text = json.dumps(answer).encode()
        self.send_response(500 if bad else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Planted", "planted-header")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


class Planted(Receivers):
    def test_no_key_header_prompt_or_answer_is_in_any_form_of_a_trace(self):
        api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        api.lock, api.seen = threading.Lock(), []
        threading.Thread(target=api.serve_forever, daemon=True).start()
        self.addCleanup(api.server_close)
        self.addCleanup(api.shutdown)
        receiver, url = self.receiver()
        self.write("in.jsonl", "".join('{"id":"d%d","text":"planted-prompt %d"}\n' % (i, i) for i in range(6)))
        env = {"OPENAI_API_KEY": PLANTED, "OPENAI_ORG_ID": "planted-org", "DOCFLUME_LIMITS": str(self.dir / "limits"),
               "OTEL_EXPORTER_OTLP_HEADERS": "x-token=planted-token"}
        stage = "llm model=openai/any base_url=http://127.0.0.1:%d/v1 prompt='planted-question {{text}}' system=planted-system"
        result = self.flume("run", stage % api.server_port, "-j", 1, "-o", "out", "--cache", "cache", "--otlp",
                            url, "-v", "in.jsonl", env=env)
        self.assertEqual(result.code, 0, result.err)
        told = {"stderr": result.err.encode(), "trace.jsonl": (self.dir / "out/trace.jsonl").read_bytes(),
                "otlp": b"".join(body for _, _, body in receiver.seen)}
        for form in (["--chrome", "-"], ["--summary"]):
            told[form[0]] = self.flume("trace", "out", *form, env=env).out.encode()
        # they were there to be found
        self.assertTrue(any(PLANTED in str(headers) for headers, _ in api.seen))
        self.assertTrue(any(b"planted-question" in body for _, body in api.seen))
        self.assertIn(b"planted-answer", (self.dir / "out/part-00000.jsonl").read_bytes())
        self.assertGreater(len(receiver.seen), 0)
        for form, text in told.items():
            # -v tells the user's own pipeline, in which the question stands
            words = ["answer", "header", "org", "token"] if form == "stderr" else [""]
            for secret in [PLANTED] + ["planted-" + word for word in words]:
                self.assertNotIn(secret.encode(), text, form)
        # calls with their attempts, of which some failed
        rows = [json.loads(line) for line in told["trace.jsonl"].splitlines()]
        calls = [r for r in rows if r["kind"] == "call"]
        self.assertEqual((len(calls), {r["class"] for r in calls}), (6, {"ok"}))
        self.assertGreaterEqual({r["class"] for r in rows if r["kind"] == "attempt" or "last_start_ns" in r}, {"ok", "retry"})
        ids = {r["span"] for r in calls}
        self.assertTrue(all(r["parent"] in ids for r in rows if r["kind"] == "attempt"))
        spans = checked_spans(receiver.taken)
        self.assertEqual(sum(a["docflume.kind"] == "call" for _, a in spans), 6)
        # and the key is in no file of the run or the cache
        for path in self.dir.rglob("*"):
            if path.is_file():
                self.assertNotIn(PLANTED.encode(), path.read_bytes(), path)


if __name__ == "__main__":
    unittest.main()
