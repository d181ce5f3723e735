// SPDX-License-Identifier: Apache-2.0
/* The purse: a budget that concurrent processes cannot overshoot, kills, what is no money, and damage. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "proto/purse.h"

struct place {
	char dir[64];
	int fd;
};

static void make(struct place *p)
{
	(void)snprintf(p->dir, sizeof(p->dir), "/tmp/df-purse-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->fd >= 0);
}

static void removed(struct place *p)
{
	(void)unlinkat(p->fd, "purse", 0);
	(void)close(p->fd);
	(void)rmdir(p->dir);
}

static struct df_purse *open_purse(int dir_fd, double budget, int *ret_fd)
{
	struct df_purse *p = NULL;
	struct df_fail fail;
	if (df_purse_open(dir_fd, budget, &p, ret_fd, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	return p;
}

static void assert_usd(double a, double b)
{
	if (fabs(a - b) > 1e-8)
		fail_msg("%.10f is not %.10f", a, b);
}

static void test_purse__reserves_up_to_the_budget_and_not_a_nano_dollar_more(void **state)
{
	(void)state;
	int fd;
	struct df_purse *p = open_purse(-1, 0.07, &fd);
	assert_int_equal(df_purse_reserve(p, 0.07), DF_OK);
	assert_int_equal(df_purse_reserve(p, 1e-9), DF_ERR_QUOTA);
	assert_int_equal(df_purse_reserve(p, 0), DF_OK);
	df_purse_settle(p, 0.07, 0.05);
	assert_usd(df_purse_look(p).spent, 0.05);
	assert_usd(df_purse_look(p).reserved, 0);
	assert_int_equal(df_purse_look(p).calls, 1);
	assert_int_equal(df_purse_reserve(p, 0.0201), DF_ERR_QUOTA);
	assert_int_equal(df_purse_reserve(p, 0.02), DF_OK);
	df_purse_cancel(p, 0.02);
	assert_int_equal(df_purse_reserve(p, 0.02), DF_OK);
	df_purse_settle(p, 0.02, 0.30); /* it was more: booked as it is, and nothing goes after it */
	assert_usd(df_purse_look(p).spent, 0.35);
	assert_int_equal(df_purse_reserve(p, 0), DF_ERR_QUOTA);
	df_purse_close(&p);
	assert_null(p);
	df_purse_close(&p);
}

static void test_purse__without_a_budget_money_is_only_counted(void **state)
{
	(void)state;
	int fd;
	struct df_purse *p = open_purse(-1, 0, &fd);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(df_purse_reserve(p, 1000), DF_OK);
		df_purse_settle(p, 1000, 0.001);
	}
	assert_usd(df_purse_look(p).spent, 1);
	assert_usd(df_purse_look(p).budget, 0);
	df_purse_close(&p);
}

static void test_purse__calls_of_unknown_price_are_counted_and_cost_nothing(void **state)
{
	(void)state;
	struct place at;
	int fd = -1;
	make(&at);
	struct df_purse *p = open_purse(at.fd, 0, &fd);
	assert_int_equal(df_purse_reserve(p, 2), DF_OK);
	df_purse_settle(p, 2, 1);
	df_purse_unpriced(p);
	df_purse_unpriced(p);
	df_purse_close(&p);
	p = open_purse(at.fd, 0, &fd);
	struct df_purse_view v = df_purse_look(p);
	assert_int_equal(v.calls, 3);
	assert_int_equal(v.unpriced, 2);
	assert_usd(v.spent, 1);
	assert_usd(v.reserved, 0);
	df_purse_close(&p);
	removed(&at);
}

static void test_purse__what_is_no_amount_is_refused(void **state)
{
	(void)state;
	const double none[] = {NAN, INFINITY, -INFINITY, -1, -1e-12};
	struct df_fail fail;
	int fd;
	struct df_purse *p, *other = NULL;
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(df_purse_open(-1, none[i], &other, &fd, &fail), DF_ERR_RANGE);
	assert_int_equal(df_purse_open(-1, 1e300, &other, &fd, &fail), DF_ERR_RANGE);
	p = open_purse(-1, 5, &fd);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(df_purse_reserve(p, none[i]), DF_ERR_RANGE);
		assert_int_equal(df_purse_reserve(p, 1), DF_OK);
		df_purse_settle(p, 1, none[i]); /* nobody knows: the worst is booked */
		assert_usd(df_purse_look(p).spent, (double)i + 1);
	}
	df_purse_cancel(p, NAN);
	assert_int_equal(df_purse_reserve(p, 1e300), DF_ERR_QUOTA);
	assert_usd(df_purse_look(p).spent, 5);
	df_purse_close(&p);
	p = open_purse(-1, 0, &fd);
	df_purse_settle(p, 0, 1e300); /* as much as there can be; it does not wrap */
	df_purse_settle(p, 0, 1e300);
	assert_true(df_purse_look(p).spent > 1e9);
	assert_int_equal(df_purse_reserve(p, 1), DF_ERR_QUOTA);
	df_purse_close(&p);
}

