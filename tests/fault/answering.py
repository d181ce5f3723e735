# SPDX-License-Identifier: Apache-2.0
"""What tests of servers that misbehave share: runs against a small server (e2e/answers.py)."""
import json
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]
from answers import Answering, chat  # noqa: F401 (for those who import from here)
from rundir import RunCase


class AnswerCase(Answering, RunCase):
    def setUp(self):
        super().setUp()
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": "sk-planted-0123456789",
                    "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config")}

    def documents(self, n, text="document {}"):
        self.write("in.jsonl", b"".join(json.dumps({"id": f"d{i}", "text": text.format(i)}).encode() + b"\n" for i in range(n)))

    def llm(self, server, more=""):
        return f"llm model=gpt-4o-mini base_url=http://127.0.0.1:{server.server_port}/v1 prompt='{{{{text}}}}' cache=false {more}"

    def docflume(self, *args, code=0, **env):
        result = self.flume("run", *args, env={**self.env, **env}, timeout=100)
        self.assertEqual(result.code, code, result.err)
        return result
