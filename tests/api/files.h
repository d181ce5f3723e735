// SPDX-License-Identifier: Apache-2.0
/* files: what batches are read from and written to. */
#ifndef DF_TESTS_API_FILES_H
#define DF_TESTS_API_FILES_H

#include "tests/api/server.h"

struct file {
	char id[32];
	struct bytes content;
	char name[64];
	bool gone;
};

/* One request about files or batches. */
struct call {
	struct server *s;
	struct conn *c;
	struct request *r;
	struct profile *p;
};

void call_say(struct call *k, int status, struct bytes *body);
void call_error(struct call *k, int status, const char *message);

/* Room for one more, zeroed; lists grow by doubling. */
void *list_room(void *list, size_t n, size_t size);

/* Pointers to files are good until the next one. */
struct file *file_new(const char *name, size_t n);
struct file *file_find(struct span id);
void file_upload(struct call *k);
void file_path(struct call *k, struct span id, struct span tail); /* /files/ID, /files/ID/content */
void files_reset(void);

/* --- batch.c, for messages.c too --- */
/* The answer to one request of a batch, at the price of batches, counted. NULL, or why it is a bad request. The body is a node of the server's tree. */
const char *batch_answer(struct call *k, enum api api, const struct json *body, struct bytes *to);
/* "/files/ID/content" behind `start`: the id, and what follows it. */
bool path_id(struct span path, const char *start, struct span *id, struct span *tail);

/* --- messages.c: Anthropic's /v1/messages/batches; false: not one of its paths --- */
bool messages_serve(struct call *k);
void messages_reset(void);

#endif
