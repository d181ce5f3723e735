// SPDX-License-Identifier: Apache-2.0
/*
 * strike: a strike in words and as an error, the same in the coordinator's warning and in the worker's reject.
 */
#ifndef DF_PROTO_STRIKE_H
#define DF_PROTO_STRIKE_H

#include "base/str.h"
#include "proto/messages.h"

/* What follows "the record ...": "ended 3 workers by signal 11 (Segmentation fault) in stage 'chunk'", "computed for longer than
 * 60 s (--doc-timeout) in stage 'exec' 3 times". `stage`: the name of strike->stage; empty when it is DF_NO_STAGE or not known. */
void df_strike_words(const struct df_strike *strike, struct df_str stage, char *ret_words, size_t size);

/* The class of the reject: DF_ERR_TIMEOUT, DF_ERR_NOMEM, else DF_ERR_CHILD. */
enum df_err df_strike_err(const struct df_strike *strike);

#endif
