// SPDX-License-Identifier: Apache-2.0
/* Messages: pinned bytes, round trips with random content, and frames that somebody hostile or broken could send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <msgpack.h>

#include "base/limits.h"
#include "tests/wire/help_messages.h"

struct bench {
	struct df_arena arena;
	struct df_buf buf;
	struct df_fail fail;
};

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	df_arena_init(&b->arena, 64U << 20, 1U << 20);
	df_buf_init(&b->buf, 16U << 20);
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;
	df_arena_release(&b->arena);
	df_buf_release(&b->buf);
	free(b);
	return 0;
}

/* The frame in memory of exactly its size, so that a sanitizer sees a read behind it. */
static enum df_err unpack_exact(struct bench *b, const void *p, size_t n, struct df_msg *ret_msg)
{
	char *exact = malloc(n ? n : 1);
	memcpy(exact, p, n);
	struct df_str frame = {exact, n};
	enum df_err checked = df_unpack_check(frame, NULL);
	enum df_err err = df_msg_unpack(frame, &b->arena, ret_msg, &b->fail);
	if (checked != DF_OK)
		assert_int_equal(err, checked);
	free(exact);
	return err;
}

static enum df_err unpack_text(struct bench *b, struct df_str frame)
{
	struct df_msg m;
	memset(&m, 0xa5, sizeof(m));
	enum df_err err = unpack_exact(b, frame.p, frame.n, &m);
	if (err != DF_OK)
		assert_int_equal(m.type, 0xa5a5a5a5);
	df_arena_reset(&b->arena);
	return err;
}

/* --- golden --- */

static size_t read_hex(const char *name, unsigned char *out, size_t cap)
{
	char path[256];
	unsigned byte;
	size_t n = 0;
	(void)snprintf(path, sizeof(path), "tests/wire/golden/%s.hex", name);
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open %s", path);
	while (n < cap && fscanf(f, "%2x", &byte) == 1)
		out[n++] = (unsigned char)byte;
	(void)fclose(f);
	return n;
}

static void test_messages__each_type_has_its_pinned_bytes(void **state)
{
	struct bench *b = *state;
	bool seen[DF_MSG_SOURCE_END + 1] = {false};
	unsigned char want[1024];
	for (size_t i = 0; i < help_n_golden; i++) {
		size_t n = read_hex(help_golden[i].name, want, sizeof(want));
		df_buf_reset(&b->buf);
		assert_int_equal(df_msg_pack(&help_golden[i].msg, &b->buf), DF_OK);
		assert_int_equal(b->buf.n, n);
		assert_memory_equal(b->buf.p, want, n);
		struct df_msg back;
		struct df_str frame = {(const char *)want, n};
		assert_int_equal(df_msg_unpack(frame, &b->arena, &back, &b->fail), DF_OK);
		assert_true(help_same_message(&help_golden[i].msg, &back));
		seen[back.type] = true;
	}
	for (int type = DF_MSG_HELLO; type <= DF_MSG_SOURCE_END; type++)
		assert_true(seen[type]);
}

/* --- round trips --- */

static void test_messages__random_ones_come_back_the_same(void **state)
{
	struct bench *b = *state;
	uint64_t seed = 20240607;
	struct df_rand rnd = df_rand_seeded(&seed);
	for (int i = 0; i < 20000; i++) {
		df_arena_reset(&b->arena);
		df_buf_reset(&b->buf);
		struct df_msg back, m = help_random_message(rnd, &b->arena);
		size_t longest = m.type == DF_MSG_NOTICE ? m.notice.reason.n : 0;
		enum df_err err = df_msg_pack(&m, &b->buf);
		if (err == DF_ERR_LIMIT) { /* a string or a header over its bound: refused, and nothing of it is left */
			assert_int_equal(b->buf.n, 0);
			continue;
		}
		assert_int_equal(err, DF_OK);
		assert_true(longest <= DF_STRING_BYTES_MAX);
		if (df_msg_unpack(df_buf_str(&b->buf), &b->arena, &back, &b->fail) != DF_OK)
			fail_msg("message %d: %s", i, b->fail.msg);
		if (!help_same_message(&m, &back))
			fail_msg("message %d of type %u came back different", i, m.type);
	}
}

static void test_messages__strings_point_into_the_frame(void **state)
{
	struct bench *b = *state;
	struct df_msg back;
	assert_int_equal(df_msg_pack(&help_golden[1].msg, &b->buf), DF_OK);
	assert_int_equal(df_msg_unpack(df_buf_str(&b->buf), &b->arena, &back, NULL), DF_OK);
	assert_true(back.notice.reason.p > b->buf.p && back.notice.reason.p < b->buf.p + b->buf.n);
}

