// SPDX-License-Identifier: Apache-2.0
/* resolve: presets and files, put into the pipeline. */
#include "cli/resolve.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/io.h"
#include "worker/stages/registry.h"

/* The text of "@path". */
static enum df_err read_text(const struct df_pipeline_stage *s, struct df_pipeline_opt *o, struct df_arena *arena,
			     struct df_fail *fail)
{
	struct df_str path = df_arena_copy(arena, (struct df_str){o->value.p + 1, o->value.n - 1});
	struct df_fail why = {.msg = ""};
	char *text = NULL;
	size_t n = 0;
	if (!path.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for '" DF_STR_FMT "'", DF_STR_ARG(o->key));
	if (df_str_starts(path, "@")) {
		o->value = path;
		return DF_OK;
	}
	enum df_err err =
		path.n ? df_io_read_file(&df_io_real, AT_FDCWD, path.p, DF_PIPELINE_BYTES_MAX, &text, &n, &why)
		       : df_fail(&why, DF_ERR_USAGE, "'@' has no name of a file behind it");
	if (err != DF_OK) /* whatever is the matter with it, the command names it */
		return df_fail(fail, err == DF_ERR_NOMEM ? err : DF_ERR_USAGE,
			       "stage '" DF_STR_FMT "', option '" DF_STR_FMT "': %s",
			       DF_STR_ARG(df_pipeline_call_name(s)), DF_STR_ARG(o->key), why.msg);
	n -= n > 0 && text[n - 1] == '\n';
	n -= n > 0 && text[n - 1] == '\r';
	struct df_str body = {text, n};
	if (df_str_starts(body, "\xef\xbb\xbf")) /* some editors' mark of UTF-8: nothing that anybody wrote */
		body = (struct df_str){text + 3, n - 3};
	bool empty = df_str_trim(body).n == 0;
	struct df_str copy = df_arena_copy(arena, body);
	free(text);
	if (empty)
		return df_fail(fail, DF_ERR_USAGE,
			       "stage '" DF_STR_FMT "': '%.300s' is empty (option '" DF_STR_FMT "')",
			       DF_STR_ARG(df_pipeline_call_name(s)), path.p, DF_STR_ARG(o->key));
	if (!copy.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for '%.300s'", path.p);
	if (df_str_utf8_prefix(copy) != copy.n || memchr(copy.p, '\0', copy.n ? copy.n : 0))
		return df_fail(fail, DF_ERR_USAGE, "'%.300s' is no text in UTF-8 (option '" DF_STR_FMT "')", path.p,
			       DF_STR_ARG(o->key));
	o->value = copy;
	o->value_at = SIZE_MAX; /* it does not stand in the command any more */
	return DF_OK;
}

static enum df_err files(struct df_pipeline_stage *s, const struct df_opt *rows, struct df_arena *arena,
			 struct df_fail *fail)
{
	for (size_t i = 0; i < s->n_opt; i++) {
		const struct df_opt *row = df_conf_find(rows, s->opt[i].key);
		if (row && row->file && df_str_starts(s->opt[i].value, "@"))
			DF_TRY(read_text(s, &s->opt[i], arena, fail));
	}
	return DF_OK;
}

/* "@ask.txt" of stage options from `first` on becomes "@FOLDER/ask.txt"; what is absolute, or no file, stays. */
static enum df_err rebase(struct df_pipeline_stage *s, size_t first, const struct df_opt *rows, struct df_str folder,
			  struct df_arena *arena, struct df_fail *fail)
{
	for (size_t i = first; folder.n && i < s->n_opt; i++) {
		struct df_pipeline_opt *o = &s->opt[i];
		const struct df_opt *row = df_conf_find(rows, o->key);
		if (!row || !row->file || o->value.n < 2 || o->value.p[0] != '@' || o->value.p[1] == '@' ||
		    o->value.p[1] == '/')
			continue;
		struct df_buf path;
		df_buf_init(&path, 2 * DF_PIPELINE_BYTES_MAX);
		(void)df_buf_addc(&path, '@');
		(void)df_buf_add_str(&path, folder);
		(void)df_buf_add_str(&path, (struct df_str){o->value.p + 1, o->value.n - 1});
		o->value = df_buf_err(&path) == DF_OK ? df_arena_copy(arena, df_buf_str(&path)) : DF_STR("");
		o->value_at = SIZE_MAX;
		df_buf_release(&path);
		if (!o->value.n)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for a file's name");
	}
	return DF_OK;
}

/* Up to and with the last '/'; n 0: the file lies in the current folder. */
static struct df_str folder_of(struct df_str path)
{
	const char *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
	return (struct df_str){path.p, slash ? (size_t)(slash - path.p) + 1 : 0};
}

enum df_err df_resolve_rebase(struct df_pipeline *p, struct df_str file, struct df_arena *arena, struct df_fail *fail)
{
	for (size_t i = 0; i < p->n_stage; i++) {
		const struct df_stage_class *class = df_stage_find(p->stage[i].name);
		if (class && class->options)
			DF_TRY(rebase(&p->stage[i], 0, class->options, folder_of(file), arena, fail));
	}
	return DF_OK;
}

static bool has_preset(const struct df_pipeline_stage *s)
{
	for (size_t i = 0; i < s->n_opt; i++)
		if (df_str_is(s->opt[i].key, "preset"))
			return true;
	return false;
}

/* Workers read it again, and take no more than this. */
static enum df_err check_size(const struct df_pipeline *p, struct df_fail *fail)
{
	struct df_buf text;
	df_buf_init(&text, DF_PIPELINE_BYTES_MAX);
	enum df_err err = df_pipeline_format(p, &text);
	df_buf_release(&text);
	if (err == DF_ERR_LIMIT)
		return df_fail(fail, DF_ERR_USAGE, "the pipeline with its files has more than %u bytes",
			       DF_PIPELINE_BYTES_MAX);
	return err == DF_OK ? DF_OK : df_fail(fail, err, "no memory for the pipeline");
}

enum df_err df_resolve_pipeline(struct df_pipeline *p, struct df_arena *arena, struct df_fail *fail)
{
	struct df_presets user = {NULL, 0};
	bool read = false;
	for (size_t i = 0; i < p->n_stage; i++) {
		struct df_pipeline_stage *s = &p->stage[i];
		const struct df_stage_class *class = df_stage_find(s->name);
		if (!class || !class->options)
			continue; /* told by those who check stages */
		if (!read && has_preset(s) && df_conf_find(class->options, DF_STR("preset"))) {
			DF_TRY(df_preset_file_read(arena, &user, fail));
			read = true;
		}
		size_t n_written = s->n_opt - has_preset(s); /* a preset's come behind them */
		DF_TRY(df_preset_apply(s, class->options, &user, arena, fail));
		if (user.n && n_written < s->n_opt)
			DF_TRY(rebase(s, n_written, class->options, folder_of(user.item[0].from), arena, fail));
		DF_TRY(files(s, class->options, arena, fail));
	}
	return check_size(p, fail);
}
