// SPDX-License-Identifier: Apache-2.0
/* sample: keeps a share of the documents, the same ones in each run. */
#include "base/hash.h"
#include "worker/stages/rows.h"
#include "worker/stages/stages.h"

struct sample_options {
	double rate;
	int64_t seed;
};

#define AT(member) offsetof(struct sample_options, member)
static const struct df_opt option_rows[] = {
	{.name = "rate",
	 .type = DF_OPT_FLOAT,
	 .offset = AT(rate),
	 .initial = "0.1",
	 .min = 0,
	 .max = 1,
	 .help = "The share of documents that is kept"},
	{.name = "seed",
	 .type = DF_OPT_INT,
	 .offset = AT(seed),
	 .initial = "0",
	 .min = 0,
	 .max = 9007199254740992,
	 .help = "Another seed keeps other documents"},
	{.name = NULL},
};

static bool kept(const struct sample_options *o, struct df_str id)
{
	/* 53 bits: a double holds them exactly */
	uint64_t hash = df_hash64_seed(id.p, id.n, (uint64_t)o->seed) >> 11;
	return (double)hash < o->rate * 9007199254740992.0;
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	(void)fail;
	DF_EACH_LIVE_ROW(row, batch)
	if (!kept(s->options, row->doc->id))
		df_row_drop(batch, row, s->call_name, "sample");
	return DF_OK;
}

const struct df_stage_class df_stage_sample = {
	.name = "sample",
	.summary = "keep a share of the documents, chosen by a hash of their id",
	.help = "A document is kept when the hash (XXH3, with the seed) of its id is below the rate: the same "
		"documents are kept in "
		"each run, whatever the number of workers, files and their order; documents of one id share their "
		"fate, as do "
		"all chunks of a document. A smaller rate keeps a subset of what a larger one keeps.",
	.options = option_rows,
	.options_size = sizeof(struct sample_options),
	.process = process,
};
