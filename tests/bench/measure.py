#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""measure.py CORPUS.jsonl startup|throughput|embed ...: what run.sh measures once everything is in its place.

Both sides take turns, after one run that warms the caches and is not counted; a line gives the median, the fastest and the ratio
"ours : peer" (above 1: docflume is faster). Goals are those of docs/, for 4 cores. Ends non-zero when a run failed; a goal that is
missed is said, and no failure."""
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WORK, DOCFLUME, MODEL = os.environ["WORK"], os.environ["DOCFLUME"], os.environ["MODEL_DIR"]
JOBS, REPS, PEERS = int(os.environ["JOBS"]), int(os.environ["REPS"]), os.environ["PEERS"] != "0"
PYTHON = WORK + "/venv/bin/python"
ENV = dict(os.environ, OPENBLAS_NUM_THREADS="1", LOGURU_LEVEL="ERROR")
failures = []


def peer(name):
    return [PYTHON, f"{HERE}/peers/{name}"]


def timed(argv, stdin=None, stdout=subprocess.DEVNULL):
    """Seconds of one run, and CPU seconds of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(argv, input=stdin, stdout=stdout, stderr=subprocess.PIPE, env=ENV)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        failures.append(argv)
        print(f"FAILED ({done.returncode}): {' '.join(argv)}\n{done.stderr.decode(errors='replace')[-600:]}")
        return None
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def in_turns(runs, reps):
    """runs: {name: function that returns seconds or None}. Returns {name: [seconds]} of those that never failed."""
    taken = {name: [] for name in runs}
    for rep in range(reps + 1):
        for name, run in runs.items():
            if name in taken:
                seconds = run()
                if seconds is None:
                    del taken[name]
                elif rep > 0:
                    taken[name].append(seconds)
    return taken


def show(title, taken, unit, value, goal="", ours="docflume", better=max):
    """value: seconds to the figure that is printed."""
    figure = {name: value(statistics.median(s)) for name, s in taken.items()}
    for name, seconds in taken.items():
        best = value(min(seconds))
        print(f"  {title:<34} {name:<22} {figure[name]:>10.3f} {unit:<8} best {best:>10.3f}")
    others = {n: f for n, f in figure.items() if not n.startswith(ours)}
    if ours in figure and others:
        name = better(others, key=others.get)
        ratio = figure[ours] / others[name] if better is max else others[name] / figure[ours]
        print(f"  {title:<34} ratio ours : {name} = {ratio:.2f}")
    if goal:
        print(f"  {title:<34} goal {goal}")


def startup():
    print("startup (ms, from spawn to exit)")
    record = b'{"id":"1","text":" A short record of text. "}\n'

    def ours(*args, stdin=None):
        def run():
            done = timed([DOCFLUME, *args], stdin)
            return done and done[0]
        return run

    def theirs(argv, stdin=None):
        def run():
            done = timed(argv, stdin)
            return done and done[0]
        return run
    reps, ms = 4 * REPS + 1, lambda s: s * 1e3
    runs = {"docflume": ours("--help")}
    if PEERS:
        runs["python -c pass"] = theirs([PYTHON, "-c", "pass"])
        runs["import datatrove"] = theirs([PYTHON, "-c", "import datatrove.pipeline.readers"])
    show("--help", in_turns(runs, reps), "ms", ms, "<= 10 ms", better=min)
    runs = {"docflume": ours("run", "strip", stdin=record), "docflume -j 1": ours("run", "strip", "-j", "1", stdin=record)}
    if PEERS:
        runs["python, json"] = theirs(peer("peer_onebyone.py") + ["strip"], record)
    show("one record, strip", in_turns(runs, reps), "ms", ms, "<= 100 ms", better=min)
    runs = {"docflume": ours("run", "embed", "--model-dir", MODEL, stdin=record)}
    if PEERS:
        runs["python, onnxruntime"] = theirs(peer("peer_onebyone.py") + ["embed", MODEL, WORK + "/onnx/model_opt.onnx"], record)
    show("one record, embed", in_turns(runs, reps), "ms", ms, "<= 300 ms", better=min)


def processes_of(run_json):
    """The list of processes in run.json: every one has a role."""
    for value in run_json.values():
        if isinstance(value, list) and value and all(isinstance(v, dict) and "role" in v for v in value):
            return value
        if isinstance(value, dict):
            found = processes_of(value)
            if found:
                return found
    return []


def cpu_seconds(process):
    for key, scale in (("cpu_seconds", 1), ("cpu_s", 1), ("cpu_ms", 1e-3), ("cpu_us", 1e-6), ("cpu_ns", 1e-9)):
        if key in process:
            return process[key] * scale
    return 0.0


