// SPDX-License-Identifier: Apache-2.0
/* test_journal: records written, torn, damaged and read back. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "coordinator/sink/journal.h"
#include "proto/cell_info.h"

struct fixture {
	struct df_journal j;
	struct df_counter_names names;
	struct df_buf b;
	struct df_replay r;
	struct df_fail fail;
};

static int temporary(void)
{
	char path[] = "/tmp/df-journal-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	return fd;
}

static void append(struct fixture *f, enum df_journal_type type)
{
	assert_int_equal(df_buf_err(&f->b), DF_OK);
	assert_int_equal(df_journal_append(&f->j, type, df_buf_str(&f->b), &f->fail), DF_OK);
	df_buf_reset(&f->b);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct df_journal_header header = {1, 2, 7, true, 2, DF_STR("9.9")};
	df_journal_init(&f->j, &df_io_real, temporary());
	df_counter_names_init(&f->names);
	df_buf_init(&f->b, DF_JOURNAL_RECORD_MAX);
	df_replay_init(&f->r);
	assert_int_equal(df_journal_put_header(&f->b, &header), DF_OK);
	append(f, DF_JOURNAL_HEADER);
	assert_int_equal(df_journal_put_epoch(&f->b, 1, 77), DF_OK);
	append(f, DF_JOURNAL_EPOCH);
	assert_int_equal(df_journal_sync(&f->j, &f->fail), DF_OK);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	(void)close(f->j.fd);
	df_journal_release(&f->j);
	df_counter_names_release(&f->names);
	df_buf_release(&f->b);
	df_replay_release(&f->r);
	free(f);
	return 0;
}

static enum df_err replay(struct fixture *f)
{
	df_replay_release(&f->r);
	df_replay_init(&f->r);
	return df_journal_replay(&df_io_real, f->j.fd, &f->r, &f->fail);
}

static void commit_cells(struct fixture *f, struct df_commit_cells *cells, size_t n)
{
	struct df_commit commit = {.cells = cells, .n_cells = n};
	bool overlap = false;
	commit.n_cells = df_commit_cells_merge(cells, n, &overlap);
	assert_false(overlap);
	assert_int_equal(df_journal_put_commit(&f->b, &f->names, &commit, NULL, 0), DF_OK);
	append(f, DF_JOURNAL_COMMIT);
}

static void test_journal__what_readers_said_is_added_up_over_neighbours(void **state)
{
	struct df_commit_cells cells[3000], want = {{5, 0, 0}, {0}};
	bool overlap = false;
	(void)state;
	for (uint64_t i = 0; i < 3000; i++) { /* backwards */
		struct df_cell_info one = {i * 10, 10, 2, i * 3 + 1}, sum = {0};
		df_cell_info_add(&sum, i, &one);
		cells[2999 - i] = (struct df_commit_cells){{5, i, 1}, sum};
		if (i < DF_INFO_CELLS_MAX)
			df_cell_info_add(&want.info, i, &one);
	}
	assert_int_equal(df_commit_cells_merge(cells, 3000, &overlap), 3);
	assert_false(overlap);
	assert_int_equal(cells[0].cells.n, DF_INFO_CELLS_MAX);
	assert_true(df_cell_info_eq(&cells[0].info, &want.info));
	assert_int_equal(cells[2].cells.first + cells[2].cells.n, 3000);
	struct df_commit_cells mixed[] = {{{5, 0, 1}, {1, 1, 1, 1}},
					  {{5, 1, 1}, {0}}}; /* told and not told stay apart */
	assert_int_equal(df_commit_cells_merge(mixed, 2, &overlap), 2);
}

