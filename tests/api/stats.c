// SPDX-License-Identifier: Apache-2.0
/* stats: counts, sliding maxima, a hash table of texts, and the JSON of it. */
#include "tests/api/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void *must(void *p)
{
	if (p == NULL) {
		perror("api_server: memory");
		abort();
	}
	return p;
}

static struct text *slot(struct text *table, size_t cap, uint64_t hash)
{
	size_t i = hash & (cap - 1);
	while (table[i].hash != 0 && table[i].hash != hash)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

static void table_grow(struct stats *s)
{
	size_t cap = s->cap_text ? s->cap_text * 2 : 1024;
	struct text *table = must(calloc(cap, sizeof *table));
	for (size_t i = 0; i < s->cap_text; i++) {
		if (s->text[i].hash != 0)
			*slot(table, cap, s->text[i].hash) = s->text[i];
	}
	free(s->text);
	s->text = table;
	s->cap_text = cap;
}

struct text *stats_text(struct stats *s, struct span text, uint64_t salt)
{
	if (s->n_text * 2 >= s->cap_text)
		table_grow(s);
	uint64_t hash = hash_of(text, salt) | 1;
	struct text *t = slot(s->text, s->cap_text, hash);
	if (t->hash == 0) {
		t->hash = hash;
		memcpy(t->head, text.p, text.n < sizeof t->head ? text.n : sizeof t->head - 1);
		s->n_text++;
	}
	return t;
}

void window_add(struct window *w, uint64_t now, uint64_t minute, uint64_t value)
{
	while (w->n > 0 && w->ring[w->first].at_ns + minute <= now) {
		w->sum -= w->ring[w->first].tokens;
		w->first = (w->first + 1) & (w->cap - 1);
		w->n--;
	}
	if (w->n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 1024;
		struct taken *ring = must(malloc(cap * sizeof *ring));
		for (size_t i = 0; i < w->n; i++)
			ring[i] = w->ring[(w->first + i) & (w->cap - 1)];
		free(w->ring);
		w->ring = ring;
		w->first = 0;
		w->cap = cap;
	}
	w->ring[(w->first + w->n++) & (w->cap - 1)] = (struct taken){now, value};
	w->sum += value;
	if (w->sum > w->max)
		w->max = w->sum;
}

void stats_reset(struct stats *s)
{
	free(s->text);
	free(s->requests_window.ring);
	free(s->accepted_window.ring);
	free(s->tokens_window.ring);
	*s = (struct stats){.in_flight = s->in_flight,
			    .max_in_flight = s->in_flight,
			    .n_connection = s->n_connection,
			    .max_connections = s->n_connection};
}

static void write_texts_counts(const struct stats *s, struct bytes *to)
{
	uint64_t paid = 0, twice = 0, extra = 0, most = 0;
	for (size_t i = 0; i < s->cap_text; i++) {
		const struct text *t = &s->text[i];
		paid += t->paid > 0;
		twice += t->paid > 1;
		extra += t->paid > 1 ? t->paid - 1 : 0;
		most = t->requests > most ? t->requests : most;
	}
	bytes_fmt(
		to,
		"\"texts\":%zu,\"texts_paid\":%lu,\"paid_twice\":%lu,\"paid_extra\":%lu,\"requests_max_per_text\":%lu,",
		s->n_text, paid, twice, extra, most);
}

static void write_maps(const struct stats *s, struct bytes *to)
{
	static const char *const reason[] = {"", "requests", "tokens", "day_requests", "day_tokens", "concurrency"};
	const char *comma = "";
	uint64_t all = 0;
	bytes_str(to, "\"answers\":{");
	for (int i = 0; i < 600; i++) {
		if (s->status[i] > 0) {
			bytes_fmt(to, "%s\"%d\":%lu", comma, i, s->status[i]);
			comma = ",";
		}
	}
	bytes_str(to, "},\"faults\":{");
	comma = "";
	for (int i = 0; i < FAULT_N; i++) {
		if (s->fault[i] > 0) {
			struct fault f = {.kind = (enum fault_kind)i};
			bytes_fmt(to, "%s\"%s\":%lu", comma, i == FAULT_STATUS ? "status" : fault_name(&f),
				  s->fault[i]);
			comma = ",";
		}
	}
	bytes_str(to, "},\"violations_by\":{");
	for (int i = LIMIT_REQUESTS; i <= LIMIT_CONCURRENCY; i++) {
		bytes_fmt(to, "%s\"%s\":%lu", i > LIMIT_REQUESTS ? "," : "", reason[i], s->violation[i]);
		all += s->violation[i];
	}
	bytes_fmt(to, "},\"violations\":%lu,", all);
}

void stats_write(const struct stats *s, struct bytes *to)
{
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		     (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
	bytes_fmt(to, "{\"requests\":%lu,\"inputs\":%lu,\"streams\":%lu,\"gone\":%lu,\"unauthorized\":%lu,",
		  s->requests, s->inputs, s->streams, s->gone, s->unauthorized);
	write_maps(s, to);
	write_texts_counts(s, to);
	bytes_fmt(to, "\"early_retries\":%lu,\"early_any\":%lu,\"in_flight\":%lu,\"max_in_flight\":%lu,",
		  s->early_retries, s->early_any, s->in_flight, s->max_in_flight);
	bytes_fmt(to, "\"connections\":%lu,\"open_connections\":%lu,\"max_connections\":%lu,", s->connections,
		  s->n_connection, s->max_connections);
	bytes_fmt(to, "\"requests_minute_max\":%lu,\"accepted_minute_max\":%lu,\"tokens_minute_max\":%lu,",
		  s->requests_window.max, s->accepted_window.max, s->tokens_window.max);
	bytes_fmt(to, "\"tokens_in\":%lu,\"tokens_out\":%lu,\"tokens_gone\":%lu,\"usd\":%.9f,", s->tokens_in,
		  s->tokens_out, s->tokens_gone, s->usd);
	bytes_fmt(to, "\"batches\":%lu,\"batch_lines\":%lu,\"files\":%lu,", s->batches, s->batch_lines, s->files);
	bytes_fmt(to, "\"first_arrival_ns\":%lu,\"last_arrival_ns\":%lu,\"last_answer_ns\":%lu,\"cpu_s\":%.6f}\n",
		  s->first_arrival_ns, s->last_arrival_ns, s->last_answer_ns, cpu);
}

void stats_texts(const struct stats *s, bool only_twice, struct bytes *to)
{
	const char *comma = "";
	bytes_str(to, "[");
	for (size_t i = 0; i < s->cap_text; i++) {
		const struct text *t = &s->text[i];
		if (t->hash == 0 || (only_twice && t->paid < 2))
			continue;
		size_t n = strlen(t->head);
		while (n > 0 && ((unsigned char)t->head[n - 1] & 0x80))
			n--; /* perhaps half a code point */
		bytes_fmt(to, "%s{\"hash\":\"%016lx\",\"requests\":%u,\"paid\":%u,\"refused\":%u,\"head\":", comma,
			  t->hash, t->requests, t->paid, t->refused);
		bytes_json(to, (struct span){t->head, n});
		bytes_str(to, "}");
		comma = ",";
	}
	bytes_str(to, "]\n");
}
