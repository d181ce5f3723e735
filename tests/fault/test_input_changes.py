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
from flume import SLOW, jsonl, kill_whole, wait_until  # noqa: E402
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


class Refused(RunCase):
    """The same command again, but something is not what it was: refused, and told so that it is seen at once."""

    def begun(self, *more):
        for i in range(12):
            self.write("in/%02d.jsonl" % i, jsonl(3, first=3 * i))
        self.args = ("-o", "out", *more)
        self.run_ok("strip | count", *self.args, "in")

    def refused(self, *words, pipeline="strip | count", more=(), inputs=("in",)):
        before = self.picture()
        result = self.run_ok(pipeline, *self.args, *more, *inputs, code=1)
        for word in words:
            self.assertRegex(result.err, word)
        self.assertEqual(self.picture(), before, "a refusal changes nothing")
        return result.err

    def test_each_changed_file_is_named_with_what_was_and_what_is(self):
        self.begun()
        (self.dir / "in/03.jsonl").unlink()
        self.write("in/04.jsonl", jsonl(4))
        os.utime(self.dir / "in/05.jsonl", ns=(0, 1700000000123456789))
        os.rename(self.write("other", (self.dir / "in/06.jsonl").read_bytes()), self.dir / "in/06.jsonl")
        self.write("in/99.jsonl", jsonl(1))
        self.refused(r"'in/03.jsonl' is not there any more", r"'in/04.jsonl': \d+ bytes, now \d+; modified", r"'in/99.jsonl' is new",
                     r"'in/05.jsonl': modified .*, now 2023-11-\d\d \d\d:13:20.123456789", r"'in/06.jsonl': modified .*another file \(inode \d+",
                     r"3 changed, 1 gone, 1 new", "--force-restart")

    def test_of_many_the_first_are_named_and_the_rest_counted(self):
        self.begun()
        for i in range(12):
            self.write("in/%02d.jsonl" % i, jsonl(5))
        err = self.refused("and 6 more", "12 changed, 0 gone, 0 new")
        self.assertEqual(err.count("input 'in/"), 6)

    def test_pipeline_and_options_stand_side_by_side(self):
        self.begun("--max-record", "2m")
        err = self.refused(r"pipeline: was 'strip \| count'\n.*pipeline: now 'strip'", pipeline="strip")
        self.assertIn("another pipeline", err)
        self.args = ("-o", "out", "--max-record", "3m", "--id-key", "key")
        self.refused("max_record: was '2097152', now '3145728'", "id_key: was 'id', now 'key'", "another 2 options")

    def test_force_restart_moves_it_aside(self):
        self.begun()
        self.write("in/04.jsonl", jsonl(4))
        before = self.picture()
        self.run_ok("strip | count", *self.args, "--force-restart", "in")
        self.assertEqual(self.picture("out.old-1"), before)
        self.assertEqual(len(self.rows()), 37)

    def test_paranoid_forgives_what_is_only_touched_and_refuses_what_only_seems_the_same(self):
        self.begun("--paranoid")
        path = self.dir / "in/05.jsonl"
        os.utime(path, ns=(0, 1))
        os.rename(self.write("copy", (self.dir / "in/06.jsonl").read_bytes()), self.dir / "in/06.jsonl")
        self.args = ("-o", "out")
        self.refused("in/05.jsonl", "in/06.jsonl", "--paranoid compares the content alone")
        self.args = ("-o", "out", "--paranoid")
        self.assertIn("complete already", self.run_ok("strip | count", *self.args, "in").err)
        data, st = path.read_bytes(), path.stat()
        path.write_bytes(data.replace(b"d000015", b"d000016"))
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
        self.refused(r"'in/05.jsonl': its content differs", "1 changed, 0 gone, 0 new")

    def test_paranoid_behind_a_run_without_it_is_refused(self):
        self.begun()
        self.args = ("-o", "out", "--paranoid")
        self.refused("begun without --paranoid")

    def test_paranoid_goes_on_with_an_unfinished_run_over_touched_files(self):
        self.write("nap", "0.2")
        for i in range(4):
            self.write("in/%d.jsonl" % i, jsonl(N // 4, first=i * (N // 4)))
        self.write("in/z.jsonl.gz", gzip.compress(jsonl(N // 4, first=N)))
        args = ("-j", "2", "--cell-size", "2k", "--paranoid", "exec cmd='sleep $(cat nap); cat'", "-o", "out", "in")
        child = self.start("run", *args)
        self.assertTrue(wait_until(lambda: any(os.path.getsize(p) for p in self.parts("jsonl.open"))), "no results")
        kill_whole(child)
        for path in (self.dir / "in").iterdir():
            path.touch()
        self.write("nap", "0")
        self.run_ok(*args)
        self.assertEqual(sorted(r["id"] for r in self.rows()), ["d%06d" % i for i in range(N + N // 4)])

    def test_a_damaged_list_of_inputs_is_said_and_never_believed(self):
        self.begun()
        self.write("in/04.jsonl", jsonl(4))
        path = self.dir / "out/inputs"
        path.write_bytes(path.read_bytes()[:-9])
        self.refused("'inputs' is damaged")


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
