// SPDX-License-Identifier: Apache-2.0
/* test_exec: commands that behave, and the many that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/process/spawner.h"
#include "worker/stages/registry.h"
#include "worker/text/offsets.h"

#define N 5

static struct df_arena arena;
static struct df_doc docs[N];
static struct df_row rows[N];
static struct df_doc *doc_p[N];
static struct df_row *row_p[N];
static struct df_batch batch;
static struct df_fail fail;
static unsigned n_progress;

static int setup(void **state)
{
	static struct df_field fields[] = {{{"n", 1}, {"7", 1}}, {{"deep", 4}, {"{\"a\":\n1}", 8}}};
	(void)state;
	df_arena_init(&arena, (size_t)1 << 30, 0);
	for (int i = 0; i < N; i++) {
		char *id = df_arena_alloc(&arena, 16);
		(void)snprintf(id, 16, "\"d%d\"", i);
		docs[i] = (struct df_doc){.field = fields,
					  .n_field = 2,
					  .text_field = SIZE_MAX,
					  .id_field = SIZE_MAX,
					  .id = {id + 1, 2},
					  .id_raw = {id, 4},
					  .text = {"one \"two\"\n", 10},
					  .n_row = 1};
		rows[i] = (struct df_row){.doc = &docs[i], .text = docs[i].text};
		doc_p[i] = &docs[i];
		row_p[i] = &rows[i];
	}
	batch = (struct df_batch){.arena = &arena, .doc = doc_p, .n_doc = N, .row = row_p, .n_row = N};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static void note_progress(void *self)
{
	(void)self;
	n_progress++;
}

/* The stage as a pipeline would make it; ms is the time it took. */
static enum df_err run(const char *cmd, const char *more, uint64_t *ret_ms)
{
	struct df_pipeline p = {.n_stage = 0};
	struct df_pipeline_stage *s = NULL;
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	assert_int_equal(df_pipeline_add(&p, DF_STR(""), DF_STR("exec"), &s, &fail), DF_OK);
	assert_int_equal(df_pipeline_set(s, &arena, DF_STR("cmd"), df_str_from(cmd), &fail), DF_OK);
	if (more)
		assert_int_equal(df_pipeline_set(s, &arena, DF_STR("timeout_ms"), df_str_from(more), &fail), DF_OK);
	assert_int_equal(df_pipeline_set(s, &arena, DF_STR("max_output"), DF_STR("8m"), &fail), DF_OK);
	assert_int_equal(df_stage_check_pipeline(&p, &arena, &class, &options, &fail), DF_OK);
	struct df_stage stage = {.class = class[0], .call_name = "exec", .options = options[0]};
	const char *command = df_exec_command(options[0]);
	struct df_stage_env env = {.arena = &arena, .progress = note_progress};
	n_progress = 0;
	assert_int_equal(df_spawner_start(&command, 1, &env.spawner, &fail), DF_OK);
	assert_int_equal(stage.class->open(&stage, &env, &fail), DF_OK);
	uint64_t from = df_clock_mono(&df_clock_real);
	enum df_err err = stage.class->process(&stage, &batch, &fail);
	if (ret_ms)
		*ret_ms = (df_clock_mono(&df_clock_real) - from) / DF_MS;
	df_spawner_stop(&env.spawner);
	assert_null(env.spawner);
	return err;
}

static void assert_all_rejected(enum df_err err, const char *part)
{
	for (int i = 0; i < N; i++) {
		assert_int_equal(docs[i].fate, DF_FATE_REJECTED);
		assert_int_equal(docs[i].err, err);
		assert_non_null(strstr(docs[i].message, part));
	}
}

static void assert_all_out(void)
{
	for (int i = 0; i < N; i++)
		assert_int_equal(docs[i].fate, DF_FATE_OUT);
}

static void test_exec__cat_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(run("cat", NULL, NULL), DF_OK);
	assert_all_out();
	for (int i = 0; i < N; i++) {
		assert_true(df_str_eq(rows[i].text, docs[i].text));
		assert_false(rows[i].edited);
		assert_true(rows[i].n_added <= 1); /* "deep" had a line break in it, which became a blank */
	}
}

static void test_exec__a_filter_changes_text_and_adds_members(void **state)
{
	(void)state;
	assert_int_equal(run("sed 's/one/ONE/; s/}$/,\"new\":[1, 2],\"n\":8}/'", NULL, NULL), DF_OK);
	assert_all_out();
	assert_true(df_str_is(rows[4].text, "ONE \"two\"\n"));
	assert_true(rows[4].edited);
	assert_true(df_str_is(df_row_get(&rows[4], DF_STR("new")), "[1, 2]"));
	assert_true(df_str_is(df_row_get(&rows[4], DF_STR("n")), "8"));
	assert_true(df_str_is(docs[4].text, "one \"two\"\n"));
}

static void test_exec__offsets_outside_the_edit_still_lead_to_the_source(void **state)
{
	(void)state;
	assert_int_equal(run("sed 's/one /one more /'", NULL, NULL), DF_OK);
	assert_true(df_str_is(rows[0].text, "one more \"two\"\n"));
	assert_non_null(rows[0].offsets);
	assert_int_equal(df_offsets_start(rows[0].offsets, 2), 2);
	assert_int_equal(df_offsets_start(rows[0].offsets, 10), 5); /* the t of two */
	assert_int_equal(df_offsets_end(rows[0].offsets, 13), 8);
}

static void test_exec__the_command_sees_id_text_and_members(void **state)
{
	(void)state;
	assert_int_equal(run("while IFS= read -r l; do case $l in '{\"id\":\"d'?'\",\"text\":\"one "
			     "\\\"two\\\"\\n\",\"n\":7,\"deep\":{\"a\": 1}}') "
			     "echo '{\"ok\":true}';; *) echo '{\"ok\":false}';; esac; done",
			     NULL, NULL),
			 DF_OK);
	for (int i = 0; i < N; i++)
		assert_true(df_str_is(df_row_get(&rows[i], DF_STR("ok")), "true"));
}

static void test_exec__dropped_rows_are_not_sent(void **state)
{
	(void)state;
	rows[1].dropped = true;
	docs[2].fate = DF_FATE_REJECTED;
	docs[2].stage = "exec";
	assert_int_equal(run("awk '{printf \"{\\\"line\\\":%d}\\n\", NR}'", NULL, NULL), DF_OK);
	assert_true(df_str_is(df_row_get(&rows[0], DF_STR("line")), "1"));
	assert_true(df_str_is(df_row_get(&rows[3], DF_STR("line")), "2"));
	assert_true(df_str_is(df_row_get(&rows[4], DF_STR("line")), "3"));
	assert_int_equal(rows[1].n_added + rows[2].n_added, 0);
}

static void test_exec__nothing_to_send_starts_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < N; i++)
		rows[i].dropped = true;
	assert_int_equal(run("exit 3", NULL, NULL), DF_OK);
	assert_all_out();
}

static void test_exec__a_command_that_fails_rejects_with_its_last_words(void **state)
{
	(void)state;
	assert_int_equal(
		run("cat >/dev/null; echo first >&2; echo 'the \x1b reason' >&2; echo >&2; exit 3", NULL, NULL), DF_OK);
	assert_all_rejected(DF_ERR_CHILD, "the command ended with status 3: the ? reason");
}

static void test_exec__a_command_that_dies_rejects(void **state)
{
	(void)state;
	assert_int_equal(run("kill -SEGV $$", NULL, NULL), DF_OK);
	assert_all_rejected(DF_ERR_CHILD, "killed by signal 11");
}

static void test_exec__no_such_command_is_a_clear_reason(void **state)
{
	(void)state;
	assert_int_equal(run("/no/such/command", NULL, NULL), DF_OK);
	assert_all_rejected(DF_ERR_CHILD, "status 127");
}

static void test_exec__a_command_that_hangs_is_killed_with_its_children(void **state)
{
	(void)state;
	char path[] = "/tmp/test_exec.XXXXXX", cmd[200], text[64] = "";
	uint64_t ms = 0;
	int fd = mkstemp(path);
	(void)snprintf(cmd, sizeof(cmd), "sleep 100 & echo $! > %s; sleep 100; cat", path);
	assert_int_equal(run(cmd, "300", &ms), DF_OK);
	assert_all_rejected(DF_ERR_TIMEOUT, "did not end within 300 ms");
	assert_in_range(ms, 290, 5000);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	int gone = 0;
	for (int i = 0; i < 100 && !gone; i++) { /* its reaper needs a moment */
		gone = kill((pid_t)strtol(text, NULL, 10), 0) < 0;
		char stat_path[64], line[256] = "";
		(void)snprintf(stat_path, sizeof(stat_path), "/proc/%ld/stat", strtol(text, NULL, 10));
		FILE *f = fopen(stat_path, "r");
		if (f && fgets(line, sizeof(line), f))
			gone |= strstr(line, ") Z ") != NULL;
		if (f)
			(void)fclose(f);
		if (!gone)
			(void)usleep(10000);
	}
	assert_true(gone);
	close(fd);
	unlink(path);
}

static void test_exec__a_child_that_keeps_stdout_open_does_not_hold_the_batch(void **state)
{
	(void)state;
	uint64_t ms = 0;
	assert_int_equal(run("cat; sleep 100 &", NULL, &ms), DF_OK);
	assert_all_out();
	assert_true(ms < 5000);
}

static void test_exec__garbage_rejects_the_document_of_its_line(void **state)
{
	(void)state;
	assert_int_equal(run("cat >/dev/null; echo '{\"text\":\"a\"}'; echo 'garbage'; echo '[1]'; echo "
			     "'{\"text\":5}'; printf '{\"id\":\"d0\"}'",
			     NULL, NULL),
			 DF_OK);
	assert_int_equal(docs[0].fate, DF_FATE_OUT);
	assert_int_equal(docs[1].err, DF_ERR_PARSE);
	assert_int_equal(docs[2].err, DF_ERR_TYPE);
	assert_int_equal(docs[3].err, DF_ERR_TYPE);
	assert_int_equal(docs[4].err, DF_ERR_CHILD);
	assert_non_null(strstr(docs[4].message, "another id"));
}

static void test_exec__broken_utf8_never_gets_in(void **state)
{
	(void)state;
	assert_int_equal(run("tr one '\\377\\376\\375'", NULL, NULL), DF_OK);
	for (int i = 0; i < N; i++)
		assert_int_equal(docs[i].err, DF_ERR_UTF8);
}

static void test_exec__too_few_or_too_many_lines_reject_the_batch(void **state)
{
	(void)state;
	assert_int_equal(run("head -n 3", NULL, NULL), DF_OK);
	assert_all_rejected(DF_ERR_CHILD, "wrote 3 lines for 5 rows");
	teardown(state);
	setup(state);
	assert_int_equal(run("sed p", NULL, NULL), DF_OK);
	assert_all_rejected(DF_ERR_CHILD, "wrote 10 lines for 5 rows");
	teardown(state);
	setup(state);
	assert_int_equal(run("true", NULL, NULL), DF_OK);
	assert_all_rejected(DF_ERR_CHILD, "wrote 0 lines for 5 rows");
}

static void big_text(size_t n)
{
	char *p = df_arena_alloc(&arena, n);
	assert_non_null(p);
	memset(p, 'x', n);
	for (int i = 0; i < N; i++)
		docs[i].text = rows[i].text = (struct df_str){p, n};
}

static void test_exec__one_that_ignores_its_input_is_no_deadlock_and_no_sigpipe(void **state)
{
	(void)state;
	big_text(1 << 20);
	assert_int_equal(run("for i in 1 2 3 4 5; do echo '{\"text\":\"y\"}'; done", NULL, NULL), DF_OK);
	assert_all_out();
	assert_true(df_str_is(rows[4].text, "y"));
	sigset_t pending, mask;
	assert_int_equal(sigpending(&pending), 0);
	assert_int_equal(sigismember(&pending, SIGPIPE), 0);
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask), 0);
	assert_int_equal(sigismember(&mask, SIGPIPE), 0);
}

static void test_exec__full_pipes_on_both_sides_are_no_deadlock(void **state)
{
	(void)state;
	big_text(1 << 20);
	assert_int_equal(run("cat", NULL, NULL), DF_OK);
	assert_all_out();
	assert_int_equal(rows[2].text.n, 1 << 20);
	assert_int_equal(run("head -c 20000000 /dev/zero >&2; cat", NULL, NULL), DF_OK); /* and a flood on stderr */
	assert_all_out();
}

static void test_exec__a_hundred_megabytes_are_refused_early(void **state)
{
	(void)state;
	uint64_t ms = 0;
	assert_int_equal(run("head -c 100000000 /dev/zero; sleep 100", NULL, &ms), DF_OK);
	assert_all_rejected(DF_ERR_LIMIT, "more than max_output=8388608 bytes");
	assert_true(ms < 20000);
	assert_true(arena.total < 64 << 20);
}

