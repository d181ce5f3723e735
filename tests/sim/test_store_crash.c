// SPDX-License-Identifier: Apache-2.0
/*
 * test_store_crash: a scripted run on a disk that dies, fails or fills up at each single call, from many seeds. Whatever happens: what
 * was committed is there, once, in the order it was written; what was not is gone; and the same run goes on to its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "coordinator/sink/parts.h"
#include "tests/sim/help_simio.h"

#define N_CELLS 60
#define LOG_MAX 65536

enum cut { POWER, KILL };

/* Where the run stands after a commit. */
struct mark {
	size_t n[DF_N_OUTPUT];
	uint64_t rows[DF_N_OUTPUT];
	bool done[N_CELLS];
	uint64_t n_done, n_commit;
};

struct world {
	struct sim *sim;
	struct df_io io;
	struct df_store_config config;
	struct df_rand rand;
	uint64_t rand_state;
	char log[DF_N_OUTPUT][LOG_MAX]; /* what was appended, in order */
	struct mark now, committed, in_flight;
	struct mark history[4 * N_CELLS]; /* after each commit */
	bool has_in_flight;
	bool may_step_back; /* committed is not durable: the policy, or damage to what no sync has confirmed */
	uint64_t n_back;    /* commits that were lost so */
	uint32_t epoch;
	bool finished;
};

static uint64_t below(struct world *w, uint64_t n)
{
	return w->rand.next(w->rand.self) % n;
}

static void world_init(struct world *w, uint64_t seed, enum df_fsync policy)
{
	memset(w, 0, sizeof(*w));
	w->sim = sim_create(seed);
	w->io = sim_io(w->sim);
	w->rand_state = seed * 77 + 1;
	w->rand = df_rand_seeded(&w->rand_state);
	w->config = (struct df_store_config){.dir_fd = 3,
					     .want = {true, true, true},
					     .npy_item_bytes = 4,
					     .part_bytes = 900,
					     .fsync = policy,
					     .fingerprint = 42,
					     .boot_id = 1,
					     .run_id = 7,
					     .inline_sync = true};
}

static void power_cut(struct world *w)
{
	sim_crash(w->sim);
	w->config.boot_id++;
}

/* --- the script --- */

static enum df_err put(struct world *w, struct df_store *s, enum df_output_kind kind, const char *p, size_t n,
		       uint64_t rows)
{
	struct df_blob blob = {.p = (char *)(uintptr_t)p, .n = n};
	enum df_err err = df_store_append(s, kind, &blob, rows, NULL);
	if (err != DF_OK)
		return err;
	assert_true(w->now.n[kind] + n <= LOG_MAX);
	memcpy(w->log[kind] + w->now.n[kind], p, n);
	w->now.n[kind] += n;
	w->now.rows[kind] += rows;
	return DF_OK;
}

static enum df_err put_cell(struct world *w, struct df_store *s, unsigned cell)
{
	char text[600];
	float vector[3 * 4];
	unsigned rows = 1 + cell % 3;
	int n = 0;
	if (cell % 7 == 0) {
		n = snprintf(text, sizeof(text), "{\"cell\":%u,\"error\":\"parse\"}\n", cell);
		DF_TRY(put(w, s, DF_OUTPUT_REJECTS, text, (size_t)n, 1));
		n = 0;
	}
	for (unsigned r = 0; r < rows; r++) {
		n += snprintf(text + n, sizeof(text) - (size_t)n, "{\"cell\":%u,\"row\":%u,\"pad\":\"%*s\"}\n", cell, r,
			      (int)(cell * 5 % 90), "");
		for (unsigned i = 0; i < 4; i++)
			vector[r * 4 + i] = (float)(cell * 100 + r * 10 + i);
	}
	DF_TRY(put(w, s, DF_OUTPUT_JSONL, text, (size_t)n, rows));
	return put(w, s, DF_OUTPUT_NPY, (const char *)vector, rows * 4 * sizeof(float), rows);
}

