// SPDX-License-Identifier: Apache-2.0
/* test_provider_answers: answers of many shapes and what is made of them: class, words, usage, text, and when to come again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/help_provider.h"
#include "worker/provider/wire/wire.h"

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

static void parse(const char *provider, const struct df_ask *ask, long status, const char *headers, const char *body)
{
	struct df_http_response r = help_response(status, headers, body);
	memset(&answer, 0xee, sizeof(answer));
	help_provider(provider)->parse(ask, &r, &arena, &answer);
}

static void parse_chat(const char *provider, long status, const char *headers, const char *body)
{
	struct df_ask ask = help_chat("m");
	parse(provider, &ask, status, headers, body);
}

static void assert_says(enum df_call_class class, const char *words)
{
	if (answer.class != class || !strstr(answer.message, words))
		fail_msg("class %d (not %d), message '%s' (not '%s')", (int)answer.class, (int)class, answer.message,
			 words);
}

static void assert_text(const char *text, enum df_finish finish, uint64_t in, uint64_t cached, uint64_t out)
{
	if (answer.class != DF_CALL_OK)
		fail_msg("class %d: %s", (int)answer.class, answer.message);
	assert_true(df_str_is(answer.text, text));
	assert_int_equal(answer.finish, finish);
	assert_int_equal(answer.usage.in, in);
	assert_int_equal(answer.usage.cached_in, cached);
	assert_int_equal(answer.usage.out, out);
}

/* ------------------------------------------------------------------ whole answers */

static void test_openai__text_usage_and_finish(void **state)
{
	(void)state;
	parse_chat("openai", 200, "content-type: application/json",
		   "{\"id\":\"c\",\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
		   "\"assistant\","
		   "\"content\":\"Hi "
		   "\\u2713\",\"refusal\":null},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":19,"
		   "\"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":8}}}");
	assert_text("Hi \xe2\x9c\x93", DF_FINISH_STOP, 19, 8, 10);
	assert_true(answer.usage.known);
	assert_int_equal(answer.retry_after_ms, -1);
	assert_true(df_str_is(answer.model, "gpt-4o-mini-2024-07-18"));
	parse_chat("mistral", 200, NULL,
		   "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\","
		   "\"text\":\"hm\"}]},"
		   "{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},\"finish_reason\":\"model_"
		   "length\"}],"
		   "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}");
	assert_text("ab", DF_FINISH_LENGTH, 3, 0, 2);
	parse_chat(
		"openai", 200, NULL,
		"{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"I cannot.\"},\"finish_reason\":\"stop\"}],"
		"\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}");
	assert_text("I cannot.", DF_FINISH_FILTER, 3, 0, 2);
	parse_chat("openai", 200, NULL,
		   "{\"choices\":[{\"message\":{\"content\":null},\"finish_reason\":\"length\"}],"
		   "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":800}}");
	assert_text("", DF_FINISH_LENGTH, 3, 0, 800);
}

