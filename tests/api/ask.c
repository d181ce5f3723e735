// SPDX-License-Identifier: Apache-2.0
/* ask: reads the bodies of all APIs; they differ in names more than in kind. */
#include "tests/api/ask.h"

#include <stdio.h>
#include <stdlib.h>

struct reader {
	struct ask *a;
	const struct json_tree *t;
	const struct options *o;
	const char *wrong;
};

static void count(struct reader *r, struct span text)
{
	r->a->tokens_in += span_words(text);
	if (r->o->bad[0] && text.n > 0 && memmem(text.p, text.n, r->o->bad, strlen(r->o->bad)) != NULL)
		r->a->marked = true;
}

static void user_text(struct reader *r, struct span text)
{
	if (r->a->first.p == NULL)
		r->a->first = text;
	r->a->last = text;
}

/* "text", or [{"type": "text", "text": ...}], or [{"text": ...}] (Gemini's parts). */
static void content(struct reader *r, const struct json *c, bool user)
{
	if (c->type == JSON_STRING) {
		count(r, c->text);
		if (user)
			user_text(r, c->text);
		return;
	}
	if (c->type != JSON_ARRAY) {
		r->wrong = "content must be a string or a list of parts";
		return;
	}
	for (const struct json *part = json_child(r->t, c); part != NULL; part = json_next(r->t, part)) {
		const struct json *text = json_get(r->t, part, "text");
		if (text->type != JSON_STRING) {
			r->wrong = "only parts with a text are known here";
			return;
		}
		count(r, text->text);
		if (user)
			user_text(r, text->text);
	}
}

static void messages(struct reader *r, const struct json *list, const char *content_key)
{
	if (list->type != JSON_ARRAY || list->n == 0) {
		r->wrong = "messages must be a list that is not empty";
		return;
	}
	for (const struct json *m = json_child(r->t, list); m != NULL && r->wrong == NULL; m = json_next(r->t, m)) {
		struct span role = json_get(r->t, m, "role")->text;
		bool user = span_is(role, "user") || role.n == 0;
		if (!user && !span_is(role, "assistant") && !span_is(role, "model") && !span_is(role, "system") &&
		    !span_is(role, "developer")) {
			r->wrong = "a message's role must be user, assistant, system or developer";
			return;
		}
		if (r->a->api == API_ANTHROPIC && span_is(role, "system")) {
			r->wrong = "messages: Unexpected role \"system\". The Messages API accepts a top-level "
				   "`system` parameter";
			return;
		}
		content(r, json_get(r->t, m, content_key), user);
	}
	if (r->a->first.p == NULL)
		r->a->first = r->a->last = (struct span){"", 0};
}

static uint64_t whole(const struct json *n)
{
	return n->type == JSON_NUMBER && n->number >= 0 && n->number < 1e15 ? (uint64_t)n->number : 0;
}

static const struct json *below(struct reader *r, const struct json *o, const char *a, const char *b)
{
	return json_get(r->t, json_get(r->t, o, a), b);
}

static void schema_is(struct reader *r, const struct json *schema)
{
	if (schema->type == JSON_OBJECT)
		r->a->schema = schema;
}

static void read_openai(struct reader *r, const struct json *body)
{
	const struct json_tree *t = r->t;
	messages(r, json_get(t, body, "messages"), "content");
	r->a->max_tokens = whole(json_get(t, body, "max_completion_tokens"));
	if (r->a->max_tokens == 0)
		r->a->max_tokens = whole(json_get(t, body, "max_tokens"));
	r->a->include_usage = below(r, body, "stream_options", "include_usage")->type == JSON_TRUE;
	schema_is(r, json_get(t, below(r, body, "response_format", "json_schema"), "schema"));
}

static void read_responses(struct reader *r, const struct json *body)
{
	const struct json *input = json_get(r->t, body, "input");
	if (input->type == JSON_STRING)
		content(r, input, true);
	else
		messages(r, input, "content");
	const struct json *instructions = json_get(r->t, body, "instructions");
	if (instructions->type == JSON_STRING)
		count(r, instructions->text);
	r->a->max_tokens = whole(json_get(r->t, body, "max_output_tokens"));
	schema_is(r, json_get(r->t, below(r, body, "text", "format"), "schema"));
}

static void read_anthropic(struct reader *r, const struct json *body)
{
	const struct json *system = json_get(r->t, body, "system");
	messages(r, json_get(r->t, body, "messages"), "content");
	if (system->type != JSON_NULL)
		content(r, system, false);
	r->a->max_tokens = whole(json_get(r->t, body, "max_tokens"));
	if (r->wrong == NULL && r->a->max_tokens == 0)
		r->wrong = "max_tokens: Field required";
	schema_is(r, json_get(r->t, json_get(r->t, body, "output_format"), "schema"));
	schema_is(r, json_get(r->t, below(r, body, "output_config", "format"), "schema"));
}

