// SPDX-License-Identifier: Apache-2.0
/*
 * network: one engine of calls per worker, and what it stands on.
 *
 * DESIGN. The network thread shows that it is alive by a beat that the link thread posts to it once a second: calls that are out wait on
 * purpose (for an answer, a limit, a server that said when) as long as their thread runs its loop, since each of them has a timer or a
 * time-out there. A thread that hangs gives no beat, and an engine that nothing would wake says so: then the run's own watch decides.
 */
#include "worker/network.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "proto/purse.h"
#include "worker/cache/cache.h"
#include "worker/call/call.h"
#include "worker/trace/trace.h"
#include "worker/limit/limit.h"
#include "worker/provider/cassette.h"
#include "worker/limit/where.h"

#define BEAT_FRESH_NS (10 * DF_SEC) /* older ones say that the network thread hangs */
#define WARNING_WORDS 32            /* bytes; "answers are kept in memory alone", for whatever reason */
#define VARIABLES_MAX 64            /* of the environment that name a file with a key */

struct df_network {
	struct df_http *http;
	const struct df_models *models;
	struct df_cache *cache;
	struct df_purse *purse;
	struct df_trace *trace;
	struct df_caller *caller;
	atomic_uint_fast64_t beat_ns;        /* when the network thread was last seen at work */
	atomic_bool beat_posted;             /* and has not been there yet */
	atomic_bool due;                     /* at the last beat: a request or a timer would wake the engine */
	atomic_uint_fast64_t wait, until_ns; /* at the last beat: what calls wait for */
};

extern char **environ;

/* ------------------------------------------------------------------ before anything is given up */

static enum df_err add_path(struct df_arena *arena, const char *path, struct df_str *ret)
{
	*ret = df_arena_copy(arena, df_str_from(path));
	return ret->p ? DF_OK : DF_ERR_NOMEM;
}

/* The user's own table of models, and the files that hold keys: those that a variable NAME_KEY_FILE names. */
static enum df_err read_paths(const struct df_needs *needs, struct df_arena *arena, struct df_confine *c)
{
	char models[PATH_MAX] = "";
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	struct df_str *path =
		df_arena_array(arena, c->n_read_path + needs->n_read_path + VARIABLES_MAX + 1, sizeof(*path));
	size_t n = 0, n_variable = 0;
	if (!path)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < c->n_read_path; i++)
		path[n++] = c->read_path[i];
	for (size_t i = 0; i < needs->n_read_path; i++)
		path[n++] = needs->read_path[i];
	if (config && *config)
		(void)snprintf(models, sizeof(models), "%s/docflume", config);
	else if (home && *home)
		(void)snprintf(models, sizeof(models), "%s/.config/docflume", home);
	if (models[0])
		DF_TRY(add_path(arena, models, &path[n++]));
	for (char **e = environ; *e && n_variable < VARIABLES_MAX; e++) {
		static const char suffix[] = "_KEY_FILE";
		const char *value = strchr(*e, '=');
		size_t name = value ? (size_t)(value - *e) : 0;
		if (name < sizeof(suffix) || strncmp(value - (sizeof(suffix) - 1), suffix, sizeof(suffix) - 1) != 0)
			continue;
		n_variable++;
		DF_TRY(add_path(arena, value + 1, &path[n++]));
	}
	c->read_path = path;
	c->n_read_path = n;
	return DF_OK;
}

/* A cache that has no folder says so itself, and keeps what it has in memory; limits without one are an error of the models that have some: who
 * opens those tells it. */
