// SPDX-License-Identifier: Apache-2.0
/* http: the network thread: what libcurl wants to be watched and when it wants to be called, and everything else that runs there. */
#include "worker/net/http.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/net/http_core.h"

#define DESCRIPTORS_FOR_OTHERS 192
#define TURNS_AT_ONCE 16 /* before sockets are looked at again */

static _Thread_local const struct df_http *own; /* whose network thread this is */

bool df_http_own_thread(const struct df_http *h)
{
	return own == h;
}

/* --- libcurl's side --- */

curl_socket_t df_http_socket(void *self, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct df_http *h = self;
	(void)purpose;
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (df_loop_keep(&h->loop, fd) != DF_OK) {
		(void)close(fd);
		return CURL_SOCKET_BAD;
	}
	atomic_fetch_add_explicit(&h->n_connection, 1, memory_order_relaxed);
	return fd;
}

int df_http_close_socket(void *self, curl_socket_t fd)
{
	struct df_http *h = self;
	df_loop_forget(&h->loop, fd);
	return close(fd);
}

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *self, void *of_socket)
{
	static const uint32_t want[] = {
		[CURL_POLL_IN] = EPOLLIN, [CURL_POLL_OUT] = EPOLLOUT, [CURL_POLL_INOUT] = EPOLLIN | EPOLLOUT};
	struct df_shard *s = self;
	struct df_http *h = s->http;
	(void)easy;
	(void)of_socket;
	if (df_loop_watch(&h->loop, fd, what == CURL_POLL_REMOVE ? 0 : want[what]) != DF_OK)
		return -1;
	h->loop.watch[fd].owner = (uint16_t)(s - h->shard);
	return 0;
}

static int on_time(CURLM *multi, long ms, void *self)
{
	struct df_shard *s = self;
	(void)multi;
	/* The loop's time is of the beginning of this turn: libcurl must not be called before its own clock has come so far. */
	s->at = ms < 0 ? DF_TIMER_NEVER : ms == 0 ? 0 : df_clock_mono(&df_clock_real) + (uint64_t)ms * DF_MS;
	return 0;
}

static void act(struct df_shard *s, curl_socket_t fd, int events)
{
	struct df_http *h = s->http;
	int n = 0;
	h->in_curl = true;
	CURLMcode code = df_curl.multi_socket_action(s->multi, fd, events, &n);
	h->in_curl = false;
	if (code != CURLM_OK && h->broken == DF_OK)
		h->broken = DF_ERR_NOMEM; /* the only way: memory, or epoll's table, is full */
	df_transfers_settle(h);
}

static void take_finished(struct df_shard *s)
{
	const CURLMsg *m;
	int left = 0;
	while ((m = df_curl.multi_info_read(s->multi, &left))) {
		struct df_transfer *t = NULL;
		CURLcode code = m->data.result; /* `m` goes with the handle */
		if (m->msg == CURLMSG_DONE && df_curl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t) == CURLE_OK)
			df_transfer_finished(t, code);
	}
}

