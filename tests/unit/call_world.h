// SPDX-License-Identifier: Apache-2.0
/*
 * call_world: a simulated world around the engine of calls: the network below it is this file (df_http_* by an event queue and a clock that jumps), the
 * servers misbehave by a seed; providers, limits, money and cache are the real ones. To be included by one source of a program.
 */
#ifndef DF_TESTS_UNIT_CALL_WORLD_H
#define DF_TESTS_UNIT_CALL_WORLD_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "worker/cache/cache.h"
#include "worker/call/call_own.h"

/* ------------------------------------------------------------------ the world */

enum kind { TIMER, POSTED, REPLY, CHUNK };

struct event {
	struct event *next;
	uint64_t at_ns, order, id;
	enum kind kind;
	void (*fn)(void *self);
	void *self;
	struct exchange *x;
};

struct faults {                                                         /* probabilities */
	double rate, error, reset, lost, stall, broken, cut, in_stream; /* in_stream: an event that says so ends it */
};

struct df_http {
	uint64_t now_ns, order, last_id, seed;
	struct event *events;
	struct faults faults;
	bool at_once; /* posted functions run at once: for the engine's end */
	uint64_t latency_ns;
	/* what the server counts */
	uint64_t rpm, n_request, n_violation, n_fault, n_answer_ok;
	uint64_t accepted_ns[4096];
	size_t n_accepted;
	unsigned in_flight, most_in_flight, reused_answers;
	unsigned n_made; /* answers that were made, whether they arrived or not: what is billed */
	long always;     /* status of every answer; 0: by chance */
	bool dead;       /* refuses connections */
	char refuse[32], host_dead[32];
	char model_failing[32], text_failing[32]; /* are answered with 500, or failing_status */
	long failing_status;
	uint64_t n_failing;
	bool first_request_silent;
	uint64_t last_sent_ns;
};

struct exchange {
	struct df_http *http;
	struct df_http_request request;
	uint64_t id;
	char *url, *body;
	size_t n_body;
	struct df_http_response response;
	char answer[1 << 16];
	size_t n_answer;
	bool over;
};

static inline uint64_t boot(void *self)
{
	return ((struct df_http *)self)->now_ns + 77 * DF_SEC; /* another zero than the http's */
}

static inline uint64_t sim_random(void *self)
{
	struct df_http *h = self;
	struct df_rand r = df_rand_seeded(&h->seed);
	return r.next(r.self);
}

static inline bool chance(struct df_http *h, double p)
{
	return (double)(sim_random(h) >> 11) * 0x1p-53 < p;
}

static inline struct event *add(struct df_http *h, enum kind kind, uint64_t at_ns)
{
	struct event *e = calloc(1, sizeof(*e)), **at = &h->events;
	assert_non_null(e);
	*e = (struct event){.at_ns = at_ns, .order = h->order++, .id = ++h->last_id, .kind = kind};
	while (*at && ((*at)->at_ns < at_ns || ((*at)->at_ns == at_ns && (*at)->order < e->order)))
		at = &(*at)->next;
	e->next = *at;
	*at = e;
	return e;
}

enum df_err df_http_post(struct df_http *h, void (*fn)(void *self), void *self)
{
	if (h->at_once) {
		fn(self);
		return DF_OK;
	}
	struct event *e = add(h, POSTED, h->now_ns);
	e->fn = fn;
	e->self = self;
	return DF_OK;
}

enum df_err df_http_at(struct df_http *h, uint64_t at_ns, void (*fn)(void *self), void *self, uint64_t *ret_id)
{
	/* a timer that is late, now and then */
	uint64_t late_ns = chance(h, 0.02) ? sim_random(h) % (3 * DF_MS) : 0;
	struct event *e = add(h, TIMER, (at_ns > h->now_ns ? at_ns : h->now_ns) + late_ns);
	e->fn = fn;
	e->self = self;
	*ret_id = e->id;
	return DF_OK;
}

