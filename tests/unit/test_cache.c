// SPDX-License-Identifier: Apache-2.0
/* test_cache: keys tell everything apart that decides an answer, values come back whole or not at all, memory keeps its cap and order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/cache/cache.h"
#include "worker/cache/lru.h"

#define S(x) DF_STR(x)

/* ------------------------------------------------------------------ keys */

static const struct df_ask_turn turns[] = {{DF_TURN_SYSTEM, {"be brief", 8}}, {DF_TURN_USER, {"what is it", 10}}};

static struct df_ask chat(void)
{
	return (struct df_ask){.kind = DF_ASK_CHAT,
			       .model = S("gpt-4o-mini"),
			       .turn = turns,
			       .n_turn = 2,
			       .temperature = 0.5,
			       .top_p = NAN,
			       .max_tokens = 100,
			       .seed = -1};
}

static bool same(struct df_cache_key a, struct df_cache_key b)
{
	/* the two hashes must agree about what is the same */
	bool by_key = a.low == b.low && a.high == b.high;
	assert_true(by_key == (a.check == b.check));
	return by_key;
}

static struct df_cache_key key_of(const struct df_ask *a)
{
	return df_cache_key_chat(a, S("openai"), S("https://api.openai.com/v1"));
}

static void test_cache_key__everything_that_decides_a_chat_answer_makes_another_key(void **state)
{
	(void)state;
	const struct df_ask_turn other_role[] = {{DF_TURN_USER, turns[0].text}, turns[1]};
	const struct df_ask_turn joined[] = {{DF_TURN_SYSTEM, S("be briefwhat is it")}};
	const struct df_ask_turn moved[] = {{DF_TURN_SYSTEM, S("be brief ")}, {DF_TURN_USER, S("what is it")}};
	const struct df_ask_turn shifted[] = {{DF_TURN_SYSTEM, S("be briefw")}, {DF_TURN_USER, S("hat is it")}};
	struct df_ask a[16];
	size_t n = 0;
	for (size_t i = 0; i < 16; i++)
		a[i] = chat();
	n++;
	a[n++].model = S("gpt-4o");
	a[n++].temperature = NAN;
	a[n++].temperature = 0;
	a[n++].top_p = 0.5;
	a[n++].max_tokens = 101;
	a[n++].seed = 0;
	a[n++].schema = S("{}");
	a[n++].schema_name = S("{}");
	a[n++].turn = other_role;
	a[n].turn = joined;
	a[n++].n_turn = 1;
	a[n++].turn = moved;
	a[n++].turn = shifted;
	a[n++].n_turn = 1;
	a[n++].n_turn = 0;
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++)
			assert_int_equal(same(key_of(&a[i]), key_of(&a[j])), i == j);
	assert_false(same(key_of(&a[0]), df_cache_key_chat(&a[0], S("mistral"), S("https://api.openai.com/v1"))));
	assert_false(same(key_of(&a[0]), df_cache_key_chat(&a[0], S("openai"), S("http://localhost/v1"))));
	/* a byte that moves from one field to the next */
	assert_false(same(df_cache_key_chat(&a[0], S("ab"), S("c")), df_cache_key_chat(&a[0], S("a"), S("bc"))));
}

static void test_cache_key__what_does_not_decide_makes_no_other_key(void **state)
{
	(void)state;
	struct df_ask a = chat(), b = chat();
	b.stream = true;
	b.tokens_in = 77;
	b.tokens_exact = true;
	b.dimensions = 3;
	b.top_p = -NAN;
	assert_true(same(key_of(&a), key_of(&b)));
	a.temperature = 0.0;
	b.temperature = -0.0;
	assert_true(same(key_of(&a), key_of(&b)));
	assert_true(same(df_cache_key_chat(&a, S("p"), S("http://x/v1")),
			 df_cache_key_chat(&a, S("p"), S("http://x/v1//"))));
}

