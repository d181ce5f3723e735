// SPDX-License-Identifier: Apache-2.0
/* test_stages_text: strip, lower, normalize, clean, count, sample, chunk and tokenise as a pipeline runs them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/pipeline.h"
#include "worker/stages/registry.h"
#include "worker/stages/stages.h"
#include "worker/text/offsets.h"
#include "worker/text/utf8.h"

#define N 8

static struct df_arena arena;
static struct df_counters counters;
static struct df_doc docs[N];
static struct df_doc *doc_p[N];
static struct df_row *row_p[N];
static struct df_batch batch;
static struct df_fail fail;
static char dir[] = "/tmp/docflume-test-XXXXXX";

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, (size_t)1 << 28, 0);
	df_counters_init(&counters);
	char path[128];
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/all-MiniLM-L6-v2", dir);
	if (mkdir(path, 0700) != 0)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/all-MiniLM-L6-v2/vocab.txt", dir);
	FILE *f = fopen(path, "w");
	if (!f)
		return -1;
	(void)fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\none\ntwo\nthree\n##s\n,\nfour\n", f);
	return fclose(f);
}

static int teardown(void **state)
{
	(void)state;
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/all-MiniLM-L6-v2/vocab.txt", dir);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/all-MiniLM-L6-v2", dir);
	(void)rmdir(path);
	(void)rmdir(dir);
	df_counters_release(&counters);
	df_arena_release(&arena);
	return 0;
}

/* The batch holds these documents, with ids "d0", "d1", ... */
static void fill(const struct df_str *text, size_t n)
{
	df_counters_reset(&counters);
	for (size_t i = 0; i < n; i++) {
		char *id = df_arena_alloc(&arena, 32);
		(void)snprintf(id, 32, "d%zu", i);
		docs[i] = (struct df_doc){.id = df_str_from(id), .text = text[i], .n_row = 1};
		doc_p[i] = &docs[i];
		row_p[i] = df_arena_zalloc(&arena, sizeof(struct df_row));
		*row_p[i] = (struct df_row){.doc = &docs[i], .text = text[i]};
	}
	batch = (struct df_batch){
		.arena = &arena, .doc = doc_p, .n_doc = n, .row = row_p, .n_row = n, .counters = &counters};
}

static void fill_one(struct df_str text)
{
	fill(&text, 1);
}

static enum df_err run_in(const char *pipeline, const char *cache)
{
	struct df_pipeline *p = df_arena_alloc(&arena, sizeof(*p));
	const struct df_stage_class **class;
	void **options;
	DF_TRY(df_pipeline_parse(df_str_from(pipeline), &arena, p, &fail));
	DF_TRY(df_stage_check_pipeline(p, &arena, &class, &options, &fail));
	enum df_err err = DF_OK;
	for (size_t i = 0; i < p->n_stage && err == DF_OK; i++) {
		if (df_str_is(p->stage[i].name, "embed"))
			continue;
		struct df_stage s = {.class = class[i], .call_name = class[i] -> name, .options = options[i]};
		struct df_stage_env env = {.pipeline = p, .stage_no = i, .arena = &arena, .model_cache = cache};
		if (class[i] -> open)
			err = class[i]->open(&s, &env, &fail);
		if (err == DF_OK)
			err = class[i]->process(&s, &batch, &fail);
		if (class[i] -> close)
			class[i]->close(&s);
	}
	return err;
}

static void run(const char *pipeline)
{
	enum df_err err = run_in(pipeline, dir);
	if (err != DF_OK)
		fail_msg("%s: %s", pipeline, fail.msg);
}

static uint64_t counted(const char *name)
{
	const uint64_t *v = df_map_get(&counters.map, df_str_from(name));
	return v ? *v : 0;
}

static void assert_member(const struct df_row *row, const char *key, const char *want)
{
	struct df_str raw = df_row_get(row, df_str_from(key));
	if (!df_str_is(raw, want))
		fail_msg("%s is '" DF_STR_FMT "', not '%s'", key, DF_STR_ARG(raw), want);
}

static void test_count__adds_four_numbers(void **state)
{
	(void)state;
	fill_one(DF_STR("h\xC3\xA9llo w\n\xF0\x9F\x98\x80"));
	run("count");
	assert_member(row_p[0], "chars", "9");
	assert_member(row_p[0], "bytes", "13");
	assert_member(row_p[0], "words", "3");
	assert_member(row_p[0], "lines", "2");
}

