# SPDX-License-Identifier: Apache-2.0
"""Inputs that change, shrink, grow, vanish or hold nonsense while a run reads them: said, counted, and nothing else is lost."""
import collections
import gzip
import json
import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, jsonl, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402

N = 400
SLOWLY = "exec cmd='sleep 0.1; cat'"


class Changes(RunCase):
    def change(self, name, how, *more, out="out"):
        """Run over `name` and a good input behind it, and do how(path) when the first results are in."""
        path = self.dir / name
        plain = jsonl(N)
        path.write_bytes(gzip.compress(plain) if name.endswith(".gz") else plain)
        self.write("z.jsonl", jsonl(100, first=N))
        child = self.start("run", "-j", "2", "--cell-size", "2k", SLOWLY, *(["-o", out] if out else []), *more, name, "z.jsonl")
        self.assertTrue(wait_until(lambda: any(os.path.getsize(p) for p in self.parts("jsonl.open", out))), "no results")
        how(path)
        _, err = child.communicate(timeout=60 * SLOW)
        return child.returncode, err.decode()

    def check(self, code, err, *words):
        self.assertEqual(code, 3, err)
        for word in words:
            self.assertIn(word, err)
        ids = collections.Counter(r["id"] for r in self.rows())
        self.assertEqual(max(ids.values()), 1, "came twice")
        self.assertEqual({i for i in ids if i >= "d%06d" % N}, {"d%06d" % i for i in range(N, N + 100)}, "the rest is not complete")
        self.assertLess(len(ids), N + 100)
        counts = self.counts_add_up()
        self.assertEqual(counts["out"], len(ids))
        self.assertEqual(counts["rejected_total"], 0)
        self.assertIn("warning", err)
        self.assertNotIn("died", err)
        for row in self.rows():
            self.assertEqual(set(row), {"id", "text", "metadata"})

    def test_a_file_that_is_cut_short(self):
        self.check(*self.change("a.jsonl", lambda p: os.truncate(p, 5000)), "a.jsonl", "changed")

    def test_a_file_that_is_emptied(self):
        self.check(*self.change("a.jsonl", lambda p: os.truncate(p, 0)), "a.jsonl", "changed")

    def test_a_file_that_grows(self):
        def grow(path):
            with open(path, "ab") as f:
                f.write(jsonl(10, first=5000))
        self.check(*self.change("a.jsonl", grow), "a.jsonl", "changed")
        self.assertFalse([r for r in self.rows() if r["id"] >= "d005000"])

    def test_a_file_that_is_replaced_by_another(self):
        def replace(path):
            self.write("new", jsonl(N, seed=2))
            os.replace(self.dir / "new", path)
        code, err = self.change("a.jsonl", replace)
        texts = {json.loads(line)["text"] for line in jsonl(N).splitlines()}
        self.assertFalse([r for r in self.rows() if r["id"] < "d%06d" % N and r["text"] not in texts], "two files were mixed")
        if code == 0:  # descriptors that were open read the old file to its end
            self.assertEqual(len(self.rows()), N + 100)
        else:
            self.check(code, err, "a.jsonl", "changed")

    def test_a_file_that_is_written_over_in_place(self):
        def write_over(path):
            with open(path, "r+b") as f:
                f.seek(-1000, 2)
                f.write(b"X" * 900)
        self.check(*self.change("a.jsonl", write_over), "a.jsonl", "changed")

    def test_a_file_that_is_deleted(self):
        code, err = self.change("a.jsonl", os.unlink)
        if code == 0:
            self.assertEqual(len(self.rows()), N + 100)
        else:
            self.check(code, err, "a.jsonl")

    def test_a_small_file_that_vanishes_before_its_turn(self):
        self.write("b.txt", "short lived")
        code, err = self.change("a.jsonl", lambda p: os.unlink(self.dir / "b.txt"), "z.jsonl", "b.txt")
        self.assertEqual(code, 3, err)
        self.assertIn("b.txt", err)
        self.assertEqual(len(self.rows()), N + 100)
        self.counts_add_up()

    def test_with_the_order_kept_the_rest_still_comes(self):
        self.check(*self.change("a.jsonl", lambda p: os.truncate(p, 5000), "-k"), "a.jsonl", "changed")
        ids = [r["id"] for r in self.rows()]
        self.assertEqual(ids, sorted(ids))

    def test_a_file_that_a_reader_reads_is_cut_short(self):
        noise = os.urandom(3 << 20)  # what cannot be compressed keeps the reader behind the workers
        big = b"".join(json.dumps({"id": "n%04d" % i, "text": noise[i * 1024:(i + 1) * 1024].hex()}).encode() + b"\n" for i in range(3072))
        path = self.write("a.jsonl.gz", gzip.compress(big, 1))
        self.write("z.jsonl", jsonl(100))
        child = self.start("run", "-j", "2", "--cell-size", "64k", "exec cmd='sleep 0.3; cat'", "-o", "out", "a.jsonl.gz", "z.jsonl")
        self.assertTrue(wait_until(lambda: any(os.path.getsize(p) for p in self.parts("jsonl.open"))))
        os.truncate(path, 1 << 20)
        _, err = child.communicate(timeout=100 * SLOW)
        ids = [r["id"] for r in self.rows()]
        self.assertEqual(len(set(ids)), len(ids))
        self.assertEqual(len([i for i in ids if i < "e"]), 100, "the rest is not complete")
        self.counts_add_up()
        if len(ids) < 3172:
            self.assertEqual(child.returncode, 3, err)
            self.assertIn(b"a.jsonl.gz", err)

    def test_the_same_command_is_refused_when_the_input_has_changed(self):
        self.change("a.jsonl", lambda p: os.truncate(p, 5000))
        result = self.flume("run", "-j", "2", "--cell-size", "2k", SLOWLY, "-o", "out", "a.jsonl", "z.jsonl")
        self.assertEqual(result.code, 1)
        self.assertIn("input is not that of the run", result.err)

    def test_a_finished_run_that_lost_an_input_does_not_turn_into_a_good_one(self):
        self.write("a.jsonl.gz", gzip.compress(jsonl(3000))[:-8] + b"\0" * 8)  # all is there, only the checksum is wrong
        self.run_ok("strip", "-o", "out", "a.jsonl.gz", code=3)
        again = self.run_ok("strip", "-o", "out", "a.jsonl.gz", code=3)
        self.assertIn("complete already", again.err)


