// SPDX-License-Identifier: Apache-2.0
/* fuzz_yaml: any bytes as a pipeline file; a pipeline that comes out formats and parses. */
#include <stdint.h>
#include <stdlib.h>

#include "cli/pipeline_file.h"
#include "cli/run_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_arena arena;
	struct df_run_request request;
	struct df_fail fail = {.msg = ""};
	bool given[64] = {false};
	if (size > 65536)
		return 0;
	df_arena_init(&arena, 64 << 20, 0);
	df_conf_defaults(df_run_rows, &arena, &request, sizeof(request));
	struct df_pipeline_file *file = df_arena_zalloc(&arena, sizeof(*file));
	if (!file)
		abort();
	struct df_str text = {(const char *)data, size};
	if (df_pipeline_file_parse(text, "f", df_run_rows, &request, given, &arena, file, &fail) == DF_OK) {
		struct df_buf b;
		df_buf_init(&b, 16 << 20);
		struct df_pipeline again;
		if (df_pipeline_format(&file->pipeline, &b) != DF_OK)
			abort();
		if (file->pipeline.n_stage && df_pipeline_parse(df_buf_str(&b), &arena, &again, &fail) != DF_OK)
			abort();
		df_buf_release(&b);
	} else if (!fail.msg[0]) {
		abort();
	}
	df_arena_release(&arena);
	return 0;
}
