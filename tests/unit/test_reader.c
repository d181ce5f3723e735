// SPDX-License-Identifier: Apache-2.0
/* Readers: the same cells from the same input however packed; what is bad is told and costs nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/buf.h"
#include "base/json.h"
#include "worker/read/reader.h"

static char path[64];
static struct df_buf out;

static int set_up(void **state)
{
	(void)state;
	(void)snprintf(path, sizeof(path), "%s", "/tmp/df_test_reader_XXXXXX");
	int fd = mkstemp(path);
	df_buf_init(&out, 64 << 20);
	return fd < 0 || close(fd) != 0;
}

static int tear_down(void **state)
{
	(void)state;
	df_buf_release(&out);
	return unlink(path);
}

static void write_file(const void *p, size_t n)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static struct df_reader_spec spec_of(const char *name)
{
	return (struct df_reader_spec){
		.path = path, .fd = -1, .name = name, .id_key = "id", .text_key = "text", .limit = UINT64_MAX};
}

/* Everything a reader gives: "offset:record\n", bad ones as "offset:!err message [raw]\n", cells as "-\n". */
static enum df_err drain(struct df_reader *r, bool show_cells, struct df_fail *fail)
{
	struct df_cell_block cell;
	enum df_err err;
	uint64_t ordinal = 0;
	df_buf_reset(&out);
	while ((err = df_reader_next_cell(r, &cell, fail)) == DF_OK || err == DF_ERR_AGAIN) {
		if (err == DF_ERR_AGAIN)
			continue;
		assert_int_equal(cell.ordinal, ordinal++);
		assert_true(cell.n_record > 0);
		assert_true(cell.hash == df_cell_block_hash(cell.payload, cell.n_payload, cell.record, cell.n_record));
		volatile char sum = 0; /* the padding is readable */
		for (size_t k = 0; k < DF_RECORD_PADDING; k++)
			sum = (char)(sum + cell.payload[cell.n_payload + k]);
		for (size_t i = 0; i < cell.n_record; i++) {
			const struct df_cell_record *c = &cell.record[i];
			assert_true((size_t)c->start + c->length + c->n_message < cell.n_payload);
			const char *p = cell.payload + c->start;
			if (c->err)
				(void)df_buf_addf(&out, "%d:!%s %.*s [%.*s]\n", (int)c->offset,
						  df_err_name((enum df_err)c->err), (int)c->n_message, p + c->length,
						  (int)c->length, p);
			else
				(void)df_buf_addf(&out, "%d:%.*s\n", (int)c->offset, (int)c->length, p);
		}
		if (show_cells)
			(void)df_buf_addz(&out, "-\n");
	}
	assert_int_equal(df_buf_addc(&out, '\0'), DF_OK);
	return err;
}

static enum df_err read_all(const struct df_reader_spec *spec, struct df_fail *fail)
{
	struct df_reader *r;
	assert_int_equal(df_reader_open(spec, &r, fail), DF_OK);
	enum df_err err = drain(r, false, fail);
	df_reader_close(&r);
	assert_null(r);
	return err;
}

static void assert_reads(const char *name, const char *content, const char *expected)
{
	struct df_reader_spec spec = spec_of(name);
	struct df_fail fail;
	write_file(content, strlen(content));
	assert_int_equal(read_all(&spec, &fail), DF_ERR_END);
	assert_string_equal(out.p, expected);
}

static void test_reader__jsonl_csv_tsv_and_text_all_become_json(void **state)
{
	(void)state;
	assert_reads("a.jsonl", "\xef\xbb\xbf{\"text\":\"a\"}\r\n\n{\"text\":\"b\"}",
		     "0:{\"text\":\"a\"}\n18:{\"text\":\"b\"}\n");
	assert_reads("a.csv", "\xef\xbb\xbfid,text,\r\n1,\"x,\n\"\"y\"\"\",\r\n\r\n2,z,w\r\n",
		     "13:{\"id\":\"1\",\"text\":\"x,\\n\\\"y\\\"\",\"column_3\":\"\"}\n"
		     "30:{\"id\":\"2\",\"text\":\"z\",\"column_3\":\"w\"}\n");
	assert_reads("a.tsv", "text\tn\na,b\t1\n", "7:{\"text\":\"a,b\",\"n\":\"1\"}\n");
	assert_reads("d/a.md", "# Head\n\"q\"\n", "0:{\"id\":\"d/a.md\",\"text\":\"# Head\\n\\\"q\\\"\\n\"}\n");
	assert_reads("a.txt", "", "0:{\"id\":\"a.txt\",\"text\":\"\"}\n");
	assert_reads("a.jsonl", "", "");
	assert_reads("a.csv", "text\n", "");
	assert_reads("-", "{\"text\":\"stdin is jsonl\"}\n", "0:{\"text\":\"stdin is jsonl\"}\n");
}

