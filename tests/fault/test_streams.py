# SPDX-License-Identifier: Apache-2.0
"""Streams of every provider's form through the whole program: whole however they are split, and never passed as whole when they are cut.
ctest: timeout 200"""
import concurrent.futures
import json
import socket
import threading
import time
import unittest

from answering import AnswerCase
from flume import SLOW

TEXT = ["Grüße ", "aus ", "☂ der ", "Röhre."]
WHOLE = "".join(TEXT)


def sse(*events):
    out = b""
    for e in events:
        if isinstance(e, dict) and "type" in e:
            out += b"event: " + e["type"].encode() + b"\n"
        out += b"data: " + (e if isinstance(e, str) else json.dumps(e, ensure_ascii=False)).encode() + b"\n\n"
    return out


def delta(content, finish=None):
    return {"choices": [{"index": 0, "delta": content, "finish_reason": finish}]}


def cohere(kind, message):
    return {"type": kind, "index": 0, "delta": {"message": message}}


OPENAI = sse(*[delta({"content": t}) for t in TEXT], delta({}, "stop"),
             {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}, "[DONE]")
FORMS = {
    "openai": ("/v1", OPENAI),
    "mistral": ("/v1", sse(*[delta({"content": t}) for t in TEXT],
                           {**delta({"content": ""}, "stop"), "usage": {"prompt_tokens": 5, "completion_tokens": 9}}, "[DONE]")),
    "responses": ("/v1", sse({"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
                             *[{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": t} for t in TEXT],
                             {"type": "response.completed", "response": {
                                 "id": "r", "status": "completed", "usage": {"input_tokens": 5, "output_tokens": 9},
                                 "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": WHOLE}]}]}})),
    "anthropic": ("", sse({"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 5, "output_tokens": 1}}},
                          {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, {"type": "ping"},
                          *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}} for t in TEXT],
                          {"type": "content_block_stop", "index": 0},
                          {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}, {"type": "message_stop"})),
    "gemini": ("/v1beta", sse(*[{"candidates": [{"content": {"parts": [{"text": t}]}, "index": 0}]} for t in TEXT[:-1]],
                              {"candidates": [{"content": {"parts": [{"text": TEXT[-1]}]}, "finishReason": "STOP", "index": 0}],
                               "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 9}})),
    "cohere": ("/v2", sse(cohere("message-start", {"role": "assistant"}), cohere("content-start", {"content": {"type": "text", "text": ""}}),
                          *[cohere("content-delta", {"content": {"text": t}}) for t in TEXT], {"type": "content-end", "index": 0},
                          {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 5, "output_tokens": 9}}}})),
    "ollama": ("", b"".join(json.dumps(x, ensure_ascii=False).encode() + b"\n" for x in
                            [*[{"message": {"role": "assistant", "content": t}, "done": False} for t in TEXT],
                             {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 9}])),
}


def chunked(pieces, end=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces if p) + end


