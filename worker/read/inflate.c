// SPDX-License-Identifier: Apache-2.0
/*
 * inflate: gzip by ISA-L, zstd by libzstd; xz and bzip2 are archive.c's.
 *
 * Several members (gzip) or frames (zstd) behind each other are one stream. Zeros behind the last gzip member are
 * padding; anything else there is an error. A fault is told only after all bytes before it were given.
 */
#include <stdlib.h>
#include <string.h>

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include "worker/read/archive.h"
#include "worker/read/stream.h"

#define IN_BYTES (128U << 10)
#define FRAME_START_BYTES 5 /* a frame begins with this much */

/* Compressed bytes that were read and not used yet. */
struct intake {
	struct df_stream *in;
	uint8_t *p;
	size_t begin, end;
};

struct gzip_stream {
	struct df_stream base;
	struct intake intake;
	struct inflate_state state;
	bool open;   /* inside a member */
	bool ended;  /* at least one member is complete */
	bool broken; /* `fail` is told once the bytes before the fault were given */
	struct df_fail fail;
};

struct zstd_stream {
	struct df_stream base;
	struct intake intake;
	ZSTD_DCtx *context;
	size_t hint; /* bytes that the library wants next: one block, so that a fault costs no byte before it */
	bool open;   /* inside a frame */
};

static enum df_err intake_fill(struct intake *k, struct df_fail *fail)
{
	size_t got = 0;
	if (k->begin < k->end)
		return DF_OK;
	DF_TRY(df_stream_read(k->in, k->p, IN_BYTES, &got, fail));
	k->begin = 0;
	k->end = got;
	return DF_OK;
}

static uint64_t intake_offset(const struct intake *k)
{
	return k->in->offset - (k->end - k->begin);
}

static enum df_err corrupt(const struct df_stream *s, const struct intake *k, const char *format, const char *what,
			   struct df_fail *fail)
{
	return df_fail(fail, DF_ERR_CORRUPT, "%s data of '%s' %s near compressed byte %llu (decompressed byte %llu)",
		       format, s->name, what, (unsigned long long)intake_offset(k), (unsigned long long)s->offset);
}

/* Between members: DF_OK when another one begins; zeros to the end are padding. */
static enum df_err gzip_next_member(struct gzip_stream *g, struct df_fail *fail)
{
	struct intake *k = &g->intake;
	if (g->ended) {
		while (k->begin < k->end && k->p[k->begin] == 0)
			k->begin++;
		while (k->begin == k->end) {
			DF_TRY(intake_fill(k, fail));
			while (k->begin < k->end && k->p[k->begin] == 0)
				k->begin++;
		}
		if (k->p[k->begin] != 0x1f)
			return corrupt(&g->base, k, "gzip", "has something else behind its end", fail);
	} else {
		DF_TRY(intake_fill(k, fail));
	}
	isal_inflate_init(&g->state);
	g->state.crc_flag = ISAL_GZIP;
	g->open = true;
	return DF_OK;
}

/* One call of the library. */
static enum df_err gzip_step(struct gzip_stream *g, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct intake *k = &g->intake;
	g->state.next_in = k->p + k->begin;
	g->state.avail_in = (uint32_t)(k->end - k->begin);
	g->state.next_out = p;
	g->state.avail_out = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
	uint32_t room = g->state.avail_out;
	int code = isal_inflate(&g->state);
	k->begin = k->end - g->state.avail_in;
	*ret_n = room - g->state.avail_out;
	if (code < 0 && code != ISAL_END_INPUT)
		return corrupt(&g->base, k, "gzip",
			       code == ISAL_INCORRECT_CHECKSUM ? "has a wrong checksum" : "is broken", fail);
	if (g->state.block_state == ISAL_BLOCK_FINISH) {
		g->open = false;
		g->ended = true;
	}
	return DF_OK;
}

static enum df_err repeat(const struct gzip_stream *g, struct df_fail *fail)
{
	if (fail)
		*fail = g->fail;
	return g->fail.code;
}

static enum df_err gzip_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct gzip_stream *g = (struct gzip_stream *)s;
	for (;;) {
		if (g->broken)
			return repeat(g, fail);
		if (!g->open)
			DF_TRY(gzip_next_member(g, fail));
		enum df_err more = DF_OK;
		if (g->intake.begin == g->intake.end && g->state.avail_out > 0) {
			more = intake_fill(&g->intake, fail);
			if (more != DF_OK && more != DF_ERR_END)
				return more;
		}
		size_t got = 0;
		g->broken = gzip_step(g, p, n, &got, &g->fail) != DF_OK;
		if (got) {
			*ret_n = got;
			return DF_OK;
		}
		if (!g->broken && g->open && more == DF_ERR_END)
			return corrupt(s, &g->intake, "gzip", "ends early", fail);
	}
}

