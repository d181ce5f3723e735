// SPDX-License-Identifier: Apache-2.0
/* vocab: a vocab.txt becomes two tries, one of pieces that begin words and one of pieces that go on. */
#include "worker/token/vocab.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/json.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

static const char *const special_name[DF_VOCAB_SPECIALS] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
enum { PAD, UNK, CLS, SEP, MASK };

/* White space at a line's end is no part of the piece. */
static struct df_str without_tail(struct df_str line)
{
	while (line.n > 0) {
		size_t begin;
		if (!df_uc_is_space(df_utf8_before(line, line.n, &begin)))
			break;
		line.n = begin;
	}
	return line;
}

static void note_special(struct df_wordpiece *v, struct df_str piece, uint32_t id)
{
	if (piece.n == 1 && (unsigned char)piece.p[0] < 0x80)
		v->ascii_id[(unsigned char)piece.p[0]] = id;
	for (size_t i = 0; i < DF_VOCAB_SPECIALS; i++)
		if (df_str_eq(piece, v->special[i].text))
			v->special[i].id = id;
}

/* Lines -> entries of the two tries; first[] from the front of `entry`, rest[] from its end backwards. */
static void read_lines(struct df_wordpiece *v, size_t n_bytes, struct df_trie_entry *entry, size_t n_line,
		       size_t *ret_first, size_t *ret_rest)
{
	size_t at = 0, n_first = 0, n_rest = 0;
	uint32_t id = 0;
	for (; at < n_bytes; id++) {
		const char *nl = memchr(v->bytes + at, '\n', n_bytes - at);
		size_t end = nl ? (size_t)(nl - v->bytes) : n_bytes;
		struct df_str piece = without_tail((struct df_str){v->bytes + at, end - at});
		at = end + 1;
		if (piece.n == 0)
			continue;
		note_special(v, piece, id);
		if (piece.n > 2 && df_str_starts(piece, "##")) {
			struct df_str tail = {piece.p + 2, piece.n - 2};
			entry[n_line - ++n_rest] = (struct df_trie_entry){tail, id};
		} else
			entry[n_first++] = (struct df_trie_entry){piece, id};
	}
	v->n_id = id;
	*ret_first = n_first;
	*ret_rest = n_rest;
}

static enum df_err build(struct df_wordpiece *v, size_t n_bytes, struct df_fail *fail)
{
	size_t n_line = 1, n_first, n_rest;
	for (size_t i = 0; i < n_bytes; i++)
		n_line += v->bytes[i] == '\n';
	struct df_trie_entry *entry = calloc(n_line, sizeof(*entry));
	if (!entry)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a vocabulary of %zu lines", n_line);
	read_lines(v, n_bytes, entry, n_line, &n_first, &n_rest);
	enum df_err err = df_trie_build(entry, n_first, &v->first);
	if (err == DF_OK)
		err = df_trie_build(entry + n_line - n_rest, n_rest, &v->rest);
	free(entry);
	return err == DF_OK ? DF_OK : df_fail(fail, err, "no memory for a vocabulary of %zu lines", n_line);
}

static enum df_err check(struct df_wordpiece *v, const char *name, struct df_fail *fail)
{
	static const int needed[] = {UNK, CLS, SEP};
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (v->special[needed[i]].id == UINT32_MAX)
			return df_fail(fail, DF_ERR_CORRUPT,
				       "vocabulary '%s' has no line '%s'; is it a BERT vocab.txt?", name,
				       special_name[needed[i]]);
	for (size_t i = 0; i < 128; i++)
		if (v->ascii_id[i] == UINT32_MAX)
			v->ascii_id[i] = v->special[UNK].id;
	return DF_OK;
}

/* Takes `bytes` (heap) over in any case. */
static enum df_err make(char *bytes, size_t n_bytes, const char *name, const struct df_wordpiece_options *options,
			struct df_wordpiece **ret_tok, struct df_fail *fail)
{
	size_t good = df_utf8_valid_prefix((struct df_str){bytes, n_bytes});
	struct df_wordpiece *v = calloc(1, sizeof(*v));
	if (!v || good != n_bytes) {
		free(bytes);
		free(v);
		return !v ? df_fail(fail, DF_ERR_NOMEM, "no memory for vocabulary '%s'", name)
			  : df_fail(fail, DF_ERR_UTF8, "vocabulary '%s' is not UTF-8 at byte %zu", name, good);
	}
	v->bytes = bytes;
	v->options = options ? *options : (struct df_wordpiece_options){true, true, true};
	for (size_t i = 0; i < DF_VOCAB_SPECIALS; i++)
		v->special[i] = (struct df_vocab_special){df_str_from(special_name[i]), UINT32_MAX};
	for (size_t i = 0; i < 128; i++)
		v->ascii_id[i] = UINT32_MAX;
	enum df_err err = build(v, n_bytes, fail);
	free(v->bytes); /* the tries have it all */
	v->bytes = NULL;
	if (err == DF_OK)
		err = check(v, name, fail);
	if (err != DF_OK)
		df_wordpiece_close(&v);
	else
		*ret_tok = v;
	return err;
}

