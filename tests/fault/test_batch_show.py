# SPDX-License-Identifier: Apache-2.0
"""status and verify on the directory of a batch run: what stands in it at each step, and that every damage is found.
ctest: timeout 200"""
import json
import signal
import time
import unittest

from batchcase import BatchCase


class Show(BatchCase):
    def status(self, out="out", code=0, *more):
        result = self.flume("status", *more, out, env=self.env)
        self.assertEqual(result.code, code, result.err + result.out)
        return result.out

    def verify(self, out="out", code=0, *more):
        result = self.flume("verify", *more, out, env=self.env)
        self.assertEqual(result.code, code, result.err + result.out)
        return result.out + result.err

    def test_a_batch_that_waits_is_at_work_and_is_finished_says_so_with_counts_and_cost(self):
        self.documents(30)
        with self.server(batch_ms=1500) as server:
            pipeline = self.llm(server.url())
            self.batch(pipeline, "--no-wait", "--file-lines", 10, code=75)
            text = self.status("out", 75)
            self.assertIn("out: waits, round 1", text)
            self.assertIn("0 of 30 requests done", text)
            self.assertIn("batches  3, 3 of them not fetched yet", text)
            self.assertIn("batch_", text)
            view = json.loads(self.status("out", 75, "--json"))
            self.assertEqual((view["kind"], view["state"], view["live"], len(view["batches"])), ("batch", "waits", False, 3))
            self.assertGreater(view["usd_out_at_most"], 0)
            self.assertIn("consistent, but not finished", self.verify("out", 75))
            child = self.start(*self.command(pipeline, "--file-lines", 10), env=self.env)
            for _ in range(200):
                view = json.loads(self.flume("status", "--json", "out", env=self.env).out)
                if view["live"]:
                    break
                time.sleep(0.005)
            self.assertEqual((view["state"], view["live"]), ("at work", True))
            self.assertIn("at work", self.verify("out", 75))
            watched = self.flume("status", "--watch", "--every", "0.1", "--json", "out", env=self.env)
            self.assertEqual(child.wait(30), 0)
            self.assertGreater(len(watched.out.splitlines()), 1)
        text = self.status()
        self.assertIn("out: finished, round 1", text)
        self.assertIn("30 documents in = 30 out + 0 filtered + 0 rejected; 30 rows", text)
        view = json.loads(self.status("out", 0, "--json"))
        self.assertEqual(view["usd_spent"], self.state()["counts"]["usd"])
        self.assertEqual([b["done"] for b in view["batches"]], [10, 10, 10])
        self.assert_no_key()

    def test_what_was_fetched_counts_as_cost_before_the_end(self):
        self.documents(20)
        with self.server(batch_ms=50, batch_done=0.5) as server:
            pipeline = self.llm(server.url())
            while json.loads(self.flume("status", "--json", "out", env=self.env).out or '{"round":0}')["round"] < 2:
                self.batch(pipeline, "--no-wait", code=75)
                time.sleep(0.06)
            view = json.loads(self.flume("status", "--json", "out", env=self.env).out)
            self.assertEqual(view["state"], "waits")
            self.assertGreater(view["usd_spent"], 0)

    def test_the_last_lines_name_each_kind_of_reject_once_and_money_as_run_does(self):
        self.documents(20)
        self.write("odd.jsonl", b'{"id":"broken\n{"id":"n","text":5}\n{"id":"short","text":"x"}\n')
        with self.server(bad="number 1") as server:  # and 10 to 19
            result = self.batch("clean min_chars=3 | " + self.llm(server.url()), code=3, inputs=("in.jsonl", "odd.jsonl"))
            again = self.batch("clean min_chars=3 | " + self.llm(server.url()), code=3, inputs=("in.jsonl", "odd.jsonl"))
        self.assertRegex(result.err, r"round 1: 20 requests in 1 file, \$0\.\d+ at most\n")
        self.assertIn("docflume: filtered (clean:min_chars 1)\n", result.err)
        self.assertIn("docflume: rejected (input:parse 1, input:type 1, llm:range 11)\n", result.err)
        for line in ("input:parse, e.g. 'odd.jsonl, byte 0': ", "input:type, e.g. 'n': ", "llm:range, e.g. 'd1': "):
            self.assertEqual(result.err.count(line), 1, result.err)
        self.assertNotIn("llm:again", result.err)  # what waited in the first pass is no reject
        last = result.err.splitlines()[-2:]
        self.assertEqual(last[0], "docflume: 23 documents in = 9 out + 1 filtered + 13 rejected; 9 rows")
        self.assertRegex(last[1], r"^docflume: 20 calls for \$0\.\d+, 0 of them in the cache$")
        self.assertEqual(again.err.splitlines(), last)
        self.assertNotRegex((self.dir / "out" / "batch.json").read_text(), r'usd":[\d.]+[eE]')

    def test_what_nobody_prices_is_not_told_as_free(self):
        self.documents(2)
        with self.server() as server:
            result = self.batch(f"llm model=openai/mine base_url={server.url()} prompt='{{{{text}}}}'")
        self.assertIn("price that is not known", result.err)
        self.assertIn("2 calls for $0.00 (at unknown prices), 0 of them", result.err)

    def test_rejects_are_exit_code_3_of_status_and_no_fault_of_verify(self):
        self.documents(20)
        with self.server(bad="number 13") as server:
            self.batch(self.llm(server.url()), code=3)
        self.assertIn("1 rejected", self.status("out", 3))
        text = self.verify()
        self.assertIn("20 different ones: 19 answered, 1 failed, 0 without an answer", text)
        self.assertIn("is proved", text)

    def test_every_form_is_proved_and_expired_ones_too(self):
        self.documents(60)
        with self.server(batch_ms=20, batch_done=0.7, batch_fail=0.1) as server:
            for out, pipeline in (("o1", self.llm(server.url())), ("o2", self.llm(server.url()).replace("gpt-4o-mini", "claude-haiku-4-5")),
                                  ("o3", f"embed model=text-embedding-3-small base_url={server.url()} dimensions=8")):
                self.to_the_end(pipeline, "--file-lines", 30, "--attempts", 20, out=out)
                view = json.loads(self.verify(out, 0, "--json"))
                self.assertEqual((view["state"], view["faults"], view["answered"], view["failed"]), ("proved", 0, 60, 0))
                self.assertIn("is proved", self.verify(out, 0, "--quick"))

    def test_every_damage_is_found_and_named(self):
        self.documents(40)
        with self.server(batch_ms=20, bad="number 7") as server:
            self.batch(f"{self.llm(server.url())} | embed model=text-embedding-3-small base_url={server.url()} dimensions=4",
                       "--file-lines", 20, code=3)
        self.verify()
        files = sorted(p for p in (self.dir / "out").iterdir() if p.name not in ("batch.json", "lock"))
        self.assertGreaterEqual(len(files), 11)
        for path in files:
            content = path.read_bytes()
            for damage in ("flip", "cut", "longer", "gone"):
                with self.subTest(file=path.name, damage=damage):
                    middle = len(content) // 2
                    path.write_bytes({"flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:],
                                      "cut": content[:middle], "longer": content + content[-20:], "gone": b""}[damage])
                    if damage == "gone":
                        path.unlink()
                    for more in ((), ("--quick",), ("--json",)):
                        self.assertIn(path.name, self.verify("out", 1, *more))
            path.write_bytes(content)
        self.verify()

    def test_counts_that_do_not_add_up_are_found(self):
        self.documents(5)
        with self.server() as server:
            self.batch(self.llm(server.url()))
        state = self.bytes_of("out/batch.json")
        (self.dir / "out" / "batch.json").write_bytes(state.replace(b'"in":5', b'"in":6'))
        self.assertIn("6 documents in are not", self.verify("out", 1))
        (self.dir / "out" / "batch.json").write_bytes(state.replace(b'"rows":5', b'"rows":4'))
        self.assertIn("rows", self.verify("out", 1))
        (self.dir / "out" / "batch.json").write_bytes(state[:100])
        self.verify("out", 1)
        self.assertIn("batch.json", self.flume("status", "out", env=self.env).err)

    def test_killed_at_work_it_waits_and_what_is_there_is_consistent(self):
        self.documents(30)
        with self.server(batch_ms=60000) as server:
            child = self.start(*self.command(self.llm(server.url()), "--file-lines", 10), env=self.env)
            while server.stats()["batches"] < 2:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
            self.assertIn("nobody looks after it now", self.status("out", 75))
            self.assertIn("consistent", self.verify("out", 75))

    def test_looking_at_it_again_and_again_never_stops_a_batch_from_starting(self):
        self.documents(3)
        with self.server() as server:
            watchers = [self.start("status", "--json", "out", env=self.env) for _ in range(3)]
            for i in range(10):
                watchers += [self.start("verify", f"o{i}", env=self.env), self.start("status", f"o{i}", env=self.env)]
                self.batch(self.llm(server.url()), out=f"o{i}")
            for child in watchers:
                child.wait(20)


if __name__ == "__main__":
    unittest.main()
