#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py [ROW ...]: docflume's API calls beside aiohttp + uvloop, in turns against the same api_server; medians, ratios and aims.

ROWs: slow wide fast streams faults5 faults30 rpm told; all of them when none is named: about six minutes.
  --reps N        turns (3)             --peers 0       our side alone
  --docflume BIN  ($DOCFLUME, build/release/docflume)   --json FILE   every measurement as a JSON line
  --time-limit S  (480) a command that still runs then is ended, and what is left is not measured; any command has 120 s

Wall is the server's: from the first request's arrival to the last answer's end, the same for both sides; the whole command stands beside
it. CPU is of the command with all its processes. Memory of row wide is the most that all processes had at one moment, looked at every 50 ms: as PSS, in
which a page that several processes map counts once in all, and as RSS, in which it counts for each. Ends with 1 when a run failed, with 3 when an aim was
missed."""
import argparse
import collections
import json
import math
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
WORK = ROOT / "build" / "bench"
VENV = WORK / "apis-venv"
sys.path.insert(0, str(ROOT / "tests" / "api"))
import api  # noqa: E402

# calls, in flight; options of the server's path; whether calls are tried again; the stage's own options
Row = collections.namedtuple("Row", "title calls in_flight server retry stage watch", defaults=(False,))
ROWS = {
    "slow": Row("100 calls x 3 s", 100, 100, {"delay": 3000}, False, ""),
    "wide": Row("2,000 x 0.5 s at 500 in flight", 2000, 500, {"delay": 500}, False, "", True),
    "fast": Row("20,000 x 20 ms at 200 in flight", 20000, 200, {"delay": 20}, False, ""),
    "streams": Row("50 streams of 500 tokens", 50, 50, {"delay": "1500..3500", "gap": 5}, False, ""),
    "faults5": Row("5 % 429 and 500, 2,000 calls", 2000, 100, {"delay": 50, "faults": "429:0.025+500:0.025"}, True, "attempts=9"),
    "faults30": Row("30 % 429, 500, reset, 1,000 calls", 1000, 100, {"delay": 50, "faults": "429:0.1+500:0.1+reset:0.1"}, True,
                    "attempts=9"),
    "rpm": Row("600 RPM, 8 processes, 60 s", 620, 64, {}, True, "rpm=600"),
    "told": Row("told 600 when the real limit is 300", 340, 64, {"limit": "bucket", "rpm": 300, "burst": 5, "told_rpm": 600}, True, "rpm=600"),
}
PIPELINE = os.environ.get("DF_BENCH_PIPELINE", 'llm model=openai/any base_url={url} concurrency={in_flight} prompt="{{{{text}}}}" {more}')
RATES = ("limit=bucket,burst=10", "limit=bucket,burst=2", "limit=sliding")
TOKENS = 500
PATIENCE_S = 120  # with any command


class Failed(Exception):
    pass


def corpus(folder, n, name="in.jsonl"):
    path = folder / name
    with open(path, "w", encoding="utf-8") as f:
        for i in range(n):
            f.write(json.dumps({"id": f"d{i}", "text": f"d{i} is a document of some words that an API is asked about"}) + "\n")
    return path


def wait_for(child, seconds):
    """wait4 with a limit: the usage. A command that takes longer, or than the whole of this has left, is ended, and that is its failure."""
    seconds = max(0.001, min(seconds, until - time.monotonic()))
    late = threading.Event()

    def end(number):
        late.set()
        os.kill(child.pid, number)
    timers = [threading.Timer(seconds + more, end, (number,)) for more, number in ((0, signal.SIGTERM), (2, signal.SIGKILL))]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        for timer in timers:
            timer.cancel()
    if late.is_set():
        raise Failed(f"took more than {seconds:.0f} s")
    return used


def family(pid):
    """The process and all that come from it."""
    found = [pid]
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in pathlib.Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                found += family(int(child))
    except OSError:
        pass
    return found


def memory_now(pid):
    """(PSS, RSS) of the process with all that come from it, in bytes."""
    sums = {"Pss:": 0, "Rss:": 0}
    for one in family(pid):
        try:
            with open(f"/proc/{one}/smaps_rollup", encoding="ascii") as f:
                for words in (line.split() for line in f):
                    if words[0] in sums:
                        sums[words[0]] += int(words[1]) * 1024
        except OSError:
            pass
    return sums["Pss:"], sums["Rss:"]


class Watch(threading.Thread):
    """The most memory that all processes of a command had at one moment."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.pss, self.rss, self.over = pid, 0, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            pss, rss = memory_now(self.pid)
            self.pss, self.rss = max(self.pss, pss), max(self.rss, rss)


