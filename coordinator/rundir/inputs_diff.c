// SPDX-License-Identifier: Apache-2.0
/* inputs_diff: what differs between the inputs when a run began and now, in words. */
#include "coordinator/rundir/inputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/map.h"

#define LINES_BYTES_MAX (1U << 20)
#define NAMES_BYTES_MAX ((size_t)4 << 30)

struct comparison {
	const struct df_dataset *d;
	const uint64_t *sum;
	struct df_map place; /* name -> index in d */
	uint8_t *met;        /* of d's sources */
	uint64_t n;          /* entries so far */
	struct df_inputs_diff diff;
};

static uint64_t n_told(const struct df_inputs_diff *diff)
{
	return diff->n_changed + diff->n_missing + diff->n_new;
}

/* Room in the list? The count of its kind is raised by the caller. */
static bool shown(const struct comparison *c)
{
	return n_told(&c->diff) < DF_INPUTS_SHOWN;
}

static const char *local_time(int64_t ns, char *z, size_t n)
{
	time_t t = (time_t)(ns / (int64_t)DF_SEC);
	struct tm tm;
	if (!localtime_r(&t, &tm) || strftime(z, n, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(z, n, "%lld", (long long)t);
	size_t used = strlen(z);
	(void)snprintf(z + used, n - used, ".%09lld", (long long)(ns % (int64_t)DF_SEC));
	return z;
}

/* "input 'a.jsonl': 120 bytes, now 130; modified 2026-05-04 10:00:00.0, now ...; another file (inode 5 of device 1, now 6 of 1)" */
static void tell_change(struct comparison *c, const struct df_input_entry *was, const struct df_source *is)
{
	struct df_buf *b = &c->diff.lines;
	char y[64], z[64];
	const char *before = ": ";
	(void)df_buf_addf(b, "input '" DF_STR_FMT "'", DF_STR_ARG(was->name));
	if (was->id.size != is->id.size) {
		(void)df_buf_addf(b, "%s%" PRIu64 " bytes, now %" PRIu64, before, was->id.size, is->id.size);
		before = "; ";
	} else if (c->sum && !was->live) {
		(void)df_buf_addf(b, "%sits content differs", before);
		before = "; ";
	}
	if (was->id.mtime_ns != is->id.mtime_ns) {
		(void)df_buf_addf(b, "%smodified %s, now %s", before, local_time(was->id.mtime_ns, y, sizeof(y)),
				  local_time(is->id.mtime_ns, z, sizeof(z)));
		before = "; ";
	}
	if (was->id.dev != is->id.dev || was->id.ino != is->id.ino) {
		(void)df_buf_addf(
			b, "%sanother file (inode %" PRIu64 " of device %" PRIu64 ", now %" PRIu64 " of %" PRIu64 ")",
			before, was->id.ino, was->id.dev, is->id.ino, is->id.dev);
		before = "; ";
	}
	if (was->format != is->format || was->kind != is->kind)
		(void)df_buf_addf(b, "%sread as %s, now as %s", before, df_format_name((enum df_format)was->format),
				  df_format_name((enum df_format)is->format));
	(void)df_buf_addc(b, '\n');
}

static bool same(const struct comparison *c, const struct df_input_entry *was, const struct df_source *is)
{
	if (was->kind != is->kind || was->format != is->format || was->live != is->live)
		return false;
	if (c->sum && !was->live)
		return was->id.size == is->id.size && was->sum == c->sum[is - c->d->source];
	return df_file_id_eq(&was->id, &is->id);
}

static enum df_err compare_entry(void *self, const struct df_input_entry *was)
{
	struct comparison *c = self;
	const uint64_t *at = df_map_get(&c->place, was->name);
	uint64_t n = c->n++;
	if (!at) {
		if (shown(c))
			(void)df_buf_addf(&c->diff.lines, "input '" DF_STR_FMT "' is not there any more\n",
					  DF_STR_ARG(was->name));
		c->diff.n_missing++;
		return DF_OK;
	}
	c->met[*at] = 1;
	c->diff.moved |= *at != n;
	if (same(c, was, &c->d->source[*at]))
		return DF_OK;
	if (shown(c))
		tell_change(c, was, &c->d->source[*at]);
	c->diff.n_changed++;
	return DF_OK;
}

static enum df_err name_all(struct comparison *c)
{
	uint64_t *value = NULL;
	for (size_t i = 0; i < c->d->n_source; i++)
		DF_TRY(df_map_put(&c->place, df_str_from(c->d->source[i].name), i, &value));
	return DF_OK;
}

static void tell_new(struct comparison *c)
{
	for (size_t i = 0; i < c->d->n_source; i++) {
		if (c->met[i])
			continue;
		if (shown(c))
			(void)df_buf_addf(&c->diff.lines, "input '%s' is new\n", c->d->source[i].name);
		c->diff.n_new++;
	}
	c->diff.moved &= n_told(&c->diff) == 0;
	if (n_told(&c->diff) > DF_INPUTS_SHOWN)
		(void)df_buf_addf(&c->diff.lines, "and %" PRIu64 " more\n", n_told(&c->diff) - DF_INPUTS_SHOWN);
	if (c->diff.moved)
		(void)df_buf_addz(&c->diff.lines, "the inputs come in another order\n");
}

enum df_err df_inputs_compare(const struct df_io *io, int dirfd, const struct df_dataset *d, const uint64_t *sum,
			      struct df_inputs_diff *ret_diff, struct df_fail *fail)
{
	struct df_inputs_head head = {0};
	DF_TRY(df_inputs_head(io, dirfd, &head, fail));
	if (sum && !head.has_sums)
		return df_fail(fail, DF_ERR_UNSUPPORTED,
			       "the run in this directory was begun without --paranoid, so there are no checksums to "
			       "compare with; go on without it, or --force-restart");
	struct comparison c = {.d = d, .sum = sum};
	df_map_init(&c.place, NAMES_BYTES_MAX);
	df_buf_init(&c.diff.lines, LINES_BYTES_MAX);
	c.met = calloc(d->n_source + 1, 1);
	enum df_err err = c.met && name_all(&c) == DF_OK
				  ? DF_OK
				  : df_fail(fail, DF_ERR_NOMEM, "no memory to compare %zu inputs", d->n_source);
	if (err == DF_OK)
		err = df_inputs_each(io, dirfd, compare_entry, &c, fail);
	if (err == DF_OK)
		tell_new(&c);
	free(c.met);
	df_map_release(&c.place);
	if (err == DF_OK)
		*ret_diff = c.diff;
	else
		df_buf_release(&c.diff.lines);
	return err;
}

void df_inputs_diff_release(struct df_inputs_diff *diff)
{
	df_buf_release(&diff->lines);
}

bool df_inputs_differ(const struct df_inputs_diff *diff)
{
	return n_told(diff) > 0 || diff->moved;
}
