// SPDX-License-Identifier: Apache-2.0
/* check: the bounded walk over a frame, and the cursor that the walk and the unpacker share. */
#include "proto/check.h"

#include "base/limits.h"
#include "proto/messages.h"

/* --- the cursor --- */

/* How the rest of an item is laid out behind its first byte. */
enum shape { FIXED, UINT, INT, FLOATING, BYTES, EXT_FIXED, EXT_SIZED, COUNT, NEVER };

struct lead {
	uint8_t shape;
	uint8_t type;
	uint8_t width; /* bytes of the number behind the first byte; for EXT_FIXED of the payload */
	uint8_t value; /* of FIXED */
};

static const struct lead leads[32] = {
	/* 0xc0 to 0xdf */
	{FIXED, DF_ITEM_NIL, 0, 0},      {NEVER, 0, 0, 0},
	{FIXED, DF_ITEM_BOOL, 0, 0},     {FIXED, DF_ITEM_BOOL, 0, 1},
	{BYTES, DF_ITEM_BIN, 1, 0},      {BYTES, DF_ITEM_BIN, 2, 0},
	{BYTES, DF_ITEM_BIN, 4, 0},      {EXT_SIZED, DF_ITEM_EXT, 1, 0},
	{EXT_SIZED, DF_ITEM_EXT, 2, 0},  {EXT_SIZED, DF_ITEM_EXT, 4, 0},
	{FLOATING, DF_ITEM_FLOAT, 4, 0}, {FLOATING, DF_ITEM_FLOAT, 8, 0},
	{UINT, DF_ITEM_UINT, 1, 0},      {UINT, DF_ITEM_UINT, 2, 0},
	{UINT, DF_ITEM_UINT, 4, 0},      {UINT, DF_ITEM_UINT, 8, 0},
	{INT, DF_ITEM_INT, 1, 0},        {INT, DF_ITEM_INT, 2, 0},
	{INT, DF_ITEM_INT, 4, 0},        {INT, DF_ITEM_INT, 8, 0},
	{EXT_FIXED, DF_ITEM_EXT, 1, 0},  {EXT_FIXED, DF_ITEM_EXT, 2, 0},
	{EXT_FIXED, DF_ITEM_EXT, 4, 0},  {EXT_FIXED, DF_ITEM_EXT, 8, 0},
	{EXT_FIXED, DF_ITEM_EXT, 16, 0}, {BYTES, DF_ITEM_STR, 1, 0},
	{BYTES, DF_ITEM_STR, 2, 0},      {BYTES, DF_ITEM_STR, 4, 0},
	{COUNT, DF_ITEM_ARRAY, 2, 0},    {COUNT, DF_ITEM_ARRAY, 4, 0},
	{COUNT, DF_ITEM_MAP, 2, 0},      {COUNT, DF_ITEM_MAP, 4, 0},
};

static uint64_t big_endian(const uint8_t *p, unsigned width)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < width; i++)
		v = v << 8 | p[i];
	return v;
}

static struct df_item signed_item(uint64_t raw, unsigned width)
{
	DF_ASSERT(width >= 1 && width <= 8);
	unsigned unused = 64 - 8 * width;
	int64_t v = (int64_t)(raw << unused) >> unused; /* gcc and clang: an arithmetic shift */
	if (v >= 0)
		return (struct df_item){.type = DF_ITEM_UINT, .u64 = (uint64_t)v};
	return (struct df_item){.type = DF_ITEM_INT, .i64 = v};
}

/* n bytes at p, behind `before` bytes of something else (an extension's type). */
static enum df_err take_bytes(struct df_cursor *c, const uint8_t *p, uint64_t before, uint64_t n, uint8_t type,
			      struct df_item *ret_item)
{
	uint64_t left = (uint64_t)(c->end - p);
	if (before > left || n > left - before)
		return DF_ERR_PARSE;
	if (n > DF_STRING_BYTES_MAX)
		return DF_ERR_LIMIT;
	*ret_item = (struct df_item){.type = type, .str = {(const char *)p + before, (size_t)n}};
	c->p = p + before + n;
	return DF_OK;
}

static enum df_err take_count(struct df_cursor *c, const uint8_t *p, uint64_t count, uint8_t type,
			      struct df_item *ret_item)
{
	uint64_t left = (uint64_t)(c->end - p);
	if (count * (type == DF_ITEM_MAP ? 2 : 1) > left)
		return DF_ERR_PARSE;
	*ret_item = (struct df_item){.type = type, .u64 = count};
	c->p = p;
	return DF_OK;
}

