// SPDX-License-Identifier: Apache-2.0
/* state: batch.json, written and read. */
#include "worker/batch/state.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"

#define STATE_FILE "batch.json"
#define STATE_VERSION 1
#define STATE_BYTES ((size_t)64 << 20)

static const char *const step_name[DF_N_BATCH_STEP] = {"written", "uploaded", "creating", "created", "ended", "done"};

const char *df_batch_step_name(enum df_batch_step step)
{
	return step_name[step];
}

void df_batch_state_init(struct df_batch_state *s)
{
	*s = (struct df_batch_state){.round = 0};
}

void df_batch_state_drop_last(struct df_batch_state *s)
{
	struct df_batch_file *f = &s->file[--s->n_file];
	free(f->model);
	free(f->endpoint);
}

void df_batch_state_release(struct df_batch_state *s)
{
	while (s->n_file)
		df_batch_state_drop_last(s);
	free(s->file);
	free(s->pipeline);
	free(s->options);
	df_batch_state_init(s);
}

static bool set_word(char to[DF_BATCH_ID_BYTES], struct df_str id, const char *good)
{
	if (id.n >= DF_BATCH_ID_BYTES)
		return false;
	for (size_t i = 0; i < id.n; i++)
		if (!id.p[i] || !strchr(good, id.p[i]))
			return false;
	if (id.n)
		memcpy(to, id.p, id.n);
	to[id.n] = '\0';
	return true;
}

#define ID_CHARACTERS "-_.:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

bool df_batch_id_set(char to[DF_BATCH_ID_BYTES], struct df_str id)
{
	return set_word(to, id, ID_CHARACTERS);
}

bool df_batch_path_set(char to[DF_BATCH_ID_BYTES], struct df_str path)
{
	bool dots = path.n && memmem(path.p, path.n, "/.", 2) != NULL;
	return !dots && set_word(to, path, ID_CHARACTERS "/");
}

enum df_err df_batch_state_add(struct df_batch_state *s, struct df_str model, struct df_str endpoint,
			       struct df_batch_file **ret_file)
{
	if (s->n_file >= DF_BATCH_FILES_MAX)
		return DF_ERR_LIMIT;
	if (s->n_file == s->cap_file) {
		size_t cap = s->cap_file ? 2 * s->cap_file : 8;
		struct df_batch_file *more = realloc(s->file, cap * sizeof(*more));
		if (!more)
			return DF_ERR_NOMEM;
		s->file = more;
		s->cap_file = cap;
	}
	struct df_batch_file *f = &s->file[s->n_file];
	*f = (struct df_batch_file){.no = (uint32_t)s->n_file};
	f->model = df_str_dup(model);
	f->endpoint = df_str_dup(endpoint);
	if (!f->model || !f->endpoint) {
		free(f->model);
		free(f->endpoint);
		return DF_ERR_NOMEM;
	}
	s->n_file++;
	*ret_file = f;
	return DF_OK;
}

/* ------------------------------------------------------------------ writing */

static void add_text(struct df_buf *b, const char *key, const char *value)
{
	(void)df_buf_addf(b, ",\"%s\":", key);
	(void)df_json_add_string(b, df_str_from(value ? value : ""));
}