/* --- nasty frames --- */

static void test_messages__a_frame_cut_anywhere_is_refused(void **state)
{
	struct bench *b = *state;
	for (size_t i = 0; i < help_n_golden; i++) {
		df_buf_reset(&b->buf);
		assert_int_equal(df_msg_pack(&help_golden[i].msg, &b->buf), DF_OK);
		for (size_t n = 0; n < b->buf.n; n++)
			assert_int_equal(unpack_text(b, (struct df_str){b->buf.p, n}), DF_ERR_PARSE);
		assert_int_equal(unpack_text(b, df_buf_str(&b->buf)), DF_OK);
	}
}

static void test_messages__bytes_behind_the_end_are_refused(void **state)
{
	struct bench *b = *state;
	for (size_t i = 0; i < help_n_golden; i++) {
		df_buf_reset(&b->buf);
		assert_int_equal(df_msg_pack(&help_golden[i].msg, &b->buf), DF_OK);
		assert_int_equal(df_buf_addc(&b->buf, '\0'), DF_OK);
		assert_int_equal(unpack_text(b, df_buf_str(&b->buf)), DF_ERR_PARSE);
	}
}

/* Every byte of every golden frame replaced by every other: never a crash, and what is accepted packs again. */
static void test_messages__a_changed_byte_gives_an_error_or_another_message(void **state)
{
	struct bench *b = *state;
	struct df_buf again;
	struct df_msg m;
	df_buf_init(&again, 16U << 20);
	for (size_t i = 0; i < help_n_golden; i++) {
		df_buf_reset(&b->buf);
		assert_int_equal(df_msg_pack(&help_golden[i].msg, &b->buf), DF_OK);
		for (size_t at = 0; at < b->buf.n; at++) {
			char old = b->buf.p[at];
			for (int v = 0; v < 256; v++) {
				b->buf.p[at] = (char)v;
				df_arena_reset(&b->arena);
				if (df_msg_unpack(df_buf_str(&b->buf), &b->arena, &m, NULL) == DF_OK) {
					df_buf_reset(&again);
					assert_int_equal(df_msg_pack(&m, &again), DF_OK);
				}
			}
			b->buf.p[at] = old;
		}
	}
	df_buf_release(&again);
}

static void test_messages__five_bytes_cannot_ask_for_gigabytes(void **state)
{
	struct bench *b = *state;
	assert_int_equal(unpack_text(b, DF_STR("\xdd\xff\xff\xff\xff")), DF_ERR_PARSE); /* array */
	assert_int_equal(unpack_text(b, DF_STR("\xdf\xff\xff\xff\xff")),
			 DF_ERR_PARSE); /* map: 2 * count must not wrap */
	assert_int_equal(unpack_text(b, DF_STR("\xdf\x80\x00\x00\x00")), DF_ERR_PARSE);
	assert_int_equal(unpack_text(b, DF_STR("\xdb\xff\xff\xff\xff")), DF_ERR_PARSE); /* string */
	assert_int_equal(unpack_text(b, DF_STR("\xc6\xff\xff\xff\xff")), DF_ERR_PARSE); /* bytes */
	assert_int_equal(unpack_text(b, DF_STR("\xc9\xff\xff\xff\xff")), DF_ERR_PARSE); /* extension */
	assert_int_equal(unpack_text(b, DF_STR("\xc9\xff\xff\xff\xff\x01")), DF_ERR_PARSE);
	assert_int_equal(b->arena.total, 0);
}

static void test_messages__depth_has_a_bound(void **state)
{
	struct bench *b = *state;
	for (int depth = 1; depth <= 64; depth++) {
		df_buf_reset(&b->buf);
		for (int i = 0; i < depth; i++)
			assert_int_equal(df_buf_addc(&b->buf, '\x91'), DF_OK);
		assert_int_equal(df_buf_addc(&b->buf, '\x01'), DF_OK);
		enum df_err want = depth <= DF_UNPACK_DEPTH ? DF_OK : DF_ERR_LIMIT;
		assert_int_equal(df_unpack_check(df_buf_str(&b->buf), NULL), want);
	}
}

static void test_messages__elements_have_a_bound_in_all(void **state)
{
	struct bench *b = *state;
	for (uint32_t n = DF_UNPACK_ITEMS - 2; n <= DF_UNPACK_ITEMS + 1; n++) {
		const unsigned char head[] = {0xdd, (unsigned char)(n >> 24), (unsigned char)(n >> 16),
					      (unsigned char)(n >> 8), (unsigned char)n};
		df_buf_reset(&b->buf);
		assert_int_equal(df_buf_add(&b->buf, head, sizeof(head)), DF_OK);
		assert_int_equal(df_buf_reserve(&b->buf, n), DF_OK);
		memset(b->buf.p + b->buf.n, 1, n);
		b->buf.n += n;
		assert_int_equal(df_unpack_check(df_buf_str(&b->buf), NULL),
				 n < DF_UNPACK_ITEMS ? DF_OK : DF_ERR_LIMIT);
	}
}

