// SPDX-License-Identifier: Apache-2.0
/* help_check: the journal, the parts and the totals of a finished run against the data set. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "tests/sim/help_content.h"
#include "tests/sim/help_seed.h"

/* ------------------------------------------------------------------ what must be true in the end */

struct expected {
	const struct world *world;
	uint64_t tally[4];
	uint8_t **cell; /* of each source: 1 when its cell is committed */
};

static bool may_end_early(const struct spine *s, uint32_t i, const struct df_source_state *state)
{
	const struct world_source *src = &s->world->source[i];
	if (src->ending == END_WELL)
		return state && state->err == DF_ERR_CHILD && s->n_reader_kill >= 3;
	return state && state->err != DF_OK;
}

static void check_source(const struct spine *s, uint32_t i, const uint8_t *cell)
{
	const struct df_source_state *state = NULL;
	for (size_t k = 0; k < s->recovered.n_source; k++)
		if (s->recovered.source[k].source == i)
			state = &s->recovered.source[k];
	uint64_t n = world_n_cell(s->world, i), missing = 0;
	for (uint64_t k = 0; k < n; k++)
		missing += !cell[k];
	REQUIRE(!missing || may_end_early(s, i, state), "source %u: %llu of %llu cells have no fate", i,
		(unsigned long long)missing, (unsigned long long)n);
}

/* Readers' cells carry what the reader said of them. */
static void check_info(const struct spine *s, const struct df_commit_cells *c)
{
	uint64_t records = 0, start = 0;
	for (uint64_t k = 0; k < c->cells.n; k++) {
		size_t first = 0, end = 0;
		world_cell(s->world, c->cells.source, c->cells.first + k, &first, &end);
		if (k == 0)
			start = s->world->source[c->cells.source].record[first].offset;
		records += end - first;
	}
	REQUIRE(c->info.records == records && c->info.start == start,
		"source %u, cells %llu+%llu: the journal has %llu records from %llu, the reader said %llu from %llu",
		c->cells.source, (unsigned long long)c->cells.first, (unsigned long long)c->cells.n,
		(unsigned long long)c->info.records, (unsigned long long)c->info.start, (unsigned long long)records,
		(unsigned long long)start);
}

static void mark_cells(const struct spine *s, uint8_t **cell)
{
	for (size_t i = 0; i < s->recovered.n_cells; i++) {
		const struct df_cells c = s->recovered.cells[i].cells;
		REQUIRE(c.source < s->world->n_source && c.first + c.n <= world_n_cell(s->world, c.source),
			"cells that are not there");
		for (uint64_t k = 0; k < c.n; k++)
			REQUIRE(!cell[c.source][c.first + k]++, "source %u: cell %llu is committed twice", c.source,
				(unsigned long long)(c.first + k));
		if (s->world->source[c.source].kind == DF_SOURCE_READER)
			check_info(s, &s->recovered.cells[i]);
	}
}

/* All parts of one kind behind each other. */
static char *read_parts(const struct spine *s, const char *prefix)
{
	struct df_buf b;
	df_buf_init(&b, 64U << 20);
	for (unsigned no = 0; no < 2000; no++) { /* a set without rows of this kind has no such file */
		char name[64];
		size_t n = 0;
		(void)snprintf(name, sizeof(name), "%s-%05u.jsonl", prefix, no);
		const char *p = sim_file(s->disk, name, &n);
		if (!p)
			continue;
		assert_int_equal(df_buf_add(&b, p, n), DF_OK);
	}
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	if (s->world->content)
		REQUIRE(content_name_lines(b.p), "%s: a line names no record", prefix);
	return b.p;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t split(char *text, char ***ret_line)
{
	size_t n = 0, cap = 16;
	char **line = malloc(cap * sizeof(*line));
	for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
		*end = '\0';
		if (n == cap)
			line = realloc(line, (cap *= 2) * sizeof(*line));
		line[n++] = at;
	}
	*ret_line = line;
	return n;
}

static void check_lines(const struct spine *s, const char *prefix, char *expected_text)
{
	char **got, **want, *text = read_parts(s, prefix);
	size_t n_got = split(text, &got), n_want = split(expected_text, &want);
	if (!s->world->ordered) {
		qsort(got, n_got, sizeof(*got), by_text);
		qsort(want, n_want, sizeof(*want), by_text);
	}
	for (size_t i = 0; i < n_got && i < n_want; i++)
		REQUIRE(strcmp(got[i], want[i]) == 0, "%s: line %zu is record %s, and should be %s", prefix, i, got[i],
			want[i]);
	REQUIRE(n_got == n_want, "%s: %zu lines, and should be %zu", prefix, n_got, n_want);
	free(got);
	free(want);
	free(text);
}

