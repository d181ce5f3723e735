// SPDX-License-Identifier: Apache-2.0
/* Links: real sockets in one process, with full queues, peers that go away, large messages and strangers. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "base/limits.h"
#include "proto/link.h"

#define BIG (256U << 10)

struct room {
	char dir[64];
	char endpoint[96];
	struct df_link *link;
	struct df_socket *push, *pull;
	struct df_frames frames;
	struct df_fail fail;
};

static int set_up(void **state)
{
	struct room *r = calloc(1, sizeof(*r));
	(void)snprintf(r->dir, sizeof(r->dir), "/tmp/df-link-XXXXXX");
	if (!mkdtemp(r->dir) || df_link_open(1000, &r->link, &r->fail) != DF_OK)
		return -1;
	(void)snprintf(r->endpoint, sizeof(r->endpoint), "ipc://%s/s", r->dir);
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct room *r = *state;
	df_socket_close(&r->push);
	df_socket_close(&r->pull);
	df_frames_free(&r->frames);
	df_link_close(&r->link);
	(void)unlink(r->endpoint + 6);
	(void)rmdir(r->dir);
	free(r);
	return 0;
}

static void must(struct room *r, enum df_err err)
{
	if (err != DF_OK)
		fail_msg("%s: %s", df_err_name(err), r->fail.msg);
}

/* The shape of the sink's socket: it listens, the worker connects. */
static void open_results(struct room *r, int hwm)
{
	must(r, df_socket_listen(r->link, DF_SOCKET_PULL, r->endpoint, hwm, &r->pull, &r->fail));
	must(r, df_socket_connect(r->link, DF_SOCKET_PUSH, r->endpoint, hwm, &r->push, &r->fail));
}

static bool wait_for(struct df_socket *s, bool want_send, int timeout_ms)
{
	struct df_wait w = {.socket = s, .want_send = want_send};
	assert_int_equal(df_wait(&w, 1, timeout_ms), DF_OK);
	return w.ready;
}

static void send_now(struct df_socket *s, struct df_str header, struct df_blob *const *payload, size_t n)
{
	enum df_err err = df_socket_send(s, header, payload, n);
	for (int i = 0; err == DF_ERR_AGAIN && i < 50; i++) {
		(void)wait_for(s, true, 100);
		err = df_socket_send(s, header, payload, n);
	}
	assert_int_equal(err, DF_OK);
}

static void recv_now(struct df_socket *s, struct df_frames *frames)
{
	assert_true(wait_for(s, false, 5000));
	assert_int_equal(df_socket_recv(s, frames), DF_OK);
}

/* --- blobs that count their frees --- */

static atomic_int n_freed;

static void count_free(struct df_blob *blob)
{
	atomic_fetch_add(&n_freed, 1);
	free(blob->p);
	free(blob);
}

static struct df_blob *counted_blob(size_t n, int fill)
{
	char *p = malloc(n ? n : 1);
	memset(p, fill, n);
	struct df_blob *blob = df_blob_adopt(p, n);
	assert_non_null(blob);
	blob->free_bytes = count_free;
	return blob;
}

static bool freed_soon(int n)
{
	const struct timespec tick = {0, 5000000};
	for (int i = 0; i < 1000 && atomic_load(&n_freed) < n; i++)
		(void)nanosleep(&tick, NULL);
	return atomic_load(&n_freed) == n;
}

/* --- endpoints --- */

static void test_link__a_path_that_is_too_long_says_so(void **state)
{
	struct room *r = *state;
	char endpoint[300];
	memset(endpoint, 'a', sizeof(endpoint));
	memcpy(endpoint, "ipc:///tmp/", 11);
	endpoint[6 + DF_IPC_PATH_MAX + 1] = '\0';
	assert_int_equal(df_socket_listen(r->link, DF_SOCKET_PULL, endpoint, 8, &r->pull, &r->fail), DF_ERR_LIMIT);
	assert_non_null(strstr(r->fail.msg, "socket path of 108 bytes"));
	assert_null(r->pull);
	endpoint[6 + DF_IPC_PATH_MAX] = '\0'; /* the longest that there is works */
	must(r, df_socket_listen(r->link, DF_SOCKET_PULL, endpoint, 8, &r->pull, &r->fail));
	df_socket_close(&r->pull);
}