static void test_editors__keep_the_way_back_to_the_text_as_received(void **state)
{
	(void)state;
	fill_one(DF_STR("  \xC4\xB0"
			"AB \t CD  "));
	run("strip | lower | normalize");
	assert_true(df_str_is(row_p[0]->text, "i\xCC\x87"
					      "ab cd"));
	assert_true(row_p[0]->edited);
	size_t from, to;
	df_offsets_range(row_p[0]->offsets, 6, 8, &from, &to);
	assert_int_equal(from, 9);
	assert_int_equal(to, 11);
	df_offsets_range(row_p[0]->offsets, 0, 3, &from, &to);
	assert_int_equal(from, 2);
	assert_int_equal(to, 4);
}

static void test_editors__leave_an_untouched_text_alone(void **state)
{
	(void)state;
	fill_one(DF_STR("plain text\nof two lines"));
	run("strip | lower | normalize");
	assert_ptr_equal(row_p[0]->text.p, docs[0].text.p);
	assert_false(row_p[0]->edited);
	assert_null(row_p[0]->offsets);
}

static void test_strip__makes_a_blank_text_empty(void **state)
{
	(void)state;
	fill_one(DF_STR(" \n\xE3\x80\x80"));
	run("strip | count");
	assert_member(row_p[0], "chars", "0");
	assert_member(row_p[0], "lines", "0");
}

static void test_clean__counts_code_points_not_bytes(void **state)
{
	(void)state;
	const struct df_str text[] = {DF_STR("\xE4\xB8\xAD\xE6\x96\x87"), DF_STR("abc"), DF_STR("abcdef"), DF_STR("")};
	fill(text, 4);
	run("clean min_chars=3 max_chars=5");
	assert_string_equal(docs[0].reason, "min_chars");
	assert_int_equal(docs[1].fate, DF_FATE_OUT);
	assert_string_equal(docs[2].reason, "max_chars");
	assert_int_equal(docs[3].fate, DF_FATE_FILTERED);
	assert_int_equal(counted("filtered:clean:min_chars"), 2);
	assert_int_equal(counted("filtered:clean:max_chars"), 1);
}

static void with_field(struct df_field *f, struct df_str key, struct df_str raw)
{
	fill_one(DF_STR("text"));
	*f = (struct df_field){key, raw};
	docs[0].field = f;
	docs[0].n_field = 1;
}

static bool survives(const char *pipeline, struct df_str key, struct df_str raw)
{
	struct df_field f;
	with_field(&f, key, raw);
	run(pipeline);
	return docs[0].fate == DF_FATE_OUT;
}

static void test_clean__requires_members_at_the_top_or_in_metadata(void **state)
{
	(void)state;
	const char *any = "clean min_chars=0 require=source,url", *all = "clean min_chars=0 require_all=source,url";
	struct df_str top = DF_STR("url"), meta = DF_STR("metadata");
	assert_true(survives(any, top, DF_STR("\"x\"")));
	assert_true(survives(any, top, DF_STR("0")));
	assert_true(survives(any, top, DF_STR("false")));
	assert_false(survives(any, top, DF_STR("null")));
	assert_false(survives(any, top, DF_STR("\"\"")));
	assert_false(survives(any, top, DF_STR("[ ]")));
	assert_false(survives(any, top, DF_STR("{}")));
	assert_false(survives(any, DF_STR("other"), DF_STR("1")));
	assert_true(survives(any, meta, DF_STR(" { \"a\" : {\"url\":[1,\"}\\\"\"]}, \"source\" : [0] } ")));
	assert_false(survives(any, meta, DF_STR("{\"a\":{\"url\":1},\"b\":\"\\\"url\\\":1\"}")));
	assert_false(survives(any, meta, DF_STR("{\"url\":1,\"url\":null}"))); /* the last of equal keys */
	assert_true(survives(any, meta, DF_STR("{\"\\u0075rl\":1}")));
	assert_false(survives(any, meta, DF_STR("\"url\"")));
	assert_false(survives(any, meta, DF_STR("[\"url\"]")));
	assert_false(survives(any, meta, DF_STR("{}")));
	assert_true(survives(all, meta, DF_STR("{\"url\":1,\"source\":2}")));
	assert_false(survives(all, meta, DF_STR("{\"url\":1}")));
	assert_int_equal(counted("filtered:clean:require_all"), 1);
}

static void test_clean__refuses_limits_that_leave_nothing(void **state)
{
	(void)state;
	fill_one(DF_STR("x"));
	assert_int_equal(run_in("clean min_chars=10 max_chars=9", dir), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "max_chars=9 is less than min_chars=10"));
}

