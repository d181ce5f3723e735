# SPDX-License-Identifier: Apache-2.0
"""Proxies as the environment names them: which calls take them and which do not, tunnels for TLS, and a password that no file and no message shows.
ctest: timeout 120"""
import time

import service
from case import ServiceCase, up
from proxy import Proxy
from test_tls import BLOCK, certificate

USER, PASSWORD = "planted-user", "planted-pass-77ab"
VARIABLES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "HTTP_PROXY")


class Proxied(ServiceCase):
    def setUp(self):
        super().setUp()
        self.env.update({name: "" for name in VARIABLES})
        self.server = self.api_server()

    def proxy(self, *who):
        made = Proxy(*who)
        self.addCleanup(made.stop)
        return made

    def llm(self, base, more=""):
        return f"llm model=gpt-4o-mini base_url={base} prompt='{{{{id}}}} {{{{text}}}}' max_tokens=20 attempts=5 {more}"

    def run_with(self, base, code=0, out="out", **env):
        self.env.update(env)
        return self.docflume("-v", self.llm(base, "cache=false"), "-j", 2, "-o", out, "--trace=yes", self.documents(20), code=code)

    def secured(self):
        def made():
            self.pem, key = certificate(self.dir, "localhost", "DNS:localhost,IP:127.0.0.1")
            return service.Nginx(BLOCK % (self.server.port, " http2", self.pem, key, 1000), "https")
        nginx = up(made)
        self.addCleanup(nginx.stop)
        self.env["SSL_CERT_FILE"] = str(self.pem)
        return nginx

    def nobody_tells_the_password(self, said):
        for secret in (PASSWORD, USER):
            self.assertNotIn(secret, said)
            for path in self.dir.rglob("*"):
                if path.is_file():
                    self.assertNotIn(secret.encode(), path.read_bytes(), path)

    def test_http_proxy_is_taken_for_http(self):
        proxy, other = self.proxy(), self.proxy()
        self.run_with(self.server.url(), http_proxy=proxy.url(), https_proxy=other.url())
        self.assert_all_once(20)
        self.assertEqual((len(proxy.targets()), other.targets()), (20, []))
        self.assertTrue(all(method == "POST" and target.startswith(self.server.url()) for method, target in proxy.targets()))

    def test_HTTP_PROXY_in_capitals_is_not_taken(self):
        """A web server sets it from a client's header."""
        proxy = self.proxy()
        self.run_with(self.server.url(), HTTP_PROXY=proxy.url())
        self.assert_all_once(20)
        self.assertEqual(proxy.targets(), [])

    def test_no_proxy_is_left_alone(self):
        proxy = self.proxy()
        self.run_with(self.server.url(), http_proxy=proxy.url(), no_proxy="example.com,127.0.0.1")
        self.assertEqual(proxy.targets(), [])
        self.run_with(self.server.url(), out="again", http_proxy=proxy.url(), no_proxy="example.com")
        self.assertEqual(len(proxy.targets()), 20)

    def test_https_goes_through_a_tunnel_and_its_certificate_is_still_verified(self):
        nginx, proxy = self.secured(), self.proxy()
        base = f"https://localhost:{nginx.port}/v1"
        self.run_with(base, https_proxy=proxy.url())
        self.assert_all_once(20)
        self.assertEqual({t for t in proxy.targets()}, {("CONNECT", f"localhost:{nginx.port}")})
        (self.dir / "other").mkdir()
        other = certificate(self.dir / "other", "localhost", "DNS:localhost")[0]
        sent = self.server.stats()["requests"]
        result = self.run_with(base, code=1, out="refused", SSL_CERT_FILE=str(other))
        self.assertIn("SSL_CERT_FILE", result.err)
        self.assertEqual(self.server.stats()["requests"], sent)

    def test_the_password_of_a_proxy_is_used_and_never_shown(self):
        nginx, proxy = self.secured(), self.proxy(USER, PASSWORD)
        who = f"{USER}:{PASSWORD}@"
        said = self.run_with(f"https://localhost:{nginx.port}/v1", https_proxy=proxy.url(who)).err
        said += self.run_with(self.server.url(), out="plain", http_proxy=proxy.url(who)).err
        self.assert_all_once(20, "plain")
        self.nobody_tells_the_password(said)

    def test_a_proxy_that_wants_another_password_ends_the_run_at_once_and_it_is_not_shown(self):
        for tls in (False, True):
            with self.subTest(tls=tls):
                base = f"https://localhost:{self.secured().port}/v1" if tls else self.server.url()
                proxy = self.proxy("planted-user", "another")
                url = proxy.url(f"{USER}:{PASSWORD}@")
                result = self.run_with(base, code=1, out=f"out{tls}", http_proxy=url, https_proxy=url)
                print(f"407, {'tunnel' if tls else 'plain'}: {proxy.refused} asked, {result.seconds:.1f} s: {[line for line in result.err.splitlines() if 'error' in line][:1]}", flush=True)
                self.assertIn("407", result.err)
                self.assertIn("proxy", result.err)
                self.assertLess(result.seconds, 5)
                self.assertLessEqual(proxy.refused, 40)  # each call that was out, once
                self.nobody_tells_the_password(result.err)

    def test_a_proxy_that_is_not_there_is_waited_for_and_its_password_is_not_shown(self):
        """As a host that answers nothing: ten minutes, or until somebody ends it; the same command goes on when it is back."""
        self.env["http_proxy"] = f"http://{USER}:{PASSWORD}@127.0.0.1:{service.free_port()}"
        arguments = ["run", "-v", self.llm(self.server.url()), "-j", 2, "-o", "out", "--trace=yes", self.documents(20)]
        child = self.start(*arguments, env=self.env)
        time.sleep(3)
        self.assertIsNone(child.poll())
        child.terminate()
        _, err = child.communicate(timeout=30)
        self.assertEqual((child.returncode, self.server.stats()["requests"]), (75, 0), err.decode())
        self.nobody_tells_the_password(err.decode())
        self.env["http_proxy"] = self.proxy().url()
        self.docflume(*arguments[1:])
        self.assert_all_once(20)


if __name__ == "__main__":
    service.main()
