# SPDX-License-Identifier: Apache-2.0
"""Reading what a run leaves: run.json, parts of rows, vectors in .npy files, rejects; and whether the model is there."""
import ast
import glob
import hashlib
import json
import math
import pathlib
import re
import struct
import subprocess
import sys

from flume import BIN, Case

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"


def model_is_there():
    listed = subprocess.run([BIN, "models", "list"], capture_output=True, text=True, check=False).stdout
    return re.search(r"MiniLM.*\n?.*\bnot\b", listed) is None and "MiniLM" in listed


HAS_MODEL = model_is_there()
NO_MODEL = "the model is not in the cache: docflume models fetch"


def read_npy(path):
    """(dtype, rows): the rows as tuples of floats."""
    data = pathlib.Path(path).read_bytes()
    assert data[:6] == b"\x93NUMPY", "%s is no .npy file" % path
    width, at = ("<H", 10) if data[6] == 1 else ("<I", 12)
    size, = struct.unpack_from(width, data, 8)
    assert (at + size) % 64 == 0, "numpy aligns the header to 64 bytes"
    assert data[at + size - 1:at + size] == b"\n"
    header = ast.literal_eval(data[at:at + size].decode("latin-1"))
    assert header["fortran_order"] is False, header
    n, dim = header["shape"]
    letter, item = {"<f4": ("f", 4), "<f2": ("e", 2)}[header["descr"]]
    assert len(data) == at + size + n * dim * item, "%s: %d bytes for %s" % (path, len(data), header["shape"])
    flat = struct.unpack_from("<%d%s" % (n * dim, letter), data, at + size)
    return header["descr"], [flat[i * dim:(i + 1) * dim] for i in range(n)]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


class RunCase(Case):
    """A test whose runs write to `out` in its folder."""

    def parts(self, ending, out="out", name="part"):
        return sorted(glob.glob(str(self.dir / out / ("%s-*.%s" % (name, ending)))))

    def rows(self, out="out", name="part"):
        rows = []
        for path in self.parts("jsonl", out, name):
            with open(path, encoding="utf-8", newline="\n") as f:
                rows += [json.loads(line) for line in f]
        return rows

    def vectors(self, out="out"):
        return [v for path in self.parts("npy", out) for v in read_npy(path)[1]]

    def state(self, out="out"):
        return json.loads((self.dir / out / "run.json").read_text())

    def picture(self, out="out"):
        """Every file of the run directory with a hash of its bytes; the lock, which names the last process, without."""
        files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (self.dir / out).iterdir()}
        return {name: files[name] if name != "lock" else "" for name in files}

    def counts_add_up(self, out="out"):
        c = self.state(out)["counts"]
        self.assertEqual(sum(c["filtered"].values()), c["filtered_total"])
        self.assertEqual(sum(c["rejected"].values()), c["rejected_total"])
        self.assertEqual(c["in"], c["out"] + c["filtered_total"] + c["rejected_total"])
        return c


def strict(line):
    """A JSON value in which no object has a key twice."""
    def unique(pairs):
        keys = [k for k, _ in pairs]
        assert len(keys) == len(set(keys)), "a key comes twice: %s" % keys
        return dict(pairs)
    return json.loads(line, object_pairs_hook=unique)


if __name__ == "__main__":
    sys.exit("this is read by the tests")
