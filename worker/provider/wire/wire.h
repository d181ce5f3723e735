// SPDX-License-Identifier: Apache-2.0
/*
 * wire: what the providers have in common: writing a request, and judging an answer before its own shape is looked at.
 *
 * Requests: df_wire_url, then headers, then a body in a df_buf that df_wire_body hands over. The first error sticks in the buffer, so a
 * builder checks once, at the end.
 * Answers: df_wire_root settles everything that is not a 2xx with a JSON body; the provider reads on from *ret_root.
 */
#ifndef DF_WORKER_PROVIDER_WIRE_WIRE_H
#define DF_WORKER_PROVIDER_WIRE_WIRE_H

#include "base/json.h"
#include "worker/provider/provider.h"

/* --- requests --- */

/* parts->url: the endpoint's base URL (or `otherwise`) and a path. DF_ERR_USAGE: not a http(s) URL, or a key that no header can carry. */
enum df_err df_wire_url(const struct df_endpoint *to, const char *otherwise, const char *path, struct df_arena *arena,
			struct df_http_parts *parts, struct df_fail *fail) DF_MUST_CHECK;
/* Skipped when value is empty. Value: prefix and text, copied. DF_ERR_NOMEM. */
enum df_err df_wire_header(struct df_http_parts *parts, struct df_arena *arena, const char *name, const char *prefix,
			   struct df_str value, bool secret) DF_MUST_CHECK;
/* Takes the buffer's content (and releases it) as the body of a POST, with its content type. */
enum df_err df_wire_body(struct df_buf *body, struct df_arena *arena, struct df_http_parts *parts,
			 struct df_fail *fail) DF_MUST_CHECK;
void df_wire_body_init(struct df_buf *body);

/* `"name":` with a comma before it unless it is the first of its object. */
void df_wire_key(struct df_buf *b, const char *name);
void df_wire_text(struct df_buf *b, const char *name, struct df_str value);                 /* "name":"value" */
void df_wire_real(struct df_buf *b, const char *name, double value);                        /* skipped when NAN */
void df_wire_count(struct df_buf *b, const char *name, int64_t value);                      /* skipped when < 1 */
void df_wire_strings(struct df_buf *b, const char *name, const struct df_str *s, size_t n); /* "name":["...", ...] */
/* "name":[{"role":"user","content":"..."}, ...]; system turns too unless without_system. */
void df_wire_messages(struct df_buf *b, const char *name, const struct df_ask *ask, bool without_system);
/* All system turns with an empty line between them; empty when there is none. */
struct df_str df_wire_system(const struct df_ask *ask, struct df_arena *arena, enum df_err *err);

/* Does any of the shell patterns (the last is NULL) match? Ids above 256 bytes match nothing. */
bool df_wire_match(struct df_str id, const char *const *pattern);

/* How much of a schema is in the part of JSON Schema that constrained decoding knows (wire_schema.c). */
enum df_schema_fit {
	DF_SCHEMA_NO_OBJECT, /* its root is no object, or has a combinator or a reference: OpenAI, Anthropic and their like refuse the request */
	DF_SCHEMA_LOOSE, /* a hint: an object is open, a property optional, or a word is used that strict modes refuse */
	DF_SCHEMA_RANGED, /* all of it, with ranges, patterns, formats or recursion (OpenAI takes these, Anthropic does not) */
	DF_SCHEMA_PLAIN
};
struct df_wire_schema {
	struct df_str text; /* JSON; empty: none is asked for */
	enum df_schema_fit fit;
	bool has_union;    /* anyOf, or a list of types */
	bool named_simply; /* its properties' names are what Anthropic lets a tool have */
	bool has_required; /* of the root */
};
/* The ask's schema. DF_ERR_USAGE: no JSON object. */
enum df_err df_wire_schema(const struct df_ask *ask, struct df_arena *arena, struct df_wire_schema *ret,
			   struct df_fail *fail) DF_MUST_CHECK;
