// SPDX-License-Identifier: Apache-2.0
/*
 * batch: rounds. A round is the files of requests that one pass wrote, until what came of them is fetched.
 *
 * DESIGN. The state is saved before and after whatever somebody else sees (state.h); all else is made anew from inputs and fetched files. So there is no
 * resuming as such: each start loads the state, goes on with the round that is not over, and then makes passes until nothing is missing.
 */
#include "worker/batch/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/human.h"
#include "base/limits.h"
#include "base/log.h"
#include "proto/example.h"
#include "worker/batch/own.h"
#include "worker/batch/rounds.h"
#include "worker/cache/cache.h"
#include "worker/lease/pipeline_run.h"

#define SCRATCH_BYTES ((size_t)1 << 30)
#define SCRATCH_KEEP (1U << 20)
#define LOCK_TRIES 10
#define LOCK_PAUSE_NS 20000000L
#define EMPTY_ROUNDS_MAX 3 /* rounds in a row that bring nothing */

/* ------------------------------------------------------------------ the directory */

/* `status` and `verify` hold it for a moment, shared. */
static enum df_err take_lock(struct df_batch_run *b, struct df_fail *fail)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	for (int i = 0; flock(b->lock_fd, LOCK_EX | LOCK_NB) != 0; i++) {
		if (i == LOCK_TRIES)
			return df_fail(fail, DF_ERR_USAGE, "another docflume is at work in '%s'", b->o->out);
		(void)nanosleep(&pause, NULL);
	}
	return DF_OK;
}

static enum df_err open_dir(struct df_batch_run *b, struct df_fail *fail)
{
	const char *path = b->o->out;
	if (mkdir(path, 0777) != 0 && errno != EEXIST)
		return df_fail_errno(fail, "make the directory '%s'", path);
	b->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->dir_fd < 0)
		return df_fail_errno(fail, "open the directory '%s'", path);
	if (faccessat(b->dir_fd, "journal", F_OK, 0) == 0)
		return df_fail(fail, DF_ERR_USAGE, "'%s' is the directory of a run ('docflume run'); name another one",
			       path);
	b->lock_fd = openat(b->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (b->lock_fd < 0)
		return df_fail_errno(fail, "make '%s/lock'", path);
	return take_lock(b, fail);
}

static void hex16(char to[17], uint64_t v)
{
	(void)snprintf(to, 17, "%016" PRIx64, v);
}

/* What decides what is asked and how rows look, beside pipeline and inputs. */
static char *options_text(const struct df_batch_options *o)
{
	struct df_buf b;
	df_buf_init(&b, 65536);
	(void)df_buf_addf(&b, "id-key=" DF_STR_FMT " text-key=" DF_STR_FMT " max-record=%" PRIu64,
			  DF_STR_ARG(o->id_key), DF_STR_ARG(o->text_key), o->max_record);
	if (o->want_npy)
		(void)df_buf_addf(&b, " output-format=%s", o->want_rows ? "both" : "npy");
	if (!o->pipeline.n)
		(void)df_buf_addf(&b, " base-url=%s", o->base_url ? o->base_url : "");
	char *text = df_buf_err(&b) == DF_OK ? df_str_dup(df_buf_str(&b)) : NULL;
	df_buf_release(&b);
	return text;
}

static enum df_err new_state(struct df_batch_run *b, struct df_fail *fail)
{
	struct df_batch_state *s = &b->state;
	df_batch_state_init(s);
	hex16(s->run, df_rand_real.next(df_rand_real.self));
	hex16(s->inputs, b->o->inputs);
	s->pipeline = df_str_dup(b->o->pipeline);
	s->options = options_text(b->o);
	if (!s->pipeline || !s->options)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a run");
	return df_batch_state_save(b->dir_fd, s, fail);
}

static enum df_err check_state(const struct df_batch_run *b, struct df_fail *fail)
{
	const struct df_batch_state *s = &b->state;
	char inputs[17];
	char *options = options_text(b->o);
	const char *differs = NULL;
	hex16(inputs, b->o->inputs);
	if (!options)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a run");
	if (!df_str_is(b->o->pipeline, s->pipeline))
		differs = "another pipeline";
	else if (strcmp(options, s->options) != 0)
		differs = "other options (id-key, text-key, max-record, output-format or base-url)";
	else if (strcmp(inputs, s->inputs) != 0)
		differs = "other inputs, or the same that were changed since";
	free(options);
	if (!differs)
		return DF_OK;
	return df_fail(fail, DF_ERR_USAGE,
		       "'%s' holds a batch run with %s; go on with what it was begun with, or name another directory",
		       b->o->out, differs);
}

