// SPDX-License-Identifier: Apache-2.0
/*
 * purse: money, shared by the processes of a run.
 *
 * DESIGN. What binds is one word, `committed`: what was spent and what is reserved together. A reservation is one compare-and-swap that never passes the
 * budget, settling one addition of the difference, so however many processes do it and wherever one is killed, committed is never less than what
 * was really paid or may yet be. `spent` is kept beside it for people; what is reserved is the difference. Opening again takes all that is
 * committed as spent: whoever had reserved it is dead and may have paid. The magic is written last, so a half-made purse is known as one.
 */
#include "proto/purse.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x6573727570666464) /* "ddfpurse" */
#define VERSION 1
#define BYTES 4096
#define NANO 1e9
#define AMOUNT_MAX (INT64_C(1) << 60) /* a thousand million dollars, in nano-dollars; nothing is above it */

struct page {
	_Atomic uint64_t magic;
	uint64_t version;
	_Atomic int64_t budget; /* 0: none */
	_Atomic int64_t committed, spent;
	_Atomic uint64_t calls, unpriced; /* purses of before have 0 there */
};
_Static_assert(sizeof(struct page) <= BYTES, "a purse is one page");

struct df_purse {
	struct page *page;
	int fd; /* -1: somebody else's */
};

/* Rounded up: many small reservations must not be nothing. False: no amount of money. */
static bool to_nano(double usd, int64_t *ret)
{
	if (!isfinite(usd) || usd < 0)
		return false;
	double nano = ceil(usd * NANO * (1 - 0x1p-51)); /* 0.07 is 70,000,000 and no more */
	*ret = nano < (double)AMOUNT_MAX ? (int64_t)nano : AMOUNT_MAX;
	return true;
}

/* To the next nano-dollar; what is no amount is counted as the worst case. */
static int64_t real_nano(double usd, int64_t worst)
{
	if (!isfinite(usd) || usd < 0)
		return worst;
	double nano = round(usd * NANO);
	return nano < (double)AMOUNT_MAX ? (int64_t)nano : AMOUNT_MAX;
}

static enum df_err map(int fd, struct page **ret, struct df_fail *fail)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return df_fail_errno(fail, "cannot look at the purse of this run");
	if (!S_ISREG(st.st_mode) || st.st_size != BYTES)
		return df_fail(fail, DF_ERR_CORRUPT, "descriptor %d holds no purse: it is started by docflume itself",
			       fd);
	void *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return df_fail_errno(fail, "cannot map the purse of this run");
	*ret = p;
	return DF_OK;
}

static bool is_sound(struct page *p)
{
	int64_t budget = atomic_load(&p->budget), committed = atomic_load(&p->committed),
		spent = atomic_load(&p->spent);
	return atomic_load(&p->magic) == MAGIC && p->version == VERSION && budget >= 0 && budget <= AMOUNT_MAX &&
	       committed >= 0 && committed <= 2 * AMOUNT_MAX && spent >= 0 && spent <= 2 * AMOUNT_MAX;
}

static bool is_empty(const struct page *p)
{
	const unsigned char *b = (const unsigned char *)p;
	for (size_t i = 0; i < sizeof(struct page); i++) {
		if (b[i])
			return false;
	}
	return true;
}

