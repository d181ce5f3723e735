// SPDX-License-Identifier: Apache-2.0
/*
 * archive: one libarchive handle, read by callbacks from a stream or a descriptor; both a filter (raw format: one
 * member, the content) and an archive with members are the same handle with other formats switched on.
 */
#include "worker/read/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_BYTES (128U << 10)
#define NAME_BYTES_MAX (64U << 10)
#define TAR_HEADER_BYTES 512

struct df_archive {
	struct df_stream content; /* first: of the filter, or of the current member */
	struct archive *handle;
	struct df_stream *in;
	int fd;
	int64_t position; /* in fd */
	uint8_t *p;
	struct df_buf name;
	int filter_code; /* filter: what libarchive must have found */
	bool started;    /* filter: the one member is open */
	bool final;      /* nothing more comes out of it: `err` again */
	enum df_err err;
	struct df_fail fail; /* of the stream below */
	enum df_err below;
};

static la_ssize_t pull_stream(struct archive *handle, void *self, const void **ret_p)
{
	struct df_archive *a = self;
	size_t got = 0;
	enum df_err err;
	do { /* libarchive cannot be asked again later: live input blocks here */
		err = df_stream_read(a->in, a->p, IN_BYTES, &got, &a->fail);
	} while (err == DF_ERR_AGAIN);
	*ret_p = a->p;
	if (err == DF_OK)
		return (la_ssize_t)got;
	if (err == DF_ERR_END)
		return 0;
	a->below = err;
	archive_set_error(handle, EIO, "%s", a->fail.msg);
	return ARCHIVE_FATAL;
}

static la_ssize_t pull_fd(struct archive *handle, void *self, const void **ret_p)
{
	struct df_archive *a = self;
	ssize_t got;
	do {
		got = pread(a->fd, a->p, IN_BYTES, a->position);
	} while (got < 0 && errno == EINTR);
	*ret_p = a->p;
	if (got < 0) {
		a->below = df_fail_errno(&a->fail, "cannot read '%s' at byte %lld", a->content.name,
					 (long long)a->position);
		archive_set_error(handle, EIO, "%s", a->fail.msg);
		return ARCHIVE_FATAL;
	}
	a->position += got;
	return got;
}

static la_int64_t seek_fd(struct archive *handle, void *self, la_int64_t offset, int whence)
{
	struct df_archive *a = self;
	(void)handle;
	off_t end = whence == SEEK_END ? lseek(a->fd, 0, SEEK_END) : 0;
	a->position = offset + (whence == SEEK_END ? end : whence == SEEK_CUR ? a->position : 0);
	return a->position;
}

static la_int64_t skip_fd(struct archive *handle, void *self, la_int64_t request)
{
	struct df_archive *a = self;
	(void)handle;
	a->position += request;
	return request;
}

/* libarchive's answer as ours. */
static enum df_err translate(struct df_archive *a, struct df_fail *fail)
{
	if (a->below != DF_OK) {
		if (fail)
			*fail = a->fail;
		return a->below;
	}
	const char *what = archive_error_string(a->handle);
	bool encrypted = what && (strstr(what, "ncrypt") || strstr(what, "assphrase"));
	int error = archive_errno(a->handle);
	return df_fail(fail,
		       error == ENOMEM ? DF_ERR_NOMEM
		       : encrypted     ? DF_ERR_UNSUPPORTED
				       : DF_ERR_CORRUPT,
		       "data of '%s' is broken or ends early near compressed byte %lld: %s", a->content.name,
		       (long long)archive_filter_bytes(a->handle, -1), what ? what : "no reason given");
}

static enum df_err content_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct df_archive *a = (struct df_archive *)s;
	la_ssize_t got = archive_read_data(a->handle, p, n);
	if (got == 0)
		return DF_ERR_END;
	if (got < 0)
		return translate(a, fail);
	*ret_n = (size_t)got;
	return DF_OK;
}

static enum df_err filter_start(struct df_archive *a, struct df_fail *fail)
{
	struct archive_entry *entry;
	int code = archive_read_next_header(a->handle, &entry);
	if (code != ARCHIVE_EOF && code < ARCHIVE_WARN)
		return translate(a, fail);
	if (archive_filter_code(a->handle, 0) != a->filter_code) /* too short for it: it would come out as it is */
		return df_fail(fail, DF_ERR_CORRUPT, "data of '%s' ends early, within its first bytes",
			       a->content.name);
	if (code == ARCHIVE_EOF)
		return DF_ERR_END;
	a->started = true;
	return DF_OK;
}

/* A fault of libarchive is final; asking again would be a programming error there. */
static enum df_err filter_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct df_archive *a = (struct df_archive *)s;
	if (a->final)
		return a->err;
	enum df_err err = a->started ? DF_OK : filter_start(a, fail);
	if (err == DF_OK)
		err = content_read(s, p, n, ret_n, fail);
	a->final = err != DF_OK;
	a->err = err;
	return err;
}

static void archive_free_all(struct df_stream *s)
{
	struct df_archive *a = (struct df_archive *)s;
	if (a->handle)
		(void)archive_read_free(a->handle);
	df_buf_release(&a->name);
	free(a->p);
	free(a);
}

