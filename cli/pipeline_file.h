// SPDX-License-Identifier: Apache-2.0
/*
 * pipeline_file: a pipeline and its settings from YAML (1.2), for `docflume run -f FILE`.
 *
 *   pipeline: 'clean min_chars=20 | chunk tokens=200'     either this text
 *   stages:                                               or this list
 *     - strip
 *     - clean: {min_chars: 20, require: [source, url]}
 *     - {name: c, chunk: {tokens: 200}}                   `name` is the stage's label
 *   inputs: [docs, more.jsonl]                             operands, when the command line has none
 *   jobs: 4                                               settings: the names of the long options
 *
 * Bounds: 1 MiB of text, depth 64, 65536 nodes visited with aliases followed (an alias bomb is an error; base/yaml).
 * Errors give file, line and column.
 */
#ifndef DF_CLI_PIPELINE_FILE_H
#define DF_CLI_PIPELINE_FILE_H

#include "base/conf.h"
#include "base/pipeline.h"

struct df_pipeline_file {
	struct df_pipeline
		pipeline; /* parsed, so that carets point into its (canonical) text; n_stage 0: none in the file */
	struct df_str_list inputs;
};

/* `path` is for messages. `rows` are the settings: one whose place in `given` is true keeps its value, others are set
 * in `options` and marked. All memory from `arena`. On failure some settings may have been set. DF_ERR_USAGE,
 * DF_ERR_NOMEM. */
enum df_err df_pipeline_file_parse(struct df_str text, const char *path, const struct df_opt *rows, void *options,
				   bool *given, struct df_arena *arena, struct df_pipeline_file *ret_file,
				   struct df_fail *fail) DF_MUST_CHECK;

#endif
