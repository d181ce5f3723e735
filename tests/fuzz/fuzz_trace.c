// SPDX-License-Identifier: Apache-2.0
/* fuzz_trace: what the scanner of our own lines takes, the JSON parser takes as well and says the same of (a blank at its beginning sends it there). */
#include <stdlib.h>
#include <string.h>

#include "worker/trace/trace_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const struct df_trace_line *a, const struct df_trace_line *b)
{
	const struct df_span *x = &a->span, *y = &b->span;
	bool words = df_str_eq(x->name, y->name) && df_str_eq(x->doc_id, y->doc_id) && df_str_eq(x->stage, y->stage) &&
		     df_str_eq(x->model, y->model) && df_str_eq(x->provider, y->provider);
	bool ids = x->id == y->id && x->parent == y->parent && a->run_id == b->run_id && a->pid == b->pid &&
		   x->kind == y->kind && x->class == y->class && a->left_out == b->left_out;
	bool times = x->start_wall_ns == y->start_wall_ns && x->duration_ns == y->duration_ns &&
		     x->queue_ns == y->queue_ns && x->first_token_ns == y->first_token_ns &&
		     a->has_last == b->has_last && a->last_start_ns == b->last_start_ns &&
		     a->last_duration_ns == b->last_duration_ns && a->last_first_token_ns == b->last_first_token_ns;
	bool counts = x->attempt == y->attempt && x->status == y->status && x->inputs == y->inputs &&
		      x->usage.in == y->usage.in && x->usage.cached_in == y->usage.cached_in &&
		      x->usage.out == y->usage.out && x->usage.known == y->usage.known && x->cached == y->cached;
	return words && ids && times && counts && x->usd == y->usd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_trace_line quick, slow;
	struct df_arena arena;
	struct df_str line = {(const char *)data, size};
	char *blank = malloc(size + 2);
	/* both fill one number: which is the later one is no matter */
	bool both = memmem(data, size, "\"attempt\"", 9) && memmem(data, size, "\"attempts\"", 10);
	if (!blank || size == 0 || both || df_trace_line_quick(line, &quick) != DF_OK) {
		free(blank);
		return 0;
	}
	blank[0] = '{';
	blank[1] = ' ';
	memcpy(blank + 2, data + 1, size - 1);
	df_arena_init(&arena, (size_t)1 << 20, (size_t)1 << 20);
	if (df_trace_line_scan((struct df_str){blank, size + 1}, &arena, &slow) != DF_OK || !same(&quick, &slow))
		abort();
	df_arena_release(&arena);
	free(blank);
	return 0;
}
