// SPDX-License-Identifier: Apache-2.0
/* One limit: places, days, refusals, slots, and the file: what is refused, repaired, and survived. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "help_limit.h"
#include "worker/limit/state.h"
#include "worker/limit/where.h"

#define MINUTE (60 * DF_SEC)
#define DAY (86400 * DF_SEC)

struct bench {
	struct world w;
	struct df_limit *l;
	const char *dir;
	struct df_fail fail;
	struct df_reservation r;
};

static enum df_err open_one(struct bench *b, struct df_limit **ret)
{
	struct df_limit_config c = b->w.config;
	c.dir = b->dir;
	c.boot_ns = world_boot;
	c.wall_ns = world_wall;
	c.self = &b->w;
	if (!c.name.n)
		c.name = DF_STR("openai https://api.example/v1 gpt-4o-mini");
	c.key = DF_STR("sk-planted-secret");
	return df_limit_open(&c, ret, &b->fail);
}

static void open_with(struct bench *b, struct df_limit_config config)
{
	b->w.config = config;
	if (!b->dir) {
		b->dir = limit_dir_make();
		b->w.now = 1000 * DF_SEC;
		b->w.wall = 20000 * DAY;
	}
	if (open_one(b, &b->l) != DF_OK)
		fail_msg("%s", b->fail.msg);
}

static void done(struct bench *b)
{
	df_limit_close(&b->l);
	limit_dir_remove(b->dir);
}

static void file_of(struct bench *b, char *ret, size_t size)
{
	(void)snprintf(ret, size, "%s", b->l->path);
}

/* ------------------------------------------------------------------ places */

static void test_limit__places_are_an_interval_apart_and_only_so_far_ahead(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.rpm = 600});
	uint64_t interval = DF_MINUTE_NS * 1000 / (600 * 995) + 1, first = b.w.now;
	struct df_limit *other;
	assert_int_equal(open_one(&b, &other), DF_OK);
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, first);
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, first + interval);
	/* Half as far for whoever has one already; the other still finds room. */
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	assert_int_equal(df_limit_reserve(other, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, first + 2 * interval);
	assert_int_equal(df_limit_reserve(other, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	assert_true(b.r.at_boot_ns > b.w.now && b.r.at_boot_ns < first + 3 * interval);
	b.w.now = b.r.at_boot_ns;
	assert_int_equal(df_limit_reserve(other, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, first + 3 * interval);
	/* A pause saves nothing up. */
	b.w.now += 10 * MINUTE;
	for (int i = 0; i < 2; i++)
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, b.w.now + interval);
	df_limit_close(&other);
	done(&b);
}

static void test_limit__who_waits_looks_again_soon_enough_for_a_machine_that_sleeps(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.rpm = 600});
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_true(df_limit_valid(b.l, &b.r));
	assert_true(df_limit_push(b.l, &b.r, NULL, 3600 * 1000));
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	assert_true(b.r.at_boot_ns > b.w.now && b.r.at_boot_ns <= b.w.now + 5 * DF_SEC);
	b.w.now += DF_SEC; /* asking in vain changes nothing */
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	b.w.now += 2 * 3600 * DF_SEC; /* two hours of sleep */
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, b.w.now);
	done(&b);
}

static void test_limit__burst_lets_so_many_go_at_once(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.rpm = 60, .burst = 5});
	b.w.now += MINUTE;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
		assert_int_equal(b.r.at_boot_ns, b.w.now);
	}
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	done(&b);
}

static void test_limit__without_a_limit_nothing_waits(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){0});
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(df_limit_reserve(b.l, 1000000, &b.r, &b.fail), DF_OK);
		assert_int_equal(b.r.at_boot_ns, b.w.now);
	}
	b.w.now += 10 * DF_SEC;
	assert_true(df_limit_valid(b.l, &b.r)); /* and nothing is late */
	done(&b);
}

