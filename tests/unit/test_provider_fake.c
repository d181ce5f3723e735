// SPDX-License-Identifier: Apache-2.0
/* test_provider_fake: made-up answers are the same everywhere, faults come as ordered, and cassettes give back what was put in, but no key. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/json.h"
#include "tests/unit/help_provider.h"
#include "worker/provider/cassette.h"

static struct df_arena arena;
static struct df_answer answer;
static struct df_fail fail;
static uint64_t delay_ns;
static uint32_t pieces;
static char path[64];

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 256 << 20, 0);
	(void)snprintf(path, sizeof(path), "/tmp/docflume-cassette-XXXXXX");
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd) | unlink(path);
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	(void)unlink(path);
	return 0;
}

static void *open_fake(const char *model)
{
	void *state = NULL;
	if (help_provider("fake")->open(df_str_from(model), &state, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	return state;
}

static void ask_it(const char *provider, void *state, const struct df_ask *ask)
{
	memset(&answer, 0xee, sizeof(answer));
	help_provider(provider)->answer(state, ask, &arena, &answer, &delay_ns, &pieces);
}

/* ------------------------------------------------------------------ fake */

static void test_fake__equal_asks_have_equal_answers(void **unused)
{
	void *a = open_fake("any?seed=7"), *b = open_fake("any?seed=7"), *c = open_fake("any?seed=8");
	struct df_ask ask = help_chat("any");
	(void)unused;
	ask_it("fake", a, &ask);
	assert_int_equal(answer.class, DF_CALL_OK);
	struct df_str first = answer.text;
	assert_true(first.n > 20 && answer.usage.known && answer.usage.in == 20 && answer.usage.out == 16);
	ask_it("fake", b, &ask);
	assert_true(df_str_eq(first, answer.text));
	ask_it("fake", a, &ask);
	assert_true(df_str_eq(first, answer.text));
	ask_it("fake", c, &ask);
	assert_false(df_str_eq(first, answer.text));
	ask.max_tokens = 3;
	ask_it("fake", a, &ask);
	assert_int_equal(answer.finish, DF_FINISH_LENGTH);
	assert_int_equal(answer.usage.out, 3);
	help_provider("fake")->close(a);
	help_provider("fake")->close(b);
	help_provider("fake")->close(c);
	a = open_fake("echo");
	ask_it("fake", a, &ask);
	assert_true(df_str_eq(answer.text, ask.turn[1].text));
	help_provider("fake")->close(a);
}

static void test_fake__vectors_are_of_the_text_alone(void **unused)
{
	void *s = open_fake("any?dim=64");
	struct df_ask ask = help_embed("any", 3), one = help_embed("any", 1);
	double square = 0;
	(void)unused;
	ask_it("fake", s, &ask);
	assert_int_equal(answer.n_vector, 3);
	assert_int_equal(answer.dim, 64);
	float *all = answer.vector;
	for (int i = 0; i < 64; i++)
		square += (double)all[64 + i] * (double)all[64 + i];
	assert_true(fabs(square - 1) < 1e-5);
	one.input = &ask.input[1];
	ask_it("fake", s, &one);
	assert_memory_equal(answer.vector, all + 64, 64 * sizeof(float));
	assert_memory_not_equal(all, all + 64, 64 * sizeof(float));
	one.dimensions = 8;
	ask_it("fake", s, &one);
	assert_int_equal(answer.dim, 8);
	help_provider("fake")->close(s);
}