static inline void drop(struct df_http *h, uint64_t id)
{
	for (struct event **at = &h->events; *at; at = &(*at)->next) {
		if ((*at)->id != id)
			continue;
		struct event *e = *at;
		*at = e->next;
		free(e);
		return;
	}
}

void df_http_unset(struct df_http *h, uint64_t id)
{
	drop(h, id);
}

uint64_t df_http_now(const struct df_http *h)
{
	return h->now_ns;
}

/* ------------------------------------------------------------------ the servers */

static inline struct df_str no_header(const struct df_http_response *r, const char *name)
{
	(void)r, (void)name;
	return (struct df_str){NULL, 0};
}

static inline struct df_str retry_header(const struct df_http_response *r, const char *name)
{
	(void)r;
	return strcmp(name, "retry-after") == 0 ? DF_STR("1") : (struct df_str){NULL, 0};
}

static inline float number_of(struct df_str text)
{
	return (float)(df_hash64(text.p, text.n) & 0xffff);
}

static inline void say(struct exchange *x, long status, const char *text)
{
	x->response.status = status;
	x->n_answer = (size_t)snprintf(x->answer, sizeof(x->answer), "%s", text);
}

static inline void say_vectors(struct exchange *x, const struct df_json *root, struct df_buf *b)
{
	const struct df_json *input = df_json_get(root, "input");
	struct df_str one[2048];
	size_t n = 0;
	for (const struct df_json *i = input->child; i; i = i->next)
		one[n++] = i->string;
	(void)df_buf_addz(b, "{\"object\":\"list\",\"model\":\"sim\",\"usage\":{\"prompt_tokens\":");
	(void)df_buf_addf(b, "%zu,\"total_tokens\":%zu},\"data\":[", n, n);
	for (size_t i = n; i-- > 0;) { /* in another order than it was asked */
		if (x->http->refuse[0] && memmem(one[i].p, one[i].n, x->http->refuse, strlen(x->http->refuse))) {
			say(x, 400,
			    "{\"error\":{\"message\":\"this input is not to our "
			    "taste\",\"type\":\"invalid_request_error\"}}");
			return;
		}
		(void)df_buf_addf(b, "{\"object\":\"embedding\",\"index\":%zu,\"embedding\":[%g,%zu]}%s", i,
				  (double)number_of(one[i]), one[i].n, i ? "," : "");
	}
	(void)df_buf_addz(b, "]}");
	say(x, 200, df_buf_z(b));
}

static inline void say_chat(struct exchange *x, const struct df_json *root, struct df_buf *b)
{
	const struct df_json *message = df_json_get(root, "messages")->child;
	while (message->next)
		message = message->next;
	struct df_str text = df_json_get(message, "content")->string;
	const struct df_json *stream = df_json_get(root, "stream");
	if (stream && stream->boolean) {
		for (size_t i = 0; i < text.n; i++)
			(void)df_buf_addf(b, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%c\"}}]}\n\n",
					  text.p[i]);
		(void)df_buf_addz(b,
				  "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
				  "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}\n\n"
				  "data: [DONE]\n\n");
		say(x, 200, df_buf_z(b));
		return;
	}
	(void)df_buf_addf(b,
			  "{\"model\":\"sim\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
			  "\"content\":\"re " DF_STR_FMT
			  "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}",
			  DF_STR_ARG(text));
	say(x, 200, df_buf_z(b));
}

static inline void serve(struct exchange *x)
{
	struct df_arena arena;
	struct df_json *root = NULL;
	struct df_buf b;
	df_arena_init(&arena, 64 << 20, 0);
	df_buf_init(&b, sizeof(x->answer) - 1);
	assert_int_equal(df_json_parse((struct df_str){x->body, x->n_body}, &arena, &root, NULL), DF_OK);
	if (strstr(x->url, "/embeddings"))
		say_vectors(x, root, &b);
	else
		say_chat(x, root, &b);
	df_buf_release(&b);
	df_arena_release(&arena);
}