static void read_cohere(struct reader *r, const struct json *body)
{
	messages(r, json_get(r->t, body, "messages"), "content");
	r->a->max_tokens = whole(json_get(r->t, body, "max_tokens"));
	schema_is(r, below(r, body, "response_format", "json_schema"));
	schema_is(r, below(r, body, "response_format", "schema"));
}

static void read_gemini(struct reader *r, const struct json *body)
{
	const struct json *system = below(r, body, "systemInstruction", "parts");
	if (system->type == JSON_NULL)
		system = below(r, body, "system_instruction", "parts");
	messages(r, json_get(r->t, body, "contents"), "parts");
	if (system->type != JSON_NULL)
		content(r, system, false);
	r->a->max_tokens = whole(below(r, body, "generationConfig", "maxOutputTokens"));
	schema_is(r, below(r, body, "generationConfig", "responseSchema"));
	schema_is(r, below(r, body, "generationConfig", "responseJsonSchema"));
}

static void read_ollama(struct reader *r, const struct json *body)
{
	messages(r, json_get(r->t, body, "messages"), "content");
	r->a->max_tokens = whole(below(r, body, "options", "num_predict"));
	r->a->stream = json_get(r->t, body, "stream")->type != JSON_FALSE;
	schema_is(r, json_get(r->t, body, "format"));
}

static void input_add(struct reader *r, const struct json *text)
{
	struct ask *a = r->a;
	if (a->n_input == a->cap_input) {
		a->cap_input = a->cap_input ? a->cap_input * 2 : 16;
		a->input = realloc(a->input, a->cap_input * sizeof *a->input);
		if (a->input == NULL)
			abort();
	}
	if (text->type == JSON_STRING ? text->text.n == 0 : text->type != JSON_ARRAY || text->n == 0) {
		r->wrong = "'$.input' is invalid: an input is empty or no text";
		return;
	}
	struct input *in = &a->input[a->n_input++];
	uint64_t before = a->tokens_in;
	in->text = text->text;
	if (text->type == JSON_STRING)
		count(r, text->text);
	else
		a->tokens_in += text->n;
	in->tokens = a->tokens_in - before;
	if (r->o->context > 0 && in->tokens > r->o->context)
		r->wrong = "This model's maximum context length is exceeded by an input";
}

/* One text, a list of texts, one list of tokens, a list of them. */
static void inputs(struct reader *r, const struct json *in)
{
	const struct json *child = json_child(r->t, in);
	if (in->type == JSON_STRING || (in->type == JSON_ARRAY && child != NULL && child->type == JSON_NUMBER)) {
		input_add(r, in);
	} else if (in->type == JSON_ARRAY && child != NULL) {
		for (; child != NULL && r->wrong == NULL; child = json_next(r->t, child))
			input_add(r, child);
	} else {
		r->wrong = "'$.input' is invalid: it must be a text or a list of texts that is not empty";
	}
	if (r->wrong == NULL && r->a->n_input > 2048)
		r->wrong = "'input' array must be 2048 items or less";
	else if (r->wrong == NULL && r->a->tokens_in > 300000)
		r->wrong = "Requested too many tokens: max 300000 tokens per request";
}

static void read_openai_embed(struct reader *r, const struct json *body)
{
	inputs(r, json_get(r->t, body, "input"));
	r->a->base64 = span_is(json_get(r->t, body, "encoding_format")->text, "base64");
	r->a->dimensions = whole(json_get(r->t, body, "dimensions"));
	if (r->a->dimensions == 0)
		r->a->dimensions = whole(json_get(r->t, body, "output_dimension"));
}

static void read_cohere_embed(struct reader *r, const struct json *body)
{
	const struct json *types = json_get(r->t, body, "embedding_types"), *type = json_child(r->t, types);
	inputs(r, json_get(r->t, body, "texts"));
	r->a->base64 = type != NULL && span_is(type->text, "base64");
	r->a->dimensions = whole(json_get(r->t, body, "output_dimension"));
	if (r->wrong == NULL && r->a->n_input > 96)
		r->wrong = "invalid request: total number of texts must be at most 96";
}

static void read_gemini_embed(struct reader *r, const struct json *body)
{
	const struct json *part = json_child(r->t, below(r, body, "content", "parts"));
	if (part == NULL)
		r->wrong = "content.parts is empty";
	else
		input_add(r, json_get(r->t, part, "text"));
	uint64_t dimensions = whole(json_get(r->t, body, "outputDimensionality"));
	if (dimensions > 0)
		r->a->dimensions = dimensions;
}

