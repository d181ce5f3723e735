// SPDX-License-Identifier: Apache-2.0
/* gzip: without a library: stored blocks (RFC 1951, 3.2.4), and the head of a bomb (3.2.7). */
#include "tests/api/server.h"

static const char gzip_head[10] = {0x1f, (char)0x8b, 8, 0, 0, 0, 0, 0, 0, 3};

static uint32_t crc32_of(struct span s)
{
	uint32_t crc = UINT32_MAX;
	for (size_t i = 0; i < s.n; i++) {
		crc ^= (unsigned char)s.p[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
	}
	return ~crc;
}

static void little(struct bytes *to, uint32_t v, int n)
{
	for (; n > 0; n--, v >>= 8)
		bytes_add(to, &(char){(char)v}, 1);
}

void gzip_stored(struct bytes *to, struct span s)
{
	struct span rest = s;
	bytes_add(to, gzip_head, sizeof gzip_head);
	do {
		uint32_t part = rest.n < 65535 ? (uint32_t)rest.n : 65535;
		little(to, part == rest.n, 1);
		little(to, part, 2);
		little(to, ~part, 2);
		bytes_add(to, rest.p, part);
		rest = (struct span){rest.p + part, rest.n - part};
	} while (rest.n > 0);
	little(to, crc32_of(s), 4);
	little(to, (uint32_t)s.n, 4);
}

struct bits {
	struct bytes *to;
	uint32_t held;
	int n;
};

static void bits(struct bits *b, uint32_t v, int n)
{
	b->held |= v << b->n;
	for (b->n += n; b->n >= 8; b->n -= 8, b->held >>= 8)
		bytes_add(b->to, &(char){(char)b->held}, 1);
}

/*
 * A block with dynamic codes: length 258 is '0', a space '10', the end '11'; the only distance, 1, is '0'. So after one space each pair of
 * zero bits is 258 more, and each zero byte 1032. Code lengths are written with three codes: 18 (a run of zeros) '0', 1 '10', 2 '11'; Huffman codes go
 * most significant bit first, so '10' is the number 1, '11' is 3.
 */
void gzip_bomb_head(struct bytes *to)
{
	static const unsigned char order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1};
	struct bits b = {.to = to};
	bytes_add(to, gzip_head, sizeof gzip_head);
	bits(&b, 1, 1);
	bits(&b, 2, 2);
	bits(&b, 29, 5);
	bits(&b, 0, 5);
	bits(&b, sizeof order - 4, 4);
	for (size_t i = 0; i < sizeof order; i++)
		bits(&b, order[i] == 18 ? 1 : order[i] == 1 || order[i] == 2 ? 2 : 0, 3);
	bits(&b, (32 - 11) << 1, 8); /* literals 0 to 31 have no code */
	bits(&b, 3, 2);              /* 32: two bits */
	bits(&b, (138 - 11) << 1, 8);
	bits(&b, (85 - 11) << 1, 8); /* 33 to 255 */
	bits(&b, 3, 2);              /* 256, the end */
	bits(&b, (28 - 11) << 1, 8); /* 257 to 284 */
	bits(&b, 1, 2);              /* 285, length 258: one bit */
	bits(&b, 1, 2);              /* distance 1: one bit */
	bits(&b, 1, 2);              /* a space */
	bits(&b, 0, 16);             /* to a whole byte: zeros are spaces anyway */
}
