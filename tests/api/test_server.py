# SPDX-License-Identifier: Apache-2.0
"""api_server keeps its word: answers, streams, limits to the request, faults as told, counts. With http.client alone.
ctest: plain
ctest: timeout 120"""
import base64
import calendar
import concurrent.futures
import gzip
import http.client
import json
import os
import socket
import struct
import sys
import time
import unittest
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api  # noqa: E402

CHAT, EMBED = "v1/chat/completions", "v1/embeddings"


class Case(unittest.TestCase):
    maxDiff = 2000
    options = {}

    def setUp(self):
        self.server = api.Server(log=True, **self.options).start()
        self.addCleanup(self.server.stop)

    def post(self, path, body, headers=None, **options):
        status, heads, content = self.server.ask("POST", self.server.path(path, **options), body, headers)
        return status, heads, json.loads(content) if content[:1] in (b"{", b"[") else content

    def chat(self, text="the sea is deep", headers=None, **options):
        return self.post(CHAT, api.chat(text), headers, **options)

    def raw(self, path, body, timeout=5):
        """Everything that comes until the server closes, and how that ended: 'eof', 'reset' or 'silent'."""
        body = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=timeout) as s:
            s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
            got = b""
            try:
                while piece := s.recv(65536):
                    got += piece
                return got, "eof"
            except ConnectionResetError:
                return got, "reset"
            except socket.timeout:
                return got, "silent"


def events(body, eol=b"\n"):
    """Server-sent events as [(type, data)]."""
    found = []
    for block in body.split(eol * 2):
        lines = [line.decode() for line in block.split(eol) if line]
        data = "\n".join(line[6:] for line in lines if line.startswith("data: "))
        kind = next((line[7:] for line in lines if line.startswith("event: ")), "message")
        if lines:
            found.append((kind, data))
    return found


