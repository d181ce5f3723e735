// SPDX-License-Identifier: Apache-2.0
/*
 * test_store_crash: a scripted run on a disk that dies, fails or fills up at each single call, from many seeds. Whatever happens: what
 * was committed is there, once, in the order it was written; what was not is gone; and the same run goes on to its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/sim/help_script.h"

/* A sanitizer is slow: it looks at one place in PACE. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PACE 5
#else
#define PACE 1
#endif

enum script_cut { POWER, KILL };

static uint64_t calls_of_a_run(void)
{
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	script_init(w, 1, DF_FSYNC_COMMIT);
	script_live_to_the_end(w);
	uint64_t n = sim_calls(w->sim);
	sim_destroy(&w->sim);
	free(w);
	return n;
}

static void cut_everywhere(enum script_cut cut, enum df_fsync policy, uint64_t n_seed)
{
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	uint64_t n_calls = calls_of_a_run(), n_cuts = 0, n_back = 0;
	assert_true(n_calls > 150);
	for (uint64_t seed = 0; seed < n_seed; seed++) {
		for (uint64_t n = 1 + seed % PACE; n <= n_calls; n += PACE) {
			script_init(w, seed * 100003 + n, policy);
			w->may_step_back = cut == POWER && policy != DF_FSYNC_COMMIT;
			sim_die_at(w->sim, n);
			for (int lives = 0; script_live(w, NULL) != DF_OK && lives < 4; lives++) {
				cut == POWER ? script_power_cut(w) : sim_kill(w->sim);
				n_cuts++;
				if (script_below(w, 2))
					sim_die_at(w->sim, 1 + script_below(w, lives ? 20 : n_calls));
			}
			cut == POWER ? script_power_cut(w) : sim_kill(w->sim);
			script_live_to_the_end(w);
			n_back += w->n_back;
			sim_destroy(&w->sim);
		}
	}
	print_message("%llu cuts, %llu calls a run, %llu commits taken back\n", (unsigned long long)n_cuts,
		      (unsigned long long)n_calls, (unsigned long long)n_back);
	assert_true((n_back > 0) == (cut == POWER && policy != DF_FSYNC_COMMIT));
	free(w);
}

static void test_store__survives_a_power_cut_at_every_call(void **state)
{
	(void)state;
	cut_everywhere(POWER, DF_FSYNC_COMMIT, 12);
}

static void test_store__survives_a_kill_at_every_call_whatever_is_synced(void **state)
{
	(void)state;
	cut_everywhere(KILL, DF_FSYNC_COMMIT, 2);
	cut_everywhere(KILL, DF_FSYNC_ROTATE, 2);
	cut_everywhere(KILL, DF_FSYNC_NEVER, 2);
}

/* Commits since the last rotation may be taken back, and are done again; nothing is refused, lost or doubled. */
static void test_store__synced_at_rotation_a_power_cut_steps_back(void **state)
{
	(void)state;
	cut_everywhere(POWER, DF_FSYNC_ROTATE, 4);
}

/* Never synced, a power cut gives an earlier state or a refusal that says so; rows are never doubled or invented. */
static void test_store__never_synced_a_power_cut_gives_an_earlier_state_or_a_refusal(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	unsigned n_refused = 0, n_opened = 0, n_explained = 0;
	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct df_fail fail = {0};
		script_init(w, seed, DF_FSYNC_NEVER);
		w->may_step_back = true;
		sim_die_at(w->sim, 1 + seed % 250);
		(void)script_live(w, NULL);
		script_power_cut(w);
		enum df_err err = script_live(w, &fail);
		if (err == DF_OK) {
			assert_int_equal(w->committed.n_done, SCRIPT_CELLS);
			n_opened++;
		} else {
			assert_int_equal(err, DF_ERR_CORRUPT);
			assert_non_null(strstr(fail.msg, "--force-restart"));
			n_explained += strstr(fail.msg, "does not sync (--fsync never)") != NULL;
			n_refused++;
		}
		sim_destroy(&w->sim);
	}
	print_message("%u opened, %u refused, %u of them for a file that was not synced\n", n_opened, n_refused,
		      n_explained);
	assert_true(n_opened > 300 && n_explained > 0);
	free(w);
}

