// SPDX-License-Identifier: Apache-2.0
/*
 * call_host: hosts that do not answer, and models that answer with errors alone: their breakers, what people are told, and the end of patience.
 *
 * DESIGN. Who gives an answer, whatever its status, is no silent host; so a gateway whose one model fails goes on with the others. The host's breaker knows only
 * requests without any answer, the route's only answers that are errors or broke; a request waits for both.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

/* ------------------------------------------------------------------ words for people */

void df_engine_warn(const struct df_caller *c, const char *about, bool is, const char *message)
{
	if (c->warn && (!c->purse || df_purse_tell(c->purse, df_hash64(about, strlen(about)), is)))
		c->warn(c->warn_self, message);
}

static void warn_of_route(const struct df_route *r, bool is, const char *message)
{
	char about[512];
	(void)snprintf(about, sizeof(about), "%.200s %.200s", r->label, r->host->name);
	df_engine_warn(r->caller, about, is, message);
}

/* At most one word in a while: a host that comes and goes is told of once. */
static bool may_tell(bool told, uint64_t told_ns, uint64_t now_ns)
{
	return !told && (!told_ns || now_ns >= told_ns + DF_HOST_TELL_MS * DF_MS);
}

/* Three failures of a host that was never reached; later on, when nothing else came for a while: single failures are everyday. */
static bool is_worth_a_word(const struct df_breaker *b, uint64_t now_ns)
{
	bool silent = now_ns >= b->bad_ns + DF_HOST_SILENT_MS * DF_MS;
	if (b->unknown)
		return silent || b->failures >= DF_BREAKER_UNKNOWN_FAILURES;
	return b->open || (silent && b->failures >= DF_BREAKER_UNKNOWN_FAILURES);
}

/* What went wrong, of a line that names the host before it: "host:port" and ": " lead it, or nothing does. */
static const char *without_host(const char *why)
{
	const char *end = why[0] == '"' ? strstr(why, "\": ") : NULL;
	return end ? end + 3 : why;
}

static void tell_host(struct df_caller *c, struct df_host *h, bool reached, const char *why, uint64_t now_ns)
{
	char line[512];
	why = without_host(why);
	if (!is_worth_a_word(&h->breaker, now_ns) || !may_tell(h->told, h->told_ns, now_ns))
		return;
	if (reached)
		(void)snprintf(line, sizeof(line), "'%.160s' does not answer: %.200s; trying again", h->name, why);
	else
		(void)snprintf(line, sizeof(line), "cannot reach '%.160s': %.200s; trying again", h->name, why);
	h->told = true;
	h->told_ns = now_ns;
	df_engine_warn(c, h->name, true, line);
}

static void tell_route(struct df_route *r, const char *why, uint64_t now_ns)
{
	char line[512];
	if (!r->breaker.open || !may_tell(r->told, r->told_ns, now_ns))
		return;
	why = without_host(why);
	(void)snprintf(line, sizeof(line),
		       "model \"%.120s\" at '%.120s' answers with errors alone: %.200s; trying again", r->label,
		       r->host->name, why);
	r->told = true;
	r->told_ns = now_ns;
	warn_of_route(r, true, line);
}

static void host_is_back(struct df_caller *c, struct df_host *h)
{
	char line[256];
	if (!h->told)
		return;
	h->told = false;
	(void)snprintf(line, sizeof(line), "'%.160s' answers again", h->name);
	df_engine_warn(c, h->name, false, line);
}

static void route_is_back(struct df_route *r)
{
	char line[512];
	r->n_bad = 0;
	if (!r->told)
		return;
	r->told = false;
	(void)snprintf(line, sizeof(line), "model \"%.120s\" at '%.120s' answers well again", r->label, r->host->name);
	warn_of_route(r, false, line);
}

/* ------------------------------------------------------------------ the end of patience: fall-backs, or the end of the run. Documents are not to blame */

static void is_over(struct df_route *r, void *message)
{
	df_route_over(r, DF_ERR_USAGE, DF_CALL_RETRY, message);
}

static void give_up_host(struct df_caller *c, const struct df_host *h, const char *why)
{
	char message[sizeof(((struct df_route *)NULL)->over_message)];
	why = without_host(why);
	if (h->breaker.unknown)
		(void)snprintf(
			message, sizeof(message),
			"cannot reach '%.120s' for a minute: %.160s; correct its address or start it, and the same "
			"command goes on",
			h->name, why);
	else
		(void)snprintf(message, sizeof(message),
			       "'%.120s' has answered nothing for %d minutes (%.160s); the same command goes on",
			       h->name, DF_BREAKER_PATIENCE_MS / 60000, why);
	df_host_each(c, h, is_over, message);
}

/* A model that has answered others well, and before which only calls stand that it was asked already: it may be those that it fails on. */
static void fail_tried(struct df_route *r, const struct df_outcome *o, const char *message)
{
	df_breaker_good(&r->breaker);
	for (struct df_piece *p; (p = r->tried.head);) {
		df_piece_unqueue(p);
		df_piece_fallback(p, df_call_err(o->answer->class, o->http_err), o->answer->class, message);
	}
}

