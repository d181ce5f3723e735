// SPDX-License-Identifier: Apache-2.0
/* test_spawner: commands live no longer than who asked for them, however that one ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "worker/process/spawner.h"

static struct df_fail fail;

/* Runs the command with stdout on a pipe; returns the reading end. */
static int run(struct df_spawner *s, size_t number)
{
	int out[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_true(null >= 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(df_spawner_run(s, number, (int[3]){null, out[1], 2}, &fail), DF_OK);
	close(null);
	close(out[1]);
	return out[0];
}

static struct df_spawner *spawner_of(const char *a, const char *b)
{
	struct df_spawner *s = NULL;
	assert_int_equal(df_spawner_start((const char *[]){a, b}, 2, &s, &fail), DF_OK);
	return s;
}

/* All that the command writes, waiting for at most ten seconds for each piece. */
static const char *read_all(int fd)
{
	static char text[4096];
	size_t n = 0;
	struct pollfd w = {fd, POLLIN, 0};
	while (n + 1 < sizeof(text) && poll(&w, 1, 10000) == 1) {
		ssize_t got = read(fd, text + n, sizeof(text) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	text[n] = '\0';
	return text;
}

static const char *read_line(int fd)
{
	static char text[256];
	size_t n = 0;
	struct pollfd w = {fd, POLLIN, 0};
	while (n + 1 < sizeof(text) && poll(&w, 1, 10000) == 1 && read(fd, text + n, 1) == 1 && text[n] != '\n')
		n++;
	text[n] = '\0';
	return text;
}

static bool lives(pid_t pid)
{
	char path[64], line[512] = "";
	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	FILE *f = fopen(path, "r");
	bool alive = f && fgets(line, sizeof(line), f) && !strstr(line, ") Z ") && !strstr(line, ") X ");
	if (f)
		(void)fclose(f);
	return alive;
}

/* Within a second. */
static bool dies(pid_t pid)
{
	for (int i = 0; i < 1000 && lives(pid); i++)
		(void)usleep(1000);
	return !lives(pid);
}

static void test_spawner__runs_the_command_of_that_number_and_no_other(void **state)
{
	(void)state;
	struct df_spawner *s = spawner_of("echo zero", "echo one");
	int status = -1, fd = run(s, 1);
	assert_string_equal(read_all(fd), "one\n");
	close(fd);
	assert_int_equal(df_spawner_finish(s, &status, &fail), DF_OK);
	assert_int_equal(status, 0);
	fd = run(s, 0);
	assert_string_equal(read_all(fd), "zero\n");
	close(fd);
	assert_int_equal(df_spawner_finish(s, &status, &fail), DF_OK);
	assert_int_equal(df_spawner_run(s, 2, (int[3]){0, 1, 2}, &fail), DF_ERR_IO); /* there is none */
	assert_int_equal(df_spawner_run(s, SIZE_MAX, (int[3]){0, 1, 2}, &fail), DF_ERR_IO);
	df_spawner_stop(&s);
	s = spawner_of(NULL, "exit 3");
	assert_int_equal(df_spawner_run(s, 0, (int[3]){0, 1, 2}, &fail), DF_ERR_IO);
	close(run(s, 1));
	struct pollfd w = {df_spawner_fd(s), POLLIN, 0};
	assert_int_equal(poll(&w, 1, 10000), 1);
	assert_true(df_spawner_has_ended(s));
	assert_int_equal(df_spawner_finish(s, &status, &fail), DF_OK);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	df_spawner_stop(&s);
	df_spawner_stop(&s);
}

static void test_spawner__a_second_command_waits_for_the_end_of_the_first(void **state)
{
	(void)state;
	int status = 0;
	struct df_spawner *s = spawner_of("sleep 100", NULL);
	close(run(s, 0));
	assert_false(df_spawner_has_ended(s));
	assert_int_equal(df_spawner_run(s, 0, (int[3]){0, 1, 2}, &fail), DF_ERR_IO);
	assert_int_equal(df_spawner_finish(s, &status, &fail), DF_OK);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(run(s, 0));
	df_spawner_stop(&s);
}

#define STUBBORN                                                                                                       \
	"trap '' TERM INT HUP; sleep 1000 & echo $!; (trap '' TERM; (sleep 1000 & echo $!) &); echo $$; "              \
	"while :; do sleep 1; done"

/* One that ignores signals, its child, and a grandchild whose parent has gone. */
static void read_pids(int fd, pid_t pid[3])
{
	for (int i = 0; i < 3; i++) {
		pid[i] = (pid_t)strtol(read_line(fd), NULL, 10);
		assert_true(pid[i] > 1);
		assert_true(lives(pid[i]));
	}
}

static void test_spawner__finish_leaves_nobody_of_the_group(void **state)
{
	(void)state;
	struct df_spawner *s = spawner_of(STUBBORN, NULL);
	int status = 0, fd = run(s, 0);
	pid_t pid[3];
	read_pids(fd, pid);
	assert_int_equal(df_spawner_finish(s, &status, &fail), DF_OK);
	for (int i = 0; i < 3; i++)
		assert_true(dies(pid[i]));
	close(fd);
	df_spawner_stop(&s);
}

/* It catches what ends a process. */
static void forget_cmocka(void)
{
	for (int i = 1; i < NSIG; i++)
		(void)signal(i, SIG_DFL);
}

/* A process of its own that has a spawner and a command, and does nothing more. */
static pid_t worker(int out, bool stop_spawner)
{
	pid_t pid = fork();
	if (pid)
		return pid;
	forget_cmocka();
	char command[512];
	(void)snprintf(command, sizeof(command), "%s%s", stop_spawner ? "kill -STOP $PPID; " : "", STUBBORN);
	struct df_spawner *s = NULL;
	if (df_spawner_start((const char *[]){command}, 1, &s, &fail) != DF_OK ||
	    df_spawner_run(s, 0, (int[3]){0, out, 2}, &fail) != DF_OK)
		_exit(1);
	for (;;)
		(void)pause();
}

static void killed_with(int sig, bool stop_spawner)
{
	int out[2], status = 0;
	pid_t pid[3];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid_t who = worker(out[1], stop_spawner);
	close(out[1]);
	read_pids(out[0], pid);
	assert_int_equal(kill(who, sig), 0);
	assert_int_equal(waitpid(who, &status, 0), who);
	assert_true(WIFSIGNALED(status));
	for (int i = 0; i < 3; i++)
		assert_true(dies(pid[i]));
	assert_string_equal(read_all(out[0]), ""); /* nobody holds the pipe */
	close(out[0]);
}

static void test_spawner__a_worker_that_is_killed_leaves_no_command_behind(void **state)
{
	(void)state;
	killed_with(SIGKILL, false);
	killed_with(SIGSEGV, false);
	killed_with(SIGTERM, false);
}

static void test_spawner__one_that_is_stopped_wakes_up_to_do_its_duty(void **state)
{
	(void)state;
	killed_with(SIGKILL, true);
}

static void test_spawner__who_loses_it_dies_the_same_way(void **state)
{
	(void)state;
	static const int sigs[] = {SIGKILL, SIGSEGV, SIGABRT};
	for (size_t i = 0; i < 3; i++) {
		int status = 0;
		pid_t who = fork();
		if (who == 0) {
			forget_cmocka();
			char command[64];
			struct df_spawner *s = NULL;
			(void)snprintf(command, sizeof(command), "kill -%d $PPID; exec sleep 100", sigs[i]);
			if (df_spawner_start((const char *[]){command}, 1, &s, &fail) != DF_OK)
				_exit(1);
			if (df_spawner_run(s, 0, (int[3]){0, 1, 2}, &fail) == DF_ERR_CHILD)
				df_spawner_lost(s); /* before it could say that it has started */
			struct pollfd w = {df_spawner_fd(s), POLLIN, 0};
			(void)poll(&w, 1, 10000);
			if (!df_spawner_has_ended(s) || df_spawner_finish(s, &status, &fail) != DF_ERR_CHILD)
				_exit(2);
			df_spawner_lost(s);
		}
		assert_int_equal(waitpid(who, &status, 0), who);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), sigs[i]);
	}
}

static void test_spawner__signals_to_the_whole_group_do_not_end_it(void **state)
{
	(void)state;
	int status = 0;
	pid_t who = fork();
	if (who == 0) { /* a group of our own, so that nobody else is hit */
		static const int sigs[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1};
		struct df_spawner *s = NULL;
		(void)setpgid(0, 0);
		if (df_spawner_start((const char *[]){"exit 7"}, 1, &s, &fail) != DF_OK)
			_exit(1);
		(void)usleep(200000); /* it has begun to listen by then; if not, this proves less */
		for (size_t i = 0; i < 5; i++) {
			(void)signal(sigs[i], SIG_IGN);
			(void)kill(0, sigs[i]);
		}
		if (df_spawner_run(s, 0, (int[3]){0, 1, 2}, &fail) != DF_OK)
			_exit(2);
		struct pollfd w = {df_spawner_fd(s), POLLIN, 0};
		(void)poll(&w, 1, 10000);
		if (df_spawner_finish(s, &status, &fail) != DF_OK)
			_exit(3);
		df_spawner_stop(&s);
		_exit(WEXITSTATUS(status));
	}
	assert_int_equal(waitpid(who, &status, 0), who);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

static void test_spawner__commands_get_three_descriptors_and_plain_signals(void **state)
{
	(void)state;
	int leak = dup(1), status = 0;
	(void)signal(SIGUSR2, SIG_IGN);
	struct df_spawner *s = spawner_of("ls /proc/self/fd | tr '\\n' ' '; grep SigIgn /proc/self/status", NULL);
	(void)signal(SIGUSR2, SIG_DFL);
	int fd = run(s, 0);
	const char *text = read_all(fd);
	assert_non_null(strstr(text, "0 1 2 3 SigIgn")); /* 3: the folder itself, which ls reads */
	assert_non_null(strstr(text, "0000000000000000"));
	close(fd);
	close(leak);
	assert_int_equal(df_spawner_finish(s, &status, &fail), DF_OK);
	df_spawner_stop(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spawner__runs_the_command_of_that_number_and_no_other),
		cmocka_unit_test(test_spawner__a_second_command_waits_for_the_end_of_the_first),
		cmocka_unit_test(test_spawner__finish_leaves_nobody_of_the_group),
		cmocka_unit_test(test_spawner__a_worker_that_is_killed_leaves_no_command_behind),
		cmocka_unit_test(test_spawner__one_that_is_stopped_wakes_up_to_do_its_duty),
		cmocka_unit_test(test_spawner__who_loses_it_dies_the_same_way),
		cmocka_unit_test(test_spawner__signals_to_the_whole_group_do_not_end_it),
		cmocka_unit_test(test_spawner__commands_get_three_descriptors_and_plain_signals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