class Answers(Case):
    def test_chat_is_a_function_of_the_request(self):
        status, heads, first = self.chat("the sea is deep")
        again, other = self.chat("the sea is deep")[2], self.chat("the sea is not deep")[2]
        self.assertEqual(status, 200)
        self.assertEqual(heads["content-type"], "application/json")
        self.assertEqual(first, again)
        text = first["choices"][0]["message"]["content"]
        self.assertRegex(text, r"^h[0-9a-f]{16} the sea is deep$")
        self.assertNotEqual(text.split()[0], other["choices"][0]["message"]["content"].split()[0])
        self.assertEqual(first["choices"][0]["finish_reason"], "stop")
        self.assertEqual(first["usage"]["prompt_tokens"], 4)
        self.assertEqual(first["usage"]["completion_tokens"], 5)

    def test_text_survives_escapes(self):
        text = 'quote " backslash \\ tab \t line\n\u00e9\u6771 \U0001f600 end'
        answer = self.chat(text)[2]["choices"][0]["message"]["content"]
        self.assertEqual(answer.split()[1:], text.split()[:8])

    def test_max_tokens_cuts(self):
        answer = self.post(CHAT, api.chat("one two three four", max_tokens=3))[2]
        self.assertEqual(len(answer["choices"][0]["message"]["content"].split()), 3)
        self.assertEqual((answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]), ("length", 3))

    def test_tokens_go_round(self):
        answer = self.chat("one two", tokens=7)[2]
        self.assertEqual(answer["choices"][0]["message"]["content"].split()[1:], "one two one two one two".split())

    def test_vectors_are_units_and_base64_is_the_same(self):
        body = {"model": "m", "input": ["a", "b", "c"], "dimensions": 96}
        plain = self.post(EMBED, body)[2]
        packed = self.post(EMBED, {**body, "encoding_format": "base64"})[2]
        self.assertEqual([d["index"] for d in plain["data"]], [0, 1, 2])
        for a, b in zip(plain["data"], packed["data"]):
            vector = struct.unpack("<96f", base64.b64decode(b["embedding"]))
            self.assertEqual(vector, struct.unpack("<96f", struct.pack("<96f", *a["embedding"])))
            self.assertAlmostEqual(sum(v * v for v in vector), 1, 4)
        self.assertEqual(plain["usage"], {"prompt_tokens": 3, "total_tokens": 3})

    def test_shuffled_vectors_carry_their_index(self):
        body = {"model": "m", "input": [f"text {i}" for i in range(37)], "dimensions": 4}
        plain, mixed = self.post(EMBED, body)[2]["data"], self.post(EMBED, body, shuffle=1)[2]["data"]
        self.assertNotEqual([d["index"] for d in mixed], list(range(37)))
        self.assertEqual(sorted(mixed, key=lambda d: d["index"]), plain)

    def test_token_arrays_are_inputs(self):
        answer = self.post(EMBED, {"model": "m", "input": [[1, 2, 3], [4]], "dimensions": 4})[2]
        self.assertEqual((len(answer["data"]), answer["usage"]["prompt_tokens"]), (2, 4))
        self.assertEqual(len(self.post(EMBED, {"model": "m", "input": [1, 2, 3], "dimensions": 4})[2]["data"]), 1)

    def test_bad_requests_are_refused(self):
        for body in ({"model": "m", "input": ""}, {"model": "m", "input": []}, {"model": "m", "input": ["a", ""]}, {"input": "a"},
                     {"model": "m", "input": ["a"] * 2049}, {"model": "m", "input": ["w " * 150001] * 2}):
            self.assertEqual(self.post(EMBED, body)[0], 400, str(body)[:60])
        self.assertEqual(self.post(CHAT, b"{\"model\":")[0], 400)
        self.assertEqual(self.post(CHAT, {"model": "m", "messages": []})[0], 400)
        self.assertEqual(self.post("v1/nothing", {})[0], 404)
        self.assertEqual(self.chat(no_such_option=1)[0], 400)
        self.assertIn("no_such_option", self.chat(no_such_option=1)[2]["error"]["message"])
        self.assertEqual(self.chat("this has POISON in it", bad="POISON")[0], 400)
        self.assertEqual(self.chat("a b c d", context=3)[2]["error"]["code"], "context_length_exceeded")

    def test_schema_is_answered_and_broken_when_asked(self):
        schema = {"type": "object", "required": ["name", "n", "tags"], "additionalProperties": False, "properties": {
            "name": {"type": "string"}, "n": {"type": "integer", "minimum": 3}, "kind": {"enum": ["x", "y"]},
            "tags": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/tag"}}}, "$defs": {"tag": {"type": "boolean"}}}
        body = api.chat("doc", response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})

        def value():
            return json.loads(self.post(CHAT, body, invalid=2)[2]["choices"][0]["message"]["content"])
        self.assertEqual([set(value()), set(value())], [{"unexpected"}] * 2)
        good = value()
        self.assertEqual({k: good[k] for k in ("n", "kind", "tags")}, {"n": 3, "kind": "x", "tags": [True, True]})

    def test_other_providers_forms(self):
        turns = [{"role": "user", "content": "the sea"}]
        answer = self.post("v1/messages", {"model": "c", "max_tokens": 9, "system": "be brief", "messages": turns})[2]
        self.assertRegex(answer["content"][0]["text"], "^h.* the sea$")
        self.assertEqual((answer["stop_reason"], answer["usage"]["input_tokens"]), ("end_turn", 4))
        self.assertEqual(self.post("v1/messages", {"model": "c", "messages": turns})[0], 400)
        answer = self.post("v1/responses", {"model": "g", "input": "the sea"})[2]
        self.assertRegex(answer["output"][0]["content"][0]["text"], "^h.* the sea$")
        answer = self.post("v2/chat", {"model": "c", "messages": turns})[2]
        self.assertEqual(answer["usage"]["billed_units"], {"input_tokens": 2, "output_tokens": 3})
        answer = self.post("v1beta/models/g-2:generateContent", {"contents": [{"role": "user", "parts": [{"text": "the sea"}]}]})[2]
        self.assertEqual((answer["candidates"][0]["finishReason"], answer["modelVersion"]), ("STOP", "g-2"))
        answer = self.post("api/chat", {"model": "l", "stream": False, "messages": turns})[2]
        self.assertTrue(answer["done"] and answer["message"]["content"].endswith("the sea"))
        self.assertEqual(len(self.post("embed", {"inputs": ["a", "b"]})[2][1]), 384)
        self.assertEqual(len(self.post("api/embed", {"model": "l", "input": "a"})[2]["embeddings"][0]), 384)
        answer = self.post("v2/embed", {"model": "c", "texts": ["a", "b"], "output_dimension": 8, "embedding_types": ["float"]})[2]
        self.assertEqual([len(v) for v in answer["embeddings"]["float"]], [8, 8])
        one = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8}
        self.assertEqual(len(self.post("v1beta/models/e:embedContent", one)[2]["embedding"]["values"]), 8)
        answer = self.post("v1beta/models/e:batchEmbedContents", {"requests": [one, one]})[2]
        self.assertEqual([len(e["values"]) for e in answer["embeddings"]], [8, 8])

    def test_bodies_may_be_packed_or_in_chunks(self):
        status, heads, body = self.server.ask("POST", self.server.path(CHAT, gzip=1), api.chat("a"), {"Accept-Encoding": "gzip"})
        self.assertEqual((status, heads["content-encoding"]), (200, "gzip"))
        self.assertEqual(json.loads(gzip.decompress(body)), self.chat("a", chunked=1)[2])

    def test_connections_are_kept_and_pipelining_is_tolerated(self):
        body = json.dumps(api.chat("a")).encode()
        one = b"POST /delay=5/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as s:
            s.sendall(one * 20 + one[:30])
            time.sleep(0.05)
            s.sendall(one[30:])
            got = b""
            while got.count(b"chat.completion") < 21:
                got += s.recv(65536)
        self.assertEqual(self.server.stats()["answers"], {"200": 21})

    def test_key_is_required(self):
        for name, value in (("Authorization", "Bearer s3"), ("x-api-key", "s3"), ("x-goog-api-key", "s3")):
            self.assertEqual(self.chat(headers={name: value}, key="s3")[0], 200)
        self.assertEqual(self.chat(key="s3")[0], 401)
        self.assertEqual(self.chat(headers={"Authorization": "Bearer s3x"}, key="s3")[0], 401)
        self.assertEqual(self.server.stats()["unauthorized"], 2)

    def test_options_come_by_header_too(self):
        self.assertEqual(self.chat(headers={"x-api-test": "faults=503:1"})[0], 503)
        self.assertEqual(self.chat()[0], 200)