static void test_cache_key__an_input_of_a_batch_has_the_key_that_it_has_alone(void **state)
{
	(void)state;
	struct df_str input[] = {S("alpha"), S("beta"), S("alpha")};
	struct df_ask batch = {.kind = DF_ASK_EMBED, .model = S("m"), .input = input, .n_input = 3};
	struct df_ask alone = {.kind = DF_ASK_EMBED, .model = S("m"), .input = &input[1], .n_input = 1};
	struct df_ask wide = batch;
	wide.dimensions = 256;
	assert_true(same(df_cache_key_embed(&batch, S("p"), S("u"), 1), df_cache_key_embed(&alone, S("p"), S("u"), 0)));
	assert_true(same(df_cache_key_embed(&batch, S("p"), S("u"), 0), df_cache_key_embed(&batch, S("p"), S("u"), 2)));
	assert_false(
		same(df_cache_key_embed(&batch, S("p"), S("u"), 0), df_cache_key_embed(&batch, S("p"), S("u"), 1)));
	assert_false(same(df_cache_key_embed(&batch, S("p"), S("u"), 0), df_cache_key_embed(&wide, S("p"), S("u"), 0)));
	struct df_ask question = batch; /* some providers embed questions differently */
	question.query = true;
	assert_false(
		same(df_cache_key_embed(&batch, S("p"), S("u"), 0), df_cache_key_embed(&question, S("p"), S("u"), 0)));
	const struct df_ask_turn turn = {DF_TURN_USER, S("alpha")};
	struct df_ask ask = {.kind = DF_ASK_CHAT, .model = S("m"), .turn = &turn, .n_turn = 1};
	assert_false(same(df_cache_key_embed(&batch, S("p"), S("u"), 0), df_cache_key_chat(&ask, S("p"), S("u"))));
}

static void test_cache_key__is_what_it_was_in_caches_on_disk(void **state)
{
	(void)state;
	/* a golden value: when this fails, KEY_VERSION must change, and everybody pays again */
	struct df_str input = S("alpha");
	struct df_ask ask = {.kind = DF_ASK_EMBED, .model = S("text-embedding-3-small"), .input = &input, .n_input = 1};
	struct df_cache_key k = df_cache_key_embed(&ask, S("openai"), S("https://api.openai.com/v1"), 0);
	char z[80];
	(void)snprintf(z, sizeof(z), "%016llx %016llx %016llx", (unsigned long long)k.low, (unsigned long long)k.high,
		       (unsigned long long)k.check);
	assert_string_equal(z, "252b6d6fdb3469ee 927a5aa34abc4481 9a1d1b047ebf7ee3");
}

/* ------------------------------------------------------------------ values */

struct fixture {
	struct df_arena arena;
	struct df_buf buf;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	df_arena_init(&f->arena, (size_t)64 << 20, 0);
	df_buf_init(&f->buf, (size_t)64 << 20);
	*state = f;
	return f ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	df_arena_release(&f->arena);
	df_buf_release(&f->buf);
	free(f);
	return 0;
}

static float vectors[] = {1, 2, 3, -0.0F, 1e-40F, 3.4e38F};

static struct df_answer embedding(void)
{
	return (struct df_answer){.vector = vectors, .n_vector = 2, .dim = 3, .model = S("served-by")};
}

static void test_cache_value__a_row_of_an_embedding_comes_back_bit_by_bit(void **state)
{
	struct fixture *f = *state;
	struct df_answer a = embedding(), b;
	assert_int_equal(df_cache_pack(&a, 1, &f->buf), DF_OK);
	assert_int_equal(df_cache_unpack(df_buf_str(&f->buf), &f->arena, &b), DF_OK);
	assert_int_equal(b.n_vector, 1);
	assert_int_equal(b.dim, 3);
	assert_memory_equal(b.vector, vectors + 3, 3 * sizeof(float));
	assert_true(df_str_is(b.model, "served-by"));
	assert_int_equal(b.class, DF_CALL_OK);
	assert_int_equal(b.usage.in, 0);
	assert_true((uintptr_t)b.vector % 16 == 0);
}

static void test_cache_value__a_chat_answer_comes_back(void **state)
{
	struct fixture *f = *state;
	struct df_answer a = {.text = S("a \0 b"), .finish = DF_FINISH_LENGTH, .usage = {7, 3, 5, true}}, b;
	assert_int_equal(df_cache_pack(&a, 0, &f->buf), DF_OK);
	assert_int_equal(df_cache_unpack(df_buf_str(&f->buf), &f->arena, &b), DF_OK);
	assert_true(df_str_eq(a.text, b.text));
	assert_int_equal(b.finish, DF_FINISH_LENGTH);
	assert_memory_equal(&a.usage, &b.usage, sizeof(a.usage));
	assert_int_equal(b.n_vector, 0);
	df_buf_reset(&f->buf);
	a.text = S("");
	assert_int_equal(df_cache_pack(&a, 0, &f->buf), DF_OK);
	assert_int_equal(df_cache_unpack(df_buf_str(&f->buf), &f->arena, &b), DF_OK);
	assert_int_equal(b.text.n, 0);
}

