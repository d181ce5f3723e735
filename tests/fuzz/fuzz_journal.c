// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_journal: the reader of journals. Input as a whole file; and, since checksums stop nearly every change there, also as a list of
 * payloads (type, length, bytes) that are applied one behind the other.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/sink/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	const uint8_t *p;
	size_t n;
};

static ssize_t memory_read_at(void *self, int fd, void *p, size_t n, uint64_t offset)
{
	const struct memory *m = self;
	(void)fd;
	if (offset >= m->n)
		return 0;
	if (n > m->n - offset)
		n = m->n - (size_t)offset;
	memcpy(p, m->p + offset, n);
	return (ssize_t)n;
}

static int memory_size(void *self, int fd, uint64_t *ret_bytes)
{
	(void)fd;
	*ret_bytes = ((const struct memory *)self)->n;
	return 0;
}

static void check(const struct df_replay *r)
{
	for (size_t i = 1; i < r->n_cells; i++) {
		const struct df_cells *a = &r->cells[i - 1].cells, *b = &r->cells[i].cells;
		if (a->source > b->source ||
		    (a->source == b->source && (b->first < a->first || b->first - a->first < a->n)))
			abort();
	}
	for (size_t i = 1; i < r->n_strike; i++) {
		const struct df_record_id *a = &r->strike[i - 1].record, *b = &r->strike[i].record;
		if (a->source > b->source || (a->source == b->source && a->offset >= b->offset))
			abort();
	}
	for (size_t i = 1; i < r->n_source; i++)
		if (r->source[i - 1].source >= r->source[i].source)
			abort();
}

static void whole_file(const uint8_t *data, size_t size)
{
	struct memory m = {data, size};
	struct df_io io = {.read_at = memory_read_at, .size = memory_size, .self = &m};
	struct df_replay r;
	df_replay_init(&r);
	if (df_journal_replay(&io, 0, &r, NULL) == DF_OK) {
		check(&r);
		if (r.good_bytes + r.torn_bytes != size)
			abort();
	}
	df_replay_release(&r);
}

static void payloads(const uint8_t *data, size_t size)
{
	struct df_replay r;
	df_replay_init(&r);
	enum df_err err = DF_OK;
	for (size_t at = 0; at + 2 <= size && err == DF_OK;) {
		size_t n = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
		err = df_replay_apply(&r, data[at], (struct df_str){(const char *)data + at + 2, n}, NULL);
		at += 2 + n;
	}
	if (df_replay_settle(&r, NULL) == DF_OK)
		check(&r);
	df_replay_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	whole_file(data, size);
	payloads(data, size);
	return 0;
}
