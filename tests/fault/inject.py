# SPDX-License-Identifier: Apache-2.0
"""What the tests with the preloaded libraries of shim/ share: small runs, one fault in each, and the proof that nothing is lost by it."""
import collections
import concurrent.futures
import gzip
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import BIN, SLOW, document, jsonl  # noqa: E402
from rundir import read_npy  # noqa: E402

SOAK = bool(os.environ.get("DF_SOAK"))
LIBRARIES = pathlib.Path(os.environ.get("DF_SHIM_DIR", "/nonexistent"))
FAULTY = os.environ.get("DF_FAULTY")  # the program with failing allocations inside, under AddressSanitizer
SECONDS = os.environ.get("DF_FAULT_SECONDS")  # instead of a test's own time
AT_ONCE = 3
HANG_SECONDS = 30 * SLOW
LOG_AT = 4096
ROLES = ("front", "coordinator", "worker", "reader")
CODES = {0, 1, 3, 75}
N = 100

Call = collections.namedtuple("Call", "role number function what way")


def skip_without_shim():
    """The preloaded libraries are built where no sanitizer has the allocator and the system calls for itself."""
    if not (LIBRARIES / "libdf_shim_io.so").exists():
        print("SKIP: no shim in this build (the sanitizers replace the same calls)")
        sys.exit(77)


def skip_without_alloc():
    """Allocations fail in a program that was linked for it, too: under AddressSanitizer."""
    if not FAULTY:
        skip_without_shim()


class Faulty(Exception):
    """A run that did what it must not do; the text says which fault and what came of it."""


# ------------------------------------------------------------------ what is run

class Scenario:
    """A command, its corpus, and what it writes when nothing is in its way."""

    def __init__(self, lab, name, args, inputs, ordered=False, to_dir=True, env=None):
        self.lab, self.name, self.ordered, self.to_dir = lab, name, ordered, to_dir
        self.args, self.inputs, self.env = args, inputs, env
        self.vectors = None
        self.template = None  # a run directory to begin with

    def command(self, home):
        where = ["-o", str(home / "out")] if self.to_dir else ["--rejects", str(home / "out" / "rejects-00000.jsonl")]
        free = ["--no-confine"] if FAULTY else []  # the leak checker needs calls that a worker gives up
        return [FAULTY or BIN, "run", "-j", "1", "--bar", "never", *free, *self.args, *where, *map(str, self.inputs)]

    def fresh(self, home):
        home.mkdir(parents=True)
        (home / "s").mkdir()
        if self.template:
            shutil.copytree(self.template, home / "out")
        elif not self.to_dir:
            (home / "out").mkdir()

    def compare_vectors(self, by_row):
        """Texts go through the model in other company after a fault: the last bits of a vector may differ."""
        if self.vectors is None:
            self.vectors = by_row
        for row, v in by_row.items():
            if row in self.vectors and any(abs(a - b) > 1e-5 for a, b in zip(v, self.vectors[row])):
                raise Faulty("the vector of %s is another's" % row[:60])

    def reference(self):
        """The exit code and the contents of a run without faults."""
        home = self.lab.home()
        template, self.template = self.template, None
        self.fresh(home)
        self.template = template
        result = run(self, home)
        if result.code != 3:
            raise Faulty("%s: exit %s without any fault: %s" % (self.name, result.code, result.err))
        self.contents = contents(self, home)
        shutil.rmtree(home)
        return self


