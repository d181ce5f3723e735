#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""may_include.py: holds the layers. Reads each folder's .may_include and every #include of its sources.

A line of .may_include is one of
    folder/ [folder/ ...]         may be included by every file here (headers directly in that folder)
    FILE: <header.h> <dir/*> ...  these third-party headers have their home in FILE
    FILE: folder/                 this one file may include that folder too
and '#' starts a comment. Every file may include its own folder, and the headers of libc, POSIX and Linux listed below.
A third-party header has one home folder in the whole tree: two folders that name it are an error, and so is a
.may_include that allows what nobody uses (the list must not rot). coordinator and worker never meet, whatever a file says.
"""
import fnmatch
import os
import re
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
TOPS = ("base", "proto", "coordinator", "worker", "cli", "plugins")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
LIBC = set("""
assert ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbool stddef
stdint stdio stdlib stdnoreturn string strings tgmath threads time uchar wchar wctype
dirent dlfcn fcntl fnmatch getopt glob grp langinfo libgen poll pthread pwd sched semaphore spawn sysexits syslog termios
unistd endian byteswap malloc execinfo
atomic cinttypes cstddef cstdint cstring cstdlib cassert new memory string_view utility limits algorithm
""".split())
LIBC_DIRS = ("sys/", "linux/", "arpa/", "net/", "netinet/", "asm/")
# Both ends of one format: reading unpacks, rows are packed.
TWO_HOMES = {"zstd.h": {"worker/lease", "worker/read"}}
COMPILER = {"immintrin.h", "cpuid.h", "emmintrin.h", "nmmintrin.h", "x86intrin.h", "arm_neon.h", "sanitizer/asan_interface.h", "sanitizer/lsan_interface.h"}


def is_system(header):
    name = header[:-2] if header.endswith(".h") else header
    return name in LIBC or header.startswith(LIBC_DIRS) or header in COMPILER


def folders():
    for top in TOPS:
        for path, dirs, files in os.walk(os.path.join(ROOT, top)):
            dirs.sort()
            sources = sorted(f for f in files if f.endswith((".c", ".h", ".cpp")))
            if sources:
                yield os.path.relpath(path, ROOT), sources


def read_rules(folder, complain):
    """Returns (folders for all, {file: [patterns]}) of a folder's .may_include."""
    everyone, per_file = [], {}
    path = os.path.join(ROOT, folder, ".may_include")
    if not os.path.exists(path):
        complain(f"{folder}: has sources and no .may_include; write one (see tests/lint/README.md)")
        return everyone, per_file
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, colon, rest = line.partition(":")
        words = (rest if colon else line).split()
        if not words:
            complain(f"{folder}/.may_include:{number}: names nothing")
        for word in words:
            if not (word.endswith("/") or (word.startswith("<") and word.endswith(">"))):
                complain(f"{folder}/.may_include:{number}: '{word}' is neither folder/ nor <header>")
        if colon:
            per_file.setdefault(name.strip(), []).extend(words)
        else:
            everyone.extend(words)
    return everyone, per_file


def side(folder):
    top = folder.split("/")[0]
    return top if top in ("coordinator", "worker") else None


def check_project(where, folder, header, allowed, used, complain):
    target = os.path.dirname(header)
    if not os.path.exists(os.path.join(ROOT, header)):
        complain(f'{where}: "{header}" does not exist (write the path from the top of the tree)')
        return
    if side(folder) and side(target) and side(folder) != side(target):
        complain(f'{where}: {side(folder)} must never include {side(target)} ("{header}")')
        return
    if target == folder:
        return
    if target + "/" in allowed:
        used.add(target + "/")
        return
    complain(f'{where}: "{header}" is not allowed here; {folder}/.may_include allows: {" ".join(sorted(allowed)) or "nothing"}')


def check_third_party(where, folder, name, header, allowed, homes, used, complain):
    for pattern in allowed:
        if pattern.startswith("<") and fnmatch.fnmatchcase(header, pattern[1:-1]):
            used.add(pattern)
            homes.setdefault(header, {}).setdefault(folder, where)
            return
    complain(f"{where}: <{header}> has no home in {folder}/{name}; use the wrapper of its home folder instead")


def main():
    errors, homes, n_files = [], {}, 0
    complain = errors.append
    for folder, sources in folders():
        everyone, per_file = read_rules(folder, complain)
        used = set()
        for name in per_file:
            if name not in sources:
                complain(f"{folder}/.may_include: '{name}' does not exist")
        for name in sources:
            n_files += 1
            allowed = set(everyone) | set(per_file.get(name, []))
            with open(os.path.join(ROOT, folder, name), encoding="utf-8") as f:
                for number, line in enumerate(f, 1):
                    m = INCLUDE.match(line)
                    if not m:
                        continue
                    where = f"{folder}/{name}:{number}"
                    if m[1] == '"':
                        check_project(where, folder, m[2], allowed, used, complain)
                    elif not is_system(m[2]):
                        check_third_party(where, folder, name, m[2], allowed, homes, used, complain)
        for pattern in sorted(set(everyone).union(*per_file.values()) - used):
            complain(f"{folder}/.may_include: nobody uses {pattern}")
    for header, where in sorted(homes.items()):
        if len(where) > 1 and set(where) != TWO_HOMES.get(header):
            complain(f"<{header}> has several homes: " + ", ".join(sorted(where.values())))
    for line in errors:
        print(line)
    print(f"may_include: {n_files} files, {len(errors)} errors")
    if n_files < 10:
        print("may_include: that cannot be all of the tree")
        return 1
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