static void test_messages__strings_and_frames_have_a_bound(void **state)
{
	struct bench *b = *state;
	size_t n = DF_HEADER_BYTES_MAX + 1;
	char *p = calloc(1, n);
	memcpy(p, "\xdb\x00\x01\x00\x00", 5);
	assert_int_equal(df_unpack_check((struct df_str){p, 5 + 65536}, NULL), DF_OK);
	p[4] = 1;
	assert_int_equal(df_unpack_check((struct df_str){p, 5 + 65537}, NULL), DF_ERR_LIMIT);
	assert_int_equal(df_unpack_check((struct df_str){p, n}, &b->fail), DF_ERR_LIMIT);
	free(p);
}

static void test_messages__another_version_is_named_as_such(void **state)
{
	struct bench *b = *state;
	assert_int_equal(unpack_text(b, DF_STR("\x92\x02\x01")), DF_ERR_VERSION);
	assert_non_null(strstr(b->fail.msg, "version 2"));
	assert_int_equal(unpack_text(b, DF_STR("\x91\x00")), DF_ERR_VERSION);
	assert_int_equal(unpack_text(b, DF_STR("\x91\xa1"
					       "1")),
			 DF_ERR_PARSE);
	assert_int_equal(unpack_text(b, DF_STR("\x01")), DF_ERR_PARSE);
	assert_int_equal(unpack_text(b, DF_STR("\x90")), DF_ERR_PARSE);
	assert_int_equal(unpack_text(b, DF_STR("")), DF_ERR_PARSE);
}

#define BYTES(lit)                                                                                                     \
	{                                                                                                              \
		(lit), sizeof(lit) - 1                                                                                 \
	}

