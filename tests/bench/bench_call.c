// SPDX-License-Identifier: Apache-2.0
/*
 * What one call costs in the engine itself: CPU of the network thread per call, with a provider that answers at once and without a network.
 * bench_call [calls [waiting]]: the first at full speed; the second stand in a queue of one model that lets ten through at a time, for the memory of a
 * waiting call.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/call/call.h"

struct job {
	struct df_call call;
	struct df_ask_turn turn;
	struct df_arena arena;
	char text[24];
};

static _Atomic size_t n_done;

static void counted(struct df_call *call)
{
	df_arena_release(call->arena);
	n_done++;
}

static double cpu_us(clockid_t id)
{
	struct timespec t = {0};
	(void)clock_gettime(id, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static clockid_t thread_clock;

static void find_clock(void *self)
{
	(void)self;
	(void)pthread_getcpuclockid(pthread_self(), &thread_clock);
	n_done++;
}

static void wait_for(size_t n)
{
	while (n_done < n)
		(void)usleep(500);
	n_done = 0;
}

static void must(enum df_err err, const struct df_fail *fail)
{
	if (err == DF_OK)
		return;
	fprintf(stderr, "bench_call: %s\n", fail->msg);
	exit(1);
}

static void run(struct df_caller *c, const char *model, uint32_t concurrency, size_t n)
{
	struct df_fail fail = {0};
	struct df_route *r = NULL;
	struct df_route_options o = {.model = df_str_from(model), .concurrency = concurrency};
	must(df_route_open(c, &o, &r, &fail), &fail);
	struct job *j = calloc(n, sizeof(*j));
	if (!j)
		exit(1);
	double cpu = cpu_us(thread_clock), us = cpu_us(CLOCK_MONOTONIC);
	size_t before = mallinfo2().uordblks, peak = 0;
	for (size_t i = 0; i < n; i++) {
		int len = snprintf(j[i].text, sizeof(j[i].text), "question %zu", i);
		df_arena_init(&j[i].arena, 1 << 20, 0);
		j[i].turn = (struct df_ask_turn){DF_TURN_USER, {j[i].text, (size_t)len}};
		j[i].call = (struct df_call){.ask = {.turn = &j[i].turn, .n_turn = 1, .max_tokens = 20, .seed = -1},
					     .route = &r,
					     .n_route = 1,
					     .arena = &j[i].arena,
					     .on_done = counted};
		must(df_caller_submit(c, &j[i].call), &fail);
	}
	peak = mallinfo2().uordblks;
	wait_for(n);
	us = cpu_us(CLOCK_MONOTONIC) - us;
	cpu = cpu_us(thread_clock) - cpu;
	printf("%-28s %8zu calls: %.2f us CPU of the network thread a call, %.0f calls/s, %zu bytes a waiting call\n",
	       model, n, cpu / (double)n, (double)n / us * 1e6, peak > before ? (peak - before) / n : 0);
	df_route_close(&r);
	free(j);
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/df-bench-call-XXXXXX", command[64];
	size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 200000,
	       n_waiting = argc > 2 ? strtoul(argv[2], NULL, 10) : 50000;
	struct df_http *http = NULL;
	struct df_models *models = NULL;
	struct df_purse *purse = NULL;
	struct df_caller *c = NULL;
	struct df_fail fail = {0};
	int fd = -1;
	if (!mkdtemp(dir))
		return 1;
	must(df_http_open(&(struct df_http_config){0}, &http, &fail), &fail);
	must(df_models_open(NULL, &models, &fail), &fail);
	must(df_purse_open(-1, 1e6, &purse, &fd, &fail), &fail);
	struct df_caller_config config = {.http = http, .models = models, .purse = purse, .limits_dir = dir};
	must(df_caller_create(&config, &c, &fail), &fail);
	must(df_http_post(http, find_clock, NULL), &fail);
	wait_for(1);
	run(c, "fake/echo", 0, n);
	run(c, "fake/echo?delay=1ms", 1000, n);
	run(c, "fake/echo?500=0.05", 200, n);
	run(c, "fake/echo?delay=500ms", 10, n_waiting < 1000 ? n_waiting : 1000);
	df_caller_destroy(&c);
	df_http_close(&http);
	df_purse_close(&purse);
	df_models_close(&models);
	(void)snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) == 0 ? 0 : 1;
}
