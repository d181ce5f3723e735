// SPDX-License-Identifier: Apache-2.0
/* schema_compiler: what the two halves of compiling share: keywords (schema_compile.c) and names (schema_refs.c). */
#ifndef DF_WORKER_CHECK_SCHEMA_COMPILER_H
#define DF_WORKER_CHECK_SCHEMA_COMPILER_H

#include "worker/check/schema_node.h"

struct df_schema_pending { /* a reference that is looked up when all is read */
	struct df_node *from;
	struct df_str uri;   /* absolute */
	struct df_str place; /* of its keyword */
	bool dynamic;
	struct df_schema_pending *next;
};

struct df_schema_seat { /* what has been compiled, by its place in memory */
	const struct df_json *json;
	struct df_node *node;
};

struct df_schema_compiler {
	struct df_schema *schema;
	const struct df_schema_doc *doc;
	size_t n_doc;
	struct df_schema_seat *seat;
	size_t n_seat, cap_seat;
	struct df_schema_pending *pending, **tail;
	struct df_buf place; /* JSON pointer of what is being compiled */
	struct df_fail *fail;
};

/* Compiles a schema, or finds it compiled. base and resource: what holds where it stands. */
enum df_err df_schema_walk(struct df_schema_compiler *c, const struct df_json *json, struct df_str base,
			   struct df_schema_resource *resource, struct df_node **ret_node) DF_MUST_CHECK;
/* "no valid schema at '/properties/a': " and the rest. Always an error. */
enum df_err df_schema_bad(struct df_schema_compiler *c, const char *fmt, ...) DF_PRINTF(2, 3);
enum df_err df_schema_no_memory(struct df_schema_compiler *c);
#ifdef __clang_analyzer__ /* which sees one file at a time: these never answer DF_OK */
#define df_schema_bad(c, ...) ((void)df_schema_bad(c, __VA_ARGS__), DF_ERR_USAGE)
#define df_schema_no_memory(c) ((void)df_schema_no_memory(c), DF_ERR_NOMEM)
#endif

/* --- names --- */
struct df_node *df_schema_seat_of(const struct df_schema_compiler *c, const struct df_json *json); /* or NULL */
enum df_err df_schema_take_seat(struct df_schema_compiler *c, const struct df_json *json,
				struct df_node *node) DF_MUST_CHECK;
/* A new resource named `uri`. Two of one name are an error. */
enum df_err df_schema_add_resource(struct df_schema_compiler *c, struct df_str uri, const struct df_json *root,
				   struct df_schema_resource **ret_resource) DF_MUST_CHECK;
enum df_err df_schema_add_anchor(struct df_schema_compiler *c, struct df_node *node, struct df_str name,
				 bool dynamic) DF_MUST_CHECK;
enum df_err df_schema_add_reference(struct df_schema_compiler *c, struct df_node *from, struct df_str reference,
				    bool dynamic) DF_MUST_CHECK;
/* Looks all of them up, and what that brings in as well. */
enum df_err df_schema_link(struct df_schema_compiler *c) DF_MUST_CHECK;
/* Of what is linked: DF_ERR_USAGE when a schema leads back to itself on the same value. */
enum df_err df_schema_find_loops(struct df_schema_compiler *c) DF_MUST_CHECK;

#endif
