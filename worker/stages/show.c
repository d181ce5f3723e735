// SPDX-License-Identifier: Apache-2.0
/* show: text to a descriptor, with its controls made visible for a terminal. */
#include "worker/stages/show.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void write_all(int fd, struct df_str s)
{
	while (s.n) {
		ssize_t n = write(fd, s.p, s.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* who read has gone: the answer itself is kept all the same */
		s = (struct df_str){s.p + n, s.n - (size_t)n};
	}
}

struct df_show df_show_on(int fd, atomic_uint_fast64_t *shown)
{
	return (struct df_show){.fd = fd, .terminal = fd >= 0 && isatty(fd) == 1, .shown = shown};
}

/* Bytes from p on that a terminal may get as they are. */
static size_t plain_run(const unsigned char *p, size_t n)
{
	size_t i = 0;
	while (i < n && ((p[i] >= 0x20 && p[i] < 0x7f) || p[i] == '\n' || p[i] == '\t'))
		i++;
	return i;
}

/* The character at p, beyond ASCII or a control; how many bytes it has. to: what is shown for it, empty: itself. */
static size_t odd_character(const unsigned char *p, size_t n, char to[8])
{
	to[0] = '\0';
	if (p[0] < 0x80) {
		(void)snprintf(to, 8, "^%c", p[0] ^ 0x40);
		return 1;
	}
	if (p[0] == 0xc2 && n > 1 && p[1] >= 0x80 && p[1] < 0xa0) {
		(void)snprintf(to, 8, "M-^%c", (p[1] & 0x7f) ^ 0x40);
		return 2;
	}
	size_t size = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (size <= n && df_str_utf8_prefix((struct df_str){(const char *)p, size}) == size)
		return size;
	(void)snprintf(to, 8, "\xef\xbf\xbd");
	return 1;
}

void df_show(const struct df_show *s, struct df_str text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	size_t from = 0;
	if (s->fd < 0)
		return;
	if (s->shown && text.n)
		atomic_store(s->shown, 1);
	for (size_t i = 0; s->terminal && i < text.n;) {
		char to[8] = "";
		i += plain_run(p + i, text.n - i);
		size_t n = i < text.n ? odd_character(p + i, text.n - i, to) : 0;
		if (to[0]) {
			write_all(s->fd, (struct df_str){text.p + from, i - from});
			write_all(s->fd, df_str_from(to));
			from = i + n;
		}
		i += n;
	}
	write_all(s->fd, (struct df_str){text.p + from, text.n - from});
}
