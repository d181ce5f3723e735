// SPDX-License-Identifier: Apache-2.0
/* test_args: command lines, and whole requests of `docflume run`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "cli/cores.h"
#include "cli/run_rows.h"

struct options {
	bool keep, quiet;
	int64_t jobs, level;
	struct df_str out;
};

#define AT(m) offsetof(struct options, m)
static const struct df_opt rows[] = {
	{.name = "keep-order", .type = DF_OPT_BOOL, .offset = AT(keep), .help = "keep"},
	{.name = "quiet", .type = DF_OPT_BOOL, .offset = AT(quiet), .help = "quiet"},
	{.name = "jobs", .type = DF_OPT_INT, .offset = AT(jobs), .min = 1, .max = 64, .help = "jobs"},
	{.name = "level", .type = DF_OPT_INT, .offset = AT(level), .help = "level"},
	{.name = "out", .type = DF_OPT_STRING, .offset = AT(out), .help = "out"},
	{.name = NULL},
};
static const struct df_arg letters[] = {
	{"keep-order", 'k', NULL}, {"quiet", 'q', NULL}, {"jobs", 'j', NULL},
	{"out", 'o', NULL},        {"level", 'l', "3"},  {NULL, 0, NULL},
};

static struct df_arena arena;
static struct options o;
static struct df_args a;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 64 << 20, 0);
	df_conf_defaults(rows, &arena, &o, sizeof(o));
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

/* Words with one blank between them; "" is an empty command line. */
static int split(const char *line, char **argv, int max)
{
	struct df_str copy = df_arena_copy(&arena, df_str_from(line));
	int argc = 0;
	argv[argc++] = (char *)(uintptr_t) "run";
	char *save = NULL;
	for (char *w = strtok_r((char *)(uintptr_t)copy.p, " ", &save); w && argc < max; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	return argc;
}

static enum df_err parse(const char *line)
{
	char *argv[64];
	int argc = split(line, argv, 64);
	return df_args_parse(rows, letters, true, argc, argv, &arena, &o, &a, &fail);
}

static void test_args__every_form_of_an_option(void **state)
{
	(void)state;
	assert_int_equal(parse("--jobs 4 --out=x -k"), DF_OK);
	assert_true(o.jobs == 4 && df_str_is(o.out, "x") && o.keep && !o.quiet);
	assert_int_equal(parse("-qj5 -oy --no-keep-order"), DF_OK);
	assert_true(o.jobs == 5 && df_str_is(o.out, "y") && o.quiet && !o.keep);
	assert_int_equal(parse("-j 6 --quiet=false --out="), DF_OK);
	assert_true(o.jobs == 6 && !o.quiet && o.out.n == 0);
	assert_int_equal(parse("--jobs 1 --jobs 2"), DF_OK);
	assert_int_equal(o.jobs, 2);
}

static void test_args__an_optional_value_is_taken_only_with_an_equals_sign(void **state)
{
	(void)state;
	assert_int_equal(parse("--level 19"), DF_OK);
	assert_int_equal(o.level, 3);
	assert_int_equal(a.n_operand, 1);
	assert_int_equal(parse("--level=19"), DF_OK);
	assert_int_equal(o.level, 19);
}

static void test_args__operands_may_stand_anywhere(void **state)
{
	(void)state;
	assert_int_equal(parse("a - -j 3 b -- -k --jobs"), DF_OK);
	assert_int_equal(a.n_operand, 5);
	assert_true(df_str_is(a.operand[1], "-"));
	assert_true(df_str_is(a.operand[4], "--jobs"));
	assert_false(o.keep);
}

static void test_args__given_tells_what_was_typed(void **state)
{
	(void)state;
	assert_int_equal(parse("-k"), DF_OK);
	assert_true(df_args_given(rows, &a, "keep-order"));
	assert_false(df_args_given(rows, &a, "jobs"));
}

static void test_args__overrides_are_collected(void **state)
{
	(void)state;
	assert_int_equal(parse("--chunk.tokens 200 --c.x=a=b -k"), DF_OK);
	assert_int_equal(a.n_override, 2);
	assert_true(df_str_is(a.override[0].stage, "chunk") && df_str_is(a.override[0].key, "tokens"));
	assert_true(df_str_is(a.override[1].value, "a=b"));
	assert_true(o.keep);
}

static void assert_wrong(const char *line, const char *message)
{
	enum df_err err = parse(line);
	assert_int_equal(err, DF_ERR_USAGE);
	assert_string_equal(fail.msg, message);
}

static void test_args__errors_name_the_option(void **state)
{
	(void)state;
	assert_wrong("--jbos 4", "unknown option '--jbos'; did you mean '--jobs'?");
	assert_wrong("--jobs", "option '--jobs' needs a value");
	assert_wrong("-j", "option '-j' (--jobs) needs a value");
	assert_wrong("-z", "unknown option '-z'");
	assert_wrong("-kz", "unknown option '-z'");
	assert_wrong("--jobs 99", "option '--jobs': '99' is not a whole number from 1 to 64");
	assert_wrong("-jx", "option '--jobs': 'x' is not a whole number from 1 to 64");
	assert_wrong("--quiet=perhaps", "option '--quiet': 'perhaps' is not true or false");
	assert_wrong("--a.", "'--a.' is not of the form --stage.key");
	assert_wrong("--.a x", "'--.a' is not of the form --stage.key");
	assert_wrong("--a.b", "option '--a.b' needs a value");
	assert_wrong("--no-jobs", "unknown option '--no-jobs'; did you mean '--jobs'?");
}

static void test_args__help_has_a_line_for_each(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 10000);
	assert_int_equal(df_args_help(rows, letters, 80, &b), DF_OK);
	(void)df_buf_addc(&b, '\0');
	assert_non_null(strstr(b.p, "  -k, --keep-order        keep\n"));
	assert_non_null(strstr(b.p, "  -l, --level[=N]         level\n"));
	assert_non_null(strstr(b.p, "  -j, --jobs=N            jobs (from 1 to 64)\n"));
	df_buf_release(&b);
}

/* ------------------------------------------------------------------ requests */

static enum df_err request(const char *pipeline, const char *line, bool terminal, struct df_run_request *r)
{
	char *argv[64];
	int argc = split(line, argv, 62);
	if (pipeline) {
		memmove(argv + 2, argv + 1, (size_t)(argc - 1) * sizeof(*argv));
		argv[1] = (char *)(uintptr_t)pipeline;
		argc++;
	}
	return df_run_request_parse(argc, argv, terminal, &arena, r, &fail);
}

static void test_request__is_complete_without_any_option(void **state)
{
	(void)state;
	struct df_run_request r;
	assert_int_equal(request("exec cmd=cat", "", false, &r), DF_OK);
	assert_int_equal(r.run.jobs, df_cores());
	assert_int_equal(r.run.limit, -1);
	assert_int_equal(r.run.n_input, 1);
	assert_true(df_str_is(r.run.input[0], "-"));
	assert_int_equal(r.run.output_format, DF_OUTFMT_JSONL);
	assert_int_equal(r.run.max_record, DF_RECORD_BYTES);
	assert_int_equal(r.run.cell_size, DF_CELL_BYTES);
	assert_int_equal(r.run.part_size, DF_PART_BYTES);
	assert_true(df_str_is(r.run.id_key, "id") && df_str_is(r.run.text_key, "text"));
	assert_true(df_str_is(r.run.pipeline_text, "exec cmd=cat"));
	assert_true(r.run.has_side_effects && !r.run.has_vectors);
	assert_true(r.run.sample == 1 && r.run.zstd == 0 && r.run.out.n == 0);
}