static void test_answers__of_the_others(void **state)
{
	struct df_ask ask = help_chat("claude-3-haiku-20240307");
	(void)state;
	parse_chat("responses", 200, NULL,
		   "{\"status\":\"completed\",\"model\":\"gpt-5\",\"output\":[{\"type\":\"reasoning\",\"summary\":[]},{"
		   "\"type\":\"message\","
		   "\"content\":[{\"type\":\"output_text\",\"text\":\"Hi\"}]}],\"usage\":{\"input_tokens\":9,\"input_"
		   "tokens_details\":"
		   "{\"cached_tokens\":4},\"output_tokens\":70}}");
	assert_text("Hi", DF_FINISH_STOP, 9, 4, 70);
	parse_chat("responses", 200, NULL,
		   "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[],"
		   "\"usage\":{\"input_tokens\":9,\"output_tokens\":70}}");
	assert_text("", DF_FINISH_LENGTH, 9, 0, 70);
	parse_chat("anthropic", 200, NULL,
		   "{\"type\":\"message\",\"model\":\"claude\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],"
		   "\"stop_reason\":"
		   "\"end_turn\",\"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":5,\"cache_creation_input_"
		   "tokens\":1,"
		   "\"output_tokens\":3}}");
	assert_text("Hi", DF_FINISH_STOP, 16, 5, 3);
	ask.schema = DF_STR("{\"type\":\"object\"}");
	parse("anthropic", &ask, 200, NULL,
	      "{\"content\":[{\"type\":\"text\",\"text\":\"Sure\"},{\"type\":\"tool_use\",\"name\":\"answer\","
	      "\"input\":{\"a\": 1.50}}],"
	      "\"stop_reason\":\"tool_use\",\"usage\":{\"input_tokens\":10,\"output_tokens\":3}}");
	assert_text("{\"a\": 1.50}", DF_FINISH_STOP, 10, 0, 3);
	parse_chat("gemini", 200, NULL,
		   "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true},{\"text\":\"H\"},{"
		   "\"text\":\"i\"}]},"
		   "\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":2,"
		   "\"thoughtsTokenCount\":30,\"cachedContentTokenCount\":1},\"modelVersion\":\"g\"}");
	assert_text("Hi", DF_FINISH_STOP, 7, 1, 32);
	parse_chat("cohere", 200, NULL,
		   "{\"finish_reason\":\"MAX_TOKENS\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]},"
		   "\"usage\":"
		   "{\"billed_units\":{\"input_tokens\":5,\"output_tokens\":2},\"tokens\":{\"input_tokens\":71,"
		   "\"output_tokens\":2}}}");
	assert_text("Hi", DF_FINISH_LENGTH, 5, 0, 2);
	parse_chat("ollama", 200, NULL,
		   "{\"model\":\"l\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":true,\"done_"
		   "reason\":\"stop\","
		   "\"prompt_eval_count\":5,\"eval_count\":2}");
	assert_text("Hi", DF_FINISH_STOP, 5, 0, 2);
}

struct end_case {
	const char *provider, *format, *word;
	enum df_call_class class;
	enum df_finish finish;
};

#define OPENAI_END "{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"%s\"}]}"
#define ANTHROPIC_END "{\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"stop_reason\":\"%s\"}"
#define GEMINI_END "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"%s\"}]}"
#define COHERE_END "{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},\"finish_reason\":\"%s\"}"
#define OLLAMA_END "{\"message\":{\"content\":\"a\"},\"done\":true,\"done_reason\":\"%s\"}"
#define RESPONSES_END                                                                                                  \
	"{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"%s\"},\"output\":[{\"type\":\"message\","     \
	"\"content\":[{\"type\":\"output_text\",\"text\":\"a\"}]}]}"

