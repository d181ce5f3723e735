// SPDX-License-Identifier: Apache-2.0
/*
 * control_watch: looks at the processes, a few times a second, and at the run as a whole.
 *
 * DESIGN. Time is counted in the steps of this watch, and a long step counts as a short one: while the coordinator itself stood
 * still (Ctrl-Z, a frozen group, a machine that swaps) its children mostly did so too, and their silence proves nothing.
 * A process is killed when its work shows no sign of progress for the document's deadline, when its link thread has not run
 * and the kernel says that it is stopped, when it has said nothing at all for long, or when all together need more memory
 * than the run may and it is the largest above its share. What the death means for a document is decided at its reaping (control_deaths.c).
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control/control_core.h"

#define NAMED_MAX 6 /* processes that the message of a run that stands still names */
#define MB (1U << 20)
#define STALL_END_MS 30000 /* then the sink, too, is not waited for */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ------------------------------------------------------------------ time */

static uint64_t interval_ns(const struct df_control *c)
{
	const struct df_control_config *k = &c->config;
	if (k->mem_limit && c->memory_bytes > k->mem_limit / 2)
		return (c->memory_bytes > k->mem_limit / 4 * 3 ? DF_WATCH_HOT_MS / 2 : DF_WATCH_HOT_MS) * DF_MS;
	if (k->doc_timeout_ns && k->doc_timeout_ns / 8 < DF_WATCH_MS * DF_MS)
		return most(k->doc_timeout_ns / 8, 10 * DF_MS);
	return DF_WATCH_MS * DF_MS;
}

/* The most that one step counts. */
static uint64_t longest_step_ns(const struct df_control *c)
{
	uint64_t deadline = c->config.doc_timeout_ns;
	return deadline ? least(most(deadline / 4, 2 * interval_ns(c)), DF_SEC) : DF_SEC;
}

static uint64_t stall_ns(const struct df_control *c)
{
	if (c->config.stall_ns)
		return c->config.stall_ns;
	return most(DF_STALL_MS * DF_MS, 4 * c->config.doc_timeout_ns);
}

int df_control_wait_ms(const struct df_control *c, uint64_t now_ns)
{
	uint64_t due = least(df_control_next_spawn_ns(c), now_ns + interval_ns(c));
	if (c->retry_soon || due <= now_ns)
		return 1;
	return (int)((due - now_ns + DF_MS - 1) / DF_MS);
}

/* ------------------------------------------------------------------ one process */

static bool look(const struct df_control *c, uint64_t lane, unsigned want, struct df_look *ret_look)
{
	*ret_look = (struct df_look){.stage = DF_NO_STAGE};
	return c->config.effects.look && c->config.effects.look(c->config.effects.self, lane, want, ret_look);
}

/* True when its work has moved since the last look at it. */
static bool observe(struct df_sight *s, const struct df_look *l, uint64_t step_ns, uint64_t now_ns)
{
	bool same = s->known && s->computing == l->computing && s->seq == l->seq && s->since_ns == l->since_ns;
	bool moved = s->known && !same;
	s->still_ns = s->known && s->alive == l->alive ? s->still_ns + step_ns : 0;
	if (!l->computing || l->since_ns == DF_SLOT_WAITS)
		s->late_ns = 0;
	else if (same)
		s->late_ns += step_ns;
	else
		s->late_ns = now_ns > l->since_ns ? least(now_ns - l->since_ns, step_ns) : 0;
	s->known = true;
	s->computing = l->computing;
	s->seq = l->seq;
	s->since_ns = l->since_ns;
	s->alive = l->alive;
	s->memory_bytes = l->memory_bytes;
	return moved;
}

/* Calls that move, or wait for a time that is known, as for a limit of one a minute or a server that asked for an hour. */
static bool calls_go_on(struct df_sight *s, const struct df_look *l, uint64_t now_ns)
{
	bool moved = s->calls_moved != l->calls_moved;
	s->calls_moved = l->calls_moved;
	return moved || (l->calls_out && now_ns < l->calls_due_ns);
}

