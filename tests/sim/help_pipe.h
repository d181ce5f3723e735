// SPDX-License-Identifier: Apache-2.0
/* help_pipe: first in, first out, with a time before which nothing comes out: one ZeroMQ pipe, or one queue between threads. */
#ifndef DF_TESTS_SIM_HELP_PIPE_H
#define DF_TESTS_SIM_HELP_PIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/sink/sink.h"

/* Of the three one is in use. */
struct parcel {
	struct parcel *next;
	uint64_t ready_ns;
	struct df_frames frames;
	struct df_order order;
	struct df_event event;
};

struct pipe {
	struct parcel *head, **tail;
	size_t n;
	uint64_t last_ns;
	bool swap; /* the last one changes places with the next */
};

void pipe_init(struct pipe *p);
/* A parcel behind the others, to fill in; it never overtakes. */
struct parcel *pipe_put(struct pipe *p, uint64_t ready_ns);
/* Really packed; payload blobs get a reference. */
void pipe_put_message(struct pipe *p, uint64_t ready_ns, const struct df_msg *msg, struct df_blob *const *payload,
		      size_t n);
bool pipe_ready(const struct pipe *p, uint64_t now_ns);
/* A parcel that was taken, behind the others. */
void pipe_move(struct pipe *p, struct parcel *parcel);
/* The oldest; the caller frees it. */
struct parcel *pipe_take(struct pipe *p);
void parcel_free(struct parcel *p);
/* The last two change places; their times stay. There are two. */
void pipe_exchange(struct pipe *p);
/* Lose all but the first `keep`. */
void pipe_cut(struct pipe *p, size_t keep);

#endif
