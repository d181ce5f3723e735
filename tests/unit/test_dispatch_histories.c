// SPDX-License-Identifier: Apache-2.0
/*
 * Dispatch under thousands of random histories: workers answer, fail, are slow, crash and are killed; inputs break; order is kept or not;
 * what is late is done twice. An oracle holds for each cell that it is exactly one of pending, out (with one lease or with two
 * twins), done, or given up with its input, and compares after every step what the dispatch counts.
 *
 * DF_DISPATCH_HISTORIES: how many (default 4000). A failure prints its seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "coordinator/dispatch/dispatch_core.h"

#define CELL 100U
#define N_SOURCE 4
#define N_CELL 40 /* of one source, at most */
#define N_OUT 512 /* leases of one history that are not over */
#define BLOB_BYTES 60U

enum fate { PENDING, OUT, DONE, GIVEN_UP };

struct cell {
	enum fate fate;
	uint32_t holders;    /* leases that are out and not void */
	bool given, suspect; /* readers: it arrived; a crash named it */
	bool taken, written; /* at the sink */
	bool charged;        /* to the window */
};

struct out {
	uint64_t id, lane;
	uint32_t flags;
	struct df_cells cells[64];
	size_t n_cells;
	uint64_t n_blob;
	bool is_void, lane_gone;
	struct out *twin;
};

/* What the sink told, in order. */
struct note {
	enum { SEEN, FAILED, FENCED, WRITTEN } type;
	uint64_t lane, lease;
	bool source_error;
	struct df_cells cells;
	struct df_blame blame;
};

struct worker {
	uint64_t lane;
	bool slow, dead;
};

struct history {
	uint64_t seed, state, now_ns;
	struct df_grid grid;
	struct df_dispatch *d;
	struct cell cell[N_SOURCE][N_CELL];
	uint64_t n_cell[N_SOURCE];
	struct out *out[N_OUT];
	size_t n_out;
	struct note note[4096];
	size_t n_note, at_note;
	struct worker worker[5];
	uint64_t next_lane;
	bool ordered, calm;
	uint32_t cursor_source;
	uint64_t cursor_cell, n_doubled, n_alone;
};

#define REQUIRE(h, cond)                                                                                               \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			fail_msg("seed %llu: %s", (unsigned long long)(h)->seed, #cond);                               \
	} while (0)

static uint64_t roll(struct history *h, uint64_t n)
{
	h->state += 0x9e3779b97f4a7c15U;
	uint64_t z = h->state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return (z ^ (z >> 31)) % n;
}

static bool once_in(struct history *h, uint64_t n)
{
	return roll(h, n) == 0;
}

static struct cell *cell_at(struct history *h, struct df_cells c, uint64_t k)
{
	REQUIRE(h, c.source < N_SOURCE && c.first + k < h->n_cell[c.source]);
	return &h->cell[c.source][c.first + k];
}

/* ------------------------------------------------------------------ the beginning */

static void set_up(struct history *h, uint64_t seed)
{
	*h = (struct history){.seed = seed, .state = seed, .next_lane = 1};
	h->ordered = once_in(h, 2);
	assert_int_equal(df_grid_init(&h->grid, CELL), DF_OK);
	for (uint32_t i = 0; i < N_SOURCE; i++) {
		enum df_source_kind kind = once_in(h, 3)   ? DF_SOURCE_READER
					   : once_in(h, 5) ? DF_SOURCE_TEXT
							   : DF_SOURCE_JSONL;
		h->n_cell[i] = kind == DF_SOURCE_TEXT ? 1 : 1 + roll(h, N_CELL);
		uint64_t bytes = kind == DF_SOURCE_READER ? 0 : h->n_cell[i] * CELL - roll(h, CELL / 2);
		assert_int_equal(df_grid_add(&h->grid, kind, bytes), DF_OK);
	}
	struct df_dispatch_config config = {.grid = &h->grid,
					    .target_ns = 100 * DF_MS,
					    .lease_bytes_max = (1 + roll(h, 12)) * CELL,
					    .credits = 2,
					    .window_bytes = h->ordered ? (2 + roll(h, 40)) * CELL : 0,
					    .n_lane_hint = 3,
					    .tail_redo = !once_in(h, 5)};
	assert_int_equal(df_dispatch_create(&config, &h->d), DF_OK);
}

