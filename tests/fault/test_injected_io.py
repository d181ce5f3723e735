# SPDX-License-Identifier: Apache-2.0
# ctest: timeout 600
"""Each call that changes or opens a file of a run fails in turn: the run says why or gets over it, and the same command ends what is left.

In CI a part of the numbers in a fixed time; with DF_SOAK=1 every call with every fault.
"""
import collections
import errno
import os
import shutil
import sys
import unittest

import inject
from inject import CHUNKS, SHAPE, SOAK, Faulty, Lab, Shim, go_on, must_be_complete, must_be_part, report, run, sweep

SECONDS = float(inject.SECONDS or (3600 if SOAK else 55))
FAULTS = ("EIO", "ENOSPC", "EROFS", "EMFILE", "ENOMEM")
HARMLESS = ("EINTR", "SHORT")
# What a person must find in the message. A source that cannot be opened is told by its name.
WORDS = {name: os.strerror(getattr(errno, name)) for name in FAULTS}

Fault = collections.namedtuple("Fault", "scenario role number errno more call")


def applies(fault, call):
    kind = call.what.split(":")[0]
    changes = kind in ("create", "write", "name")
    return {"SHORT": kind in ("write", "read"), "EINTR": kind not in ("name", "unlink"),
            "ENOSPC": changes or kind == "sync", "EROFS": changes or kind in ("unlink", "cut"),
            "EMFILE": kind in ("open", "create"), "ENOMEM": kind in ("open", "create", "name", "unlink")}.get(fault, True)


class InjectedIo(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = lab = Lab()
        cls.addClassCleanup(lab.close)
        model = inject.tiny_model(lab.dir / "model")
        cls.scenarios = [
            lab.scenario("plain", *SHAPE, CHUNKS),
            lab.scenario("ordered-zstd", *SHAPE, "-k", "--zstd=3", CHUNKS, ordered=True),
            lab.scenario("vectors", *SHAPE, "--output-format", "both", "--model-dir", str(model), CHUNKS + " | embed max_tokens=32"),
            lab.scenario("rotate", *SHAPE, "--fsync", "rotate", CHUNKS),
            lab.scenario("stdout", *SHAPE, CHUNKS, to_dir=False),
        ]
        for s in cls.scenarios:
            s.reference()
        cls.scenarios.append(lab.resume())

    def begin(self, fault):
        home = self.lab.home()
        fault.scenario.fresh(home)
        shim = Shim(home, "io", role=fault.role, at=fault.number, more=fault.more, fault=fault.errno)
        result = run(fault.scenario, home, shim)
        if shim.crashes():
            raise Faulty("a crash: %s\n%s" % (shim.crashes(), result.err))
        if result.code not in inject.CODES:
            raise Faulty("exit %s: %s" % (result.code, result.err))
        return home, shim, result

    def check(self, fault):
        home, shim, result = self.begin(fault)
        outcome = self.judge(fault, home, shim, result)
        shutil.rmtree(home)
        return outcome

    def judge(self, fault, home, shim, result):
        s = fault.scenario
        fired = shim.fired()
        if not fired:
            if result.code != 3:
                raise Faulty("no fault was fired, but exit %s: %s" % (result.code, result.err))
            return "never came"
        _, area, name = fired[0][4].split(":")
        if result.code == 1:
            if WORDS[fault.errno] not in result.err:
                raise Faulty("exit 1 without the reason '%s': %s" % (WORDS[fault.errno], result.err))
        elif area == "input" and "could not be read" in result.err:
            # an input that cannot be opened or read is an error of the input: told, counted, and the rest is there
            must_be_part(s, home)
            if not fault.more and name not in result.err:
                raise Faulty("the input '%s' is not named: %s" % (name, result.err))
            return "input told"
        elif result.code == 0:
            raise Faulty("exit 0, but a record is bad: %s" % result.err)
        if not s.to_dir:
            if result.code == 3:
                must_be_complete(s, home, result.err)
                return "survived"
            return "ended with a message"
        if result.code == 3:
            must_be_complete(s, home, result.err)
        go_on(s, home)
        return "survived" if result.code == 3 else "ended with a message"

    def harmless(self, fault):
        home, shim, result = self.begin(fault)
        if result.code != 3:
            raise Faulty("exit %s: %s" % (result.code, result.err))
        must_be_complete(fault.scenario, home, result.err)
        fired = shim.fired()
        if fired and "warning" in result.err:
            raise Faulty("it is told: %s" % result.err)
        shutil.rmtree(home)
        return "nothing seen" if fired else "never came"

    @staticmethod
    def chosen(faults, seconds):
        """All of them in an order that has every way to a call, with any fault, before the second of it."""
        groups = collections.defaultdict(list)
        for f in faults:
            groups[(f.call.role, f.call.function, f.call.way)].append(f)
        order, i = [], 0
        while any(len(g) > i for g in groups.values()):
            order += [g[(i * 7 + k) % len(g)] for k, g in enumerate(groups.values()) if len(g) > i]
            i += 1
        seen = set()
        return [f for f in order if not (f[:5] in seen or seen.add(f[:5]))]

    def test_each_call_fails_in_turn_and_nothing_is_lost(self):
        faults = []
        for s in self.scenarios:
            calls = self.lab.calls_of(s, "io")
            self.assertGreater(len(calls), 10, "the shim sees little")
            for call in calls:
                faults += [Fault(s, call.role, call.number, e, more, call) for e in FAULTS if applies(e, call)
                           for more in (False, True)]
        order = self.chosen(faults, SECONDS)
        outcomes, failures, _ = sweep(self.check, [Named(f) for f in order], SECONDS, "calls that fail (of %d)" % len(order))
        report(self, failures)
        self.assertGreater(outcomes["ended with a message"], 50)
        self.assertGreater(outcomes["survived"], 0)

    def test_an_interrupted_or_short_call_is_not_noticed(self):
        faults = []
        for s in self.scenarios:
            for call in self.lab.calls_of(s, "io"):
                faults += [Fault(s, call.role, call.number, e, False, call) for e in HARMLESS if applies(e, call)]
        order = self.chosen(faults, SECONDS)
        outcomes, failures, _ = sweep(self.harmless, [Named(f) for f in order], SECONDS / 2, "calls interrupted or cut short (of %d)" % len(order))
        report(self, failures)
        self.assertGreater(outcomes["nothing seen"], 50)


class Named(Fault):
    """A fault that says in a failure what it was."""

    def __new__(cls, fault):
        return super().__new__(cls, *fault)

    def __str__(self):
        return "%s: %s of %s's call %d %s%s (%s %s)" % (self.scenario.name, self.errno, self.role, self.number, self.call.function,
                                                       " and all behind it" if self.more else "", self.call.what, self.call.way)


if __name__ == "__main__":
    inject.skip_without_shim()
    sys.exit(unittest.main())
