// SPDX-License-Identifier: Apache-2.0
/* test_bert: small models of random weights against the definition in double precision (help_bert). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/help_bert.h"
#include "worker/model/bert.h"

static char dir[64];

static int enter(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/docflume-bert-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int leave(void **state)
{
	static const char *const names[] = {"model.safetensors", "config.json", "1_Pooling/config.json", "1_Pooling",
					    ""};
	char path[128];
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (unlink(path) < 0)
			(void)rmdir(path);
	}
	return 0;
}

static struct help_bert tiny(void)
{
	return (struct help_bert){.config = {.hidden = 32,
					     .layers = 2,
					     .heads = 4,
					     .intermediate = 64,
					     .vocab = 50,
					     .max_positions = 40,
					     .type_vocab = 2,
					     .layer_norm_eps = 1e-12F},
				  .prefix = "",
				  .dtype = "F32"};
}

static const uint32_t lens[] = {2, 40, 1, 17, 16, 5, 33};
#define N_SEQ (sizeof(lens) / sizeof(lens[0]))

/* Write m, run all sequences of `lens` in one batch, and compare each with the definition; releases m. */
static void check(struct help_bert *m, float tolerance)
{
	struct df_bert *b = NULL;
	struct df_fail fail = {.msg = ""};
	const size_t h = m->config.hidden;
	uint32_t ids[256];
	size_t n = 0;
	help_bert_make(m, 11);
	help_bert_write(m, dir);
	if (df_bert_open(dir, 256, &b, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	for (size_t s = 0; s < N_SEQ; s++)
		for (size_t i = 0; i < lens[s]; i++, n++)
			ids[n] = (uint32_t)(n * 7919U % m->config.vocab);
	float *out = malloc(N_SEQ * h * sizeof(*out));
	double *want = malloc(h * sizeof(*want));
	assert_true(out && want);
	assert_int_equal(df_bert_embed(b, ids, lens, N_SEQ, out, &fail), DF_OK);
	n = 0;
	for (size_t s = 0; s < N_SEQ; n += lens[s++]) {
		help_bert_embed(m, ids + n, lens[s], want);
		for (size_t d = 0; d < h; d++)
			if (!(fabs((double)out[s * h + d] - want[d]) < (double)tolerance))
				fail_msg("sequence %zu, item %zu: %.8g, not %.8g", s, d, (double)out[s * h + d],
					 want[d]);
	}
	free(out);
	free(want);
	df_bert_close(&b);
	help_bert_release(m);
}

static void test_bert__equals_its_definition(void **state)
{
	struct help_bert m = tiny();
	(void)state;
	check(&m, 2e-5F);
}

static void test_bert__pools_by_the_cls_token_when_the_model_says_so(void **state)
{
	struct help_bert m = tiny();
	(void)state;
	m.config.pooling = DF_BERT_POOL_CLS;
	m.prefix = "bert.";
	check(&m, 2e-5F);
}

static void test_bert__runs_shapes_that_fill_no_vector(void **state)
{
	struct help_bert m = tiny();
	(void)state;
	m.config.hidden = 30;
	m.config.heads = 3;
	m.config.intermediate = 49;
	m.config.act = DF_BERT_GELU_TANH;
	m.config.layer_norm_eps = 1e-5F;
	check(&m, 2e-5F);
}

static void test_bert__runs_1024_hidden_with_16_heads(void **state)
{
	struct help_bert m = tiny();
	(void)state;
	m.config.hidden = 1024;
	m.config.heads = 16;
	m.config.intermediate = 128;
	m.config.layers = 1;
	check(&m, 2e-4F);
}

static void test_bert__converts_half_precision_weights(void **state)
{
	static const char *const dtypes[] = {"F16", "BF16"};
	for (size_t i = 0; i < 2; i++) {
		struct help_bert m = tiny();
		m.dtype = dtypes[i];
		check(&m, 2e-5F);
		(void)leave(state);
		(void)enter(state);
	}
}

static void test_bert__copies_tensors_that_are_not_aligned(void **state)
{
	struct help_bert m = tiny();
	(void)state;
	m.misalign = 1;
	check(&m, 2e-5F);
}

static void test_bert__refuses_ids_lengths_and_batches_out_of_range(void **state)
{
	struct help_bert m = tiny();
	struct df_bert *b = NULL;
	struct df_fail fail = {.msg = ""};
	uint32_t ids[64] = {0}, len[2] = {3, 2};
	float out[2 * 32] = {7};
	(void)state;
	help_bert_make(&m, 3);
	help_bert_write(&m, dir);
	assert_int_equal(df_bert_open(dir, 45, &b, &fail), DF_OK);
	ids[4] = 50;
	assert_int_equal(df_bert_embed(b, ids, len, 2, out, &fail), DF_ERR_RANGE);
	assert_non_null(strstr(fail.msg, "token id 50"));
	ids[4] = 49;
	assert_int_equal(df_bert_embed(b, ids, len, 2, out, &fail), DF_OK);
	len[1] = 0;
	assert_int_equal(df_bert_embed(b, ids, len, 2, out, &fail), DF_ERR_RANGE);
	len[1] = 41;
	assert_int_equal(df_bert_embed(b, ids, len, 2, out, &fail), DF_ERR_RANGE);
	len[0] = 6, len[1] = 40;
	assert_int_equal(df_bert_embed(b, ids, len, 2, out, &fail), DF_ERR_LIMIT);
	df_bert_close(&b);
	df_bert_close(&b);
	help_bert_release(&m);
}

/* Open what help_bert wrote with another config: the message must have `words`. */
static void assert_refused(enum df_err err, const char *words)
{
	struct df_bert *b = NULL;
	struct df_fail fail = {.msg = ""};
	assert_int_equal(df_bert_open(dir, 64, &b, &fail), err);
	assert_null(b);
	if (!strstr(fail.msg, words))
		fail_msg("'%s' does not say '%s'", fail.msg, words);
}

static void rewrite(const char *name, const char *text)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_bert__says_what_is_wrong_with_a_model(void **state)
{
	static const char sizes[] = "\"hidden_size\":32,\"num_hidden_layers\":%d,\"num_attention_heads\":4,"
				    "\"intermediate_size\":%d,\"vocab_size\":50,\"max_position_embeddings\":40}";
	struct help_bert m = tiny();
	char config[512], text[600], path[128];
	(void)state;
	assert_refused(DF_ERR_NOT_FOUND, "config.json");
	help_bert_make(&m, 3);
	help_bert_write(&m, dir);
	help_bert_release(&m);
	(void)snprintf(config, sizeof(config), sizes, 2, 65);
	(void)snprintf(text, sizeof(text), "{%s", config);
	rewrite("config.json", text);
	assert_refused(DF_ERR_CORRUPT, "encoder.layer.0.intermediate.dense.weight");
	(void)snprintf(config, sizeof(config), sizes, 3, 64);
	(void)snprintf(text, sizeof(text), "{%s", config);
	rewrite("config.json", text);
	assert_refused(DF_ERR_CORRUPT, "no tensor 'encoder.layer.2.attention.self.query.weight'");
	(void)snprintf(text, sizeof(text), "{\"hidden_act\":\"relu\",%s", config);
	rewrite("config.json", text);
	assert_refused(DF_ERR_UNSUPPORTED, "relu");
	(void)snprintf(text, sizeof(text), "{\"model_type\":\"roberta\",%s", config);
	rewrite("config.json", text);
	assert_refused(DF_ERR_UNSUPPORTED, "roberta");
	rewrite("config.json", "{\"hidden_size\":32,");
	assert_refused(DF_ERR_PARSE, "line 1");
	rewrite("config.json", "{\"hidden_size\":-1}");
	assert_refused(DF_ERR_RANGE, "hidden_size");
	(void)snprintf(config, sizeof(config), sizes, 2, 64);
	(void)snprintf(text, sizeof(text), "{%s", config);
	rewrite("config.json", text);
	(void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	assert_int_equal(truncate(path, 20000), 0);
	assert_refused(DF_ERR_CORRUPT, "cut short");
	assert_int_equal(truncate(path, 0), 0);
	assert_refused(DF_ERR_CORRUPT, "empty");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bert__equals_its_definition, enter, leave),
		cmocka_unit_test_setup_teardown(test_bert__pools_by_the_cls_token_when_the_model_says_so, enter, leave),
		cmocka_unit_test_setup_teardown(test_bert__runs_shapes_that_fill_no_vector, enter, leave),
		cmocka_unit_test_setup_teardown(test_bert__runs_1024_hidden_with_16_heads, enter, leave),
		cmocka_unit_test_setup_teardown(test_bert__converts_half_precision_weights, enter, leave),
		cmocka_unit_test_setup_teardown(test_bert__copies_tensors_that_are_not_aligned, enter, leave),
		cmocka_unit_test_setup_teardown(test_bert__refuses_ids_lengths_and_batches_out_of_range, enter, leave),
		cmocka_unit_test_setup_teardown(test_bert__says_what_is_wrong_with_a_model, enter, leave),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