static void test_limit__the_later_of_the_two_clocks_holds_and_both_move(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.rpm = 6000, .tpm = 60000}); /* 995 tokens a second */
	uint64_t first = b.w.now;
	assert_int_equal(df_limit_reserve(b.l, 199, &b.r, &b.fail), DF_OK); /* 0.2 s */
	b.w.now += 80 * DF_MS;
	assert_int_equal(df_limit_reserve(b.l, 10, &b.r, &b.fail), DF_OK);
	assert_in_range(b.r.at_boot_ns, first + 200 * DF_MS, first + 200 * DF_MS + 2);
	b.w.now +=
		200 *
		DF_MS; /* 10 tokens are 10.05 ms, which is more than a request's 10.05: both stand at the same time */
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, b.w.now);
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_in_range(b.r.at_boot_ns, b.w.now + 10 * DF_MS, b.w.now + 11 * DF_MS);
	done(&b);
}

static void test_limit__a_place_that_is_late_or_void_is_not_used(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.rpm = 600});
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	b.w.now = b.r.at_boot_ns + 50 * DF_MS;
	assert_true(df_limit_valid(b.l, &b.r));
	b.w.now += 2 * DF_MS;
	assert_false(df_limit_valid(b.l, &b.r));
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	df_limit_push(b.l, NULL, NULL, 1);
	assert_false(df_limit_valid(b.l, &b.r));
	done(&b);
}

static void test_limit__a_cancelled_place_is_given_again_when_it_is_the_newest(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_reservation second;
	open_with(&b, (struct df_limit_config){.rpm = 600, .rpd = 10});
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(df_limit_reserve(b.l, 0, &second, &b.fail), DF_OK);
	df_limit_cancel(b.l, &second);
	assert_int_equal(df_limit_look(b.l).used_rpd, 1);
	struct df_reservation again;
	assert_int_equal(df_limit_reserve(b.l, 0, &again, &b.fail), DF_OK);
	assert_int_equal(again.at_boot_ns, second.at_boot_ns);
	df_limit_cancel(b.l, &b.r); /* not the newest: its place is lost, its day is not */
	assert_int_equal(df_limit_look(b.l).used_rpd, 1);
	b.w.now = again.at_boot_ns;
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_true(b.r.at_boot_ns > again.at_boot_ns);
	done(&b);
}

static void test_limit__tokens_that_were_not_used_come_back_and_more_are_charged(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.tpm = 60000, .tpd = 100000});
	struct df_reservation first;
	assert_int_equal(df_limit_reserve(b.l, 30000, &first, &b.fail), DF_OK);
	assert_true(df_limit_valid(b.l, &first));
	assert_int_equal(df_limit_reserve(b.l, 10, &b.r, &b.fail), DF_ERR_AGAIN);
	assert_true(b.r.at_boot_ns <= b.w.now + DF_SEC); /* it may come sooner: so it looks again */
	df_limit_settle(b.l, &first, 100);
	assert_int_equal(df_limit_look(b.l).used_tpd, 100);
	assert_int_equal(df_limit_reserve(b.l, 10, &b.r, &b.fail), DF_OK);
	assert_true(b.r.at_boot_ns <= b.w.now + 110 * DF_MS);
	df_limit_settle(b.l, &b.r, 5010);
	assert_int_equal(df_limit_look(b.l).used_tpd, 5110);
	b.w.now += 4 * DF_SEC;
	assert_int_equal(df_limit_reserve(b.l, 10, &b.r, &b.fail), DF_ERR_AGAIN);
	b.w.now += 2 * DF_SEC;
	assert_int_equal(df_limit_reserve(b.l, 10, &b.r, &b.fail), DF_OK);
	done(&b);
}

static void test_limit__what_can_never_fit_is_refused_at_once(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.tpm = 1000, .tpd = 5000});
	assert_int_equal(df_limit_reserve(b.l, 1001, &b.r, &b.fail), DF_ERR_LIMIT);
	assert_non_null(strstr(b.fail.msg, "can never fit model \"gpt-4o-mini\""));
	assert_int_equal(df_limit_reserve(b.l, UINT64_MAX, &b.r, &b.fail), DF_ERR_LIMIT);
	assert_int_equal(df_limit_reserve(b.l, 990, &b.r, &b.fail), DF_OK);
	done(&b);
}

/* ------------------------------------------------------------------ days */

