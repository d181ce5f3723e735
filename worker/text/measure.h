// SPDX-License-Identifier: Apache-2.0
/*
 * measure: how much text there is, in one pass over it.
 */
#ifndef DF_WORKER_TEXT_MEASURE_H
#define DF_WORKER_TEXT_MEASURE_H

#include "base/str.h"

struct df_measure {
	size_t bytes;
	size_t chars; /* code points: Python's len(text) */
	size_t words; /* runs without white space: len(text.split()) */
	size_t lines; /* len(text.splitlines()) */
};

/* `text` is valid UTF-8. */
struct df_measure df_text_measure(struct df_str text);

#endif
