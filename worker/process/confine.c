// SPDX-License-Identifier: Apache-2.0
/*
 * confine: no_new_privs, capabilities, resource limits, and Landlock by its raw system calls.
 *
 * DESIGN. The headers of a build machine may be older than the kernel that runs the program, so what Landlock learned after
 * Linux 5.13 has its numbers here, and the kernel's own version decides at run time what is asked of it. A rule
 * needs its file only to be open with O_PATH; one that cannot be opened is passed over, and is then simply not readable.
 */
#include "worker/process/confine.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* shadow memory counts as data, and reports read /proc */
#else
#define SANITIZED 0
#endif

#define OPEN_FILES_MAX 256           /* descriptors of a worker: about 30 */
#define OPEN_SOCKETS_MAX (16U << 10) /* and of one that calls out */
#define MODEL_DEPTH 3                /* models/NAME/1_Pooling */
#define MODEL_ENTRIES 1024

/* ------------------------------------------------------------------ limits and privileges */

static void lower(int resource, rlim_t to)
{
	struct rlimit limit;
	if (getrlimit((__rlimit_resource_t)resource, &limit) != 0)
		return;
	if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > to)
		limit.rlim_cur = to;
	limit.rlim_max = limit.rlim_cur;
	(void)setrlimit((__rlimit_resource_t)resource, &limit);
}

static bool is_file(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* As many as the user may have: each call in flight may be a connection. */
static void raise_open_files(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	rlim_t most = limit.rlim_max == RLIM_INFINITY || limit.rlim_max > OPEN_SOCKETS_MAX ? OPEN_SOCKETS_MAX
											   : limit.rlim_max;
	limit.rlim_cur = limit.rlim_max = most;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void lower_limits(const struct df_confine *c)
{
	if (c->network)
		raise_open_files();
	else
		lower(RLIMIT_NOFILE, OPEN_FILES_MAX);
	/* where stderr is a file, the last words must get into it */
	if (!c->network && !is_file(STDOUT_FILENO) && !is_file(STDERR_FILENO))
		lower(RLIMIT_FSIZE, 0);
	if (c->memory_max && !SANITIZED)
		lower(RLIMIT_DATA, c->memory_max + DF_CONFINE_DATA_SLACK + (c->model_dir ? DF_CONFINE_MODEL_SLACK : 0) +
					   (c->network ? DF_CONFINE_NETWORK_SLACK : 0));
}

/* root keeps what lets it read the user's inputs, and nothing else; anybody else has nothing to lose here. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &header, data) != 0)
		return;
	uint32_t keep = data[0].effective & (1U << CAP_DAC_READ_SEARCH);
	if (SANITIZED)
		keep |= data[0].effective & (1U << CAP_SYS_PTRACE);
	data[0] = (struct __user_cap_data_struct){.effective = keep, .permitted = keep};
	data[1] = (struct __user_cap_data_struct){0};
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	(void)syscall(SYS_capset, &header, data);
}

/* ------------------------------------------------------------------ Landlock */

/* linux/landlock.h of Linux 6.12; older kernels take a prefix. */
struct ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* version 4 */
	uint64_t scoped;             /* version 6 */
};

enum {
	FS_V1 = (1 << 13) - 1,  /* execute, write, read, list, remove, make: all of version 1 */
	FS_REFER = 1 << 13,     /* 2 */
	FS_TRUNCATE = 1 << 14,  /* 3 */
	FS_IOCTL_DEV = 1 << 15, /* 5 */
	NET_TCP = 3,            /* 4: bind and connect */
	SCOPE_ALL = 3,          /* 6: abstract sockets and signals to outside */
};

int df_confine_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return abi > 0 ? (int)abi : 0;
}

static size_t handled(int abi, bool network, struct ruleset *ret_set)
{
	*ret_set = (struct ruleset){.handled_access_fs = FS_V1};
	if (abi >= 2)
		ret_set->handled_access_fs |= FS_REFER;
	if (abi >= 3)
		ret_set->handled_access_fs |= FS_TRUNCATE;
	if (abi >= 5)
		ret_set->handled_access_fs |= FS_IOCTL_DEV;
	if (abi >= 4 && !network)
		ret_set->handled_access_net = NET_TCP;
	if (abi >= 6)
		ret_set->scoped = SCOPE_ALL;
	return abi >= 6 ? sizeof(*ret_set) : abi >= 4 ? offsetof(struct ruleset, scoped) : sizeof(uint64_t);
}

/* What cannot be opened has no rule, and so cannot be read. False when that is not the file's fault but this process's: it has no
 * descriptor or memory left, and would find every file closed to it. */
static bool allow_as(int ruleset, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = access};
	rule.parent_fd = TEMP_FAILURE_RETRY(open(path, O_PATH | O_CLOEXEC));
	if (rule.parent_fd < 0)
		return errno != EMFILE && errno != ENFILE && errno != ENOMEM;
	bool added = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
	int e = errno;
	(void)close(rule.parent_fd);
	errno = e;
	return added || e != ENOMEM;
}

static bool allow(int ruleset, const char *path)
{
	return allow_as(ruleset, path, LANDLOCK_ACCESS_FS_READ_FILE);
}