class Streams(Case):
    def stream(self, path=CHAT, body=None, **options):
        return self.server.ask("POST", self.server.path(path, **options), body or api.chat("the sea", stream=True))

    def test_openai_stream_is_whole(self):
        body = api.chat("the sea", stream=True, stream_options={"include_usage": True})
        status, heads, content = self.stream(body=body)
        found = [data for _, data in events(content)]
        self.assertTrue(status == 200 and heads["content-type"].startswith("text/event-stream"))
        self.assertEqual(found[-1], "[DONE]")
        chunks = [json.loads(data) for data in found[:-1]]
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        self.assertEqual(text, self.chat("the sea")[2]["choices"][0]["message"]["content"])
        self.assertEqual((chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]), ([], 3))
        self.assertEqual(chunks[-2]["choices"][0]["finish_reason"], "stop")

    def test_usage_comes_only_when_asked_for(self):
        self.assertNotIn(b"usage", self.stream()[2])

    def test_line_ends(self):
        plain = events(self.stream()[2])
        self.assertEqual(events(self.stream(eol="crlf")[2], b"\r\n"), plain)
        self.assertEqual(events(self.stream(eol="cr")[2], b"\r"), plain)

    def test_anthropic_stream_is_whole(self):
        body = {"model": "c", "max_tokens": 99, "stream": True, "messages": [{"role": "user", "content": "the sea"}]}
        found = [(kind, json.loads(data)) for kind, data in events(self.stream("v1/messages", body)[2])]
        self.assertTrue(all(kind == data["type"] for kind, data in found))
        kinds = [kind for kind, _ in found]
        self.assertEqual(kinds, ["message_start", "content_block_start", "ping"] + ["content_block_delta"] * 3 +
                         ["content_block_stop", "message_delta", "message_stop"])
        self.assertRegex("".join(d["delta"]["text"] for k, d in found if k == "content_block_delta"), "^h.{16} the sea$")
        self.assertEqual(found[-2][1]["usage"]["output_tokens"], 3)

    def test_the_others_streams_are_json(self):
        turns = [{"role": "user", "content": "the sea"}]
        for path, body in (("v2/chat", {"model": "c", "stream": True, "messages": turns}),
                           ("v1/responses", {"model": "c", "stream": True, "input": "the sea"}),
                           ("v1beta/models/g:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "the sea"}]}]})):
            found = [json.loads(data) for _, data in events(self.stream(path, body)[2])]
            self.assertIn(" sea", json.dumps(found), path)
        lines = [json.loads(line) for line in self.stream("api/chat", {"model": "c", "messages": turns})[2].splitlines()]
        self.assertEqual([line["done"] for line in lines], [False] * 3 + [True])

    def test_tokens_come_at_their_times(self):
        start = time.time_ns()
        body = self.stream(delay=100, gap=20, tokens=6, stamp=1)[2]
        tokens = [json.loads(data)["choices"][0]["delta"].get("content", "") for _, data in events(body)[:-1]]
        stamps = [int(t) for t in tokens if t]
        self.assertEqual(len(stamps), 6)
        times = [(s - start) / 1e6 for s in stamps]
        for i, t in enumerate(times):
            self.assertGreaterEqual(t, 100 + 20 * i - 0.1)
            self.assertLess(t, 1000 + 20 * i)  # on a machine that is busy with other tests

    def test_streams_end_badly_as_told(self):
        for fault in ("streamcut", "streamerror", "badsse"):
            content = self.stream(faults=fault + ":1", tokens=10)[2]
            self.assertEqual(b"[DONE]" in content, fault == "badsse", fault)
        self.assertIn('"error"', events(self.stream(faults="streamerror:1")[2])[-1][1])
        with self.assertRaises(http.client.IncompleteRead):
            self.stream(faults="streamclose:1", tokens=10)


class Limits(Case):
    def pace(self, n, gap_s, **options):
        """Statuses of n requests, each gap_s after the answer before it: a machine that is busy makes gaps longer, never shorter."""
        statuses = []
        for i in range(n):
            time.sleep(gap_s if i else 0)
            statuses.append(self.chat(f"text {i}", **options)[0])
        return statuses

    def test_bucket_holds_its_burst_and_fills_evenly(self):
        self.assertEqual(self.pace(15, 0, limit="bucket", rpm=6, burst=10), [200] * 10 + [429] * 5)
        self.assertEqual(self.pace(10, 0.105, limit="bucket", rpm=600, burst=1), [200] * 10)
        stats = self.server.stats()
        self.assertEqual((stats["violations"], stats["answers"]), (5, {"200": 20, "429": 5}))

    def test_bucket_lets_nothing_through_early(self):
        options = {"limit": "bucket", "rpm": 600, "burst": 2}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            deadline = time.monotonic() + 1.5

            def hammer(_):
                while time.monotonic() < deadline:
                    self.chat(**options)
            list(pool.map(hammer, range(8)))
        taken = sorted(line["arrive_ns"] for line in self.server.log() if line["status"] == 200)
        self.assertGreaterEqual(len(taken), 14)
        for i in range(2, len(taken)):
            allowed = 2 + (taken[i] - taken[0]) / 1e8
            self.assertLessEqual(i + 1, allowed + 1e-3)

    def test_sliding_window_has_no_edge(self):
        options = {"limit": "sliding", "rpm": 20, "scale": 120}  # a minute of 0.5 s
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            deadline = time.monotonic() + 1.8

            def hammer(_):
                while time.monotonic() < deadline:
                    self.chat(**options)
            list(pool.map(hammer, range(4)))
        taken = sorted(line["arrive_ns"] for line in self.server.log() if line["status"] == 200)
        self.assertGreaterEqual(len(taken), 60)
        for i in range(20, len(taken)):
            self.assertGreaterEqual(taken[i] - taken[i - 20], 500_000_000)
        self.assertEqual(self.server.stats()["accepted_minute_max"], 20)

    def test_fixed_window_begins_anew(self):
        options = {"limit": "fixed", "rpm": 5, "scale": 60}
        refused = 0
        while self.chat(**options)[0] == 200:  # until a window is used up
            pass
        start = time.monotonic()
        while self.chat(**options)[0] == 429:
            refused += 1
        self.assertLess(time.monotonic() - start, 2)
        self.assertGreater(refused, 0)
        self.assertLessEqual(self.server.stats()["accepted_minute_max"], 10)

    def test_tokens_a_minute_and_days(self):
        self.assertEqual(self.pace(4, 0, limit="sliding", tpm=15), [200] * 3 + [429])  # 2 in, 3 out
        self.assertEqual(self.pace(4, 0, rpd=3), [200] * 3 + [429])
        self.assertEqual(self.pace(4, 0, tpd=12), [200] * 2 + [429] * 2)
        self.assertEqual(self.server.stats()["violations_by"],
                         {"requests": 0, "tokens": 1, "day_requests": 1, "day_tokens": 2, "concurrency": 0})

    def test_limits_are_of_a_key_and_a_model(self):
        for headers, model, status in (({}, "a", 200), ({}, "a", 429), ({}, "b", 200), ({"x-api-key": "2"}, "a", 200)):
            self.assertEqual(self.post(CHAT, api.chat("t", model), headers, limit="sliding", rpm=1)[0], status)

    def test_concurrency(self):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            statuses = list(pool.map(lambda i: self.chat(f"{i}", concurrency=4, delay=300)[0], range(6)))
        self.assertEqual(sorted(statuses), [200] * 4 + [429] * 2)
        self.assertEqual(self.chat(concurrency=4, delay=300)[0], 200)

    def test_not_enforced_is_counted(self):
        self.assertEqual(self.pace(5, 0, limit="sliding", rpm=2, enforce=0), [200] * 5)
        self.assertEqual(self.server.stats()["violations"], 3)

    def test_openai_headers(self):
        options = {"limit": "bucket", "rpm": 60, "burst": 2, "tpm": 6000}
        heads = self.chat(**options)[1]
        self.assertEqual((heads["x-ratelimit-limit-requests"], heads["x-ratelimit-remaining-requests"]), ("60", "1"))
        self.assertEqual((heads["x-ratelimit-limit-tokens"], heads["x-ratelimit-remaining-tokens"]), ("6000", "5991"))
        self.chat(**options)
        status, heads, body = self.chat(**options)
        self.assertEqual((status, body["error"]["code"], heads["retry-after"]), (429, "rate_limit_exceeded", "1"))
        self.assertTrue(500 < int(heads["retry-after-ms"]) <= 1000, heads)
        self.assertRegex(heads["x-ratelimit-reset-requests"], r"^(1\.9\d*|2)s$")
        self.assertEqual(self.chat(limit="sliding", rpm=300, told_rpm=600)[1]["x-ratelimit-limit-requests"], "600")
        self.chat(limit="bucket", rpm=0.1, burst=1)
        self.assertRegex(self.chat(limit="bucket", rpm=0.1, burst=1)[1]["x-ratelimit-reset-requests"], "^(10m0s|9m5[0-9])")

    def test_anthropic_headers(self):
        body = {"model": "c", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
        options = {"limit": "fixed", "rpm": 1}
        heads = self.post("v1/messages", body, **options)[1]
        reset = calendar.timegm(time.strptime(heads["anthropic-ratelimit-requests-reset"], "%Y-%m-%dT%H:%M:%SZ"))
        self.assertTrue(-1 <= reset - time.time() <= 61)
        self.assertEqual(heads["anthropic-ratelimit-requests-remaining"], "0")
        status, heads, answer = self.post("v1/messages", body, **options)
        self.assertEqual((status, answer["error"]["type"]), (429, "rate_limit_error"))
        self.assertTrue(0 < int(heads["retry-after"]) <= 60)
        self.assertNotIn("retry-after-ms", heads)

    def test_early_retries_are_counted(self):
        options = {"limit": "bucket", "rpm": 300, "burst": 1}
        self.chat("a", **options)
        wait = int(self.chat("b", **options)[1]["retry-after-ms"]) / 1000
        self.chat("b", **options)
        self.assertEqual(self.server.stats()["early_retries"], 1)
        time.sleep(wait + 0.21)
        self.assertEqual(self.chat("b", **options)[0], 200)
        self.assertEqual(self.server.stats()["early_retries"], 1)


class Faults(Case):
    def test_nth_every_and_first(self):
        seen = [self.chat("t", faults="500@2+503*3")[0] for _ in range(6)]
        self.assertEqual(seen, [200, 500, 503, 200, 200, 503])
        seen = [self.chat(text, faults="409~2")[0] for text in "aabab"]
        self.assertEqual(seen, [409, 409, 409, 200, 409])

    def test_chances_are_exact_and_repeat_by_seed(self):
        def round_trip():
            self.server.reset()
            return [self.chat(f"t{i}", faults="429:0.1+500:0.2", seed=7)[0] for i in range(1000)]
        first = round_trip()
        self.assertEqual(first, round_trip())
        self.assertTrue(70 <= first.count(429) <= 130 and 160 <= first.count(500) <= 240, (first.count(429), first.count(500)))

    def test_connections_break_as_told(self):
        def path(fault):
            return self.server.path(CHAT, faults=fault + ":1")
        ask = api.chat("word " * 30)
        whole = int(self.chat("word " * 30)[1]["content-length"])
        self.assertEqual(self.raw(path("reset"), ask), (b"", "reset"))
        self.assertEqual(self.raw(path("close"), ask), (b"", "eof"))
        self.assertEqual(self.raw(path("stall"), ask, 0.5), (b"", "silent"))
        got, end = self.raw(path("cuthead"), ask)
        self.assertTrue(got.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" not in got and end == "eof")
        for fault, ends in (("cut", "eof"), ("cutreset", "reset"), ("stallbody", "silent")):
            got, end = self.raw(path(fault), ask, 0.5)
            self.assertEqual(end, ends, fault)
            if ends != "reset":  # a reset may overtake what was sent
                self.assertEqual(len(got.split(b"\r\n\r\n")[1]), whole // 2, fault)

    def test_slow_loris(self):
        start = time.monotonic()
        self.assertEqual(self.chat("a", faults="slow:1", slow_ms=1)[0], 200)
        self.assertGreater(time.monotonic() - start, 0.35)

    def test_bodies_are_wrong_as_told(self):
        path = self.server.path
        status, heads, body = self.server.ask("POST", path(CHAT, faults="badjson:1"), api.chat("a"))
        self.assertEqual(status, 200)
        with self.assertRaises(ValueError):
            json.loads(body)
        self.assertEqual(self.server.ask("POST", path(CHAT, faults="empty:1"), api.chat("a"))[2], b"")
        self.assertEqual(self.chat(faults="wrong:1")[2], {"hello": "world"})
        self.assertEqual(self.server.ask("POST", path(CHAT, faults="html:1"), api.chat("a"))[1]["content-type"], "text/html")
        self.assertEqual(self.chat(faults="type:1")[1]["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(len(self.post(EMBED, {"model": "m", "input": ["a", "b"]}, faults="fewer:1")[2]["data"]), 1)
        status, _, answer = self.chat(faults="quota:1")
        self.assertEqual((status, answer["error"]["code"]), (429, "insufficient_quota"))
        self.assertEqual(self.chat(faults="503:1", fault_retry_ms=1500)[1]["retry-after-ms"], "1500")

    def test_only_one_model_fails(self):
        options = {"faults": "503:1", "fault_model": "ill"}
        self.assertEqual(self.post(CHAT, api.chat("a", "ill"), **options)[0], 503)
        self.assertEqual(self.post(CHAT, api.chat("a", "well"), **options)[0], 200)

    def test_gzip_bomb_unpacks_a_thousandfold(self):
        got, end = self.raw(self.server.path(CHAT, faults="gzipbomb:1", endless_mb=256), api.chat("a"))
        head, chunks = got.split(b"\r\n\r\n", 1)
        self.assertTrue(b"Content-Encoding: gzip" in head and end == "eof", head)
        body = b""
        while chunks:
            size, rest = chunks.split(b"\r\n", 1)
            body, chunks = body + rest[:int(size, 16)], rest[int(size, 16) + 2:]
        unpack, n = zlib.decompressobj(31), 0
        for at in range(0, len(body), 4096):
            piece = unpack.decompress(body[at:at + 4096])
            self.assertEqual(piece.strip(b" "), b"")
            n += len(piece)
        self.assertTrue(n > 190 << 20 and n > 1000 * len(body), (n, len(body)))

    def test_endless_body_goes_on(self):
        for fault in ("endless", "huge"):
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
            connection.request("POST", self.server.path(CHAT, faults=fault + ":1"), json.dumps(api.chat("a")))
            answer = connection.getresponse()
            self.assertEqual(answer.headers["content-length"], str(10240 << 20) if fault == "huge" else None)
            self.assertEqual(len(answer.read(100 << 20)), 100 << 20)
            answer.close()
            connection.close()
        self.assertEqual(self.chat()[0], 200)


class Counts(Case):
    def test_paid_twice_is_seen(self):
        for text in ("a", "b", "a"):
            self.chat(text)
        self.chat("c", faults="500:1")
        self.chat("c", faults="wrong:1")
        stats = self.server.stats()
        self.assertEqual((stats["requests"], stats["texts"], stats["texts_paid"]), (5, 3, 2))
        self.assertEqual((stats["paid_twice"], stats["paid_extra"]), (1, 1))
        self.assertEqual([(t["head"], t["paid"]) for t in self.server.texts(True)], [("a", 2)])
        self.assertEqual((stats["tokens_in"], stats["tokens_out"]), (3, 6))
        self.assertAlmostEqual(stats["usd"], 15e-6)

    def test_who_goes_away_is_counted(self):
        self.raw(self.server.path(CHAT, delay=400), api.chat("gone"), 0.1)
        time.sleep(0.1)
        stats = self.server.stats()
        self.assertEqual((stats["gone"], stats["in_flight"], stats["tokens_in"], stats["tokens_gone"]), (1, 0, 0, 3))

    def test_thousands_of_connections(self):
        body = json.dumps(api.chat("a")).encode()
        one = b"POST /delay=300/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        socks = [socket.create_connection(("127.0.0.1", self.server.port), timeout=20) for _ in range(1500)]
        for s in socks:
            s.sendall(one)
        for s in socks:
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 200"))
            s.close()
        self.assertEqual(self.server.stats()["answers"], {"200": 1500})
        self.assertGreater(self.server.stats()["max_in_flight"], 500)

    def test_log_tells_times(self):
        self.chat("doc-17 text", delay=50)
        line = self.server.log()[-1]
        self.assertEqual((line["status"], line["head"], line["end"]), (200, "doc-17 text", "sent"))
        self.assertTrue(50 <= (line["end_ns"] - line["arrive_ns"]) / 1e6 < 100)
        self.assertLess(abs(line["wall_ns"] / 1e9 - time.time()), 2)

    def test_it_ends_with_its_standard_input_and_by_signal(self):
        self.assertEqual(self.server.stop(), 0)
        other = api.Server().start()
        other.process.terminate()
        self.assertEqual(other.process.wait(5), 0)
        other.stop()


class Batches(Case):
    def upload(self, lines, purpose="batch"):
        body = "".join(json.dumps(line) + "\n" for line in lines)
        form = ("--XyZ\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n%s\r\n--XyZ\r\nContent-Disposition: form-data; "
                "name=\"file\"; filename=\"in.jsonl\"\r\nContent-Type: application/jsonl\r\n\r\n%s\r\n--XyZ--\r\n" % (purpose, body))
        status, _, answer = self.server.ask("POST", "/v1/files", form.encode(), {"Content-Type": "multipart/form-data; boundary=XyZ"})
        answer = json.loads(answer)
        self.assertEqual(status, 200 if purpose == "batch" else 400, answer)
        return answer

    def lines(self, n):
        return [{"custom_id": f"id-{i}", "method": "POST", "url": "/v1/chat/completions", "body": api.chat(f"text {i}")} for i in range(n)]

    def batch(self, lines, **options):
        body = {"input_file_id": self.upload(lines)["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return self.post("v1/batches", body, **options)[2]

    def look(self, batch, **options):
        return json.loads(self.server.ask("GET", self.server.path("v1/batches/" + batch["id"], **options))[2])

    def content(self, name):
        return [json.loads(line) for line in self.server.ask("GET", f"/v1/files/{name}/content")[2].splitlines()]

    def test_a_batch_is_answered(self):
        options = {"batch_ms": 300}
        batch = self.batch(self.lines(40), **options)
        self.assertEqual((batch["status"], batch["output_file_id"], batch["request_counts"]["total"]), ("validating", None, 40))
        time.sleep(0.1)
        self.assertEqual(self.look(batch, **options)["status"], "in_progress")
        time.sleep(0.25)
        batch = self.look(batch, **options)
        self.assertEqual((batch["status"], batch["error_file_id"]), ("completed", None))
        out = self.content(batch["output_file_id"])
        ids = [line["custom_id"] for line in out]
        self.assertEqual(sorted(ids), sorted(f"id-{i}" for i in range(40)))
        self.assertNotEqual(ids, [f"id-{i}" for i in range(40)])
        for line in out:
            self.assertTrue(line["response"]["body"]["choices"][0]["message"]["content"].endswith("text " + line["custom_id"][3:]))
        self.assertEqual(self.server.stats()["texts_paid"], 40)

    def test_expired_cancelled_failed(self):
        batch = self.look(self.batch(self.lines(100), batch_done=0.5, bad="99"), batch_done=0.5, bad="99")
        out, errors = self.content(batch["output_file_id"]), self.content(batch["error_file_id"])
        self.assertEqual((batch["status"], len(out) + len(errors)), ("expired", 100))
        self.assertTrue(30 < len(out) < 70)
        self.assertLessEqual({e["error"]["code"] for e in errors if e["error"]}, {"batch_expired"})
        batch = self.batch(self.lines(5), batch_ms=60000)
        status, _, batch = self.post(f"v1/batches/{batch['id']}/cancel", b"", batch_ms=60000)
        self.assertEqual((status, batch["status"]), (200, "cancelled"))
        self.assertEqual({e["error"]["code"] for e in self.content(batch["error_file_id"])}, {"batch_cancelled"})
        twice = self.lines(2) + self.lines(1)
        batch = self.batch(twice)
        self.assertEqual(batch["status"], "failed")
        self.assertIn("comes twice", batch["errors"]["data"][0]["message"])
        self.upload([], purpose="assistants")

    def test_files_are_deleted_and_unknown_ones_told(self):
        name = self.upload(self.lines(1))["id"]
        self.assertEqual(len(self.content(name)), 1)
        self.assertTrue(json.loads(self.server.ask("DELETE", "/v1/files/" + name)[2])["deleted"])
        self.assertEqual(self.server.ask("GET", "/v1/files/" + name)[0], 404)

    def test_big_uploads_with_100_continue(self):
        lines = self.lines(20000)
        for line in lines:
            line["body"]["messages"][0]["content"] += " word" * 100
        batch = self.batch(lines)
        self.assertEqual(self.look(batch)["request_counts"]["completed"], 20000)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as s:
            body = json.dumps(api.chat("a")).encode()
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertEqual(s.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(body)
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 200"))


if __name__ == "__main__":
    unittest.main()
