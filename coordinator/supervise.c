// SPDX-License-Identifier: Apache-2.0
/*
 * supervise: posix_spawn of /proc/self/exe with three descriptors, wait4 by pid, signals by pid.
 *
 * posix_spawn serves because it neither runs our code in the child nor copies our memory; the child itself asks for its
 * parent-death signal and checks its parent (worker/role.c).
 */
#include "coordinator/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
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

extern char **environ;

struct child {
	pid_t pid;
	uint64_t lane;
	enum df_role role;
	uint32_t number;
	struct df_slot *slot;
	int slot_fd;
};

struct df_supervisor {
	struct child *child;
	size_t n, cap;
	struct df_process_stats *stats;
	size_t n_stats, cap_stats;
	char **env;
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
	/* a child's stdout is stderr: only the sink writes data */
	(void)posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	int e = posix_spawn(ret_pid, "/proc/self/exe", &actions, &attr, argv, s->env);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&actions);
	return e;
}

/* Descriptors 3 and 4 may be anything in this process: keep clear of them, or dup2 would overwrite what it copies from. */
static int keep_clear(int fd)
{
	if (fd > DF_SLOT_FD || fd < 0)
		return fd;
	int high = fcntl(fd, F_DUPFD_CLOEXEC, DF_SLOT_FD + 1);
	(void)close(fd);
	return high;
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
		s->child[s->n++] = (struct child){pid, h->lane, (enum df_role)h->role, h->number, slot, slot_fd};
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
		if (s->child[i].lane == lane)
			(void)kill(s->child[i].pid, sig);
}

/* ------------------------------------------------------------------ reaping */

static bool is_crash(int sig)
{
	return sig == SIGSEGV || sig == SIGABRT || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGSYS;
}

/* A process that left by exit() did it to itself, as one that crashed: no stranger can make it do that. (So end what a
 * sanitizer stops, and a library that calls exit.) */
static struct df_blame read_blame(const struct df_slot *slot, int sig, int exit_code)
{
	return (struct df_blame){
		.cause = sig == 0        ? DF_CAUSE_EXIT
			 : is_crash(sig) ? DF_CAUSE_SIGNAL
					 : DF_CAUSE_STRANGER,
		.detail = (uint32_t)(sig ? sig : exit_code),
		.stage = (uint32_t)atomic_load(&slot->stage),
		.computing = atomic_load(&slot->computing) != 0 && atomic_load(&slot->seq) % 2 == 0,
		.alone = atomic_load(&slot->alone) != 0 && atomic_load(&slot->n_record) == 1,
		.lease = atomic_load(&slot->lease),
		.record = {(uint32_t)atomic_load(&slot->source), atomic_load(&slot->offset)},
	};
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
		note_usage(s, c, &usage);
		df_slot_unmap(&c->slot);
		(void)close(c->slot_fd);
		*c = s->child[--s->n];
		return true;
	}
	return false;
}

void df_supervisor_end_all(struct df_supervisor *s, int grace_ms)
{
	struct df_child_exit gone;
	for (size_t i = 0; i < s->n; i++)
		(void)kill(s->child[i].pid, SIGTERM);
	uint64_t deadline = df_clock_mono(&df_clock_real) + (uint64_t)grace_ms * DF_MS;
	bool killed = false;
	while (s->n) {
		if (df_supervisor_reap(s, &gone))
			continue;
		if (!killed && df_clock_mono(&df_clock_real) >= deadline) {
			for (size_t i = 0; i < s->n; i++)
				(void)kill(s->child[i].pid, SIGKILL); /* cannot be refused: the loop ends */
			killed = true;
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
	free(s->child);
	free(s->stats);
	free(s->env);
	free(s);
	*supervisor = NULL;
}

void df_supervisor_states(const struct df_supervisor *s, char *ret_states, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < s->n && n + 1 < size; i++)
		if (s->child[i].role == DF_ROLE_WORKER)
			ret_states[n++] = atomic_load(&s->child[i].slot->computing) ? '#' : '.';
	ret_states[n] = '\0';
}

const struct df_process_stats *df_supervisor_stats(const struct df_supervisor *s, size_t *ret_n)
{
	*ret_n = s->n_stats;
	return s->stats;
}
