// SPDX-License-Identifier: Apache-2.0
/* heritage: a sealed memory file with one JSON object, and a page of shared memory. */
#include "proto/heritage.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"

#define HERITAGE_BYTES_MAX (8U << 20)

static void add_string(struct df_buf *b, const char *key, struct df_str value)
{
	(void)df_buf_addf(b, ",\"%s\":", key);
	(void)df_json_add_string(b, value);
}

static void add_number(struct df_buf *b, const char *key, uint64_t value)
{
	(void)df_buf_addf(b, ",\"%s\":\"%llu\"", key, (unsigned long long)value); /* strings: all 64 bits survive */
}

static void format(const struct df_heritage *h, struct df_buf *b)
{
	(void)df_buf_addf(b, "{\"format_version\":%d", DF_HERITAGE_VERSION);
	add_number(b, "epoch", h->epoch);
	add_number(b, "lane", h->lane);
	add_number(b, "nonce", h->nonce);
	add_number(b, "role", h->role);
	add_number(b, "number", h->number);
	add_number(b, "parent_pid", h->parent_pid);
	add_string(b, "lane_endpoint", h->lane_endpoint);
	add_string(b, "control_endpoint", h->control_endpoint);
	add_string(b, "bulk_endpoint", h->bulk_endpoint);
	add_string(b, "notices_endpoint", h->notices_endpoint);
	add_string(b, "results_endpoint", h->results_endpoint);
	add_string(b, "pipeline", h->pipeline);
	add_string(b, "id_key", h->id_key);
	add_string(b, "text_key", h->text_key);
	add_string(b, "model_dir", h->model_dir);
	add_number(b, "max_record", h->max_record);
	add_number(b, "cell_bytes", h->cell_bytes);
	add_number(b, "retry", h->retry);
	(void)df_buf_addz(b, ",\"sample\":");
	(void)df_json_add_double(b, h->sample);
	add_number(b, "sample_seed", h->sample_seed);
	add_number(b, "want_jsonl", h->want[DF_OUTPUT_JSONL]);
	add_number(b, "want_npy", h->want[DF_OUTPUT_NPY]);
	add_number(b, "want_rejects", h->want[DF_OUTPUT_REJECTS]);
	add_number(b, "embed_in_rows", h->embed_in_rows);
	add_number(b, "f16", h->f16);
	add_number(b, "zstd", h->zstd);
	add_number(b, "log_level", h->log_level);
	add_number(b, "log_format", h->log_format);
	add_number(b, "memory_max", h->memory_max);
	add_number(b, "confine", h->confine);
	add_number(b, "purse", h->purse);
	add_number(b, "trace", h->trace);
	add_number(b, "run_id", h->run_id);
	add_number(b, "cached", h->cached);
	add_string(b, "cache", h->cache);
	add_number(b, "cache_bytes", h->cache_bytes);
	add_string(b, "record", h->record);
	add_number(b, "grace_ns", h->grace_ns);
	add_number(b, "stream", h->stream);
	(void)df_buf_addz(b, ",\"read_path\":[");
	for (size_t i = 0; i < h->n_read_path; i++) {
		(void)df_buf_addz(b, i ? "," : "");
		(void)df_json_add_string(b, h->read_path[i]);
	}
	(void)df_buf_addc(b, ']');
	(void)df_buf_addc(b, '}');
}

