// SPDX-License-Identifier: Apache-2.0
/*
 * messages: Anthropic's Message Batches: requests come inline, results are one JSONL text in an order of their own, and nothing marks whose batch it is. A
 * batch is worked on when somebody looks after its time is over; what it does not get to (batch_done, or the share of its time when it was cancelled)
 * is expired or canceled, and batch_fail of the others are errored. There is no batch that fails as a whole: batch_state=failed means nothing here.
 */
#include "tests/api/files.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#define REQUESTS_MAX 100000
#define PAGE_MAX 1000

struct messages {
	char id[40];
	struct bytes body, results;
	bool ended, canceling;
	double canceled_at; /* the share of its time */
	uint64_t begun_ns, total, succeeded, errored, canceled, expired;
};

static struct messages *batches;
static size_t n_batch, serial;

void messages_reset(void)
{
	for (size_t i = 0; i < n_batch; i++) {
		bytes_free(&batches[i].body);
		bytes_free(&batches[i].results);
	}
	n_batch = 0;
}

static void refuse(struct call *k, int status, const char *message)
{
	k->s->body.n = 0;
	form_error(&k->s->body, API_ANTHROPIC, status, NULL, message);
	call_say(k, status, &k->s->body);
}

/* --- running --- */

static void run_one(struct call *k, struct messages *b, const struct json *request, double share, struct bytes *to)
{
	const struct json_tree *t = &k->s->tree;
	struct span custom = json_get(t, request, "custom_id")->text;
	uint64_t turn = hash_of(span_of(b->id), 7); /* a request that is sent again has another lot */
	uint64_t lot = hash_of(custom, 5) ^ turn, lot2 = hash_of(custom, 6) ^ turn;
	struct bytes body = {0};
	const char *type = "succeeded", *member = ",\"message\":";
	if (random_unit(&lot) >= share) {
		type = b->canceling ? "canceled" : "expired";
		member = "";
		*(b->canceling ? &b->canceled : &b->expired) += 1;
	} else if (random_unit(&lot2) < k->p->o.batch_fail) {
		form_error(&body, API_ANTHROPIC, 500, NULL, "The server had an error while processing your request");
	} else {
		const char *wrong = batch_answer(k, API_ANTHROPIC, json_get(t, request, "params"), &body);
		body.n = wrong ? 0 : body.n;
		if (wrong != NULL)
			form_error(&body, API_ANTHROPIC, 400, NULL, wrong);
		b->succeeded += wrong == NULL;
	}
	if (member[0] && body.n > 0 && span_begins((struct span){body.p, body.n}, "{\"type\":\"error\"")) {
		type = "errored";
		member = ",\"error\":";
		b->errored++;
	}
	bytes_str(to, "{\"custom_id\":");
	bytes_json(to, custom);
	bytes_fmt(to, ",\"result\":{\"type\":\"%s\"%s", type, member);
	bytes_span(to, (struct span){body.p ? body.p : "", body.n});
	bytes_str(to, "}}\n");
	bytes_free(&body);
}

/* Half of the results come before the other half, so that order says nothing. */
static void finish(struct call *k, struct messages *b, double share)
{
	struct json_tree *t = &k->s->tree;
	struct bytes copy = {0}, late = {0};
	bytes_span(&copy, (struct span){b->body.p, b->body.n});
	if (!json_parse(t, copy.p, copy.n))
		abort(); /* it was parsed when it came */
	const struct json *one = json_child(t, json_get(t, &t->node[1], "requests"));
	for (; one != NULL; one = json_next(t, one)) {
		uint64_t half = hash_of(json_get(t, one, "custom_id")->text, 8) & 1;
		run_one(k, b, one, share, half ? &b->results : &late);
	}
	bytes_add(&b->results, late.p ? late.p : "", late.n);
	b->ended = true;
	bytes_free(&copy);
	bytes_free(&late);
}

