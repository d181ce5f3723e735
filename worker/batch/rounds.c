// SPDX-License-Identifier: Apache-2.0
/* rounds: each file of requests takes its steps; between two looks there is a pause that grows. */
#include "worker/batch/rounds.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "worker/batch/proof.h"

#define FAILURES_MAX 2             /* batches of one file that fail as a whole */
#define FULL_WAIT_NS (60 * DF_SEC) /* at least, before a batch that had no room is created again */
#define SETTLE_NS (5 * DF_SEC)     /* after a creation of which nobody knows, before it is looked for again */
#define LOOKS_BEFORE_AGAIN 2       /* that find nothing, before it is created again */

bool df_batch_round_is_open(const struct df_batch_run *b)
{
	for (size_t i = 0; i < b->state.n_file; i++)
		if (b->state.file[i].step != DF_BATCH_DONE)
			return true;
	return false;
}

enum df_err df_batch_take_answers(struct df_batch_run *b, const struct df_batch_file *file, struct df_fail *fail)
{
	struct df_model_info info = df_batch_info(b, file);
	return df_answers_add(b->answers, file, &info, fail);
}

static enum df_err save(struct df_batch_run *b, struct df_batch_file *f, enum df_batch_step step, struct df_fail *fail)
{
	f->step = step;
	return df_batch_state_save(b->dir_fd, &b->state, fail);
}

static enum df_err place_of(const struct df_batch_run *b, const struct df_batch_file *f,
			    const struct df_remote_place **ret, struct df_fail *fail)
{
	const struct df_batch_site *site = df_batch_site_of(b, f->model);
	if (!site)
		return df_fail(fail, DF_ERR_CORRUPT, "batch.json names the model '%s', which the pipeline has not",
			       f->model);
	*ret = &site->place;
	return DF_OK;
}

/* ------------------------------------------------------------------ creating */

/* Somebody said that a batch is being created, and died, or got no answer: it is there, or it will not be. */
static enum df_err find_batch(struct df_batch_run *b, struct df_batch_file *f, const struct df_remote_place *at,
			      struct df_fail *fail)
{
	enum df_err err = DF_ERR_NOT_FOUND;
	uint64_t settle = b->o->poll_ns < SETTLE_NS ? b->o->poll_ns : SETTLE_NS;
	for (int i = 0; err == DF_ERR_NOT_FOUND && i < LOOKS_BEFORE_AGAIN; i++) {
		if (df_remote_wait(b->remote, settle) != DF_OK)
			return df_fail(fail, DF_ERR_INTERRUPTED, "stopped on request");
		err = df_remote_find_batch(b->remote, at, f, &b->state, fail);
	}
	if (err == DF_OK && f->unproved)
		df_info("batch %u: '%s' has its size and age; its results will tell whether it is ours", f->no,
			f->batch);
	if (err == DF_OK)
		return save(b, f, DF_BATCH_CREATED, fail);
	return err == DF_ERR_NOT_FOUND ? save(b, f, DF_BATCH_UPLOADED, fail) : err;
}

/* Without metadata, one creation at a time may be in doubt: two of the same size could not be told apart before their end. */
static bool must_wait(const struct df_batch_run *b, const struct df_batch_file *f, const struct df_remote_place *at)
{
	for (size_t i = 0; at->form == DF_REMOTE_INLINE && i < b->state.n_file; i++)
		if (&b->state.file[i] != f && b->state.file[i].step == DF_BATCH_CREATING)
			return true;
	return false;
}

