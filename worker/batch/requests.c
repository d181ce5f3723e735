// SPDX-License-Identifier: Apache-2.0
/* requests: writers of request files, one open for each model and endpoint. */
#include "worker/batch/requests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/limits.h"
#include "worker/batch/answers.h"

#define OPEN_MAX DF_STAGES_MAX /* with more models in one input, the one that was begun first is closed */
#define WRITE_BYTES (256U << 10)

struct writer {
	FILE *f;
	struct df_hasher *hasher;
	uint32_t no; /* in the state */
};

struct df_request_files {
	struct df_request_files_config config;
	size_t n_before;
	struct writer open[OPEN_MAX];
	size_t n_open;
	bool ended;
};

enum df_err df_request_files_begin(const struct df_request_files_config *config, struct df_request_files **ret_requests,
				   struct df_fail *fail)
{
	struct df_request_files *r = calloc(1, sizeof(*r));
	if (!r)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for requests");
	r->config = *config;
	r->n_before = config->state->n_file;
	*ret_requests = r;
	return DF_OK;
}

static enum df_err close_writer(struct df_request_files *r, size_t i, struct df_fail *fail)
{
	FILE *f = r->open[i].f;
	uint32_t no = r->open[i].no;
	r->config.state->file[no].hash = df_hasher_value(r->open[i].hasher);
	df_hasher_destroy(&r->open[i].hasher);
	r->open[i] = r->open[--r->n_open];
	bool bad = fflush(f) != 0 || fsync(fileno(f)) != 0;
	enum df_err err = bad ? df_fail_errno(fail, "write 'requests-%05u.jsonl'", no) : DF_OK;
	if (fclose(f) != 0 && err == DF_OK)
		err = df_fail_errno(fail, "write 'requests-%05u.jsonl'", no);
	return err;
}

static enum df_err open_writer(struct df_request_files *r, struct df_str model, struct df_str endpoint,
			       struct df_fail *fail)
{
	char name[DF_BATCH_NAME_BYTES];
	struct df_batch_file *file = NULL;
	if (r->n_open == OPEN_MAX)
		DF_TRY(close_writer(r, 0, fail));
	enum df_err err = df_batch_state_add(r->config.state, model, endpoint, &file);
	if (err != DF_OK)
		return df_fail(fail, err, "more than %d files of requests in one run", DF_BATCH_FILES_MAX);
	file->round = r->config.state->round + 1;
	df_batch_file_name(name, "requests", file->no, "jsonl");
	int fd = openat(r->config.dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		err = df_fail_errno(fail, "write '%s'", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	struct df_hasher *hasher = df_hasher_create();
	if (!hasher) {
		(void)fclose(f);
		return df_fail(fail, DF_ERR_NOMEM, "no memory for requests");
	}
	(void)setvbuf(f, NULL, _IOFBF, WRITE_BYTES);
	r->open[r->n_open++] = (struct writer){f, hasher, file->no};
	return DF_OK;
}

/* The open one for this model and endpoint. */
static size_t find(const struct df_request_files *r, struct df_str model, struct df_str endpoint)
{
	for (size_t i = 0; i < r->n_open; i++) {
		const struct df_batch_file *file = &r->config.state->file[r->open[i].no];
		if (df_str_is(model, file->model) && df_str_is(endpoint, file->endpoint))
			return i;
	}
	return SIZE_MAX;
}

/* A batch of Anthropic's may have more than a file of OpenAI's. */
static uint64_t lines_max(const struct df_request_files *r, struct df_str endpoint)
{
	bool inl = df_str_ends(endpoint, DF_BATCH_INLINE_END);
	uint64_t most = inl ? DF_BATCH_INLINE_LINES_MAX : DF_BATCH_LINES_MAX;
	return r->config.lines_max < most ? r->config.lines_max : most;
}

enum df_err df_request_files_add(struct df_request_files *r, struct df_str model, struct df_str endpoint,
				 struct df_str line, double worst_usd, struct df_fail *fail)
{
	if (line.n > r->config.bytes_max)
		return df_fail(fail, DF_ERR_RANGE, "a request of %zu bytes does not fit a batch's file of %llu", line.n,
			       (unsigned long long)r->config.bytes_max);
	size_t i = find(r, model, endpoint);
	if (i != SIZE_MAX) {
		const struct df_batch_file *file = &r->config.state->file[r->open[i].no];
		if (file->lines >= lines_max(r, endpoint) || file->bytes + line.n > r->config.bytes_max) {
			DF_TRY(close_writer(r, i, fail));
			i = SIZE_MAX;
		}
	}
	if (i == SIZE_MAX) {
		DF_TRY(open_writer(r, model, endpoint, fail));
		i = r->n_open - 1;
	}
	struct df_batch_file *file = &r->config.state->file[r->open[i].no];
	if (fwrite(line.p, 1, line.n, r->open[i].f) != line.n)
		return df_fail_errno(fail, "write 'requests-%05u.jsonl'", file->no);
	df_hasher_add(r->open[i].hasher, line.p, line.n);
	file->lines++;
	file->bytes += line.n;
	file->worst_usd += worst_usd;
	return DF_OK;
}

enum df_err df_request_files_end(struct df_request_files *r, double *ret_worst, struct df_fail *fail)
{
	double worst = 0;
	while (r->n_open)
		DF_TRY(close_writer(r, r->n_open - 1, fail));
	if (fsync(r->config.dir_fd) != 0)
		return df_fail_errno(fail, "sync the run directory");
	for (size_t i = r->n_before; i < r->config.state->n_file; i++)
		worst += r->config.state->file[i].worst_usd;
	r->ended = true;
	*ret_worst = worst;
	return DF_OK;
}

void df_request_files_destroy(struct df_request_files **requests)
{
	struct df_request_files *r = *requests;
	if (!r)
		return;
	while (r->n_open) {
		df_hasher_destroy(&r->open[--r->n_open].hasher);
		(void)fclose(r->open[r->n_open].f);
	}
	while (!r->ended && r->config.state->n_file > r->n_before)
		df_batch_state_drop_last(r->config.state);
	free(r);
	*requests = NULL;
}
