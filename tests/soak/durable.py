# SPDX-License-Identifier: Apache-2.0
"""What durability costs: embed, and clean whose output comes at half of the disk's measured sync rate, against --fsync never."""
import os
import shutil
import statistics
import subprocess
import time

import night

REPS = int(os.environ.get("REPS", 5))


def disk_rate():
    """Bytes per second of commits of 64 MB: write, fdatasync; median of 8."""
    path, block, rates = night.WORK / "disk.tmp", os.urandom(1 << 20) * 64, []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for _ in range(8):
        before = time.monotonic()
        os.write(fd, block)
        os.fdatasync(fd)
        rates.append(len(block) / (time.monotonic() - before))
    os.close(fd)
    os.unlink(path)
    return statistics.median(rates)


def embed(data, when):
    out = night.WORK / "durable-out"
    shutil.rmtree(out, ignore_errors=True)
    return night.timed("run", "chunk tokens=200 | embed", "-o", out, "--fsync", when, data)


def fed(data, when, rate):
    """clean of stdin that is written at `rate`."""
    out = night.WORK / "durable-out"
    shutil.rmtree(out, ignore_errors=True)
    before = time.monotonic()
    run = subprocess.Popen([night.BIN, "run", "clean", "-o", str(out), "--fsync", when], stdin=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
    sent = 0
    with open(data, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            run.stdin.write(block)
            sent += len(block)
            ahead = sent / rate - (time.monotonic() - before)
            if ahead > 0:
                time.sleep(ahead)
    run.stdin.close()
    run.wait()
    return time.monotonic() - before


def ratio(measure):
    """Median time with never over median time with commit, taken in turn."""
    took = {"commit": [], "never": []}
    measure("never")
    for _ in range(REPS):
        for when in took:
            took[when].append(measure(when))
    return statistics.median(took["never"]) / statistics.median(took["commit"])


def main():
    texts = night.corpus("embed", int(os.environ.get("DF_DOCS", 3000)), 60)
    r = ratio(lambda when: embed(texts, when))
    night.figure("durable", "embed: %.3f x of --fsync never" % r, ">= 0.95 x", r >= 0.95)
    rate = disk_rate() / 2
    large = night.corpus("large", 2_000_000, 40)
    r = ratio(lambda when: fed(large, when, rate))
    night.figure("durable", "clean fed at %.2f GB/s, half of the disk's sync rate: %.3f x of --fsync never" % (rate / 1e9, r),
                 ">= 0.9 x", r >= 0.9)
    shutil.rmtree(night.WORK / "durable-out", ignore_errors=True)


main()
