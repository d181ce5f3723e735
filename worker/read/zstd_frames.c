// SPDX-License-Identifier: Apache-2.0
/* zstd_frames: hop over frames by their headers. */
#include "worker/read/zstd_frames.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MAGIC UINT32_C(0xfd2fb528)
#define SKIPPABLE UINT32_C(0x184d2a50) /* and the 15 behind it */
#define HEADER_BYTES_MAX 18U
#define BLOCK_RLE 1U
#define BLOCK_RESERVED 3U
#define LOOKS_MAX                                                                                                      \
	(8U << 20) /* at a file; a terabyte of whole blocks needs fewer, and one of empty blocks is not worth it */

/* Up to n bytes; how many there were. */
static size_t look(int fd, uint64_t at, uint8_t *p, size_t n)
{
	ssize_t got = at > INT64_MAX ? 0 : TEMP_FAILURE_RETRY(pread(fd, p, n, (off_t)at));
	return got > 0 ? (size_t)got : 0;
}

static uint64_t load(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

/* Bytes of the header of the frame in p[0..n), and of its content; false when it does not tell. */
static bool parse_header(const uint8_t *p, size_t n, size_t *ret_header, uint64_t *ret_content)
{
	static const size_t dictionary[4] = {0, 1, 2, 4}, content[4] = {0, 2, 4, 8};
	if (n < 5)
		return false;
	bool single = p[4] & 0x20;
	size_t n_content = p[4] >> 6 ? content[p[4] >> 6] : single;
	size_t at = 5 + (single ? 0 : 1) + dictionary[p[4] & 3];
	if (n_content == 0 || at + n_content > n || (p[4] & 0x08))
		return false;
	*ret_content = load(p + at, n_content) + (n_content == 2 ? 256 : 0);
	*ret_header = at + n_content;
	return true;
}

/* The end of the blocks that begin at `at`, and of the checksum behind them; 0 when something is wrong. */
static uint64_t behind_blocks(int fd, uint64_t at, bool checksum, uint32_t *looks)
{
	for (; *looks; --*looks) {
		uint8_t p[3];
		if (look(fd, at, p, sizeof(p)) < sizeof(p))
			return 0;
		uint64_t header = load(p, 3), type = header >> 1 & 3, size = header >> 3;
		if (type == BLOCK_RESERVED)
			return 0;
		at += 3 + (type == BLOCK_RLE ? 1 : size);
		if (header & 1)
			return at + (checksum ? 4 : 0);
	}
	return 0;
}

/* One frame on; false: stay. */
static bool hop(int fd, uint64_t target, struct df_zstd_place *place, uint32_t *looks)
{
	uint8_t p[HEADER_BYTES_MAX];
	size_t n = look(fd, place->compressed, p, sizeof(p)), header = 0;
	uint64_t content = 0;
	if (n < 5)
		return false;
	if ((load(p, 4) & ~UINT64_C(0xf)) == SKIPPABLE && n >= 8) {
		place->compressed += 8 + load(p + 4, 4);
		return true;
	}
	if (load(p, 4) != MAGIC || !parse_header(p, n, &header, &content) || content > target - place->decompressed)
		return false;
	uint64_t end = behind_blocks(fd, place->compressed + header, p[4] & 0x04, looks);
	if (end == 0)
		return false;
	place->compressed = end;
	place->decompressed += content;
	return true;
}

void df_zstd_hop(int fd, uint64_t target, struct df_zstd_place *place)
{
	uint8_t p;
	for (uint32_t looks = LOOKS_MAX; looks; looks -= looks != 0) {
		struct df_zstd_place next = *place;
		if (!hop(fd, target, &next, &looks) || look(fd, next.compressed, &p, 1) == 0)
			return; /* the last frame is the place to read the end from */
		*place = next;
	}
}
