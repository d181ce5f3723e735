// SPDX-License-Identifier: Apache-2.0
/*
 * verify_core: what the files of verify share; for nobody else. verify.c: opening, journal, cells, counts, files; verify_parts.c: the data files;
 * verify_json.c: run.json.
 */
#ifndef DF_COORDINATOR_VERIFY_VERIFY_CORE_H
#define DF_COORDINATOR_VERIFY_VERIFY_CORE_H

#include "base/io.h"
#include "coordinator/sink/parts.h"
#include "coordinator/verify/verify.h"

/* A run's files as the journal has them. */
struct df_verify_part {
	struct df_journal_file file;
	bool open;
	const struct df_mark *mark;
	size_t n_mark;
	char name[DF_PART_NAME_MAX];
	/* found */
	bool there;
	char *fault[2]; /* heap: of its bytes, of its lines */
	uint64_t lines, unchecked;
	enum df_err err; /* could not be read at all */
	struct df_fail fail;
};

struct df_verify_job {
	struct df_verify *v;
	const struct df_verify_config *config;
	int dir_fd, lock_fd;
	struct df_replay journal;
	struct df_parts_place place;
	struct df_verify_part *part;
	size_t n_part;
	struct df_arena arena;
	bool no_memory; /* met while findings were noted */
};

void df_verify_wrong(struct df_verify_job *job, enum df_verify_group group, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void df_verify_say(struct df_verify_job *job, enum df_verify_group group, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

enum df_err df_verify_parts(struct df_verify_job *job, struct df_fail *fail) DF_MUST_CHECK;
void df_verify_json(struct df_verify_job *job);

#endif
