// SPDX-License-Identifier: Apache-2.0
/* fake_text: words. */
#include "worker/provider/fake.h"

static const char *const word[] = {"amber",  "basin", "cedar",  "delta",  "ember",  "fjord", "grove",  "harbor",
				   "island", "jade",  "kelp",   "lagoon", "meadow", "north", "ocean",  "pine",
				   "quartz", "river", "summit", "tundra", "umber",  "vale",  "willow", "zephyr"};

void df_fake_words(struct df_buf *b, uint64_t *random, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		(void)df_buf_addz(b, i ? " " : "");
		(void)df_buf_addz(b, word[df_fake_next(random) % (sizeof(word) / sizeof(word[0]))]);
	}
}