static void test_journal__everything_reads_back(void **state)
{
	struct fixture *f = *state;
	const uint64_t big = UINT64_MAX;
	struct df_commit_cells cells[] = {{{UINT32_MAX, (UINT64_C(1) << 40) - 5, 5}, {0}},
					  {{0, 0, 3}, {0}},
					  {{2, 7, 1}, {big, big, big, big}},
					  {{2, 9, 1}, {1, 2, 3, 4}}};
	struct df_counter counter[] = {{DF_STR("in"), 5}, {DF_STR(""), big}, {DF_STR("filtered:a:b"), 0}};
	struct df_strike strike[] = {{{UINT32_MAX, big}, 3, DF_CAUSE_DEADLINE, UINT32_MAX, DF_NO_STAGE},
				     {{0, 0}, 1, DF_CAUSE_EXIT, 1, 0}};
	struct df_source_state source[] = {{9, false, DF_OK, 0, {NULL, 0}},
					   {3, true, DF_ERR_UTF8, big, DF_STR("m\0n")}};
	struct df_journal_file file[] = {{DF_OUTPUT_JSONL, 0, 0, big, 77, 78, 0},
					 {DF_OUTPUT_NPY, 0, 384, 128 + 768, 1, big, 0}};
	struct df_commit commit = {cells, 0, counter, 3, strike, 2, source, 2};
	bool overlap = false;
	commit.n_cells = df_commit_cells_merge(cells, 4, &overlap);
	assert_int_equal(commit.n_cells, 4);
	assert_int_equal(df_journal_put_commit(&f->b, &f->names, &commit, file, 2), DF_OK);
	append(f, DF_JOURNAL_COMMIT);
	counter[0].value = 6;
	source[0].ended = true;
	commit = (struct df_commit){.counter = counter, .n_counter = 1, .source = source, .n_source = 1};
	assert_int_equal(df_journal_put_commit(&f->b, &f->names, &commit, NULL, 0), DF_OK);
	append(f, DF_JOURNAL_COMMIT);
	assert_int_equal(df_journal_put_rotate(&f->b, file, 2), DF_OK);
	append(f, DF_JOURNAL_ROTATE);
	assert_int_equal(df_journal_put_finish(&f->b, &(struct df_grid_size){12, big}), DF_OK);
	append(f, DF_JOURNAL_FINISH);

	assert_int_equal(replay(f), DF_OK);
	const struct df_replay *r = &f->r;
	assert_true(r->header.run_id == 1 && r->header.fingerprint == 2 && r->header.want == 7 && r->header.zstd);
	assert_true(df_str_is(r->header.version, "9.9") && r->header.npy_item_bytes == 2);
	assert_true(r->finished && r->epoch == 1 && r->boot_id == 77 && r->no == 1 && r->torn_bytes == 0);
	assert_int_equal(r->n_cells, 4);
	for (int i = 0; i < 4; i++) {
		assert_true(r->cells[i].cells.source == cells[i].cells.source &&
			    r->cells[i].cells.first == cells[i].cells.first);
		assert_true(r->cells[i].cells.n == cells[i].cells.n);
		assert_memory_equal(&r->cells[i].info, &cells[i].info, sizeof(cells[i].info));
	}
	assert_int_equal(r->n_counter, 3);
	assert_true(r->counter[0].value == 6 && r->counter[1].value == big &&
		    df_str_is(r->counter[2].name, "filtered:a:b"));
	assert_int_equal(r->n_strike, 2);
	assert_true(df_strike_eq(&r->strike[0], &strike[1])); /* sorted by record */
	assert_true(df_strike_eq(&r->strike[1], &strike[0]));
	assert_int_equal(r->n_source, 2);
	assert_true(r->source[0].source == 3 && r->source[0].ended && r->source[0].err == DF_ERR_UTF8 &&
		    r->source[0].n_cell == big);
	assert_true(df_str_eq(r->source[0].message, DF_STR("m\0n")));
	assert_true(r->source[1].source == 9 && r->source[1].ended);
	assert_true(r->has_size && r->size.n_source == 12 && r->size.n_cell == big);
	assert_int_equal(r->n_closed, 2);
	const struct df_journal_file *npy = &r->closed[1];
	assert_true(npy->kind == DF_OUTPUT_NPY && npy->no == 0 && npy->dim == 384 && npy->end == 128 + 768 &&
		    npy->rows == 1 && npy->hash == big);
}

static void test_journal__neighbours_are_joined_within_and_across_commits(void **state)
{
	struct fixture *f = *state;
	struct df_commit_cells a[] = {
		{{1, 10, 5}, {0}}, {{1, 0, 5}, {0}}, {{1, 5, 5}, {0}}, {{0, 15, 1}, {0}}, {{1, 3, 0}, {0}}};
	struct df_commit_cells b[] = {{{1, 15, 1}, {0}}, {{0, 16, 1}, {0}}};
	commit_cells(f, a, 5);
	commit_cells(f, b, 2);
	assert_int_equal(replay(f), DF_OK);
	assert_int_equal(f->r.n_cells, 2);
	assert_true(f->r.cells[0].cells.first == 15 && f->r.cells[0].cells.n == 2);
	assert_true(f->r.cells[1].cells.first == 0 && f->r.cells[1].cells.n == 16);
}

