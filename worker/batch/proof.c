// SPDX-License-Identifier: Apache-2.0
/* proof: a directory against its batch.json. Ids are compared as 128 bits of their hash, in one table over all files. */
#include "worker/batch/proof.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/json.h"
#include "worker/batch/answers.h"
#include "worker/batch/line.h"

#define READ_BYTES ((size_t)1 << 20)
#define SCRATCH_BYTES ((size_t)1 << 30)
#define FIRST_PLACES 1024
#define WRONG_BYTES 65536

/* ------------------------------------------------------------------ sums */

enum df_err df_batch_hash_file(int dir_fd, const char *name, struct df_batch_sum *ret, struct df_fail *fail)
{
	struct df_batch_sum s = {.bytes = 0};
	struct df_hasher *h = df_hasher_create();
	char *p = malloc(READ_BYTES);
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	enum df_err err = !h || !p ? df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", name)
			  : fd < 0 ? df_fail_errno(fail, "open '%s'", name)
				   : DF_OK;
	for (ssize_t n = 1; err == DF_OK && n > 0;) {
		n = TEMP_FAILURE_RETRY(read(fd, p, READ_BYTES));
		if (n < 0)
			err = df_fail_errno(fail, "read '%s'", name);
		for (ssize_t i = 0; i < n; i++)
			s.lines += p[i] == '\n';
		if (n > 0) {
			df_hasher_add(h, p, (size_t)n);
			s.bytes += (uint64_t)n;
		}
	}
	if (err == DF_OK) {
		s.hash = df_hasher_value(h);
		*ret = s;
	}
	if (fd >= 0)
		(void)close(fd);
	free(p);
	df_hasher_destroy(&h);
	return err;
}

/* ------------------------------------------------------------------ ids */

struct id {
	uint64_t low, high; /* both 0: free */
	uint32_t file;      /* + 1, the last that has sent it */
	uint32_t answered;  /* + 1, the last that has a line about it */
	bool here, failed;
};

struct ids {
	struct id *place;
	size_t n_place, n;
};

static struct id *seek(struct id *place, size_t n_place, struct df_hash128 h)
{
	size_t at = h.low & (n_place - 1);
	while ((place[at].low || place[at].high) && (place[at].low != h.low || place[at].high != h.high))
		at = (at + 1) & (n_place - 1);
	return &place[at];
}

static struct id *find(const struct ids *ids, struct df_str id)
{
	if (!ids->n_place)
		return NULL;
	struct id *at = seek(ids->place, ids->n_place, df_hash128(id.p, id.n));
	return at->low || at->high ? at : NULL;
}

static struct id *put(struct ids *ids, struct df_str id)
{
	struct df_hash128 h = df_hash128(id.p, id.n);
	if (2 * (ids->n + 1) > ids->n_place) {
		size_t n = ids->n_place ? 2 * ids->n_place : FIRST_PLACES;
		struct id *more = calloc(n, sizeof(*more));
		if (!more)
			return NULL;
		for (size_t i = 0; i < ids->n_place; i++)
			if (ids->place[i].low || ids->place[i].high)
				*seek(more, n, (struct df_hash128){ids->place[i].low, ids->place[i].high}) =
					ids->place[i];
		free(ids->place);
		ids->place = more;
		ids->n_place = n;
	}
	struct id *at = seek(ids->place, ids->n_place, h);
	if (!at->low && !at->high) {
		*at = (struct id){.low = h.low, .high = h.high};
		ids->n++;
	}
	return at;
}

/* ------------------------------------------------------------------ lines */

typedef enum df_err on_line(void *self, struct df_str line, struct df_fail *fail);

static enum df_err each_line(int dir_fd, const char *name, on_line *fn, void *self, struct df_fail *fail)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n = 0;
	enum df_err err = DF_OK;
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		err = df_fail_errno(fail, "open '%s'", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	while (err == DF_OK && (n = getline(&line, &cap, f)) > 0) {
		struct df_str s = df_str_trim((struct df_str){line, (size_t)n});
		if (s.n)
			err = fn(self, s, fail);
	}
	if (err == DF_OK && ferror(f))
		err = df_fail_errno(fail, "read '%s'", name);
	free(line);
	(void)fclose(f);
	return err;
}

struct reading {
	struct df_batch_proof *proof; /* NULL: only `strangers` */
	struct ids *ids;
	const struct df_batch_file *file;
	const char *name;
	struct df_arena *arena;
	uint64_t strangers, twice, bad, lines;
};