static void test_link__endpoints_that_others_could_reach_are_refused(void **state)
{
	struct room *r = *state;
	static const char *const bad[] = {"ipc://@abstract", "ipc://*", "ipc://relative", "inproc://x",
					  "udp://1.2.3.4:5", "",        "ipc://"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(df_socket_listen(r->link, DF_SOCKET_PULL, bad[i], 8, &r->pull, &r->fail),
				 DF_ERR_USAGE);
	assert_int_equal(df_socket_listen(r->link, DF_SOCKET_PULL, r->endpoint, 0, &r->pull, &r->fail), DF_ERR_RANGE);
	assert_int_equal(df_socket_listen(r->link, DF_SOCKET_PULL, "ipc:///no/such/dir/s", 8, &r->pull, &r->fail),
			 DF_ERR_NOT_FOUND);
	assert_null(r->pull);
}

static void test_link__a_chosen_port_can_be_asked_for(void **state)
{
	struct room *r = *state;
	struct df_socket *third = NULL;
	must(r, df_socket_listen(r->link, DF_SOCKET_PULL, "tcp://127.0.0.1:*", 8, &r->pull, &r->fail));
	assert_null(strchr(df_socket_endpoint(r->pull), '*'));
	must(r, df_socket_connect(r->link, DF_SOCKET_PUSH, df_socket_endpoint(r->pull), 8, &r->push, &r->fail));
	send_now(r->push, DF_STR("over tcp"), NULL, 0);
	recv_now(r->pull, &r->frames);
	assert_memory_equal(r->frames.header->p, "over tcp", 8);
	assert_int_equal(df_socket_listen(r->link, DF_SOCKET_PULL, df_socket_endpoint(r->pull), 8, &third, &r->fail),
			 DF_ERR_BUSY);
}

static void test_link__more_sockets_than_asked_for_are_a_limit(void **state)
{
	struct room *r = *state;
	struct df_link *small = NULL;
	struct df_socket *s[20] = {NULL};
	enum df_err err = DF_OK;
	size_t n = 0;
	must(r, df_link_open(5, &small, &r->fail));
	while (n < 20 && err == DF_OK) {
		err = df_socket_connect(small, DF_SOCKET_PUSH, r->endpoint, 8, &s[n], &r->fail);
		n += err == DF_OK;
	}
	assert_int_equal(err, DF_ERR_LIMIT);
	assert_int_equal(n, 5);
	while (n--)
		df_socket_close(&s[n]);
	df_link_close(&small);
}

static void test_link__every_descriptor_is_close_on_exec(void **state)
{
	struct room *r = *state;
	unsigned n_socket = 0;
	open_results(r, 8);
	send_now(r->push, DF_STR("connected"), NULL, 0); /* so that accepted sockets exist too */
	recv_now(r->pull, &r->frames);
	DIR *dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		char target[256] = "";
		int fd = (int)strtol(e->d_name, NULL, 10);
		if (e->d_name[0] == '.' || readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1) <= 0)
			continue;
		if (fd <= 2 || (!strstr(target, "socket:") && !strstr(target, "anon_inode:")))
			continue;
		n_socket++;
		int flags = fcntl(fd, F_GETFD);
		if (!(flags & FD_CLOEXEC))
			fail_msg("descriptor %d (%s) would be inherited", fd, target);
	}
	(void)closedir(dir);
	assert_true(n_socket >= 6); /* epoll, event descriptors, the listener and both ends */
}

/* --- messages --- */

