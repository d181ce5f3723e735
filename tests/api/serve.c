// SPDX-License-Identifier: Apache-2.0
/* serve: from a request to its reply: whose options, which API, is it allowed, what goes wrong, what is the answer. */
#include "tests/api/serve.h"

#include <stdlib.h>

/* --- profiles --- */

static struct profile *profile_make(struct server *s, uint64_t hash, const struct request *r)
{
	struct profile *p = calloc(1, sizeof *p);
	if (p == NULL)
		abort();
	p->hash = hash;
	p->o = s->base;
	struct span rest = r->prefix;
	const char *wrong = NULL;
	while (rest.n > 0 && wrong == NULL) {
		const char *slash = memchr(rest.p, '/', rest.n);
		struct span one = {rest.p, slash ? (size_t)(slash - rest.p) : rest.n};
		wrong = options_set_all(&p->o, one);
		size_t used = slash ? one.n + 1 : one.n;
		rest = (struct span){rest.p + used, rest.n - used};
	}
	if (wrong == NULL)
		wrong = options_set_all(&p->o, r->test);
	if (wrong != NULL)
		snprintf(p->wrong, sizeof p->wrong, "%s", wrong);
	p->random = p->o.seed;
	p->next = s->profile;
	s->profile = p;
	return p;
}

/* Takes the prefix off the path. */
static struct profile *profile_of(struct server *s, struct request *r)
{
	size_t at = 0;
	for (;;) {
		const char *slash = r->path.n > at + 1 ? memchr(r->path.p + at + 1, '/', r->path.n - at - 1) : NULL;
		size_t end = slash ? (size_t)(slash - r->path.p) : r->path.n;
		if (memchr(r->path.p + at, '=', end - at) == NULL)
			break;
		at = end;
	}
	if (at > 0)
		r->prefix = (struct span){r->path.p + 1, at - 1};
	r->path = (struct span){r->path.p + at, r->path.n - at};
	uint64_t hash = hash_of(r->key, hash_of(r->test, hash_of(r->prefix, 1)));
	for (struct profile *p = s->profile; p != NULL; p = p->next) {
		if (p->hash == hash)
			return p;
	}
	return profile_make(s, hash, r);
}

static struct limit *limit_of(struct profile *p, struct span model)
{
	struct limit *l = p->limit;
	while (l != NULL && (l->model.n != model.n || memcmp(l->model.p, model.p, model.n) != 0))
		l = l->next;
	if (l == NULL) {
		char *copy = strndup(model.n ? model.p : "", model.n);
		l = calloc(1, sizeof *l);
		if (l == NULL || copy == NULL)
			abort();
		l->model = (struct span){copy, model.n};
		l->next = p->limit;
		p->limit = l;
	}
	return l;
}

/* --- replies --- */

void serve_body(struct conn *c, const struct request *r, int status, const char *type, const char *extra,
		struct span body, uint64_t at_ns)
{
	struct bytes *out = &c->reply.out;
	http_head(out, status, type, extra, body.n, r->keep);
	bytes_span(out, body);
	reply_mark(&c->reply, at_ns, 0);
	c->account.status = status;
}

void job_body(struct job *j, int status, const char *type, struct span body, uint64_t at_ns)
{
	const struct options *o = &j->p->o;
	struct bytes packed = {0};
	if (o->close)
		j->r->keep = false;
	j->c->close_after = !j->r->keep;
	if (o->gzip && j->r->gzip) {
		gzip_stored(&packed, body);
		body = (struct span){packed.p, packed.n};
		bytes_str(&j->extra, "Content-Encoding: gzip\r\n");
	}
	if (o->chunked) {
		struct bytes *out = &j->c->reply.out;
		http_head(out, status, type, j->extra.n ? j->extra.p : "", SIZE_MAX, j->r->keep);
		for (size_t at = 0, part; at < body.n; at += part) {
			part = body.n - at < 1000 ? body.n - at : 1000;
			bytes_fmt(out, "%zx\r\n", part);
			bytes_add(out, body.p + at, part);
			bytes_str(out, "\r\n");
		}
		bytes_str(out, "0\r\n\r\n");
		reply_mark(&j->c->reply, at_ns, 0);
		j->c->account.status = status;
	} else {
		serve_body(j->c, j->r, status, type, j->extra.n ? j->extra.p : "", body, at_ns);
	}
	bytes_free(&packed);
}

