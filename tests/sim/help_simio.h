// SPDX-License-Identifier: Apache-2.0
/*
 * help_simio: a file system in memory that behaves as badly as a disk may: struct df_io for tests.
 *
 * What was not synced is lost, kept or partly kept at sim_crash(): per 512-byte sector for data, per operation for names. Meanwhile a
 * little of it may reach the "disk" at any time, as write-back does. sync_data makes a file's bytes durable, not its name; sync_dir makes
 * names durable, not bytes. One directory; every dirfd means it. From one seed all is repeatable. Not thread-safe.
 */
#ifndef DF_TESTS_SIM_HELP_SIMIO_H
#define DF_TESTS_SIM_HELP_SIMIO_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/io.h"

struct sim;

struct sim *sim_create(uint64_t seed);
void sim_destroy(struct sim **sim);
struct df_io sim_io(struct sim *sim);

/* Calls of the table so far. */
uint64_t sim_calls(const struct sim *sim);
/* From the n-th call on (1 is the next) every call fails with EIO; a write that is hit may have been done in part. 0: never. */
void sim_die_at(struct sim *sim, uint64_t n);
/* The n-th call alone fails with `error`; a write or a truncation that is hit may have been done in part. 0: never. */
void sim_fail_at(struct sim *sim, uint64_t n, int error);
/* ENOSPC once the files have this many bytes in all; UINT64_MAX: no limit. */
void sim_disk_bytes(struct sim *sim, uint64_t max);

/* The power fails: descriptors are gone, and what was not synced is at chance's mercy. Also undoes sim_die_at. */
void sim_crash(struct sim *sim);
/* The process is killed: descriptors are gone, nothing else. */
void sim_kill(struct sim *sim);

/* A file's visible bytes, or NULL. Valid until the next call that changes it. */
const char *sim_file(const struct sim *sim, const char *name, size_t *ret_n);
/* Visible bytes that may be changed in place (bit rot). */
char *sim_bytes(struct sim *sim, const char *name, size_t *ret_n);
size_t sim_n_files(const struct sim *sim);
const char *sim_name(const struct sim *sim, size_t i);
size_t sim_n_open(const struct sim *sim); /* descriptors */

#endif
