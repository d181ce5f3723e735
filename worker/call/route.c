// SPDX-License-Identifier: Apache-2.0
/*
 * route: one model with all that is needed to ask it: provider, endpoint, key, limit record, host.
 *
 * Keys lie in pages of their own that never reach a core dump and are wiped at the end; so are, as far as dumps go, the pages of the environment that they
 * came from.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/url.h"
#include "worker/call/call_own.h"

/* ------------------------------------------------------------------ keys */

void df_keys_release(struct df_key **keys)
{
	for (struct df_key *k = *keys, *next; k; k = next) {
		next = k->next;
		explicit_bzero(k->page, k->page_bytes);
		(void)munmap(k->page, k->page_bytes);
		free(k);
	}
	*keys = NULL;
}

static void hide_from_dumps(const char *p, size_t n)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p & ~(page - 1);
	(void)madvise((char *)p - ((uintptr_t)p - from), (uintptr_t)p + n - from, MADV_DONTDUMP);
}

static enum df_err key_page(const char *variable, struct df_key **ret_key, struct df_fail *fail)
{
	struct df_key *k = calloc(1, sizeof(*k) + strlen(variable) + 1);
	if (!k)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a key");
	k->page_bytes = DF_KEY_BYTES_MAX;
	k->page = mmap(NULL, k->page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (k->page == MAP_FAILED) {
		free(k);
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a key");
	}
	(void)madvise(k->page, k->page_bytes, MADV_DONTDUMP);
	(void)mlock(k->page, k->page_bytes); /* so that it is not swapped out; where that is allowed */
	memcpy(k->variable, variable, strlen(variable) + 1);
	*ret_key = k;
	return DF_OK;
}

/* What is in k->page is checked: a key goes into a header line. */
static enum df_err key_check(struct df_key *k, size_t n, const char *from, struct df_fail *fail)
{
	struct df_str key = df_str_trim((struct df_str){k->page, n});
	if (!key.n)
		return df_fail(fail, DF_ERR_USAGE, "%s is empty: it should hold an API key", from);
	for (size_t i = 0; i < key.n; i++)
		if ((unsigned char)key.p[i] <= 0x20 || (unsigned char)key.p[i] >= 0x7f)
			return df_fail(fail, DF_ERR_USAGE, "%s holds a blank or a character that no API key has", from);
	memmove(k->page, key.p, key.n);
	explicit_bzero(k->page + key.n, k->page_bytes - key.n);
	k->n = key.n;
	return DF_OK;
}

static enum df_err key_of_file(struct df_key *k, const char *variable, const char *path, struct df_fail *fail)
{
	struct stat st;
	char from[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) { /* one that is missing is no key that nobody asked for */
		enum df_err why = df_fail_errno(fail, "open key file \"%s\" (%s_FILE)", path, variable);
		return why == DF_ERR_NOMEM ? why : DF_ERR_USAGE;
	}
	enum df_err err = DF_OK;
	(void)snprintf(from, sizeof(from), "key file \"%.400s\"", path);
	if (fstat(fd, &st) != 0)
		err = df_fail_errno(fail, "look at %s", from);
	else if (!S_ISREG(st.st_mode))
		err = df_fail(fail, DF_ERR_USAGE, "%s (%s_FILE) is no regular file", from, variable);
	else if (st.st_uid != geteuid() || (st.st_mode & 0077))
		err = df_fail(fail, DF_ERR_USAGE, "%s (%s_FILE) can be read by others: make it yours alone (chmod 600)",
			      from, variable);
	else if ((uint64_t)st.st_size >= k->page_bytes)
		err = df_fail(fail, DF_ERR_USAGE, "%s (%s_FILE) is too long to hold one API key", from, variable);
	if (err == DF_OK) {
		ssize_t n = read(fd, k->page, k->page_bytes - 1);
		err = n < 0 ? df_fail_errno(fail, "read %s", from) : key_check(k, (size_t)n, from, fail);
	}
	(void)close(fd);
	return err;
}

static enum df_err key_load(struct df_key *k, struct df_fail *fail)
{
	char name[256];
	const char *value = getenv(k->variable);
	if (value && *value) {
		size_t n = strlen(value);
		hide_from_dumps(value, n);
		if (n >= k->page_bytes)
			return df_fail(fail, DF_ERR_USAGE, "variable %s is too long to hold an API key", k->variable);
		memcpy(k->page, value, n);
		(void)snprintf(name, sizeof(name), "variable %.200s", k->variable);
		return key_check(k, n, name, fail);
	}
	(void)snprintf(name, sizeof(name), "%.200s_FILE", k->variable);
	const char *path = getenv(name);
	if (path && *path)
		return key_of_file(k, k->variable, path, fail);
	return df_fail(fail, DF_ERR_NOT_FOUND, "no API key: neither %s nor %s is set", k->variable, name);
}

/* From the caller's keys, or new among them. DF_ERR_NOT_FOUND: there is none. */
static enum df_err key_get(struct df_caller *c, const char *variable, struct df_str *ret_key,
			   struct df_str *ret_variable, struct df_fail *fail)
{
	struct df_key *k;
	for (k = c->keys; k; k = k->next)
		if (strcmp(k->variable, variable) == 0)
			break;
	if (!k) {
		DF_TRY(key_page(variable, &k, fail));
		enum df_err err = key_load(k, fail);
		if (err != DF_OK) {
			df_keys_release(&k);
			return err;
		}
		k->next = c->keys;
		c->keys = k;
	}
	*ret_key = (struct df_str){k->page, k->n};
	*ret_variable = df_str_from(k->variable);
	return DF_OK;
}

/* ------------------------------------------------------------------ the endpoint */

static char *base_url_of(const struct df_route *r, const struct df_route_options *o)
{
	const char *env = r->provider->base_url_env ? getenv(r->provider->base_url_env) : NULL;
	struct df_str url = df_str_from(r->provider->base_url);
	if (o->base_url.n)
		url = o->base_url;
	else if (r->info.base_url.n)
		url = r->info.base_url;
	else if (env && *env)
		url = df_str_from(env);
	url = df_str_trim(url);
	while (url.n && url.p[url.n - 1] == '/')
		url.n--;
	return df_str_dup(url);
}

static enum df_err check_url(const struct df_route *r, struct df_fail *fail)
{
	char what[200];
	if (r->provider->answer)
		return DF_OK;
	(void)snprintf(what, sizeof(what), "model \"%.150s\": its base URL", r->label);
	return df_url_check(what, r->to.base_url, fail);
}

static enum df_err find_key(struct df_route *r, const struct df_route_options *o, struct df_fail *fail)
{
	char variable[200];
	struct df_str name = df_str_from(r->provider->key_env);
	bool asked_for = o->key_env.n || r->info.key_env.n;
	if (o->key_env.n)
		name = o->key_env;
	else if (r->info.key_env.n)
		name = r->info.key_env;
	if (!name.n || r->provider->answer)
		return DF_OK;
	if (name.n >= sizeof(variable))
		return df_fail(fail, DF_ERR_USAGE, "model \"%s\": the name of its key's variable is too long",
			       r->label);
	memcpy(variable, name.p, name.n);
	variable[name.n] = '\0';
	struct df_fail why = {0};
	(void)pthread_mutex_lock(&r->caller->lock);
	r->to.key_env = df_str_from(r->provider->key_env);
	enum df_err err = key_get(r->caller, variable, &r->to.key, &r->to.key_env, &why);
	(void)pthread_mutex_unlock(&r->caller->lock);
	if (err == DF_ERR_NOT_FOUND && !asked_for && !df_provider_needs_key(r->provider, r->to.base_url))
		return DF_OK;
	if (err == DF_OK)
		return DF_OK;
	return df_fail(fail, err == DF_ERR_NOMEM ? err : DF_ERR_USAGE, "model \"%s\": %s", r->label, why.msg);
}

static void find_account(struct df_route *r)
{
	if (strcmp(r->provider->name, "openai") != 0)
		return;
	r->to.organization = df_str_from(getenv("OPENAI_ORG_ID"));
	r->to.project = df_str_from(getenv("OPENAI_PROJECT_ID"));
}

/* Scheme, host and port; for a provider without a network, the model itself: one that fails says nothing of another. */
static enum df_err find_host(struct df_route *r, struct df_fail *fail)
{
	struct df_caller *c = r->caller;
	struct df_str name = df_str_from(r->label);
	if (!r->provider->answer) {
		name = r->to.base_url;
		const char *slashes = memmem(name.p, name.n, "://", 3);
		size_t from = slashes ? (size_t)(slashes - name.p) + 3 : 0;
		const char *path = memchr(name.p + from, '/', name.n - from);
		if (path)
			name.n = (size_t)(path - name.p);
	}
	(void)pthread_mutex_lock(&c->lock);
	for (r->host = c->hosts; r->host; r->host = r->host->next)
		if (df_str_is(name, r->host->name))
			break;
	if (!r->host && (r->host = calloc(1, sizeof(*r->host) + name.n + 1))) {
		memcpy(r->host->name, name.p, name.n);
		r->host->next = c->hosts;
		c->hosts = r->host;
	}
	(void)pthread_mutex_unlock(&c->lock);
	return r->host ? DF_OK : df_fail(fail, DF_ERR_NOMEM, "no memory for a route");
}

/* ------------------------------------------------------------------ money and limits */

static enum df_err check_price(const struct df_route *r, struct df_fail *fail)
{
	const struct df_model_info *m = &r->info;
	if (!r->caller->purse || df_purse_look(r->caller->purse).budget <= 0)
		return DF_OK;
	if (!isnan(m->price_in) && (m->kind == DF_ASK_EMBED || !isnan(m->price_out)))
		return DF_OK;
	return df_fail(fail, DF_ERR_USAGE,
		       "model \"%s\" has no known price, so that a budget cannot be kept: put its prices into "
		       "models.yaml, or run without --budget",
		       r->label);
}

static uint64_t first_of(uint64_t a, uint64_t b)
{
	return a ? a : b;
}

void df_route_unkept(struct df_route *r)
{
	const struct df_caller *c = r->caller;
	bool costs = c->purse && df_purse_is_capped(c->purse) && (r->info.price_in > 0 || r->info.price_out > 0);
	char line[256];
	if (r->told_unkept || (!costs && !r->daily))
		return;
	r->told_unkept = true;
	(void)snprintf(
		line, sizeof(line),
		"answers are kept nowhere (%s): a run that is killed, or ends at a budget or a limit of the day, "
		"pays again for those that were not written yet",
		c->cache ? "cache=false" : "--cache no");
	df_engine_warn(c, "unkept", true, line);
}

static enum df_err open_limit(struct df_route *r, const struct df_route_options *o, struct df_fail *fail)
{
	struct df_caller *c = r->caller;
	const struct df_model_info *m = &r->info;
	struct df_buf name;
	df_buf_init(&name, 8192);
	(void)df_buf_addf(&name, "%s " DF_STR_FMT " " DF_STR_FMT, r->provider->name, DF_STR_ARG(r->to.base_url),
			  DF_STR_ARG(r->model));
	uint64_t concurrency = first_of(o->concurrency, m->concurrency);
	struct df_limit_config config = {
		.dir = c->limits_dir,
		.name = df_str_from(df_buf_z(&name)),
		.key = r->to.key,
		.rpm = first_of(o->rpm, m->rpm),
		.tpm = first_of(o->tpm, m->tpm),
		.rpd = first_of(o->rpd, m->rpd),
		.tpd = first_of(o->tpd, m->tpd),
		.concurrency = concurrency < UINT32_MAX ? (uint32_t)concurrency : UINT32_MAX,
		.burst = 1,
		.boot_ns = c->boot_ns,
		.self = c->self,
	};
	bool asked_for = config.rpm || config.tpm || config.rpd || config.tpd || config.concurrency;
	r->daily = config.rpd || config.tpd;
	if (!c->cache)
		df_route_unkept(r);
	r->tpm = config.tpm;
	r->cap = DF_CALLS_IN_FLIGHT;
	if (config.concurrency && config.concurrency < r->cap)
		r->cap = config.concurrency;
	struct df_fail why = {0};
	enum df_err err = df_limit_open(&config, &r->limit, &why);
	df_buf_release(&name);
	if (err == DF_OK && why.msg[0]) /* it was damaged, and begins anew */
		df_engine_warn(c, why.msg, true, why.msg);
	if (err == DF_OK || (r->provider->answer && !asked_for))
		return DF_OK; /* what needs no network and has no limits needs no record either */
	/* A full disk, rights, a folder that is none: no other worker would fare better. */
	return df_fail(fail, err == DF_ERR_NOMEM ? err : DF_ERR_USAGE, "model \"%s\": %s", r->label, why.msg);
}

/* ------------------------------------------------------------------ life */

void df_route_close(struct df_route **route)
{
	struct df_route *r = *route;
	if (!r)
		return;
	struct df_caller *c = r->caller;
	(void)pthread_mutex_lock(&c->lock);
	struct df_route **at = &c->routes;
	while (*at && *at != r)
		at = &(*at)->next;
	if (*at) {
		*at = r->next;
		atomic_fetch_sub(&c->n_routes, 1);
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (r->provider && r->provider->close && r->state)
		r->provider->close(r->state);
	df_limit_close(&r->limit);
	free(r->id);
	free(r->base_url);
	free(r->label);
	free(r);
	*route = NULL;
}

static enum df_err fill(struct df_route *r, const struct df_route_options *o, struct df_fail *fail)
{
	struct df_caller *c = r->caller;
	r->id = df_str_dup(o->model);
	r->label = df_str_dup(o->model);
	if (!r->id || !r->label)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a route");
	DF_TRY(df_models_find(c->models, df_str_from(r->id), &r->provider, &r->model, &r->info, fail));
	r->base_url = base_url_of(r, o);
	if (!r->base_url)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a route");
	r->to.base_url = df_str_from(r->base_url);
	DF_TRY(check_url(r, fail));
	DF_TRY(find_key(r, o, fail));
	find_account(r);
	DF_TRY(find_host(r, fail));
	DF_TRY(check_price(r, fail));
	if (r->provider->open)
		DF_TRY(r->provider->open(r->model, &r->state, fail));
	return open_limit(r, o, fail);
}

enum df_err df_route_open(struct df_caller *c, const struct df_route_options *options, struct df_route **ret_route,
			  struct df_fail *fail)
{
	struct df_route *r = calloc(1, sizeof(*r));
	if (!r)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a route");
	r->caller = c;
	r->ready_tail = &r->ready;
	r->alarm.ring = df_route_rang;
	enum df_err err = fill(r, options, fail);
	if (err != DF_OK) {
		df_route_close(&r);
		return err;
	}
	(void)pthread_mutex_lock(&c->lock);
	r->next = c->routes;
	c->routes = r;
	atomic_fetch_add(&c->n_routes, 1);
	(void)pthread_mutex_unlock(&c->lock);
	*ret_route = r;
	return DF_OK;
}

const struct df_provider *df_route_provider(const struct df_route *r)
{
	return r->provider;
}

const struct df_model_info *df_route_model(const struct df_route *r)
{
	return &r->info;
}

const struct df_endpoint *df_route_endpoint(const struct df_route *r)
{
	return &r->to;
}

struct df_str df_route_id(const struct df_route *r)
{
	return df_str_from(r->id);
}

struct df_str df_route_name(const struct df_route *r)
{
	return r->model;
}

struct df_route *df_caller_route(struct df_caller *c, size_t i)
{
	(void)pthread_mutex_lock(&c->lock);
	struct df_route *r = c->routes;
	while (r && i--)
		r = r->next;
	(void)pthread_mutex_unlock(&c->lock);
	return r;
}