void job_error(struct job *j, int status, const char *code, const char *message)
{
	struct bytes *body = &j->s->body;
	body->n = 0;
	form_error(body, j->api, status, code, message);
	job_body(j, status, "application/json", (struct span){body->p, body->n},
		 j->s->now_ns + spread_draw(&j->p->o.error_delay, &j->p->random));
}

/* --- counting --- */

void serve_texts(struct server *s, struct account *a, const struct ask *ask)
{
	size_t n = api_embeds(ask->api) ? ask->n_input : 1;
	bool early = false;
	if (n > a->cap_text) {
		a->cap_text = n;
		a->text = realloc(a->text, n * sizeof *a->text);
		if (a->text == NULL)
			abort();
	}
	for (a->n_text = 0; a->n_text < n; a->n_text++) {
		struct span text = api_embeds(ask->api) ? ask->input[a->n_text].text : ask->first;
		struct text *t = stats_text(&s->stats, text, hash_of(ask->model, api_embeds(ask->api)));
		t->requests++;
		early = early || s->now_ns < t->not_before_ns;
		a->text[a->n_text] = t->hash;
		if (a->n_text == 0)
			memcpy(a->head, t->head, sizeof a->head);
	}
	s->stats.inputs += n;
	s->stats.early_retries += early;
}

static void count_arrival(struct job *j)
{
	struct server *s = j->s;
	struct stats *st = &s->stats;
	uint64_t minute = (uint64_t)(60e9 / j->p->o.scale);
	st->requests++;
	if (st->first_arrival_ns == 0)
		st->first_arrival_ns = s->now_ns;
	st->last_arrival_ns = s->now_ns;
	if (++st->in_flight > st->max_in_flight)
		st->max_in_flight = st->in_flight;
	st->early_any += s->now_ns < st->pause_until_ns;
	window_add(&st->requests_window, s->now_ns, minute, 1);
	j->c->account.counts = true;
	j->p->n_request++;
}

/* --- answers --- */

static void say_answer(struct job *j, const struct fault *f, uint64_t at_ns)
{
	struct ask *a = &j->s->ask;
	struct bytes *body = &j->s->body;
	const struct options *o = &j->p->o;
	body->n = 0;
	if (api_embeds(a->api)) {
		form_vectors(body, a, o, f->kind == FAULT_FEWER);
	} else if (a->stream) {
		if (o->close)
			j->r->keep = false;
		j->c->close_after = !j->r->keep;
		http_head(&j->c->reply.out, 200, form_stream_type(a->api), j->extra.n ? j->extra.p : "", SIZE_MAX,
			  j->r->keep);
		form_stream(&j->c->reply, a, o, f->kind, at_ns, &j->p->random);
		j->c->account.status = 200;
		j->s->stats.streams++;
		return;
	} else {
		form_chat(body, a, o);
	}
	size_t n = f->kind == FAULT_BADJSON ? body->n / 2 : body->n;
	job_body(j, 200, f->kind == FAULT_TYPE ? "text/plain; charset=utf-8" : "application/json",
		 (struct span){body->p, n}, at_ns);
}

