# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 400
"""--resume-failed: the rejects of a finished run, and nothing else, in generations of their own."""
import base64
import json
import os
import pathlib
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, children_of, coordinator_of, jsonl, kill, kill_whole, wait_until  # noqa: E402
from rundir import RunCase, strict  # noqa: E402

# Reads documents as JSONL and writes them back; one that must fail ends the command, as often as it is tried.
FILTER = r'''
while IFS= read -r line; do
    case $line in
        *fail*) if test -e broken; then exit 3; fi;;
    esac
    test -e nap && sleep "$(cat nap)"
    printf '%s\n' "$line"
done
'''


class RetryCase(RunCase):
    ARGS = ("-j", "2", "--cell-size", "1k", "-o", "out")

    def setUp(self):
        super().setUp()
        self.write("filter", FILTER)
        self.write("broken", "")

    def mend(self):
        (self.dir / "broken").unlink()

    def first(self, data, *more, code=3, pipeline="strip"):
        self.write("a.jsonl", data)
        return self.run_ok(pipeline, *self.ARGS, *more, "a.jsonl", code=code)

    def again(self, *more, code=0, pipeline="strip"):
        return self.run_ok(pipeline, *self.ARGS, "--resume-failed", *more, code=code)

    def ids(self, out="out"):
        return sorted(r["id"] for r in self.rows(out))