class Streams(AnswerCase):
    def setUp(self):
        super().setUp()
        self.write("in.jsonl", b'{"id":"d","text":"hello"}\n')
        self.env.update({name + "_API_KEY": "k" for name in ("ANTHROPIC", "GEMINI", "COHERE", "MISTRAL")})
        self.number = 0

    def raw_server(self, form, sends, hangs=0):
        """Answers each request with a head and the bytes of `sends`, as they are, then closes (after `hangs` seconds)."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.addCleanup(listening.close)
        kind = b"application/x-ndjson" if form == "ollama" else b"text/event-stream"
        seen = []

        def serve():
            while True:
                try:
                    c = listening.accept()[0]
                except OSError:
                    return
                with c:
                    got = b""
                    while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                        got += c.recv(65536)
                    seen.append(got)
                    try:
                        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
                        for piece in sends:
                            c.sendall(piece)
                        time.sleep(hangs)
                    except OSError:
                        pass
        threading.Thread(target=serve, daemon=True).start()
        return listening.getsockname()[1], seen

    def stream(self, form, sends, more="", hangs=0):
        port, seen = self.raw_server(form, sends, hangs)
        self.number += 1
        out = f"out{self.number}"
        stage = f"llm model={form}/any base_url=http://127.0.0.1:{port}{FORMS[form][0]} prompt={{{{text}}}} max_tokens=100 cache=false attempts=1 {more}"
        result = self.flume("run", stage, "-j", 1, "-o", out, "--stream", "in.jsonl", env=self.env, timeout=60)
        return result, [row["answer"] for row in self.rows(out)], len(seen)

    def together(self, cases):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return [(label, f.result()) for label, f in [(label, pool.submit(self.stream, *args)) for label, *args in cases]]

    def test_every_form_is_whole_however_it_comes(self):
        cases = []
        for form, (_, body) in FORMS.items():
            cases.append(((form, "bytes"), form, [chunked([body[i:i + 1] for i in range(len(body))])]))
            cases.append(((form, "crlf"), form, [chunked([body.replace(b"\n", b"\r\n")], b"0\r\nX-Trailer: 1\r\nContent-Length: 3\r\n\r\n")]))
            if form != "ollama":
                nasty = b"\xef\xbb\xbf: hi\n\n" + body.replace(b"\n\n", b"\n: c\nretry: 5\nid: 7\n\n:\n\n")
                cases.append(((form, "cr, comments"), form, [chunked([nasty.replace(b"\n", b"\r")])]))
        for label, (result, answers, _) in self.together(cases):
            self.assertEqual((result.code, result.out, answers), (0, WHOLE + "\n", [WHOLE]), (label, result.err))

    def test_no_form_is_whole_when_it_is_cut_however_politely(self):
        cases = []
        for form, (_, body) in FORMS.items():
            n, last = len(body), body.rstrip().rfind(b"\n" if form == "ollama" else b"\n\n")
            for cut in (n // 3, 2 * n // 3, last, last + 2):
                cases.append(((form, cut, "closed"), form, [chunked([body[:cut]], b"")]))
                cases.append(((form, cut, "ended"), form, [chunked([body[:cut]])]))
        for label, (result, answers, asked) in self.together(cases):
            self.assertEqual((result.code, answers, asked), (3, [], 1), (label, result.err))
            self.assertTrue(WHOLE.startswith(result.out.rstrip("\n")), (label, result.out))

    def test_a_server_that_does_not_hang_up_behind_the_end_is_not_waited_for(self):
        began = time.monotonic()
        result, answers, _ = self.stream("openai", [chunked([OPENAI], b"")], "timeout=50s", 40)
        self.assertEqual((result.code, answers), (0, [WHOLE]), result.err)
        self.assertLess(time.monotonic() - began, 2 + 6 * SLOW)

    def test_an_event_that_never_ends_rejects_its_document_with_the_reason(self):
        mega = chunked([b"x" * (1 << 20)], b"")
        result, answers, asked = self.stream("openai", [chunked([b"data: "], b"")] + [mega] * 40)
        self.assertEqual((result.code, answers, asked), (3, [], 1), result.err)
        self.assertIn("an event of the stream has more than 16 MB", result.err)

    def test_a_stream_of_more_than_one_document_asks_nobody(self):
        port, seen = self.raw_server("openai", [chunked([OPENAI])])
        self.write("two.jsonl", b'{"id":"a","text":"x"}\n{"id":"b","text":"y"}\n')
        stage = f"llm model=openai/any base_url=http://127.0.0.1:{port}/v1 prompt={{{{text}}}} cache=false"
        result = self.flume("run", stage, "-j", 1, "-o", "two", "--stream", "two.jsonl", env=self.env)
        self.assertEqual((result.code, result.out, len(seen)), (1, "", 0), result.err)
        self.assertIn("the input has more", result.err)
        result = self.flume("run", stage, "-j", 1, "-o", "one", "--stream", "--limit", 1, "two.jsonl", env=self.env)
        self.assertEqual((result.code, result.out, len(seen)), (0, WHOLE + "\n", 1), result.err)


if __name__ == "__main__":
    unittest.main()
