// SPDX-License-Identifier: Apache-2.0
/* files: OpenAI's files: uploaded as multipart/form-data, kept in memory. */
#include "tests/api/files.h"

#include <stdlib.h>

static struct file *files;
static size_t n_file, serial;

void files_reset(void)
{
	for (size_t i = 0; i < n_file; i++)
		bytes_free(&files[i].content);
	n_file = 0;
}

void call_say(struct call *k, int status, struct bytes *body)
{
	serve_body(k->c, k->r, status, "application/json", "", (struct span){body->p, body->n},
		   k->s->now_ns + spread_draw(&k->p->o.delay, &k->p->random));
}

void call_error(struct call *k, int status, const char *message)
{
	k->s->body.n = 0;
	form_error(&k->s->body, API_CHAT, status, NULL, message);
	call_say(k, status, &k->s->body);
}

void *list_room(void *list, size_t n, size_t size)
{
	void *p = (n & (n - 1)) == 0 ? realloc(list, (n ? 2 * n : 1) * size) : list;
	if (p == NULL)
		abort();
	memset((char *)p + n * size, 0, size);
	return p;
}

struct file *file_new(const char *name, size_t n)
{
	files = list_room(files, n_file, sizeof *files);
	struct file *f = &files[n_file++];
	snprintf(f->id, sizeof f->id, "file-%zu", ++serial);
	snprintf(f->name, sizeof f->name, "%.*s", (int)(n < 60 ? n : 60), name);
	bytes_add(&f->content, "", 0);
	return f;
}

struct file *file_find(struct span id)
{
	for (size_t i = 0; i < n_file; i++) {
		if (span_is(id, files[i].id) && !files[i].gone)
			return &files[i];
	}
	return NULL;
}

static void file_json(struct bytes *to, const struct file *f)
{
	bytes_fmt(to, "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%zu,\"created_at\":1735689600,\"filename\":", f->id,
		  f->content.n);
	bytes_json(to, span_of(f->name));
	bytes_str(to, ",\"purpose\":\"batch\",\"status\":\"processed\"}");
}

/* --- upload: multipart/form-data with a part "file" and a part "purpose" --- */

static struct span between(struct span in, const char *start, const char *end)
{
	const char *a = memmem(in.p, in.n, start, strlen(start));
	if (a == NULL)
		return (struct span){0};
	a += strlen(start);
	const char *b = memmem(a, in.n - (size_t)(a - in.p), end, strlen(end));
	return (struct span){a, b ? (size_t)(b - a) : in.n - (size_t)(a - in.p)};
}

/* The part's content; *name its file name. */
static bool part(struct span body, const char *boundary, const char *field, struct span *content, struct span *name)
{
	char line[128];
	snprintf(line, sizeof line, "name=\"%s\"", field);
	for (struct span rest = body;;) {
		const char *at = memmem(rest.p, rest.n, boundary, strlen(boundary));
		if (at == NULL)
			return false;
		at += strlen(boundary);
		rest = (struct span){at, body.n - (size_t)(at - body.p)};
		const char *blank = memmem(rest.p, rest.n, "\r\n\r\n", 4);
		if (blank == NULL)
			return false;
		struct span head = {rest.p, (size_t)(blank - rest.p)};
		if (memmem(head.p, head.n, line, strlen(line)) == NULL)
			continue;
		*name = between(head, "filename=\"", "\"");
		struct span behind = {blank + 4, body.n - (size_t)(blank + 4 - body.p)};
		const char *end = memmem(behind.p, behind.n, boundary, strlen(boundary));
		if (end == NULL || end < behind.p + 2)
			return false;
		*content = (struct span){behind.p, (size_t)(end - behind.p) - 2};
		return true;
	}
}

void file_upload(struct call *k)
{
	struct span name = {0}, content, purpose, unused, mark = between(k->r->type, "boundary=", ";");
	char boundary[128];
	while (mark.n > 0 && (mark.p[0] == '"' || mark.p[mark.n - 1] == '"'))
		mark = mark.p[0] == '"' ? (struct span){mark.p + 1, mark.n - 1} : (struct span){mark.p, mark.n - 1};
	snprintf(boundary, sizeof boundary, "--%.*s", (int)(mark.n < 100 ? mark.n : 100), mark.p ? mark.p : "");
	if (mark.n == 0 || !part(k->r->body, boundary, "file", &content, &name) ||
	    !part(k->r->body, boundary, "purpose", &purpose, &unused)) {
		call_error(k, 400, "a file is uploaded as multipart/form-data with the parts 'purpose' and 'file'");
		return;
	}
	if (!span_is(purpose, "batch")) {
		call_error(k, 400, "'purpose' must be 'batch' here");
		return;
	}
	if (content.n > 200U << 20) {
		call_error(k, 413, "the file has more than 200 MB");
		return;
	}
	struct file *f = file_new(name.p ? name.p : "file", name.p ? name.n : 4);
	bytes_span(&f->content, content);
	k->s->stats.files++;
	k->s->body.n = 0;
	file_json(&k->s->body, f);
	call_say(k, 200, &k->s->body);
}

void file_path(struct call *k, struct span id, struct span tail)
{
	struct file *f = file_find(id);
	k->s->body.n = 0;
	if (f == NULL) {
		call_error(k, 404, "No such File object");
	} else if (span_is(tail, "/content")) {
		serve_body(k->c, k->r, 200, "application/octet-stream", "", (struct span){f->content.p, f->content.n},
			   k->s->now_ns);
	} else if (span_is(k->r->method, "DELETE")) {
		f->gone = true;
		bytes_fmt(&k->s->body, "{\"id\":\"%s\",\"object\":\"file\",\"deleted\":true}", f->id);
		call_say(k, 200, &k->s->body);
	} else {
		file_json(&k->s->body, f);
		call_say(k, 200, &k->s->body);
	}
}
