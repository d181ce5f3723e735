// SPDX-License-Identifier: Apache-2.0
/*
 * confine_calls: the seccomp filter of a worker, as a BPF program made from tables.
 *
 * DESIGN. A list of what is refused, not of what is allowed: which calls libc, libzmq and BLAS make changes with their versions,
 * and a batch night must not end because glibc found a newer way to sleep. The list is closed at its upper end instead: a
 * call with a higher number than any known here does not exist (ENOSYS), and libraries fall back to older ways. So clone3 and
 * openat2, whose arguments are behind pointers that a filter cannot see.
 *
 * Every block of the program either returns or leaves the call's number in the accumulator for the next.
 */
#include "worker/process/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000U
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* the leak checker traces the process from a clone of it */
#else
#define SANITIZED 0
#endif

#ifdef ARCH

/* Numbers from 424 on are the same on all architectures; headers may be older. */
enum {
	NR_PIDFD_SEND_SIGNAL = 424,
	NR_IO_URING_SETUP = 425, /* and enter, register */
	NR_OPEN_TREE = 428,      /* and move_mount, fsopen, fsconfig, fsmount, fspick */
	NR_FSPICK = 433,
	NR_CLONE3 = 435,
	NR_OPENAT2 = 437,
	NR_PIDFD_GETFD = 438,
	NR_MOUNT_SETATTR = 442,
	NR_QUOTACTL_FD = 443,
	NR_FCHMODAT2 = 452,
	NR_LAST = 453, /* map_shadow_stack: what a thread's start may need */
};

/* Most of what a worker does, first: these need no look at the tables. */
static const int allowed[] = {
	SYS_read,   SYS_write,      SYS_pread64,  SYS_futex,  SYS_madvise,       SYS_mmap,
	SYS_munmap, SYS_fstat,      SYS_recvfrom, SYS_sendto, SYS_clock_gettime, SYS_epoll_pwait,
#ifdef SYS_poll
	SYS_poll,   SYS_epoll_wait,
#endif
};

static const int refused[] = {
	/* other programs, other processes */
	SYS_execve,
	SYS_execveat,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_kcmp,
	SYS_tkill,
	SYS_move_pages,
	SYS_migrate_pages,
	SYS_setns,
	SYS_unshare,
	SYS_personality,
	/* the file system: what Landlock does not know, and what it does where it is missing */
	SYS_chroot,
	SYS_pivot_root,
	SYS_mount,
	SYS_umount2,
	SYS_name_to_handle_at,
	SYS_open_by_handle_at,
	SYS_fanotify_init,
	SYS_quotactl,
	SYS_swapon,
	SYS_swapoff,
	SYS_acct,
	SYS_truncate,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_fchown,
	SYS_fchownat,
	SYS_utimensat,
	SYS_renameat2,
	SYS_linkat,
	SYS_symlinkat,
	SYS_unlinkat,
	SYS_mkdirat,
	SYS_mknodat,
	SYS_setxattr,
	SYS_lsetxattr,
	SYS_fsetxattr,
	SYS_removexattr,
	SYS_lremovexattr,
	SYS_fremovexattr,
	/* the kernel */
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
	SYS_reboot,
	SYS_syslog,
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_clock_adjtime,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_vhangup,
	/* talk behind everybody's back */
	SYS_shmget,
	SYS_shmat,
	SYS_shmctl,
	SYS_msgget,
	SYS_semget,
	SYS_mq_open,
	NR_PIDFD_SEND_SIGNAL,
	NR_PIDFD_GETFD,
	NR_IO_URING_SETUP,
	NR_IO_URING_SETUP + 1,
	NR_IO_URING_SETUP + 2,
	NR_OPEN_TREE,
	NR_OPEN_TREE + 1,
	NR_OPEN_TREE + 2,
	NR_OPEN_TREE + 3,
	NR_OPEN_TREE + 4,
	NR_FSPICK,
	NR_MOUNT_SETATTR,
	NR_QUOTACTL_FD,
	NR_FCHMODAT2,
#ifdef SYS_kexec_file_load
	SYS_kexec_file_load,
#endif
#ifdef __x86_64__
	SYS_fork,
	SYS_vfork,
	SYS_uselib,
	SYS_creat,
	SYS_chmod,
	SYS_chown,
	SYS_lchown,
	SYS_utime,
	SYS_utimes,
	SYS_futimesat,
	SYS_rename,
	SYS_renameat,
	SYS_link,
	SYS_symlink,
	SYS_unlink,
	SYS_mkdir,
	SYS_rmdir,
	SYS_mknod,
	SYS_iopl,
	SYS_ioperm,
	SYS_modify_ldt,
#endif
};

struct program {
	struct sock_filter code[512];
	unsigned short n;
};

#define RETURN_ERRNO(e) (SECCOMP_RET_ERRNO | ((e)&SECCOMP_RET_DATA))
#define OFFSET_OF_ARG(i) ((uint32_t)(offsetof(struct seccomp_data, args) + (i) * sizeof(uint64_t))) /* low half */

static void add(struct program *p, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
	DF_ASSERT(p->n < sizeof(p->code) / sizeof(p->code[0]));
	p->code[p->n++] = (struct sock_filter){code, if_true, if_false, k};
}

