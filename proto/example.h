// SPDX-License-Identifier: Apache-2.0
/*
 * example: one rejected document of each kind, as a counter's name: "example:STAGE:CLASS\nID\nMESSAGE". It counts nothing: its name travels, is committed
 * and comes back with the counters that it explains ("rejected:STAGE:CLASS"), whole or not at all. A result has at most one of each kind, and a run
 * keeps the first of each, DF_REJECT_EXAMPLES_MAX in all.
 *
 * ID and MESSAGE are escaped (df_log_escape) and cut at DF_EXAMPLE_ID_BYTES and DF_EXAMPLE_MESSAGE_BYTES; keys are masked where messages are made.
 */
#ifndef DF_PROTO_EXAMPLE_H
#define DF_PROTO_EXAMPLE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/str.h"

#define DF_EXAMPLE_PREFIX "example:"

struct df_example {
	struct df_str kind, id, message; /* slices of the name */
};

/* Appends the name. kind: "STAGE:CLASS". DF_ERR_NOMEM, DF_ERR_LIMIT: by df_buf_err. */
void df_example_add_name(struct df_buf *out, struct df_str kind, struct df_str id, const char *message);
/* false: the name is of another counter. */
bool df_example_split(struct df_str name, struct df_example *ret_example);

/* " (clean:min_chars 12, input:sample 3)": the counters below a prefix ("rejected:"), in the order of their names; nothing where there are none. */
void df_example_add_kinds(struct df_buf *b, const struct df_map *totals, const char *prefix);
/* One line (log) for each kind that has an example, in the order of their names. */
void df_examples_tell(const struct df_map *totals);

#endif
