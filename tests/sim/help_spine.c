// SPDX-License-Identifier: Apache-2.0
/*
 * help_spine: the event loop of a simulated run.
 *
 * DESIGN. Every pipe and process says when it is ready next. The clock jumps to the earliest of these; of all that is ready then, one
 * is chosen at random. So messages of one pipe keep their order, and everything else happens in any order.
 */
#include "tests/sim/help_spine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"

#define STEPS_MAX 400000U
#define TICK_NS (100 * DF_MS)

/* ------------------------------------------------------------------ effects */

static struct peer *find_peer(struct spine *s, uint64_t lane)
{
	struct peer *p = s->peer;
	while (p && p->lane != lane)
		p = p->next;
	return p;
}

static enum df_err effect_send(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			       size_t n)
{
	struct spine *s = self;
	struct peer *p = find_peer(s, lane);
	DF_ASSERT(p != NULL);
	if (world_once_in(s->world, 20)) {
		s->n.refused++;
		return DF_ERR_AGAIN;
	}
	if (msg->type == DF_MSG_LEASE) { /* workers rely on it */
		DF_ASSERT(msg->lease > p->lease);
		p->lease = msg->lease;
	}
	if (p->alive && !p->disowned)
		peer_receive(p, msg, payload, n, s->now_ns);
	return DF_OK;
}

static void effect_order(void *self, const struct df_order *order)
{
	struct spine *s = self;
	pipe_put(&s->orders, s->now_ns + world_roll(s->world, 300) * 1000)->order = *order;
}

static enum df_err effect_spawn(void *self, enum df_role role, uint64_t lane, struct df_fail *fail)
{
	struct spine *s = self;
	(void)fail;
	struct peer *p = peer_create(s->world, &s->net, role, lane, s->recovered.epoch, s->now_ns);
	p->next = s->peer;
	s->peer = p;
	return DF_OK;
}

static void effect_kill(void *self, uint64_t lane, int sig)
{
	struct spine *s = self;
	struct peer *p = find_peer(s, lane);
	if (p && p->alive && !p->disowned && !p->unreachable && s->now_ns >= p->cut.until_ns)
		peer_die(p, sig, false, s->now_ns);
}

static void effect_close_lane(void *self, uint64_t lane)
{
	struct spine *s = self;
	struct peer *p = find_peer(s, lane);
	DF_ASSERT(p != NULL && (!p->alive || p->remote));
	s->n.disowned += p->alive;
	peer_disown(p);
}

static bool effect_look(void *self, uint64_t lane, unsigned want, struct df_look *ret_look)
{
	struct spine *s = self;
	struct peer *p = lane ? find_peer(s, lane) : NULL;
	(void)want;
	*ret_look = (struct df_look){.memory_bytes = 20U << 20};
	if (!lane)
		return true;
	if (!p || !p->alive || s->now_ns < p->cut.until_ns)
		return false;
	*ret_look = peer_look(p, s->now_ns);
	return true;
}

static void on_emit(void *self, struct df_event *event)
{
	struct spine *s = self;
	pipe_put(&s->events, s->now_ns + world_roll(s->world, 300) * 1000)->event = *event;
}

/* ------------------------------------------------------------------ an epoch begins and ends */

enum df_err spine_open(struct spine *s)
{
	struct df_store_config config = {.dir_fd = 3,
					 .out_fd = -1,
					 .rejects_fd = -1,
					 .want = {true, false, true},
					 .part_bytes = 700,
					 .fsync = DF_FSYNC_COMMIT,
					 .fingerprint = 7,
					 .run_id = 9,
					 .inline_sync = true};
	df_arena_init(&s->arena, 64U << 20, 0);
	return df_store_open(&config, &s->io, &s->arena, &s->store, &s->recovered, &s->fail);
}

static void lay_out(struct spine *s)
{
	const struct df_recovered *r = &s->recovered;
	DF_ASSERT(df_grid_init(&s->grid, s->world->cell_bytes) == DF_OK);
	for (uint32_t i = 0; i < s->world->n_source; i++)
		DF_ASSERT(df_grid_add(&s->grid, s->world->source[i].kind, s->world->source[i].size_bytes) == DF_OK);
	for (size_t i = 0; i < r->n_source; i++)
		if (r->source[i].err != DF_OK && s->grid.source[r->source[i].source].kind != DF_SOURCE_READER)
			df_grid_fail(&s->grid, r->source[i].source);
	for (size_t i = 0; i < r->n_cells; i++)
		DF_ASSERT(df_grid_mark_done(&s->grid, r->cells[i].cells) == DF_OK);
}