static enum df_err write_paths(const struct df_heritage *h, struct df_arena *arena, struct df_confine *c,
			       struct df_fail *fail)
{
	char folder[DF_CACHE_PATH_BYTES];
	int fd = -1;
	struct df_str *path = df_arena_array(arena, 2, sizeof(*path));
	if (!path)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a worker");
	if (df_limit_dir(NULL, folder, sizeof(folder), &fd, NULL) == DF_OK) {
		(void)close(fd);
		if (add_path(arena, folder, &path[c->n_write_path]) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for a worker");
		c->n_write_path++;
	}
	if (h->cached && df_cache_folder(h->cache.n ? h->cache.p : NULL, folder, NULL) == DF_OK) {
		if (add_path(arena, folder, &path[c->n_write_path]) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for a worker");
		c->n_write_path++;
	}
	c->write_path = path;
	return DF_OK;
}

static struct df_cassette *cassette; /* of the process; it has one network */

enum df_err df_network_load(const struct df_heritage *h, struct df_fail *fail)
{
	DF_TRY(df_http_load(fail));
	return h->record.n ? df_cassette_open(h->record.p, &cassette, fail) : DF_OK;
}

enum df_err df_network_prepare(const struct df_heritage *h, const struct df_needs *needs, struct df_arena *arena,
			       struct df_confine *c, struct df_fail *fail)
{
	if (read_paths(needs, arena, c) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a worker");
	return write_paths(h, arena, c, fail);
}

/* ------------------------------------------------------------------ life */

/* One voice for all, of whoever meets it first: a run may give all its work to one worker. Its first words say what it is. */
static void warn_of_cache(void *self, const char *message)
{
	const struct df_network *n = self;
	size_t words = strcspn(message, ":");
	if (words > WARNING_WORDS)
		words = WARNING_WORDS;
	if (!n->purse || df_purse_tell(n->purse, df_hash64(message, words), true))
		df_warn("%s", message);
}

static enum df_err open_cache(const struct df_heritage *h, struct df_network *n, struct df_fail *fail)
{
	struct df_cache_config config = df_cache_defaults;
	if (!h->cached)
		return DF_OK;
	if (h->memory_max && config.memory_bytes > h->memory_max / 8)
		config.memory_bytes = h->memory_max / 8;
	config.path = h->cache.n ? h->cache.p : NULL;
	config.disk_bytes = h->cache_bytes;
	config.warn = warn_of_cache;
	config.self = n;
	return df_cache_open(&config, &n->cache, fail);
}

static void warn_of_host(void *self, const char *message)
{
	(void)self;
	df_warn("%s", message);
}

static enum df_err open_all(const struct df_heritage *h, struct df_network *n, struct df_fail *fail)
{
	DF_TRY(df_models_shared(&n->models, fail)); /* as the pipeline was checked by */
	DF_TRY(df_http_open(&(struct df_http_config){0}, &n->http, fail));
	if (h->purse)
		DF_TRY(df_purse_map(DF_PURSE_FD, h->lane, &n->purse, fail));
	DF_TRY(open_cache(h, n, fail));
	if (h->trace)
		DF_TRY(df_trace_open(DF_TRACE_FD, h->run_id, &n->trace, fail));
	const struct df_caller_config config = {
		.http = n->http,
		.models = n->models,
		.cache = n->cache,
		.purse = n->purse,
		.trace = n->trace,
		.cassette = cassette,
		.warn = warn_of_host,
	};
	return df_caller_create(&config, &n->caller, fail);
}

enum df_err df_network_open(const struct df_heritage *h, struct df_network **ret_network, struct df_fail *fail)
{
	struct df_network *n = calloc(1, sizeof(*n));
	if (!n)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for calls");
	enum df_err err = open_all(h, n, fail);
	if (err != DF_OK) {
		df_network_close(&n);
		return err;
	}
	*ret_network = n;
	return DF_OK;
}

void df_network_close(struct df_network **network)
{
	struct df_network *n = *network;
	struct df_fail untraced;
	if (!n)
		return;
	if (n->caller && df_caller_record_failed(n->caller, &untraced))
		df_warn("not all answers are recorded: %s", untraced.msg);
	df_caller_destroy(&n->caller);
	df_http_close(&n->http);
	if (n->trace && df_trace_failed(n->trace, &untraced))
		df_warn("%s", untraced.msg);
	df_trace_close(&n->trace);
	df_cache_close(&n->cache);
	df_purse_close(&n->purse); /* behind the cache, which may have something to say */
	df_cassette_close(&cassette);
	free(n);
	*network = NULL;
}

struct df_caller *df_network_caller(const struct df_network *n)
{
	return n->caller;
}

void df_network_stop(struct df_network *n, uint64_t grace_ns)
{
	df_caller_stop(n->caller, grace_ns);
}

void df_network_keep(struct df_network *n)
{
	if (n->cache)
		df_cache_flush_for(n->cache, DF_CALLS_KEEP_MS);
}

void df_network_hurry(struct df_network *n)
{
	df_caller_hurry(n->caller);
}

bool df_network_crowded(const struct df_network *n, uint32_t n_lease)
{
	struct df_caller_stats s = df_caller_stats(n->caller);
	if (n_lease <= DF_NETWORK_LEASES_SURE)
		return s.waiting > DF_CALLS_WAITING;
	return s.waiting > DF_CALLS_WAITING_MANY || s.bytes_out > DF_CALLS_BYTES;
}

/* ------------------------------------------------------------------ signs of life */

static void beat(void *self)
{
	struct df_network *n = self;
	uint64_t until_ns = 0;
	atomic_store(&n->wait, df_caller_waits(n->caller, &until_ns));
	atomic_store(&n->until_ns, until_ns);
	atomic_store(&n->due, df_caller_due(n->caller));
	atomic_store(&n->beat_ns, df_clock_mono(&df_clock_real));
	atomic_store(&n->beat_posted, false);
}

void df_network_note(struct df_network *n, struct df_slot *slot)
{
	uint64_t now_ns = df_clock_mono(&df_clock_real), beat_ns = atomic_load(&n->beat_ns);
	struct df_caller_stats s = df_caller_stats(n->caller);
	uint64_t out = s.in_flight + s.waiting;
	atomic_store(&slot->calls_moved, s.calls + s.requests + s.retries + s.rate_answers + s.cache_hits + s.failed);
	atomic_store(&slot->calls_due_ns, out && atomic_load(&n->due) && beat_ns && now_ns < beat_ns + BEAT_FRESH_NS
						  ? beat_ns + BEAT_FRESH_NS
						  : 0);
	atomic_store(&slot->calls_out, out);
	atomic_store(&slot->calls_sent, s.in_flight);
	atomic_store(&slot->calls_wait, atomic_load(&n->wait));
	atomic_store(&slot->calls_until_ns, atomic_load(&n->until_ns));
	if (!atomic_exchange(&n->beat_posted, true) && df_http_post(n->http, beat, n) != DF_OK)
		atomic_store(&n->beat_posted, false);
}
