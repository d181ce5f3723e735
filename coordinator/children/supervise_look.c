// SPDX-License-Identifier: Apache-2.0
/*
 * supervise_look: children as their slots and the kernel show them, alive or just dead.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "coordinator/children/memory.h"
#include "coordinator/children/supervise_core.h"

#define OOM_WINDOW_NS (5 * DF_SEC) /* a process that is ended for memory may need seconds to go */
#define LOOKS_MAX 64               /* at a slot that changes meanwhile */

/* The state in /proc/PID/stat, behind the name in parentheses: T is stopped, t traced. */
static bool is_stopped(pid_t pid)
{
	char path[64], text[1024];
	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *end = strrchr(text, ')');
	return end && (end[1] == ' ') && (end[2] == 'T' || end[2] == 't');
}

/* The fields between two equal, even sequence numbers. A slot that stays odd belongs to a process that was ended or stopped
 * within one of its few stores: nothing is in work then that could be named. */
static void look_at_slot(const struct df_slot *slot, struct df_look *l)
{
	for (int i = 0; i < LOOKS_MAX; i++) {
		l->seq = atomic_load(&slot->seq);
		l->computing = atomic_load(&slot->computing) != 0;
		l->lease = atomic_load(&slot->lease);
		l->record = (struct df_record_id){(uint32_t)atomic_load(&slot->source), atomic_load(&slot->offset)};
		l->n_record = atomic_load(&slot->n_record);
		l->alone = atomic_load(&slot->alone) != 0 && l->n_record == 1;
		l->since_ns = atomic_load(&slot->since_ns);
		l->stage = (uint32_t)atomic_load(&slot->stage);
		if (l->seq % 2 == 0 && atomic_load(&slot->seq) == l->seq)
			return;
	}
	l->computing = false;
}

static void note_oom_kills(struct df_supervisor *s)
{
	uint64_t now_ns = df_clock_mono(&df_clock_real);
	if (now_ns < s->oom_ns + OOM_WINDOW_NS)
		return;
	s->oom_ns = now_ns;
	s->oom_kills[1] = s->oom_kills[0];
	s->oom_kills[0] = df_memory_oom_kills("");
}

/* A worker may write what it likes into its slot. */
static enum df_calls_wait wait_of(const struct df_slot *slot)
{
	uint64_t wait = atomic_load(&slot->calls_wait);
	return wait < DF_N_WAIT ? (enum df_calls_wait)wait : DF_WAIT_NONE;
}

bool df_supervisor_look(struct df_supervisor *s, uint64_t lane, unsigned want, struct df_look *ret_look)
{
	struct df_look l = {.stage = DF_NO_STAGE};
	if (lane == 0) {
		note_oom_kills(s);
		l.memory_bytes = want & DF_LOOK_MEMORY ? df_memory_own("", getpid()) : 0;
		*ret_look = l;
		return true;
	}
	for (size_t i = 0; i < s->n; i++) {
		const struct df_child *c = &s->child[i];
		if (c->lane != lane)
			continue;
		look_at_slot(c->slot, &l);
		l.alive = atomic_load(&c->slot->alive);
		l.calls_moved = atomic_load(&c->slot->calls_moved);
		l.calls_out = atomic_load(&c->slot->calls_out);
		l.calls_due_ns = atomic_load(&c->slot->calls_due_ns);
		l.calls_sent = atomic_load(&c->slot->calls_sent);
		l.calls_wait = wait_of(c->slot);
		l.calls_until_ns = atomic_load(&c->slot->calls_until_ns);
		l.stopped = (want & DF_LOOK_STOPPED) && is_stopped(c->pid);
		l.memory_bytes = want & DF_LOOK_MEMORY ? df_memory_own("", c->pid) : 0;
		*ret_look = l;
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ who is to blame */

static bool is_crash(int sig)
{
	return sig == SIGSEGV || sig == SIGABRT || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGSYS;
}

/* A process that left by exit() did it to itself, as one that crashed: no stranger can make it do that. (So end what a
 * sanitizer stops, and a library that calls exit.) */
static enum df_cause cause_of(int sig, int exit_code)
{
	if (sig == 0 && exit_code == DF_CHILD_EXIT_NOMEM)
		return DF_CAUSE_MEMORY;
	return sig == 0 ? DF_CAUSE_EXIT : is_crash(sig) ? DF_CAUSE_SIGNAL : DF_CAUSE_STRANGER;
}

struct df_blame df_child_blame(const struct df_slot *slot, int sig, int exit_code)
{
	struct df_look l;
	look_at_slot(slot, &l);
	return (struct df_blame){
		.cause = cause_of(sig, exit_code),
		.detail = (uint32_t)(sig                                ? sig
				     : exit_code == DF_CHILD_EXIT_NOMEM ? 0
									: exit_code),
		.stage = l.stage,
		.computing = l.computing,
		.alone = l.alone,
		.seq = l.seq,
		.since_ns = l.since_ns,
		.lease = l.lease,
		.record = l.record,
		.shown = atomic_load(&slot->shown) != 0,
	};
}

bool df_child_was_oom(struct df_supervisor *s, const struct df_child *c, int sig)
{
	if (sig != SIGKILL || c->killed || df_memory_oom_kills("") <= s->oom_kills[1])
		return false;
	s->oom_kills[0]++; /* that one is explained */
	s->oom_kills[1]++;
	return true;
}

/* ------------------------------------------------------------------ all of them */

static int by_number(const void *a, const void *b)
{
	const struct df_child_info *x = a, *y = b;
	return (x->number > y->number) - (x->number < y->number);
}

size_t df_supervisor_children(const struct df_supervisor *s, struct df_child_info *ret, size_t max)
{
	size_t n = 0;
	for (size_t i = 0; i < s->n && n < max; i++)
		ret[n++] =
			(struct df_child_info){s->child[i].lane, s->child[i].role, s->child[i].number, s->child[i].pid};
	qsort(ret, n, sizeof(*ret), by_number);
	return n;
}

static char state_of(const struct df_slot *slot)
{
	if (atomic_load(&slot->computing))
		return '#';
	return atomic_load(&slot->calls_out) ? '~' : '.';
}

void df_supervisor_states(const struct df_supervisor *s, char *ret_states, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < s->n && n + 1 < size; i++)
		if (s->child[i].role == DF_ROLE_WORKER)
			ret_states[n++] = state_of(s->child[i].slot);
	ret_states[n] = '\0';
}

struct df_calls df_supervisor_calls(const struct df_supervisor *s)
{
	struct df_calls sum = {0};
	uint64_t n_most = 0;
	for (size_t i = 0; i < s->n; i++) {
		const struct df_slot *slot = s->child[i].slot;
		uint64_t out = atomic_load(&slot->calls_out), sent = atomic_load(&slot->calls_sent);
		uint64_t until_ns = atomic_load(&slot->calls_until_ns), waiting = out > sent ? out - sent : 0;
		sum.sent += sent;
		sum.waiting += waiting;
		if (waiting <= n_most)
			continue;
		n_most = waiting;
		sum.wait = wait_of(slot);
		sum.until_ns = until_ns;
	}
	return sum;
}

const struct df_process_stats *df_supervisor_stats(const struct df_supervisor *s, size_t *ret_n)
{
	*ret_n = s->n_stats;
	return s->stats;
}