static void test_link__a_message_arrives_whole_with_every_size_of_frame(void **state)
{
	struct room *r = *state;
	static const size_t sizes[] = {0, 1, 29, 30, 33, 34, 255, 256, 4095, 4096, 8191, 8192, 8193, 65536, BIG};
	enum { N = sizeof(sizes) / sizeof(sizes[0]) };
	struct df_blob *payload[N];
	atomic_store(&n_freed, 0);
	open_results(r, 8);
	for (size_t i = 0; i < N; i++)
		payload[i] = counted_blob(sizes[i], (int)('a' + i));
	send_now(r->push, DF_STR("header"), payload, N);
	for (size_t i = 0; i < N; i++)
		df_blob_unref(&payload[i]);
	recv_now(r->pull, &r->frames);
	assert_int_equal(r->frames.header->n, 6);
	assert_int_equal(r->frames.n_payload, N);
	for (size_t i = 0; i < N; i++) {
		struct df_blob *b = r->frames.payload[i];
		assert_int_equal(b->n, sizes[i]);
		for (size_t k = 0; k < b->n; k++)
			assert_int_equal(b->p[k], (int)('a' + i));
	}
	assert_true(freed_soon(N));
	df_frames_release(&r->frames);
	assert_int_equal(df_socket_recv(r->pull, &r->frames), DF_ERR_AGAIN);
}

static void test_link__a_taken_frame_outlives_the_message_and_the_sockets(void **state)
{
	struct room *r = *state;
	struct df_blob *payload = counted_blob(BIG, 'q'), *kept = NULL;
	open_results(r, 8);
	send_now(r->push, DF_STR("h"), &payload, 1);
	df_blob_unref(&payload);
	recv_now(r->pull, &r->frames);
	kept = r->frames.payload[0];
	r->frames.payload[0] = NULL;
	df_frames_release(&r->frames);
	df_socket_close(&r->push);
	df_socket_close(&r->pull);
	df_link_close(&r->link);
	assert_int_equal(kept->n, BIG);
	assert_int_equal(kept->p[0], 'q');
	assert_int_equal(kept->p[BIG - 1], 'q');
	df_blob_unref(&kept);
}

static void test_link__twenty_megabytes_arrive(void **state)
{
	struct room *r = *state;
	const size_t n = 20U << 20;
	struct df_blob *payload = df_blob_create(n);
	assert_non_null(payload);
	for (size_t i = 0; i < n; i++)
		payload->p[i] = (char)(i * 2654435761U >> 24);
	open_results(r, 8);
	send_now(r->push, DF_STR("h"), &payload, 1);
	recv_now(r->pull, &r->frames);
	assert_int_equal(r->frames.payload[0]->n, n);
	assert_memory_equal(r->frames.payload[0]->p, payload->p, n);
	df_blob_unref(&payload);
}

static void test_link__thousands_arrive_in_order(void **state)
{
	struct room *r = *state;
	const int n = 5000;
	int sent = 0, got = 0;
	open_results(r, 8);
	while (got < n) {
		char text[32];
		struct df_blob *payload[2] = {df_blob_copy(text, 0), df_blob_create((size_t)(sent % 7) * 1500)};
		size_t len = (size_t)snprintf(text, sizeof(text), "%d", sent);
		memset(payload[1]->p, sent & 127, payload[1]->n);
		enum df_err err =
			sent == n ? DF_ERR_AGAIN : df_socket_send(r->push, (struct df_str){text, len}, payload, 2);
		sent += err == DF_OK;
		df_blob_unref(&payload[0]);
		df_blob_unref(&payload[1]);
		if (err == DF_OK)
			continue;
		assert_int_equal(err, DF_ERR_AGAIN);
		if (!wait_for(r->pull, false, sent == n ? 5000 : 1)) {
			assert_true(sent < n); /* all was read, and the room for more has not come back yet */
			continue;
		}
		assert_int_equal(df_socket_recv(r->pull, &r->frames), DF_OK);
		(void)snprintf(text, sizeof(text), "%d", got);
		assert_int_equal(r->frames.header->n, strlen(text));
		assert_memory_equal(r->frames.header->p, text, strlen(text));
		assert_int_equal(r->frames.n_payload, 2);
		assert_int_equal(r->frames.payload[1]->n, (size_t)(got % 7) * 1500);
		got++;
	}
}

