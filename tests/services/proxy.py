# SPDX-License-Identifier: Apache-2.0
"""A small HTTP proxy for tests: CONNECT tunnels, and requests in absolute form; with a user and a password when they are given."""
import base64
import socket
import threading


class Proxy:
    def __init__(self, user=None, password=None):
        self.wanted = None if user is None else "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.lock, self.seen, self.refused = threading.Lock(), [], 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def url(self, who=""):
        return f"http://{who}127.0.0.1:{self.port}"

    def stop(self):
        self.listener.close()

    def targets(self):
        """(method, target) of each request that it let through, in order."""
        with self.lock:
            return list(self.seen)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            client.settimeout(60)
            try:
                while self.one(client):
                    pass
            except (OSError, ValueError):
                pass

    @staticmethod
    def head_of(client):
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                raise OSError("closed")
            data += more
        head, rest = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        return lines[0], {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}, rest

    def one(self, client):
        """One request; true: another may follow."""
        line, headers, rest = self.head_of(client)
        method, target, _ = line.split(" ", 2)
        body = rest
        while method != "CONNECT" and len(body) < int(headers.get("content-length", 0)):
            body += client.recv(65536)
        if self.wanted and headers.get("proxy-authorization") != self.wanted:
            with self.lock:
                self.refused += 1
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"docflume\"\r\n"
                           b"Content-Length: 0\r\n\r\n")
            return True
        with self.lock:
            self.seen.append((method, target))
        host, port = (target if method == "CONNECT" else target.split("/")[2]).rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=self.pump, args=(server, client), daemon=True)
                back.start()
                self.pump(client, server)
                back.join(60)
                return False
            path = "/" + target.split("/", 3)[3]
            kept = {k: v for k, v in headers.items() if not k.startswith("proxy-") and k != "connection"}
            head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in kept.items()) + "connection: close\r\n\r\n"
            server.sendall(head.encode("latin-1") + body)
            self.pump(server, client)
            return False

    @staticmethod
    def pump(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass
