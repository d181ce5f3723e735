// SPDX-License-Identifier: Apache-2.0
/* report: closing lines, run.json, exit code. */
#include "coordinator/show/report.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/human.h"
#include "base/log.h"
#include "coordinator/life/ending.h"
#include "coordinator/rundir/retry.h"
#include "proto/example.h"

static uint64_t total(const struct df_map *totals, const char *name)
{
	const uint64_t *v = totals ? df_map_get(totals, df_str_from(name)) : NULL;
	return v ? *v : 0;
}

static void add_count(struct df_buf *b, const char *before, uint64_t n, const char *after)
{
	char z[32];
	(void)df_buf_addf(b, "%s%s%s", before, df_human_count(n, z), after);
}

/* Stages of one name share their counters. */
static bool earlier(const struct df_pipeline *p, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (df_str_eq(df_pipeline_call_name(&p->stage[k]), df_pipeline_call_name(&p->stage[i])))
			return true;
	return false;
}

/* "time in strip 1.2 s, clean 0.3 s; peak memory 12 MB in the coordinator, 74 MB in a worker" */
static void add_costs(struct df_buf *b, const struct df_report *r)
{
	static const char *const role[] = {[DF_ROLE_WORKER] = "worker", [DF_ROLE_READER] = "reader"};
	char z[32];
	for (size_t i = 0; i < r->options->pipeline->n_stage; i++) {
		char name[128];
		struct df_str call = df_pipeline_call_name(&r->options->pipeline->stage[i]);
		(void)snprintf(name, sizeof(name), "time_ns:%.*s", (int)call.n, call.p);
		uint64_t *ns = df_map_get(r->totals, df_str_from(name));
		if (ns && !earlier(r->options->pipeline, i))
			(void)df_buf_addf(b, "%s" DF_STR_FMT " %s", b->n ? ", " : "time in ", DF_STR_ARG(call),
					  df_human_time((double)*ns / 1e9, z));
	}
	(void)df_buf_addf(b, "%speak memory %s in the coordinator", b->n ? "; " : "",
			  df_human_bytes((double)df_peak_rss_bytes(), z));
	for (int k = DF_ROLE_WORKER; k <= DF_ROLE_READER; k++) {
		uint64_t peak = 0;
		for (size_t i = 0; i < r->n_process; i++)
			if ((int)r->process[i].role == k && r->process[i].peak_rss_bytes > peak)
				peak = r->process[i].peak_rss_bytes;
		if (peak)
			(void)df_buf_addf(b, ", %s in a %s", df_human_bytes((double)peak, z), role[k]);
	}
}

/* " (3 calls at unknown prices: openai/mine 3; give ... in models.yaml)", or nothing. */
static void add_unpriced(struct df_buf *b, const struct df_report *r)
{
	char words[80];
	struct df_buf models;
	struct df_str said = df_str_from(df_human_unpriced(r->costs.unpriced, r->costs.calls, words));
	df_buf_init(&models, 4096);
	df_example_add_kinds(&models, r->totals, "unpriced:"); /* " (openai/mine 3)" */
	if (said.n && models.n > 3)
		(void)df_buf_addf(b, "%.*s: %.*s; give price_in and price_out in models.yaml)", (int)said.n - 1, said.p,
				  (int)models.n - 3, models.p + 2);
	else
		(void)df_buf_add_str(b, said);
	df_buf_release(&models);
}

/* "120 calls for $0.0312 (budget $5.00), 80 more from the cache" */
static void tell_costs(const struct df_report *r)
{
	char n[64], spent[32], budget[32], more[32];
	const struct df_costs *c = &r->costs;
	struct df_buf unpriced;
	uint64_t cached = total(r->totals, "cached"); /* of rows: an identical ask in flight counts, too */
	if (!c->known)
		return;
	bool capped = c->budget > 0;
	df_buf_init(&unpriced, 8192);
	add_unpriced(&unpriced, r);
	df_info("%s for %s%s%s%s%s%s%s%s", df_human_number_of(c->calls, "call", n),
		df_human_usd(c->spent + c->reserved, spent), df_buf_z(&unpriced), capped ? " (budget " : "",
		capped ? df_human_usd(c->budget, budget) : "", capped ? ")" : "", cached ? ", " : "",
		cached ? df_human_count(cached, more) : "", cached ? " more from the cache" : "");
	df_buf_release(&unpriced);
}