static void test_limit__a_day_is_counted_across_runs_and_begins_anew_at_midnight(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.rpd = 3});
	b.w.wall = 20000 * DAY + 22 * 60 * MINUTE - b.w.now;
	for (int i = 0; i < 3; i++) {
		df_limit_close(&b.l);
		open_with(&b, (struct df_limit_config){.rpd = 3});
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	}
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_QUOTA);
	assert_non_null(strstr(b.fail.msg, "daily limit hit for model \"gpt-4o-mini\""));
	assert_non_null(strstr(b.fail.msg, "in 2 h"));
	b.w.now += 120 * MINUTE + 2 * DF_SEC;
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(df_limit_look(b.l).used_rpd, 1);
	done(&b);
}

static void test_limit__a_wall_clock_that_is_set_back_gives_no_second_day(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.tpd = 100});
	assert_int_equal(df_limit_reserve(b.l, 100, &b.r, &b.fail), DF_OK);
	for (int i = 1; i < 5; i++) {
		b.w.wall -= DAY;
		b.w.now += 2 * DF_SEC;
		assert_int_equal(df_limit_reserve(b.l, 1, &b.r, &b.fail), DF_ERR_QUOTA);
	}
	b.w.wall += DAY; /* from where it stands now, the next midnight counts: nobody waits for years */
	b.w.now += 2 * DF_SEC;
	assert_int_equal(df_limit_reserve(b.l, 1, &b.r, &b.fail), DF_OK);
	done(&b);
}

static void test_limit__neither_clock_moves_when_the_day_is_used_up(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_cell before, after;
	uint64_t head;
	open_with(&b, (struct df_limit_config){.rpm = 60, .tpm = 1000, .rpd = 1});
	assert_int_equal(df_limit_reserve(b.l, 10, &b.r, &b.fail), DF_OK);
	b.w.now += MINUTE;
	assert_int_equal(df_cell_read(b.l, &before, &head), DF_OK);
	assert_int_equal(df_limit_reserve(b.l, 10, &b.r, &b.fail), DF_ERR_QUOTA);
	assert_int_equal(df_cell_read(b.l, &after, &head), DF_OK);
	assert_memory_equal(&before, &after, sizeof(before));
	done(&b);
}

static void test_limit__a_reboot_begins_the_clocks_anew_and_keeps_the_day(void **state)
{
	(void)state;
	struct bench b = {0};
	open_with(&b, (struct df_limit_config){.rpm = 600, .rpd = 10});
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	df_limit_push(b.l, &b.r, NULL, 3600000);
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	atomic_store(&b.l->file->boot, 1); /* of another boot */
	df_limit_close(&b.l);
	b.w.wall += b.w.now - DF_SEC;
	b.w.now = DF_SEC;
	open_with(&b, (struct df_limit_config){.rpm = 600, .rpd = 10});
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_true(b.r.at_boot_ns > b.w.now && b.r.at_boot_ns < b.w.now + DF_LIMIT_AHEAD_NS);
	assert_int_equal(df_limit_look(b.l).used_rpd, 1); /* the refused one was given back */
	done(&b);
}

/* ------------------------------------------------------------------ what servers say */

static void test_limit__late_answers_of_one_refusal_count_once(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_reservation r[8];
	open_with(&b, (struct df_limit_config){.rpm = 6000});
	for (int i = 0; i < 8; i++) {
		assert_int_equal(df_limit_reserve(b.l, 0, &r[i], &b.fail), DF_OK);
		b.w.now = r[i].at_boot_ns;
		assert_true(df_limit_valid(b.l, &r[i]));
	}
	df_limit_push(b.l, &r[0], NULL, 1000);
	uint64_t rate = df_limit_look(b.l).rpm;
	for (int i = 1; i < 8; i++)
		df_limit_push(b.l, &r[i], NULL, 1000 + i);
	assert_int_equal(df_limit_look(b.l).rpm, rate);
	assert_int_equal(df_limit_look(b.l).n_429, 8);
	uint64_t until = b.w.now + 1007 * DF_MS;
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	assert_int_equal(b.r.at_boot_ns, until - DF_LIMIT_AHEAD_NS);
	b.w.now = b.r.at_boot_ns;
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(b.r.at_boot_ns, until);
	done(&b);
}

