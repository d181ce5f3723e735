// SPDX-License-Identifier: Apache-2.0
/*
 * blob: bytes with two true owners or more: a payload frame that waits in a queue while ZeroMQ sends it, or a reader's cell that
 * is kept until its result was seen. Reference-counted, thread-safe; bytes are not changed once it is shared.
 */
#ifndef DF_PROTO_BLOB_H
#define DF_PROTO_BLOB_H

#include <stdatomic.h>
#include <stddef.h>

struct df_blob {
	atomic_int refs;
	char *p;
	size_t n;
	void (*free_bytes)(struct df_blob *blob); /* called once, by the last unref; must free blob too */
};

/* n uninitialised bytes, one reference; NULL when memory is out. */
struct df_blob *df_blob_create(size_t n);
/* A copy of n bytes. */
struct df_blob *df_blob_copy(const void *p, size_t n);
/* Takes over a malloc()ed buffer (freed with free()); NULL when memory is out (the buffer stays the caller's). */
struct df_blob *df_blob_adopt(char *p, size_t n);
struct df_blob *df_blob_ref(struct df_blob *blob);
/* Nulls the pointer; accepts a NULL inside. */
void df_blob_unref(struct df_blob **blob);

#endif