/* A sliding window over the last minute; what is above it is a violation and refused. */
static inline bool within_rate(struct df_http *h)
{
	size_t n = 0;
	if (!h->rpm)
		return true;
	for (size_t i = h->n_accepted; i-- > 0 && n < sizeof(h->accepted_ns) / sizeof(h->accepted_ns[0]);) {
		if (h->accepted_ns[i % 4096] + 60 * DF_SEC <= h->now_ns)
			break;
		n++;
	}
	if (n >= h->rpm)
		return false;
	h->accepted_ns[h->n_accepted++ % 4096] = h->now_ns;
	return true;
}

static inline void broken(struct exchange *x, enum df_err err, enum df_http_phase phase, const char *message)
{
	x->response.err = err;
	x->response.phase = phase;
	x->response.status = 0;
	x->n_answer = 0;
	(void)snprintf(x->response.message, sizeof(x->response.message), "%s", message);
}

static inline uint64_t decide(struct exchange *x)
{
	struct df_http *h = x->http;
	const struct faults *f = &h->faults;
	uint64_t took_ns = h->latency_ns / 2 + sim_random(h) % (h->latency_ns + 1);
	x->response = (struct df_http_response){.phase = DF_HTTP_DONE, .header = no_header};
	if (h->dead || (h->host_dead[0] && strstr(x->url, h->host_dead))) {
		broken(x, DF_ERR_IO, DF_HTTP_CONNECT, "connection refused");
		return DF_MS;
	}
	if (h->always) {
		say(x, h->always, "{\"error\":{\"message\":\"always\"}}");
		return took_ns;
	}
	if ((h->model_failing[0] && memmem(x->body, x->n_body, h->model_failing, strlen(h->model_failing))) ||
	    (h->text_failing[0] && memmem(x->body, x->n_body, h->text_failing, strlen(h->text_failing)))) {
		h->n_failing++;
		say(x, h->failing_status ? h->failing_status : 500,
		    "{\"error\":{\"message\":\"the model fell over\"}}");
		return took_ns;
	}
	if (!within_rate(h)) {
		h->n_violation++;
		x->response.header = retry_header;
		say(x, 429, "{\"error\":{\"message\":\"slow down\"}}");
		return took_ns;
	}
	h->n_fault++;
	if (chance(h, f->rate)) {
		x->response.header = retry_header;
		say(x, 429, "{\"error\":{\"message\":\"slow down\"}}");
	} else if (chance(h, f->error)) {
		say(x, 503, "{\"error\":{\"message\":\"overloaded\"}}");
	} else if (chance(h, f->reset)) {
		broken(x, DF_ERR_CLOSED, DF_HTTP_FIRST_BYTE, "connection reset");
	} else if (chance(h, f->lost)) {
		broken(x, DF_ERR_IO, DF_HTTP_CONNECT, "no route to host");
	} else if (chance(h, f->stall) || (h->first_request_silent && h->n_request == 1)) {
		broken(x, DF_ERR_TIMEOUT, DF_HTTP_FIRST_BYTE, "no byte in time");
		took_ns = x->request.timeout.first_byte * DF_MS;
	} else if (chance(h, f->broken)) {
		say(x, 200, "{\"choices\":[{\"mess");
	} else {
		h->n_fault--;
		h->n_made++;
		serve(x);
	}
	return took_ns;
}

