// SPDX-License-Identifier: Apache-2.0
/*
 * test_verify: runs made with the store itself and then damaged in each way there is; every fault is found and named, and nothing is changed.
 * ctest: threaded
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/hash.h"
#include "cli/verify_lines.h"
#include "coordinator/rundir/run_json.h"
#include "coordinator/verify/verify.h"

#define N_CELL 12

/* What the run is to be; a test bends one of these. */
struct plan {
	uint64_t first_cell, skip_cell; /* UINT64_MAX: none is left out */
	uint64_t n_cell;                /* as FINISH says */
	uint64_t in, out, filtered, rejected, rows;
	const char *bad_line;
	bool unfinished, no_json;
	const char *state;
};

struct fixture {
	char path[32];
	int dir_fd;
	struct df_arena arena;
	struct df_fail fail;
	struct df_verify v;
};

static const struct plan good = {.skip_cell = UINT64_MAX,
				 .n_cell = N_CELL,
				 .in = 40,
				 .out = 36,
				 .filtered = 2,
				 .rejected = 2,
				 .rows = 36,
				 .state = "finished"};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	memcpy(f->path, "/tmp/df-verify-XXXXXX", 22);
	if (!f || !mkdtemp(f->path))
		return -1;
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY);
	df_arena_init(&f->arena, 16 << 20, 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[64];
	df_verify_release(&f->v);
	(void)close(f->dir_fd);
	df_arena_release(&f->arena);
	(void)snprintf(command, sizeof(command), "rm -rf %s", f->path);
	free(f);
	return system(command);
}

static void put(struct fixture *f, struct df_store *s, enum df_output_kind kind, const void *p, size_t n, uint64_t rows)
{
	struct df_blob blob = {.p = (char *)(uintptr_t)p, .n = n};
	assert_int_equal(df_store_append(s, kind, &blob, rows, &f->fail), DF_OK);
}

/* Three rows and vectors a cell; cells 4 and 9 have a reject. */
static void put_cell(struct fixture *f, struct df_store *s, uint64_t cell, const struct plan *p)
{
	const float v[] = {1, 2, 3, 4, 5, (float)cell};
	char text[200];
	int n = snprintf(text, sizeof(text), "{\"id\":%llu}\n{\"text\":\"a \\u00e9\"}\n%s", (unsigned long long)cell,
			 cell == 7 && p->bad_line ? p->bad_line : "{}\n");
	put(f, s, DF_OUTPUT_JSONL, text, (size_t)n, 3);
	put(f, s, DF_OUTPUT_NPY, v, sizeof(v), 3);
	if (cell == 4 || cell == 9)
		put(f, s, DF_OUTPUT_REJECTS, "{\"raw_base64\":\"eA==\"}\n", 21, 1);
}

static void commit(struct fixture *f, struct df_store *s, uint64_t cell, const struct plan *p)
{
	struct df_commit_cells cells = {.cells = {0, p->first_cell + cell, 1}};
	struct df_counter counter[] = {{DF_STR("in"), p->in},
				       {DF_STR("out"), p->out},
				       {DF_STR("filtered"), p->filtered},
				       {DF_STR("filtered:clean:min_chars"), 2},
				       {DF_STR("rejected"), p->rejected},
				       {DF_STR("rejected:input:parse"), 2},
				       {DF_STR("rows"), p->rows}};
	struct df_commit c = {.cells = &cells, .n_cells = 1, .counter = counter, .n_counter = 7};
	bool done = false;
	assert_int_equal(df_store_commit(s, &c, &f->fail), DF_OK);
	assert_int_equal(df_store_reap(s, &done, &f->fail), DF_OK);
	assert_true(done);
}