class Nonsense(RunCase):
    def test_duplicate_ids_are_passed_on(self):
        self.write("a.jsonl", '{"id":"same","text":"one"}\n{"id":"same","text":"two"}\n' * 200)
        self.write("b.jsonl", '{"id":"same","text":"one"}\n')
        result = self.run_ok("-k", "count", "-o", "out", "a.jsonl", "b.jsonl")
        self.assertEqual([r["text"] for r in self.rows()], ["one", "two"] * 200 + ["one"])
        self.assertEqual(self.counts_add_up()["in"], 401, result.err)

    def test_a_file_named_twice_is_read_once(self):
        self.write("a.jsonl", jsonl(10))
        self.assertEqual(len(self.run_ok("strip", "a.jsonl", "./a.jsonl", "*.jsonl").rows()), 10)

    def test_nul_bytes_are_rejected_with_their_place_and_lose_nothing(self):
        good = jsonl(50).splitlines(True)
        zeros = b"\0" * 5000 + b"\n"
        self.write("a.jsonl", b"".join(good[:20]) + zeros + b"".join(good[20:]) + b'{"id":"\0","text":"\0"}\n' + b"\0" * 300)
        result = self.run_ok("-k", "--rejects", "r.jsonl", "strip", "a.jsonl", code=3)
        self.assertEqual(result.ids(), ["d%06d" % i for i in range(50)])
        rejects = [json.loads(line) for line in (self.dir / "r.jsonl").read_text().splitlines()]
        self.assertEqual(len(rejects), 3)
        self.assertIn(len(b"".join(good[:20])), [r["docflume"]["offset"] for r in rejects])

    def test_an_escaped_nul_is_a_character_like_others(self):
        self.write("a.jsonl", '{"id":"a\\u0000b","text":" x\\u0000y "}\n')
        row, = self.run_ok("strip | count", "a.jsonl").rows()
        self.assertEqual((row["id"], row["text"], row["chars"]), ("a\0b", "x\0y", 3))

    def test_a_text_file_of_nul_bytes_is_a_document(self):
        self.write("a.txt", b"a\0b\0")
        self.assertEqual(self.run_ok("strip", "a.txt").rows()[0]["text"], "a\0b\0")

    def test_a_sparse_file_of_a_hundred_megabytes_of_zeros(self):
        with open(self.dir / "a.jsonl", "wb") as f:
            f.write(jsonl(1))
            f.truncate(100 << 20)
        self.assertEqual(self.run_ok("strip", "a.jsonl", code=3).ids(), ["d000000"])

    def test_other_formats_under_a_jsonl_name_reject_record_by_record(self):
        for data in (gzip.compress(jsonl(100)), os.urandom(100000), b"<html>\n" * 100, jsonl(3)[:-20]):
            self.write("a.jsonl", data)
            result = self.flume("run", "-o", "out", "--force-restart", "strip", "a.jsonl")
            self.assertIn(result.code, (0, 3), result.err)
            self.assertGreater(self.counts_add_up()["in"], 0)


if __name__ == "__main__":
    unittest.main()