static void test_purse__the_next_life_counts_what_was_reserved_as_spent(void **state)
{
	(void)state;
	struct place at;
	struct stat st;
	int fd;
	make(&at);
	struct df_purse *p = open_purse(at.fd, 5, &fd);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	pid_t pid = fork();
	if (pid == 0) {
		struct df_purse *child = NULL;
		if (df_purse_map(fd, 7, &child, NULL) != DF_OK || df_purse_reserve(child, 1.5) != DF_OK ||
		    df_purse_reserve(child, 0.5) != DF_OK)
			_exit(1);
		df_purse_settle(child, 0.5, 0.25);
		(void)kill(getpid(), SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_usd(df_purse_look(p).spent, 0.25);
	assert_usd(df_purse_look(p).reserved, 1.5);
	df_purse_close(&p);
	p = open_purse(at.fd, 3, &fd); /* another budget, the same money */
	assert_usd(df_purse_look(p).spent, 1.75);
	assert_usd(df_purse_look(p).reserved, 0);
	assert_usd(df_purse_look(p).budget, 3);
	assert_int_equal(df_purse_reserve(p, 1.26), DF_ERR_QUOTA);
	assert_int_equal(df_purse_reserve(p, 1.25), DF_OK);
	df_purse_cancel(p, 1.25);
	df_purse_close(&p);
	p = open_purse(at.fd, 0, &fd); /* no budget is named: the last one holds */
	assert_usd(df_purse_look(p).budget, 3);
	assert_int_equal(df_purse_reserve(p, 1.26), DF_ERR_QUOTA);
	df_purse_close(&p);
	removed(&at);
}

/* What a child really paid and may yet have to pay, never less than what it told the purse. */
struct truth {
	_Atomic int64_t paid, calls;
};

static void spend(int fd, uint64_t owner, struct truth *truth, uint64_t seed)
{
	struct df_purse *p = NULL;
	struct df_rand dice = df_rand_seeded(&seed);
	if (df_purse_map(fd, owner, &p, NULL) != DF_OK)
		_exit(1);
	for (;;) {
		int64_t worst = (int64_t)(dice.next(dice.self) % 2000000) + 1;
		enum df_err err = df_purse_reserve(p, (double)worst / 1e9);
		if (err == DF_ERR_QUOTA && worst < 1000)
			_exit(0);
		if (err != DF_OK)
			continue;
		if (dice.next(dice.self) % 5 == 0) {
			df_purse_cancel(p, (double)worst / 1e9);
			continue;
		}
		int64_t real = (int64_t)(dice.next(dice.self) % (uint64_t)worst);
		atomic_fetch_add(&truth->paid, real); /* the provider has it from here on */
		atomic_fetch_add(&truth->calls, 1);
		df_purse_settle(p, (double)worst / 1e9, (double)real / 1e9);
	}
}

static void assert_never_overshot(uint64_t seed, bool killing)
{
	struct place at;
	int fd;
	struct truth *truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(truth != MAP_FAILED);
	struct df_rand dice = df_rand_seeded(&seed);
	make(&at);
	const int64_t budget = 20 * 1000000000LL;
	for (int life = 0; life < (killing ? 6 : 1); life++) {
		struct df_purse *p = open_purse(at.fd, (double)budget / 1e9, &fd);
		pid_t pid[8];
		for (int i = 0; i < 8; i++) {
			uint64_t own = dice.next(dice.self);
			pid[i] = fork();
			if (pid[i] == 0)
				spend(fd, (uint64_t)life * 8 + (uint64_t)i + 1, truth, own);
		}
		for (int i = 0; i < 8; i++) {
			int status;
			if (killing && life < 5) {
				(void)usleep((useconds_t)(dice.next(dice.self) % 400));
				(void)kill(pid[i], SIGKILL);
			}
			assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
			if (life % 2 == 0) /* else the next life finds it */
				df_purse_died(p, (uint64_t)life * 8 + (uint64_t)i + 1);
		}
		struct df_purse_view v = df_purse_look(p);
		assert_true(v.spent <= v.budget && v.spent + v.reserved <= v.budget + 1e-9);
		assert_true(atomic_load(&truth->paid) <= budget);
		if (life % 2 == 0)
			assert_true(v.held < 1e-9 && v.reserved < 1e-9 && v.maybe <= v.spent);
		assert_true((v.spent - v.maybe) * 1e9 <= (double)atomic_load(&truth->paid) + 1);
		/* What is known as spent or reserved is never less than what was paid. */
		assert_true((v.spent + v.reserved) * 1e9 + 1 >= (double)atomic_load(&truth->paid));
		if (!killing) {
			assert_usd(v.spent, (double)atomic_load(&truth->paid) / 1e9);
			assert_usd(v.reserved, 0);
			assert_int_equal(v.calls, atomic_load(&truth->calls));
			assert_true(v.spent > v.budget - 0.002);
		}
		df_purse_close(&p);
	}
	removed(&at);
	(void)munmap(truth, sizeof(*truth));
}

/* It outlived its coordinator for a moment, and settles what the next life has counted as spent. */
static void test_purse__what_a_process_of_the_last_life_settles_is_not_counted_twice(void **state)
{
	(void)state;
	struct place d;
	int fd;
	struct df_fail fail;
	struct df_purse *late = NULL;
	make(&d);
	struct df_purse *p = open_purse(d.fd, 1, &fd);
	assert_int_equal(df_purse_map(fd, 7, &late, &fail), DF_OK);
	assert_int_equal(df_purse_reserve(late, 0.8), DF_OK);
	df_purse_close(&p);
	p = open_purse(d.fd, 1, &fd);
	assert_usd(df_purse_look(p).spent, 0.8);
	assert_usd(df_purse_look(p).maybe, 0.8);
	assert_int_equal(df_purse_reserve(late, 0.1), DF_ERR_QUOTA); /* and it pays for nothing new */
	df_purse_settle(late, 0.8, 0.25);
	assert_usd(df_purse_look(p).spent, 0.25);
	assert_usd(df_purse_look(p).maybe, 0);
	assert_int_equal(df_purse_reserve(p, 0.75), DF_OK);
	assert_int_equal(df_purse_reserve(p, 0.01), DF_ERR_QUOTA);
	df_purse_close(&late);
	df_purse_close(&p);
	removed(&d);
}

static void test_purse__knows_what_the_living_hold_and_what_the_dead_held_is_maybe_spent(void **state)
{
	(void)state;
	struct df_purse *a = NULL, *b = NULL;
	struct df_fail fail;
	int fd;
	struct df_purse *p = open_purse(-1, 1, &fd);
	assert_int_equal(df_purse_map(fd, 11, &a, &fail), DF_OK);
	assert_int_equal(df_purse_map(fd, 12, &b, &fail), DF_OK);
	assert_int_equal(df_purse_reserve(a, 0.3), DF_OK);
	assert_int_equal(df_purse_reserve(b, 0.6), DF_OK);
	assert_int_equal(df_purse_reserve(a, 0.2), DF_ERR_QUOTA); /* what was refused is held by nobody */
	assert_usd(df_purse_look(p).held, 0.9);
	df_purse_died(p, 13); /* who held nothing */
	df_purse_died(p, 12);
	struct df_purse_view v = df_purse_look(p);
	assert_usd(v.held, 0.3);
	assert_usd(v.spent, 0.6);
	assert_usd(v.maybe, 0.6);
	assert_usd(v.reserved, 0.3);
	df_purse_died(p, 12); /* once is enough */
	assert_usd(df_purse_look(p).spent, 0.6);
	df_purse_settle(a, 0.3, 0.1);
	v = df_purse_look(p);
	assert_usd(v.held, 0);
	assert_usd(v.spent, 0.7);
	assert_usd(v.maybe, 0.6);
	assert_int_equal(df_purse_reserve(a, 0.2), DF_OK);
	df_purse_all_died(p);
	df_purse_all_died(p); /* once is enough */
	v = df_purse_look(p);
	assert_usd(v.reserved, 0);
	assert_usd(v.spent, 0.9);
	assert_usd(v.maybe, 0.8);
	df_purse_close(&a);
	df_purse_close(&b);
	df_purse_close(&p);
}

static void test_purse__has_a_place_for_each_of_many_workers_again_and_again(void **state)
{
	(void)state;
	struct df_fail fail;
	int fd;
	struct df_purse *p = open_purse(-1, 1e6, &fd);
	for (uint64_t i = 1; i <= 3 * DF_WORKERS_MAX; i++) {
		struct df_purse *w = NULL;
		assert_int_equal(df_purse_map(fd, i, &w, &fail), DF_OK);
		assert_int_equal(df_purse_reserve(w, 1), DF_OK);
		if (i > DF_WORKERS_MAX)
			df_purse_died(p, i - DF_WORKERS_MAX);
		assert_usd(df_purse_look(p).held, (double)(i < DF_WORKERS_MAX ? i : DF_WORKERS_MAX));
		df_purse_close(&w);
	}
	assert_usd(df_purse_look(p).maybe, 2 * DF_WORKERS_MAX);
	df_purse_close(&p);
}

static void test_purse__what_was_perhaps_paid_counts_for_the_budget_and_is_told_apart(void **state)
{
	(void)state;
	struct place at;
	int fd;
	make(&at);
	struct df_purse *p = open_purse(at.fd, 1, &fd);
	assert_int_equal(df_purse_reserve(p, 0.5), DF_OK);
	df_purse_settle_maybe(p, 0.5, 0.5, 0.4);
	assert_int_equal(df_purse_reserve(p, 0.2), DF_OK);
	df_purse_settle_maybe(p, 0.2, 0.1, NAN); /* no amount: all of it */
	struct df_purse_view v = df_purse_look(p);
	assert_usd(v.spent, 0.6);
	assert_usd(v.maybe, 0.5);
	assert_int_equal(v.maybe_calls, 2);
	assert_int_equal(v.calls, 2);
	assert_int_equal(df_purse_reserve(p, 0.41), DF_ERR_QUOTA);
	df_purse_close(&p);
	p = open_purse(at.fd, 1, &fd);
	assert_usd(df_purse_look(p).maybe, 0.5);
	assert_int_equal(df_purse_look(p).maybe_calls, 2);
	df_purse_close(&p);
	removed(&at);
}

static void test_purse__of_a_version_without_places_goes_on(void **state)
{
	(void)state;
	struct place at;
	int fd;
	make(&at);
	struct df_purse *p = open_purse(at.fd, 2, &fd);
	assert_int_equal(df_purse_reserve(p, 1.5), DF_OK);
	df_purse_settle(p, 1.5, 1.25);
	df_purse_close(&p);
	int w = openat(at.fd, "purse", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(w, 4096), 0);
	(void)close(w);
	p = open_purse(at.fd, 0, &fd);
	assert_usd(df_purse_look(p).spent, 1.25);
	assert_usd(df_purse_look(p).budget, 2);
	assert_int_equal(df_purse_reserve(p, 0.75), DF_OK);
	assert_usd(df_purse_look(p).held, 0.75);
	df_purse_cancel(p, 0.75);
	df_purse_close(&p);
	removed(&at);
}

static void test_purse__is_synced_when_something_moved_and_else_not(void **state)
{
	(void)state;
	struct place at;
	struct df_fail fail;
	struct df_purse *child = NULL;
	bool synced = true;
	int fd;
	make(&at);
	struct df_purse *p = open_purse(at.fd, 5, &fd);
	assert_int_equal(df_purse_sync(p, &synced), DF_OK);
	assert_false(synced); /* opening has done it */
	assert_int_equal(df_purse_map(fd, 7, &child, &fail), DF_OK);
	assert_int_equal(df_purse_reserve(child, 1), DF_OK); /* another process's mapping */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(df_purse_sync(p, &synced), DF_OK);
		assert_true(synced == (i == 0));
	}
	df_purse_settle(child, 1, 1); /* committed stays: what is known of it does not */
	assert_int_equal(df_purse_sync(p, &synced), DF_OK);
	assert_true(synced);
	assert_int_equal(df_purse_sync(child, &synced), DF_OK);
	assert_false(synced); /* it is the opener's to do */
	df_purse_close(&child);
	df_purse_close(&p);
	removed(&at);
}

static void test_purse__eight_processes_never_overshoot_a_budget(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		assert_never_overshot(seed, false);
}

static void test_purse__nor_do_they_when_they_are_killed_and_begin_again(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++)
		assert_never_overshot(seed, true);
}

