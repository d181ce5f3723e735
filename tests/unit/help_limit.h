// SPDX-License-Identifier: Apache-2.0
/*
 * help_limit: servers that count exactly, and processes that obey a limit, in simulated time from a seed.
 */
#ifndef DF_TESTS_UNIT_HELP_LIMIT_H
#define DF_TESTS_UNIT_HELP_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/limit/limit.h"

enum server_kind {
	SERVER_BUCKET,  /* `capacity` tokens, `per_minute` drip in */
	SERVER_SLIDING, /* at most per_minute in any window_ns */
	SERVER_FREE,    /* no limit */
	SERVER_FIXED,   /* at most per_minute in each window_ns since `offset_ns` */
};
enum server_says { SAYS_NOTHING, SAYS_EXACTLY, SAYS_SECONDS, SAYS_250_MS };

struct server {
	enum server_kind kind;
	uint64_t per_minute, capacity, window_ns, offset_ns;
	enum server_says says;
	uint64_t noise;     /* of a thousand calls, so many are refused by chance, and not counted */
	bool counts_tokens; /* per_minute and capacity are tokens */
	/* its state */
	double level;
	uint64_t level_at, *log, *log_weight, n_log, first_log, log_sum, fixed_window, fixed_count;
	uint64_t seed; /* of noise */
	uint64_t n_accepted, weight_accepted, n_refused, n_noise;
};

void server_init(struct server *s);
void server_release(struct server *s);
/* A call arrives. Refused: *ret_retry_ms is what it answers in Retry-After, -1: nothing. */
bool server_call(struct server *s, uint64_t now, uint64_t weight, int64_t *ret_retry_ms);

struct world {
	uint64_t seed, now, wall; /* wall: at boot time 0 */
	struct server *server;
	struct df_limit_config config;
	uint32_t n_process;
	uint64_t jitter_ns; /* a call is sent up to so late, and takes 0.5 to 1.5 latency to the server and back */
	uint64_t latency_ns;
	uint32_t in_flight;              /* of each process, at most; 0: any number */
	uint64_t tokens_min, tokens_max; /* of a call */
	uint64_t
		pause_every_ns; /* every so often all processes end, and new ones begin after a pause of up to two minutes */
	/* outcome */
	uint64_t n_sent, n_early, n_asks, n_alone; /* n_alone: refusals that were taken for chance */
};

uint64_t world_boot(void *self);
uint64_t world_wall(void *self);
/* Runs for so long: every process has calls waiting all the time. */
void world_run(struct world *w, uint64_t duration_ns);

/* A new folder under /tmp (0700), and its end. */
const char *limit_dir_make(void);
void limit_dir_remove(const char *dir);

#endif