static void test_limit__headers_lower_a_rate_and_never_raise_it_above_what_was_configured(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_limit_news news = {.requests_limit = 300,
				     .requests_left = 299,
				     .requests_reset_ms = 200,
				     .tokens_limit = 50000,
				     .tokens_left = 49000,
				     .tokens_reset_ms = 1200,
				     .retry_after_ms = -1};
	open_with(&b, (struct df_limit_config){.rpm = 600});
	df_limit_learn(b.l, &news);
	assert_in_range(df_limit_look(b.l).rpm, 298, 300);
	assert_in_range(df_limit_look(b.l).tpm, 49000, 50000);
	news.requests_limit = 100000;
	df_limit_learn(b.l, &news);
	assert_true(df_limit_look(b.l).rpm <= 600);
	done(&b);
}

static void test_limit__what_headers_lowered_they_raise_again_up_to_what_was_configured(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_limit_news news = {.requests_limit = 100,
				     .requests_left = 99,
				     .requests_reset_ms = 600,
				     .tokens_limit = 10000,
				     .tokens_left = 9990,
				     .tokens_reset_ms = 60,
				     .retry_after_ms = -1};
	open_with(&b, (struct df_limit_config){.rpm = 600, .tpm = 50000});
	df_limit_learn(b.l, &news);
	assert_in_range(df_limit_look(b.l).rpm, 99, 100);
	assert_in_range(df_limit_look(b.l).tpm, 9900, 10000);
	news.requests_limit =
		300; /* the provider gives more now, and then all that was configured, and then far more */
	news.tokens_limit = 30000;
	df_limit_learn(b.l, &news);
	assert_in_range(df_limit_look(b.l).rpm, 298, 300);
	assert_in_range(df_limit_look(b.l).tpm, 29800, 30000);
	for (int i = 1; i <= 2; i++) {
		news.requests_limit = 600 * i;
		news.tokens_limit = 50000 * i;
		df_limit_learn(b.l, &news);
		assert_in_range(df_limit_look(b.l).rpm, 596, 600);
		assert_in_range(df_limit_look(b.l).tpm, 49700, 50000);
		assert_int_equal(df_limit_reserve(b.l, 45000, &b.r, &b.fail), DF_OK);
		df_limit_cancel(b.l, &b.r);
	}
	done(&b);
}

static void test_limit__what_a_429_has_taught_headers_do_not_raise(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_limit_news news = {.requests_limit = 600,
				     .requests_left = 599,
				     .requests_reset_ms = 100,
				     .tokens_limit = -1,
				     .tokens_left = -1,
				     .tokens_reset_ms = -1,
				     .retry_after_ms = -1};
	open_with(&b, (struct df_limit_config){.rpm = 600});
	for (int i = 0; i < 4; i++) {
		while (df_limit_reserve(b.l, 0, &b.r, &b.fail) != DF_OK)
			b.w.now = b.r.at_boot_ns;
		b.w.now = b.r.at_boot_ns;
		(void)df_limit_push(b.l, &b.r, NULL, 5000);
	}
	uint64_t learned = df_limit_look(b.l).rpm;
	assert_true(learned < 500);
	df_limit_learn(b.l, &news);
	assert_int_equal(df_limit_look(b.l).rpm, learned);
	done(&b);
}

static void test_limit__a_call_above_a_limit_that_only_headers_told_is_tried_again_after_a_while(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_limit_news news = {-1, -1, 30000, 29000, -1, 2000, -1};
	open_with(&b, (struct df_limit_config){0});
	df_limit_learn(b.l, &news);
	assert_int_equal(df_limit_reserve(b.l, 100, &b.r, &b.fail), DF_OK);
	assert_int_equal(df_limit_reserve(b.l, 40000, &b.r, &b.fail), DF_ERR_LIMIT);
	b.w.now += 9 * 60 * DF_SEC;
	assert_int_equal(df_limit_reserve(b.l, 40000, &b.r, &b.fail), DF_ERR_LIMIT);
	b.w.now +=
		2 * 60 * DF_SEC; /* nothing else has asked meanwhile: nobody could have told that there is more now */
	assert_int_equal(df_limit_reserve(b.l, 40000, &b.r, &b.fail), DF_OK);
	struct df_reservation another;
	assert_int_equal(df_limit_reserve(b.l, 40000, &another, &b.fail), DF_ERR_LIMIT); /* one at a time */
	news.tokens_limit = 450000;
	df_limit_learn(b.l, &news);
	b.w.now += 90 * DF_SEC; /* what it took at the old rate */
	assert_int_equal(df_limit_reserve(b.l, 40000, &b.r, &b.fail), DF_OK);
	done(&b);
}

