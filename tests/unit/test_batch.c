// SPDX-License-Identifier: Apache-2.0
/* The parts of batch mode by themselves: lines, state, files of requests with their caps, and the index over answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "worker/batch/answers.h"
#include "worker/batch/requests.h"

struct room {
	char path[64];
	int fd;
	struct df_arena arena;
};

static int make_room(void **state)
{
	struct room *r = calloc(1, sizeof(*r));
	(void)snprintf(r->path, sizeof(r->path), "/tmp/docflume-batch-XXXXXX");
	if (!r || !mkdtemp(r->path))
		return -1;
	r->fd = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	df_arena_init(&r->arena, (size_t)64 << 20, 0);
	df_log_setup(DF_LOG_ERROR, DF_LOG_TEXT, "test");
	*state = r;
	return r->fd < 0;
}

static int leave_room(void **state)
{
	struct room *r = *state;
	static const char *const name[] = {"batch.json",           "requests-00000.jsonl", "requests-00001.jsonl",
					   "requests-00002.jsonl", "requests-00003.jsonl", "answers-00000.jsonl",
					   "answers-00001.jsonl",  "errors-00000.jsonl"};
	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++)
		(void)unlinkat(r->fd, name[i], 0);
	(void)close(r->fd);
	(void)rmdir(r->path);
	df_arena_release(&r->arena);
	free(r);
	return 0;
}

static void put(const struct room *r, const char *name, const char *text)
{
	int fd = openat(r->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

/* ------------------------------------------------------------------ lines */

static void test_line__a_request_keeps_its_body_byte_by_byte(void **state)
{
	struct df_buf b;
	(void)state;
	df_buf_init(&b, 4096);
	assert_int_equal(df_batch_add_request(&b, DF_STR("df-1"), DF_STR("/v1/chat/completions"),
					      DF_STR("{\"a\":1.50,\"b\":\"x\\ny \\u00e9\"}")),
			 DF_OK);
	assert_string_equal(df_buf_z(&b),
			    "{\"custom_id\":\"df-1\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
			    "\"body\":{\"a\":1.50,\"b\":\"x\\ny \\u00e9\"}}\n");
	struct df_str id = df_batch_own_id(df_buf_str(&b));
	assert_true(df_str_is(id, "df-1"));
	df_buf_reset(&b);
	assert_int_equal(df_batch_add_request(&b, DF_STR("i"), DF_STR("/v1/x"), DF_STR("{\"s\":{\n\r\n \"t\":1}}")),
			 DF_OK);
	assert_null(memchr(b.p, '\n', b.n - 1));
	assert_null(memchr(b.p, '\r', b.n));
	df_buf_release(&b);
	assert_null(df_batch_own_id(DF_STR("{\"custom_id\": \"x\"}")).p);
	assert_null(df_batch_own_id(DF_STR("{\"custom_id\":\"")).p);
	assert_null(df_batch_own_id(DF_STR("")).p);
}

static void test_line__an_id_is_made_of_the_whole_key_and_fits_every_provider(void **state)
{
	char a[DF_CUSTOM_ID_BYTES], b[DF_CUSTOM_ID_BYTES];
	(void)state;
	df_batch_custom_id((struct df_cache_key){1, 2, 3}, a);
	assert_string_equal(a, "df-000000000000000200000000000000010000000000000003");
	df_batch_custom_id((struct df_cache_key){1, 2, 4}, b);
	assert_string_not_equal(a, b);
	assert_true(strlen(a) < 64);
}

