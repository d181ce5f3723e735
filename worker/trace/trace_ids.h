// SPDX-License-Identifier: Apache-2.0
/* trace_ids: a set of span ids, none of them 0, each with a value if any has one; at most half full, open addressing. Zeroed, it is empty. */
#ifndef DF_WORKER_TRACE_TRACE_IDS_H
#define DF_WORKER_TRACE_TRACE_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_trace_ids {
	uint64_t *id;    /* 0: free */
	uint64_t *value; /* NULL: all are 0 */
	size_t n, cap;   /* cap: a power of two */
};

/* What is there keeps its value; *ret_news (may be NULL): it was not there. DF_ERR_NOMEM. */
enum df_err df_trace_ids_add(struct df_trace_ids *s, uint64_t id, uint64_t value, bool *ret_news) DF_MUST_CHECK;
bool df_trace_ids_has(const struct df_trace_ids *s, uint64_t id);
void df_trace_ids_drop(struct df_trace_ids *s, uint64_t id);
void df_trace_ids_release(struct df_trace_ids *s);

#endif
