// SPDX-License-Identifier: Apache-2.0
/*
 * Seeking in .zst files of many frames: from every cell on the same cells come as when all is read, whatever the frames are like; and where it
 * cannot be, nothing is changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include <fcntl.h>
#include <zstd.h>

#include "base/buf.h"
#include "worker/read/reader.h"
#include "worker/read/zstd_frames.h"

#define N_CELL_MAX 4096

static char path[64];

struct cell {
	uint64_t offset, hash, records;
};

static struct cell all[N_CELL_MAX];
static size_t n_all;

static int set_up(void **state)
{
	(void)state;
	(void)snprintf(path, sizeof(path), "%s", "/tmp/df_test_seek_XXXXXX");
	int fd = mkstemp(path);
	return fd < 0 || close(fd) != 0;
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(path);
}

static struct df_reader *open_reader(const char *name)
{
	struct df_reader_spec spec = {.path = path,
				      .fd = -1,
				      .name = name,
				      .id_key = "id",
				      .text_key = "text",
				      .limit = UINT64_MAX,
				      .max_record = 1 << 20,
				      .cell_bytes = 8192};
	struct df_reader *r = NULL;
	struct df_fail fail;
	assert_int_equal(df_reader_open(&spec, &r, &fail), DF_OK);
	return r;
}

static void write_file(const struct df_buf *b)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(b->p, 1, b->n, f), b->n);
	assert_int_equal(fclose(f), 0);
}

/* Lines of all lengths, some blank, a BOM, CR LF; about n bytes. */
static void add_lines(struct df_buf *b, size_t n)
{
	uint64_t seed = 7;
	(void)df_buf_addz(b, "\xef\xbb\xbf");
	while (b->n < n) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		(void)df_buf_addf(b, "{\"text\":\"%llx", (unsigned long long)seed);
		for (size_t i = 0; i < (seed >> 40) % 4000; i++)
			(void)df_buf_addc(b, (char)('a' + (seed >> i % 50) % 26));
		(void)df_buf_addz(b, seed >> 62 ? "\"}\n" : "\"}\r\n\n  \n");
	}
	assert_int_equal(df_buf_err(b), DF_OK);
}

struct packing {
	size_t frame;
	bool size, checksum, skippable;
};

static void pack(const struct df_buf *from, struct df_buf *to, const struct packing *how)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	(void)ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 1);
	(void)ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, how->size);
	(void)ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, how->checksum);
	for (size_t at = 0; at < from->n; at += how->frame) {
		size_t n = from->n - at < how->frame ? from->n - at : how->frame;
		assert_int_equal(df_buf_reserve(to, ZSTD_compressBound(n)), DF_OK);
		size_t got = ZSTD_compress2(c, to->p + to->n, ZSTD_compressBound(n), from->p + at, n);
		assert_false(ZSTD_isError(got));
		to->n += got;
		if (how->skippable)
			(void)df_buf_add(to, "\x5a\x2a\x4d\x18\x03\0\0\0abc", 11);
	}
	(void)ZSTD_freeCCtx(c);
}

static void read_all(const char *name)
{
	struct df_reader *r = open_reader(name);
	struct df_cell_block cell;
	struct df_fail fail;
	for (n_all = 0; df_reader_next_cell(r, &cell, &fail) == DF_OK; n_all++) {
		assert_true(n_all < N_CELL_MAX);
		all[n_all] = (struct cell){cell.record[0].offset, cell.hash, cell.n_record};
	}
	df_reader_close(&r);
}

static uint64_t records_before(size_t k, size_t from)
{
	uint64_t n = 0;
	for (size_t i = from; i < k; i++)
		n += all[i].records;
	return n;
}

static void expect_from(struct df_reader *r, size_t k, size_t upto)
{
	struct df_cell_block cell;
	struct df_fail fail;
	for (size_t i = k; i < upto; i++) {
		assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_OK);
		assert_int_equal(cell.ordinal, i);
		assert_true(cell.hash == all[i].hash && cell.record[0].offset == all[i].offset);
	}
	struct df_reader_stats stats;
	if (upto < n_all)
		return;
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_ERR_END);
	df_reader_stats(r, &stats);
	assert_int_equal(stats.records, records_before(n_all, 0));
}

