// SPDX-License-Identifier: Apache-2.0
/* Any bytes as CSV: the same rows whole and in portions, fields inside their memory. Byte 0: portion, byte 1: max_record, byte 2: separator. */
#include <stdlib.h>

#include "base/hash.h"
#include "worker/read/feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void split(struct df_str row, char separator)
{
	struct df_str field[16];
	size_t n = 0, total = 0;
	char *scratch = malloc(row.n + 1);
	DF_ASSERT(scratch != NULL);
	if (df_csv_split(row, separator, scratch, field, 16, &n, NULL) == DF_OK) {
		volatile char sum = 0;
		for (size_t i = 0; i < n; i++) {
			total += field[i].n;
			for (size_t k = 0; k < field[i].n; k++)
				sum = (char)(sum + field[i].p[k]);
		}
		DF_ASSERT(n >= 1 && total + n - 1 <= row.n);
	}
	free(scratch);
}

static void portion(struct df_feed *f, const uint8_t *data, size_t *at, size_t size, size_t step)
{
	char *p;
	size_t room, n = size - *at < step ? size - *at : step;
	if (n == 0) {
		df_feed_end(f);
		return;
	}
	DF_ASSERT(df_feed_room(f, n, &p, &room) == DF_OK && room >= n);
	memcpy(p, data + *at, n);
	df_feed_added(f, n);
	*at += n;
}

static uint64_t rows(const uint8_t *data, size_t size, size_t step, size_t max_record, char separator)
{
	struct df_feed f;
	struct df_csv_scan scan = {separator, DF_CSV_FIELD_START};
	struct df_line line;
	uint64_t hash = 1;
	size_t at = 0;
	enum df_err err;
	df_feed_init(&f, 16, max_record);
	while ((err = df_feed_row(&f, &scan, &line)) != DF_ERR_END) {
		if (err == DF_ERR_AGAIN) {
			portion(&f, data, &at, size, step);
			continue;
		}
		DF_ASSERT(err == DF_OK);
		hash = df_hash64_seed(&line.offset, sizeof(line.offset), hash + (uint64_t)line.err);
		if (line.err == DF_ERR_LIMIT)
			continue;
		DF_ASSERT(line.n <= max_record);
		hash = df_hash64_seed(line.p, line.n, hash);
		split((struct df_str){line.p, line.n}, separator);
	}
	df_feed_release(&f);
	return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	size_t step = 1 + data[0] % 32, max_record = data[1];
	char separator = data[2] % 2 ? '\t' : ',';
	DF_ASSERT(rows(data + 3, size - 3, size, max_record, separator) ==
		  rows(data + 3, size - 3, step, max_record, separator));
	return 0;
}