enum df_err df_http_send(struct df_http *h, const struct df_http_request *request, uint64_t *ret_id,
			 struct df_fail *fail)
{
	(void)fail;
	struct exchange *x = calloc(1, sizeof(*x));
	assert_non_null(x);
	x->http = h;
	x->request = *request;
	x->url = strdup(request->url);
	x->body = malloc(request->body.n + 1);
	assert_true(x->url && x->body);
	memcpy(x->body, request->body.p, request->body.n);
	x->n_body = request->body.n;
	h->n_request++;
	h->last_sent_ns = h->now_ns;
	if (++h->in_flight > h->most_in_flight)
		h->most_in_flight = h->in_flight;
	struct event *e = add(h, REPLY, h->now_ns + decide(x));
	e->x = x;
	x->id = e->id;
	*ret_id = e->id;
	return DF_OK;
}

static inline void finish(struct exchange *x)
{
	x->http->in_flight--;
	x->request.on_done(x->request.self, &x->response);
	free(x->url);
	free(x->body);
	free(x);
}

void df_http_cancel(struct df_http *h, uint64_t id)
{
	for (struct event *e = h->events; e; e = e->next) {
		if (e->id != id)
			continue;
		struct exchange *x = e->x;
		drop(h, id);
		broken(x, DF_ERR_INTERRUPTED,
		       x->response.phase == DF_HTTP_CONNECT ? DF_HTTP_CONNECT : DF_HTTP_FIRST_BYTE, "cancelled");
		finish(x);
		return;
	}
	fail_msg("an unknown request was cancelled");
}

/* The body of a stream in pieces of any size; perhaps it ends too soon. */
static inline void deliver(struct exchange *x)
{
	struct df_http *h = x->http;
	bool streamed = x->request.on_data && x->response.status == 200 && x->response.err == DF_OK;
	static const char failed[] = "data: {\"error\":{\"message\":\"we fell over\",\"type\":\"server_error\"}}\n\n";
	x->response.body = (struct df_str){x->answer, x->n_answer};
	if (!streamed) {
		finish(x);
		return;
	}
	size_t n = x->n_answer;
	if (chance(h, h->faults.cut)) {
		n = sim_random(h) % n;
		broken(x, DF_ERR_CLOSED, DF_HTTP_BODY, "cut");
		x->response.status = 200;
		h->n_fault++;
	}
	if (h->faults.in_stream > 0 && chance(h, h->faults.in_stream)) {
		/* behind some whole events, or at once */
		size_t kept = sim_random(h) % n;
		while (kept && memcmp(x->answer + kept - 1, "\n", 1) != 0)
			kept--;
		while (kept > 1 && x->answer[kept - 2] != '\n')
			kept--;
		kept = sim_random(h) % 2 ? kept : 0;
		memcpy(x->answer + kept, failed, sizeof(failed));
		n = kept + sizeof(failed) - 1;
		h->n_fault++;
	}
	x->response.body = (struct df_str){NULL, 0};
	for (size_t at = 0; at < n;) {
		size_t part = 1 + sim_random(h) % 40;
		part = part < n - at ? part : n - at;
		if (!x->request.on_data(x->request.self, x->answer + at, part)) {
			broken(x, DF_ERR_INTERRUPTED, DF_HTTP_BODY, "ended");
			x->response.status = 200;
			break;
		}
		at += part;
	}
	finish(x);
}

/* One event; false: nothing is left to happen. */
static inline bool step(struct df_http *h)
{
	struct event *e = h->events;
	if (!e)
		return false;
	h->events = e->next;
	if (e->at_ns > h->now_ns)
		h->now_ns = e->at_ns;
	if (e->kind == REPLY)
		deliver(e->x);
	else
		e->fn(e->self);
	free(e);
	return true;
}

/* ------------------------------------------------------------------ a run */

struct world {
	struct df_http http;
	struct df_models *models;
	struct df_cache *cache;
	struct df_purse *purse;
	int purse_fd;
	struct df_caller *caller;
	char limits[64];
	unsigned n_done;
	char warned[4][512]; /* the first of what people are told */
	unsigned n_warned;
};

struct job {
	struct df_call call;
	struct world *w;
	struct df_ask_turn turn;
	struct df_str input[64];
	char text[64][48];
	struct df_arena arena;
	unsigned n_done;
	char shown[256];
	size_t n_shown;
};

