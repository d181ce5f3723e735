// SPDX-License-Identifier: Apache-2.0
/* test_confine: what a process can still do once it is confined, tried in children that are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "worker/process/confine.h"

/* "ctest: threaded" */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static char dir[64], allowed[128], link_in[128], secret[128], model[128], model_file[160];

static void write_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "text", 4), 4);
	close(fd);
}

/* inputs/a and, by a link, elsewhere/b may be read; secret may not. */
static int make_files(void **state)
{
	char path[160];
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/docflume-confine-XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/inputs", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	(void)snprintf(allowed, sizeof(allowed), "%s/inputs/a", dir);
	write_file(allowed);
	(void)snprintf(secret, sizeof(secret), "%s/secret", dir);
	write_file(secret);
	(void)snprintf(link_in, sizeof(link_in), "%s/inputs/to-secret", dir);
	assert_int_equal(symlink(secret, link_in), 0);
	(void)snprintf(model, sizeof(model), "%s/models", dir);
	assert_int_equal(mkdir(model, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/models/m", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/blob", dir);
	write_file(path);
	(void)snprintf(model_file, sizeof(model_file), "%s/models/m/weights", dir);
	assert_int_equal(symlink("../../blob", model_file), 0);
	return 0;
}

static int remove_files(void **state)
{
	char command[128];
	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static bool confine(bool network, uint64_t memory_max)
{
	char inputs[128];
	struct df_fail fail;
	unsigned missing = 0;
	(void)snprintf(inputs, sizeof(inputs), "%s/inputs", dir);
	struct df_str path = df_str_from(inputs);
	struct df_confine c = {
		.read_path = &path, .n_read_path = 1, .model_dir = model, .network = network, .memory_max = memory_max};
	return df_confine_begin(&c, &missing, &fail) == DF_OK && df_confine_end(&c, &fail) == DF_OK;
}

/* Runs `check` in a confined child; its answer is 0, or the line that failed. */
static void in_child_of(int (*check)(void), bool network, uint64_t memory_max)
{
	int status = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(confine(network, memory_max) ? check() : 254);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != 0)
		fail_msg("the check of line %d or %d failed", WEXITSTATUS(status), WEXITSTATUS(status) + 256);
}

static void in_child(int (*check)(void))
{
	in_child_of(check, false, 0);
}

/* 0 is success, so that a line that is a multiple of 256 must not be one. */
#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			return __LINE__ % 256 ? __LINE__ % 256 : 255;                                                  \
	} while (0)
#define REFUSED(call) (errno = 0, (call) == -1 && (errno == EPERM || errno == EACCES))

static void need(bool has, const char *what)
{
	if (!has) {
		print_message("SKIP: this kernel has no %s\n", what);
		skip();
	}
}

static int check_files(void)
{
	char text[8];
	int fd = open(allowed, O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof(text)) == 4);
	CHECK(open(model_file, O_RDONLY) >= 0);
	CHECK(REFUSED(open("/etc/passwd", O_RDONLY)));
	CHECK(REFUSED(open(secret, O_RDONLY)));
	CHECK(REFUSED(open(link_in, O_RDONLY))); /* a link is followed, and then counts where it leads */
	CHECK(REFUSED(open("/etc/hostname", O_RDONLY)) || errno == ENOENT);
	CHECK(SANITIZED || REFUSED(open("/proc/self/environ", O_RDONLY)));
	return 0;
}

static void test_confine__only_inputs_and_models_can_be_read(void **state)
{
	(void)state;
	need(df_confine_landlock_abi() > 0, "Landlock");
	in_child(check_files);
}

static int check_writes(void)
{
	struct timespec times[2] = {{0}};
	char other[160];
	(void)snprintf(other, sizeof(other), "%s.new", allowed);
	int fd = open(allowed, O_RDONLY);
	CHECK(fd >= 0);
	CHECK(REFUSED(open(allowed, O_WRONLY)));
	CHECK(REFUSED(open(allowed, O_RDWR)));
	CHECK(REFUSED(open(allowed, O_RDONLY | O_TRUNC)));
	CHECK(REFUSED(open(other, O_WRONLY | O_CREAT, 0644)));
	CHECK(REFUSED(open("/tmp", O_TMPFILE | O_RDWR, 0600)));
	CHECK(REFUSED(truncate(allowed, 0)));
	CHECK(REFUSED(rename(allowed, other)));
	CHECK(REFUSED(link(allowed, other)));
	CHECK(REFUSED(symlink(allowed, other)));
	CHECK(REFUSED(unlink(allowed)));
	CHECK(REFUSED(mkdir(other, 0755)));
	CHECK(REFUSED(rmdir(dir)));
	CHECK(REFUSED(chmod(allowed, 0777)));
	CHECK(REFUSED(fchmod(fd, 0777)));
	CHECK(REFUSED(chown(allowed, 1, 1)));
	CHECK(REFUSED(utimensat(AT_FDCWD, allowed, times, 0)));
	CHECK(REFUSED(mknod(other, S_IFIFO | 0600, 0)));
	CHECK(syscall(437, AT_FDCWD, allowed, NULL, 0) == -1 && errno == ENOSYS); /* openat2 */
	return 0;
}

