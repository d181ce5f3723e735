// SPDX-License-Identifier: Apache-2.0
/* blob: reference counts for bytes with several owners; bytes and struct are one allocation unless they were adopted. */
#include "proto/blob.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Bytes begin on a cache line of their own, so that the count, which several threads write, does not share it. */
#define HEADER 64U
_Static_assert(sizeof(struct df_blob) <= HEADER, "the bytes of a blob begin behind its struct");

static void free_whole(struct df_blob *blob)
{
	free(blob);
}

static void free_adopted(struct df_blob *blob)
{
	free(blob->p);
	free(blob);
}

struct df_blob *df_blob_create(size_t n)
{
	if (n > SIZE_MAX / 2)
		return NULL;
	struct df_blob *blob = aligned_alloc(HEADER, (HEADER + n + HEADER - 1) & ~(size_t)(HEADER - 1));
	if (!blob)
		return NULL;
	atomic_init(&blob->refs, 1);
	blob->p = (char *)blob + HEADER;
	blob->n = n;
	blob->free_bytes = free_whole;
	return blob;
}

struct df_blob *df_blob_copy(const void *p, size_t n)
{
	struct df_blob *blob = df_blob_create(n);
	if (blob && n)
		memcpy(blob->p, p, n);
	return blob;
}

struct df_blob *df_blob_adopt(char *p, size_t n)
{
	struct df_blob *blob = malloc(sizeof(*blob));
	if (!blob)
		return NULL;
	atomic_init(&blob->refs, 1);
	blob->p = p;
	blob->n = n;
	blob->free_bytes = free_adopted;
	return blob;
}

struct df_blob *df_blob_ref(struct df_blob *blob)
{
	/* Relaxed: whoever takes a reference already holds one, so nothing has to be ordered here. */
	int before = atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
	DF_ASSERT(before > 0);
	return blob;
}

void df_blob_unref(struct df_blob **blob)
{
	struct df_blob *b = *blob;
	*blob = NULL;
	if (!b)
		return;
	/* Release: our reads happen before the free; acquire: the last owner sees everybody's. */
	int before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
	DF_ASSERT(before > 0);
	if (before == 1)
		b->free_bytes(b);
}