def show_processes(title, out):
    try:
        with open(out + "/run.json", encoding="utf-8") as f:
            processes = processes_of(json.load(f))
    except (OSError, ValueError) as e:
        print(f"  {title:<34} run.json: {e}")
        failures.append([out])
        return
    total = sum(map(cpu_seconds, processes))
    coordinator = sum(cpu_seconds(p) for p in processes if p["role"] == "coordinator")
    if total:
        print(f"  {title:<34} coordinator's CPU {100 * coordinator / total:.1f} % of {total:.2f} s    goal <= 5 % (none)")
    for role in sorted({p["role"] for p in processes}):
        peaks = [p.get("peak_rss_bytes", 0) / 1e6 for p in processes if p["role"] == role]
        print(f"  {title:<34} peak RSS of {role}: {max(peaks):.1f} MB (largest of {len(peaks)})")


def split_corpus(corpus, n):
    """The peer reads one file per process; the cut is not timed."""
    parts = f"{WORK}/parts-{os.path.basename(corpus)}-{n}"
    if not os.path.isdir(parts):
        os.makedirs(parts + ".new")
        subprocess.run(["split", "-n", f"l/{n}", "--additional-suffix=.jsonl", corpus, parts + ".new/"], check=True)
        os.rename(parts + ".new", parts)
    return parts


def throughput(corpus):
    size = os.path.getsize(corpus)
    print(f"throughput of 'strip | clean | count', {size / 1e9:.2f} GB of JSONL, {JOBS} processes")
    with open(corpus, "rb") as f:
        while f.read(1 << 24):
            pass

    def ours(form, out, stdout=None):
        def run():
            shutil.rmtree(out, ignore_errors=True)
            argv = [DOCFLUME, "run", "strip | clean min_chars=100 | count", "-q", "-j", str(JOBS)]
            argv += ["-o", out, "--output-format", form] if stdout is None else []
            done = timed(argv + [corpus], stdout=stdout or subprocess.DEVNULL)
            return done and done[0]
        return run

    def theirs(form):
        def run():
            done = timed(peer("peer_datatrove.py") + [split_corpus(corpus, JOBS), WORK + "/datatrove", str(JOBS), form],
                         stdout=subprocess.PIPE)
            return done and json.loads(done[2].decode().strip().splitlines()[-1])["seconds"]
        return run
    for form, goal in (("jsonl", ">= 0.6 GB/s"), ("none", ">= 1 GB/s")):
        out = f"{WORK}/out-{form}"
        runs = {"docflume": ours(form, out)}
        if form == "jsonl":
            runs["docflume to /dev/null"] = ours(form, out, subprocess.DEVNULL)
        taken = in_turns(runs, REPS)
        if PEERS:  # a run of its own: it takes minutes where ours take a second
            taken.update(in_turns({"datatrove": theirs(form)}, 1))
        show(f"--output-format {form}", taken, "GB/s", lambda s: size / 1e9 / s, goal)
        if "docflume" in taken:
            ours(form, out)()
            show_processes(f"--output-format {form}", out)


def embed():
    print("embed, all-MiniLM-L6-v2, tokens cut at 256, fp32 (texts/s, tokenisation included)")
    for name in "abcd":
        path = f"{WORK}/texts/{name}.jsonl"
        with open(path, "rb") as f:
            n = sum(1 for _ in f)
        for jobs in sorted({1, JOBS} if os.environ.get("ONE", "1") != "0" else {JOBS}):
            def ours():
                out = WORK + "/out-embed"
                shutil.rmtree(out, ignore_errors=True)
                done = timed([DOCFLUME, "run", "embed", "--model-dir", MODEL, "-q", "-j", str(jobs), "-o", out,
                              "--output-format", "npy", path])
                return done and done[0]
            budget = {}

            def ort(how):
                def run():
                    argv = peer("peer_embed.py") + ["--model-dir", MODEL, "--onnx-dir", WORK + "/onnx", "--input", path, "--engines",
                                                    "ort", "--reps", "1", how, str(jobs), "--budget", str(budget.get(how, 0))]
                    done = timed(argv, stdout=subprocess.PIPE)
                    if not done:
                        return None
                    said = json.loads(done[2].decode().strip().splitlines()[-1])
                    budget[how] = said["budget"]  # searched in the warm-up, its best is kept
                    return n / said["texts_per_s"]
                return run
            runs = {"docflume": ours}
            if PEERS:
                runs["onnxruntime threads"] = ort("--threads")
                if jobs > 1:
                    runs["onnxruntime procs"] = ort("--procs")
            show(f"{name}.jsonl, {jobs} processes", in_turns(runs, min(REPS, 3)), "texts/s", lambda s: n / s, ">= 0.9 x onnxruntime")
    show_processes("embed", WORK + "/out-embed")


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    flags = open("/proc/cpuinfo", encoding="utf-8").read()
    simd = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    load = os.getloadavg()[0]
    print(f"machine: {model}, {os.cpu_count()} cores, {simd}, {ram:.0f} GB, Linux {platform.release()}, load {load:.1f} at the start")


def main():
    corpus, what = sys.argv[1], sys.argv[2:]
    machine()
    for name in what:
        {"startup": startup, "throughput": lambda: throughput(corpus), "embed": embed}[name]()
        sys.stdout.flush()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
