// SPDX-License-Identifier: Apache-2.0
/*
 * doc: rows, fates and counters of one batch (worker/doc.h). It lives with the stages, which need it most, so that their
 * library stands alone.
 *
 * DESIGN: added members are copied on write. A clone shares its origin's array and owns no place in it (cap_added 0);
 * an array that another row may see is never changed in place: a replaced member makes a new array.
 */
#include "worker/doc.h"

#include <stdarg.h>
#include <stdio.h>

#define COUNTER_NAMES_BYTES (64U << 10)
#define MESSAGE_BYTES 512U

/* A private copy of the added members with room for more. */
static enum df_err own_added(struct df_batch *b, struct df_row *row, size_t cap)
{
	struct df_field *added = df_arena_array(b->arena, cap, sizeof(*added));
	if (!added)
		return DF_ERR_NOMEM;
	if (row->n_added)
		memcpy(added, row->added, row->n_added * sizeof(*added));
	row->added = added;
	row->cap_added = cap;
	return DF_OK;
}

enum df_err df_row_add(struct df_batch *b, struct df_row *row, struct df_str key, struct df_str raw)
{
	for (size_t i = 0; i < row->n_added; i++) {
		if (!df_str_eq(row->added[i].key, key))
			continue;
		DF_TRY(own_added(b, row, row->n_added + 4));
		row->added[i].raw = raw;
		return DF_OK;
	}
	if (row->n_added >= row->cap_added)
		DF_TRY(own_added(b, row, row->n_added * 2 + 6));
	row->added[row->n_added++] = (struct df_field){key, raw};
	return DF_OK;
}

enum df_err df_row_add_u64(struct df_batch *b, struct df_row *row, const char *key, uint64_t value)
{
	char digits[20];
	size_t n = 0;
	do {
		digits[sizeof(digits) - ++n] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	char *raw = df_arena_alloc(b->arena, n);
	if (!raw)
		return DF_ERR_NOMEM;
	memcpy(raw, digits + sizeof(digits) - n, n);
	return df_row_add(b, row, df_str_from(key), (struct df_str){raw, n});
}

struct df_row *df_row_clone(struct df_batch *b, const struct df_row *like)
{
	struct df_row *row = df_arena_alloc(b->arena, sizeof(*row));
	if (!row)
		return NULL;
	*row = *like;
	row->cap_added = 0;
	row->dropped = false;
	row->doc->n_row++;
	return row;
}

struct df_str df_row_get(const struct df_row *row, struct df_str key)
{
	for (size_t i = row->n_added; i-- > 0;)
		if (df_str_eq(row->added[i].key, key))
			return row->added[i].raw;
	for (size_t i = row->doc->n_field; i-- > 0;) /* the last of equal keys counts */
		if (df_str_eq(row->doc->field[i].key, key))
			return row->doc->field[i].raw;
	return (struct df_str){NULL, 0};
}

void df_row_drop(struct df_batch *b, struct df_row *row, const char *stage, const char *reason)
{
	char name[160];
	struct df_doc *doc = row->doc;
	if (row->dropped)
		return;
	row->dropped = true;
	bool last = --doc->n_row == 0 && doc->fate == DF_FATE_OUT;
	if (last) {
		doc->fate = DF_FATE_FILTERED;
		doc->stage = stage;
		doc->reason = reason;
	}
	(void)snprintf(name, sizeof(name), "%s:%s:%s", last ? "filtered" : "dropped", stage, reason);
	df_counters_add(b->counters, name, 1);
}

void df_doc_reject(struct df_batch *b, struct df_doc *doc, const char *stage, enum df_err err, const char *fmt, ...)
{
	if (doc->fate != DF_FATE_OUT) /* the first cause counts */
		return;
	char message[MESSAGE_BYTES];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	df_str_make_utf8(message); /* it becomes JSON, and a character may be cut */
	struct df_str kept = df_arena_copy(b->arena, df_str_from(message));
	doc->fate = DF_FATE_REJECTED;
	doc->stage = stage;
	doc->err = err;
	doc->message = kept.p ? kept.p : "rejected; no memory for the reason";
}

void df_counters_init(struct df_counters *c)
{
	df_map_init(&c->map, COUNTER_NAMES_BYTES);
}

void df_counters_release(struct df_counters *c)
{
	df_map_release(&c->map);
}

/* Names stay: a worker counts the same things for each lease. */
void df_counters_reset(struct df_counters *c)
{
	for (size_t i = 0; i < c->map.n_slot; i++)
		c->map.slots[i].value = 0;
	c->err = DF_OK;
}

void df_counters_add(struct df_counters *c, const char *name, uint64_t n)
{
	struct df_str key = df_str_from(name);
	uint64_t *value = df_map_get(&c->map, key);
	if (!value && df_map_put(&c->map, key, 0, &value) != DF_OK)
		c->err = DF_ERR_NOMEM;
	else
		*value += n;
}
