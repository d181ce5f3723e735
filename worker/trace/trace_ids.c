// SPDX-License-Identifier: Apache-2.0
/* trace_ids: linear probing; what is dropped closes its gap, so that there are no tombstones. */
#include "worker/trace/trace_ids.h"

#include <stdlib.h>

#define FIRST_CAP 1024

static size_t home(const struct df_trace_ids *s, uint64_t id)
{
	return (id * UINT64_C(0x9e3779b97f4a7c15)) >> 20 & (s->cap - 1);
}

/* Where it is, or the free place where it belongs. */
static size_t place(const struct df_trace_ids *s, uint64_t id)
{
	size_t i = home(s, id);
	while (s->id[i] && s->id[i] != id)
		i = (i + 1) & (s->cap - 1);
	return i;
}

static enum df_err grow(struct df_trace_ids *s)
{
	struct df_trace_ids more = {.n = s->n, .cap = s->cap ? 2 * s->cap : FIRST_CAP};
	more.id = calloc(more.cap, sizeof(*more.id));
	more.value = s->value && more.id ? calloc(more.cap, sizeof(*more.value)) : NULL;
	if (!more.id || (s->value && !more.value)) {
		free(more.id);
		return DF_ERR_NOMEM;
	}
	for (size_t i = 0; i < s->cap; i++) {
		if (!s->id[i])
			continue;
		size_t to = place(&more, s->id[i]);
		more.id[to] = s->id[i];
		if (s->value)
			more.value[to] = s->value[i];
	}
	free(s->id);
	free(s->value);
	s->id = more.id;
	s->value = more.value;
	s->cap = more.cap;
	return DF_OK;
}

enum df_err df_trace_ids_add(struct df_trace_ids *s, uint64_t id, uint64_t value, bool *ret_news)
{
	if (2 * (s->n + 1) > s->cap)
		DF_TRY(grow(s));
	if (value && !s->value && !(s->value = calloc(s->cap, sizeof(*s->value))))
		return DF_ERR_NOMEM;
	size_t i = place(s, id);
	bool news = s->id[i] == 0;
	if (news) {
		s->id[i] = id;
		if (s->value)
			s->value[i] = value;
		s->n++;
	}
	if (ret_news)
		*ret_news = news;
	return DF_OK;
}

bool df_trace_ids_has(const struct df_trace_ids *s, uint64_t id)
{
	return s->cap && s->id[place(s, id)];
}

void df_trace_ids_drop(struct df_trace_ids *s, uint64_t id)
{
	if (!df_trace_ids_has(s, id))
		return;
	size_t gap = place(s, id);
	s->n--;
	for (size_t i = (gap + 1) & (s->cap - 1); s->id[i]; i = (i + 1) & (s->cap - 1)) {
		size_t from = home(s, s->id[i]);
		if (((i - from) & (s->cap - 1)) < ((i - gap) & (s->cap - 1)))
			continue; /* it is not farther from home than the gap is */
		s->id[gap] = s->id[i];
		if (s->value)
			s->value[gap] = s->value[i];
		gap = i;
	}
	s->id[gap] = 0;
}

void df_trace_ids_release(struct df_trace_ids *s)
{
	free(s->id);
	free(s->value);
	*s = (struct df_trace_ids){.n = 0};
}