static void tear_down(struct history *h)
{
	for (size_t i = 0; i < h->n_out; i++)
		free(h->out[i]);
	df_dispatch_destroy(&h->d);
	df_grid_release(&h->grid);
}

/* ------------------------------------------------------------------ what a lease may be */

static bool same_cells(const struct out *a, const struct out *b)
{
	return a->n_cells == b->n_cells && memcmp(a->cells, b->cells, a->n_cells * sizeof(a->cells[0])) == 0;
}

static uint32_t held_by(const struct history *h, uint64_t lane)
{
	uint32_t n = 0;
	for (size_t i = 0; i < h->n_out; i++)
		n += h->out[i]->lane == lane;
	return n;
}

static struct out *twin_of(struct history *h, const struct out *o)
{
	struct cell *first = cell_at(h, o->cells[0], 0);
	if (first->holders == 0)
		return NULL;
	for (size_t i = 0; i < h->n_out; i++)
		if (!h->out[i]->is_void && same_cells(h->out[i], o))
			return h->out[i];
	fail_msg("seed %llu: a cell that is out is leased with others", (unsigned long long)h->seed);
	return NULL;
}

static void check_new(struct history *h, struct out *o)
{
	uint32_t held = held_by(h, o->lane);
	o->twin = twin_of(h, o);
	if (o->twin) {
		REQUIRE(h, h->d->config.tail_redo && !o->twin->twin && o->twin->lane != o->lane && held == 0);
		REQUIRE(h, !(o->flags & DF_LEASE_ALONE));
		o->twin->twin = o;
	}
	REQUIRE(h, held < (o->flags & DF_LEASE_REDO ? 4 : 2));
	if (o->flags & DF_LEASE_ALONE)
		REQUIRE(h, held == 0 && o->n_cells == 1 && o->cells[0].n == 1);
	for (size_t i = 0; i < h->n_out; i++)
		REQUIRE(h, h->out[i]->lane != o->lane || !(h->out[i]->flags & DF_LEASE_ALONE));
	for (size_t i = 0; i < o->n_cells; i++)
		for (uint64_t k = 0; k < o->cells[i].n; k++) {
			struct cell *c = cell_at(h, o->cells[i], k);
			REQUIRE(h, c->fate == (o->twin ? OUT : PENDING));
			REQUIRE(h, c->holders == (o->twin ? 1 : 0));
			REQUIRE(h, !c->suspect || (o->flags & DF_LEASE_ALONE));
			REQUIRE(h, c->given || h->grid.source[o->cells[i].source].kind != DF_SOURCE_READER);
			REQUIRE(h, !h->ordered || o->flags & DF_LEASE_REDO || o->twin || !c->charged);
			c->fate = OUT;
			c->holders++;
			c->charged = true;
		}
	REQUIRE(h, !h->ordered || !(o->flags & DF_LEASE_REDO) || o->n_cells == 1);
}

static void feed(struct history *h, const struct worker *w)
{
	const struct df_lease *l = NULL;
	while (h->n_out < N_OUT) {
		enum df_err err = df_dispatch_next(h->d, w->lane, h->now_ns, &l);
		if (err == DF_ERR_AGAIN)
			return;
		REQUIRE(h, err == DF_OK && l->n_cells <= 64);
		struct out *o = calloc(1, sizeof(*o));
		*o = (struct out){.id = l->id, .lane = l->lane, .flags = l->flags, .n_cells = l->n_cells};
		memcpy(o->cells, l->cells, l->n_cells * sizeof(o->cells[0]));
		uint64_t readers = 0;
		for (size_t i = 0; i < l->n_cells; i++)
			if (h->grid.source[l->cells[i].source].kind == DF_SOURCE_READER)
				readers += l->cells[i].n;
		REQUIRE(h, l->n_blob == readers);
		h->n_alone += (l->flags & DF_LEASE_ALONE) != 0;
		check_new(h, o);
		h->out[h->n_out++] = o;
	}
}

/* ------------------------------------------------------------------ the sink, and what it tells */

static void tell(struct history *h, struct note n)
{
	REQUIRE(h, h->n_note < sizeof(h->note) / sizeof(h->note[0]));
	h->note[h->n_note++] = n;
}

