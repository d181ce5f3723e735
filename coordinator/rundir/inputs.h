// SPDX-License-Identifier: Apache-2.0
/*
 * inputs: the file `inputs` of a run directory: every input as it was when the run began, so that a resume which is refused can name
 * what changed. Written whole before the first commit and never again.
 *
 *   head     "DFINPUT1", then little-endian: u32 version (1), u32 flags (bit 0: checksums), u64 sources, u64 fingerprint of the dataset
 *   source   u64 dev, ino, size, mtime_ns, XXH3-64 of the content (or 0); u8 kind, format, live, 0; u32 bytes of the name, the name
 *   tail     u64 XXH3-64 of all before it
 *
 * Reading goes through a window: memory does not grow with the inputs, but for the comparison, which keeps their names.
 */
#ifndef DF_COORDINATOR_RUNDIR_INPUTS_H
#define DF_COORDINATOR_RUNDIR_INPUTS_H

#include "base/buf.h"
#include "base/io.h"
#include "coordinator/cells/dataset.h"

#define DF_INPUTS_NAME "inputs"
#define DF_INPUTS_SHOWN 6 /* differences that are told one by one */

struct df_inputs_head {
	uint64_t n_source;
	uint64_t fingerprint; /* of the dataset as it was */
	bool has_sums;
};

struct df_input_entry {
	struct df_str name; /* valid during the call */
	struct df_file_id id;
	uint64_t sum;
	uint8_t kind, format;
	bool live;
};

/* `sum`: a checksum of each source's content (checksums.h), or NULL. DF_ERR_IO, DF_ERR_NOSPACE, DF_ERR_NOMEM. */
enum df_err df_inputs_write(const struct df_io *io, int dirfd, const struct df_dataset *d, const uint64_t *sum,
			    struct df_fail *fail) DF_MUST_CHECK;
/* DF_ERR_NOT_FOUND when there is none; DF_ERR_CORRUPT, DF_ERR_VERSION. */
enum df_err df_inputs_head(const struct df_io *io, int dirfd, struct df_inputs_head *ret_head,
			   struct df_fail *fail) DF_MUST_CHECK;
/* Every source in order; ends with DF_ERR_CORRUPT when the checksum does not hold: what was given before must not be used then. */
enum df_err df_inputs_each(const struct df_io *io, int dirfd,
			   enum df_err (*each)(void *self, const struct df_input_entry *entry), void *self,
			   struct df_fail *fail) DF_MUST_CHECK;

struct df_inputs_diff {
	uint64_t n_changed, n_missing, n_new;
	bool moved;          /* the same files in another order */
	struct df_buf lines; /* one for each of the first DF_INPUTS_SHOWN, and "and N more"; LF behind each */
};

/* What differs between the inputs then and now. With `sum`, a file of equal size and checksum is the same, whatever its inode and
 * time; DF_ERR_UNSUPPORTED: no checksums were kept. Pair: df_inputs_diff_release. */
enum df_err df_inputs_compare(const struct df_io *io, int dirfd, const struct df_dataset *d, const uint64_t *sum,
			      struct df_inputs_diff *ret_diff, struct df_fail *fail) DF_MUST_CHECK;
void df_inputs_diff_release(struct df_inputs_diff *diff);
bool df_inputs_differ(const struct df_inputs_diff *diff);

#endif
