// SPDX-License-Identifier: Apache-2.0
/* rows: a new text for a row, with its way back to the text as received. */
#include "worker/stages/rows.h"

enum df_err df_row_retext(struct df_batch *b, struct df_row *row, struct df_str text, struct df_offsets *map)
{
	if (text.p == row->text.p && text.n == row->text.n)
		return DF_OK;
	DF_TRY(df_offsets_compose(b->arena, map, row->offsets, &row->offsets));
	row->text = text;
	row->edited = true;
	return DF_OK;
}
