// SPDX-License-Identifier: Apache-2.0
/* test_provider_vectors: embeddings out of answers: by index, whole, finite, of one length; and streams that are whole or not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/help_provider.h"
#include "worker/provider/fake.h"

static struct df_arena arena;
static struct df_answer answer;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 256 << 20, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static void embed(const char *provider, size_t n, int64_t dimensions, const char *body)
{
	struct df_ask ask = help_embed("m", n);
	struct df_http_response r = help_response(200, "content-type: application/json", body);
	ask.dimensions = dimensions;
	memset(&answer, 0xee, sizeof(answer));
	help_provider(provider)->parse(&ask, &r, &arena, &answer);
}

static void assert_bad(const char *words)
{
	if (answer.class != DF_CALL_BAD_ANSWER || !strstr(answer.message, words))
		fail_msg("class %d, message '%s' (not '%s')", (int)answer.class, answer.message, words);
}

static void assert_vectors(size_t n, uint32_t dim, const float *v)
{
	if (answer.class != DF_CALL_OK)
		fail_msg("class %d: %s", (int)answer.class, answer.message);
	assert_int_equal(answer.n_vector, n);
	assert_int_equal(answer.dim, dim);
	assert_memory_equal(answer.vector, v, n * dim * sizeof(float));
}

#define ROW(i, v) "{\"object\":\"embedding\",\"index\":" #i ",\"embedding\":" v "}"

static void test_vectors__belong_to_their_index_whatever_their_order(void **state)
{
	const float expected[] = {1, -2.5F, 0.25F, 1e-7F};
	(void)state;
	embed("openai", 2, 0,
	      "{\"object\":\"list\",\"data\":[" ROW(1, "[ 0.25 , 1e-7 ]") "," ROW(
		      0, "[1,-2.50]") "],\"model\":\"e\",\"usage\":"
				      "{\"prompt_tokens\":5,\"total_tokens\":5}}");
	assert_vectors(2, 2, expected);
	assert_int_equal(answer.usage.in, 5);
	assert_true(answer.usage.known);
	/* base64 of the same, little-endian: 00 00 80 3f 00 00 20 c0; 00 00 80 3e 95 bf d6 33 */
	embed("openai", 2, 2, "{\"data\":[" ROW(1, "\"AACAPpW/1jM=\"") "," ROW(0, "\"AACAPwAAIMA\"") "]}");
	assert_vectors(2, 2, expected);
	assert_int_equal(answer.usage.in, 5); /* as was counted before */
	assert_false(answer.usage.known);
	embed("tei", 2, 0, "[[1,-2.5],[0.25,0.0000001]]");
	assert_vectors(2, 2, expected);
	embed("ollama", 2, 0, "{\"embeddings\":[[1,-2.5],[0.25,1E-7]],\"prompt_eval_count\":4}");
	assert_vectors(2, 2, expected);
	embed("gemini", 2, 0, "{\"embeddings\":[{\"values\":[1,-2.5]},{\"values\":[0.25,1e-7]}]}");
	assert_vectors(2, 2, expected);
	embed("cohere", 2, 0,
	      "{\"embeddings\":{\"float\":[[1,-2.5],[0.25,1e-7]]},\"meta\":{\"billed_units\":{\"input_tokens\":9}}}");
	assert_vectors(2, 2, expected);
	assert_int_equal(answer.usage.in, 9);
	embed("tei", 1, 0, "[[1,-2.5]]");
	assert_vectors(1, 2, expected);
	embed("tei", 1, 0, "[[1]]");
	assert_vectors(1, 1, expected);
}

