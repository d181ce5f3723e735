# SPDX-License-Identifier: Apache-2.0
"""Answers that are whole but not what was asked for: another content type, a whole answer in place of a stream, an end that is no end, JSON too large to be
checked; and what people are told of them: once, plainly, and with what to do.
ctest: timeout 200"""
import json
import os
import pty
import select
import time
import unittest

from answering import AnswerCase, chat

ESCAPES = "red \x1b[31m bell \a del \x7f c1 \x9b2J osc \x9d0;t\x9c\ttab\nnew é 東"


def finish(reason, text="the beginning"):
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}]}).encode()


def events(*pieces):
    chunks = [{"choices": [{"index": 0, "delta": {"content": p}, "finish_reason": None}]} for p in pieces]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks) + b"data: [DONE]\n\n"


class WrongAnswers(AnswerCase):
    def reject_of(self, out="out"):
        rejects = self.rows(out, "rejects")
        self.assertEqual(len(rejects), 1)
        return rejects[0]["docflume"]

    # ------------------------------------------------------------------ content types

    def test_whole_json_under_a_type_that_cannot_be_json_is_a_bad_answer_that_names_both(self):
        self.documents(1)
        for i, kind in enumerate(("text/html; charset=utf-8", "image/png", "text/event-stream", "application/xml", "json", "multipart/mixed; boundary=x")):
            with self.subTest(kind):
                server = self.server(lambda prompt, kind=kind: (200, {"Content-Type": kind}, chat("fine")))
                self.docflume("-o", f"out{i}", "-j", 1, self.llm(server, "attempts=2"), "in.jsonl", code=3)
                self.assertEqual(len(server.prompts), 2)
                reject = self.reject_of(f"out{i}")
                self.assertIn(kind.split(";")[0], reject["error"])
                self.assertIn('{"choices"', reject["error"])
                self.assertEqual(reject["class"], "parse")

    def test_types_that_servers_of_ones_own_send_are_taken_when_the_json_is_whole(self):
        self.documents(1)
        for i, kind in enumerate((None, "", "application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json", "text/json", "text/plain; charset=utf-8",
                                  "application/octet-stream")):
            with self.subTest(kind):
                server = self.server(lambda prompt, kind=kind: (200, {"Content-Type": kind}, chat("fine")))
                self.docflume("-o", f"out{i}", "-j", 1, self.llm(server, "attempts=1"), "in.jsonl")
                self.assertEqual([r["answer"] for r in self.rows(f"out{i}")], ["fine"])
                server = self.server(lambda prompt, kind=kind: (200, {"Content-Type": kind}, chat("fine")[:-3]))
                self.docflume("-o", f"half{i}", "-j", 1, self.llm(server, "attempts=1"), "in.jsonl", code=3)

    def test_embeddings_and_bodies_of_ones_own_are_judged_by_their_type_too(self):
        vectors = json.dumps({"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": {"prompt_tokens": 1}}).encode()
        self.documents(1)
        for i, (kind, code) in enumerate((("text/html", 3), ("application/json", 0))):
            server = self.server(lambda prompt, kind=kind: (200, {"Content-Type": kind}, vectors))
            url = f"http://127.0.0.1:{server.server_port}/v1"
            self.docflume("-o", f"e{i}", "-j", 1, f"embed model=text-embedding-3-small base_url={url} cache=false attempts=1", "in.jsonl", code=code)
            self.docflume("-o", f"r{i}", "-j", 1, f"request url={url} cache=false attempts=1", "in.jsonl", code=code)
            if code:
                self.assertIn("text/html", self.reject_of(f"e{i}")["error"])
                self.assertIn("text/html", self.reject_of(f"r{i}")["error"])

    def test_what_a_wrong_answer_begins_with_is_shown_short_and_without_controls(self):
        page = b"<html>\x1b[31m\x00\r\n" + b"A" * 5000
        server = self.server(lambda prompt: (200, {"Content-Type": "text/html;" + "x" * 3000}, page))
        self.documents(1)
        self.docflume("-o", "out", "-j", 1, self.llm(server, "attempts=1"), "in.jsonl", code=3)
        reason = self.reject_of()["error"]
        self.assertIn("<html>", reason)
        self.assertLess(len(reason), 400)
        self.assertFalse([c for c in reason if ord(c) < 0x20])

    # ------------------------------------------------------------------ streams

    def stream(self, body, kind, code, name):
        server = self.server(lambda prompt: (200, {"Content-Type": kind}, body))
        self.documents(1)
        result = self.docflume("-o", name, "--stream", self.llm(server, "attempts=1"), "in.jsonl", code=code)
        self.assertTrue(server.bodies[0]["stream"])
        return result

    def test_a_whole_answer_in_place_of_a_stream_is_taken_only_whole(self):
        for i, kind in enumerate(("application/json", None)):
            self.assertEqual(self.stream(chat("all at once"), kind, 0, f"out{i}").out, "all at once\n")
            self.assertEqual([r["answer"] for r in self.rows(f"out{i}")], ["all at once"])
        self.assertEqual(self.stream(b" \n" + chat("all at once"), "application/json", 0, "blank").out, "all at once\n")
        self.assertEqual(self.stream(chat("all at once")[:-2], "application/json", 3, "cut").out, "")
        self.assertIn("not whole JSON", self.reject_of("cut")["error"])
        self.stream(b'{"error":{"message":"no streams here","type":"invalid_request_error"}}', "application/json", 3, "error")
        self.assertIn("no streams here", self.reject_of("error")["error"])
        self.stream(chat("all at once"), "text/html", 3, "html")
        self.assertIn("text/html", self.reject_of("html")["error"])

    def test_a_page_in_place_of_a_stream_is_named(self):
        self.stream(b"<!doctype html><title>Sign in</title>" + b"x" * 4000, "text/html", 3, "page")
        reason = self.reject_of("page")["error"]
        self.assertIn("text/html", reason)
        self.assertIn("<!doctype html>", reason)
        for i, kind in enumerate(("text/event-stream; charset=utf-8", "text/plain", None)):
            self.assertEqual(self.stream(events("a", "b"), kind, 0, f"good{i}").out, "ab\n")

    # ------------------------------------------------------------------ the end of an answer

    def test_only_an_answer_that_was_too_long_may_be_kept_and_others_name_their_reason(self):
        self.documents(1)
        for reason, code, kind in (("length", 0, None), ("content_filter", 3, "unsupported"), ("tool_calls", 3, "unsupported"), ("sensitive\x1b[31m", 3, "unsupported"),
                                   (None, 3, "parse")):
            name = f"out-{str(reason)[:9]}"
            with self.subTest(reason):
                server = self.server(lambda prompt, reason=reason: finish(reason))
                self.docflume("-o", name, "-j", 1, self.llm(server, "truncated=keep attempts=1"), "in.jsonl", code=code)
                if not code:
                    self.assertEqual([r["answer"] for r in self.rows(name)], ["the beginning"])
                    continue
                reject = self.reject_of(name)
                self.assertEqual(reject["class"], kind)
                self.assertIn(str(reason).split("\x1b")[0] if reason else "finish_reason", reject["error"])
                self.assertNotIn("\x1b", reject["error"])

    def test_a_filtered_answer_is_asked_for_again_by_the_next_run(self):
        answers = [finish("content_filter"), chat("fine")]
        server = self.server(lambda prompt: answers[len(server.prompts) > 1])
        self.documents(1)
        pipeline = self.llm(server).replace("cache=false", "")
        self.docflume("-o", "out", "-j", 1, pipeline, "in.jsonl", code=3)
        self.docflume("--resume-failed", "-o", "out", "-j", 1, pipeline, "in.jsonl")
        self.docflume("-o", "again", "-j", 1, pipeline, "in.jsonl")
        self.assertEqual(len(server.prompts), 2)

    # ------------------------------------------------------------------ what people are told

    def test_a_code_is_said_once_and_a_page_of_html_is_not_copied(self):
        self.documents(1)
        cases = ((400, {"error": {"message": "bad thing", "type": "invalid_request_error", "code": "bad_code"}}, 3, ("400", "bad_code", "bad thing")),
                 (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}, 4, ("429", "insufficient_quota")),
                 (401, {"error": {"message": "invalid_api_key: Incorrect API key", "code": "invalid_api_key"}}, 1, ("401", "invalid_api_key", "OPENAI_API_KEY")),
                 (404, {"error": {"message": "no such model", "code": "model_not_found"}}, 1, ("404", "model_not_found")),
                 (402, {"message": "402 Payment Required"}, 4, ("402",)))
        for status, body, code, words in cases:
            with self.subTest(status):
                server = self.server(lambda prompt, status=status, body=body: (status, {}, json.dumps(body).encode()))
                result = self.docflume("-o", f"out{status}", "-j", 1, self.llm(server, "attempts=1"), "in.jsonl", code=code)
                told = self.reject_of(f"out{status}")["error"] if code == 3 else next(line for line in result.err.splitlines() if "error" in line)
                for word in words:
                    self.assertEqual(told.count(word), 1, told)
        page = b"<!DOCTYPE html>\n<html><head><title>502 Bad\nGateway</title></head><body>" + b"nginx " * 99 + b"</body></html>"
        server = self.server(lambda prompt: (502, {"Content-Type": "text/html"}, page))
        self.docflume("-o", "page", "-j", 1, self.llm(server, "attempts=1"), "in.jsonl", code=3)
        reason = self.reject_of("page")["error"]
        self.assertEqual(reason.count("502"), 1, reason)
        self.assertIn("Bad Gateway", reason)
        self.assertNotIn("<", reason)

    def test_a_model_without_a_price_is_named_with_what_to_do(self):
        server = self.server(lambda prompt: chat("fine", (20, 2)))
        self.documents(2)
        pipeline = self.llm(server).replace("gpt-4o-mini", "openai/mine")
        last = self.docflume("-o", "out", "-j", 1, pipeline, "in.jsonl").err.splitlines()[-1]
        self.assertIn("openai/mine", last)
        self.assertIn("models.yaml", last)
        last = self.docflume("-o", "priced", "-j", 1, self.llm(server), "in.jsonl").err.splitlines()[-1]
        self.assertNotIn("models.yaml", last)

    def test_an_option_whose_file_cannot_be_read_is_a_mistake_in_the_command(self):
        self.documents(1)
        (self.dir / "folder").mkdir()
        self.write("big", b"x" * (5 << 20))
        self.write("config/docflume/presets.yaml", b"mine: {prompt: '@gone.txt'}\n")
        for option in ("prompt", "schema", "system"):
            for path in ("missing", "folder", "", "big"):
                with self.subTest((option, path)):
                    prompt = "" if option == "prompt" else "prompt=x"
                    result = self.docflume("-o", "out", f"llm model=fake/any {prompt} {option}=@{path}", "in.jsonl", code=2)
                    self.assertIn(f"'{option}'", result.err)
                    self.assertIn(f"'{path}'" if path else "no name", result.err)
                    self.assertFalse((self.dir / "out").exists())
        result = self.docflume("-o", "out", "llm model=fake/any preset=mine", "in.jsonl", code=2)
        self.assertIn("'prompt'", result.err)
        self.assertIn("/docflume/gone.txt'", result.err)
        result = self.docflume("-o", "out", "--file", "missing.pipe", "in.jsonl", code=2)
        self.assertIn("missing.pipe", result.err)

    # ------------------------------------------------------------------ terminals

    def on_a_terminal(self, pipeline):
        """What the program writes to a terminal, without the terminal's own changes to line ends."""
        ours, theirs = pty.openpty()
        child = self.start("run", "-o", "tty", "--stream", pipeline, "in.jsonl", stdout=theirs, env=self.env)
        os.close(theirs)
        seen, until = b"", time.monotonic() + 60
        while time.monotonic() < until:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
        os.close(ours)
        self.assertEqual(child.wait(60), 0, child.stderr.read())
        return seen.replace(b"\r\n", b"\n").decode()

    def test_a_terminal_is_shown_control_characters_and_a_pipe_gets_them(self):
        pieces = [ESCAPES[i:i + 5] for i in range(0, len(ESCAPES), 5)]
        server = self.server(lambda prompt: (200, {"Content-Type": "text/event-stream"}, events(*pieces)))
        self.documents(1)
        self.assertEqual(self.docflume("-o", "pipe", "--stream", self.llm(server), "in.jsonl").out, ESCAPES + "\n")
        shown = self.on_a_terminal(self.llm(server))
        self.assertEqual(shown, "red ^[[31m bell ^G del ^? c1 M-^[2J osc M-^]0;tM-^\\\ttab\nnew é 東\n")
        self.assertEqual([r["answer"] for r in self.rows("tty")], [ESCAPES])

    def test_json_that_was_checked_is_shown_without_controls_too(self):
        server = self.server(lambda prompt: chat('{"a":"\x9b2J\x7f"}'))
        self.documents(1)
        shown = self.on_a_terminal(self.llm(server, "schema='{}'"))
        self.assertEqual(shown, '{"a":"M-^[2J^?"}\n')

    # ------------------------------------------------------------------ memory

    def peak(self, result):
        line = next(l for l in result.err.splitlines() if "in a worker" in l)
        number, unit = line.split(" in a worker")[0].rsplit(", ", 1)[1].split()
        return float(number) * {"MB": 1, "GB": 1000}[unit]

    def test_json_that_takes_too_much_memory_to_check_rejects_its_document_alone(self):
        numbers, small = chat("[" + "1," * (8 << 20) + "1]"), chat("[1]")
        server = self.server(lambda prompt: numbers if prompt == "document 1" else small)
        self.documents(6)
        result = self.docflume("-o", "out", "-j", 1, self.llm(server, "repair=2 schema='{\"type\":\"array\"}'"), "in.jsonl", code=3)
        self.assertEqual(len(server.prompts), 6)
        self.assertEqual(len(self.rows("out")), 5)
        reject = self.reject_of()
        self.assertEqual(reject["class"], "limit")
        self.assertIn("MB", reject["error"])
        self.assertLess(self.peak(result), 600)

    def test_a_long_string_in_json_is_checked_and_written(self):
        text = "x" * (16 << 20)
        server = self.server(lambda prompt: chat(json.dumps({"a": text})))
        self.documents(3)
        result = self.docflume("-o", "out", "-j", 1, self.llm(server, "schema='{\"required\":[\"a\"]}'"), "in.jsonl")
        self.assertEqual([len(r["answer"]["a"]) for r in self.rows("out")], [len(text)] * 3)
        self.assertLess(self.peak(result), 700)


if __name__ == "__main__":
    unittest.main()
