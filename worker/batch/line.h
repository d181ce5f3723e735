// SPDX-License-Identifier: Apache-2.0
/*
 * line: one line of a batch's files, in OpenAI's form or in Anthropic's. Pure functions.
 *
 *   request  {"custom_id":"...","method":"POST","url":"/v1/chat/completions","body":{...}}
 *   answer   {"id":"...","custom_id":"...","response":{"status_code":200,"request_id":"...","body":{...}},"error":null}
 *   failure  the same with another status_code, or "response":null,"error":{"code":"batch_expired","message":"..."}
 *
 *   request  {"custom_id":"...","params":{...}}
 *   answer   {"custom_id":"...","result":{"type":"succeeded","message":{...}}}
 *   failure  "result":{"type":"errored","error":{"type":"error","error":{"type":"...","message":"..."}}}, or of type "expired" or "canceled"
 */
#ifndef DF_WORKER_BATCH_LINE_H
#define DF_WORKER_BATCH_LINE_H

#include "base/arena.h"
#include "base/buf.h"
#include "worker/cache/cache.h"

#define DF_BATCH_INLINE_END "/messages" /* what is asked at a path that ends so has Anthropic's form */
#define DF_CUSTOM_ID_BYTES 64           /* of ids that are made here, NUL included */

/* "df-" and the key in hex: what is asked is known by it, in any order, after any crash, and twice the same ask is one line. */
void df_batch_custom_id(struct df_cache_key key, char ret_id[DF_CUSTOM_ID_BYTES]);
/* Where batches have no metadata: 8 characters of the run's name behind it, so that results tell whose they are. Letters, digits and '-' alone, and no more than
 * 64 of them, as Anthropic wants it. */
void df_batch_custom_id_of_run(struct df_cache_key key, const char *run, char ret_id[DF_CUSTOM_ID_BYTES]);

/* Appends a request and its LF. The body's bytes are kept, but for line breaks between its tokens, which become blanks. */
enum df_err df_batch_add_request(struct df_buf *out, struct df_str custom_id, struct df_str endpoint,
				 struct df_str body) DF_MUST_CHECK;
/* The same in Anthropic's form. */
enum df_err df_batch_add_params(struct df_buf *out, struct df_str custom_id, struct df_str body) DF_MUST_CHECK;

/* "https://host/v1/chat/completions" -> "https://host/v1" and "/v1/chat/completions". Without "/v1/" in it, what follows base_url is the path below
 * /v1. DF_ERR_UNSUPPORTED: neither. *ret_base points into url, *ret_endpoint is from the arena. */
enum df_err df_batch_split_url(struct df_str url, struct df_str base_url, struct df_arena *arena,
			       struct df_str *ret_base, struct df_str *ret_endpoint,
			       struct df_fail *fail) DF_MUST_CHECK;

struct df_batch_answer {
	struct df_str custom_id;
	long status;                 /* 0: there is no response */
	struct df_str body;          /* JSON text, points into the line */
	struct df_str code, message; /* without a response */
	bool expired;                /* it was never begun: it costs nothing and counts as no attempt */
};

/* DF_ERR_PARSE: no such line. Strings are the arena's or the line's. */
enum df_err df_batch_read_answer(struct df_str line, struct df_arena *arena, struct df_batch_answer *ret,
				 struct df_fail *fail) DF_MUST_CHECK;

/* The id of a line that df_batch_add_request or df_batch_add_params wrote, without parsing it; p NULL: it is none. */
struct df_str df_batch_own_id(struct df_str line);

#endif