static void gzip_destroy(struct df_stream *s)
{
	free(((struct gzip_stream *)s)->intake.p);
	free(s);
}

static enum df_err gzip_create(struct df_stream *in, struct df_stream **ret_stream)
{
	struct gzip_stream *g = calloc(1, sizeof(*g));
	if (!g)
		return DF_ERR_NOMEM;
	g->base = (struct df_stream){gzip_read, gzip_destroy, in->name, 0};
	g->intake.in = in;
	g->intake.p = malloc(IN_BYTES);
	if (!g->intake.p) {
		gzip_destroy(&g->base);
		return DF_ERR_NOMEM;
	}
	*ret_stream = &g->base;
	return DF_OK;
}

static enum df_err zstd_fill(struct zstd_stream *z, struct df_fail *fail)
{
	enum df_err err = intake_fill(&z->intake, fail);
	if (err == DF_ERR_END && z->open)
		return corrupt(&z->base, &z->intake, "zstd", "ends early", fail);
	return err;
}

static enum df_err zstd_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct zstd_stream *z = (struct zstd_stream *)s;
	struct intake *k = &z->intake;
	bool flushed = !z->open; /* a first call without input brings what the last one had no room for */
	for (;;) {
		if (flushed && k->begin == k->end)
			DF_TRY(zstd_fill(z, fail));
		size_t held = k->end - k->begin;
		ZSTD_outBuffer out = {p, n, 0};
		ZSTD_inBuffer input = {k->p, k->begin + (!flushed ? 0 : held < z->hint ? held : z->hint), k->begin};
		size_t left = ZSTD_decompressStream(z->context, &out, &input);
		k->begin = input.pos;
		if (ZSTD_isError(left))
			return corrupt(s, k, "zstd", ZSTD_getErrorName(left), fail);
		z->open = left != 0;
		z->hint = left ? left : FRAME_START_BYTES;
		flushed = true;
		if (out.pos) {
			*ret_n = out.pos;
			return DF_OK;
		}
	}
}

static void zstd_destroy(struct df_stream *s)
{
	struct zstd_stream *z = (struct zstd_stream *)s;
	(void)ZSTD_freeDCtx(z->context);
	free(z->intake.p);
	free(z);
}

static enum df_err zstd_create(struct df_stream *in, struct df_stream **ret_stream)
{
	struct zstd_stream *z = calloc(1, sizeof(*z));
	if (!z)
		return DF_ERR_NOMEM;
	z->base = (struct df_stream){zstd_read, zstd_destroy, in->name, 0};
	z->intake.in = in;
	z->hint = FRAME_START_BYTES;
	z->intake.p = malloc(IN_BYTES);
	z->context = ZSTD_createDCtx();
	if (!z->intake.p || !z->context) {
		zstd_destroy(&z->base);
		return DF_ERR_NOMEM;
	}
	*ret_stream = &z->base;
	return DF_OK;
}

static bool begins(const uint8_t *p, size_t n, const char *magic, size_t n_magic)
{
	return n >= n_magic && memcmp(p, magic, n_magic) == 0;
}

enum df_codec df_codec_of(const uint8_t *p, size_t n)
{
	if (begins(p, n, "\x1f\x8b\x08", 3))
		return DF_CODEC_GZIP;
	if (begins(p, n, "\x28\xb5\x2f\xfd", 4) ||
	    (n >= 4 && (p[0] & 0xf0) == 0x50 && begins(p + 1, n - 1, "\x2a\x4d\x18", 3)))
		return DF_CODEC_ZSTD; /* a frame, or a skippable one before it */
	if (begins(p, n,
		   "\xfd"
		   "7zXZ\0",
		   6))
		return DF_CODEC_XZ;
	if (begins(p, n, "BZh", 3) && n >= 10 && p[3] >= '1' && p[3] <= '9' &&
	    (begins(p + 4, n - 4, "1AY&SY", 6) || begins(p + 4, n - 4, "\x17\x72\x45\x38\x50\x90", 6)))
		return DF_CODEC_BZIP2;
	return DF_CODEC_NONE;
}

enum df_err df_stream_decompress(struct df_stream *in, enum df_codec codec, struct df_stream **ret_stream,
				 struct df_fail *fail)
{
	enum df_err err = DF_ERR_BUG;
	switch (codec) {
	case DF_CODEC_GZIP:
		err = gzip_create(in, ret_stream);
		break;
	case DF_CODEC_ZSTD:
		err = zstd_create(in, ret_stream);
		break;
	case DF_CODEC_XZ:
	case DF_CODEC_BZIP2:
		return df_archive_filter(in, codec, ret_stream, fail);
	case DF_CODEC_NONE:
		break;
	}
	return err == DF_OK ? err : df_fail(fail, err, "cannot set up decompression of '%s'", in->name);
}
