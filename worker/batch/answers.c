// SPDX-License-Identifier: Apache-2.0
/* answers: an open-addressing table of custom_ids over files of lines. */
#include "worker/batch/answers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "worker/batch/batch.h"

#define SCRATCH_BYTES ((size_t)1 << 30)
#define SCRATCH_KEEP (4U << 20)
#define FIRST_PLACES 1024
#define DAMAGED_TOLD 3 /* of a run: more are only counted */

struct entry {
	uint64_t low, high;
	uint64_t offset;
	uint32_t length, pass; /* pass: the last one in which it was asked */
	uint32_t file;
	uint32_t seen; /* the last file that had a line of it, + 1 */
	uint8_t state, attempts, in_errors, used;
};

struct df_answers {
	int dir_fd;
	struct entry *place; /* n_place, a power of two */
	size_t n_place, n;
	uint32_t pass;
	struct df_arena scratch;
	struct df_answers_stats stats;
	/* the file read last */
	int fd;
	uint32_t fd_file;
	bool fd_errors;
};

void df_batch_file_name(char name[DF_BATCH_NAME_BYTES], const char *what, uint32_t no, const char *suffix)
{
	(void)snprintf(name, DF_BATCH_NAME_BYTES, "%.12s-%05" PRIu32 ".%.12s", what, no, suffix);
}

/* ------------------------------------------------------------------ the table */

enum df_err df_answers_create(int dir_fd, struct df_answers **ret_answers, struct df_fail *fail)
{
	struct df_answers *a = calloc(1, sizeof(*a));
	if (a)
		a->place = calloc(FIRST_PLACES, sizeof(*a->place));
	if (!a || !a->place) {
		free(a);
		return df_fail(fail, DF_ERR_NOMEM, "no memory for answers");
	}
	a->n_place = FIRST_PLACES;
	a->dir_fd = dir_fd;
	a->fd = -1;
	df_arena_init(&a->scratch, SCRATCH_BYTES, SCRATCH_KEEP);
	*ret_answers = a;
	return DF_OK;
}

void df_answers_destroy(struct df_answers **answers)
{
	struct df_answers *a = *answers;
	if (!a)
		return;
	if (a->fd >= 0)
		(void)close(a->fd);
	df_arena_release(&a->scratch);
	free(a->place);
	free(a);
	*answers = NULL;
}

static struct entry *seek(struct entry *place, size_t n_place, struct df_hash128 h)
{
	size_t at = h.low & (n_place - 1);
	while (place[at].used && (place[at].low != h.low || place[at].high != h.high))
		at = (at + 1) & (n_place - 1);
	return &place[at];
}

static enum df_err grow(struct df_answers *a)
{
	size_t n = 2 * a->n_place;
	struct entry *more = calloc(n, sizeof(*more));
	if (!more)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < a->n_place; i++) {
		const struct entry *e = &a->place[i];
		if (e->used)
			*seek(more, n, (struct df_hash128){e->low, e->high}) = *e;
	}
	free(a->place);
	a->place = more;
	a->n_place = n;
	return DF_OK;
}

static enum df_err put(struct df_answers *a, struct df_str custom_id, struct entry **ret)
{
	struct df_hash128 h = df_hash128(custom_id.p, custom_id.n);
	struct entry *e = seek(a->place, a->n_place, h);
	if (!e->used) {
		if (a->n >= DF_BATCH_REQUESTS_MAX)
			return DF_ERR_LIMIT;
		if (2 * (a->n + 1) > a->n_place) {
			DF_TRY(grow(a));
			e = seek(a->place, a->n_place, h);
		}
		*e = (struct entry){.low = h.low, .high = h.high, .used = 1};
		a->n++;
	}
	*ret = e;
	return DF_OK;
}

struct df_answer_at df_answers_find(const struct df_answers *a, struct df_str custom_id)
{
	const struct entry *e = seek(a->place, a->n_place, df_hash128(custom_id.p, custom_id.n));
	if (!e->used)
		return (struct df_answer_at){.state = DF_ANSWER_NONE};
	return (struct df_answer_at){
		.state = (enum df_answer_state)e->state,
		.attempts = e->attempts,
		.asked = a->pass && e->pass == a->pass,
		.file = e->file,
		.length = e->length,
		.in_errors = e->in_errors,
		.offset = e->offset,
	};
}

void df_answers_begin_pass(struct df_answers *a)
{
	a->pass++;
}