static void test_reader__bad_records_are_told_and_cost_nothing_else(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.csv");
	struct df_fail fail;
	spec.max_record = 64;
	static const char csv[] =
		"text,n\na,1\nb\nc,\"x\"y\n\xff,1\n"
		"0123456789012345678901234567890123456789012345678901234567890123456789,1\nd,2\ne,\"open\n";
	write_file(csv, sizeof(csv) - 1);
	assert_int_equal(read_all(&spec, &fail), DF_ERR_END);
	assert_string_equal(out.p, "7:{\"text\":\"a\",\"n\":\"1\"}\n"
				   "11:!parse a row of 1 columns, the header has 2 [b]\n"
				   "13:!parse column 2: text behind its closing quote [c,\"x\"y]\n"
				   "20:!utf8 invalid UTF-8 [\xff,1]\n"
				   "24:!limit a row longer than max-record=64 bytes []\n"
				   "97:{\"text\":\"d\",\"n\":\"2\"}\n"
				   "101:!parse the quote at byte 2 of the row is never closed [e,\"open\n]\n");
	spec.name = "a.txt";
	write_file("bad \xc3", 5);
	assert_int_equal(read_all(&spec, &fail), DF_ERR_END);
	assert_string_equal(out.p, "0:!utf8 invalid UTF-8 [bad \xc3]\n");
	write_file(csv, 100);
	assert_int_equal(read_all(&spec, &fail), DF_ERR_END);
	assert_string_equal(out.p, "0:!limit a document longer than max-record=64 bytes []\n");
	write_file("\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", 24);
	assert_int_equal(read_all(&spec, &fail), DF_ERR_END);
	assert_string_equal(out.p, "0:!limit 72 bytes as JSON, longer than max-record=64 []\n");
}

static void test_reader__a_csv_header_must_make_sense(void **state)
{
	(void)state;
	static const struct {
		const char *csv, *message;
	} bad[] = {
		{"a,b\n1,2\n",
		 "the header of 'a.csv' has no column 'text', its first is 'a'; name one with --text-key"},
		{"text,b,b\n", "the header of 'a.csv' names column 'b' twice"},
		{"text,\"b\n", "the header of 'a.csv' is too long or never ends"},
		{"text,\xff\n", "the header of 'a.csv' is not valid UTF-8"},
	};
	struct df_reader_spec spec = spec_of("a.csv");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct df_fail fail;
		write_file(bad[i].csv, strlen(bad[i].csv));
		enum df_err err = read_all(&spec, &fail);
		assert_true(err == DF_ERR_PARSE || err == DF_ERR_UTF8);
		assert_string_equal(fail.msg, bad[i].message);
	}
}

/* ------------------------------------------------------------------ packed */

static void add_member(struct archive *a, const char *name, const char *content, size_t n)
{
	struct archive_entry *e = archive_entry_new();
	bool folder = name[strlen(name) - 1] == '/';
	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, folder ? AE_IFDIR : AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_size(e, folder ? 0 : (la_int64_t)n);
	assert_true(archive_write_header(a, e) >= ARCHIVE_WARN); /* warns of "é" in the C locale */
	if (n)
		assert_int_equal(archive_write_data(a, content, n), (la_ssize_t)n);
	archive_entry_free(e);
}

