// SPDX-License-Identifier: Apache-2.0
/* http: the part of HTTP/1.1 that clients of APIs speak: no chunked requests, no folded headers. */
#include "tests/api/server.h"

#include <stdlib.h>

static struct span trim(struct span s)
{
	while (s.n > 0 && (*s.p == ' ' || *s.p == '\t'))
		s = (struct span){s.p + 1, s.n - 1};
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
		s.n--;
	return s;
}

static struct span line_of(struct span *rest)
{
	const char *end = memchr(rest->p, '\n', rest->n);
	struct span line = {rest->p, end ? (size_t)(end - rest->p) : rest->n};
	size_t used = end ? line.n + 1 : line.n;
	*rest = (struct span){rest->p + used, rest->n - used};
	return trim(line);
}

static bool first_line(struct span line, struct request *r)
{
	struct span version;
	r->method = span_word(&line);
	r->target = span_word(&line);
	version = span_word(&line);
	if (!span_begins(version, "HTTP/1.") || r->target.n == 0 || r->target.p[0] != '/')
		return false;
	r->keep = span_is(version, "HTTP/1.1");
	const char *question = memchr(r->target.p, '?', r->target.n);
	r->path = (struct span){r->target.p, question ? (size_t)(question - r->target.p) : r->target.n};
	if (question != NULL)
		r->query = (struct span){question + 1, r->target.n - r->path.n - 1};
	return true;
}

/* false: it cannot be served. */
static bool header(struct span line, struct request *r, uint64_t *n_body)
{
	const char *colon = memchr(line.p, ':', line.n);
	if (colon == NULL)
		return false;
	struct span name = {line.p, (size_t)(colon - line.p)};
	struct span value = trim((struct span){colon + 1, line.n - name.n - 1});
	if (span_is_nocase(name, "content-length"))
		*n_body = strtoull(value.p, NULL, 10);
	else if (span_is_nocase(name, "transfer-encoding"))
		return false;
	else if (span_is_nocase(name, "connection"))
		r->keep = r->keep && !span_is_nocase(value, "close");
	else if (span_is_nocase(name, "authorization"))
		r->key = span_begins(value, "Bearer ") ? (struct span){value.p + 7, value.n - 7} : value;
	else if (span_is_nocase(name, "x-api-key") || span_is_nocase(name, "x-goog-api-key") ||
		 span_is_nocase(name, "api-key"))
		r->key = value;
	else if (span_is_nocase(name, "content-type"))
		r->type = value;
	else if (span_is_nocase(name, "accept-encoding"))
		r->gzip = value.n >= 4 && memmem(value.p, value.n, "gzip", 4) != NULL;
	else if (span_is_nocase(name, "x-api-test"))
		r->test = value;
	else if (span_is_nocase(name, "expect"))
		r->expects = true;
	return true;
}

enum parsed request_parse(struct conn *c, struct request *r)
{
	struct span all = {c->in.p + c->used, c->in.n - c->used};
	*r = (struct request){0};
	const char *end = memmem(all.p, all.n, "\r\n\r\n", 4);
	if (end == NULL)
		return all.n > HEAD_MAX ? PARSED_BAD : PARSED_MORE;
	struct span head = {all.p, (size_t)(end - all.p) + 2};
	uint64_t n_body = 0;
	if (!first_line(line_of(&head), r))
		return PARSED_BAD;
	while (head.n > 0) {
		if (!header(line_of(&head), r, &n_body))
			return PARSED_BAD;
	}
	if (n_body > BODY_MAX)
		return PARSED_BAD;
	r->n_head = (size_t)(end - all.p) + 4;
	r->total = r->n_head + n_body;
	c->need = r->total;
	if (all.n < r->total)
		return PARSED_MORE;
	r->body = (struct span){all.p + r->n_head, n_body};
	return PARSED_WHOLE;
}

const char *http_status(int status)
{
	static const struct {
		int status;
		const char *words;
	} known[] = {{200, "OK"},
		     {400, "Bad Request"},
		     {401, "Unauthorized"},
		     {404, "Not Found"},
		     {408, "Request Timeout"},
		     {409, "Conflict"},
		     {429, "Too Many Requests"},
		     {500, "Internal Server Error"},
		     {503, "Service Unavailable"}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (known[i].status == status)
			return known[i].words;
	}
	return "Other";
}

void http_head(struct bytes *to, int status, const char *type, const char *extra, size_t n_body, bool keep)
{
	bytes_str(to, "HTTP/1.1 ");
	bytes_uint(to, (uint64_t)status);
	bytes_str(to, " ");
	bytes_str(to, http_status(status));
	bytes_str(to, "\r\nContent-Type: ");
	bytes_str(to, type);
	bytes_str(to, "\r\n");
	bytes_str(to, extra);
	if (!keep)
		bytes_str(to, "Connection: close\r\n");
	if (n_body == SIZE_MAX) {
		bytes_str(to, "Transfer-Encoding: chunked\r\n\r\n");
	} else {
		bytes_str(to, "Content-Length: ");
		bytes_uint(to, n_body);
		bytes_str(to, "\r\n\r\n");
	}
}
