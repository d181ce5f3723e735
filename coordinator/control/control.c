// SPDX-License-Identifier: Apache-2.0
/*
 * control: the state machine's life, its step, and its end.
 *
 * DESIGN. Every call ends in df_control_step(): assign sources to idle readers, give reader credits, feed workers, and see whether the run
 * is over. Nothing else decides. A lane's death is handled in two moves: on_exit() asks the sink to fence it; the FENCED event
 * puts its leases back and spawns a successor. Between the two the peer is FENCING and gets nothing.
 */
#include "coordinator/control/control_core.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"

void df_control_fail_run(struct df_control *c, const struct df_fail *fail)
{
	if (c->outcome != DF_OUTCOME_RUNNING)
		return;
	c->outcome = DF_OUTCOME_FAILED;
	c->fail = *fail;
}

bool df_control_check(struct df_control *c, enum df_err err, const char *what)
{
	struct df_fail fail;
	if (err == DF_OK)
		return true;
	(void)df_fail(&fail, err, "the coordinator cannot %s: %s", what, df_err_name(err));
	df_control_fail_run(c, &fail);
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
		.credits = config->waits ? DF_LANE_CREDITS_NETWORK : DF_LANE_CREDITS,
		.window_bytes = config->ordered ? DF_ORDER_WINDOW_BYTES : 0,
		.n_lane_hint = config->n_worker,
		.tail_redo = config->tail_redo,
		.waits = config->waits,
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
	for (size_t i = 0; i < config->dataset->n_source; i++)
		c->has_live |= config->dataset->source[i].live;
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
	free(c->respawn);
	df_arena_release(&c->scratch);
	for (size_t i = 0; i < c->n_closing; i++)
		free((char *)(uintptr_t)c->closing[i].message.p);
	free(c->closing);
	free(c);
	*control = NULL;
}

void df_control_order(struct df_control *c, struct df_order o)
{
	c->config.effects.order(c->config.effects.self, &o);
}

void df_control_start(struct df_control *c, uint64_t now_ns)
{
	uint32_t n_reader = df_intake_readers_wanted(c->intake);
	c->progress_ns = now_ns;
	bool work = !df_dispatch_idle(c->dispatch) || n_reader;
	for (uint32_t i = 0; i < n_reader && c->outcome == DF_OUTCOME_RUNNING; i++)
		df_control_spawn(c, DF_ROLE_READER, now_ns);
	for (uint32_t i = 0; work && i < c->config.n_worker && c->outcome == DF_OUTCOME_RUNNING; i++)
		df_control_spawn(c, DF_ROLE_WORKER, now_ns);
	df_control_step(c, now_ns);
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

static void tell_redo(const struct df_lease *l, uint64_t now_ns)
{
	if (l->twin && df_log_on(DF_LOG_DEBUG))
		df_debug("lease %llu of worker %u is late: worker %u does the same", (unsigned long long)l->twin->id,
			 (unsigned)(l->twin->lane & 0xfffff), (unsigned)(l->lane & 0xfffff));
	if (l->lost_ns && df_log_on(DF_LOG_DEBUG))
		df_debug("lease %llu, of work that was lost %.3f ms ago, goes to worker %u", (unsigned long long)l->id,
			 (double)(now_ns - l->lost_ns) / (double)DF_MS, (unsigned)(l->lane & 0xfffff));
}

static void feed(struct df_control *c, struct df_peer *p, uint64_t now_ns)
{
	while (c->outcome == DF_OUTCOME_RUNNING) {
		if (p->unsent && df_dispatch_drop_void(c->dispatch, p->lane, p->unsent->id))
			p->unsent = NULL;
		if (!p->unsent && !c->stopping) {
			enum df_err err = df_dispatch_next(c->dispatch, p->lane, now_ns, &p->unsent);
			if (err != DF_ERR_AGAIN && !df_control_check(c, err, "make a lease"))
				return;
		}
		if (!p->unsent)
			return;
		enum df_err err = send_lease(c, p->unsent);
		if (err == DF_ERR_AGAIN) {
			c->retry_soon = true;
			return;
		}
		if (!df_control_check(c, err, "send a lease"))
			return;
		p->n_leased++;
		c->stats.leases++;
		c->stats.redone += (p->unsent->flags & DF_LEASE_REDO) != 0;
		tell_redo(p->unsent, now_ns);
		p->unsent = NULL;
	}
}

/* ------------------------------------------------------------------ the end */

bool df_control_work_left(const struct df_control *c)
{
	if (c->stopping)
		return df_dispatch_n_leased(c->dispatch) != 0;
	return !df_dispatch_idle(c->dispatch) || !df_intake_ended(c->intake);
}

void df_control_finish(struct df_control *c)
{
	c->complete = df_intake_ended(c->intake) && df_dispatch_idle(c->dispatch);
	c->finishing = true;
	df_control_order(c, (struct df_order){.type = DF_ORDER_FINISH, .n = c->complete});
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
		df_control_order(c, (struct df_order){.type = DF_ORDER_SOURCE, .source = c->closing[i]});
		c->closing[i] = c->closing[--c->n_closing];
	}
}