static const struct end_case ends[] = {
	{"openai", OPENAI_END, "stop", DF_CALL_OK, DF_FINISH_STOP},
	{"openai", OPENAI_END, "length", DF_CALL_OK, DF_FINISH_LENGTH},
	{"openai", OPENAI_END, "content_filter", DF_CALL_OK, DF_FINISH_FILTER},
	{"openai", OPENAI_END, "tool_calls", DF_CALL_OK, DF_FINISH_OTHER},
	{"openai", OPENAI_END, "never_heard_of", DF_CALL_OK, DF_FINISH_OTHER},
	{"vllm", OPENAI_END, "eos_token", DF_CALL_OK, DF_FINISH_STOP},
	{"vllm", OPENAI_END, "abort", DF_CALL_RETRY, DF_FINISH_OTHER},
	{"mistral", OPENAI_END, "model_length", DF_CALL_OK, DF_FINISH_LENGTH},
	{"mistral", OPENAI_END, "error", DF_CALL_RETRY, DF_FINISH_OTHER},
	{"openai", OPENAI_END, "", DF_CALL_BAD_ANSWER, DF_FINISH_OTHER},
	{"responses", RESPONSES_END, "max_output_tokens", DF_CALL_OK, DF_FINISH_LENGTH},
	{"responses", RESPONSES_END, "content_filter", DF_CALL_OK, DF_FINISH_FILTER},
	{"responses", RESPONSES_END, "other", DF_CALL_OK, DF_FINISH_OTHER},
	{"anthropic", ANTHROPIC_END, "end_turn", DF_CALL_OK, DF_FINISH_STOP},
	{"anthropic", ANTHROPIC_END, "max_tokens", DF_CALL_OK, DF_FINISH_LENGTH},
	{"anthropic", ANTHROPIC_END, "model_context_window_exceeded", DF_CALL_OK, DF_FINISH_LENGTH},
	{"anthropic", ANTHROPIC_END, "refusal", DF_CALL_OK, DF_FINISH_FILTER},
	{"anthropic", ANTHROPIC_END, "pause_turn", DF_CALL_OK, DF_FINISH_OTHER},
	{"gemini", GEMINI_END, "STOP", DF_CALL_OK, DF_FINISH_STOP},
	{"gemini", GEMINI_END, "MAX_TOKENS", DF_CALL_OK, DF_FINISH_LENGTH},
	{"gemini", GEMINI_END, "SAFETY", DF_CALL_OK, DF_FINISH_FILTER},
	{"gemini", GEMINI_END, "RECITATION", DF_CALL_OK, DF_FINISH_FILTER},
	{"gemini", GEMINI_END, "MALFORMED_FUNCTION_CALL", DF_CALL_OK, DF_FINISH_OTHER},
	{"gemini", GEMINI_END, "OTHER", DF_CALL_OK, DF_FINISH_OTHER},
	{"cohere", COHERE_END, "COMPLETE", DF_CALL_OK, DF_FINISH_STOP},
	{"cohere", COHERE_END, "MAX_TOKENS", DF_CALL_OK, DF_FINISH_LENGTH},
	{"cohere", COHERE_END, "ERROR_TOXIC", DF_CALL_OK, DF_FINISH_FILTER},
	{"cohere", COHERE_END, "TOOL_CALL", DF_CALL_OK, DF_FINISH_OTHER},
	{"cohere", COHERE_END, "TIMEOUT", DF_CALL_RETRY, DF_FINISH_OTHER},
	{"ollama", OLLAMA_END, "stop", DF_CALL_OK, DF_FINISH_STOP},
	{"ollama", OLLAMA_END, "length", DF_CALL_OK, DF_FINISH_LENGTH},
	{"ollama", OLLAMA_END, "unload", DF_CALL_OK, DF_FINISH_OTHER},
};

static void test_answers__end_for_the_reason_that_their_provider_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		const struct end_case *e = &ends[i];
		const char *gap = strstr(e->format, "%s");
		char body[512];
		(void)snprintf(body, sizeof(body), "%.*s%s%s", (int)(gap - e->format), e->format, e->word, gap + 2);
		parse_chat(e->provider, 200, NULL, body);
		if (answer.class != e->class || answer.finish != e->finish ||
		    (answer.class == DF_CALL_OK && strcmp(answer.finish_word, e->word) != 0))
			fail_msg("%s '%s': class %d, finish %d, word '%s': %s", e->provider, e->word, (int)answer.class,
				 (int)answer.finish, answer.finish_word, answer.message);
	}
}

static void test_usage__that_is_missing_or_zero_is_estimated_from_above(void **state)
{
	struct df_ask ask = help_chat("m");
	(void)state;
	parse_chat("openai", 200, NULL,
		   "{\"choices\":[{\"message\":{\"content\":\"abcde\"},\"finish_reason\":\"stop\"}]}");
	assert_text("abcde", DF_FINISH_STOP, 20, 0, 5);
	assert_false(answer.usage.known);
	ask.max_tokens = 3;
	parse("anthropic", &ask, 200, NULL,
	      "{\"content\":[{\"type\":\"text\",\"text\":\"abcde\"}],\"stop_reason\":\"end_turn\",\"usage\":{\"input_"
	      "tokens\":0,"
	      "\"output_tokens\":0}}");
	assert_text("abcde", DF_FINISH_STOP, 20, 0, 3);
	assert_false(answer.usage.known);
}

/* ------------------------------------------------------------------ answers that are none */

