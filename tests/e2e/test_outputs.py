# SPDX-License-Identifier: Apache-2.0
"""Run directories: what is in them, what they refuse, how they go on; and that counts, rows and vectors agree."""
import base64
import collections
import json
import os
import shutil
import subprocess
import unittest

from flume import SLOW, coordinator_of, document, jsonl, wait_until
from rundir import HAS_MODEL, NO_MODEL, RunCase, cosine, read_npy, strict

SLOWLY = "exec cmd='sleep 0.2; cat'"

# Results are written a lease at a time, and a part ends between two of them.
IN_PIECES = ("-j", "1", "--cell-size", "64k", "exec cmd='sleep 0.05; cat'")


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Contents(RunCase):
    def test_a_run_directory_holds_parts_a_journal_and_run_json_and_nothing_else(self):
        self.write("a.jsonl", jsonl(100))
        result = self.run_ok("strip", "-o", "out", "a.jsonl")
        self.assertEqual(result.out, "")
        self.assertEqual(set(os.listdir(self.dir / "out")), {"part-00000.jsonl", "journal", "lock", "run.json", "inputs"})
        self.assertEqual((self.dir / "out" / "lock").stat().st_mode & 0o77, 0)
        self.assertIn("results in 'out'", result.err)

    def test_run_json_tells_what_was_asked_for_and_what_came_of_it(self):
        self.write("a.jsonl", jsonl(100))
        self.run_ok("strip | clean min_chars=30", "-o", "out", "a.jsonl")
        state = self.state()
        self.assertEqual(state["state"], "finished")
        self.assertEqual(state["pipeline"], "strip | clean min_chars=30")
        self.assertEqual(state["inputs"], {"n": 1, "first": ["a.jsonl"]})
        self.assertEqual(state["counts"]["bytes_in"], (self.dir / "a.jsonl").stat().st_size)
        self.assertEqual({s["name"] for s in state["stages"]}, {"strip", "clean"})
        self.assertEqual({p["role"] for p in state["processes"]}, {"coordinator", "worker"})
        for role in ("coordinator", "worker"):  # a worker that had not started when all was done has nothing to tell
            self.assertGreater(max(p["peak_rss_bytes"] for p in state["processes"] if p["role"] == role), 1 << 20)
        part, = state["parts"]
        self.assertEqual((part["name"], part["rows"]), ("part-00000.jsonl", state["counts"]["rows"]))
        self.assertEqual(part["bytes"], (self.dir / "out" / "part-00000.jsonl").stat().st_size)

    def test_documents_in_are_out_and_filtered_and_rejected_by_reason(self):
        rows = [dict(document(i), source="web") for i in range(60)]
        for r in rows[:7]:
            r["text"] = "x"
        for r in rows[7:12]:
            del r["source"]
            r["text"] = "long enough"
        for r in rows[12:]:
            r["text"] += " and long enough too"
        self.write("a.jsonl", "\n".join(json.dumps(r) for r in rows) + '\nnot json\n{"id":"q","text":1}\n{"id":"p"}\n')
        result = self.run_ok("clean min_chars=5 require=source", "-o", "out", "a.jsonl", code=3)
        counts = self.counts_add_up()
        self.assertEqual(counts["in"], 63)
        self.assertEqual(counts["filtered"], {"clean:min_chars": 7, "clean:require": 5})
        self.assertEqual(counts["rejected"], {"input:parse": 1, "input:type": 2})
        self.assertIn("63 documents in = 48 out + 12 filtered (clean:min_chars 7, clean:require 5)"
                      " + 3 rejected (input:parse 1, input:type 2)", result.err)

    def test_parts_begin_anew_at_their_size_and_lose_nothing(self):
        self.write("a.jsonl", jsonl(3000))
        self.run_ok("-k", *IN_PIECES, "-o", "out", "--part-size", "64k", "a.jsonl")
        parts = self.parts("jsonl")
        self.assertGreater(len(parts), 2)
        self.assertEqual(parts, [str(self.dir / "out" / ("part-%05d.jsonl" % i)) for i in range(len(parts))])
        self.assertEqual(b"".join(map(read, parts)), jsonl(3000))
        self.assertEqual([p["rows"] for p in self.state()["parts"]], [read(p).count(b"\n") for p in parts])

    def test_parts_are_whole_zstd_files(self):
        if not shutil.which("zstd"):
            self.skipTest("no zstd command")
        self.write("a.jsonl", jsonl(3000) + b"bad\n")
        self.run_ok("-k", *IN_PIECES, "-o", "out", "--zstd=1", "--part-size", "64k", "a.jsonl", code=3)
        parts = self.parts("jsonl.zst")
        self.assertEqual(self.parts("jsonl"), [])
        self.assertGreater(len(parts), 1)
        data = b"".join(subprocess.run(["zstd", "-dcq", p], check=True, capture_output=True).stdout for p in parts)
        self.assertEqual(data, jsonl(3000))
        rejects = self.parts("jsonl.zst", name="rejects")
        self.assertTrue(rejects)
        lines = subprocess.run(["zstd", "-dcq", rejects[0]], check=True, capture_output=True).stdout.splitlines()
        self.assertEqual([strict(x)["raw_base64"] for x in lines], [base64.b64encode(b"bad").decode()])
        self.assertEqual(len(self.run_ok("strip", *parts).rows()), 3000)

    def test_zstd_works_on_stdout_too(self):
        if not shutil.which("zstd"):
            self.skipTest("no zstd command")
        self.write("a.jsonl", jsonl(500))
        with open(self.dir / "out.zst", "wb") as out:
            child = self.start("run", "-k", "--zstd", "strip", "a.jsonl", stdout=out)
            self.assertEqual(child.wait(60), 0, child.stderr.read())
        data = subprocess.run(["zstd", "-dcq", "out.zst"], cwd=self.dir, check=True, capture_output=True).stdout
        self.assertEqual(data, jsonl(500))

    def test_order_is_kept_in_a_run_directory(self):
        self.write("a.jsonl", jsonl(2000))
        self.run_ok("-k", "--cell-size", "1k", "strip", "-o", "out", "a.jsonl")
        self.assertEqual([r["id"] for r in self.rows()], ["d%06d" % i for i in range(2000)])

    def test_output_format_none_leaves_only_counts(self):
        self.write("a.jsonl", jsonl(200) + b"bad\n")
        self.run_ok("strip", "-o", "out", "--output-format", "none", "a.jsonl", code=3)
        self.assertEqual(self.parts("jsonl") + self.parts("npy"), [])
        self.assertEqual(self.counts_add_up()["out"], 200)
        self.assertEqual(len(self.rows(name="rejects")), 1)
        self.assertEqual(self.run_ok("strip", "--output-format", "none", "a.jsonl", code=3).out, "")

    def test_an_empty_input_makes_a_finished_run(self):
        self.write("a.jsonl", "")
        self.run_ok("strip", "-o", "out", "a.jsonl")
        self.assertEqual(self.state()["state"], "finished")
        self.assertEqual(self.counts_add_up()["in"], 0)
        self.assertIn("complete already", self.run_ok("strip", "-o", "out", "a.jsonl").err)

    def test_files_with_vectors_need_vectors_and_a_directory(self):
        self.write("a.jsonl", jsonl(3))
        for args in (("strip", "-o", "out"), ("embed",)):
            result = self.flume("run", "--output-format", "npy", *args, "a.jsonl")
            self.assertEqual(result.code, 2, result.err)
            self.assertFalse((self.dir / "out").exists())


