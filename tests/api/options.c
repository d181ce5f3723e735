// SPDX-License-Identifier: Apache-2.0
/* options: one row per option; parsing and --help read the rows. */
#include "tests/api/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const struct options options_default = {
	.scale = 1,
	.enforce = 1,
	.seed = 1,
	.slow_ms = 50,
	.endless_mb = 10240,
	.usage = 1,
	.dim = 0,
	.fault_retry_ms = -1,
	.price_in = 1,
	.price_out = 2,
	.batch_done = 1,
	.batch_state = "completed",
};

enum kind { COUNT, REAL, TIME, TEXT, CHOICE, FAULTS };

struct row {
	const char *name;
	enum kind kind;
	size_t at, size;
	const char *choice, *help; /* choice: names with a space behind each */
};

#define AT(field) offsetof(struct options, field), sizeof(((struct options *)0)->field)

static const struct row rows[] = {
	{"delay", TIME, AT(delay), NULL, "ms from a request to its answer (of a stream: to its first token)"},
	{"gap", TIME, AT(gap), NULL, "ms between two tokens of a stream"},
	{"error_delay", TIME, AT(error_delay), NULL, "ms from a request to an answer that is an error"},
	{"tokens", COUNT, AT(tokens), NULL, "words of an answer; 0: some of the prompt's, at most 9"},
	{"answer", TEXT, AT(answer), NULL, "the answer's text, '_' for a space; empty: a hash and words of the prompt"},
	{"context", COUNT, AT(context), NULL, "a prompt of more words is refused; 0: none is"},
	{"dim", COUNT, AT(dim), NULL, "dimensions of vectors; 0: 1536, of TEI and Ollama 384"},
	{"limit", CHOICE, AT(limit), "bucket sliding fixed ", "how rpm and tpm are held"},
	{"rpm", REAL, AT(rpm), NULL, "requests a minute; 0: no limit"},
	{"tpm", REAL, AT(tpm), NULL, "tokens a minute; 0: no limit"},
	{"rpd", REAL, AT(rpd), NULL, "requests a day; days begin with the server"},
	{"tpd", REAL, AT(tpd), NULL, "tokens a day"},
	{"burst", REAL, AT(burst), NULL, "bucket: requests that fit at once; 0: a second's worth, at least 1"},
	{"token_burst", REAL, AT(token_burst), NULL, "bucket: tokens that fit at once; 0: a minute's worth"},
	{"told_rpm", REAL, AT(told_rpm), NULL, "what headers say of rpm; 0: the truth"},
	{"told_tpm", REAL, AT(told_tpm), NULL, "what headers say of tpm; 0: the truth"},
	{"charge", CHOICE, AT(charge), "actual worst ", "tokens of a request: those it uses, or prompt + max_tokens"},
	{"concurrency", COUNT, AT(concurrency), NULL, "requests at once; more get 429; 0: no limit"},
	{"enforce", COUNT, AT(enforce), NULL, "0: violations of limits are counted and answered all the same"},
	{"count_refused", COUNT, AT(count_refused), NULL, "1: refused requests use the limit up, too"},
	{"scale", REAL, AT(scale), NULL,
	 "a minute lasts 60 s / scale, a day 86400 s / scale; headers speak of real time"},
	{"style", CHOICE, AT(style), "auto openai anthropic azure none ", "headers of limits"},
	{"retry", CHOICE, AT(retry), "auto s ms both date none ", "form of Retry-After; auto: both, Anthropic s"},
	{"faults", FAULTS, AT(faults), NULL, "KIND:P+KIND@N+KIND*N+KIND~K, see options.h"},
	{"fault_retry_ms", REAL, AT(fault_retry_ms), NULL, "Retry-After of faults that are a status; -1: none"},
	{"fault_model", TEXT, AT(fault_model), NULL, "only requests for this model have faults"},
	{"seed", COUNT, AT(seed), NULL, "of all random numbers"},
	{"slow_ms", REAL, AT(slow_ms), NULL, "ms between two bytes of the fault 'slow'"},
	{"endless_mb", REAL, AT(endless_mb), NULL, "size of the faults 'endless', 'huge', 'gzipbomb'"},
	{"key", TEXT, AT(key), NULL, "the API key that a request must have; empty: none"},
	{"bad", TEXT, AT(bad), NULL, "a text that contains this is refused with 400; empty: none is"},
	{"invalid", COUNT, AT(invalid), NULL, "the first N answers to each text break the schema that was asked for"},
	{"shuffle", COUNT, AT(shuffle), NULL, "1: vectors come in another order (their index says which)"},
	{"usage", COUNT, AT(usage), NULL, "0: answers tell no usage"},
	{"stamp", COUNT, AT(stamp), NULL,
	 "1: a stream's tokens are the times at which they are sent (ns, CLOCK_REALTIME)"},
	{"eol", CHOICE, AT(eol), "lf crlf cr ", "line ends of event streams"},
	{"close", COUNT, AT(close), NULL, "1: each answer ends its connection"},
	{"chunked", COUNT, AT(chunked), NULL, "1: bodies come in chunks, without a length"},
	{"gzip", COUNT, AT(gzip), NULL, "1: bodies are gzip where the request allows it"},
	{"price_in", REAL, AT(price_in), NULL, "USD of a million tokens in"},
	{"price_out", REAL, AT(price_out), NULL, "USD of a million tokens out"},
	{"batch_ms", REAL, AT(batch_ms), NULL, "how long a batch takes"},
	{"batch_done", REAL, AT(batch_done), NULL, "share of a batch's lines that are answered before it ends"},
	{"batch_fail", REAL, AT(batch_fail), NULL, "share of lines that get an error"},
	{"batch_state", TEXT, AT(batch_state), NULL, "state in which a batch ends: completed, expired, failed"},
};

