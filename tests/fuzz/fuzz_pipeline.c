// SPDX-License-Identifier: Apache-2.0
/* fuzz_pipeline: any bytes as a pipeline; what parses must format, parse again and format the same; then the stages' check. */
#include <stdint.h>
#include <stdlib.h>

#include "base/pipeline.h"
#include "worker/stages/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct df_pipeline *p, struct df_arena *arena)
{
	struct df_pipeline again;
	struct df_fail fail;
	struct df_buf first, second;
	df_buf_init(&first, 16 << 20);
	df_buf_init(&second, 16 << 20);
	if (df_pipeline_format(p, &first) != DF_OK)
		abort();
	if (first.n <= DF_PIPELINE_BYTES_MAX) {
		if (df_pipeline_parse(df_buf_str(&first), arena, &again, &fail) != DF_OK)
			abort();
		if (df_pipeline_format(&again, &second) != DF_OK || !df_str_eq(df_buf_str(&first), df_buf_str(&second)))
			abort();
	}
	df_buf_release(&first);
	df_buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_arena arena;
	struct df_pipeline p;
	struct df_fail fail = {.msg = ""};
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	df_arena_init(&arena, 64 << 20, 0);
	if (df_pipeline_parse((struct df_str){(const char *)data, size}, &arena, &p, &fail) == DF_OK) {
		round_trip(&p, &arena);
		if (df_stage_check_pipeline(&p, &arena, &class, &options, &fail) != DF_OK && !fail.msg[0])
			abort();
	} else if (!fail.msg[0]) {
		abort();
	}
	df_arena_release(&arena);
	return 0;
}