static enum df_err create(struct df_batch_run *b, struct df_batch_file *f, const struct df_remote_place *at,
			  struct df_fail *fail)
{
	char lines[48];
	uint64_t now = df_clock_mono(&df_clock_real);
	if (f->not_before > now || must_wait(b, f, at))
		return DF_OK;
	DF_TRY(df_remote_mark(b->remote, at, f, fail));
	f->tries++;
	DF_TRY(save(b, f, DF_BATCH_CREATING, fail));
	enum df_err err = df_remote_create_batch(b->remote, at, b->dir_fd, f, b->state.run, fail);
	if (err == DF_OK) {
		df_info("batch %u: '%s', %s", f->no, f->batch, df_human_number_of(f->lines, "request", lines));
		return save(b, f, DF_BATCH_CREATED, fail);
	}
	if (err == DF_ERR_AGAIN || err == DF_ERR_INTERRUPTED) {
		if (err == DF_ERR_AGAIN)
			df_warn("%s; looking for it", fail->msg);
		return err == DF_ERR_AGAIN ? DF_OK : err;
	}
	DF_TRY(df_batch_state_save(b->dir_fd, &b->state, fail));
	if (err == DF_ERR_BUSY) {
		df_warn("%s; trying again", fail->msg);
		f->not_before = df_clock_mono(&df_clock_real) + b->o->poll_ns;
		return save(b, f, DF_BATCH_UPLOADED, fail);
	}
	struct df_fail refused = *fail;
	DF_TRY(save(b, f, DF_BATCH_UPLOADED, fail));
	*fail = refused;
	return err;
}

/* ------------------------------------------------------------------ looking and fetching */

/* It failed before it did anything: it had no room there, or its file is not accepted. */
static enum df_err failed_whole(struct df_batch_run *b, struct df_batch_file *f, const struct df_remote_view *v,
				struct df_fail *fail)
{
	if (v->full) {
		uint64_t wait = b->o->poll_max_ns < FULL_WAIT_NS ? b->o->poll_max_ns : FULL_WAIT_NS;
		df_info("batch %u has no room yet (%s); it is created again later", f->no, v->why);
		f->not_before = df_clock_mono(&df_clock_real) + wait;
		return save(b, f, DF_BATCH_UPLOADED, fail);
	}
	if (++f->failures >= FAILURES_MAX)
		return df_fail(fail, DF_ERR_RANGE, "batch '%s' failed: %s", f->batch, v->why);
	df_warn("batch '%s' failed (%s); it is tried once more", f->batch, v->why);
	return save(b, f, DF_BATCH_WRITTEN, fail);
}

static enum df_err look(struct df_batch_run *b, struct df_batch_file *f, const struct df_remote_place *at,
			struct df_fail *fail)
{
	struct df_remote_view v;
	char before[sizeof(f->status)];
	memcpy(before, f->status, sizeof(before));
	DF_TRY(df_remote_look(b->remote, at, f, &v, fail));
	bool moved = f->done_lines != v.done + v.failed_lines || strcmp(before, f->status) != 0;
	f->done_lines = v.done + v.failed_lines;
	if (!v.ended)
		return moved ? df_batch_state_save(b->dir_fd, &b->state, fail) : DF_OK;
	if (v.failed && !f->output[0] && !f->error[0])
		return failed_whole(b, f, &v, fail);
	df_info("batch %u: %s, %" PRIu64 " answered, %" PRIu64 " failed of %" PRIu64, f->no, f->status, v.done,
		v.failed_lines, f->lines);
	return save(b, f, DF_BATCH_ENDED, fail);
}

/* A batch that was only found: when its results are not of this file's requests it is a stranger's, and ours is newer, or was never created. */
static enum df_err prove(struct df_batch_run *b, struct df_batch_file *f, bool *ret_ours, struct df_fail *fail)
{
	DF_TRY(df_batch_is_ours(b->dir_fd, f, ret_ours, fail));
	f->unproved = false;
	if (*ret_ours)
		return DF_OK;
	df_info("batch %u: '%s' is a stranger's; looking on", f->no, f->batch);
	memcpy(f->mark, f->batch, sizeof(f->mark));
	f->batch[0] = f->output[0] = f->status[0] = '\0';
	f->answers_hash = 0;
	return save(b, f, DF_BATCH_CREATING, fail);
}

