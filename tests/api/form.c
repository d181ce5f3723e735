// SPDX-License-Identifier: Apache-2.0
/* form: whole chat answers and errors. */
#include "tests/api/form.h"

#include <stdlib.h>

#define CREATED 1735689600 /* answers follow from requests alone, so time stands still in them */

void reply_mark(struct reply *r, uint64_t at_ns, size_t stamp)
{
	if (r->n_mark == r->cap_mark) {
		r->cap_mark = r->cap_mark ? r->cap_mark * 2 : 4;
		r->mark = realloc(r->mark, r->cap_mark * sizeof *r->mark);
		if (r->mark == NULL)
			abort();
	}
	r->mark[r->n_mark++] = (struct mark){r->out.n, at_ns, stamp};
}

void reply_clear(struct reply *r)
{
	if (r->out.cap > 1 << 16)
		bytes_free(&r->out);
	if (r->cap_mark > 1024) {
		free(r->mark);
		r->mark = NULL;
		r->cap_mark = 0;
	}
	*r = (struct reply){.out = {r->out.p, 0, r->out.cap}, .mark = r->mark, .cap_mark = r->cap_mark};
}

void reply_free(struct reply *r)
{
	bytes_free(&r->out);
	free(r->mark);
	*r = (struct reply){0};
}

const char *form_finish(enum api api, bool cut)
{
	switch (api) {
	case API_ANTHROPIC:
		return cut ? "max_tokens" : "end_turn";
	case API_COHERE:
		return cut ? "MAX_TOKENS" : "COMPLETE";
	case API_GEMINI:
		return cut ? "MAX_TOKENS" : "STOP";
	default:
		return cut ? "length" : "stop";
	}
}

static struct span text_of(const struct ask *a)
{
	return (struct span){a->text.p, a->text.n};
}

static uint64_t id_of(const struct ask *a)
{
	return hash_of(text_of(a), 7);
}

