// SPDX-License-Identifier: Apache-2.0
/* fault: which fault a request has, and what it does to the reply. */
#include "tests/api/serve.h"

uint64_t job_tries(struct job *j)
{
	const struct account *a = &j->c->account;
	if (a->n_text == 0)
		return 1;
	struct stats *st = &j->s->stats;
	size_t i = a->text[0] & (st->cap_text - 1);
	while (st->text[i].hash != a->text[0])
		i = (i + 1) & (st->cap_text - 1);
	return st->text[i].requests;
}

struct fault fault_draw(struct job *j)
{
	const struct faults *f = &j->p->o.faults;
	struct fault none = {FAULT_NONE, 0, WHEN_CHANCE, 0, 0};
	double draw = f->n > 0 ? random_unit(&j->p->random) : 1;
	if (j->p->o.fault_model[0] && !span_is(j->s->ask.model, j->p->o.fault_model))
		return none;
	for (size_t i = 0; i < f->n; i++) {
		const struct fault *one = &f->fault[i];
		bool now = one->when == WHEN_CHANCE  ? draw < one->p
			   : one->when == WHEN_NTH   ? j->p->n_request == one->n
			   : one->when == WHEN_EVERY ? one->n > 0 && j->p->n_request % one->n == 0
						     : job_tries(j) <= one->n;
		if (now)
			return *one;
		if (one->when == WHEN_CHANCE)
			draw -= one->p;
	}
	return none;
}

bool fault_instead(struct job *j, const struct fault *f, uint64_t at_ns)
{
	struct reply *reply = &j->c->reply;
	uint64_t error_at = j->s->now_ns + spread_draw(&j->p->o.error_delay, &j->p->random);
	switch (f->kind) {
	case FAULT_STATUS:
		if (j->p->o.fault_retry_ms >= 0)
			j->c->account.retry_ns =
				headers_retry(&j->extra, &j->p->o, j->api, (uint64_t)(j->p->o.fault_retry_ms * 1e6),
					      j->s->now_ns + j->s->wall_minus_mono_ns);
		job_error(j, f->status, f->status == 429 ? "rate_limit_exceeded" : NULL,
			  "This is a fault as it was asked for");
		return true;
	case FAULT_QUOTA:
		job_error(j, 429, "insufficient_quota",
			  "You exceeded your current quota, please check your plan and billing details.");
		return true;
	case FAULT_RESET:
	case FAULT_CLOSE:
		reply_mark(reply, error_at, 0);
		reply->end = f->kind == FAULT_RESET ? END_RESET : END_CLOSE;
		return true;
	case FAULT_STALL:
		reply->end = END_HOLD;
		return true;
	case FAULT_EMPTY:
		job_body(j, 200, "application/json", (struct span){"", 0}, at_ns);
		return true;
	case FAULT_WRONG:
		job_body(j, 200, "application/json", span_of("{\"hello\":\"world\"}"), at_ns);
		return true;
	case FAULT_HTML:
		job_body(j, 200, "text/html", span_of("<!DOCTYPE html><html><body><h1>Welcome</h1></body></html>"),
			 at_ns);
		return true;
	default:
		return false;
	}
}

#define FILL (64U << 10)

bool fault_endless(struct job *j, const struct fault *f, uint64_t at_ns)
{
	static char zeros[FILL + 16], letters[FILL + 16];
	static size_t n_chunk;
	struct reply *reply = &j->c->reply;
	uint64_t size = (uint64_t)(j->p->o.endless_mb * 1048576);
	if (f->kind != FAULT_GZIPBOMB && f->kind != FAULT_ENDLESS && f->kind != FAULT_HUGE)
		return false;
	if (n_chunk == 0) {
		n_chunk = (size_t)snprintf(letters, 16, "%x\r\n", FILL);
		memcpy(zeros, letters, n_chunk);
		memset(letters + n_chunk, 'a', FILL);
		memcpy(letters + n_chunk + FILL, "\r\n", 2);
		memcpy(zeros + n_chunk + FILL, "\r\n", 2);
	}
	bool chunked = f->kind != FAULT_HUGE, bomb = f->kind == FAULT_GZIPBOMB;
	struct bytes start = {0};
	if (bomb)
		gzip_bomb_head(&start);
	else
		bytes_str(&start, "{\"id\":\"");
	http_head(&reply->out, 200, "application/json", bomb ? "Content-Encoding: gzip\r\n" : "",
		  chunked ? SIZE_MAX : size, false);
	if (chunked)
		bytes_fmt(&reply->out, "%zx\r\n", start.n);
	bytes_add(&reply->out, start.p, start.n);
	if (chunked)
		bytes_str(&reply->out, "\r\n");
	reply_mark(reply, at_ns, 0);
	reply->fill = chunked ? (struct span){bomb ? zeros : letters, n_chunk + FILL + 2}
			      : (struct span){letters + n_chunk, FILL};
	reply->more = chunked ? (bomb ? size / 1032 : size) / FILL * reply->fill.n : size - start.n;
	if (bomb && reply->more == 0)
		reply->more = reply->fill.n;
	reply->end = END_CLOSE;
	j->c->account.status = 200;
	bytes_free(&start);
	return true;
}

/* Shortens what is there to n bytes. */
static void truncate_reply(struct reply *r, size_t n, enum reply_end end)
{
	size_t kept = 0;
	while (kept < r->n_mark && r->mark[kept].end < n)
		kept++;
	if (kept < r->n_mark)
		r->mark[kept++].end = n;
	r->n_mark = kept;
	r->out.n = n;
	r->end = end;
}

void fault_behind(struct job *j, const struct fault *f)
{
	struct reply *r = &j->c->reply;
	const char *end = memmem(r->out.p, r->out.n, "\r\n\r\n", 4);
	size_t n_head = (size_t)(end - r->out.p) + 4, half = n_head + (r->out.n - n_head) / 2;
	switch (f->kind) {
	case FAULT_CUTHEAD:
		truncate_reply(r, 30, END_CLOSE);
		break;
	case FAULT_CUT:
		truncate_reply(r, half, END_CLOSE);
		break;
	case FAULT_CUTRESET:
		truncate_reply(r, half, END_RESET);
		break;
	case FAULT_STALLBODY:
		truncate_reply(r, half, END_HOLD);
		break;
	case FAULT_SLOW:
		j->c->slow_ns = (uint64_t)(j->p->o.slow_ms * 1e6);
		break;
	default:
		break;
	}
}
