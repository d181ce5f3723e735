// SPDX-License-Identifier: Apache-2.0
/* conn: one connection: bytes in until there is a request, its answer out when its marks allow it, then the next. */
#include "tests/api/server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_ROOM 16384
#define PIPELINE_MAX (1U << 20)
#define FILL_PER_TURN (4U << 20)

void conn_open(struct server *s, int fd)
{
	struct conn *c = calloc(1, sizeof *c);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
	if (c == NULL || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
		close(fd);
		free(c);
		return;
	}
	c->fd = fd;
	s->stats.connections++;
	if (++s->stats.n_connection > s->stats.max_connections)
		s->stats.max_connections = s->stats.n_connection;
}

static void log_line(struct server *s, const struct conn *c, const char *end)
{
	static struct bytes line;
	const struct account *a = &c->account;
	line.n = 0;
	bytes_fmt(&line,
		  "{\"arrive_ns\":%lu,\"wall_ns\":%lu,\"first_ns\":%lu,\"end_ns\":%lu,\"status\":%d,\"end\":\"%s\","
		  "\"fault\":\"%s\",",
		  c->arrive_ns, c->arrive_ns + s->wall_minus_mono_ns, c->first_ns, s->now_ns, a->status, end,
		  fault_name(&a->fault));
	bytes_fmt(&line, "\"in\":%lu,\"out\":%lu,\"texts\":%zu,\"hash\":\"%016lx\",\"head\":", a->tokens_in,
		  a->tokens_out, a->n_text, a->n_text ? a->text[0] : 0);
	size_t n = strlen(a->head);
	while (n > 0 && ((unsigned char)a->head[n - 1] & 0x80))
		n--;
	bytes_json(&line, (struct span){a->head, n});
	bytes_str(&line, "}\n");
	fwrite(line.p, 1, line.n, s->log);
}

static struct text *text_at(struct stats *s, uint64_t hash)
{
	for (size_t i = hash & (s->cap_text - 1); s->cap_text > 0 && s->text[i].hash != 0;
	     i = (i + 1) & (s->cap_text - 1)) {
		if (s->text[i].hash == hash)
			return &s->text[i];
	}
	return NULL;
}

/* The request is over: with its answer sent, or without ("gone"). */
static void settle(struct server *s, struct conn *c, bool is_whole)
{
	struct account *a = &c->account;
	struct stats *st = &s->stats;
	if (!a->counts)
		return;
	a->counts = false;
	if (st->in_flight > 0)
		st->in_flight--;
	if (a->limit != NULL)
		a->limit->n_in_flight--;
	if (!is_whole)
		st->gone++;
	else if (a->status > 0)
		st->status[a->status]++;
	if (is_whole)
		st->last_answer_ns = clock_mono();
	bool paid = a->paid && is_whole;
	if (paid) {
		st->tokens_in += a->tokens_in;
		st->tokens_out += a->tokens_out;
		st->usd += a->usd;
	} else if (a->status == 200) {
		st->tokens_gone += a->tokens_in + a->tokens_out;
	}
	for (size_t i = 0; i < a->n_text; i++) {
		struct text *t = text_at(st, a->text[i]);
		if (t == NULL)
			continue;
		t->paid += paid;
		t->refused += is_whole && a->status == 429;
		if (is_whole && a->retry_ns != UINT64_MAX)
			t->not_before_ns = s->now_ns + a->retry_ns;
	}
	if (is_whole && a->retry_is_limit && a->retry_ns != UINT64_MAX)
		st->pause_until_ns = s->now_ns + a->retry_ns;
	if (s->log != NULL)
		log_line(s, c, is_whole ? "sent" : "gone");
}

static void conn_close(struct server *s, struct conn *c)
{
	if (c->fd < 0)
		return;
	settle(s, c, false);
	timer_unset(s, c);
	close(c->fd);
	c->fd = -1;
	s->stats.n_connection--;
	bytes_free(&c->in);
	reply_free(&c->reply);
	free(c->account.text);
	c->account.text = NULL;
	c->dead = s->dead;
	s->dead = c;
}