/* Caches of models are often folders of links to files that lie elsewhere. */
static void allow_links(int ruleset, const char *dir, int depth, unsigned *entries)
{
	char path[PATH_MAX];
	DIR *d = depth < MODEL_DEPTH ? opendir(dir) : NULL;
	for (struct dirent *e; d && *entries < MODEL_ENTRIES && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		int n = snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (n < 0 || (size_t)n >= sizeof(path))
			continue;
		++*entries;
		if (e->d_type == DT_LNK || e->d_type == DT_UNKNOWN)
			(void)allow(ruleset, path);
		if (e->d_type != DT_REG)
			allow_links(ruleset, path, depth + 1, entries);
	}
	if (d)
		(void)closedir(d);
}

/* libarchive has names inside archives converted: glibc finds its tables beside libc, and the modules of its name service (which it opens when the
 * first name is looked up). */
static void allow_beside_libc(int ruleset, bool network)
{
	/* where /lib is a folder of its own */
	static const char *const gconv[] = {"%.*s/gconv", "/usr%.*s/gconv"}, *const modules[] = {"%.*s", "/usr%.*s"};
	const char *const *place = network ? modules : gconv;
	Dl_info info;
	char path[PATH_MAX];
	if (dladdr(__extension__(void *) fopen, &info) == 0 || !info.dli_fname)
		return;
	const char *slash = strrchr(info.dli_fname, '/');
	int n = slash ? (int)(slash - info.dli_fname) : 0;
	for (int i = 0; n > 0 && i < 2; i++)
		if (snprintf(path, sizeof(path), place[i], n, info.dli_fname) < (int)sizeof(path))
			(void)allow(ruleset, path);
}

/* What getaddrinfo and TLS open, now and in a later hour. */
static void allow_network(int ruleset)
{
	static const char *const path[] = {
		"/etc/resolv.conf",
		"/etc/hosts",
		"/etc/host.conf",
		"/etc/nsswitch.conf",
		"/etc/gai.conf",
		"/etc/services",
		"/etc/protocols",
		"/etc/ld.so.cache",
		"/run/systemd/resolve",
		"/run/resolvconf",
		"/run/NetworkManager",
		"/etc/ssl/certs",
		"/etc/ssl/openssl.cnf",
		"/etc/ssl/cert.pem",
		"/usr/lib/ssl",
		"/usr/share/ca-certificates",
		"/usr/local/share/ca-certificates",
		"/etc/ca-certificates",
		"/etc/pki/tls",
		"/etc/pki/ca-trust",
		"/dev/urandom",
	};
	static const char *const variable[] = {"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "OPENSSL_CONF"};
	for (size_t i = 0; i < sizeof(path) / sizeof(path[0]); i++)
		(void)allow(ruleset, path[i]);
	for (size_t i = 0; i < sizeof(variable) / sizeof(variable[0]); i++) {
		const char *named = getenv(variable[i]);
		if (named && *named)
			(void)allow(ruleset, named);
	}
}

static bool allow_writing(int ruleset, const struct df_confine *c, uint64_t handled)
{
	char path[PATH_MAX];
	const uint64_t access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
				LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
				LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE;
	for (size_t i = 0; i < c->n_write_path; i++)
		if (snprintf(path, sizeof(path), DF_STR_FMT, DF_STR_ARG(c->write_path[i])) < (int)sizeof(path) &&
		    !allow_as(ruleset, path, access & handled))
			return false;
	return true;
}

static bool allow_all(int ruleset, const struct df_confine *c)
{
	char path[PATH_MAX];
	unsigned entries = 0;
	for (size_t i = 0; i < c->n_read_path; i++)
		if (snprintf(path, sizeof(path), DF_STR_FMT, DF_STR_ARG(c->read_path[i])) < (int)sizeof(path) &&
		    !allow(ruleset, path))
			return false;
	if (c->model_dir) {
		if (!allow(ruleset, c->model_dir))
			return false;
		allow_links(ruleset, c->model_dir, 0, &entries);
	}
	allow_beside_libc(ruleset, c->network);
	if (c->network)
		allow_network(ruleset);
	if (SANITIZED) /* the leak checker lists the process's threads */
		(void)allow_as(ruleset, "/proc", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
	return true;
}

/* True when the kernel has it and took it. */
static bool restrict_files(const struct df_confine *c, struct df_fail *fail, enum df_err *ret_err)
{
	struct ruleset set;
	int abi = df_confine_landlock_abi();
	*ret_err = DF_OK;
	if (abi == 0)
		return false;
	size_t size = handled(abi, c->network, &set);
	int fd = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
	if (fd >= 0 && allow_all(fd, c) && allow_writing(fd, c, set.handled_access_fs) &&
	    syscall(SYS_landlock_restrict_self, fd, 0) == 0) {
		(void)close(fd);
		return true;
	}
	/* 16 layers are the kernel's limit: somebody else has confined us then, and well */
	if (errno != E2BIG)
		*ret_err = df_fail_errno(fail, "cannot give up access to files (--confine=false does without)");
	if (fd >= 0)
		(void)close(fd);
	return *ret_err == DF_OK;
}

enum df_err df_confine_begin(struct df_confine *c, unsigned *ret_missing, struct df_fail *fail)
{
	enum df_err err = DF_OK;
	unsigned missing = df_confine_has_seccomp() ? 0 : DF_CONFINE_NO_SECCOMP;
	tzset(); /* times in archives are local: read the zone while it can be */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return df_fail_errno(fail, "cannot give up privileges (--confine=false does without)");
	c->files_bound = restrict_files(c, fail, &err);
	if (!c->files_bound)
		missing |= DF_CONFINE_NO_LANDLOCK;
	DF_TRY(err);
	drop_capabilities();
	if (c->network && !SANITIZED)
		(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	lower_limits(c);
	*ret_missing = missing;
	return DF_OK;
}