class Unwrapping(RetryCase):
    """No stage is needed to reject: a limit of chunks, a missing text, what is no JSON."""

    def test_what_was_no_json_and_what_lacked_text_is_rejected_again_with_its_first_place(self):
        good = jsonl(5)
        bad = b'{"id":"x","note":1}\n' + b'{"broken\n' + b"\xff\xfe\n"
        self.first(good + bad)
        before = self.rows(name="rejects")
        result = self.again(code=3)
        self.assertIn("retry-1: 3 retried = 0 out + 0 filtered + 3 rejected again", result.err)
        after = self.rows("out/retry-1", "rejects")
        key = lambda r: r["docflume"]["offset"]
        for was, now in zip(sorted(before, key=key), sorted(after, key=key)):
            self.assertEqual(now["docflume"].pop("attempts"), was["docflume"].pop("attempts") + 1)
            self.assertEqual(now, was)
        self.assertEqual([base64.b64decode(r["raw_base64"]) for r in sorted(after, key=key)[1:]], [b'{"broken', b"\xff\xfe"])

    def test_records_come_back_byte_for_byte_without_the_member(self):
        lines = [r'{"id":"a","x":[1, 2.50, "é\u00e9"],"text":%s , "y":{"deep":[[{}]]}}',
                 r'{ "text" : %s , "id":7e0 }',
                 r'{"no id":null,"text":%s,"docflume_not":1}']
        data = "".join(line % "5" + "\n" for line in lines)  # a text of a wrong type: rejected, but whole
        self.first(data)
        self.assertEqual(len(self.rows(name="rejects")), 3)
        # somebody mends the file of rejects by hand: it is valid input
        path, = self.parts("jsonl", name="rejects")
        text = pathlib.Path(path).read_text()
        for was in ('"text":5', '"text" : 5'):
            text = text.replace(was, was.replace("5", '"five"'))
        pathlib.Path(path).write_text(text)
        result = self.again("-k")
        self.assertIn("3 retried = 3 out + 0 filtered + 0 rejected again", result.err)
        part, = self.parts("jsonl", "out/retry-1")
        rows = [strict(line) for line in pathlib.Path(part).read_text().splitlines()]
        self.assertEqual([r["text"] for r in rows], ["five"] * 3)
        self.assertFalse([r for r in rows if "docflume" in r])
        self.assertEqual(rows[0]["x"], [1, 2.5, "éé"])
        offset = len((lines[0] % "5" + "\n" + lines[1] % "5" + "\n").encode())
        self.assertEqual(rows[2]["id"], "a.jsonl#%d" % offset)
        self.assertIn('"y":{"deep":[[{}]]}', pathlib.Path(part).read_text())

    def test_the_member_may_stand_anywhere_and_be_written_in_any_way(self):
        self.first('{"id":"a","text":5}\n{"id":"b","text":5}\n{"id":"c","text":5}\n{"id":"d","text":5}\n')
        path, = self.parts("jsonl", name="rejects")
        reason = '{"source":"a.jsonl","offset":%d,"stage":"input","class":"type","error":"e","attempts":1,"own":{"x":[1]}}'
        pathlib.Path(path).write_text("\n".join((
            '{ "docflume" : %s , "id":"a","text":"t"}' % (reason % 0), '{"id":"b" ,\t"docflume": %s,"text":"t" }' % (reason % 20),
            r'{"id":"c","text":"t","docfl\u0075me":%s}' % (reason % 40), '{"id":"d","text":"t","docflume":"mine"}')) + "\n")
        self.again("-k")
        part, = self.parts("jsonl", "out/retry-1")
        self.assertEqual([strict(line) for line in pathlib.Path(part).read_text().splitlines()],
                         [{"id": i, "text": "t"} for i in "abc"] + [{"id": "d", "text": "t", "docflume": "mine"}])

    def test_what_was_too_long_to_keep_stays_rejected_as_what_it_was(self):
        self.first('{"id":"long","text":"%s"}\n{"id":"s","text":"short"}\n' % ("x" * 5000), "--max-record", "4k")
        again = self.again("--max-record", "4k", code=3)
        self.assertIn("1 retried = 0 out + 0 filtered + 1 rejected again", again.err)
        was, now = self.rows(name="rejects")[0]["docflume"], self.rows("out/retry-1", "rejects")[0]["docflume"]
        self.assertEqual((now["source"], now["offset"], now["class"]), (was["source"], was["offset"], was["class"]))
        self.assertIn("only its place was kept", now["error"])
        self.again("--max-record", "4k", code=3)  # the third generation says the same, and no more
        self.assertEqual(self.state("out/retry-2")["counts"]["rejected_total"], 1)

    def test_a_record_as_long_as_allowed_is_not_too_long_with_its_reason(self):
        record = '{"id":"x","pad":"%s","text":5}' % ("p" * (4096 - 31))
        self.assertLessEqual(len(record), 4096)
        self.first(record + "\n", "--max-record", "4k")
        self.assertIn("pad", self.rows(name="rejects")[0])
        self.again("--max-record", "4k", code=3)
        self.assertIn("pad", self.rows("out/retry-1", "rejects")[0])

    def test_text_files_come_back_as_text(self):
        self.write("notes.txt", b"caf\xe9")
        self.run_ok("strip", *self.ARGS, "notes.txt", code=3)
        self.again(code=3)
        now, = self.rows("out/retry-1", "rejects")
        self.assertEqual((now["docflume"]["source"], now["docflume"]["class"]), ("notes.txt", "utf8"))
        self.assertEqual(base64.b64decode(now["raw_base64"]), b"caf\xe9")

    def test_a_damaged_file_of_rejects_is_rejected_line_by_line(self):
        self.first('{"id":"a","text":5}\n{"id":"b","text":5}\n')
        path, = self.parts("jsonl", name="rejects")
        lines = pathlib.Path(path).read_text().splitlines()
        wrong = json.loads(lines[1])
        wrong = {"raw_base64": "!!!", "docflume": wrong["docflume"]}
        pathlib.Path(path).write_text(lines[0][:-9] + "\n" + json.dumps(wrong) + "\n")
        result = self.again(code=3)
        self.assertIn("2 retried = 0 out + 0 filtered + 2 rejected again", result.err)
        self.assertTrue([r for r in self.rows("out/retry-1", "rejects") if "not base64" in r["docflume"]["error"]])


