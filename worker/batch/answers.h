// SPDX-License-Identifier: Apache-2.0
/*
 * answers: what is known of each request, by its custom_id: an index in memory over the files that were fetched (answers-NO.jsonl, errors-NO.jsonl), which are
 * the only place where answers are kept. Made anew from them at each start; so are the money that was spent and how often a line was tried.
 *
 * 48 bytes for each request, twice that with the table's free places. Ids are known by 128 bits of their hash (XXH3).
 */
#ifndef DF_WORKER_BATCH_ANSWERS_H
#define DF_WORKER_BATCH_ANSWERS_H

#include "worker/batch/line.h"
#include "worker/batch/state.h"
#include "worker/provider/provider.h"

struct df_answers;

enum df_answer_state {
	DF_ANSWER_NONE,   /* never asked, or nothing came of it yet */
	DF_ANSWER_LATER,  /* failed for a passing reason */
	DF_ANSWER_FAILED, /* will never have one */
	DF_ANSWER_HERE,
};

struct df_answer_at {
	enum df_answer_state state;
	uint32_t attempts; /* lines that were tried: answered or failed, not expired */
	bool asked;        /* in this pass */
	/* of the line that says so; unless NONE */
	uint32_t file, length;
	bool in_errors;
	uint64_t offset;
};

enum df_err df_answers_create(int dir_fd, struct df_answers **ret_answers, struct df_fail *fail) DF_MUST_CHECK;
void df_answers_destroy(struct df_answers **answers); /* accepts NULL inside */

/* Reads what was fetched of a file that is DONE. `info` prices it. A line that is damaged is warned of and left out, so that it is asked for again; so is
 * what the provider left out. DF_ERR_LIMIT (DF_BATCH_REQUESTS_MAX), DF_ERR_IO, DF_ERR_NOMEM. */
enum df_err df_answers_add(struct df_answers *a, const struct df_batch_file *file, const struct df_model_info *info,
			   struct df_fail *fail) DF_MUST_CHECK;

struct df_answer_at df_answers_find(const struct df_answers *a, struct df_str custom_id);
/* A pass over the documents begins: nothing is asked yet. */
void df_answers_begin_pass(struct df_answers *a);
/* Marks it as asked in this pass. DF_ERR_EXISTS: it was. DF_ERR_LIMIT, DF_ERR_NOMEM. */
enum df_err df_answers_ask(struct df_answers *a, struct df_str custom_id) DF_MUST_CHECK;
/* The line, in memory of the arena. */
enum df_err df_answers_read(struct df_answers *a, const struct df_answer_at *at, struct df_arena *arena,
			    struct df_str *ret_line, struct df_fail *fail) DF_MUST_CHECK;

struct df_answers_stats {
	uint64_t here, failed, lines, damaged;
	uint64_t tokens_in, tokens_out;
	uint64_t unpriced; /* answers whose price nobody knows */
	double usd;        /* of all answers, at the price of batches; those without a price are left out */
};
struct df_answers_stats df_answers_stats(const struct df_answers *a);

/* What a line's response is in a provider's eyes. A line without one has class RETRY. */
void df_batch_judge(const struct df_provider *p, const struct df_ask *ask, const struct df_batch_answer *line,
		    struct df_arena *arena, struct df_answer *ret);

/* "answers-00000.jsonl": a file of the run directory. */
#define DF_BATCH_NAME_BYTES 40
void df_batch_file_name(char name[DF_BATCH_NAME_BYTES], const char *what, uint32_t no, const char *suffix);

#endif