/* --- full queues --- */

static void test_link__a_full_queue_says_again_and_sends_nothing_of_it(void **state)
{
	struct room *r = *state;
	struct df_blob *payload[3] = {counted_blob(BIG, 'a'), counted_blob(10, 'b'), counted_blob(BIG, 'c')};
	int sent = 0, got = 0;
	atomic_store(&n_freed, 0);
	open_results(r, 2);
	while (wait_for(r->push, true, sent < 3 ? 1000 : 100) &&
	       df_socket_send(r->push, DF_STR("h"), payload, 3) == DF_OK)
		sent++;
	assert_in_range(sent, 2, 40);
	for (int i = 0; i < 100; i++)
		assert_int_equal(df_socket_send(r->push, DF_STR("h"), payload, 3), DF_ERR_AGAIN);
	while (wait_for(r->pull, false, got < sent ? 5000 : 50)) {
		assert_int_equal(df_socket_recv(r->pull, &r->frames), DF_OK);
		assert_int_equal(r->frames.n_payload, 3);
		assert_int_equal(r->frames.payload[2]->p[0], 'c');
		got++;
	}
	assert_int_equal(got, sent);
	for (int i = 0; i < 3; i++) {
		df_blob_unref(&payload[i]);
	}
	assert_true(freed_soon(3)); /* the refused ones gave their references back */
}

static void test_link__a_lane_without_its_worker_says_again(void **state)
{
	struct room *r = *state;
	must(r, df_socket_listen(r->link, DF_SOCKET_PUSH, r->endpoint, 4, &r->push, &r->fail));
	struct df_blob *payload = counted_blob(BIG, 'x');
	atomic_store(&n_freed, 0);
	assert_false(wait_for(r->push, true, 20));
	assert_int_equal(df_socket_send(r->push, DF_STR("lease"), &payload, 1), DF_ERR_AGAIN);
	must(r, df_socket_connect(r->link, DF_SOCKET_PULL, r->endpoint, 4, &r->pull, &r->fail));
	send_now(r->push, DF_STR("lease"), &payload, 1);
	recv_now(r->pull, &r->frames);
	df_blob_unref(&payload);
	assert_true(freed_soon(1));
}

static void test_link__what_is_sent_before_the_listener_waits_for_it(void **state)
{
	struct room *r = *state;
	must(r, df_socket_connect(r->link, DF_SOCKET_PUSH, r->endpoint, 4, &r->push, &r->fail));
	assert_int_equal(df_socket_send(r->push, DF_STR("hello"), NULL, 0), DF_OK);
	must(r, df_socket_listen(r->link, DF_SOCKET_PULL, r->endpoint, 4, &r->pull, &r->fail));
	recv_now(r->pull, &r->frames);
	assert_memory_equal(r->frames.header->p, "hello", 5);
}

/* --- peers that go --- */

static void test_link__unsent_payload_is_freed_once_when_the_socket_closes(void **state)
{
	struct room *r = *state;
	struct df_blob *payload = counted_blob(BIG, 'x');
	int sent = 0;
	atomic_store(&n_freed, 0);
	must(r, df_socket_connect(r->link, DF_SOCKET_PUSH, r->endpoint, 8, &r->push, &r->fail));
	while (df_socket_send(r->push, DF_STR("h"), &payload, 1) == DF_OK)
		sent++;
	assert_int_equal(sent, 8);
	df_blob_unref(&payload);
	assert_int_equal(n_freed, 0);
	df_socket_close(&r->push);
	df_link_close(&r->link);
	assert_int_equal(n_freed, 1);
}

