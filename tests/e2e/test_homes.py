# SPDX-License-Identifier: Apache-2.0
# ctest: timeout 120
"""Homes that are not there or cannot be written to, and words for "no cache": what a run needs of a machine, and what it says of what is missing."""
import json
import subprocess
import unittest

from flume import BIN, Case

FAKE = "llm model=fake/any prompt='{{id}}'"
LIMITED = FAKE + " rpm=100000"


class Homes(Case):
    def setUp(self):
        super().setUp()
        self.write("in.jsonl", '{"id":"a","text":"x"}\n')
        self.env = {"DOCFLUME_LIMITS": "", "XDG_STATE_HOME": "", "XDG_CACHE_HOME": "", "HOME": str(self.dir / "nowhere")}

    def run_it(self, pipeline, out, *args, **more):
        return self.flume("run", pipeline, "-j", 1, "-o", out, *args, "in.jsonl", **more)

    def test_a_home_that_is_not_there_is_never_made(self):
        result = self.run_it(FAKE, "out", env=self.env)
        self.assertEqual(result.code, 0, result.err)
        self.assertFalse((self.dir / "nowhere").exists())
        self.assertIn("HOME is '%s'" % (self.dir / "nowhere"), result.err)  # answers are kept in memory alone
        result = self.run_it(LIMITED, "two", "--cache", "no", env=self.env)
        self.assertEqual(result.code, 1, result.err)
        self.assertIn("HOME is '%s'" % (self.dir / "nowhere"), result.err)
        self.assertIn("DOCFLUME_LIMITS", result.err)
        self.assertFalse((self.dir / "nowhere").exists())
        named = {**self.env, "DOCFLUME_LIMITS": str(self.dir / "a/b")}
        result = self.run_it(LIMITED, "three", "--cache", "no", env=named)
        self.assertEqual(result.code, 0, result.err)
        self.assertTrue((self.dir / "a/b").is_dir())

    def test_a_home_that_is_a_file_is_told_with_the_way_out(self):
        result = self.run_it(LIMITED, "out", "--cache", "no", env={**self.env, "HOME": str(self.dir / "in.jsonl")})
        self.assertEqual(result.code, 1, result.err)
        self.assertIn("DOCFLUME_LIMITS", result.err)

    def test_what_has_no_limits_needs_no_home(self):
        result = self.run_it(FAKE, "out", "--cache", "no", env={**self.env, "HOME": ""})
        self.assertEqual((result.code, "error" in result.err), (0, False), result.err)

    def test_a_file_system_that_is_read_only_is_named(self):
        (self.dir / "ro").mkdir()
        script = 'mount -t tmpfs -o ro none "$1" && shift && exec "$@"'
        wrap = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(self.dir / "ro")]
        try:
            if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode != 0:
                wrap = ["unshare", "--mount", *wrap[4:]]
            if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode != 0:
                self.skipTest("no mount namespaces here")
        except FileNotFoundError:
            self.skipTest("no unshare here")
        env = {**self.env, "HOME": str(self.dir / "ro"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

        def run_in(out, pipeline, *args):
            return subprocess.run([*wrap, BIN, "run", pipeline, "-j", "1", "-o", out, *args, "in.jsonl"], cwd=self.dir, env=env,
                                  capture_output=True, text=True, timeout=60, check=False)
        result = run_in("out", FAKE)
        self.assertEqual(result.returncode, 0, result.stderr)
        result = run_in("two", LIMITED, "--cache", "no")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("Read-only file system", result.stderr)
        self.assertIn("DOCFLUME_LIMITS", result.stderr)
        self.assertNotIn("No such file", result.stderr)

    def test_every_word_for_no_is_no_cache_and_makes_no_folder(self):
        env = {"DOCFLUME_LIMITS": str(self.dir / "limits")}
        for word in ("no", "NO", "No", "off", "OFF", "none", "None", "false", "FALSE", "0"):
            result = self.run_it(FAKE, "out-" + word, "--cache", word, env=env)
            self.assertEqual(result.code, 0, result.err)
            self.assertFalse((self.dir / word).exists(), word)
        for word in ("yes", "ON", "true"):
            result = self.run_it(FAKE, "out-" + word, "--cache", word, env=env)
            self.assertEqual(result.code, 2, result.err)
            self.assertIn("./" + word, result.err)
            self.assertFalse((self.dir / ("out-" + word)).exists())
        result = self.run_it(FAKE, "out-path", "--cache", "./no", env=env)
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(json.loads(self.flume("cache", "stats", "--json", "--path", "./no").out)["entries"], 1)
        self.write("p.yaml", "cache: false\npipeline: \"llm model=fake/any prompt='{{id}}'\"\n")
        result = self.flume("run", "-f", "p.yaml", "-o", "yaml", "in.jsonl", env=env)
        self.assertEqual(result.code, 0, result.err)
        self.assertFalse((self.dir / "false").exists())


if __name__ == "__main__":
    unittest.main()
