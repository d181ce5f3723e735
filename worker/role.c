// SPDX-License-Identifier: Apache-2.0
/* role: take the heritage, make sure of the parent, become a worker or a reader. */
#include "worker/role.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"

/* A child must not outlive its coordinator: not when it dies later, and not when it died before we asked. */
static bool bound_to_parent(const struct df_heritage *h)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return (uint32_t)getppid() == h->parent_pid;
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
	(void)signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole group; the coordinator decides */
	(void)signal(SIGPIPE, SIG_IGN);
	/* frames of 256 KB would be mapped and unmapped one by one: keep them in the heap */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 4 << 20);
	if (bound_to_parent(&h)) {
		err = h.role == DF_ROLE_WORKER ? df_agent_run(&h, slot, &fail) : df_reader_run(&h, slot, &fail);
		if (err != DF_OK)
			df_error("%s", fail.msg);
	}
	df_slot_unmap(&slot);
	df_arena_release(&arena);
	return err == DF_OK ? 0 : 1;
}
