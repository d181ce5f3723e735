// SPDX-License-Identifier: Apache-2.0
/*
 * log: lines for people on stderr, as text or JSON, one write(2) each.
 *
 * Library code never logs: it fills a df_fail. Only cli/, coordinator/control and worker/process/link do.
 * Document text, keys and headers never go into a log line. Thread-safe after df_log_setup().
 *
 * A line is one line whatever is in it: in text, control characters (a file's name may have them) come as \n, \t, \xNN. JSON lines carry the wall
 * clock in microseconds. A reader of stderr that takes nothing (Ctrl-S, a full pipe) holds the caller for at most a second; then
 * lines are dropped until it reads again, and the first one after says how many.
 */
#ifndef DF_BASE_LOG_H
#define DF_BASE_LOG_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

enum df_log_level { DF_LOG_ERROR, DF_LOG_WARN, DF_LOG_INFO, DF_LOG_DEBUG };
enum df_log_format { DF_LOG_TEXT, DF_LOG_JSON };

/* `who` (static storage) is the process's part of the line: "docflume", "worker 3". */
void df_log_setup(enum df_log_level max_level, enum df_log_format format, const char *who);
bool df_log_on(enum df_log_level level);
void df_log(enum df_log_level level, const char *fmt, ...) DF_PRINTF(2, 3);

/* Called with the mutex held before and after each line, so that a progress bar can step aside; NULL to remove. */
void df_log_set_bar(void (*hide)(void), void (*show)(void));
/* To stderr as it is (a progress bar); dropped when stderr takes nothing. */
void df_log_raw(const char *p, size_t n);

/* `z` with its control characters (C0, DEL, and C1 as UTF-8) made visible, cut at the buffer's ceiling. */
void df_log_escape(struct df_buf *b, const char *z);

#define df_error(...) df_log(DF_LOG_ERROR, __VA_ARGS__)
#define df_warn(...) df_log(DF_LOG_WARN, __VA_ARGS__)
#define df_info(...) df_log(DF_LOG_INFO, __VA_ARGS__)
#define df_debug(...) df_log(DF_LOG_DEBUG, __VA_ARGS__)

#endif
