// SPDX-License-Identifier: Apache-2.0
/*
 * purse: the money of a run: one mapped page that all its processes share, so that a budget cannot be overshot.
 *
 * Who is about to pay reserves the worst case first and settles what it really was afterwards; a reservation that would pass
 * the budget is refused. Amounts are kept in nano-dollars, moved by compare-and-swap. What each process holds in reserve stands in a place of its own, so
 * that who is refused knows whether money can come back. What a process held that died was perhaps paid for, and nobody will ever know: it is counted as
 * spent, and as "maybe paid" (df_purse_died; of all at once by the next life's df_purse_open).
 *
 * The file is DIR/purse of a run directory, or a memory file where there is none; children inherit the descriptor (DF_PURSE_FD). A kill of any process
 * loses nothing. A power cut loses what came since the last df_purse_sync, which whoever opened the purse calls each DF_PURSE_SYNC_MS.
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
/* A child's side. owner: a number that no other process of this life has (its lane), neither 0 nor UINT64_MAX. */
enum df_err df_purse_map(int fd, uint64_t owner, struct df_purse **ret_purse, struct df_fail *fail) DF_MUST_CHECK;
/* That process was reaped: what it still held is spent, maybe. Of one that held nothing: nothing happens. */
void df_purse_died(struct df_purse *p, uint64_t owner);
void df_purse_all_died(struct df_purse *p); /* all others of this life were */
/* What was booked before lasts behind it, through a power cut. Waits for the disk, unless nothing has moved since the last one. *ret_synced (may be NULL): it had
 * to. One thread at a time. */
enum df_err df_purse_sync(struct df_purse *p, bool *ret_synced);
void df_purse_close(struct df_purse **purse); /* accepts NULL */

/* worst_usd >= 0 and finite (a price that is unknown is the caller's to refuse when there is a budget). DF_ERR_QUOTA: spent + reserved + worst would
 * pass the budget; nothing was reserved. */
enum df_err df_purse_reserve(struct df_purse *p, double worst_usd) DF_MUST_CHECK;
/* real_usd may be more than was reserved (a provider that counts otherwise): it is booked as it is. */
void df_purse_settle(struct df_purse *p, double worst_usd, double real_usd);
/* The same where maybe_usd of it is not known to have been paid, and nobody will know: all of real_usd is spent as far as the budget goes. */
void df_purse_settle_maybe(struct df_purse *p, double worst_usd, double real_usd, double maybe_usd);
void df_purse_cancel(struct df_purse *p, double worst_usd); /* it was never sent */
void df_purse_unpriced(struct df_purse *p); /* it was sent, and nobody knows what it costs: it is counted alone */

/* One voice for all processes of a run: `what` is the hash of a thing that is, or is no more. true: nobody has said so since it was last otherwise; a few things at a
 * time are remembered, so that another may be told twice. */
bool df_purse_tell(struct df_purse *p, uint64_t what, bool is);

struct df_purse_view {
	double budget, spent, reserved; /* USD; budget 0: none */
	double held; /* of what is reserved: by processes that live (as far as df_purse_died was told), and so comes back or is spent */
	double maybe;   /* of what is spent: perhaps it was not */
	uint64_t calls; /* settled, or unpriced */
	uint64_t unpriced;
	uint64_t maybe_calls; /* that `maybe` is of, without those of processes that died */
};
struct df_purse_view df_purse_look(const struct df_purse *p); /* about 1 us */
/* The purse of a run that nobody is at, from outside: what was reserved is spent, maybe. DF_ERR_NOT_FOUND: there is none. */
enum df_err df_purse_peek(int dir_fd, struct df_purse_view *ret_view) DF_MUST_CHECK;
/* Other files of the run know that so much was spent: it is, if the purse (new, lost, or older than they are) knew of less. How much less, in USD. */
double df_purse_at_least(struct df_purse *p, double usd);
bool df_purse_is_capped(const struct df_purse *p); /* there is a budget */

#endif
