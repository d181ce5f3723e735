// SPDX-License-Identifier: Apache-2.0
/*
 * help_content: real bytes for a data set of numbers: JSONL and text in memory files that workers can open, and cells as readers
 * send them. Each record's fate is what CONTENT_PIPELINE makes of it, or what it does to its worker.
 */
#ifndef DF_TESTS_SIM_HELP_CONTENT_H
#define DF_TESTS_SIM_HELP_CONTENT_H

#include "proto/blob.h"
#include "tests/sim/help_world.h"

#define CONTENT_PIPELINE "clean min_chars=10"

/* Gives every record of the world its bytes, and with them new offsets and lengths. */
void content_make(struct world *w);
void content_release(struct world *w);

/* The file is another one from now on, and whoever reads it must say so. */
void content_change(struct world_source *s);
/* Records [first, end) of a reader's source, as the worker unpacks them. */
struct df_blob *content_cell(const struct world_source *s, uint64_t ordinal, size_t first, size_t end);

/* Lines of real rows or rejects become lines "SOURCE:OFFSET". In place: they only shrink. False: a line does not say. */
bool content_name_lines(char *lines);

#endif
