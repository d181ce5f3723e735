// SPDX-License-Identifier: Apache-2.0
/*
 * batch: OpenAI's files and batches. A batch's lines are answered when somebody looks after its time is over (or cancels it); what it does not get to (batch_done, or
 * the share of its time when it was cancelled) is in the error file as batch_expired, as OpenAI does it.
 */
#include "tests/api/files.h"

#include <stdlib.h>

#define LINES_MAX 50000
#define INPUTS_MAX 50000 /* of embeddings, over all lines of a batch */

struct batch {
	char id[32], input[32], output[32], error[32], endpoint[64];
	const char *state; /* NULL: still running */
	char why[200];
	uint64_t begun_ns, done, failed, total;
	struct bytes metadata;
};

static struct batch *batches;
static size_t n_batch, serial;

void batch_reset(void)
{
	for (size_t i = 0; i < n_batch; i++)
		bytes_free(&batches[i].metadata);
	n_batch = 0;
	files_reset();
	messages_reset();
}

/* --- running --- */

const char *batch_answer(struct call *k, enum api api, const struct json *body, struct bytes *to)
{
	struct server *s = k->s;
	/* The ask reads the root of a tree: the body becomes it. */
	struct json root = s->tree.node[1];
	s->tree.node[1] = *body;
	s->tree.node[1].next = 0;
	const char *wrong = ask_read(&s->ask, api, (struct span){0}, &s->tree, &k->p->o);
	struct account a = {0};
	if (wrong == NULL) {
		serve_texts(s, &a, &s->ask);
		if (api == API_EMBED) {
			form_vectors(to, &s->ask, &k->p->o, false);
		} else {
			uint64_t paid = stats_text(&s->stats, s->ask.first, hash_of(s->ask.model, false))->paid;
			ask_answer(&s->ask, &s->tree, &k->p->o, s->ask.schema != NULL && paid < k->p->o.invalid);
			form_chat(to, &s->ask, &k->p->o);
		}
		for (size_t i = 0; i < a.n_text; i++) {
			struct span text = api == API_EMBED ? s->ask.input[i].text : s->ask.first;
			stats_text(&s->stats, text, hash_of(s->ask.model, api == API_EMBED))->paid++;
		}
		s->stats.tokens_in += s->ask.tokens_in;
		s->stats.tokens_out += s->ask.tokens_out;
		s->stats.usd += 0.5e-6 * (k->p->o.price_in * (double)s->ask.tokens_in +
					  k->p->o.price_out * (double)s->ask.tokens_out);
		s->stats.batch_lines++;
	}
	free(a.text);
	s->tree.node[1] = root;
	return wrong;
}

static void put_line(struct bytes *to, struct span custom, int status, const char *code, struct span body)
{
	bytes_fmt(to, "{\"id\":\"batch_req_%zu\",\"custom_id\":", ++serial);
	bytes_json(to, custom);
	if (status > 0) {
		bytes_fmt(to, ",\"response\":{\"status_code\":%d,\"request_id\":\"req_b%zu\",\"body\":", status,
			  serial);
		bytes_span(to, body);
		bytes_str(to, "},\"error\":null}\n");
	} else {
		bytes_fmt(to,
			  ",\"response\":null,\"error\":{\"code\":\"%s\",\"message\":\"This request could not be "
			  "executed.\"}}\n",
			  code);
	}
}