class Lab:
    """A folder for the inputs and the runs of one test."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="docflume-fault-"))
        self.n = 0
        folder = self.dir / "in"
        folder.mkdir()
        bad = b'{"id":"bad","text":\n'
        (folder / "a.jsonl").write_bytes(jsonl(60, words=300) + bad)
        (folder / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(38, first=60, words=300)))
        (folder / "c.txt").write_text(document(98, words=300)["text"])
        self.inputs = [folder / name for name in ("a.jsonl", "b.jsonl.gz", "c.txt")]

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def home(self):
        self.n += 1
        return self.dir / ("run-%d" % self.n)

    def scenario(self, name, *args, **more):
        return Scenario(self, name, list(args), self.inputs, **more)

    def calls_of(self, scenario, kind):
        """What each role calls in a run without faults, as the shim of that kind ("io", "alloc") counts it."""
        calls = []
        for role in ROLES:
            home = self.home()
            scenario.fresh(home)
            shim = Shim(home, kind, role=role, log=True)
            result = run(scenario, home, shim)
            assert result.code == 3, result.err
            calls += shim.calls()
            shutil.rmtree(home)
        return calls

    def resume(self):
        """A run that begins half done."""
        again = self.scenario("resume", *SHAPE, "-k", CHUNKS, ordered=True).reference()
        again.template = half_done(self, again)
        return again


CHUNKS = "strip | clean min_chars=400 | chunk chars=60 overlap=10"
SHAPE = ("--cell-size", "8k", "--part-size", "64k")


def tiny_model(folder):
    """A BERT of one layer with weights from a seed: vectors without a download."""
    rnd = random.Random(5)
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + list("abcdefghijklmnopqrstuvwxyz") + \
            ["##" + c for c in "abcdefghijklmnopqrstuvwxyz"]
    hidden, wide, positions = 16, 32, 64
    config = {"model_type": "bert", "hidden_size": hidden, "num_hidden_layers": 1, "num_attention_heads": 2,
              "intermediate_size": wide, "vocab_size": len(words), "max_position_embeddings": positions,
              "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tensors = [("embeddings.word_embeddings.weight", [len(words), hidden]),
               ("embeddings.position_embeddings.weight", [positions, hidden]),
               ("embeddings.token_type_embeddings.weight", [2, hidden]),
               ("embeddings.LayerNorm.weight", [hidden]), ("embeddings.LayerNorm.bias", [hidden])]
    for part, out, width in (("attention.self.query", hidden, hidden), ("attention.self.key", hidden, hidden),
                             ("attention.self.value", hidden, hidden), ("attention.output.dense", hidden, hidden),
                             ("attention.output.LayerNorm", hidden, 0), ("intermediate.dense", wide, hidden),
                             ("output.dense", hidden, wide), ("output.LayerNorm", hidden, 0)):
        tensors.append(("encoder.layer.0.%s.weight" % part, [out, width] if width else [out]))
        tensors.append(("encoder.layer.0.%s.bias" % part, [out]))
    header, data = {}, b""
    for name, shape in tensors:
        n = 1
        for d in shape:
            n *= d
        raw = struct.pack("<%df" % n, *(rnd.uniform(-0.3, 0.3) for _ in range(n)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


# ------------------------------------------------------------------ one run

Result = collections.namedtuple("Result", "code err seconds")


class Shim:
    """The environment of one preloaded run, and what its library says afterwards."""

    def __init__(self, home, library, role="front", at=0, more=False, log=False, fault=None, trace=None, env=None):
        self.path = home / "state"
        with open(self.path, "wb") as f:
            f.truncate((8 << 20) if log else (64 << 10))
        preload = {} if FAULTY else {"LD_PRELOAD": str(LIBRARIES / ("libdf_shim_%s.so" % library))}
        self.env = {**preload, "DF_SHIM_STATE": str(self.path),
                    "DF_SHIM_ROLE": role, "DF_SHIM_AT": str(at), "DF_SHIM_RUN": str(home / "out"),
                    "DF_SHIM_INPUT": str(home.parent / "in"), **(env or {})}
        for word, value in (("DF_SHIM_MORE", more), ("DF_SHIM_LOG", log), ("DF_SHIM_FAULT", fault), ("DF_SHIM_TRACE", trace)):
            if value:
                self.env[word] = "1" if value is True else str(value)

    def lines(self, word):
        with open(self.path, "rb") as f:
            head = f.read(LOG_AT)
            used, = struct.unpack_from("<Q", head, 72)
            if used > self.path.stat().st_size - LOG_AT:
                raise Faulty("the shim's log is too small: %d bytes" % used)
            text = f.read(used).decode("utf-8", "replace")
        return [line.split() for line in text.splitlines() if line.startswith(word)]

    def fired(self):
        return self.lines("FIRED")

    def where(self):
        """The frames at which the fault was, for addr2line."""
        return " ".join(f for line in self.fired() for f in line[5:] if f.startswith("docflume"))

    def crashes(self):
        return self.lines("CRASH")

    def calls(self):
        return [Call(c[1], int(c[2]), c[3], c[4], c[5]) for c in self.lines("CALL")]


def run(scenario, home, shim=None, timeout=HANG_SECONDS):
    """Runs the command. Its standard error is a pipe that all its processes hold: that it ends shows that they did."""
    out = subprocess.DEVNULL if scenario.to_dir else open(home / "out" / "part-00000.jsonl", "wb")
    start = time.monotonic()
    child = subprocess.Popen(scenario.command(home), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, cwd=home,
                             start_new_session=True, env={**os.environ, "XDG_RUNTIME_DIR": str(home / "s"), **(shim.env if shim else {})})
    if not scenario.to_dir:
        out.close()
    try:
        _, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        _, err = child.communicate()
        raise Faulty("hangs: %s" % err.decode("utf-8", "replace")) from None
    left = sorted(p.name for p in (home / "s").iterdir())
    err = err.decode("utf-8", "replace")
    if left:
        raise Faulty("exit %s leaves a folder of sockets: %s\n%s" % (child.returncode, left, err))
    return Result(child.returncode, err, time.monotonic() - start)


# ------------------------------------------------------------------ what it left

def lines_of(path):
    if path.suffix == ".zst":
        data = subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout
    else:
        data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        raise Faulty("'%s' ends within a line" % path.name)
    return data.splitlines()


def rejected(line):
    """What is the same in every life of a run."""
    reject = json.loads(line)
    return json.dumps([reject.get("id"), reject["docflume"]["source"], reject["docflume"]["offset"]])


def contents(scenario, home):
    """Rows (with their vectors), rejects and counts of a complete run."""
    out = home / "out"
    parts = sorted(p for p in out.glob("part-*") if ".jsonl" in p.suffixes)
    rows = [line for p in parts for line in lines_of(p)]
    vectors = [v for p in sorted(out.glob("part-*.npy")) for v in read_npy(p)[1]]
    if vectors or any("--output-format" in a for a in scenario.args):
        if len(vectors) != len(rows):
            raise Faulty("%d rows, but %d vectors" % (len(rows), len(vectors)))
        scenario.compare_vectors(dict(zip(rows, vectors)))
    rejects = [rejected(line) for p in sorted(out.glob("rejects-*")) for line in lines_of(p)]
    if not scenario.to_dir:
        return rows if scenario.ordered else sorted(rows), sorted(rejects)
    odd = [p.name for p in out.iterdir() if p.suffix in (".open", ".tmp")]
    if odd:
        raise Faulty("a complete run has %s" % odd)
    state = json.loads((out / "run.json").read_text())
    if state["state"] != "finished":
        raise Faulty("run.json says '%s'" % state["state"])
    counts = state["counts"]
    return rows if scenario.ordered else sorted(rows), sorted(rejects), {k: counts[k] for k in ("in", "out", "filtered", "rejected")}


def difference(found, expected):
    text = []
    for name, a, b in zip(("rows", "rejects", "counts"), found, expected):
        if a == b:
            continue
        if name == "counts":
            text.append("counts %s, not %s" % (a, b))
            continue
        x, y = collections.Counter(a), collections.Counter(b)
        text.append("%s: %d lost, %d too many%s" % (name, sum((y - x).values()), sum((x - y).values()),
                                                     "" if x != y else ", another order"))
    return "; ".join(text)


def must_be_complete(scenario, home, err=""):
    found = contents(scenario, home)
    if found != scenario.contents:
        raise Faulty("not each document once: %s\n%s" % (difference(found, scenario.contents), err))


def must_be_proved(home):
    """By the program's own word: checksums, every cell once, counts, nothing left over."""
    proof = subprocess.run([FAULTY or BIN, "verify", str(home / "out")], capture_output=True, text=True, check=False)
    if proof.returncode != 0:
        raise Faulty("docflume verify does not agree: %s%s" % (proof.stdout, proof.stderr))


