// SPDX-License-Identifier: Apache-2.0
/* network: one engine of calls per worker. */
#include "worker/network.h"

enum df_err df_network_prepare(const struct df_heritage *h, const struct df_needs *needs, struct df_arena *arena,
			       struct df_confine *c, struct df_fail *fail)
{
	(void)h, (void)needs, (void)arena, (void)c;
	return df_fail(fail, DF_ERR_UNSUPPORTED, "this build cannot call models");
}

enum df_err df_network_open(const struct df_heritage *h, struct df_network **ret_network, struct df_fail *fail)
{
	(void)h, (void)ret_network;
	return df_fail(fail, DF_ERR_UNSUPPORTED, "this build cannot call models");
}

void df_network_close(struct df_network **network)
{
	(void)network;
}

struct df_caller *df_network_caller(const struct df_network *n)
{
	(void)n;
	return NULL;
}

void df_network_stop(struct df_network *n, uint64_t grace_ns)
{
	(void)n, (void)grace_ns;
}

void df_network_note(const struct df_network *n, struct df_slot *slot)
{
	(void)n, (void)slot;
}