static void test_fake__faults_come_as_often_as_ordered_and_pass(void **unused)
{
	void *s = open_fake("any?429=0.2&500=0.1&bad_json=0.05&delay=20ms&jitter=10ms&retry_after=1500ms");
	size_t n[DF_N_CALL_CLASS] = {0}, lost = 0;
	(void)unused;
	for (int i = 0; i < 4000; i++) {
		char text[32];
		struct df_ask_turn turn = {DF_TURN_USER, {text, (size_t)snprintf(text, sizeof(text), "ask %d", i)}};
		struct df_ask ask = help_chat("any");
		int tries = 0;
		ask.turn = &turn;
		ask.n_turn = 1;
		ask_it("fake", s, &ask);
		n[answer.class]++;
		assert_true(delay_ns >= 20000000 && delay_ns < 30000000);
		if (answer.class == DF_CALL_RATE)
			assert_int_equal(answer.retry_after_ms, 1500);
		while (answer.class != DF_CALL_OK && tries++ < 20)
			ask_it("fake", s, &ask);
		lost += answer.class != DF_CALL_OK;
		df_arena_reset(&arena);
	}
	assert_int_equal(lost, 0);
	assert_in_range(n[DF_CALL_RATE], 720, 880);
	assert_in_range(n[DF_CALL_RETRY], 260, 380); /* a tenth of the other 3,200 */
	assert_in_range(n[DF_CALL_BAD_ANSWER], 100, 190);
	help_provider("fake")->close(s);
	s = open_fake("any?refuse=beta");
	struct df_ask ask = help_embed("any", 3);
	ask_it("fake", s, &ask);
	assert_int_equal(answer.class, DF_CALL_BAD_INPUT);
	ask.n_input = 1;
	ask_it("fake", s, &ask);
	assert_int_equal(answer.class, DF_CALL_OK);
	help_provider("fake")->close(s);
	s = open_fake("any?quota=1");
	ask_it("fake", s, &ask);
	assert_int_equal(answer.class, DF_CALL_QUOTA);
	help_provider("fake")->close(s);
}

static void test_fake__a_schema_is_kept_unless_it_is_to_be_broken(void **unused)
{
	static const char schema[] =
		"{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":40},\"n\":{\"type\":"
		"\"integer\","
		"\"minimum\":3,\"maximum\":5},\"c\":{\"enum\":[\"a\",\"b\"]},\"l\":{\"type\":\"array\",\"minItems\":2,"
		"\"items\":"
		"{\"$ref\":\"#/$defs/"
		"t\"}},\"o\":{\"anyOf\":[{\"type\":\"boolean\"},{\"type\":\"null\"}]}},\"required\":[\"name\"],"
		"\"$defs\":{\"t\":{\"type\":[\"number\",\"null\"],\"exclusiveMinimum\":0}}}";
	void *s = open_fake("any"), *broken = open_fake("any?bad_json=1");
	struct df_ask ask = help_chat("any");
	struct df_json *root = NULL;
	(void)unused;
	ask.schema = df_str_from(schema);
	ask_it("fake", s, &ask);
	assert_int_equal(df_json_parse(answer.text, &arena, &root, &fail), DF_OK);
	assert_true(df_json_get_str(root, "name").n >= 40);
	assert_in_range(df_json_get_u64(root, "n", 0), 3, 5);
	assert_int_equal(df_json_get_str(root, "c").n, 1);
	const struct df_json *l = df_json_get(root, "l");
	assert_true(l->n == 2 && l->child->type == DF_JSON_NUMBER && l->child->number > 0);
	assert_int_equal(df_json_get(root, "o")->type, DF_JSON_BOOL);
	ask_it("fake", broken, &ask);
	assert_int_equal(answer.class, DF_CALL_OK);
	assert_int_equal(df_json_parse(answer.text, &arena, &root, &fail), DF_ERR_PARSE);
	ask.schema = (struct df_str){NULL, 0};
	ask_it("fake", broken, &ask);
	assert_int_equal(answer.class, DF_CALL_BAD_ANSWER);
	help_provider("fake")->close(s);
	help_provider("fake")->close(broken);
}

