// SPDX-License-Identifier: Apache-2.0
/* schema_words: what is wrong with a value, in words that a language model can act on. */
#include <stdarg.h>
#include <stdio.h>

#include "worker/check/schema_run.h"

#define SHOWN_BYTES 60U

/* As a JSON pointer. */
static void add_place(struct df_buf *out, const struct df_check_place *at)
{
	if (!at || !at->up)
		return;
	add_place(out, at->up);
	(void)df_buf_addc(out, '/');
	if (!at->key.p)
		(void)df_buf_addf(out, "%zu", at->no);
	for (size_t i = 0; at->key.p && i < at->key.n; i++) {
		char c = at->key.p[i];
		if (c == '~' || c == '/')
			(void)df_buf_addz(out, c == '~' ? "~0" : "~1");
		else
			(void)df_buf_addc(out, (unsigned char)c < 0x20 ? ' ' : c);
	}
}

bool df_check_say(struct df_check_run *r, const struct df_check_place *at, const char *fmt, ...)
{
	char words[512];
	va_list ap;
	r->deepest = at->depth > r->deepest ? at->depth : r->deepest;
	if (!r->loud || !r->why || r->n_told >= DF_SCHEMA_ERRORS)
		return false;
	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	r->n_told++;
	add_place(r->why, at);
	(void)df_buf_addf(r->why, "%s: %s\n", at->up ? "" : "/", words);
	return false;
}

/* Whole characters, control characters as blanks. */
static void cut(struct df_str s, const char *quote, char out[DF_CHECK_SHORT])
{
	size_t n = s.n <= SHOWN_BYTES ? s.n : SHOWN_BYTES;
	while (n < s.n && n > 0 && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n--;
	(void)snprintf(out, DF_CHECK_SHORT, "%s%.*s%s%s", quote, (int)n, n ? s.p : "", n < s.n ? "..." : "", quote);
	for (char *p = out; *p; p++)
		*p = (unsigned char)*p < 0x20 ? ' ' : *p;
}

const char *df_check_short(const struct df_json *v, char out[DF_CHECK_SHORT])
{
	cut(v->type == DF_JSON_STRING ? v->string : v->raw, v->type == DF_JSON_STRING ? "'" : "", out);
	return out;
}

const char *df_check_short_key(struct df_str s, char out[DF_CHECK_SHORT])
{
	cut(s, "'", out);
	return out;
}

const char *df_check_types(uint32_t bits, char out[DF_CHECK_SHORT])
{
	static const char *const words[] = {"null", "boolean", "number", "string", "array", "object", "integer"};
	size_t n = 0;
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (bits & 1U << i)
			n += (size_t)snprintf(out + n, DF_CHECK_SHORT - n, "%s%s", n ? " or " : "", words[i]);
	return out;
}