/* The process that wrote FINISH may be killed before it synced that: whoever reports the run as finished makes it so. */
static void test_store__what_is_reported_as_finished_survives_a_power_cut(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	uint64_t n_calls = calls_of_a_run(), n_finished = 0;
	for (uint64_t n = n_calls - 12; n <= n_calls; n++) {
		for (uint64_t seed = 0; seed < 40; seed++) {
			script_init(w, 1 + seed * 7, DF_FSYNC_COMMIT);
			sim_die_at(w->sim, n);
			if (script_live(w, NULL) == DF_OK)
				w->epoch = 1;
			sim_kill(w->sim);
			struct df_fail fail = {0};
			assert_int_equal(script_live(w, &fail), DF_OK); /* goes on, or finds it finished */
			uint32_t epoch = w->epoch;
			script_power_cut(w);
			assert_int_equal(script_live(w, &fail), DF_OK);
			assert_int_equal(w->epoch, epoch); /* finished: no new one */
			n_finished++;
			sim_destroy(&w->sim);
		}
	}
	assert_true(n_finished > 100);
	free(w);
}

static void test_store__goes_on_after_any_single_call_failed(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	uint64_t n_calls = calls_of_a_run(), n_failed = 0;
	const int error[] = {EIO, ENOSPC, EROFS};
	for (uint64_t n = 1; n <= n_calls; n += PACE) {
		for (int e = 0; e < 3; e++) {
			struct df_fail fail = {0};
			script_init(w, n, DF_FSYNC_COMMIT);
			sim_fail_at(w->sim, n, error[e]);
			enum df_err err = script_live(w, &fail);
			if (err != DF_OK) {
				n_failed++;
				assert_true(err == DF_ERR_IO || err == DF_ERR_NOSPACE);
				assert_non_null(strstr(fail.msg, strerror(error[e])));
				assert_non_null(strstr(fail.msg, "cannot "));
			}
			sim_fail_at(w->sim, 0, 0);
			script_live_to_the_end(w);
			sim_destroy(&w->sim);
		}
	}
	assert_true(n_failed > 2 * n_calls / PACE); /* nearly every call matters */
	free(w);
}

static void test_store__a_full_disk_names_the_file_and_the_way_out(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	unsigned n_part = 0;
	for (uint64_t size = 0; size < 12000; size += 37) {
		struct df_fail fail = {0};
		script_init(w, size, DF_FSYNC_COMMIT);
		sim_disk_bytes(w->sim, size);
		enum df_err err = script_live(w, &fail);
		if (err != DF_OK) {
			assert_int_equal(err, DF_ERR_NOSPACE);
			assert_non_null(strstr(fail.msg, "cannot write '"));
			assert_non_null(strstr(fail.msg,
					       "': No space left on device; free some and run the same command again"));
			n_part += strstr(fail.msg, "cannot write 'part-0") != NULL;
		}
		sim_disk_bytes(w->sim, UINT64_MAX);
		script_live_to_the_end(w);
		sim_destroy(&w->sim);
	}
	assert_true(n_part > 10);
	free(w);
}

/* --- damage --- */

static const char *refusal(struct script *w, enum df_err expected)
{
	static struct df_fail fail;
	struct df_arena arena;
	struct df_store *s = NULL;
	struct df_recovered r;
	df_arena_init(&arena, 1 << 20, 0);
	enum df_err err = df_store_open(&w->config, &w->io, &arena, &s, &r, &fail);
	if (err == DF_OK)
		df_store_close(&s);
	df_arena_release(&arena);
	assert_int_equal(err, expected);
	return fail.msg;
}

/* Damage to a file in the sim: a byte changed, the end cut off, or the file gone. */
static void damage(struct script *w, const char *name, int how, size_t at)
{
	size_t n = 0;
	char *p = sim_bytes(w->sim, name, &n);
	assert_true(p && at < n);
	if (how == 0) {
		p[at] = (char)(p[at] ^ 1);
	} else if (how == 1) {
		int fd = w->io.open(w->io.self, 3, name, 2, 0);
		assert_int_equal(w->io.truncate(w->io.self, fd, at), 0);
		(void)w->io.close(w->io.self, fd);
	} else {
		assert_int_equal(w->io.unlink(w->io.self, 3, name), 0);
	}
}

