// SPDX-License-Identifier: Apache-2.0
/* help_world: the data set of a simulated run. */
#include "tests/sim/help_content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t world_roll(struct world *w, uint64_t n)
{
	return w->rnd.next(w->rnd.self) % n;
}

bool world_once_in(struct world *w, uint64_t n)
{
	return world_roll(w, n) == 0;
}

static enum fate some_fate(struct world *w, bool killers)
{
	if (killers && world_once_in(w, 60)) {
		uint64_t kind = world_roll(w, 3);
		return kind == 1 && w->doc_timeout_ns ? FATE_HANGER
		       : kind == 2 && w->mem_limit    ? FATE_HOG
						      : FATE_KILLER;
	}
	uint64_t r = world_roll(w, 10);
	return r == 0 ? FATE_FILTERED : r == 1 ? FATE_REJECTED : FATE_OUT;
}

static void some_records(struct world *w, struct world_source *s, size_t n, bool killers)
{
	uint64_t at = 0, scale = w->cell_bytes / 64;
	s->record = calloc(n ? n : 1, sizeof(*s->record));
	s->n_record = n;
	for (size_t i = 0; i < n; i++) {
		/* most are shorter than a cell, some span several */
		uint64_t length = 1 + world_roll(w, world_once_in(w, 8) ? 300 * scale : 40 * scale);
		s->record[i] = (struct world_record){at, length, some_fate(w, killers), 0};
		at += length;
	}
	s->size_bytes = at;
}

static void some_source(struct world *w, struct world_source *s, bool killers, bool errors)
{
	uint64_t r = world_roll(w, 10);
	s->kind = w->sequential || r < 3 ? DF_SOURCE_READER : r < 5 ? DF_SOURCE_TEXT : DF_SOURCE_JSONL;
	size_t n = s->kind == DF_SOURCE_TEXT ? 1 : world_once_in(w, 6) ? 0 : world_roll(w, 150);
	some_records(w, s, n, killers);
	if (!errors || !world_once_in(w, 3))
		return;
	if (s->kind != DF_SOURCE_READER) {
		s->ending = END_BROKEN;
		return;
	}
	s->ending = world_once_in(w, 2) ? END_TRUNCATED : END_DEADLY;
	s->at = world_roll(w, 20);
}

static void describe(struct world *w)
{
	w->dataset.source = calloc(w->n_source, sizeof(*w->dataset.source));
	w->dataset.n_source = w->n_source;
	for (uint32_t i = 0; i < w->n_source; i++) {
		struct world_source *s = &w->source[i];
		(void)snprintf(s->name, sizeof(s->name), "source-%u", i);
		w->dataset.source[i] = (struct df_source){
			.path = s->name, .name = s->name, .id = {1, i, s->size_bytes, 0}, .kind = (uint8_t)s->kind};
	}
}

void world_init(struct world *w, uint64_t seed, bool content)
{
	static const uint64_t sizes[] = {64, 64, 64U << 10, 4U << 20}, real[] = {64, 2048, 8192, 64U << 10};
	*w = (struct world){.rnd_state = seed * 2 + 1, .limit = UINT64_MAX, .content = content};
	w->rnd = df_rand_seeded(&w->rnd_state);
	w->cell_bytes = content ? real[world_roll(w, 4)] : sizes[world_roll(w, 4)];
	w->ordered = world_once_in(w, 2);
	w->sequential = world_once_in(w, 6);
	bool killers = world_once_in(w, 2), errors = !w->sequential && world_once_in(w, 3);
	w->doc_timeout_ns = world_once_in(w, 3) ? 0 : DF_SEC + world_roll(w, 5000) * DF_MS;
	w->mem_limit = world_once_in(w, 2) ? 0 : (uint64_t)1 << 30;
	w->remote_percent = world_once_in(w, 2) ? 0 : world_roll(w, 101);
	w->slow_once_in = world_once_in(w, 3) ? 1 + world_roll(w, 4) : 0;
	w->n_source = 1 + (uint32_t)world_roll(w, 6);
	w->source = calloc(w->n_source, sizeof(*w->source));
	uint64_t n = 0;
	for (uint32_t i = 0; i < w->n_source; i++) {
		some_source(w, &w->source[i], killers, errors);
		n += w->source[i].n_record;
	}
	if (w->sequential) {
		w->skip = world_roll(w, n + 10) / 2;
		w->limit = world_once_in(w, 3) ? UINT64_MAX : world_roll(w, n + 10);
	}
	describe(w);
	if (content)
		content_make(w);
}

