// SPDX-License-Identifier: Apache-2.0
/* store_stdout: rows to a pipe, a terminal or a file that somebody else opened. */
#include "coordinator/sink/store_stdout.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static const char *name_of(enum df_output_kind kind)
{
	return kind == DF_OUTPUT_REJECTS ? "rejects" : "stdout";
}

void df_store_stdout_init(struct df_store_stdout *out, const struct df_store_config *config)
{
	*out = (struct df_store_stdout){0};
	out->fd[DF_OUTPUT_JSONL] = config->want[DF_OUTPUT_JSONL] ? config->out_fd : -1;
	out->fd[DF_OUTPUT_NPY] = -1;
	out->fd[DF_OUTPUT_REJECTS] = config->rejects_fd;
}

/* A descriptor shared with a terminal or another process may be non-blocking: then wait for room. */
static enum df_err write_fully(int fd, const char *p, size_t n, const char *name, struct df_fail *fail)
{
	while (n) {
		ssize_t r = write(fd, p, n);
		if (r >= 0) {
			p += r;
			n -= (size_t)r;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			struct pollfd pfd = {.fd = fd, .events = POLLOUT};
			if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
				return df_fail_errno(fail, "cannot wait for %s", name);
		} else if (errno == EPIPE) {
			return df_fail(fail, DF_ERR_CLOSED, "the reader of %s has gone", name);
		} else if (errno != EINTR) {
			return df_fail_errno(fail, "cannot write to %s", name);
		}
	}
	return DF_OK;
}

enum df_err df_store_stdout_append(struct df_store_stdout *out, enum df_output_kind kind, const struct df_blob *frame,
				   uint64_t rows, struct df_fail *fail)
{
	if (kind == DF_OUTPUT_NPY)
		return df_fail(fail, DF_ERR_BUG, "vectors as .npy cannot be written to stdout");
	if (out->fd[kind] >= 0)
		DF_TRY(write_fully(out->fd[kind], frame->p, frame->n, name_of(kind), fail));
	out->info[kind].bytes += frame->n;
	out->info[kind].rows += rows;
	return DF_OK;
}

const struct df_part_info *df_store_stdout_parts(struct df_store_stdout *out, size_t *ret_n)
{
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		out->info[k].kind = (uint32_t)k;
		(void)snprintf(out->info[k].name, sizeof(out->info[k].name), "%s", name_of((enum df_output_kind)k));
	}
	/* jsonl comes first and rejects last; there is no .npy between them */
	out->info[1] = out->info[DF_OUTPUT_REJECTS];
	*ret_n = 2;
	return out->info;
}
