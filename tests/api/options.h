// SPDX-License-Identifier: Apache-2.0
/*
 * options: how the server behaves. The same words everywhere:
 *   command line   api_server --rpm=600 --faults=429:0.05
 *   path           base URL http://127.0.0.1:P/rpm=600,delay=3000/v1: any segments with a '=' before the API's own path
 *   header         x-api-test: rpm=600,delay=3000
 * A path's and a header's are laid over the command line's. Each combination of path, header and API key is one `profile` with its own
 * limits, counts and random numbers. `api_server --help` prints the table in options.c.
 *
 * Times are milliseconds and may be `X` (always), `A..B` (uniform) or `M~S` (log-normal, median M, sigma S).
 *
 * faults=KIND:P+KIND@N+KIND*N+KIND~K    with probability P; the N-th request of the profile; every N-th; the first K requests of each text.
 * KIND is a status (429, 500, 503, 529, 408, 409, 400, 404, ...) or a name of enum fault_kind, see fault_names in options.c.
 */
#ifndef DF_TESTS_API_OPTIONS_H
#define DF_TESTS_API_OPTIONS_H

#include "tests/api/bytes.h"

struct spread {
	double low, high; /* high > low: uniform */
	double sigma;     /* > 0: log-normal around low */
};

enum fault_kind {
	FAULT_NONE,
	FAULT_STATUS,
	FAULT_QUOTA,       /* 429 insufficient_quota */
	FAULT_RESET,       /* RST instead of an answer */
	FAULT_CLOSE,       /* end of file instead of an answer */
	FAULT_CUTHEAD,     /* end of file inside the headers */
	FAULT_CUT,         /* end of file in the middle of the body */
	FAULT_CUTRESET,    /* RST in the middle of the body */
	FAULT_STALL,       /* silence before the headers */
	FAULT_STALLBODY,   /* silence in the middle of the body */
	FAULT_SLOW,        /* one byte each slow_ms */
	FAULT_BADJSON,     /* half of the JSON, as a whole body */
	FAULT_EMPTY,       /* 200, no body */
	FAULT_WRONG,       /* 200, {"hello":"world"} */
	FAULT_FEWER,       /* the last vector is missing */
	FAULT_HTML,        /* 200, a page of HTML */
	FAULT_TYPE,        /* the right body as text/plain */
	FAULT_GZIPBOMB,    /* endless_mb of spaces, packed 1000 : 1 */
	FAULT_ENDLESS,     /* endless_mb of a JSON string, chunked */
	FAULT_HUGE,        /* the same, by Content-Length */
	FAULT_BADSSE,      /* a stream's event that is no JSON */
	FAULT_STREAMCUT,   /* a stream that ends properly, before its end event */
	FAULT_STREAMCLOSE, /* a stream whose connection is closed before */
	FAULT_STREAMERROR, /* a stream with an error event instead of its second half */
	FAULT_N
};

enum fault_when { WHEN_CHANCE, WHEN_NTH, WHEN_EVERY, WHEN_FIRST };

struct fault {
	enum fault_kind kind;
	int status;
	enum fault_when when;
	double p;
	uint64_t n;
};

struct faults {
	struct fault fault[16];
	size_t n;
};

enum limit_model { LIMIT_BUCKET, LIMIT_SLIDING, LIMIT_FIXED };
enum charge { CHARGE_ACTUAL, CHARGE_WORST };
enum style { STYLE_AUTO, STYLE_OPENAI, STYLE_ANTHROPIC, STYLE_AZURE, STYLE_NONE };
enum retry_style { RETRY_AUTO, RETRY_S, RETRY_MS, RETRY_BOTH, RETRY_DATE, RETRY_NONE };
enum line_end { LINE_LF, LINE_CRLF, LINE_CR };

struct options {
	struct spread delay, gap, error_delay;
	uint64_t tokens, context, dim;
	int limit, charge, style, retry, eol;
	double rpm, tpm, rpd, tpd, burst, token_burst, told_rpm, told_tpm, scale;
	uint64_t concurrency, enforce, count_refused;
	struct faults faults;
	double fault_retry_ms;
	char fault_model[64];
	uint64_t seed;
	double slow_ms, endless_mb;
	char key[128], bad[64], answer[256];
	uint64_t invalid, shuffle, usage, stamp, close, chunked, gzip;
	double price_in, price_out;
	double batch_ms, batch_done, batch_fail;
	char batch_state[16];
};

extern const struct options options_default;

/* "rpm=600". NULL, or what is wrong with it. */
const char *options_set(struct options *o, struct span assignment);
/* "rpm=600,delay=3" */
const char *options_set_all(struct options *o, struct span list);
void options_help(void);
const char *fault_name(const struct fault *f); /* valid until the next call */
/* Nanoseconds. */
uint64_t spread_draw(const struct spread *s, uint64_t *random);

#endif