static void test_bad_answers__name_what_was_wrong(void **state)
{
	(void)state;
	parse_chat("openai", 200, "content-type: application/json", "{\"choices\":[{\"message\":{\"content\":\"Hel");
	assert_says(DF_CALL_BAD_ANSWER, "is not whole JSON");
	parse_chat("openai", 200, "content-type: text/html; charset=utf-8", "<html><body>Welcome</body></html>");
	assert_says(DF_CALL_BAD_ANSWER, "content type 'text/html");
	assert_says(DF_CALL_BAD_ANSWER, "it begins with '<html>");
	parse_chat("openai", 200, NULL, "");
	assert_says(DF_CALL_BAD_ANSWER, "empty body");
	parse_chat("openai", 200, NULL, "{}");
	assert_says(DF_CALL_BAD_ANSWER, "no 'choices'");
	parse_chat("openai", 200, NULL, "{\"choices\":[]}");
	assert_says(DF_CALL_BAD_ANSWER, "no 'choices'");
	parse_chat("openai", 200, NULL, "{\"choices\":[{\"message\":{},\"finish_reason\":\"stop\"}]}");
	assert_says(DF_CALL_BAD_ANSWER, "no text");
	parse_chat("openai", 200, NULL, "[1,2]");
	assert_says(DF_CALL_BAD_ANSWER, "no 'choices'");
	parse_chat("anthropic", 200, NULL, "{\"content\":[]}");
	assert_says(DF_CALL_BAD_ANSWER, "stop_reason");
	parse_chat("gemini", 200, NULL, "{\"usageMetadata\":{}}");
	assert_says(DF_CALL_BAD_ANSWER, "candidates");
	parse_chat("gemini", 200, NULL, "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}");
	assert_says(DF_CALL_BAD_INPUT, "refused (SAFETY)");
	parse_chat("cohere", 200, NULL, "{\"finish_reason\":\"ERROR\",\"message\":{\"content\":[]}}");
	assert_says(DF_CALL_RETRY, "broke off");
	parse_chat("ollama", 200, NULL, "{\"message\":{\"content\":\"Hi\"},\"done\":false}");
	assert_says(DF_CALL_BAD_ANSWER, "done");
	parse_chat("responses", 200, NULL, "{\"status\":\"completed\",\"output\":[]}");
	assert_says(DF_CALL_BAD_ANSWER, "no message");
}

static void test_no_answer__is_tried_again(void **state)
{
	struct df_ask ask = help_chat("m");
	struct df_http_response r = {.err = DF_ERR_CLOSED, .message = "the server closed the connection"};
	(void)state;
	help_provider("openai")->parse(&ask, &r, &arena, &answer);
	assert_says(DF_CALL_RETRY, "the server closed the connection");
	assert_null(strstr(answer.message, "closed: "));      /* the words suffice */
	r = (struct df_http_response){.err = DF_ERR_TIMEOUT}; /* where there are none, the class is said */
	help_provider("anthropic")->parse(&ask, &r, &arena, &answer);
	assert_says(DF_CALL_RETRY, "timeout");
	r.err = DF_ERR_LIMIT;
	help_provider("gemini")->parse(&ask, &r, &arena, &answer);
	assert_says(DF_CALL_BAD_ANSWER, "limit");
}

static void test_a_server_that_cannot_be_trusted__is_not_asked_again(void **state)
{
	struct df_ask ask = help_chat("m");
	struct df_http_response r = {.err = DF_ERR_USAGE, .message = "self-signed certificate"};
	(void)state;
	help_provider("openai")->parse(&ask, &r, &arena, &answer);
	assert_says(DF_CALL_NOT_FOUND, "self-signed certificate");
}

/* ------------------------------------------------------------------ errors */

#define OPENAI(message, type, code)                                                                                    \
	"{\"error\":{\"message\":\"" message "\",\"type\":\"" type "\",\"param\":null,\"code\":" code "}}"
#define ANTHROPIC(type, message) "{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"" message "\"}}"

