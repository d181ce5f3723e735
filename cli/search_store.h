// SPDX-License-Identifier: Apache-2.0
/*
 * search_store: the vectors and rows of a run directory, for looking up the rows nearest to a query.
 *
 * part-N.npy holds the vectors of the rows of part-N.jsonl (or .jsonl.zst), in the same order; ".open" behind a name is a
 * part that is still written to: it has the rows that were there when it was opened. Vectors are mapped, not read.
 *
 * Errors: DF_ERR_NOT_FOUND (no such folder, no vectors, says what to do), DF_ERR_CORRUPT, DF_ERR_IO, DF_ERR_NOMEM.
 */
#ifndef DF_CLI_SEARCH_STORE_H
#define DF_CLI_SEARCH_STORE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/npy.h"

#define DF_SEARCH_TOP_MAX 1000U
#define DF_SEARCH_PARTS_MAX 100000U
#define DF_SEARCH_LINE_BYTES_MAX (64U << 20) /* a longer row is shown without its text */

struct df_search_part {
	char *name; /* "part-00000", on the heap */
	bool open;  /* ".npy.open" */
	void *map;
	size_t map_bytes;
	struct df_npy npy;
};

struct df_search_store {
	char *dir;
	struct df_search_part *part; /* sorted by name */
	size_t n_part, cap_part;
	uint64_t rows; /* of all parts */
	uint32_t dim;
};

struct df_search_hit {
	float score;
	size_t part;
	uint64_t row; /* in the part */
	struct df_str
		line; /* the JSONL row; NULL p: not found (output was npy alone, or the part is still written to) */
};

/* Close in any case. */
enum df_err df_search_open(struct df_search_store *s, const char *dir, struct df_fail *fail) DF_MUST_CHECK;
void df_search_close(struct df_search_store *s); /* accepts a zeroed struct */

/*
 * The at most top_k (1 to DF_SEARCH_TOP_MAX) rows of the largest cosine with query[dim] (of length 1), best first, exact; of
 * equal scores the earlier row. `unit`: the stored vectors have length 1 already. ret_hit has top_k places.
 */
enum df_err df_search_nearest(const struct df_search_store *s, const float *query, bool unit, size_t top_k,
			      struct df_search_hit *ret_hit, size_t *ret_n, struct df_fail *fail) DF_MUST_CHECK;

/* Fill hit[].line, in `arena`: one pass over each part that has hits. */
enum df_err df_search_lines(const struct df_search_store *s, struct df_search_hit *hit, size_t n,
			    struct df_arena *arena, struct df_fail *fail) DF_MUST_CHECK;

#endif