static void pack_tree(int (*format)(struct archive *), int (*filter)(struct archive *))
{
	struct archive *a = archive_write_new();
	assert_int_equal(format(a), ARCHIVE_OK);
	if (filter)
		assert_int_equal(filter(a), ARCHIVE_OK);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	add_member(a, "d/", "", 0);
	add_member(a, "d/one.jsonl", "{\"text\":1}\n{\"text\":2}", 21);
	add_member(a, "d/pic.png", "\x89PNG", 4);
	add_member(a, "../../etc/\xc3\xa9.txt", "caf\xc3\xa9", 5);
	add_member(a, "empty.md", "", 0);
	add_member(a, "t.csv", "text\nx\n", 7);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
}

static const char tree[] = "0:{\"text\":1}\n11:{\"text\":2}\n"
			   "22:{\"id\":\"A/../../etc/\xc3\xa9.txt\",\"text\":\"caf\xc3\xa9\"}\n"
			   "28:{\"id\":\"A/empty.md\",\"text\":\"\"}\n34:{\"text\":\"x\"}\n";

static void test_reader__members_of_archives_are_read_by_their_names(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		int (*format)(struct archive *);
		int (*filter)(struct archive *);
	} kinds[] = {
		{"tar", archive_write_set_format_ustar, NULL},
		{"pax", archive_write_set_format_pax_restricted, NULL},
		{"tar.gz", archive_write_set_format_gnutar, archive_write_add_filter_gzip},
		{"tar.zst", archive_write_set_format_ustar, archive_write_add_filter_zstd},
		{"tar.xz", archive_write_set_format_ustar, archive_write_add_filter_xz},
		{"tar.bz2", archive_write_set_format_ustar, archive_write_add_filter_bzip2},
		{"zip", archive_write_set_format_zip, NULL},
	};
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (int piped = 0; piped < 2; piped++) {
			struct df_reader_spec spec = spec_of("A");
			struct df_fail fail = {DF_OK, ""};
			struct df_reader *r;
			struct df_reader_stats stats;
			pack_tree(kinds[i].format, kinds[i].filter);
			if (piped) { /* by a borrowed descriptor: nothing may be sought */
				spec.fd = open(path, O_RDONLY | O_CLOEXEC);
				spec.path = NULL;
			}
			assert_int_equal(df_reader_open(&spec, &r, &fail), DF_OK);
			enum df_err err = drain(r, false, &fail);
			if (err != DF_ERR_END)
				print_error("%s: %s\n", kinds[i].name, fail.msg);
			assert_int_equal(err, DF_ERR_END);
			assert_string_equal(out.p, tree);
			df_reader_stats(r, &stats);
			assert_int_equal(stats.members, 4);
			assert_int_equal(stats.members_skipped, 1);
			assert_int_equal(stats.records, 5);
			df_reader_close(&r);
			if (piped)
				assert_int_equal(close(spec.fd), 0);
		}
	}
}

static void test_reader__a_cut_archive_gives_what_stands_before_the_cut(void **state)
{
	(void)state;
	static char whole[1 << 20];
	struct df_reader_spec spec = spec_of("A");
	pack_tree(archive_write_set_format_ustar, NULL);
	FILE *f = fopen(path, "rb");
	size_t n = fread(whole, 1, sizeof(whole), f);
	(void)fclose(f);
	assert_true(n > 4096);
	for (size_t cut = 513; cut < 512 * 10; cut += 57) {
		struct df_fail fail = {DF_OK, ""};
		write_file(whole, cut);
		enum df_err err = read_all(&spec, &fail);
		assert_true(err == DF_ERR_CORRUPT || err == DF_ERR_END);
		assert_true(strncmp(out.p, tree, strlen(out.p)) == 0 || cut > 512 * 8);
		if (err == DF_ERR_CORRUPT)
			assert_non_null(strstr(fail.msg, "'A'"));
		else
			assert_true(cut % 512 == 0 || cut > 512 * 8);
	}
}

static void make_jsonl(struct df_buf *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(df_buf_addf(b, "{\"text\":\"%0*zu\"}\n", (int)(i * 7 % 400), i), DF_OK);
}

static void pack_jsonl(const struct df_buf *b, int (*filter)(struct archive *))
{
	struct archive *a = archive_write_new();
	assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
	assert_int_equal(filter(a), ARCHIVE_OK);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	struct archive_entry *e = archive_entry_new();
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_pathname(e, "x");
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	assert_int_equal(archive_write_data(a, b->p, b->n), (la_ssize_t)b->n);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_entry_free(e);
	archive_write_free(a);
}