static enum df_err put_batch(struct world *w, struct df_store *s, struct df_commit_cells *cells, size_t *n_cells)
{
	size_t n = 1 + (size_t)below(w, 5);
	for (unsigned i = 0, at = (unsigned)below(w, N_CELLS); i < N_CELLS && *n_cells < n; i++) {
		unsigned cell = (at + i) % N_CELLS;
		if (w->now.done[cell])
			continue;
		DF_TRY(put_cell(w, s, cell));
		w->now.done[cell] = true;
		w->now.n_done++;
		cells[(*n_cells)++] = (struct df_commit_cells){.cells = {cell / 30, cell % 30, 1}};
	}
	return DF_OK;
}

static enum df_err begin_commit(struct world *w, struct df_store *s, const struct df_commit_cells *cells,
				size_t n_cells)
{
	w->now.n_commit++;
	struct df_counter counter[] = {{DF_STR("in"), w->now.n_done}, {DF_STR("commits"), w->now.n_commit}};
	struct df_strike strike = {{1, w->now.n_commit}, 3, DF_CAUSE_SIGNAL, 11, 0};
	struct df_source_state source = {
		.source = 1, .ended = true, .n_cell = w->now.n_commit, .message = DF_STR("over")};
	struct df_commit commit = {.cells = cells,
				   .n_cells = n_cells,
				   .counter = counter,
				   .n_counter = 2,
				   .strike = &strike,
				   .n_strike = 1,
				   .source = &source,
				   .n_source = 1};
	w->in_flight = w->history[w->now.n_commit] = w->now;
	w->has_in_flight = true;
	return df_store_commit(s, &commit, NULL);
}

static enum df_err reap(struct world *w, struct df_store *s)
{
	bool done = false;
	DF_TRY(df_store_reap(s, &done, NULL));
	assert_true(done);
	w->committed = w->in_flight;
	w->has_in_flight = false;
	return DF_OK;
}

/* Appends of the next batch happen while a commit is in flight. */
static enum df_err work(struct world *w, struct df_store *s)
{
	while (w->now.n_done < N_CELLS || df_store_committing(s)) {
		struct df_commit_cells cells[8];
		size_t n_cells = 0;
		DF_TRY(put_batch(w, s, cells, &n_cells));
		if (df_store_committing(s))
			DF_TRY(reap(w, s));
		if (n_cells)
			DF_TRY(begin_commit(w, s, cells, n_cells));
	}
	DF_TRY(df_store_finish(s, &(struct df_grid_size){1, 1}, NULL));
	return DF_OK;
}

/* --- what must hold --- */

static void check_npy(const char *p, size_t n)
{
	assert_true(n >= DF_NPY_HEADER_BYTES);
	char expected[64];
	(void)snprintf(expected, sizeof(expected), "'shape': (%zu, 4)", (n - DF_NPY_HEADER_BYTES) / 16);
	assert_non_null(memmem(p, DF_NPY_HEADER_BYTES, expected, strlen(expected)));
	assert_non_null(memmem(p, DF_NPY_HEADER_BYTES, "'<f4'", 5));
}

static void check_kind(const struct world *w, uint32_t kind, const struct mark *m, bool finished, size_t *n_seen)
{
	const struct df_parts_place place = {.npy_item_bytes = 4};
	size_t at = 0;
	for (uint32_t no = 0; no < N_CELLS; no++) {
		for (int open = 0; open < 2; open++) {
			char name[DF_PART_NAME_MAX];
			size_t n = 0, skip = kind == DF_OUTPUT_NPY ? DF_NPY_HEADER_BYTES : 0;
			df_part_name(name, &place, kind, no, open);
			const char *p = sim_file(w->sim, name, &n);
			if (!p)
				continue;
			assert_false(open && finished);
			assert_true(n > skip);
			assert_true(at + n - skip <= m->n[kind]);
			assert_memory_equal(p + skip, w->log[kind] + at, n - skip);
			if (kind == DF_OUTPUT_NPY && !open)
				check_npy(p, n);
			at += n - skip;
			(*n_seen)++;
		}
	}
	assert_int_equal(at, m->n[kind]);
}