static void test_vectors__that_do_not_fit_are_refused_by_name(void **state)
{
	(void)state;
	embed("openai", 2, 0, "{\"data\":[" ROW(0, "[1,2]") "]}");
	assert_bad("1 vectors for 2 inputs");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[1,2]") "," ROW(1, "[1,2]") "]}");
	assert_bad("index 1, but only 1");
	embed("openai", 2, 0, "{\"data\":[" ROW(0, "[1,2]") "," ROW(0, "[1,2]") "]}");
	assert_bad("input 0 of 2 came twice");
	embed("openai", 2, 0, "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":[1,2]}]}");
	assert_bad("without an index");
	embed("openai", 2, 0, "{\"data\":[" ROW(-1, "[1,2]") "," ROW(0, "[1,2]") "]}");
	assert_bad("without an index");
	embed("openai", 2, 0, "{\"data\":[" ROW(0, "[1,2]") "," ROW(1, "[1,2,3]") "]}");
	assert_bad("input 1 of 2 has 3 dimensions, others of the same answer 2");
	embed("openai", 1, 3, "{\"data\":[" ROW(0, "[1,2]") "]}");
	assert_bad("has 2 dimensions, not the 3 that were asked for");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[1,NaN]") "]}");
	assert_bad("has NaN, infinity or null");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[1,-Infinity]") "]}");
	assert_bad("has NaN, infinity or null");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[1,null]") "]}");
	assert_bad("has NaN, infinity or null");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[1,1e39]") "]}");
	assert_bad("has NaN, infinity or null");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "\"AADAfwAAgD8=\"") "]}"); /* a NaN in base64 */
	assert_bad("has NaN, infinity or null");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "\"AACAPw\"") "," ROW(0, "[1]") "]}");
	assert_bad("came twice");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "\"AACA\"") "]}");
	assert_bad("base64");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "\"A?CAPw==\"") "]}");
	assert_bad("base64");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "\"\"") "]}");
	assert_bad("base64");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[[1,2],[3,4]]") "]}");
	assert_bad("a list of 2 lists");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[]") "]}");
	assert_bad("not a list of numbers");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[\"a\"]") "]}");
	assert_bad("not a list of numbers");
	embed("openai", 1, 0, "{\"data\":[{\"index\":0}]}");
	assert_bad("is missing");
	embed("openai", 1, 0, "{\"data\":{}}");
	assert_bad("no list 'data'");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[1,2"));
	assert_bad("not whole JSON");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[1,2,]") "]}");
	assert_bad("not whole JSON");
	embed("openai", 1, 0, "{\"data\":[" ROW(0, "[01,2]") "]}");
	assert_bad("not whole JSON");
	embed("openai", 1, 0, "Internal Server Error");
	assert_bad("not whole JSON");
	embed("tei", 1, 0, "[0.5,0.25]");
	assert_bad("one list of numbers, not a list of vectors");
	embed("tei", 2, 0, "[[0.5,0.25]]");
	assert_bad("1 vectors for 2 inputs");
	embed("tei", 1, 0, "{\"embeddings\":[[1]]}");
	assert_bad("no list");
	embed("ollama", 1, 0, "{\"embedding\":[1,2]}");
	assert_bad("no list 'embeddings'");
	embed("gemini", 1, 0, "{\"embeddings\":[[1,2]]}");
	assert_bad("is missing");
	embed("cohere", 1, 0, "{\"embeddings\":[[1,2]]}");
	assert_bad("embeddings.float");
}

/* The fast way and strtod agree on every number that shortest printing makes. */
static void test_vectors__numbers_are_read_as_strtod_reads_them(void **state)
{
	uint64_t random = 7;
	(void)state;
	for (int round = 0; round < 200; round++) {
		float expected[50];
		char body[4096] = "[[";
		for (size_t i = 0; i < 50; i++) {
			char z[40];
			double v = ((double)(df_fake_next(&random) >> 11) * 0x1p-53 - 0.5) *
				   pow(10, (double)(df_fake_next(&random) % 40) - 30);
			(void)snprintf(z, sizeof(z), df_fake_next(&random) & 1 ? "%.17g" : "%.9g", v);
			expected[i] = (float)strtod(z, NULL);
			size_t n = strlen(body);
			(void)snprintf(body + n, sizeof(body) - n, "%s%s", i ? "," : "", z);
		}
		size_t n = strlen(body);
		(void)snprintf(body + n, sizeof(body) - n, "]]");
		df_arena_reset(&arena);
		embed("tei", 1, 0, body);
		assert_vectors(1, 50, expected);
	}
}

static void test_vectors__a_full_batch_stays_small(void **state)
{
	struct df_buf b;
	struct df_str *input = calloc(2048, sizeof(*input));
	(void)state;
	df_buf_init(&b, 64 << 20);
	(void)df_buf_addz(&b, "{\"data\":[");
	for (int i = 0; i < 2048; i++) {
		input[i] = DF_STR("x");
		(void)df_buf_addf(&b, "%s{\"index\":%d,\"embedding\":[", i ? "," : "", 2047 - i);
		for (int k = 0; k < 1536; k++)
			(void)df_buf_addf(&b, "%s%d.%03d", k ? "," : "", 2047 - i, k % 1000);
		(void)df_buf_addz(&b, "]}");
	}
	(void)df_buf_addz(&b, "]}");
	struct df_ask ask = help_embed("m", 2048);
	struct df_http_response r = help_response(200, NULL, "");
	ask.input = input;
	r.body = df_buf_str(&b);
	help_provider("openai")->parse(&ask, &r, &arena, &answer);
	assert_int_equal(answer.class, DF_CALL_OK);
	for (size_t i = 0; i < 2048; i += 97)
		assert_true(answer.vector[i * 1536 + 1] == (float)((double)i + 0.001));
	assert_true(arena.total < 4 * 2048 * 1536 * sizeof(float)); /* a tree of values would be 30 times that */
	df_buf_release(&b);
	free(input);
}

