// SPDX-License-Identifier: Apache-2.0
/*
 * guard: fork, wait, tell.
 *
 * DESIGN. All signals of interest are blocked before the first fork and taken one by one by sigtimedwait, so that none is lost
 * between two lives; requests go to the coordinator by a counter (an eventfd), not by signals, which would merge with those that the
 * coordinator gets itself from a Ctrl-C. As a subreaper the guard collects what a killed coordinator leaves.
 */
#include "cli/guard.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/life/ending.h"
#include "coordinator/run.h"
#include "coordinator/socket_dir.h"

struct guard {
	const struct df_run_options *options;
	struct df_life *life;
	sigset_t signals; /* blocked; taken by sigtimedwait */
	sigset_t mask;    /* as it was found */
	pid_t pid;        /* of the coordinator */
	struct df_requests asked;
	uint64_t kill_ns; /* when the coordinator is killed, having been asked twice; 0: not */
	bool killed;      /* by the guard */
	uint32_t barren;  /* lives in a row that committed nothing */
	uint64_t died_ns;
};

static uint64_t now_ns(void)
{
	return df_clock_mono(&df_clock_real);
}

/* ThreadSanitizer has a thread of its own in every process. */
#ifdef __SANITIZE_THREAD__
#define THREADS_OF_THE_RUNTIME 1
#else
#define THREADS_OF_THE_RUNTIME 0
#endif

/* fork() copies one thread; others would leave their locks behind. */
static bool is_single_threaded(void)
{
	int n = 0;
	DIR *dir = opendir("/proc/self/task");
	if (!dir)
		return true; /* no /proc: then nothing of ours has made one yet */
	for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
		n += e->d_name[0] != '.';
	(void)closedir(dir);
	return n <= 1 + THREADS_OF_THE_RUNTIME;
}

/* ------------------------------------------------------------------ one life */

static void ask(struct guard *g, int sig, int code)
{
	uint64_t now = now_ns();
	if (!df_requests_add(&g->asked, code, now))
		return;
	atomic_store(&g->life->asked_signal, sig);
	atomic_store(&g->life->stopping, true);
	(void)eventfd_write(g->life->asked_fd, 1); /* cannot fail: the counter is far from its end */
	if (g->asked.n == 2)
		g->kill_ns = now + DF_GUARD_PATIENCE_MS * DF_MS;
}

/* Every child that has ended is collected; true when the coordinator was among them. */
static bool reap(struct guard *g, int *ret_status)
{
	int status = 0;
	bool gone = false;
	for (;;) {
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return gone;
		if (pid == g->pid) {
			*ret_status = status;
			gone = true;
		}
	}
}

/* One signal, or none within `ms`. */
static void take_signal(struct guard *g, int ms)
{
	siginfo_t info;
	int sig = sigtimedwait(&g->signals, &info, &(struct timespec){ms / 1000, ms % 1000 * (long)DF_MS});
	if (sig > 0 && sig != SIGCHLD)
		ask(g, sig, info.si_code);
}

/* Waits as long as the coordinator lives: it is its own deadline, unless it was asked to stop twice. */
static int wait_for_coordinator(struct guard *g)
{
	int status = 0;
	while (!reap(g, &status)) {
		take_signal(g, g->kill_ns ? 50 : 1000);
		if (g->kill_ns && !g->killed && now_ns() >= g->kill_ns) {
			df_warn("the coordinator does not end; killing it");
			(void)kill(g->pid, SIGKILL);
			g->killed = true;
		}
	}
	g->pid = 0;
	g->died_ns = now_ns();
	return status;
}

static int be_coordinator(const struct guard *g, pid_t guard_pid)
{
	/* the guard's death is ours, also one that came before this call */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != guard_pid)
		_exit(DF_EXIT_FATAL);
	struct df_run_options options = *g->options;
	if (atomic_load(&g->life->opened))
		options.force_restart = false; /* it was done: from here on the run directory is ours */
	return df_coordinator_run(&options, g->life);
}

static void begin_life(struct df_life *life, uint64_t died_ns)
{
	life->number++;
	life->takeover_mono_ns = died_ns;
	life->socket_dir[0] = '\0';
	atomic_store(&life->bar, false);
	atomic_store(&life->n_done, 0);
}

/* ------------------------------------------------------------------ after a death */

