// SPDX-License-Identifier: Apache-2.0
/* status_text: what is durable first, then what is in work, then what went wrong. */
#include "cli/status_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/limits.h"
#include "coordinator/show/status.h"
#include "proto/strike.h"

#define REASONS_MAX 20
#define STRIKES_SHOWN 20
#define SOURCES_SHOWN 20

/* ------------------------------------------------------------------ pieces */

/* Names come from files: nothing in them may look like another line, or move a terminal's cursor. */
static void add_safe(struct df_buf *b, struct df_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			(void)df_buf_addf(b, "\\x%02x", (unsigned char)s.p[i]);
		else
			(void)df_buf_addc(b, s.p[i]);
}

static const char *count(uint64_t n, char z[32])
{
	return df_human_count(n, z);
}

struct reason {
	struct df_str name;
	uint64_t n;
};

static int by_number(const void *a, const void *b)
{
	const struct reason *x = a, *y = b;
	return (x->n < y->n) - (x->n > y->n);
}

/* The counters below a prefix, the largest first; *ret_left: how many more there are. */
static size_t reasons(const struct df_view *v, const char *prefix, struct reason out[REASONS_MAX], size_t *ret_left)
{
	size_t n = 0, n_prefix = strlen(prefix), all = 0;
	for (size_t i = 0; i < v->journal.n_counter; i++) {
		const struct df_counter *c = &v->journal.counter[i];
		if (!df_str_starts(c->name, prefix) || !c->value)
			continue;
		struct reason r = {{c->name.p + n_prefix, c->name.n - n_prefix}, c->value};
		all++;
		if (n < REASONS_MAX)
			out[n++] = r;
		else if (out[n - 1].n < r.n)
			out[n - 1] = r;
		qsort(out, n, sizeof(*out), by_number);
	}
	*ret_left = all - n;
	return n;
}

/* ------------------------------------------------------------------ for people */

static void add_head(const struct df_view *v, struct df_buf *b)
{
	const char *state = df_view_state(v);
	char z[32];
	(void)df_buf_addz(b, "run      ");
	add_safe(b, df_str_from(v->path));
	(void)df_buf_addf(b, ": %s", state);
	if (v->live && v->news)
		(void)df_buf_addf(b, ", process %llu", (unsigned long long)df_json_get_u64(v->news, "pid", 0));
	uint32_t epoch = v->has_journal ? v->journal.epoch : 0;
	if (epoch > 1)
		(void)df_buf_addf(b, ", life %u", epoch);
	if (v->has_run_json && !v->live && v->run.elapsed_seconds > 0)
		(void)df_buf_addf(b, " after %s", df_human_time(v->run.elapsed_seconds, z));
	(void)df_buf_addc(b, '\n');
	if (df_str_is(df_str_from(state), "dead"))
		(void)df_buf_addz(b, "         its processes are gone; the same command goes on where it was\n");
	if (df_str_is(df_str_from(state), "stopped"))
		(void)df_buf_addz(b, "         the same command goes on\n");
	if (v->has_run_json && v->run.error.n && !v->live) {
		(void)df_buf_addz(b, "error    ");
		add_safe(b, v->run.error);
		(void)df_buf_addc(b, '\n');
	}
	if (v->has_run_json) {
		(void)df_buf_addz(b, "pipeline ");
		add_safe(b, v->run.pipeline);
		(void)df_buf_addc(b, '\n');
	}
	if (v->generations)
		(void)df_buf_addf(b, "retries  %u, the last in retry-%u\n", v->generations, v->generations);
}

static void add_reasons(const struct df_view *v, const char *prefix, const char *word, struct df_buf *b)
{
	struct reason r[REASONS_MAX];
	char z[32];
	size_t left = 0, n = reasons(v, prefix, r, &left);
	for (size_t i = 0; i < n; i++) {
		(void)df_buf_addf(b, "%-9s%12s  ", i ? "" : word, count(r[i].n, z));
		add_safe(b, r[i].name);
		(void)df_buf_addc(b, '\n');
	}
	if (left)
		(void)df_buf_addf(b, "%21s  and %zu more\n", "", left);
}