static void read_gemini_embeds(struct reader *r, const struct json *body)
{
	const struct json *one = json_child(r->t, json_get(r->t, body, "requests"));
	if (one == NULL)
		r->wrong = "requests is empty";
	for (; one != NULL && r->wrong == NULL; one = json_next(r->t, one))
		read_gemini_embed(r, one);
}

static void read_ollama_embed(struct reader *r, const struct json *body)
{
	inputs(r, json_get(r->t, body, "input"));
	r->a->dimensions = whole(json_get(r->t, body, "dimensions"));
}

static void read_tei(struct reader *r, const struct json *body)
{
	inputs(r, json_get(r->t, body, "inputs"));
}

const char *ask_read(struct ask *a, enum api api, struct span model, const struct json_tree *t, const struct options *o)
{
	static void (*const read[])(struct reader *, const struct json *) = {[API_CHAT] = read_openai,
									     [API_RESPONSES] = read_responses,
									     [API_EMBED] = read_openai_embed,
									     [API_ANTHROPIC] = read_anthropic,
									     [API_COHERE] = read_cohere,
									     [API_COHERE_EMBED] = read_cohere_embed,
									     [API_GEMINI] = read_gemini,
									     [API_GEMINI_EMBED] = read_gemini_embed,
									     [API_GEMINI_EMBEDS] = read_gemini_embeds,
									     [API_OLLAMA] = read_ollama,
									     [API_OLLAMA_EMBED] = read_ollama_embed,
									     [API_TEI] = read_tei};
	const struct json *body = &t->node[1];
	struct bytes text = a->text;
	struct input *input = a->input;
	size_t cap_input = a->cap_input;
	*a = (struct ask){.api = api, .model = model, .text = text, .input = input, .cap_input = cap_input};
	if (body->type != JSON_OBJECT)
		return "the body must be a JSON object";
	struct reader r = {a, t, o, NULL};
	if (a->model.n == 0)
		a->model = json_get(t, body, "model")->text;
	if (a->model.n == 0 && api != API_TEI)
		return "you must provide a model parameter";
	a->stream = json_get(t, body, "stream")->type == JSON_TRUE;
	read[api](&r, body);
	if (r.wrong == NULL && o->context > 0 && !api_embeds(api) && a->tokens_in > o->context)
		return "This model's maximum context length is exceeded. Please reduce the length of the messages.";
	if (r.wrong == NULL && a->marked)
		return "Invalid input: the text was refused by our filter";
	return r.wrong;
}

static void words_of(struct ask *a, const struct options *o)
{
	uint64_t want = o->tokens > 0 ? o->tokens : 9, made = 1;
	bool round = o->tokens > 0;
	bytes_fmt(&a->text, "h%016lx", hash_of(a->last, 0));
	struct span rest = a->last;
	while (made < want) {
		struct span word = span_word(&rest);
		if (word.n == 0) {
			if (!round || rest.p == a->last.p || span_words(a->last) == 0)
				break;
			rest = a->last;
			continue;
		}
		bytes_add(&a->text, " ", 1);
		bytes_span(&a->text, word);
		made++;
	}
}

/* Leaves the first max words. */
static void cut_words(struct ask *a)
{
	struct span rest = {a->text.p, a->text.n};
	for (uint64_t i = 0; i < a->max_tokens; i++)
		span_word(&rest);
	struct span left = rest;
	if (span_word(&left).n > 0) {
		a->text.n -= rest.n;
		a->text.p[a->text.n] = 0;
		a->cut = true;
	}
}

void ask_answer(struct ask *a, const struct json_tree *t, const struct options *o, bool broken)
{
	char hash[20];
	a->text.n = 0;
	bytes_add(&a->text, "", 0);
	if (o->answer[0]) {
		bytes_str(&a->text, o->answer);
		for (size_t i = 0; i < a->text.n; i++)
			a->text.p[i] = a->text.p[i] == '_' ? ' ' : a->text.p[i];
	} else if (a->schema != NULL) {
		snprintf(hash, sizeof hash, "h%016lx", hash_of(a->last, 0));
		if (broken)
			bytes_str(&a->text, "{\"unexpected\": [\"this breaks the schema\"]}");
		else
			schema_value(t, a->schema, span_of(hash), &a->text);
	} else {
		words_of(a, o);
	}
	if (a->max_tokens > 0)
		cut_words(a);
	a->tokens_out = span_words((struct span){a->text.p, a->text.n});
}

void ask_free(struct ask *a)
{
	bytes_free(&a->text);
	free(a->input);
	*a = (struct ask){0};
}
