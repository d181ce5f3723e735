// SPDX-License-Identifier: Apache-2.0
/*
 * lines: request lines that somebody else wrote, sent as they are. The rows are the provider's own answer lines, in the order of the requests; a request that
 * failed for good, or is none, is a reject: the line with a member "docflume" that says why, or the bytes as a string.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "proto/example.h"
#include "worker/batch/own.h"
#include "worker/read/reader.h"

#define READER_CELL_BYTES ((size_t)1 << 20)

struct lines {
	struct df_batch_run *b;
	struct df_buf row;
	struct df_fail *fail;
	const struct df_batch_source *source;
};

struct request {
	struct df_str line, custom_id, endpoint, model;
	uint64_t offset;
	double worst_usd;
};

enum df_err df_batch_open_lines(struct df_batch_run *b, struct df_fail *fail)
{
	struct df_route_options r = {
		.model = DF_STR("openai/any"),
		.base_url = df_str_from(b->o->base_url),
		.key_env = df_str_from(b->o->key_env),
	};
	return df_route_open(b->caller, &r, &b->lines_route, fail);
}

/* ------------------------------------------------------------------ output */

static enum df_err add_row(struct lines *l, bool reject)
{
	struct df_batch_run *b = l->b;
	if (df_buf_err(&l->row) != DF_OK)
		return df_fail(l->fail, DF_ERR_NOMEM, "no memory for a row");
	df_counters_add(&b->counters, reject ? "rejected" : "out", 1);
	if (!reject)
		df_counters_add(&b->counters, "rows", 1);
	return df_batch_out_add(&b->out, reject ? DF_OUTPUT_REJECTS : DF_OUTPUT_JSONL, l->row.p, l->row.n, 1, l->fail);
}

/* With an example of its kind, as job_batch.c does. */
static void count_reject(struct lines *l, const struct request *q, enum df_err err, const char *words)
{
	char name[64], place[160];
	struct df_buf example;
	(void)snprintf(name, sizeof(name), "rejected:batch:%s", df_err_name(err));
	if (!df_map_get(&l->b->counters.map, df_str_from(name))) {
		(void)snprintf(place, sizeof(place), "%.100s, byte %llu", l->source->name,
			       (unsigned long long)q->offset);
		df_buf_init(&example, 4096);
		df_example_add_name(&example, df_str_from(strchr(name, ':') + 1), df_str_from(place), words);
		if (df_buf_err(&example) == DF_OK)
			df_counters_add(&l->b->counters, df_buf_z(&example), 1);
		df_buf_release(&example);
	}
	df_counters_add(&l->b->counters, name, 1);
}

static enum df_err reject(struct lines *l, const struct request *q, bool is_object, enum df_err err, const char *words)
{
	struct df_str line = df_str_trim(q->line);
	df_buf_reset(&l->row);
	if (is_object && line.n > 1) {
		line.n--; /* the brace */
		(void)df_buf_add_str(&l->row, line);
		(void)df_buf_addz(&l->row, df_str_trim(line).n > 1 ? "," : "");
	} else {
		(void)df_buf_addz(&l->row, "{\"raw\":");
		(void)df_json_add_string(&l->row, (struct df_str){line.p, df_str_utf8_prefix(line)});
		(void)df_buf_addc(&l->row, ',');
	}
	(void)df_buf_addz(&l->row, "\"docflume\":{\"source\":"); /* as emit.c writes it */
	(void)df_json_add_string(&l->row, df_str_from(l->source->name));
	(void)df_buf_addf(&l->row, ",\"offset\":%llu,\"stage\":\"batch\",\"class\":\"%s\",\"error\":",
			  (unsigned long long)q->offset, df_err_name(err));
	(void)df_json_add_string(&l->row, df_str_from(words));
	(void)df_buf_addz(&l->row, "}}\n");
	count_reject(l, q, err, words);
	return add_row(l, true);
}

