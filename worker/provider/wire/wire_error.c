// SPDX-License-Identifier: Apache-2.0
/*
 * wire_error: errors as the known APIs word them: which class a failure has, and what it says.
 *
 * DESIGN. The order is that of the official SDKs: x-should-retry, then the status; but codes in the body that can only mean one thing
 * (no money, context too long, no such model) come before the status that carries them.
 */
#include <stdio.h>

#include "base/url.h"
#include "worker/provider/wire/wire.h"

/* ------------------------------------------------------------------ classes */

struct code_class {
	const char *code;
	enum df_call_class class;
};

/* These say more than the status that they come with. */
static const struct code_class certain[] = {{"insufficient_quota", DF_CALL_QUOTA},
					    {"billing_hard_limit_reached", DF_CALL_QUOTA},
					    {"billing_not_active", DF_CALL_QUOTA},
					    {"billing_error", DF_CALL_QUOTA},
					    {"context_length_exceeded", DF_CALL_BAD_INPUT},
					    {"string_above_max_length", DF_CALL_BAD_INPUT},
					    {"content_filter", DF_CALL_BAD_INPUT},
					    {"content_policy_violation", DF_CALL_BAD_INPUT},
					    {"model_not_found", DF_CALL_NOT_FOUND},
					    {"invalid_api_key", DF_CALL_AUTH},
					    {"API_KEY_INVALID", DF_CALL_AUTH}};

/* Without a status (an error inside a 200). */
static const struct code_class by_code[] = {
	{"rate_limit_exceeded", DF_CALL_RATE},    {"rate_limit_error", DF_CALL_RATE},
	{"RESOURCE_EXHAUSTED", DF_CALL_RATE},     {"invalid_request_error", DF_CALL_BAD_INPUT},
	{"request_too_large", DF_CALL_BAD_INPUT}, {"INVALID_ARGUMENT", DF_CALL_BAD_INPUT},
	{"invalid_prompt", DF_CALL_BAD_INPUT},    {"authentication_error", DF_CALL_AUTH},
	{"permission_error", DF_CALL_AUTH},       {"UNAUTHENTICATED", DF_CALL_AUTH},
	{"PERMISSION_DENIED", DF_CALL_AUTH},      {"not_found_error", DF_CALL_NOT_FOUND},
	{"NOT_FOUND", DF_CALL_NOT_FOUND}};

static bool find_code(const struct code_class *row, size_t n, struct df_str code, enum df_call_class *ret)
{
	for (size_t i = 0; i < n; i++)
		if (df_str_is(code, row[i].code)) {
			*ret = row[i].class;
			return true;
		}
	return false;
}

static enum df_call_class class_of_status(long status)
{
	switch (status) {
	case 401:
	case 403:
		return DF_CALL_AUTH;
	case 402:
		return DF_CALL_QUOTA;
	case 404:
	case 405:
	case 410:
		return DF_CALL_NOT_FOUND;
	case 408:
	case 409:
	case 424: /* a backend behind text-embeddings-inference */
	case 425:
		return DF_CALL_RETRY;
	case 429:
		return DF_CALL_RATE;
	default:
		return status >= 500                   ? DF_CALL_RETRY
		       : status >= 400                 ? DF_CALL_BAD_INPUT
		       : status >= 300 || status < 100 ? DF_CALL_NOT_FOUND
						       : DF_CALL_RETRY;
	}
}

/* ------------------------------------------------------------------ what errors look like */

struct words {
	struct df_str message, code, type;
	long number;      /* a status as a number in the body; 0: none */
	int64_t retry_ms; /* Gemini's RetryInfo; -1 */
	bool day;         /* Gemini: a quota of the day */
	bool key;         /* Gemini: the key is not valid, which is a 400 there */
};

static struct df_str text_of(const struct df_json *v)
{
	return v && (v->type == DF_JSON_STRING || v->type == DF_JSON_NUMBER) ? v->string : (struct df_str){"", 0};
}

static void read_details(const struct df_json *details, struct words *w)
{
	for (const struct df_json *d = details && details->type == DF_JSON_ARRAY ? details->child : NULL; d;
	     d = d->next) {
		struct df_str delay = df_json_get_str(d, "retryDelay");
		const struct df_json *violations = df_json_get(d, "violations");
		if (delay.n)
			w->retry_ms = df_wire_duration(delay);
		if (df_str_is(df_json_get_str(d, "reason"), "API_KEY_INVALID"))
			w->key = true;
		for (const struct df_json *v = violations ? violations->child : NULL; v; v = v->next) {
			struct df_str id = df_json_get_str(v, "quotaId");
			w->day = w->day || (id.n && memmem(id.p, id.n, "PerDay", 6));
		}
	}
}

/* {"error":{"message","type","code"}} (OpenAI, Anthropic, Gemini), {"error":"..."} (Ollama, TEI), {"message":"..."} (Cohere, Mistral),
 * {"detail":"..." | [{"msg":"..."}]} (FastAPI), and a list of one of these. */