static const char *refusal(enum limit_reason reason)
{
	static const char *const words[] = {
		[LIMIT_REQUESTS] = "Rate limit reached for requests per min (RPM). Please try again later.",
		[LIMIT_TOKENS] = "Rate limit reached for tokens per min (TPM). Please try again later.",
		[LIMIT_DAY_REQUESTS] = "Rate limit reached for requests per day (RPD).",
		[LIMIT_DAY_TOKENS] = "Rate limit reached for tokens per day (TPD).",
		[LIMIT_CONCURRENCY] = "Too many requests at once.",
	};
	return words[reason];
}

/* false: refused, and the reply says so. */
static bool allowed(struct job *j)
{
	struct server *s = j->s;
	struct account *a = &j->c->account;
	const struct options *o = &j->p->o;
	struct limit *l = limit_of(j->p, s->ask.model);
	uint64_t tokens = a->tokens_in + (o->charge == CHARGE_WORST ? s->ask.max_tokens : a->tokens_out);
	struct verdict v = limit_take(l, o, s->now_ns - s->start_ns, tokens);
	uint64_t wall = s->now_ns + s->wall_minus_mono_ns;
	s->stats.violation[v.reason] += v.reason != LIMIT_OK;
	headers_limits(&j->extra, o, j->api, &v, wall);
	if (v.reason != LIMIT_OK && o->enforce) {
		if (v.wait_ns != UINT64_MAX) {
			a->retry_ns = headers_retry(&j->extra, o, j->api, v.wait_ns, wall);
			a->retry_is_limit = true;
		}
		job_error(j, 429, "rate_limit_exceeded", refusal(v.reason));
		return false;
	}
	uint64_t minute = (uint64_t)(60e9 / o->scale);
	window_add(&s->stats.accepted_window, s->now_ns, minute, 1);
	window_add(&s->stats.tokens_window, s->now_ns, minute, tokens);
	a->limit = l;
	l->n_in_flight++;
	return true;
}

static void answer(struct job *j, struct span model, bool stream)
{
	struct server *s = j->s;
	struct ask *ask = &s->ask;
	struct account *a = &j->c->account;
	const struct options *o = &j->p->o;
	if (!json_parse(&s->tree, (char *)j->r->body.p, j->r->body.n)) {
		job_error(j, 400, NULL, "We could not parse the JSON body of your request.");
		return;
	}
	const char *wrong = ask_read(ask, j->api, model, &s->tree, o);
	if (wrong != NULL) {
		job_error(j, 400, strstr(wrong, "context length") ? "context_length_exceeded" : NULL, wrong);
		return;
	}
	ask->stream = (ask->stream || stream) && !api_embeds(j->api);
	serve_texts(s, a, ask);
	if (!api_embeds(j->api))
		ask_answer(ask, &s->tree, o, ask->schema != NULL && job_tries(j) <= o->invalid);
	a->tokens_in = ask->tokens_in;
	a->tokens_out = ask->tokens_out;
	a->usd = (o->price_in * (double)a->tokens_in + o->price_out * (double)a->tokens_out) * 1e-6;
	if (!allowed(j))
		return;
	a->fault = fault_draw(j);
	s->stats.fault[a->fault.kind] += a->fault.kind != FAULT_NONE;
	uint64_t at_ns = s->now_ns + spread_draw(&o->delay, &j->p->random);
	if (fault_instead(j, &a->fault, at_ns) || fault_endless(j, &a->fault, at_ns))
		return;
	say_answer(j, &a->fault, at_ns);
	fault_behind(j, &a->fault);
	a->paid = a->fault.kind == FAULT_NONE || a->fault.kind == FAULT_SLOW || a->fault.kind == FAULT_TYPE;
}

/* --- paths --- */

static bool path_ends(struct span path, const char *end)
{
	size_t n = strlen(end);
	return path.n >= n && memcmp(path.p + path.n - n, end, n) == 0;
}

