// SPDX-License-Identifier: Apache-2.0
// ctest: threaded
/* A reader inside a long call says HELLO, one between calls or beyond the limit does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "worker/process/pulse.h"

struct fixture {
	char dir[64], endpoint[5][96];
	struct df_link *link;
	struct df_socket *control;
	struct df_heritage h;
	struct df_slot *slot;
	struct df_worker_link worker;
	struct df_pulse *pulse;
	struct df_fail fail;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd = -1;
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/df-pulse-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	for (int i = 0; i < 5; i++)
		(void)snprintf(f->endpoint[i], sizeof(f->endpoint[i]), "ipc://%s/%d", f->dir, i);
	f->h = (struct df_heritage){.epoch = 4,
				    .lane = 77,
				    .role = DF_ROLE_READER,
				    .lane_endpoint = df_str_from(f->endpoint[0]),
				    .control_endpoint = df_str_from(f->endpoint[1]),
				    .bulk_endpoint = df_str_from(f->endpoint[2]),
				    .notices_endpoint = df_str_from(f->endpoint[3]),
				    .results_endpoint = df_str_from(f->endpoint[4])};
	assert_int_equal(df_link_open(16, &f->link, &f->fail), DF_OK);
	assert_int_equal(df_socket_listen(f->link, DF_SOCKET_PULL, f->endpoint[1], 64, &f->control, &f->fail), DF_OK);
	assert_int_equal(df_slot_create(&f->slot, &fd, &f->fail), DF_OK);
	(void)close(fd);
	assert_int_equal(df_worker_link_open(&f->worker, &f->h, f->slot, &f->fail), DF_OK);
	assert_int_equal(df_pulse_start(&f->worker, &f->pulse, &f->fail), DF_OK);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];
	df_pulse_stop(&f->pulse);
	df_pulse_stop(&f->pulse); /* accepts NULL */
	df_worker_link_close(&f->worker);
	df_socket_close(&f->control);
	df_link_close(&f->link);
	df_slot_unmap(&f->slot);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
	free(f);
	return system(command);
}

/* HELLOs within the time. */
static unsigned hellos(struct fixture *f, unsigned ms)
{
	struct df_frames frames = {0};
	unsigned n = 0;
	uint64_t end = df_clock_mono(&df_clock_real) + ms * DF_MS;
	while (df_clock_mono(&df_clock_real) < end) {
		struct df_wait w[] = {{.socket = f->control}};
		assert_int_equal(df_wait(w, 1, 20), DF_OK);
		while (df_socket_recv(f->control, &frames) == DF_OK) {
			struct df_arena arena;
			struct df_msg msg;
			df_arena_init(&arena, 1 << 20, 0);
			assert_int_equal(
				df_msg_unpack((struct df_str){frames.header->p, frames.header->n}, &arena, &msg, NULL),
				DF_OK);
			assert_true(msg.type == DF_MSG_HELLO && msg.epoch == 4 && msg.lane == 77 &&
				    msg.hello.role == DF_ROLE_READER);
			df_arena_release(&arena);
			df_frames_release(&frames);
			n++;
		}
	}
	df_frames_free(&frames);
	return n;
}

static void test_pulse__a_long_step_is_no_silence_until_it_is_hopeless(void **state)
{
	struct fixture *f = *state;
	uint64_t now = df_clock_mono(&df_clock_real), alive = atomic_load(&f->slot->alive);
	assert_int_equal(hellos(f, 1200), 0); /* between steps the owner speaks for itself */
	df_pulse_step(f->pulse, "a.jsonl.gz", df_clock_mono(&df_clock_real));
	assert_int_equal(hellos(f, 900), 0); /* a short one needs nothing */
	df_pulse_step(f->pulse, "a.jsonl.gz", now - 2 * DF_SEC);
	assert_in_range(hellos(f, 2500), 2, 8);
	assert_true(atomic_load(&f->slot->alive) > alive);
	df_pulse_step(f->pulse, NULL, 0);
	(void)hellos(f, 100);
	assert_int_equal(hellos(f, 1200), 0);
	if (now > (DF_READ_STALL_MS + 2000) * DF_MS) {
		df_pulse_step(f->pulse, "a.jsonl.gz", now - (DF_READ_STALL_MS + 1000) * DF_MS);
		assert_int_equal(hellos(f, 1200), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pulse__a_long_step_is_no_silence_until_it_is_hopeless, set_up,
						tear_down),
	};
	df_log_setup(DF_LOG_ERROR, DF_LOG_TEXT, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