/* Data that the journal knows to be durable is damaged: refused with its place. Behind that a crash may have taken it: done again. */
static void test_store__damaged_open_data_is_refused_or_done_again(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	unsigned n_refused[3] = {0}, n_back[3] = {0}, n_behind = 0;
	script_half_way(w, DF_FSYNC_COMMIT);
	size_t n_file = sim_n_files(w->sim);
	sim_destroy(&w->sim);
	for (size_t i = 0; i < 2 * n_file; i++) {
		for (size_t at = i % 3;; at += 13) {
			script_half_way(w, i < n_file ? DF_FSYNC_COMMIT : DF_FSYNC_ROTATE);
			const char *name = sim_name(w->sim, i % n_file);
			size_t n = 0, skip = strstr(name, ".npy") ? DF_NPY_HEADER_BYTES : 0;
			(void)sim_bytes(w->sim, name, &n);
			if (!strstr(name, ".open") || at + skip >= n) {
				sim_destroy(&w->sim);
				break;
			}
			int how = (int)(at % 3);
			char copy[80];
			(void)snprintf(copy, sizeof(copy), "%s", name);
			damage(w, name, how, at + skip);
			struct df_fail fail = {0};
			w->may_step_back = true;
			enum df_err err = script_live(w, &fail);
			if (err == DF_OK) {
				assert_int_equal(w->committed.n_done, SCRIPT_CELLS);
				script_check_files(w, &w->committed, true);
				n_back[how] += w->n_back > 0;
				n_behind += w->n_back == 0;
			} else {
				copy[strlen(copy) - strlen(".open")] = '\0';
				assert_int_equal(err, DF_ERR_CORRUPT);
				assert_non_null(strstr(fail.msg, copy));
				assert_non_null(strstr(fail.msg, how == 0   ? "changed or damaged between bytes"
								 : how == 1 ? "bytes, but the journal says"
									    : "is missing, but the journal"));
				n_refused[how]++;
			}
			sim_destroy(&w->sim);
		}
	}
	print_message("changed, cut, gone: %u, %u, %u refused; %u, %u, %u stepped back; %u were not committed\n",
		      n_refused[0], n_refused[1], n_refused[2], n_back[0], n_back[1], n_back[2], n_behind);
	for (int how = 0; how < 3; how++)
		assert_true(n_refused[how] > 0 && n_back[how] > 0);
	free(w);
}

