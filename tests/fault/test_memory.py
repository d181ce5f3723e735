# SPDX-License-Identifier: Apache-2.0
# ctest: timeout 400
"""Documents that need more memory than there is: they are rejected, all others come out, and all processes together stay below --mem-limit.
DF_MEMORY_MB: the large document; 300 when not given, 1000 in a soak."""
import json
import os
import pathlib
import re
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, Case, jsonl  # noqa: E402

MB = 1 << 20
LARGE = int(os.environ.get("DF_MEMORY_MB", 300))
LIMIT = 512


def own_bytes(pid):
    """Resident and backed by no file, as statm has it; and no page twice, since processes share none after exec."""
    try:
        _, resident, shared = pathlib.Path("/proc", str(pid), "statm").read_text().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")


def tree(pid):
    """pid and all below it, from the kernel's own lists: quick enough to be asked all the time."""
    found = [pid]
    for p in found:
        try:
            for task in os.listdir("/proc/%d/task" % p):
                found += map(int, pathlib.Path("/proc/%d/task/%s/children" % (p, task)).read_text().split())
        except OSError:
            pass
    return found


@unittest.skipIf(SLOW > 1, "a sanitizer's own memory is no measure")
class Memory(Case):
    def watched(self, *args):
        """(exit code, stderr, the most that all processes had together, in MB)"""
        peak = 0
        with open(self.dir / "out.jsonl", "wb") as out, open(self.dir / "err", "wb") as err:
            child = self.start("run", "--rejects", "rejects.jsonl", *args, stdout=out, stderr=err)
            deadline = time.monotonic() + 300
            while child.poll() is None and time.monotonic() < deadline:
                peak = max(peak, sum(own_bytes(p) for p in tree(child.pid)))
                time.sleep(0.001)
        self.assertGreater(peak, 10 * MB, "nothing was measured")
        return child.poll(), (self.dir / "err").read_text(), peak / MB

    def rows(self):
        return [json.loads(line) for line in (self.dir / "out.jsonl").read_bytes().splitlines()]

    def rejects(self):
        return [json.loads(line)["docflume"] for line in (self.dir / "rejects.jsonl").read_text().splitlines()]

    def write_around(self, text_mb, piece):
        """1000 documents and in their middle one of so many MB."""
        with open(self.dir / "a.jsonl", "wb") as f:
            f.write(jsonl(500))
            at = f.tell()
            f.write(b'{"id":"giant","text":"')
            for _ in range(text_mb):
                f.write((piece * (MB // len(piece) + 1))[:MB])
            f.write(b'"}\n')
            f.write(jsonl(500, first=500))
        return at

    def only_the_giant_is_missing(self, code, err, at):
        self.assertEqual(code, 3, err)
        self.assertEqual({r["id"] if "doc_id" not in r else r["doc_id"] for r in self.rows()}, {"d%06d" % i for i in range(1000)})
        rejects = self.rejects()
        self.assertEqual([r["offset"] for r in rejects], [at], err)
        return rejects[0]

    def test_a_document_of_hundreds_of_megabytes_is_rejected_and_the_limit_holds(self):
        at = self.write_around(LARGE, b"lorem ipsum dolor sit amet ")
        code, err, peak = self.watched("-j", "4", "--mem-limit", "%dm" % LIMIT, "--max-record", "1g", "strip | chunk chars=400", "a.jsonl")
        reason = self.only_the_giant_is_missing(code, err, at)
        print("a document of %d MB under --mem-limit %dm: peak of all processes %.0f MB" % (LARGE, LIMIT, peak))
        self.assertEqual(reason["class"], "nomem")
        self.assertLess(peak, LIMIT)

    def test_a_document_that_could_not_even_be_read_is_passed_over_without_limits_in_the_worker_too(self):
        at = self.write_around(LARGE, b"lorem ipsum dolor sit amet ")
        code, err, peak = self.watched("-j", "2", "--mem-limit", "256m", "--confine=false", "--max-record", "1g", "strip", "a.jsonl")
        reason = self.only_the_giant_is_missing(code, err, at)
        self.assertEqual((reason["stage"], reason["class"], reason["attempts"]), ("input", "nomem", 1))
        self.assertNotIn("ending", err)
        self.assertLess(peak, 256)

    def test_ten_million_chunks_are_too_many(self):
        at = self.write_around(80, b"abcdefg ")
        code, err, peak = self.watched("-j", "1", "--mem-limit", "%dm" % (2 * LIMIT), "--max-record", "1g", "chunk chars=8", "a.jsonl")
        reason = self.only_the_giant_is_missing(code, err, at)
        self.assertEqual((reason["stage"], reason["class"]), ("chunk", "limit"))
        self.assertIn("max_chunks", reason["error"])
        self.assertLess(peak, 2 * LIMIT)

    def test_ten_million_chunks_that_are_allowed_do_not_take_the_machine_down(self):
        at = self.write_around(80, b"abcdefg ")
        code, err, peak = self.watched("-j", "4", "--mem-limit", "%dm" % LIMIT, "--max-record", "1g", "chunk chars=8 max_chunks=10000000", "a.jsonl")
        reason = self.only_the_giant_is_missing(code, err, at)
        print("10 million chunks under --mem-limit %dm: peak of all processes %.0f MB" % (LIMIT, peak))
        self.assertEqual(reason["class"], "nomem")
        self.assertLess(peak, LIMIT)

    def test_without_limits_in_the_worker_the_watch_ends_it_and_its_document_is_struck(self):
        at = self.write_around(40, b"abcdefg ")
        code, err, peak = self.watched("-j", "2", "--mem-limit", "%dm" % LIMIT, "--confine=false", "--max-record", "1g",
                                       "chunk chars=8 max_chunks=10000000", "a.jsonl")
        reason = self.only_the_giant_is_missing(code, err, at)
        print("the same with the watch alone: peak of all processes %.0f MB" % peak)
        self.assertEqual((reason["stage"], reason["class"], reason["attempts"]), ("chunk", "nomem", 3))
        self.assertRegex(reason["error"], r"took more memory than there is \(--mem-limit, at \d+ MB\) in stage 'chunk' 3 times")
        self.assertLess(peak, LIMIT)

    def test_a_limit_that_is_too_small_for_the_workers_is_refused(self):
        self.write("a.jsonl", jsonl(10))
        result = self.flume("run", "-j", "64", "--mem-limit", "64m", "strip", "a.jsonl")
        self.assertEqual(result.code, 1, result.err)
        self.assertRegex(result.err, re.compile(r"too few for 64 processes.*-j.*--mem-limit", re.S))
        self.assertEqual(result.out, "")


if __name__ == "__main__":
    unittest.main()
