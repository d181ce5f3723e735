// SPDX-License-Identifier: Apache-2.0
/*
 * resolve: what a pipeline refers to outside of itself becomes part of it: presets (worker/stages/preset.h) and files.
 *
 * An option whose row says so (df_opt.file) takes `@path` for the text of that file, read here, once, relative to the current folder; one line break at
 * its end is left out; `@@` is a text that begins with '@'. Workers never see the path: they get the text in the canonical pipeline, and a run only
 * goes on with the same text. Users' presets come from ${XDG_CONFIG_HOME:-~/.config}/docflume/presets.yaml, which is read when a preset is asked for:
 *
 *   mine: {temperature: 0.3, max_tokens: 200, model: gpt-4o-mini}
 */
#ifndef DF_CLI_RESOLVE_H
#define DF_CLI_RESOLVE_H

#include "worker/stages/preset.h"

/* DF_ERR_USAGE, DF_ERR_NOT_FOUND and the like with stage and option named; DF_ERR_NOMEM. */
enum df_err df_resolve_pipeline(struct df_pipeline *p, struct df_arena *arena, struct df_fail *fail) DF_MUST_CHECK;

/* The user's presets; none when there is no such file. */
enum df_err df_preset_file_read(struct df_arena *arena, struct df_presets *ret_presets,
				struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_preset_file_parse(struct df_str text, const char *path, struct df_arena *arena,
				 struct df_presets *ret_presets, struct df_fail *fail) DF_MUST_CHECK;

#endif
