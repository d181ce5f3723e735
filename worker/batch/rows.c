// SPDX-License-Identifier: Apache-2.0
/* rows: the output of a pass, kept aside until the pass turns out to be the last one. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "worker/batch/own.h"

#define PART "part-00000.jsonl"
#define REJECTS "rejects-00000.jsonl"
#define WRITE_BYTES (1U << 20)

static enum df_err open_one(int dir_fd, const char *name, FILE **ret, struct df_fail *fail)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		enum df_err err = df_fail_errno(fail, "write '%s'", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	(void)setvbuf(f, NULL, _IOFBF, WRITE_BYTES);
	*ret = f;
	return DF_OK;
}

enum df_err df_batch_out_begin(struct df_batch_out *o, int dir_fd, struct df_fail *fail)
{
	*o = (struct df_batch_out){.dir_fd = dir_fd};
	DF_TRY(open_one(dir_fd, PART ".open", &o->part, fail));
	return open_one(dir_fd, REJECTS ".open", &o->rejects, fail);
}

enum df_err df_batch_out_add(struct df_batch_out *o, bool reject, const char *p, size_t n, struct df_fail *fail)
{
	FILE *f = reject ? o->rejects : o->part;
	if (o->broken || fwrite(p, 1, n, f) == n)
		return DF_OK;
	return df_fail_errno(fail, "write '%s'", reject ? REJECTS ".open" : PART ".open");
}

static enum df_err close_one(FILE **file, const char *name, struct df_fail *fail)
{
	FILE *f = *file;
	*file = NULL;
	bool bad = fflush(f) != 0 || fsync(fileno(f)) != 0;
	enum df_err err = bad ? df_fail_errno(fail, "write '%s'", name) : DF_OK;
	if (fclose(f) != 0 && err == DF_OK)
		err = df_fail_errno(fail, "write '%s'", name);
	return err;
}

enum df_err df_batch_out_end(struct df_batch_out *o, struct df_fail *fail)
{
	DF_TRY(close_one(&o->part, PART ".open", fail));
	DF_TRY(close_one(&o->rejects, REJECTS ".open", fail));
	if (renameat(o->dir_fd, PART ".open", o->dir_fd, PART) != 0 ||
	    renameat(o->dir_fd, REJECTS ".open", o->dir_fd, REJECTS) != 0 || fsync(o->dir_fd) != 0)
		return df_fail_errno(fail, "rename the output");
	return DF_OK;
}

void df_batch_out_drop(struct df_batch_out *o)
{
	if (o->part)
		(void)fclose(o->part);
	if (o->rejects)
		(void)fclose(o->rejects);
	if (o->part || o->rejects) {
		(void)unlinkat(o->dir_fd, PART ".open", 0);
		(void)unlinkat(o->dir_fd, REJECTS ".open", 0);
	}
	o->part = o->rejects = NULL;
}

uint64_t df_batch_count(const struct df_batch_run *b, const char *name)
{
	const uint64_t *n = df_map_get(&b->counters.map, df_str_from(name));
	return n ? *n : 0;
}
