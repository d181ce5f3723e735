// SPDX-License-Identifier: Apache-2.0
/*
 * test_trace: lines of many processes, torn ones, parents that nobody put, lanes, and what the forms of a trace hold.
 * ctest: threaded
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "worker/trace/trace_export.h"

#define S(x) DF_STR(x)
#define RUN 0x1234

struct fixture {
	char dir[256], path[300];
	int fd;
	struct df_arena arena;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	if (!f)
		return -1;
	(void)snprintf(f->dir, sizeof(f->dir), "%s/df-trace-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(f->dir))
		return -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/trace.jsonl", f->dir);
	f->fd = open(f->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	df_arena_init(&f->arena, (size_t)256 << 20, 0);
	*state = f;
	return f->fd >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	(void)close(f->fd);
	(void)unlink(f->path);
	int rc = rmdir(f->dir);
	df_arena_release(&f->arena);
	free(f);
	return rc;
}

static struct df_trace *open_trace(struct fixture *f)
{
	struct df_trace *t = NULL;
	struct df_fail fail = {.msg = ""};
	assert_int_equal(df_trace_open(f->fd, RUN, &t, &fail), DF_OK);
	return t;
}

static void load(struct fixture *f, struct df_trace_tree *t)
{
	struct df_fail fail = {.msg = ""};
	if (df_trace_load(f->dir, t, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
}

static struct df_span call(const char *doc, uint64_t start_ms, uint64_t ms)
{
	return (struct df_span){.name = S("chat gpt-4o-mini"),
				.doc_id = df_str_from(doc),
				.stage = S("llm"),
				.model = S("gpt-4o-mini"),
				.provider = S("openai"),
				.start_wall_ns = (UINT64_C(1700000000000) + start_ms) * DF_MS,
				.duration_ns = ms * DF_MS,
				.queue_ns = DF_MS,
				.attempt = 1,
				.status = 200,
				.usage = {100, 20, 7, true},
				.usd = 0.000019};
}

static struct df_str slurp(struct fixture *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t n = lseek(fd, 0, SEEK_END);
	char *p = df_arena_alloc(&f->arena, (size_t)n + 1);
	assert_non_null(p);
	assert_int_equal(pread(fd, p, (size_t)n, 0), n);
	(void)close(fd);
	return (struct df_str){p, (size_t)n};
}

/* ------------------------------------------------------------------ writing and reading */

static void test_trace__a_span_comes_back_as_it_was_put(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	struct df_span s = call("a \"quoted\" id\n", 5, 10), back;
	s.first_token_ns = 3 * DF_MS;
	s.class = DF_CALL_RATE;
	s.cached = true;
	s.inputs = 64;
	s.usage.known = false;
	s.id = df_trace_id(t);
	df_trace_put(t, &s);
	df_trace_close(&t);
	struct df_trace_tree tree;
	load(f, &tree);
	const struct df_trace_node *n = df_trace_find(&tree, s.id);
	assert_non_null(n);
	assert_int_equal(df_trace_span(&tree, n, &back), DF_OK);
	assert_true(df_str_eq(back.doc_id, s.doc_id) && df_str_eq(back.name, s.name) && df_str_eq(back.model, s.model));
	assert_true(df_str_eq(back.stage, s.stage) && df_str_eq(back.provider, s.provider));
	assert_int_equal(back.parent, df_trace_document_id(RUN, S("llm"), s.doc_id));
	assert_true(back.start_wall_ns == s.start_wall_ns && back.duration_ns == s.duration_ns);
	assert_true(back.queue_ns == s.queue_ns && back.first_token_ns == s.first_token_ns);
	assert_true(back.attempt == 1 && back.status == 200 && back.inputs == 64 && back.cached);
	assert_true(back.class == DF_CALL_RATE && back.usage.in == 100 && back.usage.cached_in == 20 &&
		    back.usage.out == 7);
	assert_false(back.usage.known);
	assert_true(back.usd == s.usd);
	assert_int_equal(n->run_id, RUN);
	assert_int_equal(n->pid, getpid());
	df_trace_release(&tree);
}