static void test_request__takes_options_inputs_and_overrides(void **state)
{
	(void)state;
	struct df_run_request r;
	assert_int_equal(request("exec  cmd=cat", "-o out -n 5 --zstd --exec.timeout_ms 70 a.jsonl b", true, &r),
			 DF_OK);
	assert_int_equal(r.run.n_input, 2);
	assert_true(df_str_is(r.run.input[1], "b"));
	assert_true(r.run.limit == 5 && r.run.zstd == 3);
	assert_true(df_str_is(r.run.pipeline_text, "exec cmd=cat timeout_ms=70"));
	assert_int_equal(request("exec cmd=cat", "-o - --zstd=19", false, &r), DF_OK);
	assert_true(r.run.out.n == 0 && r.run.zstd == 19);
}

static void test_request__refuses_what_does_not_go_together(void **state)
{
	(void)state;
	struct df_run_request r;
	assert_int_equal(request(NULL, "", false, &r), DF_ERR_USAGE);
	assert_int_equal(request("exec cmd=cat", "", true, &r), DF_ERR_USAGE);
	assert_int_equal(request("exec cmd=cat", "--output-format npy a", true, &r), DF_ERR_USAGE);
	assert_int_equal(request("exec cmd=cat", "--output-format both -o x a", true, &r), DF_ERR_USAGE);
	assert_int_equal(request("exec cmd=cat", "--force-restart a", true, &r), DF_ERR_USAGE);
	assert_int_equal(request("exec cmd=cat", "-q -v a", true, &r), DF_ERR_USAGE);
	assert_int_equal(request("exec cmd=cat", "--id-key text a", true, &r), DF_ERR_USAGE);
	assert_int_equal(request("exec cmd=cat", "--exec.timeout_ms x a", true, &r), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "stage 'exec': option 'timeout_ms': 'x'"));
	assert_int_equal(request("exec cmd=cat", "-f /no/such/file", true, &r), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "/no/such/file"));
}

static void test_request__a_file_gives_way_to_the_command_line(void **state)
{
	(void)state;
	char path[] = "/tmp/test_args.XXXXXX", line[64];
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	static const char text[] = "stages:\n- exec: {cmd: cat}\njobs: 2\nlimit: 9\ninputs: [a, b]\n";
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	struct df_run_request r;
	(void)snprintf(line, sizeof(line), "-f %s -j 3", path);
	assert_int_equal(request(NULL, line, true, &r), DF_OK);
	assert_true(r.run.jobs == 3 && r.run.limit == 9 && r.run.n_input == 2);
	(void)snprintf(line, sizeof(line), "-f %s c", path);
	assert_int_equal(request(NULL, line, true, &r), DF_OK);
	assert_true(r.run.jobs == 2 && r.run.n_input == 1 && df_str_is(r.run.input[0], "c"));
	unlink(path);
}

static void test_cores__a_quota_rounds_up(void **state)
{
	(void)state;
	assert_int_equal(df_cores_of_quota(DF_STR("200000 100000\n")), 2);
	assert_int_equal(df_cores_of_quota(DF_STR("150000 100000")), 2);
	assert_int_equal(df_cores_of_quota(DF_STR("1000 100000")), 1);
	assert_int_equal(df_cores_of_quota(DF_STR("max 100000\n")), 0);
	assert_int_equal(df_cores_of_quota(DF_STR("-1 100000")), 0);
	assert_int_equal(df_cores_of_quota(DF_STR("1 0")), 0);
	assert_int_equal(df_cores_of_quota(DF_STR("")), 0);
	assert_true(df_cores() >= 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_args__every_form_of_an_option),
		T(test_args__an_optional_value_is_taken_only_with_an_equals_sign),
		T(test_args__operands_may_stand_anywhere),
		T(test_args__given_tells_what_was_typed),
		T(test_args__overrides_are_collected),
		T(test_args__errors_name_the_option),
		T(test_args__help_has_a_line_for_each),
		T(test_request__is_complete_without_any_option),
		T(test_request__takes_options_inputs_and_overrides),
		T(test_request__refuses_what_does_not_go_together),
		T(test_request__a_file_gives_way_to_the_command_line),
		T(test_cores__a_quota_rounds_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
