// SPDX-License-Identifier: Apache-2.0
/*
 * link: a child's sockets and its heartbeat, for both roles. Belongs to one thread.
 */
#ifndef DF_WORKER_PROCESS_LINK_H
#define DF_WORKER_PROCESS_LINK_H

#include "base/buf.h"
#include "proto/heritage.h"
#include "proto/link.h"

struct df_worker_link {
	const struct df_heritage *h;
	struct df_slot *slot;
	struct df_link *link;
	struct df_socket *lane, *control, *notices, *out; /* out: results of a worker, bulk of a reader */
	struct df_buf header;
	uint64_t seq, next_hello_ns;
	enum df_run_state state;
	uint64_t notice_seq;
	uint64_t lease; /* the last one taken */
};

enum df_err df_worker_link_open(struct df_worker_link *l, const struct df_heritage *h, struct df_slot *slot,
				struct df_fail *fail) DF_MUST_CHECK;
void df_worker_link_close(struct df_worker_link *l);

/* HELLO when it is due; `sent` and `held` as PROTOCOL.md says. */
void df_worker_link_hello(struct df_worker_link *l, uint64_t now_ns, uint64_t sent, uint32_t held);
/* HELLO now, for another thread than the owner's, with a socket and a buffer of its own; of a role that sends no results. */
void df_worker_link_say_hello(const struct df_worker_link *l, struct df_socket *control, struct df_buf *header,
			      uint64_t now_ns);
/* Take all notices that wait; l->state is the newest. */
void df_worker_link_notices(struct df_worker_link *l);
/* One notice: the newest counts, in whatever order they come. Others' and nonsense are dropped. */
void df_worker_link_on_notice(struct df_worker_link *l, struct df_str header);
/* May this lease be worked on? Numbers rise on a lane, so one that does not came twice, or behind one that was sent later. */
bool df_worker_link_takes(struct df_worker_link *l, uint64_t lease);
int df_worker_link_timeout_ms(const struct df_worker_link *l, uint64_t now_ns);

#endif