static void load(struct program *p, uint32_t offset)
{
	add(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void give(struct program *p, uint32_t answer)
{
	add(p, BPF_RET | BPF_K, answer, 0, 0);
}

/* When what is loaded equals `value`, the answer. */
static void give_if(struct program *p, uint32_t value, uint32_t answer)
{
	add(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	give(p, answer);
}

static void begin_call(struct program *p, int nr, unsigned arg, uint8_t n_behind)
{
	add(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, (uint8_t)(n_behind + 1));
	load(p, OFFSET_OF_ARG(arg));
}

/* The call is allowed for these values of its argument only, or for all but these. */
static void by_value(struct program *p, int nr, unsigned arg, const uint32_t *value, uint8_t n, bool listed_allowed)
{
	uint32_t yes = SECCOMP_RET_ALLOW, no = RETURN_ERRNO(EPERM);
	begin_call(p, nr, arg, (uint8_t)(2 * n + 1));
	for (uint8_t i = 0; i < n; i++)
		give_if(p, value[i], listed_allowed ? yes : no);
	give(p, listed_allowed ? no : yes);
}

/* The call is allowed when of the bits `mask` of its argument exactly those of `value` are set. */
static void by_bits(struct program *p, int nr, unsigned arg, uint32_t mask, uint32_t value)
{
	begin_call(p, nr, arg, 4);
	add(p, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	give_if(p, value, SECCOMP_RET_ALLOW);
	give(p, RETURN_ERRNO(EPERM));
}

static void add_arguments(struct program *p, bool network, bool writes)
{
	const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	const uint32_t self[] = {(uint32_t)getpid(), 0};
	const uint32_t keys[] = {TIOCSTI, TIOCLINUX}; /* type into the user's terminal */
	const uint32_t stay[] = {PR_SET_PDEATHSIG};
	const uint32_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
				    CLONE_NEWPID | CLONE_NEWNET;
	by_value(p, SYS_socket, 0, families, network ? 4 : 1, true);
	by_value(p, SYS_socketpair, 0, families, 1, true);
	by_value(p, SYS_kill, 0, self, 1, true);
	by_value(p, SYS_tgkill, 0, self, 1, true);
	by_value(p, SYS_rt_sigqueueinfo, 0, self, 1, true);
	by_value(p, SYS_rt_tgsigqueueinfo, 0, self, 1, true);
	by_value(p, SYS_prlimit64, 0, self, 2, true);
	by_value(p, SYS_ioctl, 1, keys, 2, false);
	by_value(p, SYS_prctl, 0, stay, 1, false);
	if (!writes) {
		by_bits(p, SYS_openat, 2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY);
#ifdef SYS_open
		by_bits(p, SYS_open, 1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY);
#endif
	}
	if (!SANITIZED) {
		by_bits(p, SYS_clone, 0, CLONE_THREAD | namespaces, CLONE_THREAD);
		give_if(p, SYS_ptrace, RETURN_ERRNO(EPERM));
	}
}

/* A database makes its files beside it, and removes them, at any time. */
static void add_removing(struct program *p)
{
	give_if(p, SYS_unlinkat, SECCOMP_RET_ALLOW);
#ifdef SYS_unlink
	give_if(p, SYS_unlink, SECCOMP_RET_ALLOW);
#endif
}

/* `writes`: Landlock says where files may be written, so that this filter need not refuse it altogether. */
static void build(struct program *p, bool network, bool writes)
{
	p->n = 0;
	load(p, offsetof(struct seccomp_data, arch));
	add(p, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	give(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
#ifdef X32_BIT
	add(p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	give(p, RETURN_ERRNO(EPERM));
#endif
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		give_if(p, (uint32_t)allowed[i], SECCOMP_RET_ALLOW);
	add(p, BPF_JMP | BPF_JGT | BPF_K, NR_LAST, 0, 1);
	give(p, RETURN_ERRNO(ENOSYS));
	give_if(p, NR_CLONE3, RETURN_ERRNO(ENOSYS));
	give_if(p, NR_OPENAT2, RETURN_ERRNO(ENOSYS));
	add_arguments(p, network, writes);
	if (writes)
		add_removing(p);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		give_if(p, (uint32_t)refused[i], RETURN_ERRNO(EPERM));
	give(p, SECCOMP_RET_ALLOW);
}

bool df_confine_has_seccomp(void)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;
	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

enum df_err df_confine_end(const struct df_confine *c, struct df_fail *fail)
{
	struct program p;
	if (!df_confine_has_seccomp())
		return DF_OK;
	build(&p, c->network, c->network && c->files_bound);
	struct sock_fprog filter = {p.n, p.code};
	long thread = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
	if (thread < 0)
		return df_fail_errno(fail, "cannot give up system calls (--confine=false does without)");
	if (thread > 0)
		return df_fail(fail, DF_ERR_IO, "thread %ld cannot give up system calls (--confine=false does without)",
			       thread);
	return DF_OK;
}

#else /* a machine whose calls nobody has written down yet */

bool df_confine_has_seccomp(void)
{
	return false;
}

enum df_err df_confine_end(const struct df_confine *c, struct df_fail *fail)
{
	(void)c;
	(void)fail;
	return DF_OK;
}

#endif
