// SPDX-License-Identifier: Apache-2.0
/*
 * journal_settle: when the last record is read: ranges are joined, and of what came several times (a strike, a source's state) the newest
 * stands.
 */
#include <stdlib.h>

#include "coordinator/sink/journal.h"

struct arrival {
	uint32_t source;
	uint64_t offset; /* of a strike's record */
	size_t at;
};

static int by_arrival(const void *a, const void *b)
{
	const struct arrival *x = a, *y = b;
	if (x->source != y->source)
		return x->source < y->source ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static bool same_place(const struct arrival *a, const struct arrival *b)
{
	return a->source == b->source && a->offset == b->offset;
}

/* Sorted by place, the newest of each place alone: order[i].at says where it is. Answers how many are left. */
static size_t newest(struct arrival *order, size_t n)
{
	size_t kept = 0;
	qsort(order, n, sizeof(*order), by_arrival);
	for (size_t i = 0; i < n; i++) {
		if (kept && same_place(&order[kept - 1], &order[i]))
			kept--;
		order[kept++] = order[i];
	}
	return kept;
}

static enum df_err settle_sources(struct df_replay *r)
{
	struct arrival *order = calloc(r->n_source, sizeof(*order));
	struct df_source_state *sorted = calloc(r->n_source, sizeof(*sorted));
	if (!order || !sorted) {
		free(order);
		free(sorted);
		return DF_ERR_NOMEM;
	}
	for (size_t i = 0; i < r->n_source; i++)
		order[i] = (struct arrival){r->source[i].source, 0, i};
	size_t n = newest(order, r->n_source);
	for (size_t i = 0; i < n; i++)
		sorted[i] = r->source[order[i].at];
	free(order);
	free(r->source);
	r->source = sorted;
	r->cap_source = r->n_source;
	r->n_source = n;
	return DF_OK;
}

static enum df_err settle_strikes(struct df_replay *r)
{
	struct arrival *order = calloc(r->n_strike, sizeof(*order));
	struct df_strike *sorted = calloc(r->n_strike, sizeof(*sorted));
	if (!order || !sorted) {
		free(order);
		free(sorted);
		return DF_ERR_NOMEM;
	}
	for (size_t i = 0; i < r->n_strike; i++)
		order[i] = (struct arrival){r->strike[i].record.source, r->strike[i].record.offset, i};
	size_t n = newest(order, r->n_strike);
	for (size_t i = 0; i < n; i++)
		sorted[i] = r->strike[order[i].at];
	free(order);
	free(r->strike);
	r->strike = sorted;
	r->cap_strike = r->n_strike;
	r->n_strike = n;
	return DF_OK;
}

static enum df_err fail_twice(const struct df_replay *r, struct df_fail *fail)
{
	for (size_t i = 1; i < r->n_cells; i++) {
		const struct df_cells *last = &r->cells[i - 1].cells, *c = &r->cells[i].cells;
		if (last->source == c->source && c->first - last->first < last->n)
			return df_fail(fail, DF_ERR_CORRUPT, "'%s' names a cell twice: cell %llu of input %u",
				       DF_JOURNAL_NAME, (unsigned long long)c->first, c->source);
	}
	return df_fail(fail, DF_ERR_CORRUPT, "'%s' names a cell twice", DF_JOURNAL_NAME);
}

enum df_err df_replay_settle(struct df_replay *r, struct df_fail *fail)
{
	bool overlap = false;
	if (r->n_cells)
		r->n_cells = df_commit_cells_merge(r->cells, r->n_cells, &overlap);
	if (overlap)
		return fail_twice(r, fail);
	if ((r->n_source && settle_sources(r) != DF_OK) || (r->n_strike && settle_strikes(r) != DF_OK))
		return df_fail(fail, DF_ERR_NOMEM, "no memory to replay the journal");
	return DF_OK;
}