static void test_journal__a_cell_committed_twice_is_refused(void **state)
{
	struct fixture *f = *state;
	struct df_commit_cells a[] = {{{1, 0, 10}, {0}}}, b[] = {{{1, 9, 1}, {0}}};
	commit_cells(f, a, 1);
	commit_cells(f, b, 1);
	assert_int_equal(replay(f), DF_ERR_CORRUPT);
	assert_non_null(strstr(f->fail.msg, "names a cell twice: cell 9 of input 1"));
}

static void commit_strike(struct fixture *f, struct df_strike s)
{
	struct df_commit commit = {.strike = &s, .n_strike = 1};
	assert_int_equal(df_journal_put_commit(&f->b, &f->names, &commit, NULL, 0), DF_OK);
	append(f, DF_JOURNAL_COMMIT);
}

static void test_journal__of_several_strikes_of_a_record_the_newest_stands(void **state)
{
	struct fixture *f = *state;
	const struct df_strike last[] = {
		{{0, 70000}, 2, DF_CAUSE_MEMORY, 512, 3},
		{{7, 5}, 3, DF_CAUSE_SIGNAL, 6, 0},
		{{7, 6}, 1, DF_CAUSE_DEADLINE, 60000, DF_NO_STAGE},
	};
	commit_strike(f, (struct df_strike){{7, 5}, 1, DF_CAUSE_SIGNAL, 11, 2});
	commit_strike(f, (struct df_strike){{0, 70000}, 1, DF_CAUSE_EXIT, 1, 0});
	commit_strike(f, (struct df_strike){{7, 5}, 2, DF_CAUSE_EXIT, 3, 1});
	commit_strike(f, last[2]);
	commit_strike(f, last[1]);
	commit_strike(f, last[0]);
	assert_int_equal(replay(f), DF_OK);
	assert_int_equal(f->r.n_strike, 3);
	for (int i = 0; i < 3; i++)
		assert_true(df_strike_eq(&f->r.strike[i], &last[i]));
}

/* What a run that steps back does: the same journal as it was before a record. */
static void test_journal__replayed_up_to_a_record_it_is_what_it_was_then(void **state)
{
	struct fixture *f = *state;
	uint64_t end[20];
	for (uint32_t i = 0; i < 20; i++) {
		struct df_commit_cells cells[] = {{{3, 2 * i, 1}, {0}}};
		end[i] = f->j.end;
		commit_cells(f, cells, 1);
		if (i == 10)
			assert_int_equal(df_journal_sync(&f->j, &f->fail), DF_OK);
	}
	for (uint32_t i = 0; i < 20; i++) {
		df_replay_release(&f->r);
		df_replay_init(&f->r);
		f->r.stop = 2 + i; /* header, epoch */
		assert_int_equal(df_journal_replay(&df_io_real, f->j.fd, &f->r, &f->fail), DF_OK);
		assert_int_equal(f->r.n_cells, i);
		assert_int_equal(f->r.seq, 2 + i);
		assert_int_equal(f->r.good_bytes, end[i]);
		assert_int_equal(f->r.torn_bytes, f->j.end - end[i]);
	}
	assert_int_equal(replay(f), DF_OK);
	assert_int_equal(f->r.n_cells, 20);
	assert_int_equal(f->r.durable,
			 13); /* header, epoch and eleven commits were synced when the last one was written */
}

/* A record of many pieces, after a small one. */
static void put_large(struct fixture *f, size_t n)
{
	struct df_commit_cells *cells = calloc(n, sizeof(*cells));
	assert_non_null(cells);
	for (size_t i = 0; i < n; i++)
		cells[i] = (struct df_commit_cells){.cells = {0, 3 * i, 1 + i % 2}};
	commit_cells(f, cells, n);
	free(cells);
}

static void test_journal__a_record_of_many_pieces_counts_only_with_its_last(void **state)
{
	struct fixture *f = *state;
	uint64_t before = f->j.end;
	put_large(f, 5000);
	assert_true(f->j.end - before > 3 * DF_JOURNAL_PIECE);
	assert_int_equal(replay(f), DF_OK);
	assert_int_equal(f->r.n_cells, 5000);
	for (uint64_t end = f->j.end; end > before;) {
		end -= end - before > 101 ? 101 : end - before;
		assert_int_equal(ftruncate(f->j.fd, (off_t)end), 0);
		assert_int_equal(replay(f), DF_OK);
		assert_int_equal(f->r.n_cells, 0);
		assert_int_equal(f->r.good_bytes, before);
		assert_int_equal(f->r.torn_bytes, end - before);
	}
}