static void test_confine__nothing_can_be_written_removed_or_renamed(void **state)
{
	struct stat st;
	(void)state;
	need(df_confine_has_seccomp(), "seccomp");
	in_child(check_writes);
	assert_int_equal(stat(allowed, &st), 0);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(st.st_mode & 07777, 0644);
}

static int check_sockets(void)
{
	int pair[2];
	CHECK(REFUSED(socket(AF_INET, SOCK_STREAM, 0)));
	CHECK(REFUSED(socket(AF_INET, SOCK_DGRAM, 0)));
	CHECK(REFUSED(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)));
	CHECK(REFUSED(socket(AF_NETLINK, SOCK_RAW, 0)));
	CHECK(REFUSED(socket(AF_PACKET, SOCK_RAW, 0)));
	CHECK(REFUSED(socket(AF_VSOCK, SOCK_STREAM, 0)));
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	return 0;
}

static void test_confine__no_connection_leaves_the_machine(void **state)
{
	(void)state;
	need(df_confine_has_seccomp(), "seccomp");
	in_child(check_sockets);
}

static struct sockaddr_in here;

static int check_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(fd >= 0);
	CHECK(connect(fd, (const struct sockaddr *)(const void *)&here, sizeof(here)) == 0);
	CHECK(socket(AF_INET6, SOCK_STREAM, 0) >= 0 || errno == EAFNOSUPPORT);
	CHECK(REFUSED(socket(AF_PACKET, SOCK_RAW, 0)));
	return 0;
}

/* A socket from before: what seccomp cannot see, Landlock does. */
static int old_socket;

static int check_old_socket(void)
{
	CHECK(REFUSED(connect(old_socket, (const struct sockaddr *)(const void *)&here, sizeof(here))));
	return 0;
}

static void test_confine__a_network_stage_may_connect_and_no_other(void **state)
{
	(void)state;
	socklen_t n = sizeof(here);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	here = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(listener, (const struct sockaddr *)(const void *)&here, sizeof(here)), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)(void *)&here, &n), 0);
	assert_int_equal(listen(listener, 4), 0);
	in_child_of(check_connect, true, 0);
	if (df_confine_landlock_abi() >= 4) {
		old_socket = socket(AF_INET, SOCK_STREAM, 0);
		in_child(check_old_socket);
		close(old_socket);
	}
	close(listener);
}

static int check_unix(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	(void)snprintf(to.sun_path, sizeof(to.sun_path), "%s/socket", dir);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)(const void *)&to, sizeof(to)) == 0);
	return 0;
}

static void test_confine__the_coordinators_sockets_stay_in_reach(void **state)
{
	(void)state;
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "%s/socket", dir);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (const struct sockaddr *)(const void *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 4), 0);
	in_child(check_unix);
	close(listener);
}

static int check_processes(void)
{
	char *argv[] = {(char *)(uintptr_t) "true", NULL};
	struct rlimit limit = {1, 1};
	CHECK(REFUSED(execv("/bin/true", argv)));
	CHECK(SANITIZED || REFUSED(fork()));
	CHECK(SANITIZED || REFUSED(ptrace(PTRACE_ATTACH, getppid(), 0, 0)));
	CHECK(REFUSED(kill(getppid(), 0)));
	CHECK(REFUSED(kill(0, 0)));
	CHECK(REFUSED(kill(-1, 0)));
	CHECK(REFUSED(syscall(SYS_tkill, getppid(), 0)));
	CHECK(REFUSED(syscall(SYS_tgkill, getppid(), getppid(), 0)));
	CHECK(REFUSED(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0)));
	CHECK(REFUSED(syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, &limit, NULL)));
	CHECK(REFUSED(unshare(CLONE_NEWUSER)));
	CHECK(REFUSED(syscall(SYS_setns, 0, 0)));
	CHECK(REFUSED(syscall(SYS_bpf, 0, NULL, 0)));
	CHECK(REFUSED(syscall(425, 1, NULL))); /* io_uring_setup */
	CHECK(REFUSED(syscall(SYS_userfaultfd, 0)));
	CHECK(REFUSED(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0)));
	CHECK(REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0)));
	CHECK(REFUSED(syscall(SYS_mount, NULL, NULL, NULL, 0, NULL)));
	CHECK(REFUSED(syscall(SYS_open_by_handle_at, -1, NULL, 0)));
	CHECK(REFUSED(syscall(SYS_personality, 0xffffffff)));
	CHECK(REFUSED(ioctl(0, TIOCSTI, "x")));
	CHECK(REFUSED(prctl(PR_SET_PDEATHSIG, 0)));
	CHECK(syscall(1023, 0) == -1 && errno == ENOSYS); /* a call that nobody knows yet */
