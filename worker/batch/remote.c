// SPDX-License-Identifier: Apache-2.0
/* remote: OpenAI's files and batches (https://platform.openai.com/docs/api-reference/batch), and what both forms share. */
#include "worker/batch/remote.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/batch/answers.h"
#include "worker/batch/exchange.h"
#include "worker/batch/proof.h"

#define ARENA_BYTES ((size_t)256 << 20)
#define ARENA_KEEP (1U << 20)

enum df_err df_remote_create(struct df_http *http, int signal_fd, struct df_remote **ret_remote, struct df_fail *fail)
{
	struct df_remote *r = calloc(1, sizeof(*r));
	if (!r)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for batches");
	r->http = http;
	r->signal_fd = signal_fd;
	r->done_fd = eventfd(0, EFD_CLOEXEC);
	if (r->done_fd < 0) {
		enum df_err err = df_fail_errno(fail, "make an event descriptor");
		free(r);
		return err;
	}
	df_arena_init(&r->arena, ARENA_BYTES, ARENA_KEEP);
	*ret_remote = r;
	return DF_OK;
}

void df_remote_destroy(struct df_remote **remote)
{
	struct df_remote *r = *remote;
	if (!r)
		return;
	(void)close(r->done_fd);
	df_arena_release(&r->arena);
	free(r);
	*remote = NULL;
}

struct df_exchange df_exchange_begin(struct df_remote *r, const char *method)
{
	df_arena_reset(&r->arena);
	return (struct df_exchange){.method = method, .in_fd = -1, .out_fd = -1};
}

enum df_err df_exchange_path(struct df_remote *r, struct df_exchange *x, const char *start, const char *id,
			     const char *end, struct df_fail *fail)
{
	char path[DF_BATCH_ID_BYTES + 64];
	(void)snprintf(path, sizeof(path), "%s%s%s", start, id, end);
	x->path = df_arena_copy(&r->arena, df_str_from(path));
	return x->path.p ? DF_OK : df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
}

/* ------------------------------------------------------------------ uploading */

static enum df_err send_file(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
			     struct df_batch_file *file, const char *run, struct df_fail *fail)
{
	char boundary[64], type[128], head[512], tail[96];
	(void)snprintf(boundary, sizeof(boundary), "docflume-%s-%05u", run, file->no);
	(void)snprintf(type, sizeof(type), "multipart/form-data; boundary=%s", boundary);
	(void)snprintf(head, sizeof(head),
		       "--%s\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
		       "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"docflume-%s-%05u.jsonl\"\r\n"
		       "Content-Type: application/jsonl\r\n\r\n",
		       boundary, boundary, run, file->no);
	(void)snprintf(tail, sizeof(tail), "\r\n--%s--\r\n", boundary);
	x->type = df_str_from(type);
	x->head = df_str_from(head);
	x->tail = df_str_from(tail);
	x->path = DF_STR("/files");
	DF_TRY(df_exchange_done(r, at, x, "upload a file of requests", fail));
	struct df_str id = df_json_get_str(x->json, "id");
	if (!id.n || !df_batch_id_set(file->input, id))
		return df_fail(fail, DF_ERR_PARSE, "the server's answer to an upload has no id");
	return DF_OK;
}

enum df_err df_exchange_open(struct df_exchange *x, int dir_fd, const struct df_batch_file *file, struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	struct stat st;
	df_batch_file_name(name, "requests", file->no, "jsonl");
	x->in_fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (x->in_fd < 0)
		return df_fail_errno(fail, "open '%s'", name);
	x->file_bytes = file->bytes;
	if (fstat(x->in_fd, &st) != 0)
		return df_fail_errno(fail, "look at '%s'", name);
	if ((uint64_t)st.st_size != file->bytes)
		return df_fail(fail, DF_ERR_CORRUPT, "'%s' has %lld bytes, not the %llu that were written", name,
			       (long long)st.st_size, (unsigned long long)file->bytes);
	return DF_OK;
}

enum df_err df_remote_upload(struct df_remote *r, const struct df_remote_place *at, int dir_fd,
			     struct df_batch_file *file, const char *run, struct df_fail *fail)
{
	struct df_exchange x = df_exchange_begin(r, "POST");
	enum df_err err = df_exchange_open(&x, dir_fd, file, fail);
	if (err == DF_OK && at->form == DF_REMOTE_INLINE)
		(void)df_batch_id_set(file->input, DF_STR("inline"));
	else if (err == DF_OK)
		err = send_file(r, at, &x, file, run, fail);
	if (x.in_fd >= 0)
		(void)close(x.in_fd);
	return err;
}

/* ------------------------------------------------------------------ batches */