enum df_err df_heritage_write(const struct df_heritage *h, int *ret_fd, struct df_fail *fail)
{
	struct df_buf b;
	df_buf_init(&b, HERITAGE_BYTES_MAX);
	format(h, &b);
	enum df_err err = df_buf_err(&b);
	int fd = -1;
	if (err != DF_OK) {
		err = df_fail(fail, err, "the settings of this run do not fit into %u bytes", HERITAGE_BYTES_MAX);
	} else {
		fd = memfd_create("docflume-heritage", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		struct iovec iov = {b.p, b.n};
		if (fd < 0 || df_io_real.write_all(NULL, fd, &iov, 1, 0) < 0 ||
		    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
			err = df_fail_errno(fail, "cannot hand settings to a child process");
	}
	df_buf_release(&b);
	if (err != DF_OK && fd >= 0)
		(void)close(fd);
	if (err == DF_OK)
		*ret_fd = fd;
	return err;
}

static uint64_t get_number(const struct df_json *o, const char *key)
{
	uint64_t v = 0;
	if (df_str_to_u64(df_json_get_str(o, key), &v) != DF_OK)
		return 0;
	return v;
}

static enum df_err take_paths(const struct df_json *o, struct df_arena *arena, struct df_heritage *h)
{
	const struct df_json *list = df_json_get(o, "read_path");
	size_t n = list && list->type == DF_JSON_ARRAY ? list->n : 0;
	h->read_path = df_arena_array(arena, n + 1, sizeof(*h->read_path));
	if (!h->read_path)
		return DF_ERR_NOMEM;
	for (const struct df_json *i = n ? list->child : NULL; i; i = i->next)
		h->read_path[h->n_read_path++] = i->string;
	return DF_OK;
}

static void take(const struct df_json *o, struct df_heritage *h)
{
	const struct df_json *sample = df_json_get(o, "sample");
	*h = (struct df_heritage){
		.epoch = (uint32_t)get_number(o, "epoch"),
		.lane = get_number(o, "lane"),
		.nonce = get_number(o, "nonce"),
		.role = (uint32_t)get_number(o, "role"),
		.number = (uint32_t)get_number(o, "number"),
		.parent_pid = (uint32_t)get_number(o, "parent_pid"),
		.lane_endpoint = df_json_get_str(o, "lane_endpoint"),
		.control_endpoint = df_json_get_str(o, "control_endpoint"),
		.bulk_endpoint = df_json_get_str(o, "bulk_endpoint"),
		.notices_endpoint = df_json_get_str(o, "notices_endpoint"),
		.results_endpoint = df_json_get_str(o, "results_endpoint"),
		.pipeline = df_json_get_str(o, "pipeline"),
		.id_key = df_json_get_str(o, "id_key"),
		.text_key = df_json_get_str(o, "text_key"),
		.model_dir = df_json_get_str(o, "model_dir"),
		.max_record = get_number(o, "max_record"),
		.cell_bytes = get_number(o, "cell_bytes"),
		.retry = get_number(o, "retry") != 0,
		.sample = sample ? sample->number : 1.0,
		.sample_seed = get_number(o, "sample_seed"),
		.want = {get_number(o, "want_jsonl") != 0, get_number(o, "want_npy") != 0,
			 get_number(o, "want_rejects") != 0},
		.embed_in_rows = get_number(o, "embed_in_rows") != 0,
		.f16 = get_number(o, "f16") != 0,
		.zstd = (uint32_t)get_number(o, "zstd"),
		.log_level = (uint32_t)get_number(o, "log_level"),
		.log_format = (uint32_t)get_number(o, "log_format"),
		.memory_max = get_number(o, "memory_max"),
		.confine = get_number(o, "confine") != 0,
		.purse = get_number(o, "purse") != 0,
		.trace = get_number(o, "trace") != 0,
		.run_id = get_number(o, "run_id"),
		.cached = get_number(o, "cached") != 0,
		.cache = df_json_get_str(o, "cache"),
		.cache_bytes = get_number(o, "cache_bytes"),
		.record = df_json_get_str(o, "record"),
		.grace_ns = get_number(o, "grace_ns"),
		.stream = get_number(o, "stream") != 0,
	};
}

enum df_err df_heritage_read(int fd, struct df_arena *arena, struct df_heritage *ret_h, struct df_fail *fail)
{
	uint64_t size = 0;
	struct df_json *root = NULL;
	if (df_io_real.size(NULL, fd, &size) < 0 || size > HERITAGE_BYTES_MAX)
		return df_fail(fail, DF_ERR_CORRUPT,
			       "descriptor %d holds no settings; this command is started by docflume itself", fd);
	char *p = df_arena_alloc(arena, (size_t)size + 1);
	if (!p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the settings of this run");
	if (df_io_real.read_at(NULL, fd, p, (size_t)size, 0) != (ssize_t)size)
		return df_fail_errno(fail, "cannot read the settings of this run");
	DF_TRY(df_json_parse((struct df_str){p, (size_t)size}, arena, &root, fail));
	if (df_json_get_u64(root, "format_version", 0) != DF_HERITAGE_VERSION)
		return df_fail(fail, DF_ERR_VERSION,
			       "the coordinator speaks version %llu of the heritage, this worker version %d; were they "
			       "built together?",
			       (unsigned long long)df_json_get_u64(root, "format_version", 0), DF_HERITAGE_VERSION);
	take(root, ret_h);
	if (take_paths(root, arena, ret_h) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the settings of this run");
	return DF_OK;
}

/* ------------------------------------------------------------------ the slot */

enum df_err df_slot_map(int fd, struct df_slot **ret_slot, struct df_fail *fail)
{
	void *p = mmap(NULL, sizeof(struct df_slot), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return df_fail_errno(fail, "cannot map the slot of a child process");
	*ret_slot = p;
	return DF_OK;
}

enum df_err df_slot_create(struct df_slot **ret_slot, int *ret_fd, struct df_fail *fail)
{
	int fd = memfd_create("docflume-slot", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, sizeof(struct df_slot)) < 0) {
		enum df_err err = df_fail_errno(fail, "cannot make the slot of a child process");
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	enum df_err err = df_slot_map(fd, ret_slot, fail);
	if (err != DF_OK)
		(void)close(fd);
	else
		*ret_fd = fd;
	return err;
}

void df_slot_unmap(struct df_slot **slot)
{
	if (*slot)
		(void)munmap(*slot, sizeof(struct df_slot));
	*slot = NULL;
}

void df_slot_begin(struct df_slot *s, uint64_t lease, struct df_record_id first, uint64_t n_record, bool alone,
		   uint64_t now_ns)
{
	atomic_fetch_add(&s->seq, 1);
	atomic_store(&s->lease, lease);
	atomic_store(&s->source, first.source);
	atomic_store(&s->offset, first.offset);
	atomic_store(&s->n_record, n_record);
	atomic_store(&s->alone, alone);
	atomic_store(&s->since_ns, now_ns);
	atomic_store(&s->stage, DF_NO_STAGE);
	atomic_store(&s->computing, 1);
	atomic_fetch_add(&s->seq, 1);
}

void df_slot_end(struct df_slot *s)
{
	atomic_fetch_add(&s->seq, 1);
	atomic_store(&s->computing, 0);
	atomic_fetch_add(&s->seq, 1);
}

void df_slot_last_words(struct df_slot *s, const char *words)
{
	size_t n = strlen(words);
	n = n < sizeof(s->last_words) ? n : sizeof(s->last_words) - 1;
	memcpy(s->last_words, words, n);
	s->last_words[n] = '\0';
}

void df_slot_stage(struct df_slot *s, uint32_t stage)
{
	atomic_store_explicit(&s->stage, stage, memory_order_relaxed);
}

void df_slot_tick(struct df_slot *s, uint64_t now_ns)
{
	atomic_store_explicit(&s->since_ns, now_ns, memory_order_relaxed);
}

/* The descriptor stays: a process that has confined itself could not open it again. */
void df_slot_wait(struct df_slot *s)
{
	atomic_store_explicit(&s->since_ns, DF_SLOT_WAITS, memory_order_relaxed);
}

uint64_t df_peak_rss_bytes(void)
{
	static atomic_int kept = -1;
	char text[4096];
	int fd = atomic_load(&kept), none = -1;
	if (fd < 0) {
		fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && !atomic_compare_exchange_strong(&kept, &none, fd)) {
			(void)close(fd); /* another thread was first */
			fd = none;
		}
	}
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *at = strstr(text, "VmHWM:");
	return at ? strtoull(at + 6, NULL, 10) * 1024 : 0;
}

void df_slot_note_memory(struct df_slot *s, uint64_t now_ns)
{
	static atomic_uint_fast64_t next_ns;
	if (now_ns < atomic_load(&next_ns))
		return;
	atomic_store(&next_ns, now_ns + 20 * DF_MS);
	atomic_store(&s->peak_rss_bytes, df_peak_rss_bytes());
}
