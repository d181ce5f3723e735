// SPDX-License-Identifier: Apache-2.0
/* test_store: a store on a real disk with its sync thread, and the one that writes to a pipe. ctest: threaded. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/hash.h"
#include "coordinator/sink/store.h"

struct fixture {
	char path[32];
	struct df_store_config config;
	struct df_arena arena;
	struct df_store *s;
	struct df_recovered r;
	struct df_fail fail;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	memcpy(f->path, "/tmp/df-store-XXXXXX", 21);
	if (!mkdtemp(f->path))
		return -1;
	f->config = (struct df_store_config){.dir_fd = open(f->path, O_RDONLY | O_DIRECTORY),
					     .out_fd = -1,
					     .rejects_fd = -1,
					     .want = {true, true, true},
					     .npy_item_bytes = 4,
					     .part_bytes = 4000,
					     .run_id = 99,
					     .fingerprint = 1};
	df_arena_init(&f->arena, 16 << 20, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[64];
	df_store_close(&f->s);
	(void)snprintf(command, sizeof(command), "rm -rf %s", f->path);
	(void)close(f->config.dir_fd);
	df_arena_release(&f->arena);
	free(f);
	return system(command);
}

static void open_store(struct fixture *f)
{
	enum df_err err = df_store_open(&f->config, &df_io_real, &f->arena, &f->s, &f->r, &f->fail);
	if (err != DF_OK)
		fail_msg("%s", f->fail.msg);
}

static enum df_err put(struct fixture *f, enum df_output_kind kind, const char *p, size_t n, uint64_t rows)
{
	struct df_blob blob = {.p = (char *)(uintptr_t)p, .n = n};
	return df_store_append(f->s, kind, &blob, rows, &f->fail);
}

static void wait_done(struct fixture *f)
{
	bool done = false;
	while (!done) {
		struct pollfd pfd = {.fd = df_store_event_fd(f->s), .events = POLLIN};
		assert_int_equal(poll(&pfd, 1, 10000), 1);
		assert_int_equal(df_store_reap(f->s, &done, &f->fail), DF_OK);
	}
	assert_false(df_store_committing(f->s));
}

static void commit(struct fixture *f, uint64_t first, uint64_t n)
{
	struct df_commit_cells cells = {.cells = {0, first, n}};
	struct df_counter counter = {DF_STR("in"), first + n};
	struct df_commit c = {.cells = &cells, .n_cells = 1, .counter = &counter, .n_counter = 1};
	assert_int_equal(df_store_commit(f->s, &c, &f->fail), DF_OK);
}

static bool exists(struct fixture *f, const char *name)
{
	return faccessat(f->config.dir_fd, name, F_OK, 0) == 0;
}

/* Appends go on while the sync thread works; sets are closed meanwhile. */
static void test_store__writes_on_while_a_commit_is_in_flight(void **state)
{
	struct fixture *f = *state;
	char row[64];
	float vector[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	open_store(f);
	assert_true(f->r.fresh && f->r.epoch == 1 && f->r.run_id == 99);
	struct df_hasher *h = df_hasher_create();
	assert_non_null(h);
	uint64_t bytes = 0;
	for (uint64_t i = 0; i < 1000; i++) {
		int n = snprintf(row, sizeof(row), "{\"id\":\"%llu\",\"text\":\"x\"}\n", (unsigned long long)i);
		assert_int_equal(put(f, DF_OUTPUT_JSONL, row, (size_t)n, 1), DF_OK);
		assert_int_equal(put(f, DF_OUTPUT_NPY, (const char *)vector, sizeof(vector), 1), DF_OK);
		bytes += (uint64_t)n;
		df_hasher_add(h, row, (size_t)n);
		if (i % 10 == 9) {
			if (df_store_committing(f->s))
				wait_done(f);
			commit(f, i - 9, 10);
			assert_int_equal(df_store_pending_bytes(f->s), 0);
			struct df_commit none = {0};
			assert_int_equal(df_store_commit(f->s, &none, &f->fail), DF_ERR_BUSY);
		}
	}
	wait_done(f);
	assert_int_equal(df_store_finish(f->s, &(struct df_grid_size){1, 1}, &f->fail), DF_OK);
	size_t n = 0;
	uint64_t rows[DF_N_OUTPUT] = {0}, size = 0;
	const struct df_part_info *info = df_store_parts(f->s, &n);
	struct df_hasher *h2 = df_hasher_create();
	for (size_t i = 0; i < n; i++) {
		char *p = NULL;
		size_t n_bytes = 0;
		assert_false(info[i].open);
		assert_int_equal(
			df_io_read_file(&df_io_real, f->config.dir_fd, info[i].name, 1 << 20, &p, &n_bytes, &f->fail),
			DF_OK);
		assert_int_equal(n_bytes, info[i].bytes);
		size_t skip = info[i].kind == DF_OUTPUT_NPY ? 128 : 0;
		assert_true(info[i].hash == df_hash64(p + skip, n_bytes - skip));
		rows[info[i].kind] += info[i].rows;
		if (info[i].kind == DF_OUTPUT_JSONL) {
			df_hasher_add(h2, p, n_bytes);
			size += n_bytes;
		}
		free(p);
	}
	assert_true(n > 10);
	assert_int_equal(rows[DF_OUTPUT_JSONL], 1000);
	assert_int_equal(rows[DF_OUTPUT_NPY], 1000);
	assert_int_equal(size, bytes);
	assert_true(df_hasher_value(h) == df_hasher_value(h2));
	df_hasher_destroy(&h);
	df_hasher_destroy(&h2);
}

static void test_store__goes_on_in_the_next_life(void **state)
{
	struct fixture *f = *state;
	f->config.want[DF_OUTPUT_NPY] = false;
	open_store(f);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "kept\n", 5, 1), DF_OK);
	assert_int_equal(put(f, DF_OUTPUT_REJECTS, "bad\n", 4, 1), DF_OK);
	commit(f, 0, 1);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "lost\n", 5, 1), DF_OK);
	assert_int_equal(df_store_pending_bytes(f->s), 5);
	df_store_close(&f->s); /* the commit in flight ends first */
	open_store(f);
	assert_true(!f->r.fresh && !f->r.finished && f->r.epoch == 2 && f->r.run_id == 99);
	assert_int_equal(f->r.n_cells, 1);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "more\n", 5, 1), DF_OK);
	commit(f, 1, 1);
	wait_done(f);
	assert_int_equal(df_store_finish(f->s, NULL, &f->fail), DF_OK);
	df_store_close(&f->s);
	assert_true(exists(f, "part-00000.jsonl") && exists(f, "rejects-00000.jsonl") && !exists(f, "part-00000.npy"));
	/* stopped, not finished: the next life writes the next set, and leaves no file without rows */
	open_store(f);
	assert_true(!f->r.finished && f->r.epoch == 3 && f->r.n_cells == 1 && f->r.cells[0].cells.n == 2);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "never committed\n", 16, 1), DF_OK);
	assert_int_equal(df_store_finish(f->s, &(struct df_grid_size){1, 1}, &f->fail), DF_ERR_BUG);
	assert_int_equal(df_store_finish(f->s, NULL, &f->fail), DF_OK);
	df_store_close(&f->s);
	assert_false(exists(f, "part-00001.jsonl") || exists(f, "part-00001.jsonl.open"));
	open_store(f);
	assert_int_equal(df_store_finish(f->s, &(struct df_grid_size){1, 1}, &f->fail), DF_OK);
	df_store_close(&f->s);
	open_store(f);
	assert_true(f->r.finished && f->r.n_counter == 1 && f->r.counter[0].value == 2);
	size_t n = 0;
	assert_string_equal(df_store_parts(f->s, &n)[0].name, "part-00000.jsonl");
	assert_int_equal(n, 2);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "x", 1, 1), DF_ERR_CLOSED);
}