/* A refusal leaves everything as it was, so that what is missing can be put back. */
static void test_store__a_refusal_changes_nothing(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	for (size_t i = 0;; i++) {
		script_half_way(w, DF_FSYNC_COMMIT);
		if (i == sim_n_files(w->sim))
			break;
		char name[80];
		size_t n = 0, n_journal = 0;
		(void)snprintf(name, sizeof(name), "%s", sim_name(w->sim, i));
		const char *p = sim_file(w->sim, name, &n);
		if (strcmp(name, "journal") == 0 || n == 0) {
			sim_destroy(&w->sim);
			continue;
		}
		char *copy = malloc(n), *journal = NULL;
		assert_non_null(copy);
		memcpy(copy, p, n);
		p = sim_file(w->sim, "journal", &n_journal);
		journal = malloc(n_journal);
		assert_non_null(journal);
		memcpy(journal, p, n_journal);
		assert_int_equal(w->io.unlink(w->io.self, 3, name), 0);
		struct df_fail fail = {0};
		w->may_step_back = true;
		if (script_live(w, &fail) != DF_OK) {
			size_t n_now = 0;
			assert_int_equal(fail.code, DF_ERR_CORRUPT);
			p = sim_file(w->sim, "journal", &n_now);
			assert_int_equal(n_now, n_journal);
			assert_memory_equal(p, journal, n_journal);
			struct iovec iov = {copy, n};
			int fd = w->io.open(w->io.self, 3, name, O_RDWR | O_CREAT, 0666);
			assert_int_equal(w->io.write_all(w->io.self, fd, &iov, 1, 0), 0);
			(void)w->io.close(w->io.self, fd);
			w->may_step_back = false;
			script_live_to_the_end(w);
		}
		free(copy);
		free(journal);
		sim_destroy(&w->sim);
	}
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__data_shorter_than_its_journal_is_refused_with_both_sizes(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	script_init(w, 9, DF_FSYNC_COMMIT);
	script_live_to_the_end(w);
	size_t n = 0;
	assert_non_null(sim_file(w->sim, "part-00001.jsonl", &n));
	int fd = w->io.open(w->io.self, 3, "part-00001.jsonl", 2, 0);
	assert_int_equal(w->io.truncate(w->io.self, fd, n - 1), 0);
	(void)w->io.close(w->io.self, fd);
	const char *msg = refusal(w, DF_ERR_CORRUPT);
	char expected[128];
	(void)snprintf(expected, sizeof(expected), "'part-00001.jsonl' has %zu bytes, but the journal says %zu", n - 1,
		       n);
	assert_non_null(strstr(msg, expected));
	assert_int_equal(w->io.unlink(w->io.self, 3, "part-00001.jsonl"), 0);
	assert_non_null(strstr(refusal(w, DF_ERR_CORRUPT), "'part-00001.jsonl' is missing"));
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__every_damaged_byte_of_the_journal_is_refused_or_is_in_its_last_record(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	script_init(w, 11, DF_FSYNC_COMMIT);
	script_live_to_the_end(w);
	size_t n = 0;
	char *journal = sim_bytes(w->sim, "journal", &n);
	assert_non_null(journal);
	char *copy = malloc(n);
	assert_non_null(copy);
	memcpy(copy, journal, n);
	for (size_t i = 0; i < n; i++) {
		struct df_replay r;
		struct df_fail fail = {0};
		journal[i] = (char)(copy[i] ^ 1 << i % 8);
		int fd = w->io.open(w->io.self, 3, "journal", 0, 0);
		df_replay_init(&r);
		enum df_err err = df_journal_replay(&w->io, fd, &r, &fail);
		bool in_last = i >= n - DF_JOURNAL_HEAD - 2; /* FINISH */
		if (in_last)
			assert_true(err == DF_OK && r.torn_bytes == DF_JOURNAL_HEAD + 2 && !r.finished);
		else
			assert_true(err == DF_ERR_CORRUPT || (err == DF_ERR_VERSION && (i == 4 || i == 5)));
		df_replay_release(&r);
		(void)w->io.close(w->io.self, fd);
		journal[i] = copy[i];
	}
	free(copy);
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__another_fingerprint_or_format_is_refused(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	script_init(w, 3, DF_FSYNC_COMMIT);
	script_live_to_the_end(w);
	w->config.fingerprint++;
	assert_non_null(strstr(refusal(w, DF_ERR_CHANGED), "another pipeline"));
	w->config.fingerprint--;
	w->config.zstd = true;
	assert_non_null(strstr(refusal(w, DF_ERR_CHANGED), "other files"));
	sim_destroy(&w->sim);
	free(w);
}

static void test_store__parts_without_their_journal_are_refused(void **state)
{
	(void)state;
	struct script *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	script_init(w, 3, DF_FSYNC_COMMIT);
	script_live_to_the_end(w);
	assert_int_equal(w->io.unlink(w->io.self, 3, "journal"), 0);
	assert_non_null(strstr(refusal(w, DF_ERR_CORRUPT), "the journal does not know it"));
	sim_destroy(&w->sim);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store__survives_a_power_cut_at_every_call),
		cmocka_unit_test(test_store__survives_a_kill_at_every_call_whatever_is_synced),
		cmocka_unit_test(test_store__synced_at_rotation_a_power_cut_steps_back),
		cmocka_unit_test(test_store__never_synced_a_power_cut_gives_an_earlier_state_or_a_refusal),
		cmocka_unit_test(test_store__what_is_reported_as_finished_survives_a_power_cut),
		cmocka_unit_test(test_store__goes_on_after_any_single_call_failed),
		cmocka_unit_test(test_store__a_full_disk_names_the_file_and_the_way_out),
		cmocka_unit_test(test_store__damaged_open_data_is_refused_or_done_again),
		cmocka_unit_test(test_store__a_refusal_changes_nothing),
		cmocka_unit_test(test_store__data_shorter_than_its_journal_is_refused_with_both_sizes),
		cmocka_unit_test(test_store__every_damaged_byte_of_the_journal_is_refused_or_is_in_its_last_record),
		cmocka_unit_test(test_store__another_fingerprint_or_format_is_refused),
		cmocka_unit_test(test_store__parts_without_their_journal_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
