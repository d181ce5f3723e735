// SPDX-License-Identifier: Apache-2.0
/* fake: what the fake provider makes up. Every function is of its arguments alone. */
#ifndef DF_WORKER_PROVIDER_FAKE_H
#define DF_WORKER_PROVIDER_FAKE_H

#include "base/json.h"

/* SplitMix64: the next of a sequence. */
static inline uint64_t df_fake_next(uint64_t *x)
{
	uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* n words with blanks between them. */
void df_fake_words(struct df_buf *b, uint64_t *random, size_t n);
/* A text that the pattern matches, as far as its common forms go (fake_pattern.c). */
void df_fake_match(struct df_buf *b, struct df_str pattern, uint64_t *random);
/* JSON that is valid against the schema, as far as its words can be made good by building (fake_json.c): all but not, if, oneOf's "one alone", uniqueItems of more than can be
 * drawn, patterns that look around, and schemas that nothing fits. One that refers to itself comes to an end where it can: by an empty list, a
 * property that is not required, an alternative. */
void df_fake_instance(struct df_buf *b, const struct df_json *schema, const struct df_json *root, uint64_t *random,
		      int depth);

#endif
