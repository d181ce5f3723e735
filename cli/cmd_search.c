// SPDX-License-Identifier: Apache-2.0
/* cmd_search: `docflume search`: the rows of a run that are nearest to the user's words. */
#include "cli/commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/json.h"
#include "base/pipeline.h"
#include "cli/search_store.h"
#include "worker/model/embedder.h"
#include "worker/model/modeldir.h"
#include "worker/read/record.h"
#include "worker/stages/embed.h"

#define RUN_JSON_BYTES_MAX ((size_t)64 << 20)
#define QUERY_BYTES_MAX ((size_t)1 << 20)
#define OUT_BYTES_MAX ((size_t)256 << 20)
#define ARENA_BYTES_MAX ((size_t)512 << 20)
#define SHOWN_CHARS 320 /* of a text, on a terminal */
#define INDENT 8
#define COLUMNS 100

struct search_options {
	struct df_str store, model_dir;
	int64_t top_k;
	int format; /* 0 text, 1 json */
	bool help;
};

static const struct df_opt search_rows[] = {
	{.name = "store",
	 .type = DF_OPT_STRING,
	 .offset = offsetof(struct search_options, store),
	 .max = 4000,
	 .value_name = "DIR",
	 .help = "The run directory: what 'docflume run ... | embed -o DIR' wrote"},
	{.name = "top-k",
	 .type = DF_OPT_INT,
	 .offset = offsetof(struct search_options, top_k),
	 .initial = "5",
	 .min = 1,
	 .max = DF_SEARCH_TOP_MAX,
	 .help = "How many rows to show"},
	{.name = "format",
	 .type = DF_OPT_ENUM,
	 .offset = offsetof(struct search_options, format),
	 .initial = "text",
	 .choices = "text|json",
	 .help = "For people, or one JSON object a line"},
	{.name = "model-dir",
	 .type = DF_OPT_STRING,
	 .offset = offsetof(struct search_options, model_dir),
	 .max = 4000,
	 .value_name = "DIR",
	 .help = "Read the model here instead of from where the run had it"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = offsetof(struct search_options, help), .help = "Print this"},
	{.name = NULL},
};

static const struct df_arg search_args[] = {{"top-k", 'k', NULL}, {"help", 'h', NULL}, {NULL, 0, NULL}};

/* How a run made its vectors, and what its rows call things. */
struct run_facts {
	struct df_embed_options embed;
	const char *model_dir; /* NULL: the cache */
	struct df_str id_key, text_key;
};

/* ------------------------------------------------------------------ the run */

static enum df_err read_stage(const struct df_pipeline_stage *stage, struct df_arena *arena, struct df_embed_options *o,
			      struct df_fail *fail)
{
	df_conf_defaults(df_stage_embed.options, arena, o, sizeof(*o));
	for (size_t i = 0; i < stage->n_opt; i++)
		DF_TRY(df_conf_set(df_stage_embed.options, arena, o, stage->opt[i].key, stage->opt[i].value, fail));
	return DF_OK;
}

