# SPDX-License-Identifier: Apache-2.0
"""Models of one's own (models.yaml), where fall-backs live, and base URLs: what a run does with them, and what it says before it starts.
ctest: timeout 300"""
import json
import os
import unittest

from answering import AnswerCase, chat

USAGE = {"usage": (1000000, 0)}


def vectors(n):
    return json.dumps({"data": [{"index": i, "embedding": [1.0, 0.0, 0.0]} for i in range(n)], "usage": {"prompt_tokens": n}}).encode()


class OwnCase(AnswerCase):
    def setUp(self):
        super().setUp()
        self.documents(1)
        self.env["no_proxy"] = "127.0.0.1"

    def models(self, text):
        return self.write("config/docflume/models.yaml", text)

    def url(self, server):
        return f"http://127.0.0.1:{server.server_port}/v1"

    def seen(self, text="fine", usage=None):
        """A server that notes keys and paths."""
        keys = []

        def answer(prompt, handler):
            keys.append(handler.headers["Authorization"])
            body = handler.server.bodies[-1]
            return vectors(len(body["input"])) if "input" in body else chat(text, usage)
        server = self.server(answer)
        server.keys = keys
        return server

    def refused(self, pipeline, *words, more=(), verb="run"):
        """Rc 2 before anything starts, in a run, in its plan and in a batch."""
        for args in ((verb, pipeline, "in.jsonl", *more), (verb, "--dry-run", pipeline, "in.jsonl", *more),
                     ("batch", pipeline, "-o", "batch", "in.jsonl")):
            result = self.flume(*args, env=self.env)
            self.assertEqual(result.code, 2, result.err)
            for word in words:
                self.assertIn(word, result.err)
            self.assertNotIn("hunter2", result.err)
            self.assertNotIn("worker", result.err)
        return result.err