/* ".../models/NAME:method" */
static enum api gemini_path(struct span path, struct span *model, bool *stream)
{
	const char *models = memmem(path.p, path.n, "/models/", 8);
	const char *colon = models ? memchr(models, ':', path.n - (size_t)(models - path.p)) : NULL;
	if (colon == NULL)
		return API_NONE;
	*model = (struct span){models + 8, (size_t)(colon - models) - 8};
	*stream = path_ends(path, ":streamGenerateContent");
	return *stream || path_ends(path, ":generateContent") ? API_GEMINI
	       : path_ends(path, ":embedContent")             ? API_GEMINI_EMBED
	       : path_ends(path, ":batchEmbedContents")       ? API_GEMINI_EMBEDS
							      : API_NONE;
}

static enum api api_of(struct span path, struct span *model, bool *stream)
{
	static const struct {
		const char *end;
		enum api api;
	} known[] = {{"/chat/completions", API_CHAT}, {"/responses", API_RESPONSES},    {"/embeddings", API_EMBED},
		     {"/messages", API_ANTHROPIC},    {"/v2/chat", API_COHERE},         {"/v2/embed", API_COHERE_EMBED},
		     {"/api/chat", API_OLLAMA},       {"/api/embed", API_OLLAMA_EMBED}, {"/embed", API_TEI}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (path_ends(path, known[i].end))
			return known[i].api;
	}
	return gemini_path(path, model, stream);
}

/* /stats, /texts, /reset: the server's own, never counted, never late. */
static bool own_path(struct job *j)
{
	struct bytes *body = &j->s->body;
	body->n = 0;
	if (span_is(j->r->path, "/stats"))
		stats_write(&j->s->stats, body);
	else if (span_is(j->r->path, "/texts"))
		stats_texts(&j->s->stats, span_is(j->r->query, "twice"), body);
	else if (span_is(j->r->path, "/reset") && span_is(j->r->method, "POST"))
		bytes_str(body, "{}\n");
	else
		return false;
	if (span_is(j->r->path, "/reset")) {
		stats_reset(&j->s->stats);
		batch_reset();
		for (struct profile *p = j->s->profile; p != NULL; p = p->next) {
			p->n_request = 0;
			p->random = p->o.seed;
			for (struct limit *l = p->limit; l != NULL; l = l->next) {
				free(l->taken);
				*l = (struct limit){.model = l->model, .next = l->next, .n_in_flight = l->n_in_flight};
			}
		}
	}
	if (j->s->log != NULL)
		fflush(j->s->log);
	serve_body(j->c, j->r, 200, "application/json", "", (struct span){body->p, body->n}, 0);
	return true;
}

static bool key_is_right(const struct job *j)
{
	const char *key = j->p->o.key;
	struct span query = j->r->query;
	return !key[0] || span_is(j->r->key, key) ||
	       (span_begins(query, "key=") && span_is((struct span){query.p + 4, strcspn(query.p + 4, "& ")}, key)) ||
	       (query.n > 8 && memmem(query.p, query.n, "&key=", 5) != NULL &&
		memmem(query.p, query.n, key, strlen(key)) != NULL);
}

void serve(struct server *s, struct conn *c, struct request *r)
{
	static struct bytes extra; /* its memory is used again */
	struct job j = {s, c, r, profile_of(s, r), API_NONE, extra};
	struct span model = {0};
	bool stream = false;
	j.extra.n = 0;
	if (own_path(&j))
		return;
	bytes_fmt(&j.extra, "x-request-id: req_%lu\r\n", ++s->serial);
	j.api = api_of(r->path, &model, &stream);
	if (j.p->wrong[0]) {
		job_error(&j, 400, NULL, j.p->wrong);
	} else if (!key_is_right(&j)) {
		s->stats.unauthorized++;
		job_error(&j, 401, "invalid_api_key", "Incorrect API key provided.");
	} else if (j.api != API_NONE && span_is(r->method, "POST")) {
		count_arrival(&j);
		answer(&j, model, stream);
	} else if (!batch_serve(s, c, r, j.p)) {
		job_error(&j, 404, NULL, "Unknown path or method");
	}
	extra = j.extra;
}
