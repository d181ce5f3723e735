// SPDX-License-Identifier: Apache-2.0
/* chunk: a row becomes several, each with the place of its text in the row's. */
#include <stdlib.h>

#include "base/limits.h"
#include "worker/stages/cut.h"
#include "worker/stages/rows.h"
#include "worker/stages/stages.h"
#include "worker/stages/vocabulary.h"
#include "worker/text/utf8.h"

#define TOKENS_MIN 8

struct chunk_options {
	int64_t tokens, chars, overlap, max_chunks;
};

#define AT(member) offsetof(struct chunk_options, member)
static const struct df_opt option_rows[] = {
	{.name = "tokens",
	 .type = DF_OPT_INT,
	 .offset = AT(tokens),
	 .min = TOKENS_MIN,
	 .max = 1048576,
	 .help = "Largest chunk in tokens of the embedder, its special tokens counted; 256 unless chars is given"},
	{.name = "chars",
	 .type = DF_OPT_INT,
	 .offset = AT(chars),
	 .min = 1,
	 .max = 1073741824,
	 .help = "Largest chunk in code points, instead of tokens"},
	{.name = "overlap",
	 .type = DF_OPT_INT,
	 .offset = AT(overlap),
	 .initial = "0",
	 .min = 0,
	 .max = 1073741824,
	 .help = "A chunk repeats up to this much of the one before it, in the same unit"},
	{.name = "max_chunks",
	 .type = DF_OPT_INT,
	 .offset = AT(max_chunks),
	 .initial = "100000",
	 .min = 1,
	 .max = DF_ROWS_PER_DOC_MAX,
	 .help = "A document of more chunks is rejected"},
	{.name = NULL},
};

struct chunker {
	struct df_vocabulary vocabulary; /* unused for chars */
	struct df_tokens part;
	size_t size, overlap; /* as df_cutter wants them */
	size_t special;       /* tokens that the model adds to each chunk */
};

/* The rows of a batch after this stage. */
struct output {
	struct df_row **row;
	size_t n, cap;
	const struct df_doc *doc; /* of the last row: numbers go on while it stays the same */
	uint32_t chunk_no;
};

/* A place in a text that only moves forward: bytes, and code points before it. */
struct place {
	size_t byte, cp;
};

static enum df_err check(const void *options, struct df_fail *fail)
{
	const struct chunk_options *o = options;
	int64_t room = o->chars > 0 ? o->chars : (o->tokens > 0 ? o->tokens : DF_DEFAULT_MODEL_TOKENS) - 2;
	if (o->tokens > 0 && o->chars > 0)
		return df_fail(fail, DF_ERR_USAGE, "tokens=%lld and chars=%lld: give one of them", (long long)o->tokens,
			       (long long)o->chars);
	if (o->overlap >= room)
		return df_fail(fail, DF_ERR_USAGE, "overlap=%lld must be less than %lld, the room of a chunk%s",
			       (long long)o->overlap, (long long)room, o->chars > 0 ? "" : " without [CLS] and [SEP]");
	return DF_OK;
}

/* What embed keeps of a text: chunks must not be longer. 0: there is no embedder. */
static uint64_t embed_limit(const struct df_stage_env *env)
{
	uint64_t limit = DF_DEFAULT_MODEL_TOKENS;
	struct df_str value = df_embed_option(env, "max_tokens");
	if (!df_embed_follows(env))
		return 0;
	if (value.p && df_str_to_u64(value, &limit) != DF_OK)
		limit = DF_DEFAULT_MODEL_TOKENS; /* embed itself complains */
	return limit;
}

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	const struct chunk_options *o = s->options;
	struct chunker *c = calloc(1, sizeof(*c));
	if (!c)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory", s->call_name);
	s->state = c;
	c->overlap = (size_t)o->overlap;
	c->size = (size_t)o->chars;
	if (o->chars > 0)
		return DF_OK;
	uint64_t limit = embed_limit(env), tokens = o->tokens > 0 ? (uint64_t)o->tokens : DF_DEFAULT_MODEL_TOKENS;
	if (limit > 0 && o->tokens == 0 && limit >= TOKENS_MIN)
		tokens = limit;
	if (limit > 0 && tokens > limit)
		return df_fail(fail, DF_ERR_USAGE,
			       "stage '%s': tokens=%llu is more than embed reads of a text (max_tokens=%llu); chunks "
			       "would be cut",
			       s->call_name, (unsigned long long)tokens, (unsigned long long)limit);
	c->special = DF_WORDPIECE_SPECIALS;
	c->size = (size_t)tokens - c->special;
	if (c->overlap >= c->size)
		return df_fail(fail, DF_ERR_USAGE, "stage '%s': overlap=%zu must be less than %zu, the room of a chunk",
			       s->call_name, c->overlap, c->size);
	return df_vocabulary_open(env, df_embed_option(env, "model"), &c->vocabulary, fail);
}

static void close_(struct df_stage *s)
{
	struct chunker *c = s->state;
	if (c) {
		df_vocabulary_close(&c->vocabulary);
		df_tokens_release(&c->part);
	}
	free(c);
	s->state = NULL;
}

static bool append(struct df_batch *b, struct output *out, struct df_row *row)
{
	if (out->n == out->cap) {
		size_t cap = out->cap * 2 + 64;
		struct df_row **rows = df_arena_array(b->arena, cap, sizeof(struct df_row *));
		if (!rows)
			return false;
		if (out->n)
			memcpy(rows, out->row, out->n * sizeof(struct df_row *));
		out->row = rows;
		out->cap = cap;
	}
	out->row[out->n++] = row;
	return true;
}

