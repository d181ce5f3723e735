// SPDX-License-Identifier: Apache-2.0
/* schema_run: one check on its way: what the walk (schema_walk.h), the values (schema_value.c) and the words (schema_words.c) share. */
#ifndef DF_WORKER_CHECK_SCHEMA_RUN_H
#define DF_WORKER_CHECK_SCHEMA_RUN_H

#include "worker/check/schema_node.h"

struct df_check_place {                  /* of the value, from the inside out */
	const struct df_check_place *up; /* NULL: the whole */
	struct df_str key;               /* p NULL: item `no` of an array */
	size_t no;
	unsigned depth;
};

struct df_check_scope { /* resources on the way here, from the inside out */
	const struct df_check_scope *outer;
	const struct df_schema_resource *resource;
};

struct df_check_run {
	struct df_arena *arena;
	struct df_buf *why; /* NULL: nobody asks */
	uint64_t work;      /* left */
	unsigned depth;     /* schemas within schemas */
	bool loud;          /* errors are told, and the walk goes on behind one */
	unsigned n_told;
	unsigned deepest; /* place of a failure, for the choice among alternatives */
	enum df_err err;  /* DF_ERR_LIMIT, DF_ERR_NOMEM: the walk is over */
};

/* False when the work is used up. */
bool df_check_pay(struct df_check_run *r, uint64_t steps);

/* --- values --- */
bool df_check_equal(struct df_check_run *r, const struct df_json *a, const struct df_json *b);
/* The numbers of two equal items, or false. */
bool df_check_twins(struct df_check_run *r, const struct df_json *array, size_t *ret_first, size_t *ret_second);
uint64_t df_check_characters(struct df_str s); /* code points */

/* --- words --- */
/* One line: "/items/0/price: " and the words. Counts even when nobody asks (deepest). Always false, so that a rule may return it. */
bool df_check_say(struct df_check_run *r, const struct df_check_place *at, const char *fmt, ...) DF_PRINTF(3, 4);
/* A value in short: 'abc', 12, {"a": ... */
#define DF_CHECK_SHORT 80
const char *df_check_short(const struct df_json *v, char out[DF_CHECK_SHORT]);
const char *df_check_short_key(struct df_str s, char out[DF_CHECK_SHORT]);
/* "string, null" */
const char *df_check_types(uint32_t bits, char out[DF_CHECK_SHORT]);

#endif
