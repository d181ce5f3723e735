// SPDX-License-Identifier: Apache-2.0
/*
 * zstd_frames: where the frames of a .zst file begin, without decompressing: RFC 8878, section 3.1. Only headers are read, of frames and
 * of blocks (one in about 128 KB), so that a place far behind is found in a fraction of the time that decompressing to it takes.
 */
#ifndef DF_WORKER_READ_ZSTD_FRAMES_H
#define DF_WORKER_READ_ZSTD_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

/* The start of a frame: in the file, and in what it decompresses to. Zeros: the first. */
struct df_zstd_place {
	uint64_t compressed, decompressed;
};

/* Goes forwards from frame to frame, up to the one that holds decompressed byte `target`. It stops early at a frame that does not tell its size, at
 * the end of the file, and at anything that is not as it must be: decompressing from there says what is wrong. */
void df_zstd_hop(int fd, uint64_t target, struct df_zstd_place *place);

#endif
