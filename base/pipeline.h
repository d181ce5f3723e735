// SPDX-License-Identifier: Apache-2.0
/*
 * pipeline: the language of pipelines, without knowledge of any stage.
 *
 *   pipeline = stage *( "|" stage )
 *   stage    = [ label "=" ] name *( key "=" value )
 *   name, key, label = letter *( letter | digit | "_" | "-" )
 *   value    = bare | 'single quoted, taken as it is' | "double quoted, with \" \\ \n \t \uXXXX"
 *   bare     = 1*( any character but blanks, "|", "#" at a word's start, and quotes )
 *   (control characters stand only in quotes, NUL nowhere; a name has at most 64 bytes)
 *   comment  = "#" to the end of the line, where a word could begin; blanks and line breaks separate words
 *
 * A label names a stage for overrides (`--c.key value`); without one a stage is called by its name. Two stages of
 * one call name are allowed; an override of an ambiguous name is an error that says how to label them.
 * Errors are shown with the line of the pipeline, a caret under the place, and what was expected.
 */
#ifndef DF_BASE_PIPELINE_H
#define DF_BASE_PIPELINE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

struct df_pipeline_opt {
	struct df_str key;
	struct df_str value;     /* unquoted */
	size_t key_at, value_at; /* byte offsets in the source text, for carets; SIZE_MAX for an override or YAML */
};

struct df_pipeline_stage {
	struct df_str label; /* empty when not labelled */
	struct df_str name;
	size_t at;
	struct df_pipeline_opt *opt;
	size_t n_opt;
};

struct df_pipeline {
	struct df_str text; /* what was parsed (in the arena), for carets */
	struct df_pipeline_stage stage[DF_STAGES_MAX];
	size_t n_stage;
};

/* All memory from `arena`. DF_ERR_USAGE with a caret message (several lines in fail->msg: message, the line, the caret). */
enum df_err df_pipeline_parse(struct df_str text, struct df_arena *arena, struct df_pipeline *ret_pipeline,
			      struct df_fail *fail) DF_MUST_CHECK;

/* A stage's name for people and overrides: its label, or its name. */
static inline struct df_str df_pipeline_call_name(const struct df_pipeline_stage *s)
{
	return s->label.n ? s->label : s->name;
}

/* Build a pipeline from other sources than text: append a stage, set an option (replacing an earlier value). Names are
 * checked against the grammar, values for UTF-8; slices are not copied. DF_ERR_USAGE, DF_ERR_LIMIT, DF_ERR_NOMEM. */
enum df_err df_pipeline_add(struct df_pipeline *p, struct df_str label, struct df_str name,
			    struct df_pipeline_stage **ret_stage, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_pipeline_set(struct df_pipeline_stage *stage, struct df_arena *arena, struct df_str key,
			    struct df_str value, struct df_fail *fail) DF_MUST_CHECK;

/* Set stage.key=value from the command line; replaces an earlier value. DF_ERR_USAGE when no stage, or more than one,
 * has that call name. Whether the stage knows the key is found out later, by those who know stages. */
enum df_err df_pipeline_override(struct df_pipeline *p, struct df_arena *arena, struct df_str stage, struct df_str key,
				 struct df_str value, struct df_fail *fail) DF_MUST_CHECK;

/* Canonical text: one space between words, values quoted where they must be; parses back to the same pipeline. */
enum df_err df_pipeline_format(const struct df_pipeline *p, struct df_buf *out) DF_MUST_CHECK;

/* An error at byte `at` of p->text: "message\n  the line\n      ^". at = SIZE_MAX: the message alone. A long line is
 * shown in part. Always DF_ERR_USAGE. */
enum df_err df_pipeline_fail_at(const struct df_pipeline *p, size_t at, struct df_fail *fail, const char *fmt, ...)
	DF_PRINTF(4, 5);

#endif