/* A memory file; or DIR/purse, made when there is none. */
static enum df_err open_fd(int dir_fd, int *ret_fd, struct df_fail *fail)
{
	struct stat st;
	int fd = dir_fd < 0 ? memfd_create("docflume-purse", MFD_CLOEXEC)
			    : openat(dir_fd, "purse", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return df_fail_errno(fail, "cannot open the purse of this run");
	enum df_err err = DF_OK;
	if (fstat(fd, &st) < 0)
		err = df_fail_errno(fail, "cannot look at the purse of this run");
	else if (!S_ISREG(st.st_mode) || (st.st_size != 0 && st.st_size != BYTES))
		err = df_fail(
			fail, DF_ERR_CORRUPT,
			"'purse' in the run directory is none (%lld bytes): what was spent is not known; remove it to "
			"count from 0",
			(long long)st.st_size);
	else if (st.st_size == 0 && (errno = posix_fallocate(fd, 0, BYTES)) != 0)
		err = df_fail_errno(fail, "cannot make the purse of this run");
	if (err != DF_OK)
		(void)close(fd);
	else
		*ret_fd = fd;
	return err;
}

static enum df_err take_over(struct page *p, int64_t budget, struct df_fail *fail)
{
	if (atomic_load(&p->magic) == 0 && atomic_load(&p->committed) == 0 && atomic_load(&p->spent) == 0 &&
	    (is_empty(p) || p->version == VERSION)) {
		p->version = VERSION;
	} else if (!is_sound(p)) {
		return df_fail(
			fail, DF_ERR_CORRUPT,
			"'purse' in the run directory is damaged: what was spent is not known; remove it to count "
			"from 0");
	}
	atomic_store(&p->spent, atomic_load(&p->committed));
	if (budget) /* without one the old one holds: a run that goes on does not lose its ceiling by a forgotten option */
		atomic_store(&p->budget, budget);
	atomic_store(&p->magic, MAGIC);
	return DF_OK;
}

enum df_err df_purse_open(int dir_fd, double budget, struct df_purse **ret_purse, int *ret_fd, struct df_fail *fail)
{
	int64_t nano;
	int fd = -1;
	if (!isfinite(budget) || budget < 0 || budget * NANO >= (double)AMOUNT_MAX)
		return df_fail(fail, DF_ERR_RANGE, "a budget of %g dollars is none", budget);
	/* Down: never a nano-dollar more than was given. A budget of less than one is one, since 0 means none. */
	nano = (int64_t)floor(budget * NANO * (1 + 0x1p-52));
	if (budget > 0 && nano == 0)
		nano = 1;
	struct df_purse *purse = calloc(1, sizeof(*purse));
	if (!purse)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the purse of this run");
	enum df_err err = open_fd(dir_fd, &fd, fail);
	if (err == DF_OK) {
		err = map(fd, &purse->page, fail);
		if (err == DF_OK)
			err = take_over(purse->page, nano, fail);
		purse->fd = fd;
		if (err == DF_OK) {
			*ret_purse = purse;
			*ret_fd = fd;
			return DF_OK;
		}
		df_purse_close(&purse);
	}
	free(purse);
	return err;
}

enum df_err df_purse_map(int fd, struct df_purse **ret_purse, struct df_fail *fail)
{
	struct page *page;
	DF_TRY(map(fd, &page, fail));
	struct df_purse *purse = is_sound(page) ? calloc(1, sizeof(*purse)) : NULL;
	if (!purse) {
		enum df_err err = is_sound(page) ? DF_ERR_NOMEM : DF_ERR_CORRUPT;
		(void)munmap(page, BYTES);
		return df_fail(fail, err, "descriptor %d holds no purse: it is started by docflume itself", fd);
	}
	*purse = (struct df_purse){.page = page, .fd = -1};
	*ret_purse = purse;
	return DF_OK;
}

void df_purse_close(struct df_purse **purse)
{
	struct df_purse *p = *purse;
	*purse = NULL;
	if (!p)
		return;
	if (p->page) {
		if (p->fd >= 0)
			(void)msync(p->page, BYTES, MS_SYNC);
		(void)munmap(p->page, BYTES);
	}
	if (p->fd >= 0)
		(void)close(p->fd);
	free(p);
}

enum df_err df_purse_reserve(struct df_purse *p, double worst_usd)
{
	int64_t worst, budget = atomic_load_explicit(&p->page->budget, memory_order_relaxed);
	if (!to_nano(worst_usd, &worst))
		return DF_ERR_RANGE;
	int64_t most = budget ? budget : AMOUNT_MAX;
	int64_t old = atomic_load_explicit(&p->page->committed, memory_order_relaxed);
	do {
		if (old > most || worst > most - old)
			return DF_ERR_QUOTA;
	} while (!atomic_compare_exchange_weak(&p->page->committed, &old, old + worst));
	return DF_OK;
}

/* committed is moved first: a process that dies between the two has at worst counted too much as reserved. It never leaves its range. */
static void move(struct df_purse *p, int64_t worst, int64_t real)
{
	int64_t old = atomic_load_explicit(&p->page->committed, memory_order_relaxed), next;
	do {
		next = old - worst + real;
		next = next < 0 ? 0 : next > AMOUNT_MAX ? AMOUNT_MAX : next;
	} while (!atomic_compare_exchange_weak(&p->page->committed, &old, next));
	old = atomic_load_explicit(&p->page->spent, memory_order_relaxed);
	do {
		next = old + real > AMOUNT_MAX ? AMOUNT_MAX : old + real;
	} while (!atomic_compare_exchange_weak(&p->page->spent, &old, next));
}

void df_purse_settle(struct df_purse *p, double worst_usd, double real_usd)
{
	int64_t worst;
	if (!to_nano(worst_usd, &worst))
		worst = 0; /* it was refused: nothing of it is reserved */
	move(p, worst, real_nano(real_usd, worst));
	atomic_fetch_add_explicit(&p->page->calls, 1, memory_order_relaxed);
}

void df_purse_cancel(struct df_purse *p, double worst_usd)
{
	int64_t worst;
	if (to_nano(worst_usd, &worst))
		move(p, worst, 0);
}

void df_purse_unpriced(struct df_purse *p)
{
	atomic_fetch_add_explicit(&p->page->unpriced, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->page->calls, 1, memory_order_relaxed);
}

struct df_purse_view df_purse_look(const struct df_purse *p)
{
	int64_t spent = atomic_load(&p->page->spent), committed = atomic_load(&p->page->committed);
	if (spent > committed) /* a process of an earlier life settled what was taken over as spent */
		spent = committed;
	return (struct df_purse_view){
		.budget = (double)atomic_load(&p->page->budget) / NANO,
		.spent = (double)spent / NANO,
		.reserved = committed > spent ? (double)(committed - spent) / NANO : 0,
		.calls = atomic_load(&p->page->calls),
		.unpriced = atomic_load(&p->page->unpriced),
	};
}
