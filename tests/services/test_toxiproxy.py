# SPDX-License-Identifier: Apache-2.0
"""Shopify's toxiproxy between docflume and the server of tests/api: slow, cut, reset, silent and absent connections. Nothing is lost, nothing
partial passes as whole, and what can never succeed ends within its time-out.
ctest: plain
ctest: timeout 120"""
import time

import service
from case import ServiceCase, up

N = 60


class Toxic(ServiceCase):
    proxies = 0

    @classmethod
    def setUpClass(cls):
        cls.toxiproxy = up(service.Toxiproxy)
        cls.addClassCleanup(cls.toxiproxy.stop)

    def between(self, **options):
        self.server = self.api_server(**options)
        Toxic.proxies += 1
        self.name = f"proxy{Toxic.proxies}"
        self.port = self.toxiproxy.proxy(self.name, self.server.port)

    def toxic(self, kind, **attributes):
        return self.toxiproxy.toxic(self.name, kind, **attributes)

    def llm(self, more=""):
        return (f"llm model=gpt-4o-mini base_url=http://127.0.0.1:{self.port}/v1 prompt='{{{{id}}}} {{{{text}}}}' max_tokens=50 "
                f"{more}")

    def embed(self, more=""):
        return f"embed model=text-embedding-3-small base_url=http://127.0.0.1:{self.port}/v1 dimensions=64 {more}"

    def wanted(self, n):
        """What the server answers when nothing is between; its answers follow from the request alone."""
        clear = f"llm model=gpt-4o-mini base_url={self.server.url('v1')} prompt='{{{{id}}}} {{{{text}}}}' max_tokens=50 cache=false"
        self.docflume(clear, "-o", "clear", self.documents(n))
        self.server.reset()
        return {row["id"]: row["answer"] for row in self.rows("clear")}

    def all_arrive(self, n=N, more="", timeout=60):
        wanted = self.wanted(n)
        result = self.docflume(self.llm(more), "-j", 2, "-o", "out", "in.jsonl", timeout=timeout)
        self.assert_all_once(n)
        self.assertEqual({row["id"]: row["answer"] for row in self.rows()}, wanted)
        return result

    def none_arrives(self, seconds, n=6, more="", out="out"):
        result = self.docflume(self.llm(more), "-o", out, self.documents(n), code=3)
        self.assertEqual(self.rows(out), [])
        self.assertEqual(self.counts_add_up(out)["rejected_total"], n)
        self.assertLess(result.seconds, seconds)

    # ------------------------------------------------------------------ slow

    def test_latency_with_jitter_is_waited_for_together(self):
        self.between()
        self.toxic("latency", latency=400, jitter=200)
        self.assertLess(self.all_arrive().seconds, 6)
        self.assertEqual(self.server.stats()["requests"], N)

    def test_answers_in_slices_of_bytes_are_whole(self):
        self.between(tokens=40)
        self.toxic("slicer", average_size=7, size_variation=6, delay=200)
        self.toxic("slicer", stream="upstream", average_size=30, size_variation=20, delay=200)
        self.all_arrive(20)
        self.assertEqual(self.server.stats()["paid_twice"], 0)

    def test_a_stream_in_slices_is_the_answer_and_nothing_else(self):
        self.between(answer="one_naïve_東京_four", gap=5)
        self.toxic("slicer", average_size=2, size_variation=1, delay=100)
        result = self.docflume(self.llm(), "--stream", self.documents(1))
        self.assertEqual(result.out.strip(), "one naïve 東京 four")

    def test_a_narrow_line_delays_and_loses_nothing(self):
        self.between(chunked=1)
        self.toxic("bandwidth", rate=8)
        self.docflume(self.embed(), "-j", 2, "-o", "out", self.documents(40))
        self.assert_all_once(40)
        self.assertEqual(len({tuple(v) for v in self.vectors()}), 40)

    def test_a_line_that_is_too_narrow_ends_with_the_time_out(self):
        self.between(tokens=400)
        self.toxic("bandwidth", rate=1)
        self.none_arrives(12, more="timeout=1s attempts=2", n=4)

    # ------------------------------------------------------------------ cut

    def test_resets_of_a_third_of_all_connections_lose_nothing(self):
        self.between(close=1)
        self.toxic("reset_peer", toxicity=0.33, timeout=0)
        self.all_arrive(more="attempts=12")

    def test_connections_that_are_always_reset_are_no_answers(self):
        self.between()
        self.toxic("reset_peer", timeout=0)
        self.none_arrives(15, n=3, more="attempts=3")  # fewer than those after which a host is left alone for a while

    def test_answers_that_are_cut_are_never_passed_as_whole(self):
        """In the head, at its end, in the body: with a length, in chunks, and until the connection closes."""
        for options in ({}, {"chunked": 1}, {"close": 1}, {"gzip": 1}):
            for size in (20, 200, 420):
                with self.subTest(size=size, **options):
                    self.between(tokens=60, **options)
                    self.toxic("limit_data", bytes=size)
                    self.none_arrives(20, n=3, more="attempts=1 cache=false", out=f"{size}-{'-'.join(options)}")
                    self.assertEqual(self.server.stats()["requests"], 3)

    def test_a_stream_that_is_cut_fails_and_says_so(self):
        self.between(answer="one_two_three_four_five", gap=20)
        self.toxic("limit_data", bytes=700)
        result = self.flume("run", self.llm("attempts=2"), "--stream", self.documents(1), env=self.env)
        self.assertNotEqual(result.code, 0)
        self.assertTrue("one two three four five".startswith(result.out.strip()), result.out)
        self.assertNotEqual(result.out.strip(), "one two three four five")

    # ------------------------------------------------------------------ silent, absent

    def test_a_silent_line_ends_with_the_time_out(self):
        self.between()
        self.toxic("timeout", timeout=0)
        self.none_arrives(12, more="timeout=700ms attempts=2")

    def test_a_line_that_is_silent_and_then_closed_ends_at_once(self):
        self.between()
        self.toxic("timeout", timeout=200)
        self.none_arrives(20, more="attempts=2")

    def test_a_server_that_goes_away_and_comes_back_loses_nothing(self):
        self.between(delay=100)
        wanted = self.wanted(300)
        child = self.start("run", self.llm("concurrency=10"), "-j", 2, "-o", "out", "in.jsonl", env=self.env)
        while self.server.stats()["requests"] < 60:
            time.sleep(0.02)
        self.toxiproxy.enable(self.name, False)
        time.sleep(3)
        self.assertIsNone(child.poll())
        self.toxiproxy.enable(self.name, True)
        _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 0, err)
        self.assert_all_once(300)
        self.assertEqual({row["id"]: row["answer"] for row in self.rows()}, wanted)
        self.assertLessEqual(self.server.stats()["requests"], 300 + 10)

    def test_a_line_that_goes_silent_among_answers_loses_nothing(self):
        self.between(delay=50)
        wanted = self.wanted(200)
        child = self.start("run", self.llm("concurrency=10 timeout=1s"), "-j", 2, "-o", "out", "in.jsonl", env=self.env)
        while self.server.stats()["requests"] < 60:
            time.sleep(0.02)
        toxic = self.toxic("timeout", timeout=0)
        time.sleep(2.5)
        self.toxiproxy.cure(self.name, toxic)
        _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 0, err)
        self.assert_all_once(200)
        self.assertEqual({row["id"]: row["answer"] for row in self.rows()}, wanted)


if __name__ == "__main__":
    service.main()
