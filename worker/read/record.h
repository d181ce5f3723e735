// SPDX-License-Identifier: Apache-2.0
/*
 * record: one JSON record becomes the members of a document.
 *
 * The whole record is validated (RFC 8259, UTF-8 of every byte, no lone surrogate escape anywhere, nesting of at
 * most DF_JSON_DEPTH, at most DF_JSON_FIELDS members), so that what travels along untouched is never broken JSON.
 * simdjson finds the structure (its stage 1, which also checks UTF-8 and control characters); the grammar over that
 * structure is checked here, without building a tree: numbers keep their text whatever their size.
 *
 * Strings without escapes point into the record; others are unescaped into the arena.
 */
#ifndef DF_WORKER_READ_RECORD_H
#define DF_WORKER_READ_RECORD_H

#include "base/limits.h"
#include "worker/doc.h"

#ifdef __cplusplus
extern "C" {
#endif

struct df_record_parser; /* scratch memory; one per thread; grows to the largest record seen */

struct df_record_keys {
	struct df_str id, text; /* unescaped names of the members that hold them; outlive the parser */
	bool text_optional;     /* a record without a text is one with an empty text; text_field is SIZE_MAX then */
};

/* max_record: bytes, at most DF_RECORD_BYTES_MAX. DF_ERR_NOMEM. */
enum df_err df_record_parser_create(struct df_record_keys keys, size_t max_record,
				    struct df_record_parser **ret_parser) DF_MUST_CHECK;
void df_record_parser_destroy(struct df_record_parser **parser);
/* Nothing is parsed for a while: its scratch memory is for others of this process. Documents stay valid. */
void df_record_parser_rest(struct df_record_parser *parser);

/*
 * Parse `raw`, which has DF_RECORD_PADDING readable bytes behind it, and outlives the document.
 * On DF_OK these members of *doc are set: raw, field, n_field, text_field, id_field, id, id_raw, text; others are
 * untouched. The last of equal keys counts. An id may be a string or a number (taken as its text). Without an id (or
 * with null) id.p and id_raw.p are NULL: the caller makes one; id_field then is SIZE_MAX, or the place of the null.
 *
 * DF_ERR_PARSE, DF_ERR_UTF8, DF_ERR_LIMIT (too deep, too many members, longer than max_record): *doc has raw alone.
 * DF_ERR_TYPE (not an object; no text; text or id of a wrong type): raw, and what was found, so that a reject can
 * name its id. DF_ERR_NOMEM: the arena is full. Messages fit behind "input rejected: ".
 */
enum df_err df_record_parse(struct df_record_parser *parser, struct df_str raw, struct df_arena *arena,
			    struct df_doc *doc, struct df_fail *fail) DF_MUST_CHECK;

/* A file of plain text as a document: validates UTF-8; sets raw, text and no members at all. DF_ERR_UTF8 with the
 * place. */
enum df_err df_record_from_text(struct df_str bytes, struct df_doc *doc, struct df_fail *fail) DF_MUST_CHECK;

/* Valid UTF-8? (vectorised; reads nothing behind s.n) */
bool df_record_utf8(struct df_str s);

#ifdef __cplusplus
}
#endif

#endif
