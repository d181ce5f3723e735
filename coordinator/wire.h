// SPDX-License-Identifier: Apache-2.0
/*
 * wire: the coordinator's sockets: where they listen, and the sockets of lanes as they come and go. Local endpoints are files in a
 * directory of mode 0700 that only this run uses. Belongs to the control thread, but for the results socket, which is
 * handed to the sink thread.
 */
#ifndef DF_COORDINATOR_WIRE_H
#define DF_COORDINATOR_WIRE_H

#include "base/buf.h"
#include "coordinator/socket_dir.h"
#include "proto/link.h"
#include "proto/messages.h"

struct df_lane_socket {
	uint64_t lane;
	struct df_socket *socket;
};

struct df_wire {
	struct df_socket_dir dir;
	struct df_link *link;
	struct df_socket *control, *bulk, *notices, *results;
	struct df_lane_socket *lane;
	size_t n_lane, cap_lane;
	struct df_buf header;
	uint64_t notice_seq;
};

/* life: learns the directory's name; may be NULL. Nothing here waits but df_wire_close, for at most 0.3 s (proto/link.h). */
enum df_err df_wire_open(struct df_wire *w, uint32_t n_lane_max, struct df_life *life,
			 struct df_fail *fail) DF_MUST_CHECK;
void df_wire_close(struct df_wire *w);      /* removes the directory; accepts a zeroed struct */
void df_wire_remove_dir(struct df_wire *w); /* for a process that ends without closing */

/* name: "control", "bulk", "notices", "results"; into out. */
const char *df_wire_endpoint(const struct df_wire *w, const char *name, char out[128]);
enum df_err df_wire_add_lane(struct df_wire *w, uint64_t lane, char ret_endpoint[128],
			     struct df_fail *fail) DF_MUST_CHECK;
void df_wire_close_lane(struct df_wire *w, uint64_t lane);

enum df_err df_wire_send(struct df_wire *w, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			 size_t n) DF_MUST_CHECK;
void df_wire_notice(struct df_wire *w, uint32_t epoch, enum df_run_state state);

#endif
