// SPDX-License-Identifier: Apache-2.0
/* schema_node: the compiled form of a schema, which schema_compile makes and schema_check walks. Not for other folders. */
#ifndef DF_WORKER_CHECK_SCHEMA_NODE_H
#define DF_WORKER_CHECK_SCHEMA_NODE_H

#include "base/json.h"
#include "base/limits.h"
#include "worker/check/decimal.h"
#include "worker/check/schema.h"
#include "worker/check/schema_pattern.h"

#define DF_TYPE_INTEGER (1U << 6) /* beside 1 << enum df_json_type */

struct df_node;

struct df_node_list {
	struct df_node **item;
	size_t n;
};

struct df_node_member {
	struct df_str key;
	struct df_node *node;         /* properties, dependentSchemas */
	struct df_pattern *pattern;   /* patternProperties */
	const struct df_json *needed; /* dependentRequired: an array of strings */
};

struct df_node_members {
	struct df_node_member *item;
	size_t n;
};

/* A resource: what an $id (or the document itself) names. */
struct df_schema_anchor {
	struct df_str name;
	struct df_node *node;
	bool dynamic;
	struct df_schema_anchor *next;
};

struct df_schema_resource {
	struct df_str uri;   /* absolute, without a fragment */
	struct df_str alias; /* where it was found, when it calls itself otherwise; p may be NULL */
	const struct df_json *root;
	struct df_node *node;
	struct df_schema_anchor *anchor;
	struct df_schema_resource *next;
};

struct df_node_range { /* whole numbers; UINT64_MAX: no upper end */
	uint64_t min, max;
};

struct df_node {
	bool is_bool, allows; /* true and false as schemas */
	uint8_t colour;       /* of the search for loops */
	struct df_schema_resource *resource;
	struct df_str base; /* for references in it */
	/* --- any value --- */
	uint32_t types; /* bits; 0: any */
	const struct df_json *enum_, *const_;
	/* --- numbers --- */
	const struct df_json *minimum, *maximum, *above, *below, *multiple;
	/* --- strings --- */
	struct df_node_range length;
	struct df_pattern *pattern;
	struct df_str pattern_text;
	/* --- arrays --- */
	struct df_node_range items_n, contains_n;
	bool unique;
	struct df_node_list prefix;
	struct df_node *items, *contains, *unevaluated_items;
	/* --- objects --- */
	struct df_node_range members_n;
	struct df_node_members properties; /* sorted by key */
	struct df_node_members patterns;
	struct df_node *additional, *names, *unevaluated;
	const struct df_json *required;
	struct df_node_members needs, dependents; /* dependentRequired, dependentSchemas */
	/* --- schemas on the same value --- */
	struct df_node_list all, any, one;
	struct df_node *not_, *if_, *then_, *else_;
	struct df_node *ref, *dynamic;
	struct df_str dynamic_name; /* of the $dynamicAnchor that `dynamic` stands at; n 0: as an ordinary $ref */
};

struct df_schema {
	struct df_arena arena;
	struct df_node *root;
	struct df_schema_resource *resource;
	struct df_pattern **pattern; /* to be freed */
	size_t n_pattern, cap_pattern;
	bool tracks; /* there are unevaluated...: what was evaluated is noted */
};

#endif