static size_t sampled(const char *rate)
{
	size_t kept = 0;
	char pipeline[64];
	(void)snprintf(pipeline, sizeof(pipeline), "sample rate=%s", rate);
	for (int round = 0; round < 250; round++) {
		struct df_str text[N] = {DF_STR("")};
		fill(text, N);
		for (size_t i = 0; i < N; i++) {
			char *id = df_arena_alloc(&arena, 32);
			docs[i].id = (struct df_str){id, (size_t)snprintf(id, 32, "doc-%zu", (size_t)round * N + i)};
		}
		run(pipeline);
		for (size_t i = 0; i < N; i++)
			kept += docs[i].fate == DF_FATE_OUT;
	}
	return kept;
}

static void test_sample__keeps_its_share_and_the_same_documents_each_time(void **state)
{
	(void)state;
	size_t tenth = sampled("0.1");
	assert_in_range(tenth, 150, 250); /* of 2,000 */
	assert_int_equal(tenth, sampled("0.1"));
	assert_int_equal(sampled("0"), 0);
	assert_int_equal(sampled("1"), 2000);
}

static void test_chunk__rows_have_places_and_numbers(void **state)
{
	(void)state;
	const struct df_str text[] = {DF_STR("one \xC3\xA9\xC3\xA9 twos three, four one two three four one"),
				      DF_STR("two")};
	fill(text, 2);
	run("chunk tokens=8 overlap=2");
	assert_int_equal(batch.n_row, 4);
	const char *const want[] = {"one \xC3\xA9\xC3\xA9 twos three,", "three, four one two three",
				    "two three four one", "two"};
	for (size_t i = 0; i < 4; i++) {
		const struct df_row *row = batch.row[i];
		uint64_t start, end, from, to;
		assert_true(row->is_chunk && df_row_live(row));
		assert_int_equal(row->chunk_no, i == 3 ? 0 : i);
		assert_true(df_str_is(row->text, want[i]));
		assert_int_equal(df_str_to_u64(df_row_get(row, DF_STR("start")), &start), DF_OK);
		assert_int_equal(df_str_to_u64(df_row_get(row, DF_STR("end")), &end), DF_OK);
		assert_int_equal(df_str_to_u64(df_row_get(row, DF_STR("start_byte")), &from), DF_OK);
		assert_int_equal(df_str_to_u64(df_row_get(row, DF_STR("end_byte")), &to), DF_OK);
		assert_int_equal(df_utf8_advance(row->doc->text, 0, start), from);
		assert_int_equal(df_utf8_advance(row->doc->text, 0, end), to);
		assert_ptr_equal(row->text.p, row->doc->text.p + from);
		assert_null(df_row_get(row, DF_STR("source_start")).p);
	}
	assert_member(batch.row[0], "token_count", "8");
	assert_int_equal(docs[0].n_row, 3);
	assert_int_equal(counted("chunks"), 4);
}

static void test_chunk__tells_the_place_in_the_text_as_received(void **state)
{
	(void)state;
	fill_one(DF_STR("\xC3\xA9 \t\t one  two   three   four one"));
	run("normalize | chunk chars=9");
	assert_int_equal(batch.n_row, 3);
	assert_true(df_str_is(batch.row[1]->text, "three"));
	assert_member(batch.row[1], "start", "10");
	assert_member(batch.row[1], "source_start", "16");
	assert_member(batch.row[1], "source_end", "21");
	assert_null(df_row_get(batch.row[1], DF_STR("token_count")).p);
}

static void test_chunk__an_empty_text_is_dropped_and_too_many_chunks_reject(void **state)
{
	(void)state;
	const struct df_str text[] = {DF_STR(" \n"), DF_STR(""), DF_STR("one two three four"), DF_STR("one")};
	fill(text, 4);
	run("chunk chars=5 max_chunks=2");
	assert_string_equal(docs[0].reason, "empty");
	assert_string_equal(docs[1].reason, "empty");
	assert_int_equal(docs[2].fate, DF_FATE_REJECTED);
	assert_int_equal(docs[2].err, DF_ERR_LIMIT);
	assert_int_equal(docs[3].fate, DF_FATE_OUT);
	size_t live = 0;
	for (size_t i = 0; i < batch.n_row; i++)
		live += df_row_live(batch.row[i]);
	assert_int_equal(live, 1);
	fill(text, 4);
	run("chunk");
	assert_int_equal(docs[1].fate, DF_FATE_FILTERED);
	assert_int_equal(docs[2].fate, DF_FATE_OUT);
}

