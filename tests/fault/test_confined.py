#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers and readers of real runs are confined, work all the same, and leave no command behind. "ctest: timeout 300" """
import ctypes
import errno
import gzip
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import unittest
import zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from flume import BIN, Case, SLOW, document, jsonl, kill, wait_until  # noqa: E402


LANDLOCK, SECCOMP = (444,), ((317,) if os.uname().machine == "x86_64" else (277,))


def become_old_kernel():
    """This process and all it starts get ENOSYS for the calls of $DF_TEST_CALLS, and may still filter by prctl."""
    calls = [int(word) for word in os.environ["DF_TEST_CALLS"].split()]
    code = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # the number of the call
    for call in calls:
        code += [struct.pack("HBBI", 0x15, 0, 1, call), struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | errno.ENOSYS)]
    code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000))
    program = ctypes.create_string_buffer(b"".join(code))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for args in ((38, 1, 0, 0, 0), (22, 2, filters, 0, 0)):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        if libc.prctl(*args) != 0:
            sys.exit("prctl: " + os.strerror(ctypes.get_errno()))


def proc(pid):
    """(argument 1, parent, state, {status fields}) of a process, or None."""
    try:
        stat = pathlib.Path("/proc", str(pid), "stat").read_text()
        argv = pathlib.Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
        fields = dict(line.split(":\t", 1) for line in pathlib.Path("/proc", str(pid), "status").read_text().splitlines() if ":\t" in line)
    except OSError:
        return None
    rest = stat[stat.rindex(")") + 2:].split()
    return argv[1].decode() if len(argv) > 1 else "", int(rest[1]), rest[0], fields


def below(pid):
    """Every live descendant of pid: {pid: argument 1}."""
    parents, names = {}, {}
    for entry in os.listdir("/proc"):
        p = proc(entry) if entry.isdigit() else None
        if p and p[2] != "Z":
            parents[int(entry)], names[int(entry)] = p[1], p[0]
    found, grown = {pid: ""}, True
    while grown:
        more = {p: names[p] for p, parent in parents.items() if parent in found and p not in found}
        found.update(more)
        grown = bool(more)
    del found[pid]
    return found


def alive(pid):
    p = proc(pid)
    return p is not None and p[2] != "Z"