def must_be_part(scenario, home):
    """What is there is of the run, and nothing twice."""
    found, expected = (collections.Counter(c[0]) for c in (contents(scenario, home), scenario.contents))
    if found - expected:
        raise Faulty("%d rows twice or of nowhere" % sum((found - expected).values()))


def go_on(scenario, home):
    """The same command without faults: it ends the run, and a third time has nothing to do."""
    result = run(scenario, home)
    if result.code != 3:
        raise Faulty("the same command does not go on: exit %s: %s" % (result.code, result.err))
    must_be_complete(scenario, home, result.err)
    must_be_proved(home)
    return result


COMMON = ("libdf_shim_", "libc.so", "libc-", "libpthread", "ld-linux", "libstdc++", "libgcc_s", "linux-vdso")


def crash_in_own_text(crash):
    """The innermost frame that is neither the handler's nor of the libraries that everybody calls: is it docflume's?"""
    for frame in crash[3:]:
        if not frame.startswith(COMMON):
            return frame.startswith("docflume")
    return True


def half_done(lab, scenario):
    """A run directory whose run was stopped in the middle: it has rows that are committed, and more is to come."""
    slow = Scenario(lab, scenario.name, scenario.args, scenario.inputs)
    home, template = lab.home(), lab.dir / "half-done"
    for attempt in range(50):
        slow.fresh(home)
        child = subprocess.Popen(slow.command(home), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                                 env={**os.environ, "XDG_RUNTIME_DIR": str(home / "s")})
        journal = home / "out" / "journal"
        deadline = time.monotonic() + HANG_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.stat().st_size > 300 + 10 * attempt and list((home / "out").glob("part-00000.jsonl")):
                break
            time.sleep(0.0005)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        state = json.loads((home / "out" / "run.json").read_text())["state"] if (home / "out" / "run.json").exists() else ""
        if state == "running" and list((home / "out").glob("part-*.jsonl")) and list((home / "out").glob("part-*.open")):
            shutil.copytree(home / "out", template)
            shutil.rmtree(home)
            return template
        shutil.rmtree(home)
    raise Faulty("no run was caught in the middle")


