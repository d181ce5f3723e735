// SPDX-License-Identifier: Apache-2.0
/* pipeline_run: open the stages, time them, close them. */
#include "worker/lease/pipeline_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/pipeline.h"
#include "worker/stages/registry.h"
#include "worker/process/turn.h"

struct df_pipeline_run {
	struct df_slot *slot;
	struct df_spawner *spawner;
	struct df_arena arena;
	struct df_pipeline pipeline;
	struct df_stage stage[DF_STAGES_MAX];
	struct df_stage_env env[DF_STAGES_MAX]; /* stages keep a pointer to theirs */
	struct df_outside outside;
	uint64_t n_doc; /* so far */
	size_t n_open;
};

/* Given to stages: they go on, slowly. */
static void progress(void *self)
{
	df_slot_tick(self, df_clock_mono(&df_clock_real));
}

static enum df_err open_stages(struct df_pipeline_run *r, const struct df_heritage *h, struct df_fail *fail)
{
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	DF_TRY(df_pipeline_parse(h->pipeline, &r->arena, &r->pipeline, fail));
	DF_TRY(df_stage_check_pipeline(&r->pipeline, &r->arena, &class, &options, fail));
	for (size_t i = 0; i < r->pipeline.n_stage; i++) {
		struct df_stage *s = &r->stage[i];
		const struct df_str label = r->pipeline.stage[i].label;
		s->class = class[i];
		s->options = options[i];
		s->call_name = label.n ? df_arena_copy(&r->arena, label).p : class[i]->name;
		if (!s->call_name)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for a stage");
		r->n_open = i + 1;
		r->env[i] = (struct df_stage_env){
			.model_dir = h->model_dir.n ? h->model_dir.p : NULL,
			.pipeline = &r->pipeline,
			.stage_no = i,
			.arena = &r->arena,
			.progress = progress,
			.progress_self = r->slot,
			.spawner = r->spawner,
			.caller = r->outside.caller,
			.turn = r->outside.turn,
			.stream_fd = r->outside.stream_fd,
			.shown = r->slot ? &r->slot->shown : NULL,
		};
		struct df_fail why = {0};
		enum df_err err = s->class->open ? s->class->open(s, &r->env[i], &why) : DF_OK;
		if (err != DF_OK)
			return df_fail(fail, err, "stage '%s' cannot start: %s", s->call_name, why.msg);
	}
	return DF_OK;
}

enum df_err df_pipeline_run_open(const struct df_heritage *h, struct df_slot *slot, struct df_spawner *spawner,
				 const struct df_outside *outside, struct df_pipeline_run **ret_run,
				 struct df_fail *fail)
{
	struct df_pipeline_run *r = calloc(1, sizeof(*r));
	if (!r)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the stages");
	r->slot = slot;
	r->spawner = spawner;
	r->outside = outside ? *outside : (struct df_outside){.stream_fd = -1};
	df_arena_init(&r->arena, (size_t)1 << 30, 0);
	enum df_err err = open_stages(r, h, fail);
	if (err != DF_OK) {
		df_pipeline_run_close(&r);
		return err;
	}
	*ret_run = r;
	return DF_OK;
}

void df_pipeline_run_close(struct df_pipeline_run **run)
{
	struct df_pipeline_run *r = *run;
	if (!r)
		return;
	for (size_t i = r->n_open; i-- > 0;)
		if (r->stage[i].class->close)
			r->stage[i].class->close(&r->stage[i]);
	df_arena_release(&r->arena);
	free(r);
	*run = NULL;
}

static enum df_err only_one_is_streamed(struct df_pipeline_run *r, size_t n_doc, struct df_fail *fail)
{
	r->n_doc += n_doc;
	if (r->outside.stream_fd < 0 || r->n_doc <= 1)
		return DF_OK;
	return df_fail(
		fail, DF_ERR_USAGE,
		"'--stream' shows the answer to one document, and the input has more; name one, or add --limit 1");
}

static uint64_t waited_ns(const struct df_pipeline_run *r)
{
	return r->outside.turn ? df_turn_waited_ns(r->outside.turn) : 0;
}

enum df_err df_pipeline_run_batch(struct df_pipeline_run *r, struct df_batch *batch, struct df_stage_times *times,
				  struct df_fail *fail)
{
	uint64_t before = df_clock_mono(&df_clock_real);
	DF_TRY(only_one_is_streamed(r, batch->n_doc, fail));
	for (size_t i = 0; i < r->n_open; i++) {
		struct df_stage *s = &r->stage[i];
		struct df_fail why = {0};
		uint64_t waited = waited_ns(r);
		df_slot_stage(r->slot, (uint32_t)i);
		df_slot_tick(r->slot, before);
		enum df_err err = s->class->process(s, batch, &why);
		if (err != DF_OK)
			return df_fail(fail, err, "stage '%s' failed: %s", s->call_name,
				       why.msg[0] ? why.msg : df_err_name(err));
		uint64_t now = df_clock_mono(&df_clock_real);
		waited = waited_ns(r) - waited;
		times->wait_ns[i] += waited;
		times->busy_ns[i] += now - before - waited;
		before = now;
	}
	df_slot_stage(r->slot, DF_NO_STAGE);
	df_slot_tick(r->slot, before);
	return DF_OK;
}

const char *df_pipeline_run_stage(const struct df_pipeline_run *r, uint32_t stage)
{
	return stage < r->n_open ? r->stage[stage].call_name : NULL;
}

bool df_pipeline_run_takes_any(const struct df_pipeline_run *r)
{
	return r->n_open && (r->stage[0].class->flags & DF_STAGE_ANY_RECORD);
}

void df_pipeline_run_times(const struct df_pipeline_run *r, struct df_stage_times *times, struct df_counters *counters)
{
	for (size_t i = 0; i < r->n_open; i++) {
		char name[128];
		(void)snprintf(name, sizeof(name), "time_ns:%.100s", r->stage[i].call_name);
		df_counters_add(counters, name, times->busy_ns[i]);
		if (times->wait_ns[i]) {
			(void)snprintf(name, sizeof(name), "wait_ns:%.100s", r->stage[i].call_name);
			df_counters_add(counters, name, times->wait_ns[i]);
		}
	}
	*times = (struct df_stage_times){0};
}
