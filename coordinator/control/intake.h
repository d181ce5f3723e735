// SPDX-License-Identifier: Apache-2.0
/*
 * intake: sources that readers read: which reader reads which, how many bytes may be on their way, what has arrived.
 * Part of the control thread's state machine; acts through the same effects.
 *
 * A source that a reader left unfinished is read again by another, which passes over the cells that are known. Three deaths
 * over one source end it with a source error. With `sequential` or `ordered` sources are read one after the other.
 */
#ifndef DF_COORDINATOR_CONTROL_INTAKE_H
#define DF_COORDINATOR_CONTROL_INTAKE_H

#include <stdbool.h>

#include "coordinator/dispatch/dispatch.h"
#include "coordinator/sink/store.h"
#include "proto/link.h"
#include "proto/messages.h"

struct df_intake;
struct df_control_config;

enum df_err df_intake_create(const struct df_control_config *config, struct df_dispatch *dispatch,
			     const struct df_recovered *recovered, struct df_intake **ret_intake) DF_MUST_CHECK;
void df_intake_destroy(struct df_intake **intake);

/* Readers that there is work for now. */
uint32_t df_intake_readers_wanted(const struct df_intake *in);
/* Give a ready reader a source or credit; DF_ERR_AGAIN: its lane is full, ask again soon. */
enum df_err df_intake_feed(struct df_intake *in, uint64_t lane) DF_MUST_CHECK;
/* CELLS or SOURCE_END; takes payload blobs. Messages of readers that no longer own the source are dropped. */
enum df_err df_intake_on_message(struct df_intake *in, const struct df_msg *msg,
				 struct df_frames *frames) DF_MUST_CHECK;
void df_intake_reader_died(struct df_intake *in, uint64_t lane);
bool df_intake_reading(const struct df_intake *in, uint64_t lane); /* a source is in this reader's hands */

bool df_intake_ended(const struct df_intake *in); /* every source was read to its end */
/* True when input was lost that can not be read again (stdin). */
bool df_intake_failed(const struct df_intake *in, struct df_fail *ret_fail);
uint64_t df_intake_source_errors(const struct df_intake *in);

#endif