static void check_files(const struct world *w, const struct mark *m, bool finished)
{
	size_t n_seen = 1; /* the journal */
	for (uint32_t kind = 0; kind < DF_N_OUTPUT; kind++)
		check_kind(w, kind, m, finished, &n_seen);
	if (sim_n_files(w->sim) != n_seen)
		for (size_t i = 0; i < sim_n_files(w->sim); i++)
			print_message("file '%s'\n", sim_name(w->sim, i));
	assert_int_equal(sim_n_files(w->sim), n_seen);
}

static uint64_t counter_of(const struct df_recovered *r, const char *name)
{
	for (size_t i = 0; i < r->n_counter; i++)
		if (df_str_is(r->counter[i].name, name))
			return r->counter[i].value;
	return 0;
}

static void check_recovered(const struct df_recovered *r, const struct mark *m)
{
	bool done[N_CELLS] = {false};
	for (size_t i = 0; i < r->n_cells; i++)
		for (uint64_t c = 0; c < r->cells[i].cells.n; c++)
			done[r->cells[i].cells.source * 30 + r->cells[i].cells.first + c] = true;
	assert_memory_equal(done, m->done, sizeof(done));
	assert_int_equal(counter_of(r, "in"), m->n_done);
	assert_int_equal(r->n_strike, m->n_commit);
	assert_int_equal(r->n_source, m->n_commit ? 1 : 0);
	if (r->n_source)
		assert_int_equal(r->source[0].n_cell, m->n_commit);
	assert_int_equal(r->run_id, 7);
}

/* Of the commit that was in flight nobody knows; all before it stand. */
static void settle(struct world *w, const struct df_recovered *r)
{
	uint64_t n_commit = counter_of(r, "commits");
	if (w->has_in_flight && n_commit == w->in_flight.n_commit)
		w->committed = w->in_flight;
	if (w->may_step_back && n_commit < w->committed.n_commit) {
		w->n_back += w->committed.n_commit - n_commit;
		w->committed = w->history[n_commit];
	}
	assert_int_equal(n_commit, w->committed.n_commit);
	if (r->lost.code != DF_OK)
		assert_true(w->may_step_back && r->lost_cells > 0);
	w->now = w->committed;
	w->has_in_flight = false;
	assert_true(r->epoch > w->epoch || w->config.fsync == DF_FSYNC_NEVER);
	w->epoch = r->finished ? w->epoch : r->epoch;
	check_recovered(r, &w->committed);
}

/* One life. The disk's faults are set before; DF_OK: the run is complete. */
static enum df_err live(struct world *w, struct df_fail *fail)
{
	struct df_arena arena;
	struct df_store *s = NULL;
	struct df_recovered r;
	df_arena_init(&arena, 1 << 20, 0);
	enum df_err err = df_store_open(&w->config, &w->io, &arena, &s, &r, fail);
	if (err == DF_OK) {
		settle(w, &r);
		check_files(w, &w->committed, r.finished);
		err = r.finished ? df_store_finish(s, &(struct df_grid_size){1, 1}, fail) : work(w, s);
		struct df_fail again = {0};
		bool done;
		if (err != DF_OK) { /* a commit in flight may still end; then the reason is given for ever */
			if (df_store_committing(s) && df_store_reap(s, &done, &again) == DF_OK)
				assert_true(done);
			assert_int_equal(df_store_reap(s, &done, &again), err);
			if (fail)
				*fail = again;
		}
	}
	df_store_close(&s);
	assert_int_equal(sim_n_open(w->sim), 0);
	df_arena_release(&arena);
	return err;
}

static void live_to_the_end(struct world *w)
{
	struct df_fail fail = {0};
	enum df_err err = live(w, &fail);
	if (err != DF_OK)
		fail_msg("%s", fail.msg);
	assert_int_equal(w->committed.n_done, N_CELLS);
	check_files(w, &w->committed, true);
	/* and once more: a finished run is left alone */
	uint64_t before = sim_n_files(w->sim);
	assert_int_equal(live(w, &fail), DF_OK);
	assert_int_equal(sim_n_files(w->sim), before);
}

static uint64_t calls_of_a_run(void)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	world_init(w, 1, DF_FSYNC_COMMIT);
	live_to_the_end(w);
	uint64_t n = sim_calls(w->sim);
	sim_destroy(&w->sim);
	free(w);
	return n;
}