enum df_err df_wordpiece_from_bytes(struct df_str vocab, const char *name, const struct df_wordpiece_options *options,
				    struct df_wordpiece **ret_tok, struct df_fail *fail)
{
	if (vocab.n > DF_WORDPIECE_BYTES_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "vocabulary '%s' is larger than 16 MB", name);
	char *bytes = df_str_dup(vocab);
	if (!bytes)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for vocabulary '%s'", name);
	return make(bytes, vocab.n, name, options, ret_tok, fail);
}

enum df_err df_wordpiece_open(const char *path, const struct df_wordpiece_options *options,
			      struct df_wordpiece **ret_tok, struct df_fail *fail)
{
	char *bytes;
	size_t n;
	DF_TRY(df_io_read_file(&df_io_real, AT_FDCWD, path, DF_WORDPIECE_BYTES_MAX, &bytes, &n, fail));
	return make(bytes, n, path, options, ret_tok, fail);
}

/* do_lower_case, strip_accents (null: as do_lower_case) and tokenize_chinese_chars, as transformers writes them. */
static enum df_err read_config(const char *path, struct df_wordpiece_options *options, struct df_fail *fail)
{
	char *bytes;
	size_t n;
	struct df_fail inner;
	enum df_err err = df_io_read_file(&df_io_real, AT_FDCWD, path, DF_WORDPIECE_BYTES_MAX, &bytes, &n, &inner);
	if (err == DF_ERR_NOT_FOUND)
		return DF_OK;
	if (err != DF_OK)
		return df_fail(fail, err, "%s", inner.msg);
	struct df_arena arena;
	struct df_json *root;
	df_arena_init(&arena, 4 * DF_WORDPIECE_BYTES_MAX, 0);
	err = df_json_parse((struct df_str){bytes, n}, &arena, &root, &inner);
	if (err == DF_OK) {
		const struct df_json *lower = df_json_get(root, "do_lower_case"), *cjk,
				     *accents = df_json_get(root, "strip_accents");
		cjk = df_json_get(root, "tokenize_chinese_chars");
		options->lower_case = lower && lower->type == DF_JSON_BOOL ? lower->boolean : options->lower_case;
		options->split_cjk = cjk && cjk->type == DF_JSON_BOOL ? cjk->boolean : options->split_cjk;
		options->strip_accents =
			accents && accents->type == DF_JSON_BOOL ? accents->boolean : options->lower_case;
	} else {
		err = df_fail(fail, err, "cannot read '%s': %s", path, inner.msg);
	}
	df_arena_release(&arena);
	free(bytes);
	return err;
}

static char *join(const char *dir, const char *name)
{
	size_t n = strlen(dir), m = strlen(name);
	char *path = malloc(n + m + 2);
	if (path) {
		memcpy(path, dir, n);
		path[n] = '/';
		memcpy(path + n + 1, name, m + 1);
	}
	return path;
}

enum df_err df_wordpiece_open_dir(const char *dir, struct df_wordpiece **ret_tok, struct df_fail *fail)
{
	struct df_wordpiece_options options = {true, true, true};
	char *vocab = join(dir, "vocab.txt"), *config = join(dir, "tokenizer_config.json");
	enum df_err err = DF_OK;
	if (!vocab || !config)
		err = df_fail(fail, DF_ERR_NOMEM, "no memory for the vocabulary in '%s'", dir);
	if (err == DF_OK)
		err = read_config(config, &options, fail);
	if (err == DF_OK)
		err = df_wordpiece_open(vocab, &options, ret_tok, fail);
	free(vocab);
	free(config);
	return err;
}

void df_wordpiece_close(struct df_wordpiece **tok)
{
	if (!*tok)
		return;
	df_trie_release(&(*tok)->first);
	df_trie_release(&(*tok)->rest);
	free(*tok);
	*tok = NULL;
}

struct df_wordpiece_ids df_wordpiece_special(const struct df_wordpiece *tok)
{
	const struct df_vocab_special *s = tok->special;
	return (struct df_wordpiece_ids){s[CLS].id, s[SEP].id, s[UNK].id, s[PAD].id, s[MASK].id};
}

size_t df_wordpiece_size(const struct df_wordpiece *tok)
{
	return tok->n_id;
}
