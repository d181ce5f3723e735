// SPDX-License-Identifier: Apache-2.0
/*
 * trace_export: a trace in the forms that other programs and people read.
 *
 * Chrome: the JSON of chrome://tracing, which Perfetto loads too: complete events, microseconds from the trace's start, a process per worker, and
 * as many lanes (threads) in it as spans overlapped, so that whatever lies above another in a lane contains it.
 * OTLP: OpenTelemetry's JSON over HTTP (OTLP 1.x, /v1/traces): ids in hex, nanoseconds as strings, attributes by the semantic conventions for
 * generative AI (gen_ai.*), what they have no word for as docflume.*.
 */
#ifndef DF_WORKER_TRACE_TRACE_EXPORT_H
#define DF_WORKER_TRACE_TRACE_EXPORT_H

#include "base/buf.h"
#include "worker/trace/trace_read.h"

/* To a descriptor. Numbers the nodes' lanes. */
enum df_err df_trace_chrome(struct df_trace_tree *t, int fd, struct df_fail *fail) DF_MUST_CHECK;

/* The body of one request: nodes [first, first + n). */
enum df_err df_trace_otlp(struct df_trace_tree *t, size_t first, size_t n, struct df_buf *out) DF_MUST_CHECK;

struct df_trace_sent {
	char to[512]; /* the address without a user's name, password or query: fit for people */
	uint64_t spans, requests, retries;
	uint64_t rejected; /* by the receiver, which took the rest; its words, also without any: */
	char message[256];
};

/* How long is waited for a receiver. What is not sent is in the trace, and can be sent again. */
struct df_trace_patience {
	uint64_t
		quiet_ms; /* without a request that it took; OTEL_EXPORTER_OTLP_TIMEOUT (ms), where it is set, in place of it */
	uint64_t total_ms; /* in all; 0: as long as requests are taken */
};

/*
 * All spans of the run in `path` (a run directory, or a trace) to URL by OTLP/HTTP JSON; "/v1/traces" is added to a URL that does not end so and has no query. Requests of
 * DF_TRACE_BATCH spans, one after the other; 429, 502, 503, 504 and what the network does are tried again (Retry-After is a floor), DF_TRACE_EXPORT_ATTEMPTS
 * in all, within the patience; a receiver that cannot even be reached is given up after DF_TRACE_UNREACHABLE_MS. Headers of OTEL_EXPORTER_OTLP_HEADERS
 * ("name=value,name=value", values percent-encoded) are sent and never told. Ids are the run's own, so a second export brings the same spans. Waits;
 * at most DF_TRACE_EXPORT_MS for each request. SIGINT, SIGTERM, SIGHUP and SIGQUIT end it at once (DF_ERR_INTERRUPTED); they are blocked meanwhile. ret_sent may
 * be NULL. Errors as df_trace_load's; DF_ERR_USAGE (no such URL, one with a password, bad headers), DF_ERR_IO, DF_ERR_TIMEOUT, DF_ERR_CLOSED (the receiver
 * cannot be reached), DF_ERR_UNSUPPORTED (it refused, with its status).
 */
enum df_err df_trace_export(const char *path, const char *url, const struct df_trace_patience *patience,
			    struct df_trace_sent *ret_sent, struct df_fail *fail) DF_MUST_CHECK;
/* Whether URL and environment are such that something can be sent: before work is paid whose trace goes there. DF_ERR_USAGE. */
enum df_err df_trace_export_check(const char *url, struct df_fail *fail) DF_MUST_CHECK;

/* A table for people: calls by model and outcome: how many, latency, queue, tokens, money. `path` and errors as of df_trace_load, whose tree it does not need. */
enum df_err df_trace_summary(const char *path, struct df_buf *out, struct df_fail *fail) DF_MUST_CHECK;

#endif