/* Moves `p` to byte `to` of `text`; answers the code points before it. */
static size_t reach(struct place *p, struct df_str text, size_t to)
{
	p->cp += df_utf8_count((struct df_str){text.p + p->byte, to - p->byte});
	p->byte = to;
	return p->cp;
}

static size_t count_cp(struct df_str text, size_t from, size_t to)
{
	return df_utf8_count((struct df_str){text.p + from, to - from});
}

/* `row` is a fresh copy of `like`, which is to be text[from, to) of it. */
static enum df_err fill_chunk(struct df_batch *b, const struct df_row *like, const struct df_piece *piece,
			      struct place *at, struct place *source_at, struct df_row *row)
{
	size_t start = reach(at, like->text, piece->from);
	row->text = (struct df_str){like->text.p + piece->from, piece->to - piece->from};
	row->is_chunk = true;
	DF_TRY(df_offsets_slice(b->arena, like->offsets, piece->from, &row->offsets));
	DF_TRY(df_row_add_u64(b, row, "start", start));
	DF_TRY(df_row_add_u64(b, row, "end", start + count_cp(like->text, piece->from, piece->to)));
	DF_TRY(df_row_add_u64(b, row, "start_byte", piece->from));
	DF_TRY(df_row_add_u64(b, row, "end_byte", piece->to));
	if (!like->offsets)
		return DF_OK;
	size_t from, to;
	df_offsets_range(like->offsets, piece->from, piece->to, &from, &to);
	start = reach(source_at, row->doc->text, from);
	DF_TRY(df_row_add_u64(b, row, "source_start", start));
	return df_row_add_u64(b, row, "source_end", start + count_cp(row->doc->text, from, to));
}

static enum df_err add_chunk(struct df_batch *b, const struct df_row *like, const struct chunker *c,
			     const struct df_piece *piece, struct place at[2], struct output *out)
{
	struct df_row *row = df_row_clone(b, like);
	if (!row || !append(b, out, row))
		return DF_ERR_NOMEM;
	row->chunk_no = out->chunk_no++;
	DF_TRY(fill_chunk(b, like, piece, &at[0], &at[1], row));
	return c->special ? df_row_add_u64(b, row, "token_count", piece->n_token + c->special) : DF_OK;
}

static enum df_err chunk_row(struct df_stage *s, struct df_batch *b, struct df_row *row, struct output *out)
{
	const struct chunk_options *o = s->options;
	struct chunker *c = s->state;
	struct df_cutter cutter = {.text = row->text,
				   .size = c->size,
				   .overlap = c->overlap,
				   .part = &c->part,
				   .scratch = c->vocabulary.scratch,
				   .tokens = &c->vocabulary.tokens};
	struct place at[2] = {{0}};
	struct df_piece piece;
	size_t before = out->n;
	enum df_err err;
	while ((err = df_cut_next(&cutter, &piece)) == DF_OK) {
		if (out->chunk_no == (uint32_t)o->max_chunks) {
			df_doc_reject(b, row->doc, s->call_name, DF_ERR_LIMIT, "more than %lld chunks (max_chunks)",
				      (long long)o->max_chunks);
			return DF_OK;
		}
		DF_TRY(add_chunk(b, row, c, &piece, at, out));
	}
	if (err != DF_ERR_END)
		return err;
	if (out->n == before) {
		df_row_drop(b, row, s->call_name, "empty");
		return DF_OK;
	}
	row->dropped = true; /* its chunks take its place: no row is lost, none is counted as dropped */
	row->doc->n_row--;
	df_counters_add(b->counters, "chunks", out->n - before);
	return DF_OK;
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	struct output out = {0};
	DF_EACH_LIVE_ROW(row, batch)
	{
		if (row->doc != out.doc)
			out.chunk_no = 0;
		out.doc = row->doc;
		if (chunk_row(s, batch, row, &out) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory for the chunks of %zu bytes",
				       s->call_name, row->text.n);
	}
	batch->row = out.row;
	batch->n_row = out.n;
	return DF_OK;
}

const struct df_stage_class df_stage_chunk = {
	.name = "chunk",
	.summary = "cut the text into chunks that fit the embedder",
	.help = "Each row becomes one row per chunk with its own text and id. Chunks are as long as they can be, begin "
		"and end with "
		"words, and are never longer than the limit: a word that is longer is cut between two of its tokens "
		"or, by "
		"chars, between two code points. Tokens are those of the 'embed' stage behind this one, or of "
		"all-MiniLM-L6-v2; [CLS] and [SEP] count, so that a full chunk is never truncated.\n"
		"Added members: start and end, code points of the text as this stage received it (Python's "
		"text[start:end] "
		"is the chunk); start_byte and end_byte, the same in bytes of UTF-8; token_count, with the special "
		"tokens; and, "
		"when an earlier stage has edited the text, source_start and source_end, code points of the text as "
		"received that cover the chunk.\n"
		"A text without any token is dropped with the reason empty.",
	.options = option_rows,
	.options_size = sizeof(struct chunk_options),
	.flags = DF_STAGE_MODEL,
	.check = check,
	.open = open_,
	.process = process,
	.close = close_,
};