/* ------------------------------------------------------------------ streams */

/* lines: "type|data" (or data alone), one event each. */
static struct df_stream stream;
static char heard[1024];

static void feed(const char *provider, const struct df_ask *ask, const char *lines)
{
	struct df_arena scratch;
	const struct df_provider *p = help_provider(provider);
	memset(&stream, 0, sizeof(stream));
	memset(&answer, 0, sizeof(answer));
	heard[0] = '\0';
	df_arena_init(&scratch, 1 << 20, 0);
	while (*lines && !stream.failed) {
		const char *end = strchr(lines, '\n');
		size_t n = end ? (size_t)(end - lines) : strlen(lines);
		const char *bar = memchr(lines, '|', n);
		struct df_str type = {lines, bar ? (size_t)(bar - lines) : 0}, text;
		struct df_str data = bar ? (struct df_str){bar + 1, n - type.n - 1} : (struct df_str){lines, n};
		p->event(ask, type, data, &stream, &text, &scratch, &answer);
		if (!stream.failed)
			(void)snprintf(heard + strlen(heard), sizeof(heard) - strlen(heard), DF_STR_FMT,
				       DF_STR_ARG(text));
		df_arena_reset(&scratch);
		lines += n + (end != NULL);
	}
	df_arena_release(&scratch);
	df_stream_answer(ask, &stream, &arena, &answer);
	df_stream_release(&stream);
}

static void assert_streamed(const char *text, enum df_finish finish, uint64_t in, uint64_t out, bool known)
{
	if (answer.class != DF_CALL_OK)
		fail_msg("class %d: %s", (int)answer.class, answer.message);
	assert_string_equal(answer.text.p, text);
	assert_string_equal(heard, text);
	assert_int_equal(answer.finish, finish);
	assert_int_equal(answer.usage.in, in);
	assert_int_equal(answer.usage.out, out);
	assert_int_equal(answer.usage.known, known);
}

#define DELTA(t)                                                                                                       \
	"{\"model\":\"g\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" t                                       \
	"\"},\"finish_reason\":null}],\"usage\":null}\n"
#define STOP "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n"

static void test_stream__of_openai_with_usage_in_a_chunk_without_choices(void **state)
{
	struct df_ask ask = help_chat("m");
	(void)state;
	feed("openai", &ask,
	     DELTA("") DELTA("Hel") DELTA("lo \\u2713") STOP
	     "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n[DONE]");
	assert_streamed("Hello \xe2\x9c\x93", DF_FINISH_STOP, 9, 4, true);
	assert_true(df_str_is(answer.model, "g"));
	feed("openai", &ask, DELTA("Hello") STOP "[DONE]"); /* the usage chunk may never come */
	assert_streamed("Hello", DF_FINISH_STOP, 20, 5, false);
}

static void test_stream__of_several_answers_is_the_first_of_them(void **state)
{
	struct df_ask ask = help_chat("m");
	(void)state;
	feed("openai", &ask,
	     "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"Bye\"}}]}\n" DELTA("Hello") STOP
	     "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\" you\"},\"finish_reason\":\"length\"}]}\n[DONE]");
	assert_streamed("Hello", DF_FINISH_STOP, 20, 5, false);
}

static void test_stream__without_its_end_is_not_whole(void **state)
{
	struct df_ask ask = help_chat("m");
	(void)state;
	feed("openai", &ask, DELTA("Hello") STOP);
	assert_bad("without its end event, after 5 bytes");
	assert_int_equal(answer.usage.out, 5); /* what came has been paid for */
	feed("openai", &ask, DELTA("Hello") "[DONE]");
	assert_bad("without a finish reason");
	feed("openai", &ask, "");
	assert_bad("without its end event");
	feed("anthropic", &ask,
	     "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n"
	     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}");
	assert_bad("without its end event");
	feed("gemini", &ask, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}]}");
	assert_bad("without its end event");
	feed("ollama", &ask, "{\"message\":{\"content\":\"Hi\"},\"done\":false}");
	assert_bad("without its end event");
	feed("cohere", &ask, "{\"type\":\"content-delta\",\"delta\":{\"message\":{\"content\":{\"text\":\"Hi\"}}}}");
	assert_bad("without its end event");
	feed("responses", &ask, "{\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}");
	assert_bad("without its end event");
}