static const struct {
	const char *provider;
	long status;
	const char *headers, *body;
	enum df_call_class class;
	const char *words, *code;
	int64_t retry_after_ms;
} errors[] = {
	{"openai", 429, "retry-after: 2", OPENAI("Rate limit reached", "requests", "\"rate_limit_exceeded\""),
	 DF_CALL_RATE, "Rate limit reached", "rate_limit_exceeded", 2000},
	{"openai", 429, NULL, OPENAI("You exceeded your current quota", "insufficient_quota", "\"insufficient_quota\""),
	 DF_CALL_QUOTA, "your current quota", "insufficient_quota", -1},
	{"openai", 429, NULL,
	 OPENAI("Request too large for gpt-4o: Limit 30000, Requested 50000", "tokens", "\"rate_limit_exceeded\""),
	 DF_CALL_BAD_INPUT, "too large", "rate_limit_exceeded", -1},
	{"openai", 400, NULL,
	 OPENAI("maximum context length is 8192 tokens", "invalid_request_error", "\"context_length_exceeded\""),
	 DF_CALL_BAD_INPUT, "maximum context", "context_length_exceeded", -1},
	{"openai", 500, NULL, OPENAI("too long", "server_error", "\"context_length_exceeded\""), DF_CALL_BAD_INPUT,
	 "too long", "context_length_exceeded", -1},
	{"openai", 401, NULL, OPENAI("Incorrect API key provided", "invalid_request_error", "\"invalid_api_key\""),
	 DF_CALL_AUTH, "Incorrect API key", "invalid_api_key", -1},
	{"openai", 404, NULL, OPENAI("The model `x` does not exist", "invalid_request_error", "\"model_not_found\""),
	 DF_CALL_NOT_FOUND, "does not exist", "model_not_found", -1},
	{"openai", 500, NULL, OPENAI("The server had an error", "server_error", "null"), DF_CALL_RETRY, "had an error",
	 "server_error", -1},
	{"openai", 503, "retry-after-ms: 1500.2\nretry-after: 9", "upstream connect error", DF_CALL_RETRY,
	 "status 503: upstream connect error", "", 1501},
	{"openai", 408, NULL, "", DF_CALL_RETRY, "status 408", "", -1},
	{"openai", 409, NULL, "", DF_CALL_RETRY, "status 409", "", -1},
	{"openai", 425, NULL, "", DF_CALL_RETRY, "status 425", "", -1},
	{"openai", 413, "content-type: text/html", "<h1>413 Request Entity Too Large</h1>", DF_CALL_BAD_INPUT,
	 "Too Large", "", -1},
	{"openai", 302, NULL, "", DF_CALL_NOT_FOUND, "status 302", "", -1},
	{"openai", 402, NULL, "", DF_CALL_QUOTA, "status 402", "", -1},
	{"openai", 500, "x-should-retry: false", OPENAI("never", "server_error", "null"), DF_CALL_BAD_INPUT, "never",
	 "server_error", -1},
	{"openai", 400, "x-should-retry: true", OPENAI("odd", "invalid_request_error", "null"), DF_CALL_RETRY, "odd",
	 "invalid_request_error", -1},
	{"openai", 429, "date: Sun, 06 Nov 1994 08:49:37 GMT\nretry-after: Sun, 06 Nov 1994 08:50:07 GMT", "slow down",
	 DF_CALL_RATE, "slow down", "", 30000},
	{"openai", 429, "retry-after: Sun, 06 Nov 1994 08:50:07 GMT", "slow down", DF_CALL_RATE, "slow down", "", -1},
	{"openai", 429, "retry-after: -5", "slow down", DF_CALL_RATE, "slow down", "", -1},
	{"openai", 429, "retry-after: 0.5", "slow down", DF_CALL_RATE, "slow down", "", 500},
	{"openai", 200, NULL, "{\"error\":{\"message\":\"Provider returned error\",\"code\":503}}", DF_CALL_RETRY,
	 "inside the answer", "", -1},
	{"openai", 200, NULL, "{\"error\":{\"message\":\"no\",\"code\":401}}", DF_CALL_AUTH, "no", "", -1},
	{"vllm", 400, NULL,
	 "{\"object\":\"error\",\"message\":\"too many tokens\",\"type\":\"BadRequestError\",\"code\":400}",
	 DF_CALL_BAD_INPUT, "too many tokens", "BadRequestError", -1},
	{"vllm", 422, NULL, "{\"detail\":[{\"loc\":[\"body\",\"messages\"],\"msg\":\"field required\"}]}",
	 DF_CALL_BAD_INPUT, "field required", "", -1},
	{"vllm", 404, NULL, "{\"detail\":\"Not Found\"}", DF_CALL_NOT_FOUND, "Not Found", "", -1},
	{"mistral", 429, NULL,
	 "{\"object\":\"error\",\"message\":\"Requests rate limit "
	 "exceeded\",\"type\":\"rate_limited\",\"code\":\"1300\"}",
	 DF_CALL_RATE, "rate limit exceeded", "1300", -1},
	{"anthropic", 529, NULL, ANTHROPIC("overloaded_error", "Overloaded"), DF_CALL_RETRY, "Overloaded",
	 "overloaded_error", -1},
	{"anthropic", 429, "retry-after: 12", ANTHROPIC("rate_limit_error", "slow"), DF_CALL_RATE, "slow",
	 "rate_limit_error", 12000},
	{"anthropic", 400, NULL, ANTHROPIC("invalid_request_error", "Your credit balance is too low to access the API"),
	 DF_CALL_QUOTA, "credit balance", "invalid_request_error", -1},
	{"anthropic", 400, NULL, ANTHROPIC("invalid_request_error", "prompt is too long: 210000 tokens"),
	 DF_CALL_BAD_INPUT, "too long", "invalid_request_error", -1},
	{"anthropic", 403, NULL, ANTHROPIC("permission_error", "no"), DF_CALL_AUTH, "no", "permission_error", -1},
	{"anthropic", 413, NULL, ANTHROPIC("request_too_large", "big"), DF_CALL_BAD_INPUT, "big", "request_too_large",
	 -1},
	{"gemini", 429, NULL,
	 "{\"error\":{\"code\":429,\"message\":\"Quota "
	 "exceeded\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"t/google.rpc.RetryInfo\","
	 "\"retryDelay\":\"34.07s\"}]}}",
	 DF_CALL_RATE, "Quota exceeded", "RESOURCE_EXHAUSTED", 34070},
	{"gemini", 429, NULL,
	 "{\"error\":{\"code\":429,\"message\":\"Quota "
	 "exceeded\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"violations\":[{\"quotaId\":"
	 "\"GenerateRequestsPerDayPerProjectPerModel-FreeTier\"}]}]}}",
	 DF_CALL_QUOTA, "Quota exceeded", "RESOURCE_EXHAUSTED", -1},
	{"gemini", 400, NULL,
	 "[{\"error\":{\"code\":400,\"message\":\"API key not "
	 "valid.\",\"status\":\"INVALID_ARGUMENT\",\"details\":[{\"reason\":\"API_KEY_INVALID\"}]}}]",
	 DF_CALL_AUTH, "API key not valid", "INVALID_ARGUMENT", -1},
	{"gemini", 503, NULL, "{\"error\":{\"code\":503,\"message\":\"overloaded\",\"status\":\"UNAVAILABLE\"}}",
	 DF_CALL_RETRY, "overloaded", "UNAVAILABLE", -1},
	{"cohere", 401, NULL, "{\"message\":\"invalid api token\"}", DF_CALL_AUTH, "invalid api token", "", -1},
	{"cohere", 498, NULL, "{\"message\":\"blocked\"}", DF_CALL_BAD_INPUT, "blocked", "", -1},
	{"ollama", 404, NULL, "{\"error\":\"model 'x' not found\"}", DF_CALL_NOT_FOUND, "model 'x' not found", "", -1},
	{"ollama", 500, NULL, "{\"error\":\"out of memory\"}", DF_CALL_RETRY, "out of memory", "", -1},
	{"tei", 413, NULL, "{\"error\":\"batch size 64 > maximum 32\",\"error_type\":\"Validation\"}",
	 DF_CALL_BAD_INPUT, "batch size 64", "Validation", -1},
	{"tei", 429, NULL, "{\"error\":\"Model is overloaded\",\"error_type\":\"Overloaded\"}", DF_CALL_RATE,
	 "overloaded", "Overloaded", -1},
	{"tei", 424, NULL, "{\"error\":\"inference failed\",\"error_type\":\"Backend\"}", DF_CALL_RETRY,
	 "inference failed", "Backend", -1}};

