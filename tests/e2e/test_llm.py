# SPDX-License-Identifier: Apache-2.0
"""Stages that ask models, as whole runs: with the fake provider, and with a server of request bodies. Nothing leaves the machine."""
import json
import unittest

from answers import Answering, chat
from flume import Case

SCHEMA = {"type": "object", "required": ["n", "kind"], "additionalProperties": False,
          "properties": {"n": {"type": "integer", "minimum": 1}, "kind": {"enum": ["a", "b"]}}}


class Models(Case):
    def setUp(self):
        super().setUp()
        self.home = {"HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config"),
                     "XDG_CACHE_HOME": str(self.dir / "cache"), "XDG_STATE_HOME": str(self.dir / "state"), "OPENAI_API_KEY": "sk-planted"}
        (self.dir / "config" / "docflume").mkdir(parents=True)
        self.write("d.jsonl", "".join(json.dumps({"id": str(i), "text": f"text {i}", "meta": {"n": i}}) + "\n" for i in range(20)))

    def ask(self, *args, code=0):
        result = self.flume("run", "-j", "2", *args, env=self.home)
        self.assertEqual(result.code, code, result.err)
        return result


class Llm(Answering, Models):
    def test_a_prompt_comes_from_a_file_and_its_places_are_filled(self):
        self.write("p.txt", "Say \"{{text}}\" | {{meta.n}}\n")
        rows = self.ask("llm model=fake/echo prompt=@p.txt", "d.jsonl").rows()
        self.assertEqual({row["id"]: row["answer"] for row in rows}, {str(i): f'Say "text {i}" | {i}' for i in range(20)})

    def test_every_answer_fits_the_schema(self):
        self.write("s.json", json.dumps(SCHEMA))
        rows = self.ask("llm model=fake/any prompt='{{text}}' schema=@s.json output=data", "d.jsonl").rows()
        self.assertEqual(len(rows), 20)
        for row in rows:
            self.assertEqual(set(row["data"]), {"n", "kind"})
            self.assertGreaterEqual(row["data"]["n"], 1)

    def test_answers_that_are_no_json_are_rejected_and_never_written(self):
        self.write("s.json", json.dumps(SCHEMA))
        result = self.ask("llm model=fake/any?bad_json=1 prompt='{{text}}' schema=@s.json attempts=1", "d.jsonl", "-o", "out", code=3)
        self.assertIn("20 rejected (llm:", result.err)
        self.assertEqual("".join(p.read_text() for p in (self.dir / "out").glob("part-*.jsonl")), "")

    def test_a_preset_is_its_options_and_written_options_win(self):
        (self.dir / "config" / "docflume" / "presets.yaml").write_text("mine: {temperature: 0.25, max_tokens: 33}\n")
        plan = self.ask("--dry-run", "llm model=fake/any prompt=x preset=mine max_tokens=5", "d.jsonl").out.splitlines()[0]
        self.assertEqual(plan, "pipeline: llm model=fake/any prompt=x max_tokens=5 temperature=0.25")
        self.assertIn("no preset 'nope'; there are analyst", self.ask("llm model=fake/any prompt=x preset=nope", "d.jsonl", code=2).err)

    def test_a_missing_field_rejects_its_document_and_names_it(self):
        self.write("e.jsonl", '{"id":"1","text":"x","title":"t"}\n{"id":"2","text":"y"}\n')
        result = self.ask("llm model=fake/echo prompt='{{title}}'", "e.jsonl", "-o", "out", code=3)
        self.assertIn("1 rejected (llm:not-found 1)", result.err)
        rejects = "".join(p.read_text() for p in (self.dir / "out").glob("rejects*.jsonl"))
        self.assertIn("field 'title' is missing", rejects)

    def test_an_unknown_model_and_a_missing_file_are_told_before_the_run(self):
        self.assertIn("no-such-model", self.ask("llm model=no-such-model prompt=x", "d.jsonl", code=2).err)
        self.assertIn("nowhere.txt", self.ask("llm model=fake/any prompt=@nowhere.txt", "d.jsonl", code=2).err)

    def test_calls_whose_price_nobody_knows_are_counted_and_said_to_be_so(self):
        result = self.ask("llm model=fake/echo prompt='{{text}}'", "d.jsonl", "-o", "free")
        self.assertIn("20 calls for $0.00\n", result.err)
        url = f"http://127.0.0.1:{self.server(lambda prompt: chat('well', (2, 1))).server_port}/v1"
        result = self.ask(f"llm model=openai/any base_url={url} prompt='{{{{text}}}}'", "d.jsonl", "-o", "out")
        self.assertIn("20 calls for $0.00 (at unknown prices: openai/any 20; give price_in and price_out in models.yaml)\n", result.err)
        costs = json.loads((self.dir / "out" / "run.json").read_text())["costs"]
        self.assertEqual((costs["paid_calls"], costs["unpriced_calls"], costs["of_rows"]["calls"]), (0, 20, 20))

    def test_asking_alone_takes_a_worker_for_each_512_calls_in_flight(self):
        def workers(pipeline, *args):
            result = self.flume("run", "--dry-run", *args, pipeline, "d.jsonl", env=self.home)
            self.assertEqual(result.code, 0, result.err)
            return int(result.out.split("workers: ")[1].split()[0])
        cores = workers("strip")
        for in_flight, wanted in ((1, 1), (512, 1), (513, 2), (1500, 3), (16384, 32)):
            self.assertEqual(workers(f"strip | llm model=fake/any prompt=x concurrency={in_flight}"), min(cores, wanted))
        self.assertEqual(workers("llm model=fake/any prompt=x"), min(cores, 8))
        self.assertEqual(workers("llm model=fake/any prompt=x concurrency=1", "-j", "3"), 3)
        self.assertEqual(workers("llm model=fake/any prompt=x concurrency=1 | exec cmd=cat"), cores)
        self.assertEqual(workers("llm model=fake/any prompt=x concurrency=300 output=a | llm model=fake/any prompt=y concurrency=300"),
                         min(cores, 2))