static void cut_everywhere(enum cut cut, enum df_fsync policy, uint64_t n_seed)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	uint64_t n_calls = calls_of_a_run(), n_cuts = 0, n_back = 0;
	assert_true(n_calls > 150);
	for (uint64_t seed = 0; seed < n_seed; seed++) {
		for (uint64_t n = 1; n <= n_calls; n++) {
			world_init(w, seed * 100003 + n, policy);
			w->may_step_back = cut == POWER && policy != DF_FSYNC_COMMIT;
			sim_die_at(w->sim, n);
			for (int lives = 0; live(w, NULL) != DF_OK && lives < 4; lives++) {
				cut == POWER ? power_cut(w) : sim_kill(w->sim);
				n_cuts++;
				if (below(w, 2))
					sim_die_at(w->sim, 1 + below(w, lives ? 20 : n_calls));
			}
			cut == POWER ? power_cut(w) : sim_kill(w->sim);
			live_to_the_end(w);
			n_back += w->n_back;
			sim_destroy(&w->sim);
		}
	}
	print_message("%llu cuts, %llu calls a run, %llu commits taken back\n", (unsigned long long)n_cuts,
		      (unsigned long long)n_calls, (unsigned long long)n_back);
	assert_true((n_back > 0) == (cut == POWER && policy != DF_FSYNC_COMMIT));
	free(w);
}

static void test_store__survives_a_power_cut_at_every_call(void **state)
{
	(void)state;
	cut_everywhere(POWER, DF_FSYNC_COMMIT, 12);
}

static void test_store__survives_a_kill_at_every_call_whatever_is_synced(void **state)
{
	(void)state;
	cut_everywhere(KILL, DF_FSYNC_COMMIT, 2);
	cut_everywhere(KILL, DF_FSYNC_ROTATE, 2);
	cut_everywhere(KILL, DF_FSYNC_NEVER, 2);
}

/* Commits since the last rotation may be taken back, and are done again; nothing is refused, lost or doubled. */
static void test_store__synced_at_rotation_a_power_cut_steps_back(void **state)
{
	(void)state;
	cut_everywhere(POWER, DF_FSYNC_ROTATE, 4);
}

/* Never synced, a power cut gives an earlier state or a refusal that says so; rows are never doubled or invented. */
static void test_store__never_synced_a_power_cut_gives_an_earlier_state_or_a_refusal(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	unsigned n_refused = 0, n_opened = 0, n_explained = 0;
	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct df_fail fail = {0};
		world_init(w, seed, DF_FSYNC_NEVER);
		w->may_step_back = true;
		sim_die_at(w->sim, 1 + seed % 250);
		(void)live(w, NULL);
		power_cut(w);
		enum df_err err = live(w, &fail);
		if (err == DF_OK) {
			assert_int_equal(w->committed.n_done, N_CELLS);
			n_opened++;
		} else {
			assert_int_equal(err, DF_ERR_CORRUPT);
			assert_non_null(strstr(fail.msg, "--force-restart"));
			n_explained += strstr(fail.msg, "does not sync (--fsync never)") != NULL;
			n_refused++;
		}
		sim_destroy(&w->sim);
	}
	print_message("%u opened, %u refused, %u of them for a file that was not synced\n", n_opened, n_refused,
		      n_explained);
	assert_true(n_opened > 300 && n_explained > 0);
	free(w);
}

/* The process that wrote FINISH may be killed before it synced that: whoever reports the run as finished makes it so. */
static void test_store__what_is_reported_as_finished_survives_a_power_cut(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	uint64_t n_calls = calls_of_a_run(), n_finished = 0;
	for (uint64_t n = n_calls - 12; n <= n_calls; n++) {
		for (uint64_t seed = 0; seed < 40; seed++) {
			world_init(w, 1 + seed * 7, DF_FSYNC_COMMIT);
			sim_die_at(w->sim, n);
			if (live(w, NULL) == DF_OK)
				w->epoch = 1;
			sim_kill(w->sim);
			struct df_fail fail = {0};
			assert_int_equal(live(w, &fail), DF_OK); /* goes on, or finds it finished */
			uint32_t epoch = w->epoch;
			power_cut(w);
			assert_int_equal(live(w, &fail), DF_OK);
			assert_int_equal(w->epoch, epoch); /* finished: no new one */
			n_finished++;
			sim_destroy(&w->sim);
		}
	}
	assert_true(n_finished > 100);
	free(w);
}

