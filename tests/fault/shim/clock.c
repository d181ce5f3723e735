// SPDX-License-Identifier: Apache-2.0
/*
 * clock: the wall clock, the boot clock and the name of the boot as a test wants them, changed while a run goes on.
 *
 *   DF_SHIM_CLOCK    a file of two 64-bit numbers, mapped shared by all processes: nanoseconds to add to CLOCK_REALTIME, to CLOCK_BOOTTIME
 *   DF_SHIM_BOOT_ID  the file that is read instead of /proc/sys/kernel/random/boot_id
 *
 * Both are read when the library is loaded, before a process confines itself. CLOCK_MONOTONIC stays as it is: nothing
 * but a reboot moves it, and a machine that sleeps shows as a boot clock that has gone ahead of it.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

struct shifts {
	_Atomic int64_t real_ns, boot_ns;
};

int clock_gettime(clockid_t id, struct timespec *ret);
time_t time(time_t *ret);
int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...);

static struct shifts none, *shifts = &none;
static const char *boot_id;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("DF_SHIM_CLOCK");
	long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*shifts), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
	if (fd >= 0)
		(void)close((int)fd);
	if (p != MAP_FAILED)
		shifts = p;
	boot_id = getenv("DF_SHIM_BOOT_ID");
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
	int err = (int)syscall(SYS_clock_gettime, id, ret);
	int64_t by = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? atomic_load(&shifts->real_ns)
		     : id == CLOCK_BOOTTIME                              ? atomic_load(&shifts->boot_ns)
									 : 0;
	if (err == 0 && by != 0) {
		int64_t ns = (int64_t)ret->tv_sec * SECOND + ret->tv_nsec + by;
		ret->tv_sec = ns / SECOND;
		ret->tv_nsec = ns % SECOND;
	}
	return err;
}

time_t time(time_t *ret)
{
	struct timespec t = {0};
	(void)clock_gettime(CLOCK_REALTIME, &t);
	if (ret)
		*ret = t.tv_sec;
	return t.tv_sec;
}

static int open_as(const char *path, int flags, mode_t mode)
{
	if (boot_id && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		path = boot_id;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* The two are one on 64-bit machines; the mode is there only when a file is made. */
#define OPEN                                                                                                           \
	va_list more;                                                                                                  \
	va_start(more, flags);                                                                                         \
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
	va_end(more);                                                                                                  \
	return open_as(path, flags, mode)

int open(const char *path, int flags, ...)
{
	OPEN;
}

int open64(const char *path, int flags, ...)
{
	OPEN;
}
