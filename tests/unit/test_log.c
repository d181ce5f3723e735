// SPDX-License-Identifier: Apache-2.0
/* The log: whole lines, valid JSON whatever is in them, and nothing above the chosen level. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

/* stderr into a file while a test logs. */
struct capture {
	int saved, fd;
	char text[1 << 20];
	size_t n;
};

static void begin(struct capture *c)
{
	char path[] = "/tmp/df-log-XXXXXX";
	c->fd = mkstemp(path);
	assert_true(c->fd >= 0);
	(void)unlink(path);
	assert_int_equal(fcntl(c->fd, F_SETFL, O_APPEND), 0); /* as a terminal or pipe: writes follow each other */
	c->saved = dup(STDERR_FILENO);
	assert_int_equal(dup2(c->fd, STDERR_FILENO), STDERR_FILENO);
}

static void end(struct capture *c)
{
	(void)dup2(c->saved, STDERR_FILENO);
	(void)close(c->saved);
	ssize_t n = pread(c->fd, c->text, sizeof(c->text) - 1, 0);
	assert_true(n >= 0);
	c->n = (size_t)n;
	c->text[n] = '\0';
	(void)close(c->fd);
}

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct capture));
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	df_log_setup(DF_LOG_INFO, DF_LOG_TEXT, "docflume");
	free(*state);
	return 0;
}

static void test_log__the_level_is_a_ceiling(void **state)
{
	struct capture *c = *state;
	for (int max = DF_LOG_ERROR; max <= DF_LOG_DEBUG; max++) {
		df_log_setup((enum df_log_level)max, DF_LOG_TEXT, "t");
		begin(c);
		for (int level = DF_LOG_ERROR; level <= DF_LOG_DEBUG; level++) {
			df_log((enum df_log_level)level, "%d", level);
			assert_int_equal(df_log_on((enum df_log_level)level), level <= max);
		}
		end(c);
		size_t n_line = 0;
		for (size_t i = 0; i < c->n; i++)
			n_line += c->text[i] == '\n';
		assert_int_equal(n_line, max + 1);
	}
}

static void test_log__text_says_who_and_how_bad(void **state)
{
	struct capture *c = *state;
	df_log_setup(DF_LOG_DEBUG, DF_LOG_TEXT, "worker 3");
	begin(c);
	df_error("cannot open '%s'", "a.jsonl");
	df_warn("slow");
	df_info("%d documents", 12);
	df_debug("beat");
	end(c);
	assert_string_equal(c->text, "worker 3: error: cannot open 'a.jsonl'\nworker 3: warning: slow\n"
				     "worker 3: 12 documents\nworker 3: debug: beat\n");
}

static void test_log__json_stays_json_whatever_the_message_holds(void **state)
{
	struct capture *c = *state;
	df_log_setup(DF_LOG_DEBUG, DF_LOG_JSON, "t\"q\"");
	begin(c);
	df_warn("%s", "a \"quote\", a \\, a\nline, a\ttab, \x01 and \xc3\xa9");
	end(c);
	assert_non_null(strstr(
		c->text,
		"\"level\":\"warning\",\"process\":\"t\\\"q\\\"\",\"message\":\"a \\\"quote\\\", a \\\\, a\\nline"));
	assert_non_null(strstr(c->text, "\\u0001 and \xc3\xa9\"}\n"));
	assert_ptr_equal(strchr(c->text, '\n'), c->text + c->n - 1); /* one line */
	int year, month, day, hour, minute, second, us, used = 0;
	assert_int_equal(sscanf(c->text, "{\"time\":\"%4d-%2d-%2dT%2d:%2d:%2d.%6dZ\"%n", &year, &month, &day, &hour,
				&minute, &second, &us, &used),
			 7);
	assert_int_equal(used, 37); /* microseconds */
	assert_true(year >= 2024);
}

