// SPDX-License-Identifier: Apache-2.0
/* ring: what was sent in each quarter of a second of the last minute: a word each, the quarter's number above its count. */
#include "worker/limit/state.h"

#define COUNT_BITS 40
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define TAG_MASK ((UINT64_C(1) << (64 - COUNT_BITS)) - 1)
#define LATE_NS UINT64_C(150000000)
#define AHEAD 2
#define QUARTERS (DF_MINUTE_NS / DF_LIMIT_RING_NS)

_Static_assert(DF_MINUTE_NS / DF_LIMIT_RING_NS + 8 < DF_LIMIT_RING, "a minute does not fit into the ring");

static uint64_t count_of(const _Atomic uint64_t *ring, uint64_t quarter)
{
	uint64_t w = atomic_load_explicit(&ring[quarter % DF_LIMIT_RING], memory_order_relaxed);
	return (w >> COUNT_BITS) == (quarter & TAG_MASK) ? w & COUNT_MASK : 0;
}

void df_ring_add(_Atomic uint64_t *ring, uint64_t at_ns, int64_t n)
{
	uint64_t quarter = at_ns / DF_LIMIT_RING_NS;
	_Atomic uint64_t *place = &ring[quarter % DF_LIMIT_RING];
	uint64_t old = atomic_load_explicit(place, memory_order_relaxed), count;
	do {
		count = (old >> COUNT_BITS) == (quarter & TAG_MASK) ? old & COUNT_MASK : 0;
		if (n < 0)
			count -= (uint64_t)-n < count ? (uint64_t)-n : count;
		else
			count = (uint64_t)n < COUNT_MASK - count ? count + (uint64_t)n : COUNT_MASK;
	} while (!atomic_compare_exchange_weak_explicit(place, &old, (quarter & TAG_MASK) << COUNT_BITS | count,
							memory_order_relaxed, memory_order_relaxed));
}

uint64_t df_ring_sum(const _Atomic uint64_t *ring, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t last = to_ns / DF_LIMIT_RING_NS, first = from_ns / DF_LIMIT_RING_NS, sum = 0;
	if (last - first >= DF_LIMIT_RING - 1)
		first = last - (DF_LIMIT_RING - 2);
	for (uint64_t q = first; q <= last; q++)
		sum += count_of(ring, q);
	return sum;
}

uint64_t df_ring_room(const _Atomic uint64_t *ring, uint64_t at_ns, uint64_t most)
{
	uint64_t at = at_ns / DF_LIMIT_RING_NS, sum = 0;
	uint64_t q = at_ns > DF_MINUTE_NS + LATE_NS ? (at_ns - DF_MINUTE_NS - LATE_NS) / DF_LIMIT_RING_NS : 0;
	/* Others may have reserved a little later than `at`. */
	for (uint64_t i = q; i <= at + AHEAD; i++)
		sum += count_of(ring, i);
	if (sum <= most)
		return at_ns;
	for (; sum > most && q <= at + AHEAD; q++)
		sum -= count_of(ring, q);
	return q * DF_LIMIT_RING_NS + DF_MINUTE_NS + LATE_NS;
}

uint64_t df_ring_first(const _Atomic uint64_t *ring, uint64_t now_ns)
{
	uint64_t last = now_ns / DF_LIMIT_RING_NS;
	for (uint64_t q = last > QUARTERS ? last - QUARTERS : 0; q <= last; q++) {
		if (count_of(ring, q))
			return q * DF_LIMIT_RING_NS;
	}
	return now_ns;
}