/* Of our own lines, and of those of somebody else's writing, whose custom_id may stand anywhere. */
static enum df_err id_of(const struct reading *r, struct df_str line, struct df_str *ret)
{
	struct df_json *root = NULL;
	*ret = df_batch_own_id(line);
	if (ret->p && !memchr(ret->p, '\\', ret->n))
		return DF_OK;
	df_arena_reset(r->arena);
	enum df_err err = df_json_parse(line, r->arena, &root, NULL);
	*ret = err == DF_OK ? df_json_get_str(root, "custom_id") : (struct df_str){NULL, 0};
	return err == DF_ERR_NOMEM ? err : DF_OK;
}

static enum df_err take_request(void *self, struct df_str line, struct df_fail *fail)
{
	struct reading *r = self;
	struct df_str id;
	if (id_of(r, line, &id) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", r->name);
	if (!id.n) {
		r->bad++;
		return DF_OK;
	}
	struct id *at = put(r->ids, id);
	if (!at)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu requests", r->ids->n);
	r->twice += at->file == r->file->no + 1;
	if (r->proof)
		r->proof->asked_again += at->file && at->file != r->file->no + 1;
	at->file = r->file->no + 1;
	return DF_OK;
}

static enum df_err take_answer(void *self, struct df_str line, struct df_fail *fail)
{
	struct reading *r = self;
	struct df_batch_answer a;
	df_arena_reset(r->arena);
	enum df_err err = df_batch_read_answer(line, r->arena, &a, NULL);
	r->lines++;
	if (err == DF_ERR_NOMEM)
		return df_fail(fail, err, "no memory to read '%s'", r->name);
	struct id *at = err == DF_OK ? find(r->ids, a.custom_id) : NULL;
	if (err != DF_OK) {
		r->bad++;
	} else if (!at || at->file < r->file->no + 1) {
		r->strangers++; /* also what only an earlier file has sent */
	} else {
		bool here = a.status >= 200 && a.status < 300;
		r->twice += at->answered == r->file->no + 1 || (here && at->here);
		at->answered = r->file->no + 1;
		at->here |= here;
		at->failed |= !here && !a.expired;
	}
	return DF_OK;
}

enum df_err df_batch_is_ours(int dir_fd, const struct df_batch_file *file, bool *ret_ours, struct df_fail *fail)
{
	struct ids ids = {.n = 0};
	struct df_arena arena;
	char name[DF_BATCH_NAME_BYTES];
	struct reading r = {.ids = &ids, .file = file, .name = name, .arena = &arena};
	df_arena_init(&arena, SCRATCH_BYTES, READ_BYTES);
	df_batch_file_name(name, "requests", file->no, "jsonl");
	enum df_err err = each_line(dir_fd, name, take_request, &r, fail);
	df_batch_file_name(name, "answers", file->no, "jsonl");
	if (err == DF_OK)
		err = each_line(dir_fd, name, take_answer, &r, fail);
	*ret_ours = !r.strangers && r.lines > r.bad;
	free(ids.place);
	df_arena_release(&arena);
	return err;
}

/* ------------------------------------------------------------------ the whole directory */

DF_PRINTF(2, 3) static void tell(struct df_batch_proof *p, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->faults++ < DF_BATCH_FAULTS_TOLD)
		(void)df_buf_addf(&p->wrong, "%s\n", text);
}

/* True: it is as it was written. Sizes and lines that are UINT64_MAX are not known. */
static bool check_sum(int dir_fd, struct df_batch_proof *p, const char *name, uint64_t bytes, uint64_t lines,
		      uint64_t hash, struct df_batch_sum *ret)
{
	struct df_fail why = {.msg = ""};
	uint64_t faults = p->faults;
	if (df_batch_hash_file(dir_fd, name, ret, &why) != DF_OK) {
		tell(p, "%s", why.msg);
		return false;
	}
	p->files++;
	p->bytes += ret->bytes;
	if (bytes != UINT64_MAX && ret->bytes != bytes)
		tell(p, "'%s' has %" PRIu64 " bytes, not the %" PRIu64 " that were written", name, ret->bytes, bytes);
	else if (lines != UINT64_MAX && ret->lines != lines)
		tell(p, "'%s' has %" PRIu64 " lines, not the %" PRIu64 " that were written", name, ret->lines, lines);
	else if (hash && ret->hash != hash)
		tell(p, "'%s' was changed: its checksum is another one", name);
	return p->faults == faults;
}

static void tell_of_lines(struct df_batch_proof *p, const struct reading *r, const char *what)
{
	if (r->bad)
		tell(p, "'%s' has %" PRIu64 " lines that are no %s", r->name, r->bad, what);
	if (r->strangers)
		tell(p, "'%s' has %" PRIu64 " lines about requests that its batch does not have", r->name,
		     r->strangers);
	if (r->twice)
		tell(p, "'%s' has %" PRIu64 " %ss of a request that has one already", r->name, r->twice, what);
}

