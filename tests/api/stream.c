// SPDX-License-Identifier: Apache-2.0
/* stream: answers as events (Ollama: lines), one HTTP chunk and one mark each. */
#include "tests/api/form.h"

#define STAMP "0000000000000000000" /* 19 digits, written over when they are sent */

struct stream {
	struct reply *r;
	const struct ask *a;
	const struct options *o;
	struct bytes event;
	uint64_t at_ns, id;
};

/* The event becomes a chunk. Line ends as the option says: JSON has none inside. */
static void flush(struct stream *s, bool stamped)
{
	struct bytes *out = &s->r->out, *e = &s->event;
	size_t lines = 0, stamp = 0;
	if (s->o->eol == LINE_CRLF) {
		for (size_t i = 0; i < e->n; i++)
			lines += e->p[i] == '\n';
	}
	bytes_fmt(out, "%zx\r\n", e->n + lines);
	if (stamped)
		stamp = out->n + (size_t)((char *)memmem(e->p, e->n, STAMP, sizeof STAMP - 1) - e->p);
	if (s->o->eol == LINE_LF) {
		bytes_add(out, e->p, e->n);
	} else {
		for (size_t i = 0; i < e->n; i++)
			bytes_str(out, e->p[i] != '\n' ? (char[]){e->p[i], 0} : s->o->eol == LINE_CR ? "\r" : "\r\n");
	}
	bytes_str(out, "\r\n");
	reply_mark(s->r, s->at_ns, stamp);
	e->n = 0;
}

static void openai_head(struct stream *s)
{
	bytes_fmt(&s->event,
		  "data: "
		  "{\"id\":\"chatcmpl-%016lx\",\"object\":\"chat.completion.chunk\",\"created\":1735689600,\"model\":",
		  s->id);
	bytes_json(&s->event, s->a->model);
	bytes_str(&s->event, ",\"choices\":[");
}

static void openai_usage(struct stream *s)
{
	const struct ask *a = s->a;
	openai_head(s);
	bytes_fmt(&s->event,
		  "],\"usage\":{\"prompt_tokens\":%lu,\"completion_tokens\":%lu,\"total_tokens\":%lu,"
		  "\"prompt_tokens_details\":{\"cached_tokens\":0}}}\n\n",
		  a->tokens_in, a->tokens_out, a->tokens_in + a->tokens_out);
	flush(s, false);
}

static void begin(struct stream *s)
{
	struct bytes *e = &s->event;
	switch (s->a->api) {
	case API_RESPONSES:
		bytes_fmt(e,
			  "event: response.created\ndata: "
			  "{\"type\":\"response.created\",\"sequence_number\":0,\"response\":"
			  "{\"id\":\"resp_%016lx\",\"object\":\"response\",\"status\":\"in_progress\",\"output\":[]}}"
			  "\n\n",
			  s->id);
		return;
	case API_ANTHROPIC:
		bytes_fmt(e,
			  "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_%016lx\","
			  "\"type\":\"message\",\"role\":\"assistant\",\"model\":",
			  s->id);
		bytes_json(e, s->a->model);
		bytes_fmt(e,
			  ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":%lu,"
			  "\"output_tokens\":1}}}\n\n",
			  s->a->tokens_in);
		bytes_str(e, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
			     "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: ping\ndata: {\"type\": "
			     "\"ping\"}\n\n");
		return;
	case API_COHERE:
		bytes_fmt(e,
			  "event: message-start\ndata: "
			  "{\"type\":\"message-start\",\"id\":\"%016lx\",\"delta\":{\"message\":"
			  "{\"role\":\"assistant\",\"content\":[]}}}\n\nevent: content-start\ndata: "
			  "{\"type\":\"content-start\","
			  "\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n\n",
			  s->id);
		return;
	case API_GEMINI:
	case API_OLLAMA:
		return;
	default:
		openai_head(s);
		bytes_str(e, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]"
			     "}\n\n");
	}
}

static void token(struct stream *s, struct span text)
{
	struct bytes *e = &s->event;
	const char *behind = "";
	switch (s->a->api) {
	case API_RESPONSES:
		bytes_str(e, "event: response.output_text.delta\ndata: "
			     "{\"type\":\"response.output_text.delta\",\"output_index\":0,"
			     "\"content_index\":0,\"delta\":");
		behind = "}\n\n";
		break;
	case API_ANTHROPIC:
		bytes_str(e,
			  "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{"
			  "\"type\":\"text_delta\",\"text\":");
		behind = "}}\n\n";
		break;
	case API_COHERE:
		bytes_str(e,
			  "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{"
			  "\"content\":{\"text\":");
		behind = "}}}}\n\n";
		break;
	case API_GEMINI:
		bytes_str(e, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":");
		behind = "}],\"role\":\"model\"},\"index\":0}]}\n\n";
		break;
	case API_OLLAMA:
		bytes_str(e, "{\"model\":");
		bytes_json(e, s->a->model);
		bytes_str(e, ",\"message\":{\"role\":\"assistant\",\"content\":");
		behind = "},\"done\":false}\n";
		break;
	default:
		openai_head(s);
		bytes_str(e, "{\"index\":0,\"delta\":{\"content\":");
		behind = "},\"finish_reason\":null}]}\n\n";
	}
	bytes_json(e, text);
	bytes_str(e, behind);
}

