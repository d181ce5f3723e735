# SPDX-License-Identifier: Apache-2.0
# ctest: timeout 900
"""Each allocation that docflume's own code asks for finds no memory, in turn: nobody crashes or hangs, and the same command ends what is left.

In CI every way to an allocation once, as far as the time goes; with DF_SOAK=1 every number. Under AddressSanitizer the program is one that was
linked with the same allocator in front (shim/alloc.c), and what is left over at a process's end is a failure too.
"""
import collections
import shutil
import sys
import unittest

import inject
from inject import CHUNKS, SHAPE, SOAK, Faulty, Lab, Shim, go_on, must_be_complete, report, run, sweep

SECONDS = float(inject.SECONDS or (7200 if SOAK else 60))

Fault = collections.namedtuple("Fault", "scenario role number call")


class InjectedMemory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = lab = Lab()
        cls.addClassCleanup(lab.close)
        model = inject.tiny_model(lab.dir / "model")
        cls.scenarios = [
            lab.scenario("plain", *SHAPE, CHUNKS),
            lab.scenario("ordered-zstd", *SHAPE, "-k", "--zstd=3", CHUNKS, ordered=True),
            lab.scenario("vectors", *SHAPE, "--output-format", "both", "--model-dir", str(model),
                         CHUNKS + " | tokenise | embed max_tokens=32"),
            lab.scenario("stages", *SHAPE, "normalize | lower | count | sample rate=0.9 seed=3 | exec cmd=cat"),
            lab.scenario("stdout", *SHAPE, CHUNKS, to_dir=False),
        ]
        for s in cls.scenarios:
            s.reference()
        cls.scenarios.append(lab.resume())

    def check(self, fault):
        home = self.lab.home()
        fault.scenario.fresh(home)
        shim = Shim(home, "alloc", role=fault.role, at=fault.number)
        try:
            return self.judge(fault, home, shim)
        except Faulty as e:
            raise Faulty("%s\nat %s" % (e, shim.where())) from None

    @staticmethod
    def judge(fault, home, shim):
        s = fault.scenario
        result = run(s, home, shim)
        crashes = [c for c in shim.crashes() if inject.crash_in_own_text(c)]
        if crashes:
            raise Faulty("a crash of its own: %s\n%s" % (crashes, result.err))
        if result.code not in inject.CODES | {2}:
            raise Faulty("exit %s: %s" % (result.code, result.err))
        if "Sanitizer" in result.err:
            raise Faulty("the sanitizer speaks: %s" % result.err)
        fired = shim.fired()
        if not fired and result.code != 3:
            raise Faulty("no fault was fired, but exit %s: %s" % (result.code, result.err))
        if result.code in (1, 2) and "memory" not in result.err and "nomem" not in result.err:
            raise Faulty("exit %s without the reason: %s" % (result.code, result.err))
        if result.code == 0:
            raise Faulty("exit 0, but a record is bad: %s" % result.err)
        if result.code == 3:
            must_be_complete(s, home, result.err)
        outcome = ("never came" if not fired else "a library aborted" if shim.crashes() else
                   "survived" if result.code == 3 else "ended with a message")
        if s.to_dir:
            go_on(s, home)
        shutil.rmtree(home)
        return outcome

    @staticmethod
    def chosen(faults):
        """Every way to an allocation first, then the second time that each is gone, and so on."""
        groups = collections.defaultdict(list)
        for f in faults:
            groups[(f.role, f.call.function, f.call.way)].append(f)
        order, i = [], 0
        while any(len(g) > i for g in groups.values()):
            order += [g[i] for g in groups.values() if len(g) > i]
            i += 1
        return order, len(groups)

    def test_each_allocation_fails_in_turn_and_nothing_is_lost(self):
        faults = []
        for s in self.scenarios:
            faults += [Fault(s, call.role, call.number, call) for call in self.lab.calls_of(s, "alloc")]
        order, ways = self.chosen(faults)
        self.assertGreater(ways, 100, "the shim sees little")
        by_role = collections.Counter(f.role for f in faults)
        print("allocations of %d runs: %s; %d ways to them" % (len(self.scenarios), dict(by_role), ways))
        outcomes, failures, _ = sweep(self.check, [Named(f) for f in order], SECONDS, "allocations that fail (of %d)" % len(order))
        report(self, failures)
        self.assertGreater(outcomes["ended with a message"], 20)
        self.assertGreater(outcomes["survived"], 20)


class Named(Fault):
    """A fault that says in a failure what it was."""

    def __new__(cls, fault):
        return super().__new__(cls, *fault)

    def __str__(self):
        return "%s: no memory for %s's call %d %s of %s bytes (%s)" % (self.scenario.name, self.role, self.number, self.call.function,
                                                                     self.call.what, self.call.way)


if __name__ == "__main__":
    inject.skip_without_alloc()
    sys.exit(unittest.main())