static void run_line(struct call *k, struct batch *b, struct span line, double share, struct bytes *out,
		     struct bytes *err)
{
	struct bytes copy = {0}, body = {0};
	bytes_span(&copy, line);
	if (json_parse(&k->s->tree, copy.p, copy.n)) {
		const struct json *root = &k->s->tree.node[1];
		struct span custom = json_get(&k->s->tree, root, "custom_id")->text;
		uint64_t turn = hash_of(span_of(b->id), 7); /* a line that is sent again has another lot */
		uint64_t lot = hash_of(custom, 5) ^ turn, lot2 = hash_of(custom, 6) ^ turn;
		if (random_unit(&lot) >= share) {
			put_line(err, custom, 0,
				 b->state && strcmp(b->state, "cancelled") == 0 ? "batch_cancelled" : "batch_expired",
				 (struct span){0});
		} else if (random_unit(&lot2) < k->p->o.batch_fail) {
			form_error(&body, API_CHAT, 500, NULL, "The server had an error while processing your request");
			put_line(err, custom, 500, NULL, (struct span){body.p, body.n});
			b->failed++;
		} else {
			enum api api = strstr(b->endpoint, "embeddings")  ? API_EMBED
				       : strstr(b->endpoint, "responses") ? API_RESPONSES
									  : API_CHAT;
			const char *wrong = batch_answer(k, api, json_get(&k->s->tree, root, "body"), &body);
			body.n = wrong ? 0 : body.n;
			if (wrong != NULL)
				form_error(&body, API_CHAT, 400, NULL, wrong);
			put_line(wrong ? err : out, custom, wrong ? 400 : 200, NULL, (struct span){body.p, body.n});
			*(wrong ? &b->failed : &b->done) += 1;
		}
	}
	bytes_free(&copy);
	bytes_free(&body);
}

/* Answers the share of its lines; half of the lines come before the other half, so that order says nothing. */
static void finish(struct call *k, struct batch *b, const char *state, double share)
{
	struct file *in = file_find(span_of(b->input));
	struct bytes out = {0}, late = {0}, err = {0};
	b->state = state;
	struct span rest = in ? (struct span){in->content.p, in->content.n} : (struct span){0};
	while (rest.n > 0 && strcmp(state, "failed") != 0) {
		const char *end = memchr(rest.p, '\n', rest.n);
		struct span line = {rest.p, end ? (size_t)(end - rest.p) : rest.n};
		size_t used = end ? line.n + 1 : line.n;
		rest = (struct span){rest.p + used, rest.n - used};
		run_line(k, b, line, share, hash_of(line, 8) & 1 ? &out : &late, &err);
	}
	bytes_add(&out, late.p ? late.p : "", late.n);
	if (out.n > 0) {
		struct file *f = file_new("output.jsonl", 12);
		bytes_add(&f->content, out.p, out.n);
		memcpy(b->output, f->id, sizeof b->output);
	}
	if (err.n > 0) {
		struct file *f = file_new("error.jsonl", 11);
		bytes_add(&f->content, err.p, err.n);
		memcpy(b->error, f->id, sizeof b->error);
	}
	bytes_free(&out);
	bytes_free(&late);
	bytes_free(&err);
}

static double elapsed(const struct call *k, const struct batch *b)
{
	double ms = (double)(k->s->now_ns - b->begun_ns) * 1e-6;
	return k->p->o.batch_ms > 0 && ms < k->p->o.batch_ms ? ms / k->p->o.batch_ms : 1;
}

static void look(struct call *k, struct batch *b)
{
	if (b->state != NULL || elapsed(k, b) < 1)
		return;
	if (strcmp(k->p->o.batch_state, "failed") == 0) {
		snprintf(b->why, sizeof b->why, "the batch failed, as it was asked for");
		finish(k, b, "failed", 0);
	} else {
		finish(k, b,
		       strcmp(k->p->o.batch_state, "expired") == 0 || k->p->o.batch_done < 1 ? "expired" : "completed",
		       k->p->o.batch_done);
	}
}

static void optional(struct bytes *to, const char *name, const char *id)
{
	bytes_fmt(to, ",\"%s\":%s%s%s", name, id[0] ? "\"" : "", id[0] ? id : "null", id[0] ? "\"" : "");
}

