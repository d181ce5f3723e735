// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a source, compressed or archive or not: every cell is well formed, every good record of CSV and text is JSON. Byte 0: format. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/json.h"
#include "worker/read/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORDS_MAX 100000 /* a small bomb unpacks to much */

static int file_of(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	DF_ASSERT(fd >= 0);
	DF_ASSERT(write(fd, data, size) == (ssize_t)size);
	DF_ASSERT(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static void check_cell(const struct df_cell_block *cell, bool must_be_json)
{
	struct df_arena arena;
	struct df_json *root;
	df_arena_init(&arena, 64U << 20, 0);
	DF_ASSERT(cell->n_record > 0);
	for (size_t i = 0; i < cell->n_record; i++) {
		const struct df_cell_record *r = &cell->record[i];
		DF_ASSERT((size_t)r->start + r->length + r->n_message < cell->n_payload);
		DF_ASSERT(r->err ? r->n_message > 0 : r->n_message == 0);
		if (must_be_json && !r->err)
			DF_ASSERT(df_json_parse((struct df_str){cell->payload + r->start, r->length}, &arena, &root,
						NULL) == DF_OK);
	}
	df_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"x.jsonl", "x.csv", "x.tsv", "x.txt", "x.tar", "x.zip", "x"};
	if (size < 1)
		return 0;
	size_t which = data[0] % 7;
	struct df_reader_spec spec = {
		.fd = file_of(data + 1, size - 1),
		.name = names[which],
		.id_key = "id",
		.text_key = "text",
		.max_record = 1000,
		.cell_bytes = 64,
		.limit = RECORDS_MAX,
	};
	struct df_reader *r;
	struct df_cell_block cell;
	struct df_reader_stats stats;
	uint64_t n = 0;
	DF_ASSERT(df_reader_open(&spec, &r, NULL) == DF_OK);
	while (df_reader_next_cell(r, &cell, NULL) == DF_OK) {
		df_reader_stats(r, &stats);
		check_cell(&cell, which >= 1 && which <= 3 && stats.members == 0);
		n += cell.n_record;
	}
	df_reader_stats(r, &stats);
	DF_ASSERT(n == stats.delivered && n == stats.records);
	df_reader_close(&r);
	(void)close(spec.fd);
	return 0;
}
