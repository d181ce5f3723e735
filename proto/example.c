// SPDX-License-Identifier: Apache-2.0
/* example: a rejected document in a counter's name. */
#include "proto/example.h"

#include <string.h>

#include "base/limits.h"
#include "base/log.h"

/* Escapes what is cut, so that nothing is cut within an escape; each byte becomes at most six. */
static void add_cut(struct df_buf *out, struct df_str text, size_t max)
{
	char z[DF_EXAMPLE_MESSAGE_BYTES + 4];
	struct df_str s = {text.p, text.n < max ? text.n : max};
	s.n = df_str_utf8_prefix(s);
	if (s.p)
		memcpy(z, s.p, s.n);
	memcpy(z + s.n, s.n < text.n ? "..." : "", s.n < text.n ? 4 : 1);
	df_log_escape(out, z); /* up to the first NUL */
}

void df_example_add_name(struct df_buf *out, struct df_str kind, struct df_str id, const char *message)
{
	(void)df_buf_addz(out, DF_EXAMPLE_PREFIX);
	(void)df_buf_add_str(out, kind);
	(void)df_buf_addc(out, '\n');
	add_cut(out, id, DF_EXAMPLE_ID_BYTES);
	(void)df_buf_addc(out, '\n');
	add_cut(out, df_str_from(message), DF_EXAMPLE_MESSAGE_BYTES);
}

static struct df_str line(struct df_str *rest)
{
	const char *lf = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
	struct df_str s = {rest->p, lf ? (size_t)(lf - rest->p) : rest->n};
	size_t used = s.n + (lf != NULL);
	*rest = (struct df_str){rest->p + used, rest->n - used};
	return s;
}

bool df_example_split(struct df_str name, struct df_example *ret)
{
	const size_t n = sizeof(DF_EXAMPLE_PREFIX) - 1;
	if (!df_str_starts(name, DF_EXAMPLE_PREFIX))
		return false;
	struct df_str rest = {name.p + n, name.n - n};
	ret->kind = line(&rest);
	ret->id = line(&rest);
	ret->message = line(&rest);
	return true;
}