/* "at byte 123 of 'a.jsonl' (17 records), in stage 'embed'" */
static const char *place(const struct df_control *c, const struct df_look *l, char *z, size_t size)
{
	char stage[128] = "";
	struct df_str name = df_control_stage(c, l->stage);
	const struct df_dataset *d = c->config.dataset;
	if (name.n)
		(void)snprintf(stage, sizeof(stage), ", in stage '%.*s'", (int)least(name.n, 100), name.p);
	(void)snprintf(z, size, "at byte %" PRIu64 " of '%s' (%" PRIu64 " record%s)%s", l->record.offset,
		       l->record.source < d->n_source ? d->source[l->record.source].name : "?", l->n_record,
		       l->n_record == 1 ? "" : "s", stage);
	return z;
}

/* A killed process that does not go (it waits for a disk that does not answer): its lane ends without it. */
static void leave_behind(struct df_control *c, struct df_peer *p, uint64_t now_ns)
{
	char z[32];
	struct df_look l;
	struct df_blame blame = {.stage = DF_NO_STAGE};
	if (look(c, p->lane, 0, &l))
		blame = (struct df_blame){.stage = l.stage,
					  .computing = l.computing,
					  .alone = l.alone,
					  .seq = l.seq,
					  .since_ns = l.since_ns,
					  .lease = l.lease,
					  .record = l.record};
	df_warn("%s was killed %d s ago and is still there; going on without it", df_control_name(p, z),
		DF_REAP_MS / 1000);
	df_control_on_exit(c, p->lane, 0, SIGKILL, &blame, now_ns);
}

static bool is_silent(const struct df_peer *p, uint64_t now_ns)
{
	char z[32];
	bool silent = p->state == DF_PEER_READY && now_ns > p->heard_ns + DF_SILENT_MS * DF_MS;
	bool late = p->state == DF_PEER_STARTING && now_ns > p->heard_ns + 6 * DF_SILENT_MS * DF_MS;
	if (silent || late)
		df_warn("%s has been silent for %d s; replacing it", df_control_name(p, z),
			(silent ? 1 : 6) * DF_SILENT_MS / 1000);
	return silent || late;
}

static void end_late(struct df_control *c, struct df_peer *p, uint64_t now_ns)
{
	char z[32], where[512];
	struct df_look l;
	uint64_t ms = c->config.doc_timeout_ns / DF_MS;
	if (!look(c, p->lane, DF_LOOK_STOPPED, &l) || !l.computing || l.seq != p->sight.seq ||
	    l.since_ns != p->sight.since_ns)
		return; /* it has just moved */
	if (l.stopped)
		df_warn("%s has been stopped %s; replacing it", df_control_name(p, z),
			place(c, &l, where, sizeof(where)));
	else
		df_warn("%s has computed for %" PRIu64 ".%" PRIu64
			" s (--doc-timeout) without a sign of progress %s; ending it",
			df_control_name(p, z), ms / 1000, ms % 1000 / 100, place(c, &l, where, sizeof(where)));
	df_control_condemn(c, p, &l, l.stopped ? DF_CAUSE_STRANGER : DF_CAUSE_DEADLINE, (uint32_t)least(ms, UINT32_MAX),
			   now_ns);
}

/* Its link thread runs at least once a second; when it does not for the deadline, the kernel is asked. */
static void end_stopped(struct df_control *c, struct df_peer *p, uint64_t now_ns)
{
	char z[32];
	struct df_look l;
	uint64_t deadline = c->config.doc_timeout_ns ? c->config.doc_timeout_ns : UINT64_MAX;
	if (p->sight.still_ns < most(2 * DF_HELLO_MS * DF_MS, least(deadline, DF_SILENT_MS * DF_MS)))
		return;
	if (!look(c, p->lane, DF_LOOK_STOPPED, &l) || !l.stopped || l.alive != p->sight.alive)
		return; /* slow, and that is no fault: silence has a longer limit */
	df_warn("%s has been stopped for %" PRIu64 " s; replacing it", df_control_name(p, z),
		p->sight.still_ns / DF_SEC);
	df_control_condemn(c, p, NULL, DF_CAUSE_STRANGER, 0, now_ns);
}