static void clean_up(struct guard *g)
{
	if (atomic_load(&g->life->bar))
		df_log_raw("\r\033[K", 4);
	if (g->life->socket_dir[0])
		(void)df_socket_dir_remove_stale(g->life->socket_dir);
}

static const char *how_far(const struct guard *g, char z[160])
{
	(void)snprintf(z, 160, "%llu documents and %llu rows had been written",
		       (unsigned long long)atomic_load(&g->life->n_document),
		       (unsigned long long)atomic_load(&g->life->n_row));
	return z;
}

/* Where no other coordinator can take over. */
static int give_up(const struct guard *g, const char *death)
{
	char z[160];
	if (g->options->out.n == 0)
		df_error("the coordinator %s; %s to stdout, and a run that writes there cannot go on: start it again, "
			 "with -o DIR for one that can",
			 death, how_far(g, z));
	else
		df_error("the coordinator %s; %s, and a run whose input cannot be read again cannot go on: start it "
			 "again with files as input, or with --spool DIR",
			 death, how_far(g, z));
	return DF_EXIT_FATAL;
}

/* -1: start it again. */
static int judge_death(struct guard *g, int sig)
{
	char death[96];
	(void)snprintf(death, sizeof(death), "was ended by signal %d (%s)", sig, strsignal(sig));
	if (g->killed)
		(void)snprintf(death, sizeof(death), "did not end by itself");
	g->barren = atomic_load(&g->life->n_done) ? 0 : g->barren + 1;
	if (atomic_load(&g->life->cannot_go_on))
		return give_up(g, death);
	if (atomic_load(&g->life->stopping)) {
		df_warn("the coordinator %s while the run was stopping; the same command goes on", death);
		return DF_EXIT_STOPPED;
	}
	if (g->barren >= DF_RESPAWNS_MAX) {
		df_error("the coordinator %s, and so did %u in a row before they had committed anything; giving up for "
			 "now: the same command goes on from here",
			 death, g->barren);
		return DF_EXIT_STOPPED;
	}
	df_warn("the coordinator %s; starting it again", death);
	return -1;
}

/* Back-off, as for workers: only for those that died without having done anything. */
static void back_off(struct guard *g)
{
	if (!g->barren)
		return;
	int ms = DF_SPAWN_BACKOFF_MS << (g->barren - 1);
	take_signal(g, ms < DF_SPAWN_BACKOFF_MAX_MS ? ms : DF_SPAWN_BACKOFF_MAX_MS);
}

/* ------------------------------------------------------------------ all lives */

static int guard(struct guard *g)
{
	pid_t self = getpid();
	for (;;) {
		int status = 0;
		begin_life(g->life, g->died_ns);
		g->pid = fork();
		if (g->pid < 0) {
			df_error("cannot start the coordinator: %s", strerror(errno));
			return DF_EXIT_FATAL;
		}
		if (g->pid == 0)
			return be_coordinator(g, self);
		status = wait_for_coordinator(g);
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		clean_up(g);
		int code = judge_death(g, WTERMSIG(status));
		if (code >= 0)
			return code;
		back_off(g);
		if (g->asked.n) {
			df_info("asked to stop; the same command goes on from here");
			return DF_EXIT_STOPPED;
		}
	}
}

/* Keys of those whom the pipeline calls are in the environment of all its processes: none of them leaves a core behind. */
static void leave_no_core(void)
{
	struct rlimit none = {0, 0};
	(void)setrlimit(RLIMIT_CORE, &none);
}

int df_guard_run(const struct df_run_options *options)
{
	struct df_life *life = mmap(NULL, sizeof(*life), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct guard g = {.options = options, .life = life};
	if (life == MAP_FAILED) {
		df_error("no memory for the guard");
		return DF_EXIT_FATAL;
	}
	if (options->has_calls)
		leave_no_core();
	life->start_boot_ns = df_clock_boot();
	atomic_store(&life->cannot_go_on, options->out.n == 0); /* until the inputs are known */
	df_ending_signals(&g.signals);
	(void)sigaddset(&g.signals, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &g.signals, &g.mask);
	life->asked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bool alone = is_single_threaded() && life->asked_fd >= 0;
	if (!alone)
		df_debug("this process has threads already: the coordinator runs without a guard");
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	int code = alone ? guard(&g) : df_coordinator_run(options, life);
	if (life->asked_fd >= 0)
		(void)close(life->asked_fd);
	(void)munmap(life, sizeof(*life));
	return code;
}
