// SPDX-License-Identifier: Apache-2.0
/* count: how long the text is. */
#include "worker/stages/rows.h"
#include "worker/stages/stages.h"
#include "worker/text/measure.h"

static enum df_err count_row(struct df_batch *b, struct df_row *row)
{
	struct df_measure m = df_text_measure(row->text);
	DF_TRY(df_row_add_u64(b, row, "chars", m.chars));
	DF_TRY(df_row_add_u64(b, row, "bytes", m.bytes));
	DF_TRY(df_row_add_u64(b, row, "words", m.words));
	return df_row_add_u64(b, row, "lines", m.lines);
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	DF_EACH_LIVE_ROW(row, batch)
	if (count_row(batch, row) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory", s->call_name);
	return DF_OK;
}

const struct df_stage_class df_stage_count = {
	.name = "count",
	.summary = "add the numbers of characters, bytes, words and lines",
	.help = "Adds to each row: chars, code points as in Python's len(text); bytes, of the text as UTF-8; words, "
		"runs without white "
		"space as in len(text.split()); lines, as in len(text.splitlines()), so that a last line counts with "
		"or "
		"without its line feed.",
	.process = process,
};
