// SPDX-License-Identifier: Apache-2.0
/* news: look at each child, keep moving means, write. */
#include "coordinator/show/news.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "coordinator/show/status.h"

static double smooth(double old, double now)
{
	return old > 0 ? 0.7 * old + 0.3 * now : now;
}

static void measure(struct df_news *n, const struct df_control_stats *s, uint64_t now_ns)
{
	double dt = (double)(now_ns - n->last_ns) / 1e9;
	if (n->last_ns && dt > 0) {
		n->docs_per_s = smooth(n->docs_per_s, (double)(s->tally.in - n->last_docs) / dt);
		n->bytes_per_s = smooth(n->bytes_per_s, (double)(s->tally.bytes_in - n->last_bytes) / dt);
	}
	n->last_ns = now_ns;
	n->last_docs = s->tally.in;
	n->last_bytes = s->tally.bytes_in;
}

static struct df_str source_name(const struct df_news_sources *from, uint32_t source)
{
	if (source >= from->dataset->n_source)
		return DF_STR("");
	const struct df_source *s = &from->dataset->source[source];
	return df_str_from(strcmp(s->path, "-") == 0 ? "stdin" : s->name);
}

static struct df_str stage_name(const struct df_news_sources *from, uint32_t stage)
{
	return stage < from->pipeline->n_stage ? df_pipeline_call_name(&from->pipeline->stage[stage]) : DF_STR("");
}

static void add_child(const struct df_news_sources *from, const struct df_child_info *info, uint64_t now_ns,
		      struct df_status *s)
{
	struct df_look look = {0};
	if (!df_supervisor_look(from->supervisor, info->lane, DF_LOOK_MEMORY, &look))
		return;
	s->child[s->n_child++] = (struct df_child_status){
		.role = info->role,
		.number = info->number,
		.pid = (uint32_t)info->pid,
		.memory_bytes = look.memory_bytes,
		.calls_out = look.calls_out,
		.calls_sent = look.calls_sent,
		.calls_wait = look.calls_wait,
		.calls_wait_seconds = look.calls_until_ns > now_ns ? (double)(look.calls_until_ns - now_ns) / 1e9 : 0,
		.computing = look.computing && info->role == DF_ROLE_WORKER,
		.source = source_name(from, look.record.source),
		.offset = look.record.offset,
		.n_record = look.n_record,
		.stage = stage_name(from, look.stage),
		.seconds = now_ns > look.since_ns ? (double)(now_ns - look.since_ns) / 1e9 : 0,
	};
}

static void add_children(const struct df_news_sources *from, struct df_status *s, uint64_t now_ns)
{
	struct df_child_info *info = calloc(DF_STATUS_CHILDREN_MAX, sizeof(*info));
	s->child = calloc(DF_STATUS_CHILDREN_MAX, sizeof(*s->child));
	size_t n = info && s->child ? df_supervisor_children(from->supervisor, info, DF_STATUS_CHILDREN_MAX) : 0;
	for (size_t i = 0; i < n; i++)
		add_child(from, &info[i], now_ns, s);
	free(info);
}

static void add_slowest(const struct df_news_sources *from, struct df_status *s)
{
	struct df_slow slow[DF_STATUS_SLOW];
	size_t n = df_control_slowest(from->control, slow, DF_STATUS_SLOW);
	for (size_t i = 0; i < n; i++) {
		uint64_t start = 0, end = 0;
		df_grid_bytes(from->grid, (struct df_cells){slow[i].source, slow[i].first, slow[i].n_cells}, &start,
			      &end);
		s->slow[s->n_slow++] = (struct df_slow_status){source_name(from, slow[i].source), start, slow[i].bytes,
							       (double)slow[i].busy_ns / 1e9};
	}
}

void df_news_tick(struct df_news *n, const struct df_news_sources *from, int dir_fd, uint64_t now_ns)
{
	if (now_ns < n->next_ns)
		return;
	n->next_ns = now_ns + DF_STATUS_EVERY_MS * DF_MS;
	struct df_control_stats stats = df_control_stats(from->control);
	measure(n, &stats, now_ns);
	struct df_status s = {
		.pid = (uint32_t)getpid(),
		.epoch = from->epoch,
		.wall_ns = df_clock_real.wall_ns(NULL),
		.elapsed_seconds = (double)(now_ns - from->start_ns) / 1e9,
		.bytes_total = stats.bytes_total,
		.bytes_done = stats.tally.bytes_in + from->resumed_bytes,
		.docs_per_second = n->docs_per_s,
		.bytes_per_second = n->bytes_per_s,
		.docs = stats.tally.in,
		.deaths = stats.deaths,
		.strikes = stats.strikes,
		.poisoned = stats.poisoned,
		.redone = stats.redone,
		.source_errors = stats.source_errors,
		.costs = from->costs,
	};
	add_children(from, &s, now_ns);
	add_slowest(from, &s);
	enum df_err overlooked = df_status_write(&df_io_real, dir_fd, &s);
	(void)overlooked;
	free(s.child);
}
