// SPDX-License-Identifier: Apache-2.0
/* uri: RFC 3986 in small. */
#include "worker/check/uri.h"

struct parts {
	struct df_str scheme, authority, path; /* with ':' and with '//' */
};

static bool letter(char c)
{
	return (c | 32) >= 'a' && (c | 32) <= 'z';
}

static size_t scheme_bytes(struct df_str s)
{
	size_t n = 0;
	if (s.n == 0 || !letter(s.p[0]))
		return 0;
	while (n < s.n &&
	       (letter(s.p[n]) || (s.p[n] >= '0' && s.p[n] <= '9') || s.p[n] == '+' || s.p[n] == '-' || s.p[n] == '.'))
		n++;
	return n < s.n && s.p[n] == ':' ? n + 1 : 0;
}

static struct df_str behind(struct df_str s, size_t n)
{
	return (struct df_str){s.p + n, s.n - n};
}

static struct parts split(struct df_str s)
{
	struct parts u = {.scheme = {s.p, scheme_bytes(s)}};
	s = behind(s, u.scheme.n);
	if (df_str_starts(s, "//")) {
		size_t n = 2;
		while (n < s.n && s.p[n] != '/' && s.p[n] != '?')
			n++;
		u.authority = (struct df_str){s.p, n};
		s = behind(s, n);
	}
	u.path = s; /* and query */
	return u;
}

/* Section 5.2.4, in place. */
static size_t remove_dots(char *p, size_t n)
{
	size_t out = 0, i = 0;
	while (i < n && p[i] != '?') {
		size_t end = i + 1;
		while (end < n && p[end] != '/' && p[end] != '?')
			end++;
		struct df_str segment = {p + i, end - i};
		bool last = end == n || p[end] == '?';
		if (df_str_is(segment, "/.") || df_str_is(segment, "/..")) {
			if (segment.n == 3)
				while (out > 0 && p[--out] != '/')
					;
			if (last)
				p[out++] = '/';
		} else {
			memmove(p + out, segment.p, segment.n);
			out += segment.n;
		}
		i = end;
	}
	memmove(p + out, p + i, n - i);
	return out + n - i;
}

void df_uri_split(struct df_str uri, struct df_str *ret_main, struct df_str *ret_fragment)
{
	const char *at = uri.n ? memchr(uri.p, '#', uri.n) : NULL;
	size_t n = at ? (size_t)(at - uri.p) : uri.n;
	*ret_main = (struct df_str){uri.p, n};
	*ret_fragment = at ? behind(uri, n + 1) : (struct df_str){NULL, 0};
}

static struct df_str join(struct df_arena *arena, const struct parts *base, struct df_str path, struct df_str fragment)
{
	char *out = df_arena_alloc(arena, base->scheme.n + base->authority.n + path.n + fragment.n + 2);
	size_t n = 0;
	if (!out)
		return (struct df_str){NULL, 0};
	const struct df_str piece[] = {base->scheme, base->authority, path};
	for (size_t i = 0; i < 3; i++) {
		if (piece[i].n)
			memcpy(out + n, piece[i].p, piece[i].n);
		n += piece[i].n;
	}
	if (path.n && path.p[0] == '/')
		n = n - path.n + remove_dots(out + n - path.n, path.n);
	if (fragment.p) {
		out[n++] = '#';
		memcpy(out + n, fragment.p, fragment.n);
		n += fragment.n;
	}
	return (struct df_str){out, n};
}

struct df_str df_uri_resolve(struct df_str base, struct df_str reference, struct df_arena *arena)
{
	struct df_str main, fragment;
	df_uri_split(reference, &main, &fragment);
	struct parts from = split(base), to = split(main);
	if (to.scheme.n)
		return join(arena, &to, to.path, fragment);
	if (to.authority.n) {
		to.scheme = from.scheme;
		return join(arena, &to, to.path, fragment);
	}
	if (to.path.n == 0)
		return join(arena, &from, from.path, fragment);
	if (to.path.p[0] == '/')
		return join(arena, &from, to.path, fragment);
	size_t keep = from.path.n; /* up to the last '/' */
	while (keep > 0 && from.path.p[keep - 1] != '/')
		keep--;
	bool root = keep == 0 && from.authority.n > 0;
	char *merged = df_arena_alloc(arena, keep + to.path.n + 1);
	if (!merged)
		return (struct df_str){NULL, 0};
	if (root)
		merged[keep++] = '/';
	else if (keep)
		memcpy(merged, from.path.p, keep);
	memcpy(merged + keep, to.path.p, to.path.n);
	return join(arena, &from, (struct df_str){merged, keep + to.path.n}, fragment);
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

struct df_str df_uri_decode(struct df_str s, struct df_arena *arena)
{
	char *out = df_arena_alloc(arena, s.n + 1);
	size_t n = 0;
	if (!out)
		return (struct df_str){NULL, 0};
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '%' && s.n - i > 2 && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
			out[n++] = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
			i += 2;
		} else {
			out[n++] = s.p[i];
		}
	}
	return (struct df_str){out, n};
}
