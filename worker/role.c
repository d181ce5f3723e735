// SPDX-License-Identifier: Apache-2.0
/* role: take the heritage, make sure of the parent, become a worker or a reader. */
#include "worker/role.h"

#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/model/modeldir.h"
#include "worker/needs.h"
#include "worker/net/http.h"
#include "worker/network.h"
#include "worker/stage.h"

struct child {
	struct df_spawner *spawner;
	struct df_confine confine;
	bool calls; /* a stage waits for the network */
	char model_cache[DF_MODEL_PATH_BYTES];
};

static pid_t parent;
static atomic_bool calls_out;

/* The coordinator kills whoever has not gone a moment later. */
static void on_term(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_pid != parent)
		return;
	if (!atomic_load(&calls_out))
		_exit(128 + sig);
	df_agent_leave();
}

/* Ctrl-C, a terminal's end, and what kills a whole group or job reach every process; the coordinator decides what they mean, and
 * what is in work is finished meanwhile. */
static void obey_the_parent_alone(uint32_t parent_pid)
{
	struct sigaction term = {.sa_sigaction = on_term, .sa_flags = SA_SIGINFO | SA_RESTART};
	parent = (pid_t)parent_pid;
	(void)sigaction(SIGTERM, &term, NULL);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGUSR1, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of its write */
	sigset_t none; /* the parent had these blocked: what came meanwhile is dealt with as what comes now */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A child must not outlive its coordinator: not when it dies later, and not when it died before we asked. */
static bool bound_to_parent(const struct df_heritage *h)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return (uint32_t)getppid() == h->parent_pid;
}

/* The order is that of trap 3: the spawner while there is no thread and nothing is given up; then everything else is. */
static enum df_err prepare(const struct df_heritage *h, struct df_arena *arena, struct child *c, struct df_fail *fail)
{
	struct df_needs needs = {0};
	unsigned missing = 0;
	if (h->role == DF_ROLE_WORKER)
		DF_TRY(df_needs_of(h, arena, &needs, fail));
	if (needs.flags & DF_STAGE_COMMANDS)
		DF_TRY(df_spawner_start(needs.command, needs.n_stage, &c->spawner, fail));
	c->calls = (needs.flags & DF_STAGE_NETWORK) != 0;
	atomic_store(&calls_out, c->calls);
	if (c->calls) /* one arena: threads take turns, and more would only keep memory apart */
		(void)mallopt(M_ARENA_MAX, 1);
	if (c->calls)
		DF_TRY(df_network_load(h, fail));
	(void)df_peak_rss_bytes(); /* opens what it reads later */
	if (h->role == DF_ROLE_READER)
		(void)setlocale(LC_CTYPE, "C.UTF-8"); /* or libarchive has no names but ASCII for members of a zip */
	if (!h->confine)
		return DF_OK;
	c->confine = (struct df_confine){
		.read_path = h->read_path,
		.n_read_path = h->n_read_path,
		.network = c->calls,
		.memory_max = h->memory_max,
	};
	if (c->calls)
		DF_TRY(df_network_prepare(h, &needs, arena, &c->confine, fail));
	if (needs.flags & DF_STAGE_MODEL) {
		if (h->model_dir.n)
			c->confine.model_dir = h->model_dir.p;
		else if (df_model_cache(c->model_cache, fail) == DF_OK) /* if not, the stage says so better */
			c->confine.model_dir = c->model_cache;
	}
	DF_TRY(df_confine_begin(&c->confine, &missing, fail));
	if (missing && h->number == 1) /* one voice for all */
		df_warn("this kernel has no %s%s%s: workers and readers keep more rights than they need",
			missing & DF_CONFINE_NO_LANDLOCK ? "Landlock" : "",
			missing == (DF_CONFINE_NO_LANDLOCK | DF_CONFINE_NO_SECCOMP) ? " and no " : "",
			missing & DF_CONFINE_NO_SECCOMP ? "seccomp" : "");
	return DF_OK;
}

static enum df_err run(const struct df_heritage *h, struct df_arena *arena, struct df_slot *slot, struct df_fail *fail)
{
	static struct child c; /* a path is large */
	enum df_err err = prepare(h, arena, &c, fail);
	const struct df_confine *confine = h->confine ? &c.confine : NULL;
	if (err == DF_OK)
		err = h->role == DF_ROLE_WORKER ? df_agent_run(h, slot, c.spawner, confine, c.calls, fail)
						: df_reader_run(h, slot, confine, fail);
	df_spawner_stop(&c.spawner);
	if (c.calls && (err == DF_ERR_USAGE || err == DF_ERR_NOT_FOUND)) {
		df_slot_last_words(slot, fail->msg); /* the coordinator says it once for all workers */
		_exit(DF_CHILD_EXIT_USAGE);
	}
	return err;
}

int df_role_main(int argc, char **argv)
{
	static char who[32];
	struct df_arena arena;
	struct df_heritage h;
	struct df_slot *slot = NULL;
	struct df_fail fail = {0};
	(void)argc;
	df_arena_init(&arena, 64U << 20, 0);
	enum df_err err = fcntl(DF_SLOT_FD, F_GETFD) < 0
				  ? df_fail(&fail, DF_ERR_USAGE,
					    "'docflume %s' is started by 'docflume run', not by hand", argv[0])
				  : df_heritage_read(DF_HERITAGE_FD, &arena, &h, &fail);
	if (err == DF_OK)
		err = df_slot_map(DF_SLOT_FD, &slot, &fail);
	if (err != DF_OK) {
		df_error("%s", fail.msg);
		df_arena_release(&arena);
		return 2;
	}
	(void)snprintf(who, sizeof(who), "%s %u", h.role == DF_ROLE_WORKER ? "worker" : "reader", h.number);
	df_log_setup((enum df_log_level)h.log_level, (enum df_log_format)h.log_format, who);
	obey_the_parent_alone(h.parent_pid);
	(void)signal(SIGPIPE, SIG_IGN);
	/* frames of 256 KB would be mapped and unmapped one by one: keep them in the heap */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 4 << 20);
	if (bound_to_parent(&h)) {
		err = run(&h, &arena, slot, &fail);
		if (err != DF_OK)
			df_error("%s", fail.msg);
	}
	df_slot_unmap(&slot);
	df_arena_release(&arena);
	return err == DF_OK ? 0 : 1;
}
