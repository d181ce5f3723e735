// SPDX-License-Identifier: Apache-2.0
/*
 * Streamed answers through the engine of calls, all at once: when each one's first token reached whoever asked. bench_streams URL STREAMS: asks the model
 * openai/any at URL for STREAMS answers (the i-th text begins with "d<i>") and prints one line of JSON: tokens, failed, first_token_wall_ns by text.
 * For tests/bench/api/run.py, which knows when the server sent them, and measures CPU from outside.
 */
#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "worker/call/call.h"

#define STREAMS_MAX 4096

struct job {
	struct df_call call;
	struct df_ask_turn turn;
	struct df_arena arena;
	char text[96];
	uint64_t first_wall_ns, n_token;
};

static sem_t done;

static void on_text(void *self, struct df_str text)
{
	struct job *j = self;
	if (!j->n_token++)
		j->first_wall_ns = df_clock_real.wall_ns(df_clock_real.self);
	(void)text;
}

static void on_done(struct df_call *call)
{
	(void)call;
	(void)sem_post(&done);
}

static void must(enum df_err err, const struct df_fail *fail)
{
	if (err == DF_OK)
		return;
	fprintf(stderr, "bench_streams: %s\n", fail->msg);
	exit(1);
}

static void ask(struct df_caller *c, struct job *j, size_t i, struct df_route *const *route)
{
	static const struct df_fail no_memory = {.msg = "no memory"};
	int n = snprintf(j->text, sizeof(j->text), "d%zu is a document of some words that an API is asked about", i);
	df_arena_init(&j->arena, 1U << 20, 0);
	j->turn = (struct df_ask_turn){DF_TURN_USER, {j->text, (size_t)n}};
	j->call = (struct df_call){
		.ask = {.turn = &j->turn, .n_turn = 1, .temperature = NAN, .top_p = NAN, .seed = -1, .stream = true},
		.route = route,
		.n_route = 1,
		.arena = &j->arena,
		.on_text = on_text,
		.text_self = j,
		.on_done = on_done,
	};
	must(df_caller_submit(c, &j->call), &no_memory);
}

static int tell(struct job *j, size_t n)
{
	uint64_t n_token = 0, failed = 0;
	for (size_t i = 0; i < n; i++) {
		n_token += j[i].n_token;
		failed += j[i].call.err != DF_OK;
		if (j[i].call.err != DF_OK && failed == 1)
			fprintf(stderr, "bench_streams: %s\n", j[i].call.message);
	}
	printf("{\"tokens\":%llu,\"failed\":%llu,\"first_token_wall_ns\":{", (unsigned long long)n_token,
	       (unsigned long long)failed);
	for (size_t i = 0; i < n; i++)
		printf("%s\"d%zu\":%llu", i ? "," : "", i, (unsigned long long)j[i].first_wall_ns);
	printf("}}\n");
	return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct df_fail fail = {0};
	struct df_http *http = NULL;
	struct df_models *models = NULL;
	struct df_caller *c = NULL;
	struct df_route *route = NULL;
	size_t n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	struct job *j = n && n <= STREAMS_MAX ? calloc(n, sizeof(*j)) : NULL;
	if (!j) {
		fprintf(stderr, "usage: bench_streams URL STREAMS\n");
		return 2;
	}
	(void)sem_init(&done, 0, 0);
	must(df_http_open(NULL, &http, &fail), &fail);
	must(df_models_open(NULL, &models, &fail), &fail);
	must(df_caller_create(&(struct df_caller_config){.http = http, .models = models}, &c, &fail), &fail);
	must(df_route_open(c,
			   &(struct df_route_options){.model = DF_STR("openai/any"), .base_url = df_str_from(argv[1])},
			   &route, &fail),
	     &fail);
	for (size_t i = 0; i < n; i++)
		ask(c, &j[i], i, &route);
	for (size_t i = 0; i < n; i++)
		(void)sem_wait(&done);
	int code = tell(j, n);
	df_route_close(&route);
	df_caller_destroy(&c);
	df_http_close(&http);
	df_models_close(&models);
	for (size_t i = 0; i < n; i++)
		df_arena_release(&j[i].arena);
	free(j);
	return code;
}