/* A CREDIT with one field at a time replaced by an item of another type or range. */
static void test_messages__wrong_types_and_ranges_are_refused(void **state)
{
	struct bench *b = *state;
	static const struct {
		struct df_str frame;
		enum df_err want;
	} rows[] = {
		{BYTES("\x96\x01\x07\x03\x05\x06\x09"), DF_OK},
		{BYTES("\x96\x01\x07\x03\x05\x06\xcf\x00\x00\x00\x00\x00\x00\x00\x09"), DF_OK}, /* not the shortest */
		{BYTES("\x96\x01\x07\x03\x05\x06\xd0\x09"), DF_OK},    /* signed, but positive */
		{BYTES("\x96\x01\x07\x03\x05\x06\xff"), DF_ERR_PARSE}, /* -1 */
		{BYTES("\x96\x01\x07\x03\x05\x06\xd1\xff\x00"), DF_ERR_PARSE},
		{BYTES("\x96\x01\x07\x03\x05\x06\xc0"), DF_ERR_PARSE},                                 /* nil */
		{BYTES("\x96\x01\x07\x03\x05\x06\xc3"), DF_ERR_PARSE},                                 /* true */
		{BYTES("\x96\x01\x07\x03\x05\x06\xca\x00\x00\x00\x00"), DF_ERR_PARSE},                 /* float */
		{BYTES("\x96\x01\x07\x03\x05\x06\xa1\x39"), DF_ERR_PARSE},                             /* "9" */
		{BYTES("\x96\x01\x07\x03\x05\x06\xc4\x01\x09"), DF_ERR_PARSE},                         /* bytes */
		{BYTES("\x96\x01\x07\x03\x05\x06\xd4\x01\x09"), DF_ERR_PARSE},                         /* extension */
		{BYTES("\x96\x01\x07\x03\x05\x06\x91\x09"), DF_ERR_PARSE},                             /* [9] */
		{BYTES("\x96\x01\x07\x03\x05\x06\x80"), DF_ERR_PARSE},                                 /* {} */
		{BYTES("\x96\x01\x07\x03\x05\x06\xc1"), DF_ERR_PARSE},                                 /* no item */
		{BYTES("\x96\x01\x00\x03\x05\x06\x09"), DF_ERR_PARSE},                                 /* type 0 */
		{BYTES("\x96\x01\x0a\x03\x05\x06\x09"), DF_ERR_PARSE},                                 /* type 10 */
		{BYTES("\x96\x01\x07\xcf\x00\x00\x00\x01\x00\x00\x00\x00\x05\x06\x09"), DF_ERR_PARSE}, /* epoch 2^32 */
		{BYTES("\x95\x01\x07\x03\x05\x06"), DF_ERR_PARSE},                             /* a field too few */
		{BYTES("\x97\x01\x07\x03\x05\x06\x09\x09"), DF_ERR_PARSE},                     /* and one too many */
		{BYTES("\x83\x01\x07\x03\x05\x06\x09"), DF_ERR_PARSE},                         /* a map */
		{BYTES("\x9c\x01\x01\x03\x05\x06\x01\x01\x01\x01\x01\x01\x01"), DF_OK},        /* HELLO */
		{BYTES("\x9c\x01\x01\x03\x05\x06\x01\x02\x01\x01\x01\x01\x01"), DF_ERR_PARSE}, /* role 2 */
		{BYTES("\x99\x01\x02\x03\x05\x06\x01\x03\x01\xa0"), DF_ERR_PARSE},             /* NOTICE, state 3 */
		{BYTES("\x98\x01\x03\x03\x05\x06\x04\x90\x90"), DF_ERR_PARSE},                 /* LEASE, flags 4 */
		{BYTES("\x98\x01\x03\x03\x05\x06\x03\x90\x90"), DF_OK},
		{BYTES("\x98\x01\x03\x03\x05\x06\x03\x91\x90\x90"), DF_ERR_PARSE},         /* an empty segment */
		{BYTES("\x9b\x01\x04\x03\x05\x06\x01\x00\x01\x90\x90\x80"), DF_ERR_PARSE}, /* RESULT, last = 1 */
		{BYTES("\x9b\x01\x04\x03\x05\x06\x01\x00\xc3\x90\x91\x94\x03\x01\x01\x01\x80"),
		 DF_ERR_PARSE},                                                                    /* kind 3 */
		{BYTES("\x9b\x01\x04\x03\x05\x06\x01\x00\xc3\x90\x90\x81\x01\x01"), DF_ERR_PARSE}, /* counter 1 */
		{BYTES("\x9b\x01\x04\x03\x05\x06\x01\x00\xc3\x91\x93\x01\x01\xce\xff\xff\xff\xff\x90\x80"), DF_OK},
		{BYTES("\x9b\x01\x04\x03\x05\x06\x01\x00\xc3\x91\x93\x01\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x90"
		       "\x80"),
		 DF_ERR_PARSE},                                                          /* first + n would wrap */
		{BYTES("\x9a\x01\x05\x03\x05\x06\x01\xa2io\xa0\x01\x01"), DF_OK},        /* FAILED */
		{BYTES("\x9a\x01\x05\x03\x05\x06\x01\xa2oi\xa0\x01\x01"), DF_ERR_PARSE}, /* no such code */
		{BYTES("\x9a\x01\x05\x03\x05\x06\x01\xa2ok\xa0\x01\x01"), DF_ERR_PARSE}, /* a failure that is none */
		{BYTES("\x9a\x01\x05\x03\x05\x06\x01\xa2io\xa0\xce\xff\xff\xff\xfe\x01"), DF_ERR_PARSE}, /* source */
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum df_err err = unpack_text(b, rows[i].frame);
		if (err != rows[i].want)
			fail_msg("row %zu gave %s (%s)", i, df_err_name(err), b->fail.msg);
	}
}

static void test_messages__a_path_with_a_nul_byte_is_refused(void **state)
{
	struct bench *b = *state;
	struct df_msg m = {.type = DF_MSG_READ, .read = {.path = DF_STR("/etc/x\0.gz")}};
	assert_int_equal(df_msg_pack(&m, &b->buf), DF_OK);
	assert_int_equal(unpack_text(b, df_buf_str(&b->buf)), DF_ERR_PARSE);
}

static void test_messages__too_many_of_anything_is_a_limit_on_both_sides(void **state)
{
	struct bench *b = *state;
	struct df_counter *counter = calloc(DF_COUNTERS_MAX + 1, sizeof(*counter));
	struct df_msg m = {.type = DF_MSG_RESULT, .result = {.counter = counter, .n_counter = DF_COUNTERS_MAX}};
	assert_int_equal(df_msg_pack(&m, &b->buf), DF_OK);
	assert_int_equal(unpack_text(b, df_buf_str(&b->buf)), DF_OK);
	m.result.n_counter++;
	size_t n = b->buf.n;
	assert_int_equal(df_msg_pack(&m, &b->buf), DF_ERR_LIMIT);
	assert_int_equal(b->buf.n, n); /* nothing of the refused message is left */
	/* The same message as a sender without our bound would write it: one more in the map16's count, one more pair. */
	size_t at = b->buf.n - 2 * DF_COUNTERS_MAX - 2;
	assert_int_equal(b->buf.p[at], 1);
	b->buf.p[at + 1] = 1;
	assert_int_equal(df_buf_add(&b->buf, "\xa0\x00", 2), DF_OK);
	assert_int_equal(unpack_text(b, df_buf_str(&b->buf)), DF_ERR_LIMIT);
	free(counter);
}

