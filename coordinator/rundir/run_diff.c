// SPDX-License-Identifier: Apache-2.0
/* run_diff: pipelines and options, old and new. */
#include "coordinator/rundir/run_diff.h"

#include <stdio.h>

#define SHOWN_BYTES 240U /* of a value */
#define BEFORE_BYTES 60U /* of these, before the first difference */

static const struct df_run_option *find(const struct df_run_summary *s, struct df_str name)
{
	for (size_t i = 0; i < s->n_option; i++)
		if (df_str_eq(s->option[i].name, name))
			return &s->option[i];
	return NULL;
}

static size_t common(struct df_str a, struct df_str b)
{
	size_t n = 0;
	while (n < a.n && n < b.n && a.p[n] == b.p[n])
		n++;
	return n;
}

static bool inside_character(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* The value in quotes; of a long one what lies around byte `at`. */
static void add_value(struct df_buf *b, struct df_str s, size_t at)
{
	size_t begin = s.n <= SHOWN_BYTES || at <= BEFORE_BYTES ? 0 : at - BEFORE_BYTES;
	while (begin > 0 && inside_character(s.p[begin]))
		begin--;
	size_t end = s.n - begin > SHOWN_BYTES ? begin + SHOWN_BYTES : s.n;
	while (end < s.n && end > begin && inside_character(s.p[end]))
		end--;
	(void)df_buf_addf(b, "%s'" DF_STR_FMT "'%s", begin ? "..." : "", (int)(end - begin), s.n ? s.p + begin : "",
			  end < s.n ? "..." : "");
}

static void add_option(struct df_buf *lines, const struct df_run_option *was, const struct df_run_option *is)
{
	size_t at = was && is ? common(was->value, is->value) : 0;
	(void)df_buf_addf(lines, DF_STR_FMT ": was ", DF_STR_ARG(was ? was->name : is->name));
	if (was)
		add_value(lines, was->value, at);
	else
		(void)df_buf_addz(lines, "not set");
	(void)df_buf_addz(lines, ", now ");
	if (is)
		add_value(lines, is->value, at);
	else
		(void)df_buf_addz(lines, "not set");
	(void)df_buf_addc(lines, '\n');
}

struct cell_size {
	char z[2][24];
	struct df_run_option was, is;
};

static struct df_run_option as_option(char *z, size_t n, uint64_t cell_bytes)
{
	(void)snprintf(z, n, "%llu", (unsigned long long)cell_bytes);
	return (struct df_run_option){DF_STR("cell_size"), df_str_from(z)};
}

static size_t compare_options(const struct df_run_summary *there, const struct df_run_summary *asked,
			      struct df_buf *lines, struct df_str *ret_name)
{
	size_t n = 0;
	for (size_t i = 0; i < asked->n_option; i++) {
		const struct df_run_option *is = &asked->option[i], *was = find(there, is->name);
		if (was && df_str_eq(was->value, is->value))
			continue;
		add_option(lines, was, is);
		*ret_name = is->name;
		n++;
	}
	for (size_t i = 0; i < there->n_option; i++) {
		if (find(asked, there->option[i].name))
			continue;
		add_option(lines, &there->option[i], NULL);
		*ret_name = there->option[i].name;
		n++;
	}
	if (there->cell_bytes != asked->cell_bytes) {
		struct cell_size c;
		c.was = as_option(c.z[0], sizeof(c.z[0]), there->cell_bytes);
		c.is = as_option(c.z[1], sizeof(c.z[1]), asked->cell_bytes);
		add_option(lines, &c.was, &c.is);
		*ret_name = DF_STR("cell_size");
		n++;
	}
	return n;
}

static struct df_str fixed(const struct df_run_summary *s)
{
	return s->pipeline_fixed.n ? s->pipeline_fixed : s->pipeline;
}

bool df_run_diff(const struct df_run_summary *there, const struct df_run_summary *asked, struct df_buf *lines,
		 struct df_buf *what)
{
	struct df_str was = fixed(there), is = fixed(asked);
	bool pipeline = !df_str_eq(was, is);
	struct df_str name = {NULL, 0};
	if (pipeline) {
		size_t at = common(was, is);
		(void)df_buf_addz(lines, "pipeline: was ");
		add_value(lines, was, at);
		(void)df_buf_addz(lines, "\npipeline: now ");
		add_value(lines, is, at);
		(void)df_buf_addc(lines, '\n');
		(void)df_buf_addz(what, "pipeline");
	}
	size_t n = compare_options(there, asked, lines, &name);
	if (n)
		(void)df_buf_addz(what, pipeline ? " and " : "");
	if (n == 1)
		(void)df_buf_addf(what, "option " DF_STR_FMT, DF_STR_ARG(name));
	else if (n)
		(void)df_buf_addf(what, "%zu options", n);
	return !pipeline && n == 0;
}