static inline void keep_warning(void *self, const char *message)
{
	struct world *w = self;
	if (w->n_warned < 4)
		(void)snprintf(w->warned[w->n_warned], sizeof(w->warned[0]), "%s", message);
	w->n_warned++;
}

static inline void open_world(struct world *w, uint64_t seed, double budget, bool cached)
{
	memset(w, 0, sizeof(*w));
	w->http.seed = seed;
	w->http.now_ns = 5 * DF_SEC;
	w->http.latency_ns = 20 * DF_MS;
	(void)snprintf(w->limits, sizeof(w->limits), "/tmp/df-call-sim-XXXXXX");
	assert_non_null(mkdtemp(w->limits));
	assert_int_equal(setenv("OPENAI_API_KEY", "sk-planted-0123456789", 1), 0);
	assert_int_equal(df_models_open(NULL, &w->models, NULL), DF_OK);
	struct df_cache_config memory = df_cache_defaults;
	memory.path = "";
	if (cached)
		assert_int_equal(df_cache_open(&memory, &w->cache, NULL), DF_OK);
	if (budget >= 0)
		assert_int_equal(df_purse_open(-1, budget, &w->purse, &w->purse_fd, NULL), DF_OK);
	struct df_caller_config config = {.http = &w->http,
					  .models = w->models,
					  .cache = w->cache,
					  .purse = w->purse,
					  .limits_dir = w->limits,
					  .random = sim_random,
					  .boot_ns = boot,
					  .warn = keep_warning,
					  .warn_self = w,
					  .self = &w->http};
	assert_int_equal(df_caller_create(&config, &w->caller, NULL), DF_OK);
}

static inline bool is_posted(const struct df_http *h)
{
	for (const struct event *e = h->events; e; e = e->next)
		if (e->kind == POSTED)
			return true;
	return false;
}

static inline void close_world(struct world *w)
{
	char command[128];
	while (is_posted(&w->http))
		(void)step(&w->http);
	if (w->purse) {
		struct df_purse_view v = df_purse_look(w->purse);
		assert_true(v.reserved < 1e-9);
		assert_true(v.budget <= 0 || v.spent <= v.budget + 1e-9);
	}
	assert_int_equal(w->http.in_flight, 0);
	struct df_caller_stats s = df_caller_stats(w->caller);
	assert_int_equal(s.in_flight, 0);
	assert_int_equal(s.waiting, 0);
	assert_int_equal(w->caller->alarms.n - (w->caller->grace.place != 0), 0);
	assert_int_equal(w->caller->n_alarm, 0);
	w->http.at_once = true;
	df_caller_destroy(&w->caller);
	df_purse_close(&w->purse);
	df_cache_close(&w->cache);
	df_models_close(&w->models);
	while (w->http.events) {
		struct event *e = w->http.events;
		assert_int_equal(e->kind, TIMER);
		w->http.events = e->next;
		free(e);
	}
	(void)snprintf(command, sizeof(command), "rm -r %s", w->limits);
	assert_int_equal(system(command), 0);
}