static void watch_peer(struct df_control *c, struct df_peer *p, uint64_t step_ns, uint64_t now_ns)
{
	struct df_look l;
	if (p->state == DF_PEER_FENCING)
		return;
	bool seen = look(c, p->lane, c->config.mem_limit ? DF_LOOK_MEMORY : 0, &l);
	if (p->condemned.done) {
		p->sight.memory_bytes = seen ? l.memory_bytes : 0;
		if (now_ns > p->condemned.at_ns + DF_REAP_MS * DF_MS)
			leave_behind(c, p, now_ns);
		return;
	}
	if (is_silent(p, now_ns)) {
		df_control_condemn(c, p, NULL, DF_CAUSE_STRANGER, 0, now_ns);
		return;
	}
	if (!seen)
		return;
	bool calls = calls_go_on(&p->sight, &l, now_ns);
	if (observe(&p->sight, &l, step_ns, now_ns) || calls ||
	    (l.computing && !c->config.doc_timeout_ns && l.since_ns != DF_SLOT_WAITS))
		c->progress_ns = now_ns;
	if (c->config.doc_timeout_ns && p->sight.late_ns >= c->config.doc_timeout_ns)
		end_late(c, p, now_ns);
	else
		end_stopped(c, p, now_ns);
}

/* ------------------------------------------------------------------ memory */

/* Of those that live, the largest above its share; NULL: none. *ret_living: what all that are not condemned have. */
static struct df_peer *largest(struct df_control *c, uint64_t *ret_living)
{
	struct df_peer *found = NULL;
	for (size_t i = 0; i < c->peers.n; i++) {
		struct df_peer *p = &c->peers.item[i];
		c->memory_bytes += p->sight.memory_bytes;
		if (p->condemned.done || p->state == DF_PEER_FENCING)
			continue;
		*ret_living += p->sight.memory_bytes;
		if (p->sight.memory_bytes > c->config.mem_share &&
		    (!found || p->sight.memory_bytes > found->sight.memory_bytes))
			found = p;
	}
	return found;
}

static void watch_memory(struct df_control *c, uint64_t now_ns)
{
	char z[32], where[512];
	struct df_look own, l;
	uint64_t limit = c->config.mem_limit, living = 0;
	if (!limit)
		return;
	c->memory_bytes = look(c, 0, DF_LOOK_MEMORY, &own) ? own.memory_bytes : 0;
	living = c->memory_bytes;
	struct df_peer *p = largest(c, &living);
	c->stats.memory_bytes = c->memory_bytes;
	if (living <= limit - limit / 16) /* what can be taken between two looks must not pass the limit */
		return;
	if (!p || !look(c, p->lane, DF_LOOK_MEMORY, &l)) {
		if (!c->memory_told)
			df_warn("all processes together use %" PRIu64 " MB, too near to --mem-limit (%" PRIu64
				" MB), and none is above its share; fewer workers (-j) need less",
				c->memory_bytes / MB, limit / MB);
		c->memory_told = true;
		return;
	}
	df_warn("all processes together use %" PRIu64 " MB, too near to --mem-limit (%" PRIu64
		" MB); ending %s with %" PRIu64 " MB%s%s",
		c->memory_bytes / MB, limit / MB, df_control_name(p, z), l.memory_bytes / MB, l.computing ? ", " : "",
		l.computing ? place(c, &l, where, sizeof(where)) : "");
	df_control_condemn(c, p, &l, DF_CAUSE_MEMORY, (uint32_t)least(l.memory_bytes / MB, UINT32_MAX), now_ns);
}

