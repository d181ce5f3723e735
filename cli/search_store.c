// SPDX-License-Identifier: Apache-2.0
/* search_store: parts of a run, exact scores in blocks, rows by number. */
#include "cli/search_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/math/gemm.h"
#include "worker/math/kernels.h"
#include "worker/read/stream.h"

#define BLOCK_ROWS 1024U
#define READ_BYTES ((size_t)256 << 10)

/* ------------------------------------------------------------------ parts */

/* "part-00000.npy" or "part-00000.npy.open": the length of the name before the dot, else 0. */
static size_t part_name(const char *file, bool *ret_open)
{
	struct df_str s = df_str_from(file);
	*ret_open = df_str_ends(s, ".open");
	s.n -= *ret_open ? 5 : 0;
	if (!df_str_starts(s, "part-") || !df_str_ends(s, ".npy"))
		return 0;
	return s.n - 4;
}

static enum df_err add_part(struct df_search_store *s, const char *file, struct df_fail *fail)
{
	bool open = false;
	size_t n = part_name(file, &open);
	if (n == 0)
		return DF_OK;
	if (s->n_part == DF_SEARCH_PARTS_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "'%s' has more than %u parts", s->dir, DF_SEARCH_PARTS_MAX);
	if (s->n_part == s->cap_part) {
		size_t cap = s->cap_part ? 2 * s->cap_part : 16;
		struct df_search_part *grown = realloc(s->part, cap * sizeof(*grown));
		if (!grown)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for the parts of '%s'", s->dir);
		s->part = grown;
		s->cap_part = cap;
	}
	char *name = df_str_dup((struct df_str){file, n});
	if (!name)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the parts of '%s'", s->dir);
	s->part[s->n_part++] = (struct df_search_part){.name = name, .open = open};
	return DF_OK;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct df_search_part *)a)->name, ((const struct df_search_part *)b)->name);
}

static enum df_err list_parts(struct df_search_store *s, struct df_fail *fail)
{
	DIR *dir = opendir(s->dir);
	enum df_err err = DF_OK;
	if (!dir)
		return df_fail_errno(fail, "cannot open the run directory '%s'", s->dir);
	for (struct dirent *e = readdir(dir); e && err == DF_OK; e = readdir(dir))
		err = add_part(s, e->d_name, fail);
	(void)closedir(dir);
	if (s->n_part)
		qsort(s->part, s->n_part, sizeof(*s->part), by_name);
	return err;
}

static enum df_err map_path(struct df_search_part *p, const char *path, struct df_fail *fail)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", path);
	enum df_err err = DF_OK;
	if (fstat(fd, &st) < 0)
		err = df_fail_errno(fail, "cannot read '%s'", path);
	else if (st.st_size > 0) {
		void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			err = df_fail_errno(fail, "cannot map '%s'", path);
		else {
			p->map = map;
			p->map_bytes = (size_t)st.st_size;
		}
	}
	(void)close(fd);
	return err;
}

static enum df_err open_part(struct df_search_store *s, struct df_search_part *p, struct df_fail *fail)
{
	char path[PATH_MAX];
	struct df_fail inner = {.msg = ""};
	if (snprintf(path, sizeof(path), "%s/%s.npy%s", s->dir, p->name, p->open ? ".open" : "") >= PATH_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "the path '%s' is too long", s->dir);
	DF_TRY(map_path(p, path, fail));
	if (p->open && p->map_bytes <= DF_NPY_HEADER_BYTES)
		return DF_OK; /* nothing in it yet */
	enum df_err err = df_npy_parse((struct df_str){p->map, p->map_bytes}, p->open, &p->npy, &inner);
	if (err != DF_OK)
		return df_fail(fail, err, "'%s': %s", path, inner.msg);
	if (p->npy.rows == 0)
		return DF_OK;
	if (p->npy.dim > UINT32_MAX || (s->dim && s->dim != p->npy.dim))
		return df_fail(fail, DF_ERR_CORRUPT, "'%s': vectors of %llu numbers, others have %u", path,
			       (unsigned long long)p->npy.dim, s->dim);
	s->dim = (uint32_t)p->npy.dim;
	s->rows += p->npy.rows;
	return DF_OK;
}

