// SPDX-License-Identifier: Apache-2.0
/* read_paths: resolve, sort, prune, and climb while there are too many. */
#include "coordinator/children/read_paths.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define GATHERED_MAX 4096 /* paths held before they are made fewer */

struct gathering {
	char *path[GATHERED_MAX];
	size_t n;
};

/* With '/' before every other byte, what lies beneath a folder follows it at once. */
static int compare(const void *a, const void *b)
{
	const unsigned char *p = *(const unsigned char *const *)a, *q = *(const unsigned char *const *)b;
	while (*p && *p == *q) {
		p++;
		q++;
	}
	int x = *p == '/' ? 1 : *p ? *p + 2 : 0, y = *q == '/' ? 1 : *q ? *q + 2 : 0;
	return x - y;
}

static size_t depth_of(const char *path)
{
	size_t n = 0;
	for (const char *p = path; *p; p++)
		n += *p == '/' && p[1] != '\0';
	return n;
}

static void cut_last(char *path)
{
	char *slash = strrchr(path, '/');
	if (slash)
		slash[slash == path] = '\0';
}

static bool is_beneath(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/' || dir[n - 1] == '/');
}

static void prune(struct gathering *g)
{
	size_t n = 0;
	qsort(g->path, g->n, sizeof(*g->path), compare);
	for (size_t i = 0; i < g->n; i++) {
		if (n && is_beneath(g->path[i], g->path[n - 1]))
			free(g->path[i]);
		else
			g->path[n++] = g->path[i];
	}
	g->n = n;
}

static void make_few(struct gathering *g)
{
	prune(g);
	while (g->n > DF_READ_PATHS_MAX) {
		size_t deepest = 0;
		for (size_t i = 0; i < g->n; i++) {
			size_t depth = depth_of(g->path[i]);
			deepest = depth > deepest ? depth : deepest;
		}
		for (size_t i = 0; i < g->n; i++)
			if (depth_of(g->path[i]) == deepest)
				cut_last(g->path[i]);
		prune(g);
	}
}

/* True also for what cannot be resolved; false: no memory. */
static bool add(struct gathering *g, const char *path, bool folder)
{
	char real[PATH_MAX];
	if (!realpath(path, real))
		return true;
	if (folder)
		cut_last(real);
	if (g->n == GATHERED_MAX)
		make_few(g);
	g->path[g->n] = strdup(real);
	return g->path[g->n] && ++g->n;
}

static bool is_link(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/* Neighbours mostly share their folder, which is resolved once; a link leads elsewhere. */
static bool gather_folders(const struct df_dataset *d, struct gathering *g)
{
	const char *last = "";
	size_t n_last = 0;
	for (size_t i = 0; i < d->n_source; i++) {
		const char *path = d->source[i].path, *slash = strrchr(path, '/');
		size_t n = slash ? (size_t)(slash - path) + 1 : 0;
		bool same = i > 0 && n == n_last && memcmp(path, last, n) == 0;
		if (same && !is_link(path))
			continue;
		if (!add(g, path, true))
			return false;
		if (!is_link(path)) {
			last = path;
			n_last = n;
		}
	}
	return true;
}

static bool gather(const struct df_dataset *d, struct gathering *g)
{
	if (d->n_source > DF_READ_PATHS_MAX)
		return gather_folders(d, g);
	for (size_t i = 0; i < d->n_source; i++)
		if (strcmp(d->source[i].path, "-") != 0 && !add(g, d->source[i].path, false))
			return false;
	return true;
}

enum df_err df_read_paths_of(const struct df_dataset *d, struct df_read_paths *ret_paths, struct df_fail *fail)
{
	struct gathering *g = calloc(1, sizeof(*g));
	struct df_read_paths p = {0};
	bool ok = g && gather(d, g);
	if (ok) {
		make_few(g);
		p.path = calloc(g->n + 1, sizeof(*p.path));
		ok = p.path != NULL;
	}
	for (size_t i = 0; g && i < g->n; i++)
		if (ok)
			p.path[p.n++] = df_str_from(g->path[i]);
		else
			free(g->path[i]);
	free(g);
	if (!ok)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the paths of %zu inputs", d->n_source);
	*ret_paths = p;
	return DF_OK;
}

void df_read_paths_release(struct df_read_paths *p)
{
	for (size_t i = 0; i < p->n; i++)
		free((char *)(uintptr_t)p->path[i].p);
	free(p->path);
	*p = (struct df_read_paths){0};
}
