// SPDX-License-Identifier: Apache-2.0
/*
 * yaml: a YAML 1.2 document (and so JSON) as a tree that is walked once; the home of libfyaml.
 *
 * A walk:
 *
 *   struct df_yaml y;
 *   DF_TRY(df_yaml_open(&y, &source, arena, fail));
 *   err = y.root ? reader(&y, y.root) : DF_OK;
 *   df_yaml_close(&y);
 *
 * Nodes belong to the document; texts are copied to the arena and outlive it. A node may be an alias: what a function here gets, it follows itself;
 * df_yaml_visit does it for the reader, who asks for the kind of nothing else. NULL is a node, too: a key without a value has it.
 *
 * Bounds: bytes of text and nodes visited are the source's; aliases are counted each time, so that a bomb of them is an error, and lead through at most 16
 * others; the depth is libfyaml's, 64. Values are text: whoever wants a number asks base/str.h or an option's row (base/conf.h), which also say what is
 * wrong with it.
 *
 * Errors are DF_ERR_USAGE with "path:line:column: " before the message, and DF_ERR_NOMEM.
 */
#ifndef DF_BASE_YAML_YAML_H
#define DF_BASE_YAML_YAML_H

#include "base/arena.h"

struct df_yaml_node; /* never defined: libfyaml's */

struct df_yaml_source {
	struct df_str text;
	const char *path; /* for messages; outlives the walk */
	size_t bytes_max;
	size_t nodes_max;
};

struct df_yaml {
	struct df_yaml_source source;
	struct df_arena *arena;
	struct df_fail *fail;
	struct df_yaml_node *root; /* NULL: the file says nothing, by blanks and comments alone */
	void *doc;
	size_t n_visit;
};

enum df_yaml_kind {
	DF_YAML_NULL, /* nothing, ~ or null; a quoted one is text */
	DF_YAML_TEXT,
	DF_YAML_LIST,
	DF_YAML_MAP,
};

/* Nothing is open after an error. */
enum df_err df_yaml_open(struct df_yaml *y, const struct df_yaml_source *source, struct df_arena *arena,
			 struct df_fail *fail) DF_MUST_CHECK;
void df_yaml_close(struct df_yaml *y);

/* `node` with aliases followed, one more that was visited. */
enum df_err df_yaml_visit(struct df_yaml *y, struct df_yaml_node *node, struct df_yaml_node **ret_node) DF_MUST_CHECK;
/* Of a visited node. */
enum df_yaml_kind df_yaml_kind(struct df_yaml_node *visited);

/* A copy of what a scalar says, valid UTF-8 without NUL and with a `p` that is never NULL, a null included ("" or "null"); `what` names it in the error. */
enum df_err df_yaml_text(struct df_yaml *y, struct df_yaml_node *node, const char *what,
			 struct df_str *ret_text) DF_MUST_CHECK;

/* The next item of a visited list, and the next pair of a visited map; *at begins as NULL. NULL and false at the end. */
struct df_yaml_node *df_yaml_next(struct df_yaml_node *list, void **at);
bool df_yaml_next_pair(struct df_yaml_node *map, void **at, struct df_yaml_node **ret_key,
		       struct df_yaml_node **ret_value);
/* Items of a visited list; of anything else 0. */
size_t df_yaml_n_item(struct df_yaml_node *list);

/* What is wrong at a node (the first text at or below it): DF_ERR_USAGE. */
enum df_err df_yaml_bad(struct df_yaml *y, struct df_yaml_node *node, const char *fmt, ...) DF_PRINTF(3, 4);
/* "path:line:column" of a node, for an error that is found later. DF_ERR_NOMEM. */
enum df_err df_yaml_place(struct df_yaml *y, struct df_yaml_node *node, struct df_str *ret_place) DF_MUST_CHECK;
enum df_err df_yaml_no_memory(const struct df_yaml *y);

#endif