static void test_limit__headers_of_a_day_are_not_taken_for_a_minute(void **state)
{
	(void)state;
	assert_int_equal(df_learn_told(10000, 9999, 8640), -1);
	assert_int_equal(df_learn_told(600, 599, 100), 600);
	assert_int_equal(df_learn_told(600, 0, 60000), 600);
	assert_int_equal(df_learn_told(600, 600, 0), 600);
	assert_int_equal(df_learn_told(600, -1, -1), 600);
	assert_int_equal(df_learn_told(10000, 0, 86400000), -1);
	assert_int_equal(df_learn_told(0, 0, 0), -1);
	assert_int_equal(df_learn_told(-1, -1, -1), -1);
}

static void test_limit__an_unknown_limit_is_learned_from_headers(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_limit_news news = {600, 599, -1, -1, 100, -1, -1};
	open_with(&b, (struct df_limit_config){0});
	df_limit_learn(b.l, &news);
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_in_range(b.r.at_boot_ns, b.w.now + 100 * DF_MS, b.w.now + 101 * DF_MS);
	done(&b);
}

/* ------------------------------------------------------------------ slots */

static void test_limit__calls_in_flight_are_counted_over_all_and_given_back(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_limit *other;
	uint32_t slot[8], more;
	open_with(&b, (struct df_limit_config){.concurrency = 8});
	assert_int_equal(open_one(&b, &other), DF_OK);
	for (int i = 0; i < 8; i++)
		assert_int_equal(df_limit_enter(i % 2 ? b.l : other, &slot[i]), DF_OK);
	assert_int_equal(df_limit_enter(b.l, &more), DF_ERR_AGAIN);
	assert_int_equal(df_limit_enter(other, &more), DF_ERR_AGAIN);
	assert_int_equal(df_limit_look(b.l).in_flight, 8);
	df_limit_leave(b.l, slot[0]); /* not its own: nothing happens */
	assert_int_equal(df_limit_enter(b.l, &more), DF_ERR_AGAIN);
	df_limit_leave(b.l, slot[1]);
	assert_int_equal(df_limit_enter(other, &more), DF_OK);
	df_limit_close(&other); /* gives back its 5 */
	assert_int_equal(df_limit_look(b.l).in_flight, 3);
	for (int i = 0; i < 5; i++)
		assert_int_equal(df_limit_enter(b.l, &more), DF_OK);
	assert_int_equal(df_limit_enter(b.l, &more), DF_ERR_AGAIN);
	done(&b);
}

static void test_limit__without_a_limit_calls_in_flight_are_still_seen(void **state)
{
	(void)state;
	struct bench b = {0};
	uint32_t slot;
	open_with(&b, (struct df_limit_config){0});
	for (int i = 0; i < 3; i++)
		assert_int_equal(df_limit_enter(b.l, &slot), DF_OK);
	assert_int_equal(slot, DF_LIMIT_NO_SLOT);
	assert_int_equal(df_limit_look(b.l).in_flight, 3);
	df_limit_leave(b.l, slot);
	assert_int_equal(df_limit_look(b.l).in_flight, 2);
	done(&b);
}

/* ------------------------------------------------------------------ the file */