static void test_trace__lines_are_bounded_json_whatever_is_put(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	char nasty[9000];
	for (size_t i = 0; i < sizeof(nasty); i++)
		nasty[i] = (char)(i % 3 == 0 ? 1 : i % 3 == 1 ? '"' : '\\');
	struct df_span s = call("x", 1, 1);
	s.doc_id = s.name = s.model = s.stage = s.provider = (struct df_str){nasty, sizeof(nasty)};
	s.usd = NAN;
	s.duration_ns = s.queue_ns = s.first_token_ns = s.usage.in = s.usage.out = UINT64_MAX / 2;
	s.class = (enum df_call_class)99;
	df_trace_put(t, &s);
	memset(nasty, 0, sizeof(nasty));
	for (size_t i = 0; i + 1 < sizeof(nasty); i += 2)
		memcpy(nasty + i, "\xc3\xa9", 2);
	s.doc_id = (struct df_str){nasty, sizeof(nasty) - 1};
	df_trace_put(t, &s);
	df_trace_close(&t);
	struct df_str text = slurp(f, f->path);
	size_t lines = 0;
	while (text.n) {
		const char *end = memchr(text.p, '\n', text.n);
		assert_non_null(end);
		struct df_json *root;
		struct df_fail fail;
		assert_true((size_t)(end - text.p) < DF_TRACE_LINE_BYTES);
		if (df_json_parse((struct df_str){text.p, (size_t)(end - text.p)}, &f->arena, &root, &fail) != DF_OK)
			fail_msg("%s", fail.msg);
		text = (struct df_str){end + 1, text.n - (size_t)(end + 1 - text.p)};
		lines++;
	}
	assert_int_equal(lines, 2);
}

static void test_trace__parents_that_nobody_put_are_made_around_their_children(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	struct df_span a = call("d1", 100, 50), b = call("d1", 120, 100), c = call("d2", 90, 10), s;
	struct df_span attempt = {.kind = DF_SPAN_ATTEMPT, .name = S("attempt"), .stage = S("llm"), .doc_id = S("d2")};
	a.id = df_trace_id(t);
	attempt.parent = a.id;
	attempt.start_wall_ns = a.start_wall_ns;
	attempt.duration_ns = DF_MS;
	attempt.attempt = 1;
	df_trace_put(t, &attempt); /* ends before its call */
	df_trace_put(t, &a);
	df_trace_put(t, &b);
	df_trace_put(t, &c);
	attempt.parent = df_trace_id(t); /* of a call that never ended */
	attempt.start_wall_ns += 500 * DF_MS;
	df_trace_put(t, &attempt);
	df_trace_close(&t);
	struct df_trace_tree tree;
	load(f, &tree);
	assert_int_equal(tree.n, 5 + 1 + 2 + 1 + 1); /* spans, the call, documents, stage, run */
	const struct df_trace_node *run = &tree.node[0], *stage = &tree.node[1];
	assert_true(run->kind == DF_SPAN_RUN && run->parent == 0 && run->made && run->pid == 0);
	assert_true(stage->kind == DF_SPAN_STAGE && stage->parent == run->id && stage->made);
	assert_true(run->start_ns == c.start_wall_ns && run->end_ns == attempt.start_wall_ns + attempt.duration_ns);
	const struct df_trace_node *d1 = df_trace_find(&tree, df_trace_document_id(RUN, S("llm"), S("d1")));
	assert_non_null(d1);
	assert_true(d1->start_ns == a.start_wall_ns && d1->end_ns == b.start_wall_ns + b.duration_ns &&
		    d1->parent == stage->id);
	assert_int_equal(df_trace_span(&tree, d1, &s), DF_OK);
	assert_true(df_str_is(s.doc_id, "d1") && df_str_is(s.name, "document") && s.usage.in == 0);
	const struct df_trace_node *lost = df_trace_find(&tree, attempt.parent);
	assert_true(lost && lost->made && lost->kind == DF_SPAN_CALL);
	for (size_t i = 1; i < tree.n; i++) { /* sorted, parents first */
		const struct df_trace_node *p = df_trace_find(&tree, tree.node[i].parent);
		assert_true(p && p < &tree.node[i] && p->start_ns <= tree.node[i].start_ns);
	}
	df_trace_release(&tree);
}