class Rows(OwnCase):
    def test_a_row_gives_a_name_to_any_model(self):
        self.models("models:\n  - {id: my-llama, provider: fake, model: echo}\n")
        pipeline = 'llm model=my-llama prompt="{{text}}"'
        self.assertEqual(self.docflume(pipeline, "in.jsonl").rows()[0]["answer"], "document 0")
        self.docflume("--dry-run", pipeline, "in.jsonl")

    def test_a_row_may_be_a_pattern(self):
        self.models("models:\n  - {id: 'our-*', provider: fake, model: echo}\n")
        self.assertEqual(self.docflume('llm model=our-own prompt="{{text}}"', "in.jsonl").rows()[0]["answer"], "document 0")

    def test_embed_takes_one_and_dry_run_needs_no_local_model(self):
        server = self.seen()
        self.models(f"models:\n  - {{id: my-vectors, provider: openai, model: m3, base_url: '{self.url(server)}', kind: embed}}\n")
        self.docflume("--dry-run", "embed model=my-vectors", "in.jsonl")
        rows = self.docflume("embed model=my-vectors", "in.jsonl").rows()
        self.assertEqual(rows[0]["embedding"], [1.0, 0.0, 0.0])
        self.assertEqual(server.bodies[0]["model"], "m3")

    def test_url_key_price_and_limits_of_a_row_count(self):
        server = self.seen(usage=(1000, 1))
        self.models(f"models:\n  - {{id: mine, provider: openai, model: inner, base_url: '{self.url(server)}', key_env: GATE_KEY,"
                    " price_in: 1000, price_out: 0, rpd: 1}\n")
        self.documents(2)
        result = self.docflume("llm model=mine prompt='{{text}}' max_tokens=5", "-o", "out", "--budget", "50", "in.jsonl", code=4, GATE_KEY="gate-0123456789")
        self.assertEqual(server.keys, ["Bearer gate-0123456789"])  # the second is over the day's limit
        self.assertEqual(server.bodies[0]["model"], "inner")
        self.assertIn("daily limit hit", result.err)
        run = json.loads((self.dir / "out" / "run.json").read_text())
        self.assertAlmostEqual(run["costs"]["usd"], 1.0, places=6)

    def test_a_price_counts_where_nothing_bounds_the_answer(self):
        server = self.seen(usage=(1000, 500))
        self.models(f"models:\n  - {{id: mine, provider: openai, base_url: '{self.url(server)}', price_in: 0.001, price_out: 0.002}}\n")
        self.documents(2)
        result = self.docflume("llm model=mine prompt='{{text}}'", "-o", "out", "in.jsonl")
        self.assertIn("2 calls for $0.00000400\n", result.err)
        text = (self.dir / "out" / "run.json").read_text()
        self.assertIn('"usd": 0.000004,', text)
        self.assertEqual((json.loads(text)["costs"]["usd"], json.loads(text)["costs"]["unpriced_calls"]), (0.000004, 0))
        listed = self.flume("models", "mine", env=self.env).out
        self.assertRegex(listed if isinstance(listed, str) else listed.decode(), r" 0\.001 +- +0\.002\b")

    def test_a_row_as_a_fallback(self):
        broken = self.server(lambda prompt: (404, {}, b"{}"))
        server = self.seen("from the second")
        self.models(f"models:\n  - {{id: spare, provider: openai, model: s, base_url: '{self.url(server)}'}}\n")
        rows = self.docflume(self.llm(broken, "fallback=spare"), "in.jsonl").rows()
        self.assertEqual(rows[0]["answer"], "from the second")
        self.assertEqual(server.bodies[0]["model"], "s")

    def test_a_batch_knows_them(self):
        self.models("models:\n  - {id: my-llama, provider: fake, model: echo}\n")
        result = self.flume("batch", "llm model=my-llama prompt='{{text}}'", "-o", "out", "in.jsonl", env=self.env)
        self.assertEqual(result.code, 2, result.err)
        self.assertIn("provider 'fake' has no batches", result.err)

    def test_request_has_the_row_of_raw(self):
        server = self.server(lambda prompt: chat("fine", (1000, 1)))
        self.models("models:\n  - {id: 'raw/*', price_in: 1000, price_out: 0, rpd: 1}\n")
        self.write("in.jsonl", b"".join(json.dumps({"id": i, "messages": [{"role": "user", "content": str(i)}]}).encode() + b"\n" for i in range(2)))
        result = self.docflume(f"request url={self.url(server)}/chat/completions", "-o", "out", "in.jsonl", code=4)
        self.assertIn("daily limit hit", result.err)
        self.assertAlmostEqual(json.loads((self.dir / "out" / "run.json").read_text())["costs"]["usd"], 1.0, places=6)

    def test_an_unknown_model_names_the_near_one_of_ones_own(self):
        self.models("models:\n  - {id: my-llama, provider: fake, model: echo}\n")
        self.refused('llm model=my-lama prompt="{{text}}"', "no provider is known for model 'my-lama'", "my-llama")


