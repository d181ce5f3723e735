// SPDX-License-Identifier: Apache-2.0
/*
 * test_cuts: small run directories whose journal and data are cut at every byte, and whose journal has every bit flipped. Each time the same
 * command either goes on and the result is exactly once, or it is refused with the file and the place, and nothing was changed.
 */
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

#define FILES_MAX 64

struct image_file {
	char name[80];
	char *p;
	size_t n;
};

/* A directory as a process left it, and what must be in it. */
struct image {
	const char *what;
	struct script w;
	struct image_file file[FILES_MAX];
	size_t n_file;
};

struct tally {
	uint64_t n, complete, back, refused;
};

/* ------------------------------------------------------------------ images */

static void take(struct image *image, const char *what, struct script *w)
{
	*image = (struct image){.what = what, .w = *w};
	for (size_t i = 0; i < sim_n_files(w->sim); i++) {
		struct image_file *f = &image->file[image->n_file++];
		assert_true(image->n_file < FILES_MAX);
		(void)snprintf(f->name, sizeof(f->name), "%s", sim_name(w->sim, i));
		const char *p = sim_file(w->sim, f->name, &f->n);
		f->p = malloc(f->n + 1);
		assert_non_null(f->p);
		memcpy(f->p, p, f->n);
	}
	sim_destroy(&w->sim);
}

static void image_release(struct image *image)
{
	for (size_t i = 0; i < image->n_file; i++)
		free(image->file[i].p);
}

/* A disk with the image on it, but `changed` in place of the file `at`. */
static void restore(const struct image *image, size_t at, const char *changed, size_t n_changed, struct script *w)
{
	*w = image->w;
	w->sim = sim_create(1);
	w->io = sim_io(w->sim);
	w->rand = df_rand_seeded(&w->rand_state);
	w->may_step_back = true;
	w->n_back = 0;
	w->epoch = 0; /* a journal cut before its first epoch begins again */
	for (size_t i = 0; i < image->n_file; i++) {
		struct iovec iov = {i == at ? (char *)(uintptr_t)changed : image->file[i].p,
				    i == at ? n_changed : image->file[i].n};
		int fd = w->io.open(w->io.self, 3, image->file[i].name, O_RDWR | O_CREAT, 0666);
		assert_true(fd >= 0);
		assert_int_equal(w->io.write_all(w->io.self, fd, &iov, 1, 0), 0);
		(void)w->io.close(w->io.self, fd);
	}
}

/* The run stopped while nothing was closed yet. */
static void make_young(struct image *image, struct script *w)
{
	script_init(w, 21, DF_FSYNC_COMMIT);
	w->config.part_bytes = 1 << 20;
	sim_die_at(w->sim, 60);
	assert_int_not_equal(script_live(w, NULL), DF_OK);
	sim_kill(w->sim);
	take(image, "a run killed early", w);
}

static void make_half(struct image *image, struct script *w)
{
	script_half_way(w, DF_FSYNC_COMMIT);
	take(image, "a run killed half way", w);
}

static void make_finished(struct image *image, struct script *w)
{
	script_init(w, 33, DF_FSYNC_COMMIT);
	w->config.part_bytes = 2500;
	assert_int_equal(script_live(w, NULL), DF_OK);
	take(image, "a finished run", w);
}

/* ------------------------------------------------------------------ one trial */

static void check_unchanged(const struct image *image, size_t at, const char *changed, size_t n_changed,
			    const struct script *w)
{
	for (size_t i = 0; i < image->n_file; i++) {
		size_t n = 0;
		const char *p = sim_file(w->sim, image->file[i].name, &n);
		assert_non_null(p);
		assert_int_equal(n, i == at ? n_changed : image->file[i].n);
		if (n)
			assert_memory_equal(p, i == at ? changed : image->file[i].p, n);
	}
	assert_int_equal(sim_n_files(w->sim), image->n_file);
}

static void try_it(const struct image *image, size_t at, const char *changed, size_t n_changed, struct script *w,
		   struct tally *tally)
{
	struct df_fail fail = {0};
	tally->n++;
	restore(image, at, changed, n_changed, w);
	enum df_err err = script_live(w, &fail);
	if (err == DF_OK) {
		assert_int_equal(w->committed.n_done, SCRIPT_CELLS);
		script_check_files(w, &w->committed, true);
		tally->complete++;
		tally->back += w->n_back > 0;
	} else {
		if (err != DF_ERR_CORRUPT && err != DF_ERR_VERSION)
			fail_msg("%s: '%s': %s", image->what, image->file[at].name, fail.msg);
		assert_true(strstr(fail.msg, "'journal'") || strstr(fail.msg, "'part-") ||
			    strstr(fail.msg, "'rejects-"));
		assert_true(strpbrk(fail.msg, "0123456789") != NULL); /* the place, or a file's number */
		check_unchanged(image, at, changed, n_changed, w);
		tally->refused++;
	}
	sim_destroy(&w->sim);
}

static void report(const struct image *image, const char *what, const struct tally *t)
{
	print_message("%s, %s: %llu tried: %llu went on (%llu with work done again), %llu refused\n", image->what, what,
		      (unsigned long long)t->n, (unsigned long long)t->complete, (unsigned long long)t->back,
		      (unsigned long long)t->refused);
}

