# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
"""Every kind of input, and every bad one: nothing crashes, nothing hangs, nothing loses the rest."""
import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import unittest
import zipfile

from flume import Case, document, jsonl

N = 500


class GoodInputs(Case):
    def check_all(self, result, n=N):
        self.assertEqual(sorted(result.ids()), ["d%06d" % i for i in range(n)])

    def test_a_plain_file_comes_out_as_it_went_in(self):
        data = jsonl(N)
        self.write("a.jsonl", data)
        self.assertEqual(self.run_ok("-k", "strip", "a.jsonl").out.encode(), data)

    def test_stdin_comes_out_as_it_went_in(self):
        data = jsonl(N)
        self.assertEqual(self.run_ok("-k", "strip", stdin=data).out.encode(), data)
        self.assertEqual(self.run_ok("-k", "strip", "-", stdin=data).out.encode(), data)

    def test_compressed_files(self):
        data = jsonl(N)
        self.write("a.jsonl.gz", gzip.compress(data))
        self.write("b.jsonl.xz", lzma.compress(data))
        self.write("c.jsonl.bz2", bz2.compress(data))
        names = ["a.jsonl.gz", "b.jsonl.xz", "c.jsonl.bz2"]
        if shutil.which("zstd"):
            self.write("d.jsonl", data)
            subprocess.run(["zstd", "-q", "--rm", "d.jsonl"], cwd=self.dir, check=True)
            names.append("d.jsonl.zst")
        for name in names:
            self.assertEqual(self.run_ok("-k", "strip", name).out.encode(), data, name)
        self.assertEqual(len(self.run_ok("strip", *names).ids()), N * len(names))

    def test_several_inputs_are_one_stream_in_order(self):
        self.write("b.jsonl", jsonl(50))
        self.write("a.jsonl.gz", gzip.compress(jsonl(50, first=50)))
        self.write("c.jsonl", jsonl(50, first=100))
        result = self.run_ok("-k", "strip", "b.jsonl", "a.jsonl.gz", "c.jsonl")
        self.assertEqual(result.ids(), ["d%06d" % i for i in range(150)])

    def test_skip_and_limit_count_over_all_inputs(self):
        self.write("a.jsonl", jsonl(50))
        self.write("b.jsonl.gz", gzip.compress(jsonl(50, first=50)))
        self.write("c.jsonl", jsonl(50, first=100))
        result = self.run_ok("-k", "--skip", "40", "--limit", "30", "strip", "a.jsonl", "b.jsonl.gz", "c.jsonl")
        self.assertEqual(result.ids(), ["d%06d" % i for i in range(40, 70)])

    def test_globs_and_folders_are_sorted(self):
        for name in ("x/b/2.jsonl", "x/a/1.jsonl", "x/c.jsonl", "x/.hidden.jsonl", "x/readme.rst"):
            self.write(name, json.dumps({"id": name, "text": "t"}) + "\n")
        self.assertEqual(self.run_ok("-k", "strip", "x").ids(), ["x/a/1.jsonl", "x/b/2.jsonl", "x/c.jsonl"])
        self.assertEqual(self.run_ok("-k", "strip", "x/c.jsonl", "x").ids(), ["x/c.jsonl", "x/a/1.jsonl", "x/b/2.jsonl"])
        self.assertEqual(self.run_ok("-k", "strip", "x/*/*.jsonl").ids(), ["x/a/1.jsonl", "x/b/2.jsonl"])

    def test_text_and_markdown_are_a_document_per_file(self):
        self.write("t/a.txt", "first\r\nline two\n")
        self.write("t/b.md", b"\xef\xbb\xbf# title\n")
        self.write("t/empty.txt", "")
        rows = self.run_ok("-k", "count", "t").rows()
        self.assertEqual([r["id"] for r in rows], ["t/a.txt", "t/b.md", "t/empty.txt"])
        self.assertEqual(rows[0]["text"], "first\r\nline two\n")
        self.assertEqual(rows[1]["text"], "# title\n")
        self.assertEqual(rows[2]["text"], "")

    def test_csv_with_quoted_newlines(self):
        self.write("a.csv", 'id,text,source\r\n1,"two\nlines, and ""quotes""",web\r\n2,plain,\r\n')
        self.write("b.tsv", "id\ttext\n7\ttab separated\n")
        rows = self.run_ok("-k", "strip", "a.csv", "b.tsv").rows()
        self.assertEqual([r["text"] for r in rows], ['two\nlines, and "quotes"', "plain", "tab separated"])
        self.assertEqual(rows[0]["source"], "web")

    def test_archives(self):
        with tarfile.open(self.dir / "a.tar.gz", "w:gz") as tar:
            for name, data in (("in/x.jsonl", jsonl(20)), ("in/y.txt", b"plain"), ("in/z.bin", b"\0\1")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        with zipfile.ZipFile(self.dir / "b.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("p.jsonl", jsonl(20, first=20))
            z.writestr("q.md", "# markdown")
        rows = self.run_ok("-k", "strip", "a.tar.gz", "b.zip").rows()
        texts = {r["id"]: r["text"] for r in rows}
        self.assertEqual(len(rows), 42)
        self.assertEqual(sum(i.startswith("d0") for i in texts), 40)
        self.assertIn("plain", texts.values())
        self.assertIn("# markdown", texts.values())

    def test_keys_can_be_named_and_unknown_keys_travel_along(self):
        self.write("a.jsonl", '{"uid": 7, "content": "  hi  ", "x": {"deep": [1.50, 1e400, "\\u00e9"]}}\n')
        row = self.run_ok("--id-key", "uid", "--text-key", "content", "strip", "a.jsonl").out
        self.assertEqual(row, '{"uid": 7, "content": "hi", "x": {"deep": [1.50, 1e400, "\\u00e9"]}}\n')

    def test_an_absent_id_is_path_and_offset(self):
        self.write("a.jsonl", '{"text":"one"}\n{"text":"two"}\n')
        self.assertEqual(self.run_ok("-k", "strip", "a.jsonl").ids(), ["a.jsonl#0", "a.jsonl#15"])

    def test_bom_crlf_blank_lines_and_no_last_newline(self):
        self.write("a.jsonl", b'\xef\xbb\xbf{"id":"1","text":"a"}\r\n\r\n   \n{"id":"2","text":"b"}')
        self.assertEqual(self.run_ok("-k", "strip", "a.jsonl").ids(), ["1", "2"])

    def test_any_number_of_workers_and_cell_sizes_gives_the_same(self):
        data = jsonl(N)
        self.write("a.jsonl", data)
        for jobs, cell in ((1, "1k"), (3, "1031"), (2, "100k"), (4, "16m")):
            result = self.run_ok("-k", "-j", jobs, "--cell-size", cell, "strip", "a.jsonl")
            self.assertEqual(result.out.encode(), data, (jobs, cell))

    def test_rows_much_larger_than_a_frame_come_out_whole(self):
        data = b"".join(json.dumps({"id": str(i), "text": "é%d " % i * (1 + 90000 * (i % 4))}, ensure_ascii=False).encode() + b"\n"
                        for i in range(12))
        self.write("a.jsonl", data)
        self.write("a.jsonl.gz", gzip.compress(data, 1))
        for name in ("a.jsonl", "a.jsonl.gz"):
            self.assertEqual(self.run_ok("-k", "count | exec cmd=cat", name).rows(), self.run_ok("-k", "count", name).rows())
            self.assertEqual(self.run_ok("-k", "sample rate=1", name).out.encode(), data)
        self.run_ok("-k", "sample rate=1", "-o", "out", "a.jsonl")
        self.assertEqual((self.dir / "out" / "part-00000.jsonl").read_bytes(), data)
        if shutil.which("zstd"):
            self.run_ok("-k", "--zstd=1", "sample rate=1", "-o", "packed", "a.jsonl")
            packed = subprocess.run(["zstd", "-dc", "packed/part-00000.jsonl.zst"], cwd=self.dir, check=True, stdout=subprocess.PIPE)
            self.assertEqual(packed.stdout, data)

    def test_sample_is_by_hash_and_repeatable(self):
        self.write("a.jsonl", jsonl(2000))
        one = self.run_ok("-k", "--sample", "0.25", "strip", "a.jsonl").ids()
        two = self.run_ok("-k", "-j", "1", "--sample", "0.25", "strip", "a.jsonl").ids()
        self.assertEqual(one, two)
        self.assertTrue(400 < len(one) < 600, len(one))


class BadInputs(Case):
    def rejects(self):
        return [json.loads(line) for line in (self.dir / "rejects.jsonl").read_text().splitlines()]

    def test_bad_records_are_rejected_with_place_and_reason_and_lose_nothing_else(self):
        good = [json.dumps(document(i)).encode() for i in range(6)]
        bad = [b'{"id":"x","text":"unclosed', b'[1,2]', b'{"id":"y","text":5}', b'{"id":"z"}', b'{"id":"u","text":"\xff\xfe"}',
               b'{"id":"n","text":"a\0b"}', b'{"id":"s","text":"\\ud800"}', b'null', b'{"id":"t","text":"a"} {"x":1}',
               b'{"id":"v","text":"ok","n":01}', b"{" * 5000]
        lines = []
        for i, line in enumerate(bad):
            lines += [good[i % 6], line]
        data = b"\n".join(lines) + b"\n"
        self.write("a.jsonl", data)
        result = self.run_ok("--rejects", "rejects.jsonl", "strip", "a.jsonl", code=3)
        self.assertEqual(len(result.rows()), len(bad))
        self.assertIn("%d documents in = %d out + 0 filtered + %d rejected" % (2 * len(bad), len(bad), len(bad)), result.err)
        rejects = self.rejects()
        offsets = sorted(r["docflume"]["offset"] for r in rejects)
        want, at = [], 0
        for line in lines:
            if line in bad:
                want.append(at)
            at += len(line) + 1
        self.assertEqual(offsets, want)
        for r in rejects:
            self.assertEqual(r["docflume"]["source"], "a.jsonl")
            self.assertTrue(r["docflume"]["error"])
            self.assertIn(r["docflume"]["class"], ("parse", "utf8", "type", "limit"))

    def test_a_line_of_100_mb_is_rejected_and_its_neighbours_are_not(self):
        with open(self.dir / "a.jsonl", "wb") as f:
            f.write(jsonl(3) + b'{"id":"huge","text":"')
            for _ in range(100):
                f.write(b"x" * 1000000)
            f.write(b'"}\n' + jsonl(3, first=3))
        result = self.run_ok("-k", "strip", "a.jsonl", code=3)
        self.assertEqual(result.ids(), ["d%06d" % i for i in range(6)])
        with open(self.dir / "a.jsonl", "rb") as f:
            data = gzip.compress(f.read(), 1)
        self.write("b.jsonl.gz", data)
        self.assertEqual(self.run_ok("-k", "strip", "b.jsonl.gz", code=3).ids(), ["d%06d" % i for i in range(6)])

    def test_a_record_at_the_limit_passes_and_one_above_is_rejected(self):
        for size, code in ((1024, 0), (1025, 3)):
            pad = size - len('{"id":"a","text":""}')
            self.write("a.jsonl", '{"id":"a","text":"%s"}\n{"id":"b","text":""}\n' % ("x" * pad))
            result = self.run_ok("-k", "--max-record", "1k", "strip", "a.jsonl", code=code)
            self.assertEqual(result.ids(), ["a", "b"] if code == 0 else ["b"])

    def test_a_truncated_gzip_gives_what_came_before_and_says_where(self):
        data = gzip.compress(jsonl(20000))
        self.write("a.jsonl.gz", data[: len(data) // 2])
        self.write("b.jsonl", jsonl(10))
        result = self.run_ok("strip", "a.jsonl.gz", "b.jsonl", code=3)
        self.assertGreater(len(result.rows()), 1000)
        self.assertIn("a.jsonl.gz", result.err)

    def test_an_unreadable_file_is_one_source_error(self):
        self.write("a.jsonl", jsonl(10))
        path = self.write("b.jsonl", jsonl(10))
        path.chmod(0)
        if os.access(path, os.R_OK):
            self.skipTest("root reads everything")
        result = self.run_ok("strip", "a.jsonl", "b.jsonl", code=3)
        self.assertEqual(len(result.rows()), 10)

    def test_no_input_at_all(self):
        for args, word in ((("nothing.jsonl",), "no such file"), (("no*.jsonl",), "no file matches"), (("empty",), "no documents in folder")):
            (self.dir / "empty").mkdir(exist_ok=True)
            result = self.flume("run", "strip", *args)
            self.assertEqual(result.code, 2 if result.code == 2 else 1, result.err)
            self.assertIn(word, result.err)
            self.assertEqual(result.out, "")

    def test_empty_input_is_a_good_run_of_no_documents(self):
        self.write("a.jsonl", "")
        self.assertEqual(self.run_ok("strip", "a.jsonl").out, "")
        self.assertEqual(self.run_ok("strip", stdin=b"").out, "")

    def test_a_directory_with_a_files_name(self):
        (self.dir / "a.jsonl").mkdir()
        self.assertNotEqual(self.flume("run", "strip", "a.jsonl").code, 0)

    def test_an_unknown_extension_asks_for_the_format(self):
        self.write("a.data", jsonl(3))
        result = self.flume("run", "strip", "a.data")
        self.assertIn("--input-format", result.err)
        self.assertEqual(len(self.run_ok("--input-format", "jsonl", "strip", "a.data").rows()), 3)

    def test_the_reader_of_stdout_may_leave_early(self):
        self.write("a.jsonl", jsonl(20000))
        child = self.start("run", "strip", "a.jsonl")
        child.stdout.readline()
        child.stdout.close()
        self.assertEqual(child.wait(timeout=60), 0)


if __name__ == "__main__":
    unittest.main()
