// SPDX-License-Identifier: Apache-2.0
/* cmd_cache: `docflume cache stats|clear`: what is in the cache of answers, and how much it saved; an empty one. */
#include "cli/commands.h"

#include <stdio.h>
#include <time.h>

#include "base/human.h"
#include "base/json.h"
#include "cli/trace_rows.h"
#include "worker/cache/cache.h"

#define TEXT_BYTES ((size_t)1 << 20)

struct cache_options {
	struct df_str path;
	bool json, help;
};

const struct df_opt df_cache_rows[] = {
	{.name = "path",
	 .type = DF_OPT_STRING,
	 .offset = offsetof(struct cache_options, path),
	 .max = DF_CACHE_PATH_BYTES - 1,
	 .value_name = "DIR",
	 .help = "The cache's folder (default: $XDG_CACHE_HOME/docflume/answers, else ~/.cache/docflume/answers)"},
	{.name = "json",
	 .type = DF_OPT_BOOL,
	 .offset = offsetof(struct cache_options, json),
	 .help = "One JSON object, for scripts"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = offsetof(struct cache_options, help), .help = "Print this"},
	{.name = NULL},
};

const struct df_arg df_cache_args[] = {{"help", 'h', NULL}, {NULL, 0, NULL}};

static void add_json(const struct df_cache_totals *t, struct df_buf *out)
{
	const struct {
		const char *key;
		uint64_t value;
	} row[] = {
		{"entries", t->entries},
		{"value_bytes", t->value_bytes},
		{"disk_bytes", t->disk_bytes},
		{"file_bytes", t->file_bytes},
		{"cap_bytes", t->cap_bytes},
		{"hits_memory", t->hits_memory},
		{"hits_disk", t->hits_disk},
		{"misses", t->misses},
		{"puts", t->puts},
		{"evictions_memory", t->evictions_memory},
		{"evictions_disk", t->evictions_disk},
		{"damaged", t->damaged},
		{"oldest_ms", (uint64_t)t->oldest_ms},
		{"newest_ms", (uint64_t)t->newest_ms},
	};
	(void)df_buf_addz(out, "{\"format_version\":1,\"folder\":");
	(void)df_json_add_string(out, df_str_from(t->folder));
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		(void)df_buf_addf(out, ",\"%s\":%llu", row[i].key, (unsigned long long)row[i].value);
	(void)df_buf_addz(out, "}\n");
}

static const char *when(int64_t ms, char z[32])
{
	time_t at = (time_t)(ms / 1000);
	struct tm tm;
	if (!localtime_r(&at, &tm) || strftime(z, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		z[0] = '\0';
	return z;
}

static void add_text(const struct df_cache_totals *t, struct df_buf *out)
{
	char a[32], b[32];
	uint64_t hits = t->hits_memory + t->hits_disk, asked = hits + t->misses;
	(void)df_buf_addf(out, "folder     %s\n", t->folder);
	(void)df_buf_addf(out, "answers    %llu, %s\n", (unsigned long long)t->entries,
			  df_human_bytes((double)t->value_bytes, a));
	(void)df_buf_addf(out, "on disk    %s", df_human_bytes((double)t->disk_bytes, a));
	if (t->cap_bytes)
		(void)df_buf_addf(out, " of at most %s (%.1f %%)", df_human_bytes((double)t->cap_bytes, b),
				  100.0 * (double)t->disk_bytes / (double)t->cap_bytes);
	(void)df_buf_addf(out, "; files %s\n", df_human_bytes((double)t->file_bytes, a));
	(void)df_buf_addf(out, "hits       %llu of %llu (%.1f %%): %llu in memory, %llu on disk\n",
			  (unsigned long long)hits, (unsigned long long)asked,
			  asked ? 100.0 * (double)hits / (double)asked : 0.0, (unsigned long long)t->hits_memory,
			  (unsigned long long)t->hits_disk);
	(void)df_buf_addf(out, "misses     %llu; %llu answers put\n", (unsigned long long)t->misses,
			  (unsigned long long)t->puts);
	(void)df_buf_addf(out, "evictions  %llu from memory, %llu from disk\n", (unsigned long long)t->evictions_memory,
			  (unsigned long long)t->evictions_disk);
	if (t->damaged)
		(void)df_buf_addf(out, "damaged    %llu, which were paid for again\n", (unsigned long long)t->damaged);
	if (t->entries)
		(void)df_buf_addf(out, "last used  from %s to %s\n", when(t->oldest_ms, a), when(t->newest_ms, b));
}

static enum df_err stats(const char *path, const struct cache_options *o, struct df_buf *out, struct df_fail *fail)
{
	struct df_cache_totals t;
	DF_TRY(df_cache_totals(path, &t, fail));
	o->json ? add_json(&t, out) : add_text(&t, out);
	return DF_OK;
}

/* What was there is looked at first: of a damaged one nobody knows. */
static enum df_err clear(const char *path, const struct cache_options *o, struct df_buf *out, struct df_fail *fail)
{
	struct df_cache_totals t;
	char z[32];
	bool known = df_cache_totals(path, &t, NULL) == DF_OK;
	DF_TRY(df_cache_clear(path, fail));
	if (o->json && known)
		(void)df_buf_addf(out, "{\"format_version\":1,\"cleared\":{\"entries\":%llu,\"value_bytes\":%llu}}\n",
				  (unsigned long long)t.entries, (unsigned long long)t.value_bytes);
	else if (o->json)
		(void)df_buf_addz(out, "{\"format_version\":1,\"cleared\":null}\n");
	else if (known)
		(void)df_buf_addf(out, "cleared %llu answers, %s, of '%s'\n", (unsigned long long)t.entries,
				  df_human_bytes((double)t.value_bytes, z), t.folder);
	else
		(void)df_buf_addz(out, "cleared a cache that could not be read; how much was in it is not known\n");
	return DF_OK;
}

static enum df_err cache(const struct df_args *args, const struct cache_options *o, struct df_buf *out,
			 struct df_fail *fail)
{
	const char *path = o->path.n ? o->path.p : NULL;
	struct df_str verb = args->n_operand ? args->operand[0] : (struct df_str){NULL, 0};
	if (args->n_operand == 1 && df_str_is(verb, "stats"))
		return stats(path, o, out, fail);
	if (args->n_operand == 1 && df_str_is(verb, "clear"))
		return clear(path, o, out, fail);
	return df_fail(fail, DF_ERR_USAGE, "'cache' takes 'stats' or 'clear'");
}

int df_cmd_cache(int argc, char **argv)
{
	struct df_arena arena;
	struct df_buf out;
	struct df_fail fail = {.msg = ""};
	struct cache_options o = {.json = false};
	struct df_args args;
	int code;
	df_arena_init(&arena, (size_t)1 << 20, 0);
	df_buf_init(&out, TEXT_BYTES);
	df_conf_defaults(df_cache_rows, &arena, &o, sizeof(o));
	enum df_err err = df_args_parse(df_cache_rows, df_cache_args, false, argc, argv, &arena, &o, &args, &fail);
	if (err == DF_OK && o.help) {
		char word[] = "help", name[] = "cache";
		char *help[] = {word, name, NULL};
		code = df_cmd_help(2, help);
	} else {
		if (err == DF_OK)
			err = cache(&args, &o, &out, &fail);
		code = err == DF_OK ? df_cli_print(&out) : df_cli_fail("cache", err, &fail);
	}
	df_buf_release(&out);
	df_arena_release(&arena);
	return code;
}
