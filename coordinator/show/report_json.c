// SPDX-License-Identifier: Apache-2.0
/*
 * report_json: a run as its run.json keeps it: the request as outputs_dir.c described it, what earlier lives left in the journal, what
 * this one did.
 */
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "coordinator/show/report.h"

static enum df_err add_counters(const struct df_report *r, struct df_arena *a, struct df_run_summary *s)
{
	const struct df_recovered *before = &r->outputs->recovered;
	s->counter = before->counter;
	s->n_counter = before->n_counter;
	if (!r->totals)
		return DF_OK;
	struct df_counter *c = df_arena_array(a, r->totals->n + 1, sizeof(*c));
	if (!c)
		return DF_ERR_NOMEM;
	size_t n = 0;
	for (size_t i = 0; i < r->totals->n_slot; i++)
		if (r->totals->slots[i].key.p)
			c[n++] = (struct df_counter){r->totals->slots[i].key, r->totals->slots[i].value};
	s->counter = c;
	s->n_counter = n;
	return DF_OK;
}

static enum df_err add_processes(const struct df_report *r, struct df_arena *a, struct df_run_summary *s)
{
	struct df_run_process *p = df_arena_array(a, r->n_process + 1, sizeof(*p));
	struct rusage own = {0};
	if (!p)
		return DF_ERR_NOMEM;
	(void)getrusage(RUSAGE_SELF, &own);
	p[0] = (struct df_run_process){DF_STR("coordinator"), 0, df_peak_rss_bytes(),
				       (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
					       (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6};
	for (size_t i = 0; i < r->n_process; i++)
		p[i + 1] = (struct df_run_process){
			r->process[i].role == DF_ROLE_WORKER ? DF_STR("worker") : DF_STR("reader"),
			r->process[i].number, r->process[i].peak_rss_bytes, (double)r->process[i].cpu_ns / 1e9};
	s->process = p;
	s->n_process = r->n_process + 1;
	return DF_OK;
}

static struct df_run_faults faults(const struct df_report *r)
{
	const struct df_recovered *before = &r->outputs->recovered;
	const struct df_control_stats *c = &r->control;
	struct df_run_faults f = {
		.source_errors = c->source_errors,
		.strikes = c->strikes,
		.deaths = c->deaths,
		.deadline_kills = c->deadline_kills,
		.memory_kills = c->memory_kills,
		.leases = c->leases,
		.leases_redone = c->redone,
		.results_doubled = r->sink.doubled,
		.results_stale = r->sink.stale,
	};
	if (r->totals)
		return f;
	for (size_t i = 0; i < before->n_source; i++) /* this life did no work: what the journal says */
		f.source_errors += before->source[i].err != DF_OK;
	for (size_t i = 0; i < before->n_strike; i++)
		f.strikes += before->strike[i].n;
	return f;
}

enum df_err df_report_json(const struct df_report *r, const char *state, struct df_fail *fail)
{
	struct df_outputs *o = r->outputs;
	struct df_run_summary s = o->summary;
	bool running = strcmp(state, "running") == 0;
	s.state = df_str_from(state);
	s.epoch = o->recovered.epoch - (o->recovered.finished ? 1 : 0); /* a finished run has no further life */
	s.error = r->outcome == DF_OUTCOME_FAILED && r->fail     ? df_str_from(r->fail->msg)
		  : r->outcome == DF_OUTCOME_STOPPED && r->quota ? df_str_from(r->quota->msg)
								 : DF_STR("");
	s.costs = r->costs;
	s.finished_wall_ns = running ? 0 : df_clock_real.wall_ns(NULL);
	s.elapsed_seconds = o->elapsed_before + (double)r->elapsed_ns / 1e9;
	if (add_counters(r, &o->arena, &s) != DF_OK || add_processes(r, &o->arena, &s) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to write run.json");
	s.faults = faults(r);
	if (o->store)
		s.part = df_store_parts(o->store, &s.n_part);
	return df_run_json_write(&df_io_real, o->dir_fd, &s, fail);
}
