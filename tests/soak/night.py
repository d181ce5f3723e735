# SPDX-License-Identifier: Apache-2.0
"""What the soak scripts share: corpora as large as they need, the processes of a run, counting rows without keeping them."""
import glob
import json
import os
import pathlib
import random
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import children_of, coordinator_of, kill  # noqa: E402,F401

BIN = os.environ.get("DOCFLUME", "build/release/docflume")
WORK = pathlib.Path(os.environ.get("DF_SOAK_DIR", "build/soak")).resolve()
WORDS = ("the sea animal large swims deep water small bird tree house of and in with model data text river stone "
         "light morning evening letter number garden window paper engine signal harbour winter summer").split()


def corpus(name, n, words):
    """n documents of about `words` words with ids 0 .. n-1; made once."""
    path = WORK / ("%s-%d-%d.jsonl" % (name, n, words))
    if path.exists():
        return path
    WORK.mkdir(parents=True, exist_ok=True)
    rnd = random.Random(5)
    pool = [" ".join(rnd.choice(WORDS) for _ in range(rnd.randrange(1, 2 * words))) for _ in range(997)] if words else ["a"]
    with open(str(path) + ".part", "w", encoding="utf-8") as f:
        for first in range(0, n, 10000):
            f.write("".join('{"id":"%d","text":"%s"}\n' % (i, pool[i % len(pool)])
                            for i in range(first, min(n, first + 10000))))
    os.rename(str(path) + ".part", path)
    return path


def family(guard):
    """(coordinator or None, [workers], [readers]) of the run whose guard is `guard`."""
    below = children_of(guard)
    return (coordinator_of(guard), [p for p, role in below.items() if role == "worker"],
            [p for p, role in below.items() if role == "reader"])


def start(*args, **more):
    return subprocess.Popen([BIN, *map(str, args)], stdin=subprocess.DEVNULL, **more)


def timed(*args):
    before = time.monotonic()
    done = subprocess.run([BIN, *map(str, args)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit("docflume %s: %d\n%s" % (args[0], done.returncode, done.stderr.decode()))
    return time.monotonic() - before


def count_rows(out, n):
    """(lost, twice, torn) of the numbered documents 0 .. n-1 in the parts of a run directory."""
    seen, twice, torn = bytearray(n), 0, 0
    for path in sorted(glob.glob(str(pathlib.Path(out) / "part-*.jsonl"))):
        with open(path, "rb") as f:
            for line in f:
                if not line.startswith(b'{"id":"') or not line.endswith(b"}\n"):
                    torn += 1
                    continue
                i = int(line[7:line.index(b'"', 7)])
                twice += seen[i]
                seen[i] = 1
    return n - sum(seen), twice, torn


def memory_kb(pid):
    try:
        for line in pathlib.Path("/proc/%d/status" % pid).read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def descriptors(pid):
    try:
        return len(os.listdir("/proc/%d/fd" % pid))
    except OSError:
        return 0


def log_lines(path):
    """A log of --log-format json as (seconds since the epoch, process, message)."""
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            try:
                o = json.loads(line)
            except ValueError:
                continue
            at = time.strptime(o["time"][:19], "%Y-%m-%dT%H:%M:%S")
            yield (time.mktime(at) - time.timezone + float("0" + o["time"][19:].rstrip("Z") or 0), o["process"],
                   o["message"])


def figure(name, said, aim, ok):
    line = "%-11s %-4s %s (aim: %s)" % (name, "ok" if ok else "MISS", said, aim)
    print(line, flush=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / "report.txt", "a", encoding="utf-8") as f:
        f.write(line + "\n")
