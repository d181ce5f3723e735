// SPDX-License-Identifier: Apache-2.0
/*
 * supervise: posix_spawn of /proc/self/exe with three descriptors, wait4 by pid, signals by pid.
 *
 * posix_spawn serves because it neither runs our code in the child nor copies our memory; the child itself asks for its
 * parent-death signal and checks its parent (worker/role.c).
 */
#include "coordinator/children/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/children/memory.h"

#define OOM_WINDOW_NS (5 * DF_SEC) /* a process that is ended for memory may need seconds to go */
#define LOOKS_MAX 64               /* at a slot that changes meanwhile */

extern char **environ;

struct child {
	pid_t pid;
	uint64_t lane;
	enum df_role role;
	uint32_t number;
	struct df_slot *slot;
	int slot_fd;
	bool killed; /* by us */
};

#define GIVEN_MAX (DF_INHERITED_FDS - DF_SLOT_FD - 1)

struct df_supervisor {
	struct given {
		int fd, as;
	} given[GIVEN_MAX]; /* to workers */
	size_t n_given;
	bool stream;
	char last_words[DF_LAST_WORDS_BYTES]; /* of the child reaped last */
	struct child *child;
	size_t n, cap;
	struct df_process_stats *stats;
	size_t n_stats, cap_stats;
	char **env;
	uint64_t oom_kills[2]; /* what the kernel counted, now and one window ago; deaths explained by it are added */
	uint64_t oom_ns;
};

/* The environment of children: one BLAS thread each, and nothing that makes children read keys they do not need. */
static char **child_environment(void)
{
	static char blas[] = "OPENBLAS_NUM_THREADS=1";
	size_t n = 0, k = 0;
	while (environ[n])
		n++;
	char **env = calloc(n + 2, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "OPENBLAS_NUM_THREADS=", 21) != 0)
			env[k++] = environ[i];
	env[k] = blas;
	return env;
}

enum df_err df_supervisor_create(struct df_supervisor **ret_supervisor, struct df_fail *fail)
{
	struct df_supervisor *s = calloc(1, sizeof(*s));
	if (s)
		s->env = child_environment();
	if (!s || !s->env) {
		free(s);
		return df_fail(fail, DF_ERR_NOMEM, "no memory to start workers");
	}
	s->oom_kills[0] = s->oom_kills[1] = df_memory_oom_kills("");
	*ret_supervisor = s;
	return DF_OK;
}

static enum df_err add(struct df_supervisor *s, struct df_fail *fail)
{
	if (df_array_room((void **)&s->child, s->n, &s->cap, sizeof(*s->child)) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to start a worker");
	return DF_OK;
}

static int spawn(struct df_supervisor *s, const int fd[3], const struct df_heritage *h, pid_t *ret_pid)
{
	static char name[] = "docflume", role_worker[] = "worker", role_reader[] = "reader";
	char *argv[] = {name, h->role == DF_ROLE_WORKER ? role_worker : role_reader, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attr);
	(void)sigemptyset(&none);
	(void)sigfillset(&defaults);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &defaults);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	(void)posix_spawn_file_actions_adddup2(&actions, fd[0], 0);
	(void)posix_spawn_file_actions_adddup2(&actions, fd[1], DF_HERITAGE_FD);
	(void)posix_spawn_file_actions_adddup2(&actions, fd[2], DF_SLOT_FD);
	for (size_t i = 0; h->role == DF_ROLE_WORKER && i < s->n_given; i++)
		(void)posix_spawn_file_actions_adddup2(&actions, s->given[i].fd, s->given[i].as);
	/* a child's stdout is stderr: only the sink writes data, unless one answer is streamed */
	if (!s->stream || h->role != DF_ROLE_WORKER)
		(void)posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	int e = posix_spawn(ret_pid, "/proc/self/exe", &actions, &attr, argv, s->env);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&actions);
	return e;
}