static void test_store__a_run_without_rows_is_a_run(void **state)
{
	struct fixture *f = *state;
	f->config.want[DF_OUTPUT_JSONL] = f->config.want[DF_OUTPUT_NPY] = false;
	open_store(f);
	commit(f, 0, 1000000);
	wait_done(f);
	assert_int_equal(df_store_finish(f->s, &(struct df_grid_size){1, 1}, &f->fail), DF_OK);
	df_store_close(&f->s);
	open_store(f);
	assert_true(f->r.finished && f->r.n_cells == 1 && f->r.cells[0].cells.n == 1000000);
	size_t n = 1;
	(void)df_store_parts(f->s, &n);
	assert_int_equal(n, 0);
}

static void test_store__rejects_alone_fill_sets_too(void **state)
{
	struct fixture *f = *state;
	char big[1500];
	f->config.want[DF_OUTPUT_JSONL] = f->config.want[DF_OUTPUT_NPY] = false;
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\n';
	open_store(f);
	for (uint64_t i = 0; i < 9; i++) {
		assert_int_equal(put(f, DF_OUTPUT_REJECTS, big, sizeof(big), 1), DF_OK);
		assert_true(df_store_part_full(f->s) == (i % 3 == 2));
		commit(f, i, 1);
		wait_done(f);
	}
	assert_int_equal(df_store_finish(f->s, &(struct df_grid_size){1, 1}, &f->fail), DF_OK);
	assert_true(exists(f, "rejects-00000.jsonl") && exists(f, "rejects-00002.jsonl") &&
		    !exists(f, "rejects-00003.jsonl"));
}