static void end_anthropic(struct stream *s, const char *finish)
{
	bytes_fmt(&s->event,
		  "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: "
		  "message_delta\n"
		  "data: "
		  "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},\"usage\":{"
		  "\"output_tokens\":%lu}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
		  finish, s->a->tokens_out);
}

static void end_cohere(struct stream *s, const char *finish)
{
	bytes_fmt(
		&s->event,
		"event: content-end\ndata: {\"type\":\"content-end\",\"index\":0}\n\nevent: message-end\ndata: "
		"{\"type\":"
		"\"message-end\",\"delta\":{\"finish_reason\":\"%s\",\"usage\":{\"billed_units\":{\"input_tokens\":%lu,"
		"\"output_tokens\":%lu},\"tokens\":{\"input_tokens\":%lu,\"output_tokens\":%lu}}}}\n\n",
		finish, s->a->tokens_in, s->a->tokens_out, s->a->tokens_in, s->a->tokens_out);
}

static void end(struct stream *s)
{
	struct bytes *e = &s->event;
	const char *finish = form_finish(s->a->api, s->a->cut);
	switch (s->a->api) {
	case API_RESPONSES:
		bytes_fmt(e, "event: response.%s\ndata: {\"type\":\"response.%s\",\"response\":",
			  s->a->cut ? "incomplete" : "completed", s->a->cut ? "incomplete" : "completed");
		form_chat(e, s->a, s->o);
		bytes_str(e, "}\n\n");
		break;
	case API_ANTHROPIC:
		end_anthropic(s, finish);
		break;
	case API_COHERE:
		end_cohere(s, finish);
		break;
	case API_GEMINI:
		bytes_fmt(
			e,
			"data: "
			"{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},"
			"\"finishReason\":"
			"\"%s\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":%lu,\"candidatesTokenCount\":%lu,"
			"\"totalTokenCount\":%lu}}\n\n",
			finish, s->a->tokens_in, s->a->tokens_out, s->a->tokens_in + s->a->tokens_out);
		break;
	case API_OLLAMA:
		bytes_str(e, "{\"model\":");
		bytes_json(e, s->a->model);
		bytes_fmt(e,
			  ",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"%s\",\"done\":true,"
			  "\"prompt_eval_count\":%lu,\"eval_count\":%lu}\n",
			  finish, s->a->tokens_in, s->a->tokens_out);
		break;
	default:
		openai_head(s);
		bytes_fmt(e, "{\"index\":0,\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n", finish);
		flush(s, false);
		if (s->a->include_usage && s->o->usage)
			openai_usage(s);
		bytes_str(e, "data: [DONE]\n\n");
	}
	flush(s, false);
}

static void error_event(struct stream *s)
{
	if (s->a->api == API_ANTHROPIC)
		bytes_str(&s->event, "event: error\n");
	else if (s->a->api == API_RESPONSES)
		bytes_str(&s->event, "event: error\n");
	if (s->a->api != API_OLLAMA)
		bytes_str(&s->event, "data: ");
	form_error(&s->event, s->a->api, 503, NULL, "The server had an error while processing your request");
	bytes_str(&s->event, "\n\n");
	flush(s, false);
}

/* false: here the stream ends. */
static bool fault_here(struct stream *s, enum fault_kind fault)
{
	switch (fault) {
	case FAULT_STREAMERROR:
		error_event(s);
		return false;
	case FAULT_BADSSE:
		bytes_str(&s->event, "dat\x01: broken\ndata: {\"id\": \"half of an ob\n\n");
		flush(s, false);
		return true;
	case FAULT_STREAMCUT:
		return false;
	case FAULT_STREAMCLOSE:
		s->r->end = END_CLOSE;
		return false;
	default:
		return true;
	}
}

const char *form_stream_type(enum api api)
{
	return api == API_OLLAMA ? "application/x-ndjson" : "text/event-stream; charset=utf-8";
}

/* The text's next piece: a word with the space before it. With the last word goes the rest. */
static struct span piece(struct span *rest, bool last)
{
	struct span left = *rest;
	span_word(&left);
	struct span made = {rest->p, last ? rest->n : (size_t)(left.p - rest->p)};
	*rest = left;
	return made;
}

void form_stream(struct reply *r, const struct ask *a, const struct options *o, enum fault_kind fault, uint64_t at_ns,
		 uint64_t *random)
{
	struct stream s = {r, a, o, {0}, at_ns, hash_of((struct span){a->text.p, a->text.n}, 7)};
	struct span rest = {a->text.p, a->text.n};
	bool goes_on = true;
	begin(&s);
	for (uint64_t i = 0; i < a->tokens_out && goes_on; i++) {
		if (i == a->tokens_out / 2)
			goes_on = fault_here(&s, fault);
		if (!goes_on)
			break;
		if (i > 0)
			s.at_ns += spread_draw(&o->gap, random);
		struct span text = piece(&rest, i + 1 == a->tokens_out);
		token(&s, o->stamp ? span_of(i ? " " STAMP : STAMP) : text);
		flush(&s, o->stamp);
	}
	if (goes_on)
		end(&s);
	if (r->end == END_KEEP) {
		bytes_str(&r->out, "0\r\n\r\n");
		reply_mark(r, s.at_ns, 0);
	}
	bytes_free(&s.event);
}
