// SPDX-License-Identifier: Apache-2.0
/* HTTP on real sockets: what is sent, what comes back, in any pieces; connections that are used again, and those that were dead. ctest: threaded */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "help_http.h"

static struct df_http *http;
static struct server server;
static struct ask ask;

static void begin(void (*serve)(struct conn *c), void *arg)
{
	struct df_fail fail = {.msg = ""};
	server_open(&server, serve, arg);
	if (df_http_open(NULL, &http, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	ask_init(&ask, http, &server, "/");
}

static void finish(void)
{
	df_http_close(&http);
	server_close(&server);
	ask_release(&ask);
}

/* --- what is sent --- */

static char seen[8192];
static size_t n_seen_body;

static void serve_and_note(struct conn *c)
{
	while (conn_read(c)) {
		(void)snprintf(seen, sizeof(seen), "%.*s", (int)c->head.n, c->head.p);
		n_seen_body = c->body.n;
		for (size_t i = 0; i < c->body.n; i++) {
			if ((unsigned char)c->body.p[i] != (unsigned char)(i * 7))
				n_seen_body = SIZE_MAX;
		}
		conn_answer(c, 200, memcmp(c->head.p, "HEAD", 4) ? "{}" : "");
	}
}

static void test_http__sends_what_was_given_and_little_else(void **state)
{
	(void)state;
	const struct df_http_header header[] = {{"Authorization", DF_STR("Bearer k3y"), true},
						{"X-Empty", {NULL, 0}, false},
						{"x-tab", DF_STR("a\tb"), false}};
	begin(serve_and_note, NULL);
	ask.request.method = "POST";
	ask.request.header = header;
	ask.request.n_header = 3;
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_int_equal(ask.status, 200);
	assert_string_equal(ask.body, "{}");
	assert_int_equal(ask.phase, DF_HTTP_DONE);
	assert_false(ask.close_ended);
	assert_non_null(strstr(seen, "POST / HTTP/1.1\r\n"));
	assert_non_null(strstr(seen, "Authorization: Bearer k3y\r\n"));
	assert_non_null(strstr(seen, "X-Empty:\r\n"));
	assert_non_null(strstr(seen, "x-tab: a\tb\r\n"));
	assert_non_null(strstr(seen, "Content-Length: 0\r\n"));
	assert_non_null(strstr(seen, "Accept-Encoding: "));
	assert_non_null(strstr(seen, "User-Agent: docflume/"));
	assert_null(strstr(seen, "Content-Type"));
	assert_null(strstr(seen, "Expect"));
	assert_true(ask.up > strlen(seen) - 2 && ask.down > 40);
	finish();
}

static void test_http__sends_large_bodies_whole(void **state)
{
	(void)state;
	static const size_t size[] = {1, 65535, 65536, 1000000, 1 << 20, 3000001};
	begin(serve_and_note, NULL);
	char *body = malloc(4000000);
	assert_non_null(body);
	for (size_t i = 0; i < 4000000; i++)
		body[i] = (char)(i * 7);
	for (size_t i = 0; i < 6; i++) {
		ask.request.method = "POST";
		ask.request.body = (struct df_str){body, size[i]};
		ask_run(&ask);
		assert_int_equal(ask.err, DF_OK);
		assert_int_equal(n_seen_body, size[i]);
		assert_null(strstr(seen, "Expect"));
		assert_true(ask.up >= size[i]);
		assert_int_equal(ask.reused, i > 0);
	}
	free(body);
	finish();
}

static void test_http__knows_other_methods_on_one_handle(void **state)
{
	(void)state;
	static const char *const method[] = {"POST", "GET",   "DELETE", "PUT",  "HEAD",
					     "GET",  "PATCH", "POST",   "HEAD", "POST"};
	char line[40];
	begin(serve_and_note, NULL);
	for (size_t i = 0; i < sizeof(method) / sizeof(method[0]); i++) {
		bool body = method[i][0] == 'P';
		ask.request.method = method[i];
		ask.request.body = body ? (struct df_str){"\0\x07\x0e", 3} : (struct df_str){NULL, 0};
		ask_run(&ask);
		(void)snprintf(line, sizeof(line), "%s / HTTP/1.1\r\n", method[i]);
		assert_int_equal(ask.err, DF_OK);
		assert_memory_equal(seen, line, strlen(line));
		assert_int_equal(n_seen_body, body ? 3 : 0);
		assert_string_equal(ask.body, strcmp(method[i], "HEAD") == 0 ? "" : "{}");
	}
	finish();
}

static void test_http__refuses_a_request_that_could_smuggle(void **state)
{
	(void)state;
	const struct df_http_header bad[] = {{"X", DF_STR("a\r\nEvil: 1"), true},
					     {"X", DF_STR("a\n"), true},
					     {"X", {"a\0b", 3}, true},
					     {"X: y\r\nZ", DF_STR("a"), false},
					     {"", DF_STR("a"), false}};
	static const char *const url[] = {"file:///etc/passwd", "ftp://localhost/", "", "localhost", "http://",
					  "https:///x",         "gopher://x"};
	begin(serve_and_note, NULL);
	for (size_t i = 0; i < 5; i++) {
		ask.request.header = &bad[i];
		ask.request.n_header = 1;
		ask_run(&ask);
		assert_int_equal(ask.err, DF_ERR_USAGE);
		assert_null(strstr(ask.message, "Evil"));
	}
	ask.request.n_header = 0;
	for (size_t i = 0; i < sizeof(url) / sizeof(url[0]); i++) {
		ask.request.url = url[i];
		ask_run(&ask);
		assert_int_equal(ask.err, DF_ERR_USAGE);
	}
	ask.request.url = ask.url;
	ask.request.method = "GET / HTTP/1.1\r\nX:";
	ask_run(&ask);
	assert_int_equal(ask.err, DF_ERR_USAGE);
	assert_int_equal(atomic_load(&server.n_asked), 0);
	finish();
}

/* --- what comes back --- */

struct script {
	const char *bytes;
	size_t n;
	atomic_size_t cut;
};

static void serve_cut(struct conn *c)
{
	const struct script *s = c->server->arg;
	while (conn_read(c)) {
		size_t cut = s->cut; /* it is another one as soon as the whole answer has come */
		if (!conn_send(c, s->bytes, cut))
			return;
		nap(1);
		if (!conn_send(c, s->bytes + cut, s->n - cut))
			return;
	}
}

static void split_everywhere(const char *bytes, const char *body)
{
	struct script s = {bytes, strlen(bytes), 0};
	begin(serve_cut, &s);
	ask.want_header = "x-twice";
	for (s.cut = 0; s.cut <= s.n; s.cut++) {
		ask_run(&ask);
		if (ask.err != DF_OK || ask.status != 200)
			fail_msg("cut at %zu: %s", (size_t)s.cut, ask.message);
		assert_string_equal(ask.body, body);
		assert_string_equal(ask.of_header, "second");
		assert_false(ask.close_ended);
		assert_int_equal(ask.reused, s.cut > 0);
	}
	finish();
}

static void test_http__takes_an_answer_split_at_every_byte(void **state)
{
	(void)state;
	split_everywhere("HTTP/1.1 200 OK\r\nX-Twice: first\r\nContent-Length: 5\r\nX-TWICE:  second \r\n\r\nhello",
			 "hello");
}

static void test_http__takes_chunks_split_at_every_byte(void **state)
{
	(void)state;
	split_everywhere("HTTP/1.1 103 Early Hints\r\nX-Twice: early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
			 "chunked\r\nx-twice: second\r\n\r\n"
			 "5;ext=1\r\nhello\r\n1\r\n \r\n00\r\nX-Twice: trailer\r\n\r\n",
			 "hello ");
}

static void serve_given(struct conn *c)
{
	while (conn_read(c)) {
		if (!conn_say(c, c->server->arg) || strstr(c->server->arg, "close"))
			return;
	}
}

static void test_http__keeps_bodies_of_errors(void **state)
{
	(void)state;
	begin(serve_given, "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nwait");
	ask.want_header = "retry-after";
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_int_equal(ask.status, 429);
	assert_string_equal(ask.body, "wait");
	assert_string_equal(ask.of_header, "7");
	finish();
}

static void test_http__follows_no_redirect(void **state)
{
	(void)state;
	begin(serve_given, "HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_int_equal(ask.status, 302);
	finish();
}

static void test_http__tells_a_body_that_ends_by_close(void **state)
{
	(void)state;
	begin(serve_given, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall?");
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_true(ask.close_ended);
	assert_string_equal(ask.body, "all?");
	finish();
}

/* --- connections --- */

static void serve_swallow(struct conn *c)
{
	/* The first connection answers one request, then reads the next and says nothing. */
	while (conn_read(c)) {
		if (c->nth == 0 && c->asked == 2) {
			if (c->server->arg)
				conn_reset(c);
			return;
		}
		(void)snprintf(seen, sizeof(seen), "%.*s", (int)c->body.n, c->body.p);
		conn_answer(c, 200, "ok");
	}
}

static void swallow(void *reset)
{
	begin(serve_swallow, reset);
	ask.request.method = "POST";
	ask.request.body = DF_STR("first");
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_string_equal(seen, "first");
	ask.request.body = DF_STR("the whole second");
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_string_equal(ask.body, "ok");
	assert_string_equal(seen, "the whole second");
	assert_int_equal(atomic_load(&server.n_conn), 2);
	finish();
}

static void test_http__sends_again_what_a_dead_connection_swallowed(void **state)
{
	(void)state;
	swallow(NULL);
}

static void test_http__sends_again_after_a_reset_of_an_old_connection(void **state)
{
	(void)state;
	swallow("reset");
}

/* Closes in the middle of a large body: on an old connection that is its death, on a new one it is an answer of a kind. */
static void serve_cut_upload(struct conn *c)
{
	char some[1000];
	if (c->nth == 0 && conn_read(c) && conn_answer(c, 200, "ok") && read(c->fd, some, sizeof(some)) > 0)
		conn_reset(c);
	while (c->fd >= 0 && conn_read(c)) {
		n_seen_body = c->body.n;
		conn_answer(c, 200, "ok");
	}
}

static void test_http__sends_a_large_body_again_when_an_old_connection_dies_under_it(void **state)
{
	(void)state;
	const size_t n = 8U << 20;
	char *body = calloc(1, n);
	assert_non_null(body);
	begin(serve_cut_upload, NULL);
	ask.request.method = "POST";
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	ask.request.body = (struct df_str){body, n};
	ask_run(&ask);
	if (ask.err != DF_OK)
		fail_msg("%s", ask.message);
	assert_int_equal(n_seen_body, n);
	free(body);
	finish();
}

static void serve_close_after(struct conn *c)
{
	if (conn_read(c))
		conn_answer(c, 200, "ok");
}

static void test_http__opens_a_new_connection_when_the_old_one_was_closed(void **state)
{
	(void)state;
	begin(serve_close_after, NULL);
	for (unsigned i = 0; i < 5; i++) {
		ask_run(&ask);
		assert_int_equal(ask.err, DF_OK);
		assert_false(ask.reused);
		nap(5);
	}
	assert_int_equal(atomic_load(&server.n_asked), 5);
	struct df_http_stats s = df_http_stats(http);
	assert_int_equal(s.requests, 5);
	assert_int_equal(s.in_flight, 0);
	assert_int_equal(s.connections, 5);
	assert_true(s.cpu_ns > 0 && s.bytes_up > 100 && s.bytes_down > 100);
	finish();
}

/* --- streams --- */

struct stream {
	struct df_buf got;
	int stop_after; /* calls */
	int calls;
};

static bool on_data(void *self, const char *p, size_t n)
{
	struct ask *a = self;
	struct stream *s = a->arg;
	(void)df_buf_add(&s->got, p, n);
	return ++s->calls != s->stop_after;
}

static void serve_drops(struct conn *c)
{
	if (!conn_read(c) || !conn_say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
		return;
	for (int i = 0; i < 10; i++) {
		if (!conn_say(c, "2\r\nab\r\n"))
			return;
		nap(2);
	}
	conn_say(c, "0\r\n\r\n");
	conn_wait_gone(c);
}

static void test_http__streams_bytes_as_they_come(void **state)
{
	(void)state;
	struct stream s = {.stop_after = 0};
	df_buf_init(&s.got, 1000);
	begin(serve_drops, NULL);
	ask.request.on_data = on_data;
	ask.arg = &s;
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_int_equal(s.got.n, 20);
	assert_int_equal(ask.n_body, 0);
	assert_true(s.calls > 1);
	df_buf_release(&s.got);
	finish();
}

static void test_http__ends_a_stream_when_its_reader_has_enough(void **state)
{
	(void)state;
	struct stream s = {.stop_after = 3};
	df_buf_init(&s.got, 1000);
	begin(serve_drops, NULL);
	ask.request.on_data = on_data;
	ask.arg = &s;
	ask_run(&ask);
	assert_int_equal(ask.err, DF_ERR_INTERRUPTED);
	assert_int_equal(s.calls, 3);
	df_buf_release(&s.got);
	finish();
}

static void test_http__does_not_stream_the_body_of_an_error(void **state)
{
	(void)state;
	struct stream s = {.stop_after = 1};
	begin(serve_given, "HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nno!");
	ask.request.on_data = on_data;
	ask.arg = &s;
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_int_equal(s.calls, 0);
	assert_string_equal(ask.body, "no!");
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http__sends_what_was_given_and_little_else),
		cmocka_unit_test(test_http__sends_large_bodies_whole),
		cmocka_unit_test(test_http__knows_other_methods_on_one_handle),
		cmocka_unit_test(test_http__refuses_a_request_that_could_smuggle),
		cmocka_unit_test(test_http__takes_an_answer_split_at_every_byte),
		cmocka_unit_test(test_http__takes_chunks_split_at_every_byte),
		cmocka_unit_test(test_http__keeps_bodies_of_errors),
		cmocka_unit_test(test_http__follows_no_redirect),
		cmocka_unit_test(test_http__tells_a_body_that_ends_by_close),
		cmocka_unit_test(test_http__sends_again_what_a_dead_connection_swallowed),
		cmocka_unit_test(test_http__sends_again_after_a_reset_of_an_old_connection),
		cmocka_unit_test(test_http__sends_a_large_body_again_when_an_old_connection_dies_under_it),
		cmocka_unit_test(test_http__opens_a_new_connection_when_the_old_one_was_closed),
		cmocka_unit_test(test_http__streams_bytes_as_they_come),
		cmocka_unit_test(test_http__ends_a_stream_when_its_reader_has_enough),
		cmocka_unit_test(test_http__does_not_stream_the_body_of_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