static void test_trace__torn_lines_are_passed_over_and_cost_no_other_line(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	for (uint64_t i = 0; i < 20; i++) {
		struct df_span s = call("d", i, 1);
		df_trace_put(t, &s);
	}
	df_trace_close(&t);
	struct df_str whole = slurp(f, f->path);
	size_t first = (size_t)((const char *)memchr(whole.p, '\n', whole.n) - whole.p) + 1; /* it tells the run */
	whole = (struct df_str){whole.p + first, whole.n - first};
	size_t line = (size_t)((const char *)memchr(whole.p, '\n', whole.n) - whole.p) + 1;
	/* the file as it is when a process was killed after `cut` bytes of a line, and others wrote on */
	for (size_t cut = 1; cut < line; cut++) {
		assert_int_equal(ftruncate(f->fd, 0), 0);
		assert_int_equal(write(f->fd, whole.p, 2 * line), 2 * line);
		assert_int_equal(write(f->fd, whole.p + 2 * line, cut), cut);
		assert_int_equal(write(f->fd, whole.p + 3 * line, 2 * line), 2 * line);
		assert_int_equal(write(f->fd, whole.p + 5 * line, cut), cut);
		struct df_trace_tree tree;
		load(f, &tree);
		size_t calls = 0;
		for (size_t i = 0; i < tree.n; i++)
			calls += !tree.node[i].made;
		/* with only its line break missing, a line is whole; alone at the end of the file too */
		assert_int_equal(calls, cut == line - 1 ? 5 : 4);
		assert_int_equal(tree.file.torn, cut == line - 1 ? 1 : 2);
		df_trace_release(&tree);
	}
	assert_int_equal(ftruncate(f->fd, 0), 0);
	struct df_trace_tree tree;
	load(f, &tree);
	assert_int_equal(tree.n, 0);
	df_trace_release(&tree);
}

static void test_trace__processes_and_threads_never_mix_their_lines(void **state)
{
	struct fixture *f = *state;
	enum { PROCESSES = 4, SPANS = 8000 };
	pid_t pid[PROCESSES];
	for (int p = 0; p < PROCESSES; p++) {
		pid[p] = fork();
		assert_true(pid[p] >= 0);
		if (pid[p] == 0) {
			struct df_trace *t = open_trace(f);
			char doc[64];
			for (uint64_t i = 0; i < SPANS; i++) {
				(void)snprintf(doc, sizeof(doc), "%d-%llu-%.*s", p, (unsigned long long)i,
					       (int)(i % 40), "########################################");
				struct df_span s = call(doc, i, 1);
				df_trace_put(t, &s);
			}
			df_trace_close(&t);
			_exit(0);
		}
	}
	for (int p = 0; p < PROCESSES; p++) {
		int status = -1;
		assert_int_equal(waitpid(pid[p], &status, 0), pid[p]);
		assert_int_equal(status, 0);
	}
	struct df_trace_tree tree;
	load(f, &tree);
	assert_int_equal(tree.file.torn, 0);
	assert_int_equal(tree.file.left_out, 0);
	assert_int_equal(tree.n, 2 * PROCESSES * SPANS + 2);
	df_trace_release(&tree);
}

static void test_trace__kill_9_loses_a_tenth_of_a_second_and_nothing_of_others(void **state)
{
	struct fixture *f = *state;
	_Atomic uint64_t *old = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(old != MAP_FAILED);
	uint64_t written = 0;
	for (int kills = 0; kills < 6; kills++) {
		*old = 0;
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct df_trace *t = open_trace(f);
			for (uint64_t i = 0;; i++) {
				struct df_span s = call("d", i, 1);
				struct timespec pause = {0, 200000};
				df_trace_put(t, &s);
				*old = i + 1;
				(void)nanosleep(&pause, NULL);
			}
		}
		struct timespec life = {0, 250000000}, grace = {0, 0};
		(void)nanosleep(&life, NULL);
		uint64_t sure = *old; /* put by now: 300 ms later they must be in the file */
		grace.tv_nsec = 400000000;
		(void)nanosleep(&grace, NULL);
		(void)kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		written += sure;
		struct df_trace_tree tree;
		load(f, &tree);
		uint64_t calls = 0;
		for (size_t i = 0; i < tree.n; i++)
			calls += !tree.node[i].made;
		assert_true(calls >= written);
		written = calls;
		df_trace_release(&tree);
	}
	(void)munmap(old, 4096);
}

