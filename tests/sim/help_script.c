// SPDX-License-Identifier: Apache-2.0
/* help_script: what is written, what is expected, and a run's life. */
#include "tests/sim/help_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

uint64_t script_below(struct script *w, uint64_t n)
{
	return w->rand.next(w->rand.self) % n;
}

void script_init(struct script *w, uint64_t seed, enum df_fsync policy)
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

void script_power_cut(struct script *w)
{
	sim_crash(w->sim);
	w->config.boot_id++;
}

/* --- the script --- */

static enum df_err put(struct script *w, struct df_store *s, enum df_output_kind kind, const char *p, size_t n,
		       uint64_t rows)
{
	struct df_blob blob = {.p = (char *)(uintptr_t)p, .n = n};
	enum df_err err = df_store_append(s, kind, &blob, rows, NULL);
	if (err != DF_OK)
		return err;
	assert_true(w->now.n[kind] + n <= SCRIPT_LOG_MAX);
	memcpy(w->log[kind] + w->now.n[kind], p, n);
	w->now.n[kind] += n;
	w->now.rows[kind] += rows;
	return DF_OK;
}

static enum df_err put_cell(struct script *w, struct df_store *s, unsigned cell)
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

static enum df_err put_batch(struct script *w, struct df_store *s, struct df_commit_cells *cells, size_t *n_cells)
{
	size_t n = 1 + (size_t)script_below(w, 5);
	for (unsigned i = 0, at = (unsigned)script_below(w, SCRIPT_CELLS); i < SCRIPT_CELLS && *n_cells < n; i++) {
		unsigned cell = (at + i) % SCRIPT_CELLS;
		if (w->now.done[cell])
			continue;
		DF_TRY(put_cell(w, s, cell));
		w->now.done[cell] = true;
		w->now.n_done++;
		cells[(*n_cells)++] = (struct df_commit_cells){.cells = {cell / 30, cell % 30, 1}};
	}
	return DF_OK;
}

static enum df_err begin_commit(struct script *w, struct df_store *s, const struct df_commit_cells *cells,
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

static enum df_err reap(struct script *w, struct df_store *s)
{
	bool done = false;
	DF_TRY(df_store_reap(s, &done, NULL));
	assert_true(done);
	w->committed = w->in_flight;
	w->has_in_flight = false;
	return DF_OK;
}

/* Appends of the next batch happen while a commit is in flight. */
static enum df_err work(struct script *w, struct df_store *s)
{
	while (w->now.n_done < SCRIPT_CELLS || df_store_committing(s)) {
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

static void check_kind(const struct script *w, uint32_t kind, const struct script_mark *m, bool finished,
		       size_t *n_seen)
{
	const struct df_parts_place place = {.npy_item_bytes = 4};
	size_t at = 0;
	for (uint32_t no = 0; no < SCRIPT_CELLS; no++) {
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

void script_check_files(const struct script *w, const struct script_mark *m, bool finished)
{
	size_t n_seen = 1; /* the journal */
	for (uint32_t kind = 0; kind < DF_N_OUTPUT; kind++)
		check_kind(w, kind, m, finished, &n_seen);
	if (sim_n_files(w->sim) != n_seen)
		for (size_t i = 0; i < sim_n_files(w->sim); i++)
			print_message("file '%s'\n", sim_name(w->sim, i));
	assert_int_equal(sim_n_files(w->sim), n_seen);
}

uint64_t script_counter(const struct df_recovered *r, const char *name)
{
	for (size_t i = 0; i < r->n_counter; i++)
		if (df_str_is(r->counter[i].name, name))
			return r->counter[i].value;
	return 0;
}

static void check_recovered(const struct df_recovered *r, const struct script_mark *m)
{
	bool done[SCRIPT_CELLS] = {false};
	for (size_t i = 0; i < r->n_cells; i++)
		for (uint64_t c = 0; c < r->cells[i].cells.n; c++)
			done[r->cells[i].cells.source * 30 + r->cells[i].cells.first + c] = true;
	assert_memory_equal(done, m->done, sizeof(done));
	assert_int_equal(script_counter(r, "in"), m->n_done);
	assert_int_equal(r->n_strike, m->n_commit);
	assert_int_equal(r->n_source, m->n_commit ? 1 : 0);
	if (r->n_source)
		assert_int_equal(r->source[0].n_cell, m->n_commit);
	assert_int_equal(r->run_id, 7);
}

/* Of the commit that was in flight nobody knows; all before it stand. */
static void settle(struct script *w, const struct df_recovered *r)
{
	uint64_t n_commit = script_counter(r, "commits");
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
enum df_err script_live(struct script *w, struct df_fail *fail)
{
	struct df_arena arena;
	struct df_store *s = NULL;
	struct df_recovered r;
	df_arena_init(&arena, 1 << 20, 0);
	enum df_err err = df_store_open(&w->config, &w->io, &arena, &s, &r, fail);
	if (err == DF_OK) {
		settle(w, &r);
		script_check_files(w, &w->committed, r.finished);
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

void script_live_to_the_end(struct script *w)
{
	struct df_fail fail = {0};
	enum df_err err = script_live(w, &fail);
	if (err != DF_OK)
		fail_msg("%s", fail.msg);
	assert_int_equal(w->committed.n_done, SCRIPT_CELLS);
	script_check_files(w, &w->committed, true);
	/* and once more: a finished run is left alone */
	uint64_t before = sim_n_files(w->sim);
	assert_int_equal(script_live(w, &fail), DF_OK);
	assert_int_equal(sim_n_files(w->sim), before);
}

/* A run that was killed about half way, with a closed set and an open one of several commits. */
void script_half_way(struct script *w, enum df_fsync policy)
{
	script_init(w, 5, policy);
	sim_die_at(w->sim, 130);
	assert_int_not_equal(script_live(w, NULL), DF_OK);
	sim_kill(w->sim);
	w->config.part_bytes = 1 << 20;
	sim_die_at(w->sim, 110);
	assert_int_not_equal(script_live(w, NULL), DF_OK);
	assert_true(w->committed.n_done < SCRIPT_CELLS);
	sim_kill(w->sim);
}
