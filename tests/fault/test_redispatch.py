# SPDX-License-Identifier: Apache-2.0
# ctest: serial
# ctest: plain
# ctest: timeout 600
"""How long the work of a worker that is killed lies about: from kill -9 to the moment at which the last of what it held has gone to another
worker, while all workers have as much as they may. Asked of the coordinator's own log, by the clock of this test.

DF_KILLS: how many (default 40, and then the 99th percentile may be 200 ms; with another number the figures are only told). The
aim, on a quiet machine, is 20 ms."""
import calendar
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from flume import SLOW, Case, children_of, jsonl, kill, wait_until  # noqa: E402

KILLS = int(os.environ.get("DF_KILLS", 40 if SLOW == 1 else 10))
FILES = 10 * (10 + KILLS)  # links to one file: much more than there will be time for, on a fast machine, too
JOBS = 4
PIPELINE = " | ".join(["normalize", "lower", "count"] * 12)
BETWEEN = 0.2 * SLOW  # a successor has begun by then, and has its leases
LINE = re.compile(r"lease (\d+), of work that was lost ([0-9.]+) ms ago, goes to worker (\d+)")


def moment(text):
    """Seconds since 1970 of "2026-01-31T12:00:00.123Z"."""
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(text[19:-1])


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]


class Redispatch(Case):
    def start_run(self, log):
        self.write("0.jsonl", jsonl(20000 // SLOW, words=200))
        for i in range(1, FILES):
            os.link(self.dir / "0.jsonl", self.dir / ("%d.jsonl" % i))
        child = self.start("run", PIPELINE, "-v", "--log-format", "json", "--bar", "never", "-j", JOBS, "-o", "out",
                           *("%d.jsonl" % i for i in range(FILES)), stderr=log)
        self.assertTrue(wait_until(lambda: len(children_of(child.pid)) == JOBS))
        time.sleep(1.0 * SLOW)  # what work costs is known, and leases are of their full size
        return child

    def kill_some(self, child):
        """When each was killed, by the clock of the log."""
        rnd, at = random.Random(11), []
        while len(at) < KILLS:
            self.assertIsNone(child.poll(), "the run was over too soon")
            victims = sorted(children_of(child.pid))
            if len(victims) == JOBS:
                victim = rnd.choice(victims)
                now = time.time()
                if kill(victim):
                    at.append(now)
            time.sleep(BETWEEN + rnd.random() * 0.1)
        return at

    def lines(self):
        """(when it was sent, when the coordinator learnt of the death) of each lease of lost work."""
        for line in (self.dir / "log").read_text().splitlines():
            entry = json.loads(line)
            found = LINE.match(entry["message"])
            if found:
                sent = moment(entry["time"])
                yield sent, sent - float(found.group(2)) / 1000

    def delays(self, killed):
        """For each kill the first and the last lease of what that worker held; the log's clock has ms, hence the 2 ms."""
        found = {}
        for sent, died in self.lines():
            before = [at for at in killed if at <= died + 0.002]
            if before:
                found.setdefault(before[-1], []).append(max(sent - before[-1], 0))
        return [min(d) for d in found.values()], [max(d) for d in found.values()]

    def measure(self):
        """Prints the figures; the 99th percentile to the last lease, in seconds."""
        with open(self.dir / "log", "wb") as log:
            child = self.start_run(log)
            killed = self.kill_some(child)
            time.sleep(1.0 * SLOW)
            self.assertIsNone(child.poll(), "the run was over too soon")
            child.send_signal(signal.SIGINT)
            child.wait(60 * SLOW)
        first, last = self.delays(killed)
        print("\n%d kills, %d of workers that held work" % (len(killed), len(last)))
        for name, values in (("first lease", first), ("last lease (aim: p99 20 ms)", last)):
            print("p50 %.1f ms, p99 %.1f ms, most %.1f ms to the %s" %
                  (*(1000 * percentile(values, p) for p in (0.5, 0.99, 1.0)), name), flush=True)
        self.assertGreater(len(last), 0.6 * len(killed), "hardly any killed worker held work: nothing was measured")
        return percentile(last, 0.99)

    def test_lost_work_goes_out_again_at_once_while_all_others_are_busy(self):
        p99 = self.measure()
        if "DF_KILLS" in os.environ or SLOW > 1:
            return
        for _ in range(2):  # of 40 the 99th percentile is the worst, and others may use this machine, too
            if p99 > 0.2:
                for path in (*self.dir.glob("*.jsonl"), self.dir / "log"):
                    path.unlink()
                shutil.rmtree(self.dir / "out")
                p99 = self.measure()
        self.assertLessEqual(p99, 0.2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
