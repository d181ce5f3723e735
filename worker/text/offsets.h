// SPDX-License-Identifier: Apache-2.0
/*
 * offsets: where each byte of an edited text came from.
 *
 * A map is the sorted list of edits; what lies between two edits was carried over byte by byte. Immutable once made,
 * so that rows share it and a part of a text is a slice without a copy. Memory belongs to the arena that was given.
 * NULL as a map is the identity. Positions are bytes; texts are below 4 GiB.
 */
#ifndef DF_WORKER_TEXT_OFFSETS_H
#define DF_WORKER_TEXT_OFFSETS_H

#include "base/arena.h"

/* source[source_from, source_to) became edited[edited_from, edited_to); either may be empty. */
struct df_offsets_edit {
	uint32_t source_from, source_to;
	uint32_t edited_from, edited_to;
};

struct df_offsets {
	const struct df_offsets_edit *edit;
	size_t n;
	uint32_t base; /* position 0 of this text is position `base` of the edited text that the edits speak of */
	uint32_t lead; /* before the first edit: source minus edited */
};

/* The source byte where the edited byte `at` begins: inside a replaced piece, the piece's begin. */
size_t df_offsets_start(const struct df_offsets *map, size_t at);
/* The source byte behind the edited bytes before `at`: inside a replaced piece, the piece's end. */
size_t df_offsets_end(const struct df_offsets *map, size_t at);
/* The source range that covers edited [from, to); empty (at the start) when from == to. */
void df_offsets_range(const struct df_offsets *map, size_t from, size_t to, size_t *ret_from, size_t *ret_to);

/* The map of edited text from byte `from` on. DF_ERR_NOMEM. */
enum df_err df_offsets_slice(struct df_arena *arena, const struct df_offsets *map, size_t from,
			     struct df_offsets **ret_map) DF_MUST_CHECK;

/* text2 -> text1 behind text1 -> text0: text2 -> text0. NULL when both are NULL; covering ranges stay covering. */
enum df_err df_offsets_compose(struct df_arena *arena, const struct df_offsets *outer, const struct df_offsets *inner,
			       struct df_offsets **ret_map) DF_MUST_CHECK;

/* Editors append their edits in order. Edits that touch stay apart, so that each keeps its own place; only deletions in a
 * row become one. */
struct df_offsets_builder {
	struct df_arena *arena;
	struct df_offsets_edit *edit;
	size_t n, cap;
	enum df_err err; /* sticks, as in buf */
};
void df_offsets_begin(struct df_offsets_builder *b, struct df_arena *arena);
void df_offsets_add(struct df_offsets_builder *b, size_t source_from, size_t source_to, size_t edited_from,
		    size_t edited_to);
/* NULL map when there was no edit. DF_ERR_NOMEM. */
enum df_err df_offsets_finish(struct df_offsets_builder *b, struct df_offsets **ret_map) DF_MUST_CHECK;

#endif