static void test_trace__a_disk_that_refuses_is_told_once(void **state)
{
	(void)state;
	struct df_trace *t = NULL;
	struct df_fail fail = {.msg = ""};
	int fd = open("/dev/full", O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		skip();
	assert_int_equal(df_trace_open(fd, RUN, &t, &fail), DF_OK);
	struct df_span s = call("d", 1, 1);
	bool told = false;
	for (int i = 0; i < 100 && !told; i++) {
		struct timespec pause = {0, 20000000};
		df_trace_put(t, &s);
		(void)nanosleep(&pause, NULL);
		told = df_trace_failed(t, &fail);
	}
	assert_true(told);
	assert_int_equal(fail.code, DF_ERR_NOSPACE);
	assert_false(df_trace_failed(t, &fail));
	df_trace_close(&t);
	(void)close(fd);
}

static void test_trace__nothing_in_a_line_but_what_it_may_tell(void **state)
{
	struct fixture *f = *state;
	static const char *const known[] = {"span",
					    "parent",
					    "run",
					    "pid",
					    "kind",
					    "name",
					    "doc",
					    "stage",
					    "model",
					    "provider",
					    "start_ns",
					    "duration_ns",
					    "queue_ns",
					    "first_token_ns",
					    "attempts",
					    "attempt",
					    "last_start_ns",
					    "last_duration_ns",
					    "last_first_token_ns",
					    "status",
					    "inputs",
					    "in",
					    "cached_in",
					    "out",
					    "estimated",
					    "usd",
					    "cached",
					    "class"};
	struct df_trace *t = open_trace(f);
	struct df_span s = call("d", 1, 1);
	s.first_token_ns = s.inputs = 1;
	s.cached = true;
	s.usage.known = false;
	df_trace_put(t, &s);
	df_trace_close(&t);
	struct df_str text = slurp(f, f->path);
	struct df_json *root;
	assert_int_equal(df_json_parse((struct df_str){text.p, text.n - 1}, &f->arena, &root, NULL), DF_OK);
	for (const struct df_json *m = root->child; m; m = m->next) {
		bool found = false;
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			found = found || df_str_is(m->key, known[i]);
		if (!found)
			fail_msg("a line has '" DF_STR_FMT "'", DF_STR_ARG(m->key));
	}
}

/* ------------------------------------------------------------------ lean lines and those that were before them */

static struct df_span attempt_of(const struct df_span *call)
{
	struct df_span a = *call;
	a.kind = DF_SPAN_ATTEMPT;
	a.parent = call->id;
	a.id = a.queue_ns = 0;
	a.name = (struct df_str){NULL, 0};
	a.start_wall_ns += 2 * DF_MS;
	a.duration_ns -= 2 * DF_MS;
	return a;
}

static size_t count_lines(struct df_str text)
{
	size_t n = 0;
	for (size_t i = 0; i < text.n; i++)
		n += text.p[i] == '\n';
	return n;
}

static void test_trace__an_attempt_that_says_no_more_than_its_call_has_no_line_but_its_span(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	struct df_span c = call("d1", 5, 10), back;
	char doc[8] = "d1";
	c.doc_id = df_str_from(doc);
	c.id = df_trace_id(t);
	struct df_span a = attempt_of(&c), failed = a;
	failed.class = DF_CALL_RETRY;
	failed.status = 500;
	failed.attempt = 0;
	a.first_token_ns = DF_MS;
	df_trace_put(t, &failed);
	df_trace_put(t, &a);
	(void)snprintf(doc, sizeof(doc), "xx"); /* nobody keeps a caller's string */
	(void)snprintf(doc, sizeof(doc), "d1");
	df_trace_put(t, &c);
	df_trace_close(&t);
	assert_int_equal(count_lines(slurp(f, f->path)), 2);
	struct df_trace_tree tree;
	load(f, &tree);
	size_t ok = 0, attempts = 0;
	for (size_t i = 0; i < tree.n; i++) {
		if (tree.node[i].kind != DF_SPAN_ATTEMPT)
			continue;
		attempts++;
		assert_int_equal(df_trace_span(&tree, &tree.node[i], &back), DF_OK);
		assert_int_equal(back.parent, c.id);
		assert_true(df_str_is(back.name, "attempt"));
		if (back.class != DF_CALL_OK)
			continue;
		ok++;
		assert_true(back.start_wall_ns == a.start_wall_ns && back.duration_ns == a.duration_ns &&
			    back.first_token_ns == DF_MS && back.queue_ns == 0 && back.attempt == 1 &&
			    back.usage.out == 7 && df_str_is(back.doc_id, "d1"));
	}
	assert_int_equal(attempts, 2);
	assert_int_equal(ok, 1);
	assert_int_equal(df_trace_span(&tree, df_trace_find(&tree, c.id), &back), DF_OK);
	assert_true(df_str_is(back.name, "chat gpt-4o-mini"));
	df_trace_release(&tree);
}

static void test_trace__an_attempt_that_says_more_than_its_call_keeps_its_line(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	for (int i = 0; i < 5; i++) {
		struct df_span c = call("d1", 5, 10);
		c.id = df_trace_id(t);
		struct df_span a = attempt_of(&c);
		if (i == 0)
			a.usd *= 2;
		if (i == 1)
			a.model = S("gpt-4o");
		if (i == 2)
			a.parent = df_trace_id(t);
		if (i == 3)
			c.attempt = 2;
		if (i == 4)
			a.usage.known = false;
		df_trace_put(t, &a);
		df_trace_put(t, &c);
	}
	struct df_span alone = call("d2", 1, 10);
	alone.id = df_trace_id(t);
	alone = attempt_of(&alone);
	df_trace_put(t, &alone); /* its call never ends */
	df_trace_close(&t);
	assert_int_equal(count_lines(slurp(f, f->path)), 11);
	struct df_buf out;
	struct df_fail fail;
	df_buf_init(&out, 1 << 20);
	assert_int_equal(df_trace_summary(f->dir, &out, &fail), DF_OK);
	assert_non_null(strstr(df_buf_z(&out), "5 calls of 2 documents"));
	assert_non_null(strstr(df_buf_z(&out), " 6 requests sent"));
	assert_non_null(strstr(df_buf_z(&out), "2 calls were not over"));
	df_buf_release(&out);
}

/* Blanks, escapes, other orders, keys of tomorrow, and every word of a line as it was before something could be left out. */
static void test_trace__old_and_foreign_lines_say_the_same(void **state)
{
	struct fixture *f = *state;
	static const char *const same[] = {
		"{\"span\":\"00000000000000aa\",\"parent\":\"00000000000000bb\",\"run\":\"0000000000001234\",\"pid\":7,"
		"\"kind\":\"call\",\"name\":\"chat m\",\"doc\":\"d/1\",\"stage\":\"llm\",\"model\":\"m\",\"start_ns\":"
		"1700000000000000000,\"duration_ns\":5,\"attempts\":3,\"in\":9,\"estimated\":true,\"usd\":0.00002,"
		"\"class\":\"rate\"}",
		"{ \"span\": \"00000000000000aa\", \"class\": \"rate\", \"usd\": 2e-5, \"run\": \"0000000000001234\", "
		"\"parent\": "
		"\"00000000000000bb\", \"pid\": 7, \"kind\": \"call\", \"doc\": \"d\\/1\", \"stage\": \"llm\", "
		"\"model\": \"m\", "
		"\"start_ns\": 1700000000000000000, \"duration_ns\": 5, \"attempts\": 3, \"in\": 9, \"estimated\": "
		"true, \"more\": "
		"{\"in\": [1, null]}}",
		"{\"span\":\"00000000000000aa\",\"class\":\"rate\",\"usd\":2e-5,\"in\":9,\"attempts\":3,\"estimated\":"
		"true,\"new\":\"x\","
		"\"truth\":false,\"number\":12,\"duration_ns\":5,\"start_ns\":1700000000000000000,\"model\":\"m\","
		"\"stage\":\"llm\","
		"\"doc\":\"d/"
		"1\",\"kind\":\"call\",\"pid\":7,\"run\":\"0000000000001234\",\"parent\":\"00000000000000bb\"}",
	};
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		struct df_trace_tree tree;
		struct df_span s;
		assert_int_equal(ftruncate(f->fd, 0), 0);
		assert_int_equal(write(f->fd, same[i], strlen(same[i])), strlen(same[i]));
		load(f, &tree);
		const struct df_trace_node *n = df_trace_find(&tree, 0xaa);
		assert_non_null(n);
		assert_int_equal(df_trace_span(&tree, n, &s), DF_OK);
		assert_true(df_str_is(s.name, "chat m") && df_str_is(s.doc_id, "d/1") && df_str_is(s.model, "m"));
		assert_true(s.parent == 0xbb && n->run_id == RUN && n->pid == 7 && s.attempt == 3 && s.usage.in == 9);
		assert_true(!s.usage.known && s.usd == 0.00002 && s.class == DF_CALL_RATE && s.duration_ns == 5);
		df_trace_release(&tree);
	}
}