static double elapsed(const struct call *k, const struct messages *b)
{
	double ms = (double)(k->s->now_ns - b->begun_ns) * 1e-6;
	return k->p->o.batch_ms > 0 && ms < k->p->o.batch_ms ? ms / k->p->o.batch_ms : 1;
}

static void look(struct call *k, struct messages *b)
{
	if (b->ended || (!b->canceling && elapsed(k, b) < 1))
		return;
	double share = b->canceling && b->canceled_at < k->p->o.batch_done ? b->canceled_at : k->p->o.batch_done;
	finish(k, b, share);
}

/* --- what is said of one --- */

static unsigned port_of(const struct server *s)
{
	struct sockaddr_in at = {0};
	socklen_t n = sizeof at;
	if (getsockname(s->listener, (struct sockaddr *)&at, &n) != 0)
		abort();
	return ntohs(at.sin_port);
}

static void batch_json(struct call *k, struct bytes *to, const struct messages *b)
{
	static const char *const when = "2025-01-01T00:00:00.000000Z";
	const char *status = b->ended ? "ended" : b->canceling ? "canceling" : "in_progress";
	bytes_fmt(to, "{\"id\":\"%s\",\"type\":\"message_batch\",\"processing_status\":\"%s\",\"request_counts\":{",
		  b->id, status);
	bytes_fmt(to, "\"processing\":%lu,\"succeeded\":%lu,\"errored\":%lu,\"canceled\":%lu,\"expired\":%lu},",
		  b->ended ? 0 : b->total, b->succeeded, b->errored, b->canceled, b->expired);
	bytes_fmt(to, "\"created_at\":\"%s\",\"expires_at\":\"2025-01-02T00:00:00.000000Z\",\"archived_at\":null,",
		  when);
	bytes_fmt(to, "\"cancel_initiated_at\":%s%s%s,", b->canceling ? "\"" : "", b->canceling ? when : "null",
		  b->canceling ? "\"" : "");
	if (!b->ended) {
		bytes_str(to, "\"ended_at\":null,\"results_url\":null}");
		return;
	}
	bytes_fmt(to,
		  "\"ended_at\":\"%s\",\"results_url\":\"http://127.0.0.1:%u/%.*s%sv1/messages/batches/%s/results\"}",
		  when, port_of(k->s), (int)k->r->prefix.n, k->r->prefix.p ? k->r->prefix.p : "",
		  k->r->prefix.n ? "/" : "", b->id);
}

static void say(struct call *k, const struct messages *b)
{
	k->s->body.n = 0;
	batch_json(k, &k->s->body, b);
	call_say(k, 200, &k->s->body);
}

/* --- requests --- */

static bool id_is_good(struct span id)
{
	static const char good[] = "-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	return id.n >= 1 && id.n <= 64 && strspn(id.p, good) >= id.n;
}

/* NULL: it is a batch, of *total requests. Their params are checked later, one by one, as Anthropic does it. */
static const char *validate(const struct json_tree *t, uint64_t *total)
{
	const struct json *list = json_get(t, &t->node[1], "requests");
	struct stats ids = {0};
	const char *wrong = NULL;
	if (list->type != JSON_ARRAY || list->n == 0)
		return "requests: List should have at least 1 item";
	if (list->n > REQUESTS_MAX)
		return "requests: List should have at most 100000 items";
	for (const struct json *one = json_child(t, list); one != NULL && wrong == NULL; one = json_next(t, one)) {
		struct span id = json_get(t, one, "custom_id")->text;
		uint64_t hash = hash_of(id, 1);
		if (json_get(t, one, "custom_id")->type != JSON_STRING || !id_is_good(id))
			wrong = "requests: custom_id should match '^[a-zA-Z0-9_-]{1,64}$'";
		else if (json_get(t, one, "params")->type != JSON_OBJECT)
			wrong = "requests: params: Field required";
		else if (stats_text(&ids, (struct span){(char *)&hash, 8}, 0)->requests++ > 0)
			wrong = "requests: custom_id is not unique within the batch";
	}
	stats_reset(&ids);
	*total = list->n;
	return wrong;
}

