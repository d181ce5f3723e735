// SPDX-License-Identifier: Apache-2.0
/* run_json: writing run.json. */
#include "coordinator/rundir/run_json.h"

#include <stdio.h>
#include <time.h>

#include "base/json.h"
#include "proto/example.h"

/* --- writing: a comma goes before every member but the first of its object or array --- */

static void comma(struct df_buf *b)
{
	char last = b->n ? b->p[b->n - 1] : '{';
	if (last != '{' && last != '[')
		(void)df_buf_addc(b, ',');
}

static void put_key(struct df_buf *b, struct df_str key)
{
	comma(b);
	(void)df_json_add_string(b, key);
	(void)df_buf_addc(b, ':');
}

static void put_str(struct df_buf *b, const char *key, struct df_str value)
{
	put_key(b, df_str_from(key));
	(void)df_json_add_string(b, value);
}

static void put_u64(struct df_buf *b, const char *key, uint64_t value)
{
	put_key(b, df_str_from(key));
	(void)df_buf_add_u64(b, value);
}

static void put_double(struct df_buf *b, const char *key, double value)
{
	put_key(b, df_str_from(key));
	(void)df_json_add_double(b, value);
}

static void put_usd(struct df_buf *b, const char *key, double value)
{
	put_key(b, df_str_from(key));
	(void)df_json_add_usd(b, value);
}

static void put_hex(struct df_buf *b, const char *key, uint64_t value)
{
	char hex[20];
	(void)snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)value);
	put_str(b, key, df_str_from(hex));
}

static void open_in(struct df_buf *b, const char *key, char bracket)
{
	put_key(b, df_str_from(key));
	(void)df_buf_addc(b, bracket);
}

/* RFC 3339 in UTC with milliseconds; null when it has not come yet. */
static void put_time(struct df_buf *b, const char *key, uint64_t wall_ns)
{
	put_key(b, df_str_from(key));
	if (wall_ns == 0) {
		(void)df_buf_addz(b, "null");
		return;
	}
	time_t t = (time_t)(wall_ns / DF_SEC);
	struct tm tm;
	char text[40];
	(void)gmtime_r(&t, &tm);
	size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(text + n, sizeof(text) - n, ".%03uZ", (unsigned)(wall_ns % DF_SEC / DF_MS));
	(void)df_json_add_string(b, df_str_from(text));
}

static void put_counters_of(struct df_buf *b, const struct df_run_summary *s, const char *prefix)
{
	size_t skip = strlen(prefix);
	for (size_t i = 0; i < s->n_counter; i++) {
		struct df_str name = s->counter[i].name;
		if (!df_str_starts(name, prefix))
			continue;
		put_key(b, (struct df_str){name.p + skip, name.n - skip});
		(void)df_buf_add_u64(b, s->counter[i].value);
	}
}

static uint64_t counter(const struct df_run_summary *s, const char *name)
{
	for (size_t i = 0; i < s->n_counter; i++)
		if (df_str_is(s->counter[i].name, name))
			return s->counter[i].value;
	return 0;
}

static uint64_t counter_of(const struct df_run_summary *s, const char *what, struct df_str stage)
{
	char name[160];
	(void)snprintf(name, sizeof(name), "%s:%.*s", what, (int)(stage.n < 128 ? stage.n : 128), stage.p);
	return counter(s, name);
}

/* "llm:not-found": {"id": "d7", "message": "field 'title' is missing"} */
static void put_examples(struct df_buf *b, const struct df_run_summary *s)
{
	struct df_example e;
	open_in(b, "reject_examples", '{');
	for (size_t i = 0; i < s->n_counter; i++) {
		if (!df_example_split(s->counter[i].name, &e))
			continue;
		put_key(b, e.kind);
		(void)df_buf_addc(b, '{');
		put_str(b, "id", e.id);
		put_str(b, "message", e.message);
		(void)df_buf_addc(b, '}');
	}
	(void)df_buf_addc(b, '}');
}

