// SPDX-License-Identifier: Apache-2.0
/*
 * control: peers come and go, leases flow, sources end.
 *
 * DESIGN. Every call ends in step(): assign sources to idle readers, give reader credits, feed workers, and see whether the run
 * is over. Nothing else decides. A lane's death is handled in two moves: on_exit() asks the sink to fence it; the FENCED event
 * puts its leases back and spawns a successor. Between the two the peer is FENCING and gets nothing.
 */
#include "coordinator/control.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/intake.h"
#include "coordinator/peers.h"

struct df_control {
	struct df_control_config config;
	struct df_dispatch *dispatch;
	struct df_intake *intake;
	struct df_peers peers;
	uint32_t next_lane;
	uint32_t barren; /* workers that died in a row without finishing a lease */
	bool stopping, finishing, sink_over;
	bool complete; /* the sink was told so */
	uint64_t stop_deadline_ns;
	uint64_t tick_ns; /* the last tick; 0: none yet */
	enum df_outcome outcome;
	struct df_fail fail;
	struct df_control_stats stats;
	struct df_arena scratch;
	bool retry_soon;                 /* a send met a full or unconnected lane */
	struct df_source_state *closing; /* plain sources that failed while leases still have cells of them */
	size_t n_closing, cap_closing;
};

static void fail_run(struct df_control *c, const struct df_fail *fail)
{
	if (c->outcome != DF_OUTCOME_RUNNING)
		return;
	c->outcome = DF_OUTCOME_FAILED;
	c->fail = *fail;
}

static bool check(struct df_control *c, enum df_err err, const char *what)
{
	struct df_fail fail;
	if (err == DF_OK)
		return true;
	(void)df_fail(&fail, err, "the coordinator cannot %s: %s", what, df_err_name(err));
	fail_run(c, &fail);
	return false;
}

/* ------------------------------------------------------------------ life */

enum df_err df_control_create(const struct df_control_config *config, const struct df_recovered *recovered,
			      struct df_control **ret_control)
{
	struct df_control *c = calloc(1, sizeof(*c));
	if (!c)
		return DF_ERR_NOMEM;
	c->config = *config;
	df_arena_init(&c->scratch, 64U << 20, 1U << 20);
	struct df_dispatch_config d = {
		.grid = config->grid,
		.target_ns = DF_LEASE_TARGET_MS * DF_MS,
		.lease_bytes_max = config->lease_bytes_max ? config->lease_bytes_max : DF_LEASE_BYTES_MAX,
		.credits = DF_LANE_CREDITS,
		.window_bytes = config->ordered ? DF_ORDER_WINDOW_BYTES : 0,
		.n_lane_hint = config->n_worker,
	};
	enum df_err err = df_dispatch_create(&d, &c->dispatch);
	if (err == DF_OK)
		err = df_intake_create(&c->config, c->dispatch, recovered, &c->intake);
	for (size_t i = 0; err == DF_OK && i < recovered->n_strike; i++)
		err = df_dispatch_add_strike(c->dispatch, &recovered->strike[i]);
	for (size_t i = 0; i < recovered->n_source; i++) /* of readers: the intake tells */
		c->stats.source_errors += recovered->source[i].err != DF_OK &&
					  config->grid->source[recovered->source[i].source].kind != DF_SOURCE_READER;
	for (uint32_t i = 0; i < config->grid->n_source; i++)
		if (config->grid->source[i].kind != DF_SOURCE_READER)
			c->stats.bytes_total += config->grid->source[i].size_bytes;
	if (err != DF_OK) {
		df_control_destroy(&c);
		return err;
	}
	*ret_control = c;
	return DF_OK;
}

void df_control_destroy(struct df_control **control)
{
	struct df_control *c = *control;
	if (!c)
		return;
	df_intake_destroy(&c->intake);
	df_dispatch_destroy(&c->dispatch);
	df_peers_release(&c->peers);
	df_arena_release(&c->scratch);
	for (size_t i = 0; i < c->n_closing; i++)
		free((char *)(uintptr_t)c->closing[i].message.p);
	free(c->closing);
	free(c);
	*control = NULL;
}

