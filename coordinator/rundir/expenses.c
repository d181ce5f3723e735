// SPDX-License-Identifier: Apache-2.0
/* expenses: two files, opened once per life. */
#include "coordinator/rundir/expenses.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"

#define ENOUGH_DONE 0.005 /* of the input, before what it costs means anything */

static enum df_err open_trace(struct df_expenses *e, int dir_fd, struct df_supervisor *supervisor, struct df_fail *fail)
{
	e->trace_fd = openat(dir_fd, DF_TRACE_NAME, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (e->trace_fd < 0)
		return df_fail_errno(fail, "cannot open '%s' in the run directory", DF_TRACE_NAME);
	return df_supervisor_give(supervisor, e->trace_fd, DF_TRACE_FD, fail);
}

enum df_err df_expenses_open(struct df_expenses *e, const struct df_run_options *o, int dir_fd, uint64_t run_id,
			     struct df_supervisor *supervisor, struct df_heritage *h, struct df_fail *fail)
{
	int fd = -1;
	*e = (struct df_expenses){.trace_fd = -1};
	if (!o->has_calls)
		return DF_OK;
	DF_TRY(df_purse_open(dir_fd, o->budget, &e->purse, &fd, fail));
	DF_TRY(df_supervisor_give(supervisor, fd, DF_PURSE_FD, fail));
	if (o->trace == DF_TRACE_YES && dir_fd >= 0)
		DF_TRY(open_trace(e, dir_fd, supervisor, fail));
	if (o->stream)
		df_supervisor_stream(supervisor);
	h->purse = true;
	h->trace = e->trace_fd >= 0;
	h->run_id = run_id ? run_id : 1;
	h->cached = !o->no_cache;
	h->cache = o->cache;
	h->cache_bytes = o->cache_size;
	h->record = o->record;
	h->grace_ns = o->grace_ns;
	h->stream = o->stream;
	return DF_OK;
}

void df_expenses_close(struct df_expenses *e)
{
	df_purse_close(&e->purse);
	if (e->trace_fd > 0)
		(void)close(e->trace_fd);
	e->trace_fd = -1;
}

struct df_costs df_expenses_look(const struct df_expenses *e, double done)
{
	struct df_costs c = {.projected = NAN};
	if (!e->purse)
		return c;
	struct df_purse_view v = df_purse_look(e->purse);
	c = (struct df_costs){.known = true,
			      .spent = v.spent,
			      .reserved = v.reserved,
			      .budget = v.budget,
			      .projected = NAN,
			      .calls = v.calls,
			      .unpriced = v.unpriced < v.calls ? v.unpriced : v.calls};
	if (done >= ENOUGH_DONE)
		c.projected = v.spent / fmin(done, 1.0);
	return c;
}
