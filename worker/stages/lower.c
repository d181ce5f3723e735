// SPDX-License-Identifier: Apache-2.0
/* lower: the text in lower case. */
#include "worker/stages/rows.h"
#include "worker/stages/stages.h"
#include "worker/text/edit.h"

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	DF_EACH_LIVE_ROW(row, batch)
	{
		struct df_str text;
		struct df_offsets *map;
		enum df_err err = df_text_lower(batch->arena, row->text, &text, &map);
		if (err == DF_OK)
			err = df_row_retext(batch, row, text, map);
		if (err != DF_OK)
			return df_fail(fail, err, "stage '%s': no memory for a text of %zu bytes", s->call_name,
				       row->text.n);
	}
	return DF_OK;
}

const struct df_stage_class df_stage_lower = {
	.name = "lower",
	.summary = "put the text into lower case",
	.help = "Full Unicode lower case without regard to a language, the same as Python's str.lower(): a capital "
		"sigma at "
		"a word's end becomes the final form, and U+0130 becomes i with a dot above. Models that ignore case "
		"do this "
		"themselves.",
	.process = process,
};