static void add_counts(const struct df_view *v, struct df_buf *b)
{
	char in[48], out[32], filtered[32], rejected[32], rows[48], bytes[32];
	(void)df_buf_addf(b, "durable  %s in = %s out + %s filtered + %s rejected; %s; %s read",
			  df_human_number_of(df_replay_count(&v->journal, "in"), "document", in),
			  count(df_replay_count(&v->journal, "out"), out),
			  count(df_replay_count(&v->journal, "filtered"), filtered),
			  count(df_replay_count(&v->journal, "rejected"), rejected),
			  df_human_number_of(df_replay_count(&v->journal, "rows"), "row", rows),
			  df_human_bytes((double)df_replay_count(&v->journal, "bytes_in"), bytes));
	if (v->has_run_json && v->run.source_bytes)
		(void)df_buf_addf(b, " (inputs: %s in %llu files)", df_human_bytes((double)v->run.source_bytes, in),
				  (unsigned long long)v->run.n_source);
	(void)df_buf_addc(b, '\n');
	add_reasons(v, "filtered:", "filtered", b);
	add_reasons(v, "rejected:", "rejected", b);
}

/* "3 calls in flight, 97 wait for a limit of requests or tokens (0.9 s)"; false: there are none. */
static bool add_calls(const struct df_json *c, struct df_buf *b)
{
	char n[48];
	uint64_t out = df_json_get_u64(c, "calls_out", 0), sent = df_json_get_u64(c, "calls_in_flight", out);
	struct df_str why = df_json_get_str(c, "waits_for");
	double seconds = df_json_get_double(c, "waits_seconds");
	if (!out)
		return false;
	(void)df_buf_addf(b, "%s in flight", df_human_number_of(sent, "call", n));
	if (out <= sent)
		return true;
	(void)df_buf_addf(b, ", %s wait%s", count(out - sent, n), out - sent == 1 ? "s" : "");
	if (why.n) {
		(void)df_buf_addz(b, " for ");
		add_safe(b, why);
	}
	if (seconds >= 1) /* less is only when they look again */
		(void)df_buf_addf(b, " (%s more)", df_human_time(seconds, n));
	return true;
}

static void add_child(const struct df_json *c, struct df_buf *b)
{
	char z[32];
	const struct df_json *work = df_json_get(c, "in_work");
	add_safe(b, df_json_get_str(c, "role"));
	(void)df_buf_addf(b, " %-4llu%10s  ", (unsigned long long)df_json_get_u64(c, "number", 0),
			  df_human_bytes(df_json_get_double(c, "memory_bytes"), z));
	bool calls = add_calls(c, b);
	if (!work || work->type != DF_JSON_OBJECT) {
		(void)df_buf_addz(b, calls ? "\n" : "waits\n");
		return;
	}
	(void)df_buf_addz(b, calls ? "; " : "");
	struct df_str stage = df_json_get_str(work, "stage");
	(void)df_buf_addf(b, "%llu records at byte %llu of '", (unsigned long long)df_json_get_u64(work, "records", 0),
			  (unsigned long long)df_json_get_u64(work, "offset", 0));
	add_safe(b, df_json_get_str(work, "source"));
	(void)df_buf_addz(b, "'");
	if (stage.n) {
		(void)df_buf_addz(b, " in ");
		add_safe(b, stage);
	}
	(void)df_buf_addf(b, " for %s\n", df_human_time(df_json_get_double(work, "seconds"), z));
}

static void add_costs(const struct df_json *costs, struct df_buf *b)
{
	char calls[48], z[32], unpriced[80];
	uint64_t n_call = df_json_get_u64(costs, "calls", 0);
	if (!costs)
		return;
	double budget = df_json_get_double(costs, "usd_budget"), projected = df_json_get_double(costs, "usd_projected");
	(void)df_buf_addf(b, "costs    %s for %s", df_human_number_of(n_call, "call", calls),
			  df_human_usd(df_json_get_double(costs, "usd_spent"), z));
	(void)df_buf_addz(b, df_human_unpriced(df_json_get_u64(costs, "unpriced_calls", 0), n_call, unpriced));
	if (df_json_get_double(costs, "usd_maybe_paid") > 0)
		(void)df_buf_addf(b, " (%s of it only maybe)",
				  df_human_usd(df_json_get_double(costs, "usd_maybe_paid"), z));
	(void)df_buf_addf(b, " and up to %s in flight", df_human_usd(df_json_get_double(costs, "usd_reserved"), z));
	if (budget > 0)
		(void)df_buf_addf(b, ", of %s", df_human_usd(budget, z));
	if (projected > 0)
		(void)df_buf_addf(b, "; about %s in all", df_human_usd(projected, z));
	(void)df_buf_addc(b, '\n');
}

