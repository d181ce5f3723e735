// SPDX-License-Identifier: Apache-2.0
/* example: a rejected document in a counter's name. */
#include "proto/example.h"

#include <stdlib.h>
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

/* ------------------------------------------------------------------ told at the end */

void df_example_add_kinds(struct df_buf *b, const struct df_map *totals, const char *prefix)
{
	size_t n = strlen(prefix);
	const struct df_map_slot *last = NULL;
	bool any = false;
	for (;;) { /* few names: the next in order of name is searched each time */
		const struct df_map_slot *next = NULL;
		for (size_t i = 0; i < totals->n_slot; i++) {
			const struct df_map_slot *s = &totals->slots[i];
			if (!s->key.p || !s->value || !df_str_starts(s->key, prefix))
				continue;
			if ((!last || strcmp(s->key.p, last->key.p) > 0) &&
			    (!next || strcmp(s->key.p, next->key.p) < 0))
				next = s;
		}
		if (!next)
			break;
		(void)df_buf_addf(b, "%s" DF_STR_FMT " %llu", any ? ", " : " (", (int)(next->key.n - n),
				  next->key.p + n, (unsigned long long)next->value);
		any = true;
		last = next;
	}
	if (any)
		(void)df_buf_addc(b, ')');
}

static int by_kind(const void *a, const void *b)
{
	const struct df_example *x = a, *y = b;
	size_t n = x->kind.n < y->kind.n ? x->kind.n : y->kind.n;
	int order = n ? memcmp(x->kind.p, y->kind.p, n) : 0;
	return order ? order : x->kind.n < y->kind.n ? -1 : x->kind.n > y->kind.n;
}

void df_examples_tell(const struct df_map *totals)
{
	struct df_example e[DF_REJECT_EXAMPLES_MAX];
	size_t n = 0;
	for (size_t i = 0; i < totals->n_slot && n < DF_REJECT_EXAMPLES_MAX; i++)
		n += totals->slots[i].key.p && totals->slots[i].value > 0 &&
		     df_example_split(totals->slots[i].key, &e[n]);
	if (n)
		qsort(e, n, sizeof(e[0]), by_kind);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || by_kind(&e[i - 1], &e[i]) != 0)
			df_info("%.*s, e.g. '%.*s': %.*s", (int)e[i].kind.n, e[i].kind.p, (int)e[i].id.n, e[i].id.p,
				(int)e[i].message.n, e[i].message.p);
}
