// SPDX-License-Identifier: Apache-2.0
/*
 * The compute turn: one thread at a time, in the order of asking, and a slot that is in use exactly while somebody computes.
 * ctest: threaded
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/clock.h"
#include "proto/heritage.h"
#include "worker/process/turn.h"

#define N_THREAD 64
#define N_ROUND 200

static void nap_ms(long ms)
{
	(void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

struct bench {
	struct df_slot slot;
	struct df_compute_turn *turn;
	int inside; /* not atomic: the turn is what protects it */
	uint64_t n_inside;
	unsigned order[N_THREAD], n_order;
	atomic_uint asked;
};

struct worker {
	struct bench *b;
	unsigned no;
	pthread_t thread;
	bool well;
};

static struct bench *set_up(void)
{
	struct bench *b = calloc(1, sizeof(*b));
	assert_int_equal(df_turn_create(&b->slot, &b->turn), DF_OK);
	return b;
}

static void tear_down(struct bench *b)
{
	df_turn_destroy(&b->turn);
	assert_null(b->turn);
	free(b);
}

static bool alone_inside(struct bench *b)
{
	bool alone = ++b->inside == 1;
	b->n_inside++;
	return --b->inside == 0 && alone;
}

static bool slot_is(const struct df_slot *s, uint64_t lease, uint64_t offset)
{
	return atomic_load(&s->computing) == 1 && atomic_load(&s->lease) == lease &&
	       atomic_load(&s->offset) == offset && atomic_load(&s->stage) == 3 && atomic_load(&s->seq) % 2 == 0;
}

/* Like a lease: begin, compute, wait several times, compute, end. */
static void *run_leases(void *arg)
{
	struct worker *w = arg;
	struct bench *b = w->b;
	w->well = true;
	for (unsigned i = 0; i < N_ROUND; i++) {
		struct df_turn_pause pause;
		struct df_record_id first = {w->no, i};
		df_turn_begin(b->turn);
		df_slot_begin(&b->slot, w->no + 1, first, 1, false, df_clock_mono(&df_clock_real));
		df_slot_stage(&b->slot, 3);
		w->well = w->well && alone_inside(b) && df_turn_waited_ns(b->turn) == 0;
		df_turn_leave(b->turn, &pause);
		df_turn_take(b->turn, &pause);
		w->well = w->well && alone_inside(b) && slot_is(&b->slot, w->no + 1, i);
		df_slot_end(&b->slot);
		df_turn_end(b->turn);
	}
	return NULL;
}

static void test_turn__sixty_four_threads_are_never_inside_together(void **state)
{
	struct bench *b = set_up();
	struct worker w[N_THREAD];
	(void)state;
	for (unsigned i = 0; i < N_THREAD; i++) {
		w[i] = (struct worker){.b = b, .no = i};
		assert_int_equal(pthread_create(&w[i].thread, NULL, run_leases, &w[i]), 0);
	}
	for (unsigned i = 0; i < N_THREAD; i++) {
		assert_int_equal(pthread_join(w[i].thread, NULL), 0);
		assert_true(w[i].well);
	}
	assert_int_equal(b->n_inside, N_THREAD * N_ROUND * 2);
	assert_int_equal(atomic_load(&b->slot.computing), 0);
	tear_down(b);
}

static void *ask_once(void *arg)
{
	struct worker *w = arg;
	atomic_fetch_add(&w->b->asked, 1);
	df_turn_begin(w->b->turn);
	w->b->order[w->b->n_order++] = w->no;
	df_turn_end(w->b->turn);
	return NULL;
}