/* Why money or the day's calls are used up, and what is spent, as the lines above count it: a worker that was refused knew of less. */
static void tell_quota(const struct df_report *r)
{
	char spent[32];
	if (r->costs.known && r->costs.budget > 0)
		df_error("%s (%s are spent)", r->quota->msg, df_human_usd(r->costs.spent + r->costs.reserved, spent));
	else
		df_error("%s", r->quota->msg);
}

/* "of that, $0.0040 were perhaps never paid: 3 calls were sent, and no answer came" */
static void tell_maybe(const struct df_costs *c)
{
	char usd[32], calls[48] = "";
	double maybe = c->maybe +
		       c->reserved; /* what is still reserved at the end is of calls that nobody waits for any more */
	if (!c->known || maybe <= 0)
		return;
	if (c->maybe_calls)
		(void)df_human_number_of(c->maybe_calls, "call", calls);
	df_info("of that, up to %s was perhaps never paid: %s sent without a whole answer", df_human_usd(maybe, usd),
		calls[0] ? calls : "calls of workers that died,");
}

/* A worker refuses vectors of another length than its first; another life's, or another worker's, it does not know. */
static void tell_dims(const struct df_map *totals)
{
	struct df_buf dims;
	size_t n = 0;
	df_buf_init(&dims, 4096);
	df_example_add_kinds(&dims, totals, "dim:"); /* " (1536 200, 3072 17)" */
	for (size_t i = 0; i < totals->n_slot; i++)
		n += totals->slots[i].key.p && totals->slots[i].value && df_str_starts(totals->slots[i].key, "dim:");
	if (n > 1)
		df_warn("there are vectors of %zu lengths, which cannot be compared%s, as numbers and rows: was "
			"another "
			"model asked meanwhile?",
			n, df_buf_z(&dims));
	df_buf_release(&dims);
}

static void closing_lines(const struct df_report *r)
{
	struct df_buf b;
	char z[64], y[32];
	double seconds = (double)r->elapsed_ns / 1e9;
	uint64_t bytes = total(r->totals, "bytes_in");
	if (r->options->resume_failed)
		df_retry_tell(r->options, r->totals);
	df_buf_init(&b, 65536);
	(void)df_buf_addf(&b, "%s in = ", df_human_number_of(total(r->totals, "in"), "document", z));
	add_count(&b, "", total(r->totals, "out"), " out + ");
	add_count(&b, "", total(r->totals, "filtered"), " filtered");
	df_example_add_kinds(&b, r->totals, "filtered:");
	add_count(&b, " + ", total(r->totals, "rejected"), " rejected");
	df_example_add_kinds(&b, r->totals, "rejected:");
	df_info("%s", df_buf_z(&b));
	df_examples_tell(r->totals);
	df_buf_reset(&b);
	(void)df_buf_addz(&b, df_human_number_of(total(r->totals, "rows"), "row", z));
	if (total(r->totals, "tokens"))
		(void)df_buf_addf(&b, ", %s", df_human_number_of(total(r->totals, "tokens"), "token", z));
	if (total(r->totals, "truncated"))
		add_count(&b, ", ", total(r->totals, "truncated"), " truncated");
	(void)df_buf_addf(&b, "; %s read in %s", df_human_bytes((double)bytes, z), df_human_time(seconds, y));
	uint64_t docs = r->control.tally.in;
	if (docs && seconds > 0) {
		add_count(&b, " (", (uint64_t)((double)docs / seconds), " documents/s, ");
		(void)df_buf_addf(&b, "%s/s)", df_human_bytes((double)r->control.tally.bytes_in / seconds, z));
	}
	if (r->options->out.n)
		(void)df_buf_addf(&b, "; results in '%s'", r->options->out.p);
	df_info("%s", df_buf_z(&b));
	df_buf_reset(&b);
	add_costs(&b, r);
	df_info("%s", df_buf_z(&b));
	df_buf_release(&b);
	tell_costs(r);
	tell_maybe(&r->costs);
	tell_dims(r->totals);
	if (r->control.source_errors)
		df_warn("%llu of the inputs could not be read to the end",
			(unsigned long long)r->control.source_errors);
	if (r->control.deaths)
		df_info("%llu process%s died and %s replaced; %llu lease%s done again",
			(unsigned long long)r->control.deaths, r->control.deaths == 1 ? "" : "es",
			r->control.deaths == 1 ? "was" : "were", (unsigned long long)r->control.redone,
			r->control.redone == 1 ? "" : "s");
}

