// SPDX-License-Identifier: Apache-2.0
/*
 * life: the page that a coordinator shares with the guard that started it (cli/guard.c), and with the coordinators before and
 * after it in the same run. It outlives a coordinator that is killed, and dies with the guard.
 *
 * It decides nothing about data: that is the journal's. It says how the run may end when its coordinator dies. Each
 * field has one writer; the guard reads a coordinator's fields when that process was reaped.
 */
#ifndef DF_COORDINATOR_LIFE_LIFE_H
#define DF_COORDINATOR_LIFE_LIFE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DF_SOCKET_DIR_BYTES 80

struct df_life {
	/* --- the guard writes, before it starts a coordinator --- */
	uint32_t number;           /* of this coordinator: 1, 2, ... */
	uint64_t start_boot_ns;    /* of the first one: --time-limit counts from here (CLOCK_BOOTTIME) */
	uint64_t takeover_mono_ns; /* when the guard heard of the last one's death; 0: it is the first */
	int asked_fd; /* an eventfd that counts how often the guard was asked to stop; -1: there is no guard */
	atomic_int asked_signal; /* the last signal that asked it */

	/* --- the coordinator writes --- */
	atomic_bool opened; /* the run directory is this run's: --force-restart has been done, later lives go on */
	atomic_bool cannot_go_on; /* rows go to stdout, or an input cannot be read twice */
	atomic_bool spooled;      /* all of stdin lies in its copy (spool.h): later lives begin from there */
	atomic_bool stopping;     /* it was asked to stop: nobody shall start it again */
	atomic_bool bar;          /* a progress bar stands on the terminal's line */
	atomic_uint epoch;
	atomic_uint_fast64_t n_done;          /* cells committed in this life */
	atomic_uint_fast64_t n_document;      /* with a fate, over all lives, whose rows were handed to the output */
	atomic_uint_fast64_t n_row;           /* the same for rows */
	char socket_dir[DF_SOCKET_DIR_BYTES]; /* written before it is made; empty: none */
};

#endif