static void test_line__a_url_is_split_before_its_version(void **state)
{
	struct room *r = *state;
	struct df_str base, end;
	struct df_fail fail;
	assert_int_equal(df_batch_split_url(DF_STR("https://api.openai.com/v1/chat/completions"), DF_STR(""), &r->arena,
					    &base, &end, &fail),
			 DF_OK);
	assert_true(df_str_is(base, "https://api.openai.com/v1") && df_str_is(end, "/v1/chat/completions"));
	assert_int_equal(df_batch_split_url(DF_STR("http://h/proxy/v1/a/v1/embeddings"), DF_STR(""), &r->arena, &base,
					    &end, &fail),
			 DF_OK);
	assert_true(df_str_is(base, "http://h/proxy/v1/a/v1") && df_str_is(end, "/v1/embeddings"));
	assert_int_equal(
		df_batch_split_url(DF_STR("http://h/api/chat"), DF_STR("http://h/api"), &r->arena, &base, &end, &fail),
		DF_OK);
	assert_true(df_str_is(base, "http://h/api") && df_str_is(end, "/v1/chat"));
	assert_int_equal(
		df_batch_split_url(DF_STR("http://h/api/chat"), DF_STR("http://h/ap"), &r->arena, &base, &end, &fail),
		DF_ERR_UNSUPPORTED);
	assert_int_equal(df_batch_split_url(DF_STR(""), DF_STR(""), &r->arena, &base, &end, &fail), DF_ERR_UNSUPPORTED);
}

static enum df_err read_line(struct room *r, const char *z, struct df_batch_answer *a)
{
	struct df_fail fail;
	return df_batch_read_answer(df_str_from(z), &r->arena, a, &fail);
}

static void test_line__answers_failures_and_what_is_neither(void **state)
{
	struct room *r = *state;
	struct df_batch_answer a;
	assert_int_equal(read_line(r,
				   "{\"custom_id\":\"x\",\"response\":{\"status_code\":200,\"body\":{\"k\": [1]}},"
				   "\"error\":null}",
				   &a),
			 DF_OK);
	assert_true(a.status == 200 && df_str_is(a.body, "{\"k\": [1]}") && !a.expired);
	assert_int_equal(read_line(r,
				   "{\"custom_id\":\"x\",\"response\":null,\"error\":{\"code\":\"batch_expired\","
				   "\"message\":\"late\"}}",
				   &a),
			 DF_OK);
	assert_true(a.status == 0 && a.expired && df_str_is(a.message, "late"));
	assert_int_equal(read_line(r, "{\"custom_id\":\"x\"}", &a), DF_OK);
	assert_true(a.status == 0 && !a.expired);
	static const char *const bad[] = {"",
					  "[]",
					  "{}",
					  "null",
					  "{\"custom_id\":7}",
					  "{\"custom_id\":\"\"}",
					  "{\"custom_id\":\"x\",\"response\":{\"status_code\":\"200\",\"body\":{}}}",
					  "{\"custom_id\":\"x\",\"response\":{\"status_code\":200}}",
					  "{\"custom_id\":\"x\",\"response\":{\"status_code\":99999,\"body\":{}}}",
					  "{\"custom_id\":\"x\",\"respon"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(read_line(r, bad[i], &a), DF_ERR_PARSE);
}

/* ------------------------------------------------------------------ the state */

static void test_state__comes_back_as_it_was_saved(void **state)
{
	struct room *r = *state;
	struct df_batch_state s, t;
	struct df_batch_file *f;
	struct df_fail fail;
	df_batch_state_init(&s);
	memcpy(s.run, "0123456789abcdef", 17);
	memcpy(s.inputs, "fedcba9876543210", 17);
	s.pipeline = strdup("llm prompt=\"a \\\"quote\\\"\"");
	s.options = strdup("id-key=id");
	s.round = 3;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(df_batch_state_add(&s, DF_STR("gpt-4o"), DF_STR("/v1/chat/completions"), &f), DF_OK);
		*f = (struct df_batch_file){.no = f->no,
					    .model = f->model,
					    .endpoint = f->endpoint,
					    .round = 3,
					    .lines = 50000,
					    .bytes = UINT64_C(199999999),
					    .worst_usd = 1.25,
					    .step = DF_BATCH_CREATED,
					    .tries = 2};
		assert_true(df_batch_id_set(f->input, DF_STR("file-1")) &&
			    df_batch_id_set(f->batch, DF_STR("batch_1")));
	}
	assert_int_equal(df_batch_state_save(r->fd, &s, &fail), DF_OK);
	assert_int_equal(df_batch_state_load(r->fd, &t, &fail), DF_OK);
	assert_string_equal(t.run, s.run);
	assert_string_equal(t.inputs, s.inputs);
	assert_string_equal(t.pipeline, s.pipeline);
	assert_int_equal(t.n_file, 3);
	assert_true(t.file[2].bytes == 199999999 && t.file[2].worst_usd == 1.25 && t.file[2].step == DF_BATCH_CREATED);
	assert_true(t.file[2].tries == 2 && t.file[2].no == 2 && !t.finished);
	assert_string_equal(t.file[1].batch, "batch_1");
	df_batch_state_release(&t);
	df_batch_state_release(&s);
}