static void test_errors__have_their_class_words_and_time(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct df_ask ask = strcmp(errors[i].provider, "tei") == 0 ? help_embed("m", 1) : help_chat("m");
		parse(errors[i].provider, &ask, errors[i].status, errors[i].headers, errors[i].body);
		if (answer.class != errors[i].class || !strstr(answer.message, errors[i].words) ||
		    strcmp(answer.code, errors[i].code) != 0 || answer.retry_after_ms != errors[i].retry_after_ms)
			fail_msg("error %zu (%s %ld): class %d, code '%s', retry after %lld ms, message '%s'", i,
				 errors[i].provider, errors[i].status, (int)answer.class, answer.code,
				 (long long)answer.retry_after_ms, answer.message);
	}
}

static void test_message__never_has_the_key_in_it(void **state)
{
	static const char key[] = "dfkey.0123456789abcdefghij";
	const struct df_endpoint to = {.key = {key, sizeof(key) - 1}};
	char body[2048], pad[700];
	(void)state;
	for (size_t n = 0; n < sizeof(pad) - 1; n++) { /* the key at every place, also over the message's end */
		memset(pad, 'x', n);
		pad[n] = '\0';
		(void)snprintf(body, sizeof(body), "{\"error\":{\"message\":\"%s %s and %s again\"}}", pad, key, key);
		parse_chat("openai", 401, NULL, body);
		df_answer_mask(&answer, &to);
		for (size_t k = 4; k < sizeof(key); k++) { /* not even the beginning of it */
			char part[sizeof(key)];
			(void)snprintf(part, sizeof(part), "%.*s", (int)k, key);
			assert_null(strstr(answer.message, part));
		}
	}
	parse_chat("openai", 401, NULL,
		   "{\"error\":{\"message\":\"Incorrect API key provided: sk-proj-Ab12Cd34Ef56Gh78. Bearer "
		   "abcdefgh12345678 is bad; "
		   "AIzaSyA1234567890123\",\"code\":\"sk-Ab12Cd34Ef56Gh78\"}}");
	assert_null(strstr(answer.message, "Ab12"));
	assert_null(strstr(answer.message, "abcdefgh1234"));
	assert_null(strstr(answer.message, "SyA12"));
	assert_null(strstr(answer.code, "Ab12"));
	assert_non_null(strstr(answer.message, "Incorrect API key provided: ***"));
}