static void check_total(const struct spine *s, const char *name, uint64_t want)
{
	uint64_t got = 0;
	for (size_t i = 0; i < s->recovered.n_counter; i++)
		if (df_str_is(s->recovered.counter[i].name, name))
			got = s->recovered.counter[i].value;
	REQUIRE(got == want, "total %s is %llu, and should be %llu", name, (unsigned long long)got,
		(unsigned long long)want);
}

/* What ended workers was rejected for that, so the journal, which has its cell, has all its strikes. */
static void check_guilty(const struct spine *s, uint32_t source, const struct world_record *r)
{
	uint32_t n = 0;
	for (size_t i = 0; i < s->recovered.n_strike; i++)
		if (s->recovered.strike[i].record.source == source && s->recovered.strike[i].record.offset == r->offset)
			n = s->recovered.strike[i].n;
	REQUIRE(n >= DF_STRIKES_MAX, "record %u:%llu was rejected after %u strikes in the journal", source,
		(unsigned long long)r->offset, n);
}

/* Every record of the committed cells has its one fate, in rows, rejects and totals. */
static void check_fates(const struct spine *s, uint8_t **cell)
{
	struct df_buf rows, rejects;
	uint64_t n[N_FATE] = {0}, all = 0;
	df_buf_init(&rows, 64U << 20);
	df_buf_init(&rejects, 64U << 20);
	for (uint32_t i = 0; i < s->world->n_source; i++)
		for (uint64_t k = 0, n_cell = world_n_cell(s->world, i); k < n_cell; k++) {
			size_t first = 0, end = 0;
			world_cell(s->world, i, k, &first, &end);
			for (; cell[i][k] && first < end; first++, all++) {
				const struct world_record *r = &s->world->source[i].record[first];
				n[r->fate]++;
				if (r->fate > FATE_REJECTED)
					check_guilty(s, i, r);
				if (r->fate != FATE_FILTERED)
					assert_int_equal(df_buf_addf(r->fate == FATE_OUT ? &rows : &rejects,
								     "%u:%llu\n", i, (unsigned long long)r->offset),
							 DF_OK);
			}
		}
	(void)df_buf_addc(&rows, '\0');
	(void)df_buf_addc(&rejects, '\0');
	check_lines(s, "part", rows.p);
	check_lines(s, "rejects", rejects.p);
	check_total(s, "in", all);
	check_total(s, "out", n[FATE_OUT]);
	check_total(s, "filtered", n[FATE_FILTERED]);
	check_total(s, "rejected", n[FATE_REJECTED] + n[FATE_KILLER] + n[FATE_HANGER] + n[FATE_HOG]);
	df_buf_release(&rows);
	df_buf_release(&rejects);
}

/* Healthy records have no strikes. (One that stood still with its process for its whole deadline, and was looked at in the moment
 * after, may have a few; never enough.) */
static void check_innocent(struct spine *s)
{
	for (size_t i = 0; i < s->recovered.n_strike; i++) {
		const struct df_strike *strike = &s->recovered.strike[i];
		const struct world_record *r = world_record_at(s->world, strike->record);
		REQUIRE(r != NULL, "a strike against a record that is not there");
		bool late = strike->cause == DF_CAUSE_DEADLINE && strike->n < DF_STRIKES_MAX;
		REQUIRE(r->fate > FATE_REJECTED || late,
			"the healthy record %u:%llu has %u strikes, the last for cause %u", strike->record.source,
			(unsigned long long)strike->record.offset, strike->n, strike->cause);
		s->n.innocent += r->fate <= FATE_REJECTED;
	}
}

void check_everything(struct spine *s)
{
	uint8_t *cell[64];
	REQUIRE(spine_open(s) == DF_OK, "the finished run cannot be opened: %s", s->fail.msg);
	REQUIRE(s->recovered.finished, "the run was done, but is not finished on disk");
	for (uint32_t i = 0; i < s->world->n_source; i++)
		cell[i] = calloc(world_n_cell(s->world, i) + 1, 1);
	mark_cells(s, cell);
	for (uint32_t i = 0; i < s->world->n_source; i++)
		check_source(s, i, cell[i]);
	check_fates(s, cell);
	check_innocent(s);
	for (uint32_t i = 0; i < s->world->n_source; i++)
		free(cell[i]);
	spine_close(s);
}