/* For df_provider.holds: schemas whose root is an object. */
bool df_wire_holds_objects(const struct df_ask *ask, struct df_arena *arena);

/* --- answers --- */

void df_wire_clear(struct df_answer *a); /* as before any answer: class OK, nothing known */
/* Sets class and message: one line, cut at a character's border, words that look like keys masked. */
void df_wire_fail(struct df_answer *a, enum df_call_class class, const char *fmt, ...) DF_PRINTF(3, 4);
/* A short word of a provider's: one line, cut, without what looks like a key. */
void df_wire_word(char *to, size_t cap, struct df_str word);
/* An error as any of the known APIs words it, in a body (or an event); status 0: it came inside a 200. */
void df_wire_error(struct df_answer *a, long status, const struct df_json *root, struct df_str body);
/* What a redirect says in place of df_wire_error's words: where to, without what may be a secret there, and that it is not followed. */
void df_wire_redirect(const struct df_http_response *response, struct df_answer *a);
/* Clears `ret`, then true: 2xx, and *ret_root is its JSON, without an error in it. False: ret says what was wrong. */
bool df_wire_root(const struct df_http_response *response, struct df_arena *arena, struct df_answer *ret,
		  const struct df_json **ret_root);
/* As df_wire_root once the status and the body's JSON (or what is wrong with it) are known: for vectors.h. */
bool df_wire_status(const struct df_http_response *response, struct df_arena *arena, struct df_answer *ret);
void df_wire_not_json(const struct df_http_response *response, const struct df_arena *arena, const struct df_fail *why,
		      enum df_err err, struct df_answer *ret);
/* Why the answer ended: `finish`, and the provider's word for it (one line, cut). */
void df_wire_finish(struct df_answer *a, enum df_finish finish, struct df_str word);
void df_wire_stream_finish(struct df_stream *stream, enum df_finish finish, struct df_str word);
/* May a JSON answer be of the type that the header names (wire_type.c)? False: ret is BAD_ANSWER, with the type and what the body begins with. */
bool df_wire_json_type(const struct df_http_response *response, struct df_answer *ret);
/* Estimates from above where nothing was said: tokens_in, and for a text one token per byte, at most max_tokens. */
void df_wire_usage(const struct df_ask *ask, struct df_str text, struct df_usage *usage);
/* A text of `root`, or of the items of a list of {"text": ...}; thinking is passed over. p NULL: there is none. */
struct df_str df_wire_content(const struct df_json *content, struct df_arena *arena, enum df_err *err);

/* --- events --- */

/* The event's JSON, or NULL: the stream has failed and ret says why. Errors inside the event too. */
const struct df_json *df_wire_event(struct df_str data, struct df_stream *stream, struct df_arena *arena,
				    struct df_answer *ret);
void df_wire_append(struct df_stream *stream, struct df_str text, struct df_str *ret_new_text, struct df_answer *ret);
void df_wire_model(struct df_stream *stream, struct df_str model);

/* --- headers (headers.c) --- */

/* retry-after-ms, Retry-After (seconds, or a date against the Date header); -1: not said. At most a week. */
int64_t df_wire_retry_after(const struct df_http_response *r);
/* x-ratelimit-* as OpenAI, Azure and Mistral word it, anthropic-ratelimit-*; for every provider with a network. */
void df_wire_limits(const struct df_http_response *response, struct df_limit_news *ret);
/* "6m0s", "1s", "20ms", "1h2m3.5s" in ms, rounded up; a plain number is seconds, and 0 or less of these says nothing. -1: none of it. */
int64_t df_wire_duration(struct df_str s);
/* RFC 9110 dates ("Sun, 06 Nov 1994 08:49:37 GMT") and RFC 3339 times, ms since 1970; INT64_MIN: neither. */
int64_t df_wire_date(struct df_str s);
struct df_str df_wire_get(const struct df_http_response *r, const char *name); /* p NULL: none; trimmed */

#endif