static void write_json(struct fixture *f, struct df_store *s, const struct df_recovered *r, const struct plan *p)
{
	struct df_counter counter[] = {{DF_STR("in"), 40},      {DF_STR("out"), 36},
				       {DF_STR("filtered"), 2}, {DF_STR("filtered:clean:min_chars"), 2},
				       {DF_STR("rejected"), 2}, {DF_STR("rejected:input:parse"), 2},
				       {DF_STR("rows"), 36}};
	struct df_run_summary summary = {.run_id = r->run_id,
					 .fingerprint = 0xabcdef,
					 .state = df_str_from(p->state),
					 .epoch = 1,
					 .pipeline = DF_STR("strip"),
					 .cell_bytes = 16384,
					 .n_source = 1,
					 .counter = counter,
					 .n_counter = 7};
	summary.part = df_store_parts(s, &summary.n_part);
	assert_int_equal(df_run_json_write(&df_io_real, f->dir_fd, &summary, &f->fail), DF_OK);
}

static void make(struct fixture *f, const struct plan *p)
{
	struct df_store_config config = {.dir_fd = f->dir_fd,
					 .want = {true, true, true},
					 .npy_item_bytes = 4,
					 .part_bytes = 200,
					 .fingerprint = 0xabcdef,
					 .run_id = 77,
					 .inline_sync = true};
	struct df_recovered r;
	struct df_store *s = NULL;
	assert_int_equal(df_store_open(&config, &df_io_real, &f->arena, &s, &r, &f->fail), DF_OK);
	for (uint64_t cell = 0; cell < N_CELL; cell++) {
		if (cell == p->skip_cell)
			continue;
		put_cell(f, s, cell, p);
		commit(f, s, cell, p);
	}
	if (!p->unfinished)
		assert_int_equal(df_store_finish(s, &(struct df_grid_size){1, p->n_cell}, &f->fail), DF_OK);
	if (!p->no_json)
		write_json(f, s, &r, p);
	df_store_close(&s);
	(void)close(openat(f->dir_fd, "lock", O_WRONLY | O_CREAT, 0600));
}

/* All names and bytes of the directory, so that a change is seen. */
static uint64_t picture(struct fixture *f)
{
	uint64_t sum = 0;
	DIR *d = opendir(f->path);
	assert_non_null(d);
	for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
		char *p = NULL;
		size_t n = 0;
		if (e->d_name[0] == '.' || e->d_type != DT_REG)
			continue;
		assert_int_equal(df_io_read_file(&df_io_real, f->dir_fd, e->d_name, 1 << 20, &p, &n, &f->fail), DF_OK);
		sum += df_hash64_seed(p, n, df_hash64(e->d_name, strlen(e->d_name)));
		free(p);
	}
	(void)closedir(d);
	return sum;
}

static void verify(struct fixture *f)
{
	struct df_verify_config config = {.path = f->path, .lines = &df_verify_lines_real, .threads = 3};
	uint64_t before = picture(f);
	df_verify_release(&f->v);
	if (df_verify_run(&config, &f->v, &f->fail) != DF_OK)
		fail_msg("%s", f->fail.msg);
	assert_true(picture(f) == before);
}

static void found(struct fixture *f, enum df_verify_group group, const char *text)
{
	for (size_t i = 0; i < f->v.n_finding; i++)
		if (f->v.finding[i].group == group && strstr(f->v.finding[i].text, text))
			return;
	for (size_t i = 0; i < f->v.n_finding; i++)
		print_message("found: %s: %s\n", df_verify_group_name[f->v.finding[i].group], f->v.finding[i].text);
	fail_msg("not found: %s: %s", df_verify_group_name[group], text);
}

/* A run of this plan has exactly these faults, all of one group. */
static void expect(struct fixture *f, const struct plan *p, enum df_verify_group group, uint64_t n, const char *text)
{
	make(f, p);
	verify(f);
	found(f, group, text);
	assert_int_equal(f->v.wrong[group], n);
	assert_int_equal(f->v.n_wrong, n);
}

