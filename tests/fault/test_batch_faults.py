# SPDX-License-Identifier: Apache-2.0
"""Batch mode when things go wrong: batches that expire and fail, answers that get lost on their way, killed at any moment; nothing lost, no batch twice, nothing
paid twice.
ctest: timeout 400"""
import json
import random
import signal
import time
import unittest

from batchcase import BatchCase, Between
import flume


class BatchFaults(BatchCase):
    # ------------------------------------------------------------------ what goes wrong there

    def test_expired_batches_give_what_they_have_and_the_rest_is_sent_again(self):
        self.documents(300)
        with self.server(batch_ms=50, batch_done=0.6, batch_state="expired") as server:
            self.to_the_end(self.llm(server.url()), "--file-lines", 100)
            stats = server.stats()
        self.assertEqual((stats["paid_twice"], stats["texts_paid"], stats["batch_lines"]), (0, 300, 300))
        self.assertEqual([row["id"] for row in self.rows()], [f"d{i}" for i in range(300)])
        self.assertGreater(self.state()["round"], 2)

    def test_lines_that_fail_are_sent_again_and_refused_ones_are_not(self):
        self.documents(200)
        with self.server(batch_fail=0.3, bad="number 13") as server:
            self.batch(self.llm(server.url()), "--attempts", 20, code=3)
            stats = server.stats()
        self.assertEqual(stats["paid_twice"], 0)
        self.assertEqual(len(self.rows()), 189)  # 13 and 130 to 139
        rejects = self.rows(name="rejects")
        self.assertEqual({row["docflume"]["class"] for row in rejects}, {"range"})
        self.assertEqual(len(rejects), 11)

    def test_lines_that_always_fail_are_rejected_after_so_many_attempts(self):
        self.documents(10)
        with self.server(batch_fail=1) as server:
            self.batch(self.llm(server.url()), "--attempts", 2, code=3)
            self.assertEqual(server.stats()["batches"], 2)
        rejects = self.rows(name="rejects")
        self.assertEqual((len(rejects), self.rows()), (10, []))
        self.assertIn("error while processing", rejects[0]["docflume"]["error"])

    def test_a_batch_that_fails_as_a_whole_is_tried_once_more_and_then_told_with_the_reason(self):
        self.documents(3)
        with self.server(batch_state="failed") as server:
            result = self.batch(self.llm(server.url()), code=1)
            self.assertIn("as it was asked for", result.err)
            self.assertEqual(server.stats()["batches"], 2)

    def test_a_batch_that_has_no_room_yet_is_created_again_later(self):
        self.documents(3)
        full = [2]

        def on_answer(method, path, status, data):
            if method == "GET" and "/batches/" in path and full[0]:
                full[0] -= 1
                batch = json.loads(data)
                batch.update(status="failed", output_file_id=None, error_file_id=None, errors={"data": [
                    {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]})
                data = json.dumps(batch).encode()
            return status, data
        with self.server() as server:
            between = Between(server.port, on_answer)
            self.addCleanup(between.stop)
            self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"))
            self.assertEqual(server.stats()["batches"], 3)
        self.assertEqual(len(self.rows()), 3)

    def test_batches_that_never_answer_anything_end_the_run_for_now(self):
        self.documents(4)
        with self.server(batch_done=0) as server:
            result = self.batch(self.llm(server.url()), code=75)
            self.assertIn("no answer at all", result.err)
            self.assertEqual(server.stats()["batches"], 3)

    # ------------------------------------------------------------------ what goes wrong on the way

    def test_a_creation_whose_answer_is_lost_is_found_and_not_made_again(self):
        self.documents(20)
        lose = [3]

        def on_answer(method, path, status, data):
            if method == "POST" and path.endswith("/batches") and lose[0]:
                lose[0] -= 1
                return None if lose[0] % 2 else (503, b'{"error":{"message":"gateway"}}')
            return status, data
        with self.server(batch_ms=50) as server:
            between = Between(server.port, on_answer)
            self.addCleanup(between.stop)
            self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"), "--file-lines", 5)
            stats = server.stats()
        self.assertEqual((stats["batches"], stats["paid_twice"], stats["batch_lines"]), (4, 0, 20))
        self.assertEqual(lose, [0])

    def test_uploads_looks_and_fetches_that_fail_are_made_again(self):
        self.documents(20)
        random_ = random.Random(5)

        def on_answer(method, path, status, data):
            if not path.endswith("/batches") and random_.random() < 0.3:
                return random_.choice([None, (500, b"oops"), (502, b"<html>"), (429, b'{"error":{"message":"slow down"}}')])
            return status, data
        with self.server(batch_ms=50) as server:
            between = Between(server.port, on_answer)
            self.addCleanup(between.stop)
            self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"), "--file-lines", 10)
            stats = server.stats()
        self.assertEqual((stats["batches"], stats["paid_twice"]), (2, 0))
        self.assertEqual(len(self.rows()), 20)

    def test_a_list_of_batches_is_looked_through_page_by_page(self):
        self.documents(5)
        first = [True]

        def on_answer(method, path, status, data):
            if method == "POST" and path.endswith("/batches") and first[0]:
                first[0] = False
                return None
            if method == "GET" and "/batches?limit=100" in path:
                real = json.loads(data)["data"]
                if "after=" not in path:
                    data = json.dumps({"data": [{"id": f"batch_other{i}", "metadata": None} for i in range(100)],
                                       "has_more": True}).encode()
                else:
                    self.assertIn("after=batch_other99", path)
                    data = json.dumps({"data": real, "has_more": False}).encode()
            return status, data
        with self.server() as server:
            between = Between(server.port, on_answer)
            self.addCleanup(between.stop)
            self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"))
            self.assertEqual(server.stats()["batches"], 1)

    def test_damaged_and_foreign_lines_of_answers_are_left_out_and_asked_again(self):
        self.documents(10)
        spoil = [True]

        def on_answer(method, path, status, data):
            if path.endswith("/content") and spoil[0]:
                spoil[0] = False
                lines = data.splitlines(keepends=True)
                lines[0] = lines[0][:50] + b"\n"
                lines[1] = b"\xff\xfe not json\n"
                data = b"".join(lines) + b'{"custom_id":"stranger","response":{"status_code":200,"body":{}}}\n[]\n\n'
            return status, data
        with self.server() as server:
            between = Between(server.port, on_answer)
            self.addCleanup(between.stop)
            result = self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"))
        self.assertIn("is no answer", result.err)
        self.assertEqual((len(self.rows()), self.state()["round"]), (10, 2))

    def test_ids_of_a_server_that_are_paths_are_refused(self):
        self.documents(2)

        def on_answer(method, path, status, data):
            if method == "POST" and path.endswith("/files"):
                data = json.dumps({"id": "../../etc/passwd"}).encode()
            return status, data
        with self.server() as server:
            between = Between(server.port, on_answer)
            self.addCleanup(between.stop)
            self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"), code=1)

    def test_a_refused_key_is_told_and_never_shown(self):
        self.documents(2)
        with self.server(key="another") as server:
            def on_answer(method, path, status, data):
                return 401, json.dumps({"error": {"message": f"Incorrect API key provided: {self.KEY}"}}).encode()
            between = Between(server.port, on_answer)
            self.addCleanup(between.stop)
            result = self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"), code=1)
        self.assertIn("401", result.err)
        self.assertIn(f"asked at 'http://127.0.0.1:{between.server_port}/v1' with the key in OPENAI_API_KEY: check both", result.err)
        self.assertNotIn("help", result.err)
        self.assert_no_key(result)

    # ------------------------------------------------------------------ stopped and killed

    def test_no_wait_submits_and_leaves_and_the_same_command_goes_on(self):
        self.documents(30)
        with self.server(batch_ms=700) as server:
            pipeline = self.llm(server.url())
            self.batch(pipeline, "--no-wait", "--file-lines", 10, code=75)
            self.assertEqual(server.stats()["batches"], 3)
            self.batch(pipeline, "--no-wait", "--file-lines", 10, code=75)
            time.sleep(0.8)
            result = self.batch(pipeline, "--no-wait", "--file-lines", 10)
            self.assertEqual(server.stats()["batches"], 3)
            again = self.batch(pipeline)  # finished: nothing is asked any more
            self.assertEqual(len(self.rows()), 30)
            self.assert_no_key(result, again)

    def test_a_signal_stops_it_with_75_and_two_at_once_are_refused(self):
        self.documents(10)
        with self.server(batch_ms=60000) as server:
            pipeline = self.llm(server.url())
            child = self.start(*self.command(pipeline), env=self.env)
            while server.stats()["batches"] == 0:
                time.sleep(0.02)
            result = self.batch(pipeline, code=2)
            self.assertIn("another docflume", result.err)
            for number in (signal.SIGTERM, signal.SIGINT):
                begun = time.time()
                child.send_signal(number)
                self.assertEqual(child.wait(10), 75)
                self.assertLess(time.time() - begun, 2)
                child = self.start(*self.command(pipeline), env=self.env)
                time.sleep(0.4)
            child.kill()
            child.wait()
            self.assertEqual(server.stats()["batches"], 1)

    def test_other_inputs_pipelines_and_directories_are_refused(self):
        self.documents(5)
        with self.server(batch_ms=60000) as server:
            pipeline = self.llm(server.url())
            self.batch(pipeline, "--no-wait", code=75)
            self.assertIn("another pipeline", self.batch(pipeline + " | lower", code=2).err)
            self.assertIn("other options", self.batch(pipeline, "--max-record", "1m", code=2).err)
            self.documents(6)
            self.assertIn("other inputs", self.batch(pipeline, code=2).err)
            self.assertIn("no batches", self.batch("llm model=ollama/any prompt=x", out="o2", code=2).err)
            self.assertIn("no stage", self.batch("lower", out="o3", code=2).err)
            self.assertIn("exec", self.batch("exec cmd=cat | " + pipeline, out="o4", code=2).err)
            self.flume("run", "-o", "o5", "lower", "in.jsonl")
            self.assertIn("directory of a run", self.batch(pipeline, out="o5", code=2).err)

    def killed_at_random(self, server, pipeline, kills, seed, *more):
        random_ = random.Random(seed)
        done = 0
        for _ in range(kills):
            child = self.start(*self.command(pipeline, *more), env=self.env)
            try:
                child.wait(random_.uniform(0.005, 0.25) * flume.SLOW)
                done += 1
            except Exception:
                child.send_signal(signal.SIGKILL)
                child.wait()
        return done

    def test_thirty_kills_at_random_moments_lose_nothing_and_create_no_batch_twice(self):
        self.documents(120)
        with self.server(batch_ms=300, batch_done=0.8, batch_fail=0.05, delay="0..20") as server:
            pipeline = self.llm(server.url())
            self.killed_at_random(server, pipeline, 30, 1, "--file-lines", 20, "--attempts", 20)
            self.to_the_end(pipeline, "--file-lines", 20, "--attempts", 20)
            stats = server.stats()
            self.assertEqual((stats["paid_twice"], stats["texts_paid"]), (0, 120), server.texts(only_twice=True))
            listed = json.loads(server.ask("GET", "/v1/batches")[2])["data"]
            marks = [json.dumps(b["metadata"], sort_keys=True) for b in listed]
            self.assertEqual(len(marks), len(set(marks)))
            self.assertEqual(len(listed), len(self.state()["files"]))
            self.assert_as_run(pipeline, server)
        self.assertEqual([row["id"] for row in self.rows()], [f"d{i}" for i in range(120)])
        counts = self.state()["counts"]
        self.assertEqual(counts["in"], counts["out"] + counts["filtered"] + counts["rejected"])

    def test_killed_at_every_request_it_makes_it_goes_on_and_pays_once(self):
        self.killed_at_every_request(self.llm, lambda out: len(self.rows(out)))


if __name__ == "__main__":
    unittest.main()
