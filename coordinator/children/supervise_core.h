// SPDX-License-Identifier: Apache-2.0
/*
 * supervise_core: what supervise.c (starting, ending, reaping) and supervise_look.c (looking, blame) share, and nobody else sees.
 */
#ifndef DF_COORDINATOR_CHILDREN_SUPERVISE_CORE_H
#define DF_COORDINATOR_CHILDREN_SUPERVISE_CORE_H

#include "coordinator/children/supervise.h"

struct df_child {
	pid_t pid;
	uint64_t lane;
	enum df_role role;
	uint32_t number;
	struct df_slot *slot;
	int slot_fd;
	bool killed; /* by us */
};

#define DF_GIVEN_MAX (DF_INHERITED_FDS - DF_SLOT_FD - 1)

struct df_supervisor {
	struct df_given {
		int fd, as;
	} given[DF_GIVEN_MAX]; /* to workers */
	size_t n_given;
	bool stream;
	char last_words[DF_LAST_WORDS_BYTES]; /* of the child reaped last */
	struct df_child *child;
	size_t n, cap;
	struct df_process_stats *stats;
	size_t n_stats, cap_stats;
	char **env;
	uint64_t oom_kills[2]; /* what the kernel counted, now and one window ago; deaths explained by it are added */
	uint64_t oom_ns;
};

/* What the slot of a child that has ended says of its end. */
struct df_blame df_child_blame(const struct df_slot *slot, int sig, int exit_code);
/* A SIGKILL that was not ours, while the kernel counted one more process that it ended for memory. */
bool df_child_was_oom(struct df_supervisor *s, const struct df_child *c, int sig);

#endif
