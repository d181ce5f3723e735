# SPDX-License-Identifier: Apache-2.0
"""Embeddings by a provider's batches: vectors as run writes them, one request for each different text, what expired or was refused, killed at each request.
ctest: timeout 300"""
import json
import unittest

from batchcase import BatchCase
from rundir import read_npy

MODEL = "text-embedding-3-small"


class Embed(BatchCase):
    def embed(self, url, more="dimensions=32"):
        return f"embed model={MODEL} base_url={url} {more}"

    def vectors(self, out="out"):
        return read_npy(self.dir / out / "part-00000.npy")

    def assert_vectors_as_run(self, pipeline, server):
        self.assert_as_run(pipeline, server)
        self.assertEqual(self.bytes_of("out/part-00000.npy"), self.bytes_of("as-run/part-00000.npy"))

    def test_vectors_and_rows_are_those_of_run_byte_for_byte_and_cost_half(self):
        self.documents(230)
        with self.server(batch_ms=50, shuffle=1) as server:
            pipeline = self.embed(server.url())
            self.batch(pipeline, "--file-lines", 100)
            stats = server.stats()
            self.assertEqual((stats["batches"], stats["batch_lines"], stats["paid_twice"]), (3, 230, 0))
            self.assert_vectors_as_run(pipeline, server)
        kind, rows = self.vectors()
        self.assertEqual((kind, len(rows), len(rows[0]), len(self.rows())), ("<f4", 230, 32, 230))
        self.assertEqual(len({row[:4] for row in rows}), 230)
        self.assertNotIn("embedding", self.rows()[0])
        counts = self.state()["counts"]
        self.assertAlmostEqual(counts["usd"], 0.5 * 0.02e-6 * counts["tokens_in"], places=15)
        self.assertGreater(counts["usd"], 0)

    def test_vectors_asked_one_by_one_live_are_the_same_without_a_cache(self):
        self.documents(40)
        with self.server() as server:
            pipeline = self.embed(server.url())
            self.batch(pipeline, "--cache", "no")
            result = self.flume("run", "-k", "--cache", "no", "-o", "as-run", pipeline, "in.jsonl", env=self.env)
            self.assertEqual(result.code, 0, result.err)
        for name in ("part-00000.npy", "part-00000.jsonl"):
            self.assertEqual(self.bytes_of("out/" + name), self.bytes_of("as-run/" + name))

    def test_requests_are_openais_lines_with_one_input_each_and_equal_texts_are_one(self):
        self.write("in.jsonl", b'{"id":"a","text":"same"}\n' * 20 + b'{"id":"b","text":"other"}\n')
        with self.server() as server:
            self.batch(self.embed(server.url()))
            self.assertEqual(server.stats()["batch_lines"], 2)
        lines = [json.loads(line) for line in self.bytes_of("out/requests-00000.jsonl").splitlines()]
        self.assertEqual([(line["method"], line["url"], line["body"]["model"]) for line in lines],
                         [("POST", "/v1/embeddings", MODEL)] * 2)
        self.assertEqual([line["body"]["input"] for line in lines], [["same"], ["other"]])
        self.assertEqual(len(self.vectors()[1]), 21)

    def test_a_batch_has_at_most_fifty_thousand_inputs_though_more_lines_are_asked_for(self):
        with open(self.dir / "in.jsonl", "w", encoding="utf-8") as f:
            for i in range(50010):
                f.write('{"id":"%d","text":"t%d"}\n' % (i, i))
        with self.server() as server:
            self.batch(self.embed(server.url(), "dimensions=2"), "--file-lines", 100000, "--cache", "no")
            self.assertEqual(server.stats()["batches"], 2)
        self.assertEqual([f["lines"] for f in self.state()["files"]], [50000, 10])
        self.assertEqual(len(self.vectors()[1]), 50010)

    def test_what_the_cache_has_is_not_sent(self):
        self.documents(30)
        self.documents(10, "first.jsonl")
        with self.server() as server:
            pipeline = self.embed(server.url())
            self.flume("run", "-o", "first", pipeline, "first.jsonl", env=self.env)
            self.batch(pipeline)
            self.assertEqual((server.stats()["batch_lines"], server.stats()["paid_twice"]), (20, 0))

    def test_what_expired_is_sent_again_and_a_refused_text_is_rejected_alone(self):
        self.documents(100)
        with self.server(batch_ms=20, batch_done=0.6, context=3) as server:
            self.write("more.jsonl", '{"id":"long","text":"one two three four five"}\n{"id":"empty","text":""}\n')
            for _ in range(5):
                result = self.flume(*self.command(self.embed(server.url()), inputs=("in.jsonl", "more.jsonl")), env=self.env)
                if result.code != 75:
                    break
            self.assertEqual(result.code, 3, result.err)
            self.assertEqual((server.stats()["paid_twice"], server.stats()["texts_paid"]), (0, 100))
        self.assertEqual([(r["id"], r["docflume"]["class"]) for r in self.rows(name="rejects")], [("long", "range"), ("empty", "range")])
        self.assertEqual((len(self.rows()), len(self.vectors()[1])), (100, 100))

    def test_chunks_then_a_question_of_a_model_then_vectors(self):
        self.documents(12)
        with self.server() as server:
            pipeline = "chunk chars=9 overlap=0 | " + self.llm(server.url()) + " | " + self.embed(server.url())
            self.batch(pipeline)
            self.assert_vectors_as_run(pipeline, server)
        self.assertEqual({f["endpoint"] for f in self.state()["files"]}, {"/v1/chat/completions", "/v1/embeddings"})

    def test_output_formats_are_those_of_run(self):
        self.documents(5)
        with self.server() as server:
            self.batch(self.embed(server.url()), "--output-format", "jsonl")
            self.assertEqual(len(self.rows()[0]["embedding"]), 32)
            self.assertFalse((self.dir / "out" / "part-00000.npy").exists())
            self.batch(self.embed(server.url()), "--output-format", "npy", out="o2")
            self.assertFalse((self.dir / "o2" / "part-00000.jsonl").exists())
            self.assertEqual(len(self.vectors("o2")[1]), 5)
            self.assertIn("makes vectors", self.batch(self.llm(server.url()), "--output-format", "npy", out="o3", code=2).err)
            self.assertIn("output-format", self.batch(self.embed(server.url()), out="o2", code=2).err)

    def test_a_budget_counts_the_worst_case_of_all_texts(self):
        self.documents(50)
        with self.server() as server:
            self.batch(self.embed(server.url()), "--budget", "0.0000001", code=4)
            self.assertEqual(server.stats()["batches"], 0)
            self.batch(self.embed(server.url()), "--budget", "0.01")
        self.assertLessEqual(self.state()["counts"]["usd"], sum(f["worst_usd"] for f in self.state()["files"]))

    def test_killed_at_every_request_it_makes_it_goes_on_and_pays_once(self):
        self.killed_at_every_request(self.embed, lambda out: len(self.vectors(out)[1]))


if __name__ == "__main__":
    unittest.main()
