// SPDX-License-Identifier: Apache-2.0
/* known: ranges in order, joined as they touch. */
#include "coordinator/cells/known.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

void df_known_release(struct df_known *k)
{
	free(k->item);
	*k = (struct df_known){0};
}

static bool join(struct df_range *a, const struct df_range *b, uint64_t most)
{
	bool said = df_cell_info_said(&a->info);
	if (b->first - a->first != a->n || said != df_cell_info_said(&b->info) || (said && a->n + b->n > most))
		return false;
	a->n += b->n;
	df_cell_info_join(&a->info, &b->info);
	return true;
}

/* The first range behind `cell`. Cells mostly come in order, so the end is looked at first. */
static size_t place(const struct df_known *k, uint64_t cell)
{
	size_t low = 0, high = k->n;
	if (k->n && k->item[k->n - 1].first < cell)
		return k->n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (k->item[mid].first < cell)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Small at first: a hundred thousand inputs of a few cells each must stay small. */
static enum df_err room(struct df_known *k)
{
	if (k->n < k->cap)
		return DF_OK;
	size_t cap = k->cap ? 2 * k->cap : 1;
	struct df_range *item = reallocarray(k->item, cap, sizeof(*item));
	if (!item)
		return DF_ERR_NOMEM;
	k->item = item;
	k->cap = cap;
	return DF_OK;
}

enum df_err df_known_add(struct df_known *k, uint64_t first, uint64_t n, const struct df_cell_info *info)
{
	struct df_range one = {first, n, *info};
	size_t at = place(k, first);
	if (at && join(&k->item[at - 1], &one, DF_INFO_CELLS_MAX)) {
		if (at < k->n && join(&k->item[at - 1], &k->item[at], DF_INFO_CELLS_MAX)) {
			memmove(&k->item[at], &k->item[at + 1], (k->n - at - 1) * sizeof(one));
			k->n--;
		}
		return DF_OK;
	}
	if (at < k->n && join(&one, &k->item[at], DF_INFO_CELLS_MAX)) {
		k->item[at] = one;
		return DF_OK;
	}
	DF_TRY(room(k));
	memmove(&k->item[at + 1], &k->item[at], (k->n - at) * sizeof(one));
	k->item[at] = one;
	k->n++;
	return DF_OK;
}

static size_t join_all(struct df_range *range, size_t n, uint64_t most)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++)
		if (!kept || !join(&range[kept - 1], &range[i], most))
			range[kept++] = range[i];
	return kept;
}

size_t df_known_list(const struct df_known *k, size_t max, struct df_range *ret_range)
{
	size_t n = k->n;
	if (n)
		memcpy(ret_range, k->item, n * sizeof(*ret_range));
	for (uint64_t most = 2 * DF_INFO_CELLS_MAX; n > max && most < DF_MAX_CELLS; most *= 2)
		n = join_all(ret_range, n, most);
	return n < max ? n : max;
}