static void test_cache_value__failures_and_vectors_that_are_none_are_not_packed(void **state)
{
	struct fixture *f = *state;
	float nan[] = {1, NAN, 2}, inf[] = {1, INFINITY, 2};
	struct df_answer a = embedding();
	assert_int_equal(df_cache_pack(&a, 2, &f->buf), DF_ERR_RANGE);
	a.class = DF_CALL_RETRY;
	assert_int_equal(df_cache_pack(&a, 0, &f->buf), DF_ERR_RANGE);
	a = embedding();
	a.dim = 0;
	assert_int_equal(df_cache_pack(&a, 0, &f->buf), DF_ERR_RANGE);
	a = (struct df_answer){.vector = nan, .n_vector = 1, .dim = 3};
	assert_int_equal(df_cache_pack(&a, 0, &f->buf), DF_ERR_RANGE);
	a.vector = inf;
	assert_int_equal(df_cache_pack(&a, 0, &f->buf), DF_ERR_RANGE);
	assert_int_equal(f->buf.n, 0);
}

static void test_cache_value__every_bit_flipped_and_every_length_cut_is_noticed(void **state)
{
	struct fixture *f = *state;
	struct df_answer a = embedding(), b = {.code = "untouched"};
	char copy[256];
	assert_int_equal(df_cache_pack(&a, 0, &f->buf), DF_OK);
	assert_true(f->buf.n < sizeof(copy));
	for (size_t bit = 0; bit < f->buf.n * 8; bit++) {
		memcpy(copy, f->buf.p, f->buf.n);
		copy[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(df_cache_unpack((struct df_str){copy, f->buf.n}, &f->arena, &b), DF_ERR_CORRUPT);
	}
	for (size_t n = 0; n < f->buf.n; n++)
		assert_int_equal(df_cache_unpack((struct df_str){f->buf.p, n}, &f->arena, &b), DF_ERR_CORRUPT);
	(void)df_buf_addc(&f->buf, 0);
	assert_int_equal(df_cache_unpack(df_buf_str(&f->buf), &f->arena, &b), DF_ERR_CORRUPT);
	assert_string_equal(b.code, "untouched");
}

/* ------------------------------------------------------------------ memory */

static struct df_cache_key nth(uint64_t i)
{
	struct df_str input = {(const char *)&i, sizeof(i)};
	struct df_ask ask = {.kind = DF_ASK_EMBED, .model = S("m"), .input = &input, .n_input = 1};
	return df_cache_key_embed(&ask, S("p"), S("u"), 0);
}

static enum df_err get(struct df_lru *l, uint64_t i, struct df_arena *arena)
{
	struct df_str v = {NULL, 0};
	enum df_err err = df_lru_get(l, nth(i), arena, &v);
	if (err == DF_OK) {
		assert_int_equal(v.n, sizeof(i));
		assert_memory_equal(v.p, &i, sizeof(i));
	}
	return err;
}

static void put(struct df_lru *l, uint64_t i)
{
	df_lru_put(l, nth(i), (struct df_str){(const char *)&i, sizeof(i)});
}

static void test_lru__the_least_recently_used_leaves_first(void **state)
{
	struct fixture *f = *state;
	struct df_lru *l = df_lru_create(1000, 1);
	uint64_t n = 0;
	while (df_lru_stats(l).evictions == 0)
		put(l, n++);
	uint64_t held = df_lru_stats(l).entries;
	assert_int_equal(held, n - 1);
	assert_true(held >= 5);
	assert_int_equal(get(l, 0, &f->arena), DF_ERR_NOT_FOUND);
	assert_int_equal(get(l, 1, &f->arena), DF_OK); /* now 2 is the oldest */
	put(l, n++);
	assert_int_equal(get(l, 2, &f->arena), DF_ERR_NOT_FOUND);
	assert_int_equal(get(l, 1, &f->arena), DF_OK);
	assert_int_equal(df_lru_stats(l).entries, held);
	assert_int_equal(df_lru_stats(l).evictions, 2);
	put(l, 3); /* again: no second entry, and young */
	put(l, n++);
	assert_int_equal(df_lru_stats(l).entries, held);
	assert_int_equal(get(l, 3, &f->arena), DF_OK);
	assert_int_equal(get(l, 4, &f->arena), DF_ERR_NOT_FOUND);
	df_lru_destroy(&l);
}

static void test_lru__a_hundred_thousand_operations_agree_with_a_slow_model(void **state)
{
	struct fixture *f = *state;
	enum { KEYS = 200, CAP = 64 };
	uint64_t seed = 1, stamp[KEYS] = {0}, time = 0, each;
	struct df_rand rnd = df_rand_seeded(&seed);
	struct df_lru *probe = df_lru_create(1 << 20, 1);
	put(probe, 0);
	each = df_lru_stats(probe).bytes;
	df_lru_destroy(&probe);
	struct df_lru *l = df_lru_create(each * CAP, 1);
	size_t held = 0;
	for (int step = 0; step < 100000; step++) {
		uint64_t k = rnd.next(rnd.self) % KEYS;
		if (rnd.next(rnd.self) & 1) {
			put(l, k);
			if (!stamp[k] && held == CAP) {
				size_t oldest = KEYS;
				for (size_t i = 0; i < KEYS; i++)
					if (stamp[i] && (oldest == KEYS || stamp[i] < stamp[oldest]))
						oldest = i;
				stamp[oldest] = 0;
				held--;
			}
			held += !stamp[k];
			stamp[k] = ++time;
		} else {
			assert_int_equal(get(l, k, &f->arena), stamp[k] ? DF_OK : DF_ERR_NOT_FOUND);
			if (stamp[k])
				stamp[k] = ++time;
			df_arena_reset(&f->arena);
		}
		assert_int_equal(df_lru_stats(l).entries, held);
		assert_int_equal(df_lru_stats(l).bytes, held * each);
	}
	df_lru_destroy(&l);
}

static void test_lru__a_colliding_key_is_a_miss(void **state)
{
	struct fixture *f = *state;
	struct df_lru *l = df_lru_create(100000, 1);
	struct df_cache_key k = nth(1), other = k;
	struct df_str v;
	other.check++;
	df_lru_put(l, k, S("mine"));
	assert_int_equal(df_lru_get(l, other, &f->arena, &v), DF_ERR_NOT_FOUND);
	df_lru_put(l, other, S("its"));
	assert_int_equal(df_lru_get(l, k, &f->arena, &v), DF_ERR_NOT_FOUND);
	assert_int_equal(df_lru_get(l, other, &f->arena, &v), DF_OK);
	assert_true(df_str_is(v, "its"));
	df_lru_destroy(&l);
}

static void test_lru__what_is_larger_than_the_cap_is_not_kept_and_displaces_nothing(void **state)
{
	struct fixture *f = *state;
	struct df_lru *l = df_lru_create(2000, 1);
	char large[2000] = "";
	put(l, 1);
	df_lru_put(l, nth(2), (struct df_str){large, sizeof(large)});
	assert_int_equal(get(l, 1, &f->arena), DF_OK);
	assert_int_equal(df_lru_stats(l).entries, 1);
	df_lru_destroy(&l);
	l = df_lru_create(0, 1);
	put(l, 1);
	assert_int_equal(get(l, 1, &f->arena), DF_ERR_NOT_FOUND);
	df_lru_destroy(&l);
}

static void *hammer(void *arg)
{
	struct df_lru *l = arg;
	uint64_t seed = (uint64_t)pthread_self();
	struct df_rand rnd = df_rand_seeded(&seed);
	struct df_arena arena;
	df_arena_init(&arena, 1 << 20, 1 << 20);
	for (int i = 0; i < 20000; i++) {
		uint64_t k = rnd.next(rnd.self) % 500;
		if (get(l, k, &arena) == DF_ERR_NOT_FOUND)
			put(l, k);
		df_arena_reset(&arena);
	}
	df_arena_release(&arena);
	return NULL;
}

static void test_lru__four_threads_never_see_another_keys_value(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 8; shards *= 8) {
		struct df_lru *l = df_lru_create(20000, shards);
		pthread_t t[4];
		for (int i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&t[i], NULL, hammer, l), 0);
		for (int i = 0; i < 4; i++)
			(void)pthread_join(t[i], NULL);
		assert_true(df_lru_stats(l).bytes <= 20000);
		assert_true(df_lru_stats(l).evictions > 0);
		df_lru_destroy(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_key__everything_that_decides_a_chat_answer_makes_another_key),
		cmocka_unit_test(test_cache_key__what_does_not_decide_makes_no_other_key),
		cmocka_unit_test(test_cache_key__an_input_of_a_batch_has_the_key_that_it_has_alone),
		cmocka_unit_test(test_cache_key__is_what_it_was_in_caches_on_disk),
		cmocka_unit_test_setup_teardown(test_cache_value__a_row_of_an_embedding_comes_back_bit_by_bit, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_cache_value__a_chat_answer_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache_value__failures_and_vectors_that_are_none_are_not_packed,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache_value__every_bit_flipped_and_every_length_cut_is_noticed,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_lru__the_least_recently_used_leaves_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lru__a_hundred_thousand_operations_agree_with_a_slow_model, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_lru__a_colliding_key_is_a_miss, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lru__what_is_larger_than_the_cap_is_not_kept_and_displaces_nothing,
						setup, teardown),
		cmocka_unit_test(test_lru__four_threads_never_see_another_keys_value),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
