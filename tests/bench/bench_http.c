// SPDX-License-Identifier: Apache-2.0
/*
 * bench_http CALLS IN_FLIGHT DELAY_MS [URL]: what a call costs the network thread, and what a call in flight holds, against a server of epoll and timers in a
 * process of its own (or URL). Prints one JSON line.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <semaphore.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/net/http.h"
#include "worker/net/timers.h"

#define CONNS_MAX 20000

static const char answer[] =
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: 0123456789abcdef\r\nContent-Length: "
	"320\r\n\r\n"
	"{\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
	"\"choices\":"
	"[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A short answer of a few words, as they "
	"are.\"},"
	"\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":10,\"total_tokens\":130}}"
	"                                                                                ";

/* --- the server --- */

static void reply(void *self)
{
	int fd = (int)(intptr_t)self;
	size_t n = (size_t)(strstr(answer, "\r\n\r\n") - answer) + 4 + 320;
	(void)!send(fd, answer, n, MSG_NOSIGNAL);
}

static void serve(int listener, uint64_t delay)
{
	static struct epoll_event event[512];
	struct df_timers timers = {.n = 0};
	int epoll_fd = epoll_create1(0), yes = 1;
	struct epoll_event on = {.events = EPOLLIN, .data.fd = listener};
	(void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &on);
	for (;;) {
		char request[65536];
		uint64_t id, now = df_clock_mono(&df_clock_real), next = df_timers_next(&timers);
		struct timespec t = {1, 0};
		if (next != DF_TIMER_NEVER)
			t = next > now
				    ? (struct timespec){(time_t)((next - now) / DF_SEC), (long)((next - now) % DF_SEC)}
				    : (struct timespec){0, 0};
		int n = epoll_pwait2(epoll_fd, event, 512, &t, NULL);
		now = df_clock_mono(&df_clock_real);
		for (int i = 0; i < n; i++) {
			int fd = event[i].data.fd;
			if (fd == listener) {
				on.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
				if (on.data.fd < 0)
					continue;
				(void)setsockopt(on.data.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
				(void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, on.data.fd, &on);
			} else if (recv(fd, request, sizeof(request), 0) <= 0) { /* a request is one piece here */
				(void)close(fd);
			} else if (!delay) {
				reply((void *)(intptr_t)fd);
			} else if (df_timers_set(&timers, now + delay, reply, (void *)(intptr_t)fd, &id) != DF_OK) {
				abort();
			}
		}
		df_timers_fire(&timers, now);
	}
}

static pid_t start_server(uint64_t delay, int *ret_port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(fd, (struct sockaddr *)&at, n) != 0 || listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &n) != 0)
		abort();
	*ret_port = ntohs(at.sin_port);
	pid_t pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(fd, delay);
	}
	(void)close(fd);
	return pid;
}

/* --- the client --- */

static struct df_http *http;
static char url[300], body[600];
static long n_left, n_out, n_failed;
static uint64_t begun, ended, rss;
static sem_t over;

static uint64_t resident(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (!f || fscanf(f, "%*s %ld", &pages) != 1)
		abort();
	(void)fclose(f);
	return (uint64_t)pages * 4096;
}

static void send_one(void);

static void on_done(void *self, const struct df_http_response *r)
{
	(void)self;
	if (r->err != DF_OK || r->status != 200 || r->body.n < 300) {
		if (n_failed++ == 0)
			(void)fprintf(stderr, "%s: %s\n", df_err_name(r->err), r->message);
	}
	n_out--;
	if (n_left) {
		send_one();
	} else if (n_out == 0) {
		ended = df_clock_mono(&df_clock_real);
		(void)sem_post(&over);
	}
}

static void send_one(void)
{
	const struct df_http_header header[] = {{"Authorization", DF_STR("Bearer 0123456789"), true},
						{"Content-Type", DF_STR("application/json"), false}};
	struct df_http_request r = {.method = "POST",
				    .url = url,
				    .header = header,
				    .n_header = 2,
				    .body = {body, sizeof(body)},
				    .on_done = on_done,
				    .timeout = {10000, 60000, 60000, 120000}};
	struct df_fail fail = {.msg = ""};
	uint64_t id;
	if (df_http_send(http, &r, &id, &fail) != DF_OK) {
		(void)fprintf(stderr, "%s\n", fail.msg);
		abort();
	}
	n_left--;
	n_out++;
}

static void look(void *self)
{
	(void)self;
	rss = resident();
}

static void start(void *self)
{
	long in_flight = *(long *)self;
	uint64_t id;
	begun = df_clock_mono(&df_clock_real);
	while (n_left && n_out < in_flight)
		send_one();
	(void)!df_http_at(http, begun + 400 * DF_MS, look, NULL, &id);
}

int main(int argc, char **argv)
{
	struct df_fail fail = {.msg = ""};
	struct rusage used;
	int port = 0;
	if (argc < 4)
		return 2;
	n_left = strtol(argv[1], NULL, 10);
	long calls = n_left, in_flight = strtol(argv[2], NULL, 10), delay = strtol(argv[3], NULL, 10);
	struct rlimit files = {CONNS_MAX, CONNS_MAX};
	(void)setrlimit(RLIMIT_NOFILE, &files);
	pid_t server = argc > 4 ? 0 : start_server((uint64_t)delay * DF_MS, &port);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1/chat/completions", port);
	if (argc > 4)
		(void)snprintf(url, sizeof(url), "%s", argv[4]);
	memset(body, 'x', sizeof(body));
	(void)sem_init(&over, 0, 0);
	if (df_http_open(NULL, &http, &fail) != DF_OK || df_http_post(http, start, &in_flight) != DF_OK)
		return 1;
	uint64_t before = resident();
	while (sem_wait(&over) != 0 && errno == EINTR)
		;
	struct df_http_stats s = df_http_stats(http);
	df_http_close(&http);
	(void)getrusage(RUSAGE_SELF, &used);
	(void)printf("{\"calls\":%ld,\"failed\":%ld,\"wall_s\":%.3f,\"cpu_ms_per_call\":%.4f,\"connections\":%llu,"
		     "\"rss_kb_per_flight\":%.2f,"
		     "\"rss_mb\":%.1f,\"max_rss_mb\":%.1f}\n",
		     calls, n_failed, (double)(ended - begun) / 1e9, (double)s.cpu_ns / 1e6 / (double)calls,
		     (unsigned long long)s.connections,
		     rss > before ? (double)(rss - before) / 1024 / (double)in_flight : 0, (double)rss / 1e6,
		     (double)used.ru_maxrss / 1e3);
	if (server) {
		(void)kill(server, SIGKILL);
		(void)waitpid(server, NULL, 0);
	}
	return n_failed ? 1 : 0;
}
