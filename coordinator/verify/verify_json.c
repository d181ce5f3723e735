// SPDX-License-Identifier: Apache-2.0
/*
 * verify_json: does run.json tell the same as the journal? It is written when a run begins and when it ends, so of a run that is not over only
 * what it is must agree, and not how far it is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "coordinator/rundir/run_json.h"
#include "coordinator/verify/verify_core.h"

#define GROUP DF_VERIFY_RUN_JSON

static void must_say(struct df_verify_job *job, const char *what, const struct df_json *object, const char *key,
		     uint64_t journal)
{
	uint64_t found = df_json_get_u64(object, key, UINT64_MAX);
	if (found != journal)
		df_verify_wrong(job, GROUP, "'run.json' says %" PRIu64 " %s, the journal %" PRIu64, found, what,
				journal);
}

static void must_say_hash(struct df_verify_job *job, const char *what, const struct df_json *object, const char *key,
			  uint64_t journal)
{
	char hex[20];
	struct df_str found = df_json_get_str(object, key);
	(void)snprintf(hex, sizeof(hex), "%016" PRIx64, journal);
	if (!df_str_is(found, hex))
		df_verify_wrong(job, GROUP, "'run.json' says %s " DF_STR_FMT ", the journal %s", what,
				DF_STR_ARG(found), hex);
}

/* Members of counts.filtered and counts.rejected are the journal's counters without their prefix. */
static void judge_reasons(struct df_verify_job *job, const struct df_json *counts, const char *key, const char *prefix)
{
	const struct df_json *object = df_json_get(counts, key);
	uint64_t n = 0;
	for (size_t i = 0; i < job->journal.n_counter; i++) {
		struct df_str name = job->journal.counter[i].name;
		const struct df_json *found = NULL;
		size_t skip = strlen(prefix);
		if (!df_str_starts(name, prefix))
			continue;
		n++;
		for (const struct df_json *m = object ? object->child : NULL; m; m = m->next)
			if (df_str_eq(m->key, (struct df_str){name.p + skip, name.n - skip}))
				found = m;
		if (!found || found->u64 != job->journal.counter[i].value)
			df_verify_wrong(job, GROUP,
					"'run.json' says %" PRIu64 " of " DF_STR_FMT ", the journal %" PRIu64,
					found ? found->u64 : 0, DF_STR_ARG(name), job->journal.counter[i].value);
	}
	if (object && object->n != n)
		df_verify_wrong(job, GROUP, "'run.json' has %zu reasons in counts.%s, the journal %" PRIu64, object->n,
				key, n);
}

static void judge_counts(struct df_verify_job *job, const struct df_json *root)
{
	static const char *const same[] = {"in", "out", "rows", "bytes_in", "tokens", "truncated"};
	const struct df_json *counts = df_json_get(root, "counts");
	for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
		must_say(job, same[i], counts, same[i], df_replay_count(&job->journal, same[i]));
	must_say(job, "filtered", counts, "filtered_total", df_replay_count(&job->journal, "filtered"));
	must_say(job, "rejected", counts, "rejected_total", df_replay_count(&job->journal, "rejected"));
	judge_reasons(job, counts, "filtered", "filtered:");
	judge_reasons(job, counts, "rejected", "rejected:");
}

static const struct df_verify_part *find_part(const struct df_verify_job *job, struct df_str name)
{
	for (size_t i = 0; i < job->n_part; i++)
		if (df_str_is(name, job->part[i].name))
			return &job->part[i];
	return NULL;
}

static void judge_parts(struct df_verify_job *job, const struct df_json *root)
{
	const struct df_json *parts = df_json_get(root, "parts");
	size_t n = parts ? parts->n : 0;
	if (n != job->n_part)
		df_verify_wrong(job, GROUP, "'run.json' lists %zu parts, the journal %zu", n, job->n_part);
	for (const struct df_json *m = parts ? parts->child : NULL; m; m = m->next) {
		struct df_str name = df_json_get_str(m, "name");
		const struct df_verify_part *part = find_part(job, name);
		char what[DF_PART_NAME_MAX + 32];
		if (!part) {
			df_verify_wrong(job, GROUP, "'run.json' lists '" DF_STR_FMT "', the journal does not",
					DF_STR_ARG(name));
			continue;
		}
		(void)snprintf(what, sizeof(what), "rows in %s", part->name);
		must_say(job, what, m, "rows", part->file.rows);
		(void)snprintf(what, sizeof(what), "bytes in %s", part->name);
		must_say(job, what, m, "bytes", part->file.end);
		(void)snprintf(what, sizeof(what), "for %s the checksum", part->name);
		must_say_hash(job, what, m, "xxh3", part->file.hash);
	}
}

static void judge_root(struct df_verify_job *job, const struct df_json *root)
{
	const struct df_replay *r = &job->journal;
	const struct df_json *grid = df_json_get(root, "grid");
	struct df_str state = df_json_get_str(root, "state");
	bool finished = df_str_is(state, "finished");
	must_say_hash(job, "fingerprint", grid, "fingerprint", r->header.fingerprint);
	if (r->header.run_id)
		must_say_hash(job, "run", root, "run_id", r->header.run_id);
	if (r->has_size)
		must_say(job, "inputs", grid, "sources", r->size.n_source);
	if (finished && !r->finished)
		df_verify_wrong(job, GROUP, "'run.json' says that the run is finished, the journal does not");
	if (finished && r->finished) {
		judge_counts(job, root);
		judge_parts(job, root);
	}
	job->v->finished = finished && r->finished;
	df_verify_say(job, GROUP, "state '" DF_STR_FMT "'%s", DF_STR_ARG(state),
		      finished      ? ", as the journal"
		      : r->finished ? "; the journal is finished: run the same command once more"
				    : ", as it was written last");
}

void df_verify_json(struct df_verify_job *job)
{
	char *p = NULL;
	size_t n = 0;
	struct df_fail fail = {0};
	struct df_json *root = NULL;
	enum df_err err =
		df_io_read_file(&df_io_real, job->dir_fd, DF_RUN_JSON_NAME, DF_RUN_JSON_BYTES_MAX, &p, &n, &fail);
	if (err == DF_ERR_NOT_FOUND && !job->journal.finished) { /* killed before it was written */
		df_verify_say(job, GROUP, "not there yet");
		return;
	}
	if (err == DF_OK)
		err = df_json_parse((struct df_str){p, n}, &job->arena, &root, &fail);
	if (err == DF_OK && df_json_get_u64(root, "format_version", 0) != DF_RUN_JSON_VERSION)
		err = df_fail(&fail, DF_ERR_VERSION, "not of format version %d", DF_RUN_JSON_VERSION);
	if (err == DF_OK)
		judge_root(job, root);
	else
		df_verify_wrong(job, GROUP, "'run.json' cannot be read: %s", fail.msg);
	free(p);
}
