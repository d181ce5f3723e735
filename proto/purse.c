// SPDX-License-Identifier: Apache-2.0
/*
 * purse: money, shared by the processes of a run.
 *
 * DESIGN. What binds is one word, `committed`: what was spent and what is reserved together. A reservation is one compare-and-swap that never passes the
 * budget, settling one addition of the difference, so however many processes do it and wherever one is killed, committed is never less than what
 * was really paid or may yet be. `spent` is kept beside it for people; what is reserved is the difference. Opening again takes all that is
 * committed as spent: whoever had reserved it is dead and may have paid. The magic is written last, so a half-made purse is known as one.
 *
 * Who holds what: each process has a place with its number and the sum of its reservations. The sum rises before `committed` does and falls after it, so
 * what stands in no place is held by nobody; a process that is killed between the two has said too much, never too little. The parent, which
 * reaps, tells who died. A process of an earlier life (it outlived its coordinator for a moment) knows by `life` that its reservations were taken as spent.
 */
#include "proto/purse.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

#define MAGIC UINT64_C(0x6573727570666464) /* "ddfpurse" */
#define VERSION 1
#define BYTES_BEFORE 4096 /* purses without places */
#define BYTES 20480
#define OWNER_OPENER UINT64_MAX
#define NANO 1e9
#define TOLD 8                        /* things that people were told of */
#define AMOUNT_MAX (INT64_C(1) << 60) /* a thousand million dollars, in nano-dollars; nothing is above it */

struct page {
	_Atomic uint64_t magic;
	uint64_t version;
	_Atomic int64_t budget; /* 0: none */
	_Atomic int64_t committed, spent;
	_Atomic uint64_t calls, unpriced; /* purses of before have 0 there, and behind it */
	_Atomic int64_t maybe;
	_Atomic uint64_t maybe_calls, life;
	_Atomic uint64_t told[TOLD]; /* of this life */
};

struct place {
	_Atomic uint64_t owner; /* 0: free */
	_Atomic int64_t held;
};

#define HEAD_BYTES 256
#define PLACES ((BYTES - HEAD_BYTES) / sizeof(struct place))
_Static_assert(sizeof(struct page) <= HEAD_BYTES, "what must last lies in one sector");
_Static_assert(PLACES > DF_WORKERS_MAX, "each worker has a place");

struct df_purse {
	struct page *page;
	int fd; /* -1: somebody else's */
	uint64_t owner, life;
	struct place *own; /* NULL: not yet, or there is none left */
	/* what was synced last */
	int64_t synced_committed, synced_spent;
	uint64_t synced_calls;
};

static struct place *places(struct page *p)
{
	return (struct place *)(void *)((char *)p + HEAD_BYTES);
}

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
	else if (!S_ISREG(st.st_mode) || (st.st_size != 0 && st.st_size != BYTES_BEFORE && st.st_size != BYTES))
		err = df_fail(
			fail, DF_ERR_CORRUPT,
			"'purse' in the run directory is none (%lld bytes): what was spent is not known; remove it to "
			"count from what rows and run.json say",
			(long long)st.st_size);
	else if (st.st_size < BYTES && (errno = posix_fallocate(fd, 0, BYTES)) != 0)
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
			"from what rows and run.json say");
	}
	int64_t committed = atomic_load(&p->committed), spent = atomic_load(&p->spent);
	if (committed > spent) /* whoever had reserved it is dead */
		atomic_fetch_add(&p->maybe, committed - spent);
	atomic_store(&p->spent, committed);
	atomic_fetch_add(&p->life, 1);
	memset(places(p), 0, BYTES - HEAD_BYTES);
	for (int i = 0; i < TOLD; i++)
		atomic_store(&p->told[i], 0);
	if (budget) /* without one the old one holds: a run that goes on does not lose its ceiling by a forgotten option */
		atomic_store(&p->budget, budget);
	atomic_store(&p->magic, MAGIC);
	return DF_OK;
}

/* Behind the last sync of an opener's: nothing that matters has moved. */
static bool is_synced(const struct df_purse *p)
{
	return atomic_load(&p->page->committed) == p->synced_committed &&
	       atomic_load(&p->page->spent) == p->synced_spent && atomic_load(&p->page->calls) == p->synced_calls;
}

enum df_err df_purse_sync(struct df_purse *p, bool *ret_synced)
{
	bool had_to = p->fd >= 0 && !is_synced(p);
	if (ret_synced)
		*ret_synced = had_to;
	if (!had_to)
		return DF_OK;
	/* read before: what moves meanwhile is for the next time */
	int64_t committed = atomic_load(&p->page->committed), spent = atomic_load(&p->page->spent);
	uint64_t calls = atomic_load(&p->page->calls);
	if (fdatasync(p->fd) < 0)
		return DF_ERR_IO;
	p->synced_committed = committed;
	p->synced_spent = spent;
	p->synced_calls = calls;
	return DF_OK;
}