class Mistakes(OwnCase):
    PIPELINE = 'llm model=fake/echo prompt="{{text}}"'

    def mistake(self, text, *words):
        path = self.models(text)
        self.refused(self.PIPELINE, str(path), *words)
        result = self.flume("models", env=self.env)
        self.assertEqual(result.code, 2, result.err)
        for word in words:
            self.assertIn(word, result.err)
        self.assertNotIn("hunter2", result.err)

    def test_an_unknown_key_is_told_before_what_it_causes(self):
        self.mistake("models:\n  - id: mine\n    provder: fake\n", ":3:5: unknown key 'provder' of a model; did you mean 'provider'?")

    def test_broken_yaml(self):
        self.mistake("models:\n  - {id: mine\n", "models.yaml:")

    def test_an_id_twice(self):
        self.mistake("models:\n  - {id: mine, provider: fake}\n  - {id: mine, provider: vllm}\n", ":3:10: model 'mine' is there twice")

    def test_urls_that_are_none(self):
        for url, words in (("htp://x", "neither http:// nor https://"), ("http://user:hunter2@h/v1", "'@'"), ("http://h/v1?key=hunter2", "'?'"),
                           ("http://h:99999/v1", "port '99999'"), ("http://[::1:80/v1", "']'"), ("http:///v1", "no host")):
            with self.subTest(url):
                self.mistake(f"models:\n  - id: mine\n    provider: vllm\n    base_url: '{url}'\n", ":4:16: 'base_url'", words)

    def test_a_key_where_its_variable_belongs(self):
        self.mistake("models:\n  - id: mine\n    provider: vllm\n    key_env: sk-hunter2\n", ":4:14: 'key_env' is the name of a variable")

    def test_a_directory_or_what_cannot_be_read(self):
        (self.dir / "config/docflume/models.yaml").mkdir(parents=True)
        self.refused(self.PIPELINE, "models.yaml", "directory")
        (self.dir / "config/docflume/models.yaml").rmdir()
        os.mkfifo(self.dir / "config/docflume/models.yaml")
        self.refused(self.PIPELINE, "models.yaml", "no regular file")
        if os.geteuid() != 0:
            (self.dir / "config/docflume/models.yaml").unlink()
            self.models("models: []\n").chmod(0)
            self.refused(self.PIPELINE, "models.yaml", "ermission denied")

    def test_request_is_refused_too(self):
        self.models("model: 5\n")
        self.refused("request url=http://127.0.0.1:1/v1", "unknown key 'model'")

    def test_what_asks_no_model_does_not_read_it(self):
        self.models("models: 5\n")
        self.docflume("lower", "in.jsonl")


class Fallbacks(OwnCase):
    def gateway(self):
        """A first model that is not there, and a second that is; notes keys."""
        keys = []

        def answer(prompt, handler):
            keys.append(handler.headers["Authorization"])
            return (404, {}, b"{}") if handler.server.bodies[-1]["model"] == "first" else chat("inside")
        server = self.server(answer)
        server.keys = keys
        return server

    def test_one_of_the_same_provider_stays_inside(self):
        inside, outside = self.gateway(), self.seen("outside")
        rows = self.docflume(f"llm model=openai/first base_url={self.url(inside)} key_env=GATE_KEY fallback=gpt-4o prompt='{{{{text}}}}'", "in.jsonl",
                             GATE_KEY="gate-0123456789", OPENAI_BASE_URL=self.url(outside)).rows()
        self.assertEqual((rows[0]["answer"], outside.bodies), ("inside", []))
        self.assertEqual(set(inside.keys), {"Bearer gate-0123456789"})

    def test_the_other_api_of_the_same_host_stays_inside_too(self):
        inside, outside = self.gateway(), self.seen("outside")
        self.docflume(f"llm model=openai/first base_url={self.url(inside)} fallback=responses/second prompt='{{{{text}}}}' attempts=1", "in.jsonl",
                      code=3, OPENAI_BASE_URL=self.url(outside))
        self.assertEqual((len(inside.bodies), outside.bodies), (2, []))

    def test_one_of_another_provider_has_its_own(self):
        inside, other = self.gateway(), self.seen("other")
        rows = self.docflume(f"llm model=openai/first base_url={self.url(inside)} key_env=GATE_KEY fallback=vllm/m prompt='{{{{text}}}}'", "in.jsonl",
                             GATE_KEY="gate-0123456789", VLLM_BASE_URL=self.url(other), VLLM_API_KEY="vllm-0123456789").rows()
        self.assertEqual(rows[0]["answer"], "other")
        self.assertEqual(other.keys, ["Bearer vllm-0123456789"])

    def test_a_row_with_a_url_of_its_own_gets_neither_url_nor_key(self):
        inside, other = self.gateway(), self.seen("other")
        self.models(f"models:\n  - {{id: spare, provider: openai, model: s, base_url: '{self.url(other)}'}}\n")
        rows = self.docflume(f"llm model=openai/first base_url={self.url(inside)} key_env=GATE_KEY fallback=spare prompt='{{{{text}}}}'", "in.jsonl",
                             GATE_KEY="gate-0123456789").rows()
        self.assertEqual(rows[0]["answer"], "other")
        self.assertEqual(other.keys, ["Bearer sk-planted-0123456789"])


