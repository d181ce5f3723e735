// SPDX-License-Identifier: Apache-2.0
/*
 * offsets: a sorted list of edits, looked up by binary search.
 *
 * DESIGN: composing walks the edits of both maps along the text between them ("mid"). Edits that overlap there form a
 * cluster, which becomes one edit; at a cluster's borders both maps are plain shifts, so its ends are exact.
 */
#include "worker/text/offsets.h"

void df_offsets_begin(struct df_offsets_builder *b, struct df_arena *arena)
{
	*b = (struct df_offsets_builder){.arena = arena};
}

static bool grow(struct df_offsets_builder *b)
{
	size_t cap = b->cap ? b->cap * 2 : 16;
	struct df_offsets_edit *edit = df_arena_array(b->arena, cap, sizeof(*edit));
	if (!edit) {
		b->err = DF_ERR_NOMEM;
		return false;
	}
	if (b->n)
		memcpy(edit, b->edit, b->n * sizeof(*edit));
	b->edit = edit;
	b->cap = cap;
	return true;
}

void df_offsets_add(struct df_offsets_builder *b, size_t source_from, size_t source_to, size_t edited_from,
		    size_t edited_to)
{
	if (b->err != DF_OK || (source_from == source_to && edited_from == edited_to))
		return;
	if (source_to > UINT32_MAX || edited_to > UINT32_MAX) {
		b->err = DF_ERR_LIMIT;
		return;
	}
	struct df_offsets_edit *last = b->n ? &b->edit[b->n - 1] : NULL;
	if (last && last->source_to == source_from && last->edited_from == edited_to) { /* two deletions */
		last->source_to = (uint32_t)source_to;
		last->edited_to = (uint32_t)edited_to;
		return;
	}
	if (b->n == b->cap && !grow(b))
		return;
	b->edit[b->n++] = (struct df_offsets_edit){(uint32_t)source_from, (uint32_t)source_to, (uint32_t)edited_from,
						   (uint32_t)edited_to};
}

enum df_err df_offsets_finish(struct df_offsets_builder *b, struct df_offsets **ret_map)
{
	if (b->err != DF_OK)
		return b->err;
	struct df_offsets *map = NULL;
	if (b->n > 0) {
		map = df_arena_alloc(b->arena, sizeof(*map));
		if (!map)
			return DF_ERR_NOMEM;
		*map = (struct df_offsets){.edit = b->edit, .n = b->n};
	}
	*ret_map = map;
	return DF_OK;
}

