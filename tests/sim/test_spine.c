// SPDX-License-Identifier: Apache-2.0
/*
 * The spine under simulated faults: control, sink and store in one process with model workers and readers, from a seed.
 * After the last epoch every record of the data set has exactly one fate.
 *
 * Usage: test_spine [SEED]: that one alone, with what happened. DF_SIM_SEEDS: how many in a whole run (default 100), DF_SIM_FIRST: from which
 * on. A failure prints its seed, and the same seed is the same story.
 *
 * Traps tried here: what a dead worker held is lost or late; a lane that was retired may still send; a random kill must not poison a healthy
 * document; parts staged by a lane that is fenced; results that are only late are no gap; a reader that dies, three times at one place; order
 * kept without ever starving the head; skip and limit over several inputs; counts that are proved per run.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/sim/help_spine.h"

#define N_FAULTY 7 /* epochs with faults; the ones behind have none */

static uint64_t one_seed;
static bool verbose;
static uint64_t now_failing;

#define REQUIRE(cond, ...)                                                                                             \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "\nseed %llu: ", (unsigned long long)now_failing);                             \
			fprintf(stderr, __VA_ARGS__);                                                                  \
			fprintf(stderr, "\n");                                                                         \
			fail();                                                                                        \
		}                                                                                                      \
	} while (0)

/* ------------------------------------------------------------------ what was injected, all seeds */

static struct {
	struct net net;
	struct spine_counts n;
	uint64_t seeds, epochs;
} sum;

static void add_up(uint64_t *to, const uint64_t *more, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] += more[i];
}

static void count_all(const struct spine *s, uint32_t epochs)
{
	sum.seeds++;
	sum.epochs += epochs;
	add_up(&sum.net.n[0][0], &s->net.n[0][0], sizeof(s->net.n) / sizeof(uint64_t));
	sum.net.n_cut += s->net.n_cut;
	sum.net.n_cut_messages += s->net.n_cut_messages;
	add_up((uint64_t *)&sum.n, (const uint64_t *)&s->n, sizeof(s->n) / sizeof(uint64_t));
}

static void tell_all(void)
{
	fprintf(stderr, "%llu seeds, %llu epochs; injected:\n", (unsigned long long)sum.seeds,
		(unsigned long long)sum.epochs);
	for (int path = 0; path < N_NET_PATH; path++) {
		fprintf(stderr, "  %s:", net_path_word[path]);
		for (int harm = 0; harm < N_NET_HARM; harm++)
			fprintf(stderr, " %llu %s", (unsigned long long)sum.net.n[path][harm], net_harm_word[harm]);
		fprintf(stderr, "\n");
	}
	fprintf(stderr, "  partitions: %llu, with %llu messages held back or lost\n", (unsigned long long)sum.net.n_cut,
		(unsigned long long)sum.net.n_cut_messages);
	const struct {
		const char *word;
		uint64_t n;
	} row[] = {
		{"killed by strangers", sum.n.killed},
		{"crashed outside of documents", sum.n.crashed},
		{"frozen", sum.n.frozen},
		{"disowned", sum.n.disowned},
		{"sends refused", sum.n.refused},
		{"stops asked for", sum.n.stopped},
		{"coordinators crashed", sum.n.coordinators},
		{"disks lost what was not synced", sum.n.disks},
		{"disk errors", sum.n.disk_errors},
		{"deaths seen", sum.n.deaths},
		{"strikes", sum.n.strikes},
		{"stale messages", sum.n.stale},
		{"doubled", sum.n.doubled},
		{"lanes lost", sum.n.malformed},
		{"ended by the deadline", sum.n.deadline_kills},
		{"ended for memory", sum.n.memory_kills},
		{"twins", sum.n.twins},
	};
	fprintf(stderr, "  ");
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		fprintf(stderr, "%s%s %llu", i ? ", " : "", row[i].word, (unsigned long long)row[i].n);
	fprintf(stderr, "\n");
}

/* ------------------------------------------------------------------ faults of an epoch */