# ------------------------------------------------------------------ many runs

def sweep(work, items, seconds, what):
    """work(item) -> the name of an outcome, or Faulty. Stops when the time is up. (outcomes, failures, how many were left)."""
    outcomes, failures, left = collections.Counter(), [], 0
    deadline = time.monotonic() + seconds
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        def one(item):
            if time.monotonic() > deadline:
                return None
            try:
                return work(item)
            except Faulty as e:
                return Faulty("%s: %s" % (item, e))
        for answer in pool.map(one, items):
            if answer is None:
                left += 1
            elif isinstance(answer, Faulty):
                failures.append(str(answer))
            else:
                outcomes[answer] += 1
    print("%s: %d faults: %s%s" % (what, sum(outcomes.values()) + len(failures), ", ".join("%s %d" % kv for kv in sorted(outcomes.items())),
                                   "; %d not tried, the time was up" % left if left else ""), flush=True)
    return outcomes, failures, left


def report(test, failures):
    """The first failures in full, all of them by number."""
    if failures:
        kinds = collections.Counter(re.sub(r"\d+", "N", f.split("\n")[0].split("): ", 1)[-1])[:120] for f in failures)
        test.fail("%d faults were not survived:\n%s\n%s" % (len(failures), "\n".join("%4d %s" % (n, k) for k, n in kinds.most_common(30)),
                                                            "\n".join(failures[:None if os.environ.get("DF_ALL") else 6])))
