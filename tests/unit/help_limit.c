// SPDX-License-Identifier: Apache-2.0
/* help_limit: see the header. */
#include "help_limit.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define MINUTE (60 * DF_SEC)
#define EVENTS 4096
#define HELD 4

/* ------------------------------------------------------------------ servers */

void server_init(struct server *s)
{
	s->level = (double)s->capacity;
	s->log = calloc(s->per_minute + 2, sizeof(*s->log));
	s->log_weight = calloc(s->per_minute + 2, sizeof(*s->log_weight));
	assert_non_null(s->log);
	assert_non_null(s->log_weight);
}

void server_release(struct server *s)
{
	free(s->log);
	free(s->log_weight);
	s->log = s->log_weight = NULL;
}

static int64_t says(const struct server *s, uint64_t wait_ns)
{
	switch (s->says) {
	case SAYS_EXACTLY:
		return (int64_t)(wait_ns / DF_MS + 1);
	case SAYS_SECONDS:
		return (int64_t)((wait_ns / DF_SEC + 1) * 1000);
	case SAYS_250_MS:
		return 250;
	default:
		return -1;
	}
}

static bool bucket(struct server *s, uint64_t now, uint64_t weight, uint64_t *ret_wait)
{
	double rate = (double)s->per_minute / (double)MINUTE;
	s->level += (double)(now - s->level_at) * rate;
	s->level_at = now;
	if (s->level > (double)s->capacity)
		s->level = (double)s->capacity;
	if (s->level >= (double)weight) {
		s->level -= (double)weight;
		return true;
	}
	*ret_wait = (uint64_t)(((double)weight - s->level) / rate);
	return false;
}

static bool sliding(struct server *s, uint64_t now, uint64_t weight, uint64_t *ret_wait)
{
	uint64_t n = s->per_minute + 2;
	while (s->n_log && s->log[s->first_log] + s->window_ns <= now) {
		s->log_sum -= s->log_weight[s->first_log];
		s->first_log = (s->first_log + 1) % n;
		s->n_log--;
	}
	if (s->log_sum + weight > s->per_minute) {
		*ret_wait = s->log[s->first_log] + s->window_ns - now;
		return false;
	}
	s->log[(s->first_log + s->n_log) % n] = now;
	s->log_weight[(s->first_log + s->n_log) % n] = weight;
	s->n_log++;
	s->log_sum += weight;
	return true;
}

static bool fixed(struct server *s, uint64_t now, uint64_t weight, uint64_t *ret_wait)
{
	uint64_t window = (now + s->offset_ns) / s->window_ns;
	if (window != s->fixed_window) {
		s->fixed_window = window;
		s->fixed_count = 0;
	}
	if (s->fixed_count + weight > s->per_minute) {
		*ret_wait = (window + 1) * s->window_ns - s->offset_ns - now;
		return false;
	}
	s->fixed_count += weight;
	return true;
}

bool server_call(struct server *s, uint64_t now, uint64_t weight, int64_t *ret_retry_ms)
{
	uint64_t wait = 0, counted = s->counts_tokens ? weight : 1;
	struct df_rand chance = df_rand_seeded(&s->seed);
	if (s->noise && chance.next(chance.self) % 1000 < s->noise) {
		*ret_retry_ms = says(s, 0);
		s->n_noise++;
		return false;
	}
	bool ok = s->kind == SERVER_FREE      ? true
		  : s->kind == SERVER_BUCKET  ? bucket(s, now, counted, &wait)
		  : s->kind == SERVER_SLIDING ? sliding(s, now, counted, &wait)
					      : fixed(s, now, counted, &wait);
	*ret_retry_ms = ok ? -1 : says(s, wait);
	s->n_accepted += ok;
	s->weight_accepted += ok ? counted : 0;
	s->n_refused += !ok;
	return ok;
}

/* ------------------------------------------------------------------ processes */

enum event_kind { BEGIN, PAUSE, ASK, SEND, ARRIVE, ANSWER };

struct event {
	uint64_t at, order;
	enum event_kind kind;
	uint32_t process, life;
	struct df_reservation r;
	bool ok;
	int64_t retry_ms;
};

struct heap {
	struct event e[EVENTS];
	size_t n;
	uint64_t order;
};

struct process {
	struct df_limit *l;
	uint32_t life, n_held, n_flying;
	bool asks;
	uint64_t not_before; /* told by a 429 */
};

