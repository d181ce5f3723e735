// SPDX-License-Identifier: Apache-2.0
/*
 * buf: a growable byte buffer that is born with its maximum.
 *
 * After a failed append the buffer is unchanged, and the error "sticks": later appends fail too until
 * df_buf_reset(), so that a writer may append many times and check once with df_buf_err().
 */
#ifndef DF_BASE_BUF_H
#define DF_BASE_BUF_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct df_buf {
	char *p;    /* owned; NULL until the first append */
	size_t n;   /* bytes used */
	size_t cap; /* bytes allocated */
	size_t max; /* ceiling for n */
	enum df_err err;
};

void df_buf_init(struct df_buf *b, size_t max_bytes);
void df_buf_release(struct df_buf *b); /* accepts a zeroed struct */
void df_buf_reset(struct df_buf *b);   /* n = 0, error cleared, memory kept */

/* Room for `more` bytes behind p[n]; DF_ERR_LIMIT beyond max, DF_ERR_NOMEM. */
enum df_err df_buf_reserve(struct df_buf *b, size_t more);
enum df_err df_buf_add(struct df_buf *b, const void *p, size_t n);
enum df_err df_buf_add_str(struct df_buf *b, struct df_str s);
enum df_err df_buf_addz(struct df_buf *b, const char *z);
enum df_err df_buf_addc(struct df_buf *b, char c);
enum df_err df_buf_addf(struct df_buf *b, const char *fmt, ...) DF_PRINTF(2, 3);
enum df_err df_buf_add_u64(struct df_buf *b, uint64_t v);

/* The text with a NUL behind it, for printing: it stops where memory or the maximum did. Never NULL. */
const char *df_buf_z(struct df_buf *b);

static inline enum df_err df_buf_err(const struct df_buf *b)
{
	return b->err;
}

static inline struct df_str df_buf_str(const struct df_buf *b)
{
	return (struct df_str){b->p, b->n};
}

#endif