class Urls(OwnCase):
    def test_a_url_that_leads_nowhere_is_told_at_the_start(self):
        for url, words in (("http://127.0.0.1:99999/v1", "port '99999'"), ("http://127.0.0.1:80a/v1", "port '80a'"), ("http://127.0.0.1:0/v1", "port '0'"),
                           ("http://127.0.0.1:/v1", "port ''"), ("http://[::1:18201/v1", "']'"), ("http://[zz]/v1", "'[zz]'"),
                           ("http://h<x>/v1", "host"), ("http://", "no host"), ("https:///v1", "no host"), ("http://::1/v1", "'['")):
            with self.subTest(url):
                self.refused(f"llm model=openai/m prompt=x base_url='{url}'", "base_url", words)
                self.refused(f"embed model=openai/m base_url='{url}'", "base_url", words)
                self.refused(f"request url='{url}'", "'url'", words)

    def test_the_variable_is_looked_at_too(self):
        self.env["OPENAI_BASE_URL"] = "http://127.0.0.1:99999/v1"
        self.refused("llm model=openai/m prompt=x", "OPENAI_BASE_URL", "port '99999'")
        self.env["OPENAI_BASE_URL"] = "http://user:hunter2@h/v1"
        self.refused("llm model=fake/x fallback=openai/m prompt=x", "OPENAI_BASE_URL", "'@'")

    def test_good_ones_are_taken(self):
        for url in ("http://127.0.0.1:1/v1", "http://[::1]:8000/v1", "https://gpu_1.example-x.com", "http://[fe80::1%25eth0]/v1", "http://h:65535"):
            self.docflume("--dry-run", f"llm model=openai/m prompt=x base_url='{url}'", "in.jsonl")


class Words(OwnCase):
    def fails_with(self, status, headers=None, more="", code=1, **env):
        server = self.server(lambda prompt: (status, headers or {}, b""))
        return self.url(server), self.docflume(self.llm(server, more), "in.jsonl", code=code, **env).err

    def test_a_redirect_says_where_to_and_that_it_is_not_followed(self):
        url, err = self.fails_with(301, {"Location": "https://user:hunter2@new.example/v1/chat?key=hunter2#hunter2"})
        self.assertIn("'https://new.example/v1/chat'", err)
        self.assertIn("redirects are not followed", err)
        self.assertIn(url, err)
        self.assertNotIn("hunter2", err)
        self.assertIn("without a Location", self.fails_with(302)[1])

    def test_a_wrong_key_names_its_variable_and_the_url(self):
        url, err = self.fails_with(401)
        self.assertIn("OPENAI_API_KEY", err)
        self.assertIn(url, err)
        url, err = self.fails_with(401, more="key_env=GATE_KEY", GATE_KEY="gate-0123456789")
        self.assertIn("GATE_KEY", err)
        self.assertNotIn("OPENAI_API_KEY", err)
        self.assertNotIn("gate-0123456789", err)

    def test_no_key_at_all_is_told(self):
        del self.env["OPENAI_API_KEY"]
        os.environ.pop("OPENAI_API_KEY", None)
        url, err = self.fails_with(401)
        self.assertIn("no key was sent", err)
        self.assertIn("OPENAI_API_KEY", err)

    def test_what_is_not_found_names_the_url(self):
        url, err = self.fails_with(404)
        self.assertIn(url, err)


if __name__ == "__main__":
    unittest.main()