static void test_reader__cells_depend_on_the_content_alone(void **state)
{
	(void)state;
	static int (*const filters[])(struct archive *) = {archive_write_add_filter_none, archive_write_add_filter_gzip,
							   archive_write_add_filter_zstd, archive_write_add_filter_xz,
							   archive_write_add_filter_bzip2};
	struct df_buf b;
	struct df_fail fail;
	char *first = NULL;
	df_buf_init(&b, 64 << 20);
	make_jsonl(&b, 6000);
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		struct df_reader_spec spec = spec_of("a.jsonl"); /* a wrong name: the magic decides */
		struct df_reader *r;
		pack_jsonl(&b, filters[i]);
		assert_int_equal(df_reader_open(&spec, &r, &fail), DF_OK);
		assert_int_equal(drain(r, true, &fail), DF_ERR_END);
		df_reader_close(&r);
		if (!first)
			first = strdup(out.p);
		assert_string_equal(out.p, first);
	}
	assert_non_null(strstr(first, "-\n"));
	free(first);
	df_buf_release(&b);
}

static void test_reader__a_cut_gzip_gives_all_whole_records_then_the_error(void **state)
{
	(void)state;
	static char whole[1 << 20];
	struct df_buf b;
	struct df_fail fail;
	struct df_reader_spec spec = spec_of("a.jsonl.gz");
	df_buf_init(&b, 64 << 20);
	make_jsonl(&b, 3000);
	pack_jsonl(&b, archive_write_add_filter_gzip);
	FILE *f = fopen(path, "rb");
	size_t n = fread(whole, 1, sizeof(whole), f);
	(void)fclose(f);
	write_file(whole, n - 100);
	struct df_reader *r;
	struct df_reader_stats stats;
	assert_int_equal(df_reader_open(&spec, &r, &fail), DF_OK);
	assert_int_equal(drain(r, false, &fail), DF_ERR_CORRUPT);
	assert_non_null(strstr(fail.msg, "gzip data of 'a.jsonl.gz' ends early"));
	df_reader_stats(r, &stats);
	assert_true(stats.delivered > 2500 && stats.delivered < 3000);
	struct df_cell_block cell;
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_ERR_CORRUPT); /* and it stays */
	df_reader_close(&r);
	for (char *line = out.p, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
		assert_true(end[-1] == '}'); /* no half record */
	df_buf_release(&b);
}

/* ------------------------------------------------------------------ counting, changes, live input */

static void test_reader__skip_and_limit_count_bad_records_too(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.jsonl");
	struct df_fail fail;
	struct df_reader_stats stats;
	struct df_reader *r;
	spec.max_record = 10;
	spec.skip = 1;
	spec.limit = 2;
	static const char text[] = "{\"a\":1}\n{\"long\":\"long long\"}\n{\"b\":2}\n{\"c\":3}\n";
	write_file(text, sizeof(text) - 1);
	assert_int_equal(df_reader_open(&spec, &r, &fail), DF_OK);
	assert_int_equal(drain(r, false, &fail), DF_ERR_END);
	assert_string_equal(out.p, "8:!limit a line longer than max-record=10 bytes []\n29:{\"b\":2}\n");
	df_reader_stats(r, &stats);
	assert_int_equal(stats.records, 3);
	assert_int_equal(stats.skipped, 1);
	assert_int_equal(stats.delivered, 2);
	df_reader_close(&r);
	spec.skip = 0;
	spec.limit = 0;
	assert_int_equal(read_all(&spec, &fail), DF_ERR_END);
	assert_string_equal(out.p, "");
}

static void test_reader__a_file_that_changed_is_told_before_and_after(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.jsonl");
	struct df_fail fail;
	struct df_reader *r;
	struct stat st;
	write_file("{\"text\":1}\n", 11);
	assert_int_equal(stat(path, &st), 0);
	df_file_id_of(&st, &spec.id);
	spec.check_id = true;
	assert_int_equal(read_all(&spec, &fail), DF_ERR_END);
	assert_int_equal(df_reader_open(&spec, &r, &fail), DF_OK);
	FILE *f = fopen(path, "ab");
	assert_int_equal(fputs("{}\n", f) >= 0 && fclose(f) == 0, 1);
	assert_int_equal(drain(r, false, &fail), DF_ERR_CHANGED);
	df_reader_close(&r);
	assert_int_equal(df_reader_open(&spec, &r, &fail), DF_ERR_CHANGED);
}