static enum df_err open_state(struct df_batch_run *b, struct df_fail *fail)
{
	enum df_err err = df_batch_state_load(b->dir_fd, &b->state, fail);
	if (err == DF_ERR_NOT_FOUND)
		return new_state(b, fail);
	DF_TRY(err);
	return check_state(b, fail);
}

/* ------------------------------------------------------------------ life */

static void warn(void *self, const char *message)
{
	(void)self;
	df_warn("%s", message);
}

static enum df_err open_calls(struct df_batch_run *b, struct df_fail *fail)
{
	struct df_cache_config cache = df_cache_defaults;
	DF_TRY(df_models_open(NULL, &b->models, fail));
	DF_TRY(df_http_open(&(struct df_http_config){0}, &b->http, fail));
	DF_TRY(df_remote_create(b->http, b->o->signal_fd, &b->remote, fail));
	if (!b->o->no_cache && b->o->pipeline.n) {
		cache.path = b->o->cache;
		if (b->o->cache_bytes)
			cache.disk_bytes = b->o->cache_bytes;
		cache.warn = warn;
		DF_TRY(df_cache_open(&cache, &b->cache, fail));
	}
	const struct df_caller_config config = {
		.http = b->http, .models = b->models, .instead = df_batch_gate, .instead_self = b};
	return df_caller_create(&config, &b->caller, fail);
}

static enum df_err open_all(struct df_batch_run *b, struct df_fail *fail)
{
	b->slot = calloc(1, sizeof(*b->slot));
	if (!b->slot)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a run");
	DF_TRY(open_calls(b, fail));
	DF_TRY(b->o->pipeline.n ? df_batch_open_pipeline(b, fail) : df_batch_open_lines(b, fail));
	DF_TRY(df_batch_open_sites(b, fail));
	DF_TRY(df_answers_create(b->dir_fd, &b->answers, fail));
	for (size_t i = 0; i < b->state.n_file; i++)
		if (b->state.file[i].step == DF_BATCH_DONE)
			DF_TRY(df_batch_take_answers(b, &b->state.file[i], fail));
	return DF_OK;
}

static void close_all(struct df_batch_run *b)
{
	df_batch_out_drop(&b->out);
	df_request_files_destroy(&b->requests);
	df_pipeline_run_close(&b->pipeline);
	df_route_close(&b->lines_route);
	df_caller_destroy(&b->caller);
	df_remote_destroy(&b->remote);
	df_http_close(&b->http);
	df_cache_close(&b->cache);
	df_models_close(&b->models);
	df_answers_destroy(&b->answers);
	df_batch_state_release(&b->state);
	df_counters_release(&b->counters);
	df_arena_release(&b->scratch);
	df_arena_release(&b->arena);
	free(b->slot);
	if (b->lock_fd >= 0)
		(void)close(b->lock_fd);
	if (b->dir_fd >= 0)
		(void)close(b->dir_fd);
}

/* ------------------------------------------------------------------ passes */

static enum df_err make_pass(struct df_batch_run *b, struct df_fail *fail)
{
	const struct df_request_files_config config = {
		.dir_fd = b->dir_fd, .state = &b->state, .lines_max = b->o->file_lines, .bytes_max = b->o->file_bytes};
	df_counters_reset(&b->counters);
	b->pending = b->unbounded = b->source_errors = 0;
	b->fault.code = DF_OK;
	df_answers_begin_pass(b->answers);
	const bool want[DF_N_OUTPUT] = {
		[DF_OUTPUT_JSONL] = b->o->want_rows, [DF_OUTPUT_NPY] = b->o->want_npy, [DF_OUTPUT_REJECTS] = true};
	DF_TRY(df_batch_out_begin(&b->out, b->dir_fd, want, fail));
	DF_TRY(df_request_files_begin(&config, &b->requests, fail));
	DF_TRY(b->o->pipeline.n ? df_batch_pass(b, fail) : df_batch_pass_lines(b, fail));
	return b->counters.err == DF_OK ? DF_OK : df_fail(fail, DF_ERR_NOMEM, "no memory to count what was done");
}