static enum df_err read_pipeline(struct df_str text, struct df_arena *arena, struct df_embed_options *o,
				 struct df_fail *fail)
{
	struct df_pipeline *p = df_arena_zalloc(arena, sizeof(*p));
	if (!p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory");
	DF_TRY(df_pipeline_parse(text, arena, p, fail));
	for (size_t i = p->n_stage; i > 0; i--)
		if (df_str_is(p->stage[i - 1].name, df_stage_embed.name))
			return read_stage(&p->stage[i - 1], arena, o, fail);
	return df_fail(fail, DF_ERR_NOT_FOUND, "its pipeline has no 'embed'");
}

static struct df_str option_of(const struct df_json *root, const char *name, const char *otherwise)
{
	struct df_str s = df_json_get_str(df_json_get(root, "options"), name);
	return s.n ? s : df_str_from(otherwise);
}

static enum df_err read_run(const char *dir, struct df_arena *arena, struct run_facts *facts, struct df_fail *fail)
{
	char path[4096], *text = NULL;
	size_t n = 0;
	struct df_json *root = NULL;
	struct df_fail inner = {.msg = ""};
	if (snprintf(path, sizeof(path), "%s/run.json", dir) >= (int)sizeof(path))
		return df_fail(fail, DF_ERR_USAGE, "the path '%s' is too long", dir);
	enum df_err err = df_io_read_file(&df_io_real, AT_FDCWD, path, RUN_JSON_BYTES_MAX, &text, &n, &inner);
	if (err == DF_ERR_NOT_FOUND)
		return df_fail(fail, err, "'%s' is no run directory: it has no run.json", dir);
	struct df_str copy = err == DF_OK ? df_arena_copy(arena, (struct df_str){text, n}) : (struct df_str){NULL, 0};
	free(text);
	if (err != DF_OK || !copy.p)
		return df_fail(fail, err == DF_OK ? DF_ERR_NOMEM : err, "%s", err == DF_OK ? "no memory" : inner.msg);
	err = df_json_parse(copy, arena, &root, &inner);
	if (err == DF_OK)
		err = read_pipeline(df_json_get_str(root, "pipeline"), arena, &facts->embed, &inner);
	if (err != DF_OK)
		return df_fail(fail, err, "'%s': %s", path, inner.msg);
	facts->id_key = option_of(root, "id_key", "id");
	facts->text_key = option_of(root, "text_key", "text");
	struct df_str model_dir = option_of(root, "model_dir", "");
	facts->model_dir = model_dir.n ? model_dir.p : NULL;
	return DF_OK;
}

/* ------------------------------------------------------------------ the query */

static enum df_err join_words(const struct df_args *args, struct df_buf *out, struct df_fail *fail)
{
	for (size_t i = 0; i < args->n_operand; i++) {
		if (i)
			(void)df_buf_addc(out, ' ');
		(void)df_buf_add_str(out, args->operand[i]);
	}
	struct df_str words = df_str_trim(df_buf_str(out));
	if (df_buf_err(out) != DF_OK)
		return df_fail(fail, df_buf_err(out), "the words to look for are too many");
	if (words.n == 0)
		return df_fail(fail, DF_ERR_USAGE, "no words to look for");
	if (!df_record_utf8(words))
		return df_fail(fail, DF_ERR_USAGE, "the words to look for are not valid UTF-8");
	return DF_OK;
}

static enum df_err embed_query(const struct run_facts *facts, const char *model_dir, struct df_str words, uint32_t dim,
			       struct df_arena *arena, const float **ret_query, struct df_fail *fail)
{
	char dir[DF_MODEL_PATH_BYTES];
	struct df_embedder *e = NULL;
	struct df_embedder_options options = {.max_tokens = (uint32_t)facts->embed.max_tokens,
					      .batch_tokens = 2, /* one text: the workspace of one */
					      .normalize = true};
	if (df_embed_is_api(facts->embed.model))
		return df_fail(fail, DF_ERR_UNSUPPORTED,
			       "the run's vectors are of '%.*s', a model of an API; search asks models that run here",
			       (int)(facts->embed.model.n < 100 ? facts->embed.model.n : 100), facts->embed.model.p);
	DF_TRY(df_model_find(facts->embed.model, model_dir ? model_dir : facts->model_dir, NULL, dir, fail));
	DF_TRY(df_embedder_open(dir, &options, &e, fail));
	enum df_err err = DF_OK;
	float *query = df_arena_array(arena, df_embedder_dim(e), sizeof(*query));
	if (df_embedder_dim(e) != dim)
		err = df_fail(fail, DF_ERR_USAGE, "the run's vectors have %u numbers, those of this model %u", dim,
			      df_embedder_dim(e));
	else if (!query)
		err = df_fail(fail, DF_ERR_NOMEM, "no memory");
	else
		err = df_embedder_run(e, &words, 1, query, NULL, fail);
	df_embedder_close(&e);
	*ret_query = query;
	return err;
}

/* ------------------------------------------------------------------ the answer */

/* Text for a terminal: control characters (C1 too) become blanks, blanks one, and what is beyond SHOWN_CHARS "...". */
static void add_shown(struct df_buf *out, struct df_str s)
{
	bool blank = true;
	size_t chars = 0;
	for (size_t i = 0; i < s.n && chars < SHOWN_CHARS;) {
		unsigned char c = (unsigned char)s.p[i], c2 = i + 1 < s.n ? (unsigned char)s.p[i + 1] : 0;
		size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
		len = len > s.n - i ? s.n - i : len;
		if (c <= ' ' || c == 0x7f || (c == 0xc2 && c2 < 0xa0)) {
			if (!blank)
				(void)df_buf_addc(out, ' ');
			chars += !blank;
			blank = true;
		} else {
			(void)df_buf_add(out, s.p + i, len);
			blank = false;
			chars++;
		}
		i += len;
	}
	if (chars == SHOWN_CHARS)
		(void)df_buf_addz(out, "...");
}

/* A string as it is, anything else as JSON. */
static struct df_str shown_value(const struct df_json *v)
{
	return !v ? (struct df_str){NULL, 0} : v->type == DF_JSON_STRING ? v->string : v->raw;
}

static const struct df_json *source_of(const struct df_json *row)
{
	const struct df_json *v = df_json_get(row, "source");
	return v ? v : df_json_get(df_json_get(row, "metadata"), "source");
}

static enum df_err add_text(struct df_buf *out, const struct run_facts *facts, const struct df_json *row, size_t rank,
			    const struct df_search_hit *hit, const char *part)
{
	struct df_str id = shown_value(df_json_get(row, facts->id_key.p)),
		      doc = shown_value(df_json_get(row, "doc_id"));
	struct df_str source = shown_value(source_of(row)), text = shown_value(df_json_get(row, facts->text_key.p));
	struct df_buf plain;
	(void)df_buf_addf(out, "%3zu. %.4f  ", rank, (double)hit->score);
	if (id.n)
		add_shown(out, id);
	else
		(void)df_buf_addf(out, "%s row %llu", part, (unsigned long long)hit->row);
	if (doc.n && !df_str_eq(doc, id)) {
		(void)df_buf_addz(out, "  of ");
		add_shown(out, doc);
	}
	if (source.n) {
		(void)df_buf_addz(out, "  from ");
		add_shown(out, source);
	}
	(void)df_buf_addc(out, '\n');
	df_buf_init(&plain, 8 * SHOWN_CHARS);
	add_shown(&plain, text);
	if (plain.n && df_buf_addc(&plain, '\0') == DF_OK)
		(void)df_conf_wrap(plain.p, INDENT, COLUMNS, out);
	df_buf_release(&plain);
	return df_buf_addc(out, '\n');
}

static void add_member(struct df_buf *out, const char *key, const struct df_json *v)
{
	if (v)
		(void)df_buf_addf(out, ",\"%s\":" DF_STR_FMT, key, DF_STR_ARG(v->raw));
}

static enum df_err add_json(struct df_buf *out, const struct run_facts *facts, const struct df_json *row, size_t rank,
			    const struct df_search_hit *hit, const char *part)
{
	(void)df_buf_addf(out, "{\"rank\":%zu,\"score\":", rank);
	(void)df_json_add_f32(out, hit->score);
	add_member(out, "id", df_json_get(row, facts->id_key.p));
	add_member(out, "doc_id", df_json_get(row, "doc_id"));
	add_member(out, "source", source_of(row));
	add_member(out, "text", df_json_get(row, facts->text_key.p));
	return df_buf_addf(out, ",\"part\":\"%s\",\"row\":%llu}\n", part, (unsigned long long)hit->row);
}

static enum df_err answer(const struct search_options *o, const struct run_facts *facts, struct df_search_store *store,
			  const float *query, struct df_arena *arena, struct df_buf *out, struct df_fail *fail)
{
	size_t n = 0;
	struct df_search_hit *hit = df_arena_array(arena, (size_t)o->top_k, sizeof(*hit));
	if (!hit)
		return df_fail(fail, DF_ERR_NOMEM, "no memory");
	DF_TRY(df_search_nearest(store, query, facts->embed.normalize, (size_t)o->top_k, hit, &n, fail));
	DF_TRY(df_search_lines(store, hit, n, arena, fail));
	for (size_t i = 0; i < n; i++) {
		struct df_json *row = NULL;
		const char *part = store->part[hit[i].part].name;
		if (hit[i].line.p && df_json_parse(hit[i].line, arena, &row, NULL) != DF_OK)
			row = NULL; /* deeper than is shown: the row is found by part and number */
		if (o->format == 1)
			(void)add_json(out, facts, row, i + 1, &hit[i], part);
		else
			(void)add_text(out, facts, row, i + 1, &hit[i], part);
	}
	return df_buf_err(out) == DF_OK ? DF_OK
					: df_fail(fail, df_buf_err(out), "the rows found are too large to be printed");
}

static enum df_err search_in(const struct search_options *o, const struct df_args *args, struct df_arena *arena,
			     struct df_search_store *store, struct df_buf *out, struct df_fail *fail)
{
	struct run_facts facts = {.model_dir = NULL};
	const float *query = NULL;
	struct df_buf words;
	DF_TRY(read_run(o->store.p, arena, &facts, fail));
	DF_TRY(df_search_open(store, o->store.p, fail));
	df_buf_init(&words, QUERY_BYTES_MAX);
	enum df_err err = join_words(args, &words, fail);
	if (err == DF_OK)
		err = embed_query(&facts, o->model_dir.n ? o->model_dir.p : NULL, df_str_trim(df_buf_str(&words)),
				  store->dim, arena, &query, fail);
	df_buf_release(&words);
	return err == DF_OK ? answer(o, &facts, store, query, arena, out, fail) : err;
}

static enum df_err search(int argc, char **argv, struct df_arena *arena, struct df_buf *out, struct df_fail *fail)
{
	struct search_options o;
	struct df_args args;
	struct df_search_store store = {0};
	df_conf_defaults(search_rows, arena, &o, sizeof(o));
	DF_TRY(df_args_parse(search_rows, search_args, false, argc, argv, arena, &o, &args, fail));
	if (o.help) {
		(void)df_buf_addz(
			out,
			"usage: docflume search --store DIR [OPTION...] WORDS...\n\n"
			"Shows the rows of a run whose vectors are nearest to the words, by exact cosine. The words go "
			"through the\nsame model with the same options as the run's 'embed'.\n\nOptions:\n");
		return df_args_help(search_rows, search_args, COLUMNS, out);
	}
	if (o.store.n == 0)
		return df_fail(fail, DF_ERR_USAGE, "where to look? --store DIR names a run directory");
	enum df_err err = search_in(&o, &args, arena, &store, out, fail);
	df_search_close(&store);
	return err;
}

int df_cmd_search(int argc, char **argv)
{
	struct df_arena arena;
	struct df_buf out;
	struct df_fail fail = {.msg = ""};
	df_arena_init(&arena, ARENA_BYTES_MAX, 0);
	df_buf_init(&out, OUT_BYTES_MAX);
	enum df_err err = search(argc, argv, &arena, &out, &fail);
	int code = err == DF_OK ? df_cli_print(&out) : df_cli_fail("search", err, &fail);
	df_buf_release(&out);
	df_arena_release(&arena);
	return code;
}
