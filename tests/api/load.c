// SPDX-License-Identifier: Apache-2.0
/*
 * api_load PORT [REQUESTS [CONNECTIONS [PATH [embed|chat|stream]]]]: what api_server can do when its client is as cheap as a client can be: one epoll, one
 * prepared request, answers counted by Content-Length (or by the last chunk) and never read. Prints one JSON line with requests a second, the server's CPU
 * for a request (from its /stats), and the client's own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX (1U << 20)

struct peer {
	int fd;
	size_t n;    /* bytes of this answer that are here */
	size_t want; /* of the whole; 0: not known yet, SIZE_MAX: ends with the last chunk */
	char head[4096];
	char tail[5];
};

struct load {
	int epoll, port;
	size_t n_request, sent, done, n_peer;
	char request[4096];
	size_t n_bytes;
	struct peer *peer;
};

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int fail(const char *what)
{
	fprintf(stderr, "api_load: %s: %s\n", what, strerror(errno));
	return -1;
}

static int dial(int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		return fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static int ask(struct load *l, struct peer *p)
{
	p->n = p->want = 0;
	if (l->sent == l->n_request)
		return 0;
	l->sent++;
	return send(p->fd, l->request, l->n_bytes, MSG_NOSIGNAL) == (ssize_t)l->n_bytes ? 0 : fail("send");
}

/* How long the answer is, once its headers are here. */
static int measure(struct peer *p)
{
	char *end = memmem(p->head, p->n, "\r\n\r\n", 4);
	if (end == NULL)
		return p->n >= sizeof p->head - 1 ? fail("headers too long") : 0;
	if (strncmp(p->head, "HTTP/1.1 200", 12) != 0) {
		fprintf(stderr, "api_load: %.100s\n", p->head);
		return -1;
	}
	char *length = memmem(p->head, (size_t)(end - p->head), "Content-Length: ", 16);
	p->want = length ? (size_t)(end - p->head) + 4 + strtoul(length + 16, NULL, 10) : SIZE_MAX;
	return 0;
}

static void keep_tail(struct peer *p, const char *bytes, size_t n)
{
	char both[10];
	size_t part = n < 5 ? n : 5;
	memcpy(both, p->tail, 5);
	memcpy(both + 5, bytes + n - part, part);
	memcpy(p->tail, both + part, 5);
}

static int take(struct load *l, struct peer *p)
{
	static char bytes[ANSWER_MAX];
	ssize_t n = recv(p->fd, bytes, sizeof bytes, 0);
	if (n <= 0)
		return fail("the server closed");
	if (p->want == 0 && p->n + 1 < sizeof p->head) {
		size_t room = sizeof p->head - 1 - p->n, part = (size_t)n < room ? (size_t)n : room;
		memcpy(p->head + p->n, bytes, part);
		p->head[p->n + part] = 0;
	}
	p->n += (size_t)n;
	keep_tail(p, bytes, (size_t)n);
	if (p->want == 0 && measure(p) < 0)
		return -1;
	if (p->want == SIZE_MAX ? memcmp(p->tail, "0\r\n\r\n", 5) != 0 : p->want == 0 || p->n < p->want)
		return 0;
	l->done++;
	return ask(l, p);
}

static int run(struct load *l)
{
	struct epoll_event event[256];
	for (size_t i = 0; i < l->n_peer; i++) {
		if (ask(l, &l->peer[i]) < 0)
			return -1;
	}
	while (l->done < l->n_request) {
		int n = epoll_wait(l->epoll, event, 256, 10000);
		if (n == 0)
			return fail("no answer for ten seconds");
		for (int i = 0; i < n; i++) {
			if (take(l, event[i].data.ptr) < 0)
				return -1;
		}
	}
	return 0;
}

static void prepare(struct load *l, const char *path, const char *kind)
{
	const char *body = strcmp(kind, "embed") == 0    ? "{\"model\":\"text-embedding-3-small\",\"encoding_format\":"
							   "\"base64\",\"input\":[\"some words of text\"]}"
			   : strcmp(kind, "stream") == 0 ? "{\"model\":\"any\",\"stream\":true,\"messages\":[{\"role\":"
							   "\"user\",\"content\":\"tell a few words\"}]}"
							 : "{\"model\":\"any\",\"messages\":[{\"role\":\"user\","
							   "\"content\":\"tell a few words of a text\"}]}";
	l->n_bytes = (size_t)snprintf(l->request, sizeof l->request,
				      "POST %s/v1/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
				      "Authorization: Bearer test\r\nContent-Length: %zu\r\n\r\n%s",
				      path, strcmp(kind, "embed") == 0 ? "embeddings" : "chat/completions",
				      strlen(body), body);
}

static double server_cpu(int port)
{
	static const char get[] = "GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n";
	char text[8192];
	size_t n = 0;
	ssize_t got;
	int fd = dial(port);
	if (fd < 0 || send(fd, get, sizeof get - 1, MSG_NOSIGNAL) < 0)
		return -1;
	while (n + 1 < sizeof text && (got = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0)
		n += (size_t)got;
	close(fd);
	text[n] = 0;
	char *cpu = strstr(text, "\"cpu_s\":");
	return cpu ? strtod(cpu + 8, NULL) : -1;
}

int main(int argc, char **argv)
{
	struct load l = {.n_request = 100000, .n_peer = 100};
	if (argc < 2) {
		fputs("usage: api_load PORT [REQUESTS [CONNECTIONS [PATH [embed|chat|stream]]]]\n", stderr);
		return 2;
	}
	l.port = (int)strtol(argv[1], NULL, 10);
	if (argc > 2)
		l.n_request = strtoul(argv[2], NULL, 10);
	if (argc > 3)
		l.n_peer = strtoul(argv[3], NULL, 10);
	prepare(&l, argc > 4 ? argv[4] : "", argc > 5 ? argv[5] : "chat");
	l.epoll = epoll_create1(EPOLL_CLOEXEC);
	l.peer = calloc(l.n_peer, sizeof *l.peer);
	for (size_t i = 0; i < l.n_peer && l.peer != NULL; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = &l.peer[i]};
		l.peer[i].fd = dial(l.port);
		if (l.peer[i].fd < 0 || epoll_ctl(l.epoll, EPOLL_CTL_ADD, l.peer[i].fd, &e) < 0)
			return 1;
	}
	double cpu = server_cpu(l.port), start = seconds();
	if (l.peer == NULL || run(&l) < 0)
		return 1;
	double wall = seconds() - start;
	struct rusage own;
	cpu = server_cpu(l.port) - cpu;
	getrusage(RUSAGE_SELF, &own);
	printf("{\"requests\":%zu,\"connections\":%zu,\"wall_s\":%.3f,\"requests_per_s\":%.0f,\"server_us_per_"
	       "request\":%.2f,"
	       "\"client_cpu_s\":%.3f}\n",
	       l.n_request, l.n_peer, wall, (double)l.n_request / wall, cpu / (double)l.n_request * 1e6,
	       (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
		       (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) * 1e-6);
	free(l.peer);
	return 0;
}