class Rejects(RunCase):
    def test_rejects_name_their_place_and_are_valid_input_for_a_rerun(self):
        good = jsonl(20)
        self.write("a.jsonl", good + b'{"id":"long","text":"' + b"word " * 400 + b'","x":[1,2]}\n' + jsonl(20, first=20))
        self.run_ok("chunk chars=20 max_chunks=50", "-o", "out", "a.jsonl", code=3)
        reject, = self.rows(name="rejects")
        self.assertEqual((reject["id"], reject["x"]), ("long", [1, 2]))
        self.assertEqual(reject["docflume"]["source"], "a.jsonl")
        self.assertEqual(reject["docflume"]["offset"], len(good))
        self.assertEqual(reject["docflume"]["stage"], "chunk")
        again = self.run_ok("-k", "chunk chars=200 max_chunks=50", "out/rejects-00000.jsonl")
        self.assertEqual({r["doc_id"] for r in again.rows()}, {"long"})

    def test_a_record_that_is_rejected_again_has_the_newest_reason_alone(self):
        self.write("a.jsonl", b'{"id":"q","text":1,"keep":true}\n{"id":1e3,"text":"\xff"}\nnot json\n')
        self.run_ok("strip", "--rejects", "one.jsonl", "a.jsonl", code=3)
        self.run_ok("strip", "--rejects", "two.jsonl", "one.jsonl", code=3)
        rows = [strict(line) for line in (self.dir / "two.jsonl").read_bytes().splitlines()]
        self.assertEqual(len(rows), 3)
        self.assertEqual({r["docflume"]["source"] for r in rows}, {"one.jsonl"})
        self.assertEqual([r["keep"] for r in rows if r.get("id") == "q"], [True])
        self.assertIn(base64.b64encode(b"not json").decode(), [r.get("raw_base64") for r in rows])


