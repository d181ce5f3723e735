// SPDX-License-Identifier: Apache-2.0
/* loop: epoll_pwait2 for its nanoseconds; posts are a stack that is taken whole and turned over. */
#include "worker/net/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum df_err df_loop_open(struct df_loop *l, struct df_fail *fail)
{
	*l = (struct df_loop){.epoll_fd = -1, .event_fd = -1};
	l->now = df_clock_mono(&df_clock_real);
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return df_fail_errno(fail, "cannot make an epoll descriptor");
	l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->event_fd < 0)
		return df_fail_errno(fail, "cannot make an eventfd");
	if (df_loop_watch(l, l->event_fd, EPOLLIN) != DF_OK)
		return df_fail_errno(fail, "cannot watch an eventfd");
	return DF_OK;
}

void df_loop_release(struct df_loop *l)
{
	struct df_posted *p = atomic_exchange(&l->posted, NULL);
	while (p) {
		struct df_posted *next = p->next;
		free(p);
		p = next;
	}
	if (l->epoll_fd >= 0)
		(void)close(l->epoll_fd);
	if (l->event_fd >= 0)
		(void)close(l->event_fd);
	free(l->watch);
	df_timers_release(&l->timers);
	*l = (struct df_loop){.epoll_fd = -1, .event_fd = -1};
}

void df_loop_wake(struct df_loop *l)
{
	uint64_t one = 1;
	while (write(l->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

enum df_err df_loop_post(struct df_loop *l, void (*fn)(void *self), void *self, bool wake)
{
	struct df_posted *p = malloc(sizeof(*p));
	if (!p)
		return DF_ERR_NOMEM;
	struct df_posted *newest = atomic_load(&l->posted);
	do {
		*p = (struct df_posted){.fn = fn, .self = self, .next = newest};
	} while (!atomic_compare_exchange_weak(&l->posted, &newest, p));
	/* Whoever finds the stack empty wakes; the others' posts are taken together with that one. `p` may be gone by now. */
	if (wake && !newest)
		df_loop_wake(l);
	return DF_OK;
}

bool df_loop_run_posted(struct df_loop *l)
{
	struct df_posted *newest = atomic_exchange(&l->posted, NULL), *oldest = NULL;
	while (newest) {
		struct df_posted *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	bool any = oldest;
	while (oldest) {
		struct df_posted *p = oldest;
		oldest = p->next;
		p->fn(p->self);
		free(p);
	}
	return any;
}

static enum df_err room_for(struct df_loop *l, int fd)
{
	size_t n = l->n_watch ? l->n_watch : 64;
	if ((size_t)fd < l->n_watch)
		return DF_OK;
	while (n <= (size_t)fd)
		n *= 2;
	struct df_watch *watch = realloc(l->watch, n * sizeof(*watch));
	if (!watch)
		return DF_ERR_NOMEM;
	memset(watch + l->n_watch, 0, (n - l->n_watch) * sizeof(*watch));
	l->watch = watch;
	l->n_watch = n;
	return DF_OK;
}

static enum df_err tell_epoll(struct df_loop *l, int fd, uint32_t want)
{
	struct df_watch *w = &l->watch[fd];
	struct epoll_event event = {.events = want, .data.fd = fd};
	int op = !want ? EPOLL_CTL_DEL : w->have ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (want == w->have)
		return DF_OK;
	if (epoll_ctl(l->epoll_fd, op, fd, &event) != 0) {
		/* A descriptor may have been closed and made anew behind our back: what we know of it is old. */
		if (op == EPOLL_CTL_MOD && errno == ENOENT)
			op = EPOLL_CTL_ADD;
		else if (op == EPOLL_CTL_ADD && errno == EEXIST)
			op = EPOLL_CTL_MOD;
		else if (op != EPOLL_CTL_DEL)
			return DF_ERR_IO;
		if (op != EPOLL_CTL_DEL && epoll_ctl(l->epoll_fd, op, fd, &event) != 0)
			return DF_ERR_IO;
	}
	w->have = (uint8_t)want;
	return DF_OK;
}

enum df_err df_loop_watch(struct df_loop *l, int fd, uint32_t want)
{
	DF_TRY(room_for(l, fd));
	struct df_watch *w = &l->watch[fd];
	w->want = (uint8_t)want;
	if (!want && w->kept && w->have == EPOLLIN)
		return DF_OK;
	return tell_epoll(l, fd, want);
}

enum df_err df_loop_keep(struct df_loop *l, int fd)
{
	DF_TRY(room_for(l, fd));
	l->watch[fd] = (struct df_watch){.kept = true};
	return DF_OK;
}

void df_loop_forget(struct df_loop *l, int fd)
{
	if (fd >= 0 && (size_t)fd < l->n_watch)
		l->watch[fd] = (struct df_watch){.want = 0}; /* closing takes it out of epoll */
}

static int wait_for(struct df_loop *l, uint64_t at_ns)
{
	const int n_max = (int)(sizeof(l->event) / sizeof(l->event[0]));
	uint64_t now = at_ns && at_ns != DF_TIMER_NEVER ? df_clock_mono(&df_clock_real) : 0;
	uint64_t ns = at_ns > now ? at_ns - now : 0;
	if (!l->coarse) {
		struct timespec t = {(time_t)(ns / DF_SEC), (long)(ns % DF_SEC)};
		int n = epoll_pwait2(l->epoll_fd, l->event, n_max, at_ns == DF_TIMER_NEVER ? NULL : &t, NULL);
		if (n >= 0 || (errno != ENOSYS && errno != EPERM))
			return n;
		l->coarse = true; /* Linux before 5.11 */
	}
	uint64_t ms = at_ns == DF_TIMER_NEVER ? 0 : (ns + DF_MS - 1) / DF_MS;
	return epoll_wait(l->epoll_fd, l->event, n_max, at_ns == DF_TIMER_NEVER ? -1 : ms > 60000 ? 60000 : (int)ms);
}

void df_loop_wait(struct df_loop *l, uint64_t at_ns, void (*on_fd)(void *self, int fd, uint32_t events), void *self)
{
	uint64_t timer = df_timers_next(&l->timers);
	if (timer < at_ns)
		at_ns = timer;
	if (atomic_load_explicit(&l->posted, memory_order_relaxed))
		at_ns = 0;
	int n = wait_for(l, at_ns);
	l->now = df_clock_mono(&df_clock_real);
	DF_ASSERT(n >= 0 || errno == EINTR);
	for (int i = 0; i < n; i++) {
		int fd = l->event[i].data.fd;
		uint64_t count;
		if (fd == l->event_fd)
			(void)!read(fd, &count, sizeof(count));
		else if (l->watch[fd].want)
			on_fd(self, fd, l->event[i].events);
		else
			(void)tell_epoll(l, fd, 0); /* a connection that nobody uses was closed by its peer */
	}
}
