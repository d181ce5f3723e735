// SPDX-License-Identifier: Apache-2.0
/* cell: the state of a limit, read and replaced as a whole (state.h has the design). */
#include "worker/limit/state.h"

#include <string.h>

#define CELL_BITS 12
#define CELL_MASK ((UINT64_C(1) << CELL_BITS) - 1)
#define ODD_A UINT64_C(0x9e3779b97f4a7c15)
#define ODD_B UINT64_C(0xc2b2ae3d27d4eb4f)

_Static_assert(2 * DF_LIMIT_OWNERS <= CELL_MASK + 1, "a cell's number does not fit into head");

/* Four lanes, each step a bijection of the word: whatever happens to one word is found, and what happens to more but once in 2^64. */
static inline uint64_t check_of(const uint64_t *w)
{
	uint64_t a = ODD_B, b = 2, c = 3, d = 4; /* `check` itself, the first word, is left out */
	b = (b ^ w[1]) * ODD_A;
	c = (c ^ w[2]) * ODD_A;
	d = (d ^ w[3]) * ODD_A;
#pragma GCC unroll 7
	for (size_t i = 4; i < DF_CELL_WORDS; i += 4) {
		a = (a ^ w[i]) * ODD_A;
		b = (b ^ w[i + 1]) * ODD_A;
		c = (c ^ w[i + 2]) * ODD_A;
		d = (d ^ w[i + 3]) * ODD_A;
	}
	uint64_t h = (a ^ (a >> 32)) * ODD_B;
	h = (h ^ b ^ (b >> 32)) * ODD_B;
	h = (h ^ c ^ (c >> 32)) * ODD_B;
	h = (h ^ d ^ (d >> 32)) * ODD_B;
	return h ^ (h >> 29);
}

_Static_assert(DF_CELL_WORDS % 4 == 0, "the lanes take four words at a time");

/* Acquire and release word by word (plain moves on x86): who sees one word of a cell that is being rewritten also sees the head that its writer
 * had seen, which no longer named this cell. */
static void load(const _Atomic uint64_t *from, struct df_cell *ret)
{
	uint64_t *to = (uint64_t *)ret;
#pragma GCC unroll 32
	for (size_t i = 0; i < DF_CELL_WORDS; i++)
		to[i] = atomic_load_explicit(&from[i], memory_order_acquire);
}

static void store(_Atomic uint64_t *to, const struct df_cell *c)
{
	const uint64_t *from = (const uint64_t *)c;
#pragma GCC unroll 32
	for (size_t i = 0; i < DF_CELL_WORDS; i++)
		atomic_store_explicit(&to[i], from[i], memory_order_release);
}

enum df_err df_cell_read(const struct df_limit *l, struct df_cell *ret, uint64_t *ret_head)
{
	struct df_limit_file *f = l->file;
	uint64_t head = atomic_load_explicit(&f->head, memory_order_acquire);
	for (;;) {
		uint64_t i = head & CELL_MASK;
		if (i >= (uint64_t)2 * DF_LIMIT_OWNERS)
			return DF_ERR_CORRUPT;
		load(f->cell[i], ret);
		uint64_t again = atomic_load_explicit(&f->head, memory_order_relaxed);
		if (again == head)
			break;
		head = again;
	}
	if (ret->head != head || ret->check != check_of((const uint64_t *)ret))
		return DF_ERR_CORRUPT;
	*ret_head = head;
	return DF_OK;
}

bool df_cell_publish(struct df_limit *l, struct df_cell *c, uint64_t head)
{
	struct df_limit_file *f = l->file;
	uint64_t mine = (uint64_t)2 * l->owner;
	if ((head & CELL_MASK) == mine)
		mine++;
	uint64_t next = (((head >> CELL_BITS) + 1) << CELL_BITS) | mine;
	c->head = next;
	c->check = check_of((const uint64_t *)c);
	store(f->cell[mine], c);
	return atomic_compare_exchange_strong_explicit(&f->head, &head, next, memory_order_acq_rel,
						       memory_order_relaxed);
}

void df_cell_first(struct df_limit_file *f, struct df_cell *c)
{
	uint64_t next = UINT64_C(1) << CELL_BITS;
	c->head = next;
	c->check = check_of((const uint64_t *)c);
	store(f->cell[0], c);
	atomic_store_explicit(&f->head, next, memory_order_release);
}
