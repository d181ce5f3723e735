// SPDX-License-Identifier: Apache-2.0
/* help_pipe: a linked list with times. */
#include "tests/sim/help_pipe.h"

#include <stdlib.h>

#include "base/limits.h"

void pipe_init(struct pipe *p)
{
	*p = (struct pipe){.tail = NULL};
}

void pipe_move(struct pipe *p, struct parcel *parcel)
{
	if (!p->head)
		p->tail = &p->head;
	parcel->next = NULL;
	*p->tail = parcel;
	p->tail = &parcel->next;
	p->n++;
}

struct parcel *pipe_put(struct pipe *p, uint64_t ready_ns)
{
	struct parcel *parcel = calloc(1, sizeof(*parcel));
	DF_ASSERT(parcel != NULL);
	p->last_ns = ready_ns > p->last_ns ? ready_ns : p->last_ns;
	parcel->ready_ns = p->last_ns;
	pipe_move(p, parcel);
	return parcel;
}

void pipe_put_message(struct pipe *p, uint64_t ready_ns, const struct df_msg *msg, struct df_blob *const *payload,
		      size_t n)
{
	struct df_buf b;
	struct parcel *parcel = pipe_put(p, ready_ns);
	df_buf_init(&b, DF_HEADER_BYTES_MAX);
	DF_ASSERT(df_msg_pack(msg, &b) == DF_OK);
	parcel->frames.header = df_blob_copy(b.p, b.n);
	parcel->frames.payload = calloc(n + 1, sizeof(struct df_blob *));
	parcel->frames.n_payload = n;
	for (size_t i = 0; i < n; i++)
		parcel->frames.payload[i] = df_blob_ref(payload[i]);
	df_buf_release(&b);
}

bool pipe_ready(const struct pipe *p, uint64_t now_ns)
{
	return p->head && p->head->ready_ns <= now_ns;
}

struct parcel *pipe_take(struct pipe *p)
{
	struct parcel *parcel = p->head;
	p->head = parcel->next;
	p->n--;
	return parcel;
}

void parcel_free(struct parcel *p)
{
	for (size_t i = 0; i < p->frames.n_payload; i++)
		df_blob_unref(&p->frames.payload[i]);
	df_blob_unref(&p->frames.header);
	free(p->frames.payload);
	free((char *)(uintptr_t)p->order.source.message.p);
	free(p->event.message);
	free(p);
}

void pipe_exchange(struct pipe *p)
{
	struct parcel *a = p->head;
	while (a->next->next)
		a = a->next;
	struct df_frames frames = a->frames;
	a->frames = a->next->frames;
	a->next->frames = frames;
}

void pipe_cut(struct pipe *p, size_t keep)
{
	struct pipe kept;
	pipe_init(&kept);
	for (size_t i = 0; p->head; i++) {
		struct parcel *parcel = pipe_take(p);
		if (i >= keep) {
			parcel_free(parcel);
			continue;
		}
		if (!kept.head)
			kept.tail = &kept.head;
		parcel->next = NULL;
		*kept.tail = parcel;
		kept.tail = &parcel->next;
		kept.n++;
	}
	kept.last_ns = p->last_ns;
	*p = kept;
	if (p->head && !p->head->next)
		p->tail = &p->head->next;
}