static void test_exec__no_descriptor_but_three_is_passed_on(void **state)
{
	(void)state;
	int leak = dup(1);
	assert_int_equal(run("cat >/dev/null; for i in 1 2 3 4 5; do echo \"{\\\"fds\\\":\\\"$(ls /proc/$$/fd | tr "
			     "'\\n' ' ')\\\"}\"; done",
			     NULL, NULL),
			 DF_OK);
	close(leak);
	assert_all_out();
	assert_true(df_str_starts(df_row_get(&rows[0], DF_STR("fds")), "\"0 1 2 "));
	char name[8];
	(void)snprintf(name, sizeof(name), " %d ", leak);
	assert_true(df_row_get(&rows[0], DF_STR("fds")).n < 14);
}

static void test_exec__leaves_no_descriptor_and_no_zombie(void **state)
{
	(void)state;
	int before = dup(1);
	close(before);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(run(i % 2 ? "cat" : "exit 1", NULL, NULL), DF_OK);
		teardown(state);
		setup(state);
	}
	int after = dup(1);
	close(after);
	assert_int_equal(before, after);
}

static void test_exec__progress_is_what_moves_and_silence_is_none(void **state)
{
	(void)state;
	assert_int_equal(run("while read -r l; do sleep 0.05; printf '%s\\n' \"$l\"; done", NULL, NULL), DF_OK);
	assert_all_out();
	assert_in_range(n_progress, N, 4 * N); /* a sign for each line, and the beginning and end */
	assert_int_equal(run("cat >/dev/null; sleep 100", "1500", NULL), DF_OK);
	assert_all_rejected(DF_ERR_TIMEOUT, "did not end within 1500 ms");
	assert_in_range(n_progress, 0, 3);
}

static void test_exec__without_a_spawner_it_does_not_open(void **state)
{
	(void)state;
	struct df_stage_env env = {.arena = &arena};
	struct df_stage stage = {.class = &df_stage_exec};
	assert_int_equal(df_stage_exec.open(&stage, &env, &fail), DF_ERR_BUG);
}

static void test_exec__needs_a_command(void **state)
{
	(void)state;
	struct df_pipeline p;
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	assert_int_equal(df_pipeline_parse(DF_STR("exec"), &arena, &p, &fail), DF_OK);
	assert_int_equal(df_stage_check_pipeline(&p, &arena, &class, &options, &fail), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "stage 'exec' needs the option 'cmd=COMMAND'\n  exec\n  ^");
	assert_int_equal(df_pipeline_parse(DF_STR("exec cmd=' '"), &arena, &p, &fail), DF_OK);
	assert_int_equal(df_stage_check_pipeline(&p, &arena, &class, &options, &fail), DF_ERR_USAGE);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_exec__cat_changes_nothing),
		T(test_exec__a_filter_changes_text_and_adds_members),
		T(test_exec__offsets_outside_the_edit_still_lead_to_the_source),
		T(test_exec__the_command_sees_id_text_and_members),
		T(test_exec__dropped_rows_are_not_sent),
		T(test_exec__nothing_to_send_starts_nothing),
		T(test_exec__a_command_that_fails_rejects_with_its_last_words),
		T(test_exec__a_command_that_dies_rejects),
		T(test_exec__no_such_command_is_a_clear_reason),
		T(test_exec__a_command_that_hangs_is_killed_with_its_children),
		T(test_exec__a_child_that_keeps_stdout_open_does_not_hold_the_batch),
		T(test_exec__garbage_rejects_the_document_of_its_line),
		T(test_exec__broken_utf8_never_gets_in),
		T(test_exec__too_few_or_too_many_lines_reject_the_batch),
		T(test_exec__one_that_ignores_its_input_is_no_deadlock_and_no_sigpipe),
		T(test_exec__full_pipes_on_both_sides_are_no_deadlock),
		T(test_exec__a_hundred_megabytes_are_refused_early),
		T(test_exec__no_descriptor_but_three_is_passed_on),
		T(test_exec__leaves_no_descriptor_and_no_zombie),
		T(test_exec__progress_is_what_moves_and_silence_is_none),
		T(test_exec__without_a_spawner_it_does_not_open),
		T(test_exec__needs_a_command),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