enum df_err df_search_open(struct df_search_store *s, const char *dir, struct df_fail *fail)
{
	*s = (struct df_search_store){.dir = df_str_dup(df_str_from(dir))};
	if (!s->dir)
		return df_fail(fail, DF_ERR_NOMEM, "no memory");
	DF_TRY(list_parts(s, fail));
	if (s->n_part == 0)
		return df_fail(fail, DF_ERR_NOT_FOUND,
			       "'%s': this run has no .npy parts; run with --output-format both", dir);
	for (size_t i = 0; i < s->n_part; i++)
		DF_TRY(open_part(s, &s->part[i], fail));
	if (s->rows == 0)
		return df_fail(fail, DF_ERR_NOT_FOUND, "'%s': this run has no vectors yet", dir);
	return DF_OK;
}

void df_search_close(struct df_search_store *s)
{
	for (size_t i = 0; i < s->n_part; i++) {
		free(s->part[i].name);
		if (s->part[i].map)
			(void)munmap(s->part[i].map, s->part[i].map_bytes);
	}
	free(s->part);
	free(s->dir);
	*s = (struct df_search_store){0};
}

/* ------------------------------------------------------------------ scores */

struct top {
	struct df_search_hit *hit; /* sorted, best first */
	size_t n, max;
};

/* A NaN is never better than anything. */
static void offer(struct top *t, float score, size_t part, uint64_t row)
{
	if (!(score == score) || (t->n == t->max && !(score > t->hit[t->n - 1].score)))
		return;
	size_t low = 0, high = t->n;
	while (low < high) { /* behind all that are as good */
		size_t mid = (low + high) / 2;
		if (t->hit[mid].score >= score)
			low = mid + 1;
		else
			high = mid;
	}
	t->n += t->n < t->max;
	memmove(t->hit + low + 1, t->hit + low, (t->n - 1 - low) * sizeof(*t->hit));
	t->hit[low] = (struct df_search_hit){.score = score, .part = part, .row = row};
}

/* Rows of a part as unit float32: where they are mapped if they can be used so, else copied to `block`. */
static const float *rows_of(const struct df_npy *npy, uint64_t row, size_t n, bool unit, float *block)
{
	const char *from = npy->data + row * npy->dim * df_npy_item_bytes(npy->dtype);
	bool aligned = (uintptr_t)from % sizeof(float) == 0;
	if (npy->dtype == DF_NPY_F32 && unit && aligned)
		return (const float *)(const void *)from;
	if (npy->dtype == DF_NPY_F32)
		memcpy(block, from, n * npy->dim * sizeof(float));
	else
		for (size_t i = 0; i < n * npy->dim; i++) {
			uint16_t half;
			memcpy(&half, from + 2 * i, sizeof(half));
			block[i] = df_f16_to_f32(half);
		}
	if (!unit)
		df_kernels()->normalize(block, n, npy->dim);
	return block;
}

enum df_err df_search_nearest(const struct df_search_store *s, const float *query, bool unit, size_t top_k,
			      struct df_search_hit *ret_hit, size_t *ret_n, struct df_fail *fail)
{
	DF_ASSERT(top_k >= 1 && top_k <= DF_SEARCH_TOP_MAX);
	struct top top = {ret_hit, 0, top_k};
	float *block = malloc(((size_t)s->dim + 1) * BLOCK_ROWS * sizeof(*block));
	if (!block)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to search");
	float *score = block + (size_t)s->dim * BLOCK_ROWS;
	df_gemm_init();
	for (size_t i = 0; i < s->n_part; i++) {
		const struct df_npy *npy = &s->part[i].npy;
		for (uint64_t row = 0; row < npy->rows; row += BLOCK_ROWS) {
			size_t n = npy->rows - row < BLOCK_ROWS ? (size_t)(npy->rows - row) : BLOCK_ROWS;
			df_gemv(n, s->dim, rows_of(npy, row, n, unit, block), s->dim, query, score);
			for (size_t j = 0; j < n; j++)
				offer(&top, score[j], i, row + j);
		}
	}
	free(block);
	*ret_n = top.n;
	return DF_OK;
}

/* ------------------------------------------------------------------ rows */

/* A pass over the lines of one part. */
struct walk {
	struct df_search_hit *hit; /* all hits */
	size_t n_hit, part;
	uint64_t row, last_row; /* the current one; the last that somebody wants */
	struct df_arena *arena;
	struct df_buf line; /* of the current row, if it is wanted */
};