static enum df_err fetch(struct df_batch_run *b, struct df_batch_file *f, const struct df_remote_place *at,
			 struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	bool ours = true;
	if (f->output[0]) {
		df_batch_file_name(name, "answers", f->no, "jsonl");
		DF_TRY(df_remote_fetch(b->remote, at, f->output, b->dir_fd, name, &f->answers_hash, fail));
	}
	if (f->error[0]) {
		df_batch_file_name(name, "errors", f->no, "jsonl");
		DF_TRY(df_remote_fetch(b->remote, at, f->error, b->dir_fd, name, &f->errors_hash, fail));
	}
	if (f->unproved)
		DF_TRY(prove(b, f, &ours, fail));
	if (!ours)
		return DF_OK;
	DF_TRY(save(b, f, DF_BATCH_DONE, fail));
	DF_TRY(df_batch_take_answers(b, f, fail));
	b->state.spent_usd = df_answers_stats(b->answers).usd;
	return df_batch_state_save(b->dir_fd, &b->state, fail);
}

/* ------------------------------------------------------------------ the round */

/* What can be done at once. */
static enum df_err go_on(struct df_batch_run *b, struct df_batch_file *f, struct df_fail *fail)
{
	const struct df_remote_place *at = NULL;
	DF_TRY(place_of(b, f, &at, fail));
	if (f->step == DF_BATCH_WRITTEN) {
		DF_TRY(df_remote_upload(b->remote, at, b->dir_fd, f, b->state.run, fail));
		DF_TRY(save(b, f, DF_BATCH_UPLOADED, fail));
	}
	if (f->step == DF_BATCH_CREATING)
		DF_TRY(find_batch(b, f, at, fail));
	if (f->step == DF_BATCH_UPLOADED)
		return create(b, f, at, fail);
	if (f->step == DF_BATCH_CREATED)
		DF_TRY(look(b, f, at, fail));
	return f->step == DF_BATCH_ENDED ? fetch(b, f, at, fail) : DF_OK;
}

static void tell(const struct df_batch_run *b)
{
	uint64_t done = 0, all = 0;
	unsigned out = 0;
	for (size_t i = 0; i < b->state.n_file; i++) {
		const struct df_batch_file *f = &b->state.file[i];
		if (f->round != b->state.round)
			continue;
		all += f->lines;
		done += f->step == DF_BATCH_DONE ? f->lines : f->done_lines;
		out += f->step != DF_BATCH_DONE;
	}
	df_debug("round %u: %u batches out, %" PRIu64 " of %" PRIu64 " requests done", b->state.round, out, done, all);
}

static bool all_submitted(const struct df_batch_run *b)
{
	for (size_t i = 0; i < b->state.n_file; i++)
		if (b->state.file[i].step < DF_BATCH_CREATED)
			return false;
	return true;
}

/* A server that cannot be reached while the provider works is no reason to stop: the next look may find it. */
static bool may_pass(const struct df_batch_file *f, enum df_err err)
{
	return err == DF_ERR_CLOSED && f->step >= DF_BATCH_CREATED;
}

static enum df_err go_round(struct df_batch_run *b, bool *ret_lost, struct df_fail *fail)
{
	*ret_lost = false;
	for (size_t i = 0; i < b->state.n_file; i++) {
		struct df_batch_file *f = &b->state.file[i];
		if (f->step == DF_BATCH_DONE)
			continue;
		enum df_err err = go_on(b, f, fail);
		if (err != DF_OK && !may_pass(f, err))
			return err;
		if (err != DF_OK)
			df_warn("%s", fail->msg);
		*ret_lost |= err != DF_OK;
	}
	return DF_OK;
}

enum df_err df_batch_round(struct df_batch_run *b, struct df_fail *fail)
{
	uint64_t pause = b->o->poll_ns;
	unsigned n_lost = 0;
	for (;;) {
		bool lost = false;
		DF_TRY(go_round(b, &lost, fail));
		if (!df_batch_round_is_open(b))
			return DF_OK;
		n_lost = lost ? n_lost + 1 : 0;
		if (n_lost == 5)
			return DF_ERR_CLOSED;
		if (b->o->no_wait && all_submitted(b))
			return df_fail(fail, DF_ERR_AGAIN, "the provider works; the same command goes on");
		tell(b);
		if (df_remote_wait(b->remote, pause) != DF_OK)
			return df_fail(fail, DF_ERR_INTERRUPTED, "stopped on request");
		pause = pause + pause / 2 < b->o->poll_max_ns ? pause + pause / 2 : b->o->poll_max_ns;
	}
}
