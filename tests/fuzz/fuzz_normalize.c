// SPDX-License-Identifier: Apache-2.0
/* fuzz_normalize: lower and normalize keep text valid, are stable, and their maps are sound. */
#include <stddef.h>
#include <stdint.h>

#include "worker/text/edit.h"
#include "worker/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_map(const struct df_offsets *map, size_t n_edited, size_t n_source)
{
	size_t last = 0;
	for (size_t at = 0; at < n_edited; at++) {
		size_t from, to;
		df_offsets_range(map, at, at + 1, &from, &to);
		DF_ASSERT(from >= last && from <= to && to <= n_source);
		last = from;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct df_str s = {(const char *)data + 1, size - 1}, low, once, twice;
	struct df_arena arena;
	struct df_normalizer n;
	struct df_offsets *map, *map2, *both;
	s.n = df_utf8_valid_prefix(s);
	df_arena_init(&arena, (size_t)1 << 28, 0);
	df_normalizer_init(&n, (struct df_normalize_options){data[0] & 1, data[0] & 2, data[0] & 4});
	DF_ASSERT(df_text_lower(&arena, s, &low, &map) == DF_OK);
	DF_ASSERT(df_utf8_valid_prefix(low) == low.n);
	check_map(map, low.n, s.n);
	DF_ASSERT(df_normalizer_run(&n, &arena, low, &once, &map2) == DF_OK);
	DF_ASSERT(df_utf8_valid_prefix(once) == once.n);
	DF_ASSERT(df_offsets_compose(&arena, map2, map, &both) == DF_OK);
	check_map(both, once.n, s.n);
	DF_ASSERT(df_normalizer_run(&n, &arena, once, &twice, &map2) == DF_OK);
	DF_ASSERT(df_str_eq(once, twice));
	df_normalizer_release(&n);
	df_arena_release(&arena);
	return 0;
}
