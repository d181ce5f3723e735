// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a .zst file: hops end, go forwards, and where they stop they stay; a reader that seeks neither crashes nor repeats a cell. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/read/reader.h"
#include "worker/read/zstd_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	if (size < 3)
		return 0;
	uint64_t target = (uint64_t)data[0] << 8 | data[1], ordinal = data[2];
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	DF_ASSERT(fd >= 0 && write(fd, data + 3, size - 3) == (ssize_t)(size - 3));
	struct df_zstd_place place = {0, 0}, again;
	df_zstd_hop(fd, target, &place);
	DF_ASSERT(place.decompressed <= target && (place.compressed == 0 || place.compressed < size - 3));
	again = place;
	df_zstd_hop(fd, target, &again);
	DF_ASSERT(again.compressed == place.compressed && again.decompressed == place.decompressed);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	struct df_reader_spec spec = {.path = path,
				      .fd = -1,
				      .name = "x.jsonl.zst",
				      .id_key = "id",
				      .text_key = "text",
				      .max_record = 1000,
				      .cell_bytes = 64,
				      .limit = UINT64_MAX};
	struct df_reader *r = NULL;
	struct df_cell_block cell;
	uint64_t n = 0;
	DF_ASSERT(df_reader_open(&spec, &r, NULL) == DF_OK);
	enum df_err err = df_reader_seek(r, ordinal, target, 0, NULL);
	uint64_t next = err == DF_OK ? ordinal : 0;
	while (n++ < 10000 && df_reader_next_cell(r, &cell, NULL) == DF_OK)
		DF_ASSERT(cell.ordinal == next++ && cell.n_record > 0);
	df_reader_close(&r);
	(void)close(fd);
	return 0;
}