static void flip(struct fixture *f, uint64_t at)
{
	char c;
	assert_int_equal(pread(f->j.fd, &c, 1, (off_t)at), 1);
	c = (char)(c ^ 0x10);
	assert_int_equal(pwrite(f->j.fd, &c, 1, (off_t)at), 1);
}

static void test_journal__a_hole_in_a_record_that_was_not_synced_is_a_torn_tail(void **state)
{
	struct fixture *f = *state;
	uint64_t before = f->j.end;
	put_large(f, 5000); /* its first piece is lost, later ones reached the disk */
	flip(f, before + 100);
	assert_int_equal(replay(f), DF_OK);
	assert_int_equal(f->r.good_bytes, before);
	assert_int_equal(f->r.seq, 2);
}

static void test_journal__damage_before_a_synced_record_is_corruption_and_says_where(void **state)
{
	struct fixture *f = *state;
	uint64_t before = f->j.end;
	char place[64];
	put_large(f, 5000);
	assert_int_equal(df_journal_sync(&f->j, &f->fail), DF_OK);
	struct df_commit_cells more[] = {{{7, 0, 1}, {0}}};
	commit_cells(f, more, 1);
	for (uint64_t at = before; at < before + 9000; at += 61) {
		flip(f, at);
		assert_int_equal(replay(f), DF_ERR_CORRUPT);
		(void)snprintf(place, sizeof(place), "damaged at byte %llu",
			       (unsigned long long)(before + (at - before) / DF_JOURNAL_PIECE * DF_JOURNAL_PIECE));
		assert_non_null(strstr(f->fail.msg, place));
		flip(f, at);
	}
	assert_int_equal(replay(f), DF_OK);
}

static void test_journal__goes_on_behind_a_cut_tail(void **state)
{
	struct fixture *f = *state;
	uint64_t before = f->j.end;
	struct df_commit_cells a[] = {{{7, 0, 1}, {0}}}, b[] = {{{8, 0, 1}, {0}}};
	commit_cells(f, a, 1);
	assert_int_equal(ftruncate(f->j.fd, (off_t)f->j.end - 1), 0);
	assert_int_equal(replay(f), DF_OK);
	assert_int_equal(f->r.good_bytes, before);
	assert_int_equal(ftruncate(f->j.fd, (off_t)before), 0);
	f->j.end = f->r.good_bytes;
	f->j.seq = f->r.seq;
	f->j.chain = f->r.chain;
	commit_cells(f, b, 1);
	assert_int_equal(replay(f), DF_OK);
	assert_int_equal(f->r.n_cells, 1);
	assert_int_equal(f->r.cells[0].cells.source, 8);
}

static void test_journal__a_file_that_is_none_is_refused(void **state)
{
	struct fixture *f = *state;
	char *junk = malloc(1 << 20);
	assert_non_null(junk);
	memset(junk, 'D', 1 << 20);
	assert_int_equal(pwrite(f->j.fd, junk, 1 << 20, 0), 1 << 20);
	assert_int_equal(replay(f), DF_ERR_CORRUPT);
	assert_non_null(strstr(f->fail.msg, "is not the journal of a run"));
	free(junk);
	/* a short one is what a crash at the very start leaves */
	assert_int_equal(ftruncate(f->j.fd, 100), 0);
	assert_int_equal(replay(f), DF_OK);
	assert_false(f->r.has_header);
	assert_int_equal(ftruncate(f->j.fd, 0), 0);
	assert_int_equal(replay(f), DF_OK);
}

static void test_journal__another_format_version_is_named(void **state)
{
	struct fixture *f = *state;
	char version = 2;
	assert_int_equal(pwrite(f->j.fd, &version, 1, 4), 1);
	assert_int_equal(replay(f), DF_ERR_VERSION);
	assert_non_null(strstr(f->fail.msg, "format version 2; this docflume reads version 1"));
}

