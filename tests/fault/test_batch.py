# SPDX-License-Identifier: Apache-2.0
"""Batch mode through the whole program against tests/api: rows as run makes them, killed at any moment, batches that expire and fail, answers that get lost on
their way; nothing lost, no batch twice, nothing paid twice.
ctest: timeout 400"""
import http.client
import http.server
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
import flume
from rundir import RunCase


class Between(http.server.ThreadingHTTPServer):
    """Passes requests on to a server; `on_answer(method, path, status, body)` may change the answer: None drops it after the server did its work."""
    daemon_threads = True

    def __init__(self, port, on_answer):
        self.behind, self.on_answer, self.seen = port, on_answer, []
        super().__init__(("127.0.0.1", 0), Passing)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def stop(self):
        self.shutdown()
        self.server_close()
        self.thread.join()


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
        behind.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() != "host"})
        answer = behind.getresponse()
        status, data = answer.status, answer.read()
        behind.close()
        self.server.seen.append((self.command, self.path))
        changed = self.server.on_answer(self.command, self.path, status, data)
        if changed is None:
            self.close_connection = True
            return
        status, data = changed
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET


class Batch(RunCase):
    KEY = "sk-planted-0123456789"

    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": self.KEY, "HOME": str(self.dir),
                    "XDG_CONFIG_HOME": str(self.dir / "config"), "XDG_CACHE_HOME": str(self.dir / "cache")}

    server = staticmethod(api.Server)

    def documents(self, n, name="in.jsonl"):
        self.write(name, b"".join(json.dumps({"id": f"d{i}", "text": f"document number {i}"}).encode() + b"\n" for i in range(n)))

    def llm(self, url, more=""):
        return f"llm model=gpt-4o-mini base_url={url} prompt='{{{{id}}}} {{{{text}}}}' max_tokens=50 {more}"

    def command(self, pipeline, *more, out="out", inputs=("in.jsonl",)):
        return ["batch", pipeline, "-o", out, "--poll", "0.05", "--poll-max", "0.1", *more, *inputs]

    def batch(self, *args, code=0, **more):
        result = self.flume(*self.command(*args, **more), env=self.env)
        self.assertEqual(result.code, code, result.err)
        return result

    def to_the_end(self, *args, **more):
        """Three unlucky rounds of one line each in a row are rare, not impossible."""
        for _ in range(5):
            result = self.flume(*self.command(*args, **more), env=self.env)
            if result.code != 75:
                break
        self.assertEqual(result.code, 0, result.err)

    def state(self, out="out"):
        return json.loads((self.dir / out / "batch.json").read_text())

    def bytes_of(self, name):
        return (self.dir / name).read_bytes()

    def assert_as_run(self, pipeline, server, inputs=("in.jsonl",)):
        """`run` finds every answer in the cache, asks for nothing, and writes the same bytes."""
        before = server.stats()["requests"]
        result = self.flume("run", "-k", "-o", "as-run", pipeline, *inputs, env=self.env)
        self.assertIn(result.code, (0, 3), result.err)
        self.assertEqual(server.stats()["requests"], before)
        for name in ("part-00000.jsonl", "rejects-00000.jsonl"):
            if (self.dir / "as-run" / name).exists():
                self.assertEqual(self.bytes_of(f"as-run/{name}"), self.bytes_of(f"out/{name}"))

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
            result = self.batch(self.llm(f"http://127.0.0.1:{between.server_port}/v1"), code=2)
        self.assertIn("401", result.err)
        self.assert_no_key(result)

    def assert_no_key(self, *results):
        for result in results:
            self.assertNotIn(self.KEY, result.out + result.err)
        for path in self.dir.rglob("*"):
            if path.is_file():
                self.assertNotIn(self.KEY.encode(), path.read_bytes(), path)

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
        """The process dies just before it has the answer to its n-th request, for each n."""
        self.documents(12)
        child = [None]
        count = [0]

        def on_answer(method, path, status, data):
            count[0] += 1
            if child[0] and count[0] == at:
                child[0].kill()
                child[0].wait()
                return None
            return status, data
        for at in range(1, 40):
            with self.server(batch_ms=1, batch_done=0.7) as server:
                between = Between(server.port, on_answer)
                pipeline = self.llm(f"http://127.0.0.1:{between.server_port}/v1")
                out = f"out{at}"
                count[0] = 0
                child[0] = self.start(*self.command(pipeline, "--cache", "no", "--file-lines", 6, out=out), env=self.env)
                code = child[0].wait(60)
                child[0] = None
                self.to_the_end(pipeline, "--cache", "no", "--file-lines", 6, out=out)
                stats = server.stats()
                between.stop()
            self.assertEqual((stats["paid_twice"], stats["texts_paid"]), (0, 12), f"killed at request {at}")
            self.assertEqual(len(self.rows(out)), 12)
            self.assertEqual(stats["batches"], len(self.state(out)["files"]))
            if code == 0:
                break  # it makes fewer requests than that
        self.assertGreater(at, 8)

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