static void test_chunk__chunks_of_chunks_are_numbered_within_the_document(void **state)
{
	(void)state;
	fill_one(DF_STR("one two three four one two"));
	run("chunk chars=13 | chunk chars=7");
	assert_int_equal(batch.n_row, 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(batch.row[i]->chunk_no, i);
	assert_true(df_str_is(batch.row[2]->text, "four"));
	assert_member(batch.row[2], "start", "0"); /* of the text as the second one received it */
	assert_member(batch.row[2], "source_start", "14");
	assert_int_equal(docs[0].n_row, 4);
}

static void test_chunk__refuses_options_that_do_not_go_together(void **state)
{
	(void)state;
	fill_one(DF_STR("one"));
	assert_int_equal(run_in("chunk tokens=20 chars=100", dir), DF_ERR_USAGE);
	assert_int_equal(run_in("chunk chars=10 overlap=10", dir), DF_ERR_USAGE);
	assert_int_equal(run_in("chunk tokens=20 overlap=18", dir), DF_ERR_USAGE);
	assert_int_equal(run_in("chunk overlap=254", dir), DF_ERR_USAGE);
	assert_int_equal(run_in("chunk tokens=300 | embed", dir), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "max_tokens=256"));
	assert_int_equal(run_in("chunk tokens=300 | embed max_tokens=300", dir), DF_OK);
	assert_int_equal(run_in("chunk | embed max_tokens=64", dir), DF_OK);
}

static void test_chunk__says_how_to_get_a_model_that_is_missing(void **state)
{
	(void)state;
	fill_one(DF_STR("one"));
	assert_int_equal(run_in("chunk", "/nonexistent"), DF_ERR_NOT_FOUND);
	assert_string_equal(fail.msg, "model 'all-MiniLM-L6-v2' is not in the cache; run 'docflume models fetch'");
	assert_int_equal(run_in("tokenise", "/nonexistent"), DF_ERR_NOT_FOUND);
	assert_int_equal(run_in("chunk | embed model=other", dir), DF_ERR_NOT_FOUND);
	assert_non_null(strstr(fail.msg, "'other'"));
}

static void test_tokenise__adds_ids_and_counts_what_it_cut(void **state)
{
	(void)state;
	const struct df_str text[] = {DF_STR("One twos"), DF_STR(""), DF_STR("what, four four")};
	fill(text, 3);
	run("tokenise max_tokens=5");
	assert_member(row_p[0], "tokens", "[2,4,5,7,3]");
	assert_member(row_p[0], "token_count", "5");
	assert_member(row_p[1], "tokens", "[2,3]");
	assert_member(row_p[2], "tokens", "[2,1,8,9,3]");
	assert_int_equal(counted("truncated"), 1);
	assert_int_equal(counted("tokens"), 12);
	fill(text, 3);
	run("tokenise special=false");
	assert_member(row_p[0], "tokens", "[4,5,7]");
	assert_member(row_p[1], "tokens", "[]");
	assert_member(row_p[2], "token_count", "4");
	assert_int_equal(counted("truncated"), 0);
	assert_int_equal(run_in("tokenise max_tokens=1", dir), DF_ERR_USAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_count__adds_four_numbers),
		cmocka_unit_test(test_editors__keep_the_way_back_to_the_text_as_received),
		cmocka_unit_test(test_editors__leave_an_untouched_text_alone),
		cmocka_unit_test(test_strip__makes_a_blank_text_empty),
		cmocka_unit_test(test_clean__counts_code_points_not_bytes),
		cmocka_unit_test(test_clean__requires_members_at_the_top_or_in_metadata),
		cmocka_unit_test(test_clean__refuses_limits_that_leave_nothing),
		cmocka_unit_test(test_sample__keeps_its_share_and_the_same_documents_each_time),
		cmocka_unit_test(test_chunk__rows_have_places_and_numbers),
		cmocka_unit_test(test_chunk__tells_the_place_in_the_text_as_received),
		cmocka_unit_test(test_chunk__an_empty_text_is_dropped_and_too_many_chunks_reject),
		cmocka_unit_test(test_chunk__chunks_of_chunks_are_numbered_within_the_document),
		cmocka_unit_test(test_chunk__refuses_options_that_do_not_go_together),
		cmocka_unit_test(test_chunk__says_how_to_get_a_model_that_is_missing),
		cmocka_unit_test(test_tokenise__adds_ids_and_counts_what_it_cut),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