static void test_journal__records_in_a_wrong_order_or_shape_are_refused(void **state)
{
	(void)state;
	static const struct {
		unsigned type;
		const char *p;
		size_t n;
	} row[] = {
		{DF_JOURNAL_HEADER, "", 0},                                         /* a second one, and empty */
		{DF_JOURNAL_EPOCH, "\x00", 1},                                      /* 1 comes first */
		{DF_JOURNAL_EPOCH, "\x01\x00", 2},                                  /* bytes left over */
		{DF_JOURNAL_EPOCH, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10}, /* more than 64 bits */
		{DF_JOURNAL_COMMIT, "", 0},
		{DF_JOURNAL_COMMIT, "\xff\xff\xff\xff\x7f", 5},             /* a count larger than the record */
		{DF_JOURNAL_COMMIT, "\x01\x00\x00\x00\x00\x00\x00\x00", 8}, /* a range of no cells */
		{DF_JOURNAL_COMMIT,
		 "\x00\x01\x03\x00\x00\x01\x01"
		 "12345678\x00\x00\x00",
		 18}, /* no such kind */
		{DF_JOURNAL_COMMIT,
		 "\x00\x01\x00\x05\x00\x01\x01"
		 "12345678\x00\x00\x00",
		 18},                                                   /* a set that is not open */
		{DF_JOURNAL_COMMIT, "\x00\x00\x01\x05\x00\x00\x00", 7}, /* a counter without a name */
		{DF_JOURNAL_ROTATE,
		 "\x01\x00\x00\x00\x01\x01"
		 "12345678",
		 14}, /* of a file that no commit named */
		{DF_JOURNAL_FINISH, "\x01", 1},
		{DF_JOURNAL_FINISH, "\x01\x01\x00", 3},
		{0, "", 0},
		{6, "", 0},
		{255, "", 0},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
		struct df_replay r;
		df_replay_init(&r);
		r.has_header = true;
		assert_int_equal(df_replay_apply(&r, row[i].type, (struct df_str){row[i].p, row[i].n}, NULL),
				 DF_ERR_CORRUPT);
		df_replay_release(&r);
	}
}

/* A run of 100 GB in cells of 16 KB is 6.1 million cells in leases of some 2 MB; here the ranges come in any order and a million at once
 * touch nothing. */
static void test_journal__a_million_ranges_replay_at_once_and_stay_small(void **state)
{
	struct fixture *f = *state;
	enum { N = 1000000, PER_COMMIT = 500 };
	struct df_commit_cells *cells = calloc(PER_COMMIT, sizeof(*cells));
	struct df_counter counter[20];
	char name[20][24];
	assert_non_null(cells);
	for (int i = 0; i < 20; i++) {
		(void)snprintf(name[i], sizeof(name[i]), "filtered:stage:%d", i);
		counter[i].name = df_str_from(name[i]);
	}
	for (size_t done = 0, at = 0; done < N; done += PER_COMMIT) {
		for (size_t i = 0; i < PER_COMMIT; i++, at = (at + 611953) % N)
			cells[i] = (struct df_commit_cells){.cells = {(uint32_t)(at / 250000), at % 250000 * 7, 6}};
		for (int i = 0; i < 20; i++)
			counter[i].value = done * 1000;
		struct df_commit commit = {.cells = cells, .counter = counter, .n_counter = 20};
		bool overlap = false;
		commit.n_cells = df_commit_cells_merge(cells, PER_COMMIT, &overlap);
		assert_int_equal(df_journal_put_commit(&f->b, &f->names, &commit, NULL, 0), DF_OK);
		append(f, DF_JOURNAL_COMMIT);
	}
	uint64_t start = df_clock_mono(&df_clock_real);
	assert_int_equal(replay(f), DF_OK);
	uint64_t ns = df_clock_mono(&df_clock_real) - start;
	assert_int_equal(f->r.n_cells, N);
	print_message("journal of %d separate ranges in %d commits: %.1f MB, replayed in %.0f ms\n", N, N / PER_COMMIT,
		      (double)f->j.end / 1e6, (double)ns / 1e6);
	assert_true(f->j.end < 16 * N);
	free(cells);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_journal__what_readers_said_is_added_up_over_neighbours),
		TEST(test_journal__everything_reads_back),
		TEST(test_journal__neighbours_are_joined_within_and_across_commits),
		TEST(test_journal__a_cell_committed_twice_is_refused),
		TEST(test_journal__of_several_strikes_of_a_record_the_newest_stands),
		TEST(test_journal__replayed_up_to_a_record_it_is_what_it_was_then),
		TEST(test_journal__a_record_of_many_pieces_counts_only_with_its_last),
		TEST(test_journal__a_hole_in_a_record_that_was_not_synced_is_a_torn_tail),
		TEST(test_journal__damage_before_a_synced_record_is_corruption_and_says_where),
		TEST(test_journal__goes_on_behind_a_cut_tail),
		TEST(test_journal__a_file_that_is_none_is_refused),
		TEST(test_journal__another_format_version_is_named),
		TEST(test_journal__records_in_a_wrong_order_or_shape_are_refused),
		TEST(test_journal__a_million_ranges_replay_at_once_and_stay_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
