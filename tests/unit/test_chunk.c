// SPDX-License-Identifier: Apache-2.0
/* test_chunk: where texts are cut, on random texts of many scripts, by tokens and by code points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/stages/cut.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

static const char vocab[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nab\nabc\nthe\n##a\n##b\n##ab\n##abc\n##c\n,\n."
			    "\n[\n]\ne\n##e\n\xE4\xB8\xAD\n"
			    "\xE6\x96\x87\n\xE1\x84\x92\n##\xE1\x84\x92\n##\xE1\x85\xA1\n##\xE1\x86\xAB\n\xD0\xB4\n##"
			    "\xD0\xB4\n##\xD0\xB0\n";

static struct df_wordpiece *tok;
static struct df_wordpiece_scratch *scratch;
static struct df_tokens tokens, part, check;

static int setup(void **state)
{
	(void)state;
	struct df_fail fail;
	if (df_wordpiece_from_bytes(DF_STR(vocab), "test", NULL, &tok, &fail) != DF_OK)
		return -1;
	return df_wordpiece_scratch_create(tok, &scratch) == DF_OK ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	df_wordpiece_scratch_destroy(&scratch);
	df_wordpiece_close(&tok);
	df_tokens_release(&tokens);
	df_tokens_release(&part);
	df_tokens_release(&check);
	return 0;
}

static struct df_cutter cutter_of(struct df_str text, size_t size, size_t overlap, bool by_tokens)
{
	return (struct df_cutter){.text = text,
				  .size = size,
				  .overlap = overlap,
				  .scratch = by_tokens ? scratch : NULL,
				  .tokens = &tokens,
				  .part = &part};
}

static size_t count_tokens(struct df_str text)
{
	size_t next;
	check.n = 0;
	assert_int_equal(df_wordpiece_encode(scratch, text, 0, SIZE_MAX, &check, &next), DF_OK);
	return check.n;
}

static struct df_str slice(struct df_str text, const struct df_piece *p)
{
	return (struct df_str){text.p + p->from, p->to - p->from};
}

/* Words, long words, CJK, emoji, combining marks, jamo, special tokens, controls. */
static size_t make_text(struct df_rand *r, char *out, size_t n_part)
{
	static const char *const some[] = {"a",
					   "b",
					   "c",
					   "abc",
					   "the ",
					   " ",
					   " ",
					   " ",
					   ", ",
					   "\n",
					   "e\xCC\x81",
					   "\xCC\x81",
					   "\xE4\xB8\xAD",
					   "\xE6\x96\x87",
					   "\xED\x95\x9C",
					   "\xF0\x9F\x98\x80",
					   "[CLS]",
					   "[",
					   "]",
					   "\xE2\x80\x8B",
					   "\xD0\xB4\xD0\xB0",
					   "abababababababababab",
					   "\xE2\x89\xA0",
					   "\xED\x95\x9C\xED\x95\x9C\xED\x95\x9C\xED\x95\x9C",
					   "\xC2\xA0",
					   "zzz",
					   "\x7F"};
	size_t n = 0, bias = r->next(r->self) % 27;
	for (size_t i = 0; i < n_part; i++) {
		uint64_t x = r->next(r->self);
		const char *s = some[x % 4 == 0 ? bias : (x >> 8) % 27];
		size_t len = strlen(s);
		memcpy(out + n, s, len);
		n += len;
	}
	return n;
}

static void assert_pieces_are_sound(struct df_str text, const struct df_piece *p, const struct df_piece *before)
{
	assert_true(p->from < p->to && p->to <= text.n);
	assert_int_equal(df_utf8_floor(text, p->from), p->from);
	assert_int_equal(df_utf8_floor(text, p->to), p->to);
	if (before)
		assert_true(p->from > before->from && p->to > before->to);
}

static void test_chunk__tokenising_a_chunk_again_gives_exactly_its_tokens(void **state)
{
	(void)state;
	uint64_t seed = 11;
	struct df_rand r = df_rand_seeded(&seed);
	static char bytes[64 * 1024];
	for (int i = 0; i < 6000; i++) {
		struct df_str text = {bytes, make_text(&r, bytes, r.next(r.self) % (i % 100 ? 200 : 2000))};
		size_t size = 6 + r.next(r.self) % 30, overlap = r.next(r.self) % size, n_piece = 0;
		struct df_cutter c = cutter_of(text, size, overlap, true);
		struct df_piece p, before = {0};
		while (df_cut_next(&c, &p) == DF_OK) {
			assert_pieces_are_sound(text, &p, n_piece ? &before : NULL);
			assert_true(p.n_token > 0 && p.n_token <= size);
			assert_int_equal(count_tokens(slice(text, &p)), p.n_token);
			/* nothing that has tokens lies between two chunks */
			if (p.from > before.to)
				assert_int_equal(count_tokens((struct df_str){text.p + before.to, p.from - before.to}),
						 0);
			else if (n_piece && p.from < before.to)
				assert_true(count_tokens((struct df_str){text.p + p.from, before.to - p.from}) <=
					    overlap);
			before = p;
			n_piece++;
		}
		assert_int_equal(count_tokens((struct df_str){text.p + before.to, text.n - before.to}), 0);
		assert_int_equal(n_piece == 0, count_tokens(text) == 0);
	}
}