static bool sooner(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void swap(struct event *a, struct event *b)
{
	struct event t = *a;
	*a = *b;
	*b = t;
}

static void push(struct heap *h, struct event e)
{
	assert_true(h->n < EVENTS);
	e.order = h->order++;
	size_t i = h->n++;
	h->e[i] = e;
	for (; i > 0 && sooner(&h->e[i], &h->e[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&h->e[i], &h->e[(i - 1) / 2]);
}

static struct event pop(struct heap *h)
{
	struct event top = h->e[0];
	h->e[0] = h->e[--h->n];
	for (size_t i = 0, k; (k = 2 * i + 1) < h->n; i = k) {
		if (k + 1 < h->n && sooner(&h->e[k + 1], &h->e[k]))
			k++;
		if (!sooner(&h->e[k], &h->e[i]))
			break;
		swap(&h->e[k], &h->e[i]);
	}
	return top;
}

uint64_t world_boot(void *self)
{
	return ((struct world *)self)->now;
}

uint64_t world_wall(void *self)
{
	const struct world *w = self;
	return w->wall + w->now;
}

static uint64_t dice(struct world *w, uint64_t n)
{
	struct df_rand r = df_rand_seeded(&w->seed);
	return n ? r.next(r.self) % n : 0;
}

static void begin(struct world *w, struct heap *h, struct process *p, uint32_t i)
{
	struct df_fail fail;
	struct df_limit_config c = w->config;
	c.boot_ns = world_boot;
	c.wall_ns = world_wall;
	c.self = w;
	if (df_limit_open(&c, &p->l, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	p->life++;
	p->n_held = p->n_flying = 0;
	p->asks = true;
	push(h, (struct event){.at = w->now + dice(w, DF_SEC), .kind = ASK, .process = i, .life = p->life});
}

/* As an engine does: places for the calls that wait, until there is none near enough. */
static void ask(struct world *w, struct heap *h, struct process *p, const struct event *e)
{
	struct event next = *e;
	struct df_fail fail;
	while (p->n_held < HELD && (!w->in_flight || p->n_held + p->n_flying < w->in_flight)) {
		w->n_asks++;
		uint64_t tokens = w->tokens_min + dice(w, w->tokens_max - w->tokens_min + 1);
		enum df_err err = df_limit_reserve(p->l, tokens, &next.r, &fail);
		if (err == DF_ERR_AGAIN) {
			assert_true(next.r.at_boot_ns > w->now);
			next.kind = ASK;
			next.at = next.r.at_boot_ns + dice(w, w->jitter_ns);
			push(h, next);
			return;
		}
		if (err != DF_OK)
			fail_msg("%s", fail.msg);
		assert_true(next.r.at_boot_ns >= w->now && next.r.at_boot_ns <= w->now + DF_LIMIT_AHEAD_NS);
		next.kind = SEND;
		next.at = next.r.at_boot_ns + dice(w, w->jitter_ns);
		push(h, next);
		p->n_held++;
	}
	p->asks = false;
}

static void ask_soon(struct world *w, struct heap *h, struct process *p, const struct event *e)
{
	struct event next = *e;
	if (p->asks)
		return;
	p->asks = true;
	next.kind = ASK;
	next.at = w->now;
	push(h, next);
}

static void send_it(struct world *w, struct heap *h, struct process *p, const struct event *e)
{
	struct event next = *e;
	p->n_held--;
	if (df_limit_valid(p->l, &e->r)) {
		w->n_early += w->now < p->not_before;
		w->n_sent++;
		p->n_flying++;
		next.kind = ARRIVE;
		next.at = w->now + w->latency_ns / 4 + dice(w, w->latency_ns / 2);
		push(h, next);
	} else {
		df_limit_cancel(p->l, &e->r);
	}
	ask_soon(w, h, p, e);
}

static void pause_all(struct world *w, struct heap *h, struct process *p)
{
	uint64_t again = w->now + dice(w, 2 * MINUTE);
	for (uint32_t i = 0; i < w->n_process; i++) {
		df_limit_close(&p[i].l);
		p[i].life++;
		push(h, (struct event){.at = again, .kind = BEGIN, .process = i});
	}
	push(h, (struct event){.at = again + w->pause_every_ns, .kind = PAUSE});
}

static void step(struct world *w, struct heap *h, struct process *p, struct event *e)
{
	struct process *mine = &p[e->process];
	if (e->kind == ARRIVE) {
		e->ok = server_call(w->server, w->now, e->r.tokens, &e->retry_ms);
		e->kind = ANSWER;
		e->at = w->now + w->latency_ns / 4 + dice(w, w->latency_ns / 2);
		push(h, *e);
	} else if (e->kind == BEGIN) {
		begin(w, h, mine, e->process);
	} else if (e->kind == PAUSE) {
		pause_all(w, h, p);
	} else if (e->life != mine->life) {
		return; /* its process has ended */
	} else if (e->kind == ASK) {
		ask(w, h, mine, e);
	} else if (e->kind == SEND) {
		send_it(w, h, mine, e);
	} else if (!e->ok) {
		mine->n_flying--;
		bool for_all = df_limit_push(mine->l, &e->r, NULL, e->retry_ms);
		w->n_alone += !for_all;
		ask_soon(w, h, mine, e);
		if (!for_all)
			return;
		for (uint32_t i = 0; e->retry_ms > 0 && i < w->n_process; i++) {
			uint64_t until = w->now + (uint64_t)e->retry_ms * DF_MS;
			p[i].not_before = until > p[i].not_before ? until : p[i].not_before;
		}
	} else {
		mine->n_flying--;
		df_limit_settle(mine->l, &e->r, e->r.tokens);
		ask_soon(w, h, mine, e);
	}
}

void world_run(struct world *w, uint64_t duration_ns)
{
	struct heap *h = calloc(1, sizeof(*h));
	struct process *p = calloc(w->n_process, sizeof(*p));
	assert_non_null(h);
	assert_non_null(p);
	uint64_t end = w->now + duration_ns;
	for (uint32_t i = 0; i < w->n_process; i++)
		begin(w, h, &p[i], i);
	if (w->pause_every_ns)
		push(h, (struct event){.at = w->now + w->pause_every_ns, .kind = PAUSE});
	while (h->n) {
		struct event e = pop(h);
		if (e.at >= end)
			break;
		w->now = e.at;
		step(w, h, p, &e);
	}
	w->now = end;
	for (uint32_t i = 0; i < w->n_process; i++)
		df_limit_close(&p[i].l);
	free(p);
	free(h);
}

/* ------------------------------------------------------------------ folders */

const char *limit_dir_make(void)
{
	char *dir = strdup("/tmp/df-limit-XXXXXX");
	assert_non_null(dir);
	assert_non_null(mkdtemp(dir));
	return dir;
}

void limit_dir_remove(const char *dir)
{
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));)
		(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		(void)closedir(d);
	(void)rmdir(dir);
	free((void *)dir);
}