static void batch_json(struct call *k, struct bytes *to, const struct batch *b)
{
	double e = elapsed(k, b);
	bytes_fmt(to,
		  "{\"id\":\"%s\",\"object\":\"batch\",\"endpoint\":\"%s\",\"input_file_id\":\"%s\",\"completion_"
		  "window\":\"24h\",",
		  b->id, b->endpoint, b->input);
	bytes_fmt(to, "\"status\":\"%s\",\"created_at\":1735689600",
		  b->state  ? b->state
		  : e < 0.1 ? "validating"
			    : "in_progress");
	optional(to, "output_file_id", b->output);
	optional(to, "error_file_id", b->error);
	bytes_str(to, ",\"errors\":");
	if (b->why[0]) {
		bytes_str(to, "{\"object\":\"list\",\"data\":[{\"code\":\"invalid\",\"line\":null,\"param\":null,"
			      "\"message\":");
		bytes_json(to, span_of(b->why));
		bytes_str(to, "}]}");
	} else {
		bytes_str(to, "null");
	}
	bytes_fmt(to, ",\"request_counts\":{\"total\":%lu,\"completed\":%lu,\"failed\":%lu},\"metadata\":%s}", b->total,
		  b->state ? b->done : (uint64_t)(e * (double)b->total), b->failed,
		  b->metadata.n ? b->metadata.p : "null");
}

/* One text or one list of tokens is one input. */
static uint64_t inputs_of(const struct json_tree *t, const struct json *body)
{
	const struct json *input = json_get(t, body, "input"), *first = json_child(t, input);
	return input->type == JSON_ARRAY && first != NULL && first->type != JSON_NUMBER ? input->n : 1;
}

/* Checks what OpenAI checks before it begins. */
static void validate(struct call *k, struct batch *b, const struct file *in)
{
	struct json_tree t = {0};
	struct bytes copy = {0}, seen = {0};
	struct span rest = {in->content.p, in->content.n};
	uint64_t inputs = 0;
	while (rest.n > 0 && !b->why[0]) {
		const char *end = memchr(rest.p, '\n', rest.n);
		size_t n = end ? (size_t)(end - rest.p) : rest.n;
		copy.n = 0;
		bytes_add(&copy, rest.p, n);
		rest = (struct span){rest.p + (end ? n + 1 : n), rest.n - (end ? n + 1 : n)};
		if (n == 0)
			continue;
		b->total++;
		bool good = json_parse(&t, copy.p, copy.n);
		const struct json *root = good ? &t.node[1] : NULL;
		if (!good || json_get(&t, root, "custom_id")->type != JSON_STRING ||
		    json_get(&t, root, "body")->type != JSON_OBJECT)
			snprintf(b->why, sizeof b->why, "line %lu is no request with custom_id and body", b->total);
		else if (!span_is(json_get(&t, root, "url")->text, b->endpoint))
			snprintf(b->why, sizeof b->why, "line %lu: its url is not the batch's endpoint", b->total);
		else if (!span_is(json_get(&t, root, "method")->text, "POST"))
			snprintf(b->why, sizeof b->why, "line %lu: its method is not POST", b->total);
		else
			bytes_add(&seen, &(uint64_t){hash_of(json_get(&t, root, "custom_id")->text, 1)}, 8);
		inputs += good ? inputs_of(&t, json_get(&t, root, "body")) : 0;
	}
	uint64_t *hash = (uint64_t *)(void *)seen.p;
	struct stats ids = {0};
	for (size_t i = 0; i < seen.n / 8 && !b->why[0]; i++) {
		if (++stats_text(&ids, (struct span){(char *)&hash[i], 8}, 0)->requests > 1)
			snprintf(b->why, sizeof b->why, "the custom_id of line %zu comes twice", i + 1);
	}
	stats_reset(&ids);
	if (!b->why[0] && (b->total == 0 || b->total > LINES_MAX))
		snprintf(b->why, sizeof b->why, "a batch has 1 to %d lines, here are %lu", LINES_MAX, b->total);
	if (!b->why[0] && strstr(b->endpoint, "embeddings") != NULL && inputs > INPUTS_MAX)
		snprintf(b->why, sizeof b->why, "a batch has at most %d inputs of embeddings, here are %lu", INPUTS_MAX,
			 inputs);
	if (b->why[0])
		b->state = "failed";
	json_free(&t);
	bytes_free(&copy);
	bytes_free(&seen);
	(void)k;
}

