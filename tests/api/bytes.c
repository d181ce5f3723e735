// SPDX-License-Identifier: Apache-2.0
/* bytes: the buffer, JSON strings, base64, words and the hash of api_server. */
#include "tests/api/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

void bytes_grow(struct bytes *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 512;
	if (b->cap - b->n > more)
		return;
	while (cap - b->n <= more)
		cap *= 2;
	char *p = realloc(b->p, cap);
	if (p == NULL) {
		perror("api_server: memory");
		abort();
	}
	b->p = p;
	b->cap = cap;
}

void bytes_free(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){0};
}

void bytes_fmt(struct bytes *b, const char *fmt, ...)
{
	for (size_t room = 256;;) {
		if (b->cap - b->n <= room)
			bytes_grow(b, room);
		va_list args;
		va_start(args, fmt);
		int n = vsnprintf(b->p + b->n, b->cap - b->n, fmt, args);
		va_end(args);
		if (n < 0)
			abort();
		if ((size_t)n < b->cap - b->n) {
			b->n += (size_t)n;
			return;
		}
		room = (size_t)n + 1;
	}
}

void bytes_json(struct bytes *b, struct span s)
{
	static const char hex[] = "0123456789abcdef";
	bytes_add(b, "\"", 1);
	size_t plain = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		bytes_add(b, s.p + plain, i - plain);
		plain = i + 1;
		char code[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
		if (c >= 0x20) {
			code[1] = (char)c;
			bytes_add(b, code, 2);
		} else {
			bytes_add(b, code, 6);
		}
	}
	bytes_add(b, s.p + plain, s.n - plain);
	bytes_add(b, "\"", 1);
}

void bytes_uint(struct bytes *b, uint64_t v)
{
	char digits[20];
	size_t i = sizeof digits;
	do
		digits[--i] = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	bytes_add(b, digits + i, sizeof digits - i);
}

void bytes_base64(struct bytes *b, const void *data, size_t n)
{
	static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = data;
	bytes_grow(b, (n + 2) / 3 * 4);
	char *to = b->p + b->n;
	size_t i = 0;
	for (; i + 3 <= n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)p[i + 1] << 8 | p[i + 2];
		*to++ = letter[v >> 18];
		*to++ = letter[v >> 12 & 63];
		*to++ = letter[v >> 6 & 63];
		*to++ = letter[v & 63];
	}
	if (i < n) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0);
		*to++ = letter[v >> 18];
		*to++ = letter[v >> 12 & 63];
		*to++ = i + 1 < n ? letter[v >> 6 & 63] : '=';
		*to++ = '=';
	}
	b->n = (size_t)(to - b->p);
	b->p[b->n] = 0;
}

bool span_is_nocase(struct span s, const char *word)
{
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct span span_word(struct span *rest)
{
	size_t i = 0;
	while (i < rest->n && is_space(rest->p[i]))
		i++;
	size_t start = i;
	while (i < rest->n && !is_space(rest->p[i]))
		i++;
	struct span word = {rest->p + start, i - start};
	*rest = (struct span){rest->p + i, rest->n - i};
	return word;
}

uint64_t span_words(struct span s)
{
	uint64_t words = 0;
	bool in_word = false;
	for (size_t i = 0; i < s.n; i++) {
		bool space = is_space(s.p[i]);
		words += !space && !in_word;
		in_word = !space;
	}
	return words;
}

uint64_t hash_of(struct span s, uint64_t seed)
{
	uint64_t h = seed ^ (s.n * UINT64_C(0x9e3779b97f4a7c15));
	size_t i = 0;
	for (; i < s.n; i += 8) {
		uint64_t v = 0;
		memcpy(&v, s.p + i, s.n - i < 8 ? s.n - i : 8);
		h = (h ^ v) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	return random_next(&h);
}