class Generations(RetryCase):
    DATA = jsonl(200) + b"".join(b'{"id":"f%02d","text":"fail %d"}\n' % (i, i) for i in range(12))

    def poisonous(self, *more):
        """A stage that fails for some documents as long as the file `broken` is there."""
        self.first(self.DATA.replace(b'"text":"fail', b'"txt":"fail'), *more)

    def test_each_generation_takes_what_the_one_before_rejected(self):
        self.poisonous()
        self.assertEqual(self.state()["counts"]["rejected_total"], 12)
        self.assertEqual(len(self.rows()), 200)
        self.again(code=3)
        self.assertEqual(self.state("out/retry-1")["counts"]["rejected_total"], 12)
        result = self.again("--text-key", "txt")  # what was wrong is mended: another key
        self.assertIn("retry-2: 12 retried = 12 out + 0 filtered + 0 rejected again", result.err)
        self.assertEqual(self.ids("out/retry-2"), ["f%02d" % i for i in range(12)])
        self.assertEqual(len(self.rows()), 200)
        before = {g: self.picture(g) for g in ("out/retry-1", "out/retry-2")}
        again = self.again()
        self.assertIn("nothing to retry", again.err)
        self.assertFalse((self.dir / "out/retry-3").exists())
        self.assertEqual({g: self.picture(g) for g in before}, before)

    def test_the_inputs_of_the_first_run_are_not_needed_nor_read(self):
        self.poisonous()
        (self.dir / "a.jsonl").unlink()
        self.again("--text-key", "txt")
        self.assertEqual(len(self.ids("out/retry-1")), 12)

    def test_compressed_rejects(self):
        self.poisonous("--zstd")
        self.assertTrue(self.parts("jsonl.zst", name="rejects"))
        self.again("--text-key", "txt")
        self.assertEqual(len(self.ids("out/retry-1")), 12)

    def test_another_pipeline_is_allowed_and_kept_with_its_generation(self):
        self.poisonous()
        self.again("--text-key", "txt", pipeline="strip | count")
        self.assertEqual(self.state()["pipeline"], "strip")
        self.assertEqual(self.state("out/retry-1")["pipeline"], "strip | count")
        self.assertEqual({r["words"] for r in self.rows("out/retry-1")}, {2})

    def test_no_rejects_no_generation(self):
        self.first(jsonl(20), code=0)
        self.assertIn("nothing to retry", self.again().err)
        self.assertEqual(sorted(p.name for p in (self.dir / "out").glob("retry-*")), [])

    def test_skip_and_limit_counted_documents_of_the_first_run(self):
        self.first(self.DATA.replace(b'"text":"fail', b'"txt":"fail'), "--skip", "100", "--limit", "105")
        self.assertEqual(self.state()["counts"]["rejected_total"], 5)
        self.again("--text-key", "txt", "--skip", "100", "--limit", "105")
        self.assertEqual(len(self.ids("out/retry-1")), 5)

    def test_a_run_that_is_not_finished_is_refused(self):
        self.write("nap", "0.2")
        self.write("a.jsonl", self.DATA)
        child = self.start("run", "exec cmd='sh filter'", *self.ARGS, "a.jsonl")
        self.assertTrue(wait_until(lambda: (self.dir / "out/run.json").exists()))
        self.assertIn("not finished", self.again(code=1).err)
        child.send_signal(signal.SIGINT)
        child.wait(timeout=60 * SLOW)
        result = self.again(code=1)
        self.assertIn("not finished", result.err)
        self.assertIn("without --resume-failed", result.err)
        self.assertIn("no run in 'nowhere'", self.run_ok("strip", "-o", "nowhere", "--resume-failed", code=1).err)

    def test_a_generation_that_was_killed_goes_on(self):
        many = b"".join(b'{"id":"f%04d","txt":"fail %d"}\n' % (i, i) for i in range(2000))
        self.first(many)
        self.write("nap", "0.01")
        (self.dir / "broken").unlink()
        args = ("exec cmd='sh filter'", "--text-key", "txt", *self.ARGS, "--resume-failed")
        child = self.start("run", *args)
        self.assertTrue(wait_until(lambda: any(os.path.getsize(p) for p in self.parts("jsonl.open", "out/retry-1")), 30))
        kill_whole(child)
        (self.dir / "nap").unlink()
        result = self.run_ok(*args)
        self.assertFalse((self.dir / "out/retry-2").exists())
        self.assertEqual(self.ids("out/retry-1"), ["f%04d" % i for i in range(2000)])
        self.assertIn("retry-1: 2,000 retried = 2,000 out", result.err)

    def test_the_coordinator_of_a_generation_is_killed_and_started_again(self):
        many = b"".join(b'{"id":"f%04d","txt":"fail %d"}\n' % (i, i) for i in range(2000))
        self.first(many)
        self.write("nap", "0.01")
        (self.dir / "broken").unlink()
        child = self.start("run", "exec cmd='sh filter'", "--text-key", "txt", *self.ARGS, "--resume-failed")
        self.assertTrue(wait_until(lambda: any(os.path.getsize(p) for p in self.parts("jsonl.open", "out/retry-1")), 30))
        kill(coordinator_of(child.pid))
        time.sleep(0.2 * SLOW)
        (self.dir / "nap").unlink()
        self.assertEqual(child.wait(timeout=60 * SLOW), 0)
        self.assertEqual(self.ids("out/retry-1"), ["f%04d" % i for i in range(2000)])


if __name__ == "__main__":
    unittest.main()
