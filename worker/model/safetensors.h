// SPDX-License-Identifier: Apache-2.0
/*
 * safetensors: a reader of the .safetensors container (format of the Hugging Face library of that name).
 *
 *   8 bytes   n, little-endian: length of the header
 *   n bytes   JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {...}}
 *   the rest  data; offsets count from its first byte
 *
 * The file is mapped read-only and shared, so all workers of a machine use one copy. Every offset, shape and size is
 * checked against the file before a tensor is handed out. A file cut short while it is mapped is SIGBUS: models lie in
 * a cache that only adds whole directories.
 *
 * Errors: DF_ERR_CORRUPT (what and which tensor), DF_ERR_LIMIT, DF_ERR_NOMEM, DF_ERR_NOT_FOUND, DF_ERR_IO.
 */
#ifndef DF_WORKER_MODEL_SAFETENSORS_H
#define DF_WORKER_MODEL_SAFETENSORS_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#define DF_SAFETENSORS_HEADER_MAX (8U << 20)
#define DF_SAFETENSORS_TENSORS_MAX 65536U
#define DF_TENSOR_DIMS_MAX 8U

enum df_tensor_dtype { DF_TENSOR_F32, DF_TENSOR_F16, DF_TENSOR_BF16, DF_TENSOR_OTHER };

struct df_tensor {
	struct df_str name;
	enum df_tensor_dtype dtype;
	size_t n_dim;
	uint64_t shape[DF_TENSOR_DIMS_MAX];
	uint64_t n_item;  /* product of the shape; 1 for a scalar */
	const void *data; /* in the file; aligned only as the file is */
	size_t size_bytes;
};

struct df_safetensors {
	struct df_arena arena;
	struct df_tensor *tensor;
	size_t n_tensor;
	void *map; /* NULL when the bytes belong to the caller */
	size_t map_bytes;
};

/* Over bytes of the caller, which must outlive it. Release in any case. */
enum df_err df_safetensors_parse(struct df_safetensors *s, struct df_str file, struct df_fail *fail) DF_MUST_CHECK;
/* Over a file, mapped. Close in any case. */
enum df_err df_safetensors_open(struct df_safetensors *s, const char *path, struct df_fail *fail) DF_MUST_CHECK;
void df_safetensors_close(struct df_safetensors *s); /* accepts a zeroed struct */

/* NULL when there is none. */
const struct df_tensor *df_safetensors_find(const struct df_safetensors *s, struct df_str name);

#endif