static void test_store__goes_on_after_any_single_call_failed(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	uint64_t n_calls = calls_of_a_run(), n_failed = 0;
	const int error[] = {EIO, ENOSPC};
	for (uint64_t n = 1; n <= n_calls; n++) {
		for (int e = 0; e < 2; e++) {
			struct df_fail fail = {0};
			world_init(w, n, DF_FSYNC_COMMIT);
			sim_fail_at(w->sim, n, error[e]);
			enum df_err err = live(w, &fail);
			if (err != DF_OK) {
				n_failed++;
				assert_true(err == DF_ERR_IO || err == DF_ERR_NOSPACE);
				assert_true(strlen(fail.msg) > 10);
			}
			sim_fail_at(w->sim, 0, 0);
			live_to_the_end(w);
			sim_destroy(&w->sim);
		}
	}
	assert_true(n_failed > n_calls); /* nearly every call matters */
	free(w);
}

static void test_store__a_full_disk_names_the_file_and_the_way_out(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	unsigned n_part = 0;
	for (uint64_t size = 0; size < 12000; size += 37) {
		struct df_fail fail = {0};
		world_init(w, size, DF_FSYNC_COMMIT);
		sim_disk_bytes(w->sim, size);
		enum df_err err = live(w, &fail);
		if (err != DF_OK) {
			assert_int_equal(err, DF_ERR_NOSPACE);
			assert_non_null(strstr(fail.msg, "cannot write '"));
			assert_non_null(strstr(fail.msg,
					       "': No space left on device; free some and run the same command again"));
			n_part += strstr(fail.msg, "cannot write 'part-0") != NULL;
		}
		sim_disk_bytes(w->sim, UINT64_MAX);
		live_to_the_end(w);
		sim_destroy(&w->sim);
	}
	assert_true(n_part > 10);
	free(w);
}

/* --- damage --- */

/* A run that was killed about half way, with a closed set and an open one of several commits. */
static void half_way(struct world *w, enum df_fsync policy)
{
	world_init(w, 5, policy);
	sim_die_at(w->sim, 130);
	assert_int_not_equal(live(w, NULL), DF_OK);
	sim_kill(w->sim);
	w->config.part_bytes = 1 << 20;
	sim_die_at(w->sim, 110);
	assert_int_not_equal(live(w, NULL), DF_OK);
	assert_true(w->committed.n_done < N_CELLS);
	sim_kill(w->sim);
}

static const char *refusal(struct world *w, enum df_err expected)
{
	static struct df_fail fail;
	struct df_arena arena;
	struct df_store *s = NULL;
	struct df_recovered r;
	df_arena_init(&arena, 1 << 20, 0);
	enum df_err err = df_store_open(&w->config, &w->io, &arena, &s, &r, &fail);
	if (err == DF_OK)
		df_store_close(&s);
	df_arena_release(&arena);
	assert_int_equal(err, expected);
	return fail.msg;
}

/* Damage to a file in the sim: a byte changed, the end cut off, or the file gone. */
static void damage(struct world *w, const char *name, int how, size_t at)
{
	size_t n = 0;
	char *p = sim_bytes(w->sim, name, &n);
	assert_true(p && at < n);
	if (how == 0) {
		p[at] = (char)(p[at] ^ 1);
	} else if (how == 1) {
		int fd = w->io.open(w->io.self, 3, name, 2, 0);
		assert_int_equal(w->io.truncate(w->io.self, fd, at), 0);
		(void)w->io.close(w->io.self, fd);
	} else {
		assert_int_equal(w->io.unlink(w->io.self, 3, name), 0);
	}
}

