// SPDX-License-Identifier: Apache-2.0
/* clean: drops rows that are too short, too long, or lack a member. */
#include "base/json.h"
#include "worker/stages/rows.h"
#include "worker/stages/stages.h"
#include "worker/text/utf8.h"

struct clean_options {
	int64_t min_chars, max_chars;
	struct df_str_list require, require_all;
};

#define AT(member) offsetof(struct clean_options, member)
static const struct df_opt option_rows[] = {
	{.name = "min_chars",
	 .type = DF_OPT_INT,
	 .offset = AT(min_chars),
	 .initial = "100",
	 .min = 0,
	 .max = 1073741824,
	 .help = "Drop texts with fewer code points"},
	{.name = "max_chars",
	 .type = DF_OPT_INT,
	 .offset = AT(max_chars),
	 .initial = "0",
	 .min = 0,
	 .max = 1073741824,
	 .help = "Drop texts with more code points; 0: no limit"},
	{.name = "require",
	 .type = DF_OPT_LIST,
	 .offset = AT(require),
	 .value_name = "KEY,...",
	 .help = "Drop rows that have none of these members"},
	{.name = "require_all",
	 .type = DF_OPT_LIST,
	 .offset = AT(require_all),
	 .value_name = "KEY,...",
	 .help = "Drop rows that lack one of these members"},
	{.name = NULL},
};

static enum df_err check(const void *options, struct df_fail *fail)
{
	const struct clean_options *o = options;
	if (o->max_chars > 0 && o->max_chars < o->min_chars)
		return df_fail(fail, DF_ERR_USAGE, "max_chars=%lld is less than min_chars=%lld; no text would be left",
			       (long long)o->max_chars, (long long)o->min_chars);
	return DF_OK;
}

/* --- members of a valid JSON object, without building a tree --- */

static size_t skip_blanks(struct df_str s, size_t at)
{
	while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t' || s.p[at] == '\n' || s.p[at] == '\r'))
		at++;
	return at;
}

/* Behind the string whose opening quote is at `at`. */
static size_t skip_string(struct df_str s, size_t at)
{
	for (at++; at < s.n && s.p[at] != '"'; at++)
		at += s.p[at] == '\\';
	return at < s.n ? at + 1 : s.n;
}

/* Behind the value at `at`. */
static size_t skip_value(struct df_str s, size_t at)
{
	size_t depth = 0;
	for (; at < s.n; at++) {
		char c = s.p[at];
		if (c == '"') {
			at = skip_string(s, at) - 1;
		} else if (c == '{' || c == '[') {
			depth++;
		} else if (c == '}' || c == ']') {
			if (depth == 0)
				break;
			depth--;
		} else if (c == ',' && depth == 0) {
			break;
		}
	}
	return at;
}

/* Is the quoted key `quoted`, escapes decoded, the word `key`? */
static bool key_is(struct df_batch *b, struct df_str quoted, struct df_str key)
{
	struct df_str inner = {quoted.p + 1, quoted.n - 2};
	struct df_json *root;
	if (!memchr(inner.p, '\\', inner.n))
		return df_str_eq(inner, key);
	return df_json_parse(quoted, b->arena, &root, NULL) == DF_OK && df_str_eq(root->string, key);
}

/* The last member `key` of the object `s`; NULL p when there is none, or `s` is no object. */
static struct df_str member(struct df_batch *b, struct df_str s, struct df_str key)
{
	struct df_str found = {NULL, 0};
	size_t at = skip_blanks(s, 0);
	if (at == s.n || s.p[at] != '{')
		return found;
	at = skip_blanks(s, at + 1);
	while (at < s.n && s.p[at] == '"') {
		size_t key_end = skip_string(s, at);
		struct df_str quoted = {s.p + at, key_end - at};
		size_t value = skip_blanks(s, skip_blanks(s, key_end) + 1); /* behind the colon */
		at = skip_value(s, value);
		if (value < at && quoted.n >= 2 && key_is(b, quoted, key))
			found = (struct df_str){s.p + value, at - value};
		at = skip_blanks(s, at + 1);
	}
	return found;
}

/* Present, and neither null nor an empty string, array or object. */
static bool is_something(struct df_str raw)
{
	raw = df_str_trim(raw);
	if (raw.n == 0 || df_str_is(raw, "null") || df_str_is(raw, "\"\""))
		return false;
	if (raw.p[0] != '[' && raw.p[0] != '{')
		return true;
	return df_str_trim((struct df_str){raw.p + 1, raw.n - 2}).n > 0;
}

static bool has(struct df_batch *b, const struct df_row *row, struct df_str key)
{
	struct df_str raw = df_row_get(row, key), metadata = {NULL, 0};
	if (raw.p && is_something(raw))
		return true;
	metadata = df_row_get(row, DF_STR("metadata"));
	raw = metadata.p ? member(b, metadata, key) : metadata;
	return raw.p && is_something(raw);
}

/* How many of the listed members the row has. */
static size_t count_present(struct df_batch *b, const struct df_row *row, const struct df_str_list *list)
{
	size_t n = 0;
	for (size_t i = 0; i < list->n; i++)
		n += has(b, row, list->item[i]);
	return n;
}

/* Why the row is dropped; NULL when it stays. */
static const char *verdict(const struct clean_options *o, struct df_batch *b, const struct df_row *row)
{
	uint64_t min = (uint64_t)o->min_chars, max = (uint64_t)o->max_chars;
	size_t n = row->text.n; /* bytes: at least the code points, at most four times as many */
	if (n < min || (n / 4 < min && df_utf8_count(row->text) < min))
		return "min_chars";
	if (max > 0 && n > max && (n / 4 > max || df_utf8_count(row->text) > max))
		return "max_chars";
	if (o->require.n > 0 && count_present(b, row, &o->require) == 0)
		return "require";
	if (count_present(b, row, &o->require_all) < o->require_all.n)
		return "require_all";
	return NULL;
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	(void)fail;
	DF_EACH_LIVE_ROW(row, batch)
	{
		const char *reason = verdict(s->options, batch, row);
		if (reason)
			df_row_drop(batch, row, s->call_name, reason);
	}
	return DF_OK;
}

const struct df_stage_class df_stage_clean = {
	.name = "clean",
	.summary = "drop texts that are too short or too long, or lack a member",
	.help = "Lengths are code points of the text as it is at this stage; put 'strip' or 'normalize' before it. A "
		"member counts "
		"as there when it is at the top of the record or inside its \"metadata\" object, and is not null, an "
		"empty "
		"string, an empty array or an empty object. What is dropped is counted by the first reason that holds: "
		"min_chars, max_chars, require, require_all.",
	.options = option_rows,
	.options_size = sizeof(struct clean_options),
	.check = check,
	.process = process,
};
