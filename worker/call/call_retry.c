// SPDX-License-Identifier: Apache-2.0
/* call_retry: back-off, quota of retries, breaker, and the table of what follows which answer. */
#include "worker/call/call_retry.h"

#include "base/clock.h"
#include "base/limits.h"

const struct df_retry_options df_retry_defaults = {
	.base_ms = 250,
	.cap_ms = 8000,
	.attempts = 5,
	.cool_down_ms = 30000,
	.hedge_ms = 0,
	.timeout = {.connect = 10000, .first_byte = 120000, .idle = 60000, .total = 600000},
};

uint64_t df_backoff_ns(const struct df_retry_options *o, uint32_t n, uint64_t random, int64_t retry_after_ms)
{
	uint32_t doublings = n ? n - 1 : 0;
	uint64_t top_ms = o->cap_ms;
	if (doublings < 32 && o->base_ms <= (o->cap_ms >> doublings))
		top_ms = o->base_ms << doublings;
	uint64_t wait_ns = (uint64_t)((double)(random >> 11) * 0x1p-53 * (double)(top_ms * DF_MS));
	uint64_t floor_ns = retry_after_ms > 0 ? (uint64_t)retry_after_ms * DF_MS : 0;
	return wait_ns > floor_ns ? wait_ns : floor_ns;
}

void df_retry_quota_init(struct df_retry_quota *q)
{
	q->left = DF_RETRY_QUOTA;
}

bool df_retry_quota_take(struct df_retry_quota *q, uint32_t cost)
{
	if (q->left < cost)
		return false;
	q->left -= cost;
	return true;
}

void df_retry_quota_give(struct df_retry_quota *q, uint32_t n)
{
	uint32_t room = DF_RETRY_QUOTA - q->left;
	q->left += n < room ? n : room;
}

uint32_t df_retry_cost(bool was_timeout)
{
	return was_timeout ? DF_RETRY_COST_TIMEOUT : DF_RETRY_COST;
}

uint64_t df_breaker_wait(const struct df_breaker *b, uint64_t now_ns)
{
	if (!b->open)
		return 0;
	if (b->probing)
		return DF_BREAKER_PROBE;
	return now_ns >= b->until_ns ? 0 : b->until_ns;
}

bool df_breaker_sent(struct df_breaker *b)
{
	b->probing = b->open;
	return b->open;
}

void df_breaker_good(struct df_breaker *b)
{
	*b = (struct df_breaker){0};
}

void df_breaker_bad(struct df_breaker *b, uint64_t now_ns, bool was_probe)
{
	if (b->open && !was_probe)
		return; /* it was sent before the breaker opened and tells nothing new */
	if (!b->failures++)
		b->bad_ns = now_ns;
	if (!was_probe && b->failures < (b->unknown ? DF_BREAKER_UNKNOWN_FAILURES : DF_BREAKER_FAILURES))
		return;
	b->pause_ns = b->pause_ns ? b->pause_ns * 2 : DF_BREAKER_PAUSE_MS * DF_MS;
	if (b->pause_ns > DF_BREAKER_PAUSE_MAX_MS * DF_MS)
		b->pause_ns = DF_BREAKER_PAUSE_MAX_MS * DF_MS;
	if (!b->open)
		b->since_ns = now_ns;
	b->open = true;
	b->probing = false;
	b->until_ns = now_ns + b->pause_ns;
}

bool df_breaker_hopeless(const struct df_breaker *b, uint64_t now_ns)
{
	uint64_t patience_ms = b->unknown ? DF_BREAKER_UNKNOWN_PATIENCE_MS : DF_BREAKER_PATIENCE_MS;
	return b->open && now_ns >= b->since_ns + patience_ms * DF_MS;
}

uint64_t df_breakers_wait(const struct df_breaker *host, const struct df_breaker *route, uint64_t now_ns)
{
	uint64_t a = df_breaker_wait(host, now_ns), b = df_breaker_wait(route, now_ns);
	return a > b ? a : b; /* DF_BREAKER_PROBE is the largest */
}

void df_breaker_lost(struct df_breaker *b)
{
	b->probing = false;
}

static enum df_next again(const struct df_retry_options *o, const struct df_attempt_facts *f)
{
	if (f->status == 408 || f->status == 409 || f->status == 425)
		return f->once_used ? DF_NEXT_FAIL : DF_NEXT_WAIT;
	uint32_t most = f->host_good ? 2 * o->attempts : o->attempts;
	return f->attempts < most ? DF_NEXT_WAIT : DF_NEXT_FALLBACK;
}

enum df_next df_next_after(const struct df_retry_options *o, const struct df_attempt_facts *f)
{
	enum df_next next = DF_NEXT_FAIL;
	switch (f->class) {
	case DF_CALL_OK:
		return DF_NEXT_DONE;
	case DF_CALL_RETRY:
	case DF_CALL_BAD_ANSWER:
		next = again(o, f);
		break;
	case DF_CALL_RATE:
		next = f->rates <= DF_RATE_ANSWERS_MAX && !f->rates_alone ? DF_NEXT_RESERVE : DF_NEXT_FALLBACK;
		break;
	case DF_CALL_QUOTA:
	case DF_CALL_AUTH:
	case DF_CALL_NOT_FOUND:
		next = DF_NEXT_OVER;
		break;
	case DF_CALL_BAD_INPUT:
		return f->n_input > 1 ? DF_NEXT_CUT : DF_NEXT_FAIL;
	case DF_N_CALL_CLASS:
		break;
	}
	/* What is over is over for all; but this call's text was shown, so that nothing may follow it. */
	return f->text_passed && next != DF_NEXT_OVER ? DF_NEXT_FAIL : next;
}

enum df_blame df_blame_of(long status, enum df_err err)
{
	if (err == DF_ERR_INTERRUPTED || err == DF_ERR_LIMIT || (status < 500 && err == DF_OK))
		return DF_BLAME_NOBODY;
	return status ? DF_BLAME_ROUTE : DF_BLAME_HOST;
}

enum df_err df_call_err(enum df_call_class class, enum df_err http_err)
{
	switch (class) {
	case DF_CALL_OK:
		return DF_OK;
	case DF_CALL_RETRY:
		return http_err != DF_OK ? http_err : DF_ERR_CLOSED;
	case DF_CALL_RATE:
		return DF_ERR_LIMIT;
	case DF_CALL_QUOTA:
		return DF_ERR_QUOTA;
	case DF_CALL_AUTH:
	case DF_CALL_NOT_FOUND:
		return DF_ERR_USAGE;
	case DF_CALL_BAD_INPUT:
		return DF_ERR_RANGE;
	case DF_CALL_BAD_ANSWER:
	case DF_N_CALL_CLASS:
		break;
	}
	return http_err != DF_OK ? http_err : DF_ERR_PARSE;
}
