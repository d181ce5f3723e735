# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
"""docflume verify: a run is proved, or what is wrong with it is named; a run that goes on is left alone; nothing is ever changed."""
import json
import os
import pathlib
import shutil
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, jsonl, kill, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402

PIPELINE = "strip | clean min_chars=40"


class Verify(RunCase):
    def a_run(self, *more, n=3000, code=3):
        self.write("a.jsonl", jsonl(n, words=200) + b'{"id":1}\n{"text":\n')
        self.run_ok(PIPELINE, "-o", "out", "--part-size", "100k", *more, "a.jsonl", code=code)

    def verify(self, code, *args, out="out"):
        before = self.picture(out)
        result = self.flume("verify", *args, out)
        self.assertEqual(self.picture(out), before, "verify changed something")
        self.assertEqual(result.code, code, result.out + result.err)
        return result

    def test_a_run_is_proved(self):
        self.a_run()
        result = self.verify(0)
        for word in ("journal", "parts", "rows", "cells", "counts", "files", "run.json"):
            self.assertRegex(result.out, r"(?m)^%s +ok " % word.replace(".", r"\."))
        self.assertIn("'out' is proved: complete and unchanged", result.out)
        self.assertGreater(len(self.parts("jsonl")), 1)
        self.assertIn("%d lines of JSON" % (self.state()["counts"]["rows"] + 2), result.out)
        self.assertIn("lines not looked into", self.verify(0, "--quick").out)

    def test_compressed_parts_are_looked_into(self):
        self.a_run("--zstd=1", n=6000)
        self.assertIn("%d lines of JSON" % (self.state()["counts"]["rows"] + 2), self.verify(0).out)
        path = self.dir / "out" / "part-00000.jsonl.zst"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        self.assertRegex(self.verify(1).out, r"part-00000.jsonl.zst: changed or damaged between bytes \d+ and \d+")
        self.assertIn("part-00000.jsonl.zst: changed", self.verify(1, "-q", "-j1").out)

    def test_json_is_for_scripts(self):
        self.a_run()
        proof = json.loads(self.verify(0, "--json").out)
        self.assertEqual((proof["state"], proof["finished"], proof["faults"], proof["directory"]), ("proved", True, 0, "out"))
        self.assertEqual([g["name"] for g in proof["groups"]], ["journal", "parts", "rows", "cells", "counts", "files", "run.json"])
        self.assertEqual(proof["lines"], self.state()["counts"]["rows"] + 2)
        self.assertEqual(proof["files"], len(self.state()["parts"]))
        (self.dir / "out" / "part-00000.jsonl").write_bytes(b"{}\n")
        proof = json.loads(self.verify(1, "--json").out)
        self.assertEqual((proof["state"], proof["faults"]), ("wrong", 1))
        self.assertIn("part-00000.jsonl: 3 bytes, but the journal says", proof["groups"][1]["wrong"][0])

    def test_a_row_that_was_edited_swapped_or_copied_is_found(self):
        self.a_run()
        path = self.dir / "out" / "part-00001.jsonl"
        data = path.read_bytes()
        lines = data.splitlines(True)
        edits = [data.replace(b"whale", b"shark", 1) if b"whale" in data else data.replace(b"animal", b"enimal", 1),
                 b"".join([lines[1], lines[0], *lines[2:]]), b"".join([lines[0], *lines[:-1]]), data + lines[0],
                 b"".join(lines[:-1])]
        for edited in edits:
            self.assertNotEqual(edited, data)
            path.write_bytes(edited)
            self.assertRegex(self.verify(1).out, r"(?m)^parts +WRONG[\s\S]*part-00001.jsonl: ")
        path.write_bytes(data)
        self.verify(0)

    def test_files_that_are_exchanged_missing_or_too_many_are_found(self):
        self.a_run()
        out = self.dir / "out"
        a, b = out / "part-00000.jsonl", out / "part-00001.jsonl"
        a.rename(out / "x")
        b.rename(a)
        (out / "x").rename(b)
        said = self.verify(1).out
        self.assertIn("part-00000.jsonl: ", said)
        self.assertIn("part-00001.jsonl: ", said)
        a.rename(out / "x")
        self.assertIn("part-00000.jsonl: missing; the journal says it has", self.verify(1).out)
        b.rename(a)
        (out / "x").rename(b)
        self.verify(0)
        shutil.copy(a, out / "part-00100.jsonl")
        self.assertIn("part-00100.jsonl: is there, but the journal does not know it", self.verify(1).out)

    def test_another_runs_journal_or_run_json_is_found(self):
        self.a_run()
        self.run_ok(PIPELINE, "-o", "other", "--limit", "100", "a.jsonl")
        shutil.copy(self.dir / "other" / "run.json", self.dir / "out" / "run.json")
        self.assertRegex(self.verify(1).out, r"(?m)^run.json +WRONG[\s\S]*fingerprint")
        shutil.copy(self.dir / "other" / "journal", self.dir / "out" / "journal")
        self.assertRegex(self.verify(1).out, r"(?m)^parts +WRONG")

    def test_a_stopped_run_is_consistent_and_not_finished(self):
        self.write("a.jsonl", jsonl(20000))
        self.write("nap", "0.3")
        child = self.start("run", "exec cmd='sleep $(cat nap); cat'", "-o", "out", "--part-size", "64k", "a.jsonl")
        self.assertTrue(wait_until(lambda: self.parts("jsonl") or self.parts("jsonl.open"), 20))
        time.sleep(0.5 * SLOW)
        busy = self.flume("verify", "out")
        self.assertEqual((busy.code, busy.out), (75, ""))
        self.assertRegex(busy.err, r"'out' is in use by process \d+; verify it when that is over")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60 * SLOW)
        self.assertEqual(child.returncode, 75)
        self.assertIn("'out' is consistent, but not finished: the same command goes on", self.verify(75).out)
        self.write("nap", "0")
        self.run_ok("exec cmd='sleep $(cat nap); cat'", "-o", "out", "--part-size", "64k", "a.jsonl", timeout=120)
        self.verify(0)

    def test_a_killed_run_is_consistent_at_every_moment(self):
        self.write("a.jsonl", jsonl(8000))
        command = ("run", "exec cmd='sleep 0.02; cat'", "-o", "out", "--part-size", "64k", "a.jsonl")
        for i in range(6):
            child = self.start(*command)
            time.sleep((0.25 + 0.07 * i) * SLOW)
            kill(child.pid)
            child.wait()
            if not (self.dir / "out" / "journal").exists():
                continue
            self.assertTrue(wait_until(lambda: "in use" not in self.flume("verify", "out").err, 20))
            result = self.flume("verify", "out")
            self.assertIn(result.code, (0, 75), result.out + result.err)
        result = self.flume(*command, timeout=120)
        self.assertEqual(result.code, 0, result.err)
        self.verify(0)
        self.assertEqual(len(self.rows()), 8000)

    def test_readers_and_inputs_with_errors(self):
        import gzip
        self.write("a.jsonl.gz", gzip.compress(jsonl(2000), 1))
        self.write("b.jsonl.gz", gzip.compress(jsonl(2000, first=2000), 1)[:-3000])
        self.write("empty.jsonl", b"")
        self.run_ok("strip", "-o", "out", "a.jsonl.gz", "b.jsonl.gz", "empty.jsonl", code=3)
        self.assertIn("but of inputs with an error", self.verify(0).out)

    def test_a_run_without_rows_or_documents_is_proved(self):
        self.write("a.jsonl", b"")
        self.run_ok("strip", "-o", "out", "a.jsonl")
        self.verify(0)
        self.write("b.jsonl", jsonl(500))
        self.run_ok("strip", "-o", "none", "--output-format", "none", "b.jsonl")
        self.verify(0, out="none")

    def test_a_copy_on_a_read_only_place_is_proved(self):
        self.a_run()
        out = self.dir / "out"
        (out / "lock").unlink()
        for path in out.iterdir():
            path.chmod(0o400)
        out.chmod(0o500)
        self.addCleanup(out.chmod, 0o700)
        self.verify(0)

    def test_generations_are_proved_too(self):
        self.a_run()
        self.write("b.jsonl", jsonl(300, seed=5))
        self.run_ok(PIPELINE, "-o", "out/retry-1", "b.jsonl")
        self.assertIn("'out/retry-1' is proved", self.flume("verify", "out").out)
        path = self.dir / "out" / "retry-1" / "part-00000.jsonl"
        path.write_bytes(path.read_bytes()[:-1])
        result = self.flume("verify", "out")
        self.assertEqual(result.code, 1)
        self.assertIn("'out' is proved", result.out)
        self.assertIn("'out/retry-1' is damaged: 1 fault", result.out)
        proof = json.loads(self.flume("verify", "out", "--json").out)
        self.assertEqual([g["state"] for g in proof["generations"]], ["wrong"])

    def test_what_is_no_run_directory_is_said(self):
        self.assertEqual(self.flume("verify").code, 2)
        self.assertEqual(self.flume("verify", "a", "b").code, 2)
        missing = self.flume("verify", "nowhere")
        self.assertEqual(missing.code, 1)
        self.assertIn("cannot open the run directory 'nowhere'", missing.err)
        os.mkdir(self.dir / "empty")
        self.assertIn("it is not a run directory", self.flume("verify", "empty").err)
        self.assertIn("75 nothing is wrong", " ".join(self.flume("verify", "--help").out.split()))


if __name__ == "__main__":
    unittest.main()
