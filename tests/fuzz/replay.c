// SPDX-License-Identifier: Apache-2.0
/* replay: runs a fuzz target over the files of its corpus, for builds without libFuzzer. usage: fuzz_x DIR... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return 1;
	static uint8_t data[1 << 20];
	size_t n = fread(data, 1, sizeof(data), f);
	(void)fclose(f);
	uint8_t *exact = malloc(n ? n : 1); /* exact size: a sanitizer sees a read past the end */
	if (!exact)
		return 1;
	for (size_t i = 0; i < n; i++)
		exact[i] = data[i];
	(void)LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	return 0;
}

int main(int argc, char **argv)
{
	int n = 0, failed = LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		if (!dir)
			continue;
		for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
			char path[4096];
			if (e->d_name[0] == '.')
				continue;
			(void)snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			failed |= run_file(path);
			n++;
		}
		(void)closedir(dir);
	}
	(void)printf("replayed %d inputs\n", n);
	return failed;
}
