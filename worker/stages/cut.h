// SPDX-License-Identifier: Apache-2.0
/*
 * cut: where a text is cut into chunks. Functions of the text alone: no rows, no stage.
 *
 * Chunks are given in order, never empty, never beginning or ending inside a code point; each goes on where the one before
 * it ended, or up to `overlap` before that, at a word's start.
 */
#ifndef DF_WORKER_STAGES_CUT_H
#define DF_WORKER_STAGES_CUT_H

#include "worker/token/wordpiece.h"

struct df_piece {
	size_t from, to; /* bytes of the text */
	size_t n_token;  /* by tokens: what the tokenizer makes of text[from, to) alone; else 0 */
};

struct df_cutter {
	/* set by the caller */
	struct df_str text;
	size_t size, overlap; /* tokens without [CLS] and [SEP] (size >= 6), or code points; overlap < size */
	struct df_wordpiece_scratch *scratch; /* NULL: by code points */
	struct df_tokens *tokens, *part;      /* working memory, by tokens */
	/* state; zeroed at first */
	size_t head;      /* first token of the next chunk in `tokens` */
	size_t next;      /* byte behind the last token known; by code points: where the next chunk may begin */
	size_t forced_to; /* inside a long word: its end; else 0 */
	size_t last_to;   /* end of the chunk before */
	bool started;
};

/* The next chunk; DF_ERR_END when there is no more, DF_ERR_NOMEM. */
enum df_err df_cut_next(struct df_cutter *c, struct df_piece *ret_piece) DF_MUST_CHECK;

#endif