static void order(struct df_control *c, struct df_order o)
{
	c->config.effects.order(c->config.effects.self, &o);
}

static void spawn(struct df_control *c, enum df_role role, uint64_t now_ns)
{
	struct df_fail fail;
	uint64_t lane = df_lane_id(c->config.epoch, ++c->next_lane);
	if (c->next_lane >= 1U << 20) {
		(void)df_fail(
			&fail, DF_ERR_LIMIT,
			"a million workers were started in one life of the coordinator; start the same command again");
		fail_run(c, &fail);
		return;
	}
	if (!check(c, df_peers_add(&c->peers, lane, role, now_ns), "add a lane"))
		return;
	order(c, (struct df_order){.type = DF_ORDER_LANE, .lane = lane});
	if (c->config.effects.spawn(c->config.effects.self, role, lane, &fail) != DF_OK)
		fail_run(c, &fail);
}

static void step(struct df_control *c, uint64_t now_ns);

void df_control_start(struct df_control *c, uint64_t now_ns)
{
	uint32_t n_reader = df_intake_readers_wanted(c->intake);
	bool work = !df_dispatch_idle(c->dispatch) || n_reader;
	for (uint32_t i = 0; i < n_reader && c->outcome == DF_OUTCOME_RUNNING; i++)
		spawn(c, DF_ROLE_READER, now_ns);
	for (uint32_t i = 0; work && i < c->config.n_worker && c->outcome == DF_OUTCOME_RUNNING; i++)
		spawn(c, DF_ROLE_WORKER, now_ns);
	step(c, now_ns);
}

/* ------------------------------------------------------------------ feeding workers */

static void fill_segment(struct df_control *c, struct df_cells cells, struct df_segment *seg)
{
	const struct df_source *src = &c->config.dataset->source[cells.source];
	const struct df_grid_source *g = &c->config.grid->source[cells.source];
	*seg = (struct df_segment){
		.cells = cells,
		.kind = g->kind,
		.cell_bytes = c->config.grid->cell_bytes,
		.path = g->kind == DF_SOURCE_READER ? DF_STR("") : df_str_from(src->path),
		.name = df_str_from(strcmp(src->path, "-") == 0 ? "stdin" : src->name),
		.id = src->id,
	};
	if (g->kind != DF_SOURCE_READER)
		df_grid_bytes(c->config.grid, cells, &seg->start, &seg->end);
}

static enum df_err send_lease(struct df_control *c, const struct df_lease *lease)
{
	df_arena_reset(&c->scratch);
	struct df_msg msg = {.type = DF_MSG_LEASE, .epoch = c->config.epoch, .lane = lease->lane, .lease = lease->id};
	struct df_lease_msg *m = &msg.lease_msg;
	m->flags = lease->flags;
	m->segment = df_arena_array(&c->scratch, lease->n_cells, sizeof(*m->segment));
	m->poison = df_arena_array(&c->scratch, DF_POISON_PER_LEASE, sizeof(*m->poison));
	if (!m->segment || !m->poison)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < lease->n_cells; i++)
		fill_segment(c, lease->cells[i], &m->segment[i]);
	m->n_segment = lease->n_cells;
	m->n_poison = df_dispatch_poison(c->dispatch, lease, m->poison);
	return c->config.effects.send(c->config.effects.self, lease->lane, &msg, lease->blob, lease->n_blob);
}

static void feed(struct df_control *c, struct df_peer *p, uint64_t now_ns)
{
	while (c->outcome == DF_OUTCOME_RUNNING) {
		if (!p->unsent && !c->stopping) {
			enum df_err err = df_dispatch_next(c->dispatch, p->lane, now_ns, &p->unsent);
			if (err != DF_ERR_AGAIN && !check(c, err, "make a lease"))
				return;
		}
		if (!p->unsent)
			return;
		enum df_err err = send_lease(c, p->unsent);
		if (err == DF_ERR_AGAIN) {
			c->retry_soon = true;
			return;
		}
		if (!check(c, err, "send a lease"))
			return;
		p->n_leased++;
		c->stats.leases++;
		c->stats.redone += (p->unsent->flags & DF_LEASE_REDO) != 0;
		p->unsent = NULL;
	}
}