/* Those that have their meaning in a child may be anything in this process: keep clear of them, or dup2 would overwrite what it copies from. */
static int keep_clear(int fd)
{
	if (fd >= DF_INHERITED_FDS || fd < 0)
		return fd;
	int high = fcntl(fd, F_DUPFD_CLOEXEC, DF_INHERITED_FDS);
	(void)close(fd);
	return high;
}

enum df_err df_supervisor_give(struct df_supervisor *s, int fd, int as, struct df_fail *fail)
{
	DF_ASSERT(s->n_given < GIVEN_MAX && as > DF_SLOT_FD && as < DF_INHERITED_FDS);
	int kept = fcntl(fd, F_DUPFD_CLOEXEC, DF_INHERITED_FDS);
	if (kept < 0)
		return df_fail_errno(fail, "cannot keep a file for workers");
	s->given[s->n_given++] = (struct given){kept, as};
	return DF_OK;
}

void df_supervisor_stream(struct df_supervisor *s)
{
	s->stream = true;
}

enum df_err df_supervisor_spawn(struct df_supervisor *s, const struct df_heritage *h, int stdin_fd,
				struct df_fail *fail)
{
	int heritage_fd = -1, slot_fd = -1, null_fd = -1;
	struct df_slot *slot = NULL;
	DF_TRY(add(s, fail));
	enum df_err err = df_slot_create(&slot, &slot_fd, fail);
	if (err == DF_OK)
		err = df_heritage_write(h, &heritage_fd, fail);
	if (err == DF_OK && stdin_fd < 0) {
		null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		stdin_fd = null_fd;
		if (null_fd < 0)
			err = df_fail_errno(fail, "cannot open /dev/null");
	}
	slot_fd = keep_clear(slot_fd);
	heritage_fd = keep_clear(heritage_fd);
	pid_t pid = 0;
	if (err == DF_OK) {
		int e = spawn(s, (const int[3]){stdin_fd, heritage_fd, slot_fd}, h, &pid);
		if (e != 0) {
			errno = e;
			err = df_fail_errno(fail, "cannot start a worker process");
		}
	}
	if (err == DF_OK)
		df_debug("%s %u is process %ld", h->role == DF_ROLE_READER ? "reader" : "worker", h->number, (long)pid);
	if (err == DF_OK)
		s->child[s->n++] = (struct child){pid, h->lane, (enum df_role)h->role, h->number, slot, slot_fd, false};
	else
		df_slot_unmap(&slot);
	if (err != DF_OK && slot_fd >= 0)
		(void)close(slot_fd);
	if (heritage_fd >= 0)
		(void)close(heritage_fd);
	if (null_fd >= 0)
		(void)close(null_fd);
	return err;
}

void df_supervisor_kill(struct df_supervisor *s, uint64_t lane, int sig)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->child[i].lane == lane) {
			(void)kill(s->child[i].pid, sig);
			s->child[i].killed |= sig == SIGKILL;
		}
}

/* ------------------------------------------------------------------ looking */

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
		const struct child *c = &s->child[i];
		if (c->lane != lane)
			continue;
		look_at_slot(c->slot, &l);
		l.alive = atomic_load(&c->slot->alive);
		l.calls_moved = atomic_load(&c->slot->calls_moved);
		l.calls_out = atomic_load(&c->slot->calls_out);
		l.calls_due_ns = atomic_load(&c->slot->calls_due_ns);
		l.stopped = (want & DF_LOOK_STOPPED) && is_stopped(c->pid);
		l.memory_bytes = want & DF_LOOK_MEMORY ? df_memory_own("", c->pid) : 0;
		*ret_look = l;
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ reaping */

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

static struct df_blame read_blame(const struct df_slot *slot, int sig, int exit_code)
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
	};
}