static void test_message__hides_a_key_however_it_is_written(void **state)
{
	(void)state;
	static const char *const form[] = {"ab/cd+ef==", "ab\\/cd+ef==", "ab%2Fcd%2bef%3D%3d",
					   "ab\\u002fcd\\u002Bef=="};
	struct df_endpoint to = {.key = DF_STR("ab/cd+ef==")};
	char body[256];
	for (size_t i = 0; i < sizeof(form) / sizeof(form[0]); i++) {
		(void)snprintf(body, sizeof(body), "no key %s of mine, ab/c is none", form[i]);
		parse_chat("openai", 400, NULL, body);
		df_answer_mask(&answer, &to);
		assert_non_null(strstr(answer.message, "no key *** of mine, ab/c is none"));
	}
}

static void test_message__is_one_line_of_whole_characters(void **state)
{
	char body[2048] = "a\r\nb\x1b[31m", *p = body + strlen(body);
	(void)state;
	for (int i = 0; i < 400; i++) {
		memcpy(p, "\xe2\x9c\x93", 3);
		p += 3;
	}
	*p = '\0';
	parse_chat("openai", 500, NULL, body);
	assert_null(strpbrk(answer.message, "\r\n\x1b"));
	struct df_str m = df_str_from(answer.message);
	assert_true(m.n > 500 && df_str_utf8_prefix(m) == m.n);
}

/* ------------------------------------------------------------------ headers */

static void test_duration__as_go_and_azure_write_it(void **state)
{
	static const struct {
		const char *z;
		int64_t ms;
	} row[] = {{"6m0s", 360000},   {"1s", 1000},
		   {"20ms", 20},       {"1h2m3.5s", 3723500},
		   {"1m26.4s", 86400}, {"0s", 0},
		   {"350us", 1},       {"5", 5000},
		   {"0.5", 500},       {"0", -1},
		   {"-1", -1},         {"", -1},
		   {"x", -1},          {"5 s", -1},
		   {"s", -1},          {"1m2", -1},
		   {"1.5.2s", -1},     {"99999999h", 604800000},
		   {"1e3s", -1},       {"  2s ", 2000}};
	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (df_wire_duration(df_str_from(row[i].z)) != row[i].ms)
			fail_msg("'%s' is %lld", row[i].z, (long long)df_wire_duration(df_str_from(row[i].z)));
}

