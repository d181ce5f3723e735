// SPDX-License-Identifier: Apache-2.0
/*
 * conf: option rows. One row says an option's type, name, default, range, place in a struct, and help;
 * parsing, defaults, `docflume stages`, --help, man pages and docs/stages are all made from the same rows.
 */
#ifndef DF_BASE_CONF_H
#define DF_BASE_CONF_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum df_opt_type {
	DF_OPT_BOOL, /* bool; "true|false|yes|no|on|off|1|0" */
	DF_OPT_INT,  /* int64_t */
	DF_OPT_SIZE, /* uint64_t bytes; "8m", "64KiB" */
	DF_OPT_TIME, /* uint64_t nanoseconds; "30s", "250ms", "1.5h", a plain number is seconds; min and max are seconds */
	DF_OPT_FLOAT,  /* double */
	DF_OPT_STRING, /* struct df_str, lives in the arena given to df_conf_set */
	DF_OPT_ENUM,   /* int: index of the word in `choices` ("jsonl|npy|both|none") */
	DF_OPT_LIST,   /* struct df_str_list: comma-separated words */
};

struct df_str_list {
	struct df_str *item;
	size_t n;
};

struct df_opt {
	const char *name; /* NULL ends the table; '-' and '_' are the same when a name is looked up */
	enum df_opt_type type;
	size_t offset;       /* of the member in the options struct */
	const char *initial; /* default as the user would write it; NULL: none (zeroed: 0, false, empty) */
	double min,
		max; /* INT, SIZE, FLOAT; both 0: no range; for STRING max is the largest length in bytes, 0 = 65536 */
	const char *choices; /* ENUM */
	bool required;
	bool pace; /* how fast or how stubbornly, never what comes of it: a run goes on with another value */
	bool file; /* STRING: "@path" stands for the text of that file (cli/resolve.h) */
	const char *value_name; /* shown in help, e.g. "N"; NULL: made from the type */
	const char *help;       /* one sentence or two, no full stop needed */
};

/* Set every option of `table` in `*options` (size bytes) to its default. Cannot fail on a correct table (asserted). */
void df_conf_defaults(const struct df_opt *table, struct df_arena *arena, void *options, size_t size);

/* Set one option from text. DF_ERR_USAGE with the value in quotes, what is accepted, and the range; DF_ERR_NOT_FOUND
 * for an unknown name, with the nearest known names in the message ("unknown option 'min_char'; did you mean 'min_chars'?"). */
enum df_err df_conf_set(const struct df_opt *table, struct df_arena *arena, void *options, struct df_str name,
			struct df_str value, struct df_fail *fail) DF_MUST_CHECK;

const struct df_opt *df_conf_find(const struct df_opt *table, struct df_str name);

/* Append "; did you mean 'a' or 'b'?": the known names nearest to `word`, at most 3, at a distance of at most
 * 1/3 of its length + 1. Adds nothing when none is near. `names` ends with NULL. */
void df_conf_suggest(struct df_buf *out, struct df_str word, const char *const *names);

/* "N", "SIZE", "a|b", ...: what stands for the value in help. Never NULL; "" for a BOOL. */
const char *df_conf_value_name(const struct df_opt *row);

/* Help for people: aligned plain text, one option after the other, wrapped at `width` columns; `prefix` stands before
 * each name ("--" or ""). */
enum df_err df_conf_help(const struct df_opt *table, const char *prefix, size_t width, struct df_buf *out);
/* One row of it, for callers that write their own left column. */
enum df_err df_conf_help_row(const struct df_opt *row, const char *left, size_t width, struct df_buf *out);
/* `text` (paragraphs end with a line break) wrapped at `width` columns, each line behind `indent` blanks. */
enum df_err df_conf_wrap(const char *text, size_t indent, size_t width, struct df_buf *out);
/* A Markdown table: option, type, default, range, meaning. */
enum df_err df_conf_markdown(const struct df_opt *table, struct df_buf *out);

#endif