/* Edits whose edited_from is below `at` (or at it, with `equal`): they are the first of the list. */
static size_t edits_before(const struct df_offsets *map, size_t at, bool equal)
{
	size_t lo = 0, hi = map->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (map->edit[mid].edited_from < at || (equal && map->edit[mid].edited_from == at))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

size_t df_offsets_start(const struct df_offsets *map, size_t at)
{
	if (!map)
		return at;
	at += map->base;
	size_t k = edits_before(map, at, true);
	if (k == 0)
		return at + map->lead;
	const struct df_offsets_edit *e = &map->edit[k - 1];
	return at < e->edited_to ? e->source_from : e->source_to + (at - e->edited_to);
}

size_t df_offsets_end(const struct df_offsets *map, size_t at)
{
	if (!map)
		return at;
	at += map->base;
	size_t k = edits_before(map, at, false);
	if (k == 0)
		return at + map->lead;
	const struct df_offsets_edit *e = &map->edit[k - 1];
	return at <= e->edited_to ? e->source_to : e->source_to + (at - e->edited_to);
}

void df_offsets_range(const struct df_offsets *map, size_t from, size_t to, size_t *ret_from, size_t *ret_to)
{
	size_t start = df_offsets_start(map, from), end = from == to ? start : df_offsets_end(map, to);
	*ret_from = start;
	*ret_to = end < start ? start : end;
}

enum df_err df_offsets_slice(struct df_arena *arena, const struct df_offsets *map, size_t from,
			     struct df_offsets **ret_map)
{
	struct df_offsets *slice = df_arena_alloc(arena, sizeof(*slice));
	if (!slice)
		return DF_ERR_NOMEM;
	*slice = map ? *map : (struct df_offsets){0};
	slice->base += (uint32_t)from;
	*ret_map = slice;
	return DF_OK;
}

/* The edits of one map as a stream along the text between the two maps. */
struct side {
	const struct df_offsets *map;
	size_t next;
	bool is_inner;
	int64_t shift; /* the other text minus mid, behind the last edit taken */
};

struct span {
	int64_t mid_from, mid_to;     /* in the text between */
	int64_t other_from, other_to; /* inner: source; outer: edited */
};

static bool peek(const struct side *s, struct span *ret_span)
{
	if (s->next == s->map->n)
		return false;
	const struct df_offsets_edit *e = &s->map->edit[s->next];
	int64_t base = s->map->base, lead = s->map->lead;
	if (s->is_inner)
		*ret_span = (struct span){e->edited_from - base, e->edited_to - base, e->source_from, e->source_to};
	else /* mid begins behind what the outer edit deleted at the front */
		*ret_span = (struct span){e->source_from - lead, e->source_to - lead, e->edited_from, e->edited_to};
	if (ret_span->mid_from < 0) /* a slice that begins inside an edit */
		ret_span->mid_from = 0;
	return true;
}

static void take(struct side *s, const struct span *span)
{
	s->shift = span->other_to - span->mid_to;
	s->next++;
}

/* Does `b` overlap the cluster [from, to) on the mid text, or touch it where one of them is empty? */
static bool joins(int64_t from, int64_t to, const struct span *b)
{
	return b->mid_from < to || (b->mid_from == to && (from == to || b->mid_from == b->mid_to));
}

/* One cluster: its first edit is side[first]'s next; then all that overlap it. */
static void add_cluster(struct df_offsets_builder *b, struct side *side, int first)
{
	struct span s = {0};
	(void)peek(&side[first], &s);
	int64_t from = s.mid_from, to = s.mid_to;
	int64_t edited_from = from + side[0].shift, source_from = from + side[1].shift;
	take(&side[first], &s);
	for (bool more = true; more;) {
		more = false;
		for (int k = 0; k < 2; k++)
			if (peek(&side[k], &s) && joins(from, to, &s)) {
				to = s.mid_to > to ? s.mid_to : to;
				take(&side[k], &s);
				more = true;
			}
	}
	df_offsets_add(b, (size_t)source_from, (size_t)(to + side[1].shift), (size_t)edited_from,
		       (size_t)(to + side[0].shift));
}

/* The inner map from its position 0 on: skips the edits before it. */
static struct side inner_side(const struct df_offsets *inner)
{
	struct side s = {.map = inner, .is_inner = true, .shift = (int64_t)df_offsets_start(inner, 0)};
	s.next = edits_before(inner, inner->base, true);
	if (s.next > 0 && inner->edit[s.next - 1].edited_to > inner->base) /* begins inside that edit */
		s.next--;
	return s;
}

enum df_err df_offsets_compose(struct df_arena *arena, const struct df_offsets *outer, const struct df_offsets *inner,
			       struct df_offsets **ret_map)
{
	if (!outer || !inner) {
		const struct df_offsets *only = outer ? outer : inner;
		return only ? df_offsets_slice(arena, only, 0, ret_map) : (*ret_map = NULL, DF_OK);
	}
	DF_ASSERT(outer->base == 0); /* an editor's map, never a slice */
	struct df_offsets rest = *inner;
	rest.base += outer->lead;
	struct side side[2] = {{.map = outer}, inner_side(&rest)};
	uint32_t lead = (uint32_t)side[1].shift;
	struct df_offsets_builder b;
	df_offsets_begin(&b, arena);
	struct span s[2];
	for (;;) {
		bool has_outer = peek(&side[0], &s[0]), has_inner = peek(&side[1], &s[1]);
		if (!has_outer && !has_inner)
			break;
		add_cluster(&b, side, !has_outer || (has_inner && s[1].mid_from < s[0].mid_from));
	}
	struct df_offsets *map = df_arena_alloc(arena, sizeof(*map));
	if (!map || b.err != DF_OK)
		return b.err != DF_OK ? b.err : DF_ERR_NOMEM;
	*map = (struct df_offsets){.edit = b.edit, .n = b.n, .lead = lead};
	*ret_map = map;
	return DF_OK;
}
