// SPDX-License-Identifier: Apache-2.0
/*
 * npy: NumPy's array file (numpy.lib.format), two-dimensional, C order, little-endian float32 or float16.
 *
 * Written with a version 1.0 header of exactly 128 bytes, whatever the shape, so that rows can be appended behind it and
 * the header be finished last. Read in versions 1.0 to 3.0.
 */
#ifndef DF_BASE_NPY_H
#define DF_BASE_NPY_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define DF_NPY_HEADER_BYTES 128U
#define DF_NPY_HEADER_MAX 65536U /* bytes of a header that is read */

enum df_npy_dtype { DF_NPY_F32, DF_NPY_F16 };

struct df_npy {
	enum df_npy_dtype dtype;
	uint64_t rows, dim; /* as the header says; a one-dimensional array is one row */
	const char *data;   /* first row, in the caller's bytes */
	size_t data_bytes;  /* all that follow the header */
};

/* Bytes of one number. */
static inline size_t df_npy_item_bytes(enum df_npy_dtype dtype)
{
	return dtype == DF_NPY_F32 ? 4 : 2;
}

/* The whole header: magic, version, and the description, padded with blanks and ended by a line feed. */
void df_npy_header(char out[DF_NPY_HEADER_BYTES], enum df_npy_dtype dtype, uint64_t rows, uint64_t dim);

/*
 * `file` is the file's bytes (as mapped). The rows of the header are checked against the data unless `open_part`: a file that
 * is still written to counts what whole rows it has. DF_ERR_CORRUPT, DF_ERR_UNSUPPORTED (other dtype, order, shape), DF_ERR_LIMIT.
 */
enum df_err df_npy_parse(struct df_str file, bool open_part, struct df_npy *ret_npy,
			 struct df_fail *fail) DF_MUST_CHECK;

#endif