static void on_fd(void *self, int fd, uint32_t events)
{
	struct df_http *h = self;
	struct df_shard *s = &h->shard[h->loop.watch[fd].owner];
	int what = (events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
		   (events & (EPOLLOUT | EPOLLERR) ? CURL_CSELECT_OUT : 0);
	act(s, fd, what);
	take_finished(s);
}

static uint64_t shards_at(const struct df_http *h)
{
	uint64_t at = DF_TIMER_NEVER;
	for (size_t i = 0; i <= h->n_open; i++) {
		uint64_t next = df_shard_at(h, i)->at;
		at = next < at ? next : at;
	}
	return at;
}

static void act_on_time(struct df_http *h)
{
	for (size_t i = 0; i <= h->n_open; i++) {
		struct df_shard *s = df_shard_at(h, i);
		if (s->at > h->loop.now)
			continue;
		s->at = DF_TIMER_NEVER;
		act(s, CURL_SOCKET_TIMEOUT, 0);
		take_finished(s);
	}
}

/* --- the thread --- */

/* Everything that can be done without waiting. */
static void turn(struct df_http *h)
{
	for (int i = 0; i < TURNS_AT_ONCE; i++) {
		bool posted = df_loop_run_posted(&h->loop);
		df_transfers_settle(h);
		act_on_time(h);
		df_timers_fire(&h->loop.timers, h->loop.now);
		df_transfers_settle(h);
		if (h->broken != DF_OK)
			df_transfers_cancel(h, h->broken, "out of memory for connections");
		if (!posted && shards_at(h) > h->loop.now)
			break;
	}
}

static void *run(void *self)
{
	struct df_http *h = self;
	own = h;
	(void)pthread_setname_np(pthread_self(), "df-net");
	(void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	while (!atomic_load_explicit(&h->stop, memory_order_acquire)) {
		df_loop_wait(&h->loop, shards_at(h), on_fd, h);
		turn(h);
	}
	/* What was posted before the end still runs; whatever it, or an on_done, sends is refused. */
	h->closing = true;
	do {
		df_transfers_cancel(h, DF_ERR_INTERRUPTED, "the program ends");
	} while (df_loop_run_posted(&h->loop));
	df_transfers_settle(h);
	return NULL;
}

static enum df_err start_thread(struct df_http *h, struct df_fail *fail)
{
	sigset_t all, before;
	(void)sigfillset(&all);
	/* With SIGPIPE, which OpenSSL's write() may raise, blocked; threads of the resolver inherit that. */
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int failed = pthread_create(&h->thread, NULL, run, h);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed) {
		errno = failed;
		return df_fail_errno(fail, "cannot start the network thread");
	}
	h->started = true;
	return DF_OK;
}

/* --- open and close --- */

static enum df_err copy_path(const char *from, char **ret_path)
{
	if (from && *from && !(*ret_path = strdup(from)))
		return DF_ERR_NOMEM;
	return DF_OK;
}

static const char *first_set(const char *a, const char *b)
{
	return a && *a ? a : b;
}

/* libcurl itself reads none of these variables. A file alone is better than file and folder: only then libcurl parses it once and not for
 * every connection. */
static enum df_err choose_ca(struct df_http *h, const struct df_http_config *config)
{
	const char *file = config->ca_file, *path = config->ca_path;
	const curl_version_info_data *built = df_curl.version_info(CURLVERSION_NOW);
	if (!file && !path) {
		file = first_set(getenv("SSL_CERT_FILE"), getenv("CURL_CA_BUNDLE"));
		path = getenv("SSL_CERT_DIR");
	}
	file = first_set(file, NULL);
	path = first_set(path, NULL);
	if (!file && !path && built->age >= CURLVERSION_SEVENTH) {
		file = built->cainfo;
		if (!file || access(file, R_OK) != 0) {
			file = NULL;
			path = built->capath;
		}
	}
	DF_TRY(copy_path(file, &h->ca_file));
	return copy_path(path, &h->ca_path);
}

/* libcurl would look for them at each request. HTTP_PROXY in capitals is none of them: servers set it from a header. */
static bool has_proxy(void)
{
	static const char *const name[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
	for (size_t i = 0; i < sizeof(name) / sizeof(*name); i++) {
		if (first_set(getenv(name[i]), NULL))
			return true;
	}
	return false;
}

/* As many descriptors as are needed and allowed; libcurl opens no more connections than there are. */
static void make_room(struct df_http *h, long wanted)
{
	struct rlimit limit;
	h->max_connections = wanted > 0 ? wanted : DF_HTTP_CONNECTIONS;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return;
	rlim_t need = (rlim_t)h->max_connections + DESCRIPTORS_FOR_OTHERS;
	if (limit.rlim_cur < need && limit.rlim_cur < limit.rlim_max) {
		struct rlimit more = {need < limit.rlim_max ? need : limit.rlim_max, limit.rlim_max};
		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			limit = more;
	}
	if (limit.rlim_cur < need)
		h->max_connections = limit.rlim_cur > 2 * DESCRIPTORS_FOR_OTHERS
					     ? (long)limit.rlim_cur - DESCRIPTORS_FOR_OTHERS
					     : (long)limit.rlim_cur / 2;
}

enum df_err df_http_shard_open(struct df_shard *s)
{
	struct df_http *h = s->http;
	long n = s == &h->shard[h->n_shard] ? h->max_connections : h->of_shard;
	CURLMcode code = CURLM_OK;
	if (s->multi)
		return DF_OK;
	CURLM *multi = s->multi = df_curl.multi_init();
	if (!multi)
		return DF_ERR_NOMEM;
	size_t i = (size_t)(s - h->shard);
	if (i < h->n_shard && i >= h->n_open)
		h->n_open = i + 1;
#define SET(option, value)                                                                                             \
	do {                                                                                                           \
		if (code == CURLM_OK)                                                                                  \
			code = df_curl.multi_setopt(multi, option, value);                                             \
	} while (0)
	SET(CURLMOPT_SOCKETFUNCTION, on_watch);
	SET(CURLMOPT_SOCKETDATA, s);
	SET(CURLMOPT_TIMERFUNCTION, on_time);
	SET(CURLMOPT_TIMERDATA, s);
	SET(CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	SET(CURLMOPT_MAXCONNECTS, n);
	SET(CURLMOPT_MAX_TOTAL_CONNECTIONS, n);
#undef SET
	return code == CURLM_OK ? DF_OK : DF_ERR_NOMEM;
}

static enum df_err open_shards(struct df_http *h)
{
	h->n_shard = h->max_connections > DF_HTTP_SHARE ? (size_t)h->max_connections / DF_HTTP_SHARE : 1;
	if (h->n_shard > UINT16_MAX - 1)
		h->n_shard = UINT16_MAX - 1;
	h->of_shard = h->max_connections / (long)h->n_shard;
	h->shard = calloc(h->n_shard + 1, sizeof(*h->shard));
	h->share = df_curl.share_init();
	if (!h->shard || !h->share)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i <= h->n_shard; i++)
		h->shard[i] = (struct df_shard){.http = h, .at = DF_TIMER_NEVER};
	if (df_curl.share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK ||
	    df_curl.share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) != CURLSHE_OK)
		return DF_ERR_NOMEM;
	return DF_OK;
}

static void destroy(struct df_http *h)
{
	df_transfers_free(h);
	for (size_t i = 0; h->shard && i <= h->n_shard; i++) {
		if (h->shard[i].multi)
			(void)df_curl.multi_cleanup(h->shard[i].multi);
	}
	free(h->shard);
	if (h->share)
		(void)df_curl.share_cleanup(h->share);
	df_hosts_free(h);
	df_loop_release(&h->loop);
	free(h->ca_file);
	free(h->ca_path);
	free(h);
	df_curl.global_cleanup();
}

static enum df_err open_all(struct df_http *h, const struct df_http_config *config, struct df_fail *fail)
{
	static const struct df_http_config none;
	config = config ? config : &none;
	DF_TRY(df_loop_open(&h->loop, fail));
	make_room(h, config->max_connections);
	h->direct = !has_proxy();
	enum df_err err = choose_ca(h, config);
	if (err == DF_OK)
		err = open_shards(h);
	if (err != DF_OK)
		return df_fail(fail, err, "cannot set up libcurl: %s", df_err_name(err));
	return start_thread(h, fail);
}

enum df_err df_http_open(const struct df_http_config *config, struct df_http **ret_http, struct df_fail *fail)
{
	DF_TRY(df_http_load(fail));
	if (df_curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return df_fail(fail, DF_ERR_NOMEM, "cannot initialise libcurl");
	struct df_http *h = calloc(1, sizeof(*h));
	if (!h) {
		df_curl.global_cleanup();
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the network thread");
	}
	h->loop.epoll_fd = h->loop.event_fd = -1;
	enum df_err err = open_all(h, config, fail);
	if (err != DF_OK) {
		destroy(h);
		return err;
	}
	*ret_http = h;
	return DF_OK;
}

void df_http_close(struct df_http **http)
{
	struct df_http *h = *http;
	if (!h)
		return;
	*http = NULL;
	DF_ASSERT(!df_http_own_thread(h));
	atomic_store_explicit(&h->stop, true, memory_order_release);
	df_loop_wake(&h->loop);
	(void)pthread_join(h->thread, NULL);
	destroy(h);
}

/* --- small things --- */

enum df_err df_http_post(struct df_http *http, void (*fn)(void *self), void *self)
{
	return df_loop_post(&http->loop, fn, self, !df_http_own_thread(http));
}

enum df_err df_http_at(struct df_http *http, uint64_t at_ns, void (*fn)(void *self), void *self, uint64_t *ret_id)
{
	return df_timers_set(&http->loop.timers, at_ns, fn, self, ret_id);
}

void df_http_unset(struct df_http *http, uint64_t id)
{
	df_timers_unset(&http->loop.timers, id);
}

uint64_t df_http_now(const struct df_http *http)
{
	return http->loop.now;
}

struct df_http_stats df_http_stats(const struct df_http *http)
{
	struct df_http_stats s = {
		.requests = atomic_load_explicit(&http->n_request, memory_order_relaxed),
		.connections = atomic_load_explicit(&http->n_connection, memory_order_relaxed),
		.in_flight = atomic_load_explicit(&http->n_flight, memory_order_relaxed),
		.bytes_up = atomic_load_explicit(&http->up, memory_order_relaxed),
		.bytes_down = atomic_load_explicit(&http->down, memory_order_relaxed),
	};
	clockid_t clock;
	struct timespec t;
	if (pthread_getcpuclockid(http->thread, &clock) == 0 && clock_gettime(clock, &t) == 0)
		s.cpu_ns = (uint64_t)t.tv_sec * DF_SEC + (uint64_t)t.tv_nsec;
	return s;
}
