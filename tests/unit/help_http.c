// SPDX-License-Identifier: Apache-2.0
#include "help_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define REQUEST_MAX (64U << 20)

void nap(unsigned ms)
{
	struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
	(void)nanosleep(&t, NULL);
}

/* --- the server --- */

static void *one(void *self)
{
	struct conn *c = self;
	struct server *s = c->server;
	s->serve(c);
	if (c->fd >= 0)
		(void)close(c->fd);
	df_buf_release(&c->in);
	free(c);
	atomic_fetch_sub(&s->n_open, 1);
	return NULL;
}

static void begin(struct server *s, int fd)
{
	pthread_t thread;
	pthread_attr_t attr;
	int yes = 1;
	struct conn *c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	*c = (struct conn){.server = s, .fd = fd, .nth = atomic_fetch_add(&s->n_conn, 1)};
	df_buf_init(&c->in, REQUEST_MAX);
	atomic_fetch_add(&s->n_open, 1);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&attr, 256U << 10);
	if (pthread_create(&thread, &attr, one, c) != 0)
		abort();
	(void)pthread_attr_destroy(&attr);
}

static void *accept_all(void *self)
{
	struct server *s = self;
	for (;;) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
		if (atomic_load(&s->stop)) {
			if (fd >= 0)
				(void)close(fd);
			return NULL;
		}
		if (fd >= 0)
			begin(s, fd);
	}
}

void server_open(struct server *s, void (*serve)(struct conn *c), void *arg)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(at);
	memset(s, 0, sizeof(*s));
	s->serve = serve;
	s->arg = arg;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&at, n) != 0 || listen(s->fd, 4096) != 0 ||
	    getsockname(s->fd, (struct sockaddr *)&at, &n) != 0)
		abort();
	s->port = ntohs(at.sin_port);
	if (pthread_create(&s->thread, NULL, accept_all, s) != 0)
		abort();
}

void server_close(struct server *s)
{
	atomic_store(&s->stop, true);
	(void)shutdown(s->fd, SHUT_RDWR);
	(void)pthread_join(s->thread, NULL);
	(void)close(s->fd);
	/* Not for ever: of a test that failed before this one connections may be left, which are counted here. */
	for (int i = 0; i < 10000 && atomic_load(&s->n_open); i++)
		nap(1);
}

/* The length of the head with its empty line, 0: not there yet. */
static size_t head_length(const struct conn *c)
{
	const char *end = c->in.n > c->used ? memmem(c->in.p + c->used, c->in.n - c->used, "\r\n\r\n", 4) : NULL;
	return end ? (size_t)(end + 4 - c->in.p) - c->used : 0;
}

static struct df_str value_of(struct df_str head, const char *name)
{
	size_t n = strlen(name);
	for (const char *p = head.p; p && p < head.p + head.n;) {
		const char *end = memchr(p, '\n', (size_t)(head.p + head.n - p));
		if (strncasecmp(p, name, n) == 0 && p[n] == ':')
			return df_str_trim((struct df_str){p + n + 1, (size_t)(end - p) - n - 1});
		p = end + 1;
	}
	return (struct df_str){NULL, 0};
}

struct df_str conn_header(const struct conn *c, const char *name)
{
	return value_of(c->head, name);
}

bool conn_read(struct conn *c)
{
	size_t n_head = 0;
	uint64_t n_body = 0;
	for (;;) {
		if (!n_head && (n_head = head_length(c))) {
			c->head = (struct df_str){c->in.p + c->used, n_head};
			if (df_str_to_u64(value_of(c->head, "content-length"), &n_body) != DF_OK)
				n_body = 0;
		}
		if (n_head && c->in.n - c->used >= n_head + n_body)
			break;
		if (df_buf_reserve(&c->in, 65536) != DF_OK)
			return false;
		ssize_t n = read(c->fd, c->in.p + c->in.n, 65536);
		if (n <= 0)
			return false;
		c->in.n += (size_t)n;
	}
	c->head = (struct df_str){c->in.p + c->used, n_head};
	c->body = (struct df_str){c->head.p + n_head, n_body};
	c->used += n_head + n_body;
	c->asked++;
	atomic_fetch_add(&c->server->n_asked, 1);
	return true;
}

bool conn_send(struct conn *c, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
		if (sent <= 0)
			return false;
		p += sent;
		n -= (size_t)sent;
	}
	return true;
}

bool conn_say(struct conn *c, const char *z)
{
	return conn_send(c, z, strlen(z));
}

