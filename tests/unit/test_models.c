// SPDX-License-Identifier: Apache-2.0
/* test_models: the model cache, unpacking of packages, and the embedder over a model of random weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/help_bert.h"
#include "worker/model/embedder.h"
#include "worker/model/fetch.h"
#include "worker/token/wordpiece.h"

static char dir[64];

static int enter(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/docflume-models-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int leave(void **state)
{
	static const char *const names[] = {
		"model.safetensors", "config.json",     "vocab.txt", "p.zip",   "sub/b", "sub", "a",
		"docflume/models/m", "docflume/models", "docflume",  "python3", ""};
	char path[128];
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (unlink(path) < 0)
			(void)rmdir(path);
	}
	return 0;
}

static void put(const char *name, const void *p, size_t n)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_true(n == 0 || fwrite(p, n, 1, f) == 1);
	assert_int_equal(fclose(f), 0);
}

/* ------------------------------------------------------------------ the cache */

static void test_modeldir__a_name_cannot_leave_the_cache(void **state)
{
	static const char *const bad[] = {"", "..", ".hidden", "a/b", "../x", "a b", "a\tb", "\xc3\xa9"};
	char out[DF_MODEL_PATH_BYTES];
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(df_model_name_ok(df_str_from(bad[i])));
		assert_int_equal(df_model_find(df_str_from(bad[i]), NULL, dir, out, NULL), DF_ERR_USAGE);
	}
	assert_true(df_model_name_ok(DF_STR("all-MiniLM-L6-v2")));
}

static void test_modeldir__looks_where_xdg_says(void **state)
{
	char out[DF_MODEL_PATH_BYTES], want[160];
	struct df_fail fail = {.msg = ""};
	(void)state;
	char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
	assert_int_equal(setenv("XDG_CACHE_HOME", dir, 1), 0);
	assert_int_equal(df_model_find(DF_STR("m"), NULL, NULL, out, &fail), DF_ERR_NOT_FOUND);
	assert_string_equal(fail.msg, "model 'm' is not in the cache; run 'docflume models fetch'");
	(void)snprintf(want, sizeof(want), "%s/docflume", dir);
	assert_int_equal(mkdir(want, 0700), 0);
	(void)snprintf(want, sizeof(want), "%s/docflume/models", dir);
	assert_int_equal(mkdir(want, 0700), 0);
	(void)snprintf(want, sizeof(want), "%s/docflume/models/m", dir);
	assert_int_equal(mkdir(want, 0700), 0);
	assert_int_equal(df_model_find(DF_STR("m"), NULL, NULL, out, &fail), DF_OK);
	assert_string_equal(out, want);
	assert_int_equal(df_model_find(DF_STR("m"), dir, NULL, out, &fail), DF_OK); /* --model-dir wins */
	assert_string_equal(out, dir);
	assert_int_equal(df_model_find(DF_STR("m"), "/nowhere/at-all", NULL, out, &fail), DF_ERR_NOT_FOUND);
	assert_int_equal(setenv("XDG_CACHE_HOME", "relative", 1), 0);
	assert_int_equal(setenv("HOME", "/h", 1), 0);
	assert_int_equal(df_model_cache(out, NULL), DF_OK);
	assert_string_equal(out, "/h/.cache/docflume/models");
	assert_int_equal(unsetenv("HOME"), 0);
	assert_int_equal(df_model_cache(out, NULL), DF_ERR_NOT_FOUND);
	assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
	if (home)
		assert_int_equal(setenv("HOME", home, 1), 0);
	free(home);
}

/* ------------------------------------------------------------------ unpacking */

/* A zip of stored members (PKWARE APPNOTE 4.3), without checksums of its own: crc 0 is written as it is given. */
struct zip {
	unsigned char p[4096];
	size_t n, n_dir, n_member;
	unsigned char dir[4096];
};

static size_t le(unsigned char *p, uint32_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(v >> (8 * i));
	return n;
}

