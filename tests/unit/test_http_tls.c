// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP over TLS with certificates that openssl makes at test time: unknown ones and other hosts' are refused, the usual variables are read, one
 * handshake does for a burst over HTTP/2. Skipped where the program openssl is not there. ctest: threaded
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "help_http.h"

extern char **environ;

static char folder[] = "/tmp/df-tls-XXXXXX";
static char cert[100], key[100];
static struct df_http *http;
static struct ask ask;
static struct server port_of; /* where the TLS server listens; only its port is used */
static pid_t tls_server;

static pid_t run(char *const argv[])
{
	pid_t pid;
	posix_spawn_file_actions_t a;
	(void)posix_spawn_file_actions_init(&a);
	(void)posix_spawn_file_actions_addopen(&a, 0, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&a, 1, "/dev/null", O_WRONLY, 0);
	(void)posix_spawn_file_actions_addopen(&a, 2, "/dev/null", O_WRONLY, 0);
	int failed = posix_spawnp(&pid, argv[0], &a, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&a);
	return failed ? -1 : pid;
}

static int set_up(void **state)
{
	int status = 0;
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(cert, sizeof(cert), "%s/cert.pem", folder);
	(void)snprintf(key, sizeof(key), "%s/key.pem", folder);
	pid_t pid = run((char *[]){"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
				   "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
				   "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert, NULL});
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	(void)unlink(cert);
	(void)unlink(key);
	return rmdir(folder);
}

static void nothing(struct conn *c)
{
	(void)c;
}

/* openssl's own little server: -www answers every GET with a page, and closes. */
static void start_tls(void)
{
	char port[16];
	server_open(&port_of, nothing, NULL); /* a port that nobody has */
	server_close(&port_of);
	(void)snprintf(port, sizeof(port), "%d", port_of.port);
	tls_server = run(
		(char *[]){"openssl", "s_server", "-www", "-quiet", "-accept", port, "-cert", cert, "-key", key, NULL});
	assert_true(tls_server > 0);
}

static void open_http(const struct df_http_config *config)
{
	struct df_fail fail = {.msg = ""};
	if (df_http_open(config, &http, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	ask_init(&ask, http, NULL, "");
	ask.request.timeout.total = 10000;
	(void)snprintf(ask.url, sizeof(ask.url), "https://localhost:%d/?s3cret", port_of.port);
}

static void finish(void)
{
	df_http_close(&http);
	ask_release(&ask);
}

/* Until the server listens: refused connections are tried again. */
static void ask_tls(const struct df_http_config *config)
{
	for (int i = 0; i < 100; i++) {
		open_http(config);
		ask_run(&ask);
		if (ask.err != DF_ERR_IO || !strstr(ask.message, "Connection refused"))
			return;
		finish();
		nap(50);
	}
	fail_msg("openssl s_server does not listen");
}

static void clear_variables(void)
{
	(void)unsetenv("SSL_CERT_FILE");
	(void)unsetenv("CURL_CA_BUNDLE");
	(void)unsetenv("SSL_CERT_DIR");
}

static void test_tls__refuses_a_certificate_that_nobody_vouches_for(void **state)
{
	(void)state;
	clear_variables();
	ask_tls(NULL);
	assert_int_equal(ask.err, DF_ERR_USAGE);
	assert_non_null(strstr(ask.message, "certificate"));
	assert_null(strstr(ask.message, "s3cret"));
	assert_int_equal(ask.phase, DF_HTTP_CONNECT);
	finish();
}

static void test_tls__reads_the_variables_for_ca_files(void **state)
{
	static const char *const name[] = {"SSL_CERT_FILE", "CURL_CA_BUNDLE"};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		clear_variables();
		(void)setenv(name[i], cert, 1);
		ask_tls(NULL);
		if (ask.err != DF_OK)
			fail_msg("%s: %s", name[i], ask.message);
		assert_int_equal(ask.status, 200);
		assert_true(ask.close_ended);
		finish();
	}
	(void)setenv("SSL_CERT_FILE", "/nowhere/ca.pem", 1);
	ask_tls(NULL);
	assert_int_equal(ask.err, DF_ERR_USAGE);
	assert_non_null(strstr(ask.message, "/nowhere/ca.pem"));
	finish();
	clear_variables();
}

static void test_tls__a_given_ca_file_comes_first(void **state)
{
	(void)state;
	const struct df_http_config config = {.ca_file = cert};
	(void)setenv("SSL_CERT_FILE", "/nowhere/ca.pem", 1);
	ask_tls(&config);
	assert_int_equal(ask.err, DF_OK);
	finish();
	clear_variables();
}

static void test_tls__refuses_the_certificate_of_another_host(void **state)
{
	(void)state;
	const struct df_http_config config = {.ca_file = cert};
	open_http(&config);
	(void)snprintf(ask.url, sizeof(ask.url), "https://127.0.0.1:%d/", port_of.port);
	ask_run(&ask);
	assert_int_equal(ask.err, DF_ERR_USAGE);
	finish();
}

static void test_tls__many_at_once(void **state)
{
	static struct ask many[40];
	(void)state;
	const struct df_http_config config = {.ca_file = cert};
	open_http(&config);
	for (size_t i = 0; i < 40; i++) {
		many[i] = (struct ask){.n_done = 0};
		ask_init(&many[i], http, NULL, "");
		memcpy(many[i].url, ask.url, sizeof(ask.url));
		many[i].request.timeout.total = 30000;
		ask_start(&many[i]);
	}
	for (size_t i = 0; i < 40; i++) {
		ask_wait(&many[i]);
		if (many[i].err != DF_OK)
			fail_msg("%zu: %s", i, many[i].message);
		ask_release(&many[i]);
	}
	finish();
}

/* node has HTTP/2 in it: answers, after 100 ms, how many connections there were. */
static const char h2_server[] =
	"const fs=require('fs'),old=process.argv[4]==='1',o={key:fs.readFileSync(process.argv[2]),"
	"cert:fs.readFileSync(process.argv[3]),settings:{maxConcurrentStreams:100}};let n=0;"
	"const s=(old?require('https').createServer:require('http2').createSecureServer)(o,"
	"(q,r)=>{let b=0;q.on('data',d=>b+=d.length);q.on('end',()=>setTimeout(()=>{r.writeHead(200);r.end(b+' '+n+' "
	"'+q.httpVersion)},100))});"
	"s.on('secureConnection',()=>n++);s.listen(+process.argv[1],'127.0.0.1');";

static pid_t start_node(char *http1)
{
	static char port[16];
	server_open(&port_of, nothing, NULL);
	server_close(&port_of);
	(void)snprintf(port, sizeof(port), "%d", port_of.port);
	return run((char *[]){"node", "-e", (char *)h2_server, port, key, cert, http1, NULL});
}

static void stop_node(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

#define BURST 150

/* A hundred and fifty at once, of a size that takes several windows; returns connections that the server counted. */
static long burst(const char *version)
{
	static struct ask many[BURST];
	static char body[200000];
	long n_conn = 0;
	for (size_t i = 0; i < BURST; i++) {
		many[i] = (struct ask){.n_done = 0};
		ask_init(&many[i], http, NULL, "");
		memcpy(many[i].url, ask.url, sizeof(ask.url));
		many[i].request.method = "POST";
		many[i].request.body = (struct df_str){body, i % 10 ? i : sizeof(body)};
		many[i].request.timeout.total = 60000;
		ask_start(&many[i]);
	}
	for (size_t i = 0; i < BURST; i++) {
		char *end = NULL;
		ask_wait(&many[i]);
		if (many[i].err != DF_OK || many[i].status != 200)
			fail_msg("%zu: %s", i, many[i].message);
		assert_int_equal(strtoul(many[i].body, &end, 10), many[i].request.body.n);
		long n = strtol(end, &end, 10);
		n_conn = n > n_conn ? n : n_conn;
		assert_string_equal(end + 1, version);
		assert_false(many[i].close_ended);
		ask_release(&many[i]);
	}
	return n_conn;
}

static void wait_for_node(pid_t pid)
{
	const struct df_http_config config = {.ca_file = cert};
	int status;
	for (int i = 0; i < 400; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			print_message("SKIP: node is not here, or has no HTTP/2\n");
			skip();
		}
		open_http(&config);
		ask_run(&ask);
		if (ask.err == DF_OK)
			return; /* stays open: its host is known */
		finish();
		nap(50);
	}
	fail_msg("node does not listen: %s", ask.message);
}

static void fresh_burst(char *http1, const char *version, long least, long most)
{
	const struct df_http_config config = {.ca_file = cert};
	pid_t pid = start_node(http1);
	if (pid <= 0)
		skip();
	wait_for_node(pid);
	finish();
	open_http(&config); /* knows nothing of the host again */
	long first = burst(version), second = burst(version);
	finish();
	stop_node(pid);
	if (first < least || first > most || second > first + most / 4)
		fail_msg("HTTP/%s: %ld connections, then %ld", version, first, second);
}

static void test_tls__a_burst_to_an_http2_server_shares_connections(void **state)
{
	(void)state;
	fresh_burst("0", "2.0", 2, 6); /* one was of the wait for it */
}

static void test_tls__a_burst_to_an_http1_server_opens_its_connections_at_once(void **state)
{
	(void)state;
	fresh_burst("1", "1.1", 100, BURST + 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls__refuses_a_certificate_that_nobody_vouches_for),
		cmocka_unit_test(test_tls__reads_the_variables_for_ca_files),
		cmocka_unit_test(test_tls__a_given_ca_file_comes_first),
		cmocka_unit_test(test_tls__refuses_the_certificate_of_another_host),
		cmocka_unit_test(test_tls__many_at_once),
		cmocka_unit_test(test_tls__a_burst_to_an_http2_server_shares_connections),
		cmocka_unit_test(test_tls__a_burst_to_an_http1_server_opens_its_connections_at_once),
	};
	pid_t found = run((char *[]){"openssl", "version", NULL});
	int status = 1;
	if (found <= 0 || waitpid(found, &status, 0) != found || status != 0) {
		(void)printf("SKIP: the program openssl is not here\n");
		return 77;
	}
	if (set_up(NULL) != 0)
		return 1;
	start_tls();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)kill(tls_server, SIGKILL);
	(void)waitpid(tls_server, NULL, 0);
	(void)tear_down(NULL);
	return failed;
}
