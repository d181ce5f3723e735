// SPDX-License-Identifier: Apache-2.0
/* Decompression: members, frames, truncation at every byte, damage; input portioned at will. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include "base/buf.h"
#include "worker/read/stream.h"

struct memory {
	struct df_stream base;
	const uint8_t *p;
	size_t n, at, step;
	bool silent; /* every other call */
};

static enum df_err memory_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct memory *m = (struct memory *)s;
	size_t left = m->n - m->at;
	if (left == 0)
		return DF_ERR_END;
	m->silent = !m->silent;
	if (m->silent && m->step == 1)
		return df_fail(fail, DF_ERR_AGAIN, "silent");
	n = n < left ? n : left;
	n = n < m->step ? n : m->step;
	memcpy(p, m->p + m->at, n);
	m->at += n;
	*ret_n = n;
	return DF_OK;
}

static uint8_t packed[1 << 20];
static char plain[200000], result[1 << 20];

static void make_plain(void)
{
	uint32_t r = 1;
	for (size_t i = 0; i < sizeof(plain); i++) {
		r = r * 1664525 + 1013904223;
		plain[i] = i % 97 == 96 ? '\n' : (char)('a' + (r >> 24) % 13);
	}
}

static size_t pack_gzip(uint8_t *to, size_t cap, const char *from, size_t n)
{
	struct isal_zstream z;
	isal_deflate_init(&z);
	z.end_of_stream = 1;
	z.gzip_flag = IGZIP_GZIP;
	z.next_in = (uint8_t *)(uintptr_t)from;
	z.avail_in = (uint32_t)n;
	z.next_out = to;
	z.avail_out = (uint32_t)cap;
	assert_int_equal(isal_deflate(&z), COMP_OK);
	return z.total_out;
}

static size_t pack_zstd(uint8_t *to, size_t cap, const char *from, size_t n)
{
	size_t got = ZSTD_compress(to, cap, from, n, 1);
	assert_false(ZSTD_isError(got));
	return got;
}

static size_t pack_archive(int (*filter)(struct archive *), uint8_t *to, size_t cap, const char *from, size_t n)
{
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();
	size_t used = 0;
	assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
	assert_int_equal(filter(a), ARCHIVE_OK);
	archive_write_set_bytes_in_last_block(a, 1);
	assert_int_equal(archive_write_open_memory(a, to, cap, &used), ARCHIVE_OK);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_pathname(e, "data");
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	assert_int_equal(archive_write_data(a, from, n), (la_ssize_t)n);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_entry_free(e);
	archive_write_free(a);
	return used;
}

static size_t pack_xz(uint8_t *to, size_t cap, const char *from, size_t n)
{
	return pack_archive(archive_write_add_filter_xz, to, cap, from, n);
}

static size_t pack_bzip2(uint8_t *to, size_t cap, const char *from, size_t n)
{
	return pack_archive(archive_write_add_filter_bzip2, to, cap, from, n);
}

static const struct {
	const char *name;
	size_t (*pack)(uint8_t *to, size_t cap, const char *from, size_t n);
	enum df_codec codec;
} codecs[] = {{"gzip", pack_gzip, DF_CODEC_GZIP},
	      {"zstd", pack_zstd, DF_CODEC_ZSTD},
	      {"xz", pack_xz, DF_CODEC_XZ},
	      {"bzip2", pack_bzip2, DF_CODEC_BZIP2}};

/* Decompress everything; the bytes that came are in `result`. */
static enum df_err unpack(size_t n_packed, enum df_codec codec, size_t step_in, size_t step_out, size_t *ret_n,
			  struct df_fail *fail)
{
	uint8_t *exact = malloc(n_packed + 1);
	assert_non_null(exact);
	memcpy(exact, packed, n_packed);
	struct memory m = {{memory_read, NULL, "x.gz", 0}, exact, n_packed, 0, step_in, false};
	struct df_stream *s = NULL;
	size_t n = 0;
	enum df_err err = df_stream_decompress(&m.base, codec, &s, fail);
	while (err == DF_OK || err == DF_ERR_AGAIN) {
		size_t got = 0;
		assert_true(n + step_out <= sizeof(result));
		err = df_stream_read(s, result + n, step_out, &got, fail);
		if (err == DF_OK) {
			assert_in_range(got, 1, step_out);
			n += got;
		}
	}
	for (int again = 0; s && again < 2; again++) { /* an end, and a fault, stay */
		size_t got = 0;
		char byte;
		assert_int_equal(df_stream_read(s, &byte, 1, &got, fail), err);
	}
	df_stream_destroy(&s);
	free(exact);
	*ret_n = n;
	return err;
}

static void test_inflate__gives_back_what_was_packed_in_any_portions(void **state)
{
	(void)state;
	static const size_t steps[] = {1, 7, 4096, 1 << 17};
	make_plain();
	for (size_t c = 0; c < 4; c++) {
		size_t n = codecs[c].pack(packed, sizeof(packed), plain, sizeof(plain));
		assert_int_equal(df_codec_of(packed, n), codecs[c].codec);
		for (size_t i = 0; i < 16; i++) {
			size_t got = 0;
			struct df_fail fail;
			enum df_err err = unpack(n, codecs[c].codec, steps[i / 4], steps[i % 4], &got, &fail);
			if (err != DF_ERR_END)
				print_error("%s: %s\n", codecs[c].name, fail.msg);
			assert_int_equal(err, DF_ERR_END);
			assert_int_equal(got, sizeof(plain));
			assert_memory_equal(result, plain, got);
		}
	}
}