static enum df_err give_out(struct lines *l, const struct df_answer_at *at)
{
	struct df_str line;
	DF_TRY(df_answers_read(l->b->answers, at, &l->b->scratch, &line, l->fail));
	df_buf_reset(&l->row);
	(void)df_buf_add_str(&l->row, line);
	(void)df_buf_addc(&l->row, '\n');
	return add_row(l, false);
}

/* The provider's words about its last line. */
static enum df_err reject_failed(struct lines *l, const struct request *q, const struct df_answer_at *at)
{
	struct df_answer answer = {.class = DF_CALL_RETRY};
	struct df_batch_answer said;
	struct df_str line, name;
	const struct df_provider *raw;
	const struct df_ask ask = {.kind = DF_ASK_CHAT, .temperature = NAN, .top_p = NAN, .seed = -1};
	if (at->state == DF_ANSWER_NONE)
		return reject(l, q, true, DF_ERR_CLOSED, "the provider's batches left this request out");
	DF_TRY(df_provider_find(DF_STR("raw/any"), &raw, &name, l->fail));
	DF_TRY(df_answers_read(l->b->answers, at, &l->b->scratch, &line, l->fail));
	DF_TRY(df_batch_read_answer(line, &l->b->scratch, &said, l->fail));
	df_batch_judge(raw, &ask, &said, &l->b->scratch, &answer);
	df_answer_mask(&answer, df_route_endpoint(l->b->lines_route));
	return reject(l, q, true, at->state == DF_ANSWER_FAILED ? DF_ERR_RANGE : DF_ERR_CLOSED, answer.message);
}

/* ------------------------------------------------------------------ requests */

/* NULL: it can be sent; else what it lacks. */
static const char *read_request(struct lines *l, struct request *q, bool *ret_object)
{
	struct df_json *root = NULL;
	struct df_fail why;
	*ret_object = false;
	if (df_json_parse(q->line, &l->b->scratch, &root, &why) != DF_OK || root->type != DF_JSON_OBJECT)
		return "it is no JSON object";
	*ret_object = true;
	const struct df_json *body = df_json_get(root, "body");
	q->custom_id = df_json_get_str(root, "custom_id");
	q->endpoint = df_json_get_str(root, "url");
	q->model = df_json_get_str(body, "model");
	if (!q->custom_id.n)
		return "it has no custom_id";
	if (!df_str_is(df_json_get_str(root, "method"), "POST") || !df_str_starts(q->endpoint, "/v1/"))
		return "its method is not POST, or its url does not begin with /v1/";
	if (!body || body->type != DF_JSON_OBJECT || !q->model.n)
		return "it has no body with a model";
	bool chat = memmem(q->endpoint.p, q->endpoint.n, "embeddings", 10) == NULL;
	struct df_model_info info = df_models_get(l->b->models, q->model);
	struct df_ask ask = {
		.kind = chat ? DF_ASK_CHAT : DF_ASK_EMBED, .model = q->model, .tokens_in = body->raw.n / 2 + 1};
	ask.max_tokens = (int64_t)df_json_get_u64(
		body, "max_completion_tokens",
		df_json_get_u64(body, "max_tokens", df_json_get_u64(body, "max_output_tokens", 0)));
	uint64_t n = df_json_get_u64(body, "n", 1);
	q->worst_usd = df_price_worst(&info, &ask) * DF_BATCH_PRICE * (double)(n > 1 ? n : 1);
	return NULL;
}

