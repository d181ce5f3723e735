// SPDX-License-Identifier: Apache-2.0
/* trace: a run's changes of its directory, one record each in a file that all processes map (io.h; tests/fault/power.py reads it). */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fault/shim/io.h"
#include "tests/fault/shim/shim.h"

#define FIRST 64

/* Little-endian and of fixed width: struct.unpack("<IIQQQQII"). `size` is written last: 0 is a record that never came to its end. */
struct record {
	_Atomic uint32_t size; /* of all of it, a multiple of 8 */
	uint32_t op;
	uint64_t inode, offset, number, n_data;
	uint32_t n_name, n_other;
};

static struct {
	char *file;
	size_t bytes;
} trace;

__attribute__((constructor(65535))) static void start(void)
{
	const char *path = getenv("DF_SHIM_TRACE");
	trace.file = path ? shim_map(path, &trace.bytes) : NULL;
}

bool shim_traces(void)
{
	return trace.file != NULL;
}

static uint64_t inode_of(const struct shim_change *c)
{
	struct stat st;
	if (c->fd < 0)
		return 0;
	return fstat(c->fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void shim_trace(const struct shim_change *c)
{
	if (!trace.file)
		return;
	size_t n_name = c->name ? strlen(c->name) : 0, n_other = c->other ? strlen(c->other) : 0;
	size_t size = (sizeof(struct record) + c->n_byte + n_name + n_other + 7) & ~(size_t)7;
	uint64_t at = atomic_fetch_add((_Atomic uint64_t *)trace.file, size) + FIRST;
	if (at + size > trace.bytes)
		return; /* the head says how much it would have been: the reader refuses */
	struct record *r = (struct record *)(trace.file + at);
	r->op = c->op;
	r->inode = inode_of(c);
	r->offset = c->offset;
	r->number = c->number;
	r->n_data = c->n_byte;
	r->n_name = (uint32_t)n_name;
	r->n_other = (uint32_t)n_other;
	char *to = (char *)(r + 1);
	size_t left = c->n_byte;
	for (int i = 0; i < c->n_data && left; i++) {
		size_t n = c->data[i].iov_len < left ? c->data[i].iov_len : left;
		memcpy(to, c->data[i].iov_base, n);
		to += n;
		left -= n;
	}
	memcpy(to, c->name ? c->name : "", n_name);
	memcpy(to + n_name, c->other ? c->other : "", n_other);
	atomic_store(&r->size, (uint32_t)size);
}
