// SPDX-License-Identifier: Apache-2.0
/* help_peer: model processes. */
#include "tests/sim/help_peer.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "tests/sim/help_job.h"

uint64_t peer_delay(struct world *w)
{
	if (world_once_in(w, 300))
		return world_roll(w, 4000) * DF_MS;
	return world_roll(w, world_once_in(w, 10) ? 50000 : 500) * 1000;
}

struct peer *peer_create(struct world *w, struct net *net, enum df_role role, uint64_t lane, uint32_t epoch,
			 uint64_t now_ns)
{
	struct peer *p = calloc(1, sizeof(*p));
	DF_ASSERT(p != NULL);
	p->world = w;
	p->net = net;
	p->heritage = (struct df_heritage){.epoch = epoch, .lane = lane, .role = role};
	p->link.h = &p->heritage;
	p->role = role;
	p->lane = lane;
	p->alive = true;
	p->remote = role == DF_ROLE_WORKER && world_roll(w, 100) < w->remote_percent;
	p->unreachable = p->remote && world_once_in(w, 2);
	p->slow = role == DF_ROLE_WORKER && w->slow_once_in && world_once_in(w, w->slow_once_in) ? 100 : 1;
	p->up_ns = p->hello_ns = now_ns + world_roll(w, 20) * DF_MS;
	p->wake_ns = p->up_ns;
	pipe_init(&p->down);
	pipe_init(&p->control);
	pipe_init(&p->bulk);
	pipe_init(&p->results);
	pipe_init(&p->notices);
	pipe_init(&p->inbox);
	df_arena_init(&p->arena, 16U << 20, 1U << 20);
	return p;
}

void peer_put_away(struct peer *p)
{
	if (p->parcel)
		parcel_free(p->parcel);
	p->parcel = NULL;
	p->reading = false;
	free(p->item);
	p->item = NULL;
	p->n_item = p->at = p->batch = 0;
	p->stuck = FATE_OUT;
	job_forget(p);
}

void peer_destroy(struct peer *p)
{
	peer_put_away(p);
	pipe_cut(&p->down, 0);
	pipe_cut(&p->control, 0);
	pipe_cut(&p->bulk, 0);
	pipe_cut(&p->results, 0);
	pipe_cut(&p->notices, 0);
	pipe_cut(&p->inbox, 0);
	job_destroy(&p->job);
	df_arena_release(&p->arena);
	free(p);
}

static void lose_tail(struct peer *p, struct pipe *pipe)
{
	if (world_once_in(p->world, 2))
		pipe_cut(pipe, (size_t)world_roll(p->world, pipe->n + 1));
}

/* Another one for each batch. */
static uint64_t slot_seq(const struct peer *p)
{
	return p->batch ? 2 * (p->msg.lease << 24 | (p->at + 1)) : 0;
}

struct df_look peer_look(const struct peer *p, uint64_t now_ns)
{
	struct df_look l = {.stage = DF_NO_STAGE, .computing = p->batch > 0, .seq = slot_seq(p), .n_record = p->batch};
	l.alive = p->hello_seq;
	l.stopped = now_ns < p->frozen_ns;
	l.memory_bytes = (p->stuck == FATE_HOG ? 2000U : 10U) << 20;
	if (!p->batch)
		return l;
	l.since_ns = p->since_ns;
	l.lease = p->msg.lease;
	l.alone = (p->msg.lease_msg.flags & DF_LEASE_ALONE) && p->batch == 1;
	l.record = (struct df_record_id){p->item[p->at].source, p->item[p->at].record->offset};
	return l;
}

/* What the coordinator will find: how it ended, and what its slot says. */
static void leave_word(struct peer *p, int sig, bool crashed, uint64_t now_ns)
{
	p->exit_due = true;
	p->exit_signal = sig;
	p->exit_ns = now_ns + peer_delay(p->world);
	p->blame = (struct df_blame){.cause = crashed ? DF_CAUSE_SIGNAL : DF_CAUSE_STRANGER, .computing = p->batch > 0};
	if (p->batch) {
		p->blame.lease = p->msg.lease;
		p->blame.seq = slot_seq(p);
		p->blame.since_ns = p->since_ns;
		p->blame.alone = (p->msg.lease_msg.flags & DF_LEASE_ALONE) && p->batch == 1;
		p->blame.record = (struct df_record_id){p->item[p->at].source, p->item[p->at].record->offset};
	}
	/* the strikes of earlier lives are not forgotten */
	if (crashed && p->blame.alone)
		DF_ASSERT(++p->item[p->at].record->deaths <= DF_STRIKES_MAX);
}

