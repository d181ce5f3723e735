// SPDX-License-Identifier: Apache-2.0
/*
 * json: requests' bodies as a tree of nodes. Strings are unescaped in place, so the bytes that are parsed are written to, and must
 * outlive the tree. Lenient about numbers; anything else that is no JSON is refused (api_server answers 400).
 */
#ifndef DF_TESTS_API_JSON_H
#define DF_TESTS_API_JSON_H

#include "tests/api/bytes.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_type type;
	uint32_t next, child; /* indexes into the tree; 0: none */
	uint32_t n;           /* children */
	struct span key;      /* in an object */
	struct span text;     /* of a string; of all others the JSON text itself (while no string in it had escapes) */
	double number;
};

struct json_tree {
	struct json *node; /* node[1] is the root; node[0] a null without children */
	uint32_t n, cap;
	const char *at, *end; /* while parsing */
	uint32_t depth;
};

/* false: no JSON, or more behind it. The byte behind the text must be readable. */
bool json_parse(struct json_tree *t, char *p, size_t n);
void json_free(struct json_tree *t);

/* A member's node, or the null node. */
const struct json *json_get(const struct json_tree *t, const struct json *object, const char *key);
static inline const struct json *json_child(const struct json_tree *t, const struct json *parent)
{
	return parent->child ? &t->node[parent->child] : NULL;
}
static inline const struct json *json_next(const struct json_tree *t, const struct json *node)
{
	return node->next ? &t->node[node->next] : NULL;
}

#endif