static void test_link__a_lane_whose_worker_went_serves_the_next_one_whole_messages(void **state)
{
	struct room *r = *state;
	struct df_blob *payload[4];
	for (int i = 0; i < 4; i++)
		payload[i] = counted_blob(BIG, 'a' + i);
	atomic_store(&n_freed, 0);
	must(r, df_socket_listen(r->link, DF_SOCKET_PUSH, r->endpoint, 4, &r->push, &r->fail));
	for (int life = 0; life < 60; life++) {
		must(r, df_socket_connect(r->link, DF_SOCKET_PULL, r->endpoint, 4, &r->pull, &r->fail));
		bool got = false;
		for (int i = 0; i < 2000 && !got; i++) { /* into the last worker's end at first */
			(void)!df_socket_send(r->push, DF_STR("head"), payload, 4);
			got = wait_for(r->pull, false, 2);
		}
		assert_true(got);
		assert_int_equal(df_socket_recv(r->pull, &r->frames), DF_OK);
		assert_int_equal(r->frames.header->n, 4);
		assert_int_equal(r->frames.n_payload, 4);
		for (int i = 0; i < 4; i++)
			assert_int_equal(r->frames.payload[i]->p[BIG - 1], 'a' + i);
		df_socket_close(&r->pull); /* while more is on its way */
		for (int i = 0; i < life % 5; i++)
			(void)!df_socket_send(r->push, DF_STR("head"), payload, 4);
	}
	for (int i = 0; i < 4; i++)
		df_blob_unref(&payload[i]);
	df_socket_close(&r->push);
	df_frames_free(&r->frames);
	df_link_close(&r->link);
	assert_int_equal(n_freed, 4);
}

/* libzmq's I/O thread aborts the process when a PUSH with linger 0 is closed in the middle of a multipart message and its
 * peer goes in the same moment (libzmq issue 3442): what happens to a dead worker's lane. */
static void test_link__a_lane_can_be_closed_while_its_worker_dies(void **state)
{
	struct room *r = *state;
	struct df_link *worker = NULL;
	struct df_blob *payload[4];
	for (int i = 0; i < 4; i++)
		payload[i] = counted_blob(BIG, 'a' + i);
	atomic_store(&n_freed, 0);
	must(r, df_link_open(1000, &worker, &r->fail)); /* closed sockets count until they are reaped */
	for (int life = 0; life < 300; life++) {
		must(r, df_socket_listen(r->link, DF_SOCKET_PUSH, r->endpoint, 4, &r->push, &r->fail));
		must(r, df_socket_connect(worker, DF_SOCKET_PULL, r->endpoint, 1, &r->pull, &r->fail));
		send_now(r->push, DF_STR("head"), payload, 4);
		recv_now(r->pull, &r->frames); /* connected; from here on nobody reads */
		for (int i = 0; i < 8; i++)
			(void)!df_socket_send(r->push, DF_STR("head"), payload, 4);
		if (life % 2)
			usleep(1000);
		df_socket_close(life % 3 ? &r->pull : &r->push);
		df_socket_close(&r->pull);
		df_socket_close(&r->push);
	}
	df_frames_free(&r->frames);
	for (int i = 0; i < 4; i++)
		df_blob_unref(&payload[i]);
	df_link_close(&worker);
	df_link_close(&r->link);
	assert_int_equal(n_freed, 4);
}

static void test_link__a_listener_that_comes_back_is_found_again(void **state)
{
	struct room *r = *state;
	open_results(r, 8);
	send_now(r->push, DF_STR("one"), NULL, 0);
	recv_now(r->pull, &r->frames);
	df_socket_close(&r->pull);
	bool got = false;
	const struct timespec pause = {0, 50000000};
	(void)nanosleep(&pause, NULL);
	must(r, df_socket_listen(r->link, DF_SOCKET_PULL, r->endpoint, 8, &r->pull, &r->fail));
	for (int i = 0; i < 100 && !got;
	     i++) { /* what is sent into a dying connection is lost: repeat, as HELLO does */
		(void)!df_socket_send(r->push, DF_STR("two"), NULL, 0);
		got = wait_for(r->pull, false, 50);
	}
	assert_true(got);
	assert_int_equal(df_socket_recv(r->pull, &r->frames), DF_OK);
	assert_memory_equal(r->frames.header->p, "two", 3);
}

