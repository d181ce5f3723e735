# SPDX-License-Identifier: Apache-2.0
"""Rates through the whole program, beside other tests: refusals at random, limits that nobody told, workers that are killed, runs that share, days. Nothing here
needs the machine for itself: a busy one makes it slower, and brings no refusal that is not expected.
ctest: plain
ctest: timeout 600"""
import pathlib
import random
import sys
import time
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]
import flume
from flume import children_of, kill, kill_whole, wait_until
from rate_case import RateCase


class SharedRates(RateCase):
    # ------------------------------------------------------------------ refusals at random, and limits that nobody told

    def finish(self, name, n, server, more):
        self.documents(n)
        begun = time.monotonic()
        self.docflume(*self.arguments(server, 4, more))
        took, stats = time.monotonic() - begun, server.stats()
        self.assert_all_once(n)
        self.assertEqual(stats["paid_twice"], 0)
        print(f"figure: {name}: {n} calls, {stats['requests']} requests, {stats['answers'].get('429', 0)} answers 429, {took:.1f} s", flush=True)
        return took, stats

    def test_refusals_at_random_do_not_slow_down_whose_limit_is_not_known(self):
        server = self.server(faults="429:0.05+500:0.05", delay="20..50", style="none")
        took, stats = self.finish("5 % 429 and 5 % 500, no limit known", 2000, server, "concurrency=200")
        self.assertEqual(stats["requests"], 2000 + stats["faults"]["status"])
        self.assertLess(took, 30 * flume.SLOW)  # 1 s; minutes when chance is taken for a limit

    @unittest.skipIf(flume.SLOW > 1, "its time is all waiting: looked at without sanitizers")
    def test_refusals_at_random_slow_down_a_rate_that_was_told_for_a_moment_only(self):
        server = self.server(rpm=6000, limit="bucket", burst=10, faults="429:0.05", delay=20, style="none")
        took, stats = self.finish("5 % 429, 6000 a minute told and true", 500, server, "rpm=6000")
        self.assertEqual(stats["violations"], 0)
        self.assertEqual(stats["requests"], 500 + stats["faults"]["status"])
        self.assertLess(took, 60 * flume.SLOW)  # 5 s of it at least; likewise

    @unittest.skipIf(flume.SLOW > 1, "its time is all waiting: looked at without sanitizers")
    def test_a_limit_that_nobody_told_is_found(self):
        server = self.server(rpm=3000, limit="bucket", burst=20, delay=20, style="none")
        took, stats = self.finish("3000 a minute, nobody told", 500, server, "concurrency=100")
        self.assertLessEqual(stats["answers"].get("429", 0), 100 + 120)  # who was out when it began, and who searched
        self.assertLess(took, 60 * flume.SLOW)  # 9.6 s of it at least

    # ------------------------------------------------------------------ who shares it

    def test_a_killed_worker_costs_no_rate_for_longer_than_a_second_and_nothing_is_paid_twice_beyond_its_calls(self):
        scale, n = 10, 900
        self.documents(n)
        server = self.server(rpm=600, scale=scale, limit="bucket", burst=10, delay=100, style="none")
        child = self.start(*self.arguments(server, 4, f"rpm={600 * scale}"), env=self.environment)
        kills, in_flight = [], 0
        dice = random.Random(5)
        self.assertTrue(wait_until(lambda: server.stats()["requests"] > 50))
        for _ in range(3):
            time.sleep(1.2)
            in_flight += server.stats()["in_flight"]
            victims = [pid for pid, role in children_of(child.pid).items() if role == "worker"]
            kills.append(time.clock_gettime(time.CLOCK_MONOTONIC))
            self.assertTrue(kill(dice.choice(victims)))
        _, err = child.communicate(timeout=120)
        self.assertEqual(child.returncode, 0, err.decode())
        self.assert_all_once(n)
        stats, at = server.stats(), self.passed(server)
        twice = server.texts(only_twice=True)
        self.assertEqual(stats["violations"], 0)
        self.assertLessEqual(stats["paid_extra"], in_flight + 3 * 30, twice)
        gaps = [max(b - a for a, b in zip(at, at[1:]) if kill_at - 0.1 < b < kill_at + 2) for kill_at in kills]
        rates = [sum(kill_at + 1 <= t < kill_at + 2 for t in at) for kill_at in kills[-1:]]
        print(f"figure: 3 workers killed: longest silence {1000 * max(gaps):.0f} ms, {rates[0]} of 100 calls in the second after the first, "
              f"{stats['paid_extra']} paid again of {in_flight} in flight, {stats['violations']} violations", flush=True)
        self.assertLess(max(gaps), 1 * flume.SLOW)

    def test_two_runs_at_the_same_time_share_one_limit(self):
        scale, n = 10, 200
        self.documents(n, "a.jsonl")
        self.documents(n, "b.jsonl", n)
        server = self.server(rpm=600, scale=scale, limit="bucket", burst=10, delay=20, style="none")
        children = [self.start(*self.arguments(server, 2, f"rpm={600 * scale}", name, f"{name}.jsonl"), env=self.environment)
                    for name in ("a", "b")]
        for child in children:
            _, err = child.communicate(timeout=120)
            self.assertEqual(child.returncode, 0, err.decode())
        at, stats = self.passed(server), server.stats()
        self.assertEqual(len(self.rows("a")) + len(self.rows("b")), 2 * n)
        self.assertEqual(stats["violations"], 0)
        used = (len(at) - 1) / (at[-1] - at[0]) / (10 * scale)
        print(f"figure: two runs, one limit: {100 * used:.1f} % used, {stats['violations']} violations", flush=True)
        self.assertGreater(used, 0.75 / flume.SLOW)

    # ------------------------------------------------------------------ days

    def test_a_daily_limit_holds_over_three_runs_of_which_one_is_killed_as_a_whole(self):
        n, cap = 800, 500
        self.documents(n)
        server = self.server(rpd=cap, delay=20, style="none")
        arguments = self.arguments(server, 4, f"rpd={cap} concurrency=8")
        if time.time() % 86400 > 86400 - 60:
            time.sleep(61)  # the day is UTC's
        child = self.start(*arguments, env=self.environment)
        self.assertTrue(wait_until(lambda: server.stats()["requests"] >= 150))
        kill_whole(child)
        first = server.stats()["requests"]
        messages = [self.docflume(*arguments, code=4).err]
        second = server.stats()["requests"]
        messages.append(self.docflume(*arguments, code=4).err)
        stats = server.stats()
        print(f"figure: {cap} a day: {first} in the run that was killed, {second} after the second, {stats['requests']} after the third, "
              f"{stats['violations']} violations", flush=True)
        for message in messages:
            self.assertIn('daily limit hit for model "gpt-4o-mini"', message)
        self.assertLess(first, cap)
        self.assertEqual(stats["requests"], second)  # nothing more on that day
        self.assertLessEqual(stats["requests"], cap)
        self.assertEqual(stats["violations"], 0)
        self.assertGreaterEqual(stats["requests"], 468)


if __name__ == "__main__":
    unittest.main(verbosity=2)
