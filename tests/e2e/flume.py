# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: the program under test ($DOCFLUME), a folder per test, small deterministic corpora."""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BIN = os.environ.get("DOCFLUME", "docflume")
SLOW = 3 if "asan" in BIN or "tsan" in BIN else 1
WORDS = "the sea animal large swims deep water small bird tree house of and in with écrit naïve 東京 данные text model".split()


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def rows(self):
        return [json.loads(line) for line in self.out.split("\n") if line]

    def ids(self):
        return [row["id"] for row in self.rows()]


class Case(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="docflume-test-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.children = []
        self.addCleanup(self.end_children)

    def end_children(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe:
                    pipe.close()

    def start(self, *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=None):
        child = subprocess.Popen([BIN, *map(str, args)], cwd=self.dir, stdin=stdin, stdout=stdout, stderr=stderr,
                                 env={**os.environ, **(env or {})})
        self.children.append(child)
        return child

    def flume(self, *args, stdin=b"", timeout=60, env=None):
        child = self.start(*args, stdin=subprocess.PIPE, env=env)
        try:
            out, err = child.communicate(stdin, timeout=timeout * SLOW)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            self.fail("docflume %s hangs; stderr: %s" % (" ".join(map(str, args)), err.decode(errors="replace")))
        return Result(child.returncode, out.decode("utf-8"), err.decode("utf-8", "replace"))

    def run_ok(self, *args, code=0, **more):
        result = self.flume("run", *args, **more)
        self.assertEqual(result.code, code, result.err)
        return result

    def write(self, name, data):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path


def document(i, seed=1, words=40):
    rnd = random.Random(seed * 1000003 + i)
    return {"id": "d%06d" % i, "text": " ".join(rnd.choice(WORDS) for _ in range(rnd.randrange(1, words))),
            "metadata": {"n": i, "nested": [1, {"a": None}]}}


def jsonl(n, seed=1, words=40, first=0):
    return b"".join(json.dumps(document(i, seed, words), ensure_ascii=i % 3 == 0).encode() + b"\n"
                    for i in range(first, first + n))


def processes_below(pid):
    """Live child processes of pid as {pid: argv[1]}."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path("/proc", entry, "stat").read_text()
            argv = pathlib.Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        rest = stat[stat.rindex(")") + 2:].split()
        if int(rest[1]) == pid and rest[0] != "Z" and len(argv) > 1:
            found[int(entry)] = argv[1].decode()
    return found


def coordinator_of(pid):
    """The coordinator that the guard `pid` has now; None between two."""
    return next((p for p, role in processes_below(pid).items() if role == "run"), None)


def children_of(pid):
    """Live workers and readers as {pid: role} of the run whose guard (or coordinator) is pid."""
    below = processes_below(pid)
    for p in [p for p, role in below.items() if role == "run"]:
        below.update(processes_below(p))
    return {p: role for p, role in below.items() if role != "run"}


def kill(pid, sig=signal.SIGKILL):
    try:
        os.kill(pid, sig)
        return True
    except ProcessLookupError:
        return False


def is_running(pid):
    """A zombie is not, unless one of its threads still is: in the middle of a write it holds its locks for a moment more."""
    try:
        stats = [t.joinpath("stat").read_text() for t in pathlib.Path("/proc", str(pid), "task").iterdir()]
    except OSError:
        return False
    return any(stat[stat.rindex(")") + 2:].split()[0] not in "ZX" for stat in stats)


def kill_whole(child):
    """SIGKILL for the guard, its coordinator, workers and readers; returns when they are all gone, and with them their locks."""
    pids = [p for p in (child.pid, coordinator_of(child.pid), *children_of(child.pid)) if p]
    for pid in pids:
        kill(pid)
    child.wait()
    assert wait_until(lambda: not any(is_running(p) for p in pids)), "what was killed does not go"


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds * SLOW
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False