static void test_reader__missing_and_unreadable_sources_are_told(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.jsonl");
	struct df_fail fail;
	struct df_reader *r;
	spec.path = "/nonexistent/a.jsonl";
	assert_int_equal(df_reader_open(&spec, &r, &fail), DF_ERR_NOT_FOUND);
	spec.path = "/tmp"; /* a directory that looks like a file */
	assert_int_equal(read_all(&spec, &fail), DF_ERR_IO);
	assert_non_null(strstr(fail.msg, "cannot read 'a.jsonl' at byte 0"));
	spec = spec_of("a.tar.gz");
	write_file("no archive at all", 17);
	assert_int_equal(read_all(&spec, &fail), DF_ERR_CORRUPT);
	assert_string_equal(fail.msg, "'a.tar.gz' is not the archive its name says");
}

static void test_reader__silence_hands_out_whole_records_only(void **state)
{
	(void)state;
	int pipe_fd[2];
	struct df_fail fail;
	struct df_reader *r;
	struct df_cell_block cell;
	assert_int_equal(pipe(pipe_fd), 0);
	struct df_reader_spec spec = spec_of("-");
	spec.path = NULL;
	spec.fd = pipe_fd[0];
	spec.live = true;
	assert_int_equal(df_reader_open(&spec, &r, &fail), DF_OK);
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_ERR_AGAIN);
	assert_int_equal(write(pipe_fd[1], "{\"text\":1}\n{\"te", 15), 15);
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_OK);
	assert_int_equal(cell.n_record, 1);
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_ERR_AGAIN);
	assert_int_equal(write(pipe_fd[1], "xt\":2}\n", 7), 7);
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_OK);
	assert_int_equal(cell.ordinal, 1);
	assert_int_equal(cell.record[0].offset, 11);
	assert_memory_equal(cell.payload, "{\"text\":2}\n", 11);
	assert_int_equal(close(pipe_fd[1]), 0);
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_ERR_END);
	df_reader_close(&r);
	(void)close(pipe_fd[0]);
}

/* ------------------------------------------------------------------ signs of life */

struct answers {
	size_t n_again, n_record;
	uint64_t gap_bytes, gap_records; /* the most that went by between two answers */
	enum df_err end;
};

static void keep_most(uint64_t *most, uint64_t n)
{
	if (*most < n)
		*most = n;
}

static struct answers answers_of(const struct df_reader_spec *spec)
{
	struct answers a = {0};
	struct df_reader_stats was = {0}, is;
	struct df_cell_block cell;
	struct df_fail fail = {DF_OK, ""};
	struct df_reader *r;
	assert_int_equal(df_reader_open(spec, &r, &fail), DF_OK);
	do {
		a.end = df_reader_next_cell(r, &cell, &fail);
		df_reader_stats(r, &is);
		keep_most(&a.gap_bytes, is.bytes_out - was.bytes_out);
		keep_most(&a.gap_records, is.records - was.records + is.members_skipped - was.members_skipped);
		was = is;
		a.n_again += a.end == DF_ERR_AGAIN;
		a.n_record += a.end == DF_OK ? cell.n_record : 0;
	} while (a.end == DF_OK || a.end == DF_ERR_AGAIN);
	df_reader_close(&r);
	return a;
}

static void small_lines(struct df_buf *b, size_t n)
{
	df_buf_init(b, 64 << 20);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(df_buf_addz(b, "{\"text\":1}\n"), DF_OK);
}

/* One record came behind all that was passed over, with signs of life: often enough to live, too seldom to cost. */
static void assert_told(const struct answers *a, size_t n_again)
{
	assert_int_equal(a->end, DF_ERR_END);
	assert_int_equal(a->n_record, 1);
	assert_in_range(a->n_again, n_again, 300);
}

/* A tar at `path`, to be closed by the other. */
static struct archive *quick_tar(void)
{
	struct archive *a = archive_write_new();
	assert_int_equal(archive_write_set_format_ustar(a), ARCHIVE_OK);
	assert_int_equal(archive_write_add_filter_gzip(a), ARCHIVE_OK);
	assert_int_equal(archive_write_set_filter_option(a, "gzip", "compression-level", "1"), ARCHIVE_OK);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	return a;
}

