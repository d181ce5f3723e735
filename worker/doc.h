// SPDX-License-Identifier: Apache-2.0
/*
 * doc: a document on its way through the stages of one worker, in the memory of one batch.
 *
 * A *document* is one input record; its fate is out, filtered or rejected, decided once. A *row* is one line of
 * output; a document begins with one row, `chunk` replaces a row by many. Stages work on rows. A document whose rows
 * are all dropped is filtered (with the reason of the last row dropped); one rejected row rejects its whole document.
 *
 * All memory belongs to the batch's arena. Text is valid UTF-8 always; a stage that edits text puts new bytes in the
 * arena and points the row at them: input bytes are never changed in place.
 */
#ifndef DF_WORKER_DOC_H
#define DF_WORKER_DOC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "base/str.h"

struct df_offsets; /* worker/text/offsets.h: where each byte of an edited text came from */

struct df_field {
	struct df_str key; /* unescaped */
	struct df_str raw; /* its value as JSON text, valid */
};

enum df_fate { DF_FATE_OUT, DF_FATE_FILTERED, DF_FATE_REJECTED };

struct df_doc {
	uint32_t source; /* index of the input */
	uint64_t offset; /* byte offset of the record in its (decompressed) source: with `source` its identity */
	struct df_str source_name; /* for people: relative path */
	struct df_str raw;         /* the record as received */
	struct df_field *field;    /* top-level members in input order */
	size_t n_field;
	size_t text_field,
		id_field;     /* index into field, or SIZE_MAX when absent (a text document has no fields at all) */
	struct df_str id;     /* unescaped; made from path and offset when the record has none */
	struct df_str id_raw; /* the same as JSON text */
	struct df_str text;   /* as received, unescaped */
	enum df_fate fate;
	const char *stage;   /* who filtered or rejected it: the stage's call name; NULL: the reader */
	const char *reason;  /* filtered: short word, e.g. "min_chars"; arena or static */
	enum df_err err;     /* rejected: the class */
	const char *message; /* rejected: one line for people */
	size_t n_row;        /* rows alive */
	uint32_t attempts;   /* rejected: how often it was tried, when that is not the lease's; 0: it is */
};

struct df_row {
	struct df_doc *doc;
	struct df_str text; /* current */
	bool edited;        /* text differs from the input bytes of the row */
	bool dropped;
	bool is_chunk;              /* made by chunk: gets its own id and doc_id */
	uint32_t chunk_no;          /* 0-based within its document */
	struct df_offsets *offsets; /* text -> doc->text; NULL: identity */
	struct df_field *added;     /* members that stages added, in order; a later one of the same key replaces */
	size_t n_added, cap_added;
	const float *vector; /* dim floats, from embed; NULL: none */
	uint32_t dim;
};

/* Named counters of one lease ("truncated", "tokens", "filtered:clean:min_chars", ...): added up over the run. A count that found no
 * memory would be a wrong account: `err` stays until the next reset, and the lease is not answered with these. */
struct df_counters {
	struct df_map map;
	enum df_err err;
};

struct df_batch {
	struct df_arena *arena; /* reset after the batch's results are serialised */
	struct df_doc **doc;
	size_t n_doc;
	struct df_row **row; /* in output order; may hold dropped rows: skip them */
	size_t n_row;
	struct df_counters *counters;
};

/* Append a member to a row, replacing an added one of the same key. `raw` must be valid JSON. DF_ERR_NOMEM. */
enum df_err df_row_add(struct df_batch *b, struct df_row *row, struct df_str key, struct df_str raw) DF_MUST_CHECK;
enum df_err df_row_add_u64(struct df_batch *b, struct df_row *row, const char *key, uint64_t value) DF_MUST_CHECK;

/* Drop one row; when it was the document's last, the document is filtered for `reason` at `stage` and counted. */
void df_row_drop(struct df_batch *b, struct df_row *row, const char *stage, const char *reason);

/* Reject the row's whole document. Later stages skip it. */
void df_doc_reject(struct df_batch *b, struct df_doc *doc, const char *stage, enum df_err err, const char *fmt, ...)
	DF_PRINTF(5, 6);

/* True when a stage should work on the row. */
static inline bool df_row_live(const struct df_row *row)
{
	return !row->dropped && row->doc->fate == DF_FATE_OUT;
}

/* A fresh row of the same document with the same added members (shared, copy on write), text and offsets of `like`. */
struct df_row *df_row_clone(struct df_batch *b, const struct df_row *like);

/* The raw JSON value of a member of the row: added members first, then the input's. NULL p when absent. */
struct df_str df_row_get(const struct df_row *row, struct df_str key);

void df_counters_init(struct df_counters *c);
void df_counters_release(struct df_counters *c);
void df_counters_reset(struct df_counters *c);
void df_counters_add(struct df_counters *c, const char *name, uint64_t n);

#endif
