// SPDX-License-Identifier: Apache-2.0
/* Any bytes, cut into two ranges anywhere, in any block size: the same records as uncut. Byte 0: the cut, byte 1: block, byte 2: max_record. */
#include <stdlib.h>

#include "base/hash.h"
#include "worker/read/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	const uint8_t *p;
	size_t n;
};

static ssize_t read_at(void *self, void *p, size_t n, uint64_t offset)
{
	const struct memory *m = self;
	size_t left = offset < m->n ? m->n - (size_t)offset : 0;
	n = n < left ? n : left;
	memcpy(p, m->p + offset, n);
	return (ssize_t)n;
}

/* A hash over all records of a range, continued from `hash`. */
static uint64_t records(struct memory *m, size_t start, size_t end, size_t block, size_t max_record, uint64_t hash)
{
	struct df_bytes_at in = {read_at, NULL, m, NULL};
	struct df_range_reader *r;
	struct df_line line[3];
	size_t n = 0;
	enum df_err err;
	DF_ASSERT(df_range_reader_create(block, max_record, &r) == DF_OK);
	DF_ASSERT(df_range_reader_open(r, &in, start, end, m->n, NULL) == DF_OK);
	while ((err = df_range_reader_next(r, line, 3, &n, NULL)) == DF_OK) {
		for (size_t i = 0; i < n; i++) {
			DF_ASSERT(line[i].offset >= start && line[i].offset < end && line[i].n <= max_record);
			hash = df_hash64_seed(&line[i].offset, sizeof(line[i].offset), hash + (uint64_t)line[i].err);
			if (line[i].err == DF_OK)
				hash = df_hash64_seed(line[i].p, line[i].n, hash);
		}
	}
	DF_ASSERT(err == DF_ERR_END);
	df_range_reader_destroy(&r);
	return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	struct memory m = {data + 3, size - 3};
	size_t cut = m.n * data[0] / 255, block = 1 + data[1], max_record = data[2];
	uint64_t whole = records(&m, 0, m.n, 1U << 16, max_record, 1);
	uint64_t parts = records(&m, 0, cut, block, max_record, 1);
	parts = records(&m, cut, m.n, block, max_record, parts);
	DF_ASSERT(whole == parts);
	return 0;
}