/* Again while that gives lost work to somebody: each piece waits for the one lane that comes to it soonest. */
static void feed_workers(struct df_control *c, uint64_t now_ns)
{
	uint64_t before;
	do {
		before = c->stats.leases;
		for (size_t i = 0; i < c->peers.n; i++) {
			struct df_peer *p = &c->peers.item[i];
			if (p->state == DF_PEER_READY && p->role == DF_ROLE_WORKER)
				feed(c, p, now_ns);
		}
	} while (c->stats.leases != before && df_dispatch_redo_waits(c->dispatch));
}

/* Workers before readers: with an order kept, a lease may be what passes the turn to the next reader's source. */
static void feed_all(struct df_control *c, uint64_t now_ns)
{
	feed_workers(c, now_ns);
	for (size_t i = 0; i < c->peers.n && !c->stopping; i++) {
		struct df_peer *p = &c->peers.item[i];
		if (p->state != DF_PEER_READY || p->role != DF_ROLE_READER)
			continue;
		enum df_err err = df_intake_feed(c->intake, p->lane);
		if (err == DF_ERR_AGAIN)
			c->retry_soon = true;
		else if (!df_control_check(c, err, "give a reader work"))
			return;
	}
}

void df_control_step(struct df_control *c, uint64_t now_ns)
{
	struct df_fail fail = {0};
	c->retry_soon = false;
	if (c->outcome != DF_OUTCOME_RUNNING || c->finishing)
		return;
	close_sources(c);
	feed_all(c, now_ns);
	if (df_intake_failed(c->intake, &fail))
		df_control_fail_run(c, &fail);
	if (c->outcome == DF_OUTCOME_RUNNING &&
	    (!df_control_work_left(c) || (c->stopping && now_ns >= c->stop_deadline_ns)))
		df_control_finish(c);
}

void df_control_tick(struct df_control *c, uint64_t now_ns)
{
	df_control_watch(c, now_ns);
	df_control_spawn_due(c, now_ns);
	df_control_step(c, now_ns);
}

void df_control_stop(struct df_control *c, const char *reason, uint64_t now_ns)
{
	if (c->stopping)
		return;
	c->stopping = true;
	c->stop_deadline_ns = now_ns + c->config.grace_ns;
	df_info("%s: finishing what is in work", reason);
	df_control_step(c, now_ns);
}

/* ------------------------------------------------------------------ questions */

const struct df_fail *df_control_quota(const struct df_control *c)
{
	return c->quota.code != DF_OK ? &c->quota : NULL;
}

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
	s.twins = df_dispatch_n_twin(c->dispatch);
	s.source_errors += df_intake_source_errors(c->intake);
	return s;
}

size_t df_control_slowest(const struct df_control *c, struct df_slow *ret, size_t max)
{
	return df_dispatch_slowest(c->dispatch, ret, max);
}

bool df_control_wants_tick(const struct df_control *c)
{
	return c->retry_soon;
}
