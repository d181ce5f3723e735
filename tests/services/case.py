# SPDX-License-Identifier: Apache-2.0
"""What the tests against real servers share: a run with limits, cache and configuration of its own, and what must hold of it."""
import json
import pathlib
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api"), str(ROOT / "services")]
import api
import flume
import service
from rundir import RunCase

KEY = "sk-planted-" + "5be0c1d2" * 4


def up(made):
    """The server of a test class, started; or the class is skipped with the reason why it is not there. For setUpClass."""
    try:
        return made().start()
    except service.Missing as e:
        raise unittest.SkipTest(str(e)) from None


class ServiceCase(RunCase):
    def setUp(self):
        super().setUp()
        self.env = {"HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config"),
                    "DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY,
                    "COHERE_API_KEY": KEY, "GEMINI_API_KEY": KEY, "SSL_CERT_FILE": "", "CURL_CA_BUNDLE": "", "SSL_CERT_DIR": "",
                    "http_proxy": "", "https_proxy": "", "all_proxy": "", "no_proxy": "*"}

    def api_server(self, **options):
        server = api.Server(**options).start()
        self.addCleanup(server.stop)
        return server

    def documents(self, n, name="in.jsonl", size=0):
        self.write(name, "".join(json.dumps({"id": f"d{i}", "text": f"document {i}." + " x" * (size // 2)}) + "\n"
                                 for i in range(n)))
        return name

    def docflume(self, *args, code=0, timeout=60):
        """A whole run; it tells how long it took."""
        begun = time.monotonic()
        result = self.flume("run", *args, env=self.env, timeout=timeout)
        result.seconds = time.monotonic() - begun
        self.assertEqual(result.code, code, result.err)
        self.assertNotIn(KEY, result.out + result.err)
        return result

    def assert_all_once(self, n, out="out"):
        self.assertEqual(sorted(row["id"] for row in self.rows(out)), sorted(f"d{i}" for i in range(n)))
        self.counts_add_up(out)
