// SPDX-License-Identifier: Apache-2.0
/*
 * intake_core: what intake.c (what is known of sources, what readers say) and intake_feed.c (who reads what, credit) share, and nobody
 * else sees.
 */
#ifndef DF_COORDINATOR_CONTROL_INTAKE_CORE_H
#define DF_COORDINATOR_CONTROL_INTAKE_CORE_H

#include "coordinator/cells/known.h"
#include "coordinator/control/control.h"
#include "coordinator/control/intake.h"

enum df_intake_progress { DF_INTAKE_WAITING, DF_INTAKE_READING, DF_INTAKE_ENDED };

struct df_intake_input {
	uint32_t source;
	enum df_intake_progress progress;
	uint64_t lane; /* of its reader, while DF_INTAKE_READING */
	struct df_cellset have;
	struct df_known known; /* of `have`; empty once the source has ended */
	uint64_t n_cell;       /* highest cell that arrived + 1 */
	uint64_t records;      /* seen, skipped ones too; when DF_INTAKE_ENDED */
	uint64_t delivered;    /* records of the cells in `have` */
	uint32_t deaths;
	bool resumed;   /* an earlier life of the coordinator knew cells of it */
	bool known_end; /* journalled already: */
	uint64_t known_n_cell;
};

struct df_intake_reader {
	uint64_t lane;
	struct df_intake_input *input; /* NULL: idle */
	int64_t in_flight;             /* bytes granted and not yet arrived */
};

struct df_intake {
	const struct df_control_config *config;
	struct df_dispatch *dispatch;
	struct df_intake_input *input; /* in the order of the sources */
	size_t n_input, n_ended, n_reading;
	size_t turn;    /* no input before it is DF_INTAKE_WAITING */
	size_t counted; /* inputs before it, which have ended, used up of skip and limit: */
	uint64_t skipped, delivered;
	struct df_intake_reader *reader;
	size_t n_reader, cap_reader;
	uint64_t source_errors;
	bool failed;
	struct df_fail fail;
};

void df_intake_order(struct df_intake *in, struct df_order o);
/* skip, limit or a kept order: sources are read one after the other. */
bool df_intake_one_by_one(const struct df_intake *in);
struct df_intake_reader *df_intake_find_reader(struct df_intake *in, uint64_t lane); /* NULL: unknown */
/* What is left of skip and limit behind the inputs before `input`, which have all ended: sources are read one by one then. */
void df_intake_counted_before(struct df_intake *in, const struct df_intake_input *input, uint64_t *ret_skip,
			      uint64_t *ret_limit);
/* Its fate, for the grid and, unless it is journalled already, the sink. */
void df_intake_end_input(struct df_intake *in, struct df_intake_input *input, uint64_t n_cell, enum df_err err,
			 struct df_str message);

#endif
