// SPDX-License-Identifier: Apache-2.0
/* csv: where rows end, and what fields they have. Both functions walk the same four states. */
#include "worker/read/csv.h"

static enum df_csv_state after(enum df_csv_state state, char c, char separator)
{
	switch (state) {
	case DF_CSV_FIELD_START:
		return c == '"' ? DF_CSV_QUOTED : c == separator ? DF_CSV_FIELD_START : DF_CSV_PLAIN;
	case DF_CSV_PLAIN:
		return c == separator ? DF_CSV_FIELD_START : DF_CSV_PLAIN;
	case DF_CSV_QUOTED:
		return c == '"' ? DF_CSV_QUOTE_SEEN : DF_CSV_QUOTED;
	case DF_CSV_QUOTE_SEEN:
		return c == '"' ? DF_CSV_QUOTED : c == separator ? DF_CSV_FIELD_START : DF_CSV_PLAIN;
	}
	return state;
}

bool df_csv_scan_row(struct df_csv_scan *scan, const char *p, size_t n, size_t *ret_n)
{
	enum df_csv_state state = scan->state;
	size_t i = 0;
	while (i < n) {
		if (state == DF_CSV_QUOTED) {
			const char *quote = memchr(p + i, '"', n - i);
			if (!quote)
				break;
			i = (size_t)(quote - p);
		} else if (p[i] == '\n') {
			scan->state = DF_CSV_FIELD_START;
			*ret_n = i + 1;
			return true;
		}
		state = after(state, p[i++], scan->separator);
	}
	scan->state = state;
	*ret_n = n;
	return false;
}

/* A field in quotes; *at stands behind the opening quote and is left behind the closing one. */
static enum df_err quoted_field(struct df_str row, size_t *at, char **scratch, struct df_str *ret_field,
				struct df_fail *fail)
{
	size_t first = *at, n = 0;
	char *copy = NULL;
	for (;;) {
		size_t from = *at;
		const char *quote = memchr(row.p + from, '"', row.n - from);
		if (!quote)
			return df_fail(fail, DF_ERR_PARSE, "the quote at byte %zu of the row is never closed",
				       first - 1);
		size_t run = (size_t)(quote - row.p) - from;
		bool doubled = from + run + 1 < row.n && quote[1] == '"';
		if (doubled && !copy)
			copy = *scratch;
		if (copy) {
			memcpy(copy + n, row.p + from, run);
			copy[n + run] = '"';
		}
		n += run + doubled;
		*at = from + run + 1 + doubled;
		if (!doubled)
			break;
	}
	if (copy)
		*scratch += n;
	*ret_field = (struct df_str){copy ? copy : row.p + first, n};
	return DF_OK;
}

enum df_err df_csv_split(struct df_str row, char separator, char *scratch, struct df_str *field, size_t cap,
			 size_t *ret_n, struct df_fail *fail)
{
	size_t at = 0, n = 0;
	for (;;) {
		if (n == cap)
			return df_fail(fail, DF_ERR_LIMIT, "more than %zu columns", cap);
		if (at < row.n && row.p[at] == '"') {
			at++;
			DF_TRY(quoted_field(row, &at, &scratch, &field[n], fail));
			if (at < row.n && row.p[at] != separator)
				return df_fail(fail, DF_ERR_PARSE, "column %zu: text behind its closing quote", n + 1);
		} else {
			const char *end = at < row.n ? memchr(row.p + at, separator, row.n - at) : NULL;
			size_t length = end ? (size_t)(end - row.p) - at : row.n - at;
			field[n] = (struct df_str){row.p + at, length};
			at += length;
		}
		n++;
		if (at == row.n)
			break;
		at++; /* the separator; what follows is a field even when it is empty */
	}
	*ret_n = n;
	return DF_OK;
}
