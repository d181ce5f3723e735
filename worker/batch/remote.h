// SPDX-License-Identifier: Apache-2.0
/*
 * remote: what is done with a provider's files and batches over HTTP, one request at a time: upload, create, find, look, fetch. Two forms:
 *   FILES   OpenAI's: requests are a file that is uploaded; batches carry metadata, by which one is found whose creation nobody can tell of
 *   INLINE  Anthropic's: requests are the body of the creation, streamed from the file; there is no metadata. Before a creation the newest batch is noted
 *           (df_remote_mark); one that is newer and has as many requests may be ours, and its results say whether it is (proof.h)
 *
 * Everything but creating a batch may be done twice, and is tried again, with back-off, when the network or the server fails for a passing reason.
 * Creating is tried once: DF_ERR_AGAIN says that it may or may not have happened, DF_ERR_BUSY that it has not and may be tried later.
 * A stop request (a signal that `wake` names) ends a wait with DF_ERR_INTERRUPTED; what is under way is cancelled.
 */
#ifndef DF_WORKER_BATCH_REMOTE_H
#define DF_WORKER_BATCH_REMOTE_H

#include "worker/batch/state.h"
#include "worker/net/http.h"
#include "worker/provider/provider.h"

struct df_remote;

enum df_remote_form { DF_REMOTE_FILES, DF_REMOTE_INLINE };

/* Where, and as whom. Strings outlive the remote's use of it. */
struct df_remote_place {
	struct df_str base;                  /* "https://api.openai.com/v1" */
	const struct df_endpoint *endpoint;  /* its key is masked in messages */
	const struct df_http_header *header; /* who asks; no content type */
	size_t n_header;
	enum df_remote_form form;
};

/* signal_fd: a signalfd, readable when the run shall stop; -1: nobody stops it. Neither is owned. */
enum df_err df_remote_create(struct df_http *http, int signal_fd, struct df_remote **ret_remote,
			     struct df_fail *fail) DF_MUST_CHECK;
void df_remote_destroy(struct df_remote **remote); /* accepts NULL inside */

/* Waits. DF_ERR_INTERRUPTED. */
enum df_err df_remote_wait(struct df_remote *r, uint64_t ns) DF_MUST_CHECK;
bool df_remote_stopped(struct df_remote *r);

/* Streams `bytes` bytes of dir_fd/name; the id goes to file->input. INLINE: only looks whether the file is there, and input is "inline". */
enum df_err df_remote_upload(struct df_remote *r, const struct df_remote_place *at, int dir_fd,
			     struct df_batch_file *file, const char *run, struct df_fail *fail) DF_MUST_CHECK;
/* INLINE: notes the newest batch there, so that what is created next can be told from it. FILES: nothing. */
enum df_err df_remote_mark(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			   struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_remote_create_batch(struct df_remote *r, const struct df_remote_place *at, int dir_fd,
				   struct df_batch_file *file, const char *run, struct df_fail *fail) DF_MUST_CHECK;
/* Is there a batch of this run, file and try? All batches of the last days are looked through. INLINE: the oldest one behind file->mark that has as many requests
 * and belongs to no other file; then file->unproved. DF_ERR_NOT_FOUND. */
enum df_err df_remote_find_batch(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
				 const struct df_batch_state *state, struct df_fail *fail) DF_MUST_CHECK;

struct df_remote_view {
	bool ended;        /* completed, failed, expired, cancelled */
	bool failed, full; /* failed as a whole; full: since too much waits there already */
	uint64_t done, failed_lines, total;
	char why[400];
};
/* Sets the file's status, output and error when it has ended. */
enum df_err df_remote_look(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			   struct df_remote_view *ret, struct df_fail *fail) DF_MUST_CHECK;
/* A provider's file to dir_fd/name, whole and synced, or not at all. *ret_hash: XXH3-64 of it. */
enum df_err df_remote_fetch(struct df_remote *r, const struct df_remote_place *at, const char *id, int dir_fd,
			    const char *name, uint64_t *ret_hash, struct df_fail *fail) DF_MUST_CHECK;

#endif