/* That there is one, and its budget, lasts before the first call. */
static enum df_err sync_first(struct df_purse *p, int dir_fd, struct df_fail *fail)
{
	p->synced_committed = -1;
	if (df_purse_sync(p, NULL) != DF_OK || fsync(dir_fd) < 0)
		return df_fail_errno(fail, "cannot sync the purse of this run");
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
		purse->owner = OWNER_OPENER;
		if (err == DF_OK)
			purse->life = atomic_load(&purse->page->life);
		if (err == DF_OK && dir_fd >= 0)
			err = sync_first(purse, dir_fd, fail);
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

enum df_err df_purse_map(int fd, uint64_t owner, struct df_purse **ret_purse, struct df_fail *fail)
{
	struct page *page;
	DF_TRY(map(fd, &page, fail));
	struct df_purse *purse = is_sound(page) ? calloc(1, sizeof(*purse)) : NULL;
	if (!purse) {
		enum df_err err = is_sound(page) ? DF_ERR_NOMEM : DF_ERR_CORRUPT;
		(void)munmap(page, BYTES);
		return df_fail(fail, err, "descriptor %d holds no purse: it is started by docflume itself", fd);
	}
	*purse = (struct df_purse){.page = page, .fd = -1, .owner = owner, .life = atomic_load(&page->life)};
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
		(void)df_purse_sync(p, NULL);
		(void)munmap(p->page, BYTES);
	}
	if (p->fd >= 0)
		(void)close(p->fd);
	free(p);
}

/* ------------------------------------------------------------------ who holds what */

