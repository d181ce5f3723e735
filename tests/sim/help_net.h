// SPDX-License-Identifier: Apache-2.0
/*
 * help_net: what a network may do to the messages between a remote peer and the coordinator: lose, double and exchange them, hold
 * them up, and cut a peer off for a while. Local peers' sockets lose nothing but what their process had not sent.
 */
#ifndef DF_TESTS_SIM_HELP_NET_H
#define DF_TESTS_SIM_HELP_NET_H

#include "tests/sim/help_pipe.h"
#include "tests/sim/help_world.h"

enum net_path { NET_LANE, NET_RESULTS, NET_CONTROL, NET_NOTICES, N_NET_PATH };
enum net_harm { NET_DROP, NET_DOUBLE, NET_SWAP, NET_DELAY, N_NET_HARM };

extern const char *const net_path_word[N_NET_PATH], *const net_harm_word[N_NET_HARM];

struct net {
	uint64_t once_in[N_NET_PATH][N_NET_HARM]; /* 0: never */
	uint64_t cut;                             /* a peer is cut off, once in so many steps; 0: never */
	/* what was done, all epochs */
	uint64_t n[N_NET_PATH][N_NET_HARM];
	uint64_t n_cut, n_cut_messages;
};

/* A peer's connection: nothing passes before until_ns. Then what was sent meanwhile comes, or it is gone. */
struct net_cut {
	uint64_t until_ns;
	bool loses;
};

/* Chances for one epoch; the counts stay. `harmful` false: none. */
void net_roll(struct net *net, struct world *w, bool harmful);

/* A message into `pipe`, by way of the network; `cut` NULL: the peer is local. */
void net_send(struct net *net, struct world *w, enum net_path path, const struct net_cut *cut, struct pipe *pipe,
	      uint64_t ready_ns, const struct df_msg *msg, struct df_blob *const *payload, size_t n);

#endif