static void test_stream__an_error_inside_of_it_ends_it(void **state)
{
	struct df_ask ask = help_chat("m");
	(void)state;
	feed("openai", &ask,
	     DELTA("Hello") "{\"error\":{\"message\":\"The server is on fire\",\"type\":\"server_error\"}}\n[DONE]");
	assert_int_equal(answer.class, DF_CALL_RETRY);
	assert_non_null(strstr(answer.message, "on fire"));
	assert_int_equal(answer.usage.out, 5);
	feed("anthropic", &ask,
	     "error|{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}");
	assert_int_equal(answer.class, DF_CALL_RETRY);
	assert_string_equal(answer.code, "overloaded_error");
	feed("anthropic", &ask,
	     "error|{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}");
	assert_int_equal(answer.class, DF_CALL_RATE);
	feed("responses", &ask,
	     "{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":"
	     "\"slow\"}}}");
	assert_int_equal(answer.class, DF_CALL_RATE);
	feed("ollama", &ask, "{\"error\":\"the model stopped\"}");
	assert_int_equal(answer.class, DF_CALL_RETRY);
	feed("openai", &ask, "{\"choices\":[{\"delta\":");
	assert_bad("an event of the stream is not JSON");
	feed("cohere", &ask, "{\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"ERROR\"}}");
	assert_int_equal(answer.class, DF_CALL_RETRY);
	feed("gemini", &ask, "{\"promptFeedback\":{\"blockReason\":\"OTHER\"}}");
	assert_int_equal(answer.class, DF_CALL_BAD_INPUT);
}

static void test_stream__of_the_others(void **state)
{
	struct df_ask ask = help_chat("claude-sonnet-4-5");
	(void)state;
	feed("anthropic", &ask,
	     "message_start|{\"type\":\"message_start\",\"message\":{\"model\":\"c\",\"usage\":{\"input_tokens\":25,"
	     "\"output_tokens\":1}}}\n"
	     "ping|{\"type\":\"ping\"}\n"
	     "content_block_start|{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\","
	     "\"text\":\"\"}}\n"
	     "content_block_delta|{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\","
	     "\"text\":\"Hel\"}}\n"
	     "content_block_delta|{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\","
	     "\"text\":\"lo\"}}\n"
	     "message_delta|{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_"
	     "tokens\":15}}\n"
	     "something_new|{\"type\":\"something_new\"}\n"
	     "message_stop|{\"type\":\"message_stop\"}");
	assert_streamed("Hello", DF_FINISH_LENGTH, 25, 15, true);
	ask.schema = DF_STR("{\"type\":\"object\"}");
	feed("anthropic", &ask,
	     "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Sure:\"}}\n"
	     "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{"
	     "\\\"a\\\"\"}}\n"
	     "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\": 1}\"}}\n"
	     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":15}}\n"
	     "{\"type\":\"message_stop\"}");
	assert_streamed("{\"a\": 1}", DF_FINISH_STOP, 20, 8, false);
	ask.schema = (struct df_str){NULL, 0};
	feed("gemini", &ask,
	     "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}]}}],\"usageMetadata\":{\"promptTokenCount\":"
	     "4}}\n"
	     "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"lo\"}]},\"finishReason\":\"STOP\"}],"
	     "\"usageMetadata\":"
	     "{\"promptTokenCount\":4,\"candidatesTokenCount\":2}}");
	assert_streamed("Hello", DF_FINISH_STOP, 4, 2, true);
	feed("cohere", &ask,
	     "{\"type\":\"message-start\",\"id\":\"x\"}\n"
	     "{\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"Hello\"}}}}\n"
	     "{\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_"
	     "tokens\":3,"
	     "\"output_tokens\":2}}}}\n[DONE]");
	assert_streamed("Hello", DF_FINISH_STOP, 3, 2, true);
	assert_int_equal(help_provider("ollama")->stream_form, DF_STREAM_LINES);
	feed("ollama", &ask,
	     "{\"model\":\"l\",\"message\":{\"content\":\"Hel\"},\"done\":false}\n"
	     "{\"model\":\"l\",\"message\":{\"content\":\"lo\"},\"done\":false}\n"
	     "{\"model\":\"l\",\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"length\",\"prompt_eval_"
	     "count\":6,\"eval_count\":2}");
	assert_streamed("Hello", DF_FINISH_LENGTH, 6, 2, true);
	feed("responses", &ask,
	     "response.created|{\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\"}}\n"
	     "response.output_text.delta|{\"type\":\"response.output_text.delta\",\"delta\":\"Hello\"}\n"
	     "response.completed|{\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"model\":"
	     "\"g\",\"usage\":"
	     "{\"input_tokens\":8,\"output_tokens\":3}}}");
	assert_streamed("Hello", DF_FINISH_STOP, 8, 3, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_vectors__belong_to_their_index_whatever_their_order, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_vectors__that_do_not_fit_are_refused_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vectors__numbers_are_read_as_strtod_reads_them, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vectors__a_full_batch_stays_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream__of_openai_with_usage_in_a_chunk_without_choices, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_stream__of_several_answers_is_the_first_of_them, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream__without_its_end_is_not_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream__an_error_inside_of_it_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream__of_the_others, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