static void test_purse__anything_but_a_purse_is_refused(void **state)
{
	(void)state;
	struct place at;
	struct df_fail fail;
	struct df_purse *p = NULL;
	int fd;
	make(&at);
	const size_t sizes[] = {1, 100, 4095, 4097, 4096};
	for (size_t i = 0; i < 5; i++) {
		char *text = malloc(8192);
		assert_non_null(text);
		memset(text, 'x', 8192);
		int w = openat(at.fd, "purse", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_int_equal(write(w, text, sizes[i]), sizes[i]);
		(void)close(w);
		free(text);
		assert_int_equal(df_purse_open(at.fd, 5, &p, &fd, &fail), DF_ERR_CORRUPT);
		assert_non_null(strstr(fail.msg, "'purse' in the run directory"));
	}
	(void)unlinkat(at.fd, "purse", 0);
	assert_int_equal(symlinkat("/tmp/nowhere", at.fd, "purse"), 0);
	assert_int_not_equal(df_purse_open(at.fd, 5, &p, &fd, &fail), DF_OK);
	assert_int_equal(access("/tmp/nowhere", F_OK), -1);
	removed(&at);
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_int_equal(df_purse_map(zero, 7, &p, &fail), DF_ERR_CORRUPT);
	(void)close(zero);
	assert_int_not_equal(df_purse_map(-1, 7, &p, &fail), DF_OK);
	int empty = memfd_create("empty", MFD_CLOEXEC);
	assert_int_equal(ftruncate(empty, 4096), 0);
	assert_int_equal(df_purse_map(empty, 7, &p, &fail), DF_ERR_CORRUPT);
	(void)close(empty);
}

static void test_purse__one_that_was_half_made_is_made(void **state)
{
	(void)state;
	struct place at;
	int fd;
	make(&at);
	for (int i = 0; i < 2; i++) {
		int w = openat(at.fd, "purse", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_int_equal(ftruncate(w, i ? 4096 : 0), 0);
		(void)close(w);
		struct df_purse *p = open_purse(at.fd, 5, &fd);
		assert_usd(df_purse_look(p).spent, 0);
		assert_int_equal(df_purse_reserve(p, 5), DF_OK);
		df_purse_close(&p);
	}
	removed(&at);
}

/* Bits of the amounts cannot all be found, but none crashes, and none takes the budget away. */
static void test_purse__no_flipped_bit_crashes(void **state)
{
	(void)state;
	struct place at;
	struct df_fail fail;
	int fd, refused = 0;
	make(&at);
	for (int bit = 0; bit < 48 * 8; bit++) {
		struct df_purse *p = open_purse(at.fd, 5, &fd);
		assert_int_equal(df_purse_reserve(p, 2), DF_OK);
		df_purse_settle(p, 2, 1);
		unsigned char byte;
		assert_int_equal(pread(fd, &byte, 1, bit / 8), 1);
		byte ^= (unsigned char)(1 << bit % 8);
		int w = openat(at.fd, "purse", O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(w, &byte, 1, bit / 8), 1);
		(void)close(w);
		df_purse_close(&p);
		enum df_err err = df_purse_open(at.fd, 5, &p, &fd, &fail);
		assert_true(err == DF_OK || err == DF_ERR_CORRUPT);
		refused += err == DF_ERR_CORRUPT;
		if (err == DF_OK) {
			assert_int_equal(df_purse_reserve(p, 5.01), DF_ERR_QUOTA);
			df_purse_close(&p);
		}
		assert_int_equal(unlinkat(at.fd, "purse", 0), 0);
	}
	assert_true(refused >= 128);
	removed(&at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_purse__reserves_up_to_the_budget_and_not_a_nano_dollar_more),
		cmocka_unit_test(test_purse__without_a_budget_money_is_only_counted),
		cmocka_unit_test(test_purse__calls_of_unknown_price_are_counted_and_cost_nothing),
		cmocka_unit_test(test_purse__what_is_no_amount_is_refused),
		cmocka_unit_test(test_purse__the_next_life_counts_what_was_reserved_as_spent),
		cmocka_unit_test(test_purse__what_a_process_of_the_last_life_settles_is_not_counted_twice),
		cmocka_unit_test(test_purse__knows_what_the_living_hold_and_what_the_dead_held_is_maybe_spent),
		cmocka_unit_test(test_purse__has_a_place_for_each_of_many_workers_again_and_again),
		cmocka_unit_test(test_purse__what_was_perhaps_paid_counts_for_the_budget_and_is_told_apart),
		cmocka_unit_test(test_purse__of_a_version_without_places_goes_on),
		cmocka_unit_test(test_purse__is_synced_when_something_moved_and_else_not),
		cmocka_unit_test(test_purse__eight_processes_never_overshoot_a_budget),
		cmocka_unit_test(test_purse__nor_do_they_when_they_are_killed_and_begin_again),
		cmocka_unit_test(test_purse__anything_but_a_purse_is_refused),
		cmocka_unit_test(test_purse__one_that_was_half_made_is_made),
		cmocka_unit_test(test_purse__no_flipped_bit_crashes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