class Embed(Models):
    def test_a_fake_model_gives_every_text_its_own_vector(self):
        rows = self.ask("embed model=fake/any?dim=8", "d.jsonl").rows()
        self.assertEqual(len({tuple(row["embedding"]) for row in rows}), 20)
        for row in rows:
            self.assertAlmostEqual(sum(x * x for x in row["embedding"]), 1, places=4)
        again = self.ask("embed model=fake/any?dim=8", "d.jsonl").rows()
        self.assertEqual({r["id"]: r["embedding"] for r in rows}, {r["id"]: r["embedding"] for r in again})


class Request(Answering, Models):
    def test_a_file_of_request_bodies_runs_as_it_is(self):
        seen = []

        def echo(prompt, handler):
            seen.append((handler.path, handler.headers["authorization"], handler.body))
            return json.dumps({"echo": handler.body["input"], "usage": {"prompt_tokens": 2}}, indent=2).encode()
        server = self.server(echo)
        self.write("r.jsonl", "".join(json.dumps({"model": "m", "input": f"{i}\n", "metadata": {"row": i}}) + "\n" for i in range(50)))
        rows = self.ask(f"request url=http://127.0.0.1:{server.server_port}/v1/embeddings", "r.jsonl").rows()
        self.assertEqual({row["metadata"]["row"]: row["response"]["echo"] for row in rows}, {i: f"{i}\n" for i in range(50)})
        self.assertEqual(sorted(body["input"] for _, _, body in seen), sorted(f"{i}\n" for i in range(50)))
        for path, key, body in seen:
            self.assertEqual((path, key, set(body)), ("/v1/embeddings", "Bearer sk-planted", {"model", "input"}))


if __name__ == "__main__":
    unittest.main()