static void put_counts(struct df_buf *b, const struct df_run_summary *s)
{
	static const char *const total[] = {"in", "out", "rows", "bytes_in", "tokens", "truncated"};
	open_in(b, "counts", '{');
	for (size_t i = 0; i < sizeof(total) / sizeof(*total); i++)
		put_u64(b, total[i], counter(s, total[i]));
	put_u64(b, "filtered_total", counter(s, "filtered"));
	open_in(b, "filtered", '{');
	put_counters_of(b, s, "filtered:");
	(void)df_buf_addc(b, '}');
	put_u64(b, "rejected_total", counter(s, "rejected"));
	open_in(b, "rejected", '{');
	put_counters_of(b, s, "rejected:");
	(void)df_buf_addc(b, '}');
	put_examples(b, s);
	(void)df_buf_addc(b, '}');
	open_in(b, "stages", '[');
	for (size_t i = 0; i < s->n_counter; i++) {
		struct df_str name = s->counter[i].name;
		if (!df_str_starts(name, "time_ns:"))
			continue;
		comma(b);
		(void)df_buf_addc(b, '{');
		put_str(b, "name", (struct df_str){name.p + 8, name.n - 8});
		put_double(b, "seconds", (double)s->counter[i].value / 1e9);
		uint64_t waited = counter_of(s, "wait_ns", (struct df_str){name.p + 8, name.n - 8});
		if (waited)
			put_double(b, "waiting_seconds", (double)waited / 1e9);
		(void)df_buf_addc(b, '}');
	}
	(void)df_buf_addc(b, ']');
}

static void put_input(struct df_buf *b, const struct df_run_summary *s)
{
	open_in(b, "grid", '{');
	put_u64(b, "cell_bytes", s->cell_bytes);
	put_u64(b, "sources", s->n_source);
	put_u64(b, "bytes", s->source_bytes);
	put_hex(b, "fingerprint", s->fingerprint);
	(void)df_buf_addc(b, '}');
	open_in(b, "inputs", '{');
	put_u64(b, "n", s->n_input);
	open_in(b, "first", '[');
	for (size_t i = 0; i < s->n_input && i < DF_RUN_JSON_INPUTS; i++) {
		comma(b);
		(void)df_json_add_string(b, s->input[i]);
	}
	(void)df_buf_addz(b, "]}");
}

/* What was paid is in the purse, whatever became of the leases it was paid for; what stages counted is of rows that were written. */
static void put_costs(struct df_buf *b, const struct df_run_summary *s)
{
	static const char *const total[] = {"calls", "cached", "repaired", "tokens_in", "tokens_out", "usd_nano"};
	const struct df_costs *c = &s->costs;
	if (!c->known)
		return;
	open_in(b, "costs", '{');
	put_usd(b, "usd", c->spent);
	put_usd(b, "usd_maybe_paid", c->maybe); /* of usd: what calls may have cost that were sent and not answered */
	put_u64(b, "maybe_paid_calls", c->maybe_calls);
	put_usd(b, "usd_reserved", c->reserved); /* of calls that were still in flight */
	if (c->budget > 0)
		put_usd(b, "usd_budget", c->budget);
	put_u64(b, "paid_calls", c->calls - c->unpriced);
	put_u64(b, "unpriced_calls", c->unpriced);
	open_in(b, "of_rows", '{');
	for (size_t i = 0; i < sizeof(total) / sizeof(*total); i++)
		put_u64(b, total[i], counter(s, total[i]));
	(void)df_buf_addz(b, "}}");
}

static void put_faults(struct df_buf *b, const struct df_run_summary *s)
{
	const struct df_run_faults *f = &s->faults;
	open_in(b, "faults", '{');
	put_u64(b, "source_errors", f->source_errors);
	put_u64(b, "strikes", f->strikes);
	open_in(b, "last_epoch", '{');
	put_u64(b, "processes_died", f->deaths);
	put_u64(b, "deadline_kills", f->deadline_kills);
	put_u64(b, "memory_kills", f->memory_kills);
	put_u64(b, "leases", f->leases);
	put_u64(b, "leases_redone", f->leases_redone);
	put_u64(b, "results_doubled", f->results_doubled);
	put_u64(b, "results_stale", f->results_stale);
	(void)df_buf_addz(b, "}}");
}

static void put_processes(struct df_buf *b, const struct df_run_summary *s)
{
	put_u64(b, "processes_total", s->n_process);
	open_in(b, "processes", '[');
	for (size_t i = 0; i < s->n_process && i < DF_RUN_JSON_PROCESSES; i++) {
		comma(b);
		(void)df_buf_addc(b, '{');
		put_str(b, "role", s->process[i].role);
		put_u64(b, "id", s->process[i].id);
		put_u64(b, "peak_rss_bytes", s->process[i].peak_rss_bytes);
		put_double(b, "cpu_seconds", s->process[i].cpu_seconds);
		(void)df_buf_addc(b, '}');
	}
	(void)df_buf_addc(b, ']');
}