static void test_seek__from_every_cell_on_the_same_cells_come(void **state)
{
	static const struct packing how[] = {{100000, true, false, false},
					     {5000, true, true, true},
					     {400000, true, true, false},
					     {300, true, false, true}};
	struct df_fail fail;
	(void)state;
	for (size_t h = 0; h < sizeof(how) / sizeof(*how); h++) {
		struct df_buf plain, packed;
		df_buf_init(&plain, 64 << 20);
		df_buf_init(&packed, 64 << 20);
		add_lines(&plain, 3 << 20);
		pack(&plain, &packed, &how[h]);
		write_file(&packed);
		read_all("a.jsonl.zst");
		assert_true(n_all > 200);
		size_t n_sought = 0;
		for (size_t k = 0; k < n_all; k += k < 3 || k + 3 > n_all ? 1 : 7) {
			struct df_reader *r = open_reader("a.jsonl.zst");
			enum df_err err = df_reader_seek(r, k, all[k].offset, records_before(k, 0), &fail);
			assert_true(err == DF_OK || err == DF_ERR_UNSUPPORTED);
			n_sought += err == DF_OK;
			expect_from(r, err == DF_OK ? k : 0, n_all);
			df_reader_close(&r);
		}
		assert_true(n_sought > n_all / 7 / 2);
		/* read, seek, read, seek, read */
		struct df_reader *r = open_reader("a.jsonl.zst");
		size_t third = n_all / 3;
		expect_from(r, 0, 5);
		assert_int_equal(
			df_reader_seek(r, third + 70, all[third + 70].offset, records_before(third + 70, 5), &fail),
			DF_OK);
		expect_from(r, third + 70, third + 75);
		assert_int_equal(df_reader_seek(r, 3, all[3].offset, 0, &fail), DF_ERR_UNSUPPORTED); /* backwards */
		assert_int_equal(df_reader_seek(r, n_all - 1, all[n_all - 1].offset,
						records_before(n_all - 1, third + 75), &fail),
				 DF_OK);
		expect_from(r, n_all - 1, n_all);
		df_reader_close(&r);
		df_buf_release(&plain);
		df_buf_release(&packed);
	}
}

static void test_seek__where_it_cannot_be_nothing_is_changed(void **state)
{
	static const struct packing untold = {100000, false, false, false}, one = {64 << 20, true, false, false};
	struct df_buf plain, packed;
	struct df_fail fail;
	(void)state;
	df_buf_init(&plain, 64 << 20);
	df_buf_init(&packed, 64 << 20);
	add_lines(&plain, 3 << 20);
	for (int i = 0; i < 3; i++) {
		df_buf_reset(&packed);
		if (i < 2)
			pack(&plain, &packed, i ? &one : &untold);
		write_file(i < 2 ? &packed : &plain);
		const char *name = i < 2 ? "a.jsonl.zst" : "a.jsonl";
		read_all(name);
		struct df_reader *r = open_reader(name);
		assert_int_equal(df_reader_seek(r, n_all - 1, all[n_all - 1].offset, 0, &fail), DF_ERR_UNSUPPORTED);
		expect_from(r, 0, n_all);
		df_reader_close(&r);
	}
	df_buf_release(&plain);
	df_buf_release(&packed);
}

static void test_seek__a_file_that_got_shorter_is_told(void **state)
{
	static const struct packing how = {100000, true, false, false};
	struct df_buf plain, packed;
	struct df_fail fail;
	struct df_cell_block cell;
	(void)state;
	df_buf_init(&plain, 64 << 20);
	df_buf_init(&packed, 64 << 20);
	add_lines(&plain, 1 << 20);
	pack(&plain, &packed, &how);
	write_file(&packed);
	read_all("a.jsonl.zst");
	struct df_reader *r = open_reader("a.jsonl.zst");
	enum df_err err = df_reader_seek(r, n_all + 5, plain.n + 50000, 0, &fail);
	assert_int_equal(err, DF_ERR_CHANGED);
	assert_int_equal(df_reader_next_cell(r, &cell, &fail), DF_ERR_CHANGED); /* it stays */
	df_reader_close(&r);
	df_buf_release(&plain);
	df_buf_release(&packed);
}

/* Any cut of a file, and any wrong byte in it, stops the hops at a frame's start that is true. */
static void test_zstd_hop__stops_at_what_is_not_as_it_must_be(void **state)
{
	static const struct packing how = {300, true, true, true};
	struct df_buf plain, packed;
	(void)state;
	df_buf_init(&plain, 64 << 20);
	df_buf_init(&packed, 64 << 20);
	add_lines(&plain, 4000);
	pack(&plain, &packed, &how);
	for (size_t i = 0; i < 2 * packed.n; i++) {
		struct df_buf b = packed;
		char was = packed.p[i / 2];
		if (i % 2)
			b.n = i / 2;
		else
			packed.p[i / 2] = (char)(was ^ (1 << i % 7));
		write_file(&b);
		packed.p[i / 2] = was;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		struct df_zstd_place place = {0};
		df_zstd_hop(fd, 1000000, &place);
		assert_true(place.compressed == 0 || place.compressed < b.n);
		struct df_zstd_place again = place;
		df_zstd_hop(fd, 1000000, &again);
		assert_true(again.compressed == place.compressed && again.decompressed == place.decompressed);
		(void)close(fd);
	}
	df_buf_release(&plain);
	df_buf_release(&packed);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_seek__from_every_cell_on_the_same_cells_come),
		T(test_seek__where_it_cannot_be_nothing_is_changed),
		T(test_seek__a_file_that_got_shorter_is_told),
		T(test_zstd_hop__stops_at_what_is_not_as_it_must_be),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