/* Of a run that is over: what its money came to, as its last line said it. */
static void add_spent(const struct df_costs *c, struct df_buf *b)
{
	char calls[48], z[32], unpriced[80];
	(void)df_buf_addf(b, "costs    %s for %s%s", df_human_number_of(c->calls, "call", calls),
			  df_human_usd(c->spent, z), df_human_unpriced(c->unpriced, c->calls, unpriced));
	if (c->maybe > 0)
		(void)df_buf_addf(b, " (%s of it only maybe)", df_human_usd(c->maybe, z));
	if (c->reserved > 0)
		(void)df_buf_addf(b, " and up to %s in flight", df_human_usd(c->reserved, z));
	if (c->budget > 0)
		(void)df_buf_addf(b, ", of %s", df_human_usd(c->budget, z));
	(void)df_buf_addc(b, '\n');
}

static void add_news(const struct df_view *v, struct df_buf *b)
{
	const struct df_json *news = v->news, *list = df_json_get(news, "processes");
	char docs[32], rate[32], bytes[32], z[32];
	double total = df_json_get_double(news, "bytes_total"), done = df_json_get_double(news, "bytes_done"),
	       speed = df_json_get_double(news, "bytes_per_second");
	(void)df_buf_addf(
		b, "now      %s documents in this life, %s/s, %s/s", count(df_json_get_u64(news, "documents", 0), docs),
		count((uint64_t)df_json_get_double(news, "documents_per_second"), rate), df_human_bytes(speed, bytes));
	if (total > 0 && done <= total)
		(void)df_buf_addf(b, "; %.0f %%", done / total * 100);
	if (total > done && speed > 0)
		(void)df_buf_addf(b, ", %s left", df_human_time((total - done) / speed, z));
	uint64_t deaths = df_json_get_u64(news, "deaths", 0), redone = df_json_get_u64(news, "leases_redone", 0);
	(void)df_buf_addf(b, "\n         %llu process%s died, %llu lease%s done again\n", (unsigned long long)deaths,
			  deaths == 1 ? "" : "es", (unsigned long long)redone, redone == 1 ? " was" : "s were");
	add_costs(df_json_get(news, "costs"), b);
	for (const struct df_json *c = list ? list->child : NULL; c; c = c->next) {
		(void)df_buf_addz(b, c == list->child ? "in work  " : "         ");
		add_child(c, b);
	}
	list = df_json_get(news, "slowest");
	for (const struct df_json *c = list ? list->child : NULL; c; c = c->next) {
		(void)df_buf_addf(b, "%s%s for %s at byte %llu of '", c == list->child ? "slowest  " : "         ",
				  df_human_time(df_json_get_double(c, "seconds"), z),
				  df_human_bytes(df_json_get_double(c, "bytes"), bytes),
				  (unsigned long long)df_json_get_u64(c, "offset", 0));
		add_safe(b, df_json_get_str(c, "source"));
		(void)df_buf_addz(b, "'\n");
	}
}

static void add_trouble(const struct df_view *v, struct df_buf *b)
{
	char z[256];
	size_t shown = 0;
	for (size_t i = 0; i < v->journal.n_strike && shown < STRIKES_SHOWN; i++, shown++) {
		const struct df_strike *s = &v->journal.strike[i];
		df_strike_words(s, DF_STR(""), z, sizeof(z));
		(void)df_buf_addf(b, "%s%u of %d for byte %llu of input %u: it %s", i ? "         " : "strikes  ", s->n,
				  DF_STRIKES_MAX, (unsigned long long)s->record.offset, s->record.source, z);
		(void)df_buf_addz(b, s->n >= DF_STRIKES_MAX ? "; rejected\n" : "\n");
	}
	if (shown < v->journal.n_strike)
		(void)df_buf_addf(b, "         and %zu more\n", v->journal.n_strike - shown);
	shown = 0;
	size_t errors = 0;
	for (size_t i = 0; i < v->journal.n_source; i++) {
		const struct df_source_state *s = &v->journal.source[i];
		if (s->err == DF_OK)
			continue;
		if (++errors > SOURCES_SHOWN)
			continue;
		(void)df_buf_addf(b, "%sinput %u: ", shown++ ? "         " : "inputs   ", s->source);
		add_safe(b, s->message);
		(void)df_buf_addc(b, '\n');
	}
	if (errors > SOURCES_SHOWN)
		(void)df_buf_addf(b, "         and %zu more\n", errors - SOURCES_SHOWN);
}

void df_status_add_text(const struct df_view *v, struct df_buf *b)
{
	add_head(v, b);
	if (v->has_journal)
		add_counts(v, b);
	if (v->news)
		add_news(v, b);
	else if (v->has_run_json && v->run.costs.known)
		add_spent(&v->run.costs, b);
	add_trouble(v, b);
}

