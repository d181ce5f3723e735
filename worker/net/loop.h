// SPDX-License-Identifier: Apache-2.0
/*
 * loop: what one thread waits for: descriptors (epoll), timers, and functions that other threads post (an eventfd wakes it).
 */
#ifndef DF_WORKER_NET_LOOP_H
#define DF_WORKER_NET_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include "worker/net/timers.h"

struct df_posted {
	struct df_posted *next;
	void (*fn)(void *self);
	void *self;
};

/* What epoll knows of a descriptor and what it should. A socket that is `kept` stays known when nobody wants it, until it speaks: so the
 * next request on its connection needs no system call. Only for sockets whose closing is told (df_loop_forget). */
struct df_watch {
	uint8_t want, have; /* EPOLLIN, EPOLLOUT */
	bool kept;
	uint16_t owner; /* the caller's own note */
};

struct df_loop {
	int epoll_fd, event_fd;
	struct df_watch *watch; /* by descriptor */
	size_t n_watch;
	struct df_timers timers;
	uint64_t now;                       /* CLOCK_MONOTONIC, ns */
	_Atomic(struct df_posted *) posted; /* the newest first */
	bool coarse;                        /* the kernel has no epoll_pwait2 */
	struct epoll_event event[64];
};

enum df_err df_loop_open(struct df_loop *l, struct df_fail *fail) DF_MUST_CHECK;
void df_loop_release(
	struct df_loop *l); /* what is still posted is dropped; accepts a zeroed struct whose descriptors are -1 */

/* From any thread. `wake`: not from the loop's own, which looks by itself. */
enum df_err df_loop_post(struct df_loop *l, void (*fn)(void *self), void *self, bool wake) DF_MUST_CHECK;
void df_loop_wake(struct df_loop *l);
/* Runs what was posted until now, in order; true: there was something. */
bool df_loop_run_posted(struct df_loop *l);

/* want: EPOLLIN and EPOLLOUT, 0: nothing. DF_ERR_NOMEM, DF_ERR_IO. */
enum df_err df_loop_watch(struct df_loop *l, int fd, uint32_t want) DF_MUST_CHECK;
enum df_err df_loop_keep(struct df_loop *l, int fd) DF_MUST_CHECK; /* a new socket */
void df_loop_forget(struct df_loop *l, int fd);                    /* about to be closed */

/* Waits until at_ns at most (or the first timer, or a post); sets `now`; calls on_fd for each descriptor that is ready. */
void df_loop_wait(struct df_loop *l, uint64_t at_ns, void (*on_fd)(void *self, int fd, uint32_t events), void *self);

#endif