void world_release(struct world *w)
{
	content_release(w);
	for (uint32_t i = 0; i < w->n_source; i++)
		free(w->source[i].record);
	free(w->source);
	free(w->dataset.source);
}

void world_window(const struct world *w, uint32_t s, uint64_t skip, uint64_t limit, size_t *ret_first, size_t *ret_end)
{
	size_t n = w->source[s].n_record;
	size_t first = skip < n ? (size_t)skip : n;
	*ret_first = first;
	*ret_end = limit < n - first ? first + (size_t)limit : n;
}

void world_share(const struct world *w, uint32_t s, uint64_t *ret_skip, uint64_t *ret_limit)
{
	uint64_t skip = w->skip, limit = w->limit;
	for (uint32_t i = 0; i < s; i++) {
		size_t first = 0, end = 0;
		world_window(w, i, skip, limit, &first, &end);
		skip -= first;
		limit -= limit == UINT64_MAX ? 0 : end - first;
	}
	*ret_skip = skip;
	*ret_limit = limit;
}

bool world_reader_cell(const struct world *w, uint32_t s, uint64_t skip, uint64_t limit, uint64_t cell,
		       size_t *ret_first, size_t *ret_end)
{
	size_t at = 0, end = 0;
	const struct world_source *src = &w->source[s];
	world_window(w, s, skip, limit, &at, &end);
	for (uint64_t i = 0; at < end; i++) {
		uint64_t bytes = 0;
		size_t first = at;
		while (at < end && bytes < w->cell_bytes)
			bytes += src->record[at++].length;
		if (i == cell) {
			*ret_first = first;
			*ret_end = at;
			return true;
		}
	}
	return false;
}

static size_t first_at(const struct world_source *s, uint64_t offset)
{
	size_t i = 0;
	while (i < s->n_record && s->record[i].offset < offset)
		i++;
	return i;
}

void world_cell(const struct world *w, uint32_t s, uint64_t cell, size_t *ret_first, size_t *ret_end)
{
	const struct world_source *src = &w->source[s];
	uint64_t skip = 0, limit = 0;
	*ret_first = *ret_end = 0;
	if (src->kind == DF_SOURCE_TEXT) {
		*ret_end = src->n_record;
	} else if (src->kind == DF_SOURCE_JSONL) {
		*ret_first = first_at(src, cell * w->cell_bytes);
		*ret_end = first_at(src, (cell + 1) * w->cell_bytes);
	} else {
		world_share(w, s, &skip, &limit);
		(void)world_reader_cell(w, s, skip, limit, cell, ret_first, ret_end);
	}
}

struct world_record *world_record_at(const struct world *w, struct df_record_id id)
{
	if (id.source >= w->n_source)
		return NULL;
	const struct world_source *src = &w->source[id.source];
	size_t i = first_at(src, id.offset);
	return i < src->n_record && src->record[i].offset == id.offset ? &src->record[i] : NULL;
}

uint64_t world_n_cell(const struct world *w, uint32_t s)
{
	const struct world_source *src = &w->source[s];
	uint64_t skip = 0, limit = 0, n = 0;
	size_t first = 0, end = 0;
	if (src->kind == DF_SOURCE_TEXT)
		return 1;
	if (src->kind == DF_SOURCE_JSONL)
		return (src->size_bytes + w->cell_bytes - 1) / w->cell_bytes;
	world_share(w, s, &skip, &limit);
	while (world_reader_cell(w, s, skip, limit, n, &first, &end))
		n++;
	return n;
}
