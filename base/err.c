// SPDX-License-Identifier: Apache-2.0
/* err: names and classes of error codes, and one-line messages for people. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#undef df_fail /* what the analyzer is told about them in err.h */
#undef df_fail_errno

struct row {
	const char *name;
	enum df_err_class class;
};

static const struct row rows[DF_N_ERR] = {
	[DF_OK] = {"ok", DF_CLASS_OK},
	[DF_ERR_AGAIN] = {"again", DF_CLASS_RETRY},
	[DF_ERR_INTERRUPTED] = {"interrupted", DF_CLASS_RETRY},
	[DF_ERR_TIMEOUT] = {"timeout", DF_CLASS_RETRY},
	[DF_ERR_CLOSED] = {"closed", DF_CLASS_RETRY},
	[DF_ERR_END] = {"end", DF_CLASS_PERMANENT},
	[DF_ERR_NOMEM] = {"nomem", DF_CLASS_LIMIT},
	[DF_ERR_LIMIT] = {"limit", DF_CLASS_PERMANENT},
	[DF_ERR_IO] = {"io", DF_CLASS_PERMANENT},
	[DF_ERR_NOSPACE] = {"no-space", DF_CLASS_PERMANENT},
	[DF_ERR_NOT_FOUND] = {"not-found", DF_CLASS_PERMANENT},
	[DF_ERR_EXISTS] = {"exists", DF_CLASS_PERMANENT},
	[DF_ERR_BUSY] = {"busy", DF_CLASS_RETRY},
	[DF_ERR_PARSE] = {"parse", DF_CLASS_PERMANENT},
	[DF_ERR_UTF8] = {"utf8", DF_CLASS_PERMANENT},
	[DF_ERR_TYPE] = {"type", DF_CLASS_PERMANENT},
	[DF_ERR_RANGE] = {"range", DF_CLASS_PERMANENT},
	[DF_ERR_USAGE] = {"usage", DF_CLASS_PERMANENT},
	[DF_ERR_CHANGED] = {"input-changed", DF_CLASS_PERMANENT},
	[DF_ERR_CORRUPT] = {"corrupt", DF_CLASS_PERMANENT},
	[DF_ERR_VERSION] = {"version", DF_CLASS_PERMANENT},
	[DF_ERR_UNSUPPORTED] = {"unsupported", DF_CLASS_PERMANENT},
	[DF_ERR_CHILD] = {"child", DF_CLASS_PERMANENT},
	[DF_ERR_QUOTA] = {"quota", DF_CLASS_PERMANENT},
	[DF_ERR_BUG] = {"bug", DF_CLASS_BUG},
};

enum df_err_class df_err_class(enum df_err err)
{
	return (unsigned)err < DF_N_ERR ? rows[err].class : DF_CLASS_BUG;
}

const char *df_err_name(enum df_err err)
{
	return (unsigned)err < DF_N_ERR ? rows[err].name : "unknown";
}

static void fill(struct df_fail *fail, enum df_err code, const char *fmt, va_list ap, const char *tail)
{
	if (!fail)
		return;
	fail->code = code;
	int n = vsnprintf(fail->msg, sizeof(fail->msg), fmt, ap);
	if (n < 0)
		n = 0;
	if (tail && (size_t)n < sizeof(fail->msg))
		n += snprintf(fail->msg + n, sizeof(fail->msg) - (size_t)n, ": %s", tail);
	if ((size_t)n >= sizeof(fail->msg))
		memcpy(fail->msg + sizeof(fail->msg) - 4, "...", 4);
	df_str_make_utf8(fail->msg); /* names of files and words of others are any bytes, and a character may be cut */
}

enum df_err df_fail(struct df_fail *fail, enum df_err code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fill(fail, code, fmt, ap, NULL);
	va_end(ap);
	return code;
}

static enum df_err from_errno(int e)
{
	switch (e) {
	case ENOSPC:
	case EDQUOT:
		return DF_ERR_NOSPACE;
	case ENOENT:
		return DF_ERR_NOT_FOUND;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return DF_ERR_NOMEM;
	default:
		return DF_ERR_IO;
	}
}

enum df_err df_fail_errno(struct df_fail *fail, const char *fmt, ...)
{
	int e = errno;
	enum df_err code = from_errno(e);
	va_list ap;
	va_start(ap, fmt);
	fill(fail, code, fmt, ap, strerror(e));
	va_end(ap);
	return code;
}

void df_assert_failed(const char *cond, const char *file, int line)
{
	fprintf(stderr, "docflume: bug: assertion failed: %s (%s:%d)\n", cond, file, line);
	abort();
}
