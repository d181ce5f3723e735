// SPDX-License-Identifier: Apache-2.0
/*
 * err: what a fallible function answers.
 *
 * Every fallible function returns `enum df_err`; its outputs come last, are named `ret_...`, and are
 * untouched on failure. A function that can say more than a code takes a `struct df_fail *` (may be
 * NULL) and fills it with one line for people: what failed first, the object in quotes, where, and
 * what to do next; lower case, no full stop.
 *
 * df_err_class() alone decides what may be tried again; callers never switch on single codes for that.
 */
#ifndef DF_BASE_ERR_H
#define DF_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#define DF_MUST_CHECK __attribute__((warn_unused_result))
#define DF_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum df_err {
	DF_OK = 0,
	DF_ERR_AGAIN,       /* nothing now; ask again later (would block) */
	DF_ERR_INTERRUPTED, /* a signal or a stop request came first */
	DF_ERR_TIMEOUT,     /* the deadline passed */
	DF_ERR_CLOSED,      /* the other side has gone */
	DF_ERR_END,         /* no more input: a normal end */
	DF_ERR_NOMEM,       /* allocation failed, or a named ceiling was reached */
	DF_ERR_LIMIT,       /* larger, deeper or more than base/limits.h allows */
	DF_ERR_IO,          /* the operating system refused; errno is in the message */
	DF_ERR_NOSPACE,     /* ENOSPC or EDQUOT */
	DF_ERR_NOT_FOUND,
	DF_ERR_EXISTS,
	DF_ERR_BUSY,    /* somebody else holds it */
	DF_ERR_PARSE,   /* not of its grammar */
	DF_ERR_UTF8,    /* not valid UTF-8 */
	DF_ERR_TYPE,    /* well-formed, wrong type */
	DF_ERR_RANGE,   /* right type, outside its range */
	DF_ERR_USAGE,   /* the user's command or pipeline is wrong */
	DF_ERR_CHANGED, /* input changed while it was read */
	DF_ERR_CORRUPT, /* stored bytes fail their checksum or order */
	DF_ERR_VERSION, /* a format version this build does not read */
	DF_ERR_UNSUPPORTED,
	DF_ERR_CHILD, /* a child process failed */
	DF_ERR_QUOTA, /* a budget or a limit of the day is used up */
	DF_ERR_BUG,   /* cannot happen; a defect of docflume */
	DF_N_ERR
};

enum df_err_class {
	DF_CLASS_OK,
	DF_CLASS_RETRY,     /* the same call may succeed later */
	DF_CLASS_PERMANENT, /* the same call fails again: reject the document, stop the run, or tell the user */
	DF_CLASS_LIMIT,     /* a ceiling: give up memory or split, then retry */
	DF_CLASS_BUG
};

struct df_fail {
	enum df_err code;
	char msg[768]; /* one line, NUL-terminated, cut with "..." when longer */
};

enum df_err_class df_err_class(enum df_err err);

/* A stable lower-case word, e.g. "utf8"; used in rejects and logs. Never NULL. */
const char *df_err_name(enum df_err err);

/* Fill `fail` (may be NULL) and return `code`, so that `return df_fail(...)` reads well. */
enum df_err df_fail(struct df_fail *fail, enum df_err code, const char *fmt, ...) DF_PRINTF(3, 4);

/* As df_fail, with ": strerror(errno)" appended; ENOSPC/EDQUOT give DF_ERR_NOSPACE, ENOENT DF_ERR_NOT_FOUND,
 * ENOMEM, EMFILE and ENFILE DF_ERR_NOMEM, anything else DF_ERR_IO. */
enum df_err df_fail_errno(struct df_fail *fail, const char *fmt, ...) DF_PRINTF(2, 3);

#ifdef __clang_analyzer__
/* The analyzer sees one file at a time: this tells it that what reports a failure never answers DF_OK. */
#define df_fail(fail, code, ...) ((void)df_fail(fail, code, __VA_ARGS__), (enum df_err)(code))
#define df_fail_errno(...) ((void)df_fail_errno(__VA_ARGS__), DF_ERR_IO)
#endif

/* Evaluate `expr`; return its error to the caller's caller if it is one. */
#define DF_TRY(expr)                                                                                                   \
	do {                                                                                                           \
		enum df_err df_try_ = (expr);                                                                          \
		if (df_try_ != DF_OK)                                                                                  \
			return df_try_;                                                                                \
	} while (0)

/* Stays on in every build: a violated invariant costs one task attempt, and leaves its last words. */
#define DF_ASSERT(cond) ((cond) ? (void)0 : df_assert_failed(#cond, __FILE__, __LINE__))
void df_assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn, cold));

#endif