/* ------------------------------------------------------------------ the end */

static bool work_left(const struct df_control *c)
{
	if (c->stopping)
		return df_dispatch_n_leased(c->dispatch) != 0;
	return !df_dispatch_idle(c->dispatch) || !df_intake_ended(c->intake);
}

static void finish(struct df_control *c)
{
	c->complete = df_intake_ended(c->intake) && df_dispatch_idle(c->dispatch);
	c->finishing = true;
	order(c, (struct df_order){.type = DF_ORDER_FINISH, .n = c->complete});
}

/* The sink hears of a failed source when no result with its cells can follow: from then on, in order, it passes over
 * what is missing. */
static void close_sources(struct df_control *c)
{
	for (size_t i = 0; i < c->n_closing;) {
		if (df_dispatch_source_out(c->dispatch, c->closing[i].source)) {
			i++;
			continue;
		}
		order(c, (struct df_order){.type = DF_ORDER_SOURCE, .source = c->closing[i]});
		c->closing[i] = c->closing[--c->n_closing];
	}
}

/* Workers before readers: with an order kept, a lease may be what passes the turn to the next reader's source. */
static void feed_all(struct df_control *c, uint64_t now_ns)
{
	for (size_t i = 0; i < c->peers.n; i++) {
		struct df_peer *p = &c->peers.item[i];
		if (p->state == DF_PEER_READY && p->role == DF_ROLE_WORKER)
			feed(c, p, now_ns);
	}
	for (size_t i = 0; i < c->peers.n && !c->stopping; i++) {
		struct df_peer *p = &c->peers.item[i];
		if (p->state != DF_PEER_READY || p->role != DF_ROLE_READER)
			continue;
		enum df_err err = df_intake_feed(c->intake, p->lane);
		if (err == DF_ERR_AGAIN)
			c->retry_soon = true;
		else if (!check(c, err, "give a reader work"))
			return;
	}
}

static void step(struct df_control *c, uint64_t now_ns)
{
	struct df_fail fail = {0};
	c->retry_soon = false;
	if (c->outcome != DF_OUTCOME_RUNNING || c->finishing)
		return;
	close_sources(c);
	feed_all(c, now_ns);
	if (df_intake_failed(c->intake, &fail))
		fail_run(c, &fail);
	if (c->outcome == DF_OUTCOME_RUNNING && (!work_left(c) || (c->stopping && now_ns >= c->stop_deadline_ns)))
		finish(c);
}

/* Ticks come many times a second. A gap means that this process stood still (Ctrl-Z, a frozen group), and then its peers
 * mostly did so too: nobody's silence counts while nobody listened. */
static void excuse_peers(struct df_control *c, uint64_t now_ns)
{
	if (c->tick_ns && now_ns > c->tick_ns + DF_SILENT_MS * DF_MS / 4)
		for (size_t i = 0; i < c->peers.n; i++)
			c->peers.item[i].heard_ns = now_ns;
	c->tick_ns = now_ns;
}

void df_control_tick(struct df_control *c, uint64_t now_ns)
{
	excuse_peers(c, now_ns);
	for (size_t i = 0; i < c->peers.n; i++) {
		struct df_peer *p = &c->peers.item[i];
		bool silent = p->state == DF_PEER_READY && now_ns > p->heard_ns + DF_SILENT_MS * DF_MS;
		bool late = p->state == DF_PEER_STARTING && now_ns > p->heard_ns + 6 * DF_SILENT_MS * DF_MS;
		if (!silent && !late)
			continue;
		df_warn("%s %u has been silent for %d s; replacing it", df_peer_word(p->role),
			(unsigned)(p->lane & 0xfffff), (silent ? 1 : 6) * DF_SILENT_MS / 1000);
		p->heard_ns = now_ns;
		c->config.effects.kill(c->config.effects.self, p->lane, SIGKILL); /* on_exit does the rest */
	}
	step(c, now_ns);
}

void df_control_stop(struct df_control *c, const char *reason, uint64_t now_ns)
{
	if (c->stopping)
		return;
	c->stopping = true;
	c->stop_deadline_ns = now_ns + c->config.grace_ns;
	df_info("%s: finishing what is in work", reason);
	step(c, now_ns);
}

