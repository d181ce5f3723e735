// SPDX-License-Identifier: Apache-2.0
/* transfer: a request's life from df_http_send to on_done: waiting, running, its time-outs, its end. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/net/http_core.h"

#define INDEX_BITS 24
#define INDEX_MASK ((UINT64_C(1) << INDEX_BITS) - 1)
_Static_assert(DF_HTTP_REQUESTS_MAX <= INDEX_MASK, "a transfer's index fits its id");

/* --- time-outs --- */

static uint64_t after(uint64_t from, uint64_t ms)
{
	return ms == 0 || ms > (DF_TIMER_NEVER - from) / DF_MS ? DF_TIMER_NEVER : from + ms * DF_MS;
}

/* When the time-out of its phase ends; the total one's is *ret_total. */
static uint64_t phase_ends(const struct df_transfer *t, uint64_t *ret_total)
{
	*ret_total = after(t->start, t->timeout.total);
	switch (t->phase) {
	case DF_HTTP_CONNECT:
		return after(t->start, t->timeout.connect);
	case DF_HTTP_FIRST_BYTE:
		return after(t->connected, t->timeout.first_byte);
	default:
		return after(t->last_byte, t->timeout.idle);
	}
}

static void on_timer(void *self);

static void set_timer(struct df_transfer *t)
{
	uint64_t total, at = phase_ends(t, &total);
	at = at < total ? at : total;
	if (t->timer && t->timer_at <= at)
		return; /* when it fires too early, it looks again */
	df_timers_unset(&t->http->loop.timers, t->timer);
	t->timer = 0;
	t->timer_at = at;
	if (at != DF_TIMER_NEVER && df_timers_set(&t->http->loop.timers, at, on_timer, t, &t->timer) != DF_OK)
		t->stopped = DF_ERR_NOMEM; /* without its time-out it must not run: its next callback ends it */
}

/* Bytes that libcurl keeps to itself (half a line, compressed ones that give nothing yet) are signs of life too. */
static bool has_moved(struct df_transfer *t)
{
	curl_off_t down = 0;
	if (!t->encoded || df_curl.easy_getinfo(t->easy, CURLINFO_SIZE_DOWNLOAD_T, &down) != CURLE_OK ||
	    down <= t->down)
		return false;
	t->down = down;
	t->last_byte = t->http->loop.now;
	return true;
}

static void on_timer(void *self)
{
	struct df_transfer *t = self;
	uint64_t total, now = t->http->loop.now, at = phase_ends(t, &total);
	t->timer = 0;
	if (total > now && (at > now || (t->phase == DF_HTTP_BODY && has_moved(t))))
		set_timer(t);
	else
		df_transfer_end(t, DF_ERR_TIMEOUT, CURLE_OPERATION_TIMEDOUT);
}

void df_transfer_phase(struct df_transfer *t, enum df_http_phase phase)
{
	t->phase = phase;
	set_timer(t);
}

/* --- transfers --- */

static enum df_err one_more(struct df_http *h)
{
	if (h->n_transfer == h->cap_transfer) {
		size_t cap = h->cap_transfer ? 2 * h->cap_transfer : 64;
		if (h->n_transfer >= DF_HTTP_REQUESTS_MAX)
			return DF_ERR_LIMIT;
		struct df_transfer **more = realloc(h->transfer, cap * sizeof(struct df_transfer *));
		if (!more)
			return DF_ERR_NOMEM;
		h->transfer = more;
		h->cap_transfer = cap;
	}
	struct df_transfer *t = calloc(1, sizeof(*t));
	if (!t)
		return DF_ERR_NOMEM;
	t->http = h;
	t->id = h->n_transfer; /* which one it is, until it has a request */
	enum df_err err = df_easy_open(t);
	if (err != DF_OK) {
		free(t);
		return err;
	}
	h->transfer[h->n_transfer++] = t;
	t->next = h->free;
	h->free = t;
	return DF_OK;
}

static void give_back_buf(struct df_buf *b)
{
	if (b->cap > DF_HTTP_KEEP_BYTES)
		df_buf_release(b);
	df_buf_reset(b);
}

/* Everything of its request is wiped: keys are among it. */
static void wipe(struct df_transfer *t)
{
	if (t->block)
		explicit_bzero(t->block, t->n_block);
	free(t->block);
	t->block = NULL;
	t->url = t->method = NULL;
	t->header = NULL;
	t->up = (struct df_str){NULL, 0};
	give_back_buf(&t->head);
	give_back_buf(&t->body);
}