static void test_store__mistakes_of_its_caller_end_it_with_a_reason(void **state)
{
	struct fixture *f = *state;
	bool done = false;
	f->config.want[DF_OUTPUT_JSONL] = false;
	open_store(f);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "x\n", 2, 1), DF_ERR_BUG);
	struct df_commit none = {0};
	assert_int_equal(df_store_commit(f->s, &none, &f->fail), DF_ERR_BUG);
	assert_int_equal(df_store_reap(f->s, &done, &f->fail), DF_ERR_BUG);
	assert_int_equal(df_store_finish(f->s, &(struct df_grid_size){1, 1}, &f->fail), DF_ERR_BUG);
	assert_non_null(strstr(f->fail.msg, "the run writes none"));
	df_store_close(&f->s);
	float v[6] = {0};
	for (int i = 0; i < 3; i++) {
		static const size_t n[] = {7, 24, 12};
		static const uint64_t rows[] = {1, 0, 1};
		open_store(f);
		if (i == 2) /* dimension 6, then 3 */
			assert_int_equal(put(f, DF_OUTPUT_NPY, (const char *)v, 24, 1), DF_OK);
		assert_int_equal(put(f, DF_OUTPUT_NPY, (const char *)v, n[i], rows[i]),
				 i == 2 ? DF_ERR_USAGE : DF_ERR_BUG);
		if (i == 2) /* another model answers now */
			assert_non_null(strstr(f->fail.msg, "vectors of 3 numbers came, where those before have 6"));
		df_store_close(&f->s);
	}
	/* rows without their vectors, in the first commit or later */
	for (int late = 0; late < 2; late++) {
		struct df_commit empty = {0};
		f->config.want[DF_OUTPUT_JSONL] = true;
		assert_int_equal(unlinkat(f->config.dir_fd, "journal", 0), 0); /* nothing of it counted */
		open_store(f);
		if (late) {
			assert_int_equal(put(f, DF_OUTPUT_JSONL, "{}\n", 3, 1), DF_OK);
			assert_int_equal(put(f, DF_OUTPUT_NPY, (const char *)v, 24, 1), DF_OK);
			commit(f, 0, 1);
			wait_done(f);
		}
		assert_int_equal(put(f, DF_OUTPUT_JSONL, "{}\n{}\n", 6, 2), DF_OK);
		assert_int_equal(put(f, DF_OUTPUT_NPY, (const char *)v, 24, 1), DF_OK);
		assert_int_equal(df_store_commit(f->s, &empty, &f->fail), DF_ERR_BUG);
		assert_string_equal(f->fail.msg, late ? "set 0 of parts has 3 rows as JSONL, but 2 vectors as .npy"
						      : "set 0 of parts has 2 rows as JSONL, but 1 vectors as .npy");
		df_store_close(&f->s);
	}
	open_store(f);
	struct df_commit_cells twice[] = {{{0, 0, 5}, {0}}, {{0, 4, 1}, {0}}};
	struct df_commit c = {.cells = twice, .n_cells = 2};
	assert_int_equal(df_store_commit(f->s, &c, &f->fail), DF_ERR_BUG);
}