static void test_limit__the_file_is_private_and_holds_no_secret(void **state)
{
	(void)state;
	struct bench b = {0};
	struct stat st;
	char path[600], dir[300], *text = malloc(sizeof(struct df_limit_file));
	open_with(&b, (struct df_limit_config){.rpm = 60});
	file_of(&b, path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_null(strstr(path, "secret"));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(struct df_limit_file)), sizeof(struct df_limit_file));
	(void)close(fd);
	assert_null(memmem(text, sizeof(struct df_limit_file), "planted", 7));
	free(text);
	/* A folder that is missing is made, for this user alone. */
	(void)snprintf(dir, sizeof(dir), "%s/state", b.dir);
	assert_int_equal(setenv("XDG_STATE_HOME", dir, 1), 0);
	assert_int_equal(unsetenv("DOCFLUME_LIMITS"), 0);
	struct df_limit *l;
	struct df_limit_config c = {.name = DF_STR("a"), .rpm = 1};
	assert_int_equal(df_limit_open(&c, &l, &b.fail), DF_OK);
	(void)snprintf(path, sizeof(path), "%s/docflume/limits", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(unlink(l->path), 0);
	df_limit_close(&l);
	assert_int_equal(rmdir(path), 0);
	path[strlen(path) - strlen("/limits")] = '\0';
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
	done(&b);
}

static void test_limit__another_model_or_key_is_another_file(void **state)
{
	(void)state;
	char a[DF_LIMIT_NAME], b[DF_LIMIT_NAME], c[DF_LIMIT_NAME];
	df_limit_name(&(struct df_limit_config){.name = DF_STR("openai u gpt"), .key = DF_STR("k1")}, a);
	df_limit_name(&(struct df_limit_config){.name = DF_STR("openai u gpt"), .key = DF_STR("k2")}, b);
	df_limit_name(&(struct df_limit_config){.name = DF_STR("openai u gpt5"), .key = DF_STR("k1")}, c);
	assert_string_not_equal(a, b);
	assert_string_not_equal(a, c);
	assert_int_equal(strlen(a), 32);
}

static void test_limit__network_file_systems_are_refused(void **state)
{
	(void)state;
	assert_true(df_limit_fs_is_shared(0x6969));                                 /* NFS */
	assert_true(df_limit_fs_is_shared(0xff534d42));                             /* CIFS */
	assert_true(df_limit_fs_is_shared((uint64_t)(int64_t)(int32_t)0xfe534d42)); /* SMB2, as a signed word */
	assert_true(df_limit_fs_is_shared(0x01021997));                             /* 9p */
	assert_true(df_limit_fs_is_shared(0x65735546));                             /* FUSE */
	assert_false(df_limit_fs_is_shared(0xef53));                                /* ext4 */
	assert_false(df_limit_fs_is_shared(0x01021994));                            /* tmpfs */
	assert_false(df_limit_fs_is_shared(0x794c7630));                            /* overlayfs */
	assert_false(df_limit_fs_is_shared(0x58465342));                            /* xfs */
}

static void test_limit__files_and_folders_that_others_can_reach_are_refused(void **state)
{
	(void)state;
	struct bench b = {0};
	char path[600], aside[700];
	open_with(&b, (struct df_limit_config){.rpm = 60});
	file_of(&b, path, sizeof(path));
	df_limit_close(&b.l);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(open_one(&b, &b.l), DF_ERR_USAGE);
	assert_int_equal(chmod(path, 0600), 0);
	(void)snprintf(aside, sizeof(aside), "%s.x", path);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(symlink(aside, path), 0);
	assert_int_not_equal(open_one(&b, &b.l), DF_OK);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(link(aside, path), 0);
	assert_int_equal(open_one(&b, &b.l), DF_ERR_USAGE); /* a second name */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(open_one(&b, &b.l), DF_ERR_USAGE); /* and it does not wait for a writer */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(chmod(b.dir, 0777), 0);
	assert_int_equal(open_one(&b, &b.l), DF_ERR_USAGE);
	assert_int_equal(chmod(b.dir, 0700), 0);
	assert_int_equal(open_one(&b, &b.l), DF_OK);
	done(&b);
}

static void test_limit__a_file_that_was_only_half_made_is_made(void **state)
{
	(void)state;
	struct bench b = {0};
	char path[600];
	open_with(&b, (struct df_limit_config){.rpm = 60});
	file_of(&b, path, sizeof(path));
	const off_t sizes[] = {0, 100, 4096, (off_t)sizeof(struct df_limit_file)};
	for (size_t i = 0; i < 4; i++) {
		df_limit_close(&b.l);
		assert_int_equal(truncate(path, 0), 0);
		assert_int_equal(truncate(path, sizes[i]), 0);
		assert_int_equal(open_one(&b, &b.l), DF_OK);
		assert_string_equal(b.fail.msg, "");
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	}
	done(&b);
}