static void want_out(struct server *s, struct conn *c, bool on)
{
	if (c->wants_out == on)
		return;
	struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
	c->wants_out = on;
	epoll_ctl(s->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void write_stamp(struct server *s, struct conn *c, size_t at)
{
	uint64_t wall = clock_mono() + s->wall_minus_mono_ns;
	for (int digit = 18; digit >= 0; digit--, wall /= 10)
		c->reply.out.p[at + (size_t)digit] = (char)('0' + wall % 10);
}

/* Moves `allowed` to what may be sent now; sets the timer for the rest. */
static void allow(struct server *s, struct conn *c)
{
	struct reply *r = &c->reply;
	while (c->mark < r->n_mark && r->mark[c->mark].at_ns <= s->now_ns) {
		const struct mark *m = &r->mark[c->mark];
		if (m->stamp > 0 && m->stamp + 19 <= m->end)
			write_stamp(s, c, m->stamp);
		if (c->slow_ns > 0 && c->allowed < m->end) {
			c->allowed++;
			timer_set(s, c, s->now_ns + c->slow_ns);
			return;
		}
		c->allowed = m->end;
		c->mark++;
	}
	if (c->mark < r->n_mark)
		timer_set(s, c, r->mark[c->mark].at_ns);
}

/* 1: all that is allowed is out; 0: the socket is full; -1: gone. */
static int send_some(struct conn *c)
{
	struct reply *r = &c->reply;
	uint64_t turn = 0;
	while (c->sent < c->allowed) {
		ssize_t n = send(c->fd, r->out.p + c->sent, c->allowed - c->sent, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		c->sent += (size_t)n;
	}
	while (c->mark == r->n_mark && r->more > 0) {
		size_t part = r->fill.n - c->fill_at;
		part = part < r->more ? part : r->more;
		ssize_t n = turn < FILL_PER_TURN ? send(c->fd, r->fill.p + c->fill_at, part, MSG_NOSIGNAL) : 0;
		if (n <= 0)
			return n == 0 || errno == EAGAIN || errno == EINTR ? 0 : -1;
		c->fill_at = (c->fill_at + (size_t)n) % r->fill.n;
		r->more -= (uint64_t)n;
		turn += (uint64_t)n;
	}
	return 1;
}

static void reset(struct conn *c)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* Sends what may be sent; at its end, what the reply says. */
static void pump(struct server *s, struct conn *c)
{
	struct reply *r = &c->reply;
	allow(s, c);
	if (c->first_ns == 0 && c->allowed > 0)
		c->first_ns = clock_mono();
	int sent = send_some(c);
	if (sent < 0) {
		conn_close(s, c);
		return;
	}
	want_out(s, c, sent == 0);
	if (sent == 0 || c->mark < r->n_mark || (r->end == END_HOLD))
		return;
	settle(s, c, true);
	if (r->end == END_RESET)
		reset(c);
	if (r->end != END_KEEP || c->close_after) {
		conn_close(s, c);
		return;
	}
	c->busy = false;
	reply_clear(r);
}

static void begin(struct server *s, struct conn *c, struct request *r)
{
	struct account *a = &c->account;
	*a = (struct account){.text = a->text, .cap_text = a->cap_text, .retry_ns = UINT64_MAX};
	c->busy = true;
	c->sent = c->allowed = c->mark = c->fill_at = 0;
	c->slow_ns = c->first_ns = 0;
	c->arrive_ns = s->now_ns;
	c->close_after = !r->keep;
	c->told_continue = false;
	serve(s, c, r);
	c->used += r->total;
	c->need = 0;
	pump(s, c);
}

static void refuse(struct server *s, struct conn *c)
{
	struct request r = {.keep = false};
	struct span body = span_of("{\"error\":{\"message\":\"this is no HTTP/1.1 request that the server reads\"}}");
	c->busy = true;
	c->sent = c->allowed = c->mark = 0;
	c->close_after = true;
	c->account.counts = false;
	serve_body(c, &r, 400, "application/json", "", body, 0);
	c->used = c->in.n;
	pump(s, c);
}

static void take_requests(struct server *s, struct conn *c)
{
	struct request r;
	while (c->fd >= 0 && !c->busy && c->in.n > c->used && c->in.n - c->used >= c->need) {
		enum parsed parsed = request_parse(c, &r);
		if (parsed == PARSED_BAD) {
			refuse(s, c);
		} else if (parsed == PARSED_WHOLE) {
			begin(s, c, &r);
		} else {
			if (r.expects && !c->told_continue &&
			    send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL) < 0)
				return;
			c->told_continue = c->told_continue || r.expects;
			break;
		}
	}
	if (c->fd < 0)
		return;
	if (c->used == c->in.n) {
		c->used = c->in.n = 0;
		if (c->in.cap > 1 << 18)
			bytes_free(&c->in);
	} else if (c->used > 0) {
		memmove(c->in.p, c->in.p + c->used, c->in.n - c->used);
		c->in.n -= c->used;
		c->in.p[c->in.n] = 0;
		c->used = 0;
	}
}

/* false: the other end is gone. */
static bool receive(struct conn *c)
{
	for (;;) {
		size_t room = c->need > c->in.n + READ_ROOM ? c->need - c->in.n : READ_ROOM;
		if (c->in.cap - c->in.n <= room)
			bytes_grow(&c->in, room);
		room = c->in.cap - c->in.n - 1;
		ssize_t n = recv(c->fd, c->in.p + c->in.n, room, 0);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		if (n == 0)
			return false;
		c->in.n += (size_t)n;
		c->in.p[c->in.n] = 0;
		if ((size_t)n < room || (c->busy && c->in.n > PIPELINE_MAX))
			return true;
	}
}

void conn_event(struct server *s, struct conn *c, uint32_t events)
{
	if (c->fd < 0)
		return;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		if (!receive(c)) {
			conn_close(s, c);
			return;
		}
	}
	if (c->busy && (events & EPOLLOUT))
		pump(s, c);
	take_requests(s, c);
}

void conn_timer(struct server *s, struct conn *c)
{
	if (c->fd < 0 || !c->busy)
		return;
	pump(s, c);
	take_requests(s, c);
}
