// SPDX-License-Identifier: Apache-2.0
/*
 * cassette: answers kept in a file, to be replayed by the model `recorded/PATH`: a pipeline is tried again at no cost, with the very answers that a
 * provider gave, failures and their order included.
 *
 * A cassette is a JSONL file (0600); each line one answer, written by one write():
 *   {"v":1,"digest":"32 hex","provider":"openai","model":"gpt-4o-mini","status":200,"headers":{"content-type":"..."},"body":"..."}
 * with "err" and "message" instead of a status when there was none, and "events":[["type","data"],...] instead of a body for a stream. A body that is not
 * UTF-8 is in "body_hex". The digest is of the ask without its model (df_ask_digest). Of the headers only those that say something about limits, time and
 * type are kept; request headers never; and wherever the endpoint's key stands in an answer, "***" stands in the cassette.
 *
 * Asks with one digest replay their lines in the order of the file; the last one is given again when they are used up.
 */
#ifndef DF_WORKER_PROVIDER_CASSETTE_H
#define DF_WORKER_PROVIDER_CASSETTE_H

#include "worker/provider/provider.h"

/* What an ask asks: roles and texts, inputs, parameters, schema. Equal asks, equal digests, on every machine. 32 hex digits and a NUL. DF_ERR_NOMEM. */
enum df_err df_ask_digest(const struct df_ask *ask, bool with_model, char ret_hex[33]) DF_MUST_CHECK;

/* The events of one stream; zeroed at first. */
struct df_tape {
	struct df_buf json;
};
void df_tape_add(struct df_tape *t, struct df_str type, struct df_str data); /* an error sticks until df_cassette_put */
void df_tape_release(struct df_tape *t);

struct df_cassette;

/* Appends; made (0600) when it is not there. DF_ERR_IO, DF_ERR_NOSPACE, DF_ERR_NOMEM. */
enum df_err df_cassette_open(const char *path, struct df_cassette **ret_cassette, struct df_fail *fail) DF_MUST_CHECK;
void df_cassette_close(struct df_cassette **cassette); /* accepts NULL */
/* One answer of the provider, before or after it was parsed. tape: of a stream whose status was 2xx; else NULL. */
enum df_err df_cassette_put(struct df_cassette *c, const struct df_provider *provider, const struct df_ask *ask,
			    const struct df_endpoint *to, const struct df_http_response *response,
			    const struct df_tape *tape, struct df_fail *fail) DF_MUST_CHECK;

#endif
