# SPDX-License-Identifier: Apache-2.0
"""A small server whose every answer a function makes, for tests of how docflume asks and of servers that misbehave."""
import http.server
import json
import threading


def chat(text, usage=None):
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    if usage:
        answer["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return json.dumps(answer).encode()


class Answering:
    """For test cases: they end the server."""

    def server(self, answer):
        """answer(prompt) -> the body of a 200, or (status, headers, body), or None for no answer; it may take the handler too. A header of None
        is left out. The server counts requests."""
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = self.body["messages"][-1]["content"] if "messages" in self.body else None
                self.server.bodies.append(self.body)
                self.server.prompts.append(prompt)
                out = answer(prompt, self) if answer.__code__.co_argcount > 1 and not answer.__defaults__ else answer(prompt)
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