static void openai(struct bytes *to, const struct ask *a, const struct options *o)
{
	bytes_fmt(to, "{\"id\":\"chatcmpl-%016lx\",\"object\":\"chat.completion\",\"created\":%d,\"model\":", id_of(a),
		  CREATED);
	bytes_json(to, a->model);
	bytes_str(to, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
	bytes_json(to, text_of(a));
	bytes_fmt(to, ",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"%s\"}]", form_finish(a->api, a->cut));
	if (o->usage)
		bytes_fmt(to,
			  ",\"usage\":{\"prompt_tokens\":%lu,\"completion_tokens\":%lu,\"total_tokens\":%lu,"
			  "\"prompt_tokens_details\":{\"cached_tokens\":0}}",
			  a->tokens_in, a->tokens_out, a->tokens_in + a->tokens_out);
	bytes_str(to, ",\"system_fingerprint\":\"fp_test\"}");
}

static void responses(struct bytes *to, const struct ask *a, const struct options *o)
{
	bytes_fmt(to, "{\"id\":\"resp_%016lx\",\"object\":\"response\",\"created_at\":%d,\"status\":\"%s\",", id_of(a),
		  CREATED, a->cut ? "incomplete" : "completed");
	bytes_fmt(to, "\"error\":null,\"incomplete_details\":%s,\"model\":",
		  a->cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
	bytes_json(to, a->model);
	bytes_fmt(to,
		  ",\"output\":[{\"type\":\"message\",\"id\":\"msg_%016lx\",\"status\":\"completed\",\"role\":"
		  "\"assistant\","
		  "\"content\":[{\"type\":\"output_text\",\"text\":",
		  id_of(a));
	bytes_json(to, text_of(a));
	bytes_str(to, ",\"annotations\":[]}]}]");
	if (o->usage)
		bytes_fmt(to,
			  ",\"usage\":{\"input_tokens\":%lu,\"input_tokens_details\":{\"cached_tokens\":0},\"output_"
			  "tokens\":%lu,"
			  "\"total_tokens\":%lu}",
			  a->tokens_in, a->tokens_out, a->tokens_in + a->tokens_out);
	bytes_str(to, "}");
}

static void anthropic(struct bytes *to, const struct ask *a, const struct options *o)
{
	bytes_fmt(to, "{\"id\":\"msg_%016lx\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", id_of(a));
	bytes_json(to, a->model);
	bytes_str(to, ",\"content\":[{\"type\":\"text\",\"text\":");
	bytes_json(to, text_of(a));
	bytes_fmt(to, "}],\"stop_reason\":\"%s\",\"stop_sequence\":null", form_finish(a->api, a->cut));
	if (o->usage)
		bytes_fmt(to,
			  ",\"usage\":{\"input_tokens\":%lu,\"cache_creation_input_tokens\":0,\"cache_read_input_"
			  "tokens\":0,"
			  "\"output_tokens\":%lu}",
			  a->tokens_in, a->tokens_out);
	bytes_str(to, "}");
}

static void cohere(struct bytes *to, const struct ask *a, const struct options *o)
{
	bytes_fmt(to, "{\"id\":\"%016lx\",\"finish_reason\":\"%s\",", id_of(a), form_finish(a->api, a->cut));
	bytes_str(to, "\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":");
	bytes_json(to, text_of(a));
	bytes_str(to, "}]}");
	if (o->usage)
		bytes_fmt(to,
			  ",\"usage\":{\"billed_units\":{\"input_tokens\":%lu,\"output_tokens\":%lu},"
			  "\"tokens\":{\"input_tokens\":%lu,\"output_tokens\":%lu}}",
			  a->tokens_in, a->tokens_out, a->tokens_in, a->tokens_out);
	bytes_str(to, "}");
}

static void gemini(struct bytes *to, const struct ask *a, const struct options *o)
{
	bytes_str(to, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":");
	bytes_json(to, text_of(a));
	bytes_fmt(to, "}],\"role\":\"model\"},\"finishReason\":\"%s\",\"index\":0}]", form_finish(a->api, a->cut));
	if (o->usage)
		bytes_fmt(to,
			  ",\"usageMetadata\":{\"promptTokenCount\":%lu,\"candidatesTokenCount\":%lu,"
			  "\"totalTokenCount\":%lu}",
			  a->tokens_in, a->tokens_out, a->tokens_in + a->tokens_out);
	bytes_str(to, ",\"modelVersion\":");
	bytes_json(to, a->model);
	bytes_str(to, "}");
}

static void ollama(struct bytes *to, const struct ask *a, const struct options *o)
{
	bytes_str(to, "{\"model\":");
	bytes_json(to, a->model);
	bytes_str(to, ",\"created_at\":\"2025-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":");
	bytes_json(to, text_of(a));
	bytes_fmt(to, "},\"done_reason\":\"%s\",\"done\":true,\"total_duration\":1000", form_finish(a->api, a->cut));
	if (o->usage)
		bytes_fmt(to, ",\"prompt_eval_count\":%lu,\"eval_count\":%lu", a->tokens_in, a->tokens_out);
	bytes_str(to, "}");
}

void form_chat(struct bytes *to, const struct ask *a, const struct options *o)
{
	static void (*const form[])(struct bytes *, const struct ask *, const struct options *) = {
		[API_CHAT] = openai,   [API_RESPONSES] = responses, [API_ANTHROPIC] = anthropic,
		[API_COHERE] = cohere, [API_GEMINI] = gemini,       [API_OLLAMA] = ollama};
	form[a->api](to, a, o);
}

static const char *openai_type(int status)
{
	return status == 429   ? "requests"
	       : status >= 500 ? "server_error"
	       : status == 401 ? "authentication_error"
			       : "invalid_request_error";
}

static const char *anthropic_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 413:
		return "request_too_large";
	case 429:
		return "rate_limit_error";
	case 529:
	case 503:
		return "overloaded_error";
	default:
		return status >= 500 ? "api_error" : "invalid_request_error";
	}
}

static const char *gemini_status(int status)
{
	return status == 429   ? "RESOURCE_EXHAUSTED"
	       : status == 503 ? "UNAVAILABLE"
	       : status >= 500 ? "INTERNAL"
	       : status == 401 ? "UNAUTHENTICATED"
	       : status == 404 ? "NOT_FOUND"
			       : "INVALID_ARGUMENT";
}

void form_error(struct bytes *to, enum api api, int status, const char *code, const char *message)
{
	struct span m = span_of(message);
	switch (api) {
	case API_ANTHROPIC:
		bytes_fmt(to, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", anthropic_type(status));
		bytes_json(to, m);
		bytes_str(to, "},\"request_id\":\"req_test\"}");
		return;
	case API_GEMINI:
	case API_GEMINI_EMBED:
	case API_GEMINI_EMBEDS:
		bytes_fmt(to, "{\"error\":{\"code\":%d,\"message\":", status);
		bytes_json(to, m);
		bytes_fmt(to, ",\"status\":\"%s\"}}", gemini_status(status));
		return;
	case API_COHERE:
	case API_COHERE_EMBED:
	case API_OLLAMA:
	case API_OLLAMA_EMBED:
	case API_TEI:
		bytes_str(to, api == API_COHERE || api == API_COHERE_EMBED ? "{\"message\":" : "{\"error\":");
		bytes_json(to, m);
		bytes_str(to, api == API_TEI ? ",\"error_type\":\"Validation\"}" : "}");
		return;
	default:
		bytes_str(to, "{\"error\":{\"message\":");
		bytes_json(to, m);
		bytes_fmt(to, ",\"type\":\"%s\",\"param\":null,\"code\":%s%s%s}}",
			  code != NULL && strcmp(code, "insufficient_quota") == 0 ? code : openai_type(status),
			  code ? "\"" : "", code ? code : "null", code ? "\"" : "");
	}
}