static void test_state__what_it_cannot_trust_is_refused(void **state)
{
	struct room *r = *state;
	struct df_batch_state t;
	struct df_fail fail;
	assert_int_equal(df_batch_state_load(r->fd, &t, &fail), DF_ERR_NOT_FOUND);
#define HEAD "{\"format_version\":1,\"run\":\"0123456789abcdef\",\"inputs\":\"fedcba9876543210\",\"files\":["
#define ONE "{\"no\":0,\"model\":\"m\",\"endpoint\":\"/v1/x\","
	static const struct {
		const char *text;
		enum df_err err;
	} row[] = {
		{"", DF_ERR_CORRUPT},
		{"{\"format_version\":1", DF_ERR_CORRUPT},
		{"{\"format_version\":2}", DF_ERR_VERSION},
		{"{\"format_version\":1}", DF_ERR_CORRUPT},
		{HEAD ONE "\"step\":\"flying\"}]}", DF_ERR_CORRUPT},
		{HEAD ONE "\"step\":\"uploaded\"}]}", DF_ERR_CORRUPT},
		{HEAD ONE "\"step\":\"created\",\"input_file_id\":\"f\"}]}", DF_ERR_CORRUPT},
		{HEAD ONE "\"step\":\"done\",\"input_file_id\":\"f\",\"batch_id\":\"../x\"}]}", DF_ERR_CORRUPT},
		{HEAD "{\"no\":1,\"step\":\"written\"}]}", DF_ERR_CORRUPT},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		put(r, "batch.json", row[i].text);
		assert_int_equal(df_batch_state_load(r->fd, &t, &fail), row[i].err);
	}
	put(r, "batch.json", HEAD ONE "\"step\":\"created\",\"input_file_id\":\"f\",\"batch_id\":\"b\"}]}");
	assert_int_equal(df_batch_state_load(r->fd, &t, &fail), DF_OK);
	df_batch_state_release(&t);
}

/* ------------------------------------------------------------------ files of requests */

