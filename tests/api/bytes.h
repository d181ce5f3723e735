// SPDX-License-Identifier: Apache-2.0
/*
 * bytes: what api_server builds its answers of: a growing buffer, a view, JSON strings, a hash, a small generator of random numbers.
 *
 * The program is a test's other side, so nothing of it comes from the product: no error of ours can hide in both. Memory that is not there ends it.
 */
#ifndef DF_TESTS_API_BYTES_H
#define DF_TESTS_API_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	char *p; /* NULL or with a NUL behind the last byte */
	size_t n, cap;
};

struct span {
	const char *p;
	size_t n;
};

void bytes_grow(struct bytes *b, size_t more); /* room for `more` and a NUL */
void bytes_free(struct bytes *b);
void bytes_fmt(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bytes_json(struct bytes *b, struct span s); /* a JSON string with its quotes */
void bytes_uint(struct bytes *b, uint64_t v);
void bytes_base64(struct bytes *b, const void *p, size_t n);

static inline void bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (b->cap - b->n <= n)
		bytes_grow(b, n);
	if (n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = 0;
}

static inline void bytes_str(struct bytes *b, const char *s)
{
	bytes_add(b, s, strlen(s));
}

static inline void bytes_span(struct bytes *b, struct span s)
{
	bytes_add(b, s.p, s.n);
}

static inline struct span span_of(const char *s)
{
	return (struct span){s, strlen(s)};
}

static inline bool span_is(struct span s, const char *word)
{
	return s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

static inline bool span_begins(struct span s, const char *word)
{
	size_t n = strlen(word);
	return s.n >= n && memcmp(s.p, word, n) == 0;
}

bool span_is_nocase(struct span s, const char *word);
/* Whitespace-separated words: the server's tokens. */
uint64_t span_words(struct span s);
/* The next word of *rest, which begins behind it afterwards; n == 0: there is none. */
struct span span_word(struct span *rest);

uint64_t hash_of(struct span s, uint64_t seed);

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* [0, 1) */
static inline double random_unit(uint64_t *state)
{
	return (double)(random_next(state) >> 11) * 0x1p-53;
}

#endif
