// SPDX-License-Identifier: Apache-2.0
/*
 * rows: what the stages of this folder share.
 */
#ifndef DF_WORKER_STAGES_ROWS_H
#define DF_WORKER_STAGES_ROWS_H

#include "worker/stage.h"
#include "worker/text/offsets.h"

/* Each row of `batch` that a stage should work on. */
#define DF_EACH_LIVE_ROW(row, batch)                                                                                   \
	for (size_t df_i_ = 0; df_i_ < (batch)->n_row; df_i_++)                                                        \
		for (struct df_row *row = (batch)->row[df_i_]; row && df_row_live(row); row = NULL)

/* The row's text becomes `text`; `map` leads back to the text it had (NULL: no byte has moved). DF_ERR_NOMEM. */
enum df_err df_row_retext(struct df_batch *b, struct df_row *row, struct df_str text,
			  struct df_offsets *map) DF_MUST_CHECK;

#endif