static uint32_t crc_of(const char *p, size_t n)
{
	uint32_t crc = UINT32_MAX;
	for (size_t i = 0; i < n; i++) {
		crc ^= (unsigned char)p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return ~crc;
}

static void zip_add(struct zip *z, const char *name, const char *body)
{
	uint32_t n_name = (uint32_t)strlen(name), n = (uint32_t)strlen(body), crc = crc_of(body, n),
		 at = (uint32_t)z->n;
	unsigned char common[22];
	size_t c = le(common, 0, 4);        /* flags, method: stored */
	c += le(common + c, 0x00210000, 4); /* 1980-01-01 */
	c += le(common + c, crc, 4);
	c += le(common + c, n, 4);
	c += le(common + c, n, 4);
	(void)le(common + c, n_name, 2);
	z->n += le(z->p + z->n, 0x04034b50, 4);
	z->n += le(z->p + z->n, 20, 2);
	memcpy(z->p + z->n, common, 22);
	z->n += 22;
	z->n += le(z->p + z->n, 0, 2);
	memcpy(z->p + z->n, name, n_name);
	memcpy(z->p + z->n + n_name, body, n);
	z->n += n_name + n;
	z->n_dir += le(z->dir + z->n_dir, 0x02014b50, 4);
	z->n_dir += le(z->dir + z->n_dir, 20U | 20U << 16, 4);
	memcpy(z->dir + z->n_dir, common, 22);
	z->n_dir += 22;
	memset(z->dir + z->n_dir, 0, 12);
	z->n_dir += 12;
	z->n_dir += le(z->dir + z->n_dir, at, 4);
	memcpy(z->dir + z->n_dir, name, n_name);
	z->n_dir += n_name;
	z->n_member++;
}

static void zip_put(struct zip *z, const char *name)
{
	uint32_t at = (uint32_t)z->n;
	memcpy(z->p + z->n, z->dir, z->n_dir);
	z->n += z->n_dir;
	z->n += le(z->p + z->n, 0x06054b50, 4);
	z->n += le(z->p + z->n, 0, 4);
	z->n += le(z->p + z->n, (uint32_t)(z->n_member | z->n_member << 16), 4);
	z->n += le(z->p + z->n, (uint32_t)z->n_dir, 4);
	z->n += le(z->p + z->n, at, 4);
	z->n += le(z->p + z->n, 0, 2);
	put(name, z->p, z->n);
}

/* sha256 of "abc" and of "" (FIPS 180-2) */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct df_model_recipe recipe = {
	.name = "m",
	.package = "no-such-package==0.0.1",
	.archive = "p.zip",
	.sha256 = ABC,
	.prefix = "pkg/model/",
	.file = {{"a", ABC, 3, true}, {"sub/b", NOTHING, 0, true}, {"maybe", ABC, 3, false}, {NULL, NULL, 0, false}}};

static enum df_err unpack(struct zip *z, struct df_fail *fail)
{
	char path[128];
	zip_put(z, "p.zip");
	(void)snprintf(path, sizeof(path), "%s/p.zip", dir);
	return df_model_unpack(&recipe, path, dir, fail);
}

static void test_fetch__unpacks_only_what_the_recipe_names(void **state)
{
	struct zip z = {.n = 0};
	struct df_fail fail = {.msg = ""};
	char path[128];
	(void)state;
	zip_add(&z, "pkg/model/../../../../tmp/docflume-evil", "evil");
	zip_add(&z, "/tmp/docflume-evil", "evil");
	zip_add(&z, "pkg/model/other", "other");
	zip_add(&z, "pkg/model/a", "abc");
	zip_add(&z, "pkg/model/sub/b", "");
	if (unpack(&z, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	assert_int_equal(access("/tmp/docflume-evil", F_OK), -1);
	(void)snprintf(path, sizeof(path), "%s/other", dir);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(df_model_verify(&recipe, dir, &fail), DF_OK);
	put("a", "abd", 3);
	assert_int_equal(df_model_verify(&recipe, dir, &fail), DF_ERR_CORRUPT);
	assert_non_null(strstr(fail.msg, "/a' is not the file that was published"));
}

static void test_fetch__refuses_members_that_are_larger_or_other_or_missing(void **state)
{
	static const char *const bodies[] = {"abcd", "abd", "ab", NULL};
	static const char *const says[] = {"larger", "SHA-256", "SHA-256", "sub/b"};
	static const enum df_err errs[] = {DF_ERR_CORRUPT, DF_ERR_CORRUPT, DF_ERR_CORRUPT, DF_ERR_NOT_FOUND};
	for (size_t i = 0; i < 4; i++) {
		struct zip z = {.n = 0};
		struct df_fail fail = {.msg = ""};
		zip_add(&z, "pkg/model/a", bodies[i] ? bodies[i] : "abc");
		assert_int_equal(unpack(&z, &fail), errs[i]);
		if (!strstr(fail.msg, says[i]))
			fail_msg("%s", fail.msg);
		(void)leave(state);
		(void)enter(state);
	}
}

static void test_fetch__says_in_one_line_that_pip_failed_and_leaves_nothing(void **state)
{
	static const char script[] =
		"#!/bin/sh\necho one\necho 'ERROR: No matching distribution' >&2\necho three\nexit 1\n";
	char path[128], out[DF_MODEL_PATH_BYTES], cache[128];
	struct df_fail fail = {.msg = ""};
	bool was_there = true;
	(void)state;
	char *before = strdup(getenv("PATH") ? getenv("PATH") : "/bin:/usr/bin");
	assert_non_null(before);
	put("python3", script, sizeof(script) - 1);
	(void)snprintf(path, sizeof(path), "%s/python3", dir);
	assert_int_equal(chmod(path, 0700), 0);
	assert_int_equal(setenv("PATH", dir, 1), 0);
	(void)snprintf(cache, sizeof(cache), "%s/docflume/models", dir);
	assert_int_equal(df_model_fetch(&recipe, cache, out, &was_there, &fail), DF_ERR_CHILD);
	assert_non_null(strstr(fail.msg, "ERROR: No matching distribution"));
	assert_null(strchr(fail.msg, '\n'));
	assert_true(was_there);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(df_model_fetch(&recipe, cache, out, &was_there, &fail), DF_ERR_CHILD);
	assert_non_null(strstr(fail.msg, "cannot run python3"));
	assert_int_equal(setenv("PATH", before, 1), 0);
	free(before);
	assert_int_equal(rmdir(cache), 0); /* empty: no working folder is left */
}

/* ------------------------------------------------------------------ the embedder */

static void test_embedder__puts_every_vector_where_its_text_is(void **state)
{
	static const char vocab[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\ne\n";
	static const char long_vocab[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\nd\ne\nf\ng\n";
	struct help_bert m = {.config = {.hidden = 32,
					 .layers = 1,
					 .heads = 4,
					 .intermediate = 32,
					 .vocab = 10,
					 .max_positions = 40,
					 .type_vocab = 2,
					 .layer_norm_eps = 1e-12F},
			      .prefix = "",
			      .dtype = "F32"};
	static const char *const texts[] = {"a b c", "", "zz", "e d c b a e d c b a", "d", "a a a a"};
	static const uint32_t ids[][12] = {{2, 5, 6, 7, 3},          {2, 3},    {2, 1, 3},
					   {2, 9, 8, 7, 6, 5, 9, 3}, {2, 8, 3}, {2, 5, 5, 5, 5, 3}};
	static const size_t lens[] = {5, 2, 3, 8, 3, 6};
	struct df_str text[6];
	(void)state;
	help_bert_make(&m, 8);
	help_bert_write(&m, dir);
	put("vocab.txt", vocab, sizeof(vocab) - 1);
	for (size_t i = 0; i < 6; i++)
		text[i] = df_str_from(texts[i]);
	for (uint32_t batch = 2; batch < 64; batch += 5) {
		struct df_embedder_options o = {.max_tokens = 8, .batch_tokens = batch, .normalize = batch % 2 == 0};
		struct df_embedder_counts counts = {.tokens = 100};
		struct df_embedder *e = NULL;
		struct df_fail fail = {.msg = ""};
		float out[6][32];
		if (df_embedder_open(dir, &o, &e, &fail) != DF_OK)
			fail_msg("%s", fail.msg);
		assert_int_equal(df_embedder_dim(e), 32);
		assert_int_equal(df_embedder_run(e, text, 6, &out[0][0], &counts, &fail), DF_OK);
		assert_int_equal(counts.tokens, 100 + 27);
		assert_int_equal(counts.truncated, 1);
		for (size_t i = 0; i < 6; i++) {
			double want[32], norm = 0;
			help_bert_embed(&m, ids[i], lens[i], want);
			for (size_t d = 0; d < 32; d++)
				norm += want[d] * want[d];
			norm = o.normalize ? sqrt(norm) : 1;
			for (size_t d = 0; d < 32; d++)
				if (!(fabs((double)out[i][d] - want[d] / norm) < 1e-5))
					fail_msg("batch %u, text %zu, item %zu", batch, i, d);
		}
		assert_int_equal(df_embedder_run(e, text, 0, &out[0][0], NULL, &fail), DF_OK);
		df_embedder_close(&e);
	}
	struct df_embedder_options o = {.max_tokens = 41, .batch_tokens = 64};
	struct df_embedder *e = NULL;
	assert_int_equal(df_embedder_open(dir, &o, &e, NULL), DF_ERR_USAGE);
	put("vocab.txt", long_vocab, sizeof(long_vocab) - 1);
	o.max_tokens = 40;
	assert_int_equal(df_embedder_open(dir, &o, &e, NULL), DF_ERR_CORRUPT);
	help_bert_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_modeldir__a_name_cannot_leave_the_cache, enter, leave),
		cmocka_unit_test_setup_teardown(test_modeldir__looks_where_xdg_says, enter, leave),
		cmocka_unit_test_setup_teardown(test_fetch__unpacks_only_what_the_recipe_names, enter, leave),
		cmocka_unit_test_setup_teardown(test_fetch__refuses_members_that_are_larger_or_other_or_missing, enter,
						leave),
		cmocka_unit_test_setup_teardown(test_fetch__says_in_one_line_that_pip_failed_and_leaves_nothing, enter,
						leave),
		cmocka_unit_test_setup_teardown(test_embedder__puts_every_vector_where_its_text_is, enter, leave),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