#ifdef __x86_64__
	CHECK(REFUSED(syscall(0x40000000 + SYS_getpid))); /* x32 */
#endif
	return 0;
}

static void test_confine__no_program_is_started_and_no_process_touched(void **state)
{
	(void)state;
	need(df_confine_has_seccomp(), "seccomp");
	in_child(check_processes);
}

static void *answer(void *p)
{
	return p;
}

static void *try_socket(void *p)
{
	int *go = p;
	while (__atomic_load_n(go, __ATOMIC_ACQUIRE) == 0)
		(void)sched_yield();
	return socket(AF_INET, SOCK_STREAM, 0) < 0 ? p : NULL;
}

static int check_threads(void)
{
	pthread_t t[8];
	void *got = NULL;
	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&t[i], NULL, answer, t) == 0);
	for (int i = 0; i < 8; i++)
		CHECK(pthread_join(t[i], &got) == 0 && got == t);
	CHECK(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	CHECK(kill(getpid(), 0) == 0);
	CHECK(time(NULL) > 0);
	return 0;
}

static void test_confine__threads_memory_and_time_go_on_working(void **state)
{
	(void)state;
	in_child(check_threads);
}

static void test_confine__threads_from_before_are_bound_too(void **state)
{
	(void)state;
	need(df_confine_has_seccomp(), "seccomp");
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		struct df_confine c = {.model_dir = NULL};
		struct df_fail fail;
		pthread_t t;
		unsigned missing;
		int go = 0;
		void *got = NULL;
		if (df_confine_begin(&c, &missing, &fail) != DF_OK || pthread_create(&t, NULL, try_socket, &go) != 0 ||
		    df_confine_end(&c, &fail) != DF_OK)
			_exit(1);
		__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
		_exit(pthread_join(t, &got) == 0 && got ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_confine__abort_ends_the_process_as_ever(void **state)
{
	(void)state;
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = {0, 0};
		(void)setrlimit(RLIMIT_CORE, &none);
		if (!confine(false, 0))
			_exit(1);
		(void)signal(SIGABRT, SIG_DFL);
		abort();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static int check_limits(void)
{
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max <= 256 && limit.rlim_max >= 64);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	if (SANITIZED)
		return 0;
	CHECK(getrlimit(RLIMIT_DATA, &limit) == 0 &&
	      limit.rlim_max == (64U << 20) + DF_CONFINE_DATA_SLACK + DF_CONFINE_MODEL_SLACK);
	void *much = malloc((size_t)1 << 30), *some = malloc((size_t)32 << 20);
	CHECK(much == NULL && some != NULL);
	free(some);
	return 0;
}

static void test_confine__memory_and_descriptors_have_limits(void **state)
{
	(void)state;
	in_child_of(check_limits, false, 64U << 20);
}

static void test_confine__says_what_the_kernel_cannot_do(void **state)
{
	(void)state;
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		struct df_confine c = {.model_dir = NULL};
		struct df_fail fail;
		unsigned missing = ~0U, want = (df_confine_has_seccomp() ? 0 : DF_CONFINE_NO_SECCOMP) |
					       (df_confine_landlock_abi() ? 0 : DF_CONFINE_NO_LANDLOCK);
		_exit(df_confine_begin(&c, &missing, &fail) == DF_OK && missing == want ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_confine__only_inputs_and_models_can_be_read),
		cmocka_unit_test(test_confine__nothing_can_be_written_removed_or_renamed),
		cmocka_unit_test(test_confine__no_connection_leaves_the_machine),
		cmocka_unit_test(test_confine__a_network_stage_may_connect_and_no_other),
		cmocka_unit_test(test_confine__the_coordinators_sockets_stay_in_reach),
		cmocka_unit_test(test_confine__no_program_is_started_and_no_process_touched),
		cmocka_unit_test(test_confine__threads_memory_and_time_go_on_working),
		cmocka_unit_test(test_confine__threads_from_before_are_bound_too),
		cmocka_unit_test(test_confine__abort_ends_the_process_as_ever),
		cmocka_unit_test(test_confine__memory_and_descriptors_have_limits),
		cmocka_unit_test(test_confine__says_what_the_kernel_cannot_do),
	};
	return cmocka_run_group_tests(tests, make_files, remove_files);
}