static void add_number(struct df_buf *b, const char *key, uint64_t value)
{
	(void)df_buf_addf(b, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void add_usd(struct df_buf *b, const char *key, double value)
{
	(void)df_buf_addf(b, ",\"%s\":", key);
	(void)df_json_add_usd(b, value);
}

/* As text: figures of 64 bits are more than many readers of JSON keep. */
static void add_hash(struct df_buf *b, const char *key, uint64_t hash)
{
	(void)df_buf_addf(b, ",\"%s\":\"%016llx\"", key, (unsigned long long)hash);
}

static void add_file(struct df_buf *b, const struct df_batch_file *f)
{
	(void)df_buf_addf(b, "%s{\"no\":%u,\"round\":%u,\"tries\":%u", f->no ? ",\n  " : "", f->no, f->round, f->tries);
	add_text(b, "step", step_name[f->step]);
	add_text(b, "model", f->model);
	add_text(b, "endpoint", f->endpoint);
	add_number(b, "lines", f->lines);
	add_number(b, "bytes", f->bytes);
	add_usd(b, "worst_usd", f->worst_usd);
	add_text(b, "input_file_id", f->input);
	add_text(b, "batch_id", f->batch);
	add_text(b, "status", f->status);
	add_number(b, "done", f->done_lines);
	add_text(b, "output_file_id", f->output);
	add_text(b, "error_file_id", f->error);
	add_hash(b, "hash", f->hash);
	add_hash(b, "answers_hash", f->answers_hash);
	add_hash(b, "errors_hash", f->errors_hash);
	if (f->mark[0])
		add_text(b, "mark", f->mark);
	if (f->unproved)
		(void)df_buf_addz(b, ",\"unproved\":true");
	(void)df_buf_addc(b, '}');
}

static void add_counts(struct df_buf *b, const struct df_batch_counts *c)
{
	(void)df_buf_addf(b, ",\n \"counts\":{\"in\":%llu", (unsigned long long)c->in);
	add_number(b, "out", c->out);
	add_number(b, "filtered", c->filtered);
	add_number(b, "rejected", c->rejected);
	add_number(b, "rows", c->rows);
	add_number(b, "source_errors", c->source_errors);
	add_number(b, "calls", c->calls);
	add_number(b, "cached", c->cached);
	add_number(b, "tokens_in", c->tokens_in);
	add_number(b, "tokens_out", c->tokens_out);
	add_number(b, "unpriced_calls", c->unpriced);
	add_usd(b, "usd", c->usd);
	(void)df_buf_addc(b, '}');
}

static void add_outputs(struct df_buf *b, const struct df_batch_state *s)
{
	(void)df_buf_addz(b, ",\n \"outputs\":[");
	for (size_t i = 0; i < s->n_output; i++) {
		(void)df_buf_addz(b, i ? ",{\"name\":" : "{\"name\":");
		(void)df_json_add_string(b, df_str_from(s->output[i].name));
		add_number(b, "bytes", s->output[i].bytes);
		add_number(b, "rows", s->output[i].rows);
		add_hash(b, "hash", s->output[i].hash);
		(void)df_buf_addc(b, '}');
	}
	(void)df_buf_addc(b, ']');
}

enum df_err df_batch_state_save(int dir_fd, const struct df_batch_state *s, struct df_fail *fail)
{
	struct df_buf b;
	df_buf_init(&b, STATE_BYTES);
	(void)df_buf_addf(&b, "{\"format_version\":%d", STATE_VERSION);
	add_text(&b, "run", s->run);
	add_text(&b, "state", s->finished ? "finished" : "going on");
	add_text(&b, "pipeline", s->pipeline);
	add_text(&b, "options", s->options);
	add_text(&b, "inputs", s->inputs);
	add_number(&b, "round", s->round);
	add_usd(&b, "spent_usd", s->spent_usd);
	if (s->finished) {
		add_counts(&b, &s->counts);
		add_outputs(&b, s);
	}
	(void)df_buf_addz(&b, ",\n \"files\":[");
	for (size_t i = 0; i < s->n_file; i++)
		add_file(&b, &s->file[i]);
	(void)df_buf_addz(&b, "]}\n");
	enum df_err err = df_buf_err(&b);
	if (err == DF_OK)
		err = df_io_replace_file(&df_io_real, dir_fd, STATE_FILE, b.p, b.n, fail);
	else
		(void)df_fail(fail, err, "no memory for " STATE_FILE);
	df_buf_release(&b);
	return err;
}

/* ------------------------------------------------------------------ reading */

static bool read_step(struct df_str name, enum df_batch_step *ret)
{
	for (int i = 0; i < DF_N_BATCH_STEP; i++)
		if (df_str_is(name, step_name[i])) {
			*ret = (enum df_batch_step)i;
			return true;
		}
	return false;
}

static uint64_t read_hash(const struct df_json *j, const char *key)
{
	struct df_str s = df_json_get_str(j, key);
	char text[17] = "";
	if (s.n != 16)
		return 0;
	memcpy(text, s.p, 16);
	return strtoull(text, NULL, 16);
}

static enum df_err read_file(struct df_batch_state *s, const struct df_json *j)
{
	struct df_batch_file *f = NULL;
	const struct df_json *unproved = df_json_get(j, "unproved");
	struct df_str status = df_json_get_str(j, "status");
	DF_TRY(df_batch_state_add(s, df_json_get_str(j, "model"), df_json_get_str(j, "endpoint"), &f));
	f->round = (uint32_t)df_json_get_u64(j, "round", 0);
	f->tries = (uint32_t)df_json_get_u64(j, "tries", 0);
	f->lines = df_json_get_u64(j, "lines", 0);
	f->bytes = df_json_get_u64(j, "bytes", 0);
	f->done_lines = df_json_get_u64(j, "done", 0);
	f->hash = read_hash(j, "hash");
	f->answers_hash = read_hash(j, "answers_hash");
	f->errors_hash = read_hash(j, "errors_hash");
	f->unproved = unproved && unproved->type == DF_JSON_BOOL && unproved->boolean;
	f->worst_usd = df_json_get_double(j, "worst_usd");
	if (status.n >= sizeof(f->status) || df_json_get_u64(j, "no", UINT64_MAX) != f->no)
		return DF_ERR_CORRUPT;
	if (status.n)
		memcpy(f->status, status.p, status.n);
	bool good = read_step(df_json_get_str(j, "step"), &f->step) &&
		    df_batch_id_set(f->input, df_json_get_str(j, "input_file_id")) &&
		    df_batch_id_set(f->batch, df_json_get_str(j, "batch_id")) &&
		    df_batch_id_set(f->mark, df_json_get_str(j, "mark")) &&
		    df_batch_path_set(f->output, df_json_get_str(j, "output_file_id")) &&
		    df_batch_id_set(f->error, df_json_get_str(j, "error_file_id"));
	good = good && (f->step < DF_BATCH_UPLOADED || f->input[0]) && (f->step < DF_BATCH_CREATED || f->batch[0]);
	return good ? DF_OK : DF_ERR_CORRUPT;
}

static void read_counts(struct df_batch_state *s, const struct df_json *j)
{
	struct df_batch_counts *c = &s->counts;
	c->in = df_json_get_u64(j, "in", 0);
	c->out = df_json_get_u64(j, "out", 0);
	c->filtered = df_json_get_u64(j, "filtered", 0);
	c->rejected = df_json_get_u64(j, "rejected", 0);
	c->rows = df_json_get_u64(j, "rows", 0);
	c->source_errors = df_json_get_u64(j, "source_errors", 0);
	c->calls = df_json_get_u64(j, "calls", 0);
	c->cached = df_json_get_u64(j, "cached", 0);
	c->tokens_in = df_json_get_u64(j, "tokens_in", 0);
	c->tokens_out = df_json_get_u64(j, "tokens_out", 0);
	c->unpriced = df_json_get_u64(j, "unpriced_calls", 0);
	c->usd = df_json_get_double(j, "usd");
}

static bool read_outputs(struct df_batch_state *s, const struct df_json *list)
{
	for (const struct df_json *j = list ? list->child : NULL; j; j = j->next) {
		struct df_batch_output *o = &s->output[s->n_output];
		struct df_str name = df_json_get_str(j, "name");
		if (s->n_output == DF_BATCH_OUTPUTS_MAX || !name.n || name.n >= sizeof(o->name) ||
		    memchr(name.p, '/', name.n))
			return false;
		memcpy(o->name, name.p, name.n);
		o->bytes = df_json_get_u64(j, "bytes", 0);
		o->rows = df_json_get_u64(j, "rows", 0);
		o->hash = read_hash(j, "hash");
		s->n_output++;
	}
	return true;
}

static enum df_err read_root(struct df_batch_state *s, const struct df_json *root, struct df_fail *fail)
{
	uint64_t version = df_json_get_u64(root, "format_version", 0);
	struct df_str run = df_json_get_str(root, "run"), inputs = df_json_get_str(root, "inputs");
	const struct df_json *files = df_json_get(root, "files");
	if (version != STATE_VERSION)
		return df_fail(fail, version ? DF_ERR_VERSION : DF_ERR_CORRUPT,
			       "'" STATE_FILE "' is of format %llu, which this docflume does not read",
			       (unsigned long long)version);
	if (run.n != 16 || inputs.n != 16 || !files || files->type != DF_JSON_ARRAY)
		return df_fail(fail, DF_ERR_CORRUPT, "'" STATE_FILE "' is damaged");
	memcpy(s->run, run.p, 16);
	memcpy(s->inputs, inputs.p, 16);
	s->pipeline = df_str_dup(df_json_get_str(root, "pipeline"));
	s->options = df_str_dup(df_json_get_str(root, "options"));
	s->round = (uint32_t)df_json_get_u64(root, "round", 0);
	s->spent_usd = df_json_get_double(root, "spent_usd");
	s->finished = df_str_is(df_json_get_str(root, "state"), "finished");
	read_counts(s, df_json_get(root, "counts"));
	if (!s->pipeline || !s->options)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for '" STATE_FILE "'");
	if (!read_outputs(s, df_json_get(root, "outputs")))
		return df_fail(fail, DF_ERR_CORRUPT, "'" STATE_FILE "' is damaged");
	for (const struct df_json *f = files->child; f; f = f->next) {
		enum df_err err = read_file(s, f);
		if (err != DF_OK)
			return df_fail(fail, err, "'" STATE_FILE "': file %zu is not described as it should be",
				       s->n_file);
	}
	return DF_OK;
}

enum df_err df_batch_state_load(int dir_fd, struct df_batch_state *ret_state, struct df_fail *fail)
{
	char *text = NULL;
	size_t n = 0;
	struct df_json *root = NULL;
	struct df_arena arena;
	DF_TRY(df_io_read_file(&df_io_real, dir_fd, STATE_FILE, STATE_BYTES, &text, &n, fail));
	df_batch_state_init(ret_state);
	df_arena_init(&arena, (size_t)1 << 30, 0);
	enum df_err err = df_json_parse((struct df_str){text, n}, &arena, &root, fail);
	err = err == DF_OK ? read_root(ret_state, root, fail)
	      : err == DF_ERR_NOMEM
		      ? err
		      : df_fail(fail, DF_ERR_CORRUPT, "'" STATE_FILE "' is no JSON; it was not written by docflume");
	df_arena_release(&arena);
	free(text);
	if (err != DF_OK)
		df_batch_state_release(ret_state);
	return err;
}