static void create(struct call *k)
{
	struct bytes copy = {0};
	uint64_t total = 0;
	bytes_span(&copy, k->r->body); /* parsing writes into the text */
	const char *wrong = json_parse(&k->s->tree, (char *)k->r->body.p, k->r->body.n) ? validate(&k->s->tree, &total)
											: "the body is no JSON";
	if (wrong != NULL) {
		refuse(k, 400, wrong);
		bytes_free(&copy);
		return;
	}
	batches = list_room(batches, n_batch, sizeof *batches);
	struct messages *b = &batches[n_batch++];
	snprintf(b->id, sizeof b->id, "msgbatch_%zu", ++serial);
	b->body = copy;
	b->total = total;
	b->begun_ns = k->s->now_ns;
	k->s->stats.batches++;
	say(k, b);
}

static uint64_t query_number(struct span query, const char *name, uint64_t otherwise)
{
	const char *at = query.n ? memmem(query.p, query.n, name, strlen(name)) : NULL;
	return at ? strtoull(at + strlen(name), NULL, 10) : otherwise;
}

/* The place behind after_id: the newest are first. */
static size_t first_of_page(struct span query)
{
	const char *at = query.n ? memmem(query.p, query.n, "after_id=", 9) : NULL;
	if (at == NULL)
		return n_batch;
	struct span id = {at + 9, query.n - (size_t)(at + 9 - query.p)};
	id.n = strcspn(id.p, "& ") < id.n ? strcspn(id.p, "& ") : id.n;
	for (size_t i = n_batch; i-- > 0;) {
		if (span_is(id, batches[i].id))
			return i;
	}
	return 0;
}

static void list(struct call *k)
{
	struct bytes all = {0};
	uint64_t limit = query_number(k->r->query, "limit=", 20), n = 0;
	size_t at = first_of_page(k->r->query), first = at, last = at;
	if (limit < 1 || limit > PAGE_MAX) {
		refuse(k, 400, "limit: Input should be between 1 and 1000");
		return;
	}
	for (; at > 0 && n < limit; at--, n++) {
		look(k, &batches[at - 1]);
		bytes_str(&all, n ? "," : "");
		batch_json(k, &all, &batches[at - 1]);
		last = at;
	}
	k->s->body.n = 0;
	bytes_fmt(&k->s->body, "{\"data\":[%s],\"has_more\":%s", all.n ? all.p : "", at > 0 ? "true" : "false");
	if (n > 0)
		bytes_fmt(&k->s->body, ",\"first_id\":\"%s\",\"last_id\":\"%s\"}", batches[first - 1].id,
			  batches[last - 1].id);
	else
		bytes_str(&k->s->body, ",\"first_id\":null,\"last_id\":null}");
	bytes_free(&all);
	call_say(k, 200, &k->s->body);
}

static void one(struct call *k, struct span id, struct span tail)
{
	struct messages *b = NULL;
	for (size_t i = 0; i < n_batch; i++)
		b = span_is(id, batches[i].id) ? &batches[i] : b;
	if (b == NULL) {
		refuse(k, 404, "No such message batch");
		return;
	}
	look(k, b);
	if (span_is(tail, "/results")) {
		if (!b->ended)
			refuse(k, 404, "Results are not available until the batch has ended");
		else
			serve_body(k->c, k->r, 200, "application/x-jsonl", "",
				   (struct span){b->results.p, b->results.n}, k->s->now_ns);
	} else if (span_is(tail, "/cancel")) {
		if (!b->ended && !b->canceling) {
			b->canceled_at = elapsed(k, b);
			b->canceling = true;
		}
		say(k, b);
	} else {
		say(k, b);
	}
}

bool messages_serve(struct call *k)
{
	struct span id, tail;
	if (memmem(k->r->path.p, k->r->path.n, "/messages/batches", 17) == NULL)
		return false;
	if (path_id(k->r->path, "/batches/", &id, &tail))
		one(k, id, tail);
	else if (span_is(k->r->method, "POST"))
		create(k);
	else
		list(k);
	return true;
}