static void test_inflate__members_behind_each_other_are_one_stream(void **state)
{
	(void)state;
	make_plain();
	for (size_t c = 0; c < 4; c++) {
		size_t n = 0;
		static const size_t parts[] = {10, 0, 150000, 1};
		size_t total = 0;
		for (size_t i = 0; i < 4; i++) {
			if (parts[i] == 0 && codecs[c].codec == DF_CODEC_BZIP2)
				continue;
			n += codecs[c].pack(packed + n, sizeof(packed) - n, plain + total, parts[i]);
			total += parts[i];
		}
		for (size_t step = 1; step < 100000; step = step * 5 + 2) {
			size_t got = 0;
			struct df_fail fail;
			enum df_err err = unpack(n, codecs[c].codec, step, 5000, &got, &fail);
			if (err != DF_ERR_END)
				print_error("%s: %s\n", codecs[c].name, fail.msg);
			assert_int_equal(err, DF_ERR_END);
			assert_int_equal(got, total);
			assert_memory_equal(result, plain, total);
		}
	}
}

static void test_inflate__truncation_at_every_byte_is_told(void **state)
{
	(void)state;
	make_plain();
	for (size_t c = 0; c < 4; c++) {
		size_t n = codecs[c].pack(packed, sizeof(packed), plain, 600);
		for (size_t cut = 11; cut < n; cut++) {
			size_t got = 0;
			struct df_fail fail = {DF_OK, ""};
			enum df_err err = unpack(cut, codecs[c].codec, 50, 64, &got, &fail);
			if (err != DF_ERR_CORRUPT)
				print_error("%s cut at %zu of %zu: %s\n", codecs[c].name, cut, n, df_err_name(err));
			assert_int_equal(err, DF_ERR_CORRUPT);
			assert_non_null(strstr(fail.msg, "'x.gz'"));
			assert_true(got <= 600);
			assert_memory_equal(result, plain, got);
		}
	}
}

static void test_inflate__what_stands_before_a_cut_comes_out(void **state)
{
	(void)state;
	make_plain();
	for (size_t c = 0; c < 2; c++) { /* the two that stream: at most a window of the end is missing */
		size_t n = codecs[c].pack(packed, sizeof(packed), plain, sizeof(plain));
		size_t got = 0;
		struct df_fail fail;
		assert_int_equal(unpack(n - 4, codecs[c].codec, 1 << 17, 1 << 17, &got, &fail), DF_ERR_CORRUPT);
		assert_true(got >= sizeof(plain) - (c == 0 ? 0 : 128 << 10));
		assert_memory_equal(result, plain, got);
	}
}

static void test_inflate__damage_never_passes_for_the_whole(void **state)
{
	(void)state;
	make_plain();
	for (size_t c = 0; c < 4; c++) {
		size_t n = codecs[c].pack(packed, sizeof(packed), plain, 3000), changed = 0;
		for (size_t at = 12; at < n; at += 3) {
			size_t got = 0;
			struct df_fail fail;
			packed[at] ^= 0x10;
			enum df_err err = unpack(n, codecs[c].codec, 4096, 4096, &got, &fail);
			packed[at] ^= 0x10;
			bool same = got == 3000 && memcmp(result, plain, 3000) == 0;
			if (err == DF_ERR_END && !same &&
			    codecs[c].codec != DF_CODEC_ZSTD) /* zstd has no checksum here */
				changed++;
		}
		assert_int_equal(changed, 0);
	}
}

static void test_inflate__zeros_behind_gzip_are_padding_and_anything_else_is_not(void **state)
{
	(void)state;
	make_plain();
	size_t n = pack_gzip(packed, sizeof(packed), plain, 1000), got = 0;
	struct df_fail fail;
	memset(packed + n, 0, 600);
	for (size_t step = 1; step < 2000; step = step * 3 + 1) {
		assert_int_equal(unpack(n + 600, DF_CODEC_GZIP, step, 4096, &got, &fail), DF_ERR_END);
		assert_int_equal(got, 1000);
	}
	packed[n + 3] = 'x';
	assert_int_equal(unpack(n + 600, DF_CODEC_GZIP, 4096, 4096, &got, &fail), DF_ERR_CORRUPT);
	assert_int_equal(got, 1000);
	assert_non_null(strstr(fail.msg, "something else behind its end"));
}

static void test_inflate__text_is_never_taken_for_compressed(void **state)
{
	(void)state;
	static const char *const text[] = {"{\"text\":1}", "BZh9 is how bzip2 begins", "PK", "", "\x1f", "(\xb5/"};
	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		assert_int_equal(df_codec_of((const uint8_t *)text[i], strlen(text[i])), DF_CODEC_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inflate__gives_back_what_was_packed_in_any_portions),
		cmocka_unit_test(test_inflate__members_behind_each_other_are_one_stream),
		cmocka_unit_test(test_inflate__truncation_at_every_byte_is_told),
		cmocka_unit_test(test_inflate__what_stands_before_a_cut_comes_out),
		cmocka_unit_test(test_inflate__damage_never_passes_for_the_whole),
		cmocka_unit_test(test_inflate__zeros_behind_gzip_are_padding_and_anything_else_is_not),
		cmocka_unit_test(test_inflate__text_is_never_taken_for_compressed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
