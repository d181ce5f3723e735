// SPDX-License-Identifier: Apache-2.0
/*
 * help_job: messages are taken apart and put together again, since what they say of time must come from the simulated clock, or a seed would
 * not tell the same story twice.
 */
#include "tests/sim/help_job.h"

#include <stdlib.h>

#include "base/limits.h"
#include "tests/sim/help_content.h"
#include "worker/lease/job.h"

struct sim_job {
	struct df_job *job;
	struct df_heritage heritage;
	struct df_slot slot;
	struct df_arena arena;
	struct pipe out;
};

static void set_times(struct df_result *r)
{
	uint64_t in = 0;
	for (size_t i = 0; i < r->n_counter; i++)
		if (df_str_is(r->counter[i].name, "in"))
			in = r->counter[i].value;
	for (size_t i = 0; i < r->n_counter; i++) {
		struct df_counter *c = &r->counter[i];
		if (df_str_is(c->name, "busy_ns"))
			c->value = (1 + in) * DF_MS;
		else if (c->name.n > 8 && memcmp(c->name.p, "time_ns:", 8) == 0)
			c->value = in;
	}
}

static enum df_err keep_message(void *self, struct df_buf *header, struct df_blob **payload, size_t n, bool last)
{
	struct sim_job *j = self;
	struct df_msg msg;
	(void)last;
	df_arena_reset(&j->arena);
	DF_ASSERT(df_msg_unpack(df_buf_str(header), &j->arena, &msg, NULL) == DF_OK);
	if (msg.type == DF_MSG_RESULT)
		set_times(&msg.result);
	pipe_put_message(&j->out, 0, &msg, payload, n);
	for (size_t i = 0; i < n; i++)
		df_blob_unref(&payload[i]);
	return DF_OK;
}

static struct sim_job *create(const struct peer *p)
{
	struct df_fail fail;
	struct sim_job *j = calloc(1, sizeof(*j));
	DF_ASSERT(j != NULL);
	j->heritage = p->heritage;
	j->heritage.pipeline = DF_STR(CONTENT_PIPELINE);
	j->heritage.id_key = DF_STR("id");
	j->heritage.text_key = DF_STR("text");
	j->heritage.max_record = DF_RECORD_BYTES;
	j->heritage.sample = 1;
	j->heritage.want[DF_OUTPUT_JSONL] = j->heritage.want[DF_OUTPUT_REJECTS] = true;
	df_arena_init(&j->arena, 16U << 20, 0);
	pipe_init(&j->out);
	struct df_job_config config = {.heritage = &j->heritage, .slot = &j->slot, .send = keep_message, .self = j};
	enum df_err err = df_job_create(&config, &j->job, &fail);
	DF_ASSERT(err == DF_OK);
	return j;
}

void job_destroy(struct sim_job **job)
{
	struct sim_job *j = *job;
	if (!j)
		return;
	df_job_destroy(&j->job);
	pipe_cut(&j->out, 0);
	df_arena_release(&j->arena);
	free(j);
	*job = NULL;
}

void job_begin(struct peer *p)
{
	if (!p->job)
		p->job = create(p);
	DF_ASSERT(df_job_run(p->job->job, &p->msg, p->parcel->frames.payload, p->parcel->frames.n_payload) == DF_OK);
	DF_ASSERT(p->job->out.n > 0);
}

void job_forget(struct peer *p)
{
	if (p->job)
		pipe_cut(&p->job->out, 0);
}

void job_send(struct peer *p, bool all, uint64_t now_ns)
{
	struct pipe *out = &p->job->out;
	while (all ? out->n > 0 : out->n > 1 && world_once_in(p->world, 2)) {
		struct df_msg msg;
		struct parcel *parcel = pipe_take(out);
		struct df_str header = {parcel->frames.header->p, parcel->frames.header->n};
		df_arena_reset(&p->job->arena);
		DF_ASSERT(df_msg_unpack(header, &p->job->arena, &msg, NULL) == DF_OK);
		p->sent += msg.type == DF_MSG_FAILED || msg.result.last;
		p->seq = msg.type == DF_MSG_FAILED ? msg.failed.seq : msg.result.seq;
		peer_send(p, &p->results, &msg, parcel->frames.payload, parcel->frames.n_payload, now_ns);
		parcel_free(parcel);
	}
}
