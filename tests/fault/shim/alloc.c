// SPDX-License-Identifier: Apache-2.0
/*
 * alloc: an allocation that docflume asks for itself, by number, finds no memory.
 *
 * Only calls whose return address lies in the program's own text count; what libraries ask for on their own is theirs. Templates that the
 * compiler put into our text (simdjson, libstdc++) are ours: a throwing operator new throws there as it would.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fault/shim/shim.h"

/* glibc's own names for what is replaced here: no dlsym, which allocates itself. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static bool fails(const void *caller, const char *function, size_t bytes)
{
	char what[32];
	if (!shim_watched() || !shim_is_own(caller))
		return false;
	uint64_t number = shim_count();
	bool due = shim_is_due(number);
	int e = errno;
	(void)snprintf(what, sizeof(what), "%zu", bytes);
	shim_called(number, function, what);
	if (due)
		shim_fired(number, function, what);
	errno = due ? ENOMEM : e;
	return due;
}

#define FAILS(name, bytes) fails(__builtin_return_address(0), name, bytes)

void *malloc(size_t n)
{
	return FAILS("malloc", n) ? NULL : __libc_malloc(n);
}

void *calloc(size_t count, size_t n)
{
	return FAILS("calloc", count * n) ? NULL : __libc_calloc(count, n);
}

void *realloc(void *p, size_t n)
{
	return FAILS("realloc", n) ? NULL : __libc_realloc(p, n);
}

void *reallocarray(void *p, size_t count, size_t n)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, n, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return FAILS("reallocarray", bytes) ? NULL : __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t n)
{
	return FAILS("aligned_alloc", n) ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
	if (FAILS("posix_memalign", n))
		return ENOMEM;
	void *q = __libc_memalign(align, n);
	if (!q)
		return ENOMEM;
	*p = q;
	return 0;
}

char *strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = FAILS("strdup", n) ? NULL : __libc_malloc(n);
	return p ? memcpy(p, s, n) : NULL;
}

char *strndup(const char *s, size_t max)
{
	size_t n = strnlen(s, max);
	char *p = FAILS("strndup", n + 1) ? NULL : __libc_malloc(n + 1);
	if (p) {
		memcpy(p, s, n);
		p[n] = '\0';
	}
	return p;
}

int asprintf(char **ret, const char *format, ...)
{
	if (FAILS("asprintf", 0))
		return -1;
	va_list ap;
	va_start(ap, format);
	int n = vasprintf(ret, format, ap);
	va_end(ap);
	return n;
}

/* --- C++ --- */

void _ZSt17__throw_bad_allocv(void) __attribute__((weak, noreturn));

static void *new_or_throw(const void *caller, size_t n, size_t align)
{
	void *p = fails(caller, "new", n) ? NULL : align ? __libc_memalign(align, n) : __libc_malloc(n ? n : 1);
	if (!p)
		_ZSt17__throw_bad_allocv();
	return p;
}

void *_Znwm(size_t n);
void *_Znam(size_t n);
void *_ZnwmRKSt9nothrow_t(size_t n, const void *tag);
void *_ZnamRKSt9nothrow_t(size_t n, const void *tag);

void *_Znwm(size_t n)
{
	return new_or_throw(__builtin_return_address(0), n, 0);
}

void *_Znam(size_t n)
{
	return new_or_throw(__builtin_return_address(0), n, 0);
}

void *_ZnwmRKSt9nothrow_t(size_t n, const void *tag)
{
	(void)tag;
	return FAILS("new", n) ? NULL : __libc_malloc(n ? n : 1);
}

void *_ZnamRKSt9nothrow_t(size_t n, const void *tag)
{
	(void)tag;
	return FAILS("new[]", n) ? NULL : __libc_malloc(n ? n : 1);
}
