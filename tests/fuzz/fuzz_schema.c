// SPDX-License-Identifier: Apache-2.0
/* fuzz_schema: any bytes as a schema and, behind a NUL, as a value. A refusal says why; what is invalid is told in words; twice gives the same. */
#include <stdint.h>
#include <stdlib.h>

#include "worker/check/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	const char *cut = size ? memchr(p, '\0', size) : NULL;
	size_t n = cut ? (size_t)(cut - p) : size;
	struct df_str text = {p, n},
		      json = cut ? (struct df_str){cut + 1, size - n - 1} : DF_STR("{\"a\":[1,\"b\",null]}");
	struct df_schema *schema = NULL;
	struct df_fail fail = {.msg = ""};
	struct df_arena arena;
	struct df_buf why;
	if (size > 16384)
		return 0;
	if (df_schema_compile(text, &schema, &fail) != DF_OK) {
		if (schema || !fail.msg[0])
			abort();
		return 0;
	}
	df_arena_init(&arena, (size_t)64 << 20, 0);
	df_buf_init(&why, 1 << 20);
	enum df_err err = df_schema_check(schema, json, &arena, &why);
	if (err == DF_ERR_TYPE && why.n == 0)
		abort();
	if (err == DF_OK && (why.n || df_schema_check(schema, json, &arena, NULL) != DF_OK))
		abort();
	df_buf_release(&why);
	df_arena_release(&arena);
	df_schema_free(&schema);
	return 0;
}
