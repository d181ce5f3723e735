// SPDX-License-Identifier: Apache-2.0
/*
 * alloc: an allocation that docflume asks for itself, by number, finds no memory.
 *
 * Only calls whose return address lies in the program's own text count; what libraries ask for on their own is theirs. Templates that the
 * compiler put into our text (simdjson, libstdc++) are ours: a throwing operator new throws there as it would.
 *
 * Built in two ways. Preloaded, the functions below take the C library's names. With DF_SHIM_WRAPPED they are linked into a program by
 * `--wrap`, in front of AddressSanitizer's own, which cannot be preloaded over; its leak check then sees what each failure left behind.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fault/shim/shim.h"

#ifdef DF_SHIM_WRAPPED
#define NAME(f) __wrap_##f
#define REAL(f, libc) __real_##f
#else
#define NAME(f) f
#define REAL(f, libc) libc
#endif

/* glibc's own names for what is replaced here: no dlsym, which allocates itself. */
void *REAL(malloc, __libc_malloc)(size_t n);
void *REAL(calloc, __libc_calloc)(size_t count, size_t n);
void *REAL(realloc, __libc_realloc)(void *p, size_t n);
void *REAL(aligned_alloc, __libc_memalign)(size_t align, size_t n);

void *NAME(malloc)(size_t n);
void *NAME(calloc)(size_t count, size_t n);
void *NAME(realloc)(void *p, size_t n);
void *NAME(reallocarray)(void *p, size_t count, size_t n);
void *NAME(aligned_alloc)(size_t align, size_t n);
int NAME(posix_memalign)(void **p, size_t align, size_t n);
char *NAME(strdup)(const char *s);
char *NAME(strndup)(const char *s, size_t max);
int NAME(asprintf)(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

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

void *NAME(malloc)(size_t n)
{
	return FAILS("malloc", n) ? NULL : REAL(malloc, __libc_malloc)(n);
}

void *NAME(calloc)(size_t count, size_t n)
{
	return FAILS("calloc", count * n) ? NULL : REAL(calloc, __libc_calloc)(count, n);
}

void *NAME(realloc)(void *p, size_t n)
{
	return FAILS("realloc", n) ? NULL : REAL(realloc, __libc_realloc)(p, n);
}

void *NAME(reallocarray)(void *p, size_t count, size_t n)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, n, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return FAILS("reallocarray", bytes) ? NULL : REAL(realloc, __libc_realloc)(p, bytes);
}

void *NAME(aligned_alloc)(size_t align, size_t n)
{
	return FAILS("aligned_alloc", n) ? NULL : REAL(aligned_alloc, __libc_memalign)(align, n);
}

int NAME(posix_memalign)(void **p, size_t align, size_t n)
{
	if (FAILS("posix_memalign", n))
		return ENOMEM;
	void *q = REAL(aligned_alloc, __libc_memalign)(align, n);
	if (!q)
		return ENOMEM;
	*p = q;
	return 0;
}

char *NAME(strdup)(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = FAILS("strdup", n) ? NULL : REAL(malloc, __libc_malloc)(n);
	return p ? memcpy(p, s, n) : NULL;
}

char *NAME(strndup)(const char *s, size_t max)
{
	size_t n = strnlen(s, max);
	char *p = FAILS("strndup", n + 1) ? NULL : REAL(malloc, __libc_malloc)(n + 1);
	if (p) {
		memcpy(p, s, n);
		p[n] = '\0';
	}
	return p;
}

int NAME(asprintf)(char **ret, const char *format, ...)
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

void _ZSt17__throw_bad_allocv(void) __attribute__((weak, noreturn)); /* libstdc++, where a part of the program is C++ */

void *NAME(_Znwm)(size_t n);
void *NAME(_Znam)(size_t n);
void *NAME(_ZnwmRKSt9nothrow_t)(size_t n, const void *tag);
void *NAME(_ZnamRKSt9nothrow_t)(size_t n, const void *tag);

#ifdef DF_SHIM_WRAPPED /* what delete belongs to */
void *__real__Znwm(size_t n);
void *__real__Znam(size_t n);
#define NEW(n) __real__Znwm(n)
#define NEW_ARRAY(n) __real__Znam(n)
#else
#define NEW(n) __libc_malloc((n) ? (n) : 1)
#define NEW_ARRAY(n) __libc_malloc((n) ? (n) : 1)
#endif

void *NAME(_Znwm)(size_t n)
{
	void *p = FAILS("new", n) ? NULL : NEW(n);
	if (!p)
		_ZSt17__throw_bad_allocv();
	return p;
}

void *NAME(_Znam)(size_t n)
{
	void *p = FAILS("new[]", n) ? NULL : NEW_ARRAY(n);
	if (!p)
		_ZSt17__throw_bad_allocv();
	return p;
}

void *NAME(_ZnwmRKSt9nothrow_t)(size_t n, const void *tag)
{
	(void)tag;
	return FAILS("new", n) ? NULL : NEW(n);
}

void *NAME(_ZnamRKSt9nothrow_t)(size_t n, const void *tag)
{
	(void)tag;
	return FAILS("new[]", n) ? NULL : NEW_ARRAY(n);
}