static void test_messages__a_small_arena_gives_nomem(void **state)
{
	struct bench *b = *state;
	struct df_output output[1000] = {{0}};
	struct df_msg m = {.type = DF_MSG_RESULT, .result = {.output = output, .n_output = 1000}};
	struct df_arena tiny;
	assert_int_equal(df_msg_pack(&m, &b->buf), DF_OK);
	df_arena_init(&tiny, 1024, 0);
	m.type = 99;
	assert_int_equal(df_msg_unpack(df_buf_str(&b->buf), &tiny, &m, &b->fail), DF_ERR_NOMEM);
	assert_int_equal(m.type, 99);
	df_arena_release(&tiny);
}

static void test_messages__a_full_buffer_keeps_what_it_had(void **state)
{
	(void)state;
	for (size_t max = 1; max < 200; max++) {
		struct df_buf small;
		df_buf_init(&small, max);
		assert_int_equal(df_buf_addc(&small, 'x'), DF_OK);
		for (size_t i = 0; i < help_n_golden; i++) {
			size_t n = small.n;
			if (df_msg_pack(&help_golden[i].msg, &small) != DF_OK) {
				assert_int_equal(small.n, n);
				break;
			}
		}
		assert_int_equal(small.p[0], 'x');
		df_buf_release(&small);
	}
}

/* msgpack-c as a second opinion: what the walk accepts is one whole object for it too, and what it reads whole the walk only refuses
 * for a bound. */
static void test_messages__the_walk_agrees_with_msgpack(void **state)
{
	uint64_t seed = 7;
	struct df_rand rnd = df_rand_seeded(&seed);
	unsigned accepted = 0;
	(void)state;
	for (int i = 0; i < 300000; i++) {
		char bytes[24];
		size_t n = 1 + rnd.next(rnd.self) % sizeof(bytes), off = 0;
		for (size_t at = 0; at < n; at++) {
			uint64_t x = rnd.next(rnd.self);
			static const unsigned char likely[] = {0x91, 0x92, 0x81, 0xa1, 0xc4, 0xd4,
							       0xc7, 0xcc, 0xd1, 0xdc, 0x00, 0x01};
			bytes[at] = (char)(x & 256 ? likely[(x >> 9) % sizeof(likely)] : x & 255);
			if (bytes[at] == '\xdd' || bytes[at] == '\xdf')
				bytes[at] = '\xdc'; /* msgpack-c would believe a count of 4 billion */
		}
		msgpack_unpacked object;
		enum df_err err = df_unpack_check((struct df_str){bytes, n}, NULL);
		if (err == DF_ERR_LIMIT)
			continue;
		msgpack_unpacked_init(&object);
		msgpack_unpack_return got = msgpack_unpack_next(&object, bytes, n, &off);
		bool whole = got == MSGPACK_UNPACK_SUCCESS && off == n;
		msgpack_unpacked_destroy(&object);
		if (whole != (err == DF_OK))
			fail_msg("input %d of %zu bytes: the walk says %s, msgpack-c %d", i, n, df_err_name(err), got);
		accepted += whole;
	}
	assert_true(accepted > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
		T(test_messages__a_frame_cut_anywhere_is_refused),
		T(test_messages__bytes_behind_the_end_are_refused),
		T(test_messages__a_changed_byte_gives_an_error_or_another_message),
		T(test_messages__five_bytes_cannot_ask_for_gigabytes),
		T(test_messages__depth_has_a_bound),
		T(test_messages__elements_have_a_bound_in_all),
		T(test_messages__strings_and_frames_have_a_bound),
		T(test_messages__another_version_is_named_as_such),
		T(test_messages__wrong_types_and_ranges_are_refused),
		T(test_messages__a_path_with_a_nul_byte_is_refused),
		T(test_messages__too_many_of_anything_is_a_limit_on_both_sides),
		T(test_messages__a_small_arena_gives_nomem),
		T(test_messages__a_full_buffer_keeps_what_it_had),
		T(test_messages__the_walk_agrees_with_msgpack),
		T(test_messages__each_type_has_its_pinned_bytes),
		T(test_messages__random_ones_come_back_the_same),
		T(test_messages__strings_point_into_the_frame),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
