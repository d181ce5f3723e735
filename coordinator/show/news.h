// SPDX-License-Identifier: Apache-2.0
/* news: gathers what status.json tells of a live run, from the control thread's machines, and writes it about once a second. */
#ifndef DF_COORDINATOR_SHOW_NEWS_H
#define DF_COORDINATOR_SHOW_NEWS_H

#include "base/pipeline.h"
#include "coordinator/cells/dataset.h"
#include "coordinator/cells/grid.h"
#include "coordinator/children/supervise.h"
#include "coordinator/control/control.h"
#include "coordinator/rundir/expenses.h"

struct df_news {
	uint64_t next_ns, last_ns, last_docs, last_bytes;
	double docs_per_s, bytes_per_s; /* moving means */
};

struct df_news_sources {
	const struct df_control *control;
	struct df_supervisor *supervisor;
	const struct df_dataset *dataset;
	const struct df_grid *grid;
	const struct df_pipeline *pipeline;
	uint32_t epoch;
	uint64_t start_ns, resumed_bytes;
	struct df_costs costs;
};

/* Writes when it is due, into the run directory; an error there is overlooked. */
void df_news_tick(struct df_news *n, const struct df_news_sources *from, int dir_fd, uint64_t now_ns);

#endif
