# SPDX-License-Identifier: Apache-2.0
"""What a model can be asked is known before a run begins; and vectors of two lengths are never one run's without a word.
ctest: timeout 200"""
import json
import unittest

from answering import AnswerCase


class Kinds(AnswerCase):
    def setUp(self):
        super().setUp()
        self.documents(1)
        self.env["ANTHROPIC_API_KEY"] = "sk-ant-0123456789"

    def refused(self, pipeline, *words):
        result = self.flume("run", pipeline, "in.jsonl", "-o", "out", env=self.env)
        self.assertEqual(result.code, 2, result.err)
        for word in words:
            self.assertIn(word, result.err)
        self.assertFalse((self.dir / "out").exists())

    def test_a_model_of_the_other_kind_is_refused_before_anything_starts(self):
        self.refused("embed model=gpt-4o", "'gpt-4o' answers in words", "docflume models embed")
        self.refused("llm model=text-embedding-3-small prompt=x", "makes embeddings", "docflume models chat")
        self.refused("llm model=fake/any prompt=x fallback=voyage-3", "'voyage-3' makes embeddings")
        self.refused("embed model=anthropic/new", "Anthropic has no embeddings")
        self.refused("llm model=tei/x prompt=x", "embeddings only")

    def test_a_prefix_that_nobody_has_is_told_with_those_there_are(self):
        self.refused("embed model=nothing/x", "no provider is known for model 'nothing/x'", "openai")

    def test_what_a_provider_would_refuse_each_time_is_refused_at_once(self):
        self.refused("llm model=claude-haiku-4-5 prompt=x temperature=1.5", "Anthropic takes 0 to 1")
        self.refused("llm model=gpt-4o prompt=x schema=true", "the schema is not a JSON object")

    def test_a_kind_of_ones_own_counts(self):
        self.write("config/docflume/models.yaml", "models:\n  - {id: gpt-4o, kind: embed}\n")
        self.refused("llm model=gpt-4o prompt=x", "'gpt-4o' makes embeddings")


class Lengths(AnswerCase):
    def lives(self, form):
        """One that ends for money after its first vectors, then one whose model answers with longer ones."""
        self.documents(40, "document {} " + "word " * 400)  # five cells
        length, asked = [3], [0]

        def answer(prompt, handler):
            asked[0] += 1
            if length[0] == 3 and asked[0] > 2:
                return 402, {}, b'{"error":{"message":"no money"}}'
            n = len(handler.server.bodies[-1]["input"])
            return json.dumps({"data": [{"index": i, "embedding": [1.0] * length[0]} for i in range(n)], "usage": {"prompt_tokens": n}}).encode()
        server = self.server(answer)
        command = (f"embed model=openai/m base_url=http://127.0.0.1:{server.server_port}/v1 concurrency=1 cache=false", "-j", "1",
                   "--output-format", form, "-o", "out", "in.jsonl")
        self.docflume(*command, code=4)
        length[0] = 4
        return command

    def test_npy_refuses_the_second_length_and_says_both(self):
        result = self.docflume(*self.lives("npy"), code=1)
        self.assertIn("vectors of 4 numbers came, where those before have 3", result.err)
        self.assertNotIn("defect", result.err)

    def test_jsonl_warns_of_two_lengths(self):
        result = self.docflume(*self.lives("jsonl"))
        rows = [len(json.loads(line)["embedding"]) for part in (self.dir / "out").glob("part-*.jsonl") for line in part.read_bytes().splitlines()]
        self.assertIn(f"vectors of 2 lengths, which cannot be compared (3 {rows.count(3)}, 4 {rows.count(4)})", result.err)
        self.assertEqual(set(rows), {3, 4})


if __name__ == "__main__":
    unittest.main()