void peer_disown(struct peer *p)
{
	p->disowned = true;
	pipe_cut(&p->down, 0);
}

void peer_die(struct peer *p, int sig, bool crashed, uint64_t now_ns)
{
	if (!p->alive)
		return;
	p->alive = false;
	if (!p->disowned)
		leave_word(p, sig, crashed, now_ns);
	peer_put_away(p);
	job_destroy(&p->job);
	pipe_cut(&p->down, 0);
	pipe_cut(&p->notices, 0);
	pipe_cut(&p->inbox, 0);
	lose_tail(p, &p->control);
	lose_tail(p, &p->bulk);
	lose_tail(p, &p->results);
}

void peer_receive(struct peer *p, const struct df_msg *msg, struct df_blob *const *payload, size_t n, uint64_t now_ns)
{
	bool notice = msg->type == DF_MSG_NOTICE;
	net_send(p->net, p->world, notice ? NET_NOTICES : NET_LANE, p->remote ? &p->cut : NULL,
		 notice ? &p->notices : &p->down, now_ns + peer_delay(p->world), msg, payload, n);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t peer_next_ns(const struct peer *p)
{
	uint64_t at = p->hello_ns;
	if (!p->alive)
		return UINT64_MAX;
	bool works = p->role == DF_ROLE_WORKER ? worker_works(p) : p->reading && p->credit > 0;
	if (works)
		at = least(at, p->wake_ns);
	if (p->down.head)
		at = least(at, p->down.head->ready_ns);
	if (p->notices.head)
		at = least(at, p->notices.head->ready_ns);
	at = at > p->up_ns ? at : p->up_ns;
	return at > p->frozen_ns ? at : p->frozen_ns;
}

void peer_send(struct peer *p, struct pipe *pipe, struct df_msg *msg, struct df_blob *const *payload, size_t n,
	       uint64_t now_ns)
{
	enum net_path path = pipe == &p->control ? NET_CONTROL : NET_RESULTS;
	msg->epoch = p->heritage.epoch;
	msg->lane = p->lane;
	net_send(p->net, p->world, path, p->remote ? &p->cut : NULL, pipe, now_ns + peer_delay(p->world), msg, payload,
		 n);
}

static void hello(struct peer *p, uint64_t now_ns)
{
	struct df_msg msg = {.type = DF_MSG_HELLO};
	p->hello_ns = now_ns + DF_HELLO_MS * DF_MS;
	msg.hello = (struct df_hello){.role = p->role,
				      .pid = 1,
				      .seq = p->hello_seq++,
				      .sent = p->sent,
				      .held = (uint32_t)p->inbox.n + (p->parcel != NULL)};
	peer_send(p, &p->control, &msg, NULL, 0, now_ns);
}

/* What the newest notice said, in whatever order they came, is what is true here. */
static void take_notices(struct peer *p, uint64_t now_ns)
{
	while (pipe_ready(&p->notices, now_ns)) {
		struct parcel *parcel = pipe_take(&p->notices);
		struct df_str header = {parcel->frames.header->p, parcel->frames.header->n};
		uint64_t newest = p->link.notice_seq;
		enum df_run_state state = p->link.state;
		df_worker_link_on_notice(&p->link, header);
		DF_ASSERT(p->link.notice_seq >= newest);
		DF_ASSERT(p->link.notice_seq > newest || p->link.state == state || newest == 0);
		parcel_free(parcel);
	}
}

void peer_step(struct peer *p, uint64_t now_ns)
{
	if (!p->alive || now_ns < p->up_ns || now_ns < p->frozen_ns)
		return;
	take_notices(p, now_ns);
	if (p->role == DF_ROLE_WORKER)
		worker_step(p, now_ns);
	else
		reader_step(p, now_ns);
	if (p->alive && now_ns >= p->hello_ns)
		hello(p, now_ns);
}