class Confined(Case):
    def roles(self, run):
        """Live workers and readers of a run: not the spawners beside workers, which bear their name."""
        found = below(run.pid)
        return {p: name for p, name in found.items() if name in ("worker", "reader") and proc(p) and proc(p)[1] not in
                [q for q, n in found.items() if n == "worker"]}

    def slow_run(self, *more):
        self.write("a.jsonl", jsonl(400))
        self.write("b.csv", "id,text\n" + "".join("c%d,some text\n" % i for i in range(4000)))
        run = self.start("run", "-q", "-j", "2", "--cell-size", "4k", *more, "exec cmd='sleep 0.3; cat'", "--output-format", "none",
                         "a.jsonl", "b.csv")
        self.assertTrue(wait_until(lambda: sorted(self.roles(run).values()) == ["reader", "worker", "worker"]))
        return run

    def flags(self, run):
        found = [proc(p) for p in self.roles(run)]
        return [(p[3]["NoNewPrivs"], p[3]["Seccomp"]) for p in found if p]

    def test_every_worker_and_reader_has_given_up_its_rights(self):
        run = self.slow_run()
        self.assertTrue(wait_until(lambda: set(self.flags(run)) == {("1", "2")}), self.flags(run))
        for p in self.roles(run):
            allowed = 1 << 2 | (1 << 19 if SLOW > 1 else 0)  # reading files at most; a sanitizer traces itself
            self.assertEqual(int(proc(p)[3]["CapEff"], 16) & ~allowed, 0)
        victim = [p for p, name in self.roles(run).items() if name == "worker"][0]
        kill(victim)
        self.assertTrue(wait_until(lambda: len(self.roles(run)) == 3 and victim not in self.roles(run)))
        self.assertTrue(wait_until(lambda: set(self.flags(run)) == {("1", "2")}), self.flags(run))
        run.send_signal(signal.SIGKILL)

    def test_confine_false_leaves_them_their_rights(self):
        run = self.slow_run("--confine=false")
        self.assertEqual(set(self.flags(run)), {("0", "0")})
        run.send_signal(signal.SIGKILL)

    def without(self, *calls):
        """A run on a kernel that does not know these calls: (exit code, rows, stderr)"""
        env = {"DF_TEST_CALLS": " ".join(map(str, calls))}
        child = subprocess.Popen([sys.executable, __file__, "old-kernel", BIN, "run", "-j", "3", "--cell-size", "4k",
                                  "exec cmd='sleep 0.2; cat'", "a.jsonl"], cwd=self.dir,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env})
        out, err = child.communicate(timeout=60 * SLOW)
        return child.returncode, len(out.splitlines()), err.decode()

    def test_kernels_without_landlock_or_seccomp_go_on_with_one_warning(self):
        self.write("a.jsonl", jsonl(400))
        for calls, words in ((LANDLOCK, "no Landlock:"), (SECCOMP, "no seccomp:"), (LANDLOCK + SECCOMP, "no Landlock and no seccomp:")):
            code, rows, err = self.without(*calls)
            self.assertEqual((code, rows), (0, 400), err)
            self.assertEqual(err.count("this kernel has"), 1, err)
            self.assertIn(words, err)

    def test_links_globs_folders_and_relative_paths_are_read_as_ever(self):
        there = self.dir / "far" / "away"
        for i in range(3):
            self.write("far/away/%d.jsonl" % i, jsonl(20, first=20 * i))
        self.write("far/one.jsonl", jsonl(20, first=100))
        os.symlink(there, self.dir / "folder")
        os.mkdir(self.dir / "in")
        os.symlink("../far/one.jsonl", self.dir / "in" / "link.jsonl")
        for operands, n in ((("folder",), 60), (("folder/*.jsonl",), 60), (("in",), 20), (("in/link.jsonl", "folder/1.jsonl"), 40),
                            (("./in/../folder/./2.jsonl",), 20), ((there,), 60), (("folder", "in"), 80)):
            result = self.run_ok("count", *operands)
            self.assertEqual(len(result.rows()), n, operands)
            self.assertNotIn("denied", result.err)

    def test_more_inputs_than_there_are_rules(self):
        for i in range(150):
            self.write("many/%d/%d/d.jsonl" % (i % 70, i), jsonl(2, first=2 * i))
        os.symlink("../far.jsonl", self.dir / "many" / "link.jsonl")
        self.write("far.jsonl", jsonl(2, first=1000))
        self.assertEqual(len(self.run_ok("count", "many").rows()), 302)

    def test_every_format_is_read_as_ever(self):
        rows = jsonl(50)
        self.write("a.jsonl.gz", gzip.compress(rows))
        self.write("a.csv", "id,text\n1,one\n2,two\n")
        with tarfile.open(self.dir / "a.tar.gz", "w:gz") as tar:
            for name in ("x.txt", "dé.txt", "東京.md"):
                path = self.write("t/" + name, "hello " + name)
                tar.add(path, name)
        with zipfile.ZipFile(self.dir / "a.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("x.txt", "hello")
            z.writestr("dé.txt", "héllo")
        for name, n in (("a.jsonl.gz", 50), ("a.csv", 2), ("a.tar.gz", 3), ("a.zip", 2)):
            confined, free = self.run_ok("-k", "count", name), self.run_ok("-k", "--confine=false", "count", name)
            self.assertEqual(len(confined.rows()), n, name)
            self.assertEqual(confined.out, free.out)
        os.mkfifo(self.dir / "pipe.jsonl")
        threading.Thread(target=lambda: (self.dir / "pipe.jsonl").write_bytes(rows), daemon=True).start()
        self.assertEqual(len(self.run_ok("count", "pipe.jsonl").rows()), 50)
        self.assertEqual(len(self.run_ok("count", "--input-format", "jsonl", "/dev/stdin", stdin=rows).rows()), 50)

    def test_a_file_that_was_replaced_has_changed_and_is_not_merely_refused(self):
        for reader in (False, True):
            names = ["%d.%s" % (i, "csv" if reader else "jsonl") for i in range(3)]
            for i, name in enumerate(names):
                # more than a reader may have unread at the coordinator, or it would be done before the first command is
                self.write(name, "id,text\n" + "".join("c%d,%s\n" % (k, "text " * 60) for k in range(18000)) if reader else jsonl(400))
            run = self.start("run", "-j", "1", "--cell-size", "1m" if reader else "64k", "exec cmd='sleep 0.4; cat'", "--output-format", "none", *names)
            self.assertTrue(wait_until(lambda: any(name == "-c" for name in below(run.pid).values())))
            self.write("new", "another\n")
            os.replace(self.dir / "new", self.dir / names[2])
            err = run.communicate(timeout=60 * SLOW)[1].decode()
            self.assertEqual(run.returncode, 3, err)
            self.assertIn("'%s' changed: it is another file now" % names[2], err)
            self.assertNotIn("denied", err)

    def test_commands_of_exec_are_the_users_own_and_not_confined(self):
        self.write("a.jsonl", jsonl(5))
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.write("command.py", "import json, socket, sys\n"
                   "socket.create_connection(('127.0.0.1', %d)).close()\n"
                   "open('written', 'w').write(open('/etc/passwd').read())\n"
                   "status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines())\n"
                   "for line in sys.stdin:\n"
                   "    row = json.loads(line)\n"
                   "    row['status'] = [status['NoNewPrivs'], status['Seccomp'], status['CapEff']]\n"
                   "    print(json.dumps(row))\n" % listener.getsockname()[1])
        own = dict(line.split(":\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
        rows = self.run_ok("-j", "1", "exec cmd='%s command.py'" % sys.executable, "a.jsonl").rows()
        self.assertEqual([row["status"] for row in rows], [[own["NoNewPrivs"], own["Seccomp"], own["CapEff"]]] * 5)
        self.assertTrue((self.dir / "written").stat().st_size > 0)


STUBBORN = ("trap \"\" TERM INT HUP; echo $$ >> pids; (sleep 1000 & echo $! >> pids; sleep 1001 & echo $! >> pids) & "
            "wait; while :; do sleep 1; done")


class Commands(Case):
    def pids(self):
        path = self.dir / "pids"
        return [int(word) for word in path.read_text().split()] if path.exists() else []

    def hanging(self):
        self.write("a.jsonl", jsonl(5))
        run = self.start("run", "-q", "-j", "1", "exec cmd='%s'" % STUBBORN, "--output-format", "none", "a.jsonl")
        self.assertTrue(wait_until(lambda: len(self.pids()) >= 3 and all(alive(p) for p in self.pids())))
        return run, self.pids()

    def none_left(self, pids):
        return wait_until(lambda: not any(alive(p) for p in pids), 1)

    def workers(self, run):
        found = below(run.pid)
        return [p for p, name in found.items() if name == "worker" and found.get(proc(p)[1] if proc(p) else 0) != "worker"]

    def test_a_worker_that_is_killed_takes_its_command_with_it(self):
        run, pids = self.hanging()
        for worker in self.workers(run):
            kill(worker)
        self.assertTrue(self.none_left(pids), [proc(p) for p in pids if alive(p)])
        run.kill()
        run.wait()
        self.assertTrue(self.none_left(self.pids()))

    def test_a_run_that_is_killed_takes_all_commands_with_it(self):
        run, pids = self.hanging()
        everybody = list(below(run.pid))
        run.kill()
        self.assertTrue(wait_until(lambda: not any(alive(p) for p in everybody + pids), 2))

    def test_a_command_that_hangs_goes_with_its_documents_deadline(self):
        self.write("a.jsonl", b"".join(json.dumps(document(i)).encode() + b"\n" for i in range(2)))
        result = self.run_ok("-j", "1", "--cell-size", "1k", "--doc-timeout", "300ms", "exec cmd='echo $$ >> pids; sleep 1000'",
                             "--output-format", "none", "a.jsonl", code=3)
        self.assertIn("2 rejected", result.err)
        self.assertTrue(len(self.pids()) >= 6)
        self.assertTrue(self.none_left(self.pids()))

    def test_a_finished_run_leaves_nobody(self):
        self.write("a.jsonl", jsonl(5))
        started = time.monotonic()
        self.run_ok("-j", "2", "exec cmd='sleep 1000 & echo $! >> pids; cat'", "--output-format", "none", "a.jsonl")
        self.assertLess(time.monotonic() - started, 5 * SLOW)
        self.assertTrue(self.none_left(self.pids()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["old-kernel"]:
        become_old_kernel()
        os.execv(sys.argv[2], sys.argv[2:])
    if subprocess.run(["grep", "-q", "^Seccomp:", "/proc/self/status"]).returncode:
        print("SKIP: this kernel has no seccomp")
        sys.exit(77)
    unittest.main()