static bool counts_add_up(const struct df_report *r)
{
	uint64_t in = total(r->totals, "in");
	uint64_t fates = total(r->totals, "out") + total(r->totals, "filtered") + total(r->totals, "rejected");
	if (in != fates)
		df_error("the counts do not add up: %llu documents in, but %llu have a fate; this is a defect of "
			 "docflume",
			 (unsigned long long)in, (unsigned long long)fates);
	return in == fates;
}

static const char *state_word(enum df_outcome outcome)
{
	return outcome == DF_OUTCOME_DONE ? "finished" : outcome == DF_OUTCOME_STOPPED ? "stopped" : "failed";
}

/* `docflume run ... | head`: the reader has what it wanted, and does not want to hear more. */
static bool reader_has_gone(const struct df_report *r)
{
	return r->outcome == DF_OUTCOME_FAILED && r->fail && r->fail->code == DF_ERR_CLOSED;
}

static int exit_code(const struct df_report *r)
{
	switch (r->outcome) {
	case DF_OUTCOME_DONE:
		return total(r->totals, "rejected") || r->control.source_errors ? DF_EXIT_REJECTS : DF_EXIT_OK;
	case DF_OUTCOME_STOPPED:
		return r->quota ? DF_EXIT_QUOTA : DF_EXIT_STOPPED;
	default:
		return reader_has_gone(r) ? DF_EXIT_OK : DF_EXIT_FATAL;
	}
}

static bool can_go_on(const struct df_report *r)
{
	bool live = false;
	for (size_t i = 0; i < r->dataset->n_source; i++)
		live |= r->dataset->source[i].live;
	return r->outputs->is_dir && !live;
}

int df_report(const struct df_report *r)
{
	int code = exit_code(r);
	struct df_fail fail = {0};
	char z[64];
	if (reader_has_gone(r))
		df_info("the reader of stdout has gone; stopped after %s",
			df_human_number_of(total(r->totals, "rows"), "row", z));
	else if (r->outcome == DF_OUTCOME_FAILED && r->fail)
		df_error("%s", r->fail->msg);
	if (r->totals && !reader_has_gone(r)) {
		closing_lines(r);
		if (!counts_add_up(r))
			code = DF_EXIT_FATAL;
	}
	if (r->outcome == DF_OUTCOME_STOPPED && r->quota)
		tell_quota(r);
	if (r->outcome == DF_OUTCOME_STOPPED && !r->totals && r->fail && r->fail->code == DF_ERR_INTERRUPTED)
		df_info("%s", r->fail->msg); /* before the work began */
	else if (r->outcome == DF_OUTCOME_STOPPED)
		df_info(can_go_on(r) ? "stopped early; the same command goes on from here"
				     : "stopped early; with files as input and -o DIR the same command could go on");
	if (r->outputs->announced && df_report_json(r, state_word(r->outcome), &fail) != DF_OK) {
		df_error("%s", fail.msg);
		code = code == DF_EXIT_OK || code == DF_EXIT_REJECTS ? DF_EXIT_FATAL : code;
	}
	return code;
}

/* A life that could not write run.json at its end, or died before it, left one that says something else than the journal. */
static bool tell_finished(struct df_outputs *o)
{
	const struct df_report r = {
		.outputs = o, .outcome = DF_OUTCOME_DONE, .costs = df_expenses_peek(o->is_dir ? o->dir_fd : -1)};
	struct df_fail fail = {0};
	if (o->told_finished || df_report_json(&r, state_word(r.outcome), &fail) == DF_OK)
		return true;
	df_error("%s", fail.msg);
	return false;
}

int df_report_finished(struct df_outputs *o, const struct df_run_options *options)
{
	struct df_error_counts c = {0};
	struct df_fail fail = {0};
	for (size_t i = 0; i < o->recovered.n_counter; i++)
		if (df_str_is(o->recovered.counter[i].name, "rejected"))
			c.rejected = o->recovered.counter[i].value;
		else if (df_str_is(o->recovered.counter[i].name, "in"))
			c.in = o->recovered.counter[i].value;
	for (size_t i = 0; i < o->recovered.n_source; i++)
		c.source_errors += o->recovered.source[i].err != DF_OK;
	df_info("this run is complete already; nothing to do");
	if (!tell_finished(o))
		return DF_EXIT_FATAL;
	if (options->max_errors.n && df_errors_exceed(options, &c, true)) {
		(void)df_errors_tell(options, &c, NULL, &fail);
		df_error("%s", fail.msg);
		return DF_EXIT_FATAL;
	}
	return c.rejected || c.source_errors ? DF_EXIT_REJECTS : DF_EXIT_OK;
}