static bool is_journal(const struct image *image, size_t at)
{
	return strcmp(image->file[at].name, "journal") == 0;
}

/* ------------------------------------------------------------------ the tests */

static void with_each(void (*make[])(struct image *, struct script *), size_t n,
		      void (*test)(const struct image *, struct script *))
{
	struct image *image = calloc(1, sizeof(*image));
	struct script *w = calloc(1, sizeof(*w));
	assert_true(image && w);
	for (size_t i = 0; i < n; i++) {
		make[i](image, w);
		test(image, w);
		image_release(image);
	}
	free(image);
	free(w);
}

static void (*every_image[])(struct image *, struct script *) = {make_young, make_half, make_finished};

static void cut_journal(const struct image *image, struct script *w)
{
	struct tally t = {0};
	for (size_t at = 0; at < image->n_file; at++)
		for (size_t n = 0; is_journal(image, at) && n < image->file[at].n; n += PACE)
			try_it(image, at, image->file[at].p, n, w, &t);
	report(image, "journal cut at every byte", &t);
	assert_true(t.n > 500 / PACE && t.complete > 0);
}

static void test_cuts__journal_at_every_byte(void **state)
{
	(void)state;
	with_each(every_image, 3, cut_journal);
}

static void cut_data(const struct image *image, struct script *w)
{
	struct tally t = {0};
	for (size_t at = 0; at < image->n_file; at++)
		for (size_t n = 0; !is_journal(image, at) && n < image->file[at].n; n += PACE)
			try_it(image, at, image->file[at].p, n, w, &t);
	report(image, "data cut at every byte", &t);
	assert_true(t.n > 1000 / PACE && t.refused > 0);
}

static void test_cuts__data_at_every_byte(void **state)
{
	(void)state;
	with_each(every_image, 3, cut_data);
}

static void flip_journal(const struct image *image, struct script *w)
{
	struct tally t = {0};
	for (size_t at = 0; at < image->n_file; at++) {
		const struct image_file *f = &image->file[at];
		if (!is_journal(image, at))
			continue;
		char *p = malloc(f->n);
		assert_non_null(p);
		memcpy(p, f->p, f->n);
		for (size_t bit = 0; bit < 8 * f->n; bit += PACE) {
			p[bit / 8] = (char)(f->p[bit / 8] ^ 1 << bit % 8);
			try_it(image, at, p, f->n, w, &t);
			p[bit / 8] = f->p[bit / 8];
		}
		free(p);
	}
	report(image, "journal with a bit flipped", &t);
	assert_true(t.n > 1000 / PACE && t.refused > 0);
}

static void test_cuts__journal_with_every_bit_flipped(void **state)
{
	(void)state;
	with_each(every_image, 3, flip_journal);
}

static uint64_t flips_done_again;

/* Of open parts every byte is compared; of closed ones that is verify's work (test_verify). */
static void flip_data(const struct image *image, struct script *w)
{
	struct tally t = {0};
	for (size_t at = 0; at < image->n_file; at++) {
		const struct image_file *f = &image->file[at];
		size_t skip = strstr(f->name, ".npy") ? DF_NPY_HEADER_BYTES : 0;
		if (!strstr(f->name, ".open"))
			continue;
		char *p = malloc(f->n);
		assert_non_null(p);
		memcpy(p, f->p, f->n);
		for (size_t i = skip; i < f->n; i += PACE) {
			p[i] = (char)(f->p[i] ^ 1 << i % 8);
			try_it(image, at, p, f->n, w, &t);
			p[i] = f->p[i];
		}
		free(p);
	}
	report(image, "open data with a bit flipped", &t);
	assert_true(t.n > 1000 / PACE && t.refused > 0);
	flips_done_again += t.back;
}

static void test_cuts__open_data_with_a_bit_flipped_in_every_byte(void **state)
{
	(void)state;
	flips_done_again = 0;
	with_each(every_image, 2, flip_data);
	assert_true(flips_done_again > 0); /* those in the commit that no later record knows to be durable */
}

/* The name of each file is gone. */
static void lose_files(const struct image *image, struct script *w)
{
	for (size_t at = 0; at < image->n_file; at++) {
		struct df_fail fail = {0};
		restore(image, SIZE_MAX, NULL, 0, w);
		assert_int_equal(w->io.unlink(w->io.self, 3, image->file[at].name), 0);
		enum df_err err = script_live(w, &fail);
		if (err == DF_OK) {
			assert_int_equal(w->committed.n_done, SCRIPT_CELLS);
			script_check_files(w, &w->committed, true);
		} else {
			assert_int_equal(err, DF_ERR_CORRUPT);
			assert_true(is_journal(image, at) || strstr(fail.msg, "is missing, but the journal says"));
			assert_int_equal(sim_n_files(w->sim), image->n_file - 1);
		}
		sim_destroy(&w->sim);
	}
}

static void test_cuts__files_that_are_gone(void **state)
{
	(void)state;
	with_each(every_image, 3, lose_files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts__journal_at_every_byte),
		cmocka_unit_test(test_cuts__data_at_every_byte),
		cmocka_unit_test(test_cuts__journal_with_every_bit_flipped),
		cmocka_unit_test(test_cuts__open_data_with_a_bit_flipped_in_every_byte),
		cmocka_unit_test(test_cuts__files_that_are_gone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
