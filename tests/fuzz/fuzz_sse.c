// SPDX-License-Identifier: Apache-2.0
/* fuzz_sse: any bytes in any pieces give the events that a slow reference, which sees them whole, gives. Byte 0: size of the pieces, byte 1: the ceiling. */
#include <stdlib.h>

#include "worker/net/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum df_err note(void *self, struct df_str type, struct df_str event)
{
	struct df_buf *b = self;
	(void)df_buf_add_u64(b, type.n);
	(void)df_buf_addc(b, ':');
	(void)df_buf_add_str(b, type);
	(void)df_buf_add_u64(b, event.n);
	(void)df_buf_addc(b, ':');
	return df_buf_add_str(b, event);
}

/* Line by line as the standard says it, all in memory. */
static enum df_err reference(const char *p, size_t n, size_t max, struct df_buf *out)
{
	static char event[1 << 16], type[1 << 16];
	size_t n_data = 0, n_type = 0;
	bool has = false;
	if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		p += 3, n -= 3;
	for (size_t at = 0, end; at < n; at = end + 1 + (p[end] == '\r' && end + 1 < n && p[end + 1] == '\n')) {
		for (end = at; end < n && p[end] != '\n' && p[end] != '\r'; end++)
			;
		const char *line = p + at, *colon = memchr(line, ':', end - at);
		size_t len = end - at, name = colon ? (size_t)(colon - line) : len;
		if (len > max + 64)
			return DF_ERR_LIMIT;
		if (end == n)
			break;
		const char *value = line + (colon ? name + 1 : name);
		size_t n_value = (size_t)(line + len - value);
		if (n_value && *value == ' ')
			value++, n_value--;
		if (len == 0) {
			if (has)
				(void)note(out, (struct df_str){type, n_type}, (struct df_str){event, n_data});
			has = false;
			n_data = n_type = 0;
		} else if (name == 4 && memcmp(line, "data", 4) == 0) {
			if (n_data + has + n_value > max)
				return DF_ERR_LIMIT;
			if (has)
				event[n_data++] = '\n';
			memcpy(event + n_data, value, n_value);
			n_data += n_value;
			has = true;
		} else if (name == 5 && memcmp(line, "event", 5) == 0) {
			if (n_value > max)
				return DF_ERR_LIMIT;
			memcpy(type, value, n_value);
			n_type = n_value;
		}
	}
	return DF_OK;
}

static enum df_err pieces(const char *p, size_t n, size_t step, size_t max, struct df_buf *out)
{
	struct df_sse s;
	enum df_err err = DF_OK;
	df_sse_init(&s, max);
	for (size_t at = 0; at < n && err == DF_OK; at += step)
		err = df_sse_feed(&s, p + at, n - at < step ? n - at : step, note, out);
	df_sse_release(&s);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_buf a, b;
	if (size < 3 || size > 60000)
		return 0;
	size_t step = 1 + data[0], max = (size_t)data[1] + 1;
	const char *p = (const char *)data + 2;
	size -= 2;
	df_buf_init(&a, 1 << 20);
	df_buf_init(&b, 1 << 20);
	enum df_err slow = reference(p, size, max, &a), fast = pieces(p, size, step, max, &b);
	if (slow != fast || !df_str_eq(df_buf_str(&a), df_buf_str(&b)))
		abort();
	df_buf_release(&a);
	df_buf_release(&b);
	return 0;
}
