// SPDX-License-Identifier: Apache-2.0
/* fuzz_template: any bytes as a template and, behind a NUL, as a field's text. What is refused is told; what is filled in is UTF-8. */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "worker/stages/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	const char *cut = size ? memchr(p, '\0', size) : NULL;
	size_t n = cut ? (size_t)(cut - p) : size;
	struct df_str text = {p, n}, json = cut ? (struct df_str){cut + 1, size - n - 1} : DF_STR("{\"a\":[\"b\"]}"),
		      out;
	struct df_arena arena;
	struct df_fail fail = {.msg = ""};
	struct df_template *t = NULL;
	struct df_json *v = NULL;
	df_arena_init(&arena, (size_t)256 << 20, 0);
	if (df_json_parse(json, &arena, &v, &fail) != DF_OK)
		json = DF_STR("{\"a\":[\"b\"]}");
	struct df_field field = {{"f", 1}, json};
	struct df_doc doc = {.field = &field, .n_field = 1, .id = {"id", 2}};
	struct df_row row = {.doc = &doc, .text = {"text", 4}};
	fail.msg[0] = '\0';
	enum df_err err = df_template_compile(text, &arena, &t, &fail);
	if (err == DF_OK)
		err = df_template_fill(t, &row, &arena, &out, &fail);
	if (err == DF_OK ? df_str_utf8_prefix(out) != out.n : !fail.msg[0])
		abort();
	df_arena_release(&arena);
	return 0;
}
