# SPDX-License-Identifier: Apache-2.0
"""Batch mode through the whole program against tests/api: rows as run makes them, caps of files, money, request lines of others.
ctest: timeout 200"""
import json
import unittest

from batchcase import BatchCase


class Batch(BatchCase):
    # ------------------------------------------------------------------ what comes out

    def test_rows_are_those_of_run_in_the_order_of_the_input_and_run_finds_all_in_the_cache(self):
        self.documents(230)
        with self.server(batch_ms=100) as server:
            pipeline = self.llm(server.url())
            self.batch(pipeline, "--file-lines", 50)
            stats = server.stats()
            self.assertEqual((stats["batches"], stats["files"], stats["batch_lines"], stats["paid_twice"]), (5, 5, 230, 0))
            self.assert_as_run(pipeline, server)
        rows = self.rows()
        self.assertEqual([row["id"] for row in rows], [f"d{i}" for i in range(230)])
        state = self.state()
        self.assertEqual((state["state"], state["counts"]["in"], state["counts"]["out"]), ("finished", 230, 230))
        self.assertEqual([f["lines"] for f in state["files"]], [50, 50, 50, 50, 30])

    def test_what_the_cache_has_is_not_sent(self):
        self.documents(40)
        self.documents(10, "first.jsonl")
        with self.server() as server:
            pipeline = self.llm(server.url())
            self.flume("run", "-o", "first", pipeline, "first.jsonl", env=self.env)
            self.batch(pipeline)
            self.assertEqual(server.stats()["batch_lines"], 30)
            self.assertEqual(server.stats()["paid_twice"], 0)
        self.assertEqual(len(self.rows()), 40)
        self.assertEqual(self.state()["counts"]["cached"], 10)

    def test_stages_before_behind_and_two_models_in_a_row_need_a_round_each(self):
        self.documents(30)
        with self.server() as server:
            pipeline = (f"clean min_chars=18 | a={self.llm(server.url(), 'output=first')} | b=llm model=gpt-4o "
                        f"base_url={server.url()} prompt='again {{{{first}}}}' output=second | lower")
            self.batch(pipeline)
            self.assert_as_run(pipeline, server)
        rows = self.rows()
        self.assertEqual(len(rows), 20)  # "document number 7" has 17 characters
        self.assertTrue(all(row["first"] and row["second"] for row in rows))
        state = self.state()
        self.assertEqual((state["round"], state["counts"]["filtered"]), (2, 10))
        self.assertEqual([f["model"] for f in state["files"]], ["gpt-4o-mini", "gpt-4o"])

    def test_chunks_compressed_inputs_csv_and_bad_lines_go_as_in_run(self):
        import gzip
        self.documents(3)
        self.write("z.jsonl.gz", gzip.compress(b'{"id":"z1","text":"one two three four five six"}\n{"id":\nnot json\n'))
        self.write("t.csv", "id,text\nc1,a row of a table\n")
        inputs = ("in.jsonl", "z.jsonl.gz", "t.csv")
        with self.server() as server:
            pipeline = "chunk chars=10 overlap=0 | " + self.llm(server.url())
            self.batch(pipeline, inputs=inputs, code=3)
            self.assert_as_run(pipeline, server, inputs)
        counts = self.state()["counts"]
        self.assertEqual((counts["in"], counts["out"], counts["rejected"]), (7, 5, 2))
        self.assertEqual(len(self.rows(name="rejects")), 2)

    def test_equal_asks_are_one_line_and_an_empty_input_is_no_batch(self):
        self.write("in.jsonl", b'{"id":"a","text":"same"}\n' * 20)
        self.write("none.jsonl", b"")
        with self.server() as server:
            self.batch(self.llm(server.url()))
            self.assertEqual(server.stats()["batch_lines"], 1)
            self.batch(self.llm(server.url()), out="none", inputs=("none.jsonl",))
            self.assertEqual(server.stats()["batches"], 1)
        self.assertEqual(len(self.rows()), 20)

    def test_an_answer_that_the_schema_refuses_goes_back_in_the_next_round(self):
        self.documents(20)
        self.write("s.json", json.dumps({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}},
                                         "additionalProperties": False}, indent=1))
        with self.server(invalid=1) as server:
            self.batch(self.llm(server.url(), "schema=@s.json repair=1"))
            self.assertEqual(server.stats()["batch_lines"], 40)
        self.assertEqual(self.state()["round"], 2)
        for row in self.rows():
            self.assertIsInstance(row["answer"]["n"], int)
        lines = [json.loads(line) for line in self.bytes_of("out/requests-00001.jsonl").splitlines()]
        self.assertEqual(len(lines), 20)
        self.assertIn("not valid against the schema", lines[0]["body"]["messages"][-1]["content"])

    def test_an_answer_that_stays_invalid_is_rejected(self):
        self.documents(5)
        self.write("s.json", '{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}')
        with self.server(invalid=9) as server:
            self.batch(self.llm(server.url(), "schema=@s.json repair=2"), code=3)
        self.assertEqual((self.rows(), len(self.rows(name="rejects")), self.state()["round"]), ([], 5, 3))

    # ------------------------------------------------------------------ caps

    def test_files_keep_their_caps_in_lines_and_bytes(self):
        self.documents(100)
        with self.server() as server:
            self.batch(self.llm(server.url()), "--file-bytes", 3000)
        for f in self.state()["files"]:
            size = (self.dir / "out" / f"requests-{f['no']:05}.jsonl").stat().st_size
            self.assertEqual(size, f["bytes"])
            self.assertTrue(2000 < size <= 3000 or f["no"] == len(self.state()["files"]) - 1, size)
        self.assertEqual(len(self.rows()), 100)

    def test_a_request_that_is_longer_than_a_file_may_be_is_rejected(self):
        self.write("in.jsonl", json.dumps({"id": "long", "text": "x" * 3000}) + '\n{"id":"short","text":"y"}\n')
        with self.server() as server:
            self.batch(self.llm(server.url()), "--file-bytes", 2000, code=3)
        self.assertEqual([row["id"] for row in self.rows()], ["short"])
        self.assertEqual(self.rows(name="rejects")[0]["docflume"]["class"], "range")

    # ------------------------------------------------------------------ money

    def test_a_budget_that_could_be_passed_is_refused_before_anything_is_sent_and_a_larger_one_goes_on(self):
        self.documents(50)
        with self.server() as server:
            result = self.batch(self.llm(server.url()), "--budget", "0.00001", code=4)
            self.assertIn("Nothing of it was sent", result.err)
            self.assertEqual((server.stats()["files"], server.stats()["batches"]), (0, 0))
            self.batch(self.llm(server.url()), "--budget", "1")
            self.assertEqual(server.stats()["batch_lines"], 50)
        counts = self.state()["counts"]
        self.assertAlmostEqual(counts["usd"], 0.5e-6 * (0.15 * counts["tokens_in"] + 0.6 * counts["tokens_out"]), places=12)
        self.assertLessEqual(counts["usd"], sum(f["worst_usd"] for f in self.state()["files"]))

    def test_a_model_without_a_price_is_refused_under_a_budget(self):
        self.documents(1)
        with self.server() as server:
            result = self.batch(f"llm model=openai/unpriced base_url={server.url()} prompt='x'", "--budget", "1", code=2)
            self.assertIn("no known price", result.err)

    # ------------------------------------------------------------------ request lines

    def request_lines(self, n, **more):
        lines = [json.dumps({"custom_id": f"request-{i}", "method": "POST", "url": "/v1/chat/completions",
                             "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"text {i}"}],
                                      "max_tokens": 20, **more}}) for i in range(n)]
        self.write("requests.jsonl", "\n".join(lines) + "\n")
        return lines

    def test_request_lines_of_others_are_sent_byte_by_byte_and_answered_in_their_order(self):
        lines = self.request_lines(60)
        with self.server(batch_ms=50, batch_done=0.7) as server:
            self.to_the_end("requests.jsonl", "--base-url", server.url(), inputs=())
            self.assertEqual(server.stats()["paid_twice"], 0)
        self.assertEqual(self.bytes_of("out/requests-00000.jsonl").decode().splitlines(), lines)
        rows = self.rows()
        self.assertEqual([row["custom_id"] for row in rows], [f"request-{i}" for i in range(60)])
        self.assertTrue(all(row["response"]["body"]["choices"][0]["message"]["content"].endswith(f"text {i}")
                            for i, row in enumerate(rows)))

    def test_request_lines_that_are_none_are_rejected_and_an_id_that_comes_twice_is_an_error(self):
        lines = self.request_lines(3)
        self.write("requests.jsonl", "\n".join([lines[0], "nonsense", '{"custom_id":"x"}', "{}", lines[1]]) + "\n")
        with self.server() as server:
            self.batch("requests.jsonl", "--base-url", server.url(), inputs=(), code=3)
            self.assertEqual([row["custom_id"] for row in self.rows()], ["request-0", "request-1"])
            self.assertEqual(len(self.rows(name="rejects")), 3)
            self.write("twice.jsonl", "\n".join([lines[0], lines[1], lines[0]]) + "\n")
            result = self.batch("twice.jsonl", "--base-url", server.url(), inputs=(), out="out2", code=2)
            self.assertIn("'request-0' comes twice", result.err)

    def test_request_lines_of_two_models_are_two_files_and_a_budget_holds(self):
        self.request_lines(4)
        text = (self.dir / "requests.jsonl").read_text().splitlines()
        text[1::2] = [line.replace("gpt-4o-mini", "gpt-4o") for line in text[1::2]]
        self.write("requests.jsonl", "\n".join(text) + "\n")
        with self.server() as server:
            self.batch("requests.jsonl", "--base-url", server.url(), "--budget", "0.0000001", inputs=(), code=4)
            self.batch("requests.jsonl", "--base-url", server.url(), "--budget", "1", inputs=())
            self.assertEqual(server.stats()["batches"], 2)
        self.assertEqual([f["model"] for f in self.state()["files"]], ["gpt-4o-mini", "gpt-4o"])

    def test_bodies_of_the_request_stage_go_by_batch_too(self):
        self.write("in.jsonl", "".join(json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"t{i}"}],
                                                   "metadata": {"row": i}}) + "\n" for i in range(5)))
        with self.server() as server:
            self.batch(f"request url={server.url()}/chat/completions")
            self.assertEqual(server.stats()["batch_lines"], 5)
        rows = self.rows()
        self.assertEqual([row["metadata"]["row"] for row in rows], list(range(5)))
        self.assertTrue(rows[0]["response"]["choices"])


if __name__ == "__main__":
    unittest.main()