static void test_verify__a_good_run_is_proved(void **state)
{
	struct fixture *f = *state;
	make(f, &good);
	verify(f);
	for (size_t i = 0; i < f->v.n_finding; i++)
		print_message("found: %s\n", f->v.finding[i].text);
	assert_int_equal(f->v.n_wrong, 0);
	assert_true(f->v.finished);
	assert_int_equal(f->v.lines, 36 + 2);
	assert_true(f->v.n_file >= 6);
	assert_string_equal(f->v.summary[DF_VERIFY_ROWS], "36 as JSONL, 36 vectors of 2 numbers");
	assert_string_equal(f->v.summary[DF_VERIFY_CELLS], "12 of 1 inputs, each once; none is missing");
}

static void test_verify__an_unfinished_run_is_consistent(void **state)
{
	struct fixture *f = *state;
	struct plan p = good;
	p.unfinished = true;
	p.state = "stopped";
	make(f, &p);
	/* what no commit named yet, and the bytes behind the last one: removed and cut when the run goes on */
	(void)close(openat(f->dir_fd, "part-00031.jsonl.open", O_WRONLY | O_CREAT, 0666));
	verify(f);
	assert_int_equal(f->v.n_wrong, 0);
	assert_false(f->v.finished);
}

static void test_verify__a_run_killed_before_its_last_words_is_not_finished(void **state)
{
	struct fixture *f = *state;
	struct plan p = good;
	p.state = "running"; /* FINISH is in the journal, run.json was not written again */
	make(f, &p);
	verify(f);
	assert_int_equal(f->v.n_wrong, 0);
	assert_false(f->v.finished);
	assert_non_null(strstr(f->v.summary[DF_VERIFY_RUN_JSON], "run the same command once more"));
}

static void test_verify__cells_that_are_missing_are_named(void **state)
{
	struct fixture *f = *state;
	struct plan p = good;
	p.skip_cell = 5;
	make(f, &p);
	verify(f);
	found(f, DF_VERIFY_CELLS, "input 0: cells 5 to 5 were never done");
	found(f, DF_VERIFY_CELLS, "11 cells were done, but the inputs have 12");
}

static void test_verify__cells_at_the_end_that_are_missing_are_counted(void **state)
{
	struct plan p = good;
	p.n_cell = N_CELL + 1;
	expect(*state, &p, DF_VERIFY_CELLS, 1, "12 cells were done, but the inputs have 13");
}

static void test_verify__counts_that_do_not_add_up_are_found(void **state)
{
	struct fixture *f = *state;
	struct plan p = good;
	p.in = 41;
	make(f, &p);
	verify(f);
	found(f, DF_VERIFY_COUNTS, "documents in are 41, but out + filtered + rejected is 40");
	found(f, DF_VERIFY_RUN_JSON, "'run.json' says 40 in, the journal 41");
}

static void test_verify__counts_that_the_files_do_not_bear_out_are_found(void **state)
{
	struct fixture *f = *state;
	struct plan p = good;
	p.rows = 35;
	p.out = 37;
	p.rejected = 1;
	make(f, &p);
	verify(f);
	found(f, DF_VERIFY_COUNTS, "rows are 35, but the parts have 36");
	found(f, DF_VERIFY_COUNTS, "rejected documents are 1, but rows of rejects are 2");
	found(f, DF_VERIFY_COUNTS, "rejected documents are 1, but their classes add up to 2");
}

static void test_verify__a_line_that_is_no_json_is_named_with_its_place(void **state)
{
	struct plan p = good;
	p.bad_line = "{\"a\":1,}\n";
	expect(*state, &p, DF_VERIFY_PARTS, 1, "line 6, at byte 61: invalid JSON at byte 7");
}

static void test_verify__a_line_that_is_no_object_is_named(void **state)
{
	struct plan p = good;
	p.bad_line = "[1]\n";
	expect(*state, &p, DF_VERIFY_PARTS, 1, "line 6, at byte 61: not a JSON object but an array");
}

static void test_verify__a_row_of_two_lines_is_found(void **state)
{
	struct plan p = good;
	p.bad_line = "{}\n{}\n";
	expect(*state, &p, DF_VERIFY_PARTS, 1, "lines, but the journal says");
}

static void test_verify__a_line_of_broken_utf8_is_named(void **state)
{
	struct plan p = good;
	p.bad_line = "{\"a\":\"\xc3\x28\"}\n";
	expect(*state, &p, DF_VERIFY_PARTS, 1, "line 6, at byte 61");
}