/* The strikes that this life knows of. */
static void note_strikes(struct spine *s)
{
	for (uint32_t i = 0; i < s->world->n_source; i++)
		for (size_t k = 0; k < s->world->source[i].n_record; k++)
			s->world->source[i].record[k].deaths = 0;
	for (size_t i = 0; i < s->recovered.n_strike; i++) {
		struct world_record *r = world_record_at(s->world, s->recovered.strike[i].record);
		DF_ASSERT(r != NULL);
		r->deaths = s->recovered.strike[i].n;
	}
}

static void begin(struct spine *s)
{
	uint64_t n_cell[64];
	struct world *w = s->world;
	lay_out(s);
	note_strikes(s);
	for (uint32_t i = 0; i < w->n_source; i++)
		n_cell[i] = s->grid.source[i].ended ? s->grid.source[i].n_cell : UINT64_MAX;
	struct df_sink_config sink = {.store = s->store,
				      .ordered = w->ordered,
				      .commit_ns = world_roll(w, 50) * DF_MS,
				      .commit_bytes = 1 + world_roll(w, 500),
				      .spill_dirfd = -1,
				      .emit = on_emit,
				      .self = s};
	DF_ASSERT(df_sink_create(&sink, n_cell, w->n_source, &s->recovered, &s->sink) == DF_OK);
	struct df_control_config control = {
		.dataset = &w->dataset,
		.grid = &s->grid,
		.effects = {.send = effect_send,
			    .order = effect_order,
			    .spawn = effect_spawn,
			    .kill = effect_kill,
			    .close_lane = effect_close_lane,
			    .self = s,
			    .look = effect_look},
		.epoch = s->recovered.epoch,
		.n_worker = 1 + (uint32_t)world_roll(w, 4),
		.n_reader_max = 1 + (uint32_t)world_roll(w, 3),
		.ordered = w->ordered,
		.sequential = w->sequential,
		.skip = w->skip,
		.limit = w->limit,
		.grace_ns = 5 * DF_SEC,
		.doc_timeout_ns = w->doc_timeout_ns,
		.mem_limit = w->mem_limit,
		.mem_share = w->mem_limit / 8,
		.tail_redo = s->recovered.epoch % 2 == 1,
	};
	DF_ASSERT(df_control_create(&control, &s->recovered, &s->control) == DF_OK);
	s->notice_state = DF_STATE_RUN;
	s->notice_ns = s->now_ns;
	s->notice_seq = 0;
	df_control_start(s->control, s->now_ns);
}

void spine_close(struct spine *s)
{
	struct peer **at = &s->peer;
	while (*at) {
		struct peer *p = *at;
		if (p->alive && p->remote &&
		    world_once_in(s->world, 2)) { /* remote workers outlive their coordinator */
			if (!p->disowned)
				peer_disown(p);
			p->exit_due = false;
			at = &p->next;
		} else {
			*at = p->next;
			peer_destroy(p);
		}
	}
	if (s->control)
		s->stats = df_control_stats(s->control);
	if (s->sink) {
		struct df_sink_stats sink = df_sink_stats(s->sink);
		s->n.stale += sink.stale;
		s->n.doubled += sink.doubled;
		s->n.malformed += sink.malformed;
		s->n.deaths += s->stats.deaths;
		s->n.strikes += s->stats.strikes;
		s->n.deadline_kills += s->stats.deadline_kills;
		s->n.memory_kills += s->stats.memory_kills;
		s->n.twins += s->stats.twins;
	}
	df_control_destroy(&s->control);
	df_sink_destroy(&s->sink);
	df_store_close(&s->store);
	df_grid_release(&s->grid);
	df_arena_release(&s->arena);
	pipe_cut(&s->orders, 0);
	pipe_cut(&s->events, 0);
}

void spine_release(struct spine *s)
{
	while (s->peer) {
		struct peer *p = s->peer;
		s->peer = p->next;
		peer_destroy(p);
	}
	sim_destroy(&s->disk);
}

/* ------------------------------------------------------------------ what is ready */

enum action { TO_SINK, FROM_SINK, TICK, NOTICE, HELLO, BULK, EXIT, STEP, N_ACTION };