static void test_turn__goes_to_those_who_wait_in_the_order_in_which_they_asked(void **state)
{
	struct bench *b = set_up();
	struct worker w[16];
	(void)state;
	df_turn_begin(b->turn);
	for (unsigned i = 0; i < 16; i++) {
		w[i] = (struct worker){.b = b, .no = i};
		assert_int_equal(pthread_create(&w[i].thread, NULL, ask_once, &w[i]), 0);
		while (atomic_load(&b->asked) != i + 1)
			nap_ms(1);
		nap_ms(20); /* from having said so to standing in the queue */
	}
	df_turn_end(b->turn);
	for (unsigned i = 0; i < 16; i++)
		(void)pthread_join(w[i].thread, NULL);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(b->order[i], i);
	tear_down(b);
}

/* A document that waits must be nobody's suspect, and no deadline may count for it. */
static void test_turn__leaving_it_ends_the_slots_entry_and_taking_it_begins_it_anew(void **state)
{
	struct bench *b = set_up();
	struct df_turn_pause pause;
	struct df_slot *s = &b->slot;
	(void)state;
	df_turn_begin(b->turn);
	df_slot_begin(s, 77, (struct df_record_id){5, 4096}, 1, true, 1);
	df_slot_stage(s, 2);
	uint64_t seq = atomic_load(&s->seq);
	df_turn_leave(b->turn, &pause);
	assert_int_equal(atomic_load(&s->computing), 0);
	assert_int_equal(atomic_load(&s->seq), seq + 2);
	df_turn_begin(b->turn); /* another lease meanwhile */
	df_slot_begin(s, 78, (struct df_record_id){6, 1}, 9, false, 1);
	df_slot_end(s);
	df_turn_end(b->turn);
	nap_ms(30);
	uint64_t before = df_clock_mono(&df_clock_real);
	df_turn_take(b->turn, &pause);
	assert_int_equal(atomic_load(&s->computing), 1);
	assert_int_equal(atomic_load(&s->lease), 77);
	assert_int_equal(atomic_load(&s->source), 5);
	assert_int_equal(atomic_load(&s->offset), 4096);
	assert_int_equal(atomic_load(&s->n_record), 1);
	assert_int_equal(atomic_load(&s->alone), 1);
	assert_int_equal(atomic_load(&s->stage), 2);
	assert_true(atomic_load(&s->since_ns) >= before); /* the deadline begins again */
	assert_true(df_turn_waited_ns(b->turn) >= 30 * DF_MS);
	df_slot_end(s);
	df_turn_end(b->turn);
	tear_down(b);
}

static void test_turn__without_an_entry_in_the_slot_none_is_made(void **state)
{
	struct bench *b = set_up();
	struct df_turn_pause pause;
	(void)state;
	df_turn_begin(b->turn);
	df_turn_leave(b->turn, &pause);
	df_turn_take(b->turn, &pause);
	assert_int_equal(atomic_load(&b->slot.computing), 0);
	assert_int_equal(atomic_load(&b->slot.seq), 0);
	df_turn_end(b->turn);
	tear_down(b);
}

static void test_turn__waits_of_one_piece_of_work_add_up_and_are_not_the_next_ones(void **state)
{
	struct bench *b = set_up();
	struct df_turn_pause pause;
	(void)state;
	df_turn_begin(b->turn);
	for (int i = 0; i < 3; i++) {
		df_turn_leave(b->turn, &pause);
		nap_ms(10);
		df_turn_take(b->turn, &pause);
	}
	assert_in_range(df_turn_waited_ns(b->turn), 30 * DF_MS, 10 * DF_SEC);
	df_turn_end(b->turn);
	df_turn_begin(b->turn);
	assert_int_equal(df_turn_waited_ns(b->turn), 0);
	df_turn_end(b->turn);
	tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turn__sixty_four_threads_are_never_inside_together),
		cmocka_unit_test(test_turn__goes_to_those_who_wait_in_the_order_in_which_they_asked),
		cmocka_unit_test(test_turn__leaving_it_ends_the_slots_entry_and_taking_it_begins_it_anew),
		cmocka_unit_test(test_turn__without_an_entry_in_the_slot_none_is_made),
		cmocka_unit_test(test_turn__waits_of_one_piece_of_work_add_up_and_are_not_the_next_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
