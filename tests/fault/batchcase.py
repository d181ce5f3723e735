# SPDX-License-Identifier: Apache-2.0
"""What the tests of batch mode share: a run of `docflume batch` against tests/api, and a server between the two that changes or loses answers."""
import http.client
import http.server
import json
import pathlib
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
from rundir import RunCase


class Between(http.server.ThreadingHTTPServer):
    """Passes requests on to a server; `on_answer(method, path, status, body)` may change the answer: None drops it after the server did its work. What
    `on_request(method, path)` is False for never arrives there, and has no answer."""
    daemon_threads = True

    def __init__(self, port, on_answer, on_request=None):
        self.behind, self.on_answer, self.on_request, self.seen = port, on_answer, on_request, []
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
        if self.server.on_request and not self.server.on_request(self.command, self.path):
            self.close_connection = True
            return
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


class BatchCase(RunCase):
    KEY = "sk-planted-0123456789"

    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": self.KEY, "ANTHROPIC_API_KEY": self.KEY,
                    "HOME": str(self.dir),
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

    def assert_no_key(self, *results):
        for result in results:
            self.assertNotIn(self.KEY, result.out + result.err)
        for path in self.dir.rglob("*"):
            if path.is_file():
                self.assertNotIn(self.KEY.encode(), path.read_bytes(), path)

    def killed_at_every_request(self, pipeline_of, answers_of):
        """The process dies just before it has the answer to its n-th request, for each n; the same command goes on, and pays for each of 12 texts once.
        pipeline_of(url); answers_of(out): how many are there."""
        self.documents(12)
        child, count = [None], [0]

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
                pipeline = pipeline_of(f"http://127.0.0.1:{between.server_port}/v1")
                out = f"out{at}"
                count[0] = 0
                child[0] = self.start(*self.command(pipeline, "--cache", "no", "--file-lines", 6, out=out), env=self.env)
                code = child[0].wait(60)
                child[0] = None
                self.to_the_end(pipeline, "--cache", "no", "--file-lines", 6, out=out)
                stats = server.stats()
                between.stop()
            self.assertEqual((stats["paid_twice"], stats["texts_paid"]), (0, 12), f"killed at request {at}")
            self.assertEqual(answers_of(out), 12)
            self.assertEqual(stats["batches"], len(self.state(out)["files"]))
            if code == 0:
                break  # it makes fewer requests than that
        self.assertGreater(at, 8)