static uint64_t head_ns(const struct pipe *p)
{
	return p->head ? p->head->ready_ns : UINT64_MAX;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t sink_ns(const struct spine *s)
{
	uint64_t at = least(head_ns(&s->orders), df_sink_deadline(s->sink));
	for (const struct peer *p = s->peer; p && !df_sink_over(s->sink); p = p->next)
		at = least(at, head_ns(&p->results));
	return at;
}

static uint64_t action_ns(const struct spine *s, const struct peer *p, enum action a)
{
	switch (a) {
	case TO_SINK:
		return sink_ns(s);
	case FROM_SINK:
		return head_ns(&s->events);
	case TICK:
		return s->tick_ns;
	case NOTICE:
		return s->notice_ns;
	case HELLO:
		return head_ns(&p->control);
	case BULK:
		return head_ns(&p->bulk);
	case EXIT:
		return p->exit_due ? p->exit_ns : UINT64_MAX;
	case STEP:
		return peer_next_ns(p);
	default:
		return UINT64_MAX;
	}
}

/* Of everything that is ready soonest, one at random. */
static enum action choose(struct spine *s, struct peer **ret_peer)
{
	static const enum action global[] = {TO_SINK, FROM_SINK, TICK, NOTICE}, own[] = {HELLO, BULK, EXIT, STEP};
	uint64_t soonest = UINT64_MAX, n = 0;
	enum action chosen = TICK;
	for (size_t i = 0; i < 4; i++)
		soonest = least(soonest, action_ns(s, NULL, global[i]));
	for (struct peer *p = s->peer; p; p = p->next)
		for (size_t i = 0; i < 4; i++)
			soonest = least(soonest, action_ns(s, p, own[i]));
	s->now_ns = soonest > s->now_ns ? soonest : s->now_ns;
	for (size_t i = 0; i < 4; i++)
		if (action_ns(s, NULL, global[i]) <= s->now_ns && world_once_in(s->world, ++n))
			chosen = global[i];
	for (struct peer *p = s->peer; p; p = p->next)
		for (size_t i = 0; i < 4; i++)
			if (action_ns(s, p, own[i]) <= s->now_ns && world_once_in(s->world, ++n)) {
				chosen = own[i];
				*ret_peer = p;
			}
	return chosen;
}

/* ------------------------------------------------------------------ doing it */

static void take_orders(struct spine *s, uint64_t until_ns)
{
	while (pipe_ready(&s->orders, until_ns)) {
		struct parcel *parcel = pipe_take(&s->orders);
		df_sink_on_order(s->sink, &parcel->order);
		parcel->order.source.message.p = NULL; /* passed on */
		parcel_free(parcel);
	}
}

/* As the sink's thread: orders, some messages, and when none is left, empty. A message may wake it before an order does, but it
 * looks for orders before each. */
static void run_sink(struct spine *s)
{
	uint64_t left = 1 + world_roll(s->world, 6);
	bool empty = true;
	take_orders(s, s->now_ns);
	for (struct peer *p = s->peer; p; p = p->next) {
		for (; left && pipe_ready(&p->results, s->now_ns); left--) {
			struct parcel *parcel = pipe_take(&p->results);
			take_orders(s, UINT64_MAX);
			df_sink_on_message(s->sink, &parcel->frames);
			parcel_free(parcel);
		}
		empty = empty && !pipe_ready(&p->results, s->now_ns);
	}
	if (empty && !df_sink_over(s->sink))
		df_sink_on_empty(s->sink);
	df_sink_tick(s->sink, s->now_ns);
}

static void take_event(struct spine *s)
{
	struct parcel *parcel = pipe_take(&s->events);
	df_control_on_event(s->control, &parcel->event, s->now_ns);
	parcel_free(parcel);
}

static void take_message(struct spine *s, struct pipe *pipe)
{
	struct parcel *parcel = pipe_take(pipe);
	df_control_on_message(s->control, &parcel->frames, s->now_ns);
	parcel_free(parcel);
}

static void publish(struct spine *s)
{
	struct df_msg msg = {.type = DF_MSG_NOTICE, .epoch = s->recovered.epoch};
	msg.notice = (struct df_notice){.seq = ++s->notice_seq, .state = s->notice_state};
	s->notice_ns = s->now_ns + DF_HELLO_MS * DF_MS;
	for (struct peer *p = s->peer; p; p = p->next)
		if (p->alive && !p->disowned)
			peer_receive(p, &msg, NULL, 0, s->now_ns);
}

static void take_exit(struct spine *s, struct peer *p)
{
	p->exit_due = false;
	df_control_on_exit(s->control, p->lane, 0, p->exit_signal, &p->blame, s->now_ns);
}

static void act(struct spine *s, enum action a, struct peer *p)
{
	switch (a) {
	case TO_SINK:
		run_sink(s);
		break;
	case FROM_SINK:
		take_event(s);
		break;
	case HELLO:
		take_message(s, &p->control);
		break;
	case BULK:
		take_message(s, &p->bulk);
		break;
	case EXIT:
		take_exit(s, p);
		break;
	case STEP:
		peer_step(p, s->now_ns);
		break;
	case NOTICE:
		publish(s);
		break;
	default:
		s->tick_ns = s->now_ns + TICK_NS;
		df_control_tick(s->control, s->now_ns);
		break;
	}
	if (df_control_wants_tick(s->control))
		s->tick_ns = least(s->tick_ns, s->now_ns + DF_MS);
}

/* ------------------------------------------------------------------ faults */

static bool chance(struct spine *s, uint64_t once_in)
{
	return once_in && world_once_in(s->world, once_in);
}

static void kill_somebody(struct spine *s, bool crashed)
{
	uint64_t n = 0;
	struct peer *chosen = NULL;
	for (struct peer *p = s->peer; p; p = p->next)
		if (p->alive && world_once_in(s->world, ++n))
			chosen = p;
	/* when records are counted, a source that ends early moves skip and limit of those behind it */
	if (!chosen || (s->world->sequential && chosen->role == DF_ROLE_READER && s->n_reader_kill >= 2))
		return;
	s->n_kill++;
	*(crashed ? &s->n.crashed : &s->n.killed) += 1;
	s->n_reader_kill += chosen->role == DF_ROLE_READER;
	/* a crash outside of any document: in the machinery itself */
	peer_die(chosen, crashed ? SIGABRT : SIGKILL, crashed && !chosen->batch, s->now_ns);
}

static struct peer *somebody(struct spine *s, bool remote)
{
	uint64_t n = 0;
	struct peer *chosen = NULL;
	for (struct peer *p = s->peer; p; p = p->next)
		if (p->alive && (!remote || p->remote) && world_once_in(s->world, ++n))
			chosen = p;
	return chosen;
}

static void freeze_somebody(struct spine *s)
{
	struct peer *p = somebody(s, false);
	if (!p)
		return;
	s->n.frozen++;
	p->frozen_ns = s->now_ns + world_roll(s->world, 3 * DF_SILENT_MS / 2) * DF_MS;
}

static void cut_somebody(struct spine *s)
{
	struct peer *p = somebody(s, true);
	if (!p)
		return;
	s->net.n_cut++;
	p->cut = (struct net_cut){s->now_ns + world_roll(s->world, 5 * DF_SILENT_MS / 2) * DF_MS,
				  world_once_in(s->world, 2)};
}

static bool crash_now(struct spine *s)
{
	const struct spine_faults *f = &s->faults;
	if (s->n_kill < f->n_kill && chance(s, f->kill))
		kill_somebody(s, false);
	if (s->n_kill < f->n_kill && chance(s, f->crash_worker))
		kill_somebody(s, true);
	if (chance(s, f->freeze))
		freeze_somebody(s);
	if (chance(s, s->net.cut))
		cut_somebody(s);
	if (s->notice_state == DF_STATE_RUN && chance(s, f->stop)) {
		s->n.stopped++;
		s->notice_state = DF_STATE_DRAIN;
		s->notice_ns = s->now_ns;
		df_control_stop(s->control, "asked to stop", s->now_ns);
	}
	bool crash = chance(s, f->coordinator);
	s->n.coordinators += crash;
	return crash;
}

static enum spine_end loop(struct spine *s)
{
	for (s->n_step = 0; s->n_step < STEPS_MAX; s->n_step++) {
		struct peer *p = NULL;
		switch (df_control_outcome(s->control)) {
		case DF_OUTCOME_DONE:
			return SPINE_DONE;
		case DF_OUTCOME_STOPPED:
			return SPINE_STOPPED;
		case DF_OUTCOME_FAILED:
			s->fail = *df_control_fail(s->control);
			return SPINE_FAILED;
		case DF_OUTCOME_RUNNING:
			break;
		}
		if (crash_now(s))
			return SPINE_CRASHED;
		enum action a = choose(s, &p);
		const uint64_t what[] = {s->story, (uint64_t)a, p ? p->lane : 0, s->now_ns};
		s->story = df_hash64(what, sizeof(what));
		act(s, a, p);
	}
	return SPINE_HANGS;
}

enum spine_end spine_live(struct spine *s)
{
	enum spine_end end = SPINE_NO_OPEN;
	s->n_kill = 0;
	net_roll(&s->net, s->world, s->faults.harm_net);
	s->n.disks += s->faults.lose_disk;
	pipe_init(&s->orders);
	pipe_init(&s->events);
	sim_die_at(s->disk, s->faults.die_at);
	sim_fail_at(s->disk, s->faults.fail_at, s->faults.fail_errno);
	sim_disk_bytes(s->disk, s->faults.disk_bytes);
	if (spine_open(s) == DF_OK) {
		if (s->recovered.finished) {
			end = SPINE_DONE;
			s->faults.lose_disk =
				false; /* its end was written, perhaps not synced: lost, it is only ended again */
		} else {
			begin(s);
			end = loop(s);
		}
	}
	if (end == SPINE_CRASHED)
		sim_die_at(s->disk, 1); /* nothing is tidied up */
	spine_close(s);
	sim_die_at(s->disk, 0);
	sim_fail_at(s->disk, 0, 0);
	sim_disk_bytes(s->disk, UINT64_MAX);
	if (s->faults.lose_disk)
		sim_crash(s->disk);
	else
		sim_kill(s->disk);
	return end;
}
