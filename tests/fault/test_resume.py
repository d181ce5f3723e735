# SPDX-License-Identifier: Apache-2.0
# ctest: threaded
# ctest: timeout 900
"""A run that was killed in the middle goes on, whatever its input is packed in, with another -j, with and without -k: each document once, no id column
needed. And the input must be what it was (trap 13: known cells are skipped and compared)."""
import bz2
import collections
import gzip
import io
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, children_of, coordinator_of, kill, kill_whole, wait_until  # noqa: E402
from rundir import RunCase  # noqa: E402

N = 1200  # a multiple of 3, for archives
SLOWLY = "exec cmd='sleep $(cat nap); cat'"


def text_of(i):
    return "document number %d of a night %s" % (i, "x" * (i * 37 % 400))


def lines(n=N, first=0):
    """No ids: documents are known by their texts."""
    return b"".join(json.dumps({"text": text_of(i)}).encode() + b"\n" for i in range(first, first + n))


def table(separator):
    rows = ["n%stext" % separator] + ['%d%s"%s"' % (i, separator, text_of(i)) for i in range(N)]
    return ("\n".join(rows) + "\n").encode()


def tar_of(mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for k in range(3):
            data = lines(N // 3, k * (N // 3))
            info = tarfile.TarInfo("folder/%d.jsonl" % k)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for k in range(3):
            z.writestr("%d.jsonl" % k, lines(N // 3, k * (N // 3)))
    return out.getvalue()


def zstd_frames(data, frame=60000):
    """Frames that tell their sizes; None where there is no zstd."""
    if not shutil.which("zstd"):
        return None
    out = b""
    for at in range(0, len(data), frame):
        path = "/tmp/docflume-test-%d.part" % os.getpid()
        pathlib.Path(path).write_bytes(data[at:at + frame])
        out += subprocess.run(["zstd", "-q", "-c", path], stdout=subprocess.PIPE, check=True).stdout
        os.unlink(path)
    return out


FORMATS = {
    "a.jsonl": lines, "a.jsonl.gz": lambda: gzip.compress(lines(), 1), "a.jsonl.zst": lambda: zstd_frames(lines()),
    "a.jsonl.xz": lambda: lzma.compress(lines(), preset=0), "a.jsonl.bz2": lambda: bz2.compress(lines(), 1),
    "a.tar": lambda: tar_of("w"), "a.tar.gz": lambda: tar_of("w:gz"), "a.zip": zip_of,
    "a.csv": lambda: table(","), "a.tsv.gz": lambda: gzip.compress(table("\t"), 1),
}


class ResumeCase(RunCase):
    def setUp(self):
        super().setUp()
        self.write("nap", "0.15")

    def texts(self):
        return [re.sub(r"x*$", "", r["text"]) for r in self.rows()]

    def once_each(self, n=N):
        counts = collections.Counter(self.texts())
        self.assertEqual([t for t, c in counts.items() if c > 1][:5], [], "came twice")
        self.assertEqual(len(counts), n, "lost")
        ids = [r["id"] for r in self.rows()]
        self.assertEqual(len(set(ids)), n, "made ids are not unique")
        self.assertEqual(self.counts_add_up()["in"], n)

    def committed(self):
        return sum(os.path.getsize(p) for p in self.parts("jsonl") + self.parts("jsonl.open"))

    def start_and_kill(self, *args, most=None, seconds=30):
        """Killed whole when about a third has been written."""
        before = self.committed()
        child = self.start("run", *args)
        enough = lambda: self.committed() > before + 45000 or child.poll() is not None
        self.assertTrue(wait_until(enough, seconds), "no results")
        if child.poll() is not None:
            self.fail("it was over too soon, with %d: %s" % (child.returncode, child.stderr.read().decode()))
        time.sleep(0.05)
        kill_whole(child)


class Matrix(ResumeCase):
    def matrix(self, *more):
        for name, make in list(FORMATS.items())[::1 if SLOW == 1 else 3]:  # a sanitizer is slow
            data = make()
            if data is None:
                continue
            with self.subTest(name):
                shutil.rmtree(self.dir / "out", ignore_errors=True)
                self.write(name, data)
                self.write("nap", "0.06")
                args = ("--cell-size", "2k", *more, SLOWLY, "-o", "out", name)
                self.start_and_kill("-j", "2", *args)
                self.start_and_kill("-j", "3", *args)
                self.write("nap", "0")
                result = self.run_ok("-j", "1", *args)
                self.once_each()
                if "-k" in more:
                    numbers = [int(t.split()[2]) for t in self.texts()]
                    self.assertEqual(numbers, sorted(numbers))
                self.assertIn("complete already", self.run_ok("-j", "4", *args).err)
                self.assertNotIn("changed", result.err)
                (self.dir / name).unlink()

    def test_every_format_killed_twice_goes_on_with_another_number_of_workers(self):
        self.matrix()

    def test_every_format_with_the_order_kept(self):
        self.matrix("-k")

    def test_skip_and_limit_go_on_too(self):
        self.write("a.jsonl", lines(N))
        self.write("b.jsonl.gz", gzip.compress(lines(N, N), 1))
        args = ("--cell-size", "2k", SLOWLY, "-o", "out", "--skip", "100", "--limit", "2000", "a.jsonl", "b.jsonl.gz")
        self.start_and_kill("-j", "2", *args)
        self.write("nap", "0")
        self.run_ok("-j", "3", *args)
        numbers = sorted(int(t.split()[2]) for t in self.texts())
        self.assertEqual(numbers, list(range(100, 2100)))

    def test_only_the_coordinator_is_killed_and_its_successor_goes_on(self):
        for name in ("a.jsonl.gz", "a.tar.gz", "a.csv"):
            shutil.rmtree(self.dir / "out", ignore_errors=True)
            self.write(name, FORMATS[name]())
            self.write("nap", "0.1")
            child = self.start("run", "-j", "2", "--cell-size", "2k", SLOWLY, "-o", "out", name)
            for _ in range(2):
                before = self.committed()
                self.assertTrue(wait_until(lambda: self.committed() > before + 40000))
                kill(coordinator_of(child.pid) or 0) if coordinator_of(child.pid) else None
            self.write("nap", "0")
            _, err = child.communicate(timeout=60 * SLOW)
            self.assertEqual(child.returncode, 0, err.decode())
            self.once_each()

    def test_readers_die_again_and_again_and_each_document_comes_once(self):
        self.write("a.jsonl.gz", FORMATS["a.jsonl.gz"]())
        child = self.start("run", "-j", "2", "--cell-size", "2k", SLOWLY, "-o", "out", "a.jsonl.gz")
        killed = 0
        while killed < 8 and child.poll() is None:
            for pid, role in children_of(child.pid).items():
                if role == "reader":
                    killed += kill(pid)
            time.sleep(0.15)
        self.write("nap", "0")
        _, err = child.communicate(timeout=60 * SLOW)
        # three deaths at one place are a source error; kills here and there need not be
        self.assertIn(child.returncode, (0, 3), err.decode())
        if child.returncode == 0:
            self.once_each()
        else:
            self.assertIn(b"the rest of this input is left out", err)


class Compared(ResumeCase):
    """Trap 13: the successor checks what it skips."""

    def kept_times(self, path, data):
        """Other content of the same size, with the old times and in the same place: nothing that stat tells gives it away."""
        st = path.stat()
        self.assertEqual(len(data), st.st_size)
        with open(path, "r+b") as f:
            f.write(data)
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def stored(self, data):
        """gzip without compression, so that content can change and the size stay."""
        return gzip.compress(data, 0, mtime=0)

    def test_content_that_changed_behind_the_clocks_back_is_refused_with_its_place(self):
        data = lines()
        path = self.write("a.jsonl.gz", self.stored(data))
        args = ("-j", "2", "--cell-size", "2k", SLOWLY, "-o", "out", "a.jsonl.gz")
        self.start_and_kill(*args)
        done = self.committed()
        self.kept_times(path, self.stored(data.replace(b"document number 20 ", b"document NUMBER 20 ")))
        self.write("nap", "0")
        result = self.run_ok(*args, code=1)
        self.assertRegex(result.err, r"'a.jsonl.gz' has other content .* between bytes \d+ and \d+")
        self.assertIn("--force-restart", result.err)
        self.kept_times(path, self.stored(data))
        self.run_ok(*args)
        self.once_each()
        self.assertGreater(done, 0)

    def test_within_one_life_it_is_a_source_error_and_the_rest_comes(self):
        data = lines()
        path = self.write("a.jsonl.gz", self.stored(data))
        self.write("b.jsonl", '{"text":"the rest"}\n')
        self.write("nap", "0.3")
        child = self.start("run", "-j", "2", "--cell-size", "2k", SLOWLY, "-o", "out", "a.jsonl.gz", "b.jsonl")
        self.assertTrue(wait_until(lambda: self.committed() > 0))
        readers = [pid for pid, role in children_of(child.pid).items() if role == "reader"]
        reading = [pid for pid in readers if os.path.exists("/proc/%d" % pid)]
        self.kept_times(path, self.stored(data.replace(b"document number 20 ", b"document NUMBER 20 ")))
        for pid in reading:
            kill(pid)
        self.write("nap", "0")
        _, err = child.communicate(timeout=60 * SLOW)
        self.assertIn("the rest", self.texts())
        if child.returncode == 0:  # the reader had given all of it before
            self.assertEqual(len(self.rows()), N + 1)
        else:
            self.assertEqual(child.returncode, 3, err.decode())
            self.assertIn(b"has other content than when it was read before", err)
            self.assertEqual(self.counts_add_up()["rejected_total"], 0)

    def test_a_truncated_gzip_is_one_source_error_apart_from_documents_however_often_it_is_read(self):
        whole = gzip.compress(lines(), 1)
        self.write("a.jsonl.gz", whole[:len(whole) * 2 // 3])
        self.write("b.jsonl", '{"text":"the rest"}\n')
        args = ("--cell-size", "2k", SLOWLY, "-o", "out", "a.jsonl.gz", "b.jsonl")
        self.start_and_kill("-j", "2", *args)
        self.write("nap", "0")
        result = self.run_ok("-j", "1", *args, code=3)
        self.assertIn("1 of the inputs could not be read to the end", result.err)
        self.assertEqual(self.counts_add_up()["rejected_total"], 0)
        rows = len(self.rows())
        self.assertEqual(len(set(self.texts())), rows)
        self.assertIn("complete already", self.run_ok("-j", "2", *args, code=3).err)
        self.assertEqual(len(self.rows()), rows)


class Memory(ResumeCase):
    def test_many_small_compressed_inputs_are_taken_in_linear_time(self):
        """A figure, not a limit that a loaded machine could break by chance: quadratic work on 8,000 inputs took seconds of CPU."""
        n = 8000 // SLOW
        (self.dir / "many").mkdir()
        for i in range(n):
            (self.dir / "many" / ("%05d.jsonl.gz" % i)).write_bytes(gzip.compress(b'{"text":"document number %d "}\n' % i, 1))
        self.write("nap", "0")
        self.run_ok("-j", "2", "strip", "-o", "out", "many", timeout=120)
        self.once_each(n)
        cpu = {p["role"]: p["cpu_seconds"] for p in self.state()["processes"]}
        print("%d inputs: %.2f s of the coordinator's CPU" % (n, cpu["coordinator"]), file=sys.stderr)
        self.assertLess(cpu["coordinator"], 8 * SLOW)


if __name__ == "__main__":
    unittest.main()