/* ------------------------------------------------------------------ messages */

/* The sink needs to hear the same number at least twice to find a gap. But a sink that waits for days for a reader of stdout takes
 * no orders meanwhile, and one each second would pile up. */
static bool worth_telling(struct df_peer *p, uint64_t sent)
{
	if (p->sent_told != sent)
		p->n_told = 0;
	p->sent_told = sent;
	uint32_t n = p->n_told++;
	return n < 8 || n % 64 == 0;
}

/* A LEASE that a broken connection lost: HELLO after HELLO knows of fewer than were sent long before. What was sent since may be
 * on its way, so the watch is for an older number. */
static bool lost_lease(struct df_peer *p, const struct df_hello *h)
{
	if (h->sent + h->held >= p->leases_noted) {
		p->leases_noted = p->n_leased;
		p->n_short = 0;
	} else {
		p->n_short++;
	}
	return p->n_short == DF_SILENT_MS / DF_HELLO_MS;
}

static void on_hello(struct df_control *c, const struct df_msg *msg, uint64_t now_ns)
{
	struct df_peer *p = df_peers_find(&c->peers, msg->lane);
	if (!p || p->state == DF_PEER_FENCING || msg->hello.seq < p->hello_seq) {
		c->stats.stale++;
		return;
	}
	p->hello_seq = msg->hello.seq;
	if (p->role == DF_ROLE_WORKER && lost_lease(p, &msg->hello)) {
		df_warn("worker %u never got what was sent to it; replacing it", (unsigned)(p->lane & 0xfffff));
		c->config.effects.kill(c->config.effects.self, p->lane, SIGKILL); /* on_exit does the rest */
	}
	p->heard_ns = now_ns;
	p->peak_rss_bytes = msg->hello.peak_rss_bytes;
	if (p->state == DF_PEER_STARTING) {
		p->state = DF_PEER_READY;
		if (p->role == DF_ROLE_WORKER && !check(c, df_dispatch_add_lane(c->dispatch, p->lane), "add a lane"))
			return;
	}
	if (p->role == DF_ROLE_WORKER && worth_telling(p, msg->hello.sent))
		order(c, (struct df_order){.type = DF_ORDER_HELLO, .lane = p->lane, .n = msg->hello.sent});
}

void df_control_on_message(struct df_control *c, struct df_frames *frames, uint64_t now_ns)
{
	struct df_msg msg;
	struct df_str header = {frames->header->p, frames->header->n};
	df_arena_reset(&c->scratch);
	if (df_msg_unpack(header, &c->scratch, &msg, NULL) != DF_OK || msg.epoch != c->config.epoch) {
		c->stats.stale++;
		return;
	}
	if (msg.type == DF_MSG_HELLO)
		on_hello(c, &msg, now_ns);
	else if (msg.type == DF_MSG_CELLS || msg.type == DF_MSG_SOURCE_END)
		check(c, df_intake_on_message(c->intake, &msg, frames), "take a reader's cells");
	else
		c->stats.stale++;
	step(c, now_ns);
}

/* ------------------------------------------------------------------ deaths */

static const char *how(int exit_code, int sig, char *z, size_t n)
{
	if (sig)
		(void)snprintf(z, n, "was ended by signal %d (%s)", sig, strsignal(sig));
	else
		(void)snprintf(z, n, "exited with code %d", exit_code);
	return z;
}

void df_control_on_exit(struct df_control *c, uint64_t lane, int exit_code, int sig, const struct df_blame *blame,
			uint64_t now_ns)
{
	char z[96];
	struct df_peer *p = df_peers_find(&c->peers, lane);
	if (!p || p->state == DF_PEER_FENCING)
		return;
	c->stats.deaths++;
	p->state = DF_PEER_FENCING;
	p->blame = *blame;
	p->unsent = NULL;
	p->exit_code = exit_code;
	if (!c->finishing && c->outcome == DF_OUTCOME_RUNNING)
		df_warn("%s %u %s; what it held is done again", df_peer_word(p->role), (unsigned)(lane & 0xfffff),
			how(exit_code, sig, z, sizeof(z)));
	/* deaths over a document end in strikes, those over a source in a source error; only others are barren */
	if (p->n_finished)
		c->barren = 0;
	else if (!blame->computing && !df_intake_reading(c->intake, lane))
		c->barren++;
	c->config.effects.close_lane(c->config.effects.self, lane);
	order(c, (struct df_order){.type = DF_ORDER_FENCE, .lane = lane});
	step(c, now_ns);
}

