// SPDX-License-Identifier: Apache-2.0
/*
 * shim: what the two preloaded libraries share: which process this is, the counters that all processes of a run have in common, and the
 * log. Nothing here is part of docflume; the tests of this folder's parent preload it (README.md).
 *
 * Everything is set by environment variables, and read once when the library is loaded:
 *   DF_SHIM_STATE  a file of the test's own size, mapped shared by all processes; without it the library does nothing
 *   DF_SHIM_ROLE   whose calls count: front, coordinator, worker, reader
 *   DF_SHIM_AT     the number of the call that fails, from 1; 0: none, calls are only counted
 *   DF_SHIM_MORE   also those behind it that the fault applies to
 *   DF_SHIM_LOG    each call that counts is a line in the log, with a number for the way it was reached
 *   DF_SHIM_FAULT, DF_SHIM_RUN, DF_SHIM_INPUT, DF_SHIM_TRACE: io.c
 *
 * The front is `docflume run` from its start until it forks; a child of the front that goes on without exec is the coordinator (where there is
 * no guard, the front is all of it). Descriptors are not needed after the start, so that processes may give up what they like.
 *
 * The file: 4096 bytes of struct shim_state, then the log's text, one line per event:
 *   CALL role number function what way
 *   FIRED role number function what library+offset ...
 *   CRASH role signal library+offset ...    (the frames, innermost first)
 */
#ifndef DF_TESTS_FAULT_SHIM_H
#define DF_TESTS_FAULT_SHIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shim_role { SHIM_FRONT, SHIM_COORDINATOR, SHIM_WORKER, SHIM_READER, SHIM_OTHER, SHIM_N_ROLE };

struct shim_state {
	_Atomic uint64_t count[8]; /* by role */
	_Atomic uint64_t fired;
	_Atomic uint64_t log_bytes;
	_Atomic uint64_t crashes;
};

#define SHIM_LOG_AT 4096

/* This call is of the role that is watched. */
bool shim_watched(void);
/* Counts one call; its number, from 1. */
uint64_t shim_count(void);
/* True for the call that is to fail. */
bool shim_is_due(uint64_t number);
void shim_fired(uint64_t number, const char *function, const char *what);
/* One line, when DF_SHIM_LOG asks for it. */
void shim_called(uint64_t number, const char *function, const char *what);
/* The address is in the program's own text. */
bool shim_is_own(const void *address);
/* True while the library itself works: what it calls does not count. */
extern _Thread_local int shim_inside;
/* A file mapped shared as it is, or NULL. */
void *shim_map(const char *path, size_t *ret_bytes);

#endif
