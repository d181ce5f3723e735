// SPDX-License-Identifier: Apache-2.0
/*
 * schema: JSON Schema, draft 2020-12, compiled once and checked many times.
 *
 * Covered: type, enum, const, minimum/maximum/exclusive*, multipleOf, minLength/maxLength (code points), pattern (ECMA-262 as far as
 * PCRE2 agrees), min/maxItems, uniqueItems, contains and min/maxContains, prefixItems, items, properties, patternProperties, additionalProperties,
 * propertyNames, required, dependentRequired, dependentSchemas, min/maxProperties, allOf, anyOf, oneOf, not, if/then/else, $ref, $defs, $anchor,
 * $id within the document, $dynamicRef, unevaluatedItems/Properties, boolean schemas. `format` is an annotation. No reference leaves the document:
 * nothing is ever fetched. What is not covered is listed in docs.
 * Depth, size and work are bounded (DF_SCHEMA_*): a hostile schema or instance ends in an error, never in a hang.
 */
#ifndef DF_WORKER_CHECK_SCHEMA_H
#define DF_WORKER_CHECK_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct df_schema;

/* DF_ERR_PARSE (no JSON), DF_ERR_USAGE (no valid schema, or one that is not covered) with the place as a JSON pointer. */
enum df_err df_schema_compile(struct df_str text, struct df_schema **ret_schema, struct df_fail *fail) DF_MUST_CHECK;

/* The same with further documents at hand, which references may name by their URI (without a fragment). They are read when they are first named; neither
 * they nor `doc` need outlive the call. */
struct df_schema_doc {
	struct df_str uri, text;
};
enum df_err df_schema_compile_among(struct df_str text, const struct df_schema_doc *doc, size_t n_doc,
				    struct df_schema **ret_schema, struct df_fail *fail) DF_MUST_CHECK;
void df_schema_free(struct df_schema **schema);

/* DF_OK: valid. DF_ERR_TYPE: it is not, and `why` (may be NULL) gets one line per error, at most 8: "/items/0/price: 'abc' is not of type number".
 * DF_ERR_PARSE: no JSON text; DF_ERR_LIMIT, DF_ERR_NOMEM. Thread-safe on one schema with one arena each. */
enum df_err df_schema_check(const struct df_schema *schema, struct df_str json, struct df_arena *arena,
			    struct df_buf *why) DF_MUST_CHECK;

#endif
