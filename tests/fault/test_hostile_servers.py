# SPDX-License-Identifier: Apache-2.0
"""Servers that answer what they should not, and keys where they do not belong, through the whole program: a budget is kept whatever answers say they cost,
one answer's size is one document's matter, and no secret is written down.
ctest: timeout 200"""
import json
import os
import unittest

from answering import AnswerCase, chat

SECRET = "s3cr3t-planted-9988"


class Hostile(AnswerCase):
    # ------------------------------------------------------------------ money

    def test_a_budget_is_kept_for_texts_of_one_byte_a_token(self):
        server = self.server(lambda prompt: chat("y", (len(prompt) + 8, 1)))
        self.documents(200, "7 " * 2000)
        self.docflume("-o", "out", "-j", 2, "--budget", "0.02", self.llm(server, "max_tokens=1 concurrency=100"), "in.jsonl", code=4)
        self.assertLessEqual(sum((len(p) + 8) * 0.15e-6 + 0.6e-6 for p in server.prompts), 0.02)
        self.assertGreater(len(server.prompts), 10)

    def test_a_budget_is_kept_though_answers_do_not_tell_what_they_cost(self):
        for usage in (None, (100, 0)):
            with self.subTest(usage):
                server = self.server(lambda prompt, usage=usage: chat("y" * 1000, usage))
                self.documents(100, "7 " * 500)
                self.docflume("-o", f"out{usage}", "-j", 1, "--budget", "0.01", self.llm(server, "max_tokens=1000 concurrency=10"), "in.jsonl", code=4)
                self.assertLessEqual(sum(len(p) * 0.15e-6 + 1000 * 0.6e-6 for p in server.prompts), 0.01)

    def test_a_budget_without_a_bound_of_answers_sends_nothing_and_says_what_to_give(self):
        server = self.server(lambda prompt: chat("fine", (20, 2)))
        self.documents(3)
        self.write("config/docflume/models.yaml", b"models: [{id: openai/mine, price_in: 1, price_out: 2}]\n")
        pipeline = self.llm(server).replace("gpt-4o-mini", "openai/mine")
        result = self.docflume("-o", "out", "-j", 1, "--budget", 1, pipeline, "in.jsonl", code=4)
        self.assertIn("max_tokens=", result.err)
        self.assertEqual(server.prompts, [])
        self.docflume("-o", "bounded", "-j", 1, "--budget", 1, pipeline + " max_tokens=10", "in.jsonl")

    def test_a_request_that_an_old_connection_swallowed_is_counted_and_paid_for(self):
        seen = {}
        closed = []

        def answer(prompt, handler):
            connection = handler.client_address
            seen[connection] = seen.get(connection, 0) + 1
            if seen[connection] == 2:  # read, billed, and closed without a byte
                closed.append(prompt)
                handler.close_connection = True
                return None
            return chat("fine", (20, 2))
        server = self.server(answer)
        self.documents(20)
        self.docflume("-o", "out", "-j", 1, self.llm(server, "concurrency=1 max_tokens=1000"), "in.jsonl")
        self.assertEqual(len(self.rows("out")), 20)
        self.assertGreater(len(closed), 5)
        spans = [json.loads(line) for line in (self.dir / "out" / "trace.jsonl").read_text().splitlines()]
        self.assertEqual(len([s for s in spans if s["kind"] == "attempt" or "last_start_ns" in s]), len(server.prompts))
        costs = json.loads((self.dir / "out" / "run.json").read_text())["costs"]
        self.assertGreaterEqual(costs["usd"], len(closed) * 1000 * 0.6e-6)

    # ------------------------------------------------------------------ answers

    def test_an_answer_that_is_too_long_is_paid_for_once_and_rejects_its_document_alone(self):
        huge, small = chat("x" * (70 << 20)), chat("fine")
        server = self.server(lambda prompt: huge if prompt == "document 1" else small)
        self.documents(8)
        self.docflume("-o", "out", "-j", 1, self.llm(server), "in.jsonl", code=3)
        self.assertEqual(len(server.prompts), 8)
        self.assertEqual(sorted(row["id"] for row in self.rows("out")), [f"d{i}" for i in range(8) if i != 1])
        rejects = self.rows("out", "rejects")
        self.assertEqual([(r["id"], r["docflume"]["class"]) for r in rejects], [("d1", "limit")])

    def test_what_a_schema_did_not_see_is_not_written(self):
        schema = '{"type":"object","required":["a"],"properties":{"a":{"type":"integer","maximum":9}}}'
        answers = ['{"a":1,"a":"evil"}', '{"a":"evil","a":1}', '{"a":1,"\\u0061":"evil"}', '{"a":1} {"a":"evil"}', '{"a":NaN}', '{"a":1e999}',
                   '{"a":1,"b":"\\ud800"}', '{"a":1,"b":"\0"}', '{"a":1/*evil*/}', '\ufeff{"a":1}', '{"a":1,"b":' + "[" * 5000 + "]" * 5000 + "}",
                   '{"a":9.00000000000000000000000001}']
        server = self.server(lambda prompt: chat(answers[int(prompt.split()[1])]))
        self.documents(len(answers))
        self.docflume("-o", "out", "-j", 1, self.llm(server, f"repair=0 attempts=1 schema='{schema}'"), "in.jsonl", code=3)
        self.assertEqual(self.rows("out"), [])
        self.assertEqual(len(self.rows("out", "rejects")), len(answers))

    def test_a_server_that_asks_for_a_week_stops_the_run_and_no_other(self):
        for status in (503, 429):
            with self.subTest(status):
                first = []

                def answer(prompt, first=first, status=status):
                    first.append(prompt)
                    return (status, {"Retry-After": "604800"}, b"{}") if len(first) == 1 else chat("fine")
                server = self.server(answer)
                self.documents(3)
                command = ("-o", f"out{status}", "-j", 1, self.llm(server), "in.jsonl")
                result = self.docflume(*command, code=4)
                self.assertIn("168 h", result.err)
                self.docflume(*command)
                self.assertEqual(len(self.rows(f"out{status}")), 3)

    def test_an_answer_that_did_not_fit_is_asked_for_again_by_the_next_run(self):
        answers = ['{"a":"bad"}', '{"a":1}']
        server = self.server(lambda prompt: chat(answers[len(server.prompts) > 1]))
        self.documents(1)
        pipeline = self.llm(server, 'repair=0 schema=\'{"properties":{"a":{"type":"integer"}}}\'').replace("cache=false", "")
        self.docflume("-o", "out", "-j", 1, pipeline, "in.jsonl", code=3)
        self.docflume("--resume-failed", "-o", "out", "-j", 1, pipeline, "in.jsonl")
        self.docflume("-o", "again", "-j", 1, pipeline, "in.jsonl")
        self.assertEqual([row["answer"] for row in self.rows("again")], [{"a": 1}])
        self.assertEqual(len(server.prompts), 2)

    def test_a_message_of_long_characters_leaves_json_behind_and_the_run_goes_on(self):
        for status in (400, 401):
            for before in range(4):
                with self.subTest((status, before)):
                    answers = [(status, {}, json.dumps({"error": {"message": "x" * before + "\u6f22" * 300}}, ensure_ascii=False).encode()), chat("fine")]
                    server = self.server(lambda prompt, answers=answers: answers[0])
                    self.documents(1)
                    out = f"out{status}{before}"
                    command = ("-o", out, "-j", 1, self.llm(server), "in.jsonl")
                    self.docflume(*command, code=3 if status == 400 else 1)
                    for path in (self.dir / out).glob("*.json*"):
                        for line in path.read_bytes().decode().splitlines() if path.suffix == ".jsonl" else [path.read_bytes().decode()]:
                            json.loads(line)
                    if status == 401:
                        del answers[0]
                        self.docflume(*command)
                        self.assertEqual(len(self.rows(out)), 1)

    # ------------------------------------------------------------------ secrets

    def test_a_secret_in_a_url_is_refused_before_it_is_written_anywhere(self):
        self.documents(1)
        for pipeline in (f"llm model=gpt-4o-mini prompt=x base_url=http://user:{SECRET}@127.0.0.1:1/v1",
                         f"llm model=gpt-4o-mini prompt=x base_url=http://127.0.0.1:1/v1?key={SECRET}",
                         f"embed model=text-embedding-3-small base_url=http://user:{SECRET}@127.0.0.1:1/v1",
                         f"request url=http://user:{SECRET}@127.0.0.1:1/v1", f"request url=http://127.0.0.1:1/v1?key={SECRET}"):
            with self.subTest(pipeline):
                self.docflume("-o", "out", "-v", pipeline, "in.jsonl", code=2)
                self.assertFalse((self.dir / "out").exists())
        for path in self.dir.rglob("*"):
            self.assertFalse(path.is_file() and SECRET.encode() in path.read_bytes(), path)

    def test_a_key_file_that_is_missing_or_readable_by_others_is_an_error_and_nothing_is_sent(self):
        server = self.server(lambda prompt: chat("fine"))
        self.documents(1)
        path = self.dir / "key"
        for mode in (None, 0o644, 0o620, 0o600):
            if mode:
                path.write_text(SECRET + "\n")
                os.chmod(path, mode)
            with self.subTest(mode):
                result = self.docflume("-o", f"out{mode}", "-v", self.llm(server), "in.jsonl", code=0 if mode == 0o600 else 1, OPENAI_API_KEY="", OPENAI_API_KEY_FILE=str(path))
                self.assertEqual(len(server.prompts), 1 if mode == 0o600 else 0)
                self.assertNotIn(SECRET, result.err)


if __name__ == "__main__":
    unittest.main()