bool conn_answer(struct conn *c, int status, const char *body)
{
	char head[200];
	(void)snprintf(head, sizeof(head),
		       "HTTP/1.1 %d Well\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", status,
		       strlen(body));
	return conn_say(c, head) && conn_say(c, body);
}

void conn_reset(struct conn *c)
{
	struct linger now = {1, 0};
	(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(c->fd);
	c->fd = -1;
}

bool conn_wait_gone(struct conn *c)
{
	char some[4096];
	for (int i = 0; i < 600; i++) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN};
		if (poll(&p, 1, 100) > 0 && read(c->fd, some, sizeof(some)) <= 0)
			return true;
	}
	return false;
}

/* --- the client --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

void ask_init(struct ask *a, struct df_http *http, const struct server *s, const char *path)
{
	memset(a, 0, sizeof(*a));
	a->http = http;
	a->request.method = "GET";
	(void)snprintf(a->url, sizeof(a->url), "http://127.0.0.1:%d%s", s ? s->port : 1, path);
	a->request.url = a->url;
}

static void keep(struct ask *a, const struct df_http_response *r)
{
	a->err = r->err;
	a->phase = r->phase;
	(void)memcpy(a->message, r->message, sizeof(a->message));
	a->status = r->status;
	a->close_ended = r->close_ended;
	a->reused = r->reused;
	a->connect_ns = r->connect_ns;
	a->first_byte_ns = r->first_byte_ns;
	a->total_ns = r->total_ns;
	a->up = r->bytes_up;
	a->down = r->bytes_down;
	if (a->want_header) {
		struct df_str v = r->header(r, a->want_header);
		(void)snprintf(a->of_header, sizeof(a->of_header), "%.*s", (int)v.n, v.p ? v.p : "(none)");
		if (!v.p)
			(void)snprintf(a->of_header, sizeof(a->of_header), "(none)");
	}
	free(a->body);
	a->body = malloc(r->body.n + 1);
	if (!a->body)
		abort();
	if (r->body.n)
		(void)memcpy(a->body, r->body.p, r->body.n);
	a->body[r->body.n] = '\0';
	a->n_body = r->body.n;
}

static void on_done(void *self, const struct df_http_response *r)
{
	struct ask *a = self;
	keep(a, r);
	if (a->then)
		a->then(a);
	(void)pthread_mutex_lock(&lock);
	a->n_done++;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

void ask_send(struct ask *a)
{
	struct df_fail fail = {.msg = ""};
	a->request.on_done = on_done;
	a->request.self = a;
	enum df_err err = df_http_send(a->http, &a->request, &a->id, &fail);
	if (err == DF_OK)
		return;
	a->err = err;
	(void)snprintf(a->message, sizeof(a->message), "%.250s", fail.msg);
	(void)pthread_mutex_lock(&lock);
	a->n_done++;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

static void send_it(void *self)
{
	ask_send(self);
}

void ask_start(struct ask *a)
{
	a->n_done = 0;
	if (df_http_post(a->http, send_it, a) != DF_OK)
		abort();
}

static bool wait_until(struct ask *a, int seconds)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	(void)pthread_mutex_lock(&lock);
	while (!a->n_done && pthread_cond_timedwait(&changed, &lock, &until) != ETIMEDOUT)
		;
	bool done = a->n_done;
	(void)pthread_mutex_unlock(&lock);
	return done;
}

bool ask_is_done(struct ask *a)
{
	return wait_until(a, 0);
}

void ask_wait(struct ask *a)
{
	if (!wait_until(a, 60)) {
		(void)fprintf(stderr, "no on_done for %s\n", a->url);
		abort();
	}
}

void ask_run(struct ask *a)
{
	ask_start(a);
	ask_wait(a);
}

void ask_release(struct ask *a)
{
	free(a->body);
	a->body = NULL;
}

struct errand {
	void (*fn)(void *self);
	void *self;
	bool done;
};

static void run_errand(void *self)
{
	struct errand *e = self;
	e->fn(e->self);
	(void)pthread_mutex_lock(&lock);
	e->done = true;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

void on_network(struct df_http *http, void (*fn)(void *self), void *self)
{
	struct errand e = {.fn = fn, .self = self};
	if (df_http_post(http, run_errand, &e) != DF_OK)
		abort();
	(void)pthread_mutex_lock(&lock);
	while (!e.done)
		(void)pthread_cond_wait(&changed, &lock);
	(void)pthread_mutex_unlock(&lock);
}