static inline struct df_route *open_route(struct world *w, struct df_route_options o)
{
	struct df_route *r = NULL;
	struct df_fail fail = {0};
	if (!o.base_url.n)
		o.base_url = DF_STR("http://sim.test/v1/");
	if (df_route_open(w->caller, &o, &r, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	return r;
}

static inline void on_done(struct df_call *call)
{
	struct job *j = call->self;
	j->n_done++;
	j->w->n_done++;
}

static inline void on_text(void *self, struct df_str text)
{
	struct job *j = self;
	assert_true(j->n_shown + text.n < sizeof(j->shown));
	memcpy(j->shown + j->n_shown, text.p, text.n);
	j->n_shown += text.n;
}

static inline void make_chat(struct world *w, struct job *j, struct df_route *const *route, size_t n_route,
			     unsigned what)
{
	memset(j, 0, sizeof(*j));
	df_arena_init(&j->arena, 4 << 20, 0);
	int n = snprintf(j->text[0], sizeof(j->text[0]), "question %u", what);
	j->w = w;
	j->turn = (struct df_ask_turn){DF_TURN_USER, {j->text[0], (size_t)n}};
	j->call = (struct df_call){.ask = {.kind = DF_ASK_CHAT,
					   .turn = &j->turn,
					   .n_turn = 1,
					   .temperature = 0,
					   .top_p = 1,
					   .max_tokens = 20,
					   .seed = -1,
					   .tokens_in = 12,
					   .tokens_exact = true},
				   .route = route,
				   .n_route = n_route,
				   .arena = &j->arena,
				   .on_done = on_done,
				   .self = j};
}

static inline void make_embed(struct world *w, struct job *j, struct df_route *const *route, size_t n_route,
			      unsigned first, unsigned n)
{
	memset(j, 0, sizeof(*j));
	df_arena_init(&j->arena, 4 << 20, 0);
	for (unsigned i = 0; i < n; i++) {
		int len = snprintf(j->text[i], sizeof(j->text[i]), "passage %u", first + i);
		j->input[i] = (struct df_str){j->text[i], (size_t)len};
	}
	j->w = w;
	j->call = (struct df_call){.ask = {.kind = DF_ASK_EMBED, .input = j->input, .n_input = n, .tokens_in = 5 * n},
				   .route = route,
				   .n_route = n_route,
				   .arena = &j->arena,
				   .on_done = on_done,
				   .self = j};
}

static inline void check_chat(const struct job *j)
{
	char want[64];
	bool streamed = j->call.on_text != NULL;
	(void)snprintf(want, sizeof(want), "%s%s", streamed ? "" : "re ", j->text[0]);
	if (!df_str_is(j->call.answer.text, want))
		fail_msg("'%s' was answered '" DF_STR_FMT "'", j->text[0], DF_STR_ARG(j->call.answer.text));
	if (streamed)
		assert_true(df_str_eq(j->call.answer.text, (struct df_str){j->shown, j->n_shown}));
}

static inline void check_embed(const struct job *j)
{
	const struct df_answer *a = &j->call.answer;
	assert_int_equal(a->n_vector, j->call.ask.n_input);
	assert_int_equal(a->dim, 2);
	for (size_t i = 0; i < a->n_vector; i++) {
		bool failed = j->call.input_err && j->call.input_err[i] != DF_OK;
		assert_true(a->vector[2 * i] == (failed ? 0 : number_of(j->input[i])));
		assert_true(a->vector[2 * i + 1] == (failed ? 0 : (float)j->input[i].n));
	}
}

static inline void submit(struct world *w, struct job *j)
{
	assert_int_equal(df_caller_submit(w->caller, &j->call), DF_OK);
}

static inline void run_all(struct world *w, unsigned n)
{
	for (unsigned i = 0; w->n_done < n; i++) {
		if (!step(&w->http) || i > 20000000)
			fail_msg("%u of %u calls are over and nothing happens any more", w->n_done, n);
		if (w->n_done < n && !is_posted(&w->http) && !df_caller_due(w->caller))
			fail_msg("%u of %u calls are over and nothing is due", w->n_done, n);
	}
}

/* Chats 0 .. n - 1 of one route, submitted; release() gives them back. */
static inline struct job *submit_chats(struct world *w, struct df_route *const *route, size_t n_route, unsigned n)
{
	struct job *j = calloc(n, sizeof(*j));
	for (unsigned i = 0; i < n; i++) {
		make_chat(w, &j[i], route, n_route, i);
		submit(w, &j[i]);
	}
	return j;
}

static inline void release(struct job *j, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(j[i].n_done, 1);
		df_arena_release(&j[i].arena);
	}
	free(j);
}

#endif