/* ------------------------------------------------------------------ for scripts */

static void json_reasons(const struct df_view *v, const char *key, const char *prefix, struct df_buf *b)
{
	bool any = false;
	(void)df_buf_addf(b, ",\"%s\":{", key);
	for (size_t i = 0; i < v->journal.n_counter; i++) {
		const struct df_counter *c = &v->journal.counter[i];
		if (!df_str_starts(c->name, prefix))
			continue;
		(void)df_buf_addz(b, any ? "," : "");
		(void)df_json_add_string(b, (struct df_str){c->name.p + strlen(prefix), c->name.n - strlen(prefix)});
		(void)df_buf_addf(b, ":%llu", (unsigned long long)c->value);
		any = true;
	}
	(void)df_buf_addc(b, '}');
}

static void json_strikes(const struct df_view *v, struct df_buf *b)
{
	static const char *const word[DF_N_CAUSE] = {"stranger", "signal", "exit", "deadline", "memory"};
	(void)df_buf_addz(b, ",\"strikes\":[");
	for (size_t i = 0; i < v->journal.n_strike; i++) {
		const struct df_strike *s = &v->journal.strike[i];
		(void)df_buf_addf(b,
				  "%s{\"source\":%u,\"offset\":%llu,\"n\":%u,\"cause\":\"%s\",\"detail\":%u,\"stage\":",
				  i ? "," : "", s->record.source, (unsigned long long)s->record.offset, s->n,
				  word[s->cause], s->detail);
		if (s->stage == DF_NO_STAGE)
			(void)df_buf_addz(b, "null}");
		else
			(void)df_buf_addf(b, "%u}", s->stage);
	}
	(void)df_buf_addc(b, ']');
}

static void json_sources(const struct df_view *v, struct df_buf *b)
{
	bool any = false;
	(void)df_buf_addz(b, ",\"source_errors\":[");
	for (size_t i = 0; i < v->journal.n_source; i++) {
		const struct df_source_state *s = &v->journal.source[i];
		if (s->err == DF_OK)
			continue;
		(void)df_buf_addf(b, "%s{\"source\":%u,\"class\":\"%s\",\"message\":", any ? "," : "", s->source,
				  df_err_name(s->err));
		(void)df_json_add_string(b, s->message);
		(void)df_buf_addc(b, '}');
		any = true;
	}
	(void)df_buf_addc(b, ']');
}

void df_status_add_json(const struct df_view *v, struct df_buf *b)
{
	static const char *const name[] = {"in",   "out",    "filtered",  "rejected",
					   "rows", "tokens", "truncated", "bytes_in"};
	(void)df_buf_addz(b, "{\"directory\":");
	(void)df_json_add_string(b, df_str_from(v->path));
	(void)df_buf_addf(b, ",\"state\":\"%s\",\"live\":%s,\"epoch\":%u", df_view_state(v), v->live ? "true" : "false",
			  v->journal.epoch);
	(void)df_buf_addz(b, ",\"pipeline\":");
	(void)df_json_add_string(b, v->run.pipeline);
	(void)df_buf_addz(b, ",\"error\":");
	(void)df_json_add_string(b, v->live ? DF_STR("") : v->run.error);
	(void)df_buf_addf(b, ",\"inputs\":%llu,\"input_bytes\":%llu,\"generations\":%u,\"counts\":{",
			  (unsigned long long)v->run.n_source, (unsigned long long)v->run.source_bytes, v->generations);
	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++)
		(void)df_buf_addf(b, "%s\"%s\":%llu", i ? "," : "", name[i],
				  (unsigned long long)df_replay_count(&v->journal, name[i]));
	(void)df_buf_addc(b, '}');
	json_reasons(v, "filtered", "filtered:", b);
	json_reasons(v, "rejected", "rejected:", b);
	json_strikes(v, b);
	json_sources(v, b);
	if (v->has_run_json && !v->live) /* of one that lives they are in "now" */
		df_status_add_costs(&v->run.costs, b);
	(void)df_buf_addz(b, ",\"now\":");
	struct df_str news = v->news ? df_str_trim(v->news_text) : DF_STR("null");
	for (size_t i = 0; i < news.n; i++) /* one line for each object */
		if (news.p[i] != '\n')
			(void)df_buf_addc(b, news.p[i]);
	(void)df_buf_addz(b, "}\n");
}