static void test_chunk__without_overlap_whole_words_keep_all_their_tokens(void **state)
{
	(void)state;
	struct df_str text = DF_STR("abc the ab, abc abab the a b c the abc \xE4\xB8\xAD\xE6\x96\x87 the end");
	struct df_cutter c = cutter_of(text, 6, 0, true);
	struct df_piece p;
	size_t sum = 0, n_piece = 0;
	for (; df_cut_next(&c, &p) == DF_OK; n_piece++) {
		sum += p.n_token;
		assert_false(df_uc_is_space((unsigned char)text.p[p.from]));
		assert_false(df_uc_is_space((unsigned char)text.p[p.to - 1]));
	}
	assert_int_equal(sum, count_tokens(text));
	assert_true(n_piece <= sum / 6 + 2);
}

static void test_chunk__a_word_longer_than_a_chunk_is_cut_at_tokens(void **state)
{
	(void)state;
	struct df_str text = DF_STR("the abababababababababab the"); /* the, ab and 9 of ##ab, the */
	struct df_cutter c = cutter_of(text, 6, 3, true);
	struct df_piece p;
	const struct df_piece want[] = {{0, 3, 1}, {4, 16, 6}, {16, 28, 5}};
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(df_cut_next(&c, &p), DF_OK);
		assert_memory_equal(&p, &want[i], sizeof(p));
	}
	assert_int_equal(df_cut_next(&c, &p), DF_ERR_END);
	assert_int_equal(df_cut_next(&c, &p), DF_ERR_END);
}

static void test_chunk__never_splits_a_code_point(void **state)
{
	(void)state;
	char text[30]; /* ten syllables of three tokens each, in one word */
	for (size_t i = 0; i < 10; i++)
		memcpy(text + 3 * i, "\xED\x95\x9C", 3);
	for (size_t size = 6; size < 12; size++) {
		struct df_cutter c = cutter_of((struct df_str){text, 30}, size, 0, true);
		struct df_piece p;
		size_t at = 0;
		for (; df_cut_next(&c, &p) == DF_OK; at = p.to) {
			assert_int_equal(p.from, at);
			assert_int_equal(p.to % 3, 0);
			assert_true(p.n_token <= size);
		}
		assert_int_equal(at, 30);
	}
}

static void test_chunk__by_code_points_cuts_at_words_and_overlaps(void **state)
{
	(void)state;
	uint64_t seed = 5;
	struct df_rand r = df_rand_seeded(&seed);
	static char bytes[16 * 1024];
	for (int i = 0; i < 20000; i++) {
		struct df_str text = {bytes, make_text(&r, bytes, r.next(r.self) % 150)};
		size_t size = 1 + r.next(r.self) % 40, overlap = r.next(r.self) % size, n_piece = 0;
		struct df_cutter c = cutter_of(text, size, overlap, false);
		struct df_piece p, before = {0};
		while (df_cut_next(&c, &p) == DF_OK) {
			assert_pieces_are_sound(text, &p, n_piece++ ? &before : NULL);
			assert_true(df_utf8_count(slice(text, &p)) <= size);
			if (p.from < before.to)
				assert_true(df_utf8_count((struct df_str){text.p + p.from, before.to - p.from}) <=
					    overlap);
			for (size_t at = before.to; at < p.from;) /* only white space is left out */
				assert_true(df_uc_is_space(df_utf8_decode(text.p, text.n, &at)));
			before = p;
		}
		for (size_t at = before.to; at < text.n;)
			assert_true(df_uc_is_space(df_utf8_decode(text.p, text.n, &at)));
	}
}

static void test_chunk__by_code_points_prefers_whole_words(void **state)
{
	(void)state;
	struct df_str text = DF_STR("one two three  four");
	const char *const want[] = {"one two", "two three"};
	struct df_cutter c = cutter_of(text, 9, 4, false);
	struct df_piece p;
	assert_int_equal(df_cut_next(&c, &p), DF_OK);
	assert_true(df_str_is(slice(text, &p), want[0]));
	assert_int_equal(df_cut_next(&c, &p), DF_OK);
	assert_true(df_str_is(slice(text, &p), want[1]));
	c = cutter_of(DF_STR("abcdefghij"), 4, 2, false); /* one long word: the overlap is exact */
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(df_cut_next(&c, &p), DF_OK);
		assert_int_equal(p.from, 2 * i);
		assert_int_equal(p.to, 2 * i + 4);
	}
	assert_int_equal(df_cut_next(&c, &p), DF_ERR_END);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chunk__tokenising_a_chunk_again_gives_exactly_its_tokens),
		cmocka_unit_test(test_chunk__without_overlap_whole_words_keep_all_their_tokens),
		cmocka_unit_test(test_chunk__a_word_longer_than_a_chunk_is_cut_at_tokens),
		cmocka_unit_test(test_chunk__never_splits_a_code_point),
		cmocka_unit_test(test_chunk__by_code_points_cuts_at_words_and_overlaps),
		cmocka_unit_test(test_chunk__by_code_points_prefers_whole_words),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