static const char *const fault_names[FAULT_N] = {
	[FAULT_QUOTA] = "quota",
	[FAULT_RESET] = "reset",
	[FAULT_CLOSE] = "close",
	[FAULT_CUTHEAD] = "cuthead",
	[FAULT_CUT] = "cut",
	[FAULT_CUTRESET] = "cutreset",
	[FAULT_STALL] = "stall",
	[FAULT_STALLBODY] = "stallbody",
	[FAULT_SLOW] = "slow",
	[FAULT_BADJSON] = "badjson",
	[FAULT_EMPTY] = "empty",
	[FAULT_WRONG] = "wrong",
	[FAULT_FEWER] = "fewer",
	[FAULT_HTML] = "html",
	[FAULT_TYPE] = "type",
	[FAULT_GZIPBOMB] = "gzipbomb",
	[FAULT_ENDLESS] = "endless",
	[FAULT_HUGE] = "huge",
	[FAULT_BADSSE] = "badsse",
	[FAULT_STREAMCUT] = "streamcut",
	[FAULT_STREAMCLOSE] = "streamclose",
	[FAULT_STREAMERROR] = "streamerror",
};

const char *fault_name(const struct fault *f)
{
	static char status[16];
	if (f->kind != FAULT_STATUS)
		return f->kind == FAULT_NONE ? "" : fault_names[f->kind];
	snprintf(status, sizeof status, "%d", f->status);
	return status;
}

static bool number(struct span s, double *ret)
{
	char text[32], *end;
	if (s.n == 0 || s.n >= sizeof text)
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = 0;
	*ret = strtod(text, &end);
	return *end == 0 && isfinite(*ret);
}

static size_t span_find(struct span s, const char *what)
{
	const char *at = memmem(s.p, s.n, what, strlen(what));
	return at == NULL ? s.n : (size_t)(at - s.p);
}

static bool set_time(struct spread *to, struct span s)
{
	size_t dots = span_find(s, ".."), tilde = span_find(s, "~"), behind;
	struct spread made = {0};
	double second = 0;
	behind = dots < s.n ? dots + 2 : tilde < s.n ? tilde + 1 : s.n;
	if (!number((struct span){s.p, dots < s.n ? dots : tilde}, &made.low) ||
	    (behind < s.n && !number((struct span){s.p + behind, s.n - behind}, &second)) || made.low < 0 || second < 0)
		return false;
	*(dots < s.n ? &made.high : &made.sigma) = second;
	*to = made;
	return true;
}

