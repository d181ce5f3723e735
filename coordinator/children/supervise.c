// SPDX-License-Identifier: Apache-2.0
/*
 * supervise: posix_spawn of /proc/self/exe with three descriptors, wait4 by pid, signals by pid.
 *
 * posix_spawn serves because it neither runs our code in the child nor copies our memory; the child itself asks for its
 * parent-death signal and checks its parent (worker/role.c).
 */
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
#include "coordinator/children/supervise_core.h"

extern char **environ;

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
	sigset_t born, defaults;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attr);
	/* what reaches the whole group (Ctrl-C) waits until the child has said that it is not meant (worker/role.c) */
	(void)sigemptyset(&born);
	(void)sigaddset(&born, SIGINT);
	(void)sigaddset(&born, SIGHUP);
	(void)sigaddset(&born, SIGUSR1);
	(void)sigaddset(&born, SIGTERM);
	(void)sigfillset(&defaults);
	(void)posix_spawnattr_setsigmask(&attr, &born);
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
	DF_ASSERT(s->n_given < DF_GIVEN_MAX && as > DF_SLOT_FD && as < DF_INHERITED_FDS);
	int kept = fcntl(fd, F_DUPFD_CLOEXEC, DF_INHERITED_FDS);
	if (kept < 0)
		return df_fail_errno(fail, "cannot keep a file for workers");
	s->given[s->n_given++] = (struct df_given){kept, as};
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
		s->child[s->n++] =
			(struct df_child){pid, h->lane, (enum df_role)h->role, h->number, slot, slot_fd, false};
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

/* ------------------------------------------------------------------ reaping */

static void note_usage(struct df_supervisor *s, const struct df_child *c, const struct rusage *u)
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
		struct df_child *c = &s->child[i];
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
			.blame = df_child_blame(c->slot, sig, WIFEXITED(status) ? WEXITSTATUS(status) : 0),
		};
		if (ret_exit->exit_code == DF_CHILD_EXIT_USAGE) {
			(void)snprintf(s->last_words, sizeof(s->last_words), "%.*s", DF_LAST_WORDS_BYTES - 1,
				       c->slot->last_words);
			ret_exit->blame.last_words = s->last_words;
		}
		if (df_child_was_oom(s, c, sig) && ret_exit->blame.computing) {
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