/* ------------------------------------------------------------------ forms */

struct event {
	int64_t pid, tid;
	double start, end;
};

/* In one lane of one process, any two events are apart or one in the other. */
static void test_trace__chrome_lanes_nest_and_never_cross(void **state)
{
	struct fixture *f = *state;
	enum { CALLS = 400 };
	struct df_trace *t = open_trace(f);
	uint64_t seed = 9;
	struct df_rand rnd = df_rand_seeded(&seed);
	char doc[32], out[400];
	for (int i = 0; i < CALLS; i++) {
		(void)snprintf(doc, sizeof(doc), "d%d", (int)(rnd.next(rnd.self) % 100));
		struct df_span s = call(doc, rnd.next(rnd.self) % 300, 1 + rnd.next(rnd.self) % 100);
		s.id = df_trace_id(t);
		df_trace_put(t, &s);
		struct df_span a = {
			.kind = DF_SPAN_ATTEMPT, .parent = s.id, .stage = s.stage, .doc_id = s.doc_id, .attempt = 1};
		a.start_wall_ns = s.start_wall_ns;
		a.duration_ns = s.duration_ns / 2;
		df_trace_put(t, &a);
	}
	df_trace_close(&t);
	struct df_trace_tree tree;
	struct df_fail fail;
	load(f, &tree);
	(void)snprintf(out, sizeof(out), "%s/chrome.json", f->dir);
	int fd = open(out, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(df_trace_chrome(&tree, fd, &fail), DF_OK);
	(void)close(fd);
	struct df_json *root;
	assert_int_equal(df_json_parse(slurp(f, out), &f->arena, &root, &fail), DF_OK);
	(void)unlink(out);
	struct event *e = calloc(tree.n, sizeof(*e));
	size_t n = 0;
	for (const struct df_json *x = df_json_get(root, "traceEvents")->child; x; x = x->next)
		if (df_str_is(df_json_get_str(x, "ph"), "X")) {
			double ts = df_json_get(x, "ts")->number, dur = df_json_get(x, "dur")->number;
			assert_true(n < tree.n && ts >= 0);
			e[n++] = (struct event){(int64_t)df_json_get(x, "pid")->number,
						(int64_t)df_json_get(x, "tid")->number, ts, ts + dur};
		}
	assert_int_equal(n, tree.n);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++) {
			if (e[i].pid != e[j].pid || e[i].tid != e[j].tid)
				continue;
			bool apart = e[i].start >= e[j].end - 1e-3 || e[j].start >= e[i].end - 1e-3;
			bool inside = e[i].start >= e[j].start - 1e-3 && e[i].end <= e[j].end + 1e-3;
			bool around = e[j].start >= e[i].start - 1e-3 && e[j].end <= e[i].end + 1e-3;
			assert_true(apart || inside || around);
		}
	free(e);
	df_trace_release(&tree);
}

