// SPDX-License-Identifier: Apache-2.0
/*
 * schema_walk: one schema on one value: what the walk (schema_check.c), its leaves (schema_scalars.c) and its branches (schema_children.c) share.
 * A rule answers whether it holds; when it does not, and somebody asks why, it has said so.
 */
#ifndef DF_WORKER_CHECK_SCHEMA_WALK_H
#define DF_WORKER_CHECK_SCHEMA_WALK_H

#include "worker/check/schema_run.h"

#define DF_CHECK_LEAF                                                                                                  \
	__attribute__((noinline)) /* its words lie not in the frames of the walk, which is 320 deep on small stacks */

struct df_check_seen { /* children that some schema has looked at */
	unsigned char *is;
	size_t n;
};

struct df_check_visit { /* one schema on one value */
	const struct df_node *node;
	const struct df_json *v;
	const struct df_check_place *at;
	const struct df_check_scope *scope;
	struct df_check_seen *seen; /* NULL: nobody asks */
};

/* A child that is looked at. */
static inline void df_check_mark(const struct df_check_visit *t, size_t no)
{
	if (t->seen)
		t->seen->is[no] = 1;
}

static inline bool df_check_in_range(const struct df_node_range *range, uint64_t n)
{
	return n >= range->min && n <= range->max;
}

/* --- the walk --- */
bool df_check_node(struct df_check_run *r, const struct df_node *n, const struct df_json *v,
		   const struct df_check_place *at, const struct df_check_scope *scope, struct df_check_seen *seen);
/* The same without words, whatever comes of it. */
bool df_check_quietly(struct df_check_run *r, const struct df_check_visit *t, const struct df_node *n,
		      const struct df_json *v, struct df_check_seen *seen);

/* --- rules of the value itself --- */
bool df_check_type(struct df_check_run *r, const struct df_check_visit *t);
bool df_check_values(struct df_check_run *r, const struct df_check_visit *t); /* const, enum */
bool df_check_strings(struct df_check_run *r, const struct df_check_visit *t);
bool df_check_numbers(struct df_check_run *r, const struct df_check_visit *t);
bool df_check_matches(struct df_check_run *r, const struct df_pattern *p, struct df_str s);

/* --- rules of its children --- */
bool df_check_arrays(struct df_check_run *r, const struct df_check_visit *t);
bool df_check_objects(struct df_check_run *r, const struct df_check_visit *t);
bool df_check_has(struct df_check_run *r, const struct df_json *object, struct df_str key);

/* --- words of several rules; always false --- */
bool df_check_wrong_count(struct df_check_run *r, const struct df_check_visit *t, const struct df_node_range *range,
			  uint64_t n, const char *what);
bool df_check_not_allowed(struct df_check_run *r, const struct df_check_visit *t, struct df_str key);

#endif
