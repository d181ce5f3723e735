// SPDX-License-Identifier: Apache-2.0
/* Any line as a reject: what comes out is a document that is whole, or an error with a message; and no more than was put in. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "worker/lease/unwrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct df_record_parser *parser;
	struct df_record_keys keys = {DF_STR("id"), DF_STR("text"), false};
	struct df_arena arena;
	struct df_fail fail = {DF_OK, ""};
	if (!parser)
		DF_ASSERT(df_record_parser_create(keys, 1 << 20, &parser) == DF_OK);
	df_arena_init(&arena, 64U << 20, 0);
	char *p = calloc(1, size + DF_RECORD_PADDING);
	DF_ASSERT(p);
	memcpy(p, data, size);
	struct df_doc doc = {.source_name = DF_STR("r"), .text_field = SIZE_MAX, .id_field = SIZE_MAX};
	enum df_err err = df_record_parse(parser, (struct df_str){p, size}, &arena, &doc, &fail);
	err = df_unwrap(parser, &arena, err, &doc, &fail);
	DF_ASSERT(doc.raw.n <= size);
	DF_ASSERT(err == DF_OK ? df_record_utf8(doc.text) : fail.msg[0] != '\0');
	for (size_t i = 0; i < doc.n_field; i++)
		DF_ASSERT(doc.field[i].raw.p >= doc.raw.p &&
			  doc.field[i].raw.p + doc.field[i].raw.n <= doc.raw.p + doc.raw.n);
	df_arena_release(&arena);
	free(p);
	return 0;
}
