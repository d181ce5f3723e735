// SPDX-License-Identifier: Apache-2.0
/*
 * control_deaths: processes start, die and are replaced.
 *
 * DESIGN. A successor is started at once when the one before it had finished something, or was the first in a row that had not;
 * further ones wait, each twice as long as the last. A start that fails is a death like any other: its lane is
 * fenced, then tried again. What the run's own kills mean is decided when the process is reaped: the cause for which it was
 * condemned counts only while its slot is as it was seen then, so that a document which ended in between, or the next
 * one, is not blamed (a stranger's kill: suspects, never a strike).
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control/control_core.h"
#include "proto/strike.h"

const char *df_control_name(const struct df_peer *p, char z[32])
{
	(void)snprintf(z, 32, "%s %u", df_peer_word(p->role), (unsigned)(p->lane & 0xfffff));
	return z;
}

struct df_str df_control_stage(const struct df_control *c, uint32_t stage)
{
	const struct df_pipeline *p = c->config.pipeline;
	return p && stage < p->n_stage ? df_pipeline_call_name(&p->stage[stage]) : DF_STR("");
}

/* ------------------------------------------------------------------ starting */

static bool worker_lives(const struct df_control *c)
{
	for (size_t i = 0; i < c->peers.n; i++)
		if (c->peers.item[i].role == DF_ROLE_WORKER && c->peers.item[i].state != DF_PEER_FENCING)
			return true;
	return false;
}

/* The lane is known to the sink, and perhaps has a socket: it goes as others do. */
static void stillborn(struct df_control *c, uint64_t lane, const struct df_fail *fail)
{
	struct df_peer *p = df_peers_find(&c->peers, lane);
	p->state = DF_PEER_FENCING;
	p->stillborn = true;
	if (c->spawn_failures++ % 64 == 0)
		df_warn("%s; trying again", fail->msg);
	c->config.effects.close_lane(c->config.effects.self, lane);
	df_control_order(c, (struct df_order){.type = DF_ORDER_FENCE, .lane = lane});
	if (c->spawn_failures >= DF_SPAWN_FAILURES_MAX && !worker_lives(c))
		df_control_fail_run(c, fail);
}

void df_control_spawn(struct df_control *c, enum df_role role, uint64_t now_ns)
{
	struct df_fail fail = {0};
	uint64_t lane = df_lane_id(c->config.epoch, ++c->next_lane);
	if (c->next_lane >= 1U << 20) {
		(void)df_fail(
			&fail, DF_ERR_LIMIT,
			"a million workers were started in one life of the coordinator; start the same command again");
		df_control_fail_run(c, &fail);
		return;
	}
	if (!df_control_check(c, df_peers_add(&c->peers, lane, role, now_ns), "add a lane"))
		return;
	df_control_order(c, (struct df_order){.type = DF_ORDER_LANE, .lane = lane});
	if (c->config.effects.spawn(c->config.effects.self, role, lane, &fail) == DF_OK)
		c->spawn_failures = 0;
	else
		stillborn(c, lane, &fail);
}

static bool needed(const struct df_control *c, enum df_role role)
{
	if (c->stopping || c->finishing || c->outcome != DF_OUTCOME_RUNNING)
		return false;
	return role == DF_ROLE_WORKER ? df_control_work_left(c) : df_intake_readers_wanted(c->intake) > 0;
}

static uint64_t back_off_ns(const struct df_control *c, const struct df_peer *gone)
{
	uint32_t n = gone->stillborn ? c->spawn_failures : c->fruitless;
	if (gone->n_finished || n < 2)
		return gone->stillborn ? DF_SPAWN_BACKOFF_MS * DF_MS : 0;
	uint64_t ms = n - 2 < 16 ? (uint64_t)DF_SPAWN_BACKOFF_MS << (n - 2) : DF_SPAWN_BACKOFF_MAX_MS;
	return (ms < DF_SPAWN_BACKOFF_MAX_MS ? ms : DF_SPAWN_BACKOFF_MAX_MS) * DF_MS;
}