static bool is_wanted(const struct walk *w)
{
	for (size_t i = 0; i < w->n_hit; i++)
		if (w->hit[i].part == w->part && w->hit[i].row == w->row)
			return true;
	return false;
}

static enum df_err end_line(struct walk *w)
{
	for (size_t i = 0; i < w->n_hit; i++)
		if (w->hit[i].part == w->part && w->hit[i].row == w->row && df_buf_err(&w->line) == DF_OK) {
			w->hit[i].line = df_arena_copy(w->arena, df_buf_str(&w->line));
			if (!w->hit[i].line.p)
				return DF_ERR_NOMEM;
		}
	df_buf_reset(&w->line);
	w->row++;
	return DF_OK;
}

static enum df_err feed(struct walk *w, const char *p, size_t n)
{
	while (n && w->row <= w->last_row) {
		const char *end = memchr(p, '\n', n);
		size_t len = end ? (size_t)(end - p) : n;
		if (is_wanted(w))
			(void)df_buf_add(&w->line, p, len); /* its error sticks: a row too long has no line */
		if (!end)
			return DF_OK;
		DF_TRY(end_line(w));
		p += len + 1;
		n -= len + 1;
	}
	return DF_OK;
}

static enum df_err walk_stream(struct walk *w, struct df_stream *in, struct df_fail *fail)
{
	char *piece = malloc(READ_BYTES);
	enum df_err err = piece ? DF_OK : df_fail(fail, DF_ERR_NOMEM, "no memory to read rows");
	while (err == DF_OK && w->row <= w->last_row) {
		size_t n = 0;
		err = df_stream_read(in, piece, READ_BYTES, &n, fail);
		if (err == DF_OK && feed(w, piece, n) != DF_OK)
			err = df_fail(fail, DF_ERR_NOMEM, "the rows found are too large to be held");
	}
	free(piece);
	return err == DF_ERR_END ? DF_OK : err;
}

/* The rows of a part, compressed or not, finished or not; -1 when it has none. */
static int open_rows(const struct df_search_store *s, const char *name, bool *ret_zstd, bool *ret_open)
{
	static const char *const ends[] = {".jsonl", ".jsonl.zst", ".jsonl.open", ".jsonl.zst.open"};
	char path[PATH_MAX];
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (snprintf(path, sizeof(path), "%s/%s%s", s->dir, name, ends[i]) >= PATH_MAX)
			return -1;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			*ret_zstd = i & 1;
			*ret_open = i >= 2;
			return fd;
		}
	}
	return -1;
}

static enum df_err walk_part(struct walk *w, const struct df_search_store *s, struct df_fail *fail)
{
	const char *name = s->part[w->part].name;
	bool zstd = false, unfinished = false;
	struct df_stream *file = NULL, *plain = NULL;
	int fd = open_rows(s, name, &zstd, &unfinished);
	if (fd < 0)
		return DF_OK;
	enum df_err err = df_stream_of_fd(fd, name, -1, &file);
	if (err == DF_OK && zstd)
		err = df_stream_decompress(file, DF_CODEC_ZSTD, &plain, fail);
	if (err == DF_OK)
		err = walk_stream(w, plain ? plain : file, fail);
	df_stream_destroy(&plain);
	df_stream_destroy(&file);
	(void)close(fd);
	return unfinished && err == DF_ERR_CORRUPT ? DF_OK : err; /* its last frame is being written */
}

enum df_err df_search_lines(const struct df_search_store *s, struct df_search_hit *hit, size_t n,
			    struct df_arena *arena, struct df_fail *fail)
{
	enum df_err err = DF_OK;
	for (size_t i = 0; i < s->n_part && err == DF_OK; i++) {
		struct walk w = {.hit = hit, .n_hit = n, .part = i, .arena = arena};
		bool any = false;
		for (size_t j = 0; j < n; j++)
			if (hit[j].part == i) {
				any = true;
				w.last_row = hit[j].row > w.last_row ? hit[j].row : w.last_row;
			}
		if (!any)
			continue;
		df_buf_init(&w.line, DF_SEARCH_LINE_BYTES_MAX);
		err = walk_part(&w, s, fail);
		df_buf_release(&w.line);
	}
	return err;
}