static struct df_archive *create(struct df_stream *in, int fd)
{
	struct df_archive *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->content = (struct df_stream){content_read, archive_free_all, in->name, 0};
	a->in = in;
	a->fd = fd;
	df_buf_init(&a->name, NAME_BYTES_MAX);
	a->handle = archive_read_new();
	a->p = malloc(IN_BYTES);
	if (a->handle && a->p)
		return a;
	archive_free_all(&a->content);
	return NULL;
}

static enum df_err start(struct df_archive *a, struct df_fail *fail)
{
	(void)archive_read_set_callback_data(a->handle, a);
	if (a->fd >= 0) {
		(void)archive_read_set_read_callback(a->handle, pull_fd);
		(void)archive_read_set_seek_callback(a->handle, seek_fd);
		(void)archive_read_set_skip_callback(a->handle, skip_fd);
	} else {
		(void)archive_read_set_read_callback(a->handle, pull_stream);
	}
	return archive_read_open1(a->handle) >= ARCHIVE_WARN ? DF_OK : translate(a, fail);
}

enum df_err df_archive_filter(struct df_stream *in, enum df_codec codec, struct df_stream **ret_stream,
			      struct df_fail *fail)
{
	struct df_archive *a = create(in, -1);
	if (!a)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory to decompress '%s'", in->name);
	a->content.read = filter_read;
	(void)archive_read_support_format_raw(a->handle);
	(void)archive_read_support_format_empty(a->handle);
	a->filter_code = codec == DF_CODEC_XZ ? ARCHIVE_FILTER_XZ : ARCHIVE_FILTER_BZIP2;
	if (codec == DF_CODEC_XZ)
		(void)archive_read_support_filter_xz(a->handle);
	else
		(void)archive_read_support_filter_bzip2(a->handle);
	enum df_err err = start(a, fail);
	if (err != DF_OK) {
		archive_free_all(&a->content);
		return err;
	}
	*ret_stream = &a->content;
	return DF_OK;
}

static bool is_tar_header(const uint8_t *p)
{
	uint64_t sum = 0, said = 0;
	bool digits = false;
	for (size_t i = 0; i < TAR_HEADER_BYTES; i++)
		sum += i >= 148 && i < 156 ? ' ' : p[i];
	for (size_t i = 148; i < 156 && p[i]; i++) {
		if (p[i] == ' ')
			continue;
		if (p[i] < '0' || p[i] > '7')
			return false;
		said = said * 8 + (uint64_t)(p[i] - '0');
		digits = true;
	}
	return digits && said == sum;
}

enum df_archive_format df_archive_format_of(const uint8_t *p, size_t n)
{
	if (n >= 4 && (memcmp(p, "PK\3\4", 4) == 0 || memcmp(p, "PK\5\6", 4) == 0))
		return DF_ARCHIVE_ZIP;
	if (n >= TAR_HEADER_BYTES && is_tar_header(p))
		return DF_ARCHIVE_TAR;
	return DF_ARCHIVE_NONE;
}

enum df_err df_archive_open(struct df_stream *in, int fd, enum df_archive_format format,
			    struct df_archive **ret_archive, struct df_fail *fail)
{
	struct df_archive *a = create(in, fd);
	if (!a)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory to read archive '%s'", in->name);
	if (format == DF_ARCHIVE_ZIP) {
		(void)archive_read_support_format_zip_streamable(a->handle);
		if (fd >= 0)
			(void)archive_read_support_format_zip_seekable(a->handle);
	} else {
		(void)archive_read_support_format_tar(a->handle);
	}
	(void)archive_read_support_format_empty(a->handle);
	enum df_err err = start(a, fail);
	if (err != DF_OK) {
		archive_free_all(&a->content);
		return err;
	}
	*ret_archive = a;
	return DF_OK;
}

void df_archive_close(struct df_archive **archive)
{
	if (*archive)
		archive_free_all(&(*archive)->content);
	*archive = NULL;
}

/* Bytes of the UTF-8 sequence at p, 0 when it is not one. */
static size_t sequence(const unsigned char *p, size_t n)
{
	size_t length = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;
	if ((p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4 || length > n)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
		   (p[0] == 0xf4 && p[1] > 0x8f);
	return bad ? 0 : length;
}

static enum df_err set_name(struct df_archive *a, struct archive_entry *entry)
{
	const char *name = archive_entry_pathname_utf8(entry);
	if (!name)
		name = archive_entry_pathname(entry);
	if (!name)
		name = "?";
	df_buf_reset(&a->name);
	size_t n = strnlen(name, NAME_BYTES_MAX / 4);
	for (size_t i = 0; i < n;) {
		size_t length = sequence((const unsigned char *)name + i, n - i);
		(void)df_buf_add(&a->name, length ? name + i : "\xef\xbf\xbd", length ? length : 3);
		i += length ? length : 1;
	}
	return df_buf_err(&a->name);
}

enum df_err df_archive_next(struct df_archive *a, struct df_member *ret_member, struct df_fail *fail)
{
	struct archive_entry *entry;
	int code = archive_read_next_header(a->handle, &entry);
	if (code == ARCHIVE_EOF)
		return DF_ERR_END;
	if (code < ARCHIVE_WARN)
		return translate(a, fail);
	if (set_name(a, entry) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory to read archive '%s'", a->content.name);
	a->content.offset = 0;
	*ret_member = (struct df_member){df_buf_str(&a->name), archive_entry_filetype(entry) == AE_IFREG, &a->content};
	return DF_OK;
}
