// SPDX-License-Identifier: Apache-2.0
/*
 * help_control: the control state machine with a bench of effects around it that keep what they are told, and processes that are what a
 * test says of them.
 */
#ifndef DF_TESTS_UNIT_HELP_CONTROL_H
#define DF_TESTS_UNIT_HELP_CONTROL_H

#include "coordinator/control/control.h"

#define N_KEPT 512

struct sent {
	uint64_t lane, lease;
	uint32_t flags, n_poison;
	struct df_cells cells; /* of the first segment */
};

struct bench {
	struct df_grid grid;
	struct df_source source[2];
	struct df_dataset dataset;
	struct df_control *c;
	struct sent sent[N_KEPT];
	struct df_order order[N_KEPT];
	uint64_t spawned[N_KEPT], killed[N_KEPT];
	size_t n_sent, n_order, n_spawned, n_killed, n_closed;
	bool lane_full;
	uint64_t now_ns;
	struct df_look look[N_KEPT]; /* by the lane's counter; [0]: the coordinator itself */
	bool output_waits;
	size_t n_spawn_fail; /* so many more starts fail */
};

/* Two files of n_cell cells of 1000 bytes each. */
struct bench *bench_set_up(uint64_t n_cell, uint32_t n_worker);
/* The same with the deadline, limits and times of `config`. */
struct bench *bench_set_up_with(uint64_t n_cell, uint32_t n_worker, const struct df_control_config *config);
void bench_tear_down(struct bench *b);

void bench_hello_that(struct bench *b, uint32_t epoch, uint64_t lane, uint64_t sent);
void bench_hello_of(struct bench *b, uint32_t epoch, uint64_t lane);
void bench_hello(struct bench *b, uint64_t lane);
void bench_event(struct bench *b, struct df_event e);
void bench_seen(struct bench *b, const struct sent *s);
void bench_die(struct bench *b, uint64_t lane, int sig, struct df_blame blame);
/* The sink has fenced the lane, and time passes until a successor is there. */
void bench_fenced(struct bench *b, uint64_t lane);
/* Ticks every `step` until `ns` have gone by; every worker that is READY and not `mute` says HELLO, and its link thread runs. */
void bench_pass(struct bench *b, uint64_t ns, uint64_t step, uint64_t mute);
struct df_look *bench_look(struct bench *b, uint64_t lane);
const struct df_order *bench_last_order(const struct bench *b, enum df_order_type type);
uint64_t bench_newest(const struct bench *b);

#endif
