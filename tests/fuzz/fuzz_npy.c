// SPDX-License-Identifier: Apache-2.0
/* fuzz_npy: any bytes as a file of vectors; accepted rows must lie inside. */
#include "base/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_npy npy;
	struct df_str file = {(const char *)data, size};
	for (int open_part = 0; open_part < 2; open_part++)
		if (df_npy_parse(file, open_part, &npy, NULL) == DF_OK) {
			size_t at = (size_t)(npy.data - file.p);
			DF_ASSERT(at <= size && npy.data_bytes == size - at && npy.dim > 0);
			DF_ASSERT(npy.rows <= npy.data_bytes / df_npy_item_bytes(npy.dtype) / npy.dim);
		}
	return 0;
}
