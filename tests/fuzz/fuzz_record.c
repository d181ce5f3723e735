// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a record: no crash; what is accepted is also accepted by the parser of base/, and the other way round. */
#include <stdlib.h>

#include "base/json.h"
#include "worker/read/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct df_record_parser *parser;
static struct df_arena arena;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_record_keys keys = {DF_STR("id"), DF_STR("text"), false};
	struct df_doc doc = {0};
	struct df_fail fail;
	struct df_json *root;
	if (!parser) {
		df_arena_init(&arena, 64U << 20, 1U << 20);
		DF_ASSERT(df_record_parser_create(keys, 1U << 20, &parser) == DF_OK);
	}
	char *raw = malloc(size + DF_RECORD_PADDING);
	DF_ASSERT(raw != NULL);
	if (size)
		memcpy(raw, data, size);
	memset(raw + size, '\\', DF_RECORD_PADDING);
	enum df_err err = df_record_parse(parser, (struct df_str){raw, size}, &arena, &doc, &fail);
	enum df_err other = df_json_parse((struct df_str){raw, size}, &arena, &root, NULL);
	if (err != DF_ERR_LIMIT && err != DF_ERR_NOMEM && other != DF_ERR_LIMIT && other != DF_ERR_NOMEM)
		DF_ASSERT((err == DF_OK || err == DF_ERR_TYPE) == (other == DF_OK));
	if (err == DF_OK) {
		DF_ASSERT(df_record_utf8(doc.text));
		DF_ASSERT(!doc.id.p || df_record_utf8(doc.id));
		for (size_t i = 0; i < doc.n_field; i++) {
			DF_ASSERT(df_record_utf8(doc.field[i].key));
			DF_ASSERT(other == DF_ERR_LIMIT ||
				  df_json_parse(doc.field[i].raw, &arena, &root, NULL) == DF_OK);
		}
	}
	free(raw);
	df_arena_reset(&arena);
	return 0;
}