/* A SIGKILL that was not ours, while the kernel counted one more process that it ended for memory. */
static bool was_oom(struct df_supervisor *s, const struct child *c, int sig)
{
	if (sig != SIGKILL || c->killed || df_memory_oom_kills("") <= s->oom_kills[1])
		return false;
	s->oom_kills[0]++; /* that one is explained */
	s->oom_kills[1]++;
	return true;
}

static void note_usage(struct df_supervisor *s, const struct child *c, const struct rusage *u)
{
	if (df_array_room((void **)&s->stats, s->n_stats, &s->cap_stats, sizeof(*s->stats)) != DF_OK)
		return; /* a report is worth less than the run */
	uint64_t us = (uint64_t)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000U +
		      (uint64_t)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
	s->stats[s->n_stats++] =
		(struct df_process_stats){c->role, c->number, atomic_load(&c->slot->peak_rss_bytes), us * 1000};
}

static void end_child(struct df_supervisor *s, size_t i)
{
	df_slot_unmap(&s->child[i].slot);
	(void)close(s->child[i].slot_fd);
	s->child[i] = s->child[--s->n];
}

bool df_supervisor_reap(struct df_supervisor *s, struct df_child_exit *ret_exit)
{
	for (size_t i = 0; i < s->n; i++) {
		struct child *c = &s->child[i];
		struct rusage usage;
		int status = 0;
		if (wait4(c->pid, &status, WNOHANG, &usage) != c->pid)
			continue;
		int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		*ret_exit = (struct df_child_exit){
			.lane = c->lane,
			.role = c->role,
			.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
			.signal = sig,
			.blame = read_blame(c->slot, sig, WIFEXITED(status) ? WEXITSTATUS(status) : 0),
		};
		if (ret_exit->exit_code == DF_CHILD_EXIT_USAGE) {
			(void)snprintf(s->last_words, sizeof(s->last_words), "%.*s", DF_LAST_WORDS_BYTES - 1,
				       c->slot->last_words);
			ret_exit->blame.last_words = s->last_words;
		}
		if (was_oom(s, c, sig) && ret_exit->blame.computing) {
			ret_exit->blame.cause = DF_CAUSE_MEMORY;
			ret_exit->blame.detail = 0;
		}
		note_usage(s, c, &usage);
		end_child(s, i);
		return true;
	}
	return false;
}

static void kill_all(struct df_supervisor *s, int sig)
{
	for (size_t i = 0; i < s->n; i++)
		(void)kill(s->child[i].pid, sig);
}

void df_supervisor_end_all(struct df_supervisor *s, int grace_ms)
{
	struct df_child_exit gone;
	uint64_t deadline = df_clock_mono(&df_clock_real) + (uint64_t)grace_ms * DF_MS;
	bool killed = false;
	kill_all(s, SIGTERM);
	kill_all(s, SIGCONT); /* one that is stopped hears it now */
	while (s->n) {
		if (df_supervisor_reap(s, &gone))
			continue;
		uint64_t now_ns = df_clock_mono(&df_clock_real);
		if (!killed && now_ns >= deadline) {
			kill_all(s, SIGKILL);
			killed = true;
		} else if (killed && now_ns >= deadline + DF_REAP_MS * DF_MS) {
			df_warn("process %ld was killed and does not go; left behind", (long)s->child[0].pid);
			end_child(s, 0);
		}
		(void)nanosleep(&(struct timespec){0, 500000}, NULL);
	}
}

void df_supervisor_destroy(struct df_supervisor **supervisor)
{
	struct df_supervisor *s = *supervisor;
	if (!s)
		return;
	df_supervisor_end_all(s, 200);
	for (size_t i = 0; i < s->n_given; i++)
		(void)close(s->given[i].fd);
	free(s->child);
	free(s->stats);
	free(s->env);
	free(s);
	*supervisor = NULL;
}

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

const struct df_process_stats *df_supervisor_stats(const struct df_supervisor *s, size_t *ret_n)
{
	*ret_n = s->n_stats;
	return s->stats;
}
