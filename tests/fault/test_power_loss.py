# SPDX-License-Identifier: Apache-2.0
# ctest: timeout 600
"""The power goes at every sync of a real run, and what was not synced is gone, half there, or there in another order; the same command goes on.

The trace of a run with a preloaded library becomes images of its directory (power.py); the program itself resumes on each. With
`--fsync commit` it never refuses; with the weaker kinds it may, when it names what does not fit. A second power cut hits the
life after the first. In CI some 60 images in 40 s; with DF_SOAK=1 thousands.
"""
import collections
import json
import random
import re
import shutil
import sys
import unittest

import inject
import power
from inject import CHUNKS, SHAPE, SOAK, Faulty, Lab, Shim, must_be_complete, must_be_proved, report, run, sweep

SECONDS = float(inject.SECONDS or (3600 if SOAK else 40))
IMAGES_PER_CUT = 40 if SOAK else 2
SEED = 20240611

Cut = collections.namedtuple("Cut", "scenario disk at how seed")


class Named(Cut):
    def image(self):
        """Made when it is needed: thousands of them at a time would be gigabytes."""
        return self.disk.image(self.at, self.how, random.Random(self.seed))

    def __str__(self):
        e = self.disk.events[self.at]
        return "%s: power cut before event %d of %d (%s), %s" % (self.scenario.name, self.at, len(self.disk.events),
                                                               e.name or "op %d" % e.op, self.how)


class PowerLoss(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = lab = Lab()
        cls.addClassCleanup(lab.close)
        model = inject.tiny_model(lab.dir / "model")
        cls.sure = [
            lab.scenario("plain", *SHAPE, CHUNKS),
            lab.scenario("ordered-zstd", *SHAPE, "-k", "--zstd=3", CHUNKS, ordered=True),
            lab.scenario("vectors", *SHAPE, "--output-format", "both", "--model-dir", str(model), CHUNKS + " | embed max_tokens=32"),
            lab.scenario("links", *SHAPE, CHUNKS, env={"DF_SHIM_NO_RENAMEAT2": "1"}),
        ]
        cls.unsure = [
            lab.scenario("rotate", *SHAPE, "--fsync", "rotate", CHUNKS),
            lab.scenario("never", *SHAPE, "--fsync", "never", CHUNKS),
        ]
        for s in cls.sure + cls.unsure:
            s.reference()

    def traced(self, scenario, image=None):
        """One run, and what it did to its directory."""
        home = self.lab.home()
        scenario.fresh(home)
        before = None
        if image is not None:
            self.put(home, image)
            before = {p.name: (p.stat().st_ino, p.read_bytes()) for p in (home / "out").iterdir()}
        trace = home / "trace"
        with open(trace, "wb") as f:
            f.truncate(32 << 20)
        dir_inode = (home / "out").stat().st_ino if before is not None else None
        if before is None:
            shim = Shim(home, "io", trace=trace, env=scenario.env)
        else:
            shim = Shim(home, "io", trace=trace, env=self.after_boot(scenario, home).env)
        result = run(scenario, home, shim)
        self.assertEqual(result.code, 3, result.err)
        disk = power.Disk(power.read_trace(trace), dir_inode, home.stat().st_ino, before)
        # the model has seen everything: with nothing lost it is the directory
        whole = disk.image(len(disk.events), power.ALL, random.Random(0))
        there = {p.name: p.read_bytes() for p in (home / "out").iterdir()}
        self.assertEqual({n: len(b) for n, b in whole.items()}, {n: len(b) for n, b in there.items()})
        self.assertEqual(whole, there)
        shutil.rmtree(home)
        return disk

    @staticmethod
    def put(home, image):
        (home / "out").mkdir()
        for name, data in image.items():
            (home / "out" / name).write_bytes(data)
            if name == "lock":
                (home / "out" / name).chmod(0o600)

    def cuts(self, scenario, disk, rnd, per_cut):
        places = disk.sync_points() + [len(disk.events) - 1]
        places += [rnd.randrange(1, len(disk.events)) for _ in range(len(places) // 2)]
        for at in sorted(set(places)):
            ways = power.ways(rnd, at)
            kinds = [next(ways) for _ in range(max(12, per_cut))]
            for how in rnd.sample(kinds, per_cut):
                yield Named(scenario, disk, at, how, rnd.random())

    @staticmethod
    def after_boot(scenario, home):
        """The machine was off: what knows a boot by its number sees another one."""
        boot = home / "boot_id"
        boot.write_text("00000000-0000-4000-8000-%012x\n" % id(home))
        return Shim(home, "io", env={**(scenario.env or {}), "DF_SHIM_BOOT": str(boot)})

    def resume(self, cut, may_refuse):
        home, image = self.lab.home(), cut.image()
        cut.scenario.fresh(home)
        if image is not None:
            self.put(home, image)
        result = run(cut.scenario, home, self.after_boot(cut.scenario, home))
        if result.code == 1 and may_refuse:
            if not re.search(r"'(journal|part-\d+|rejects-\d+|run\.json|inputs)[^']*'|'[^']*/out' is not empty", result.err):
                raise Faulty("it refuses without naming a place: %s" % result.err)
            shutil.rmtree(home)
            return "refused"
        if result.code != 3:
            raise Faulty("exit %s: %s%s" % (result.code, result.err, self.told(image)))
        must_be_complete(cut.scenario, home, result.err + self.told(image))
        again = run(cut.scenario, home, self.after_boot(cut.scenario, home))
        if again.code != 3 or "complete already" not in again.err:
            raise Faulty("a complete run is run again: %s: %s" % (again.code, again.err))
        must_be_proved(home)
        shutil.rmtree(home)
        return "from the start" if not image or not image.get("journal") else "each once"

    @staticmethod
    def told(image):
        return "" if image is None else "\nthe image: %s" % json.dumps({n: len(b) for n, b in sorted(image.items())})

    def images(self, scenarios, per_cut, twice):
        """Power cuts of first lives, and of lives that a power cut came before."""
        rnd, cuts = random.Random(SEED), []
        for s in scenarios:
            first = list(self.cuts(s, self.traced(s), rnd, per_cut))
            cuts += first
            if not twice:
                continue
            half = [c for c in rnd.sample(first, len(first) // 2) if c.at > len(c.disk.events) // 2]
            half = [image for image in (c.image() for c in half[:20]) if image and len(image.get("journal", b"")) > 100]
            for image in half[:1 + 3 * SOAK]:
                cuts += self.cuts(s, self.traced(s, image), rnd, per_cut)
        rnd.shuffle(cuts)
        return cuts

    def test_a_power_cut_at_any_sync_loses_nothing(self):
        cuts = self.images(self.sure, IMAGES_PER_CUT, True)
        points = len({(id(c.disk), c.at) for c in cuts})
        outcomes, failures, _ = sweep(lambda c: self.resume(c, False), cuts, SECONDS * 0.7,
                                      "power cuts with --fsync commit (%d images at %d places)" % (len(cuts), points))
        report(self, failures)
        self.assertGreater(outcomes["each once"], 30)

    def test_weaker_syncs_lose_nothing_or_say_what_does_not_fit(self):
        cuts = self.images(self.unsure, max(1, IMAGES_PER_CUT // 2), False)
        outcomes, failures, _ = sweep(lambda c: self.resume(c, True), cuts, SECONDS * 0.3, "power cuts with --fsync rotate and never (%d images)" % len(cuts))
        report(self, failures)
        self.assertGreater(sum(outcomes.values()), 5)


if __name__ == "__main__":
    inject.skip_without_shim()
    sys.exit(unittest.main())
