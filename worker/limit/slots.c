// SPDX-License-Identifier: Apache-2.0
/* slots: calls in flight. A slot's word holds its owner's number + 1; the slots of an owner that has died are free for whoever needs one. */
#include "base/clock.h"
#include "worker/limit/state.h"

#define SWEEP_NS (10 * DF_MS)

/* Takes the first free slot at or after the hint. */
static bool take(struct df_limit *l, uint32_t n, uint32_t *ret_slot)
{
	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = (l->slot_hint + k) % n, nobody = 0;
		_Atomic uint32_t *slot = &l->file->slot[i];
		if (atomic_load_explicit(slot, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_strong_explicit(slot, &nobody, l->owner + 1, memory_order_acq_rel,
							    memory_order_relaxed)) {
			l->slot_hint = (i + 1) % n;
			*ret_slot = i;
			return true;
		}
	}
	return false;
}

/* Frees what dead owners hold: whoever gets an owner's lock may, since nobody can become that owner meanwhile. */
static bool sweep(struct df_limit *l, uint32_t n)
{
	uint8_t alive[DF_LIMIT_OWNERS] = {0};
	bool freed = false;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t held = atomic_load_explicit(&l->file->slot[i], memory_order_relaxed);
		if (held == 0 || held == l->owner + 1 || (held <= DF_LIMIT_OWNERS && alive[held - 1]))
			continue;
		if (held > DF_LIMIT_OWNERS) { /* damage: no such owner */
			freed |= atomic_compare_exchange_strong(&l->file->slot[i], &held, 0);
			continue;
		}
		if (!df_limit_owner_lock(l->fd, held - 1)) {
			alive[held - 1] = 1;
			continue;
		}
		uint32_t dead = held;
		for (uint32_t k = i; k < n; k++) {
			held = dead;
			freed |= atomic_compare_exchange_strong(&l->file->slot[k], &held, 0);
		}
		df_limit_owner_unlock(l->fd, dead - 1);
	}
	return freed;
}

enum df_err df_limit_enter(struct df_limit *l, uint32_t *ret_slot)
{
	uint32_t n = l->config.concurrency;
	if (!n) {
		atomic_fetch_add_explicit(&l->file->owner[l->owner].unnumbered, 1, memory_order_relaxed);
		*ret_slot = DF_LIMIT_NO_SLOT;
		return DF_OK;
	}
	if (take(l, n, ret_slot))
		return DF_OK;
	uint64_t now = df_limit_now(l);
	if (l->swept_at && now - l->swept_at < SWEEP_NS)
		return DF_ERR_AGAIN;
	l->swept_at = now | 1;
	return sweep(l, n) && take(l, n, ret_slot) ? DF_OK : DF_ERR_AGAIN;
}

void df_limit_leave(struct df_limit *l, uint32_t slot)
{
	uint32_t mine = l->owner + 1;
	if (slot == DF_LIMIT_NO_SLOT)
		atomic_fetch_sub_explicit(&l->file->owner[l->owner].unnumbered, 1, memory_order_relaxed);
	else if (slot < DF_LIMIT_SLOTS)
		(void)atomic_compare_exchange_strong(&l->file->slot[slot], &mine, 0);
}

static uint64_t count_in_flight(const struct df_limit *l)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < DF_LIMIT_SLOTS; i++)
		n += atomic_load_explicit(&l->file->slot[i], memory_order_relaxed) != 0;
	for (uint32_t i = 0; i < DF_LIMIT_OWNERS; i++)
		n += atomic_load_explicit(&l->file->owner[i].unnumbered, memory_order_relaxed);
	return n;
}

struct df_limit_view df_limit_look(const struct df_limit *l)
{
	struct df_cell c;
	uint64_t head, now = df_limit_now(l), ago = now > DF_MINUTE_NS ? now - DF_MINUTE_NS : 0;
	struct df_limit_view v = {.rpm = l->config.rpm, .tpm = l->config.tpm};
	if (df_cell_read(l, &c, &head) != DF_OK)
		return v;
	if (c.rate_requests && (!v.rpm || c.rate_requests / 1000 < v.rpm))
		v.rpm = (c.rate_requests + 500) / 1000;
	if (c.rate_tokens && (!v.tpm || c.rate_tokens < v.tpm))
		v.tpm = c.rate_tokens;
	v.used_rpd = c.day_requests;
	v.used_tpd = c.day_tokens;
	v.accepted_last_minute = df_ring_sum(l->file->requests, ago, now);
	v.in_flight = count_in_flight(l);
	v.n_429 = c.n_refused;
	return v;
}
