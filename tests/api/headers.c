// SPDX-License-Identifier: Apache-2.0
/* headers: what providers say of limits: Go durations at OpenAI, whole seconds at Azure, RFC 3339 at Anthropic. Rounded up, as they do. */
#include "tests/api/server.h"

#include <time.h>

static enum style style_of(const struct options *o, enum api api)
{
	if (o->style != STYLE_AUTO)
		return (enum style)o->style;
	if (api == API_ANTHROPIC)
		return STYLE_ANTHROPIC;
	return api == API_CHAT || api == API_RESPONSES || api == API_EMBED ? STYLE_OPENAI : STYLE_NONE;
}

/* "6m0s", "1.5s", "12ms" */
static void go_duration(struct bytes *to, uint64_t ns)
{
	uint64_t ms = (ns + 999999) / 1000000;
	if (ms < 1000) {
		bytes_fmt(to, "%lums", ms);
		return;
	}
	if (ms >= 3600000)
		bytes_fmt(to, "%luh", ms / 3600000);
	if (ms >= 60000)
		bytes_fmt(to, "%lum", ms / 60000 % 60);
	bytes_fmt(to, "%lu", ms / 1000 % 60);
	if (ms % 1000 > 0) {
		bytes_fmt(to, ".%03lu", ms % 1000);
		while (to->p[to->n - 1] == '0')
			to->n--;
	}
	bytes_str(to, "s");
}

static void date(struct bytes *to, uint64_t wall_ns, const char *format)
{
	char text[64];
	struct tm tm;
	time_t t = (time_t)((wall_ns + 999999999) / 1000000000);
	gmtime_r(&t, &tm);
	bytes_add(to, text, strftime(text, sizeof text, format, &tm));
}

static void openai_of(struct bytes *to, const char *what, double limit, double left, uint64_t reset_ns, bool azure)
{
	bytes_fmt(to, "x-ratelimit-limit-%s: %.0f\r\nx-ratelimit-remaining-%s: %lu\r\nx-ratelimit-reset-%s: ", what,
		  limit, what, (uint64_t)left, what);
	if (azure)
		bytes_uint(to, (reset_ns + 999999999) / 1000000000);
	else
		go_duration(to, reset_ns);
	bytes_str(to, "\r\n");
}

static void anthropic_of(struct bytes *to, const char *what, double limit, double left, uint64_t reset_wall_ns)
{
	bytes_fmt(to,
		  "anthropic-ratelimit-%s-limit: %.0f\r\nanthropic-ratelimit-%s-remaining: %lu\r\n"
		  "anthropic-ratelimit-%s-reset: ",
		  what, limit, what, (uint64_t)left, what);
	date(to, reset_wall_ns, "%Y-%m-%dT%H:%M:%SZ");
	bytes_str(to, "\r\n");
}

void headers_limits(struct bytes *to, const struct options *o, enum api api, const struct verdict *v, uint64_t wall_ns)
{
	enum style style = style_of(o, api);
	if (style == STYLE_NONE)
		return;
	if (style == STYLE_ANTHROPIC) {
		if (v->requests_limit >= 0)
			anthropic_of(to, "requests", v->requests_limit, v->requests_left,
				     wall_ns + v->requests_reset_ns);
		if (v->tokens_limit >= 0)
			anthropic_of(to, "tokens", v->tokens_limit, v->tokens_left, wall_ns + v->tokens_reset_ns);
		return;
	}
	if (v->requests_limit >= 0)
		openai_of(to, "requests", v->requests_limit, v->requests_left, v->requests_reset_ns,
			  style == STYLE_AZURE);
	if (v->tokens_limit >= 0)
		openai_of(to, "tokens", v->tokens_limit, v->tokens_left, v->tokens_reset_ns, style == STYLE_AZURE);
}

uint64_t headers_retry(struct bytes *to, const struct options *o, enum api api, uint64_t wait_ns, uint64_t wall_ns)
{
	uint64_t s = (wait_ns + 999999999) / 1000000000, ms = (wait_ns + 999999) / 1000000;
	enum retry_style style = (enum retry_style)o->retry;
	if (style == RETRY_AUTO)
		style = style_of(o, api) == STYLE_OPENAI || style_of(o, api) == STYLE_AZURE ? RETRY_BOTH : RETRY_S;
	switch (style) {
	case RETRY_MS:
		bytes_fmt(to, "retry-after-ms: %lu\r\n", ms);
		return ms * 1000000;
	case RETRY_BOTH:
		bytes_fmt(to, "retry-after-ms: %lu\r\nRetry-After: %lu\r\n", ms, s);
		return ms * 1000000;
	case RETRY_DATE:
		bytes_str(to, "Retry-After: ");
		date(to, wall_ns + wait_ns, "%a, %d %b %Y %H:%M:%S GMT");
		bytes_str(to, "\r\n");
		return wait_ns;
	case RETRY_NONE:
		return UINT64_MAX;
	default:
		bytes_fmt(to, "Retry-After: %lu\r\n", s);
		return s * 1000000000;
	}
}