/* Data that the journal knows to be durable is damaged: refused with its place. Behind that a crash may have taken it: done again. */
static void test_store__damaged_open_data_is_refused_or_done_again(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	unsigned n_refused[3] = {0}, n_back[3] = {0}, n_behind = 0;
	half_way(w, DF_FSYNC_COMMIT);
	size_t n_file = sim_n_files(w->sim);
	sim_destroy(&w->sim);
	for (size_t i = 0; i < 2 * n_file; i++) {
		for (size_t at = i % 3;; at += 13) {
			half_way(w, i < n_file ? DF_FSYNC_COMMIT : DF_FSYNC_ROTATE);
			const char *name = sim_name(w->sim, i % n_file);
			size_t n = 0, skip = strstr(name, ".npy") ? DF_NPY_HEADER_BYTES : 0;
			(void)sim_bytes(w->sim, name, &n);
			if (!strstr(name, ".open") || at + skip >= n) {
				sim_destroy(&w->sim);
				break;
			}
			int how = (int)(at % 3);
			char copy[80];
			(void)snprintf(copy, sizeof(copy), "%s", name);
			damage(w, name, how, at + skip);
			struct df_fail fail = {0};
			w->may_step_back = true;
			enum df_err err = live(w, &fail);
			if (err == DF_OK) {
				assert_int_equal(w->committed.n_done, N_CELLS);
				check_files(w, &w->committed, true);
				n_back[how] += w->n_back > 0;
				n_behind += w->n_back == 0;
			} else {
				copy[strlen(copy) - strlen(".open")] = '\0';
				assert_int_equal(err, DF_ERR_CORRUPT);
				assert_non_null(strstr(fail.msg, copy));
				assert_non_null(strstr(fail.msg, how == 0   ? "changed or damaged between bytes"
								 : how == 1 ? "bytes, but the journal says"
									    : "is missing, but the journal"));
				n_refused[how]++;
			}
			sim_destroy(&w->sim);
		}
	}
	print_message("changed, cut, gone: %u, %u, %u refused; %u, %u, %u stepped back; %u were not committed\n",
		      n_refused[0], n_refused[1], n_refused[2], n_back[0], n_back[1], n_back[2], n_behind);
	for (int how = 0; how < 3; how++)
		assert_true(n_refused[how] > 0 && n_back[how] > 0);
	free(w);
}

