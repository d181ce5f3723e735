// SPDX-License-Identifier: Apache-2.0
/* tokenise: the model's token ids of each text. */
#include <stdlib.h>

#include "worker/model/modeldir.h"
#include "worker/stages/rows.h"
#include "worker/stages/stages.h"
#include "worker/stages/vocabulary.h"

struct tokenise_options {
	struct df_str model;
	int64_t max_tokens;
	bool special;
};

#define AT(member) offsetof(struct tokenise_options, member)
static const struct df_opt option_rows[] = {
	{.name = "model",
	 .type = DF_OPT_STRING,
	 .offset = AT(model),
	 .initial = DF_MODEL_DEFAULT,
	 .value_name = "NAME",
	 .help = "The model whose vocabulary is used"},
	{.name = "max_tokens",
	 .type = DF_OPT_INT,
	 .offset = AT(max_tokens),
	 .initial = "0",
	 .min = 0,
	 .max = 1073741824,
	 .help = "Keep at most this many tokens, special ones counted; 0: all"},
	{.name = "special",
	 .type = DF_OPT_BOOL,
	 .offset = AT(special),
	 .initial = "true",
	 .help = "Put [CLS] before the tokens and [SEP] behind them"},
	{.name = NULL},
};

static enum df_err check(const void *options, struct df_fail *fail)
{
	const struct tokenise_options *o = options;
	if (o->special && o->max_tokens > 0 && o->max_tokens < (int64_t)DF_WORDPIECE_SPECIALS)
		return df_fail(fail, DF_ERR_USAGE, "max_tokens=%lld leaves no room for [CLS] and [SEP]",
			       (long long)o->max_tokens);
	return DF_OK;
}

struct tokenise {
	struct df_vocabulary vocabulary;
	bool counts; /* no embed stage behind this one counts the same tokens again */
};

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	const struct tokenise_options *o = s->options;
	struct tokenise *t = calloc(1, sizeof(*t));
	if (!t)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory", s->call_name);
	s->state = t;
	t->counts = !df_embed_follows(env);
	return df_vocabulary_open(env, o->model, &t->vocabulary, fail);
}

static void close_(struct df_stage *s)
{
	struct tokenise *t = s->state;
	if (t)
		df_vocabulary_close(&t->vocabulary);
	free(t);
	s->state = NULL;
}

static char *put_id(char *p, uint32_t id)
{
	char digits[10];
	size_t n = 0;
	do {
		digits[n++] = (char)('0' + id % 10);
		id /= 10;
	} while (id);
	while (n > 0)
		*p++ = digits[--n];
	*p++ = ',';
	return p;
}

/* "[101,7592,102]" in the arena; p is NULL when memory is out. */
static struct df_str make_array(struct df_arena *arena, const struct df_vocabulary *v, size_t n, bool special)
{
	struct df_wordpiece_ids ids = df_wordpiece_special(v->tok);
	size_t digits = 1;
	for (size_t size = df_wordpiece_size(v->tok); size >= 10; size /= 10)
		digits++;
	char *array = df_arena_alloc(arena, (n + DF_WORDPIECE_SPECIALS) * (digits + 1) + 2), *p = array;
	if (!array)
		return (struct df_str){NULL, 0};
	*p++ = '[';
	if (special)
		p = put_id(p, ids.cls);
	for (size_t i = 0; i < n; i++)
		p = put_id(p, v->tokens.token[i].id);
	if (special)
		p = put_id(p, ids.sep);
	if (p[-1] == ',')
		p--;
	*p++ = ']';
	return (struct df_str){array, (size_t)(p - array)};
}

static enum df_err tokenise_row(const struct tokenise_options *o, struct tokenise *t, struct df_batch *b,
				struct df_row *row)
{
	struct df_vocabulary *v = &t->vocabulary;
	size_t next, extra = o->special ? DF_WORDPIECE_SPECIALS : 0;
	size_t room = o->max_tokens > 0 ? (size_t)o->max_tokens - extra : SIZE_MAX - 1;
	v->tokens.n = 0;
	DF_TRY(df_wordpiece_encode(v->scratch, row->text, 0, room + 1, &v->tokens, &next));
	size_t n = v->tokens.n < room ? v->tokens.n : room;
	if (n < v->tokens.n)
		df_counters_add(b->counters, "truncated", 1);
	struct df_str array = make_array(b->arena, v, n, o->special);
	if (!array.p)
		return DF_ERR_NOMEM;
	if (t->counts)
		df_counters_add(b->counters, "tokens", n + extra);
	DF_TRY(df_row_add(b, row, DF_STR("tokens"), array));
	return df_row_add_u64(b, row, "token_count", n + extra);
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	DF_EACH_LIVE_ROW(row, batch)
	if (tokenise_row(s->options, s->state, batch, row) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory for the tokens of %zu bytes", s->call_name,
			       row->text.n);
	return DF_OK;
}

const struct df_stage_class df_stage_tokenise = {
	.name = "tokenise",
	.summary = "add the model's token ids",
	.help = "Adds tokens, an array of ids, and token_count, its length. The ids are those of Hugging Face's "
		"tokenizers for "
		"BERT models (WordPiece): lower case without accents for uncased models, as the model's "
		"tokenizer_config.json says. Texts cut by max_tokens are counted as truncated.",
	.options = option_rows,
	.options_size = sizeof(struct tokenise_options),
	.flags = DF_STAGE_MODEL,
	.check = check,
	.open = open_,
	.process = process,
	.close = close_,
};