static char *name_of(struct fixture *f, const char *ending)
{
	static char name[300];
	DIR *d = opendir(f->path);
	assert_non_null(d);
	name[0] = '\0';
	for (const struct dirent *e = readdir(d); e; e = readdir(d))
		if (strstr(e->d_name, ending) && strcmp(e->d_name, name) > 0)
			(void)snprintf(name, sizeof(name), "%s", e->d_name);
	(void)closedir(d);
	assert_true(name[0]);
	return name;
}

/* Every bit of every file of output: the range that is named has the byte in it. */
static void test_verify__every_flipped_bit_of_output_is_found(void **state)
{
	struct fixture *f = *state;
	unsigned n_bit = 0;
	make(f, &good);
	DIR *d = opendir(f->path);
	assert_non_null(d);
	for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
		struct stat st;
		if (strncmp(e->d_name, "part-", 5) != 0 && strncmp(e->d_name, "rejects-", 8) != 0)
			continue;
		int fd = openat(f->dir_fd, e->d_name, O_RDWR);
		assert_int_equal(fstat(fd, &st), 0);
		for (off_t at = 0; at < st.st_size; at++) {
			char c, changed;
			unsigned long long from = 0, to = 0;
			assert_int_equal(pread(fd, &c, 1, at), 1);
			changed = (char)(c ^ 1 << at % 8);
			assert_int_equal(pwrite(fd, &changed, 1, at), 1);
			verify(f);
			assert_true(f->v.n_wrong >= 1 && f->v.wrong[DF_VERIFY_PARTS] == f->v.n_wrong);
			found(f, DF_VERIFY_PARTS, e->d_name);
			const char *between = strstr(f->v.finding[0].text, "between bytes ");
			if (between) {
				assert_int_equal(sscanf(between, "between bytes %llu and %llu", &from, &to), 2);
				assert_true((unsigned long long)at >= from && (unsigned long long)at < to);
			} else {
				found(f, DF_VERIFY_PARTS, "the header (bytes 0 to 128)");
				assert_true(at < 128);
			}
			assert_int_equal(pwrite(fd, &c, 1, at), 1);
			n_bit++;
		}
		(void)close(fd);
	}
	(void)closedir(d);
	verify(f);
	assert_int_equal(f->v.n_wrong, 0);
	print_message("%u flips\n", n_bit);
	assert_true(n_bit > 1000);
}