enum df_err df_answers_ask(struct df_answers *a, struct df_str custom_id)
{
	struct entry *e;
	DF_TRY(put(a, custom_id, &e));
	if (a->pass && e->pass == a->pass)
		return DF_ERR_EXISTS;
	e->pass = a->pass;
	return DF_OK;
}

struct df_answers_stats df_answers_stats(const struct df_answers *a)
{
	return a->stats;
}

/* ------------------------------------------------------------------ judging a line */

static struct df_str no_header(const struct df_http_response *r, const char *name)
{
	(void)r;
	(void)name;
	return (struct df_str){NULL, 0};
}

void df_batch_judge(const struct df_provider *p, const struct df_ask *ask, const struct df_batch_answer *line,
		    struct df_arena *arena, struct df_answer *ret)
{
	struct df_http_response r = {.phase = DF_HTTP_DONE, .status = line->status, .body = line->body};
	r.header = no_header;
	if (line->status) {
		p->parse(ask, &r, arena, ret);
		return;
	}
	memset(ret, 0, sizeof(*ret));
	ret->class = DF_CALL_RETRY;
	ret->retry_after_ms = -1;
	struct df_str words = line->message.n ? line->message : DF_STR("the batch has no answer for this request");
	(void)snprintf(ret->message, sizeof(ret->message), "%.*s", (int)(words.n < 500 ? words.n : 500), words.p);
	if (line->code.n && line->code.n < sizeof(ret->code))
		memcpy(ret->code, line->code.p, line->code.n);
}

/* ------------------------------------------------------------------ reading files */

struct reading {
	struct df_answers *a;
	const struct df_batch_file *file;
	const struct df_model_info *info;
	const struct df_provider *raw;
	bool in_errors;
};

static void damaged(struct reading *r, uint64_t offset, const char *why)
{
	if (r->a->stats.damaged++ < DAMAGED_TOLD)
		df_warn("a line of '%s-%05" PRIu32 ".jsonl' at byte %" PRIu64
			" is no answer (%s); its request is asked again",
			r->in_errors ? "errors" : "answers", r->file->no, offset, why);
}

static void count_money(struct reading *r, const struct df_answer *answer)
{
	struct df_answers_stats *s = &r->a->stats;
	double usd = df_price_of(r->info, &answer->usage) * DF_BATCH_PRICE;
	s->tokens_in += answer->usage.in;
	s->tokens_out += answer->usage.out;
	if (isnan(usd))
		s->unpriced++;
	else
		s->usd += usd;
}

/* The newest line counts, but a failure never stands before an answer. */
static enum df_err take_line(struct reading *r, struct df_str line, uint64_t offset, struct df_fail *fail)
{
	struct df_answers *a = r->a;
	struct df_batch_answer l;
	struct df_answer answer;
	struct entry *e;
	struct df_fail why = {.msg = ""};
	const struct df_ask ask = {.kind = DF_ASK_CHAT, .temperature = NAN, .top_p = NAN, .seed = -1};
	df_arena_reset(&a->scratch);
	enum df_err err = df_batch_read_answer(line, &a->scratch, &l, &why);
	if (err == DF_ERR_NOMEM)
		return df_fail(fail, err, "no memory for an answer");
	if (err != DF_OK) {
		damaged(r, offset, why.msg);
		return DF_OK;
	}
	err = put(a, l.custom_id, &e);
	if (err != DF_OK)
		return df_fail(fail, err, "more than %u requests in one run", DF_BATCH_REQUESTS_MAX);
	if (l.expired) {
		e->seen = r->file->no + 1; /* not left out */
		return DF_OK;
	}
	df_batch_judge(r->raw, &ask, &l, &a->scratch, &answer);
	a->stats.lines++;
	e->seen = r->file->no + 1;
	e->attempts += e->attempts < UINT8_MAX;
	enum df_answer_state state = answer.class == DF_CALL_OK          ? DF_ANSWER_HERE
				     : answer.class == DF_CALL_BAD_INPUT ? DF_ANSWER_FAILED
									 : DF_ANSWER_LATER;
	if (answer.class == DF_CALL_OK)
		count_money(r, &answer);
	if (state < (enum df_answer_state)e->state)
		return DF_OK;
	a->stats.here += state == DF_ANSWER_HERE && e->state != DF_ANSWER_HERE;
	a->stats.failed += state == DF_ANSWER_FAILED && e->state != DF_ANSWER_FAILED;
	e->state = (uint8_t)state;
	e->offset = offset;
	e->length = (uint32_t)line.n;
	e->file = r->file->no;
	e->in_errors = r->in_errors;
	return DF_OK;
}