/* First bytes 0xc0 to 0xdf. */
static enum df_err take_long(struct df_cursor *c, struct df_item *ret_item)
{
	struct lead lead = leads[*c->p - 0xc0];
	const uint8_t *p = c->p + 1;
	if (lead.shape == EXT_FIXED)
		return take_bytes(c, p, 1, lead.width, lead.type, ret_item);
	if (lead.shape == NEVER || lead.width > c->end - p)
		return DF_ERR_PARSE;
	uint64_t number = big_endian(p, lead.width);
	p += lead.width;
	switch ((enum shape)lead.shape) {
	case BYTES:
		return take_bytes(c, p, 0, number, lead.type, ret_item);
	case EXT_SIZED:
		return take_bytes(c, p, 1, number, lead.type, ret_item);
	case COUNT:
		return take_count(c, p, number, lead.type, ret_item);
	case INT:
		*ret_item = signed_item(number, lead.width);
		break;
	case FIXED:
		*ret_item = (struct df_item){.type = lead.type, .u64 = lead.value};
		break;
	default:
		*ret_item = (struct df_item){.type = lead.type, .u64 = number};
	}
	c->p = p;
	return DF_OK;
}

enum df_err df_cursor_next(struct df_cursor *c, struct df_item *ret_item)
{
	if (c->p >= c->end)
		return DF_ERR_PARSE;
	uint8_t first = *c->p;
	if (first >= 0xc0 && first < 0xe0)
		return take_long(c, ret_item);
	if (first >= 0xa0 && first < 0xc0)
		return take_bytes(c, c->p + 1, 0, first & 0x1f, DF_ITEM_STR, ret_item);
	if (first >= 0x90 && first < 0xa0)
		return take_count(c, c->p + 1, first & 0x0f, DF_ITEM_ARRAY, ret_item);
	if (first >= 0x80 && first < 0x90)
		return take_count(c, c->p + 1, first & 0x0f, DF_ITEM_MAP, ret_item);
	*ret_item = first < 0x80 ? (struct df_item){.type = DF_ITEM_UINT, .u64 = first} : signed_item(first, 1);
	c->p++;
	return DF_OK;
}

/* --- the walk --- */

struct walk {
	struct df_cursor c;
	uint64_t open[DF_UNPACK_DEPTH]; /* elements still to come of each container around the cursor */
	unsigned depth;
	uint64_t items; /* seen or promised by a count */
};

static enum df_err enter(struct walk *w, const struct df_item *item, struct df_fail *fail)
{
	uint64_t n = item->type == DF_ITEM_MAP ? item->u64 * 2 : item->u64;
	if (w->depth == DF_UNPACK_DEPTH)
		return df_fail(fail, DF_ERR_LIMIT, "header is nested deeper than %d levels", DF_UNPACK_DEPTH);
	w->items += n;
	if (w->items > DF_UNPACK_ITEMS)
		return df_fail(fail, DF_ERR_LIMIT, "header has more than %d elements", DF_UNPACK_ITEMS);
	w->open[w->depth++] = n;
	return DF_OK;
}

/* One item; containers that it completed are left. */
static enum df_err step(struct walk *w, const uint8_t *begin, struct df_fail *fail)
{
	struct df_item item = {0};
	enum df_err err = df_cursor_next(&w->c, &item);
	if (err != DF_OK)
		return df_fail(fail, err, "header is %s at byte %td",
			       err == DF_ERR_LIMIT ? "carrying a string that is too long"
						   : "cut off or not MessagePack",
			       w->c.p - begin);
	if (w->depth)
		w->open[w->depth - 1]--;
	if (item.type == DF_ITEM_ARRAY || item.type == DF_ITEM_MAP)
		DF_TRY(enter(w, &item, fail));
	while (w->depth && w->open[w->depth - 1] == 0)
		w->depth--;
	return DF_OK;
}

enum df_err df_unpack_check(struct df_str frame, struct df_fail *fail)
{
	struct walk w = {.c = df_cursor_of(frame), .items = 1};
	const uint8_t *begin = w.c.p;
	if (frame.n > DF_HEADER_BYTES_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "header of %zu bytes is larger than %u", frame.n,
			       DF_HEADER_BYTES_MAX);
	do
		DF_TRY(step(&w, begin, fail));
	while (w.depth);
	if (w.c.p != w.c.end)
		return df_fail(fail, DF_ERR_PARSE, "header has %td bytes behind its end", w.c.end - w.c.p);
	return DF_OK;
}