/* --- bounds --- */

static void test_link__a_message_over_a_bound_is_not_sent(void **state)
{
	struct room *r = *state;
	struct df_blob *one = df_blob_copy("x", 1), *payload[DF_MESSAGE_FRAMES_MAX];
	for (size_t i = 0; i < DF_MESSAGE_FRAMES_MAX; i++)
		payload[i] = one;
	char *header = calloc(1, DF_HEADER_BYTES_MAX + 1);
	open_results(r, 8);
	assert_int_equal(df_socket_send(r->push, DF_STR("h"), payload, DF_MESSAGE_FRAMES_MAX), DF_ERR_LIMIT);
	assert_int_equal(df_socket_send(r->push, (struct df_str){header, DF_HEADER_BYTES_MAX + 1}, NULL, 0),
			 DF_ERR_LIMIT);
	send_now(r->push, (struct df_str){header, DF_HEADER_BYTES_MAX}, payload, DF_MESSAGE_FRAMES_MAX - 1);
	recv_now(r->pull, &r->frames);
	assert_int_equal(r->frames.n_payload, DF_MESSAGE_FRAMES_MAX - 1);
	assert_int_equal(r->frames.header->n, DF_HEADER_BYTES_MAX);
	free(header);
	df_blob_unref(&one);
}

/* A sender that keeps no bounds: its message is dropped whole, and the next one is read as what it is. */
static void test_link__a_strangers_message_over_a_bound_is_dropped_whole(void **state)
{
	struct room *r = *state;
	void *ctx = zmq_ctx_new(), *raw = zmq_socket(ctx, ZMQ_PUSH);
	must(r, df_socket_listen(r->link, DF_SOCKET_PULL, r->endpoint, 8, &r->pull, &r->fail));
	assert_int_equal(zmq_connect(raw, r->endpoint), 0);
	for (int i = 0; i < DF_MESSAGE_FRAMES_MAX + 1; i++)
		assert_int_equal(zmq_send(raw, "f", 1, i < DF_MESSAGE_FRAMES_MAX ? ZMQ_SNDMORE : 0), 1);
	char *header = calloc(1, DF_HEADER_BYTES_MAX + 1);
	assert_int_equal(zmq_send(raw, header, DF_HEADER_BYTES_MAX + 1, ZMQ_SNDMORE), DF_HEADER_BYTES_MAX + 1);
	assert_int_equal(zmq_send(raw, "tail", 4, 0), 4);
	assert_int_equal(zmq_send(raw, "next", 4, 0), 4);
	for (int i = 0; i < 2; i++) {
		assert_true(wait_for(r->pull, false, 5000));
		assert_int_equal(df_socket_recv(r->pull, &r->frames), DF_ERR_LIMIT);
		assert_null(r->frames.header);
		assert_int_equal(r->frames.n_payload, 0);
	}
	recv_now(r->pull, &r->frames);
	assert_memory_equal(r->frames.header->p, "next", 4);
	assert_int_equal(r->frames.n_payload, 0);
	free(header);
	(void)zmq_close(raw);
	(void)zmq_ctx_term(ctx);
}

static void test_link__a_pull_that_sends_is_a_bug(void **state)
{
	struct room *r = *state;
	open_results(r, 8);
	assert_int_equal(df_socket_send(r->pull, DF_STR("h"), NULL, 0), DF_ERR_BUG);
	assert_int_equal(df_socket_recv(r->push, &r->frames), DF_ERR_BUG);
}

