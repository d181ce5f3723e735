# SPDX-License-Identifier: Apache-2.0
"""A million documents; a random worker is killed each 200 ms and the coordinator each 5 s. What it costs beside an undisturbed run."""
import random
import shutil
import statistics
import time

import night

N = int(night.os.environ.get("DF_DOCS", 1_000_000))
PIPELINE = "normalize | clean min_chars=1 | tokenise | count"


def respawn_of_worker(data, out):
    """From the kill of the only worker to the next lease, which only its successor can take: median of 15."""
    shutil.rmtree(out, ignore_errors=True)
    log, gone = night.WORK / "respawn.log", []
    with open(log, "wb") as err:
        run = night.start("run", PIPELINE, "-o", out, "-j", 1, "-v", "--log-format", "json", data, stderr=err)
        time.sleep(1)
        for _ in range(15):
            _, workers, _ = night.family(run.pid)
            if workers and night.kill(workers[0]):
                gone.append(time.time())
            time.sleep(0.4)
        coordinator, _, _ = night.family(run.pid)
        killed = time.time()
        night.kill(coordinator)
        time.sleep(1.5)
        run.kill()
        run.wait()
    leases = [at for at, _, said in night.log_lines(log) if "lease" in said and "sent" in said]
    first = [min((at for at in leases if at > t), default=None) for t in gone]
    worker = statistics.median(at - t for at, t in zip(first, gone) if at)
    epoch = min((at for at in leases if at > killed), default=killed + 1.5) - killed
    return worker, epoch


def main():
    data, out = night.corpus("million", N, 60), night.WORK / "million-out"
    quiet = []
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        quiet.append(night.timed("run", PIPELINE, "-o", out, data))
    worker, epoch = respawn_of_worker(data, out)
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
