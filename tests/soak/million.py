# SPDX-License-Identifier: Apache-2.0
"""A million documents; a random worker is killed each 200 ms and the coordinator each 5 s. What it costs beside an undisturbed run."""
import random
import re
import shutil
import statistics
import time

import night

N = int(night.os.environ.get("DF_DOCS", 1_000_000))
WORDS = int(night.os.environ.get("DF_WORDS", 400))  # a document of some 2.5 kB: the undisturbed run takes 15 s on 4 cores
PIPELINE = "normalize | clean min_chars=1 | tokenise | count"


def respawn(data, out):
    """Medians: a worker's death to the lease that only its successor can take (there is one worker); the coordinator's to the first lease
    of its successor. As the log tells them."""
    shutil.rmtree(out, ignore_errors=True)
    log = night.WORK / "respawn.log"
    with open(log, "wb") as err:
        run = night.start("run", PIPELINE, "-o", out, "-j", 1, "-v", "--log-format", "json", data, stderr=err)
        for i in range(18):
            time.sleep(0.4)
            coordinator, workers, _ = night.family(run.pid)
            victims = [coordinator] if i % 6 == 5 else workers
            if victims and victims[0]:
                night.kill(victims[0])
        time.sleep(1)
        run.kill()
        run.wait()
    said = [words for _, _, words in night.log_lines(log)]
    workers = [float(m.group(1)) for m in (re.search(r"of work that was lost ([0-9.]+) ms ago", s) for s in said) if m]
    epochs = [float(m.group(1)) for m in (re.search(r"first lease went out ([0-9.]+) ms after", s) for s in said) if m]
    return statistics.median(workers) / 1e3, statistics.median(epochs) / 1e3


def main():
    data, out = night.corpus("million", N, WORDS), night.WORK / "million-out"
    quiet = []
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        quiet.append(night.timed("run", PIPELINE, "-o", out, data))
    worker, epoch = respawn(data, out)
    shutil.rmtree(out, ignore_errors=True)
    rnd, n_worker, n_coordinator, begun = random.Random(2), 0, 0, time.monotonic()
    next_worker, next_coordinator = begun + 0.2, begun + 5
    with open(night.WORK / "million.log", "wb") as log:
        run = night.start("run", PIPELINE, "-o", out, data, stderr=log)
        while run.poll() is None:
            time.sleep(max(0.001, min(0.02, min(next_worker, next_coordinator) - time.monotonic())))
            now = time.monotonic()
            if now >= next_coordinator:
                coordinator, _, _ = night.family(run.pid)
                n_coordinator += bool(coordinator) and night.kill(coordinator)
                next_coordinator += 5
            elif now >= next_worker:
                _, workers, _ = night.family(run.pid)
                n_worker += bool(workers) and night.kill(rnd.choice(workers))
                next_worker += 0.2
    seconds = time.monotonic() - begun
    lost, twice, torn = night.count_rows(out, N)
    allowed = 1.3 * (statistics.median(quiet) + n_worker * worker + n_coordinator * epoch)
    verify = night.subprocess.run([night.BIN, "verify", str(out)], stdout=night.subprocess.PIPE,
                                  stderr=night.subprocess.STDOUT, check=False)
    night.figure("million", "exit %d; %d workers and %d coordinators killed: lost %d, twice %d, torn %d; verify %d; %.1f s, undisturbed "
                 "%.1f s, respawn %.0f ms and %.0f ms" % (run.returncode, n_worker, n_coordinator, lost, twice, torn,
                                                          verify.returncode, seconds, statistics.median(quiet),
                                                          worker * 1e3, epoch * 1e3),
                 "0, 0, 0, <= %.1f s" % allowed,
                 run.returncode == 0 and (lost, twice, torn) == (0, 0, 0) and seconds <= allowed
                 and verify.returncode == 0)
    if verify.returncode:
        print(verify.stdout.decode())
    shutil.rmtree(out, ignore_errors=True)


main()
