# SPDX-License-Identifier: Apache-2.0
"""nginx's limit_req, the leaky bucket that really stands before APIs, between docflume and the server of tests/api.
ctest: plain
ctest: timeout 120"""

import unittest

import service
from case import ServiceCase, up
from flume import SLOW

RATE, BURST = 5, 2
BLOCK = """
map $http_authorization $who { default $http_authorization; "" nobody; }
limit_req_zone $who zone=requests:1m rate=%dr/s; limit_req_status 429;
upstream api { server 127.0.0.1:%d; keepalive 64; }
server {
  listen 127.0.0.1:{port};
  location = /healthz { return 200 "ok"; }
  location / {
    limit_req zone=requests burst=%d nodelay; error_page 429 = @slower;
    proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
  }
  location @slower {
    internal; default_type application/json; %s
    return 429 '{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}';
  }
}"""
IN_SECONDS = "add_header Retry-After 1 always;"
EXACTLY = IN_SECONDS + " add_header retry-after-ms 250 always; add_header x-ratelimit-remaining-requests 0 always;"


@unittest.skipIf(SLOW > 1, "its time is all waiting: looked at without sanitizers")
class LimitReq(ServiceCase):
    def limited(self, headers):
        self.server = self.api_server(delay=50)
        nginx = up(lambda: service.Nginx(BLOCK % (RATE, self.server.port, BURST, headers)))
        self.addCleanup(nginx.stop)
        return nginx

    def run_all(self, nginx, n, more="", out="out"):
        """(the part of the rate that was used, answers 429)."""
        before = len(nginx.accesses())
        self.docflume(f"llm model=gpt-4o-mini base_url={nginx.url('/v1')} prompt='{{{{id}}}} {{{{text}}}}' max_tokens=20 cache=false {more}",
                      "-j", 2, "-o", out, self.documents(n), timeout=100)
        self.assert_all_once(n, out)
        lines = [a for a in nginx.accesses()[before:] if a[-1] != "/healthz"]
        passed = [float(a[0]) for a in lines if a[1] == "200"]
        refused = len(lines) - len(passed)
        self.assertEqual(len(passed), n)
        # Whoever lets it run over has had burst + 1 at once; then there is one every 1 / RATE s.
        used = max(n - 1 - (BURST if refused else 0), 1) / RATE / (passed[-1] - passed[0])
        print(f"limit_req {RATE} r/s, burst {BURST}, {more or 'nothing given'}: {n} calls in {passed[-1] - passed[0]:.2f} s, "
              f"{100 * used:.1f} % of the rate, {refused} answers 429", flush=True)
        return used, refused

    def test_a_limit_that_is_told_is_used_and_never_passed(self):
        used, refused = self.run_all(self.limited(IN_SECONDS), 50, "rpm=300")
        self.assertEqual((refused, self.server.stats()["requests"]), (0, 50))
        self.assertGreaterEqual(used, 0.85)

    def test_a_limit_that_nobody_told_is_found_remembered_and_nothing_is_lost(self):
        nginx = self.limited(EXACTLY)
        used, refused = self.run_all(nginx, 100)
        self.assertGreaterEqual(used, 0.5)  # with its search, which calls that a busy machine sends late make longer
        self.assertLessEqual(refused, 100 + 30)  # all that were out when the first one was refused, and some that searched
        used, refused = self.run_all(nginx, 40, out="again")
        self.assertGreaterEqual(used, 0.6)  # below what was refused, and it rises by 1 % a minute
        self.assertLessEqual(refused, 6)
        self.assertEqual((self.server.stats()["requests"], self.server.stats()["paid_twice"]), (140, 40))  # no cache: asked again

    def test_a_server_that_always_says_a_second_slows_the_search_and_loses_nothing(self):
        """Its second is kept each time, though the bucket has room in a fifth of it."""
        used, refused = self.run_all(self.limited(IN_SECONDS), 40)
        self.assertGreaterEqual(used, 0.3)
        self.assertLessEqual(refused, 40 + 30)


if __name__ == "__main__":
    service.main()
