// SPDX-License-Identifier: Apache-2.0
/* run_json_read: what a run.json says of the request. Its counts are for people; the journal has them for us. */
#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "coordinator/rundir/run_json.h"

static uint64_t get_hex(const struct df_json *object, const char *key)
{
	struct df_str s = df_json_get_str(object, key);
	uint64_t v = 0;
	for (size_t i = 0; i < s.n && i < 16; i++) {
		char c = s.p[i];
		unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
				 : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
							: 0;
		v = v << 4 | digit;
	}
	return v;
}

static enum df_err get_options(const struct df_json *object, struct df_arena *arena, struct df_run_summary *s)
{
	if (!object || object->type != DF_JSON_OBJECT)
		return DF_OK;
	struct df_run_option *option = df_arena_array(arena, object->n, sizeof(*option));
	if (!option)
		return DF_ERR_NOMEM;
	for (const struct df_json *o = object->child; o; o = o->next)
		option[s->n_option++] = (struct df_run_option){o->key, o->string};
	s->option = option;
	return DF_OK;
}

static enum df_err get_inputs(const struct df_json *inputs, struct df_arena *arena, struct df_run_summary *s)
{
	const struct df_json *first = df_json_get(inputs, "first");
	if (!first || first->type != DF_JSON_ARRAY)
		return DF_OK;
	struct df_str *name = df_arena_array(arena, first->n, sizeof(*name));
	if (!name)
		return DF_ERR_NOMEM;
	for (const struct df_json *i = first->child; i; i = i->next)
		name[s->n_input++] = i->string;
	s->input = name;
	return DF_OK;
}

/* A run that is over projects nothing. */
static struct df_costs get_costs(const struct df_json *o)
{
	if (!o || o->type != DF_JSON_OBJECT)
		return (struct df_costs){.known = false};
	uint64_t unpriced = df_json_get_u64(o, "unpriced_calls", 0);
	return (struct df_costs){
		.known = true,
		.spent = df_json_get_double(o, "usd"),
		.maybe = df_json_get_double(o, "usd_maybe_paid"),
		.reserved = df_json_get_double(o, "usd_reserved"),
		.budget = df_json_get_double(o, "usd_budget"),
		.projected = NAN,
		.calls = df_json_get_u64(o, "paid_calls", 0) + unpriced,
		.unpriced = unpriced,
		.maybe_calls = df_json_get_u64(o, "maybe_paid_calls", 0),
	};
}

static enum df_err parse(struct df_str text, struct df_arena *arena, struct df_run_summary *ret, struct df_fail *fail)
{
	struct df_json *root = NULL;
	struct df_fail why = {0};
	if (df_json_parse(text, arena, &root, &why) != DF_OK)
		return df_fail(fail, DF_ERR_CORRUPT, "'%s' cannot be read: %.500s", DF_RUN_JSON_NAME, why.msg);
	uint64_t version = df_json_get_u64(root, "format_version", 0);
	if (version == 0)
		return df_fail(fail, DF_ERR_CORRUPT, "'%s' has no format_version: it is not docflume's",
			       DF_RUN_JSON_NAME);
	if (version != DF_RUN_JSON_VERSION)
		return df_fail(fail, DF_ERR_VERSION, "'%s' has format version %llu; this docflume reads version %d",
			       DF_RUN_JSON_NAME, (unsigned long long)version, DF_RUN_JSON_VERSION);
	const struct df_json *grid = df_json_get(root, "grid");
	struct df_run_summary s = {.version = df_json_get_str(root, "docflume"),
				   .run_id = get_hex(root, "run_id"),
				   .fingerprint = get_hex(grid, "fingerprint"),
				   .state = df_json_get_str(root, "state"),
				   .error = df_json_get_str(root, "error"),
				   .started_wall_ns = df_json_get_u64(root, "started_ns", 0),
				   .elapsed_seconds = df_json_get_double(root, "elapsed_seconds"),
				   .epoch = (uint32_t)df_json_get_u64(root, "epochs", 0),
				   .pipeline = df_json_get_str(root, "pipeline"),
				   .pipeline_fixed = df_json_get_str(root, "pipeline_fixed"),
				   .cell_bytes = df_json_get_u64(grid, "cell_bytes", 0),
				   .n_source = df_json_get_u64(grid, "sources", 0),
				   .source_bytes = df_json_get_u64(grid, "bytes", 0),
				   .costs = get_costs(df_json_get(root, "costs"))};
	if (!s.pipeline_fixed.n)
		s.pipeline_fixed = s.pipeline;
	if (get_options(df_json_get(root, "options"), arena, &s) != DF_OK ||
	    get_inputs(df_json_get(root, "inputs"), arena, &s) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", DF_RUN_JSON_NAME);
	*ret = s;
	return DF_OK;
}

enum df_err df_run_json_read(const struct df_io *io, int dirfd, struct df_arena *arena,
			     struct df_run_summary *ret_summary, struct df_fail *fail)
{
	char *p = NULL;
	size_t n = 0;
	DF_TRY(df_io_read_file(io, dirfd, DF_RUN_JSON_NAME, DF_RUN_JSON_BYTES_MAX, &p, &n, fail));
	struct df_str copy = df_arena_copy(arena, (struct df_str){p, n}); /* strings may point into it */
	free(p);
	if (!copy.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", DF_RUN_JSON_NAME);
	return parse(copy, arena, ret_summary, fail);
}
