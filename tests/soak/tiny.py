# SPDX-License-Identifier: Apache-2.0
"""Ten million tiny documents with faults: memory and descriptors of the coordinator stay flat, nothing is lost or twice."""
import random
import shutil
import time

import night

N = int(night.os.environ.get("DF_DOCS", 10_000_000))


def main():
    data, out = night.corpus("tiny", N, 0), night.WORK / "tiny-out"
    shutil.rmtree(out, ignore_errors=True)
    rnd, kills, samples = random.Random(1), 0, []
    log = open(night.WORK / "tiny.log", "wb")
    # enough work per document that faults have time to happen
    run = night.start("run", "normalize | tokenise | count", "-o", out, "--part-size", "64m", data, stderr=log)
    begun = time.monotonic()
    while run.poll() is None:
        time.sleep(0.2)
        coordinator, workers, _ = night.family(run.pid)
        if workers:
            kills += night.kill(rnd.choice(workers))
        if coordinator:
            samples.append((time.monotonic() - begun, night.memory_kb(coordinator), night.descriptors(coordinator)))
    seconds = time.monotonic() - begun
    lost, twice, torn = night.count_rows(out, N)
    late = [s for s in samples if s[0] > seconds * 0.2] or samples
    first, last = late[:max(1, len(late) // 4)], late[-max(1, len(late) // 4):]
    mean = lambda part, k: sum(s[k] for s in part) / len(part)  # noqa: E731
    ok = (run.returncode == 0 and (lost, twice, torn) == (0, 0, 0) and mean(last, 1) < mean(first, 1) * 1.1 + 2048
          and mean(last, 2) <= mean(first, 2) + 8)
    night.figure("tiny", "%d documents in %.0f s, %d kills, exit %d: lost %d, twice %d, torn %d; coordinator's own memory %.1f -> %.1f MB, "
                 "descriptors %.0f -> %.0f" % (N, seconds, kills, run.returncode, lost, twice, torn, mean(first, 1) / 1024,
                                              mean(last, 1) / 1024, mean(first, 2), mean(last, 2)),
                 "flat, 0, 0, 0", ok)
    shutil.rmtree(out, ignore_errors=True)


main()
