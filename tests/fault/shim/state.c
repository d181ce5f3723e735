// SPDX-License-Identifier: Apache-2.0
/* state: role, counters and log of a preloaded process (shim.h). */
#include "tests/fault/shim/shim.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRAMES 24
#ifdef DF_SHIM_WRAPPED
#define WAY_FRAMES 9 /* ours among them */
#else
#define WAY_FRAMES 5 /* of the program's own, that tell one way to a call from another */
#endif

static const char *const role_name[SHIM_N_ROLE] = {"front", "coordinator", "worker", "reader", "other"};

static struct {
	struct shim_state *state;
	size_t bytes;
	enum shim_role role, watched;
	uint64_t at;
	bool more, log;
	uintptr_t text_start, text_end, base;
} shim = {.role = SHIM_OTHER};

_Thread_local int shim_inside;

/* --- the log --- */

static void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void log_line(const char *format, ...)
{
	char line[1024];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (n <= 0 || !shim.state)
		return;
	size_t size = (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1;
	line[size - 1] = '\n';
	uint64_t to = atomic_fetch_add(&shim.state->log_bytes, size);
	if (SHIM_LOG_AT + to + size <= shim.bytes)
		memcpy((char *)shim.state + SHIM_LOG_AT + to, line, size);
}

/* " library+offset" of each frame: which library a crash is in cannot be seen from outside once the process has gone. */
static const char *stack_of(char *line, size_t size)
{
	void *frame[FRAMES];
	size_t at = 0;
	int n = backtrace(frame, FRAMES);
	line[0] = '\0';
	for (int i = 0; i < n && at + 80 < size; i++) {
		Dl_info info;
		bool known = dladdr(frame[i], &info) && info.dli_fname;
		const char *path = known ? info.dli_fname : "?", *slash = strrchr(path, '/');
		uintptr_t base = known ? (uintptr_t)info.dli_fbase : 0;
		at += (size_t)snprintf(line + at, 80, " %.40s+%llx", slash ? slash + 1 : path,
				       (unsigned long long)((uintptr_t)frame[i] - base));
	}
	return line;
}

/* A number for the way through the program by which this call was reached. */
static uint64_t way_of(void)
{
	void *frame[FRAMES];
	uint64_t way = 1469598103934665603U;
	int n = backtrace(frame, FRAMES), own = 0;
	for (int i = 0; i < n && own < WAY_FRAMES; i++) {
		if (!shim_is_own(frame[i]))
			continue;
		way = (way ^ ((uintptr_t)frame[i] - shim.base)) * 1099511628211U;
		own++;
	}
	return way;
}

/* --- counting --- */

bool shim_is_own(const void *address)
{
	return (uintptr_t)address >= shim.text_start && (uintptr_t)address < shim.text_end;
}

bool shim_watched(void)
{
	return shim.state && !shim_inside && shim.role == shim.watched;
}

uint64_t shim_count(void)
{
	return atomic_fetch_add(&shim.state->count[shim.role], 1) + 1;
}

bool shim_is_due(uint64_t number)
{
	return shim.at && (number == shim.at || (shim.more && number > shim.at));
}

void shim_fired(uint64_t number, const char *function, const char *what)
{
	char line[900];
	shim_inside++;
	if (atomic_fetch_add(&shim.state->fired, 1) == 0)
		log_line("FIRED %s %llu %s %s%s ", role_name[shim.role], (unsigned long long)number, function, what,
			 stack_of(line, sizeof(line)));
	shim_inside--;
}

void shim_called(uint64_t number, const char *function, const char *what)
{
	if (!shim.log)
		return;
	shim_inside++;
	log_line("CALL %s %llu %s %s %llx ", role_name[shim.role], (unsigned long long)number, function, what,
		 (unsigned long long)way_of());
	shim_inside--;
}

/* --- crashes --- */

static void on_crash(int sig)
{
	char line[900];
	shim_inside++;
	atomic_fetch_add(&shim.state->crashes, 1);
	log_line("CRASH %s %d%s ", role_name[shim.role], sig, stack_of(line, sizeof(line)));
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static void watch_crashes(void)
{
#ifdef DF_SHIM_WRAPPED /* the sanitizer tells the others, and more of them */
	static const int signals[] = {SIGABRT};
#else
	static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSYS};
#endif
	struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_NODEFER};
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaction(signals[i], &action, NULL);
}

/* --- the start --- */

void *shim_map(const char *path, size_t *ret_bytes)
{
	struct stat st;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	void *p = fstat(fd, &st) == 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
				      : MAP_FAILED;
	(void)syscall(SYS_close, fd);
	if (p == MAP_FAILED)
		return NULL;
	*ret_bytes = (size_t)st.st_size;
	return p;
}

static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
			continue;
		shim.base = info->dlpi_addr;
		shim.text_start = info->dlpi_addr + ph->p_vaddr;
		shim.text_end = shim.text_start + ph->p_memsz;
	}
	return 1; /* the first is the program */
}

/* docflume's own processes by their argv[1]; what a stage's command starts is none of them. */
static enum shim_role find_role(void)
{
	char exe[4096], args[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	const char *name = strrchr(exe, '/');
	if (!name || strncmp(name, "/docflume", 9) != 0)
		return SHIM_OTHER;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : syscall(SYS_read, fd, args, sizeof(args) - 1);
	if (fd >= 0)
		(void)syscall(SYS_close, fd);
	args[n > 0 ? n : 0] = '\0';
	const char *word = n > 0 ? args + strlen(args) + 1 : "";
	return word >= args + n              ? SHIM_OTHER
	       : strcmp(word, "run") == 0    ? SHIM_FRONT
	       : strcmp(word, "worker") == 0 ? SHIM_WORKER
	       : strcmp(word, "reader") == 0 ? SHIM_READER
					     : SHIM_OTHER;
}

static void in_child(void)
{
	shim.role = shim.role == SHIM_FRONT ? SHIM_COORDINATOR : SHIM_OTHER;
}

__attribute__((constructor)) static void start(void)
{
	const char *state = getenv("DF_SHIM_STATE"), *role = getenv("DF_SHIM_ROLE"), *at = getenv("DF_SHIM_AT");
	void *frame[4];
	shim.role = find_role();
	shim.watched = SHIM_N_ROLE;
	if (!state || shim.role == SHIM_OTHER)
		return;
	for (int i = 0; i < SHIM_N_ROLE; i++)
		if (role && strcmp(role, role_name[i]) == 0)
			shim.watched = (enum shim_role)i;
	shim.at = at ? strtoull(at, NULL, 10) : 0;
	shim.more = getenv("DF_SHIM_MORE") != NULL;
	shim.log = getenv("DF_SHIM_LOG") != NULL;
	(void)dl_iterate_phdr(find_text, NULL);
	(void)backtrace(frame, 4); /* loads what it needs now, not within a malloc */
	(void)pthread_atfork(NULL, NULL, in_child);
	shim.state = shim_map(state, &shim.bytes);
	if (shim.state)
		watch_crashes();
}
