// SPDX-License-Identifier: Apache-2.0
/* progress: one line, redrawn ten times a second on a terminal and written every five seconds elsewhere. */
#include "coordinator/show/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"

#define BAR_EVERY (100 * DF_MS)
#define LINE_EVERY (5 * DF_SEC)

static struct df_progress *shown; /* the log steps around it */

static void hide(void)
{
	if (shown && shown->shown)
		df_log_raw("\r\033[K", 4);
}

static void show(void)
{
	if (shown && shown->shown)
		df_log_raw(shown->line, strlen(shown->line));
}

void df_progress_init(struct df_progress *p, bool bar, bool quiet, bool color, uint64_t now_ns)
{
	*p = (struct df_progress){.bar = bar, .quiet = quiet, .color = color, .start_ns = now_ns, .last_ns = now_ns};
	p->next_ns = now_ns + (bar ? BAR_EVERY : LINE_EVERY);
	if (bar && !quiet) {
		shown = p;
		df_log_set_bar(hide, show);
	}
}

static double smooth(double old, double now)
{
	return old > 0 ? 0.8 * old + 0.2 * now : now;
}

static void measure(struct df_progress *p, const struct df_control_stats *s, uint64_t now_ns)
{
	double dt = (double)(now_ns - p->last_ns) / 1e9;
	if (dt <= 0)
		return;
	p->docs_per_s = smooth(p->docs_per_s, (double)(s->tally.in - p->last_docs) / dt);
	p->bytes_per_s = smooth(p->bytes_per_s, (double)(s->tally.bytes_in - p->last_bytes) / dt);
	p->last_ns = now_ns;
	p->last_docs = s->tally.in;
	p->last_bytes = s->tally.bytes_in;
}

static void draw_bar(char *out, size_t n, double part)
{
	const int width = 20;
	int full = (int)(part * width + 0.5);
	size_t at = 0;
	out[at++] = '[';
	for (int i = 0; i < width && at + 2 < n; i++)
		out[at++] = i < full ? '=' : i == full ? '>' : ' ';
	out[at++] = ']';
	out[at] = '\0';
}

static int columns(void)
{
	struct winsize w = {0};
	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 120;
}

/* ", $1.20 of $5.00, about $3.10 in all" */
static const char *money(const struct df_costs *c, char *z, size_t size)
{
	char spent[32], budget[32], all[32];
	z[0] = '\0';
	if (!c->known)
		return z;
	bool capped = c->budget > 0, guess = !isnan(c->projected) && c->projected > 0;
	(void)snprintf(z, size, ", %s%s%s%s%s%s", df_human_usd(c->spent, spent), capped ? " of " : "",
		       capped ? df_human_usd(c->budget, budget) : "", guess ? ", about " : "",
		       guess ? df_human_usd(c->projected, all) : "", guess ? " in all" : "");
	return z;
}

/* ", 1 call out, 519 wait (rate limit)": early in the line, since a narrow terminal shows no more */
static const char *calls(const struct df_progress *p, char *z, size_t size)
{
	char out[48], waiting[32];
	z[0] = '\0';
	if (!p->calls_sent && !p->calls_waiting)
		return z;
	bool why = p->calls_waiting && p->calls_wait;
	(void)snprintf(z, size, ", %s out%s%s%s%s%s", df_human_number_of(p->calls_sent, "call", out), why ? ", " : "",
		       why ? df_human_count(p->calls_waiting, waiting) : "", why ? " wait (" : "",
		       why ? p->calls_wait : "", why ? ")" : "");
	return z;
}

static void format(struct df_progress *p, const struct df_control_stats *s, const char *states)
{
	char docs[32], rate[32], bytes[32], eta[32], bar[40] = "", part[64] = "", tail[64] = "", usd[128], out[160];
	uint64_t done = s->tally.bytes_in + p->resumed_bytes;
	if (s->bytes_total && done <= s->bytes_total) {
		double share = (double)done / (double)s->bytes_total;
		draw_bar(bar, sizeof(bar), share);
		(void)snprintf(part, sizeof(part), "%s %3.0f %% ", p->bar ? bar : "", share * 100);
		if (p->bytes_per_s > 0)
			(void)snprintf(tail, sizeof(tail), ", %s left",
				       df_human_time((double)(s->bytes_total - done) / p->bytes_per_s, eta));
	}
	(void)snprintf(p->line, sizeof(p->line), "%s%s documents%s, %s/s, %s/s%s%s, %u workers %.64s%s", part,
		       df_human_count(s->tally.in, docs), calls(p, out, sizeof(out)),
		       df_human_count((uint64_t)p->docs_per_s, rate), df_human_bytes(p->bytes_per_s, bytes), tail,
		       money(&p->costs, usd, sizeof(usd)), s->n_ready, states,
		       s->tally.rejected ? ", some rejected" : "");
	if (p->bar && strlen(p->line) >= (size_t)columns())
		p->line[columns() - 1] = '\0';
}

void df_progress_tick(struct df_progress *p, const struct df_control_stats *s, const char *states, uint64_t now_ns)
{
	if (p->quiet || now_ns < p->next_ns)
		return;
	measure(p, s, now_ns);
	hide();
	format(p, s, states);
	if (p->bar) {
		p->shown = true;
		show();
	} else {
		df_info("%s", p->line);
	}
	p->next_ns = now_ns + (p->bar ? BAR_EVERY : LINE_EVERY);
}

void df_progress_end(struct df_progress *p)
{
	hide();
	p->shown = false;
	if (shown == p) {
		df_log_set_bar(NULL, NULL);
		shown = NULL;
	}
}
