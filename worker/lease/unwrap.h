// SPDX-License-Identifier: Apache-2.0
/*
 * unwrap: a reject of an earlier run becomes the document that it was, for --resume-failed (docs/decisions/004-rejects.md).
 *
 * The member "docflume" is cut out, and what it says of source and offset is the document's again, so that made ids and later rejects name the
 * first place; "raw_base64" becomes the bytes of the record; a reject that holds its place alone is rejected again as what it was. A
 * line without the member (somebody added it) is a document like any other.
 */
#ifndef DF_WORKER_LEASE_UNWRAP_H
#define DF_WORKER_LEASE_UNWRAP_H

#include "worker/read/record.h"

/*
 * `err` is what df_record_parse said of the reject's line, `doc` what it found. Answers what it would have said of the record itself, with
 * `doc` filled in accordingly; also DF_ERR_PARSE for base64 that is none. doc->attempts counts on. Memory from `arena`.
 */
enum df_err df_unwrap(struct df_record_parser *parser, struct df_arena *arena, enum df_err err, struct df_doc *doc,
		      struct df_fail *fail) DF_MUST_CHECK;

#endif