static bool is_written(struct history *h, uint32_t source, uint64_t cell)
{
	const struct cell *c = &h->cell[source][cell];
	return c->written || (h->grid.source[source].failed && !c->taken);
}

/* In order, as far as it goes. */
static void write_out(struct history *h)
{
	while (h->cursor_source < N_SOURCE) {
		uint32_t s = h->cursor_source;
		if (h->cursor_cell == h->n_cell[s]) {
			h->cursor_source++;
			h->cursor_cell = 0;
			continue;
		}
		struct cell *c = &h->cell[s][h->cursor_cell];
		if (!c->taken && !h->grid.source[s].failed)
			return;
		if (!c->taken && df_dispatch_source_out(h->d, s))
			return; /* as the closing of a source does */
		if (!is_written(h, s, h->cursor_cell)) {
			c->written = true;
			tell(h, (struct note){.type = WRITTEN, .cells = {s, h->cursor_cell, 1}});
		}
		h->cursor_cell++;
	}
}

/* A whole result has arrived: all of its cells are taken now, or all were before. */
static void take(struct history *h, const struct out *o)
{
	uint64_t n = 0, taken = 0;
	for (size_t i = 0; i < o->n_cells; i++)
		for (uint64_t k = 0; k < o->cells[i].n; k++, n++) {
			struct cell *c = cell_at(h, o->cells[i], k);
			taken += c->taken;
			c->taken = true;
		}
	REQUIRE(h, taken == 0 || taken == n);
	h->n_doubled += taken != 0;
	tell(h, (struct note){.type = SEEN, .lane = o->lane, .lease = o->id});
	if (h->ordered)
		write_out(h);
}

static struct out *first_of(struct history *h, uint64_t lane)
{
	struct out *head = NULL;
	for (size_t i = 0; i < h->n_out; i++)
		if (h->out[i]->lane == lane && !h->out[i]->lane_gone && (!head || h->out[i]->id < head->id))
			head = h->out[i];
	return head;
}

/* Each lane answers in order; `lane_gone` marks what was answered already, too. */
static void answer(struct history *h, const struct worker *w)
{
	struct out *o = first_of(h, w->lane);
	if (!o)
		return;
	o->lane_gone = true;
	if (!h->calm && once_in(h, 25))
		tell(h, (struct note){.type = FAILED,
				      .lane = o->lane,
				      .lease = o->id,
				      .source_error = once_in(h, 3),
				      .cells = o->cells[0]});
	else
		take(h, o);
}

static void die(struct history *h, struct worker *w)
{
	const struct out *o = first_of(h, w->lane);
	struct note n = {.type = FENCED, .lane = w->lane};
	n.blame.cause = once_in(h, 2) ? DF_CAUSE_SIGNAL : DF_CAUSE_STRANGER;
	n.blame.computing = o && !once_in(h, 4);
	if (o) {
		n.blame.lease = o->id;
		n.blame.alone = (o->flags & DF_LEASE_ALONE) && !once_in(h, 4);
		n.blame.record = (struct df_record_id){o->cells[0].source, o->cells[0].first * CELL};
	}
	w->dead = true;
	for (size_t i = 0; i < h->n_out; i++)
		h->out[i]->lane_gone = h->out[i]->lane_gone || h->out[i]->lane == w->lane;
	df_dispatch_lost(h->d, w->lane, h->now_ns);
	tell(h, n);
}

/* ------------------------------------------------------------------ what that means, by the oracle and by the dispatch */

static void forget(struct history *h, size_t at)
{
	if (h->out[at]->twin)
		h->out[at]->twin->twin = NULL;
	free(h->out[at]);
	h->out[at] = h->out[--h->n_out];
}

static size_t find(const struct history *h, uint64_t lane, uint64_t lease)
{
	size_t i = 0;
	while (i < h->n_out && (h->out[i]->lane != lane || h->out[i]->id != lease))
		i++;
	return i;
}

static void give_up(struct cell *c)
{
	c->fate = GIVEN_UP;
	c->charged = false;
}