static struct spine_faults some_faults(struct world *w, uint32_t epoch)
{
	struct spine_faults f = {.disk_bytes = UINT64_MAX};
	if (epoch >= N_FAULTY)
		return f;
	f.n_kill = (uint32_t)world_roll(w, 8);
	f.kill = world_once_in(w, 3) ? 0 : 20 + world_roll(w, 300);
	f.crash_worker = world_once_in(w, 3) ? 300 : 0;
	f.coordinator = world_once_in(w, 2) ? 50 + world_roll(w, 3000) : 0;
	f.stop = world_once_in(w, 8) ? 300 : 0;
	f.freeze = world_once_in(w, 3) ? 300 + world_roll(w, 3000) : 0;
	f.harm_net = world_once_in(w, 2);
	f.lose_disk = world_once_in(w, 2);
	if (world_once_in(w, 4))
		f.die_at = 1 + world_roll(w, 200);
	if (world_once_in(w, 6)) {
		f.fail_at = 1 + world_roll(w, 200);
		f.fail_errno = world_once_in(w, 2) ? EIO : ENOSPC;
	}
	if (world_once_in(w, 6))
		f.disk_bytes = world_roll(w, 6000);
	return f;
}

static bool excused(const struct spine *s)
{
	const struct spine_faults *f = &s->faults;
	switch (s->fail.code) {
	case DF_ERR_IO:
	case DF_ERR_NOSPACE:
		return f->die_at || f->fail_at || f->disk_bytes != UINT64_MAX;
	case DF_ERR_CHILD:
		return s->n_kill > 0 || s->faults.harm_net ||
		       s->faults.freeze; /* too many in a row died of strangers */
	case DF_ERR_TIMEOUT:
		return true; /* a lease that failed three times */
	default:
		return false;
	}
}

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

static void check_everything(struct spine *s)
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
	for (uint32_t i = 0; i < s->world->n_source; i++)
		free(cell[i]);
	spine_close(s);
}

/* ------------------------------------------------------------------ one seed */

static const char *const end_word[] = {"done", "stopped", "failed", "crashed", "did not open", "hangs"};

/* What happened, as a number. */
static uint64_t run_seed(uint64_t seed)
{
	struct world w;
	enum spine_end end = SPINE_CRASHED;
	uint32_t n_epoch = 0;
	now_failing = seed;
	world_init(&w, seed);
	struct spine s = {.world = &w, .disk = sim_create(seed)};
	s.io = sim_io(s.disk);
	for (uint32_t epoch = 0; end != SPINE_DONE; epoch++, n_epoch++) {
		s.faults = some_faults(&w, epoch);
		s.fail = (struct df_fail){0};
		end = spine_live(&s);
		s.n.disk_errors += s.fail.code == DF_ERR_IO || s.fail.code == DF_ERR_NOSPACE;
		if (verbose)
			fprintf(stderr, "epoch %u %s after %llu steps, %u kills, %llu leases: %s\n", epoch + 1,
				end_word[end], (unsigned long long)s.n_step, s.n_kill,
				(unsigned long long)s.stats.leases, s.fail.msg);
		REQUIRE(end != SPINE_HANGS, "epoch %u hangs", epoch + 1);
		REQUIRE(end != SPINE_STOPPED || s.notice_state == DF_STATE_DRAIN, "epoch %u stopped by itself",
			epoch + 1);
		REQUIRE(end != SPINE_FAILED || excused(&s), "epoch %u failed: %s", epoch + 1, s.fail.msg);
		REQUIRE(end != SPINE_NO_OPEN || excused(&s), "epoch %u cannot open its run: %s", epoch + 1, s.fail.msg);
		REQUIRE(epoch < N_FAULTY + 20, "it never ends");
	}
	check_everything(&s);
	count_all(&s, n_epoch);
	uint64_t story = s.story;
	spine_release(&s);
	world_release(&w);
	return story;
}

static void test_spine__every_record_has_exactly_one_fate_under_any_faults(void **state)
{
	const char *env_n = getenv("DF_SIM_SEEDS"), *env_first = getenv("DF_SIM_FIRST");
	uint64_t n = env_n ? strtoull(env_n, NULL, 10) : 100, first = env_first ? strtoull(env_first, NULL, 10) : 1;
	(void)state;
	if (one_seed) {
		first = one_seed;
		n = 1;
	}
	for (uint64_t seed = first; seed < first + n; seed++)
		(void)run_seed(seed);
	tell_all();
}

static void test_spine__a_seed_tells_the_same_story_each_time(void **state)
{
	(void)state;
	for (uint64_t seed = one_seed ? one_seed : 1, n = 0; n < (one_seed ? 1 : 20); seed++, n++)
		REQUIRE(run_seed(seed) == run_seed(seed), "two runs of it differ");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spine__every_record_has_exactly_one_fate_under_any_faults),
		cmocka_unit_test(test_spine__a_seed_tells_the_same_story_each_time),
	};
	one_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	verbose = one_seed != 0;
	df_log_setup(verbose ? DF_LOG_WARN : DF_LOG_ERROR, DF_LOG_TEXT, "sim");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
