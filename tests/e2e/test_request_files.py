# SPDX-License-Identifier: Apache-2.0
"""Files of requests that other programs were fed with run as they are: the cookbook's bodies with metadata, and lines of batch files, one by one and by batch."""
import json
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "api")]
import api
from rundir import RunCase


class RequestFiles(RunCase):
    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": "sk-planted", "ANTHROPIC_API_KEY": "sk-planted",
                    "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config"), "XDG_CACHE_HOME": str(self.dir / "cache")}

    def lines(self, lines):
        self.write("r.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def docflume(self, *args, code=0):
        result = self.flume(*args, env=self.env)
        self.assertEqual(result.code, code, result.err)
        return result

    def run_live(self, url, path, code=0, more=""):
        self.docflume("run", "-k", "-o", "live", f"request url={url}{path} {more}", "r.jsonl", code=code)
        return self.rows("live")

    @staticmethod
    def cookbook(n):
        """As examples/api_request_parallel_processor.py reads them: bodies, each perhaps with metadata."""
        return [{"model": "text-embedding-3-small", "input": f"{i}\n", **({"metadata": {"row_id": i}} if i % 2 else {})} for i in range(n)]

    @staticmethod
    def batch_file(n):
        return [{"custom_id": f"request-{i}", "method": "POST", "url": "/v1/chat/completions",
                 "body": api.chat(f"text {i}", "gpt-4o-mini", max_tokens=20)} for i in range(n)]

    def test_the_cookbooks_bodies_run_as_they_are_and_metadata_stays_at_home(self):
        self.lines(self.cookbook(30))
        with api.Server(log=True) as server:
            rows = self.run_live(server.url(), "/embeddings")
            self.assertEqual((server.stats()["requests"], server.stats()["paid_twice"]), (30, 0))
        self.assertEqual([row["input"] for row in rows], [f"{i}\n" for i in range(30)])
        self.assertEqual([row.get("metadata") for row in rows], [{"row_id": i} if i % 2 else None for i in range(30)])
        self.assertTrue(all(len(row["response"]["data"][0]["embedding"]) == 1536 for row in rows))

    def test_lines_of_batch_files_run_one_by_one_and_get_their_answers(self):
        self.lines(self.batch_file(25))
        with api.Server() as server:
            rows = self.run_live(server.url(), "/chat/completions")
            self.assertEqual((server.stats()["requests"], server.stats()["paid_twice"]), (25, 0))
        self.assertEqual([row["custom_id"] for row in rows], [f"request-{i}" for i in range(25)])
        for i, row in enumerate(rows):
            self.assertTrue(row["response"]["choices"][0]["message"]["content"].endswith(f"text {i}"))
            self.assertEqual(row["body"]["max_tokens"], 20)

    def test_anthropics_lines_run_one_by_one_too(self):
        self.lines([{"custom_id": f"r{i}", "params": {"model": "claude-haiku-4-5", "max_tokens": 9,
                                                      "messages": [{"role": "user", "content": f"t{i}"}]}} for i in range(5)])
        with api.Server() as server:
            rows = self.run_live(server.url(), "/messages", more="key_env=ANTHROPIC_API_KEY")
        self.assertEqual([row["response"]["content"][0]["text"].split()[-1] for row in rows], [f"t{i}" for i in range(5)])

    def test_a_line_for_another_endpoint_or_with_a_stream_is_rejected_and_not_sent(self):
        lines = self.batch_file(4)
        lines[1]["url"] = "/v1/embeddings"
        lines[2]["body"]["stream"] = True
        lines[3]["method"] = "GET"
        self.lines(lines)
        with api.Server() as server:
            rows = self.run_live(server.url(), "/chat/completions", code=3)
            self.assertEqual(server.stats()["requests"], 1)
        self.assertEqual([row["custom_id"] for row in rows], ["request-0"])
        rejects = {r["custom_id"]: r["docflume"]["error"] for r in self.rows("live", "rejects")}
        self.assertIn("its url is not", rejects["request-1"])
        self.assertIn("a stream", rejects["request-2"])
        self.assertIn("not POST", rejects["request-3"])

    def test_a_body_that_has_a_custom_id_but_no_url_is_a_body(self):
        self.lines([{"custom_id": "x", **api.chat("hello", "gpt-4o-mini")}])
        with api.Server() as server:
            self.assertTrue(self.run_live(server.url(), "/chat/completions")[0]["response"]["choices"])

    def test_slashes_with_escapes_are_slashes(self):
        self.write("r.jsonl", json.dumps(self.batch_file(1)[0]).replace("/v1/chat/completions", r"\/v1\/chat\/completions") + "\n")
        with api.Server() as server:
            self.assertEqual(len(self.run_live(server.url(), "/chat/completions")), 1)

    def test_both_forms_go_by_batch_with_the_answers_that_live_calls_have(self):
        for name, lines, path in (("bare", self.cookbook(12), "/embeddings"), ("lines", self.batch_file(12), "/chat/completions")):
            self.lines(lines)
            with api.Server() as server:
                self.docflume("batch", f"request url={server.url()}{path}", "-o", f"b-{name}", "--cache", "no", "--poll", "0.05",
                              "--poll-max", "0.1", "r.jsonl")
                self.assertEqual(server.stats()["batch_lines"], 12)
                self.docflume("run", "-k", "-o", f"l-{name}", "--cache", "no", f"request url={server.url()}{path}", "r.jsonl")
            self.assertEqual(self.rows(f"b-{name}"), self.rows(f"l-{name}"))
            self.assertEqual(len(self.rows(f"b-{name}")), 12)

    def test_a_batch_file_is_uploaded_as_it_is(self):
        self.lines(self.batch_file(12))
        with api.Server() as server:
            self.docflume("batch", "r.jsonl", "-o", "out", "--base-url", server.url(), "--poll", "0.05", "--poll-max", "0.1")
        self.assertEqual((self.dir / "out" / "requests-00000.jsonl").read_bytes(), (self.dir / "r.jsonl").read_bytes())
        self.assertEqual([row["custom_id"] for row in self.rows()], [f"request-{i}" for i in range(12)])


if __name__ == "__main__":
    unittest.main()
