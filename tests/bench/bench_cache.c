// SPDX-License-Identifier: Apache-2.0
/*
 * bench_cache [FOLDER]: what the cache of answers costs: memory with 1 to 4 threads, one mutex and 16 shards; puts and gets on disk, one
 * process and four, for vectors of 384 and 1536 numbers. `ninja bench_cache`.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/cache/cache.h"
#include "worker/cache/lru.h"

enum { OPERATIONS = 400000, KEYS = 10000, PROCESSES = 4 };

static struct df_cache_key nth(uint64_t i)
{
	struct df_str input = {(const char *)&i, sizeof(i)};
	struct df_ask ask = {.kind = DF_ASK_EMBED, .model = DF_STR("m"), .input = &input, .n_input = 1};
	return df_cache_key_embed(&ask, DF_STR("p"), DF_STR("u"), 0);
}

static uint64_t now(void)
{
	return df_clock_mono(&df_clock_real);
}

static double cpu_seconds(void)
{
	struct rusage u;
	(void)getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ------------------------------------------------------------------ memory */

static void *use_memory(void *arg)
{
	struct df_lru *l = arg;
	struct df_arena arena;
	char value[1536];
	uint64_t seed = (uint64_t)pthread_self();
	struct df_rand rnd = df_rand_seeded(&seed);
	df_arena_init(&arena, 1 << 20, 1 << 20);
	memset(value, 1, sizeof(value));
	for (int i = 0; i < OPERATIONS; i++) {
		struct df_cache_key k = nth(rnd.next(rnd.self) % KEYS);
		struct df_str v;
		if (df_lru_get(l, k, &arena, &v) != DF_OK)
			df_lru_put(l, k, (struct df_str){value, sizeof(value)});
		df_arena_reset(&arena);
	}
	df_arena_release(&arena);
	return NULL;
}

static void memory(unsigned shards, int threads)
{
	struct df_lru *l = df_lru_create((uint64_t)12 << 20, shards); /* about 3 in 4 are hits */
	pthread_t t[8];
	if (!l)
		abort();
	uint64_t start = now();
	for (int i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, use_memory, l) != 0)
			abort();
	for (int i = 0; i < threads; i++)
		(void)pthread_join(t[i], NULL);
	printf("memory: %2u shard(s), %d thread(s): %6.0f ns a get (key made, 1.5 KB copied)\n", shards, threads,
	       (double)(now() - start) / OPERATIONS);
	df_lru_destroy(&l);
}

/* ------------------------------------------------------------------ disk */

static void put_all(const char *folder, size_t value_bytes, uint64_t n, uint64_t base, bool told)
{
	struct df_cache_config config = df_cache_defaults;
	struct df_cache *c = NULL;
	char *value = calloc(1, value_bytes);
	config.path = folder;
	config.memory_bytes = 0;
	if (!value || df_cache_open(&config, &c, NULL) != DF_OK)
		abort();
	uint64_t start = now(), worst = 0;
	double cpu = cpu_seconds();
	for (uint64_t i = 0; i < n; i++) {
		uint64_t before = now();
		memcpy(value, &i, sizeof(i));
		df_cache_put(c, nth(base + i), (struct df_str){value, value_bytes});
		uint64_t took = now() - before;
		worst = took > worst ? took : worst;
		if (i % 256 == 255)
			df_cache_flush(c);
	}
	df_cache_flush(c);
	double wall = (double)(now() - start);
	cpu = cpu_seconds() - cpu;
	if (told)
		printf("disk: put %5zu bytes: %5.1f us wall, %5.1f us CPU in all threads; longest wait of who puts "
		       "%.2f ms; "
		       "unwritten %llu\n",
		       value_bytes, wall / (double)n / 1e3, cpu / (double)n * 1e6, (double)worst / 1e6,
		       (unsigned long long)df_cache_stats(c).unwritten);
	df_cache_close(&c);
	free(value);
}

static void get_all(const char *folder, uint64_t n)
{
	struct df_cache_config config = df_cache_defaults;
	struct df_cache *c = NULL;
	struct df_arena arena;
	uint64_t hits = 0;
	df_arena_init(&arena, 1 << 20, 1 << 20);
	config.path = folder;
	config.memory_bytes = 0;
	if (df_cache_open(&config, &c, NULL) != DF_OK)
		abort();
	uint64_t start = now();
	for (uint64_t i = 0; i < n; i++) {
		struct df_str v;
		hits += df_cache_get(c, nth((i * 7919) % n), &arena, &v) == DF_OK;
		df_arena_reset(&arena);
	}
	printf("disk: get: %5.1f us, %llu of %llu found\n", (double)(now() - start) / (double)n / 1e3,
	       (unsigned long long)hits, (unsigned long long)n);
	df_cache_close(&c);
	df_arena_release(&arena);
}

static void disk(const char *folder, size_t value_bytes)
{
	struct df_cache_totals t;
	const uint64_t n = 20000;
	if (df_cache_clear(folder, NULL) == DF_ERR_IO)
		abort();
	put_all(folder, value_bytes, n, 0, true);
	get_all(folder, n);
	uint64_t start = now();
	for (uint64_t i = 0; i < PROCESSES; i++)
		if (fork() == 0) {
			put_all(folder, value_bytes, n / PROCESSES, (i + 1) << 32, false);
			_exit(0);
		}
	for (int i = 0; i < PROCESSES; i++)
		(void)wait(NULL);
	printf("disk: put by %d processes at once: %5.1f us wall a value\n", PROCESSES,
	       (double)(now() - start) / (double)n / 1e3);
	if (df_cache_totals(folder, &t, NULL) == DF_OK)
		printf("disk: %llu entries, %.0f bytes each in the database\n", (unsigned long long)t.entries,
		       (double)t.disk_bytes / (double)t.entries);
}

int main(int argc, char **argv)
{
	char made[] = "/tmp/bench-cache-XXXXXX";
	const char *folder = argc > 1 ? argv[1] : mkdtemp(made);
	for (int threads = 1; threads <= 4; threads *= 2)
		for (unsigned shards = 1; shards <= 16; shards *= 16)
			memory(shards, threads);
	disk(folder, 384 * sizeof(float));
	disk(folder, 1536 * sizeof(float));
	return df_cache_clear(folder, NULL) == DF_OK ? 0 : 1;
}
