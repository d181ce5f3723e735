// SPDX-License-Identifier: Apache-2.0
/* status: one JSON object, written beside and renamed over. */
#include "coordinator/show/status.h"

#include <fcntl.h>
#include <math.h>

#include "base/json.h"

#define NEW_NAME DF_STATUS_NAME ".new"

static void add_name(struct df_buf *b, const char *name)
{
	(void)df_buf_addf(b, ",\"%s\":", name);
}

static void add_u64(struct df_buf *b, const char *name, uint64_t v)
{
	(void)df_buf_addf(b, ",\"%s\":%llu", name, (unsigned long long)v);
}

static void add_real(struct df_buf *b, const char *name, double v)
{
	(void)df_buf_addf(b, ",\"%s\":%.3f", name, v);
}

static void add_text(struct df_buf *b, const char *name, struct df_str s)
{
	add_name(b, name);
	(void)df_json_add_string(b, s);
}

const char *df_calls_wait_words(enum df_calls_wait wait)
{
	static const char *const words[DF_N_WAIT] = {
		[DF_WAIT_ROOM] = "room (concurrency)",
		[DF_WAIT_LIMIT] = "a limit of requests or tokens",
		[DF_WAIT_MONEY] = "money that other calls have reserved",
		[DF_WAIT_SERVER] = "a server that fails or is silent",
		[DF_WAIT_AGAIN] = "another try after an error",
	};
	return wait < DF_N_WAIT ? words[wait] : NULL;
}

const char *df_calls_wait_word(enum df_calls_wait wait)
{
	static const char *const word[DF_N_WAIT] = {
		[DF_WAIT_LIMIT] = "rate limit",
		[DF_WAIT_MONEY] = "budget",
		[DF_WAIT_SERVER] = "server fails",
		[DF_WAIT_AGAIN] = "to be retried",
	};
	return wait < DF_N_WAIT ? word[wait] : NULL;
}

static void add_child(struct df_buf *b, const struct df_child_status *c)
{
	(void)df_buf_addf(b, "{\"role\":\"%s\"", c->role == DF_ROLE_READER ? "reader" : "worker");
	add_u64(b, "number", c->number);
	add_u64(b, "pid", c->pid);
	add_u64(b, "memory_bytes", c->memory_bytes);
	add_u64(b, "calls_out", c->calls_out);
	add_u64(b, "calls_in_flight", c->calls_sent);
	const char *wait = c->calls_out > c->calls_sent ? df_calls_wait_words(c->calls_wait) : NULL;
	if (wait) {
		add_text(b, "waits_for", df_str_from(wait));
		add_real(b, "waits_seconds", c->calls_wait_seconds);
	}
	add_name(b, "in_work");
	if (!c->computing) {
		(void)df_buf_addz(b, "null}");
		return;
	}
	(void)df_buf_addz(b, "{\"source\":");
	(void)df_json_add_string(b, c->source);
	add_u64(b, "offset", c->offset);
	add_u64(b, "records", c->n_record);
	add_text(b, "stage", c->stage);
	add_real(b, "seconds", c->seconds);
	(void)df_buf_addz(b, "}}");
}

static void add_slow(struct df_buf *b, const struct df_slow_status *s)
{
	(void)df_buf_addz(b, "{\"source\":");
	(void)df_json_add_string(b, s->source);
	add_u64(b, "offset", s->offset);
	add_u64(b, "bytes", s->bytes);
	add_real(b, "seconds", s->seconds);
	(void)df_buf_addc(b, '}');
}

/* Nano-dollars are what the purse counts in. */
static void add_usd(struct df_buf *b, const char *name, double usd)
{
	if (isnan(usd))
		(void)df_buf_addf(b, ",\"%s\":null", name);
	else
		(void)df_buf_addf(b, ",\"%s\":%.9f", name, usd);
}

void df_status_add_costs(const struct df_costs *c, struct df_buf *b)
{
	if (!c->known)
		return;
	(void)df_buf_addf(b, ",\"costs\":{\"calls\":%llu,\"unpriced_calls\":%llu", (unsigned long long)c->calls,
			  (unsigned long long)c->unpriced);
	add_usd(b, "usd_spent", c->spent);
	add_usd(b, "usd_maybe_paid", c->maybe);
	add_usd(b, "usd_reserved", c->reserved);
	add_usd(b, "usd_projected", c->projected);
	add_usd(b, "usd_budget", c->budget > 0 ? c->budget : NAN);
	(void)df_buf_addc(b, '}');
}

enum df_err df_status_format(const struct df_status *s, struct df_buf *b)
{
	(void)df_buf_addf(b, "{\"format_version\":%d", DF_STATUS_VERSION);
	add_u64(b, "pid", s->pid);
	add_u64(b, "epoch", s->epoch);
	add_real(b, "unix_time", (double)s->wall_ns / 1e9);
	add_real(b, "elapsed_seconds", s->elapsed_seconds);
	add_u64(b, "bytes_total", s->bytes_total);
	add_u64(b, "bytes_done", s->bytes_done);
	add_real(b, "documents_per_second", s->docs_per_second);
	add_real(b, "bytes_per_second", s->bytes_per_second);
	add_u64(b, "documents", s->docs);
	add_u64(b, "deaths", s->deaths);
	add_u64(b, "strikes", s->strikes);
	add_u64(b, "poisoned", s->poisoned);
	add_u64(b, "leases_redone", s->redone);
	add_u64(b, "source_errors", s->source_errors);
	df_status_add_costs(&s->costs, b);
	(void)df_buf_addz(b, ",\"processes\":[");
	for (size_t i = 0; i < s->n_child; i++) {
		(void)df_buf_addz(b, i ? ",\n" : "\n");
		add_child(b, &s->child[i]);
	}
	(void)df_buf_addz(b, "],\"slowest\":[");
	for (size_t i = 0; i < s->n_slow; i++) {
		(void)df_buf_addz(b, i ? ",\n" : "\n");
		add_slow(b, &s->slow[i]);
	}
	(void)df_buf_addz(b, "]}\n");
	return df_buf_err(b);
}

static int put(const struct df_io *io, int dirfd, struct df_str text)
{
	int fd = io->open(io->self, dirfd, NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0666);
	if (fd < 0)
		return -1;
	struct iovec iov = {(void *)(uintptr_t)text.p, text.n};
	int r = io->write_all(io->self, fd, &iov, 1, 0);
	(void)io->close(io->self, fd);
	return r < 0 ? -1 : io->rename_over(io->self, dirfd, NEW_NAME, DF_STATUS_NAME);
}

enum df_err df_status_write(const struct df_io *io, int dirfd, const struct df_status *s)
{
	struct df_buf b;
	df_buf_init(&b, DF_STATUS_BYTES_MAX);
	enum df_err err = df_status_format(s, &b);
	if (err == DF_OK && put(io, dirfd, df_buf_str(&b)) < 0)
		err = DF_ERR_IO;
	df_buf_release(&b);
	return err;
}

void df_status_remove(const struct df_io *io, int dirfd)
{
	(void)io->unlink(io->self, dirfd, NEW_NAME);
	(void)io->unlink(io->self, dirfd, DF_STATUS_NAME);
}