@unittest.skipUnless(HAS_MODEL, NO_MODEL)
class Vectors(RunCase):
    def embed(self, out, *args, n=60):
        self.write("a.jsonl", jsonl(n, words=12))
        self.run_ok("-k", "-j", "2", "--cell-size", "1k", "embed", "-o", out, *args, "a.jsonl", timeout=100)

    def test_rows_and_vectors_are_equal_in_number_and_order(self):
        self.embed("out")
        self.embed("lines", "--output-format", "jsonl")
        rows, vectors, lines = self.rows(), self.vectors(), self.rows("lines")
        self.assertEqual(len(rows), 60)
        self.assertEqual(len(vectors), 60)
        self.assertNotIn("embedding", rows[0])
        self.assertEqual(self.parts("npy", "lines"), [])
        for row, vector, line in zip(rows, vectors, lines):
            self.assertEqual(row["id"], line["id"])
            self.assertGreater(cosine(vector, line["embedding"]), 0.999999)

    def test_npy_alone_and_f16_are_the_same_vectors(self):
        self.embed("out", "--output-format", "npy", "--dtype", "f16")
        self.embed("full", "--output-format", "both")
        self.assertEqual(self.parts("jsonl"), [])
        descr, half = read_npy(self.parts("npy")[0])
        self.assertEqual(descr, "<f2")
        for a, b in zip(half, self.vectors("full")):
            self.assertLess(max(abs(x - y) for x, y in zip(a, b)), 0.0005)

    def test_rows_and_vectors_rotate_together(self):
        self.write("a.jsonl", jsonl(150, words=12))  # a part ends with a commit, so there must be some of them
        self.run_ok("-j", "1", "--cell-size", "4k", "exec cmd='sleep 0.25; cat' | embed", "-o", "out", "--part-size", "64k",
                    "a.jsonl", timeout=100)
        rows, npy = self.parts("jsonl"), self.parts("npy")
        self.assertGreater(len(npy), 1)
        self.assertEqual(len(rows), len(npy))
        for a, b in zip(rows, npy):
            with open(a, "rb") as f:
                self.assertEqual(f.read().count(b"\n"), len(read_npy(b)[1]))
        self.assertEqual(len(self.vectors()), 150)

    def test_a_vector_replaces_an_embedding_that_the_record_had(self):
        self.write("a.jsonl", '{"id":"a","text":"sea","embedding":[1,2]}\n{"embedding":null,"text":"tree"}\n')
        result = self.run_ok("embed", "a.jsonl")
        for line in result.out.splitlines():
            self.assertEqual(len(strict(line)["embedding"]), 384)
        self.run_ok("embed", "-o", "out", "a.jsonl")
        self.assertEqual({r["id"]: r["embedding"] for r in self.rows()}, {"a": [1, 2], "a.jsonl#%d" % 42: None})


