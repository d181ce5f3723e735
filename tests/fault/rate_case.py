# SPDX-License-Identifier: Apache-2.0
"""What the tests of rates share: a server that counts, documents, and when its answers came."""
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
from rundir import RunCase

SOAK = os.environ.get("DF_SOAK") == "1"


class RateCase(RunCase):
    def setUp(self):
        super().setUp()
        self.environment = {"DOCFLUME_LIMITS": str(self.dir / "limits"),
                            "OPENAI_API_KEY": "sk-planted-0123456789", "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config")}

    def server(self, **options):
        server = api.Server(log=True, **options).start()
        self.addCleanup(server.stop)
        return server

    def documents(self, n, name="in.jsonl", first=0, size=0):
        """A cell has 16 KB of them: only with a `size` there are cells for all workers."""
        return self.write(name, b"".join(json.dumps({"id": f"d{i}", "text": f"document {i}" + " x" * (size // 2)}).encode() + b"\n"
                                         for i in range(first, first + n)))

    def arguments(self, server, n_worker, more, out="out", documents="in.jsonl"):
        stage = f"llm model=gpt-4o-mini base_url={server.url()} prompt='{{{{id}}}} {{{{text}}}}' max_tokens=20 {more}"
        return ["run", "-o", out, "-j", n_worker, stage, documents]

    def docflume(self, *args, code=0, **more):
        result = self.flume(*args, env=self.environment, timeout=300, **more)
        self.assertEqual(result.code, code, result.err)
        return result

    def assert_all_once(self, n, out="out"):
        self.assertEqual(sorted(row["id"] for row in self.rows(out)), sorted(f"d{i}" for i in range(n)))

    def senders(self, out="out"):
        """How many processes made calls."""
        with open(self.dir / out / "trace.jsonl", encoding="utf-8") as trace:
            return len({row["pid"] for row in map(json.loads, trace) if row.get("kind") == "call"})

    @staticmethod
    def passed(server):
        """When requests that were answered well had come, in seconds."""
        return sorted(line["arrive_ns"] / 1e9 for line in server.log() if line["status"] == 200)