static void give_up_if_barren(struct df_control *c, const struct df_peer *p)
{
	struct df_fail fail;
	if (c->barren < DF_SPAWN_FAILURES_MAX + c->config.n_worker)
		return;
	(void)df_fail(&fail, DF_ERR_CHILD,
		      "%u %s processes in a row died before they finished anything (the last exit code was %d); see "
		      "the messages above",
		      c->barren, df_peer_word(p->role), p->exit_code);
	fail_run(c, &fail);
}

/* Crashes that strikes cannot end: too many records, or none in particular. */
static void give_up_if_hopeless(struct df_control *c)
{
	struct df_fail fail;
	if (df_dispatch_n_poison(c->dispatch) >= DF_POISON_PER_LEASE)
		(void)df_fail(&fail, DF_ERR_CHILD,
			      "%zu records each ended %d workers; the pipeline itself must be at fault",
			      df_dispatch_n_poison(c->dispatch), DF_STRIKES_MAX);
	else if (df_dispatch_crashes(c->dispatch) >= DF_CRASHES_MAX)
		(void)df_fail(
			&fail, DF_ERR_CHILD,
			"%d workers crashed over the same cells while reading or sending them; see the messages above",
			DF_CRASHES_MAX);
	else
		return;
	fail_run(c, &fail);
}

static void on_fenced(struct df_control *c, uint64_t lane, uint64_t now_ns)
{
	struct df_peer *p = df_peers_find(&c->peers, lane);
	if (!p)
		return;
	struct df_peer gone = *p;
	df_peers_remove(&c->peers, lane);
	if (gone.role == DF_ROLE_WORKER) {
		struct df_strike strike;
		if (!check(c, df_dispatch_retire(c->dispatch, lane, &gone.blame, &strike), "take back leases"))
			return;
		if (strike.n)
			order(c, (struct df_order){.type = DF_ORDER_STRIKE, .strike = strike});
		if (strike.n >= DF_STRIKES_MAX) {
			c->stats.poisoned++;
			df_warn("the record at byte %llu of '%s' ended %d workers; it will be rejected",
				(unsigned long long)strike.record.offset,
				c->config.dataset->source[strike.record.source].name, DF_STRIKES_MAX);
		}
	} else {
		df_intake_reader_died(c->intake, lane);
	}
	give_up_if_barren(c, &gone);
	give_up_if_hopeless(c);
	bool needed = gone.role == DF_ROLE_WORKER ? work_left(c) : df_intake_readers_wanted(c->intake) > 0;
	if (needed && !c->stopping && !c->finishing && c->outcome == DF_OUTCOME_RUNNING)
		spawn(c, gone.role, now_ns);
}

/* ------------------------------------------------------------------ the sink's events */

static bool is_source_error(enum df_err err)
{
	return err == DF_ERR_IO || err == DF_ERR_NOT_FOUND || err == DF_ERR_CHANGED || err == DF_ERR_CORRUPT;
}

static void fail_source(struct df_control *c, uint32_t source, enum df_err err, const char *why)
{
	struct df_grid *g = c->config.grid;
	df_warn("%s; the rest of this input is left out", why);
	c->stats.source_errors++;
	df_grid_fail(g, source);
	df_dispatch_drop_source(c->dispatch, source);
	if (!check(c, df_array_room((void **)&c->closing, c->n_closing, &c->cap_closing, sizeof(*c->closing)),
		   "close an input"))
		return;
	struct df_source_state state = {
		source, true, err, g->source[source].n_cell, {df_str_dup(df_str_from(why)), strlen(why)}};
	c->closing[c->n_closing++] = state;
}

