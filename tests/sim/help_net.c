// SPDX-License-Identifier: Apache-2.0
/* help_net: harm to messages, by chance. */
#include "tests/sim/help_net.h"

const char *const net_path_word[] = {"lane", "results", "control", "notices"};
const char *const net_harm_word[] = {"dropped", "doubled", "exchanged", "held up"};

void net_roll(struct net *net, struct world *w, bool harmful)
{
	for (int path = 0; path < N_NET_PATH; path++)
		for (int harm = 0; harm < N_NET_HARM; harm++)
			net->once_in[path][harm] = harmful && world_once_in(w, 3) ? 3 + world_roll(w, 80) : 0;
	net->cut = harmful && world_once_in(w, 2) ? 100 + world_roll(w, 1000) : 0;
}

static bool harmed(struct net *net, struct world *w, enum net_path path, enum net_harm harm)
{
	uint64_t once_in = net->once_in[path][harm];
	if (!once_in || !world_once_in(w, once_in))
		return false;
	net->n[path][harm]++;
	return true;
}

void net_send(struct net *net, struct world *w, enum net_path path, const struct net_cut *cut, struct pipe *pipe,
	      uint64_t ready_ns, const struct df_msg *msg, struct df_blob *const *payload, size_t n)
{
	if (!cut) {
		pipe_put_message(pipe, ready_ns, msg, payload, n);
		return;
	}
	if (ready_ns < cut->until_ns) {
		net->n_cut_messages++;
		if (cut->loses)
			return;
		ready_ns = cut->until_ns;
	}
	if (harmed(net, w, path, NET_DROP))
		return;
	if (harmed(net, w, path, NET_DELAY))
		ready_ns += world_roll(w, 3000) * DF_MS;
	bool behind = harmed(net, w, path, NET_SWAP); /* the next one: it waits for that for a while */
	pipe_put_message(pipe, ready_ns + (behind ? world_roll(w, 2000) * DF_MS : 0), msg, payload, n);
	if (pipe->swap && pipe->n > 1)
		pipe_exchange(pipe);
	pipe->swap = behind;
	if (harmed(net, w, path, NET_DOUBLE))
		pipe_put_message(pipe, ready_ns + world_roll(w, 2000) * DF_MS / 10, msg, payload, n);
}