/* The requests of a pass become a round, if the money allows it. */
static enum df_err begin_round(struct df_batch_run *b, struct df_fail *fail)
{
	double worst = 0, spent = df_answers_stats(b->answers).usd;
	char n[48], files[48], most[32], so_far[32], budget[32];
	struct df_batch_state *s = &b->state;
	size_t before = 0;
	for (size_t i = 0; i < s->n_file; i++)
		before += s->file[i].round <= s->round;
	DF_TRY(df_request_files_end(b->requests, &worst, fail));
	if (b->o->budget > 0 && spent + worst > b->o->budget) {
		while (s->n_file > before)
			df_batch_state_drop_last(s);
		return df_fail(fail, DF_ERR_QUOTA,
			       "%s could cost up to %s; with %s spent that passes the budget of %s. Nothing of it was "
			       "sent; the "
			       "same command with a larger budget goes on",
			       df_human_number_of(b->pending, "request", n), df_human_usd(worst, most),
			       df_human_usd(spent, so_far), df_human_usd(b->o->budget, budget));
	}
	s->round++;
	char unknown[80] = "";
	if (b->unbounded)
		(void)snprintf(unknown, sizeof(unknown), ", and what %s at a price that is not known",
			       b->unbounded == 1 ? "one costs" : "some cost");
	df_info("round %u: %s in %s, %s at most%s", s->round, df_human_number_of(b->pending, "request", n),
		df_human_number_of(s->n_file - before, "file", files), df_human_usd(worst, most), unknown);
	return df_batch_state_save(b->dir_fd, s, fail);
}

/* What was left out, and why: as a run's last lines say it. */
static void tell_kinds(const struct df_batch_run *b)
{
	struct df_buf kinds;
	df_buf_init(&kinds, 65536);
	df_example_add_kinds(&kinds, &b->counters.map, "filtered:");
	if (kinds.n)
		df_info("filtered%s", df_buf_z(&kinds));
	df_buf_reset(&kinds);
	df_example_add_kinds(&kinds, &b->counters.map, "rejected:");
	if (kinds.n)
		df_info("rejected%s", df_buf_z(&kinds));
	df_buf_release(&kinds);
	df_examples_tell(&b->counters.map);
}

static enum df_err finish(struct df_batch_run *b, struct df_fail *fail)
{
	struct df_answers_stats answers = df_answers_stats(b->answers);
	struct df_batch_counts *c = &b->state.counts;
	DF_TRY(df_batch_out_end(&b->out, &b->state, fail));
	*c = (struct df_batch_counts){
		.in = df_batch_count(b, "in"),
		.out = df_batch_count(b, "out"),
		.filtered = df_batch_count(b, "filtered"),
		.rejected = df_batch_count(b, "rejected"),
		.rows = df_batch_count(b, "rows"),
		.calls = df_batch_count(b, "calls"),
		.cached = df_batch_count(b, "cached"),
		.source_errors = b->source_errors,
		.tokens_in = answers.tokens_in,
		.tokens_out = answers.tokens_out,
		.unpriced = answers.unpriced,
		.usd = round(answers.usd * 1e9) / 1e9, /* as batch.json keeps it */
	};
	if (c->in != c->out + c->filtered + c->rejected)
		return df_fail(fail, DF_ERR_BUG, "%" PRIu64 " documents in, but %" PRIu64 " have a fate", c->in,
			       c->out + c->filtered + c->rejected);
	b->state.finished = true;
	DF_TRY(df_batch_state_save(b->dir_fd, &b->state, fail));
	tell_kinds(b);
	return DF_OK;
}

static enum df_err rounds(struct df_batch_run *b, struct df_fail *fail)
{
	unsigned empty = 0;
	for (;;) {
		uint64_t before = df_answers_stats(b->answers).lines;
		if (df_batch_round_is_open(b)) {
			DF_TRY(df_batch_round(b, fail));
			empty = df_answers_stats(b->answers).lines == before ? empty + 1 : 0;
			if (empty == EMPTY_ROUNDS_MAX)
				return df_fail(
					fail, DF_ERR_CLOSED,
					"%u rounds in a row brought no answer at all; look at the provider's list "
					"of batches. The same command tries it again",
					empty);
		}
		if (b->state.round >= DF_BATCH_ROUNDS_MAX)
			return df_fail(fail, DF_ERR_LIMIT, "%u rounds were not enough", b->state.round);
		DF_TRY(make_pass(b, fail));
		if (!b->pending)
			return finish(b, fail);
		DF_TRY(begin_round(b, fail));
		df_request_files_destroy(&b->requests);
		df_batch_out_drop(&b->out);
	}
}

enum df_err df_batch_run(const struct df_batch_options *options, struct df_batch_counts *ret_counts,
			 struct df_fail *fail)
{
	struct df_batch_run b = {.o = options, .dir_fd = -1, .lock_fd = -1};
	df_arena_init(&b.arena, SCRATCH_BYTES, 0);
	df_arena_init(&b.scratch, SCRATCH_BYTES, SCRATCH_KEEP);
	df_counters_init(&b.counters);
	enum df_err err = open_dir(&b, fail);
	if (err == DF_OK)
		err = open_state(&b, fail);
	if (err == DF_OK && !b.state.finished)
		err = open_all(&b, fail);
	if (err == DF_OK && !b.state.finished)
		err = rounds(&b, fail);
	if (err == DF_OK)
		*ret_counts = b.state.counts;
	close_all(&b);
	return err;
}