static enum df_err read_lines(struct reading *r, FILE *f, struct df_fail *fail)
{
	char *line = NULL;
	size_t cap = 0;
	uint64_t offset = 0;
	ssize_t n = 0;
	enum df_err err = DF_OK;
	while (err == DF_OK && (n = getline(&line, &cap, f)) > 0) {
		struct df_str s = df_str_trim((struct df_str){line, (size_t)n});
		if ((size_t)n > DF_BATCH_LINE_BYTES)
			damaged(r, offset, "it is too long");
		else if (s.n)
			err = take_line(r, s, offset + (uint64_t)(s.p - line), fail);
		offset += (uint64_t)n;
	}
	if (err == DF_OK && ferror(f))
		err = df_fail_errno(fail, "read answers");
	free(line);
	return err;
}

static enum df_err add_one(struct reading *r, struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	df_batch_file_name(name, r->in_errors ? "errors" : "answers", r->file->no, "jsonl");
	int fd = openat(r->a->dir_fd, name, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		enum df_err err = df_fail_errno(fail, "open '%s'", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	enum df_err err = read_lines(r, f, fail);
	(void)fclose(f);
	return err;
}

/* A batch that calls itself completed and has no line for a request has tried it nevertheless: else it would be asked for ever. */
static enum df_err count_left_out(struct reading *r, struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	char *line = NULL;
	size_t cap = 0;
	ssize_t n = 0;
	df_batch_file_name(name, "requests", r->file->no, "jsonl");
	int fd = openat(r->a->dir_fd, name, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		enum df_err err = df_fail_errno(fail, "open '%s'", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	enum df_err err = DF_OK;
	while (err == DF_OK && (n = getline(&line, &cap, f)) > 0) {
		struct df_str id = df_batch_own_id((struct df_str){line, (size_t)n});
		struct entry *e;
		if (!id.p)
			continue;
		err = put(r->a, id, &e);
		if (err == DF_OK && e->seen != r->file->no + 1)
			e->attempts += e->attempts < UINT8_MAX;
	}
	if (err == DF_OK && ferror(f))
		err = df_fail_errno(fail, "read '%s'", name);
	free(line);
	(void)fclose(f);
	return err;
}

enum df_err df_answers_add(struct df_answers *a, const struct df_batch_file *file, const struct df_model_info *info,
			   struct df_fail *fail)
{
	struct reading r = {.a = a, .file = file, .info = info};
	struct df_str model;
	DF_TRY(df_provider_find(DF_STR("raw/any"), &r.raw, &model, fail));
	if (file->output[0])
		DF_TRY(add_one(&r, fail));
	r.in_errors = true;
	if (file->error[0])
		DF_TRY(add_one(&r, fail));
	bool whole = strcmp(file->status, "completed") == 0 || strcmp(file->status, "ended") == 0;
	return whole ? count_left_out(&r, fail) : DF_OK;
}

enum df_err df_answers_read(struct df_answers *a, const struct df_answer_at *at, struct df_arena *arena,
			    struct df_str *ret_line, struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	df_batch_file_name(name, at->in_errors ? "errors" : "answers", at->file, "jsonl");
	if (a->fd < 0 || a->fd_file != at->file || a->fd_errors != at->in_errors) {
		if (a->fd >= 0)
			(void)close(a->fd);
		a->fd = openat(a->dir_fd, name, O_RDONLY | O_CLOEXEC);
		a->fd_file = at->file;
		a->fd_errors = at->in_errors;
	}
	if (a->fd < 0)
		return df_fail_errno(fail, "open '%s'", name);
	char *p = df_arena_alloc(arena, at->length + 1);
	if (!p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for an answer of %u bytes", at->length);
	for (size_t n = 0; n < at->length;) {
		ssize_t got = pread(a->fd, p + n, at->length - n, (off_t)(at->offset + n));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? df_fail_errno(fail, "read '%s'", name)
				       : df_fail(fail, DF_ERR_CORRUPT, "'%s' became shorter", name);
		n += (size_t)got;
	}
	p[at->length] = '\0';
	*ret_line = (struct df_str){p, at->length};
	return DF_OK;
}
