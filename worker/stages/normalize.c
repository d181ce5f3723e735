// SPDX-License-Identifier: Apache-2.0
/* normalize: NFC, white space and control characters. */
#include <stdlib.h>

#include "worker/stages/rows.h"
#include "worker/stages/stages.h"
#include "worker/text/edit.h"

struct normalize_options {
	bool nfc, whitespace, control;
};

#define AT(member) offsetof(struct normalize_options, member)
static const struct df_opt option_rows[] = {
	{.name = "nfc",
	 .type = DF_OPT_BOOL,
	 .offset = AT(nfc),
	 .initial = "true",
	 .help = "Compose letters and accents (Unicode normalization form C)"},
	{.name = "whitespace",
	 .type = DF_OPT_BOOL,
	 .offset = AT(whitespace),
	 .initial = "true",
	 .help = "Blanks to one space, line breaks to LF, at most one blank line, none at the ends"},
	{.name = "control",
	 .type = DF_OPT_BOOL,
	 .offset = AT(control),
	 .initial = "true",
	 .help = "Remove control characters and invisible ones"},
	{.name = NULL},
};

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	(void)env;
	const struct normalize_options *o = s->options;
	struct df_normalizer *n = malloc(sizeof(*n));
	if (!n)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory", s->call_name);
	df_normalizer_init(n, (struct df_normalize_options){o->nfc, o->whitespace, o->control});
	s->state = n;
	return DF_OK;
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	DF_EACH_LIVE_ROW(row, batch)
	{
		struct df_str text;
		struct df_offsets *map;
		enum df_err err = df_normalizer_run(s->state, batch->arena, row->text, &text, &map);
		if (err == DF_OK)
			err = df_row_retext(batch, row, text, map);
		if (err != DF_OK)
			return df_fail(fail, err, "stage '%s': cannot normalize a text of %zu bytes", s->call_name,
				       row->text.n);
	}
	return DF_OK;
}

static void close_(struct df_stage *s)
{
	if (!s->state)
		return;
	df_normalizer_release(s->state);
	free(s->state);
	s->state = NULL;
}

const struct df_stage_class df_stage_normalize = {
	.name = "normalize",
	.summary = "compose Unicode (NFC), tidy white space, remove control characters",
	.help = "control: removes control characters except white space, and the invisible characters U+180E, U+200B, "
		"U+2060 to "
		"U+2064 and U+FEFF (byte order mark). U+200C and U+200D stay: Persian, Indic scripts and emoji need "
		"them.\n"
		"whitespace: a run of white space becomes one space; with one line break in it, one line feed; with "
		"more, two: a "
		"blank line. CR, CRLF, form feeds and Unicode's line separators are line breaks. Both ends are "
		"stripped.\n"
		"nfc: comes last, so that a second run changes nothing. A stretch of more than 4,096 bytes of "
		"combining "
		"marks on one letter is left as it is.",
	.options = option_rows,
	.options_size = sizeof(struct normalize_options),
	.open = open_,
	.process = process,
	.close = close_,
};
