// SPDX-License-Identifier: Apache-2.0
/*
 * edit: the editors of text. Each answers the new text and a map back to the old one (worker/text/offsets.h).
 *
 * Input is valid UTF-8 below 4 GiB, output too. A text that needs no change is answered as it is, without a copy; the map
 * is NULL when each byte stayed where it was. New bytes and maps are the arena's. Errors: DF_ERR_NOMEM.
 */
#ifndef DF_WORKER_TEXT_EDIT_H
#define DF_WORKER_TEXT_EDIT_H

#include "base/arena.h"
#include "worker/text/cptable.h"
#include "worker/text/offsets.h"

/* Without white space (Python's str.strip()) at both ends; a slice of `text`. */
struct df_str df_text_strip(struct df_str text);

/* Full lower case, root locale, as Python's str.lower(): U+0130 and the final sigma included. */
enum df_err df_text_lower(struct df_arena *arena, struct df_str text, struct df_str *ret_text,
			  struct df_offsets **ret_map) DF_MUST_CHECK;

struct df_normalize_options {
	bool nfc;        /* to Unicode normalization form C (UAX #15) */
	bool whitespace; /* blanks to one space, line breaks to \n, at most one blank line, none at the ends */
	bool control;    /* control characters but white space, and invisible ones that carry no meaning, are removed */
};

/* Tables for one thread. */
struct df_normalizer {
	struct df_normalize_options options;
	struct df_cptable facts;
};
void df_normalizer_init(struct df_normalizer *n, struct df_normalize_options options);
void df_normalizer_release(struct df_normalizer *n);
enum df_err df_normalizer_run(struct df_normalizer *n, struct df_arena *arena, struct df_str text,
			      struct df_str *ret_text, struct df_offsets **ret_map) DF_MUST_CHECK;

#endif