static void replace(struct df_control *c, const struct df_peer *gone, uint64_t now_ns)
{
	if (!needed(c, gone->role) ||
	    !df_control_check(c,
			      df_array_room((void **)&c->respawn, c->n_respawn, &c->cap_respawn, sizeof(*c->respawn)),
			      "replace a process"))
		return;
	c->respawn[c->n_respawn++] = (struct df_respawn){gone->role, now_ns + back_off_ns(c, gone)};
}

void df_control_spawn_due(struct df_control *c, uint64_t now_ns)
{
	for (size_t i = 0; i < c->n_respawn;) {
		struct df_respawn r = c->respawn[i];
		if (r.due_ns > now_ns) {
			i++;
			continue;
		}
		c->respawn[i] = c->respawn[--c->n_respawn];
		if (needed(c, r.role))
			df_control_spawn(c, r.role, now_ns);
	}
}

uint64_t df_control_next_spawn_ns(const struct df_control *c)
{
	uint64_t next = UINT64_MAX;
	for (size_t i = 0; i < c->n_respawn; i++)
		next = c->respawn[i].due_ns < next ? c->respawn[i].due_ns : next;
	return next;
}

/* ------------------------------------------------------------------ dying */

void df_control_condemn(struct df_control *c, struct df_peer *p, const struct df_look *look, enum df_cause cause,
			uint32_t detail, uint64_t now_ns)
{
	p->condemned = (struct df_condemned){
		.done = true,
		.at_ns = now_ns,
		.cause = look ? cause : DF_CAUSE_STRANGER,
		.detail = detail,
		.seq = look ? look->seq : 0,
		.since_ns = look ? look->since_ns : 0,
	};
	c->stats.deadline_kills += p->condemned.cause == DF_CAUSE_DEADLINE;
	c->stats.memory_kills += p->condemned.cause == DF_CAUSE_MEMORY;
	df_dispatch_lost(c->dispatch, p->lane, now_ns);                   /* nothing more goes there */
	c->config.effects.kill(c->config.effects.self, p->lane, SIGKILL); /* on_exit does the rest */
}

/* What the run killed itself: was it still the same piece of work? (It may also have died of its own accord just before.) */
static void settle_blame(struct df_peer *p, int sig)
{
	const struct df_condemned *k = &p->condemned;
	if (!k->done || sig != SIGKILL)
		return;
	/* memory may also be taken outside of documents (by reading them): then it is a crash of the machinery over these cells */
	bool same = p->blame.seq == k->seq &&
		    (k->cause == DF_CAUSE_MEMORY || (p->blame.computing && p->blame.since_ns == k->since_ns));
	p->blame.cause = same ? k->cause : DF_CAUSE_STRANGER;
	p->blame.detail = k->detail;
}

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
	char z[96], name[32];
	struct df_peer *p = df_peers_find(&c->peers, lane);
	if (!p || p->state == DF_PEER_FENCING)
		return;
	/* it has ended in order, and the run ends with it */
	bool is_refusal = sig == 0 && exit_code == DF_CHILD_EXIT_USAGE && blame->last_words;
	c->stats.deaths += !is_refusal;
	p->state = DF_PEER_FENCING;
	df_dispatch_lost(c->dispatch, lane, now_ns);
	p->blame = *blame;
	p->unsent = NULL;
	p->exit_code = exit_code;
	p->signal = sig;
	p->blame.last_words = NULL;
	settle_blame(p, sig);
	if (is_refusal) {
		struct df_fail fail;
		(void)df_fail(&fail, DF_ERR_USAGE, "%s", blame->last_words);
		df_control_fail_run(c, &fail);
	}
	if (!c->finishing && c->outcome == DF_OUTCOME_RUNNING && !p->blame.shown)
		df_warn("%s %s; what it held is done again", df_control_name(p, name),
			how(exit_code, sig, z, sizeof(z)));
	if (p->n_finished) {
		c->fruitless = c->barren = c->barren_exits = 0;
	} else {
		c->fruitless++;
		/* deaths over a document end in strikes, those over a source in a source error; only others are barren */
		if (!blame->computing && !df_intake_reading(c->intake, lane)) {
			c->barren++;
			c->barren_exits += sig == 0;
		}
	}
	c->config.effects.close_lane(c->config.effects.self, lane);
	df_control_order(c, (struct df_order){.type = DF_ORDER_FENCE, .lane = lane});
	df_control_step(c, now_ns);
}

