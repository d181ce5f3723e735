// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a run directory's list of inputs: refused or read, bounded; and with its checksum made right, so that the rest is reached. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "coordinator/rundir/inputs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[] = "/tmp/docflume-fuzz-inputs-XXXXXX";

static void remove_folder(void)
{
	(void)rmdir(path);
}

static int folder(void)
{
	static int fd = -1;
	if (fd < 0) {
		DF_ASSERT(mkdtemp(path) != NULL && atexit(remove_folder) == 0);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DF_ASSERT(fd >= 0);
	}
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_source source = {.path = "a", .name = "a", .id = {1, 2, 3, 4}};
	struct df_dataset d = {.source = &source, .n_source = 1, .fingerprint = 5};
	uint64_t sum = 6, tail = df_hash64(data, size);
	struct df_inputs_diff diff;
	int dir = folder(), fd = openat(dir, DF_INPUTS_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	DF_ASSERT(fd >= 0 && write(fd, data, size) == (ssize_t)size && write(fd, &tail, 8) == 8);
	(void)close(fd);
	for (int i = 0; i < 2; i++) {
		enum df_err err = df_inputs_compare(&df_io_real, dir, &d, i ? &sum : NULL, &diff, NULL);
		if (err != DF_OK)
			continue;
		DF_ASSERT(diff.lines.n < 1U << 20);
		df_inputs_diff_release(&diff);
	}
	(void)unlinkat(dir, DF_INPUTS_NAME, 0);
	return 0;
}