/* --- stdout --- */

struct reader {
	int fd;
	unsigned delay_us;
	size_t n;
	uint64_t hash;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;
	static char p[1 << 16];
	struct df_hasher *h = df_hasher_create();
	for (ssize_t n = read(r->fd, p, sizeof(p)); n > 0; n = read(r->fd, p, sizeof(p))) {
		df_hasher_add(h, p, (size_t)n);
		r->n += (size_t)n;
		(void)usleep(r->delay_us);
	}
	r->hash = df_hasher_value(h);
	df_hasher_destroy(&h);
	return NULL;
}

static void test_store__stdout_waits_for_a_slow_reader_of_a_pipe_that_does_not_block(void **state)
{
	struct fixture *f = *state;
	int fd[2];
	pthread_t thread;
	struct reader r = {.delay_us = 300};
	size_t n = 4 << 20;
	char *p = malloc(n);
	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 31 >> 3);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
	r.fd = fd[0];
	struct df_store_config config = {.dir_fd = -1, .out_fd = fd[1], .rejects_fd = -1, .want = {true, false, true}};
	assert_int_equal(df_store_open(&config, &df_io_real, &f->arena, &f->s, &f->r, &f->fail), DF_OK);
	assert_true(f->r.fresh && f->r.epoch == 1);
	assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, p, n, 3), DF_OK);
	assert_int_equal(put(f, DF_OUTPUT_REJECTS, "x", 1, 1), DF_OK); /* counted only */
	commit(f, 0, 1);
	wait_done(f);
	assert_int_equal(df_store_finish(f->s, &(struct df_grid_size){1, 1}, &f->fail), DF_OK);
	(void)close(fd[1]);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(r.n, n);
	assert_true(r.hash == df_hash64(p, n));
	size_t n_part = 0;
	const struct df_part_info *info = df_store_parts(f->s, &n_part);
	assert_true(n_part == 2 && info[0].rows == 3 && info[0].bytes == n && info[1].rows == 1);
	(void)close(fd[0]);
	free(p);
}

static void test_store__stdout_says_when_its_reader_has_gone(void **state)
{
	struct fixture *f = *state;
	int fd[2];
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	(void)close(fd[0]);
	struct df_store_config config = {
		.dir_fd = -1, .out_fd = fd[1], .rejects_fd = -1, .want = {true, false, true}, .inline_sync = true};
	assert_int_equal(df_store_open(&config, &df_io_real, &f->arena, &f->s, &f->r, &f->fail), DF_OK);
	assert_int_equal(df_store_event_fd(f->s), -1);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "x\n", 2, 1), DF_ERR_CLOSED);
	assert_string_equal(f->fail.msg, "the reader of stdout has gone");
	df_store_close(&f->s);
	(void)close(fd[1]);
	config.out_fd = open("/dev/full", O_WRONLY);
	assert_int_equal(df_store_open(&config, &df_io_real, &f->arena, &f->s, &f->r, &f->fail), DF_OK);
	assert_int_equal(put(f, DF_OUTPUT_JSONL, "x\n", 2, 1), DF_ERR_NOSPACE);
	df_store_close(&f->s);
	assert_int_equal(df_store_open(&config, &df_io_real, &f->arena, &f->s, &f->r, &f->fail), DF_OK);
	assert_int_equal(put(f, DF_OUTPUT_NPY, "1234", 4, 1), DF_ERR_BUG);
	(void)close(config.out_fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_store__writes_on_while_a_commit_is_in_flight),
		TEST(test_store__goes_on_in_the_next_life),
		TEST(test_store__a_run_without_rows_is_a_run),
		TEST(test_store__rejects_alone_fill_sets_too),
		TEST(test_store__mistakes_of_its_caller_end_it_with_a_reason),
		TEST(test_store__stdout_waits_for_a_slow_reader_of_a_pipe_that_does_not_block),
		TEST(test_store__stdout_says_when_its_reader_has_gone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
