// SPDX-License-Identifier: Apache-2.0
/*
 * remote_messages: Anthropic's Message Batches (https://platform.claude.com/docs/en/api/creating-message-batches): at most 100,000 requests and 256 MB inline in
 * the creation, results as lines in any order when `processing_status` is "ended", which is 24 hours after the creation at the latest.
 */
#include <stdio.h>

#include "worker/batch/exchange.h"

#define LIST_START "/messages/batches?limit=100"

enum df_err df_messages_mark(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			     struct df_fail *fail)
{
	struct df_exchange x = df_exchange_begin(r, "GET");
	x.path = DF_STR("/messages/batches?limit=1");
	DF_TRY(df_exchange_done(r, at, &x, "list the batches", fail));
	const struct df_json *data = df_json_get(x.json, "data");
	if (!data || data->type != DF_JSON_ARRAY || !df_batch_id_set(file->mark, df_json_get_str(data->child, "id")))
		return df_fail(fail, DF_ERR_PARSE, "the server's list of batches is none");
	return DF_OK;
}

enum df_err df_messages_body(struct df_exchange *x, int dir_fd, const struct df_batch_file *file, struct df_fail *fail)
{
	x->as_list = true;
	x->head = DF_STR("{\"requests\":[");
	x->tail = DF_STR("]}");
	return df_exchange_open(x, dir_fd, file, fail);
}

/* ------------------------------------------------------------------ finding */

static uint64_t requests_of(const struct df_json *batch)
{
	const struct df_json *n = df_json_get(batch, "request_counts");
	return df_json_get_u64(n, "processing", 0) + df_json_get_u64(n, "succeeded", 0) +
	       df_json_get_u64(n, "errored", 0) + df_json_get_u64(n, "canceled", 0) + df_json_get_u64(n, "expired", 0);
}

static bool is_known(const struct df_batch_state *state, const struct df_batch_file *but, struct df_str id)
{
	for (size_t i = 0; i < state->n_file; i++)
		if (&state->file[i] != but && df_str_is(id, state->file[i].batch))
			return true;
	return false;
}

/* The newest are first. *ret_more: the mark was not reached. */
static bool look_through(const struct df_json *data, struct df_batch_file *file, const struct df_batch_state *state,
			 bool *ret_more)
{
	bool found = false;
	for (const struct df_json *b = data->child; b; b = b->next) {
		struct df_str id = df_json_get_str(b, "id");
		if (file->mark[0] && df_str_is(id, file->mark)) {
			*ret_more = false;
			break;
		}
		if (id.n && requests_of(b) == file->lines && !is_known(state, file, id) &&
		    df_batch_id_set(file->batch, id))
			found = true;
	}
	return found;
}

enum df_err df_messages_find(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			     const struct df_batch_state *state, struct df_fail *fail)
{
	char after[DF_BATCH_ID_BYTES] = "";
	bool found = false;
	for (int page = 0; page < DF_REMOTE_PAGES_MAX; page++) {
		struct df_exchange x = df_exchange_begin(r, "GET");
		DF_TRY(df_exchange_path(r, &x, LIST_START, after[0] ? "&after_id=" : "", after, fail));
		DF_TRY(df_exchange_done(r, at, &x, "list the batches", fail));
		const struct df_json *data = df_json_get(x.json, "data"), *more = df_json_get(x.json, "has_more");
		bool goes_on = more && more->type == DF_JSON_BOOL && more->boolean;
		if (!data || data->type != DF_JSON_ARRAY)
			return df_fail(fail, DF_ERR_PARSE, "the server's list of batches is none");
		found |= look_through(data, file, state, &goes_on);
		struct df_str last = df_json_get_str(x.json, "last_id");
		if (!goes_on || !last.n)
			break;
		if (!df_batch_id_set(after, last))
			return df_fail(fail, DF_ERR_PARSE, "the server's list of batches has an id that is none");
	}
	file->unproved = found;
	return found ? DF_OK : df_fail(fail, DF_ERR_NOT_FOUND, "no batch of this run");
}

/* ------------------------------------------------------------------ looking */

/* The results' path below the base URL. A key goes to the host that the user named and to no other, whatever the server says. */
static enum df_err take_results(const struct df_remote_place *at, const struct df_json *batch,
				struct df_batch_file *file, struct df_fail *fail)
{
	char path[DF_BATCH_ID_BYTES + 64];
	struct df_str url = df_json_get_str(batch, "results_url");
	if (!url.n)
		return df_fail(fail, DF_ERR_RANGE,
			       "batch '%s' has ended, and its results are not there (any more: they are kept for 29 "
			       "days); what was fetched before lies in the cache, so a run in another directory asks "
			       "for the rest alone",
			       file->batch);
	bool below = url.n > at->base.n && memcmp(url.p, at->base.p, at->base.n) == 0 && url.p[at->base.n] == '/';
	if (below && df_batch_path_set(file->output, (struct df_str){url.p + at->base.n, url.n - at->base.n}))
		return DF_OK;
	(void)snprintf(path, sizeof(path), "/messages/batches/%s/results", file->batch);
	return df_batch_path_set(file->output, df_str_from(path))
		       ? DF_OK
		       : df_fail(fail, DF_ERR_PARSE, "the id of batch '%s' is too long", file->batch);
}

enum df_err df_messages_look(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			     struct df_remote_view *ret, struct df_fail *fail)
{
	struct df_exchange x = df_exchange_begin(r, "GET");
	struct df_remote_view v = {.ended = false};
	DF_TRY(df_exchange_path(r, &x, "/messages/batches/", file->batch, "", fail));
	DF_TRY(df_exchange_done(r, at, &x, "look at a batch", fail));
	struct df_str status = df_json_get_str(x.json, "processing_status");
	const struct df_json *counts = df_json_get(x.json, "request_counts");
	if (!status.n || status.n >= sizeof(file->status) || !df_str_is(df_json_get_str(x.json, "id"), file->batch))
		return df_fail(fail, DF_ERR_PARSE, "the server's answer about a batch is none");
	(void)snprintf(file->status, sizeof(file->status), DF_STR_FMT, DF_STR_ARG(status));
	v.done = df_json_get_u64(counts, "succeeded", 0);
	v.failed_lines = df_json_get_u64(counts, "errored", 0);
	v.total = requests_of(x.json);
	v.ended = df_str_is(status, "ended");
	if (v.ended)
		DF_TRY(take_results(at, x.json, file, fail));
	*ret = v;
	return DF_OK;
}
