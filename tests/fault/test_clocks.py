# SPDX-License-Identifier: Apache-2.0
"""Clocks that jump while real processes obey limits (shim/clock.c): midnight, a wall clock that is set back, a machine that slept, a reboot.
ctest: plain
ctest: timeout 240"""
import mmap
import json
import os
import pathlib
import struct
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "e2e"), str(ROOT / "api")]
import api
from flume import kill_whole, wait_until
from rundir import RunCase

LIBRARY = pathlib.Path(os.environ.get("DF_SHIM_DIR", "/nonexistent")) / "libdf_shim_clock.so"
MINUTE, HOUR, DAY = 60, 3600, 86400
OTHER_BOOT = "11111111-2222-3333-4444-555555555555\n"


class Clocks(RunCase):
    def setUp(self):
        super().setUp()
        (self.dir / "clock").write_bytes(bytes(16))
        with open(self.dir / "clock", "r+b") as f:
            self.shifts = mmap.mmap(f.fileno(), 16)
        self.addCleanup(self.shifts.close)
        self.env = {"DOCFLUME_LIMITS": str(self.dir / "limits"), "OPENAI_API_KEY": "sk-planted-0123456789", "HOME": str(self.dir),
                    "XDG_CONFIG_HOME": str(self.dir / "config"), "LD_PRELOAD": str(LIBRARY), "DF_SHIM_CLOCK": str(self.dir / "clock")}

    def shift(self, real=None, boot=None):
        """Seconds that are added from now on."""
        for at, seconds in ((0, real), (8, boot)):
            if seconds is not None:
                self.shifts[at:at + 8] = struct.pack("=q", int(seconds * 1e9))

    def set_wall(self, second_of_day, day=0):
        """The wall shows this time of today, or of so many days later."""
        self.shift(real=(time.time() // DAY + day) * DAY + second_of_day - time.time())

    def server(self, **options):
        server = api.Server(log=True, style="none", **options).start()
        self.addCleanup(server.stop)
        return server

    def documents(self, n, name="in.jsonl"):
        return self.write(name, "".join(json.dumps({"id": f"d{i}", "text": f"document {i}" + " x" * 500}) + "\n" for i in range(n)))

    def arguments(self, server, limits, out="out", name="in.jsonl"):
        stage = f"llm model=gpt-4o-mini base_url={server.url()} prompt='{{{{id}}}}' max_tokens=20 {limits}"
        return ["run", "-j", 4, "-o", out, stage, name]

    def docflume(self, arguments, code):
        result = self.flume(*arguments, env=self.env, timeout=60)
        self.assertEqual(result.code, code, result.err)
        return result.err

    def jump(self, server, arguments, after, jump, code=0):
        """A run in which the clocks jump once so many requests have come; how long it took, and what it said."""
        begun = time.monotonic()
        child = self.start(*arguments, env=self.env)
        self.assertTrue(wait_until(lambda: server.stats()["requests"] >= after))
        jump()
        _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, code, err.decode())
        return time.monotonic() - begun, err.decode()

    def used_up(self, server, arguments, n):
        """A worker that is stopped gives back what it had reserved ahead; who comes later that day sends it. Never more than n, and all n in the end."""
        for _ in range(4):
            self.assertLessEqual(server.stats()["requests"], n)
            if server.stats()["requests"] == n:
                break
            self.docflume(arguments, 4)
        self.docflume(arguments, 4)
        self.assertEqual(server.stats()["requests"], n)

    def pauses(self, server):
        at = sorted(line["arrive_ns"] / 1e9 for line in server.log() if line["status"] == 200)
        return max(b - a for a, b in zip(at, at[1:])), (len(at) - 1) / (at[-1] - at[0])

    # ------------------------------------------------------------------ the wall

    def test_a_run_that_the_day_has_ended_goes_on_after_midnight(self):
        server = self.server(delay=5)
        self.documents(100)
        arguments = self.arguments(server, "rpd=40")
        self.set_wall(DAY - 10 * MINUTE)
        said = self.docflume(arguments, 4)
        self.assertIn('daily limit hit for model "gpt-4o-mini": 40 of 40 requests are used', said)
        self.assertRegex(said, r"begins anew at 00:00 UTC, in 0 h (09|10) min")
        self.used_up(server, arguments, 40)
        self.set_wall(1 * MINUTE, day=1)
        self.docflume(arguments, 4)
        self.used_up(server, arguments, 80)
        self.set_wall(1 * MINUTE, day=2)
        self.docflume(arguments, 0)
        self.assertEqual((server.stats()["requests"], len(self.rows())), (100, 100))

    def test_midnight_passes_in_the_middle_of_a_run_and_the_count_begins_anew(self):
        server = self.server(delay=5)
        self.documents(150)
        self.set_wall(12 * HOUR)
        _, err = self.jump(server, self.arguments(server, "rpd=100 rpm=1800"), 60, lambda: self.set_wall(5, day=1))
        self.assertNotIn("daily limit", err)
        self.assertEqual((server.stats()["requests"], len(self.rows())), (150, 150))
        self.documents(200, "more.jsonl")
        self.docflume(self.arguments(server, "rpd=100", "more", "more.jsonl"), 4)
        before_midnight = server.stats()["requests"] - 100  # the new day was used up, to the last of its 100
        self.assertGreaterEqual(before_midnight, 60)
        self.assertLessEqual(before_midnight, 100)  # each worker looks at the wall once a second

    def test_a_wall_clock_that_is_set_back_by_an_hour_holds_up_nobody(self):
        server = self.server(rpm=600, scale=10, limit="sliding", delay=20)
        self.documents(400)
        self.set_wall(12 * HOUR)
        took, _ = self.jump(server, self.arguments(server, "rpm=6000 rpd=1000"), 100, lambda: self.set_wall(11 * HOUR))
        pause, rate = self.pauses(server)
        print(f"figure: wall set back by an hour: {took:.1f} s, {rate:.1f} calls a second of 100, longest pause {1000 * pause:.0f} ms", flush=True)
        self.assertEqual((server.stats()["violations"], server.stats()["requests"]), (0, 400))
        self.assertLess(pause, 1)
        self.assertLess(took, 15)

    def test_a_wall_clock_that_is_set_back_over_midnight_gives_no_second_day(self):
        server = self.server(delay=5)
        self.documents(100)
        self.set_wall(HOUR / 2)
        took, err = self.jump(server, self.arguments(server, "rpd=60 rpm=1200"), 30, lambda: self.set_wall(DAY - HOUR / 2, day=-1), code=4)
        self.assertIn("60 of 60 requests are used", err)
        self.used_up(server, self.arguments(server, "rpd=60 rpm=1200"), 60)
        self.assertLess(took, 15)

    # ------------------------------------------------------------------ sleep and reboot

    def test_a_machine_that_slept_for_ten_minutes_goes_on_at_its_rate(self):
        server = self.server(rpm=600, scale=10, limit="sliding", delay=20)
        self.documents(400)
        took, _ = self.jump(server, self.arguments(server, "rpm=6000"), 100, lambda: self.shift(real=10 * MINUTE, boot=10 * MINUTE))
        pause, rate = self.pauses(server)
        print(f"figure: slept for ten minutes: {took:.1f} s, {rate:.1f} calls a second of 100, longest pause {1000 * pause:.0f} ms", flush=True)
        self.assertEqual((server.stats()["violations"], server.stats()["requests"]), (0, 400))
        self.assertLess(pause, 1)
        self.assertLess(took, 15)

    def test_who_waited_for_a_place_while_the_machine_slept_need_not_wait_again(self):
        """A timer stands still while the machine sleeps, and the limit's clock does not."""
        server = self.server(delay=5)
        self.documents(2)

        def sleep():
            time.sleep(1)  # the first is answered, and the second waits
            self.shift(real=10 * MINUTE, boot=10 * MINUTE)
        took, _ = self.jump(server, self.arguments(server, "rpm=1"), 1, sleep)
        print(f"figure: slept for ten minutes of a minute's wait: {took:.1f} s", flush=True)
        self.assertEqual(server.stats()["requests"], 2)
        self.assertLess(took, 20)  # and not the whole minute

    def test_after_a_reboot_the_clocks_begin_anew_and_the_day_goes_on(self):
        server = self.server(delay=5)
        self.documents(100)
        arguments = self.arguments(server, "rpd=60 rpm=1")
        child = self.start(*arguments, env=self.env)  # one call, and the next place is a minute away
        self.assertTrue(wait_until(lambda: server.stats()["requests"] == 1))
        kill_whole(child)  # no process outlives its machine
        self.write("boot_id", OTHER_BOOT)
        self.env["DF_SHIM_BOOT_ID"] = str(self.dir / "boot_id")
        self.shift(boot=30 - time.clock_gettime(time.CLOCK_BOOTTIME))  # the machine is up for 30 s
        begun = time.monotonic()
        said = self.docflume(self.arguments(server, "rpd=60 rpm=6000", "again"), 4)
        self.assertLess(time.monotonic() - begun, 20)  # and not until the old boot's time has come again
        self.assertIn("60 of 60 requests are used", said)
        self.used_up(server, self.arguments(server, "rpd=60 rpm=6000", "again"), 60)


if __name__ == "__main__":
    if not LIBRARY.exists():
        print("SKIP: no shim in this build (the sanitizers replace the same calls)")
        sys.exit(77)
    unittest.main(verbosity=2)
