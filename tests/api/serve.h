// SPDX-License-Identifier: Apache-2.0
/* serve: one request on its way to its reply, as serve.c and fault.c share it. */
#ifndef DF_TESTS_API_SERVE_H
#define DF_TESTS_API_SERVE_H

#include "tests/api/server.h"

struct job {
	struct server *s;
	struct conn *c;
	struct request *r;
	struct profile *p;
	enum api api;
	struct bytes extra; /* header lines */
};

/* A whole answer, packed or in chunks as the options say; an error in the API's own form. */
void job_body(struct job *j, int status, const char *type, struct span body, uint64_t at_ns);
void job_error(struct job *j, int status, const char *code, const char *message);

/* How often the first text was asked, this request included. */
uint64_t job_tries(struct job *j);

struct fault fault_draw(struct job *j);
/* Statuses, breaks, bodies that are something else: true when the request has its reply. */
bool fault_instead(struct job *j, const struct fault *f, uint64_t at_ns);
/* Bodies without an end: `out` has the head, the fill the rest. */
bool fault_endless(struct job *j, const struct fault *f, uint64_t at_ns);
/* What happens to an answer that is there. */
void fault_behind(struct job *j, const struct fault *f);

#endif