static void put_parts(struct df_buf *b, const struct df_run_summary *s)
{
	static const char *const kind[DF_N_OUTPUT] = {"jsonl", "npy", "rejects"};
	open_in(b, "parts", '[');
	for (size_t i = 0; i < s->n_part; i++) {
		const struct df_part_info *p = &s->part[i];
		comma(b);
		(void)df_buf_addc(b, '{');
		put_str(b, "name", df_str_from(p->name));
		put_str(b, "kind", df_str_from(p->kind < DF_N_OUTPUT ? kind[p->kind] : "?"));
		put_u64(b, "rows", p->rows);
		put_u64(b, "bytes", p->bytes);
		put_hex(b, "xxh3", p->hash);
		(void)df_buf_addc(b, '}');
	}
	(void)df_buf_addc(b, ']');
}

static void new_line(struct df_buf *out, size_t depth)
{
	(void)df_buf_addc(out, '\n');
	for (size_t i = 0; i < depth; i++)
		(void)df_buf_addz(out, "  ");
}

/* For people: a line for each member, two blanks for each level. `json` has no white space outside of strings. */
static void indent(struct df_str json, struct df_buf *out)
{
	size_t depth = 0;
	bool in_string = false;
	for (const char *p = json.p, *end = p + json.n; p < end; p++) {
		bool opens = *p == '{' || *p == '[', closes = *p == '}' || *p == ']';
		if (in_string) {
			(void)df_buf_addc(out, *p);
			if (*p == '\\')
				(void)df_buf_addc(out, *++p);
			else
				in_string = *p != '"';
			continue;
		}
		in_string = *p == '"';
		if (closes && p[-1] != '{' && p[-1] != '[')
			new_line(out, depth - 1);
		depth = depth + opens - closes;
		(void)df_buf_addc(out, *p);
		if (*p == ',' || (opens && p[1] != '}' && p[1] != ']'))
			new_line(out, depth);
		if (*p == ':')
			(void)df_buf_addc(out, ' ');
	}
}

static void format(const struct df_run_summary *s, struct df_buf *b)
{
	(void)df_buf_addc(b, '{');
	put_u64(b, "format_version", DF_RUN_JSON_VERSION);
	put_str(b, "docflume", s->version.n ? s->version : df_str_from(DF_VERSION));
	put_hex(b, "run_id", s->run_id);
	put_str(b, "state", s->state);
	if (s->error.n)
		put_str(b, "error", s->error);
	put_time(b, "started", s->started_wall_ns);
	put_u64(b, "started_ns", s->started_wall_ns);
	put_time(b, "finished", s->finished_wall_ns);
	put_double(b, "elapsed_seconds", s->elapsed_seconds);
	put_u64(b, "epochs", s->epoch);
	put_str(b, "pipeline", s->pipeline);
	if (s->pipeline_fixed.n && !df_str_eq(s->pipeline_fixed, s->pipeline))
		put_str(b, "pipeline_fixed", s->pipeline_fixed);
	open_in(b, "options", '{');
	for (size_t i = 0; i < s->n_option; i++) {
		put_key(b, s->option[i].name);
		(void)df_json_add_string(b, s->option[i].value);
	}
	(void)df_buf_addc(b, '}');
	put_input(b, s);
	put_counts(b, s);
	put_costs(b, s);
	put_faults(b, s);
	put_processes(b, s);
	put_parts(b, s);
	(void)df_buf_addc(b, '}');
}

enum df_err df_run_json_format(const struct df_run_summary *s, struct df_buf *out)
{
	struct df_buf b;
	df_buf_init(&b, DF_RUN_JSON_BYTES_MAX);
	format(s, &b);
	enum df_err err = df_buf_err(&b);
	if (err == DF_OK) {
		indent(df_buf_str(&b), out);
		(void)df_buf_addc(out, '\n');
		err = df_buf_err(out);
	}
	df_buf_release(&b);
	return err;
}

enum df_err df_run_json_write(const struct df_io *io, int dirfd, const struct df_run_summary *summary,
			      struct df_fail *fail)
{
	struct df_buf b;
	df_buf_init(&b, DF_RUN_JSON_BYTES_MAX);
	enum df_err err = df_run_json_format(summary, &b);
	if (err != DF_OK)
		(void)df_fail(fail, err, "'%s' would be too large, or memory is out", DF_RUN_JSON_NAME);
	else
		err = df_io_replace_file(io, dirfd, DF_RUN_JSON_NAME, b.p, b.n, fail);
	df_buf_release(&b);
	return err;
}