/* The lease is over without a result. */
static void let_go(struct history *h, struct out *o, bool crashed)
{
	for (size_t i = 0; i < o->n_cells && !o->is_void; i++)
		for (uint64_t k = 0; k < o->cells[i].n; k++) {
			struct cell *c = cell_at(h, o->cells[i], k);
			c->suspect = c->suspect || crashed;
			if (--c->holders)
				continue;
			c->fate = PENDING;
			if (h->grid.source[o->cells[i].source].failed)
				give_up(c);
		}
}

static void on_seen(struct history *h, const struct note *n)
{
	size_t at = find(h, n->lane, n->lease);
	REQUIRE(h, at < h->n_out);
	struct out *o = h->out[at];
	for (size_t i = 0; i < o->n_cells && !o->is_void; i++)
		for (uint64_t k = 0; k < o->cells[i].n; k++) {
			struct cell *c = cell_at(h, o->cells[i], k);
			REQUIRE(h, c->fate == OUT);
			c->fate = DONE;
			c->holders = 0;
		}
	if (o->twin)
		o->twin->is_void = true;
	df_dispatch_seen(h->d, n->lane, n->lease, (1 + roll(h, 50)) * DF_MS);
	forget(h, at);
}

static void fail_source(struct history *h, uint32_t source)
{
	df_grid_fail(&h->grid, source);
	df_dispatch_drop_source(h->d, source);
	for (uint64_t k = 0; k < h->n_cell[source]; k++)
		if (h->cell[source][k].fate == PENDING)
			give_up(&h->cell[source][k]);
}

static void on_failed(struct history *h, const struct note *n)
{
	uint32_t attempts = 0, source = n->cells.source;
	size_t at = find(h, n->lane, n->lease);
	REQUIRE(h, at < h->n_out);
	struct out *o = h->out[at];
	bool was_void = df_dispatch_drop_void(h->d, n->lane, n->lease);
	REQUIRE(h, was_void == o->is_void);
	if (!was_void) {
		bool twin = o->twin != NULL, broken = n->source_error;
		broken = broken && h->grid.source[source].kind != DF_SOURCE_READER;
		if (broken && !h->grid.source[source].failed)
			fail_source(h, source);
		assert_int_equal(df_dispatch_failed(h->d, n->lane, n->lease, !broken, &attempts), DF_OK);
		REQUIRE(h, !twin || attempts == 0);
		let_go(h, o, false);
	}
	forget(h, at);
}

static void on_fenced(struct history *h, const struct note *n)
{
	struct df_strike strike;
	bool may_strike = false;
	for (size_t i = 0; i < h->n_out;) {
		struct out *o = h->out[i];
		if (o->lane != n->lane) {
			i++;
			continue;
		}
		bool blamed = n->blame.computing && n->blame.lease == o->id && n->blame.cause == DF_CAUSE_SIGNAL;
		may_strike = may_strike || (blamed && !o->is_void && n->blame.alone);
		let_go(h, o, blamed);
		forget(h, i);
	}
	assert_int_equal(df_dispatch_retire(h->d, n->lane, &n->blame, &strike), DF_OK);
	REQUIRE(h, (strike.n != 0) == may_strike);
	for (size_t i = 0; i < 5; i++)
		if (h->worker[i].lane == n->lane)
			h->worker[i].lane = 0;
}

static void hear(struct history *h)
{
	struct note n = h->note[h->at_note++];
	switch (n.type) {
	case SEEN:
		on_seen(h, &n);
		break;
	case FAILED:
		on_failed(h, &n);
		break;
	case FENCED:
		on_fenced(h, &n);
		break;
	case WRITTEN:
		df_dispatch_written(h->d, n.cells);
		cell_at(h, n.cells, 0)->charged = false;
		break;
	}
	if (h->ordered)
		write_out(h); /* a source that failed may be closed now */
	if (h->at_note == h->n_note)
		h->at_note = h->n_note = 0;
}

/* ------------------------------------------------------------------ steps */

static void spawn(struct history *h, struct worker *w)
{
	*w = (struct worker){.lane = h->next_lane++, .slow = !h->calm && once_in(h, 3)};
	assert_int_equal(df_dispatch_add_lane(h->d, w->lane), DF_OK);
}

