// SPDX-License-Identifier: Apache-2.0
/*
 * api_server: the APIs of LLM and embedding providers on loopback, with their limits, their headers, and their bad days: for tests and
 * figures. README.md has the paths, `api_server --help` the options. Costs a few microseconds a request, so that clients are what is measured.
 */
#include "tests/api/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 512

uint64_t clock_mono(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int die(const char *what)
{
	fprintf(stderr, "api_server: %s: %s\n", what, strerror(errno));
	return 1;
}

static int parse_arguments(struct server *s, int argc, char **argv, long *ret_port)
{
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *wrong;
		if (strcmp(a, "--help") == 0) {
			options_help();
			exit(0);
		}
		if (strncmp(a, "--port=", 7) == 0) {
			*ret_port = strtol(a + 7, NULL, 10);
		} else if (strncmp(a, "--log=", 6) == 0) {
			s->log = fopen(a + 6, "we");
			if (s->log == NULL)
				return die(a + 6);
		} else if ((wrong = strncmp(a, "--", 2) == 0 ? options_set(&s->base, span_of(a + 2))
							     : "not an option") != NULL) {
			fprintf(stderr, "api_server: '%s': %s\n", a, wrong);
			return 2;
		}
	}
	return 0;
}

static int listen_on(struct server *s, long port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	socklen_t n = sizeof to;
	int one = 1;
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listener < 0 || setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(s->listener, (struct sockaddr *)&to, sizeof to) < 0 || listen(s->listener, 4096) < 0 ||
	    getsockname(s->listener, (struct sockaddr *)&to, &n) < 0)
		return die("cannot listen");
	printf("%d\n", ntohs(to.sin_port));
	fflush(stdout);
	return 0;
}

static int watch(struct server *s, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
	e.data.u64 = (uint64_t)fd; /* small: no pointer */
	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e);
}

static int prepare(struct server *s, long port)
{
	sigset_t ends;
	struct rlimit files;
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->signal = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->epoll < 0 || s->signal < 0)
		return die("cannot start");
	if (listen_on(s, port) != 0)
		return 1;
	if (watch(s, s->listener) < 0 || watch(s, s->signal) < 0)
		return die("cannot watch");
	/* A file or /dev/null as standard input cannot be watched: then only a signal ends the server. */
	if (watch(s, STDIN_FILENO) < 0 && errno != EPERM)
		return die("cannot watch standard input");
	struct timespec wall;
	s->start_ns = s->now_ns = clock_mono();
	clock_gettime(CLOCK_REALTIME, &wall);
	s->wall_minus_mono_ns = (uint64_t)wall.tv_sec * 1000000000 + (uint64_t)wall.tv_nsec - s->start_ns;
	return 0;
}

static void accept_all(struct server *s)
{
	for (int i = 0; i < 256; i++) {
		int one = 1, fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
				die("accept");
			return;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		conn_open(s, fd);
	}
}

/* true: standard input ended. */
static bool stdin_ended(void)
{
	char rest[256];
	return read(STDIN_FILENO, rest, sizeof rest) == 0;
}

static int wait_for(struct server *s, struct epoll_event *event)
{
	if (s->n_heap == 0)
		return epoll_pwait2(s->epoll, event, EVENTS, NULL, NULL);
	uint64_t at = s->heap[1]->at_ns, now = clock_mono(), left = at > now ? at - now : 0;
	struct timespec t = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
	return epoll_pwait2(s->epoll, event, EVENTS, &t, NULL);
}

static void run_timers(struct server *s)
{
	while (s->n_heap > 0 && s->heap[1]->at_ns <= s->now_ns) {
		struct conn *c = s->heap[1];
		timer_unset(s, c);
		conn_timer(s, c);
	}
}

static void bury(struct server *s)
{
	while (s->dead != NULL) {
		struct conn *c = s->dead;
		s->dead = c->dead;
		free(c);
	}
}

static int loop(struct server *s)
{
	static struct epoll_event event[EVENTS];
	for (;;) {
		int n = wait_for(s, event);
		if (n < 0 && errno != EINTR)
			return die("epoll");
		s->now_ns = clock_mono();
		run_timers(s);
		for (int i = 0; i < n; i++) {
			if (event[i].data.u64 == (uint64_t)s->listener)
				accept_all(s);
			else if (event[i].data.u64 == (uint64_t)s->signal ||
				 (event[i].data.u64 == STDIN_FILENO && stdin_ended()))
				return 0;
			else if (event[i].data.u64 > 1 << 20)
				conn_event(s, event[i].data.ptr, event[i].events);
		}
		bury(s);
	}
}

int main(int argc, char **argv)
{
	static struct server s;
	long port = 0;
	s.base = options_default;
	int wrong = parse_arguments(&s, argc, argv, &port);
	if (wrong == 0)
		wrong = prepare(&s, port);
	if (wrong != 0)
		return wrong;
	int code = loop(&s);
	if (s.log != NULL && fclose(s.log) != 0)
		return die("log");
	_exit(code); /* connections live on in the kernel's list alone: nothing to tidy up */
}
