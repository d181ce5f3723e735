// SPDX-License-Identifier: Apache-2.0
/*
 * stream: bytes in one direction. A file or descriptor, a decompressor over another stream, a member of an archive.
 *
 * Each implementation embeds struct df_stream first. read() gives 1 to n bytes (DF_OK), DF_ERR_END, DF_ERR_AGAIN
 * (live input is silent), or an error that says what is wrong and where; bytes before the fault have all been given
 * by then.
 */
#ifndef DF_WORKER_READ_STREAM_H
#define DF_WORKER_READ_STREAM_H

#include <stdint.h>

#include "base/err.h"

struct df_stream {
	enum df_err (*read)(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail);
	void (*destroy)(struct df_stream *s); /* frees s alone, not what it reads from */
	const char *name;                     /* for messages; borrowed */
	uint64_t offset;                      /* bytes given so far */
};

static inline void df_stream_destroy(struct df_stream **s)
{
	if (*s)
		(*s)->destroy(*s);
	*s = NULL;
}

/* Reads and counts. */
enum df_err df_stream_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail) DF_MUST_CHECK;

/* A descriptor, borrowed. idle_ms >= 0: poll, and DF_ERR_AGAIN after that silence; -1: block. */
enum df_err df_stream_of_fd(int fd, const char *name, int idle_ms, struct df_stream **ret_stream) DF_MUST_CHECK;

/* A stream whose first bytes can be looked at before they are read. `in` is borrowed. */
#define DF_PEEK_BYTES 512
enum df_err df_stream_peekable(struct df_stream *in, struct df_stream **ret_stream) DF_MUST_CHECK;
/* Up to DF_PEEK_BYTES (fewer only at the end of input, or when live input falls silent). DF_ERR_AGAIN: nothing yet. */
enum df_err df_stream_peek(struct df_stream *peekable, const uint8_t **ret_p, size_t *ret_n,
			   struct df_fail *fail) DF_MUST_CHECK;

/* Decompressors; `in` is borrowed and must outlive them. DF_ERR_CORRUPT: broken or truncated. */
enum df_codec { DF_CODEC_NONE, DF_CODEC_GZIP, DF_CODEC_ZSTD, DF_CODEC_XZ, DF_CODEC_BZIP2 };
enum df_codec df_codec_of(const uint8_t *magic, size_t n);
enum df_err df_stream_decompress(struct df_stream *in, enum df_codec codec, struct df_stream **ret_stream,
				 struct df_fail *fail) DF_MUST_CHECK;

#endif