static void test_fake__options_that_it_does_not_know_are_told(void **unused)
{
	static const char *const bad[] = {"any?429",   "any?429=2", "any?delay=soon", "any?sed=7",  "any?700=0.1",
					  "any?dim=0", "any?=",     "any?refuse=",    "any?429=nan"};
	void *state = NULL;
	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(help_provider("fake")->open(df_str_from(bad[i]), &state, &fail), DF_ERR_USAGE);
		assert_non_null(strstr(fail.msg, "is not understood; it takes delay="));
	}
}

/* ------------------------------------------------------------------ cassettes */

static void put(struct df_cassette *c, const struct df_ask *ask, const char *key, long status, const char *headers,
		const char *body, const struct df_tape *tape)
{
	const struct df_endpoint to = {.key = df_str_from(key)};
	struct df_http_response r = help_response(status, headers, body);
	if (df_cassette_put(c, help_provider("openai"), ask, &to, &r, tape, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
}

static void test_cassette__gives_back_failures_and_answers_in_their_order(void **unused)
{
	struct df_cassette *c = NULL;
	struct df_ask ask = help_chat("gpt-4o"), other = help_chat("gpt-4o"), vectors = help_embed("e", 1);
	struct df_tape tape = {.json = {.p = NULL}};
	void *state = NULL;
	struct stat st;
	(void)unused;
	other.max_tokens = 5;
	assert_int_equal(df_cassette_open(path, &c, &fail), DF_OK);
	put(c, &ask, "KEY", 429, "retry-after: 2\nset-cookie: secret=1", "{\"error\":{\"message\":\"slow\"}}", NULL);
	put(c, &vectors, "KEY", 200, NULL, "{\"data\":[{\"index\":0,\"embedding\":[1,2]}]}", NULL);
	put(c, &ask, "KEY", 200, NULL, "{\"choices\":[{\"message\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}",
	    NULL);
	df_tape_add(&tape, DF_STR(""), DF_STR("{\"choices\":[{\"delta\":{\"content\":\"Str\"}}]}"));
	df_tape_add(&tape, DF_STR(""),
		    DF_STR("{\"choices\":[{\"delta\":{\"content\":\"eam\"},\"finish_reason\":\"stop\"}]}"));
	df_tape_add(&tape, DF_STR(""), DF_STR("[DONE]"));
	put(c, &other, "KEY", 200, NULL, "", &tape);
	df_tape_release(&tape);
	df_cassette_close(&c);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	assert_int_equal(help_provider("recorded")->open(df_str_from(path), &state, &fail), DF_OK);
	ask.model = DF_STR("whatever");
	ask_it("recorded", state, &ask);
	assert_int_equal(answer.class, DF_CALL_RATE);
	assert_int_equal(answer.retry_after_ms, 2000);
	for (int i = 0; i < 2; i++) { /* the last one is given again */
		ask_it("recorded", state, &ask);
		assert_int_equal(answer.class, DF_CALL_OK);
		assert_true(df_str_is(answer.text, "Hi"));
	}
	ask_it("recorded", state, &other);
	assert_true(df_str_is(answer.text, "Stream"));
	assert_int_equal(pieces, 2);
	ask_it("recorded", state, &vectors);
	assert_true(answer.dim == 2 && answer.vector[1] == 2);
	ask.seed = 3;
	ask_it("recorded", state, &ask);
	assert_int_equal(answer.class, DF_CALL_NOT_FOUND);
	assert_non_null(strstr(answer.message, "record it again"));
	help_provider("recorded")->close(state);
}

static void test_cassette__never_has_the_key_in_it(void **unused)
{
	static const char key[] = "planted/key+0123456789";
	struct df_cassette *c = NULL;
	struct df_ask ask = help_chat("gpt-4o");
	struct df_tape tape = {.json = {.p = NULL}};
	char text[8192];
	(void)unused;
	assert_int_equal(df_cassette_open(path, &c, &fail), DF_OK);
	put(c, &ask, key, 401, "content-type: planted/key+0123456789\nauthorization: Bearer planted/key+0123456789",
	    "{\"error\":{\"message\":\"bad key planted/key+0123456789, planted\\/key+0123456789\"}}", NULL);
	put(c, &ask, key, 500, NULL, "\xff\xfe planted/key+0123456789", NULL);
	df_tape_add(&tape, DF_STR("error"), DF_STR("{\"error\":\"planted/key+0123456789 planted\\/key+0123456789\"}"));
	put(c, &ask, key, 200, NULL, "", &tape);
	df_tape_release(&tape);
	df_cassette_close(&c);
	FILE *f = fopen(path, "rb");
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	assert_int_equal(fclose(f), 0);
	assert_null(strstr(text, "planted"));
	assert_null(strstr(text, "706c616e746564")); /* in hex */
	assert_non_null(strstr(text, "bad key ***, ***"));
	assert_non_null(strstr(text, "\"body_hex\":\"fffe202a2a2a\""));
	assert_null(strstr(text, "authorization"));
}

static void test_cassette__that_is_none_is_refused_with_its_line(void **unused)
{
	static const char *const bad[] = {
		"{\"v\":1}\n", "\n{\"v\":1,\n",
		"{\"v\":2,\"digest\":\"00000000000000000000000000000000\",\"provider\":\"openai\"}\n",
		"{\"v\":1,\"digest\":\"00000000000000000000000000000000\",\"provider\":\"fake\"}\n", "[]\n"};
	void *state = NULL;
	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		FILE *f = fopen(path, "wb");
		assert_true(f && fputs(bad[i], f) >= 0 && fclose(f) == 0);
		assert_int_equal(help_provider("recorded")->open(df_str_from(path), &state, &fail), DF_ERR_PARSE);
		assert_non_null(strstr(fail.msg, i == 1 ? "line 2" : "line 1"));
		assert_non_null(strstr(fail.msg, path));
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(help_provider("recorded")->open(df_str_from(path), &state, &fail), DF_ERR_NOT_FOUND);
}

static void test_digest__tells_asks_apart(void **unused)
{
	char hex[16][33];
	struct df_ask ask[16];
	struct df_str joined[1] = {{"alphabeta", 9}};
	(void)unused;
	for (int i = 0; i < 12; i++)
		ask[i] = help_chat("m");
	for (int i = 12; i < 16; i++)
		ask[i] = help_embed("m", 2);
	ask[1].temperature = 0;
	ask[2].temperature = 0.1;
	ask[3].top_p = 0.1;
	ask[4].max_tokens = 1;
	ask[5].seed = 1;
	ask[6].schema = DF_STR("{}");
	ask[7].n_turn = 1;
	ask[8].turn++;
	ask[8].n_turn = 1;
	ask[9].n_turn = 0;
	ask[10].seed = 0;
	ask[11].max_tokens = 2;
	ask[13].dimensions = 5;
	ask[14].query = true;
	ask[15].input = joined;
	ask[15].n_input = 1;
	for (int i = 0; i < 16; i++) {
		assert_int_equal(df_ask_digest(&ask[i], false, hex[i]), DF_OK);
		for (int k = 0; k < i; k++)
			assert_string_not_equal(hex[i], hex[k]);
	}
	ask[0].model = DF_STR("n");
	ask[0].stream = true; /* how it comes is not what it is */
	char again[33];
	assert_int_equal(df_ask_digest(&ask[0], false, again), DF_OK);
	assert_string_equal(again, hex[0]);
	assert_int_equal(df_ask_digest(&ask[0], true, again), DF_OK);
	assert_string_not_equal(again, hex[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fake__equal_asks_have_equal_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fake__vectors_are_of_the_text_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fake__faults_come_as_often_as_ordered_and_pass, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fake__a_schema_is_kept_unless_it_is_to_be_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fake__options_that_it_does_not_know_are_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cassette__gives_back_failures_and_answers_in_their_order, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_cassette__never_has_the_key_in_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cassette__that_is_none_is_refused_with_its_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_digest__tells_asks_apart, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
