// SPDX-License-Identifier: Apache-2.0
/*
 * vectors: embeddings out of an answer's JSON. A batch of 2,048 x 1,536 numbers is 60 MB of text; as a tree of JSON values it would be half a gigabyte, so
 * lists that hold numbers alone are lifted out of the text first, and the tree is built from the rest.
 *
 * Rows are placed by index, each exactly once, all of one length; what is no finite number is refused. Lists and base64 (float32, little-endian) both do.
 */
#ifndef DF_WORKER_PROVIDER_WIRE_VECTORS_H
#define DF_WORKER_PROVIDER_WIRE_VECTORS_H

#include "worker/provider/wire/wire.h"

struct df_lifted {
	float *p;
	size_t n;
	bool finite; /* NaN, Infinity and null are taken as numbers that are not */
};

struct df_vectors {
	const struct df_ask *ask;
	struct df_arena *arena;
	struct df_answer *answer;
	const struct df_json *root;
	struct df_lifted *lifted;
	size_t n_lifted, n_placed;
	bool *placed;
};

/* As df_wire_root; false: the answer says what was wrong. */
bool df_vectors_open(struct df_vectors *v, const struct df_ask *ask, const struct df_http_response *response,
		     struct df_arena *arena, struct df_answer *answer);
/* value: a list of numbers or a base64 string. False: the answer says what was wrong with it. */
bool df_vectors_place(struct df_vectors *v, size_t index, const struct df_json *value);
/* All of a list, in its order, and close: for APIs whose rows have no index. key: where the numbers are in each item; NULL: the items are the vectors. */
void df_vectors_list(struct df_vectors *v, const struct df_json *list, const char *name, const char *key);
/* The answer has its vectors, or says that some are missing. */
void df_vectors_close(struct df_vectors *v);

#endif