/* ------------------------------------------------------------------ giving up */

/* Processes that leave by themselves, one after the other, will go on to do so (no model, a wrong library). Kills may come in
 * bunches, from others: they count when nothing has moved for a while. */
static void give_up_if_barren(struct df_control *c, const struct df_peer *p, uint64_t now_ns)
{
	struct df_fail fail;
	if (c->barren < DF_SPAWN_FAILURES_MAX + c->config.n_worker)
		return;
	if (c->barren_exits < DF_SPAWN_FAILURES_MAX && now_ns < c->progress_ns + DF_BARREN_MS * DF_MS)
		return;
	(void)df_fail(&fail, DF_ERR_CHILD,
		      "%u %s processes in a row died before they finished anything (the last exit code was %d); see "
		      "the messages above",
		      c->barren, df_peer_word(p->role), p->exit_code);
	df_control_fail_run(c, &fail);
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
	df_control_fail_run(c, &fail);
}

/* ------------------------------------------------------------------ behind the fence */

static void tell_strike(struct df_control *c, const struct df_strike *strike)
{
	char words[256];
	const char *name = c->config.dataset->source[strike->record.source].name;
	df_strike_words(strike, df_control_stage(c, strike->stage), words, sizeof(words));
	df_control_order(c, (struct df_order){.type = DF_ORDER_STRIKE, .strike = *strike});
	c->stats.poisoned += strike->n == DF_STRIKES_MAX;
	if (strike->n >= DF_STRIKES_MAX)
		df_warn("the record at byte %" PRIu64 " of '%s' %s; it is rejected", strike->record.offset, name,
			words);
	else
		df_warn("the record at byte %" PRIu64 " of '%s' %s; it is tried again (%u of %d)",
			strike->record.offset, name, words, strike->n, DF_STRIKES_MAX);
}

/* Whoever had begun to show an answer (--stream) died before the answer was taken: another would be shown behind the piece of it that stands there. */
static void fail_if_shown(struct df_control *c, const struct df_peer *gone)
{
	struct df_fail fail;
	char z[96], name[32];
	if (!gone->blame.shown || df_dispatch_idle(c->dispatch) || c->outcome != DF_OUTCOME_RUNNING)
		return;
	(void)df_fail(&fail, DF_ERR_CHILD,
		      "%s %s in the middle of an answer: what was shown of it is not the whole, and cannot be taken "
		      "back; start "
		      "the run again",
		      df_control_name(gone, name), how(gone->exit_code, gone->signal, z, sizeof(z)));
	df_control_fail_run(c, &fail);
}

void df_control_on_fenced(struct df_control *c, uint64_t lane, uint64_t now_ns)
{
	struct df_peer *p = df_peers_find(&c->peers, lane);
	if (!p)
		return;
	struct df_peer gone = *p;
	df_peers_remove(&c->peers, lane);
	if (gone.role == DF_ROLE_WORKER) {
		struct df_strike strike;
		if (!df_control_check(c, df_dispatch_retire(c->dispatch, lane, &gone.blame, &strike),
				      "take back leases"))
			return;
		if (strike.n) {
			tell_strike(c, &strike);
			c->progress_ns = now_ns; /* of a kind: it leads to an end */
		}
	} else {
		df_intake_reader_died(c->intake, lane);
	}
	fail_if_shown(c, &gone);
	give_up_if_barren(c, &gone, now_ns);
	give_up_if_hopeless(c);
	replace(c, &gone, now_ns);
}