static void test_requests__files_are_of_one_model_and_below_both_caps(void **state)
{
	struct room *r = *state;
	struct df_batch_state s;
	struct df_request_files *q = NULL;
	struct df_fail fail;
	double worst = 0;
	struct stat st;
	df_batch_state_init(&s);
	const struct df_request_files_config config = {.dir_fd = r->fd, .state = &s, .lines_max = 3, .bytes_max = 40};
	assert_int_equal(df_request_files_begin(&config, &q, &fail), DF_OK);
	const struct df_str m1 = DF_STR("one"), m2 = DF_STR("two"), end = DF_STR("/v1/x");
	for (int i = 0; i < 4; i++)
		assert_int_equal(df_request_files_add(q, m1, end, DF_STR("123456789\n"), 0.5, &fail), DF_OK);
	assert_int_equal(df_request_files_add(q, m2, end, DF_STR("12345678901234567890\n"), 1, &fail), DF_OK);
	assert_int_equal(df_request_files_add(q, m2, end, DF_STR("1234567890123456789\n"), 1, &fail), DF_OK);
	assert_int_equal(
		df_request_files_add(q, m2, end, DF_STR("12345678901234567890123456789012345678901\n"), 1, &fail),
		DF_ERR_RANGE);
	assert_int_equal(df_request_files_end(q, &worst, &fail), DF_OK);
	assert_true(worst == 4);
	assert_int_equal(s.n_file, 4); /* 3 + 1 lines of one; 21 and 20 bytes of two, 41 together */
	static const uint64_t lines[] = {3, 1, 1, 1}, bytes[] = {30, 10, 21, 20};
	for (uint32_t i = 0; i < 4; i++) {
		char name[DF_BATCH_NAME_BYTES];
		df_batch_file_name(name, "requests", i, "jsonl");
		assert_true(s.file[i].lines == lines[i] && s.file[i].bytes == bytes[i] && s.file[i].round == 1);
		assert_int_equal(fstatat(r->fd, name, &st, 0), 0);
		assert_int_equal(st.st_size, bytes[i]);
	}
	df_request_files_destroy(&q);
	assert_int_equal(s.n_file, 4);
	assert_int_equal(df_request_files_begin(&config, &q, &fail), DF_OK);
	assert_int_equal(df_request_files_add(q, m1, end, DF_STR("x\n"), 0, &fail), DF_OK);
	df_request_files_destroy(&q); /* without an end: as if it had not been */
	assert_int_equal(s.n_file, 4);
	df_batch_state_release(&s);
}

/* ------------------------------------------------------------------ answers */

#define GOOD(id, text)                                                                                                 \
	"{\"custom_id\":\"" id                                                                                         \
	"\",\"response\":{\"status_code\":200,\"body\":{\"choices\":[{\"message\":{\"content\":"                       \
	"\"" text "\"}}],\"usage\":{\"prompt_tokens\":1000000,\"completion_tokens\":1000000}}},\"error\":null}\n"
#define BAD(id, status)                                                                                                \
	"{\"custom_id\":\"" id "\",\"response\":{\"status_code\":" status                                              \
	",\"body\":{\"error\":{\"message\":\"no\"}}}}\n"

static void test_answers__are_found_by_id_and_count_tries_and_money(void **state)
{
	struct room *r = *state;
	struct df_answers *a = NULL;
	struct df_fail fail;
	struct df_batch_file f = {.no = 0, .status = "expired", .output = "o", .error = "e"};
	const struct df_model_info info = {.price_in = 2, .price_cached_in = 1, .price_out = 8};
	put(r, "answers-00000.jsonl", GOOD("b", "B") "\nnot a line\n" GOOD("a", "A"));
	put(r, "errors-00000.jsonl",
	    BAD("c", "500") BAD("d", "400") "{\"custom_id\":\"e\",\"response\":null,\"error\":{\"code\":\"batch_"
					    "expired\"}}\n" BAD("a", "500"));
	assert_int_equal(df_answers_create(r->fd, &a, &fail), DF_OK);
	assert_int_equal(df_answers_add(a, &f, &info, &fail), DF_OK);
	assert_int_equal(df_answers_find(a, DF_STR("a")).state,
			 DF_ANSWER_HERE); /* a failure never stands before an answer */
	assert_int_equal(df_answers_find(a, DF_STR("b")).state, DF_ANSWER_HERE);
	assert_int_equal(df_answers_find(a, DF_STR("c")).state, DF_ANSWER_LATER);
	assert_int_equal(df_answers_find(a, DF_STR("d")).state, DF_ANSWER_FAILED);
	assert_int_equal(df_answers_find(a, DF_STR("e")).state, DF_ANSWER_NONE);
	assert_int_equal(df_answers_find(a, DF_STR("e")).attempts, 0);
	assert_int_equal(df_answers_find(a, DF_STR("c")).attempts, 1);
	assert_int_equal(df_answers_find(a, DF_STR("strange")).state, DF_ANSWER_NONE);
	struct df_answers_stats s = df_answers_stats(a);
	assert_true(s.here == 2 && s.failed == 1 && s.damaged == 1 && s.lines == 5);
	assert_true(fabs(s.usd - 2 * (2.0 + 8.0) * 0.5) < 1e-9);
	struct df_answer_at at = df_answers_find(a, DF_STR("a"));
	struct df_str line;
	assert_int_equal(df_answers_read(a, &at, &r->arena, &line, &fail), DF_OK);
	assert_non_null(memmem(line.p, line.n, "\"A\"", 3));
	put(r, "answers-00000.jsonl", "");
	assert_int_equal(df_answers_read(a, &at, &r->arena, &line, &fail), DF_ERR_CORRUPT);
	df_answers_destroy(&a);
}