static enum df_err create_body(struct df_remote *r, const struct df_batch_file *file, const char *run,
			       struct df_str *ret)
{
	struct df_buf b;
	df_buf_init(&b, 65536);
	(void)df_buf_addz(&b, "{\"input_file_id\":");
	(void)df_json_add_string(&b, df_str_from(file->input));
	(void)df_buf_addz(&b, ",\"endpoint\":");
	(void)df_json_add_string(&b, df_str_from(file->endpoint));
	(void)df_buf_addf(&b,
			  ",\"completion_window\":\"24h\",\"metadata\":{\"docflume\":\"%s\",\"docflume_file\":\"%u\","
			  "\"docflume_try\":\"%u\"}}",
			  run, file->no, file->tries);
	if (df_buf_err(&b) == DF_OK)
		*ret = df_arena_copy(&r->arena, df_buf_str(&b));
	df_buf_release(&b);
	return ret->p ? DF_OK : DF_ERR_NOMEM;
}

static enum df_err send_creation(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
				 struct df_batch_file *file, struct df_fail *fail)
{
	DF_TRY(df_exchange_once(r, at, x, fail));
	struct df_str id = df_json_get_str(x->json, "id");
	if (x->err == DF_OK && x->status >= 200 && x->status < 300 && id.n && df_batch_id_set(file->batch, id))
		return DF_OK;
	(void)!df_exchange_fail(x, "create a batch", fail);
	if ((x->err != DF_OK && !x->went_out) || (x->err == DF_OK && x->status == 429))
		return df_fail(fail, DF_ERR_BUSY, "cannot create a batch: %s", x->message);
	if (x->err == DF_OK && x->status >= 400 && x->status < 500 && x->status != 408 && x->status != 409)
		return df_exchange_fail(x, "create a batch", fail);
	return df_fail(fail, DF_ERR_AGAIN, "cannot tell whether a batch was created: %s", x->message);
}

enum df_err df_remote_create_batch(struct df_remote *r, const struct df_remote_place *at, int dir_fd,
				   struct df_batch_file *file, const char *run, struct df_fail *fail)
{
	struct df_exchange x = df_exchange_begin(r, "POST");
	enum df_err err = DF_OK;
	x.path = at->form == DF_REMOTE_INLINE ? DF_STR("/messages/batches") : DF_STR("/batches");
	x.once = true;
	x.type = DF_STR("application/json");
	file->unproved = false;
	if (at->form == DF_REMOTE_INLINE)
		err = df_messages_body(&x, dir_fd, file, fail);
	else if (create_body(r, file, run, &x.body) != DF_OK)
		err = df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	if (err == DF_OK)
		err = send_creation(r, at, &x, file, fail);
	if (x.in_fd >= 0)
		(void)close(x.in_fd);
	return err;
}

enum df_err df_remote_mark(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			   struct df_fail *fail)
{
	return at->form == DF_REMOTE_INLINE ? df_messages_mark(r, at, file, fail) : DF_OK;
}

static bool is_number(struct df_str s, uint32_t n)
{
	uint64_t v = 0;
	return df_str_to_u64(s, &v) == DF_OK && v == n;
}

static bool is_ours(const struct df_json *batch, const struct df_batch_file *file, const char *run)
{
	const struct df_json *m = df_json_get(batch, "metadata");
	return df_str_is(df_json_get_str(m, "docflume"), run) &&
	       is_number(df_json_get_str(m, "docflume_file"), file->no) &&
	       is_number(df_json_get_str(m, "docflume_try"), file->tries);
}

enum df_err df_remote_find_batch(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
				 const struct df_batch_state *state, struct df_fail *fail)
{
	char after[DF_BATCH_ID_BYTES] = "";
	if (at->form == DF_REMOTE_INLINE)
		return df_messages_find(r, at, file, state, fail);
	for (int page = 0; page < DF_REMOTE_PAGES_MAX; page++) {
		struct df_exchange x = df_exchange_begin(r, "GET");
		DF_TRY(df_exchange_path(r, &x, "/batches?limit=100", after[0] ? "&after=" : "", after, fail));
		DF_TRY(df_exchange_done(r, at, &x, "list the batches", fail));
		const struct df_json *data = df_json_get(x.json, "data"), *last = NULL;
		const struct df_json *more = df_json_get(x.json, "has_more");
		if (!data || data->type != DF_JSON_ARRAY)
			return df_fail(fail, DF_ERR_PARSE, "the server's list of batches is none");
		for (const struct df_json *b = data->child; b; last = b, b = b->next)
			if (is_ours(b, file, state->run) && df_json_get_str(b, "id").n &&
			    df_batch_id_set(file->batch, df_json_get_str(b, "id")))
				return DF_OK;
		if (!more || more->type != DF_JSON_BOOL || !more->boolean || !last)
			break;
		if (!df_batch_id_set(after, df_json_get_str(last, "id")))
			return df_fail(fail, DF_ERR_PARSE, "the server's list of batches has an id that is none");
	}
	return df_fail(fail, DF_ERR_NOT_FOUND, "no batch of this run");
}

