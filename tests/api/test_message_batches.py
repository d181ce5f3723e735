# SPDX-License-Identifier: Apache-2.0
"""api_server keeps Anthropic's word about message batches: what is accepted, how one stands, results and their faults.
ctest: plain"""
import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api  # noqa: E402

PATH = "v1/messages/batches"


def requests(n, **more):
    return [{"custom_id": f"r-{i}", "params": {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": f"text {i}"}], **more}}
            for i in range(n)]


class MessageBatches(unittest.TestCase):
    def setUp(self):
        self.server = api.Server().start()
        self.addCleanup(self.server.stop)

    def ask(self, method, path, body=None, **options):
        status, _, content = self.server.ask(method, self.server.path(path, **options), body)
        return status, json.loads(content) if content[:1] == b"{" else content

    def create(self, list_, status=200, **options):
        got, answer = self.ask("POST", PATH, {"requests": list_}, **options)
        self.assertEqual(got, status, answer)
        return answer

    def results(self, batch):
        path = batch["results_url"].split("/", 3)[3]
        status, _, content = self.server.ask("GET", "/" + path)
        self.assertEqual(status, 200)
        return [json.loads(line) for line in content.splitlines()]

    def test_one_is_in_progress_then_ended_with_results_in_another_order(self):
        options = {"batch_ms": 200}
        batch = self.create(requests(40), **options)
        self.assertEqual((batch["type"], batch["processing_status"], batch["results_url"], batch["request_counts"]["processing"]),
                         ("message_batch", "in_progress", None, 40))
        self.assertEqual(self.ask("GET", f"{PATH}/{batch['id']}/results", **options)[0], 404)
        time.sleep(0.25)
        batch = self.ask("GET", f"{PATH}/{batch['id']}", **options)[1]
        self.assertEqual((batch["processing_status"], batch["request_counts"]["succeeded"], batch["request_counts"]["processing"]), ("ended", 40, 0))
        lines = self.results(batch)
        self.assertEqual({line["custom_id"] for line in lines}, {f"r-{i}" for i in range(40)})
        self.assertNotEqual([line["custom_id"] for line in lines], [f"r-{i}" for i in range(40)])
        for line in lines:
            text = line["result"]["message"]["content"][0]["text"]
            self.assertTrue(text.endswith("text " + line["custom_id"][2:]))
        self.assertEqual(self.server.stats()["paid_twice"], 0)

    def test_parts_expire_fail_and_are_refused(self):
        options = {"batch_done": 0.5, "batch_fail": 0.3, "bad": "9"}
        batch = self.create(requests(200), **options)
        batch = self.ask("GET", f"{PATH}/{batch['id']}", **options)[1]
        lines, counts = self.results(batch), batch["request_counts"]
        kinds = [line["result"]["type"] for line in lines]
        for kind in ("succeeded", "errored", "expired"):
            self.assertEqual(kinds.count(kind), counts[kind])
            self.assertGreater(counts[kind], 10)
        errors = {line["result"]["error"]["error"]["type"] for line in lines if line["result"]["type"] == "errored"}
        self.assertEqual(errors, {"api_error", "invalid_request_error"})

    def test_a_cancelled_one_ends_with_what_it_had(self):
        options = {"batch_ms": 60000}
        batch = self.create(requests(20), **options)
        batch = self.ask("POST", f"{PATH}/{batch['id']}/cancel", b"", **options)[1]
        self.assertEqual(batch["processing_status"], "canceling")
        batch = self.ask("GET", f"{PATH}/{batch['id']}", **options)[1]
        self.assertEqual((batch["processing_status"], batch["request_counts"]["canceled"]), ("ended", 20))
        self.assertEqual({line["result"]["type"] for line in self.results(batch)}, {"canceled"})

    def test_what_is_no_batch_is_refused(self):
        self.create([], 400)
        self.create([{"custom_id": "a b", "params": {}}], 400)
        self.create([{"custom_id": "x" * 65, "params": {}}], 400)
        self.create([{"custom_id": "a"}], 400)
        self.create(requests(2) + requests(1), 400)
        self.assertEqual(self.ask("POST", PATH, b"{")[0], 400)
        self.assertEqual(self.ask("GET", PATH + "/msgbatch_nope")[0], 404)
        self.assertEqual(self.server.stats()["batches"], 0)

    def test_a_request_that_lacks_something_fails_alone(self):
        batch = self.create(requests(1) + [{"custom_id": "bad", "params": {"model": "m", "messages": []}}])
        batch = self.ask("GET", f"{PATH}/{batch['id']}")[1]
        kinds = {line["custom_id"]: line["result"]["type"] for line in self.results(batch)}
        self.assertEqual(kinds, {"r-0": "succeeded", "bad": "errored"})

    def test_the_list_has_the_newest_first_page_by_page(self):
        made = [self.create(requests(1))["id"] for _ in range(7)]
        seen, after = [], ""
        while True:
            page = self.ask("GET", PATH + "?limit=3" + after)[1]
            seen += [b["id"] for b in page["data"]]
            self.assertEqual((page["first_id"], page["last_id"]), (page["data"][0]["id"], page["data"][-1]["id"]))
            if not page["has_more"]:
                break
            after = "&after_id=" + page["last_id"]
        self.assertEqual(seen, made[::-1])
        self.assertEqual(self.ask("GET", PATH + "?limit=1001")[0], 400)

    def test_a_reset_forgets_them(self):
        self.create(requests(1))
        self.server.reset()
        self.assertEqual(self.ask("GET", PATH)[1]["data"], [])


if __name__ == "__main__":
    unittest.main()