static void leave_multi(struct df_transfer *t)
{
	if (t->in_multi) {
		(void)df_curl.multi_remove_handle(t->shard->multi, t->easy);
		t->shard->n_flight--;
	}
	t->in_multi = false;
}

/* To the free ones. Its id keeps the index alone. */
static void recycle(struct df_transfer *t)
{
	leave_multi(t);
	wipe(t);
	t->state = DF_TRANSFER_FREE;
	t->next = t->http->free;
	t->http->free = t;
}

void df_transfers_free(struct df_http *h)
{
	for (size_t i = 0; i < h->n_transfer; i++) {
		struct df_transfer *t = h->transfer[i];
		leave_multi(t);
		wipe(t);
		df_curl.easy_cleanup(t->easy);
		df_buf_release(&t->head);
		df_buf_release(&t->body);
		free(t);
	}
	free(h->transfer);
	h->transfer = NULL;
	h->n_transfer = 0;
}

/* --- its life --- */

/* Its own for life, so that it finds the connection that it used last; the front where one connection may do for many, or is not known not to. */
static struct df_shard *shard_for(const struct df_transfer *t)
{
	struct df_http *h = t->http;
	bool front = t->tls && t->host && (t->host->newer || !t->host->known_until);
	return &h->shard[front ? h->n_shard : (t->id & INDEX_MASK) / DF_HTTP_SHARE % h->n_shard];
}

/* When an HTTP/2 connection has all the requests that it may have, libcurl opens one more for each further request, however many come at once: so
 * a host may have only as many as are needed if each takes DF_HTTP_STREAMS. */
static CURLMcode enter_multi(struct df_transfer *t)
{
	struct df_shard *s = t->shard;
	long of_host = ++s->n_flight / DF_HTTP_STREAMS + 1;
	t->in_multi = true;
	if (s == &t->http->shard[t->http->n_shard] && of_host > s->of_host) {
		s->of_host = of_host;
		(void)df_curl.multi_setopt(s->multi, CURLMOPT_MAX_HOST_CONNECTIONS, of_host);
	}
	return df_curl.multi_add_handle(s->multi, t->easy);
}

static void start(struct df_transfer *t)
{
	t->state = DF_TRANSFER_RUNS;
	t->shard = shard_for(t);
	CURLcode code = df_http_shard_open(t->shard) == DF_OK ? df_easy_prepare(t) : CURLE_OUT_OF_MEMORY;
	if (code == CURLE_OK && enter_multi(t) != CURLM_OK)
		code = CURLE_OUT_OF_MEMORY;
	if (code != CURLE_OK)
		df_transfer_end(t, DF_ERR_NOMEM, code);
}

void df_transfer_begin(struct df_transfer *t)
{
	t->state = DF_TRANSFER_QUEUED;
	df_line_add(&t->http->queue, t);
}

void df_transfers_settle(struct df_http *h)
{
	struct df_transfer *t;
	DF_ASSERT(!h->in_curl);
	while ((t = h->over.first)) {
		h->over.first = t->next;
		recycle(t);
	}
	while ((t = h->queue.first)) {
		h->queue.first = t->next;
		if (t->state == DF_TRANSFER_QUEUED)
			start(t);
		else
			recycle(t); /* it ended in the queue */
	}
}

static void count(struct df_http *h, const struct df_http_response *r)
{
	atomic_fetch_sub_explicit(&h->n_flight, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->up, r->bytes_up, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->down, r->bytes_down, memory_order_relaxed);
}

static void end(struct df_transfer *t, enum df_err err, CURLcode code, const char *why)
{
	struct df_http *h = t->http;
	struct df_http_response r;
	bool queued = t->state == DF_TRANSFER_QUEUED, waits = t->state == DF_TRANSFER_WAITS;
	DF_ASSERT(t->state != DF_TRANSFER_FREE && t->state != DF_TRANSFER_OVER);
	df_timers_unset(&h->loop.timers, t->timer);
	t->timer = 0;
	df_answer_fill(t, err, code, why, &r);
	t->state = DF_TRANSFER_OVER;
	t->id &= INDEX_MASK;
	if (!h->in_curl)
		leave_multi(t);
	df_host_leave(t, code);
	count(h, &r);
	t->on_done(t->self, &r);
	if (h->in_curl && !queued && !waits)
		df_line_add(&h->over, t);
	else if (!queued)
		recycle(t);
}

