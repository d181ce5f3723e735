// SPDX-License-Identifier: Apache-2.0
/* unwrap: cut out, decode, parse again. */
#include "worker/lease/unwrap.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "worker/lease/emit.h"

#define LEVELS_MAX 8 /* a record that was poison while it was tried again is wrapped once more */

struct place {
	struct df_str source, stage, error;
	uint64_t offset, attempts;
	enum df_err class;
};

static const struct df_field *find(const struct df_doc *doc, const char *key)
{
	for (size_t i = doc->n_field; i-- > 0;)
		if (df_str_is(doc->field[i].key, key))
			return &doc->field[i];
	return NULL;
}

static enum df_err class_of(struct df_str name)
{
	for (int e = 1; e < DF_N_ERR; e++)
		if (df_str_is(name, df_err_name((enum df_err)e)))
			return (enum df_err)e;
	return DF_ERR_UNSUPPORTED;
}

/* False: the member is not one of ours. */
static bool read_place(struct df_str raw, struct df_arena *arena, struct place *ret_place)
{
	struct df_json *o = NULL;
	struct df_fail why;
	if (df_json_parse(raw, arena, &o, &why) != DF_OK || o->type != DF_JSON_OBJECT)
		return false;
	const struct df_json *source = df_json_get(o, "source"), *offset = df_json_get(o, "offset");
	if (!source || source->type != DF_JSON_STRING || !offset || offset->type != DF_JSON_NUMBER)
		return false;
	*ret_place = (struct place){.source = source->string,
				    .stage = df_json_get_str(o, "stage"),
				    .error = df_json_get_str(o, "error"),
				    .offset = offset->u64,
				    .attempts = df_json_get_u64(o, "attempts", 0),
				    .class = class_of(df_json_get_str(o, "class"))};
	return true;
}

static char *room(struct df_arena *arena, size_t n)
{
	char *p = df_arena_alloc(arena, n + DF_RECORD_PADDING);
	if (p)
		memset(p + n, 0, DF_RECORD_PADDING);
	return p;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The record without the member whose value is `value`. */
static enum df_err cut_out(struct df_str record, struct df_str value, struct df_arena *arena, struct df_str *ret_raw)
{
	const char *begin = value.p, *end = value.p + value.n;
	for (int quotes = 0; quotes < 2; quotes += *begin == '"')
		begin--; /* over the colon to the key's first quote: this key has none inside */
	while (begin > record.p && is_blank(begin[-1]))
		begin--;
	if (begin > record.p && begin[-1] == ',') {
		begin--;
	} else { /* the first member: the comma behind it goes */
		while (end < record.p + record.n && is_blank(*end))
			end++;
		end += end < record.p + record.n && *end == ',';
	}
	size_t before = (size_t)(begin - record.p), behind = (size_t)(record.p + record.n - end);
	char *p = room(arena, before + behind);
	if (!p)
		return DF_ERR_NOMEM;
	memcpy(p, record.p, before);
	memcpy(p + before, end, behind);
	*ret_raw = (struct df_str){p, before + behind};
	return DF_OK;
}

static int digit(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '+'             ? 62
	       : c == '/'             ? 63
				      : -1;
}

/* RFC 4648 with padding, as rejects have it: quoted, nothing in it to unescape but '/', which some write as "\/". */
static enum df_err decode(struct df_str quoted, struct df_arena *arena, struct df_str *ret_raw)
{
	if (quoted.n < 2 || quoted.p[0] != '"')
		return DF_ERR_PARSE;
	char *p = room(arena, quoted.n);
	uint32_t bits = 0;
	size_t n = 0, n_digit = 0, n_pad = 0;
	if (!p)
		return DF_ERR_NOMEM;
	for (size_t i = 1; i + 1 < quoted.n; i++) {
		char c = quoted.p[i];
		if (c == '\\' && quoted.p[i + 1] == '/')
			continue;
		if (c == '=') {
			n_pad++;
			continue;
		}
		if (digit(c) < 0 || n_pad)
			return DF_ERR_PARSE;
		bits = bits << 6 | (uint32_t)digit(c);
		if (++n_digit % 4 != 1)
			p[n++] = (char)(bits >> (6 - 2 * ((n_digit - 1) % 4)) & 0xff);
	}
	if (n_digit % 4 == 1 || (n_digit + n_pad) % 4 != 0 || n_pad > 2)
		return DF_ERR_PARSE;
	memset(p + n, 0, DF_RECORD_PADDING);
	*ret_raw = (struct df_str){p, n};
	return DF_OK;
}

/* A text file travels as its bytes: by its name, or because its bytes once passed the parser and are no JSON. */
static bool is_text_file(const struct place *place)
{
	struct df_file_kind kind = {DF_FORMAT_AUTO, false, false};
	return df_file_kind_of(place->source, &kind) && kind.format == DF_FORMAT_TEXT && !kind.compressed &&
	       !kind.archive;
}

static enum df_err parse(struct df_record_parser *parser, struct df_arena *arena, struct df_str raw, bool decoded,
			 const struct place *place, struct df_doc *doc, struct df_fail *fail)
{
	struct df_doc fresh = {.source = doc->source,
			       .offset = place->offset,
			       .source_name = place->source,
			       .raw = raw,
			       .text_field = SIZE_MAX,
			       .id_field = SIZE_MAX,
			       .attempts = (uint32_t)place->attempts + 1};
	*doc = fresh;
	enum df_err err = decoded && is_text_file(place) ? df_record_from_text(raw, doc, fail)
							 : df_record_parse(parser, raw, arena, doc, fail);
	if (err != DF_ERR_PARSE || !decoded || df_str_is(place->stage, "input"))
		return err;
	*doc = fresh;
	return df_record_from_text(raw, doc, fail);
}

static enum df_err one_level(struct df_record_parser *parser, struct df_arena *arena, enum df_err err,
			     struct df_doc *doc, bool *ret_more, struct df_fail *fail)
{
	const struct df_field *reason = find(doc, DF_REASON_KEY), *raw64 = find(doc, DF_RAW_KEY);
	struct place place;
	struct df_str raw = {NULL, 0};
	*ret_more = false;
	if (!reason || !read_place(reason->raw, arena, &place))
		return err;
	if (doc->n_field == 1) {
		*doc = (struct df_doc){.source = doc->source,
				       .offset = place.offset,
				       .source_name = place.source,
				       .text_field = SIZE_MAX,
				       .id_field = SIZE_MAX,
				       .attempts = (uint32_t)place.attempts};
		return df_fail(fail, place.class, "only its place was kept, and it cannot be tried again: " DF_STR_FMT,
			       (int)(place.error.n < 400 ? place.error.n : 400), place.error.p);
	}
	bool wrapped = raw64 && doc->n_field == 2;
	enum df_err cut = wrapped ? decode(raw64->raw, arena, &raw) : cut_out(doc->raw, reason->raw, arena, &raw);
	if (cut == DF_ERR_NOMEM)
		return df_fail(fail, cut, "no memory for a reject");
	if (cut != DF_OK)
		return df_fail(fail, cut, "'%s' is not base64", DF_RAW_KEY);
	*ret_more = wrapped;
	return parse(parser, arena, raw, wrapped, &place, doc, fail);
}

enum df_err df_unwrap(struct df_record_parser *parser, struct df_arena *arena, enum df_err err, struct df_doc *doc,
		      struct df_fail *fail)
{
	bool more = true;
	for (int level = 0; more && level < LEVELS_MAX && (err == DF_OK || err == DF_ERR_TYPE); level++)
		err = one_level(parser, arena, err, doc, &more, fail);
	return err;
}