static void test_verify__files_that_are_short_long_or_gone_are_named(void **state)
{
	struct fixture *f = *state;
	char expected[400];
	struct stat st;
	make(f, &good);
	const char *name = name_of(f, ".npy");
	int fd = openat(f->dir_fd, name, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	for (int d = -1; d <= 1; d += 2) {
		assert_int_equal(ftruncate(fd, st.st_size + d), 0);
		verify(f);
		(void)snprintf(expected, sizeof(expected), "%s: %lld bytes, but the journal says %lld", name,
			       (long long)st.st_size + d, (long long)st.st_size);
		found(f, DF_VERIFY_PARTS, expected);
	}
	(void)close(fd);
	assert_int_equal(unlinkat(f->dir_fd, name, 0), 0);
	verify(f);
	(void)snprintf(expected, sizeof(expected), "%s: missing", name);
	found(f, DF_VERIFY_PARTS, expected);
}

static void test_verify__other_output_and_left_overs_are_named(void **state)
{
	struct fixture *f = *state;
	static const char *const name[] = {"part-00099.jsonl", "part-00000.jsonl.open", "part-copy.jsonl",
					   "rejects-00007.jsonl.zst", "run.json.tmp"};
	make(f, &good);
	(void)close(openat(f->dir_fd, "notes.txt", O_WRONLY | O_CREAT, 0666)); /* harms nobody */
	verify(f);
	assert_int_equal(f->v.n_wrong, 0);
	for (size_t i = 0; i < sizeof(name) / sizeof(*name); i++)
		(void)close(openat(f->dir_fd, name[i], O_WRONLY | O_CREAT, 0666));
	verify(f);
	for (size_t i = 0; i < sizeof(name) / sizeof(*name); i++)
		found(f, DF_VERIFY_FILES, name[i]);
	assert_int_equal(f->v.n_wrong, sizeof(name) / sizeof(*name));
}

/* Every byte of the journal: refused with its place, or its last record is torn and the run is no longer finished. */
static void test_verify__every_damaged_byte_of_the_journal_is_found(void **state)
{
	struct fixture *f = *state;
	char *p = NULL, place[300];
	size_t n = 0;
	make(f, &good);
	assert_int_equal(df_io_read_file(&df_io_real, f->dir_fd, "journal", 1 << 20, &p, &n, &f->fail), DF_OK);
	int fd = openat(f->dir_fd, "journal", O_RDWR);
	for (size_t at = 0; at < n; at++) {
		char changed = (char)(p[at] ^ 1 << at % 8);
		struct df_verify_config config = {.path = f->path, .threads = 1};
		assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
		df_verify_release(&f->v);
		enum df_err err = df_verify_run(&config, &f->v, &f->fail);
		if (err == DF_OK) {
			assert_true(f->v.n_wrong > 0);
			(void)snprintf(place, sizeof(place), "%s", f->v.finding[0].text);
			assert_true(strstr(place, "'journal' is damaged at byte") ||
				    f->v.wrong[DF_VERIFY_RUN_JSON]); /* its end is torn: run.json knows better */
		} else {
			assert_int_equal(err, DF_ERR_VERSION);
			assert_true(at == 4 || at == 5);
		}
		assert_int_equal(pwrite(fd, p + at, 1, (off_t)at), 1);
	}
	assert_int_equal(ftruncate(fd, (off_t)n), 0);
	assert_int_equal(pwrite(fd, "more", 4, (off_t)n), 4);
	verify(f);
	found(f, DF_VERIFY_JOURNAL, "but 4 bytes follow");
	(void)close(fd);
	free(p);
}

static void replace(struct fixture *f, const char *from, const char *to)
{
	char *p = NULL;
	size_t n = 0;
	assert_int_equal(df_io_read_file(&df_io_real, f->dir_fd, "run.json", 1 << 20, &p, &n, &f->fail), DF_OK);
	char *at = strstr(p, from);
	assert_true(at && strlen(from) == strlen(to));
	memcpy(at, to, strlen(to));
	assert_int_equal(df_io_replace_file(&df_io_real, f->dir_fd, "run.json", p, n, &f->fail), DF_OK);
	free(p);
}

static void test_verify__a_run_json_that_tells_something_else_is_found(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *from, *to, *text;
	} row[] = {
		{"\"run_id\": \"000000000000004d\"", "\"run_id\": \"000000000000004e\"", "says run 000000000000004e"},
		{"\"fingerprint\": \"0000000000abcdef\"", "\"fingerprint\": \"0000000000abcdee\"", "says fingerprint"},
		{"\"sources\": 1", "\"sources\": 2", "says 2 inputs, the journal 1"},
		{"\"in\": 40", "\"in\": 41", "says 41 in, the journal 40"},
		{"\"clean:min_chars\": 2", "\"clean:min_chars\": 3", "says 3 of filtered:clean:min_chars"},
		{"\"clean:min_chars\": 2", "\"clean:min_cHars\": 2", "says 0 of filtered:clean:min_chars"},
		{"\"rejected_total\": 2", "\"rejected_total\": 1", "says 1 rejected"},
		{"\"name\": \"part-00000.jsonl\"", "\"name\": \"part-00009.jsonl\"", "lists 'part-00009.jsonl'"},
		{"\"xxh3\": \"", "\"xxh4\": \"", "the checksum"},
		{"\"kind\": \"jsonl\",\n      \"rows\":", "\"kind\": \"jsonl\",\n      \"rowz\":",
		 "rows in part-00000.jsonl"},
		{"\"format_version\": 1", "\"format_version\": 2", "not of format version 1"},
		{"\"state\": \"finished\"", "\"state\"; \"finished\"", "cannot be read"},
	};
	make(f, &good);
	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
		replace(f, row[i].from, row[i].to);
		verify(f);
		found(f, DF_VERIFY_RUN_JSON, row[i].text);
		assert_int_equal(f->v.n_wrong, f->v.wrong[DF_VERIFY_RUN_JSON]);
		replace(f, row[i].to, row[i].from);
	}
	verify(f);
	assert_int_equal(f->v.n_wrong, 0);
	assert_int_equal(unlinkat(f->dir_fd, "run.json", 0), 0);
	verify(f);
	found(f, DF_VERIFY_RUN_JSON, "'run.json' cannot be read");
}