static void read_words(const struct df_json *root, struct words *w)
{
	if (root && root->type == DF_JSON_ARRAY)
		root = root->child;
	const struct df_json *error = df_json_get(root, "error"), *detail = df_json_get(root, "detail");
	const struct df_json *at = error && error->type == DF_JSON_OBJECT ? error : root;
	w->message = df_json_get_str(at, "message");
	w->type = text_of(df_json_get(at, df_json_get(at, "error_type") ? "error_type" : "type"));
	w->code = text_of(df_json_get(at, "code"));
	if (error && error->type == DF_JSON_STRING)
		w->message = error->string;
	if (!w->message.n && detail && detail->type == DF_JSON_STRING)
		w->message = detail->string;
	if (!w->message.n && detail && detail->type == DF_JSON_ARRAY)
		w->message = df_json_get_str(detail->child, "msg");
	const struct df_json *code = df_json_get(at, "code");
	if (code && code->type == DF_JSON_NUMBER && code->u64 >= 100 && code->u64 < 600) {
		w->number = (long)code->u64; /* Gemini's and OpenRouter's: the status again; the word is in "status" */
		w->code = text_of(df_json_get(at, "status"));
	}
	read_details(df_json_get(at, "details"), w);
}

static bool mentions(struct df_str s, const char *words)
{
	return s.n && memmem(s.p, s.n, words, strlen(words)) != NULL;
}

static enum df_call_class judge(long status, const struct words *w)
{
	enum df_call_class class;
	if (find_code(certain, sizeof(certain) / sizeof(certain[0]), w->code, &class) ||
	    find_code(certain, sizeof(certain) / sizeof(certain[0]), w->type, &class))
		return class;
	if (w->key)
		return DF_CALL_AUTH;
	if (w->day || (status >= 400 && mentions(w->message, "credit balance is too low")))
		return DF_CALL_QUOTA;
	if (status == 429 && df_str_starts(w->message, "Request too large")) /* more tokens than a minute has: never */
		return DF_CALL_BAD_INPUT;
	if (status != 0 && (status < 200 || status > 299))
		return class_of_status(status);
	if (find_code(by_code, sizeof(by_code) / sizeof(by_code[0]), w->code, &class) ||
	    find_code(by_code, sizeof(by_code) / sizeof(by_code[0]), w->type, &class))
		return class;
	return w->number ? class_of_status(w->number) : DF_CALL_RETRY;
}

static bool says(struct df_str text, const char *word)
{
	size_t n = strlen(word);
	for (size_t i = 0; n && i + n <= text.n; i++)
		if (strncasecmp(text.p + i, word, n) == 0)
			return true;
	return false;
}

/* The title of a page of HTML, else its words without the tags; what is no page stays. `to` may hold the text then. */
static struct df_str without_markup(struct df_str text, char *to, size_t size)
{
	static const char open[] = "<title>";
	size_t n = 0;
	bool inside = false;
	if (!text.n || text.p[0] != '<')
		return text;
	for (size_t i = 0; i + sizeof(open) <= text.n; i++)
		if (strncasecmp(text.p + i, open, sizeof(open) - 1) == 0) {
			const char *from = text.p + i + sizeof(open) - 1;
			const char *end = memchr(from, '<', (size_t)(text.p + text.n - from));
			return df_str_trim((struct df_str){from, (size_t)((end ? end : text.p + text.n) - from)});
		}
	for (size_t i = 0; i < text.n && n < size; i++) {
		inside = inside || text.p[i] == '<';
		if (!inside)
			to[n++] = text.p[i];
		inside = inside && text.p[i] != '>';
	}
	return n ? df_str_trim((struct df_str){to, n}) : DF_STR("a page of HTML or XML");
}

/* Without the status in front, which is said already: "429 Too Many Requests", "502: Bad Gateway". */
static struct df_str without_status(struct df_str text, long status)
{
	char z[24];
	(void)snprintf(z, sizeof(z), "%ld", status);
	size_t n = strlen(z);
	if (!status || !df_str_starts(text, z) || text.n == n || (text.p[n] >= '0' && text.p[n] <= '9'))
		return text;
	while (n < text.n && strchr(" :-", text.p[n]))
		n++;
	return (struct df_str){text.p + n, text.n - n};
}

void df_wire_error(struct df_answer *a, long status, const struct df_json *root, struct df_str body)
{
	struct words w = {.retry_ms = -1};
	char begin[40], words[200];
	read_words(root, &w);
	enum df_call_class class = judge(status, &w);
	df_wire_word(a->code, sizeof(a->code), w.code.n ? w.code : w.type);
	struct df_str text = w.message.n ? w.message : without_markup(df_str_trim(body), words, sizeof(words));
	text = without_status(df_str_trim(text), status);
	if (text.n > 2000)
		text.n = 2000;
	if (status)
		(void)snprintf(begin, sizeof(begin), "status %ld", status);
	else
		(void)snprintf(begin, sizeof(begin), "an error inside the answer");
	bool named = !a->code[0] || says(text, a->code);
	df_wire_fail(a, class, "%s%s%s%s%s%.*s", begin, named ? "" : " (", named ? "" : a->code, named ? "" : ")",
		     text.n ? ": " : ", without a word", (int)text.n, text.n ? text.p : "");
	if (w.retry_ms >= 0)
		a->retry_after_ms = w.retry_ms;
}

void df_wire_redirect(const struct df_http_response *r, struct df_answer *a)
{
	char to[300];
	struct df_str location = df_wire_get(r, "location");
	if (r->status != 301 && r->status != 302 && r->status != 303 && r->status != 307 && r->status != 308)
		return;
	df_url_show(location, to, sizeof(to));
	if (to[0])
		df_wire_fail(
			a, a->class,
			"status %ld: it points to '%s', and redirects are not followed, since keys and texts would "
			"go along",
			r->status, to);
	else
		df_wire_fail(a, a->class, "status %ld, a redirect without a Location; redirects are not followed",
			     r->status);
}