static void test_date__of_both_kinds(void **state)
{
	(void)state;
	assert_int_equal(df_wire_date(DF_STR("Sun, 06 Nov 1994 08:49:37 GMT")), 784111777000);
	assert_int_equal(df_wire_date(DF_STR("1994-11-06T08:49:37Z")), 784111777000);
	assert_int_equal(df_wire_date(DF_STR("1994-11-06T10:49:37.250+02:00")), 784111777250);
	assert_int_equal(df_wire_date(DF_STR("2024-02-29T00:00:00Z")), 1709164800000);
	assert_int_equal(df_wire_date(DF_STR("1970-01-01T00:00:00-00:30")), 1800000);
	assert_int_equal(df_wire_date(DF_STR("tomorrow")), INT64_MIN);
	assert_int_equal(df_wire_date(DF_STR("Sun, 06 Foo 1994 08:49:37 GMT")), INT64_MIN);
	assert_int_equal(df_wire_date(DF_STR("1994-13-06T08:49:37Z")), INT64_MIN);
	assert_int_equal(df_wire_date(DF_STR("")), INT64_MIN);
}

static struct df_limit_news news_of(const char *headers)
{
	struct df_http_response r = help_response(200, headers, "{}");
	struct df_limit_news n;
	memset(&n, 0xee, sizeof(n));
	help_provider("openai")->limits(&r, &n);
	return n;
}

static void test_limits__of_openai_azure_mistral_and_anthropic(void **state)
{
	(void)state;
	struct df_limit_news n = news_of("x-ratelimit-limit-requests: 500\nx-ratelimit-remaining-requests: 499\n"
					 "x-ratelimit-reset-requests: 120ms\nx-ratelimit-limit-tokens: 30000\n"
					 "x-ratelimit-remaining-tokens: 29982\nx-ratelimit-reset-tokens: 6m0s");
	assert_int_equal(n.requests_limit, 500);
	assert_int_equal(n.requests_left, 499);
	assert_int_equal(n.requests_reset_ms, 120);
	assert_int_equal(n.tokens_limit, 30000);
	assert_int_equal(n.tokens_left, 29982);
	assert_int_equal(n.tokens_reset_ms, 360000);
	assert_int_equal(n.retry_after_ms, -1);
	n = news_of("x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 0\nx-ratelimit-reset-tokens: -1");
	assert_int_equal(n.requests_left, 0);
	assert_int_equal(n.requests_limit, -1);
	assert_int_equal(n.requests_reset_ms, -1);
	assert_int_equal(n.tokens_reset_ms, -1);
	n = news_of("anthropic-ratelimit-requests-limit: 50\nanthropic-ratelimit-requests-remaining: 0\n"
		    "anthropic-ratelimit-requests-reset: 2026-01-01T00:00:42Z\ndate: Thu, 01 Jan 2026 00:00:30 GMT\n"
		    "anthropic-ratelimit-input-tokens-limit: 20000\nanthropic-ratelimit-input-tokens-reset: "
		    "2025-12-31T23:59:00Z");
	assert_int_equal(n.requests_limit, 50);
	assert_int_equal(n.requests_left, 0);
	assert_int_equal(n.requests_reset_ms, 12000);
	assert_int_equal(n.tokens_limit, 20000);
	assert_int_equal(n.tokens_reset_ms, 0);
	n = news_of("anthropic-ratelimit-requests-reset: 2026-01-01T00:00:42Z");
	assert_int_equal(n.requests_reset_ms, -1);
	n = news_of("x-ratelimit-limit-req-minute: 60\nx-ratelimit-limit-requests: many");
	assert_int_equal(n.requests_limit, 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_openai__text_usage_and_finish, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers__of_the_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers__end_for_the_reason_that_their_provider_names, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_usage__that_is_missing_or_zero_is_estimated_from_above, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_bad_answers__name_what_was_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_answer__is_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_server_that_cannot_be_trusted__is_not_asked_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_errors__have_their_class_words_and_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_message__never_has_the_key_in_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_message__hides_a_key_however_it_is_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_message__is_one_line_of_whole_characters, setup, teardown),
		cmocka_unit_test(test_duration__as_go_and_azure_write_it),
		cmocka_unit_test(test_date__of_both_kinds),
		cmocka_unit_test(test_limits__of_openai_azure_mistral_and_anthropic)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