static void create(struct call *k)
{
	struct json_tree *t = &k->s->tree;
	if (!json_parse(t, (char *)k->r->body.p, k->r->body.n)) {
		call_error(k, 400, "We could not parse the JSON body of your request.");
		return;
	}
	const struct json *root = &t->node[1], *metadata = json_get(t, root, "metadata");
	struct span endpoint = json_get(t, root, "endpoint")->text;
	const struct file *in = file_find(json_get(t, root, "input_file_id")->text);
	if (in == NULL || !span_begins(endpoint, "/v1/") ||
	    !span_is(json_get(t, root, "completion_window")->text, "24h")) {
		call_error(k, 400,
			   in == NULL ? "No such File object"
				      : "endpoint must be a /v1/ path, completion_window '24h'");
		return;
	}
	batches = list_room(batches, n_batch, sizeof *batches);
	struct batch *b = &batches[n_batch++];
	snprintf(b->id, sizeof b->id, "batch_%zu", ++serial);
	memcpy(b->input, in->id, sizeof b->input);
	snprintf(b->endpoint, sizeof b->endpoint, "%.*s", (int)(endpoint.n < 60 ? endpoint.n : 60), endpoint.p);
	if (metadata->type == JSON_OBJECT)
		bytes_span(&b->metadata, metadata->text);
	b->begun_ns = k->s->now_ns;
	validate(k, b, in);
	k->s->stats.batches++;
	k->s->body.n = 0;
	batch_json(k, &k->s->body, b);
	call_say(k, 200, &k->s->body);
}

static void cancel(struct call *k, struct batch *b)
{
	look(k, b);
	if (b->state != NULL && strcmp(b->state, "cancelled") != 0) {
		call_error(k, 409, "Cannot cancel a batch that has ended");
		return;
	}
	if (b->state == NULL) {
		double share = elapsed(k, b);
		b->state = "cancelled";
		finish(k, b, "cancelled", share < k->p->o.batch_done ? share : k->p->o.batch_done);
	}
	k->s->body.n = 0;
	batch_json(k, &k->s->body, b);
	call_say(k, 200, &k->s->body);
}

bool path_id(struct span path, const char *start, struct span *id, struct span *tail)
{
	const char *at = memmem(path.p, path.n, start, strlen(start));
	if (at == NULL)
		return false;
	at += strlen(start);
	struct span rest = {at, path.n - (size_t)(at - path.p)};
	const char *slash = memchr(rest.p, '/', rest.n);
	*id = (struct span){rest.p, slash ? (size_t)(slash - rest.p) : rest.n};
	*tail = (struct span){rest.p + id->n, rest.n - id->n};
	return id->n > 0;
}

static void batch_path(struct call *k, struct span id, struct span tail)
{
	struct batch *b = NULL;
	for (size_t i = 0; i < n_batch; i++)
		b = span_is(id, batches[i].id) ? &batches[i] : b;
	if (b == NULL) {
		call_error(k, 404, "No such batch");
	} else if (span_is(tail, "/cancel")) {
		cancel(k, b);
	} else {
		look(k, b);
		k->s->body.n = 0;
		batch_json(k, &k->s->body, b);
		call_say(k, 200, &k->s->body);
	}
}

static void list(struct call *k)
{
	struct bytes *to = &k->s->body;
	struct bytes all = {0};
	for (size_t i = n_batch; i-- > 0;) {
		look(k, &batches[i]);
		if (all.n > 0)
			bytes_str(&all, ",");
		batch_json(k, &all, &batches[i]);
	}
	to->n = 0;
	bytes_fmt(to, "{\"object\":\"list\",\"data\":[%s],\"has_more\":false}", all.n ? all.p : "");
	bytes_free(&all);
	call_say(k, 200, to);
}

bool batch_serve(struct server *s, struct conn *c, struct request *r, struct profile *p)
{
	struct call k = {s, c, r, p};
	struct span id, tail;
	bool post = span_is(r->method, "POST");
	if (messages_serve(&k))
		return true;
	if (path_id(r->path, "/files/", &id, &tail))
		file_path(&k, id, tail);
	else if (path_id(r->path, "/batches/", &id, &tail))
		batch_path(&k, id, tail);
	else if (memmem(r->path.p, r->path.n, "/files", 6) != NULL && post)
		file_upload(&k);
	else if (memmem(r->path.p, r->path.n, "/batches", 8) != NULL)
		(post ? create : list)(&k);
	else
		return false;
	return true;
}
