// SPDX-License-Identifier: Apache-2.0
/*
 * descriptors: open files that a coordinator with so many children needs. libzmq ends the process when accept() or an eventfd
 * finds no descriptor, so they are made sure of before it is asked.
 */
#ifndef DF_COORDINATOR_CHILDREN_DESCRIPTORS_H
#define DF_COORDINATOR_CHILDREN_DESCRIPTORS_H

#include <stdint.h>

#include "base/err.h"

#define DF_DESCRIPTORS_OWN 64
/* Measured: 7. A lane's socket has 3 (mailbox, listener, connection), the three connections to control or bulk, notices and results
 * one each, and its slot one. tests/wire/test_lanes.c looks. */
#define DF_DESCRIPTORS_PER_CHILD 8

/* Raise this process's soft limit as far as it must for n_worker and DF_READERS_MAX readers. DF_ERR_LIMIT: the hard limit is lower;
 * the message names both. */
enum df_err df_descriptors_provide(uint64_t n_worker, struct df_fail *fail) DF_MUST_CHECK;

#endif