static void on_failed(struct df_control *c, const struct df_event *e)
{
	struct df_fail fail;
	uint32_t attempts = 0;
	const char *why = e->message ? e->message : df_err_name(e->err);
	struct df_grid *g = c->config.grid;
	bool of_source =
		is_source_error(e->err) && e->source < g->n_source && g->source[e->source].kind != DF_SOURCE_READER;
	if (of_source && !g->source[e->source].failed)
		fail_source(c, e->source, e->err, why);
	enum df_err err = df_dispatch_failed(c->dispatch, e->lane, e->lease, !of_source, &attempts);
	if (err == DF_ERR_NOT_FOUND || !check(c, err, "take back a lease"))
		return;
	if (of_source || attempts < DF_STRIKES_MAX)
		return;
	(void)df_fail(&fail, e->err, "%s", why);
	fail_run(c, &fail);
}

static void on_seen(struct df_control *c, const struct df_event *e)
{
	struct df_peer *p = df_peers_find(&c->peers, e->lane);
	struct df_tally *t = &c->stats.tally;
	df_dispatch_seen(c->dispatch, e->lane, e->lease, e->busy_ns);
	if (p)
		p->n_finished++;
	c->barren = 0;
	t->in += e->tally.in;
	t->out += e->tally.out;
	t->filtered += e->tally.filtered;
	t->rejected += e->tally.rejected;
	t->rows += e->tally.rows;
	t->bytes_in += e->tally.bytes_in;
	t->tokens += e->tally.tokens;
}

static void on_finished(struct df_control *c)
{
	struct df_fail fail;
	c->sink_over = true;
	if (c->outcome != DF_OUTCOME_RUNNING)
		return;
	if (c->complete ? !df_grid_complete(c->config.grid) : !c->stopping) {
		(void)df_fail(&fail, DF_ERR_BUG, "the run ended although %u inputs have cells without a fate",
			      c->config.grid->n_unfinished);
		fail_run(c, &fail);
		return;
	}
	c->outcome = c->complete ? DF_OUTCOME_DONE : DF_OUTCOME_STOPPED;
}

void df_control_on_event(struct df_control *c, struct df_event *e, uint64_t now_ns)
{
	struct df_fail fail;
	df_dispatch_set_held(c->dispatch, e->held_bytes);
	switch (e->type) {
	case DF_EVENT_SEEN:
		on_seen(c, e);
		break;
	case DF_EVENT_FAILED:
		on_failed(c, e);
		break;
	case DF_EVENT_FENCED:
		on_fenced(c, e->lane, now_ns);
		break;
	case DF_EVENT_GAP:
		df_warn("results of worker %u were lost; replacing it", (unsigned)(e->lane & 0xfffff));
		c->config.effects.kill(c->config.effects.self, e->lane, SIGKILL);
		break;
	case DF_EVENT_WRITTEN:
		df_dispatch_written(c->dispatch, e->cells);
		break;
	case DF_EVENT_DONE:
		check(c, df_grid_mark_done(c->config.grid, e->cells), "mark cells as done");
		c->stats.cells_done += e->cells.n;
		break;
	case DF_EVENT_FATAL:
		(void)df_fail(&fail, e->err, "%s", e->message ? e->message : df_err_name(e->err));
		fail_run(c, &fail);
		break;
	case DF_EVENT_FINISHED:
		on_finished(c);
		break;
	}
	free(e->message);
	e->message = NULL;
	step(c, now_ns);
}

/* ------------------------------------------------------------------ questions */

enum df_outcome df_control_outcome(const struct df_control *c)
{
	return c->outcome;
}

const struct df_fail *df_control_fail(const struct df_control *c)
{
	return &c->fail;
}

struct df_control_stats df_control_stats(const struct df_control *c)
{
	struct df_control_stats s = c->stats;
	for (size_t i = 0; i < c->peers.n; i++)
		s.n_ready += c->peers.item[i].state == DF_PEER_READY && c->peers.item[i].role == DF_ROLE_WORKER;
	s.strikes = df_dispatch_strikes(c->dispatch);
	s.source_errors += df_intake_source_errors(c->intake);
	return s;
}

bool df_control_wants_tick(const struct df_control *c)
{
	return c->retry_soon;
}
