// SPDX-License-Identifier: Apache-2.0
/*
 * bench_limit: what a reservation costs: alone, and when N processes reserve at the same limit as fast as they can.
 * Prints one JSON line a row. build: ninja bench_limit; run: ./bench_limit [processes]
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/limit/limit.h"

#define N 400000

static char dir[] = "/tmp/df-bench-limit-XXXXXX";

struct board {
	_Atomic uint32_t ready, go;
	_Atomic uint64_t ns, n;
};

static struct df_limit *open_limit(const char *name, struct df_limit_config c)
{
	struct df_limit *l = NULL;
	struct df_fail fail;
	c.dir = dir;
	c.name = df_str_from(name);
	if (df_limit_open(&c, &l, &fail) != DF_OK) {
		(void)fprintf(stderr, "%s\n", fail.msg);
		exit(1);
	}
	return l;
}

/* Limits so high that no call has to wait: the cost of the arithmetic, not of the rate. */
static const struct df_limit_config fast = {.rpm = 60000000000, .tpm = 900000000000, .rpd = 900000000000};

static uint64_t reserve_many(struct df_limit *l, uint64_t n)
{
	struct df_reservation r;
	uint64_t done = 0;
	for (uint64_t i = 0; i < n; i++)
		done += df_limit_reserve(l, 10, &r, NULL) == DF_OK;
	return done;
}

static void alone(void)
{
	struct df_limit *l = open_limit("alone", fast);
	struct df_reservation r;
	uint32_t slot;
	double best[4] = {1e9, 1e9, 1e9, 1e9};
	for (int round = 0; round < 9; round++) {
		uint64_t t[5];
		t[0] = df_clock_real.mono_ns(NULL);
		uint64_t done = reserve_many(l, N);
		t[1] = df_clock_real.mono_ns(NULL);
		bool ok = df_limit_reserve(l, 10, &r, NULL) == DF_OK;
		uint64_t valid = 0;
		for (int i = 0; i < N; i++)
			valid += df_limit_valid(l, &r);
		t[2] = df_clock_real.mono_ns(NULL);
		for (int i = 0; i < N; i++)
			df_limit_settle(l, &r, 9 + (uint64_t)(i & 2));
		t[3] = df_clock_real.mono_ns(NULL);
		for (int i = 0; i < N; i++)
			if (df_limit_enter(l, &slot) == DF_OK)
				df_limit_leave(l, slot);
		t[4] = df_clock_real.mono_ns(NULL);
		if (done < N || !ok || valid == 0)
			(void)fprintf(stderr, "not all were given: %llu\n", (unsigned long long)done);
		for (int k = 0; k < 4; k++) {
			double ns = (double)(t[k + 1] - t[k]) / N;
			best[k] = ns < best[k] ? ns : best[k];
		}
	}
	printf("{\"bench\":\"limit\",\"processes\":1,\"reserve_ns\":%.1f,\"valid_ns\":%.1f,\"settle_ns\":%.1f,"
	       "\"enter_leave_ns\":%.1f}\n",
	       best[0], best[1], best[2], best[3]);
	df_limit_close(&l);
}

static void together(int n_process)
{
	struct board *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (b == MAP_FAILED)
		exit(1);
	for (int i = 0; i < n_process; i++) {
		if (fork() != 0)
			continue;
		struct df_limit *l = open_limit("together", fast);
		atomic_fetch_add(&b->ready, 1);
		while (!atomic_load(&b->go))
			;
		uint64_t t = df_clock_real.mono_ns(NULL);
		atomic_fetch_add(&b->n, reserve_many(l, N));
		atomic_fetch_add(&b->ns, df_clock_real.mono_ns(NULL) - t);
		df_limit_close(&l);
		_exit(0);
	}
	while (atomic_load(&b->ready) < (uint32_t)n_process)
		(void)usleep(1000);
	uint64_t t = df_clock_real.mono_ns(NULL);
	atomic_store(&b->go, 1);
	while (wait(NULL) > 0)
		;
	t = df_clock_real.mono_ns(NULL) - t;
	printf("{\"bench\":\"limit\",\"processes\":%d,\"reserve_ns_each\":%.1f,\"reservations_per_s\":%.0f,\"given\":%"
	       "llu}\n",
	       n_process, (double)atomic_load(&b->ns) / ((double)N * n_process),
	       (double)N * n_process / ((double)t / 1e9), (unsigned long long)atomic_load(&b->n));
	(void)munmap(b, sizeof(*b));
}

int main(int argc, char **argv)
{
	char command[64];
	int most = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 8;
	if (!mkdtemp(dir))
		return 1;
	alone();
	(void)fflush(stdout);
	for (int n = 2; n <= most; n *= 2) {
		together(n);
		(void)fflush(stdout);
	}
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? 0 : 1;
}