static struct place *own_place(struct df_purse *p)
{
	struct place *all = places(p->page);
	for (size_t i = 0; !p->own && i < PLACES; i++) {
		uint64_t none = 0;
		if (atomic_load_explicit(&all[i].owner, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_strong(&all[i].owner, &none, p->owner))
			p->own = &all[i];
	}
	return p->own;
}

static void hold(struct df_purse *p, int64_t nano)
{
	struct place *own = own_place(p);
	if (own)
		atomic_fetch_add(&own->held, nano);
}

static void take_from_the_dead(struct page *p, struct place *of)
{
	int64_t held = atomic_exchange(&of->held, 0);
	if (held > 0) {
		atomic_fetch_add(&p->maybe, held);
		atomic_fetch_add(&p->spent, held);
	}
	atomic_store(&of->owner, 0);
}

void df_purse_died(struct df_purse *p, uint64_t owner)
{
	struct place *all = places(p->page);
	for (size_t i = 0; i < PLACES; i++) {
		if (atomic_load(&all[i].owner) == owner)
			take_from_the_dead(p->page, &all[i]);
	}
}

void df_purse_all_died(struct df_purse *p)
{
	struct place *all = places(p->page);
	for (size_t i = 0; i < PLACES; i++) {
		if (atomic_load(&all[i].owner))
			take_from_the_dead(p->page, &all[i]);
	}
}

static int64_t held_by_all(struct page *p)
{
	int64_t sum = 0;
	for (size_t i = 0; i < PLACES; i++)
		sum += atomic_load_explicit(&places(p)[i].held, memory_order_relaxed);
	return sum;
}

/* ------------------------------------------------------------------ money */

enum df_err df_purse_reserve(struct df_purse *p, double worst_usd)
{
	int64_t worst, budget = atomic_load_explicit(&p->page->budget, memory_order_relaxed);
	if (!to_nano(worst_usd, &worst))
		return DF_ERR_RANGE;
	int64_t most = budget ? budget : AMOUNT_MAX;
	int64_t old = atomic_load_explicit(&p->page->committed, memory_order_relaxed);
	if (old > most || worst > most - old || atomic_load_explicit(&p->page->life, memory_order_relaxed) != p->life)
		return DF_ERR_QUOTA; /* without anybody seeing it held; and who outlived his coordinator pays for nothing new */
	hold(p, worst);
	do {
		if (old > most || worst > most - old) {
			hold(p, -worst);
			return DF_ERR_QUOTA;
		}
	} while (!atomic_compare_exchange_weak(&p->page->committed, &old, old + worst));
	return DF_OK;
}

/* Adds within 0 .. AMOUNT_MAX. */
static void add(_Atomic int64_t *to, int64_t nano)
{
	int64_t old = atomic_load_explicit(to, memory_order_relaxed), next;
	do {
		next = old + nano;
		next = next < 0 ? 0 : next > AMOUNT_MAX ? AMOUNT_MAX : next;
	} while (!atomic_compare_exchange_weak(to, &old, next));
}

/* committed is moved first: a process that dies between has at worst counted too much as reserved. */
static void move(struct df_purse *p, int64_t worst, int64_t real, int64_t maybe)
{
	struct page *page = p->page;
	bool was_taken = atomic_load_explicit(&page->life, memory_order_relaxed) != p->life;
	add(&page->committed, real - worst);
	if (was_taken) { /* the next life took it as spent, maybe; now it is known */
		add(&page->spent, real - worst);
		add(&page->maybe, maybe - worst);
		return;
	}
	add(&page->maybe, maybe);
	add(&page->spent, real);
	hold(p, -worst);
}

void df_purse_settle_maybe(struct df_purse *p, double worst_usd, double real_usd, double maybe_usd)
{
	int64_t worst;
	if (!to_nano(worst_usd, &worst))
		worst = 0; /* it was refused: nothing of it is reserved */
	int64_t real = real_nano(real_usd, worst), maybe = real_nano(maybe_usd, real);
	move(p, worst, real, maybe < real ? maybe : real);
	if (maybe > 0)
		atomic_fetch_add_explicit(&p->page->maybe_calls, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->page->calls, 1, memory_order_relaxed);
}

void df_purse_settle(struct df_purse *p, double worst_usd, double real_usd)
{
	df_purse_settle_maybe(p, worst_usd, real_usd, 0);
}

void df_purse_cancel(struct df_purse *p, double worst_usd)
{
	int64_t worst;
	if (to_nano(worst_usd, &worst))
		move(p, worst, 0, 0);
}

void df_purse_unpriced(struct df_purse *p)
{
	atomic_fetch_add_explicit(&p->page->unpriced, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->page->calls, 1, memory_order_relaxed);
}

bool df_purse_tell(struct df_purse *p, uint64_t what, bool is)
{
	uint64_t mark = what | 1, old = mark;
	_Atomic uint64_t *at = &p->page->told[(what >> 1) % TOLD];
	if (is)
		return atomic_exchange(at, mark) != mark;
	return atomic_compare_exchange_strong(at, &old, 0);
}

bool df_purse_is_capped(const struct df_purse *p)
{
	return atomic_load_explicit(&p->page->budget, memory_order_relaxed) > 0;
}

static struct df_purse_view view(struct page *p)
{
	int64_t maybe = atomic_load(&p->maybe), spent = atomic_load(&p->spent), committed = atomic_load(&p->committed);
	if (spent > committed) /* it was read while it moved; or a process was killed between two words */
		spent = committed;
	maybe = maybe < 0 ? 0 : maybe < spent ? maybe : spent;
	return (struct df_purse_view){
		.budget = (double)atomic_load(&p->budget) / NANO,
		.spent = (double)spent / NANO,
		.reserved = (double)(committed - spent) / NANO,
		.maybe = (double)maybe / NANO,
		.calls = atomic_load(&p->calls),
		.unpriced = atomic_load(&p->unpriced),
		.maybe_calls = atomic_load(&p->maybe_calls),
	};
}

struct df_purse_view df_purse_look(const struct df_purse *p)
{
	int64_t held = held_by_all(p->page);
	struct df_purse_view v = view(p->page);
	v.held = held > 0 ? (double)held / NANO : 0;
	return v;
}

enum df_err df_purse_peek(int dir_fd, struct df_purse_view *ret_view)
{
	struct page page = {0};
	int fd = openat(dir_fd, "purse", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? DF_ERR_NOT_FOUND : DF_ERR_IO;
	ssize_t n = TEMP_FAILURE_RETRY(pread(fd, &page, sizeof(page), 0));
	(void)close(fd);
	if (n != (ssize_t)sizeof(page) || !is_sound(&page))
		return DF_ERR_CORRUPT;
	*ret_view = view(&page);
	ret_view->spent += ret_view->reserved;
	ret_view->maybe += ret_view->reserved;
	ret_view->reserved = 0;
	return DF_OK;
}

double df_purse_at_least(struct df_purse *p, double usd)
{
	int64_t known;
	if (!to_nano(usd, &known))
		return 0;
	/* others have rounded each call */
	int64_t missing = known - atomic_load(&p->page->spent), rounding = 1000 + known / 1000;
	if (missing <= rounding)
		return 0;
	add(&p->page->committed, missing);
	add(&p->page->spent, missing);
	return (double)missing / NANO;
}