static void test_answers__a_completed_batch_has_tried_what_it_left_out(void **state)
{
	struct room *r = *state;
	struct df_answers *a = NULL;
	struct df_fail fail;
	struct df_batch_file f = {.no = 1, .status = "completed", .output = "o"};
	const struct df_model_info info = {.price_in = NAN, .price_out = NAN};
	put(r, "requests-00001.jsonl", "{\"custom_id\":\"a\",\"x\":1}\n{\"custom_id\":\"lost\",\"x\":1}\n");
	put(r, "answers-00001.jsonl", GOOD("a", "A"));
	assert_int_equal(df_answers_create(r->fd, &a, &fail), DF_OK);
	assert_int_equal(df_answers_add(a, &f, &info, &fail), DF_OK);
	struct df_answer_at at = df_answers_find(a, DF_STR("lost"));
	assert_true(at.state == DF_ANSWER_NONE && at.attempts == 1);
	assert_int_equal(df_answers_find(a, DF_STR("a")).attempts, 1);
	assert_true(df_answers_stats(a).usd == 0);
	df_answers_destroy(&a);
}

static void test_answers__one_ask_a_pass_among_many(void **state)
{
	struct room *r = *state;
	struct df_answers *a = NULL;
	struct df_fail fail;
	char id[32];
	assert_int_equal(df_answers_create(r->fd, &a, &fail), DF_OK);
	for (int pass = 0; pass < 2; pass++) {
		df_answers_begin_pass(a);
		for (int i = 0; i < 20000; i++) {
			(void)snprintf(id, sizeof(id), "df-%d", i % 10000);
			struct df_str s = df_str_from(id);
			assert_int_equal(df_answers_find(a, s).asked, i >= 10000);
			assert_int_equal(df_answers_ask(a, s), i >= 10000 ? DF_ERR_EXISTS : DF_OK);
		}
	}
	df_answers_destroy(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line__a_request_keeps_its_body_byte_by_byte),
		cmocka_unit_test(test_line__an_id_is_made_of_the_whole_key_and_fits_every_provider),
		cmocka_unit_test(test_line__a_url_is_split_before_its_version),
		cmocka_unit_test(test_line__answers_failures_and_what_is_neither),
		cmocka_unit_test_setup_teardown(test_state__comes_back_as_it_was_saved, make_room, leave_room),
		cmocka_unit_test_setup_teardown(test_state__what_it_cannot_trust_is_refused, make_room, leave_room),
		cmocka_unit_test_setup_teardown(test_requests__files_are_of_one_model_and_below_both_caps, make_room,
						leave_room),
		cmocka_unit_test_setup_teardown(test_answers__are_found_by_id_and_count_tries_and_money, make_room,
						leave_room),
		cmocka_unit_test_setup_teardown(test_answers__a_completed_batch_has_tried_what_it_left_out, make_room,
						leave_room),
		cmocka_unit_test_setup_teardown(test_answers__one_ask_a_pass_among_many, make_room, leave_room),
	};
	return cmocka_run_group_tests(tests, make_room, leave_room);
}