void df_transfer_end(struct df_transfer *t, enum df_err err, CURLcode code)
{
	end(t, err, code, NULL);
}

/* Its server may have had all of it, though sending ended in an error. */
static bool went_whole(const struct df_transfer *t)
{
	curl_off_t sent = 0;
	return df_curl.easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent) != CURLE_OK || (uint64_t)sent >= t->up.n;
}

void df_transfer_finished(struct df_transfer *t, CURLcode code)
{
	/* libcurl itself repeats what an old connection swallowed, also a body that a reset cut (that is an error in receiving); its source repeats no error in
	 * sending once a transfer is under way. */
	long fresh = 1;
	if (code == CURLE_SEND_ERROR && t->n_head == 0 && !t->again && !(t->no_repeat && went_whole(t)) &&
	    df_curl.easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &fresh) == CURLE_OK && fresh == 0) {
		t->again = true;
		leave_multi(t);
		start(t);
		return;
	}
	end(t, df_answer_class(t, code), code, NULL);
}

void df_transfers_cancel(struct df_http *h, enum df_err err, const char *why)
{
	for (size_t i = 0; i < h->n_transfer; i++) {
		struct df_transfer *t = h->transfer[i];
		if (t->state != DF_TRANSFER_FREE && t->state != DF_TRANSFER_OVER)
			end(t, err, CURLE_ABORTED_BY_CALLBACK, why);
	}
}

void df_http_cancel(struct df_http *http, uint64_t id)
{
	uint64_t index = id & INDEX_MASK;
	if (id > INDEX_MASK && index < http->n_transfer && http->transfer[index]->id == id)
		end(http->transfer[index], DF_ERR_INTERRUPTED, CURLE_ABORTED_BY_CALLBACK, "cancelled");
}

/* Forgets the request before. */
static void set_up(struct df_transfer *t, const struct df_http_request *r)
{
	t->timeout = r->timeout;
	t->body_max = r->body_max ? r->body_max : DF_HTTP_BODY_MAX;
	t->once = r->once;
	t->no_repeat = r->no_repeat;
	t->read_body = r->read_body;
	t->body_size = r->body_size;
	t->on_data = r->on_data;
	t->on_done = r->on_done;
	t->self = r->self;
	t->start = df_clock_mono(&df_clock_real);
	t->connected = t->first_byte = t->last_byte = 0;
	t->phase = DF_HTTP_CONNECT;
	t->host = NULL;
	t->leads = t->again = false;
	t->n_head = t->n_body = 0;
	t->down = 0;
	t->status = 0;
	t->head_whole = t->framed = t->encoded = t->newer = false;
	t->stopped = DF_OK;
	t->error[0] = '\0';
	t->body.max = t->body_max < SIZE_MAX ? t->body_max : SIZE_MAX;
}

static enum df_err refuse(struct df_http *h, const struct df_http_request *r, struct df_fail *fail)
{
	if (h->closing)
		return df_fail(fail, DF_ERR_CLOSED, "the network thread is ending");
	if (h->broken != DF_OK)
		return df_fail(fail, h->broken, "the network thread ran out of memory for connections");
	if (!df_url_origin(r->url).n)
		return df_fail(fail, DF_ERR_USAGE, "a URL must begin with http:// or https:// and name a host");
	if (!h->free && one_more(h) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for one more request beside %zu", h->n_transfer);
	return DF_OK;
}

enum df_err df_http_send(struct df_http *http, const struct df_http_request *request, uint64_t *ret_id,
			 struct df_fail *fail)
{
	DF_TRY(refuse(http, request, fail));
	struct df_transfer *t = http->free;
	DF_TRY(df_easy_pack(t, request, fail));
	set_up(t, request);
	set_timer(t);
	if (t->stopped != DF_OK) {
		wipe(t);
		return df_fail(fail, t->stopped, "no memory for a timer");
	}
	http->free = t->next;
	http->last_id = ((http->last_id >> INDEX_BITS) + 1) << INDEX_BITS;
	t->id |= http->last_id;
	atomic_fetch_add_explicit(&http->n_request, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&http->n_flight, 1, memory_order_relaxed);
	if (df_host_enter(t))
		df_transfer_begin(t);
	*ret_id = t->id;
	return DF_OK;
}
