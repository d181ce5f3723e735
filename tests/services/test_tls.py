# SPDX-License-Identifier: Apache-2.0
"""TLS and HTTP/2 as nginx speaks them, before the server of tests/api: certificates are always verified, many requests share a connection,
and connections that the server retires (keepalive_requests) lose nothing. Workers are confined, as they always are.
ctest: timeout 120"""
import shutil
import subprocess

import service
from case import ServiceCase, up

BLOCK = """
upstream api { server 127.0.0.1:%d; keepalive 512; }
server {
  listen 127.0.0.1:{port} ssl%s;
  ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3;
  keepalive_requests %d; http2_max_concurrent_streams 64;
  location / { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
}"""


def certificate(folder, name, alternative):
    """A certificate that signs itself, made now; (certificate, key)."""
    openssl = service.on_path("openssl", "openssl")
    files = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run([openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}", "-out", files[0], "-keyout", files[1]],
                   check=True, capture_output=True)
    return files


class Tls(ServiceCase):
    def secured(self, name="localhost", alternative="DNS:localhost,IP:127.0.0.1", http2=True, keepalive_requests=100000, **options):
        self.server = self.api_server(**options)

        def made():
            self.pem, key = certificate(self.dir, name, alternative)
            return service.Nginx(BLOCK % (self.server.port, " http2" if http2 else "", self.pem, key, keepalive_requests), "https")
        self.nginx = up(made)
        self.addCleanup(self.nginx.stop)

    def llm(self, more="", host="localhost"):
        return (f"llm model=gpt-4o-mini base_url=https://{host}:{self.nginx.port}/v1 prompt='{{{{id}}}} {{{{text}}}}' max_tokens=20 "
                f"{more}")

    def refused(self):
        """Nothing is sent, nothing tried again: the run ends and says so once."""
        result = self.docflume(self.llm(), "-j", 2, "-o", "refused", self.documents(200), code=1)
        self.assertEqual((self.rows("refused"), self.server.stats()["requests"]), ([], 0))
        self.assertEqual(len([line for line in result.err.splitlines() if "certificate" in line]), 1, result.err)
        self.assertIn("SSL_CERT_FILE", result.err)
        self.assertLess(result.seconds, 5)

    def test_a_certificate_that_nobody_vouches_for_is_refused_until_ssl_cert_file_does(self):
        self.secured()
        self.refused()
        self.env["SSL_CERT_FILE"] = str(self.pem)
        self.docflume(self.llm(), "-o", "out", self.documents(20))
        self.assert_all_once(20)
        self.env.update({"SSL_CERT_FILE": "", "CURL_CA_BUNDLE": str(self.pem)})
        self.docflume(self.llm("cache=false", host="127.0.0.1"), "-o", "again", self.documents(20))
        self.assert_all_once(20, "again")

    def test_a_certificate_of_somebody_else_is_refused(self):
        self.secured("somebody.example", "DNS:somebody.example")
        self.env["SSL_CERT_FILE"] = str(self.pem)
        self.refused()

    def test_another_certificate_of_the_same_name_is_refused(self):
        self.secured()
        (self.dir / "other").mkdir()
        self.env["SSL_CERT_FILE"] = str(certificate(self.dir / "other", "localhost", "DNS:localhost")[0])
        self.refused()

    def test_a_folder_of_hashed_certificates_is_believed(self):
        self.secured()
        folder = self.dir / "certs"
        folder.mkdir()
        shutil.copy(self.pem, folder / "ours.pem")
        self.env["SSL_CERT_DIR"] = str(folder)
        self.refused()  # nobody finds it without the name that its hash gives
        openssl = service.on_path("openssl", "openssl")
        subprocess.run([openssl, "rehash", folder], check=True, capture_output=True)
        self.docflume(self.llm(), "-o", "out", self.documents(20))
        self.assert_all_once(20)

    def test_a_file_of_certificates_that_is_none_ends_the_run_and_says_which(self):
        self.secured()
        self.write("junk.pem", "this is no certificate\n")
        for name in ("missing.pem", "junk.pem"):
            with self.subTest(name=name):
                self.env["SSL_CERT_FILE"] = str(self.dir / name)
                result = self.docflume(self.llm(), "-j", 2, "-o", f"out-{name}", self.documents(200), code=1)
                print(f"{name}: {result.seconds:.1f} s: {result.err.splitlines()[0][:240]}", flush=True)
                self.assertIn(name, result.err)
                self.assertIn("SSL_CERT_FILE", result.err)
                self.assertLess(result.seconds, 5)
                self.assertEqual(self.server.stats()["requests"], 0)

    def test_many_requests_share_connections_by_http_2(self):
        self.secured(delay=700)
        self.env["SSL_CERT_FILE"] = str(self.pem)
        self.docflume(self.llm(), "-j", 2, "-o", "out", self.documents(400))
        self.assert_all_once(400)
        lines = self.nginx.accesses()
        self.assertEqual({(a[1], a[2]) for a in lines}, {("200", "HTTP/2.0")})
        connections = len({a[3] for a in lines})
        stats = self.server.stats()
        print(f"HTTP/2: {len(lines)} requests on {connections} connections, {stats['max_in_flight']} at once", flush=True)
        self.assertEqual((len(lines), stats["paid_twice"]), (400, 0))
        self.assertGreaterEqual(stats["max_in_flight"], 300)
        self.assertLessEqual(connections, 32)

    def test_http_1_1_when_the_server_has_nothing_newer(self):
        self.secured(http2=False, delay=20)
        self.env["SSL_CERT_FILE"] = str(self.pem)
        self.docflume(self.llm(), "-o", "out", self.documents(50))
        self.assert_all_once(50)
        self.assertEqual({(a[1], a[2]) for a in self.nginx.accesses()}, {("200", "HTTP/1.1")})

    def test_connections_that_the_server_retires_lose_nothing_and_pay_nothing_twice(self):
        for http2 in (True, False):
            with self.subTest(http2=http2):
                out = "two" if http2 else "one"
                self.secured(http2=http2, keepalive_requests=7, delay=30)
                self.env["SSL_CERT_FILE"] = str(self.pem)
                self.docflume(self.llm("concurrency=40 cache=false"), "-j", 2, "-o", out, self.documents(600))
                self.assert_all_once(600, out)
                stats = self.server.stats()
                self.assertEqual((stats["requests"], stats["paid_twice"]), (600, 0))
                self.assertGreaterEqual(len({a[3] for a in self.nginx.accesses()}), 600 // 7)

    def test_a_stream_over_http_2(self):
        self.secured(answer="one_two_three_four", gap=30)
        self.env["SSL_CERT_FILE"] = str(self.pem)
        result = self.docflume(self.llm(), "--stream", self.documents(1))
        self.assertEqual(result.out.strip(), "one two three four")
        self.assertEqual([a[2] for a in self.nginx.accesses()], ["HTTP/2.0"])


if __name__ == "__main__":
    service.main()
