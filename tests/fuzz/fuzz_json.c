// SPDX-License-Identifier: Apache-2.0
/* fuzz_json: any bytes as JSON; each string that was read is written and read again, each raw span is JSON by itself. */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct df_json *v, struct df_arena *arena)
{
	struct df_json *again = NULL;
	for (const struct df_json *m = v->child; m; m = m->next)
		check(m, arena);
	if (v->type == DF_JSON_STRING) {
		struct df_buf b;
		df_buf_init(&b, 64 << 20);
		if (df_json_add_string(&b, v->string) != DF_OK ||
		    df_json_parse(df_buf_str(&b), arena, &again, NULL) != DF_OK || !df_str_eq(again->string, v->string))
			abort();
		df_buf_release(&b);
	}
	if (!v->child && (df_json_parse(v->raw, arena, &again, NULL) != DF_OK || again->type != v->type))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_arena arena;
	struct df_json *root = NULL;
	struct df_fail fail = {.msg = ""};
	if (size > 65536)
		return 0;
	df_arena_init(&arena, (size_t)256 << 20, 0);
	if (df_json_parse((struct df_str){(const char *)data, size}, &arena, &root, &fail) == DF_OK)
		check(root, &arena);
	else if (!fail.msg[0])
		abort();
	df_arena_release(&arena);
	return 0;
}