static void test_limit__a_damaged_file_is_put_aside_with_a_warning(void **state)
{
	(void)state;
	struct bench b = {0};
	char path[600], aside[700];
	open_with(&b, (struct df_limit_config){.rpm = 60});
	file_of(&b, path, sizeof(path));
	(void)snprintf(aside, sizeof(aside), "%s.damaged", path);
	for (int i = 0; i < 4; i++) {
		if (i == 0)
			atomic_store(&b.l->file->magic, 7);
		if (i == 1)
			b.l->file->slots++;
		if (i == 2)
			atomic_fetch_xor(&b.l->file->head, 1);
		df_limit_close(&b.l);
		if (i == 3)
			assert_int_equal(truncate(path, 5000), 0);
		assert_int_equal(open_one(&b, &b.l), DF_OK);
		assert_non_null(strstr(b.fail.msg, "damaged"));
		assert_int_equal(access(aside, F_OK), 0);
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail),
				 DF_ERR_AGAIN); /* it begins with an interval */
		b.w.now += 2 * DF_SEC;
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
		assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_AGAIN);
	}
	done(&b);
}

static void test_limit__a_damaged_file_in_use_stops_those_who_use_it(void **state)
{
	(void)state;
	struct bench b = {0};
	struct df_limit *other;
	open_with(&b, (struct df_limit_config){.rpm = 60});
	uint64_t head = atomic_load(&b.l->file->head) & 0xfff;
	atomic_fetch_xor(&b.l->file->cell[head][3], 1);
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_CORRUPT);
	assert_int_equal(open_one(&b, &other), DF_ERR_CORRUPT);
	assert_non_null(strstr(b.fail.msg, "in use"));
	done(&b);
}

static void test_limit__a_file_that_is_removed_while_in_use_stops_those_who_use_it(void **state)
{
	(void)state;
	struct bench b = {0};
	char path[600];
	open_with(&b, (struct df_limit_config){.rpm = 600});
	file_of(&b, path, sizeof(path));
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_OK);
	assert_int_equal(unlink(path), 0);
	b.w.now += 2 * DF_SEC;
	assert_int_equal(df_limit_reserve(b.l, 0, &b.r, &b.fail), DF_ERR_CHANGED);
	done(&b);
}

/* Whatever a bit of the file says: no crash, and never more than the rate, unless somebody is told. */
static void test_limit__no_flipped_bit_crashes_or_frees_the_rate(void **state)
{
	(void)state;
	struct bench b = {0};
	uint64_t seed = 42;
	struct df_rand dice = df_rand_seeded(&seed);
	open_with(&b, (struct df_limit_config){.rpm = 600, .tpm = 60000, .rpd = 1000000, .concurrency = 4});
	for (int i = 0; i < 6000; i++) {
		if (!b.l)
			assert_int_equal(open_one(&b, &b.l), DF_OK);
		/* Half of them where it matters most: the head and the cell that it names. */
		size_t byte = dice.next(dice.self) % sizeof(struct df_limit_file);
		if (i % 4 == 0)
			byte = offsetof(struct df_limit_file, cell) +
			       (atomic_load(&b.l->file->head) & 0xfff) * DF_CELL_STRIDE * 8 +
			       dice.next(dice.self) % sizeof(struct df_cell);
		else if (i % 4 == 1)
			byte = offsetof(struct df_limit_file, head) + dice.next(dice.self) % 8;
		((unsigned char *)b.l->file)[byte] ^= (unsigned char)(1 << dice.next(dice.self) % 8);
		bool told = false;
		int n = 0;
		uint32_t slot;
		for (int k = 0; k < 20 && !told; k++) {
			enum df_err err = df_limit_reserve(b.l, 10, &b.r, &b.fail);
			told = err != DF_OK && err != DF_ERR_AGAIN;
			n += err == DF_OK;
			if (err == DF_OK)
				(void)df_limit_valid(b.l, &b.r);
			if (df_limit_enter(b.l, &slot) == DF_OK)
				df_limit_leave(b.l, slot);
			(void)df_limit_look(b.l);
		}
		assert_true(n <= 3); /* what lies in a quarter of a second */
		b.w.now += 300 * DF_MS;
		if (told || i % 5 == 0)
			df_limit_close(&b.l); /* the next opens what it finds */
	}
	if (!b.l)
		assert_int_equal(open_one(&b, &b.l), DF_OK);
	done(&b);
}