static void test_verify__a_run_json_that_is_ahead_of_the_journal_is_found(void **state)
{
	struct plan p = good;
	p.unfinished = true;
	expect(*state, &p, DF_VERIFY_RUN_JSON, 1, "says that the run is finished, the journal does not");
}

static void test_verify__a_run_that_is_going_on_is_left_alone(void **state)
{
	struct fixture *f = *state;
	struct df_verify_config config = {.path = f->path, .threads = 1};
	make(f, &good);
	int fd = openat(f->dir_fd, "lock", O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(pwrite(fd, "4711\n", 5, 0), 5);
	assert_int_equal(df_verify_run(&config, &f->v, &f->fail), DF_ERR_BUSY);
	assert_non_null(strstr(f->fail.msg, "is in use by process 4711"));
	assert_int_equal(flock(fd, LOCK_SH), 0); /* another verify */
	verify(f);
	assert_int_equal(f->v.n_wrong, 0);
	(void)close(fd);
	assert_int_equal(unlinkat(f->dir_fd, "lock", 0), 0); /* a copy */
	verify(f);
	assert_int_equal(f->v.n_wrong, 0);
}

static void test_verify__what_is_no_run_directory_is_said(void **state)
{
	struct fixture *f = *state;
	struct df_verify_config config = {.path = f->path, .threads = 1};
	assert_int_equal(df_verify_run(&config, &f->v, &f->fail), DF_ERR_NOT_FOUND);
	assert_non_null(strstr(f->fail.msg, "has no journal"));
	config.path = "/nonexistent/df";
	assert_int_equal(df_verify_run(&config, &f->v, &f->fail), DF_ERR_NOT_FOUND);
	(void)close(openat(f->dir_fd, "journal", O_WRONLY | O_CREAT, 0666));
	verify(f);
	found(f, DF_VERIFY_JOURNAL, "'journal' has no whole record");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_verify__a_good_run_is_proved),
		TEST(test_verify__an_unfinished_run_is_consistent),
		TEST(test_verify__a_run_killed_before_its_last_words_is_not_finished),
		TEST(test_verify__cells_that_are_missing_are_named),
		TEST(test_verify__cells_at_the_end_that_are_missing_are_counted),
		TEST(test_verify__counts_that_do_not_add_up_are_found),
		TEST(test_verify__counts_that_the_files_do_not_bear_out_are_found),
		TEST(test_verify__a_line_that_is_no_json_is_named_with_its_place),
		TEST(test_verify__a_line_that_is_no_object_is_named),
		TEST(test_verify__a_row_of_two_lines_is_found),
		TEST(test_verify__a_line_of_broken_utf8_is_named),
		TEST(test_verify__every_flipped_bit_of_output_is_found),
		TEST(test_verify__files_that_are_short_long_or_gone_are_named),
		TEST(test_verify__other_output_and_left_overs_are_named),
		TEST(test_verify__every_damaged_byte_of_the_journal_is_found),
		TEST(test_verify__a_run_json_that_tells_something_else_is_found),
		TEST(test_verify__a_run_json_that_is_ahead_of_the_journal_is_found),
		TEST(test_verify__a_run_that_is_going_on_is_left_alone),
		TEST(test_verify__what_is_no_run_directory_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
