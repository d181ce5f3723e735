// SPDX-License-Identifier: Apache-2.0
/*
 * control_events: what control is told: messages of workers and readers, events of the sink.
 *
 * DESIGN. Whatever comes may be old: a peer that is unknown or about to be fenced, an epoch before this one, a lease that was taken back.
 * Such words are counted and dropped; the rest changes the books, and df_control_step() draws the consequences.
 */
#include <stdlib.h>

#include "base/array.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control/control_core.h"

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
		df_control_condemn(c, p, NULL, DF_CAUSE_STRANGER, 0, now_ns);
	}
	p->heard_ns = now_ns;
	p->peak_rss_bytes = msg->hello.peak_rss_bytes;
	if (p->state == DF_PEER_STARTING) {
		p->state = DF_PEER_READY;
		if (p->role == DF_ROLE_WORKER &&
		    !df_control_check(c, df_dispatch_add_lane(c->dispatch, p->lane), "add a lane"))
			return;
	}
	if (p->role == DF_ROLE_WORKER && worth_telling(p, msg->hello.sent))
		df_control_order(c, (struct df_order){.type = DF_ORDER_HELLO, .lane = p->lane, .n = msg->hello.sent});
}

static void on_cells(struct df_control *c, const struct df_msg *msg, struct df_frames *frames, uint64_t now_ns)
{
	struct df_peer *p = df_peers_find(&c->peers, msg->lane);
	if (p)
		p->n_finished++;
	c->progress_ns = now_ns;
	(void)df_control_check(c, df_intake_on_message(c->intake, msg, frames), "take a reader's cells");
}

void df_control_on_message(struct df_control *c, struct df_frames *frames, uint64_t now_ns)
{
	struct df_msg msg;
	struct df_str header = {frames->header->p, frames->header->n};
	df_arena_reset(&c->scratch);
	enum df_err err = df_msg_unpack(header, &c->scratch, &msg, NULL);
	if (err == DF_ERR_NOMEM) { /* nobody sends it again */
		(void)df_control_check(c, err, "take a message");
		return;
	}
	if (err != DF_OK || msg.epoch != c->config.epoch) {
		c->stats.stale++;
		return;
	}
	if (msg.type == DF_MSG_HELLO)
		on_hello(c, &msg, now_ns);
	else if (msg.type == DF_MSG_CELLS || msg.type == DF_MSG_SOURCE_END)
		on_cells(c, &msg, frames, now_ns);
	else
		c->stats.stale++;
	df_control_step(c, now_ns);
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
	if (!df_control_check(c,
			      df_array_room((void **)&c->closing, c->n_closing, &c->cap_closing, sizeof(*c->closing)),
			      "close an input"))
		return;
	struct df_source_state state = {source, true, err, g->source[source].n_cell, df_str_copy(df_str_from(why))};
	c->closing[c->n_closing++] = state;
}

/* What nobody can mend by trying again: money or the day's calls are used up (the run stops, and goes on another time), or whoever is called
 * does not know us or what we ask for (the run ends). */
static void end_for_calls(struct df_control *c, enum df_err err, const char *why, uint64_t now_ns)
{
	struct df_fail fail;
	(void)df_fail(&fail, err, "%s", why);
	if (err == DF_ERR_USAGE) {
		df_control_fail_run(c, &fail);
	} else if (c->quota.code == DF_OK) {
		c->quota = fail;
		df_control_stop(c, "a budget or a limit of the day is used up", now_ns);
	}
}

static void on_failed(struct df_control *c, const struct df_event *e, uint64_t now_ns)
{
	struct df_fail fail;
	uint32_t attempts = 0;
	const char *why = e->message ? e->message : df_err_name(e->err);
	struct df_grid *g = c->config.grid;
	if (df_dispatch_drop_void(c->dispatch, e->lane, e->lease))
		return; /* its twin read it well */
	bool of_source =
		is_source_error(e->err) && e->source < g->n_source && g->source[e->source].kind != DF_SOURCE_READER;
	if (of_source && !g->source[e->source].failed)
		fail_source(c, e->source, e->err, why);
	/* calls that were not made any more since the run stops are no failure */
	bool of_calls =
		e->err == DF_ERR_QUOTA || e->err == DF_ERR_USAGE || (e->err == DF_ERR_INTERRUPTED && c->stopping);
	enum df_err err = df_dispatch_failed(c->dispatch, e->lane, e->lease, !of_source && !of_calls, &attempts);
	if (err == DF_ERR_NOT_FOUND || !df_control_check(c, err, "take back a lease"))
		return;
	if (e->err == DF_ERR_QUOTA || e->err == DF_ERR_USAGE)
		end_for_calls(c, e->err, why, now_ns);
	if (of_calls || of_source || attempts < DF_STRIKES_MAX)
		return;
	(void)df_fail(&fail, e->err, "%s", why);
	df_control_fail_run(c, &fail);
}

static void on_seen(struct df_control *c, const struct df_event *e)
{
	struct df_peer *p = df_peers_find(&c->peers, e->lane);
	struct df_tally *t = &c->stats.tally;
	df_dispatch_seen(c->dispatch, e->lane, e->lease, e->busy_ns);
	if (p)
		p->n_finished++;
	c->fruitless = c->barren = c->barren_exits = 0;
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
		df_control_fail_run(c, &fail);
		return;
	}
	c->outcome = c->complete ? DF_OUTCOME_DONE : DF_OUTCOME_STOPPED;
}

static void end_gap(struct df_control *c, uint64_t lane, uint64_t now_ns)
{
	struct df_peer *p = df_peers_find(&c->peers, lane);
	if (!p || p->state == DF_PEER_FENCING)
		return;
	df_warn("results of worker %u were lost; replacing it", (unsigned)(lane & 0xfffff));
	df_control_condemn(c, p, NULL, DF_CAUSE_STRANGER, 0, now_ns);
}

static bool is_progress(enum df_event_type type)
{
	return type == DF_EVENT_SEEN || type == DF_EVENT_DONE || type == DF_EVENT_WRITTEN;
}

void df_control_on_event(struct df_control *c, struct df_event *e, uint64_t now_ns)
{
	struct df_fail fail;
	df_dispatch_set_held(c->dispatch, e->held_bytes);
	if (is_progress(e->type))
		c->progress_ns = now_ns;
	switch (e->type) {
	case DF_EVENT_SEEN:
		on_seen(c, e);
		break;
	case DF_EVENT_FAILED:
		on_failed(c, e, now_ns);
		break;
	case DF_EVENT_FENCED:
		df_control_on_fenced(c, e->lane, now_ns);
		break;
	case DF_EVENT_GAP:
		end_gap(c, e->lane, now_ns);
		break;
	case DF_EVENT_WRITTEN:
		df_dispatch_written(c->dispatch, e->cells);
		break;
	case DF_EVENT_DONE:
		(void)df_control_check(c, df_grid_mark_done(c->config.grid, e->cells), "mark cells as done");
		c->stats.cells_done += e->cells.n;
		break;
	case DF_EVENT_FATAL:
		(void)df_fail(&fail, e->err, "%s", e->message ? e->message : df_err_name(e->err));
		df_control_fail_run(c, &fail);
		break;
	case DF_EVENT_FINISHED:
		on_finished(c);
		break;
	}
	free(e->message);
	e->message = NULL;
	df_control_step(c, now_ns);
	if (e->type == DF_EVENT_FENCED)
		df_control_spawn_due(c, now_ns); /* behind the step, which takes less time than a start */
}
