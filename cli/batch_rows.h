// SPDX-License-Identifier: Apache-2.0
/* batch_rows: the options of `docflume batch`. */
#ifndef DF_CLI_BATCH_ROWS_H
#define DF_CLI_BATCH_ROWS_H

#include "cli/args.h"

struct df_batch_request {
	struct df_str out, id_key, text_key, model_dir, cache, base_url, key_env;
	uint64_t max_record, cache_size, poll_ns, poll_max_ns, file_bytes;
	int64_t attempts, file_lines;
	double budget;
	int input_format;  /* enum df_format */
	int output_format; /* enum df_batch_outfmt */
	bool wait, quiet, verbose, help;
};

enum df_batch_outfmt { DF_BATCH_AUTO, DF_BATCH_JSONL, DF_BATCH_NPY, DF_BATCH_BOTH };

extern const struct df_opt df_batch_rows[];
extern const struct df_arg df_batch_args[];

#endif