class GoingOn(RunCase):
    def begin(self, *args, code=0):
        self.write("a.jsonl", jsonl(300))
        return self.run_ok("count", "-o", "out", *(args or ("a.jsonl",)), code=code)

    def refused(self, *args, words):
        before = self.picture()
        result = self.flume("run", *args)
        self.assertEqual(result.code, 1, result.err)
        for word in words:
            self.assertIn(word, result.err)
        self.assertLessEqual(len(result.err.splitlines()), 3, result.err)  # old and new below each other
        self.assertEqual(self.picture(), before, "a refused run has changed the directory")

    def test_a_finished_run_is_left_alone(self):
        self.begin()
        before = self.picture()
        result = self.run_ok("count", "-o", "out", "a.jsonl")
        self.assertIn("complete already", result.err)
        self.assertEqual(self.picture(), before)

    def test_a_finished_run_with_rejects_still_exits_3(self):
        self.write("a.jsonl", jsonl(30) + b"bad\n")
        self.run_ok("count", "-o", "out", "a.jsonl", code=3)
        self.run_ok("count", "-o", "out", "a.jsonl", code=3)

    def test_another_pipeline_is_refused_with_both_shown(self):
        self.begin()
        self.refused("strip | count", "-o", "out", "a.jsonl", words=["'count'", "'strip | count'", "--force-restart"])

    def test_a_pipeline_that_is_only_written_differently_is_the_same(self):
        self.begin()
        self.assertIn("complete already", self.run_ok("  count # as before", "-o", "out", "a.jsonl").err)

    def test_changed_options_are_refused_by_name(self):
        self.begin()
        for option, value, word in (("--id-key", "n", "id_key"), ("--limit", "5", "limit"), ("--skip", "1", "skip"),
                                    ("--zstd", None, "zstd"), ("--max-record", "2k", "max_record"),
                                    ("--output-format", "none", "output_format"), ("--sample", "0.5", "sample"),
                                    ("--cell-size", "32k", "cell_size"), ("-k", None, "keep_order")):
            args = [option] if value is None else [option, value]
            self.refused("count", "-o", "out", *args, "a.jsonl", words=[word, "now", "--force-restart"])

    def test_workers_progress_and_part_size_may_change(self):
        self.begin()
        for args in (("-j", "1"), ("--part-size", "64k"), ("-v",), ("--fsync", "never")):
            self.assertIn("complete already", self.run_ok("count", "-o", "out", *args, "a.jsonl").err)

    def test_changed_input_is_refused(self):
        self.begin()
        path = self.dir / "a.jsonl"
        os.utime(path, (1, 1))
        self.refused("count", "-o", "out", "a.jsonl", words=["input 'a.jsonl': modified", "now 1970"])
        path.write_bytes(jsonl(301))
        self.refused("count", "-o", "out", "a.jsonl", words=[str(len(jsonl(300))), str(len(jsonl(301)))])

    def test_another_list_of_inputs_is_refused(self):
        self.begin()
        self.write("b.jsonl", jsonl(3))
        self.refused("count", "-o", "out", "a.jsonl", "b.jsonl", words=["input 'b.jsonl' is new", "1 new"])

    def test_force_restart_moves_the_earlier_run_aside(self):
        self.begin()
        before = self.picture()
        for i in (1, 2):
            result = self.run_ok("strip", "-o", "out", "--force-restart", "a.jsonl")
            self.assertIn("out.old-%d" % i, result.err)
        self.assertEqual(self.picture("out.old-1"), before)
        self.assertEqual(self.state()["pipeline"], "strip")
        self.assertEqual(len(self.rows()), 300)

    def test_a_second_run_on_the_same_directory_is_refused_while_the_first_lives(self):
        self.write("a.jsonl", jsonl(400))
        first = self.start("run", "-j", "1", "--cell-size", "4k", SLOWLY, "-o", "out", "a.jsonl")
        self.assertTrue(wait_until(lambda: (self.dir / "out" / "run.json").exists()))
        for more in ((), ("--force-restart",)):
            second = self.flume("run", SLOWLY, "-o", "out", *more, "a.jsonl")
            self.assertEqual(second.code, 1)
            self.assertIn("in use by process %d" % coordinator_of(first.pid), second.err)
        self.assertEqual(len(second.err.splitlines()), 1, second.err)
        _, err = first.communicate(timeout=60 * SLOW)
        self.assertEqual(first.returncode, 0, err)
        self.assertEqual(self.state()["state"], "finished")
        self.assertEqual(len(self.rows()), 400)

    def test_stdin_with_a_run_directory_says_that_it_cannot_go_on(self):
        self.run_ok("strip", "-o", "out", stdin=jsonl(50))
        before = self.picture()
        result = self.flume("run", "strip", "-o", "out", stdin=jsonl(50))
        self.assertEqual(result.code, 1)
        self.assertIn("cannot be read again", result.err)
        self.assertEqual(self.picture(), before)
        self.run_ok("strip", "-o", "out", "--force-restart", stdin=jsonl(60))
        self.assertEqual(len(self.rows()), 60)