static enum df_err prove_answers(int dir_fd, struct df_batch_proof *p, const struct reading *requests, const char *what,
				 uint64_t hash, struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	struct df_batch_sum sum;
	struct reading r = {
		.proof = p, .ids = requests->ids, .file = requests->file, .name = name, .arena = requests->arena};
	df_batch_file_name(name, what, r.file->no, "jsonl");
	if (!check_sum(dir_fd, p, name, UINT64_MAX, UINT64_MAX, hash, &sum) || p->quick)
		return DF_OK;
	DF_TRY(each_line(dir_fd, name, take_answer, &r, fail));
	r.bad = r.strangers = 0; /* what a provider spoiled was asked again, and is no fault of this directory */
	tell_of_lines(p, &r, "answer");
	return DF_OK;
}

static enum df_err prove_file(int dir_fd, struct df_batch_proof *p, const struct df_batch_file *file, struct ids *ids,
			      struct df_arena *arena, struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	struct df_batch_sum sum;
	struct reading r = {.proof = p, .ids = ids, .file = file, .name = name, .arena = arena};
	df_batch_file_name(name, "requests", file->no, "jsonl");
	if (!check_sum(dir_fd, p, name, file->bytes, file->lines, file->hash, &sum))
		return DF_OK;
	if (!p->quick)
		DF_TRY(each_line(dir_fd, name, take_request, &r, fail));
	tell_of_lines(p, &r, "request");
	if (file->step != DF_BATCH_DONE)
		return DF_OK;
	if (file->output[0])
		DF_TRY(prove_answers(dir_fd, p, &r, "answers", file->answers_hash, fail));
	if (file->error[0])
		DF_TRY(prove_answers(dir_fd, p, &r, "errors", file->errors_hash, fail));
	return DF_OK;
}

static void prove_outputs(int dir_fd, struct df_batch_proof *p, const struct df_batch_state *s)
{
	const struct df_batch_counts *c = &s->counts;
	struct df_batch_sum sum;
	uint64_t rows = 0, rejects = 0;
	if (!s->n_output)
		tell(p, "batch.json has no checksums of its outputs (an older docflume made it)");
	for (size_t i = 0; i < s->n_output; i++) {
		const struct df_batch_output *o = &s->output[i];
		size_t n = strlen(o->name);
		bool npy = n > 4 && strcmp(o->name + n - 4, ".npy") == 0;
		(void)check_sum(dir_fd, p, o->name, o->bytes, npy ? UINT64_MAX : o->rows, o->hash, &sum);
		if (strncmp(o->name, "rejects", 7) == 0)
			rejects += o->rows;
		else if (npy && s->n_output == 3 && o->rows != c->rows)
			tell(p, "'%s' has %" PRIu64 " vectors for %" PRIu64 " rows", o->name, o->rows, c->rows);
		else if (!npy || s->n_output == 2)
			rows += o->rows;
	}
	if (c->in != c->out + c->filtered + c->rejected)
		tell(p,
		     "%" PRIu64 " documents in are not %" PRIu64 " out + %" PRIu64 " filtered + %" PRIu64 " rejected",
		     c->in, c->out, c->filtered, c->rejected);
	if (s->n_output && rows != c->rows)
		tell(p, "the parts have %" PRIu64 " rows, %" PRIu64 " were written", rows, c->rows);
	if (s->n_output && rejects != c->rejected)
		tell(p, "the rejects are %" PRIu64 ", %" PRIu64 " documents were rejected", rejects, c->rejected);
}

enum df_err df_batch_prove(int dir_fd, const struct df_batch_state *state, struct df_batch_proof *ret,
			   struct df_fail *fail)
{
	struct ids ids = {.n = 0};
	struct df_arena arena;
	enum df_err err = DF_OK;
	*ret = (struct df_batch_proof){.quick = ret->quick};
	df_buf_init(&ret->wrong, WRONG_BYTES);
	df_arena_init(&arena, SCRATCH_BYTES, READ_BYTES);
	for (size_t i = 0; i < state->n_file && err == DF_OK; i++)
		err = prove_file(dir_fd, ret, &state->file[i], &ids, &arena, fail);
	for (size_t i = 0; i < ids.n_place && err == DF_OK; i++) {
		const struct id *at = &ids.place[i];
		if (!at->low && !at->high)
			continue;
		ret->answered += at->here;
		ret->failed += !at->here && at->failed;
		ret->unanswered += !at->here && !at->failed;
	}
	ret->requests = ids.n;
	if (err == DF_OK && state->finished)
		prove_outputs(dir_fd, ret, state);
	free(ids.place);
	df_arena_release(&arena);
	if (err != DF_OK)
		df_batch_proof_release(ret);
	return err;
}

void df_batch_proof_release(struct df_batch_proof *p)
{
	df_buf_release(&p->wrong);
}