static void close_tar(struct archive *a)
{
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
}

static void test_reader__passing_over_very_many_records_is_told_regularly(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.jsonl.gz");
	struct df_buf b;
	small_lines(&b, 300001);
	pack_jsonl(&b, archive_write_add_filter_gzip);
	spec.skip = 300000;
	struct answers a = answers_of(&spec);
	assert_told(&a, 4);
	assert_true(a.gap_records <= 65536);
	df_buf_release(&b);
}

static void test_reader__passing_over_very_many_bytes_is_told_regularly(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.jsonl.gz");
	struct df_buf b;
	df_buf_init(&b, 64 << 20);
	for (size_t i = 0; i < 401; i++)
		assert_int_equal(df_buf_addf(&b, "{\"text\":\"%0*d\"}\n", 100000, 7), DF_OK);
	pack_jsonl(&b, archive_write_add_filter_gzip);
	spec.skip = 400;
	struct answers a = answers_of(&spec);
	assert_told(&a, 3);
	assert_true(a.gap_bytes <= 10 << 20);
	df_buf_release(&b);
}

static void test_reader__very_many_blank_lines_are_passed_over_with_signs_of_life(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.jsonl");
	static char blank[40 << 20];
	memset(blank, '\n', sizeof(blank));
	memcpy(blank + sizeof(blank) - 2, "{}", 2);
	write_file(blank, sizeof(blank));
	struct answers a = answers_of(&spec);
	assert_told(&a, 3);
	assert_true(a.gap_bytes <= 10 << 20);
}

static void test_reader__members_without_documents_are_passed_over_with_signs_of_life(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("A");
	struct archive *a = quick_tar();
	for (size_t i = 0; i < 140000; i++)
		add_member(a, "pic.png", "", 0);
	add_member(a, "t.txt", "x", 1);
	close_tar(a);
	struct answers seen = answers_of(&spec);
	assert_told(&seen, 2);
	assert_true(seen.gap_records <= 65536);
}

static void test_reader__a_large_member_without_documents_is_passed_over_with_signs_of_life(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("A");
	static char large[40 << 20];
	struct archive *a = quick_tar();
	add_member(a, "film.mkv", large, sizeof(large));
	add_member(a, "t.txt", "x", 1);
	close_tar(a);
	struct answers seen = answers_of(&spec);
	assert_told(&seen, 3);
}

static void test_reader__what_is_delivered_needs_no_other_sign_of_life(void **state)
{
	(void)state;
	struct df_reader_spec spec = spec_of("a.jsonl");
	struct df_buf b;
	small_lines(&b, 300000);
	write_file(b.p, b.n);
	struct answers a = answers_of(&spec);
	assert_int_equal(a.n_record, 300000);
	assert_int_equal(a.n_again, 0);
	df_buf_release(&b);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_reader__jsonl_csv_tsv_and_text_all_become_json),
		T(test_reader__bad_records_are_told_and_cost_nothing_else),
		T(test_reader__a_csv_header_must_make_sense),
		T(test_reader__members_of_archives_are_read_by_their_names),
		T(test_reader__a_cut_archive_gives_what_stands_before_the_cut),
		T(test_reader__cells_depend_on_the_content_alone),
		T(test_reader__a_cut_gzip_gives_all_whole_records_then_the_error),
		T(test_reader__skip_and_limit_count_bad_records_too),
		T(test_reader__a_file_that_changed_is_told_before_and_after),
		T(test_reader__missing_and_unreadable_sources_are_told),
		T(test_reader__silence_hands_out_whole_records_only),
		T(test_reader__passing_over_very_many_records_is_told_regularly),
		T(test_reader__passing_over_very_many_bytes_is_told_regularly),
		T(test_reader__very_many_blank_lines_are_passed_over_with_signs_of_life),
		T(test_reader__members_without_documents_are_passed_over_with_signs_of_life),
		T(test_reader__a_large_member_without_documents_is_passed_over_with_signs_of_life),
		T(test_reader__what_is_delivered_needs_no_other_sign_of_life),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