uint64_t spread_draw(const struct spread *s, uint64_t *random)
{
	double ms = s->low;
	if (s->high > s->low) {
		ms += (s->high - s->low) * random_unit(random);
	} else if (s->sigma > 0) {
		double u = 1 - random_unit(random), v = random_unit(random);
		ms *= exp(s->sigma * sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
	}
	return (uint64_t)(ms * 1e6);
}

static bool set_fault(struct fault *f, struct span s)
{
	static const char marks[] = ":@*~";
	size_t i = 0;
	while (i < s.n && memchr(marks, s.p[i], 4) == NULL)
		i++;
	struct span name = {s.p, i};
	double value = 1;
	if (i < s.n && !number((struct span){s.p + i + 1, s.n - i - 1}, &value))
		return false;
	f->when = i < s.n ? (enum fault_when)((const char *)memchr(marks, s.p[i], 4) - marks) : WHEN_CHANCE;
	f->p = value;
	f->n = value < 0 ? 0 : (uint64_t)value;
	double status;
	if (number(name, &status) && status >= 300 && status < 600) {
		f->kind = FAULT_STATUS;
		f->status = (int)status;
		return true;
	}
	for (int k = FAULT_QUOTA; k < FAULT_N; k++) {
		if (span_is(name, fault_names[k])) {
			f->kind = (enum fault_kind)k;
			return true;
		}
	}
	return false;
}

static bool set_faults(struct faults *to, struct span s)
{
	struct faults made = {0};
	while (s.n > 0) {
		size_t plus = span_find(s, "+");
		if (made.n == sizeof made.fault / sizeof *made.fault ||
		    !set_fault(&made.fault[made.n++], (struct span){s.p, plus}))
			return false;
		size_t used = plus < s.n ? plus + 1 : plus;
		s = (struct span){s.p + used, s.n - used};
	}
	*to = made;
	return true;
}

static bool set_choice(int *to, const char *names, struct span s)
{
	struct span rest = span_of(names), word;
	for (int i = 0; (word = span_word(&rest)).n > 0; i++) {
		if (word.n == s.n && memcmp(word.p, s.p, s.n) == 0) {
			*to = i;
			return true;
		}
	}
	return false;
}

static bool set_row(struct options *o, const struct row *row, struct span value)
{
	void *field = (char *)o + row->at;
	double v = 0;
	switch (row->kind) {
	case COUNT:
		if (!number(value, &v) || v < 0 || v > 1e18)
			return false;
		*(uint64_t *)field = (uint64_t)v;
		return true;
	case REAL:
		return number(value, field);
	case TIME:
		return set_time(field, value);
	case TEXT:
		if (value.n >= row->size)
			return false;
		memset(field, 0, row->size);
		if (value.n > 0)
			memcpy(field, value.p, value.n);
		return true;
	case CHOICE:
		return set_choice(field, row->choice, value);
	case FAULTS:
		return set_faults(field, value);
	}
	return false;
}

const char *options_set(struct options *o, struct span assignment)
{
	static char message[160];
	size_t equal = span_find(assignment, "=");
	struct span name = {assignment.p, equal};
	struct span value = {assignment.p + equal + 1, equal < assignment.n ? assignment.n - equal - 1 : 0};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (!span_is(name, rows[i].name))
			continue;
		if (equal < assignment.n && set_row(o, &rows[i], value))
			return NULL;
		snprintf(message, sizeof message, "option '%s' cannot be '%.*s'", rows[i].name,
			 (int)(value.n < 60 ? value.n : 60), value.p);
		return message;
	}
	snprintf(message, sizeof message, "unknown option '%.*s'; api_server --help lists them",
		 (int)(name.n < 60 ? name.n : 60), name.p);
	return message;
}

const char *options_set_all(struct options *o, struct span list)
{
	while (list.n > 0) {
		size_t comma = span_find(list, ",");
		const char *wrong = comma > 0 ? options_set(o, (struct span){list.p, comma}) : NULL;
		if (wrong != NULL)
			return wrong;
		size_t used = comma < list.n ? comma + 1 : comma;
		list = (struct span){list.p + used, list.n - used};
	}
	return NULL;
}

void options_help(void)
{
	puts("usage: api_server [--port=N] [--log=FILE] [--OPTION=VALUE ...]\n\n"
	     "Prints the port as one line; ends when its standard input does, or by SIGTERM. OPTION, also in the path "
	     "and in the\n"
	     "header x-api-test:");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		printf("  %-15s %s%s%s\n", rows[i].name, rows[i].help, rows[i].choice ? ": " : "",
		       rows[i].choice ? rows[i].choice : "");
}
