# SPDX-License-Identifier: Apache-2.0
"""The providers against somebody else's idea of six APIs: CopilotKit's aimock, with its faults. Whole runs, one request for each document.
ctest: plain
ctest: timeout 120"""
import time

import service
from case import KEY, ServiceCase, up

N = 20
# Each document its own answer, with what JSON and UTF-8 make hard; "document 1." is no part of "document 11.".
FIXTURES = [{"match": {"userMessage": f"document {i}."}, "response": {"content": f"Answer {i}: naïve 東京 \"quoted\"\\ \n\t{i}."}}
            for i in range(N)]
FIXTURES.append({"match": {"userMessage": "not valid against the schema"}, "response": {"content": '```json\n{"n": 7}\n```'}})
WANTED = {f"d{i}": f"Answer {i}: naïve 東京 \"quoted\"\\ \n\t{i}." for i in range(N)}


class Aimock(ServiceCase):
    @classmethod
    def setUpClass(cls):
        cls.mock = up(lambda: service.Aimock(FIXTURES, "--chunk-size", "3", "--latency", "5"))
        cls.addClassCleanup(cls.mock.stop)

    def setUp(self):
        super().setUp()
        self.mock.chaos()
        self.mock.forget()

    def llm(self, model, path, more=""):
        return f"llm model={model} base_url={self.mock.url(path)} prompt='{{{{text}}}}' max_tokens=50 {more}"

    def embed(self, model, path, more=""):
        return f"embed model={model} base_url={self.mock.url(path)} {more}"

    def asked(self, path):
        requests = self.mock.journal()
        self.assertEqual({r["path"].split("?")[0] for r in requests}, {path})
        return requests

    def assert_answers(self):
        self.assertEqual({row["id"]: row["answer"] for row in self.rows()}, WANTED)
        self.counts_add_up()

    def chat_is_whole(self, model, base, path):
        self.docflume(self.llm(model, base), "-o", "out", self.documents(N))
        self.assert_answers()
        self.assertEqual(len(self.asked(path)), N)
        return self.mock.journal()

    # ------------------------------------------------------------------ answers

    def test_openai_chat(self):
        for request in self.chat_is_whole("gpt-4o-mini", "/v1", "/v1/chat/completions"):
            self.assertNotIn(KEY, str(request["body"]))
        self.assertGreater(self.state()["costs"]["of_rows"]["tokens_out"], 0)

    def test_openai_responses(self):
        self.chat_is_whole("responses/gpt-4o-mini", "/v1", "/v1/responses")

    def test_anthropic_messages(self):
        self.chat_is_whole("claude-sonnet-4-5", "/v1", "/v1/messages")

    def test_cohere_chat(self):
        self.chat_is_whole("cohere/command-r", "/v2", "/v2/chat")

    def test_gemini_generate_content(self):
        self.chat_is_whole("gemini-2.5-flash", "/v1beta", "/v1beta/models/gemini-2.5-flash:generateContent")

    def test_ollama_chat(self):
        self.chat_is_whole("ollama/llama3", "", "/api/chat")

    # ------------------------------------------------------------------ streams

    def test_streams_of_five_apis_are_the_answer_and_nothing_else(self):
        self.documents(1)
        for model, base, path in (("gpt-4o-mini", "/v1", "/v1/chat/completions"), ("responses/gpt-4o-mini", "/v1", "/v1/responses"),
                                  ("claude-sonnet-4-5", "/v1", "/v1/messages"), ("cohere/command-r", "/v2", "/v2/chat"),
                                  ("gemini-2.5-flash", "/v1beta", "/v1beta/models/gemini-2.5-flash:streamGenerateContent"),
                                  ("ollama/llama3", "", "/api/chat")):
            with self.subTest(model):
                self.mock.forget()
                result = self.docflume(self.llm(model, base), "--stream", "in.jsonl")
                self.assertEqual(result.out.rstrip("\n"), WANTED["d0"])
                self.assertEqual(len(self.asked(path)), 1)

    # ------------------------------------------------------------------ embeddings

    def vectors_are_whole(self, model, base, path, dim, more=""):
        self.docflume(self.embed(model, base, more), "-o", "out", self.documents(N))
        self.assert_all_once(N)
        vectors = {row["id"]: v for row, v in zip(self.rows(), self.vectors(), strict=True)}
        self.assertEqual({len(v) for v in vectors.values()}, {dim})
        self.assertEqual(len({tuple(v) for v in vectors.values()}), N)
        # Alone, each text has the same vector as among others.
        self.write("one.jsonl", '{"id":"d7","text":"document 7."}\n')
        self.docflume(self.embed(model, base, more + " cache=false"), "-o", "one", "one.jsonl")
        self.assertEqual(self.vectors("one"), [vectors["d7"]])
        self.asked(path)

    def test_openai_embeddings(self):
        self.vectors_are_whole("text-embedding-3-small", "/v1", "/v1/embeddings", 256, "dimensions=256")

    def test_cohere_embeddings(self):
        self.vectors_are_whole("cohere/embed-english-v3.0", "/v2", "/v2/embed", 1024)

    def test_one_vector_for_many_texts_is_nobodys_vector(self):
        """Its Ollama answers with one vector, however many inputs there are."""
        result = self.docflume(self.embed("ollama/any", "", "attempts=1"), "-o", "out", self.documents(N), code=3)
        self.assertEqual(self.rows(), [])
        self.assertIn(f"{N} rejected (embed:", result.err)

    def test_an_api_that_is_not_there_ends_the_run_and_says_so(self):
        """It has no batchEmbedContents."""
        result = self.docflume(self.embed("gemini-embedding-001", "/v1beta"), "-o", "out", self.documents(N), code=1)
        self.assertIn("Not found", result.err)
        self.assertEqual(self.rows(), [])

    # ------------------------------------------------------------------ faults

    def test_a_quarter_of_faults_of_each_kind_loses_nothing(self):
        for fault in ("dropRate", "malformedRate", "disconnectRate"):
            with self.subTest(fault):
                self.mock.chaos(**{fault: 0.25})
                self.docflume(self.llm("gpt-4o-mini", "/v1", "cache=false attempts=12"), "-o", fault, self.documents(N))
                self.assertEqual({row["id"]: row["answer"] for row in self.rows(fault)}, WANTED)

    def test_a_cut_or_broken_answer_is_never_an_answer(self):
        for fault in ("malformedRate", "disconnectRate", "dropRate"):
            with self.subTest(fault):
                self.mock.chaos(**{fault: 1})
                self.docflume(self.llm("claude-sonnet-4-5", "/v1", "attempts=2"), "-o", fault, self.documents(3), code=3)
                self.assertEqual(self.rows(fault), [])
                self.assertEqual(self.counts_add_up(fault)["rejected_total"], 3)

    def test_a_429_with_retry_after_is_waited_for(self):
        self.mock.chaos(rateLimitRate=1)
        child = self.start("run", self.llm("gpt-4o-mini", "/v1"), "-o", "out", self.documents(3), env=self.env)
        time.sleep(1.5)
        self.mock.chaos()
        _, err = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 0, err)
        self.assert_all_once(3)
        times = sorted(r["timestamp"] for r in self.mock.journal() if r["response"]["status"] == 429)
        self.assertTrue(times)
        answered = min(r["timestamp"] for r in self.mock.journal() if r["response"]["status"] == 200)
        self.assertGreaterEqual(answered - times[0], 990)  # its Retry-After is 1 s

    def test_a_slow_answer_ends_with_its_time_out(self):
        self.mock.chaos(latencyMs=20000)
        result = self.docflume(self.llm("gpt-4o-mini", "/v1", "timeout=500ms attempts=2"), "-o", "out", self.documents(3), code=3)
        self.assertLess(result.seconds, 10)
        self.assertEqual(self.rows(), [])

    def test_an_answer_that_does_not_fit_the_schema_goes_back_and_is_no_answer(self):
        self.write("s.json", '{"type":"object","required":["n"],"additionalProperties":false,"properties":{"n":{"type":"integer"}}}')
        self.docflume(self.llm("gpt-4o-mini", "/v1", "schema=@s.json repair=0"), "-o", "out", self.documents(3), code=3)
        self.assertEqual(self.rows(), [])
        self.docflume(self.llm("gpt-4o-mini", "/v1", "schema=@s.json repair=1"), "-o", "mended", "in.jsonl")
        self.assertEqual([row["answer"] for row in self.rows("mended")], [{"n": 7}] * 3)
        self.assertEqual(self.state("mended")["costs"]["of_rows"]["repaired"], 3)
        for request in self.mock.journal():
            self.assertEqual(request["body"]["response_format"]["json_schema"]["strict"], True)

    def test_a_question_that_it_does_not_know_ends_the_run_and_is_said_once(self):
        self.write("in.jsonl", '{"id":"d0","text":"never heard of"}\n')
        result = self.docflume(self.llm("gpt-4o-mini", "/v1"), "-o", "out", "in.jsonl", code=1)
        self.assertEqual(result.err.count("No fixture matched"), 1, result.err)


if __name__ == "__main__":
    service.main()