/* A refusal leaves everything as it was, so that what is missing can be put back. */
static void test_store__a_refusal_changes_nothing(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	for (size_t i = 0;; i++) {
		half_way(w, DF_FSYNC_COMMIT);
		if (i == sim_n_files(w->sim))
			break;
		char name[80];
		size_t n = 0, n_journal = 0;
		(void)snprintf(name, sizeof(name), "%s", sim_name(w->sim, i));
		const char *p = sim_file(w->sim, name, &n);
		if (strcmp(name, "journal") == 0 || n == 0) {
			sim_destroy(&w->sim);
			continue;
		}
		char *copy = malloc(n), *journal = NULL;
		assert_non_null(copy);
		memcpy(copy, p, n);
		p = sim_file(w->sim, "journal", &n_journal);
		journal = malloc(n_journal);
		assert_non_null(journal);
		memcpy(journal, p, n_journal);
		assert_int_equal(w->io.unlink(w->io.self, 3, name), 0);
		struct df_fail fail = {0};
		w->may_step_back = true;
		if (live(w, &fail) != DF_OK) {
			size_t n_now = 0;
			assert_int_equal(fail.code, DF_ERR_CORRUPT);
			p = sim_file(w->sim, "journal", &n_now);
			assert_int_equal(n_now, n_journal);
			assert_memory_equal(p, journal, n_journal);
			struct iovec iov = {copy, n};
			int fd = w->io.open(w->io.self, 3, name, O_RDWR | O_CREAT, 0666);
			assert_int_equal(w->io.write_all(w->io.self, fd, &iov, 1, 0), 0);
			(void)w->io.close(w->io.self, fd);
			w->may_step_back = false;
			live_to_the_end(w);
		}
		free(copy);
		free(journal);
		sim_destroy(&w->sim);
	}
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__data_shorter_than_its_journal_is_refused_with_both_sizes(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	world_init(w, 9, DF_FSYNC_COMMIT);
	live_to_the_end(w);
	size_t n = 0;
	assert_non_null(sim_file(w->sim, "part-00001.jsonl", &n));
	int fd = w->io.open(w->io.self, 3, "part-00001.jsonl", 2, 0);
	assert_int_equal(w->io.truncate(w->io.self, fd, n - 1), 0);
	(void)w->io.close(w->io.self, fd);
	const char *msg = refusal(w, DF_ERR_CORRUPT);
	char expected[128];
	(void)snprintf(expected, sizeof(expected), "'part-00001.jsonl' has %zu bytes, but the journal says %zu", n - 1,
		       n);
	assert_non_null(strstr(msg, expected));
	assert_int_equal(w->io.unlink(w->io.self, 3, "part-00001.jsonl"), 0);
	assert_non_null(strstr(refusal(w, DF_ERR_CORRUPT), "'part-00001.jsonl' is missing"));
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__every_damaged_byte_of_the_journal_is_refused_or_is_in_its_last_record(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	world_init(w, 11, DF_FSYNC_COMMIT);
	live_to_the_end(w);
	size_t n = 0;
	char *journal = sim_bytes(w->sim, "journal", &n);
	assert_non_null(journal);
	char *copy = malloc(n);
	assert_non_null(copy);
	memcpy(copy, journal, n);
	for (size_t i = 0; i < n; i++) {
		struct df_replay r;
		struct df_fail fail = {0};
		journal[i] = (char)(copy[i] ^ 1 << i % 8);
		int fd = w->io.open(w->io.self, 3, "journal", 0, 0);
		df_replay_init(&r);
		enum df_err err = df_journal_replay(&w->io, fd, &r, &fail);
		bool in_last = i >= n - DF_JOURNAL_HEAD - 2; /* FINISH */
		if (in_last)
			assert_true(err == DF_OK && r.torn_bytes == DF_JOURNAL_HEAD + 2 && !r.finished);
		else
			assert_true(err == DF_ERR_CORRUPT || (err == DF_ERR_VERSION && (i == 4 || i == 5)));
		df_replay_release(&r);
		(void)w->io.close(w->io.self, fd);
		journal[i] = copy[i];
	}
	free(copy);
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__another_fingerprint_or_format_is_refused(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	world_init(w, 3, DF_FSYNC_COMMIT);
	live_to_the_end(w);
	w->config.fingerprint++;
	assert_non_null(strstr(refusal(w, DF_ERR_CHANGED), "another pipeline"));
	w->config.fingerprint--;
	w->config.zstd = true;
	assert_non_null(strstr(refusal(w, DF_ERR_CHANGED), "other files"));
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__parts_without_their_journal_are_refused(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	world_init(w, 3, DF_FSYNC_COMMIT);
	live_to_the_end(w);
	assert_int_equal(w->io.unlink(w->io.self, 3, "journal"), 0);
	assert_non_null(strstr(refusal(w, DF_ERR_CORRUPT), "the journal does not know it"));
	sim_destroy(&w->sim);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store__survives_a_power_cut_at_every_call),
		cmocka_unit_test(test_store__survives_a_kill_at_every_call_whatever_is_synced),
		cmocka_unit_test(test_store__synced_at_rotation_a_power_cut_steps_back),
		cmocka_unit_test(test_store__never_synced_a_power_cut_gives_an_earlier_state_or_a_refusal),
		cmocka_unit_test(test_store__what_is_reported_as_finished_survives_a_power_cut),
		cmocka_unit_test(test_store__goes_on_after_any_single_call_failed),
		cmocka_unit_test(test_store__a_full_disk_names_the_file_and_the_way_out),
		cmocka_unit_test(test_store__damaged_open_data_is_refused_or_done_again),
		cmocka_unit_test(test_store__a_refusal_changes_nothing),
		cmocka_unit_test(test_store__data_shorter_than_its_journal_is_refused_with_both_sizes),
		cmocka_unit_test(test_store__every_damaged_byte_of_the_journal_is_refused_or_is_in_its_last_record),
		cmocka_unit_test(test_store__another_fingerprint_or_format_is_refused),
		cmocka_unit_test(test_store__parts_without_their_journal_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