static void test_trace__the_summary_counts_by_model_and_class(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	for (uint64_t i = 1; i <= 100; i++) {
		struct df_span s = call("d", i, i);
		df_trace_put(t, &s);
	}
	struct df_span bad = call("d", 1, 7000);
	bad.class = DF_CALL_RATE;
	bad.usd = NAN;
	df_trace_put(t, &bad);
	struct df_span hit = call("d", 1, 0);
	hit.cached = true;
	hit.usd = 0;
	df_trace_put(t, &hit);
	df_trace_close(&t);
	struct df_buf out;
	struct df_fail fail;
	df_buf_init(&out, 1 << 20);
	assert_int_equal(df_trace_summary(f->dir, &out, &fail), DF_OK);
	const char *z = df_buf_z(&out);
	/* 101 calls are ok, one of them a hit: percentiles 50.0, 90.0, 99.0 ms of 1..100 */
	assert_non_null(
		strstr(z, "gpt-4o-mini                  ok              101       1   50.0 ms   90.0 ms   99.0 ms"));
	assert_non_null(strstr(z, "gpt-4o-mini                  rate              1       0    7.00 s"));
	assert_non_null(strstr(z, "0.001900"));
	assert_non_null(strstr(z, "102 calls of 1 documents"));
	df_buf_release(&out);
}