static enum df_err take_line(struct lines *l, struct request *q)
{
	struct df_batch_run *b = l->b;
	bool object = false;
	df_arena_reset(&b->scratch);
	df_counters_add(&b->counters, "in", 1);
	const char *lacks = read_request(l, q, &object);
	if (lacks)
		return reject(l, q, object, DF_ERR_TYPE, lacks);
	struct df_answer_at at = df_answers_find(b->answers, q->custom_id);
	if (at.asked)
		return df_fail(l->fail, DF_ERR_USAGE,
			       "the custom_id '%.*s' comes twice; the second time in '%s' at byte %llu",
			       (int)(q->custom_id.n < 100 ? q->custom_id.n : 100), q->custom_id.p, l->source->name,
			       (unsigned long long)q->offset);
	bool spent = at.attempts >= b->o->attempts;
	if (at.state == DF_ANSWER_HERE || at.state == DF_ANSWER_FAILED || spent) {
		if (df_answers_ask(b->answers, q->custom_id) != DF_OK) /* so that one that comes twice is seen */
			return df_fail(l->fail, DF_ERR_NOMEM, "no memory for requests");
		df_counters_add(&b->counters, "calls", 1);
		return at.state == DF_ANSWER_HERE ? give_out(l, &at) : reject_failed(l, q, &at);
	}
	if (isnan(q->worst_usd) && b->o->budget > 0)
		return df_fail(l->fail, DF_ERR_USAGE,
			       "model '%.*s' has no known price, so that a budget cannot be kept: put its prices into "
			       "models.yaml, or run without --budget",
			       (int)(q->model.n < 200 ? q->model.n : 200), q->model.p);
	df_buf_reset(&l->row);
	(void)df_buf_add_str(&l->row, q->line);
	(void)df_buf_addc(&l->row, '\n');
	if (df_buf_err(&l->row) != DF_OK)
		return df_fail(l->fail, DF_ERR_NOMEM, "no memory for a request");
	enum df_err err =
		df_batch_ask(b, q->custom_id, q->model, q->endpoint, df_buf_str(&l->row), q->worst_usd, l->fail);
	return err == DF_ERR_RANGE ? reject(l, q, true, err, l->fail->msg) : err;
}

static enum df_err take_cell(struct lines *l, const struct df_cell_block *cell)
{
	for (size_t i = 0; i < cell->n_record; i++) {
		const struct df_cell_record *r = &cell->record[i];
		struct request q = {.line = {cell->payload + r->start, r->length}, .offset = r->offset};
		if (r->err) {
			df_counters_add(&l->b->counters, "in", 1);
			DF_TRY(reject(l, &q, false, (enum df_err)r->err, "the line cannot be read"));
			continue;
		}
		DF_TRY(take_line(l, &q));
	}
	return df_remote_stopped(l->b->remote) ? df_fail(l->fail, DF_ERR_INTERRUPTED, "stopped on request") : DF_OK;
}

static enum df_err take_source(struct lines *l)
{
	struct df_reader *reader = NULL;
	struct df_reader_spec spec = {
		.path = l->source->path,
		.fd = -1,
		.name = l->source->name,
		.format = DF_FORMAT_JSONL,
		.id_key = "custom_id",
		.text_key = "text",
		.max_record = l->b->o->max_record,
		.cell_bytes = READER_CELL_BYTES,
		.limit = UINT64_MAX,
		.check_id = true,
		.id = l->source->id,
	};
	DF_TRY(df_reader_open(&spec, &reader, l->fail));
	enum df_err err = DF_OK;
	while (err == DF_OK) {
		struct df_cell_block cell;
		err = df_reader_next_cell(reader, &cell, l->fail);
		err = err == DF_OK ? take_cell(l, &cell) : err == DF_ERR_AGAIN ? DF_OK : err;
	}
	df_reader_close(&reader);
	return err == DF_ERR_END ? DF_OK : err;
}

enum df_err df_batch_pass_lines(struct df_batch_run *b, struct df_fail *fail)
{
	struct lines l = {.b = b, .fail = fail};
	enum df_err err = DF_OK;
	df_buf_init(&l.row, (size_t)2 << 30);
	for (size_t i = 0; i < b->o->n_source && err == DF_OK; i++) {
		l.source = &b->o->source[i];
		err = take_source(&l);
	}
	df_buf_release(&l.row);
	return err;
}
