// SPDX-License-Identifier: Apache-2.0
/*
 * show: the words of a model for people, as they come (--stream). Whoever writes a prompt, or a document in it, decides what a model says; so a terminal gets no
 * control characters from it but line feeds and tabs: others are shown as cat -v shows them ("^[" for ESC, "M-^[" for U+009B), bytes that are no UTF-8 as
 * U+FFFD. A pipe or a file gets the bytes as they are.
 */
#ifndef DF_WORKER_STAGES_SHOW_H
#define DF_WORKER_STAGES_SHOW_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/str.h"

struct df_show {
	int fd; /* -1: nothing is shown */
	bool terminal;
	atomic_uint_fast64_t *shown;
};

/* Looks at what the descriptor is; -1: a df_show that shows nothing. *shown (may be NULL) becomes 1 before the first byte is written. */
struct df_show df_show_on(int fd, atomic_uint_fast64_t *shown);
/* Whole characters each time. A reader that has gone is no error. */
void df_show(const struct df_show *s, struct df_str text);

#endif
