// SPDX-License-Identifier: Apache-2.0
/*
 * fake_pattern: a text that a pattern matches: literals, classes, groups, alternatives and counts. What looks around, refers back or goes beyond is passed over,
 * and then the text may not match.
 */
#include <stdlib.h>

#include "worker/provider/fake.h"

#define DEPTH_MAX 32
#define TEXT_MAX 4096
#define REPEAT_MAX 512

struct maker {
	struct df_buf *out;
	uint64_t *random;
	int depth;
};

static const char *behind_class(const char *p, const char *end)
{
	p += p < end && *p == '^';
	for (const char *from = p; p < end && (*p != ']' || p == from); p++)
		p += *p == '\\' && p + 1 < end;
	return p < end ? p + 1 : end;
}

/* p is at an atom's first character; what comes is where it ends, its count not included. */
static const char *behind_atom(const char *p, const char *end)
{
	int open = 0;
	do {
		char c = *p++;
		if (c == '\\' && p < end) {
			char kind = *p++;
			if ((kind == 'p' || kind == 'P') && p < end && *p == '{')
				while (p < end && *p++ != '}')
					;
		} else if (c == '[') {
			p = behind_class(p, end);
		} else {
			open += (c == '(') - (c == ')');
		}
	} while (open > 0 && p < end);
	return p;
}

static char of_escape(char kind, uint64_t *random)
{
	switch (kind) {
	case 'd':
		return (char)('1' + df_fake_next(random) % 9);
	case 'w':
	case 'S':
	case 'D':
	case 'p':
		return (char)('a' + df_fake_next(random) % 26);
	case 's':
		return ' ';
	case 'W':
	case 'P':
		return '-';
	case 'n':
		return '\n';
	case 't':
		return '\t';
	default:
		return kind;
	}
}

static bool has(struct df_str set, char c)
{
	for (size_t i = 0; i < set.n; i++) {
		if (set.p[i] == '\\' && i + 1 < set.n) {
			char kind = set.p[++i];
			bool digit = c >= '0' && c <= '9', letter = (c | 32) >= 'a' && (c | 32) <= 'z';
			if (kind == c || (kind == 'd' && digit) || (kind == 'w' && (digit || letter || c == '_')) ||
			    (kind == 's' && c == ' '))
				return true;
		} else if (i + 2 < set.n && set.p[i + 1] == '-') {
			if (c >= set.p[i] && c <= set.p[i + 2])
				return true;
			i += 2;
		} else if (set.p[i] == c) {
			return true;
		}
	}
	return false;
}

static void add_of_class(struct maker *m, const char *p, const char *end)
{
	static const char some[] =
		"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ -_.,:;/+*#@!?=()<>[]{}'\"|&%$~^\\";
	bool without = p < end && *p == '^';
	struct df_str set = {p + without, (size_t)(end - 1 - p - without)};
	size_t n = sizeof(some) - 1, from = df_fake_next(m->random) % 26;
	for (size_t i = 0; i < n; i++) {
		char c = some[(from + i) % n];
		if (has(set, c) != without) {
			(void)df_buf_addc(m->out, c);
			return;
		}
	}
	if (set.n)
		(void)df_buf_add(m->out, set.p,
				 df_str_utf8_prefix((struct df_str){set.p, set.n < 4 ? set.n : 4}) ? 1 : 0);
}

static void add_one_of(struct maker *m, const char *p, const char *end);

static void add_atom(struct maker *m, const char *p, const char *end)
{
	if (*p == '(') {
		bool looks = end - p > 3 && p[1] == '?' &&
			     (p[2] == '=' || p[2] == '!' || (p[2] == '<' && (p[3] == '=' || p[3] == '!')));
		const char *from = p + 1;
		if (looks)
			return;
		if (end - p > 2 && p[1] == '?') {
			const char *colon = memchr(p, p[2] == '<' ? '>' : ':', (size_t)(end - p));
			from = colon ? colon + 1 : end;
		}
		if (from < end && m->depth < DEPTH_MAX)
			add_one_of(m, from, end - 1);
	} else if (*p == '[') {
		add_of_class(m, p + 1, end);
	} else if (*p == '\\' && p + 1 < end) {
		if (p[1] != 'b' && p[1] != 'B')
			(void)df_buf_addc(m->out, of_escape(p[1], m->random));
	} else if (*p == '.') {
		(void)df_buf_addc(m->out, of_escape('w', m->random));
	} else if (*p != '^' && *p != '$') {
		(void)df_buf_add(m->out, p, (size_t)(end - p));
	}
}

/* "{3}", "{2,}", "*", "+", "?", lazy or not: how often, and where it ends. */
static const char *count_of(const char *p, const char *end, unsigned long *ret)
{
	*ret = 1;
	if (p >= end || !strchr("*+?{", *p))
		return p;
	if (*p == '{') {
		const char *close = memchr(p, '}', (size_t)(end - p));
		if (!close || p[1] < '0' || p[1] > '9')
			return p;
		*ret = strtoul(p + 1, NULL, 10);
		const char *comma = memchr(p, ',', (size_t)(close - p));
		if (*ret == 0 && comma && comma[1] != '0')
			*ret = 1;
		*ret = *ret > REPEAT_MAX ? REPEAT_MAX : *ret;
		p = close;
	}
	p++;
	return p + (p < end && (*p == '?' || *p == '+'));
}

static void add_all(struct maker *m, const char *p, const char *end)
{
	while (p < end && m->out->n < TEXT_MAX) {
		unsigned long n;
		const char *behind = behind_atom(p, end), *next = count_of(behind, end, &n);
		for (; n && m->out->n < TEXT_MAX; n--)
			add_atom(m, p, behind);
		p = next;
	}
}

static void add_one_of(struct maker *m, const char *p, const char *end)
{
	size_t n = 1, take;
	for (const char *q = p; q < end; q = behind_atom(q, end))
		n += *q == '|';
	take = df_fake_next(m->random) % n;
	for (const char *q = p, *from = p;; q = behind_atom(q, end)) {
		if (q < end && *q != '|')
			continue;
		if (take-- == 0) {
			m->depth++;
			add_all(m, from, q);
			m->depth--;
			return;
		}
		from = q + 1;
	}
}

void df_fake_match(struct df_buf *b, struct df_str pattern, uint64_t *random)
{
	struct maker m = {.out = b, .random = random};
	if (pattern.n)
		add_one_of(&m, pattern.p, pattern.p + pattern.n);
}
