# SPDX-License-Identifier: Apache-2.0
"""Starts and stops api_server for tests and figures, and asks it what it saw.

    with api.Server(rpm=600, limit="sliding") as server:
        url = server.url("v1", delay=500)        # http://127.0.0.1:PORT/delay=500/v1: options for those who use this URL
        ...
        server.stats()["violations"]

The program is $API_SERVER, else the one beside $DOCFLUME. Options are those of `api_server --help`."""
import http.client
import json
import os
import pathlib
import subprocess
import tempfile


def program():
    if os.environ.get("API_SERVER"):
        return os.environ["API_SERVER"]
    beside = pathlib.Path(os.environ.get("DOCFLUME", "docflume")).resolve().parent / "tests" / "api_server"
    if beside.exists():
        return str(beside)
    raise FileNotFoundError("api_server is not built: ninja -C build/dev api_server, or set API_SERVER")


class Server:
    """log=True keeps a file with a JSON line for each request; log() returns its lines."""

    def __init__(self, log=False, **options):
        self.options, self.log_path, self.process = options, None, None
        if log:
            handle, self.log_path = tempfile.mkstemp(prefix="api-server-", suffix=".jsonl")
            os.close(handle)

    def start(self):
        arguments = [f"--{name}={value}" for name, value in self.options.items()]
        if self.log_path:
            arguments.append(f"--log={self.log_path}")
        self.process = subprocess.Popen([program(), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"api_server ended with {self.process.wait()}")
        self.port = int(line)
        return self

    def stop(self):
        """By the end of its standard input; it has a second. Returns its exit code."""
        if self.process is None:
            return None
        self.process.stdin.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        self.process = None
        if self.log_path:
            os.unlink(self.log_path)
            self.log_path = None
        return code

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def url(self, path="v1", **options):
        return f"http://127.0.0.1:{self.port}{self.path(path, **options)}"

    @staticmethod
    def path(path="v1", **options):
        """The path for clients that have the host already."""
        words = ",".join(f"{name}={value}" for name, value in options.items())
        return "/" + "/".join(part for part in (words, path.strip("/")) if part)

    def ask(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers with names in lower case, body as bytes) over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body).encode()
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def stats(self):
        return json.loads(self.ask("GET", "/stats")[2])

    def texts(self, only_twice=False):
        return json.loads(self.ask("GET", "/texts" + ("?twice" if only_twice else ""))[2])

    def reset(self):
        """Counts, limits, random numbers, files and batches begin anew."""
        self.ask("POST", "/reset")

    def log(self):
        self.ask("GET", "/stats")  # which flushes it
        with open(self.log_path, encoding="utf-8") as f:
            return [json.loads(line) for line in f]


def chat(text, model="any", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def words(text):
    """Tokens, as the server counts them."""
    return len(text.split())
