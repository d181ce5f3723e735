// SPDX-License-Identifier: Apache-2.0
/*
 * template: a prompt with places for a document's fields; compiled once, filled in for each row.
 *
 *   {{text}}           the row's text as it is now (of a chunk: the chunk's)
 *   {{id}}             the document's id, also when it was made from path and place
 *   {{metadata.x}}     a member of a field, and so on; {{tags.0}} an item of a list, counted from 0
 *   {{{{               the two characters "{{"; "}}" outside of a place is nothing special, nor is a single brace
 *
 * A field is one of the row's, those that stages added included. A field whose whole name is "metadata.x" comes before the member x of
 * "metadata". Blanks beside a name do not count. Strings are put in as they are, everything else as JSON. A field that is not there rejects the
 * document with an error that names it; nothing is ever left out silently, and what is put in is never looked at for places again.
 */
#ifndef DF_WORKER_STAGES_TEMPLATE_H
#define DF_WORKER_STAGES_TEMPLATE_H

#include "worker/doc.h"

struct df_template;

/* `text` need not outlive the call. DF_ERR_USAGE with line and column: a place that is not closed or has no name; DF_ERR_LIMIT: more than
 * DF_TEMPLATE_BYTES or DF_TEMPLATE_PLACES; DF_ERR_UTF8, DF_ERR_NOMEM. */
enum df_err df_template_compile(struct df_str text, struct df_arena *arena, struct df_template **ret_template,
				struct df_fail *fail) DF_MUST_CHECK;

/* DF_ERR_NOT_FOUND: a field is missing; DF_ERR_LIMIT: longer than DF_PROMPT_BYTES, or a field is too deep; DF_ERR_NOMEM. Memory: `arena`. */
enum df_err df_template_fill(const struct df_template *t, const struct df_row *row, struct df_arena *arena,
			     struct df_str *ret_text, struct df_fail *fail) DF_MUST_CHECK;

/* True when it has no places: the same for all rows. */
bool df_template_is_plain(const struct df_template *t);
/* The name in the first "{name}" with single braces, as other languages write places; here it is only text. p NULL: there is none. */
struct df_str df_template_single_braces(struct df_str text);

#endif