static void test_limit__limits_that_are_too_large_are_refused(void **state)
{
	(void)state;
	struct bench b = {.dir = limit_dir_make()};
	b.w.config = (struct df_limit_config){.rpm = UINT64_MAX};
	assert_int_equal(open_one(&b, &b.l), DF_ERR_RANGE);
	b.w.config = (struct df_limit_config){.concurrency = 1000000};
	assert_int_equal(open_one(&b, &b.l), DF_ERR_RANGE);
	limit_dir_remove(b.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit__places_are_an_interval_apart_and_only_so_far_ahead),
		cmocka_unit_test(test_limit__who_waits_looks_again_soon_enough_for_a_machine_that_sleeps),
		cmocka_unit_test(test_limit__burst_lets_so_many_go_at_once),
		cmocka_unit_test(test_limit__without_a_limit_nothing_waits),
		cmocka_unit_test(test_limit__the_later_of_the_two_clocks_holds_and_both_move),
		cmocka_unit_test(test_limit__a_place_that_is_late_or_void_is_not_used),
		cmocka_unit_test(test_limit__a_cancelled_place_is_given_again_when_it_is_the_newest),
		cmocka_unit_test(test_limit__tokens_that_were_not_used_come_back_and_more_are_charged),
		cmocka_unit_test(test_limit__what_can_never_fit_is_refused_at_once),
		cmocka_unit_test(test_limit__a_day_is_counted_across_runs_and_begins_anew_at_midnight),
		cmocka_unit_test(test_limit__a_wall_clock_that_is_set_back_gives_no_second_day),
		cmocka_unit_test(test_limit__neither_clock_moves_when_the_day_is_used_up),
		cmocka_unit_test(test_limit__a_reboot_begins_the_clocks_anew_and_keeps_the_day),
		cmocka_unit_test(test_limit__late_answers_of_one_refusal_count_once),
		cmocka_unit_test(test_limit__headers_lower_a_rate_and_never_raise_it_above_what_was_configured),
		cmocka_unit_test(test_limit__what_headers_lowered_they_raise_again_up_to_what_was_configured),
		cmocka_unit_test(test_limit__what_a_429_has_taught_headers_do_not_raise),
		cmocka_unit_test(test_limit__a_call_above_a_limit_that_only_headers_told_is_tried_again_after_a_while),
		cmocka_unit_test(test_limit__headers_of_a_day_are_not_taken_for_a_minute),
		cmocka_unit_test(test_limit__an_unknown_limit_is_learned_from_headers),
		cmocka_unit_test(test_limit__calls_in_flight_are_counted_over_all_and_given_back),
		cmocka_unit_test(test_limit__without_a_limit_calls_in_flight_are_still_seen),
		cmocka_unit_test(test_limit__the_file_is_private_and_holds_no_secret),
		cmocka_unit_test(test_limit__another_model_or_key_is_another_file),
		cmocka_unit_test(test_limit__network_file_systems_are_refused),
		cmocka_unit_test(test_limit__files_and_folders_that_others_can_reach_are_refused),
		cmocka_unit_test(test_limit__a_file_that_was_only_half_made_is_made),
		cmocka_unit_test(test_limit__a_damaged_file_is_put_aside_with_a_warning),
		cmocka_unit_test(test_limit__a_damaged_file_in_use_stops_those_who_use_it),
		cmocka_unit_test(test_limit__a_file_that_is_removed_while_in_use_stops_those_who_use_it),
		cmocka_unit_test(test_limit__no_flipped_bit_crashes_or_frees_the_rate),
		cmocka_unit_test(test_limit__limits_that_are_too_large_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
