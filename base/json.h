// SPDX-License-Identifier: Apache-2.0
/*
 * json: writing JSON (RFC 8259) into a df_buf. Reading documents is worker/read's work; reading
 * run.json is done by df_json_parse, a small strict parser for docflume's own bounded files.
 */
#ifndef DF_BASE_JSON_H
#define DF_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"

/* A quoted string; bytes are UTF-8 and stay so; control characters, '"' and '\' are escaped. */
enum df_err df_json_add_string(struct df_buf *b, struct df_str s);

/* The shortest decimal that reads back as the same float32; nan and inf become null. */
enum df_err df_json_add_f32(struct df_buf *b, float v);
/* %.17g cut to the shortest that reads back the same; nan and inf become null. */
enum df_err df_json_add_double(struct df_buf *b, double v);
/* USD to the billionth, which is what purses count in, in digits that need no exponent ("0.00001", "2.5"); nan and inf become null. */
enum df_err df_json_add_usd(struct df_buf *b, double usd);

enum df_json_type { DF_JSON_NULL, DF_JSON_BOOL, DF_JSON_NUMBER, DF_JSON_STRING, DF_JSON_ARRAY, DF_JSON_OBJECT };

struct df_json {
	enum df_json_type type;
	bool boolean;
	double number;         /* infinite when beyond a double's range */
	uint64_t u64;          /* the number when it is a plain non-negative integer, else 0 */
	struct df_str string;  /* unescaped; for a number, its text */
	struct df_str raw;     /* the value as it stands in the text that was parsed, which must outlive it */
	struct df_str key;     /* inside an object */
	struct df_json *child; /* first element or member */
	struct df_json *next;  /* next sibling */
	size_t n;              /* children */
};

/* RFC 8259 to the letter, lone surrogates refused. Depth at most DF_JSON_DEPTH; all memory from `arena`. DF_ERR_PARSE with line and
 * column (bytes from 1), DF_ERR_UTF8, DF_ERR_LIMIT, DF_ERR_NOMEM. */
enum df_err df_json_parse(struct df_str text, struct df_arena *arena, struct df_json **ret_root,
			  struct df_fail *fail) DF_MUST_CHECK;
/* Member by key or NULL; NULL object gives NULL, so look-ups chain. The last of equal keys. */
const struct df_json *df_json_get(const struct df_json *object, const char *key);
const struct df_json *df_json_member(const struct df_json *object, struct df_str key);
/* Item of an array by its number in digits, from 0, or NULL: a step of a path. */
const struct df_json *df_json_item(const struct df_json *array, struct df_str no);
/* Item i of an array, from 0; NULL: there are not so many, or no array. */
const struct df_json *df_json_nth(const struct df_json *array, uint64_t i);
/* A member that is a number; 0: it is none. */
double df_json_get_double(const struct df_json *object, const char *key);
uint64_t df_json_get_u64(const struct df_json *object, const char *key, uint64_t otherwise);
struct df_str df_json_get_str(const struct df_json *object, const char *key);

#endif