static void say_failure(const struct df_json *batch, const struct df_remote_place *at, struct df_remote_view *v)
{
	const struct df_json *data = df_json_get(df_json_get(batch, "errors"), "data");
	const struct df_json *first = data ? data->child : NULL;
	struct df_str words = df_json_get_str(first, "message"), code = df_json_get_str(first, "code");
	struct df_answer said = {.class = DF_CALL_OK};
	words.n = df_str_utf8_prefix((struct df_str){words.p, words.n < 300 ? words.n : 300});
	(void)snprintf(said.message, sizeof(said.message), "%.*s", (int)words.n, words.p ? words.p : "");
	df_answer_mask(&said, at->endpoint);
	(void)snprintf(v->why, sizeof(v->why), "%.390s", said.message[0] ? said.message : "it says no more");
	v->full = df_str_is(code, "token_limit_exceeded") || df_str_is(code, "request_limit_exceeded") ||
		  df_str_is(code, "rate_limit_exceeded");
}

static enum df_err take_ids(const struct df_json *batch, struct df_batch_file *file)
{
	struct df_str output = df_json_get_str(batch, "output_file_id"),
		      error = df_json_get_str(batch, "error_file_id");
	return df_batch_id_set(file->output, output) && df_batch_id_set(file->error, error) ? DF_OK : DF_ERR_PARSE;
}

enum df_err df_remote_look(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			   struct df_remote_view *ret, struct df_fail *fail)
{
	struct df_exchange x = df_exchange_begin(r, "GET");
	struct df_remote_view v = {.ended = false};
	if (at->form == DF_REMOTE_INLINE)
		return df_messages_look(r, at, file, ret, fail);
	DF_TRY(df_exchange_path(r, &x, "/batches/", file->batch, "", fail));
	DF_TRY(df_exchange_done(r, at, &x, "look at a batch", fail));
	struct df_str status = df_json_get_str(x.json, "status");
	const struct df_json *counts = df_json_get(x.json, "request_counts");
	if (!status.n || status.n >= sizeof(file->status) || !df_str_is(df_json_get_str(x.json, "id"), file->batch))
		return df_fail(fail, DF_ERR_PARSE, "the server's answer about a batch is none");
	memcpy(file->status, status.p, status.n);
	file->status[status.n] = '\0';
	v.done = df_json_get_u64(counts, "completed", 0);
	v.failed_lines = df_json_get_u64(counts, "failed", 0);
	v.total = df_json_get_u64(counts, "total", 0);
	v.failed = df_str_is(status, "failed");
	v.ended = v.failed || df_str_is(status, "completed") || df_str_is(status, "expired") ||
		  df_str_is(status, "cancelled");
	if (v.ended && take_ids(x.json, file) != DF_OK)
		return df_fail(fail, DF_ERR_PARSE, "the server names files of a batch by ids that are none");
	if (v.failed)
		say_failure(x.json, at, &v);
	*ret = v;
	return DF_OK;
}

/* ------------------------------------------------------------------ fetching */

/* What came to its end by the connection's end alone must at least end with a whole line. */
static bool ends_with_a_line(int fd)
{
	char last = '\n';
	off_t end = lseek(fd, 0, SEEK_END);
	return end <= 0 || (pread(fd, &last, 1, end - 1) == 1 && last == '\n');
}

static enum df_err fetch_to(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
			    struct df_fail *fail)
{
	DF_TRY(df_exchange_done(r, at, x, "fetch answers", fail));
	if (x->unproved && !ends_with_a_line(x->out_fd))
		return df_fail(fail, DF_ERR_CLOSED, "cannot fetch answers: the file was cut off");
	return fsync(x->out_fd) == 0 ? DF_OK : df_fail_errno(fail, "sync what was fetched");
}

enum df_err df_remote_fetch(struct df_remote *r, const struct df_remote_place *at, const char *id, int dir_fd,
			    const char *name, uint64_t *ret_hash, struct df_fail *fail)
{
	char open_name[DF_BATCH_NAME_BYTES + 8];
	struct df_exchange x = df_exchange_begin(r, "GET");
	struct df_batch_sum sum = {.hash = 0};
	bool inl = at->form == DF_REMOTE_INLINE; /* then the id is a path */
	(void)snprintf(open_name, sizeof(open_name), "%s.open", name);
	DF_TRY(df_exchange_path(r, &x, inl ? "" : "/files/", id, inl ? "" : "/content", fail));
	x.to_file = true;
	x.out_fd = openat(dir_fd, open_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (x.out_fd < 0)
		return df_fail_errno(fail, "write '%s'", open_name);
	enum df_err err = fetch_to(r, at, &x, fail);
	(void)close(x.out_fd);
	if (err == DF_OK)
		err = df_batch_hash_file(dir_fd, open_name, &sum, fail);
	*ret_hash = sum.hash;
	if (err == DF_OK && (renameat(dir_fd, open_name, dir_fd, name) != 0 || fsync(dir_fd) != 0))
		err = df_fail_errno(fail, "rename '%s'", open_name);
	return err;
}
