// SPDX-License-Identifier: Apache-2.0
/*
 * wire_type: what an answer is by its content type, and whole answers where streams were asked for.
 *
 * DESIGN. The type decides what the bytes cannot: a page of a proxy or an image is no answer, however its bytes read. Types that servers of one's own are
 * known to send with JSON (text/plain, application/octet-stream, none at all) decide nothing: there the whole JSON of the right shape does.
 */
#include <stdio.h>

#include "base/limits.h"
#include "worker/provider/wire/wire.h"

/* "application/json" of "Application/JSON; charset=utf-8". */
static struct df_str media_of(const struct df_http_response *r)
{
	struct df_str type = df_wire_get(r, "content-type");
	const char *end = type.n ? memchr(type.p, ';', type.n) : NULL;
	if (end)
		type.n = (size_t)(end - type.p);
	return df_str_trim(type);
}

static bool is_media(struct df_str media, const char *name)
{
	return media.n == strlen(name) && strncasecmp(media.p, name, media.n) == 0;
}

/* application/json, application/problem+json, application/x-ndjson, text/json, ... */
static bool names_json(struct df_str media)
{
	const char *slash = media.n ? memchr(media.p, '/', media.n) : NULL;
	size_t n = slash ? (size_t)(slash - media.p) : 0;
	struct df_str kind = {media.p, n};
	if (!is_media(kind, "application") && !is_media(kind, "text"))
		return false;
	for (size_t i = n; i + 4 <= media.n; i++)
		if (strncasecmp(media.p + i, "json", 4) == 0)
			return true;
	return false;
}

static bool may_be_json(struct df_str media)
{
	return media.n == 0 || names_json(media) || is_media(media, "text/plain") ||
	       is_media(media, "application/octet-stream");
}

/* What fits, readable whatever the bytes are; df_wire_fail takes controls out. */
static void as_text(struct df_str s, char *to, size_t size)
{
	size_t n = s.n < size ? s.n : size - 1;
	for (size_t i = 0; i < n; i++)
		to[i] = s.p[i] ? s.p[i] : ' ';
	to[n] = '\0';
	df_str_make_utf8(to);
}

static void wrong_type(const struct df_http_response *r, const char *wanted, struct df_str body, struct df_answer *ret)
{
	struct df_str type = df_wire_get(r, "content-type");
	char named[81], shown[61];
	body = df_str_trim(body);
	as_text(type, named, sizeof(named));
	as_text(body, shown, sizeof(shown));
	df_wire_fail(ret, DF_CALL_BAD_ANSWER,
		     "status %ld with content type '%s', not %s; it begins with '%s'; does base_url name the API?",
		     r->status, named, wanted, shown);
}

bool df_wire_json_type(const struct df_http_response *r, struct df_answer *ret)
{
	if (may_be_json(media_of(r)))
		return true;
	wrong_type(r, "JSON", r->body, ret);
	return false;
}

bool df_stream_typed(const struct df_stream *stream, enum df_stream_form form, const struct df_http_response *r,
		     struct df_answer *ret)
{
	struct df_str media = media_of(r);
	if (may_be_json(media) || (form == DF_STREAM_SSE && is_media(media, "text/event-stream")))
		return true;
	df_wire_clear(ret);
	wrong_type(r, form == DF_STREAM_SSE ? "a stream of events" : "lines of JSON",
		   (struct df_str){stream->begin, stream->n_begin}, ret);
	return false;
}

/* ------------------------------------------------------------------ whole, not in events */

static void keep_whole(struct df_stream *stream, const char *p, size_t n, struct df_answer *ret)
{
	if (stream->whole.max == 0)
		df_buf_init(&stream->whole, DF_PLAIN_STREAM_MAX);
	if (df_buf_add(&stream->whole, p, n) == DF_OK)
		return;
	stream->failed = true;
	df_wire_clear(ret);
	if (df_buf_err(&stream->whole) == DF_ERR_LIMIT)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "an answer of more than %u MB where a stream was asked for",
			     DF_PLAIN_STREAM_MAX >> 20);
	else
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer");
}

bool df_stream_take(struct df_stream *stream, enum df_stream_form form, const char *p, size_t n, struct df_answer *ret)
{
	size_t blank = 0, room = sizeof(stream->begin) - stream->n_begin;
	if (!stream->begun)
		while (blank < n && (p[blank] == ' ' || p[blank] == '\t' || p[blank] == '\r' || p[blank] == '\n'))
			blank++;
	if (blank == n && !stream->begun)
		return false;
	memcpy(stream->begin + stream->n_begin, p + blank, n - blank < room ? n - blank : room);
	stream->n_begin += n - blank < room ? n - blank : room;
	if (!stream->begun) {
		/* No field of an event begins so; of lines of JSON every one does, and they are told apart by themselves. */
		stream->plain = form == DF_STREAM_SSE && (p[blank] == '{' || p[blank] == '[');
		stream->begun = true;
	}
	if (stream->plain)
		keep_whole(stream, p + blank, n - blank, ret);
	return stream->plain;
}
