// SPDX-License-Identifier: Apache-2.0
/* fuzz_utf8: the fast validator against a plain one, and measures against plain counts. */
#include <stddef.h>
#include <stdint.h>

#include "worker/text/measure.h"
#include "worker/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* RFC 3629, section 4, word for word. */
static size_t valid_at(const uint8_t *s, size_t n)
{
#define IN(i, lo, hi) (n > (i) && s[i] >= (lo) && s[i] <= (hi))
	if (IN(0, 0x00, 0x7F))
		return 1;
	if (IN(0, 0xC2, 0xDF) && IN(1, 0x80, 0xBF))
		return 2;
	if ((IN(0, 0xE0, 0xE0) && IN(1, 0xA0, 0xBF) && IN(2, 0x80, 0xBF)) ||
	    ((IN(0, 0xE1, 0xEC) || IN(0, 0xEE, 0xEF)) && IN(1, 0x80, 0xBF) && IN(2, 0x80, 0xBF)) ||
	    (IN(0, 0xED, 0xED) && IN(1, 0x80, 0x9F) && IN(2, 0x80, 0xBF)))
		return 3;
	if (((IN(0, 0xF0, 0xF0) && IN(1, 0x90, 0xBF)) || (IN(0, 0xF1, 0xF3) && IN(1, 0x80, 0xBF)) ||
	     (IN(0, 0xF4, 0xF4) && IN(1, 0x80, 0x8F))) &&
	    IN(2, 0x80, 0xBF) && IN(3, 0x80, 0xBF))
		return 4;
#undef IN
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_str s = {(const char *)data, size};
	size_t good = 0, chars = 0, n;
	for (; good < size && (n = valid_at(data + good, size - good)) > 0; chars++)
		good += n;
	DF_ASSERT(df_utf8_valid_prefix(s) == good);
	s.n = good;
	DF_ASSERT(df_utf8_count(s) == chars);
	struct df_measure m = df_text_measure(s);
	DF_ASSERT(m.chars == chars && m.bytes == good && m.words <= chars && m.lines <= chars);
	DF_ASSERT(df_utf8_advance(s, 0, chars) == good);
	for (size_t at = 0; at < size;) /* any bytes: no read behind the end, always forward */
		(void)df_utf8_decode((const char *)data, size, &at);
	return 0;
}
