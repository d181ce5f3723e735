// SPDX-License-Identifier: Apache-2.0
/* strip: white space at both ends of the text is removed. */
#include "worker/stages/rows.h"
#include "worker/stages/stages.h"
#include "worker/text/edit.h"

static enum df_err strip_row(struct df_batch *b, struct df_row *row)
{
	struct df_offsets_builder builder;
	struct df_offsets *map;
	struct df_str text = df_text_strip(row->text);
	if (text.n == row->text.n)
		return DF_OK;
	size_t from = (size_t)(text.p - row->text.p);
	df_offsets_begin(&builder, b->arena);
	df_offsets_add(&builder, 0, from, 0, 0);
	df_offsets_add(&builder, from + text.n, row->text.n, text.n, text.n);
	DF_TRY(df_offsets_finish(&builder, &map));
	return df_row_retext(b, row, text, map);
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	DF_EACH_LIVE_ROW(row, batch)
	if (strip_row(batch, row) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory", s->call_name);
	return DF_OK;
}

const struct df_stage_class df_stage_strip = {
	.name = "strip",
	.summary = "remove white space at both ends of the text",
	.help = "White space is what Python's str.strip() removes: the characters with the Unicode property "
		"White_Space, and "
		"U+001C to U+001F. A text of nothing else becomes empty and stays; 'clean' drops it.",
	.process = process,
};
