// SPDX-License-Identifier: Apache-2.0
/* help_seed: epochs with faults, then some without, then the checks. */
#include "tests/sim/help_seed.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

#define N_FAULTY 7 /* epochs with faults; the ones behind have none */

uint64_t seed_now, seed_one;

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
		{"strikes against healthy records", sum.n.innocent},
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

/* ------------------------------------------------------------------ one seed */

static const char *const end_word[] = {"done", "stopped", "failed", "crashed", "did not open", "hangs"};

uint64_t seed_run(uint64_t seed, bool content)
{
	struct world w;
	enum spine_end end = SPINE_CRASHED;
	uint32_t n_epoch = 0;
	seed_now = seed;
	world_init(&w, seed, content);
	struct spine s = {.world = &w, .disk = sim_create(seed)};
	s.io = sim_io(s.disk);
	for (uint32_t epoch = 0; end != SPINE_DONE; epoch++, n_epoch++) {
		s.faults = some_faults(&w, epoch);
		s.fail = (struct df_fail){0};
		end = spine_live(&s);
		s.n.disk_errors += s.fail.code == DF_ERR_IO || s.fail.code == DF_ERR_NOSPACE;
		if (seed_one)
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

void seed_run_all(uint64_t n, bool content)
{
	const char *env_n = getenv("DF_SIM_SEEDS"), *env_first = getenv("DF_SIM_FIRST");
	uint64_t first = env_first ? strtoull(env_first, NULL, 10) : 1;
	n = env_n ? strtoull(env_n, NULL, 10) : n;
	if (seed_one) {
		first = seed_one;
		n = 1;
	}
	for (uint64_t seed = first; seed < first + n; seed++)
		(void)seed_run(seed, content);
	tell_all();
}

void seed_run_twice(uint64_t n, bool content)
{
	for (uint64_t i = 1; i <= (seed_one ? 1 : n); i++) {
		uint64_t seed = seed_one ? seed_one : i;
		REQUIRE(seed_run(seed, content) == seed_run(seed, content), "two runs of it differ");
	}
}

void seed_arguments(int argc, char **argv)
{
	seed_one = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	df_log_setup(seed_one ? DF_LOG_WARN : DF_LOG_ERROR, DF_LOG_TEXT, "sim");
}
