// SPDX-License-Identifier: Apache-2.0
/* ending: requests counted, limits compared. */
#include "coordinator/life/ending.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

/* ------------------------------------------------------------------ requests */

bool df_requests_add(struct df_requests *q, int code, uint64_t now_ns)
{
	if (code != SI_KERNEL && q->n && now_ns < q->last_ns + DF_SAME_REQUEST_MS * DF_MS)
		return false;
	q->last_ns = now_ns;
	q->n++;
	return true;
}

void df_ending_signals(sigset_t *ret_set)
{
	struct sigaction hup = {.sa_handler = SIG_DFL};
	(void)sigaction(SIGHUP, NULL, &hup);
	(void)sigemptyset(ret_set);
	(void)sigaddset(ret_set, SIGINT);
	(void)sigaddset(ret_set, SIGTERM);
	(void)sigaddset(ret_set, SIGUSR1);
	if (hup.sa_handler != SIG_IGN)
		(void)sigaddset(ret_set, SIGHUP);
}

enum df_err df_ending_open(struct df_ending *e, struct df_life *life, uint64_t time_limit_ns, struct df_fail *fail)
{
	sigset_t set;
	*e = (struct df_ending){.signal_fd = -1, .life = life};
	if (time_limit_ns)
		e->limit_boot_ns = life->start_boot_ns + time_limit_ns;
	df_ending_signals(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	e->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return e->signal_fd < 0 ? df_fail_errno(fail, "cannot watch for signals") : DF_OK;
}

void df_ending_close(struct df_ending *e)
{
	if (e->signal_fd >= 0)
		(void)close(e->signal_fd);
	e->signal_fd = -1;
}

static void take(struct df_ending *e, struct df_requests *way, int sig, int code, uint64_t now_ns)
{
	(void)df_requests_add(way, code, now_ns);
	if (!e->signal)
		e->signal = sig;
	atomic_store(&e->life->stopping, true);
}

uint32_t df_ending_take(struct df_ending *e, uint64_t now_ns)
{
	struct signalfd_siginfo info;
	eventfd_t n = 0;
	while (read(e->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo == SIGCHLD)
			e->child = true;
		else
			take(e, &e->own, (int)info.ssi_signo, info.ssi_code, now_ns);
	/* the guard told its requests apart already: each counts */
	if (e->life->asked_fd >= 0 && eventfd_read(e->life->asked_fd, &n) == 0)
		for (; n; n--)
			take(e, &e->passed, atomic_load(&e->life->asked_signal), SI_KERNEL, now_ns);
	return e->own.n > e->passed.n ? e->own.n : e->passed.n;
}

const char *df_ending_reason(const struct df_ending *e)
{
	switch (e->signal) {
	case SIGINT:
		return "interrupted";
	case SIGHUP:
		return "the terminal has gone";
	default:
		return "asked to stop";
	}
}

bool df_ending_time_is_up(const struct df_ending *e)
{
	return e->limit_boot_ns && df_clock_boot() >= e->limit_boot_ns;
}

/* ------------------------------------------------------------------ errors */

bool df_errors_exceed(const struct df_run_options *o, const struct df_error_counts *c, bool at_end)
{
	uint64_t n = c->rejected + c->source_errors;
	if (n > o->max_errors_n)
		return true;
	if (n == 0 || o->max_errors_percent > 100 || (!at_end && c->in < DF_MAX_ERRORS_SAMPLE))
		return false;
	/* an input that fails may give no document at all: it counts as one */
	return (double)n * 100 > o->max_errors_percent * (double)(c->in + c->source_errors);
}

static const struct df_map_slot *commonest(const struct df_map *totals)
{
	static const char prefix[] = "rejected:";
	const struct df_map_slot *most = NULL;
	for (size_t i = 0; totals && i < totals->n_slot; i++) {
		const struct df_map_slot *s = &totals->slots[i];
		if (s->key.p && df_str_starts(s->key, prefix) && (!most || s->value > most->value))
			most = s;
	}
	return most;
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

enum df_err df_errors_tell(const struct df_run_options *o, const struct df_error_counts *c, const struct df_map *totals,
			   struct df_fail *fail)
{
	char reason[200] = "", inputs[64] = "";
	const struct df_map_slot *most = commonest(totals);
	if (most)
		(void)snprintf(reason, sizeof(reason), "; the commonest reason is %.*s (%llu)",
			       (int)(most->key.n - 9 < 120 ? most->key.n - 9 : 120), most->key.p + 9,
			       (unsigned long long)most->value);
	if (c->source_errors)
		(void)snprintf(inputs, sizeof(inputs), " and %llu input%s", (unsigned long long)c->source_errors,
			       plural(c->source_errors));
	return df_fail(fail, DF_ERR_LIMIT,
		       "%llu document%s%s of %llu failed, more than '--max-errors " DF_STR_FMT
		       "' allows%s; mend them, or go on with a larger limit",
		       (unsigned long long)c->rejected, plural(c->rejected), inputs, (unsigned long long)c->in,
		       DF_STR_ARG(o->max_errors), reason);
}
