// SPDX-License-Identifier: Apache-2.0
/* wire_message: what is said of a failed call: one line, of whole characters, without controls and without secrets. */
#include <stdarg.h>
#include <stdio.h>

#include "base/url.h"
#include "worker/provider/wire/wire.h"

void df_wire_clear(struct df_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->retry_after_ms = -1;
}

static bool key_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
	       c == '.' || c == '*' || c == '+' || c == '/' || c == '=';
}

/* Words that look like somebody's key: a known beginning and 8 characters or more behind it. */
static void mask_likely_keys(char *z)
{
	static const char *const begin[] = {"sk-", "sk_", "pa-", "hf_", "gsk_", "AIza", "Bearer "};
	for (char *p = z; *p; p++)
		for (size_t i = 0; i < sizeof(begin) / sizeof(begin[0]); i++) {
			size_t n = strlen(begin[i]), end = n;
			if (strncmp(p, begin[i], n) != 0 || (p > z && key_character(p[-1])))
				continue;
			while (key_character(p[end]))
				end++;
			if (end < n + 8)
				continue;
			memcpy(p, "***", 3);
			memmove(p + 3, p + end, strlen(p + end) + 1);
			p += 2;
			break;
		}
}

static void put_line(char *to, size_t cap, const char *from)
{
	size_t n = strlen(from);
	if (n >= cap)
		n = cap - 1;
	n = df_str_utf8_prefix((struct df_str){from, n});
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)from[i], next = (unsigned char)from[i + 1];
		to[i] = c < 0x20 || c == 0x7f ? ' ' : from[i];
		if (c == 0xc2 && next < 0xa0 && i + 1 < n) { /* U+0080 to U+009F, controls too */
			to[i] = ' ';
			to[++i] = ' ';
		}
	}
	to[n] = '\0';
}

void df_wire_word(char *to, size_t cap, struct df_str word)
{
	char z[64];
	(void)snprintf(z, sizeof(z), "%.*s", (int)(word.n < 63 ? word.n : 63), word.n ? word.p : "");
	mask_likely_keys(z);
	put_line(to, cap, z);
}

void df_wire_finish(struct df_answer *a, enum df_finish finish, struct df_str word)
{
	a->finish = finish;
	df_wire_word(a->finish_word, sizeof(a->finish_word), word);
}

void df_wire_stream_finish(struct df_stream *stream, enum df_finish finish, struct df_str word)
{
	stream->finish = finish;
	df_wire_word(stream->finish_word, sizeof(stream->finish_word), word);
}

void df_wire_fail(struct df_answer *a, enum df_call_class class, const char *fmt, ...)
{
	char all[4096];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(all, sizeof(all), fmt, ap);
	va_end(ap);
	mask_likely_keys(all);
	put_line(a->message, sizeof(a->message), all);
	a->class = class;
}

/* Bytes of a key's character at z, as texts may write it: itself, \/, \u002f, %2F; 0: it is another. */
static size_t written(const char *z, char c)
{
	char code[8];
	if (*z == c)
		return 1;
	if (*z == '%') {
		(void)snprintf(code, sizeof(code), "%%%02x", (unsigned char)c);
		return strncasecmp(z, code, 3) == 0 ? 3 : 0;
	}
	if (*z != '\\')
		return 0;
	(void)snprintf(code, sizeof(code), "\\u%04x", (unsigned char)c);
	return z[1] == c ? 2 : strncasecmp(z, code, 6) == 0 ? 6 : 0;
}

/* Every occurrence of the key, and a beginning of it (of 4 characters or more) at the end, where the text may have been cut. */
static void mask_key(char *z, struct df_str key)
{
	size_t n = strlen(z);
	for (size_t i = 0; i < n; i++) {
		size_t rest = n - i, take = 0, same = 0;
		for (size_t one; same < key.n && take < rest && (one = written(z + i + take, key.p[same])); same++)
			take += one;
		if (same < 4 || (same < key.n && i + take != n))
			continue;
		memcpy(z + i, "***", 3);
		memmove(z + i + 3, z + i + take, rest - take + 1);
		n -= take - 3;
		i += 2;
	}
}

void df_answer_mask(struct df_answer *answer, const struct df_endpoint *to)
{
	if (to->key.n < 4) /* nobody's secret, and it would eat words */
		return;
	mask_key(answer->message, to->key);
	mask_key(answer->code, to->key);
}

void df_answer_advise(enum df_call_class class, long status, const struct df_provider *p, const struct df_endpoint *at,
		      char *to, size_t size)
{
	char url[200];
	to[0] = '\0';
	if (class == DF_CALL_QUOTA && status)
		(void)snprintf(to, size, "; the same command goes on once there is money or quota there");
	if (p->answer) /* there is no place where it was asked */
		return;
	df_url_show(at->base_url, url, sizeof(url));
	int n = (int)(at->key_env.n < 200 ? at->key_env.n : 200);
	const char *name = n ? at->key_env.p : "";
	if (class == DF_CALL_AUTH && at->key.n)
		(void)snprintf(to, size, "; asked at '%s' with the key in %.*s: check both", url, n, name);
	else if (class == DF_CALL_AUTH)
		(void)snprintf(to, size, "; asked at '%s', and no key was sent: set %.*s, or what key_env= names", url,
			       n, name);
	else if (class == DF_CALL_NOT_FOUND && status)
		(void)snprintf(to, size, "; asked at '%s': check %s", url,
			       p->base_url[0] ? "model= and base_url=" : "url=");
}