static const struct df_json *attribute(const struct df_json *span, const char *key)
{
	for (const struct df_json *a = df_json_get(span, "attributes")->child; a; a = a->next)
		if (df_str_is(df_json_get_str(a, "key"), key))
			return df_json_get(a, "value");
	return NULL;
}

static void test_trace__otlp_has_the_shape_that_receivers_check(void **state)
{
	struct fixture *f = *state;
	struct df_trace *t = open_trace(f);
	struct df_span s = call("d", 1, 5);
	s.class = DF_CALL_RATE;
	s.status = 429;
	s.id = df_trace_id(t);
	df_trace_put(t, &s);
	df_trace_close(&t);
	struct df_trace_tree tree;
	struct df_buf out;
	struct df_json *root;
	load(f, &tree);
	df_buf_init(&out, 1 << 20);
	assert_int_equal(df_trace_otlp(&tree, 0, tree.n, &out), DF_OK);
	assert_int_equal(df_json_parse(df_buf_str(&out), &f->arena, &root, NULL), DF_OK);
	const struct df_json *scope = df_json_get(df_json_get(root, "resourceSpans")->child, "scopeSpans")->child;
	const struct df_json *spans = df_json_get(scope, "spans"), *x = spans->child;
	assert_int_equal(spans->n, 4);
	char id[17];
	(void)snprintf(id, sizeof(id), "%016llx", (unsigned long long)s.id);
	while (!df_str_is(df_json_get_str(x, "spanId"), id))
		x = x->next;
	assert_int_equal(df_json_get_str(x, "traceId").n, 32);
	assert_int_equal(df_json_get_str(x, "parentSpanId").n, 16);
	assert_true(df_str_is(df_json_get_str(x, "startTimeUnixNano"), "1700000000001000000"));
	assert_true(df_str_is(df_json_get_str(x, "endTimeUnixNano"), "1700000000006000000"));
	assert_int_equal(df_json_get(x, "kind")->u64, 3);
	assert_int_equal(df_json_get(df_json_get(x, "status"), "code")->u64, 2);
	assert_true(df_str_is(df_json_get_str(attribute(x, "gen_ai.request.model"), "stringValue"), "gpt-4o-mini"));
	assert_true(df_str_is(df_json_get_str(attribute(x, "gen_ai.usage.input_tokens"), "intValue"), "100"));
	assert_true(df_str_is(df_json_get_str(attribute(x, "gen_ai.usage.output_tokens"), "intValue"), "7"));
	assert_true(df_str_is(df_json_get_str(attribute(x, "http.response.status_code"), "intValue"), "429"));
	assert_true(df_str_is(df_json_get_str(attribute(x, "error.type"), "stringValue"), "rate"));
	df_buf_release(&out);
	df_trace_release(&tree);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_trace__a_span_comes_back_as_it_was_put),
		TEST(test_trace__lines_are_bounded_json_whatever_is_put),
		TEST(test_trace__parents_that_nobody_put_are_made_around_their_children),
		TEST(test_trace__torn_lines_are_passed_over_and_cost_no_other_line),
		TEST(test_trace__processes_and_threads_never_mix_their_lines),
		TEST(test_trace__kill_9_loses_a_tenth_of_a_second_and_nothing_of_others),
		TEST(test_trace__a_disk_that_refuses_is_told_once),
		TEST(test_trace__nothing_in_a_line_but_what_it_may_tell),
		TEST(test_trace__an_attempt_that_says_no_more_than_its_call_has_no_line_but_its_span),
		TEST(test_trace__an_attempt_that_says_more_than_its_call_keeps_its_line),
		TEST(test_trace__old_and_foreign_lines_say_the_same),
		TEST(test_trace__chrome_lanes_nest_and_never_cross),
		TEST(test_trace__the_summary_counts_by_model_and_class),
		TEST(test_trace__otlp_has_the_shape_that_receivers_check),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
