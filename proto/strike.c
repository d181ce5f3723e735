// SPDX-License-Identifier: Apache-2.0
/* strike: words for people. */
#include "proto/strike.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void add_duration(char *z, size_t size, uint32_t ms)
{
	if (ms % 1000 == 0)
		(void)snprintf(z, size, "%" PRIu32 " s", ms / 1000);
	else
		(void)snprintf(z, size, "%" PRIu32 " ms", ms);
}

static void add_times(char *z, size_t size, uint32_t n)
{
	if (n == 1)
		(void)snprintf(z, size, "once");
	else
		(void)snprintf(z, size, "%" PRIu32 " times", n);
}

void df_strike_words(const struct df_strike *s, struct df_str stage, char *z, size_t size)
{
	char where[160] = "", times[32], what[32], workers[32];
	if (s->stage == DF_NO_STAGE)
		(void)snprintf(where, sizeof(where), " outside of the stages (reading it, or writing its rows)");
	else if (stage.n)
		(void)snprintf(where, sizeof(where), " in stage '%.*s'", (int)(stage.n < 100 ? stage.n : 100), stage.p);
	else
		(void)snprintf(where, sizeof(where), " in stage %" PRIu32, s->stage + 1);
	add_times(times, sizeof(times), s->n);
	(void)snprintf(workers, sizeof(workers), s->n == 1 ? "a worker" : "%" PRIu32 " workers", s->n);
	switch ((enum df_cause)s->cause) {
	case DF_CAUSE_SIGNAL:
		(void)snprintf(z, size, "ended %s by signal %" PRIu32 " (%s)%s", workers, s->detail,
			       strsignal((int)s->detail), where);
		break;
	case DF_CAUSE_DEADLINE:
		add_duration(what, sizeof(what), s->detail);
		(void)snprintf(z, size, "computed for longer than %s (--doc-timeout)%s %s", what, where, times);
		break;
	case DF_CAUSE_MEMORY:
		what[0] = '\0';
		if (s->detail)
			(void)snprintf(what, sizeof(what), ", at %" PRIu32 " MB", s->detail);
		(void)snprintf(z, size, "took more memory than there is (--mem-limit%s)%s %s", what, where, times);
		break;
	case DF_CAUSE_EXIT:
		(void)snprintf(z, size, "ended %s with exit code %" PRIu32 "%s", workers, s->detail, where);
		break;
	default:
		(void)snprintf(z, size, "ended %s%s", workers, where);
		break;
	}
}

enum df_err df_strike_err(const struct df_strike *s)
{
	return s->cause == DF_CAUSE_DEADLINE ? DF_ERR_TIMEOUT
	       : s->cause == DF_CAUSE_MEMORY ? DF_ERR_NOMEM
					     : DF_ERR_CHILD;
}
