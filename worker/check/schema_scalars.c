// SPDX-License-Identifier: Apache-2.0
/* schema_scalars: the rules that look at a value alone: its type, the values allowed, lengths and patterns of strings, bounds of numbers. */
#include <stdio.h>

#include "worker/check/schema_walk.h"

/* --- strings and numbers --- */

bool df_check_matches(struct df_check_run *r, const struct df_pattern *p, struct df_str s)
{
	bool found = false;
	enum df_err err = r->err == DF_OK ? df_pattern_match(p, s, &r->work, &found) : r->err;
	r->err = err;
	return err == DF_OK && found;
}

DF_CHECK_LEAF bool df_check_strings(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	bool ok = true;
	if (n->length.min || n->length.max != UINT64_MAX) {
		uint64_t length = df_check_characters(t->v->string);
		if (!df_check_pay(r, t->v->string.n / 64))
			return false;
		if (!df_check_in_range(&n->length, length))
			ok = df_check_say(r, t->at, "%s has %llu characters; %s %llu are wanted",
					  df_check_short(t->v, z), (unsigned long long)length,
					  length < n->length.min ? "at least" : "at most",
					  (unsigned long long)(length < n->length.min ? n->length.min : n->length.max));
	}
	if (n->pattern && !df_check_matches(r, n->pattern, t->v->string))
		ok = df_check_say(r, t->at, "%s does not match the pattern %s", df_check_short(t->v, z),
				  df_check_short_key(n->pattern_text, y));
	return ok;
}

static DF_CHECK_LEAF bool bound(struct df_check_run *r, const struct df_check_visit *t, const struct df_json *limit,
				int sign, bool equal, const char *words)
{
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	if (!limit)
		return true;
	struct df_decimal a = df_decimal_of(t->v->string), b = df_decimal_of(limit->string);
	int order = df_decimal_compare(&a, &b) * sign;
	if (order > 0 || (order == 0 && equal))
		return true;
	return df_check_say(r, t->at, "%s is %s %s", df_check_short(t->v, z), words, df_check_short(limit, y));
}

DF_CHECK_LEAF bool df_check_numbers(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	if (!df_check_pay(r, t->v->string.n / 8))
		return false;
	bool ok = bound(r, t, n->minimum, 1, true, "less than the minimum of");
	ok = bound(r, t, n->maximum, -1, true, "more than the maximum of") && ok;
	ok = bound(r, t, n->above, 1, false, "not more than") && ok;
	ok = bound(r, t, n->below, -1, false, "not less than") && ok;
	if (n->multiple) {
		struct df_decimal a = df_decimal_of(t->v->string), b = df_decimal_of(n->multiple->string);
		if (!df_decimal_is_multiple(&a, &b))
			ok = df_check_say(r, t->at, "%s is not a multiple of %s", df_check_short(t->v, z),
					  df_check_short(n->multiple, y));
	}
	return ok;
}

/* --- any value --- */

DF_CHECK_LEAF bool df_check_type(struct df_check_run *r, const struct df_check_visit *t)
{
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	uint32_t types = t->node->types;
	if (!types || types & 1U << t->v->type)
		return true;
	if (types & DF_TYPE_INTEGER && t->v->type == DF_JSON_NUMBER) {
		struct df_decimal d = df_decimal_of(t->v->string);
		if (df_decimal_is_integer(&d))
			return true;
	}
	return df_check_say(r, t->at, "%s is not of type %s", df_check_short(t->v, z), df_check_types(types, y));
}

DF_CHECK_LEAF bool df_check_values(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	char z[DF_CHECK_SHORT], list[300];
	bool ok = true, found = false;
	int used = 0;
	if (n->const_ && !df_check_equal(r, t->v, n->const_)) {
		(void)df_check_short(n->const_, list);
		ok = df_check_say(r, t->at, "%s is not %s, the only value allowed", df_check_short(t->v, z), list);
	}
	for (const struct df_json *e = n->enum_ ? n->enum_->child : NULL; e && !found; e = e->next)
		found = df_check_equal(r, t->v, e);
	if (!n->enum_ || found)
		return ok;
	list[0] = '\0';
	for (const struct df_json *e = n->enum_->child; r->loud && e && used < (int)sizeof(list) - DF_CHECK_SHORT - 8;
	     e = e->next) {
		char y[DF_CHECK_SHORT];
		used += snprintf(list + used, sizeof(list) - (size_t)used, "%s%s", used ? ", " : "",
				 df_check_short(e, y));
		if (e->next && used >= (int)sizeof(list) - DF_CHECK_SHORT - 8)
			(void)snprintf(list + used, sizeof(list) - (size_t)used, ", ...");
	}
	return df_check_say(r, t->at, "%s is not one of %s", df_check_short(t->v, z), list);
}
