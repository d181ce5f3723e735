// SPDX-License-Identifier: Apache-2.0
/* url: is it a base URL, and what of it may be shown. */
#include "base/url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define SHOWN 100 /* bytes of a host or a port in a message */

static int shown(struct df_str s)
{
	return (int)df_str_utf8_prefix((struct df_str){s.p, s.n < SHOWN ? s.n : SHOWN});
}

/* [address], or [address%25zone] */
static bool is_ipv6(struct df_str inside)
{
	char z[INET6_ADDRSTRLEN];
	struct in6_addr address;
	const char *zone = inside.n ? memchr(inside.p, '%', inside.n) : NULL;
	size_t n = zone ? (size_t)(zone - inside.p) : inside.n;
	if (n == 0 || n >= sizeof(z))
		return false;
	memcpy(z, inside.p, n);
	z[n] = '\0';
	return inet_pton(AF_INET6, z, &address) == 1;
}

static bool is_name(struct df_str host)
{
	for (size_t i = 0; i < host.n; i++) {
		unsigned char c = (unsigned char)host.p[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
			  c == '_' || c == '.' || c >= 0x80;
		if (!ok)
			return false;
	}
	return host.n > 0;
}

static bool is_port(struct df_str port)
{
	unsigned n = 0;
	if (port.n == 0 || port.n > 5)
		return false;
	for (size_t i = 0; i < port.n; i++) {
		if (port.p[i] < '0' || port.p[i] > '9')
			return false;
		n = n * 10 + (unsigned)(port.p[i] - '0');
	}
	return n > 0 && n < 65536;
}

/* host[:port] */
static enum df_err check_place(const char *what, struct df_str place, struct df_fail *fail)
{
	struct df_str host = place, port = {NULL, 0};
	const char *close = place.n ? memchr(place.p, ']', place.n) : NULL;
	const char *colon = NULL;
	if (df_str_starts(place, "[")) {
		if (!close)
			return df_fail(fail, DF_ERR_USAGE, "%s has a '[' without its ']': '%.*s'", what, shown(place),
				       place.p);
		host.n = (size_t)(close - place.p) + 1;
		if (!is_ipv6((struct df_str){host.p + 1, host.n - 2}))
			return df_fail(fail, DF_ERR_USAGE, "%s: '%.*s' is no IPv6 address", what, shown(host), host.p);
		if (host.n < place.n && place.p[host.n] != ':')
			return df_fail(fail, DF_ERR_USAGE, "%s has something else than a port behind the ']': '%.*s'",
				       what, shown(place), place.p);
		colon = host.n < place.n ? place.p + host.n : NULL;
	} else {
		colon = place.n ? memchr(place.p, ':', place.n) : NULL;
		host.n = colon ? (size_t)(colon - place.p) : place.n;
		if (colon && memchr(colon + 1, ':', place.n - host.n - 1))
			return df_fail(fail, DF_ERR_USAGE,
				       "%s has more than one ':' in '%.*s'; an IPv6 address stands in '[' and ']': "
				       "http://[::1]:8000",
				       what, shown(place), place.p);
		if (host.n == 0)
			return df_fail(fail, DF_ERR_USAGE, "%s has no host", what);
		if (!is_name(host))
			return df_fail(fail, DF_ERR_USAGE, "%s: '%.*s' is no name of a host", what, shown(host),
				       host.p);
	}
	if (colon)
		port = (struct df_str){colon + 1, (size_t)(place.p + place.n - colon) - 1};
	if (colon && !is_port(port))
		return df_fail(fail, DF_ERR_USAGE, "%s has the port '%.*s', and ports are numbers from 1 to 65535",
			       what, shown(port), port.p);
	return DF_OK;
}

static size_t scheme_of(struct df_str url)
{
	return df_str_starts(url, "https://") ? 8 : df_str_starts(url, "http://") ? 7 : 0;
}

enum df_err df_url_check(const char *what, struct df_str url, struct df_fail *fail)
{
	size_t n = scheme_of(url);
	if (n == 0)
		return df_fail(fail, DF_ERR_USAGE, "%s is neither http:// nor https://", what);
	for (size_t i = 0; i < url.n; i++)
		if ((unsigned char)url.p[i] <= 0x20 || url.p[i] == 0x7f || url.p[i] == '@' || url.p[i] == '#' ||
		    url.p[i] == '?')
			return df_fail(fail, DF_ERR_USAGE,
				       "%s holds a blank, '@', '?' or '#': passwords and keys do not belong there but "
				       "in a variable that key_env= names",
				       what);
	struct df_str place = {url.p + n, url.n - n};
	const char *path = place.n ? memchr(place.p, '/', place.n) : NULL;
	if (path)
		place.n = (size_t)(path - place.p);
	if (place.n == 0)
		return df_fail(fail, DF_ERR_USAGE, "%s has no host", what);
	return check_place(what, place, fail);
}

bool df_url_is_variable(struct df_str name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		if (!letter && (i == 0 || c < '0' || c > '9'))
			return false;
	}
	return name.n > 0;
}

void df_url_show(struct df_str url, char *to, size_t size)
{
	size_t n = 0;
	to[0] = '\0';
	if (!url.n) /* perhaps without a pointer, which has no offsets */
		return;
	for (size_t i = 0; i < url.n; i++)
		if (url.p[i] == '?' || url.p[i] == '#')
			url.n = i;
	const char *slashes = url.n ? memmem(url.p, url.n, "//", 2) : NULL;
	size_t begin = slashes ? (size_t)(slashes - url.p) + 2 : 0;
	for (size_t i = begin; slashes && i < url.n && url.p[i] != '/'; i++)
		if (url.p[i] == '@')
			n = i + 1; /* the last: a password may hold one */
	struct df_str rest = {url.p + (n ? n : begin), url.n - (n ? n : begin)};
	if (rest.n > size)
		rest.n = df_str_utf8_prefix((struct df_str){rest.p, size});
	(void)snprintf(to, size, "%.*s%.*s", (int)(begin < size ? begin : size), begin ? url.p : "", (int)rest.n,
		       rest.n ? rest.p : "");
	to[df_str_utf8_prefix(df_str_from(to))] = '\0';
}
