// SPDX-License-Identifier: Apache-2.0
/* table: the built-in rows of the table of models, and a user's rows out of YAML. */
#ifndef DF_WORKER_PROVIDER_TABLE_H
#define DF_WORKER_PROVIDER_TABLE_H

#include "worker/provider/wire/wire.h"

const struct df_model_info *df_table_rows(size_t *ret_n);
/* By the exact id, then without a dated version at its end ("gpt-4o-2024-08-06" is gpt-4o, unless it has a row of its own); NULL: not known. */
const struct df_model_info *df_table_find(struct df_str provider, struct df_str model);
/* DF_ERR_NOT_FOUND, with the providers and those of the rows' ids that are near. */
enum df_err df_table_unknown(struct df_str id, const struct df_model_info *row, size_t n, struct df_fail *fail);
/* The name of the encoding that its tokens are counted by; empty: not known. */
struct df_str df_table_tokenizer(struct df_str provider, struct df_str model);

/* What a user's row gives: fields that are not given stay as they were in *ret (the built-in row of that model, or unknown). */
struct df_user_row {
	struct df_model_info info;
	const struct df_provider *by; /* the provider */
	bool is_known;                /* it began as the built-in row of its model: nothing is left open */
	bool has_kind;
};
/* `models:` of a file, memory from the arena. DF_ERR_USAGE with path, line and column. */
enum df_err df_table_yaml(struct df_str text, const char *path, struct df_arena *arena, struct df_user_row **ret_row,
			  size_t *ret_n, struct df_fail *fail) DF_MUST_CHECK;

#endif
