// SPDX-License-Identifier: Apache-2.0
/*
 * shared_rows: options that several commands have, written down once, so that they are spelled, bounded and defaulted alike. Each is a row for a table of
 * `struct df_opt`; `at` is the offset of its member, and `words` its help where a command has something of its own to say.
 */
#ifndef DF_CLI_SHARED_ROWS_H
#define DF_CLI_SHARED_ROWS_H

#include "base/conf.h"
#include "base/limits.h"

#define DF_PATH_OPTION_MAX 4096
#define DF_DISK_OPTION_MAX 1125899906842624.0 /* 1 PiB */

/* --- documents --- */
#define DF_ROW_ID_KEY(at)                                                                                              \
	{                                                                                                              \
		.name = "id-key", .type = DF_OPT_STRING, .offset = (at), .initial = "id", .value_name = "KEY",         \
		.max = 1024, .help = "The member that holds a document's id"                                           \
	}
#define DF_ROW_TEXT_KEY(at)                                                                                            \
	{                                                                                                              \
		.name = "text-key", .type = DF_OPT_STRING, .offset = (at), .initial = "text", .value_name = "KEY",     \
		.max = 1024, .help = "The member that holds a document's text"                                         \
	}
#define DF_ROW_INPUT_FORMAT(at, words)                                                                                 \
	{                                                                                                              \
		.name = "input-format", .type = DF_OPT_ENUM, .offset = (at), .initial = "auto",                        \
		.choices = "auto|jsonl|text|csv|tsv", .value_name = "FORMAT", .help = (words)                          \
	}
#define DF_ROW_MAX_RECORD(at)                                                                                          \
	{                                                                                                              \
		.name = "max-record", .type = DF_OPT_SIZE, .offset = (at), .initial = "8m", .min = 1024,               \
		.max = DF_RECORD_BYTES_MAX, .help = "A longer record is rejected"                                      \
	}

/* --- models --- */
#define DF_ROW_MODEL_DIR(at, words)                                                                                    \
	{                                                                                                              \
		.name = "model-dir", .type = DF_OPT_STRING, .offset = (at), .value_name = "DIR",                       \
		.max = DF_PATH_OPTION_MAX, .help = (words)                                                             \
	}
#define DF_ROW_BUDGET(at, words)                                                                                       \
	{                                                                                                              \
		.name = "budget", .type = DF_OPT_FLOAT, .offset = (at), .value_name = "USD", .min = 0, .max = 1e9,     \
		.help = (words)                                                                                        \
	}
#define DF_ROW_CACHE(at, words)                                                                                        \
	{                                                                                                              \
		.name = "cache", .type = DF_OPT_STRING, .offset = (at), .value_name = "DIR|no",                        \
		.max = DF_PATH_OPTION_MAX, .help = (words)                                                             \
	}
#define DF_ROW_CACHE_SIZE(at)                                                                                          \
	{                                                                                                              \
		.name = "cache-size", .type = DF_OPT_SIZE, .offset = (at), .initial = "10g", .min = 1048576,           \
		.max = DF_DISK_OPTION_MAX,                                                                             \
		.help = "What answers may take on disk; those that were used longest ago go first"                     \
	}

#endif
