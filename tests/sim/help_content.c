// SPDX-License-Identifier: Apache-2.0
/* help_content: records of the wanted lengths, in memory files. */
#include "tests/sim/help_content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "worker/lease/cellblock.h"

static void fill(struct df_buf *b, uint64_t n)
{
	for (uint64_t i = 0; i < n || i < 10; i++)
		(void)df_buf_addc(b, (char)('a' + i % 26));
}

static void put_text(struct df_buf *b, const struct world_record *r)
{
	if (r->fate == FATE_FILTERED)
		(void)df_buf_addz(b, "short");
	else if (r->fate == FATE_REJECTED)
		(void)df_buf_addz(b, "this is not \xff utf-8");
	else
		fill(b, r->length);
}

static void put_line(struct df_buf *b, const struct world_record *r)
{
	if (r->fate == FATE_FILTERED) {
		(void)df_buf_addz(b, "{\"text\":\"short\"}\n");
	} else if (r->fate == FATE_REJECTED) {
		(void)df_buf_addz(b, "{\"text\":\"this is not JSON}\n");
	} else {
		(void)df_buf_addz(b, "{\"n\":1,\"text\":\"");
		fill(b, r->length > 18 ? r->length - 18 : 0);
		(void)df_buf_addz(b, "\"}\n");
	}
}

static void make_source(struct world_source *s)
{
	struct df_buf b;
	df_buf_init(&b, 256U << 20);
	for (size_t i = 0; i < s->n_record; i++) {
		uint64_t start = b.n;
		if (s->kind == DF_SOURCE_TEXT)
			put_text(&b, &s->record[i]);
		else
			put_line(&b, &s->record[i]);
		s->record[i].offset = start;
		s->record[i].length = b.n - start;
	}
	DF_ASSERT(df_buf_err(&b) == DF_OK);
	s->content = calloc(b.n + DF_RECORD_PADDING, 1);
	DF_ASSERT(s->content != NULL);
	if (b.n)
		memcpy(s->content, b.p, b.n);
	s->size_bytes = b.n;
	df_buf_release(&b);
}

static void make_file(struct world_source *s, struct df_source *d)
{
	struct stat st;
	s->fd = memfd_create(s->name, MFD_CLOEXEC);
	DF_ASSERT(s->fd >= 0 && pwrite(s->fd, s->content, s->size_bytes, 0) == (ssize_t)s->size_bytes);
	DF_ASSERT(fstat(s->fd, &st) == 0);
	(void)snprintf(s->path, sizeof(s->path), "/proc/self/fd/%d", s->fd);
	df_file_id_of(&st, &d->id);
	d->path = s->path;
}

void content_make(struct world *w)
{
	for (uint32_t i = 0; i < w->n_source; i++) {
		make_source(&w->source[i]);
		make_file(&w->source[i], &w->dataset.source[i]);
	}
}

void content_release(struct world *w)
{
	for (uint32_t i = 0; w->content && i < w->n_source; i++) {
		free(w->source[i].content);
		(void)close(w->source[i].fd);
	}
}

void content_change(struct world_source *s)
{
	DF_ASSERT(pwrite(s->fd, "x", 1, (off_t)s->size_bytes) == 1);
}

struct df_blob *content_cell(const struct world_source *s, uint64_t ordinal, size_t first, size_t end)
{
	struct df_cell_record *record = calloc(end - first, sizeof(*record));
	uint64_t start = s->record[first].offset;
	DF_ASSERT(record != NULL);
	for (size_t i = first; i < end; i++)
		record[i - first] = (struct df_cell_record){
			.offset = s->record[i].offset,
			.start = (uint32_t)(s->record[i].offset - start),
			.length = (uint32_t)(s->record[i].length - 1), /* without the line's end */
		};
	struct df_cell_block cell = {.ordinal = ordinal,
				     .payload = s->content + start,
				     .n_payload = s->record[end - 1].offset + s->record[end - 1].length - start,
				     .record = record,
				     .n_record = end - first};
	struct df_blob *blob = df_cellblock_pack(&cell);
	DF_ASSERT(blob != NULL);
	free(record);
	return blob;
}

/* Rows have the made id "source-N#OFFSET" (a text file's: "source-N"); rejects say it in words. */
static bool name_line(char *line, char *out, size_t size)
{
	unsigned source = 0;
	unsigned long long offset = 0;
	char *id = strstr(line, "\"id\":\"source-"), *why = strstr(line, "\"source\":\"source-");
	if (why && sscanf(why, "\"source\":\"source-%u\",\"offset\":%llu", &source, &offset) == 2)
		(void)snprintf(out, size, "%u:%llu\n", source, offset);
	else if (id && sscanf(id, "\"id\":\"source-%u#%llu\"", &source, &offset) >= 1)
		(void)snprintf(out, size, "%u:%llu\n", source, offset);
	else
		return false;
	return true;
}

bool content_name_lines(char *lines)
{
	char *to = lines, name[64];
	for (char *at = lines, *end; (end = strchr(at, '\n')); at = end + 1) {
		*end = '\0';
		if (!name_line(at, name, sizeof(name)))
			return false;
		size_t n = strlen(name);
		if (to + n > end + 1)
			return false;
		memcpy(to, name, n);
		to += n;
	}
	*to = '\0';
	return true;
}
