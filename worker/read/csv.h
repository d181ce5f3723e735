// SPDX-License-Identifier: Apache-2.0
/*
 * csv: rows of comma- or tab-separated values, RFC 4180: fields in quotes may hold separators, line breaks and "" for a
 * quote; LF or CRLF ends a row. More lenient in one point: a quote inside an unquoted field is an ordinary character.
 */
#ifndef DF_WORKER_READ_CSV_H
#define DF_WORKER_READ_CSV_H

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

#define DF_CSV_COLUMNS DF_JSON_FIELDS

enum df_csv_state { DF_CSV_FIELD_START, DF_CSV_PLAIN, DF_CSV_QUOTED, DF_CSV_QUOTE_SEEN };

/* Where rows end: a state machine that may be stopped and continued at any byte. Zeroed but for the separator: at a
 * row's start. */
struct df_csv_scan {
	char separator;
	enum df_csv_state state;
};

/* Go on over p[0..n). True: a row ended with the LF at p[*ret_n - 1] and the state is a row's start again. False:
 * all n bytes
 * belong to a row that goes on. */
bool df_csv_scan_row(struct df_csv_scan *scan, const char *p, size_t n, size_t *ret_n);

/*
 * The fields of a row (without its line end). Unquoted fields point into the row, quoted ones too unless they hold
 * "", which are unescaped to `scratch` (row.n bytes at least). DF_ERR_PARSE: characters behind a closing quote, or
 * no closing quote; DF_ERR_LIMIT: more than `cap` fields.
 */
enum df_err df_csv_split(struct df_str row, char separator, char *scratch, struct df_str *field, size_t cap,
			 size_t *ret_n, struct df_fail *fail) DF_MUST_CHECK;

#endif