/* ------------------------------------------------------------------ the run as a whole */

static void tell_stall(struct df_control *c)
{
	struct df_buf b;
	struct df_look l;
	char z[32], where[512];
	uint32_t n = 0;
	df_buf_init(&b, 64U << 10);
	for (size_t i = 0; i < c->peers.n; i++) {
		const struct df_peer *p = &c->peers.item[i];
		uint32_t held = df_dispatch_held(c->dispatch, p->lane);
		bool reading = df_intake_reading(c->intake, p->lane);
		if ((!held && !reading) || ++n > NAMED_MAX)
			continue;
		(void)df_buf_addf(&b, "; %s holds %" PRIu32 " %s", df_control_name(p, z), held + reading,
				  reading ? "input" : "leases");
		bool seen = look(c, p->lane, 0, &l);
		if (seen && l.computing)
			(void)df_buf_addf(&b, ", computing %s", place(c, &l, where, sizeof(where)));
		if (seen && l.calls_out)
			(void)df_buf_addf(&b, ", waits for %" PRIu64 " calls, %" PRIu64 " of them in flight",
					  l.calls_out, l.calls_sent);
	}
	if (n > NAMED_MAX)
		(void)df_buf_addf(&b, "; and %" PRIu32 " more", n - NAMED_MAX);
	if (!n)
		(void)df_buf_addf(&b, "; no process holds anything (%zu are there)", c->peers.n);
	(void)df_buf_addc(&b, '\0');
	df_error("nothing has moved for %" PRIu64 " s, and %s%s: the run is stopped here", stall_ns(c) / DF_SEC,
		 c->finishing ? "the output is not yet finished" : "work is left", df_buf_err(&b) == DF_OK ? b.p : "");
	df_buf_release(&b);
}

/* Waiting that is no standstill: for whoever reads the output, or writes the input. */
static bool waits_for_others(const struct df_control *c)
{
	if (c->config.effects.output_waits && c->config.effects.output_waits(c->config.effects.self))
		return true;
	return c->has_live && !c->finishing && df_dispatch_idle(c->dispatch) && !df_intake_ended(c->intake);
}

static void watch_run(struct df_control *c, uint64_t now_ns)
{
	if (c->outcome != DF_OUTCOME_RUNNING || c->sink_over)
		return;
	if (waits_for_others(c))
		c->progress_ns = now_ns;
	if (c->stalled) { /* and now the sink does not come to an end either */
		if (now_ns > c->stop_deadline_ns + STALL_END_MS * DF_MS)
			c->outcome = DF_OUTCOME_STOPPED;
		return;
	}
	if ((c->stopping && !c->finishing) || now_ns < c->progress_ns + stall_ns(c))
		return;
	tell_stall(c);
	c->stalled = true;
	c->stopping = true;
	c->stop_deadline_ns = now_ns;
}

void df_control_watch(struct df_control *c, uint64_t now_ns)
{
	uint64_t gap_ns = c->tick_ns && now_ns > c->tick_ns ? now_ns - c->tick_ns : 0;
	c->tick_ns = now_ns;
	if (gap_ns > DF_SILENT_MS * DF_MS / 4) { /* this process stood still: nobody's silence counts */
		c->progress_ns = least(c->progress_ns + gap_ns, now_ns);
		for (size_t i = 0; i < c->peers.n; i++) {
			c->peers.item[i].heard_ns = now_ns;
			c->peers.item[i].condemned.at_ns = now_ns;
		}
	}
	if (c->watch_ns && now_ns < c->watch_ns + interval_ns(c))
		return;
	uint64_t step_ns = c->watch_ns ? least(now_ns - c->watch_ns, longest_step_ns(c)) : 0;
	c->watch_ns = now_ns;
	for (size_t i = 0; i < c->peers.n; i++)
		watch_peer(c, &c->peers.item[i], step_ns, now_ns);
	watch_memory(c, now_ns);
	watch_run(c, now_ns);
}
