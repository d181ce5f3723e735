// SPDX-License-Identifier: Apache-2.0
/* test_wordpiece: ids and places of tokens, by a small vocabulary of our own and by the reference's 369 texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/io.h"
#include "base/json.h"
#include "worker/token/trie.h"
#include "worker/token/wordpiece.h"

enum {
	PAD,
	UNK,
	CLS,
	SEP,
	MASK,
	RUN,
	S_,
	NING,
	COMMA,
	OPEN,
	CLOSE,
	CAFE,
	ZHONG,
	EQ,
	HAN1,
	HAN2,
	HAN3,
	A,
	A_,
	I_AM,
	LONG
};
static const char vocab[] =
	"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nrun\n##s\n##ning\n,\n[\n]\ncafe\n\xE4\xB8\xAD\n=\n\xE1\x84\x92\n"
	"##\xE1\x85\xA1\n##\xE1\x86\xAB\na\n##a\ni\nsupercalifragilistic\n";

static struct df_wordpiece *tok;
static struct df_wordpiece_scratch *scratch;
static struct df_tokens tokens;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(df_wordpiece_from_bytes(DF_STR(vocab), "test", NULL, &tok, &fail), DF_OK);
	return df_wordpiece_scratch_create(tok, &scratch) == DF_OK ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	df_wordpiece_scratch_destroy(&scratch);
	df_wordpiece_close(&tok);
	df_tokens_release(&tokens);
	return 0;
}

static void encode(struct df_str text)
{
	size_t next = 0;
	tokens.n = 0;
	assert_int_equal(df_wordpiece_encode(scratch, text, 0, SIZE_MAX, &tokens, &next), DF_OK);
	assert_int_equal(next, text.n);
}

static void assert_ids(struct df_str text, const uint32_t *id, size_t n)
{
	for (int again = 0; again < 2; again++) { /* from the trie, then from the cache */
		encode(text);
		assert_int_equal(tokens.n, n);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(tokens.token[i].id, id[i]);
	}
}
#define ASSERT_IDS(text, ...)                                                                                          \
	assert_ids(DF_STR(text), (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static void assert_place(size_t i, uint32_t start, uint32_t end, uint32_t starts_word)
{
	assert_int_equal(tokens.token[i].start, start);
	assert_int_equal(tokens.token[i].end, end);
	assert_int_equal(tokens.token[i].starts_word, starts_word);
}

static void test_wordpiece__takes_the_longest_pieces(void **state)
{
	(void)state;
	ASSERT_IDS("run runs Running\trunnings", RUN, RUN, S_, RUN, NING, RUN, NING, S_);
	ASSERT_IDS("runx", UNK);
	ASSERT_IDS("xrun", UNK);
	ASSERT_IDS("supercalifragilistic SUPERCALIFRAGILISTIC", LONG, LONG); /* longer than a cache key */
	assert_ids(DF_STR(""), NULL, 0);
	assert_ids(DF_STR(" \n\t\x7F\x01"), NULL, 0);
}

static void test_wordpiece__splits_punctuation_and_ideographs(void **state)
{
	(void)state;
	ASSERT_IDS("run,runs,,", RUN, COMMA, RUN, S_, COMMA, COMMA);
	ASSERT_IDS("a\xE4\xB8\xAD\xE4\xB8\xAD"
		   "a",
		   A, ZHONG, ZHONG, A);
	ASSERT_IDS("a$a", A, UNK, A);
	ASSERT_IDS("a\xE2\x89\xA0"
		   "a",
		   A, EQ, A); /* U+2260 is "=" and a stroke */
}

static void test_wordpiece__strips_accents_and_lowers(void **state)
{
	(void)state;
	ASSERT_IDS("Caf\xC3\x89 CAFE\xCC\x81 cafe", CAFE, CAFE, CAFE);
	ASSERT_IDS("\xC4\xB0", I_AM);
	ASSERT_IDS("r\xE2\x80\x8Bun \0run\xEF\xBF\xBDs", RUN, RUN, S_);
	ASSERT_IDS("\xED\x95\x9C", HAN1, HAN2, HAN3);
}

static void test_wordpiece__special_tokens_in_a_text_are_special(void **state)
{
	(void)state;
	ASSERT_IDS("[CLS]run[MASK]s [mask] [PAD", CLS, RUN, MASK, UNK, OPEN, UNK, CLOSE, OPEN, UNK);
	ASSERT_IDS("[[SEP]]", OPEN, SEP, CLOSE);
}

static void test_wordpiece__tells_where_tokens_are(void **state)
{
	(void)state;
	encode(DF_STR(" Runs,\xE4\xB8\xAD"));
	assert_place(0, 1, 4, 1);
	assert_place(1, 4, 5, 0);
	assert_place(2, 5, 6, 1);
	assert_place(3, 6, 9, 1);
	encode(DF_STR("\xCC\x81"
		      "cafe\xCC\x81 \xCC\x81run\xCC\x81s")); /* stripped accents belong to their letters */
	assert_place(0, 0, 8, 1);
	assert_place(1, 9, 16, 1);
	assert_place(2, 16, 17, 0);
	encode(DF_STR("\xED\x95\x9C")); /* one code point, three tokens */
	for (size_t i = 0; i < 3; i++)
		assert_place(i, 0, 3, i == 0);
}

static void test_wordpiece__a_word_of_more_than_100_characters_is_unknown(void **state)
{
	(void)state;
	char word[203];
	uint32_t id[101] = {A};
	for (size_t i = 1; i < 101; i++)
		id[i] = A_;
	memset(word, 'a', sizeof(word));
	assert_ids((struct df_str){word, 100}, id, 100);
	id[0] = UNK;
	assert_ids((struct df_str){word, 101}, id, 1);
	for (size_t i = 0; i < 101; i++)
		memcpy(word + 2 * i, "\xC3\xA1", 2); /* 101 a with accent */
	assert_ids((struct df_str){word, 202}, id, 1);
	id[0] = A;
	assert_ids((struct df_str){word, 200}, id, 100);
}

static void test_wordpiece__goes_on_where_it_stopped(void **state)
{
	(void)state;
	struct df_str text = DF_STR("runs runnings, caf\xC3\xA9 \xE4\xB8\xAD[CLS]running a\xCC\x81 aaa");
	encode(text);
	struct df_tokens all = tokens, part = {0};
	tokens = (struct df_tokens){0};
	for (size_t step = 1; step < 5; step++) {
		part.n = 0;
		for (size_t at = 0; at < text.n;) {
			size_t before = at;
			assert_int_equal(df_wordpiece_encode(scratch, text, at, part.n + step, &part, &at), DF_OK);
			assert_true(at > before);
		}
		assert_int_equal(part.n, all.n);
		assert_memory_equal(part.token, all.token, all.n * sizeof(*all.token));
	}
	df_tokens_release(&all);
	df_tokens_release(&part);
}

static void test_wordpiece__ids_are_framed_and_cut(void **state)
{
	(void)state;
	uint32_t ids[5];
	size_t n;
	bool truncated;
	assert_int_equal(df_wordpiece_ids(scratch, DF_STR("runs a"), 5, &tokens, ids, &n, &truncated), DF_OK);
	assert_int_equal(n, 5);
	assert_false(truncated);
	assert_int_equal(ids[0], CLS);
	assert_int_equal(ids[4], SEP);
	assert_int_equal(df_wordpiece_ids(scratch, DF_STR("runs a a"), 5, &tokens, ids, &n, &truncated), DF_OK);
	assert_int_equal(n, 5);
	assert_true(truncated);
	assert_int_equal(df_wordpiece_ids(scratch, DF_STR("run"), 2, &tokens, ids, &n, &truncated), DF_OK);
	assert_int_equal(n, 2);
	assert_true(truncated);
}

static void test_wordpiece__a_cased_model_keeps_case_and_accents(void **state)
{
	(void)state;
	struct df_wordpiece *cased;
	struct df_wordpiece_scratch *own;
	struct df_tokens t = {0};
	size_t next;
	struct df_wordpiece_options options = {.lower_case = false, .strip_accents = false, .split_cjk = true};
	assert_int_equal(df_wordpiece_from_bytes(DF_STR("[CLS]\r\n[SEP]\r\n[UNK]\r\nRun\r\nrun\r\n\xC3\xA9\r\n"),
						 "cased", &options, &cased, &fail),
			 DF_OK);
	assert_int_equal(df_wordpiece_scratch_create(cased, &own), DF_OK);
	assert_int_equal(df_wordpiece_encode(own, DF_STR("Run run RUN \xC3\xA9 e\xCC\x81"), 0, SIZE_MAX, &t, &next),
			 DF_OK);
	const uint32_t want[] = {3, 4, 2, 5, 2};
	assert_int_equal(t.n, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(t.token[i].id, want[i]);
	df_tokens_release(&t);
	df_wordpiece_scratch_destroy(&own);
	df_wordpiece_close(&cased);
}

static void test_wordpiece__refuses_a_file_that_is_no_vocabulary(void **state)
{
	(void)state;
	struct df_wordpiece *none = NULL;
	assert_int_equal(df_wordpiece_from_bytes(DF_STR("a\nb\n"), "x", NULL, &none, &fail), DF_ERR_CORRUPT);
	assert_non_null(strstr(fail.msg, "[UNK]"));
	assert_int_equal(df_wordpiece_from_bytes(DF_STR(""), "x", NULL, &none, &fail), DF_ERR_CORRUPT);
	assert_int_equal(df_wordpiece_from_bytes(DF_STR("[UNK]\n\xFF"), "x", NULL, &none, &fail), DF_ERR_UTF8);
	assert_int_equal(df_wordpiece_open("/nonexistent/vocab.txt", NULL, &none, &fail), DF_ERR_NOT_FOUND);
	assert_null(none);
}

static void test_trie__finds_each_key_and_the_longest_prefix(void **state)
{
	(void)state;
	enum { N = 3000 };
	static char bytes[N][4];
	struct df_trie_entry entry[N];
	struct df_trie t;
	for (uint32_t i = 0; i < N; i++) {
		memcpy(bytes[i],
		       (unsigned char[]){(unsigned char)(i * 7), (unsigned char)(i >> 3), (unsigned char)i, 0}, 4);
		entry[i] = (struct df_trie_entry){{bytes[i], 1 + i % 4}, i};
	}
	assert_int_equal(df_trie_build(entry, N, &t), DF_OK);
	for (size_t i = 0; i < N; i++) {
		uint32_t value;
		struct df_str k = entry[i].key;
		if (i + 1 < N && df_str_eq(k, entry[i + 1].key))
			continue; /* the last of equal keys counts */
		assert_int_equal(df_trie_longest(&t, k.p, k.n, &value), k.n);
		assert_int_equal(value, entry[i].value);
	}
	df_trie_release(&t);
	uint32_t value;
	assert_int_equal(df_trie_build(entry, 0, &t), DF_OK);
	assert_int_equal(df_trie_longest(&t, "abc", 3, &value), 0);
	df_trie_release(&t);
}

/* --- the reference --- */

static bool model_dir(char *path, size_t size)
{
	const char *dir = getenv("DOCFLUME_TEST_MODEL"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char vocab_path[4096];
	if (dir)
		(void)snprintf(path, size, "%s", dir);
	else if (xdg && xdg[0] == '/')
		(void)snprintf(path, size, "%s/docflume/models/all-MiniLM-L6-v2", xdg);
	else
		(void)snprintf(path, size, "%s/.cache/docflume/models/all-MiniLM-L6-v2", home ? home : "");
	(void)snprintf(vocab_path, sizeof(vocab_path), "%s/vocab.txt", path);
	return access(vocab_path, R_OK) == 0;
}

static void test_wordpiece__gives_the_reference_ids_of_369_texts(void **state)
{
	(void)state;
	char dir[3072];
	if (!model_dir(dir, sizeof(dir))) {
		(void)printf("SKIP: no vocab.txt in '%s'; run 'docflume models fetch' or set DOCFLUME_TEST_MODEL\n",
			     dir);
		skip();
	}
	struct df_wordpiece *real;
	struct df_wordpiece_scratch *own;
	struct df_tokens work = {0};
	char *texts, *ids;
	size_t n_texts, n_ids, n_doc = 0;
	struct df_arena arena;
	struct df_json *rows;
	df_arena_init(&arena, (size_t)1 << 28, 0);
	assert_int_equal(df_wordpiece_open_dir(dir, &real, &fail), DF_OK);
	assert_int_equal(df_wordpiece_scratch_create(real, &own), DF_OK);
	assert_int_equal(df_io_read_file(&df_io_real, AT_FDCWD, "tests/data/minilm/texts.jsonl", 1 << 24, &texts,
					 &n_texts, &fail),
			 DF_OK);
	assert_int_equal(
		df_io_read_file(&df_io_real, AT_FDCWD, "tests/data/minilm/ids.json", 1 << 24, &ids, &n_ids, &fail),
		DF_OK);
	assert_int_equal(df_json_parse((struct df_str){ids, n_ids}, &arena, &rows, &fail), DF_OK);
	const struct df_json *want = rows->child;
	for (char *line = texts, *nl; (nl = strchr(line, '\n')); line = nl + 1, want = want->next, n_doc++) {
		struct df_json *doc;
		uint32_t got[256];
		size_t n;
		bool truncated;
		assert_int_equal(df_json_parse((struct df_str){line, (size_t)(nl - line)}, &arena, &doc, &fail), DF_OK);
		assert_int_equal(df_wordpiece_ids(own, df_json_get_str(doc, "text"), 256, &work, got, &n, &truncated),
				 DF_OK);
		assert_int_equal(n, want->n);
		size_t i = 0;
		for (const struct df_json *id = want->child; id; id = id->next)
			assert_int_equal(got[i++], id->u64);
	}
	assert_int_equal(n_doc, 369);
	assert_null(want);
	free(texts);
	free(ids);
	df_arena_release(&arena);
	df_tokens_release(&work);
	df_wordpiece_scratch_destroy(&own);
	df_wordpiece_close(&real);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wordpiece__takes_the_longest_pieces),
		cmocka_unit_test(test_wordpiece__splits_punctuation_and_ideographs),
		cmocka_unit_test(test_wordpiece__strips_accents_and_lowers),
		cmocka_unit_test(test_wordpiece__special_tokens_in_a_text_are_special),
		cmocka_unit_test(test_wordpiece__tells_where_tokens_are),
		cmocka_unit_test(test_wordpiece__a_word_of_more_than_100_characters_is_unknown),
		cmocka_unit_test(test_wordpiece__goes_on_where_it_stopped),
		cmocka_unit_test(test_wordpiece__ids_are_framed_and_cut),
		cmocka_unit_test(test_wordpiece__a_cased_model_keeps_case_and_accents),
		cmocka_unit_test(test_wordpiece__refuses_a_file_that_is_no_vocabulary),
		cmocka_unit_test(test_trie__finds_each_key_and_the_longest_prefix),
		cmocka_unit_test(test_wordpiece__gives_the_reference_ids_of_369_texts),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
