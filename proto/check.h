// SPDX-License-Identifier: Apache-2.0
/*
 * check: one MessagePack item at a time from bytes that nobody vouches for. Private to proto/.
 *
 * A cursor never reads behind its end and never allocates. An array or map item is its count alone; its elements are the
 * items that follow. A count larger than the bytes left is an error at once (each element takes a byte at least), so whoever
 * allocates for a count allocates at most a small multiple of the frame.
 * Source: the MessagePack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
 */
#ifndef DF_PROTO_CHECK_H
#define DF_PROTO_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum df_item_type {
	DF_ITEM_NIL,
	DF_ITEM_BOOL,  /* u64 is 0 or 1 */
	DF_ITEM_UINT,  /* u64; any non-negative integer, however it was written */
	DF_ITEM_INT,   /* i64, negative */
	DF_ITEM_FLOAT, /* not decoded: the protocol has none */
	DF_ITEM_STR,   /* str, into the frame */
	DF_ITEM_BIN,   /* str */
	DF_ITEM_ARRAY, /* u64 is the number of elements */
	DF_ITEM_MAP,   /* u64 is the number of pairs */
	DF_ITEM_EXT,   /* str, without the type byte */
};

struct df_item {
	enum df_item_type type;
	union {
		uint64_t u64;
		int64_t i64;
		struct df_str str;
	};
};

struct df_cursor {
	const uint8_t *p, *end;
};

static inline struct df_cursor df_cursor_of(struct df_str frame)
{
	const uint8_t *p = (const uint8_t *)frame.p;
	return (struct df_cursor){p, frame.n ? p + frame.n : p};
}

/* DF_ERR_PARSE when the item is cut off or is no MessagePack, DF_ERR_LIMIT when a string passes DF_STRING_BYTES_MAX; the
 * cursor stays before the item then. */
enum df_err df_cursor_next(struct df_cursor *c, struct df_item *ret_item) DF_MUST_CHECK;

#endif