class BadPlaces(RunCase):
    def refused(self, *args, word):
        result = self.flume("run", "strip", *args, "a.jsonl")
        self.assertEqual(result.code, 1, result.err)
        self.assertIn(word, result.err)
        self.assertEqual(len(result.err.splitlines()), 1, result.err)

    def setUp(self):
        super().setUp()
        self.write("a.jsonl", jsonl(20))

    def test_a_directory_of_other_things_is_not_touched(self):
        self.write("photos/cat.jpg", "meow")
        self.refused("-o", "photos", word="is not a run directory")
        self.refused("-o", "photos", "--force-restart", word="is not a run directory")
        self.assertEqual(os.listdir(self.dir / "photos"), ["cat.jpg"])

    def test_an_empty_directory_is_taken(self):
        (self.dir / "out").mkdir()
        self.run_ok("strip", "-o", "out/", "a.jsonl")
        self.assertEqual(len(self.rows()), 20)

    def test_a_missing_parent_is_named(self):
        self.refused("-o", "no/out", word="parent directory is missing")

    def test_a_file_in_the_place_of_the_directory(self):
        self.refused("-o", "a.jsonl", word="is a file, not a directory")

    def test_a_read_only_directory(self):
        (self.dir / "out").mkdir(mode=0o555)
        if os.access(self.dir / "out", os.W_OK):
            self.skipTest("root writes everywhere")
        self.refused("-o", "out", word="Permission denied")

    def test_rejects_that_cannot_be_written(self):
        self.refused("--rejects", "no/rejects.jsonl", word="no/rejects.jsonl")

    def test_a_full_stdout(self):
        with open("/dev/full", "wb") as full:
            child = self.start("run", "strip", "a.jsonl", stdout=full)
            _, err = child.communicate(timeout=30 * SLOW)
        self.assertEqual(child.returncode, 1)
        self.assertIn(b"No space left", err)


class SmallDisk(RunCase):
    def setUp(self):
        super().setUp()
        (self.dir / "disk").mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", self.dir / "disk"], stderr=subprocess.DEVNULL,
                          check=False).returncode:
            self.skipTest("may not mount a small disk")
        self.addCleanup(subprocess.run, ["umount", "-l", self.dir / "disk"], check=False)

    def test_a_full_disk_ends_the_run_and_the_same_command_goes_on_with_more_room(self):
        n = 20000
        self.write("a.jsonl", jsonl(n))
        command = ("strip", "-o", "disk/out", "--part-size", "512k", "a.jsonl")
        for _ in range(2):
            result = self.run_ok(*command, code=1)
            self.assertIn("No space left on device; free some and run the same command again", result.err)
            self.assertNotIn("defect", result.err)
        subprocess.run(["mount", "-o", "remount,size=64m", self.dir / "disk"], check=True)
        self.run_ok(*command)
        ids = collections.Counter(r["id"] for r in self.rows("disk/out"))
        self.assertEqual((len(ids), max(ids.values())), (n, 1))
        self.assertEqual(self.counts_add_up("disk/out")["in"], n)


if __name__ == "__main__":
    unittest.main()
