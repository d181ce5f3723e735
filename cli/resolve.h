// SPDX-License-Identifier: Apache-2.0
/*
 * resolve: what a pipeline refers to outside of itself becomes part of it: presets (worker/stages/preset.h) and files.
 *
 * An option whose row says so (df_opt.file) takes `@path` for the text of that file, read here, once. A path begins at the current folder, or, when the
 * option stands in a YAML file (a pipeline's, or presets.yaml), at that file's folder. One line break at its end and a byte order mark at its head are
 * left out; a file that holds nothing else is an error; `@@` is a text that begins with '@'. Workers never see the path: they get the text in the canonical pipeline, and a run only
 * goes on with the same text. Users' presets come from ${XDG_CONFIG_HOME:-~/.config}/docflume/presets.yaml, which is read when a preset is asked for:
 *
 *   mine: {temperature: 0.3, max_tokens: 200, model: gpt-4o-mini}
 */
#ifndef DF_CLI_RESOLVE_H
#define DF_CLI_RESOLVE_H

#include "worker/stages/preset.h"

/* DF_ERR_USAGE, DF_ERR_NOT_FOUND and the like with stage and option named; DF_ERR_NOMEM. */
enum df_err df_resolve_pipeline(struct df_pipeline *p, struct df_arena *arena, struct df_fail *fail) DF_MUST_CHECK;

/* Paths of options that stand in `file`, before options from elsewhere are added: from then on they begin at its folder. DF_ERR_NOMEM. */
enum df_err df_resolve_rebase(struct df_pipeline *p, struct df_str file, struct df_arena *arena,
			      struct df_fail *fail) DF_MUST_CHECK;

/* The user's presets; none when there is no such file. */
enum df_err df_preset_file_read(struct df_arena *arena, struct df_presets *ret_presets,
				struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_preset_file_parse(struct df_str text, const char *path, struct df_arena *arena,
				 struct df_presets *ret_presets, struct df_fail *fail) DF_MUST_CHECK;

#endif