static void test_log__a_long_message_is_cut_and_still_ends_its_line(void **state)
{
	struct capture *c = *state;
	char *text = malloc(100001);
	memset(text, '\\', 100000);
	text[100000] = '\0';
	for (int format = DF_LOG_TEXT; format <= DF_LOG_JSON; format++) {
		df_log_setup(DF_LOG_INFO, (enum df_log_format)format, "t");
		begin(c);
		df_info("%s", text);
		end(c);
		assert_in_range(c->n, 1000, 4096);
		assert_int_equal(c->text[c->n - 1], '\n');
		assert_true(format == DF_LOG_TEXT || strcmp(c->text + c->n - 3, "\"}\n") == 0);
	}
	free(text);
}

static void hide(void)
{
	assert_int_equal(write(STDERR_FILENO, "<", 1), 1);
}

static void show(void)
{
	assert_int_equal(write(STDERR_FILENO, ">", 1), 1);
}

static void test_log__a_bar_steps_aside_for_each_line(void **state)
{
	struct capture *c = *state;
	df_log_setup(DF_LOG_INFO, DF_LOG_TEXT, "t");
	begin(c);
	df_log_set_bar(hide, show);
	df_info("one");
	df_debug("not shown");
	df_log_set_bar(NULL, NULL);
	df_info("two");
	end(c);
	assert_string_equal(c->text, "<t: one\n>t: two\n");
}

#define LINES 500

static void *log_many(void *arg)
{
	const char *letter = arg;
	char text[200];
	memset(text, *letter, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < LINES; i++)
		df_info("%s", text);
	return NULL;
}

static void test_log__lines_of_several_threads_do_not_mix(void **state)
{
	struct capture *c = *state;
	pthread_t thread[4];
	char letters[] = "abcd";
	size_t n_line = 0;
	df_log_setup(DF_LOG_INFO, DF_LOG_TEXT, "t");
	begin(c);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, log_many, &letters[i]), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	end(c);
	for (char *line = c->text; *line; line += 203, n_line++) {
		assert_memory_equal(line, "t: ", 3);
		assert_int_equal(strspn(line + 3, (char[]){line[3], '\0'}), 199);
		assert_int_equal(line[202], '\n');
	}
	assert_int_equal(n_line, 4 * LINES);
}

static void test_log__a_text_line_is_one_line_whatever_is_in_it(void **state)
{
	struct capture *c = *state;
	df_log_setup(DF_LOG_DEBUG, DF_LOG_TEXT, "docflume");
	begin(c);
	df_warn("%s", "a\nb\r\tc\x1b[2J\x7f\xc2\x9b\xc3\xa9 \xc2\xa0 \\ \"");
	end(c);
	assert_string_equal(c->text, "docflume: warning: a\\nb\\r\\tc\\x1b[2J\\x7f\\u009b\xc3\xa9 \xc2\xa0 \\ \"\n");
}

static void test_log__nobody_reads_and_nobody_waits_for_ever(void **state)
{
	static char full[1 << 20];
	char text[65536];
	int fd[2], saved = dup(STDERR_FILENO);
	(void)state;
	df_log_setup(DF_LOG_DEBUG, DF_LOG_TEXT, "docflume");
	assert_int_equal(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
	while (write(fd[1], full, sizeof(full)) > 0)
		;
	while (write(fd[1], full, 1) > 0)
		;
	assert_int_equal(fcntl(fd[1], F_SETFL, 0), 0); /* a blocking pipe that is full */
	assert_int_equal(dup2(fd[1], STDERR_FILENO), STDERR_FILENO);
	for (int i = 0; i < 1000; i++)
		df_info("line %d", i); /* the first waits a second, the others not at all */
	while (read(fd[0], full, sizeof(full)) > 0)
		;
	df_info("again");
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	ssize_t n = read(fd[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "docflume: warning: 1000 lines were dropped: nobody read them\ndocflume: again\n");
	(void)close(fd[0]);
	(void)close(fd[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_log__a_text_line_is_one_line_whatever_is_in_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_log__nobody_reads_and_nobody_waits_for_ever, set_up, tear_down),
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
		T(test_log__the_level_is_a_ceiling),
		T(test_log__text_says_who_and_how_bad),
		T(test_log__json_stays_json_whatever_the_message_holds),
		T(test_log__a_long_message_is_cut_and_still_ends_its_line),
		T(test_log__a_bar_steps_aside_for_each_line),
		T(test_log__lines_of_several_threads_do_not_mix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
