# SPDX-License-Identifier: Apache-2.0
"""Proxies that are none or are not there, and answers that are no answers: told by what they are, at once where waiting is of no use, and without a password.
ctest: timeout 100"""
import socket
import threading
import unittest

from answering import AnswerCase

PASSWORD = "planted-password"


class Proxies(AnswerCase):
    def first_words(self, url, **env):
        """The first line that a run says whose host cannot be reached."""
        self.documents(1)
        self.n_run = getattr(self, "n_run", 0) + 1
        child = self.start("run", "-o", f"out{self.n_run}", f"llm model=openai/any base_url={url}/v1 prompt='{{{{text}}}}' cache=false", "in.jsonl",
                           env={**self.env, **env})
        line = child.stderr.readline().decode()
        child.kill()
        child.wait()
        return line

    def test_a_variable_that_names_no_proxy_ends_the_run_and_its_password_is_not_told(self):
        self.documents(3)
        n = 0
        for value in ("http://u:%s@[bad", "http://u:%s@host with space:1", "ftp://u:%s@h:1", "http://u:%s@127.0.0.1:99999", "http://u:%s@:1"):
            with self.subTest(value):
                n += 1
                result = self.docflume("-o", f"malformed{n}", "llm model=openai/any base_url=http://127.0.0.1:9/v1 prompt='{{text}}' cache=false", "in.jsonl",
                                       code=1, http_proxy=value % PASSWORD)
                self.assertIn("is written as http://USER:PASSWORD@HOST:PORT", result.err)
                self.assertNotIn(PASSWORD, result.err + result.out)

    def test_a_proxy_that_is_not_there_is_named_and_not_the_host_behind_it(self):
        line = self.first_words("http://api.example.invalid", http_proxy=f"http://u:{PASSWORD}@127.0.0.1:1")
        self.assertIn("cannot reach 'http://api.example.invalid': its proxy 127.0.0.1 port 1: Connection refused;", line)
        line = self.first_words("http://127.0.0.1:1", http_proxy=f"http://u:{PASSWORD}@127.0.0.1:2", no_proxy="127.0.0.1")
        self.assertIn("cannot reach 'http://127.0.0.1:1': Connection refused;", line)
        line = self.first_words("http://127.0.0.1:1", http_proxy=f"http://u:{PASSWORD}@no-such-host.invalid:2")
        self.assertIn("the name of its proxy is not known to the resolver", line)

    def test_a_change_of_protocol_is_no_answer_and_is_not_waited_for(self):
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def serve():
            held = []
            while True:
                try:
                    c = listening.accept()[0]
                except OSError:
                    return
                held.append(c)
                c.recv(65536)
                c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
        threading.Thread(target=serve, daemon=True).start()
        self.documents(1)
        stage = f"llm model=openai/any base_url=http://127.0.0.1:{listening.getsockname()[1]}/v1 prompt='{{{{text}}}}' cache=false attempts=1 timeout=60s"
        result = self.docflume("-o", "out", stage, "in.jsonl", code=3)
        self.assertIn("it changes the protocol (101)", result.err)


if __name__ == "__main__":
    unittest.main()
