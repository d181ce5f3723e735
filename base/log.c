// SPDX-License-Identifier: Apache-2.0
/* log: one line, one write, so that lines of several processes never mix; and no wait without an end for who reads them. */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"

#define PATIENCE_MS 1000 /* for a reader of stderr that takes nothing */

static struct {
	pthread_mutex_t mutex;
	enum df_log_level level;
	enum df_log_format format;
	const char *who;
	void (*hide)(void);
	void (*show)(void);
	bool deaf; /* nobody takes what is written: do not wait again */
	unsigned long long n_dropped;
} state = {PTHREAD_MUTEX_INITIALIZER, DF_LOG_INFO, DF_LOG_TEXT, "docflume", NULL, NULL, false, 0};

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

void df_log_escape(struct df_buf *b, const char *z)
{
	for (const unsigned char *p = (const unsigned char *)z; *p; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f;
		if (*p == '\n' || *p == '\r' || *p == '\t')
			(void)df_buf_addz(b, *p == '\n' ? "\\n" : *p == '\r' ? "\\r" : "\\t");
		else if (*p < 0x20 || *p == 0x7f)
			(void)df_buf_addf(b, "\\x%02x", *p);
		else if (c1)
			(void)df_buf_addf(b, "\\u%04x", *++p);
		else
			(void)df_buf_addc(b, (char)*p);
	}
}

static void format_json(struct df_buf *line, enum df_log_level level, const char *msg)
{
	struct timespec ts = {0};
	struct tm tm;
	char at[40] = "";
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	if (gmtime_r(&ts.tv_sec, &tm))
		(void)strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)df_buf_addf(line, "{\"time\":\"%s.%06dZ\",\"level\":\"%s\",\"process\":", at, (int)(ts.tv_nsec / 1000),
			  words[level]);
	(void)df_json_add_string(line, df_str_from(state.who));
	(void)df_buf_addz(line, ",\"message\":");
	(void)df_json_add_string(line, df_str_from(msg));
	(void)df_buf_addz(line, "}\n");
}

static void format(struct df_buf *line, enum df_log_level level, const char *msg)
{
	if (state.format == DF_LOG_JSON) {
		format_json(line, level, msg);
		return;
	}
	(void)df_buf_addf(line, "%s: %s%s", state.who, level == DF_LOG_INFO ? "" : words[level],
			  level == DF_LOG_INFO ? "" : ": ");
	df_log_escape(line, msg);
	(void)df_buf_addc(line, '\n');
}

/* False: it took nothing in time. */
static bool put(const char *p, size_t n)
{
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
	while (n) {
		int ready = poll(&pfd, 1, state.deaf ? 0 : PATIENCE_MS);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return false;
		ssize_t r = write(STDERR_FILENO, p, n < PIPE_BUF ? n : PIPE_BUF); /* what poll promises room for */
		if (r < 0 && errno != EINTR && errno != EAGAIN)
			return true; /* closed: nobody to tell, and nothing to wait for */
		if (r > 0) {
			p += r;
			n -= (size_t)r;
		}
	}
	return true;
}

static void say(const struct df_buf *line)
{
	if (state.n_dropped) {
		char z[64];
		struct df_buf note;
		df_buf_init(&note, 1024);
		(void)snprintf(z, sizeof(z), "%llu lines were dropped: nobody read them", state.n_dropped);
		format(&note, DF_LOG_WARN, z);
		state.deaf = !put(note.p, note.n);
		df_buf_release(&note);
		if (state.deaf) {
			state.n_dropped++;
			return;
		}
		state.n_dropped = 0;
	}
	state.deaf = !put(line->p, line->n);
	state.n_dropped += state.deaf;
}

void df_log_raw(const char *p, size_t n)
{
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
	if (poll(&pfd, 1, 0) <= 0)
		return;
	ssize_t ignored = write(STDERR_FILENO, p, n);
	(void)ignored;
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
	format(&line, level, msg);
	pthread_mutex_lock(&state.mutex);
	if (state.hide)
		state.hide();
	if (line.n)
		say(&line);
	if (state.show)
		state.show();
	pthread_mutex_unlock(&state.mutex);
	df_buf_release(&line);
}