static void deliver(struct history *h)
{
	uint32_t s = (uint32_t)roll(h, N_SOURCE);
	uint64_t k = 0;
	if (h->ordered) /* readers wait for their turn */
		s = df_dispatch_turn(h->d);
	if (s >= N_SOURCE || h->grid.source[s].kind != DF_SOURCE_READER || h->grid.source[s].ended)
		return;
	while (k < h->n_cell[s] && h->cell[s][k].given)
		k++;
	if (k == h->n_cell[s]) {
		df_grid_end(&h->grid, s, k);
		return;
	}
	struct df_blob *blob = df_blob_create(BLOB_BYTES);
	assert_int_equal(df_dispatch_cell(h->d, s, k, blob), DF_OK);
	h->cell[s][k].given = true;
}

static void step(struct history *h)
{
	struct worker *w = &h->worker[roll(h, h->calm ? 5 : 4)];
	h->now_ns += roll(h, 30) * DF_MS;
	if (h->at_note < h->n_note && once_in(h, 2)) {
		hear(h);
		return;
	}
	deliver(h);
	if (!w->lane)
		spawn(h, w);
	if (w->dead)
		return;
	if (!h->calm && once_in(h, w->slow ? 60 : 40))
		die(h, w);
	else if (once_in(h, w->slow ? 40 : 2))
		answer(h, w);
	for (size_t i = 0; i < 5; i++)
		if (h->worker[i].lane && !h->worker[i].dead)
			feed(h, &h->worker[i]);
}

static void compare(struct history *h)
{
	uint64_t live = 0, pending = 0, window = 0, bytes = 0;
	for (size_t i = 0; i < h->n_out; i++)
		live += !h->out[i]->is_void;
	for (uint32_t s = 0; s < N_SOURCE; s++) {
		bool reader = h->grid.source[s].kind == DF_SOURCE_READER, out = false;
		for (uint64_t k = 0; k < h->n_cell[s]; k++) {
			const struct cell *c = &h->cell[s][k];
			bool there = c->given || !reader;
			out = out || c->fate == OUT;
			pending += there && c->fate == PENDING;
			bytes += reader && c->given && (c->fate == PENDING || c->fate == OUT) ? BLOB_BYTES : 0;
			window += c->charged ? df_dispatch_bytes(h->d, (struct df_cells){s, k, 1}) : 0;
		}
		REQUIRE(h, df_dispatch_source_out(h->d, s) == out);
	}
	REQUIRE(h, df_dispatch_n_leased(h->d) == live);
	REQUIRE(h, df_dispatch_idle(h->d) == (live == 0 && pending == 0));
	REQUIRE(h, df_dispatch_reader_bytes(h->d) == bytes);
	REQUIRE(h, !h->ordered || h->d->window_used == window);
}

static bool over(struct history *h)
{
	for (uint32_t s = 0; s < N_SOURCE; s++)
		for (uint64_t k = 0; k < h->n_cell[s]; k++)
			if (h->cell[s][k].fate == PENDING || h->cell[s][k].fate == OUT)
				return false;
	return true;
}

static void test_dispatch__each_cell_is_pending_or_out_or_done_in_every_history(void **state)
{
	const char *env = getenv("DF_DISPATCH_HISTORIES");
	uint64_t n = env ? strtoull(env, NULL, 10) : 4000, twins = 0, doubled = 0, alone = 0;
	struct history *h = malloc(sizeof(*h));
	(void)state;
	for (uint64_t seed = 1; seed <= n; seed++) {
		set_up(h, seed);
		uint64_t steps = 0, faulty = 200 + roll(h, 2000);
		for (; !over(h); steps++) {
			REQUIRE(h, steps < faulty + 200000);
			h->calm = steps >= faulty;
			step(h);
			compare(h);
		}
		while (h->at_note < h->n_note)
			hear(h);
		REQUIRE(h, df_dispatch_idle(h->d) && df_dispatch_n_leased(h->d) == 0);
		twins += df_dispatch_n_twin(h->d);
		doubled += h->n_doubled;
		alone += h->n_alone;
		tear_down(h);
	}
	free(h);
	print_message("%llu histories: %llu twins, %llu results came second, %llu suspects alone\n",
		      (unsigned long long)n, (unsigned long long)twins, (unsigned long long)doubled,
		      (unsigned long long)alone);
	assert_true(twins > n / 4 && doubled > n / 20 && alone > n / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch__each_cell_is_pending_or_out_or_done_in_every_history),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
