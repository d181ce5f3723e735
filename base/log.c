// SPDX-License-Identifier: Apache-2.0
/* log: one line, one write, so that lines of several processes never mix. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"

static struct {
	pthread_mutex_t mutex;
	enum df_log_level level;
	enum df_log_format format;
	const char *who;
	void (*hide)(void);
	void (*show)(void);
} state = {PTHREAD_MUTEX_INITIALIZER, DF_LOG_INFO, DF_LOG_TEXT, "docflume", NULL, NULL};

static const char *const words[] = {"error", "warning", "info", "debug"};

void df_log_setup(enum df_log_level max_level, enum df_log_format format, const char *who)
{
	state.level = max_level;
	state.format = format;
	state.who = who;
}

void df_log_set_bar(void (*hide)(void), void (*show)(void))
{
	pthread_mutex_lock(&state.mutex);
	state.hide = hide;
	state.show = show;
	pthread_mutex_unlock(&state.mutex);
}

bool df_log_on(enum df_log_level level)
{
	return level <= state.level;
}

static void format_json(struct df_buf *line, enum df_log_level level, const char *msg)
{
	struct timespec ts = {0};
	struct tm tm;
	char at[40] = "";
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	if (gmtime_r(&ts.tv_sec, &tm))
		(void)strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)df_buf_addf(line, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"process\":", at, (int)(ts.tv_nsec / 1000000),
			  words[level]);
	(void)df_json_add_string(line, df_str_from(state.who));
	(void)df_buf_addz(line, ",\"message\":");
	(void)df_json_add_string(line, df_str_from(msg));
	(void)df_buf_addz(line, "}\n");
}

void df_log(enum df_log_level level, const char *fmt, ...)
{
	char msg[1024];
	struct df_buf line;
	if (!df_log_on(level))
		return;
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	df_buf_init(&line, 16384);
	if (state.format == DF_LOG_JSON)
		format_json(&line, level, msg);
	else if (level == DF_LOG_INFO)
		(void)df_buf_addf(&line, "%s: %s\n", state.who, msg);
	else
		(void)df_buf_addf(&line, "%s: %s: %s\n", state.who, words[level], msg);
	pthread_mutex_lock(&state.mutex);
	if (state.hide)
		state.hide();
	ssize_t ignored = write(STDERR_FILENO, line.p, line.n);
	(void)ignored;
	if (state.show)
		state.show();
	pthread_mutex_unlock(&state.mutex);
	df_buf_release(&line);
}
