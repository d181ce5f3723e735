// SPDX-License-Identifier: Apache-2.0
/* link: connect outwards, say HELLO each second, listen to notices. */
#include "worker/process/link.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

static enum df_err connect_to(struct df_worker_link *l, enum df_socket_kind kind, struct df_str endpoint, int hwm,
			      struct df_socket **ret_socket, struct df_fail *fail)
{
	return df_socket_connect(l->link, kind, endpoint.p, hwm, ret_socket, fail);
}

enum df_err df_worker_link_open(struct df_worker_link *l, const struct df_heritage *h, struct df_slot *slot,
				struct df_fail *fail)
{
	*l = (struct df_worker_link){.h = h, .slot = slot};
	df_buf_init(&l->header, DF_HEADER_BYTES_MAX);
	struct df_str out = h->role == DF_ROLE_WORKER ? h->results_endpoint : h->bulk_endpoint;
	enum df_err err = df_link_open(8, &l->link, fail);
	if (err == DF_OK)
		err = connect_to(l, DF_SOCKET_PULL, h->lane_endpoint, DF_LANE_HWM, &l->lane, fail);
	if (err == DF_OK)
		err = connect_to(l, DF_SOCKET_SUB, h->notices_endpoint, 64, &l->notices, fail);
	if (err == DF_OK)
		err = connect_to(l, DF_SOCKET_PUSH, out, DF_RESULT_HWM, &l->out, fail);
	if (err == DF_OK)
		err = connect_to(l, DF_SOCKET_PUSH, h->control_endpoint, 64, &l->control, fail);
	if (err != DF_OK)
		df_worker_link_close(l);
	return err;
}

void df_worker_link_close(struct df_worker_link *l)
{
	df_socket_close(&l->lane);
	df_socket_close(&l->control);
	df_socket_close(&l->notices);
	df_socket_close(&l->out);
	df_link_close(&l->link);
	df_buf_release(&l->header);
}

/* Packs and sends one; false: not connected yet, or full. */
static bool send_hello(const struct df_worker_link *l, struct df_socket *control, struct df_buf *header, uint64_t seq,
		       uint64_t sent, uint32_t held)
{
	struct df_msg msg = {.type = DF_MSG_HELLO, .epoch = l->h->epoch, .lane = l->h->lane};
	msg.hello = (struct df_hello){
		.nonce = l->h->nonce,
		.role = l->h->role,
		.pid = (uint32_t)getpid(),
		.seq = seq,
		.sent = sent,
		.held = held,
		.peak_rss_bytes = atomic_load(&l->slot->peak_rss_bytes),
	};
	df_buf_reset(header);
	return df_msg_pack(&msg, header) == DF_OK && df_socket_send(control, df_buf_str(header), NULL, 0) == DF_OK;
}

void df_worker_link_hello(struct df_worker_link *l, uint64_t now_ns, uint64_t sent, uint32_t held)
{
	atomic_fetch_add(&l->slot->alive, 1);
	if (now_ns < l->next_hello_ns)
		return;
	df_slot_note_memory(l->slot, now_ns);
	bool done = send_hello(l, l->control, &l->header, l->seq, sent, held);
	l->seq += done;
	l->next_hello_ns = now_ns + (done ? DF_HELLO_MS * DF_MS : DF_MS);
}

void df_worker_link_say_hello(const struct df_worker_link *l, struct df_socket *control, struct df_buf *header,
			      uint64_t now_ns)
{
	atomic_fetch_add(&l->slot->alive, 1);
	df_slot_note_memory(l->slot, now_ns);
	(void)send_hello(l, control, header, 0, 0, 0);
}

void df_worker_link_on_notice(struct df_worker_link *l, struct df_str header)
{
	struct df_arena arena;
	struct df_msg msg;
	df_arena_init(&arena, 1U << 20, 0);
	if (df_msg_unpack(header, &arena, &msg, NULL) == DF_OK && msg.type == DF_MSG_NOTICE &&
	    msg.epoch == l->h->epoch && msg.notice.seq >= l->notice_seq) {
		l->notice_seq = msg.notice.seq;
		l->state = (enum df_run_state)msg.notice.state;
	}
	df_arena_release(&arena);
}

void df_worker_link_notices(struct df_worker_link *l)
{
	struct df_frames frames = {0};
	while (df_socket_recv(l->notices, &frames) == DF_OK) {
		df_worker_link_on_notice(l, (struct df_str){frames.header->p, frames.header->n});
		df_frames_release(&frames);
	}
	df_frames_free(&frames);
}

bool df_worker_link_takes(struct df_worker_link *l, uint64_t lease)
{
	if (lease <= l->lease)
		return false;
	l->lease = lease;
	return true;
}

int df_worker_link_timeout_ms(const struct df_worker_link *l, uint64_t now_ns)
{
	if (l->next_hello_ns <= now_ns)
		return 0;
	return (int)((l->next_hello_ns - now_ns + DF_MS - 1) / DF_MS);
}