def command(argv, env=None, watch=False):
    """Runs it: whole wall, CPU of it and its children, stdout; watch: memory of all together."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=ROOT)
        watcher = Watch(child.pid)
        if watch:
            watcher.start()
        try:
            used = wait_for(child, PATIENCE_S)
        finally:
            watcher.over.set()
        wall = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        said = err.read().decode(errors="replace")
        result = {"wall_command_s": wall, "cpu_s": used.ru_utime + used.ru_stime}
        if watch:
            result.update(pss_bytes=watcher.pss, rss_bytes=watcher.rss)
        return child.returncode, result, out.read(), said


class Side:
    def __init__(self, server, folder):
        self.server, self.folder = server, folder

    def measure(self, row, documents, options, stream=False):
        """One turn. What the server saw is added to what the command says."""
        self.server.reset()
        skip = len(self.server.log())
        result = self.run(row, documents, self.server.url("v1", **options), stream)
        stats = self.server.stats()
        result.update(
            wall_s=(stats["last_answer_ns"] - stats["first_arrival_ns"]) / 1e9, requests=stats["requests"],
            max_in_flight=stats["max_in_flight"], connections=stats["connections"], lost=stats["texts"] - stats["texts_paid"],
            missing=row.calls - stats["texts_paid"], paid_twice=stats["paid_twice"], early_retries=stats["early_retries"],
            early_any=stats["early_any"], violations=stats["violations"], faults=sum(stats["faults"].values()),
            answers=stats["answers"], server_cpu_s=stats["cpu_s"], tokens=stats["tokens_out"])
        if stream:
            lines = {line["head"].split()[0]: line for line in self.server.log()[skip:]}
            result["first_token_added_ms"] = sorted(
                (ns - (lines[name]["first_ns"] - lines[name]["arrive_ns"] + lines[name]["wall_ns"])) / 1e6
                for name, ns in result.pop("first_token_wall_ns").items() if name in lines)
        return result


class Docflume(Side):
    name = "docflume"

    def __init__(self, server, folder, binary):
        super().__init__(server, folder)
        self.binary = binary

    def environment(self, state):
        """A cache and limits of its own for each turn: nothing is remembered."""
        return {**os.environ, "OPENAI_API_KEY": "test", "XDG_CACHE_HOME": str(state), "XDG_STATE_HOME": str(state),
                "DOCFLUME_LIMITS": str(state / "limits"), "NO_COLOR": "1"}

    def argv(self, row, url, more=()):
        pipeline = PIPELINE.format(url=url, in_flight=row.in_flight, more=row.stage)
        return [self.binary, "run", pipeline, *more]

    def run(self, row, documents, url, stream):
        state = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        try:
            if stream:
                return self.run_streams(row, url, self.environment(state))
            more = ["-j", "8"] if "rpm" in row.stage else []
            code, result, _, said = command([*self.argv(row, url), *more, "-o", state / "out", documents], self.environment(state),
                                            row.watch)
            if code not in (0, 3):
                raise Failed(f"docflume ended with {code}: {said.strip()[-400:]}")
            return result
        finally:
            shutil.rmtree(state, ignore_errors=True)

    @staticmethod
    def run_streams(row, url, environment):
        """The engine of calls alone (--stream shows one document's answer): tests/bench/bench_streams.c."""
        code, result, out, said = command([streams_program(), url, row.calls], environment)
        if code != 0:
            raise Failed(f"bench_streams ended with {code}: {said.strip()[-400:]}")
        result.update(first_token_wall_ns=json.loads(out)["first_token_wall_ns"])
        return result


class Aiohttp(Side):
    name = "aiohttp"

    def run(self, row, documents, url, stream):
        argv = [VENV / "bin" / "python", HERE / "peer_calls.py", url, documents, self.folder / "peer.jsonl", "--in-flight", row.in_flight]
        code, result, out, said = command(argv + ["--stream"] * stream + ["--retry"] * row.retry, watch=row.watch)
        if code != 0:
            raise Failed(f"peer_calls.py ended with {code}: {said.strip()[-400:]}")
        result.update({k: v for k, v in json.loads(out).items() if k not in ("requests", "lost", "tokens", "cpu_s", "peak_rss_bytes")})
        return result


# --- what a row says ---

def streams_program():
    """$BENCH_STREAMS, else the one beside api_server."""
    found = pathlib.Path(os.environ.get("BENCH_STREAMS") or pathlib.Path(api.program()).parent / "bench_streams")
    if not found.exists():
        raise Failed("bench_streams is not built: ninja -C build/release bench_streams, or set BENCH_STREAMS")
    return found


def median(runs, key):
    return statistics.median(r[key] for r in runs)


def say(label, ours, theirs, unit, aim=None, good=None, digits=3, more_is_better=False):
    texts = ["-" if v is None else f"{v:.{digits}f}" for v in (ours, theirs)]
    ratio = f"{ours / theirs if more_is_better else theirs / ours:8.2f}" if ours and theirs else "       -"
    verdict = "" if aim is None else f"  aim {aim}" + ("" if ours is None else "  ok" if good else "  MISSED")
    print(f"  {label:<34}{texts[0]:>12}{texts[1]:>12} {unit:<8}{ratio}{verdict}")
    return not (aim is not None and ours is not None and not good)


def value(sides, key, side, scale=1.0):
    return median(sides[side], key) * scale if sides.get(side) else None


def common(sides, row, base):
    both = [[value(sides, key, side) for side in ("docflume", "aiohttp")] for key in ("wall_s", "wall_command_s")]
    say("first request to last answer", *both[0], "s")
    say("whole command", *both[1], "s")
    say("requests", *(value(sides, "requests", s) for s in sides_of), "", digits=0)
    say("answers missing", *(value(sides, "missing", s) for s in sides_of), "", digits=0)
    cpu = [value(sides, "cpu_s", s, 1e3 / row.calls) for s in sides_of]
    say("CPU of a call, whole command", *cpu, "ms", digits=4)
    net = [None if c is None else max(1e-9, c - base[s] * 1e3 / row.calls) for c, s in zip(cpu, sides_of)]
    say("CPU of a call, without start-up", *net, "ms", digits=4)
    memory = [value(sides, "pss_bytes", s, 1e-6) if row.watch else None for s in sides_of]
    if row.watch:
        say("most memory, all processes, PSS", *memory, "MB", digits=1)
        say("  as RSS, shared pages for each", *(value(sides, "rss_bytes", s, 1e-6) for s in sides_of), "MB", digits=1)
    return both[0], both[1], cpu, net, memory


sides_of = ("docflume", "aiohttp")


def judge(name, row, sides, base):
    """Prints a row's table; false when an aim was missed."""
    wall, whole, cpu, net, memory = common(sides, row, base)
    ours, theirs = sides.get("docflume"), sides.get("aiohttp")
    good = True
    if name == "slow" and ours:
        good &= say("  over the ideal", wall[0] / 3, wall[1] and wall[1] / 3, "x", "<= 1.010", wall[0] <= 3.030, 4)
    if name == "wide" and ours:
        ideal = row.calls / row.in_flight * 0.5
        good &= say("  over the ideal", wall[0] / ideal, wall[1] and wall[1] / ideal, "x", "<= 1.05", wall[0] <= 1.05 * ideal, 4)
        if theirs:
            good &= say("  memory, PSS", memory[0], memory[1], "MB", "<= 1/2", memory[0] <= memory[1] / 2, 1)
    if name == "fast" and ours:
        rate = [w and row.calls / w for w in wall]
        good &= say("  calls/s", *rate, "", ">= 1.6 x", theirs is None or rate[0] >= 1.6 * rate[1], 0, True)
        good &= say("  CPU of a call", cpu[0], cpu[1], "ms", "<= 0.06 and <= 1/7",
                    cpu[0] <= 0.06 and (theirs is None or cpu[0] <= cpu[1] / 7), 4)
    if name in ("faults5", "faults30"):
        good &= judge_faults(name, row, sides, wall)
    if name in ("rpm", "told"):
        good &= judge_rate(name, row, sides)
    return good


def judge_faults(name, row, sides, wall):
    good = True
    factor = [value(sides, "requests", s, 1 / row.calls) for s in sides_of]
    say("  early retries", *(value(sides, "early_retries", s) for s in sides_of), "", digits=0)
    say("  paid twice", *(value(sides, "paid_twice", s) for s in sides_of), "", digits=0)
    ours = sides.get("docflume")
    if not ours:
        return True
    good &= say("  lost", value(sides, "missing", "docflume"), value(sides, "missing", "aiohttp"), "", "0",
                all(r["missing"] == 0 for r in ours), 0)
    if name == "faults5":
        fits = all(r["requests"] <= row.calls + r["faults"] for r in ours)
        good &= say("  requests", value(sides, "requests", "docflume"), value(sides, "requests", "aiohttp"), "", "<= calls + faults", fits, 0)
        good &= say("  wall", wall[0], wall[1], "s", "<= aiohttp's", wall[1] is None or wall[0] <= wall[1])
    else:
        good &= say("  amplification", factor[0], factor[1], "x", "<= 1.5", factor[0] <= 1.5)
    return good


def judge_rate(name, row, sides):
    real = 600 if name == "rpm" else 300
    good = True
    for side in sides_of:
        for r in sides.get(side) or []:
            r["used"] = 100 * (r["requests_ok"] - 1) / (r["wall_arrivals_s"] * real / 60)
    used = [value(sides, "used", s) for s in sides_of]
    refused = [value(sides, "violations", s) for s in sides_of]
    if sides.get("docflume"):
        good &= say("  used of the limit", *used, "%", ">= 99" if name == "rpm" else ">= 95", used[0] >= (99 if name == "rpm" else 95), 2)
        good &= say("  violations (429)", *refused, "", "0" if name == "rpm" else "<= 10", refused[0] <= (0 if name == "rpm" else 10), 0)
        early = [value(sides, "early_retries", s) for s in sides_of]
        good &= say("  early retries", *early, "", "0", early[0] == 0, 0)
    return good


# --- running ---

def turns(row, options, everyone, reps, documents, dead, stream=False):
    """{side: [measurements]} with the sides taking turns; who fails is told once and left out."""
    sides = {side.name: [] for side in everyone if side.name not in dead}
    for _ in range(reps):
        for side in everyone:
            if side.name in dead or side.name not in sides:
                continue
            try:
                made = side.measure(row, documents, options, stream)
            except (Failed, OSError, ValueError) as e:
                print(f"  {side.name} CANNOT: {e}")
                failures.append(side.name)
                if row.calls == 1:  # not even one call: nothing else will go
                    dead.add(side.name)
                sides.pop(side.name, None)
                continue
            made["requests_ok"] = made["answers"].get("200", 0)
            times = sorted(line["arrive_ns"] for line in side.server.log()[-made["requests"]:] if line["status"] == 200)
            made["wall_arrivals_s"] = (times[-1] - times[0]) / 1e9 if len(times) > 1 else math.inf
            sides[side.name].append(made)
            if out_file:
                made_line = {"row": row.title, "side": side.name, "options": options, **made}
                out_file.write(json.dumps(made_line) + "\n")
    return {name: runs for name, runs in sides.items() if runs}


def streams(row, everyone, reps, folder, dead):
    """CPU of a token: the difference between long answers and those of one token, so that starting costs nobody anything."""
    documents = corpus(folder, row.calls, "streams.jsonl")
    short = turns(row, {**row.server, "tokens": 1}, everyone, reps, documents, dead, True)
    long = turns(row, {**row.server, "tokens": TOKENS}, everyone, reps, documents, dead, True)
    late, per_token = [], []
    for side in sides_of:
        runs = long.get(side)
        all_late = sorted(v for r in runs for v in r["first_token_added_ms"]) if runs else []
        late.append(all_late[min(len(all_late) - 1, int(len(all_late) * 0.99))] if all_late else None)
        per_token.append((median(runs, "cpu_s") - median(short[side], "cpu_s")) * 1e6 / (row.calls * (TOKENS - 1))
                         if runs and short.get(side) else None)
        if all_late:
            print(f"  {side}: first token added p50 {all_late[len(all_late) // 2]:.3f} ms, {len(all_late)} streams")
    good = say("  first token added, p99", *late, "ms", "<= 0.5", late[0] is not None and late[0] <= 0.5)
    good &= say("  CPU of a token", *per_token, "us", "<= 1/3",
                per_token[0] is not None and (per_token[1] is None or per_token[0] <= per_token[1] / 3))
    return good


def startup_cpu(everyone, folder, dead):
    """CPU seconds of one call: what each side costs before it does anything."""
    row = Row("one call", 1, 1, {}, False, "")
    sides = turns(row, {}, everyone, 2, corpus(folder, 1, "one.jsonl"), dead)
    return {name: median(runs, "cpu_s") for name, runs in sides.items()}


def prepare_peers():
    wanted = (HERE / "requirements.txt").read_text()
    made = VENV / "made-of"
    if made.exists() and made.read_text() == wanted:
        return
    print(f"peers: installing into {VENV.relative_to(ROOT)}")
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    subprocess.run([str(VENV / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "-r", str(HERE / "requirements.txt")], check=True)
    made.write_text(wanted)


def about(binary, peers):
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), "?")
    print(f"machine: {model}, {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False) if shutil.which(str(binary)) else None
    print(f"docflume: {version.stdout.strip() if version else 'is not at ' + str(binary)}")
    if peers:
        said = subprocess.run([VENV / "bin" / "python", "-c", "import sys, aiohttp, uvloop, orjson; print(sys.version.split()[0], "
                               "'aiohttp', aiohttp.__version__, 'uvloop', uvloop.__version__, 'orjson', orjson.__version__)"],
                              capture_output=True, text=True, check=False)
        print(f"peer: Python {said.stdout.strip()}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--peers", type=int, default=1)
    parser.add_argument("--docflume", default=os.environ.get("DOCFLUME", str(ROOT / "build" / "release" / "docflume")))
    parser.add_argument("--json")
    parser.add_argument("--time-limit", type=float, default=480)
    args = parser.parse_args()
    args.rows = args.rows or list(ROWS)
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        parser.error(f"unknown row '{unknown[0]}'; there are {', '.join(ROWS)}")
    args.docflume = os.path.abspath(args.docflume)
    return args


def beside_each_other(row, models, args, folder, dead):
    """[(model, measurements)] of our side against a server for each, all at the same time: they sleep for nearly all of their minute."""
    found = {}

    def one(model):
        options = dict(word.split("=") for word in model.split(","))
        place = folder / model
        place.mkdir()
        with api.Server(log=True) as server:
            found[model] = turns(row, {"rpm": 600, **options}, [Docflume(server, place, args.docflume)], 1, corpus(place, row.calls), dead)
    threads = [threading.Thread(target=one, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [(model, found.get(model)) for model in models]


def run_row(name, everyone, args, folder, dead, base):
    row = ROWS[name]
    print(f"\n{row.title:<36}{'docflume':>12}{'aiohttp':>12}{'':9}{'better by':>9}")
    if name == "streams":
        return streams(row, everyone, args.reps, folder, dead)
    documents = corpus(folder, row.calls)
    good = True
    if name == "rpm":
        for model, sides in beside_each_other(row, RATES, args, folder, dead):
            print(f"  -- {model}")
            good &= judge(name, row, sides, base) if sides else True
        return good
    sides = turns(row, row.server, everyone[:1] if name == "told" else everyone, 1 if name == "told" else args.reps, documents, dead)
    return judge(name, row, sides, base) if sides else True


out_file = None
failures = []
until = math.inf  # time.monotonic() at which nothing goes on


def main():
    global out_file, until
    args = arguments()
    until = time.monotonic() + args.time_limit
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("DOCFLUME", args.docflume)
    if args.peers:
        prepare_peers()
    if args.json:
        out_file = open(args.json, "a", encoding="utf-8")
    about(args.docflume, args.peers)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    dead, good = set(), True
    folder = pathlib.Path(tempfile.mkdtemp(prefix="apis-", dir=WORK))
    try:
        with api.Server(log=True) as server:
            everyone = [Docflume(server, folder, args.docflume)] + ([Aiohttp(server, folder)] if args.peers else [])
            base = startup_cpu(everyone, folder, dead)
            print("start-up, CPU of one call: " + ", ".join(f"{name} {s * 1e3:.0f} ms" for name, s in base.items()))
            for name in args.rows:
                if time.monotonic() >= until:
                    print(f"\n{ROWS[name].title}: not measured, {args.time_limit:.0f} s are over")
                    failures.append(name)
                    continue
                good &= run_row(name, everyone, args, folder, dead, base)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0 if good else 3


if __name__ == "__main__":
    sys.exit(main())