static void give_up_route(struct df_route *r, const struct df_outcome *o, const char *why)
{
	char message[sizeof(r->over_message)];
	bool of_calls = r->good_ns && !r->fresh.head;
	why = without_host(why);
	(void)snprintf(
		message, sizeof(message),
		"model \"%.100s\" at '%.100s' has answered with errors alone for %d minutes (%llu of them, the last: "
		"%.120s)%s",
		r->label, r->host->name, DF_BREAKER_PATIENCE_MS / 60000, (unsigned long long)r->n_bad, why,
		of_calls ? "" : "; the same command goes on");
	if (of_calls)
		fail_tried(r, o, message);
	else
		df_route_over(r, DF_ERR_USAGE, DF_CALL_RETRY, message);
}

static void looks_elsewhere(struct df_route *r, void *self)
{
	(void)self;
	r->rescan = true;
	df_route_dirty(r); /* also where nobody stands in its queue: some may sleep in a back-off */
}

/* ------------------------------------------------------------------ a model that answers 429 alone */

void df_route_refuses(struct df_route *r, uint64_t cool_down_ms)
{
	char line[512], about[160];
	uint64_t now_ns = df_http_now(r->caller->http);
	bool is_news = !r->refuses_until_ns;
	r->refuses_until_ns = r->cool_until_ns = now_ns + cool_down_ms * DF_MS;
	looks_elsewhere(r, NULL);
	if (!is_news)
		return;
	(void)snprintf(
		line, sizeof(line),
		"model \"%.120s\" at '%.120s' has answered 429 and nothing else for %llu s: fall-backs are asked "
		"meanwhile",
		r->label, r->host->name, (unsigned long long)((now_ns - r->rates_ns) / DF_SEC));
	(void)snprintf(about, sizeof(about), "429 %.120s", r->label);
	df_engine_warn(r->caller, about, true, line);
}

/* ------------------------------------------------------------------ breakers */

static void host_failed(struct df_flight *f, enum df_call_class class, const char *why, uint64_t now_ns)
{
	struct df_host *h = f->route->host;
	struct df_caller *c = f->route->caller;
	h->met |= f->went_out;
	h->breaker.unknown = !h->met;
	bool was_open = h->breaker.open;
	df_breaker_bad(&h->breaker, now_ns, f->probe);
	if (class == DF_CALL_RETRY) /* of the others the run ends, or goes to a fall-back, and says so */
		tell_host(c, h, f->went_out, why, now_ns);
	if (f->probe && df_breaker_hopeless(&h->breaker, now_ns))
		give_up_host(c, h, why);
	if (h->breaker.open && (!was_open || f->probe))
		df_host_each(c, h, looks_elsewhere, NULL);
}

static void host_answered(struct df_flight *f)
{
	struct df_host *h = f->route->host;
	bool was_open = h->breaker.open;
	h->met = true;
	df_breaker_good(&h->breaker);
	host_is_back(f->route->caller, h);
	if (was_open)
		df_host_dirty(f->route->caller, h);
}

/* A call that fails again while others are answered well says something of itself, not of the model. */
static bool speaks_for_all(const struct df_flight *f)
{
	return f->route_probe || f->piece->attempts == 1 || f->piece->first_ns >= f->route->good_ns;
}

static void route_failed(struct df_flight *f, const struct df_outcome *o, const char *why, uint64_t now_ns)
{
	struct df_route *r = f->route;
	bool was_open = r->breaker.open;
	uint64_t most_ns = now_ns + DF_BREAKER_ROUTE_PAUSE_MAX_MS * DF_MS;
	r->n_bad++;
	if (!speaks_for_all(f))
		return;
	df_breaker_bad(&r->breaker, now_ns, f->route_probe);
	if (r->breaker.until_ns > most_ns)
		r->breaker.until_ns = most_ns;
	tell_route(r, why, now_ns);
	if (f->route_probe)
		r->fresh_next = f->piece->attempts > 1;
	if (f->route_probe && df_breaker_hopeless(&r->breaker, now_ns))
		give_up_route(r, o, why);
	if (r->breaker.open && (!was_open || f->route_probe))
		looks_elsewhere(r, NULL);
	df_route_dirty(r);
}

static void probes_lost(struct df_flight *f, bool host, bool route)
{
	if (host && f->probe) {
		df_breaker_lost(&f->route->host->breaker);
		df_host_dirty(f->route->caller, f->route->host);
	}
	if (route && f->route_probe) {
		df_breaker_lost(&f->route->breaker);
		df_route_dirty(f->route);
	}
}

void df_flight_settle_breakers(struct df_flight *f, const struct df_outcome *o)
{
	struct df_route *r = f->route;
	uint64_t now_ns = df_http_now(r->caller->http);
	if (!o->answer || o->never_sent || o->http_err == DF_ERR_INTERRUPTED) {
		probes_lost(f, true, true);
		return;
	}
	const char *why = o->answer->message[0] ? o->answer->message : "no answer that can be used";
	enum df_blame blame = df_blame_of(o->status, o->http_err);
	if (blame == DF_BLAME_HOST) {
		probes_lost(f, false, true);
		host_failed(f, o->answer->class, why, now_ns);
		return;
	}
	host_answered(f);
	if (blame == DF_BLAME_ROUTE) {
		route_failed(f, o, why, now_ns);
		return;
	}
	df_breaker_good(&r->breaker);
	route_is_back(r);
	df_route_dirty(r);
	if (o->answer->class == DF_CALL_OK)
		r->good_ns = r->host->good_ns = now_ns;
}
