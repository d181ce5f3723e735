// SPDX-License-Identifier: Apache-2.0
/*
 * batch: a pipeline whose calls are made by a provider's batch service: half the price, answers within a day.
 *
 * The documents go through the pipeline in passes, in this process. In a pass each call is looked for among the answers that came back (answers.h) and in the
 * cache; what is found nowhere becomes a line of a request file, and its document waits. At the pass's end the files are uploaded, batches are created of them
 * and polled, and what comes back is fetched; then the next pass begins. A pass in which nothing is missing is the last one: its rows are the run's. So rows,
 * templates, schemas, repairs and stages before and behind are those of `docflume run` by construction, and a repair is simply a call of the next round.
 *
 *   DIR/batch.json             what was done (state.h)
 *   DIR/requests-NNNNN.jsonl   what was sent;  answers-NNNNN.jsonl, errors-NNNNN.jsonl: what came back
 *   DIR/part-00000.jsonl, part-00000.npy, rejects-00000.jsonl   rows, vectors and rejects, when all is done
 *   DIR/lock                   one process at a time
 *
 * A pass depends on inputs, pipeline and answers alone; so a process that was killed begins its pass again, and a custom_id is the hash of what is asked.
 * Providers: those whose batches have OpenAI's form (openai, or the same by base_url), and Anthropic; `request` to a URL of either.
 *
 * Without a pipeline the inputs are request lines of somebody else's ({"custom_id","method","url","body"}): they are sent as they are, and the provider's answers
 * are the rows, in the order of the requests.
 */
#ifndef DF_WORKER_BATCH_BATCH_H
#define DF_WORKER_BATCH_BATCH_H

#include "base/file.h"
#include "worker/batch/state.h"

#define DF_BATCH_PRICE 0.5 /* of what the same calls cost one by one: OpenAI's and Anthropic's price for batches */

struct df_batch_source {
	const char *path, *name;
	struct df_file_id id;
	uint8_t kind, format; /* enum df_source_kind, enum df_format */
};

struct df_batch_options {
	const char *out;
	struct df_str pipeline; /* canonical and checked; empty: the inputs are request lines */
	const struct df_batch_source *source;
	size_t n_source;
	uint64_t inputs; /* fingerprint of the sources */
	struct df_str id_key, text_key, model_dir;
	uint64_t max_record;
	bool want_rows, want_npy; /* vectors go to part-00000.npy, and into rows only when that is not wanted */
	double budget;            /* USD over all; 0: none */
	bool no_cache;
	const char *cache; /* NULL: the usual folder */
	uint64_t cache_bytes;
	uint64_t poll_ns, poll_max_ns;
	bool no_wait;
	uint32_t attempts;               /* of a line that fails */
	uint64_t file_lines, file_bytes; /* of one file of requests */
	const char *base_url, *key_env;  /* of request lines; NULL: the usual ones */
	int signal_fd;                   /* a signalfd that is readable when the run shall stop; -1: none */
};

/* DF_OK: all is done, and *ret_counts says what came of it. DF_ERR_AGAIN (no_wait: the provider works), DF_ERR_INTERRUPTED and DF_ERR_CLOSED (it cannot be reached):
 * the same call goes on. DF_ERR_QUOTA: what is to be sent could pass the budget; nothing of it was sent. Anything else is an error of the run. */
enum df_err df_batch_run(const struct df_batch_options *options, struct df_batch_counts *ret_counts,
			 struct df_fail *fail) DF_MUST_CHECK;

#endif