/* --- notices and waiting --- */

static void test_link__notices_reach_every_subscriber(void **state)
{
	struct room *r = *state;
	struct df_socket *pub = NULL, *sub[3] = {NULL};
	must(r, df_socket_listen(r->link, DF_SOCKET_PUB, r->endpoint, 8, &pub, &r->fail));
	assert_int_equal(df_socket_send(pub, DF_STR("nobody"), NULL, 0), DF_OK);
	for (int i = 0; i < 3; i++)
		must(r, df_socket_connect(r->link, DF_SOCKET_SUB, r->endpoint, 8, &sub[i], &r->fail));
	for (int i = 0; i < 3; i++) {
		bool got = false;
		for (int beat = 0; beat < 200 && !got; beat++) {
			assert_int_equal(df_socket_send(pub, DF_STR("drain"), NULL, 0), DF_OK);
			got = wait_for(sub[i], false, 20);
		}
		assert_true(got);
		assert_int_equal(df_socket_recv(sub[i], &r->frames), DF_OK);
		assert_memory_equal(r->frames.header->p, "drain", 5);
		df_socket_close(&sub[i]);
	}
	df_socket_close(&pub);
}

static void test_link__wait_tells_descriptors_and_sockets_apart(void **state)
{
	struct room *r = *state;
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	open_results(r, 8);
	struct df_wait w[40] = {{.socket = r->pull}, {.fd = fds[0]}, {.socket = r->push, .want_send = true}};
	for (int i = 3; i < 40; i++) /* more than fit on the stack */
		w[i] = (struct df_wait){.fd = fds[0]};
	assert_int_equal(df_wait(w, 2, 10), DF_OK);
	assert_false(w[0].ready || w[1].ready);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(df_wait(w, 40, 1000), DF_OK);
	assert_true(!w[0].ready && w[1].ready && w[2].ready && w[39].ready);
	send_now(r->push, DF_STR("h"), NULL, 0);
	assert_true(wait_for(r->pull, false, 5000));
	assert_int_equal(df_wait(w, 1, 0), DF_OK);
	assert_true(w[0].ready);
	(void)close(fds[1]);
	char c;
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(df_wait(w, 2, 1000), DF_OK); /* an end is to be read too */
	assert_true(w[1].ready);
	(void)close(fds[0]);
	assert_int_equal(df_wait(NULL, 0, -1), DF_ERR_BUG);
	assert_int_equal(df_wait(NULL, 0, 1), DF_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
		T(test_link__a_path_that_is_too_long_says_so),
		T(test_link__endpoints_that_others_could_reach_are_refused),
		T(test_link__a_chosen_port_can_be_asked_for),
		T(test_link__more_sockets_than_asked_for_are_a_limit),
		T(test_link__every_descriptor_is_close_on_exec),
		T(test_link__a_message_arrives_whole_with_every_size_of_frame),
		T(test_link__a_taken_frame_outlives_the_message_and_the_sockets),
		T(test_link__twenty_megabytes_arrive),
		T(test_link__thousands_arrive_in_order),
		T(test_link__a_full_queue_says_again_and_sends_nothing_of_it),
		T(test_link__a_lane_without_its_worker_says_again),
		T(test_link__what_is_sent_before_the_listener_waits_for_it),
		T(test_link__unsent_payload_is_freed_once_when_the_socket_closes),
		T(test_link__a_lane_whose_worker_went_serves_the_next_one_whole_messages),
		T(test_link__a_lane_can_be_closed_while_its_worker_dies),
		T(test_link__a_listener_that_comes_back_is_found_again),
		T(test_link__a_message_over_a_bound_is_not_sent),
		T(test_link__a_strangers_message_over_a_bound_is_dropped_whole),
		T(test_link__a_pull_that_sends_is_a_bug),
		T(test_link__notices_reach_every_subscriber),
		T(test_link__wait_tells_descriptors_and_sockets_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
