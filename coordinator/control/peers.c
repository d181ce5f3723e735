// SPDX-License-Identifier: Apache-2.0
/* peers: an array in the order of lanes, since with a thousand of them each message asks for one. */
#include "coordinator/control/peers.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"

void df_peers_release(struct df_peers *p)
{
	free(p->item);
	*p = (struct df_peers){0};
}

enum df_err df_peers_add(struct df_peers *p, uint64_t lane, enum df_role role, uint64_t now_ns)
{
	DF_ASSERT(p->n == 0 || p->item[p->n - 1].lane < lane);
	DF_TRY(df_array_room((void **)&p->item, p->n, &p->cap, sizeof(*p->item)));
	p->item[p->n++] = (struct df_peer){.lane = lane, .role = role, .heard_ns = now_ns};
	return DF_OK;
}

struct df_peer *df_peers_find(struct df_peers *p, uint64_t lane)
{
	size_t low = 0, high = p->n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (p->item[mid].lane < lane)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->n && p->item[low].lane == lane ? &p->item[low] : NULL;
}

void df_peers_remove(struct df_peers *p, uint64_t lane)
{
	struct df_peer *gone = df_peers_find(p, lane);
	if (!gone)
		return;
	p->n--;
	memmove(gone, gone + 1, (size_t)(p->item + p->n - gone) * sizeof(*gone));
}

const char *df_peer_word(enum df_role role)
{
	return role == DF_ROLE_WORKER ? "worker" : "reader";
}
