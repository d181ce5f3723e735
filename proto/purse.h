// SPDX-License-Identifier: Apache-2.0
/*
 * purse: the money of a run: one mapped page that all its processes share, so that a budget cannot be overshot.
 *
 * Who is about to pay reserves the worst case first and settles what it really was afterwards; a reservation that would pass
 * the budget is refused. Amounts are kept in nano-dollars, moved by compare-and-swap. A reservation whose process died stays: the call may have
 * been paid for, and the next life counts it as spent (df_purse_open folds what is reserved into what is spent).
 *
 * The file is DIR/purse of a run directory, or a memory file where there is none; children inherit the descriptor (DF_PURSE_FD).
 */
#ifndef DF_PROTO_PURSE_H
#define DF_PROTO_PURSE_H

#include <stdint.h>

#include "base/err.h"

#define DF_PURSE_FD 5 /* of a worker whose pipeline may cost money */

struct df_purse;

/* The coordinator's side. dir_fd < 0: a memory file. budget: USD; 0: that of the run so far, and when there was none, money is only counted. A purse that exists goes on with
 * what it has spent (and refuses to be anything but a purse: DF_ERR_CORRUPT). *ret_fd: to be inherited; close-on-exec, owned by the purse. */
enum df_err df_purse_open(int dir_fd, double budget, struct df_purse **ret_purse, int *ret_fd,
			  struct df_fail *fail) DF_MUST_CHECK;
/* A child's side. */
enum df_err df_purse_map(int fd, struct df_purse **ret_purse, struct df_fail *fail) DF_MUST_CHECK;
void df_purse_close(struct df_purse **purse); /* accepts NULL */

/* worst_usd >= 0 and finite (a price that is unknown is the caller's to refuse when there is a budget). DF_ERR_QUOTA: spent + reserved + worst would
 * pass the budget; nothing was reserved. */
enum df_err df_purse_reserve(struct df_purse *p, double worst_usd) DF_MUST_CHECK;
/* real_usd may be more than was reserved (a provider that counts otherwise): it is booked as it is. */
void df_purse_settle(struct df_purse *p, double worst_usd, double real_usd);
void df_purse_cancel(struct df_purse *p, double worst_usd); /* it was never sent */
void df_purse_unpriced(struct df_purse *p); /* it was sent, and nobody knows what it costs: it is counted alone */

struct df_purse_view {
	double budget, spent, reserved; /* USD; budget 0: none */
	uint64_t calls;                 /* settled, or unpriced */
	uint64_t unpriced;
};
struct df_purse_view df_purse_look(const struct df_purse *p);

#endif
