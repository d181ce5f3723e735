// SPDX-License-Identifier: Apache-2.0
/* peers: an array. */
#include "coordinator/peers.h"

#include <stdlib.h>

#include "base/array.h"

void df_peers_release(struct df_peers *p)
{
	free(p->item);
	*p = (struct df_peers){0};
}

enum df_err df_peers_add(struct df_peers *p, uint64_t lane, enum df_role role, uint64_t now_ns)
{
	DF_TRY(df_array_room((void **)&p->item, p->n, &p->cap, sizeof(*p->item)));
	p->item[p->n++] = (struct df_peer){.lane = lane, .role = role, .heard_ns = now_ns};
	return DF_OK;
}

struct df_peer *df_peers_find(struct df_peers *p, uint64_t lane)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->item[i].lane == lane)
			return &p->item[i];
	return NULL;
}

void df_peers_remove(struct df_peers *p, uint64_t lane)
{
	struct df_peer *gone = df_peers_find(p, lane);
	if (gone)
		*gone = p->item[--p->n];
}

const char *df_peer_word(enum df_role role)
{
	return role == DF_ROLE_WORKER ? "worker" : "reader";
}
