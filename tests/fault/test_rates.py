# SPDX-License-Identifier: Apache-2.0
"""Rates through the whole program, exactly: many worker processes and servers that count exactly over real HTTP. What may run beside others is in test_rates_shared.py.

Minutes last a tenth or less of theirs here, so that a rate of 6000 a minute stands for one of 600; with DF_SOAK=1 they last a minute.
ctest: serial
ctest: plain
ctest: timeout 600"""
import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]
import flume
from rate_case import SOAK, RateCase

SECONDS = 60 if SOAK else 8 if flume.SLOW == 1 else 4
SERVERS = {
    "bucket of 10": {"limit": "bucket", "burst": 10},
    "bucket of 2": {"limit": "bucket", "burst": 2},
    "sliding window": {"limit": "sliding"},
}


class Rates(RateCase):
    # ------------------------------------------------------------------ a limit that is told

    def told_and_true(self, name, scale, **options):
        """A minute of the server lasts 60 s / scale. In the short form the better of two counts: others use this machine, too."""
        scale = 1 if SOAK else scale
        used = self.used_of(name, scale, "out", options)
        if not SOAK and used < 0.85 / flume.SLOW:
            used = self.used_of(name, scale, "again", options)
        self.assertGreaterEqual(used, 0.99 if SOAK else 0.85 / flume.SLOW)
        self.assertLessEqual(used, 1.0)

    def used_of(self, name, scale, out, options):
        n = 600 * SECONDS * scale // 60
        self.documents(n, size=min(64 * 16384 // n, 12000))
        server = self.server(rpm=600, scale=scale, delay=30, style="none", **options)
        self.docflume(*self.arguments(server, 8, f"rpm={600 * scale} cache=no", out), "--trace=yes")
        at, stats = self.passed(server), server.stats()
        self.assert_all_once(n, out)
        rate = (len(at) - 1) / (at[-1] - at[0])
        used = rate / (10 * scale)
        self.assertEqual(self.senders(out), 8)
        print(f"figure: {name}, {600 * scale} a minute, 8 workers: {100 * used:.2f} % used in {at[-1] - at[0]:.1f} s, longest pause "
              f"{1000 * max(after - before for before, after in zip(at, at[1:])):.0f} ms, {stats['violations']} violations", flush=True)
        self.assertLessEqual(stats["violations"], 0 if SOAK else 1)  # a busy machine may bring one early by bringing another late
        self.assertLessEqual(stats["requests"], n + 1)
        return used

    def test_a_bucket_of_10_is_used_by_8_processes_and_never_overflows(self):
        self.told_and_true("bucket of 10", 4, **SERVERS["bucket of 10"])

    @unittest.skipIf(flume.SLOW > 1, "its time is all waiting: looked at without sanitizers")
    def test_a_bucket_of_2_is_used_by_8_processes_and_never_overflows(self):
        self.told_and_true("bucket of 2", 2, **SERVERS["bucket of 2"])

    @unittest.skipIf(flume.SLOW > 1, "its time is all waiting: looked at without sanitizers")
    def test_a_sliding_window_is_used_by_8_processes_and_never_sees_one_too_many(self):
        self.told_and_true("sliding window", 10, **SERVERS["sliding window"])

    # ------------------------------------------------------------------ a limit that is a lie

    def test_told_600_when_the_real_limit_is_300_it_is_learned_with_few_refusals(self):
        seconds, scale = (60, 1) if SOAK else (15, 4)
        n = 300 * seconds * scale // 60
        self.documents(n)
        server = self.server(rpm=300 * scale, limit="bucket", burst=10, told_rpm=600 * scale, delay=20)
        self.docflume(*self.arguments(server, 8, f"rpm={600 * scale}"))
        at, stats = self.passed(server), server.stats()
        used = (len(at) - 10) / (at[-1] - at[0]) / (5 * scale)  # the bucket was full
        print(f"figure: told 600, real 300: {100 * used:.1f} % used in {at[-1] - at[0]:.1f} s, {stats['answers'].get('429', 0)} answers 429, "
              f"{stats['early_retries']} early", flush=True)
        self.assert_all_once(n)
        self.assertLessEqual(stats["answers"].get("429", 0), 10)
        self.assertEqual(stats["early_retries"], 0)
        self.assertGreaterEqual(used, 0.95 if SOAK else 0.75 / flume.SLOW)


if __name__ == "__main__":
    unittest.main(verbosity=2)
