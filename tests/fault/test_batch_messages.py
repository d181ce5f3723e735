# SPDX-License-Identifier: Apache-2.0
"""Batches of Anthropic's form against tests/api: inline requests, results in any order, nothing by which a lost creation could be known but its results; killed at
each request, expired and failed parts, strangers' batches of the same size; nothing lost, nothing paid twice.
ctest: timeout 300"""
import json
import random
import signal
import unittest

from batchcase import BatchCase, Between
import flume


class Messages(BatchCase):
    def llm(self, url, more=""):
        return f"llm model=claude-haiku-4-5 base_url={url} prompt='{{{{id}}}} {{{{text}}}}' max_tokens=50 {more}"

    def between(self, server, on_answer):
        between = Between(server.port, on_answer)
        self.addCleanup(between.stop)
        return f"http://127.0.0.1:{between.server_port}/v1"

    def listed(self, server):
        return json.loads(server.ask("GET", "/v1/messages/batches?limit=1000")[2])["data"]

    def assert_all_paid_once(self, stats, n):
        self.assertEqual((stats["paid_twice"], stats["texts_paid"], stats["batch_lines"]), (0, n, n))

    # ------------------------------------------------------------------ what comes out

    def test_rows_are_those_of_run_in_the_order_of_the_input_and_cost_half(self):
        self.documents(130)
        with self.server(batch_ms=100) as server:
            pipeline = self.llm(server.url())
            result = self.batch(pipeline, "--file-lines", 50)
            stats = server.stats()
            self.assertEqual((stats["batches"], stats["files"]), (3, 0))
            self.assert_all_paid_once(stats, 130)
            self.assert_as_run(pipeline, server)
            self.assert_no_key(result)
        self.assertEqual([row["id"] for row in self.rows()], [f"d{i}" for i in range(130)])
        state = self.state()
        counts = state["counts"]
        self.assertAlmostEqual(counts["usd"], 0.5e-6 * (1.0 * counts["tokens_in"] + 5.0 * counts["tokens_out"]), places=12)
        self.assertEqual([f["status"] for f in state["files"]], ["ended"] * 3)
        first = json.loads(self.bytes_of("out/requests-00000.jsonl").splitlines()[0])
        self.assertEqual(set(first), {"custom_id", "params"})
        self.assertRegex(first["custom_id"], r"^[a-zA-Z0-9_-]{1,64}$")
        self.assertNotIn("stream", first["params"])

    def test_results_come_in_another_order_than_requests(self):
        self.documents(60)
        with self.server() as server:
            self.batch(self.llm(server.url()))
        sent = [json.loads(line)["custom_id"] for line in self.bytes_of("out/requests-00000.jsonl").splitlines()]
        came = [json.loads(line)["custom_id"] for line in self.bytes_of("out/answers-00000.jsonl").splitlines()]
        self.assertNotEqual(sent, came)
        self.assertEqual(sorted(sent), sorted(came))
        self.assertTrue(all(f"d{i} document number {i}" in json.dumps(row) for i, row in enumerate(self.rows())))

    def test_texts_with_line_breaks_commas_and_braces_arrive_as_they_are(self):
        texts = ["one\ntwo", 'a "b", {c}]', "\r\n,\n", "ü\u2028\u0000x"]
        self.write("in.jsonl", "".join(json.dumps({"id": f"d{i}", "text": t}) + "\n" for i, t in enumerate(texts)))
        with self.server() as server:
            pipeline = self.llm(server.url())
            self.batch(pipeline)
            self.assert_as_run(pipeline, server)
        lines = [json.loads(line) for line in self.bytes_of("out/requests-00000.jsonl").splitlines()]
        self.assertEqual([line["params"]["messages"][0]["content"] for line in lines],
                         [f"d{i} {t}" for i, t in enumerate(texts)])

    def test_a_schema_refused_once_is_repaired_in_the_next_round(self):
        self.documents(10)
        self.write("s.json", '{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}},"additionalProperties":false}')
        with self.server(invalid=1) as server:
            self.batch(self.llm(server.url(), "schema=@s.json repair=1"))
            self.assertEqual(server.stats()["batch_lines"], 20)
        self.assertEqual((self.state()["round"], len(self.rows())), (2, 10))

    def test_the_request_stage_goes_by_messages_too(self):
        self.write("in.jsonl", "".join(json.dumps({"model": "claude-haiku-4-5", "max_tokens": 9, "metadata": {"row": i},
                                                   "messages": [{"role": "user", "content": f"t{i}"}]}) + "\n" for i in range(5)))
        with self.server() as server:
            self.batch(f"request url={server.url()}/messages key_env=ANTHROPIC_API_KEY")
            self.assertEqual((server.stats()["batch_lines"], server.stats()["files"]), (5, 0))
        rows = self.rows()
        self.assertEqual([row["metadata"]["row"] for row in rows], list(range(5)))
        self.assertTrue(rows[3]["response"]["content"][0]["text"].endswith("t3"))

    # ------------------------------------------------------------------ money

    def test_a_budget_that_could_be_passed_is_refused_before_anything_is_sent(self):
        self.documents(20)
        with self.server() as server:
            result = self.batch(self.llm(server.url()), "--budget", "0.00001", code=4)
            self.assertIn("Nothing of it was sent", result.err)
            self.assertEqual(server.stats()["batches"], 0)
            self.batch(self.llm(server.url()), "--budget", "1")
        self.assertLessEqual(self.state()["counts"]["usd"], sum(f["worst_usd"] for f in self.state()["files"]))

    # ------------------------------------------------------------------ what goes wrong there

    def test_what_expired_is_sent_again_without_counting_and_only_that(self):
        self.documents(200)
        with self.server(batch_ms=50, batch_done=0.5) as server:
            self.to_the_end(self.llm(server.url()), "--file-lines", 100, "--attempts", 1)
            self.assert_all_paid_once(server.stats(), 200)
        self.assertEqual(len(self.rows()), 200)
        self.assertGreater(self.state()["round"], 2)

    def test_errored_requests_are_sent_again_and_refused_ones_are_not(self):
        self.documents(100)
        with self.server(batch_fail=0.3, bad="number 13") as server:
            self.batch(self.llm(server.url()), "--attempts", 20, code=3)
            self.assertEqual(server.stats()["paid_twice"], 0)
        rejects = self.rows(name="rejects")
        self.assertEqual([(r["docflume"]["class"], r["id"]) for r in rejects], [("range", "d13")])
        self.assertIn("refused by our filter", rejects[0]["docflume"]["error"])
        self.assertEqual(len(self.rows()), 99)

    def test_requests_that_always_fail_are_rejected_after_so_many_attempts(self):
        self.documents(5)
        with self.server(batch_fail=1) as server:
            self.batch(self.llm(server.url()), "--attempts", 2, code=3)
            self.assertEqual(server.stats()["batches"], 2)
        self.assertEqual((len(self.rows(name="rejects")), self.rows()), (5, []))

    def test_results_that_are_gone_are_an_error_and_not_asked_for_again(self):
        self.documents(3)

        def on_answer(method, path, status, data):
            if method == "GET" and "/batches/" in path and b'"ended"' in data:
                data = json.dumps({**json.loads(data), "results_url": None}).encode()
            return status, data
        with self.server() as server:
            result = self.batch(self.llm(self.between(server, on_answer)), code=1)
            self.assertIn("results are not there", result.err)
            self.assertEqual(server.stats()["batches"], 1)

    def test_a_results_url_at_another_host_gets_no_key(self):
        self.documents(3)
        stolen = []

        def on_thief(method, path, status, data):
            stolen.append(path)
            return status, data
        with self.server() as server:
            thief = self.between(server, on_thief)

            def on_answer(method, path, status, data):
                if method == "GET" and "/batches/" in path and b'"ended"' in data:
                    data = json.dumps({**json.loads(data), "results_url": thief + "/messages/batches/x/results"}).encode()
                return status, data
            self.batch(self.llm(self.between(server, on_answer)))
        self.assertEqual((stolen, len(self.rows())), ([], 3))

    # ------------------------------------------------------------------ creations that nobody can tell of

    def test_a_creation_whose_answer_is_lost_is_found_and_not_made_again(self):
        self.documents(20)
        lose = [4]

        def on_answer(method, path, status, data):
            if method == "POST" and path.endswith("/batches") and lose[0]:
                lose[0] -= 1
                return None if lose[0] % 2 else (529, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')
            return status, data
        with self.server(batch_ms=50) as server:
            self.batch(self.llm(self.between(server, on_answer)), "--file-lines", 5)
            stats = server.stats()
        self.assertEqual((stats["batches"], lose), (4, [0]))
        self.assert_all_paid_once(stats, 20)

    def stranger(self, server, n):
        body = {"requests": [{"custom_id": f"stranger-{i}", "params": {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [
            {"role": "user", "content": f"somebody else's {i}"}]}} for i in range(n)]}
        return json.loads(server.ask("POST", "/v1/messages/batches", body)[2])["id"]

    def test_a_lost_creation_is_told_from_batches_of_strangers_by_its_results(self):
        self.documents(6)
        lose, theirs = [1], []
        with self.server(batch_ms=50) as server:
            def on_answer(method, path, status, data):
                if method == "GET" and path.endswith("limit=1"):
                    theirs.append(self.stranger(server, 6))  # behind the mark, before ours
                if method == "POST" and path.endswith("/batches") and lose[0]:
                    lose[0] = 0
                    theirs.append(self.stranger(server, 6))  # behind ours
                    return None
                return status, data
            theirs.append(self.stranger(server, 6))
            result = self.batch(self.llm(self.between(server, on_answer)))
            batches = [b["id"] for b in self.listed(server)]
        self.assertIn("a stranger's", result.err)
        self.assertEqual((len(batches), len(theirs)), (4, 3))
        self.assertEqual([f["batch_id"] for f in self.state()["files"]], [b for b in batches if b not in theirs])
        self.assertEqual([row["id"] for row in self.rows()], [f"d{i}" for i in range(6)])

    def test_a_creation_that_never_arrived_is_made_again_after_strangers_were_ruled_out(self):
        self.documents(6)
        lose = [1]
        with self.server(batch_ms=50) as server:
            def on_request(method, path):
                if method == "POST" and path.endswith("/batches") and lose[0]:
                    lose[0] = 0
                    self.stranger(server, 6)
                    return False
                return True
            between = Between(server.port, lambda method, path, status, data: (status, data), on_request)
            self.addCleanup(between.stop)
            result = self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"))
            stats = server.stats()
        self.assertIn("a stranger's", result.err)
        self.assertEqual((stats["batches"], len(self.rows()), self.state()["files"][0]["tries"]), (2, 6, 2))

    def test_a_long_list_of_batches_is_looked_through_page_by_page(self):
        self.documents(5)
        lose = [1]
        with self.server() as server:
            def on_answer(method, path, status, data):
                if method == "POST" and path.endswith("/batches") and lose[0]:
                    lose[0] = 0
                    for i in range(230):
                        self.stranger(server, 3)
                    return None
                return status, data
            self.batch(self.llm(self.between(server, on_answer)))
            self.assertEqual(server.stats()["batches"], 231)
        self.assertEqual(len(self.rows()), 5)

    # ------------------------------------------------------------------ stopped and killed

    def test_killed_at_every_request_it_makes_it_goes_on_and_pays_once(self):
        self.killed_at_every_request(self.llm, lambda out: len(self.rows(out)))

    def test_kills_at_random_moments_lose_nothing_and_pay_nothing_twice(self):
        self.documents(90)
        random_ = random.Random(3)
        more = ("--file-lines", 20, "--attempts", 20)
        with self.server(batch_ms=300, batch_done=0.8, batch_fail=0.05, delay="0..20") as server:
            pipeline = self.llm(server.url())
            for _ in range(20):
                child = self.start(*self.command(pipeline, *more), env=self.env)
                try:
                    child.wait(random_.uniform(0.005, 0.25) * flume.SLOW)
                except Exception:
                    child.send_signal(signal.SIGKILL)
                    child.wait()
            self.to_the_end(pipeline, *more)
            stats = server.stats()
            self.assertEqual((stats["paid_twice"], stats["texts_paid"]), (0, 90), server.texts(only_twice=True))
            self.assertEqual(len(self.listed(server)), len(self.state()["files"]))
            self.assert_as_run(pipeline, server)
        counts = self.state()["counts"]
        self.assertEqual(counts["in"], counts["out"] + counts["filtered"] + counts["rejected"])

    def test_no_wait_submits_and_leaves_and_the_same_command_goes_on(self):
        self.documents(20)
        with self.server(batch_ms=700) as server:
            pipeline = self.llm(server.url())
            self.batch(pipeline, "--no-wait", "--file-lines", 10, code=75)
            self.assertEqual(server.stats()["batches"], 2)
            self.batch(pipeline, "--file-lines", 10)
            self.assertEqual(server.stats()["batches"], 2)
        self.assertEqual(len(self.rows()), 20)


if __name__ == "__main__":
    unittest.main()
