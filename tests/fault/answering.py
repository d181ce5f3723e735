# SPDX-License-Identifier: Apache-2.0
"""What tests of servers that misbehave share: a small server whose every answer a function makes, and runs against it."""
import http.server
import json
import pathlib
import sys
import threading

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]
from rundir import RunCase


def chat(text, usage=None):
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    if usage:
        answer["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return json.dumps(answer).encode()


class AnswerCase(RunCase):
    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": "sk-planted-0123456789",
                    "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config")}

    def server(self, answer):
        """answer(prompt) -> the body of a 200, or (status, headers, body), or None for no answer; it may take the handler too. A header of None
        is left out. The server counts requests."""
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.server.bodies.append(body)
                self.server.prompts.append(body["messages"][-1]["content"] if "messages" in body else None)
                out = answer(self.server.prompts[-1], self) if answer.__code__.co_argcount > 1 and not answer.__defaults__ else answer(self.server.prompts[-1])
                if out is None:
                    return
                status, headers, out = out if isinstance(out, tuple) else (200, {}, out)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    if value is not None:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *words):
                pass
        server = Server(("127.0.0.1", 0), Handler)
        server.prompts, server.bodies = [], []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def documents(self, n, text="document {}"):
        self.write("in.jsonl", b"".join(json.dumps({"id": f"d{i}", "text": text.format(i)}).encode() + b"\n" for i in range(n)))

    def llm(self, server, more=""):
        return f"llm model=gpt-4o-mini base_url=http://127.0.0.1:{server.server_port}/v1 prompt='{{{{text}}}}' cache=false {more}"

    def docflume(self, *args, code=0, **env):
        result = self.flume("run", *args, env={**self.env, **env}, timeout=100)
        self.assertEqual(result.code, code, result.err)
        return result
