// SPDX-License-Identifier: Apache-2.0
/* sse: whole lines are looked at where they lie; only a line that two pieces share is copied. */
#include "worker/net/sse.h"

#define LINE_MORE 64 /* a field's name and the colon, beside its data */
#define MARK "\xef\xbb\xbf"
#define MARK_BYTES 3

typedef enum df_err (*on_event_fn)(void *self, struct df_str type, struct df_str data);

void df_sse_init(struct df_sse *s, size_t max)
{
	const size_t more = LINE_MORE + MARK_BYTES;
	size_t line = max > SIZE_MAX - more ? SIZE_MAX : max + more;
	*s = (struct df_sse){.max = max};
	df_buf_init(&s->line, line);
	df_buf_init(&s->data, max);
	df_buf_init(&s->event, max);
}

void df_sse_release(struct df_sse *s)
{
	df_buf_release(&s->line);
	df_buf_release(&s->data);
	df_buf_release(&s->event);
}

static enum df_err dispatch(struct df_sse *s, on_event_fn on_event, void *self)
{
	enum df_err err = DF_OK;
	if (s->has_data)
		err = on_event(self, df_buf_str(&s->event), df_buf_str(&s->data));
	df_buf_reset(&s->data);
	df_buf_reset(&s->event);
	s->has_data = false;
	return err;
}

static enum df_err field(struct df_sse *s, struct df_str name, struct df_str value)
{
	if (df_str_is(name, "data")) {
		if (s->has_data)
			DF_TRY(df_buf_addc(&s->data, '\n'));
		s->has_data = true;
		return df_buf_add_str(&s->data, value);
	}
	if (df_str_is(name, "event")) {
		df_buf_reset(&s->event);
		return df_buf_add_str(&s->event, value);
	}
	return DF_OK;
}

/* Without the mark that a stream may begin with; it counts for no ceiling, in whatever pieces it comes. */
static struct df_str unmarked(const struct df_sse *s, struct df_str line)
{
	bool marked = !s->begun && df_str_starts(line, MARK);
	return marked ? (struct df_str){line.p + MARK_BYTES, line.n - MARK_BYTES} : line;
}

static enum df_err take_line(struct df_sse *s, struct df_str line, on_event_fn on_event, void *self)
{
	line = unmarked(s, line);
	s->begun = true;
	if (line.n == 0)
		return dispatch(s, on_event, self);
	const char *colon = memchr(line.p, ':', line.n);
	if (colon == line.p)
		return DF_OK; /* a comment */
	if (!colon)
		return field(s, line, (struct df_str){NULL, 0});
	struct df_str name = {line.p, (size_t)(colon - line.p)};
	struct df_str value = {colon + 1, line.n - name.n - 1};
	if (value.n && value.p[0] == ' ')
		value = (struct df_str){value.p + 1, value.n - 1};
	return field(s, name, value);
}

/* The first CR or LF, or `end`. LF first: where lines end in it, the search for CR stays inside the line. */
static const char *line_end(const char *p, const char *end)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));
	const char *cr = memchr(p, '\r', (size_t)((lf ? lf : end) - p));
	return cr ? cr : lf ? lf : end;
}

enum df_err df_sse_feed(struct df_sse *s, const char *p, size_t n, on_event_fn on_event, void *self)
{
	if (n == 0)
		return DF_OK;
	const char *end = p + n;
	DF_TRY(df_buf_err(&s->line));
	while (p < end) {
		if (s->after_cr && *p == '\n') {
			s->after_cr = false;
			p++;
			continue;
		}
		s->after_cr = false;
		const char *stop = line_end(p, end);
		struct df_str line = {p, (size_t)(stop - p)};
		if (stop == end || s->line.n) {
			DF_TRY(df_buf_add_str(&s->line, line));
			line = df_buf_str(&s->line);
		}
		if (unmarked(s, line).n > s->line.max - MARK_BYTES)
			return DF_ERR_LIMIT;
		if (stop == end)
			break;
		enum df_err err = take_line(s, line, on_event, self);
		df_buf_reset(&s->line);
		s->after_cr = *stop == '\r';
		p = stop + 1;
		DF_TRY(err);
	}
	return DF_OK;
}
