// SPDX-License-Identifier: Apache-2.0
/* batch_rows: what `docflume batch` may be told; where `run` has the same option, it means the same. */
#include "cli/batch_rows.h"

#include "base/limits.h"
#include "cli/shared_rows.h"

#define AT(member) offsetof(struct df_batch_request, member)

const struct df_opt df_batch_rows[] = {
	{.name = "out",
	 .type = DF_OPT_STRING,
	 .offset = AT(out),
	 .value_name = "DIR",
	 .max = 4096,
	 .help = "The directory of the batch run: what was sent, what came back, rows and rejects. With the same one "
		 "it "
		 "goes on"},
	{.name = "wait",
	 .type = DF_OPT_BOOL,
	 .offset = AT(wait),
	 .initial = "true",
	 .help = "Wait for the provider; with --no-wait submit (or take what is there by now) and leave with exit code "
		 "75"},
	{.name = "poll",
	 .type = DF_OPT_TIME,
	 .offset = AT(poll_ns),
	 .initial = "30s",
	 .min = 0.01,
	 .max = 86400,
	 .help = "The first pause between two looks at a batch; each is half as long again as the one before"},
	{.name = "poll-max",
	 .type = DF_OPT_TIME,
	 .offset = AT(poll_max_ns),
	 .initial = "10m",
	 .min = 0.01,
	 .max = 86400,
	 .help = "The longest pause"},
	DF_ROW_BUDGET(
		AT(budget),
		"What all batches of this run may cost. The worst case of all that is to be sent counts before any of "
		"it is; when that would pass it, the run stops with exit code 4, and goes on with a larger one"),
	{.name = "attempts",
	 .type = DF_OPT_INT,
	 .offset = AT(attempts),
	 .initial = "3",
	 .min = 1,
	 .max = 50,
	 .help = "How often a request is sent that fails for a passing reason; one that expired is sent again without "
		 "counting"},
	{.name = "file-lines",
	 .type = DF_OPT_INT,
	 .offset = AT(file_lines),
	 .initial = "50000",
	 .min = 1,
	 .max = DF_BATCH_INLINE_LINES_MAX,
	 .help = "Requests of one batch; Anthropic takes up to 100000, OpenAI's files never get more than 50000"},
	{.name = "file-bytes",
	 .type = DF_OPT_SIZE,
	 .offset = AT(file_bytes),
	 .initial = "200000000",
	 .min = 1024,
	 .max = DF_BATCH_BYTES_MAX,
	 .help = "Size of one batch's file"},
	DF_ROW_CACHE(AT(cache), "Where answers of models are kept, as for run: what is there is not sent, and what "
				"comes back is put there"),
	DF_ROW_CACHE_SIZE(AT(cache_size)),
	DF_ROW_ID_KEY(AT(id_key)),
	DF_ROW_TEXT_KEY(AT(text_key)),
	DF_ROW_INPUT_FORMAT(AT(input_format), "auto|jsonl|text|csv|tsv; auto goes by the file's name"),
	{.name = "output-format",
	 .type = DF_OPT_ENUM,
	 .offset = AT(output_format),
	 .initial = "auto",
	 .choices = "auto|jsonl|npy|both",
	 .value_name = "FORMAT",
	 .help = "auto|jsonl|npy|both; auto is both when the pipeline makes vectors, else jsonl"},
	DF_ROW_MAX_RECORD(AT(max_record)),
	DF_ROW_MODEL_DIR(AT(model_dir), "Read local models here instead of from the cache"),
	{.name = "base-url",
	 .type = DF_OPT_STRING,
	 .offset = AT(base_url),
	 .value_name = "URL",
	 .max = 2048,
	 .help = "Of request lines: where the API is; $OPENAI_BASE_URL or https://api.openai.com/v1 when not given"},
	{.name = "key-env",
	 .type = DF_OPT_STRING,
	 .offset = AT(key_env),
	 .value_name = "NAME",
	 .max = 128,
	 .help = "Of request lines: the variable that holds the key; OPENAI_API_KEY when not given"},
	{.name = "quiet", .type = DF_OPT_BOOL, .offset = AT(quiet), .help = "Only warnings and errors"},
	{.name = "verbose", .type = DF_OPT_BOOL, .offset = AT(verbose), .help = "Also each look at the batches"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = AT(help), .help = "Print this"},
	{.name = NULL},
};

const struct df_arg df_batch_args[] = {
	{"out", 'o', NULL}, {"quiet", 'q', NULL}, {"help", 'h', NULL}, {"verbose", 'v', NULL}, {NULL, 0, NULL},
};
