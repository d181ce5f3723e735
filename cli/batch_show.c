// SPDX-License-Identifier: Apache-2.0
/* batch_show: batch.json for people and for scripts; what is in doubt is read from the files, never asked of a provider. */
#include "cli/batch_show.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/json.h"
#include "cli/commands.h"
#include "worker/batch/proof.h"

#define TEXT_BYTES ((size_t)64 << 20)
#define FILES_SHOWN 20

struct view {
	const char *path;
	int dir_fd, lock_fd;
	bool live;
	struct df_batch_state state;
};

bool df_batch_show_is(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool is = fd >= 0 && faccessat(fd, "batch.json", F_OK, 0) == 0 && faccessat(fd, "journal", F_OK, 0) != 0;
	if (fd >= 0)
		(void)close(fd);
	return is;
}

static enum df_err view_open(const char *path, struct view *v, struct df_fail *fail)
{
	*v = (struct view){.path = path, .lock_fd = -1};
	v->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->dir_fd < 0)
		return df_fail_errno(fail, "open the directory '%s'", path);
	v->lock_fd = openat(v->dir_fd, "lock", O_RDONLY | O_CLOEXEC);
	v->live = v->lock_fd >= 0 && flock(v->lock_fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	return df_batch_state_load(v->dir_fd, &v->state, fail);
}

static void view_close(struct view *v)
{
	df_batch_state_release(&v->state);
	if (v->lock_fd >= 0)
		(void)close(v->lock_fd);
	if (v->dir_fd >= 0)
		(void)close(v->dir_fd);
}

/* ------------------------------------------------------------------ status */

struct sums {
	uint64_t lines, done; /* of the round in work */
	size_t batches, out;
	double worst;
};

static struct sums sums_of(const struct df_batch_state *s)
{
	struct sums r = {.batches = 0};
	for (size_t i = 0; i < s->n_file; i++) {
		const struct df_batch_file *f = &s->file[i];
		bool open = f->step != DF_BATCH_DONE;
		r.batches += f->batch[0] != '\0';
		r.out += open;
		r.worst += open ? f->worst_usd : 0;
		if (f->round != s->round)
			continue;
		r.lines += f->lines;
		r.done += open ? f->done_lines : f->lines;
	}
	return r;
}

static const char *state_word(const struct view *v)
{
	return v->state.finished ? "finished" : v->live ? "at work" : "waits";
}

/* Nothing of a name or of a provider's word may look like another line, or move a terminal's cursor. */
static void add_safe(struct df_buf *b, const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			(void)df_buf_addf(b, "\\x%02x", (unsigned char)*s);
		else
			(void)df_buf_addc(b, *s);
}

static void add_counts(const struct df_batch_counts *c, struct df_buf *b)
{
	char in[48], rows[48];
	(void)df_buf_addf(b,
			  "durable  %s in = %" PRIu64 " out + %" PRIu64 " filtered + %" PRIu64 " rejected; %s; %" PRIu64
			  " input%s with errors\n",
			  df_human_number_of(c->in, "document", in), c->out, c->filtered, c->rejected,
			  df_human_number_of(c->rows, "row", rows), c->source_errors, c->source_errors == 1 ? "" : "s");
	(void)df_buf_addf(
		b, "calls    %" PRIu64 ", %" PRIu64 " of them in the cache; %" PRIu64 " tokens in, %" PRIu64 " out\n",
		c->calls, c->cached, c->tokens_in, c->tokens_out);
}

static void add_file(const struct df_batch_file *f, struct df_buf *b)
{
	(void)df_buf_addf(b, "batch    %05u  round %u, %" PRIu64 " of %" PRIu64 " requests done, %s", f->no, f->round,
			  f->step == DF_BATCH_DONE ? f->lines : f->done_lines, f->lines, df_batch_step_name(f->step));
	if (f->status[0]) {
		(void)df_buf_addz(b, ", there ");
		add_safe(b, f->status);
	}
	if (f->batch[0]) {
		(void)df_buf_addz(b, ": ");
		add_safe(b, f->batch);
	}
	(void)df_buf_addz(b, f->unproved ? " (perhaps a stranger's)" : "");
	(void)df_buf_addz(b, ", ");
	add_safe(b, f->model);
	(void)df_buf_addc(b, '\n');
}

static void add_text(const struct view *v, struct df_buf *b)
{
	const struct df_batch_state *s = &v->state;
	struct sums sum = sums_of(s);
	char z[32], y[32];
	size_t shown = 0;
	(void)df_buf_addz(b, "batch    ");
	add_safe(b, v->path);
	(void)df_buf_addf(b, ": %s, round %u\n", state_word(v), s->round);
	if (!s->finished && !v->live)
		(void)df_buf_addz(b, "         nobody looks after it now; the same command goes on\n");
	(void)df_buf_addz(b, "pipeline ");
	add_safe(b, s->pipeline[0] ? s->pipeline : "(request lines, sent as they are)");
	(void)df_buf_addc(b, '\n');
	if (s->finished)
		add_counts(&s->counts, b);
	else
		(void)df_buf_addf(b, "round    %" PRIu64 " of %" PRIu64 " requests done, as of the last look\n",
				  sum.done, sum.lines);
	(void)df_buf_addf(b, "costs    %s for what was fetched",
			  df_human_usd(s->finished ? s->counts.usd : s->spent_usd, z));
	if (sum.out)
		(void)df_buf_addf(b, ", and up to %s for what is out", df_human_usd(sum.worst, y));
	(void)df_buf_addf(b, "\nbatches  %zu, %zu of them not fetched yet\n", sum.batches, sum.out);
	for (size_t i = 0; i < s->n_file; i++)
		if (s->file[i].step != DF_BATCH_DONE && shown++ < FILES_SHOWN)
			add_file(&s->file[i], b);
	if (shown > FILES_SHOWN)
		(void)df_buf_addf(b, "         and %zu more\n", shown - FILES_SHOWN);
}

static void json_text(struct df_buf *b, const char *key, const char *value)
{
	(void)df_buf_addf(b, ",\"%s\":", key);
	(void)df_json_add_string(b, df_str_from(value));
}

static void json_usd(struct df_buf *b, const char *key, double usd)
{
	(void)df_buf_addf(b, ",\"%s\":", key);
	(void)df_json_add_usd(b, usd);
}

static void json_files(const struct df_batch_state *s, struct df_buf *b)
{
	(void)df_buf_addz(b, ",\"batches\":[");
	for (size_t i = 0; i < s->n_file; i++) {
		const struct df_batch_file *f = &s->file[i];
		(void)df_buf_addf(b,
				  "%s{\"no\":%u,\"round\":%u,\"tries\":%u,\"requests\":%" PRIu64 ",\"done\":%" PRIu64,
				  i ? "," : "", f->no, f->round, f->tries, f->lines,
				  f->step == DF_BATCH_DONE ? f->lines : f->done_lines);
		json_text(b, "step", df_batch_step_name(f->step));
		json_text(b, "id", f->batch);
		json_text(b, "status", f->status);
		json_text(b, "model", f->model);
		(void)df_buf_addc(b, '}');
	}
	(void)df_buf_addc(b, ']');
}

static void add_json(const struct view *v, struct df_buf *b)
{
	const struct df_batch_state *s = &v->state;
	const struct df_batch_counts *c = &s->counts;
	struct sums sum = sums_of(s);
	(void)df_buf_addz(b, "{\"kind\":\"batch\"");
	json_text(b, "directory", v->path);
	json_text(b, "state", state_word(v));
	json_text(b, "pipeline", s->pipeline);
	(void)df_buf_addf(b, ",\"live\":%s,\"round\":%u", v->live ? "true" : "false", s->round);
	(void)df_buf_addf(b, ",\"round_requests\":%" PRIu64 ",\"round_done\":%" PRIu64, sum.lines, sum.done);
	(void)df_buf_addf(b,
			  ",\"counts\":{\"in\":%" PRIu64 ",\"out\":%" PRIu64 ",\"filtered\":%" PRIu64
			  ",\"rejected\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"calls\":%" PRIu64 ",\"cached\":%" PRIu64
			  "}",
			  c->in, c->out, c->filtered, c->rejected, c->rows, c->calls, c->cached);
	json_usd(b, "usd_spent", s->finished ? c->usd : s->spent_usd);
	json_usd(b, "usd_out_at_most", sum.worst);
	json_files(s, b);
	(void)df_buf_addz(b, "}\n");
}

static int print(const char *command, struct df_buf *text, int code)
{
	struct df_fail fail = {.msg = ""};
	int printed = df_buf_err(text) == DF_OK ? df_cli_print(text) : df_cli_fail(command, df_buf_err(text), &fail);
	df_buf_release(text);
	return printed == DF_EXIT_OK ? code : printed;
}

int df_batch_show_status(const char *path, bool json, bool screen, bool *ret_live)
{
	struct view v;
	struct df_fail fail = {.msg = ""};
	struct df_buf text;
	enum df_err err = view_open(path, &v, &fail);
	*ret_live = err == DF_OK && v.live && !v.state.finished;
	if (err != DF_OK) {
		view_close(&v);
		return df_cli_fail("status", err, &fail);
	}
	const struct df_batch_counts *c = &v.state.counts;
	int code = !v.state.finished                 ? v.live ? DF_EXIT_OK : DF_EXIT_STOPPED
		   : c->rejected || c->source_errors ? DF_EXIT_REJECTS
						     : DF_EXIT_OK;
	df_buf_init(&text, TEXT_BYTES);
	if (screen)
		(void)df_buf_addz(&text, "\033[H\033[J");
	(json ? add_json : add_text)(&v, &text);
	view_close(&v);
	return print("status", &text, code);
}

/* ------------------------------------------------------------------ verify */

static const char *word_of(const struct df_batch_proof *p, bool finished)
{
	return p->faults ? "wrong" : finished ? "proved" : "unfinished";
}

static void proof_text(const struct view *v, const struct df_batch_proof *p, double seconds, struct df_buf *b)
{
	char z[32];
	const struct df_batch_counts *c = &v->state.counts;
	(void)df_buf_addf(b, "files     %-6s %" PRIu64 " of requests, answers and outputs\n",
			  p->faults ? "WRONG" : "ok", p->files);
	struct df_str left = df_buf_str(&p->wrong);
	while (left.n) {
		const char *end = memchr(left.p, '\n', left.n);
		size_t n = end ? (size_t)(end - left.p) : left.n;
		(void)df_buf_addf(b, "    %.*s\n", (int)n, left.p);
		left = (struct df_str){left.p + n + (end != NULL), left.n - n - (end != NULL)};
	}
	if (p->faults > DF_BATCH_FAULTS_TOLD)
		(void)df_buf_addf(b, "    and %" PRIu64 " more\n", p->faults - DF_BATCH_FAULTS_TOLD);
	if (!p->quick)
		(void)df_buf_addf(b,
				  "requests         %" PRIu64 " different ones: %" PRIu64 " answered, %" PRIu64
				  " failed, %" PRIu64 " without an answer; %" PRIu64 " lines were sent again\n",
				  p->requests, p->answered, p->failed, p->unanswered, p->asked_again);
	if (v->state.finished)
		(void)df_buf_addf(b,
				  "documents        %" PRIu64 " in = %" PRIu64 " out + %" PRIu64 " filtered + %" PRIu64
				  " rejected; %" PRIu64 " rows\n",
				  c->in, c->out, c->filtered, c->rejected, c->rows);
	if (p->faults)
		(void)df_buf_addf(b, "'%s' is damaged: %" PRIu64 " %s\n", v->path, p->faults,
				  p->faults == 1 ? "fault" : "faults");
	else if (v->state.finished)
		(void)df_buf_addf(b, "'%s' is proved: complete and unchanged (%s read in %.1f s)\n", v->path,
				  df_human_bytes((double)p->bytes, z), seconds);
	else
		(void)df_buf_addf(b, "'%s' is consistent, but not finished: the same command goes on\n", v->path);
}

static void proof_json(const struct view *v, const struct df_batch_proof *p, double seconds, struct df_buf *b)
{
	struct df_str left = df_buf_str(&p->wrong);
	(void)df_buf_addz(b, "{\"format_version\":1,\"kind\":\"batch\"");
	json_text(b, "directory", v->path);
	json_text(b, "state", word_of(p, v->state.finished));
	(void)df_buf_addf(b, ",\"finished\":%s,\"faults\":%" PRIu64 ",\"files\":%" PRIu64 ",\"bytes\":%" PRIu64,
			  v->state.finished ? "true" : "false", p->faults, p->files, p->bytes);
	(void)df_buf_addf(b,
			  ",\"requests\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"failed\":%" PRIu64
			  ",\"unanswered\":%" PRIu64 ",\"seconds\":%.3f,\"wrong\":[",
			  p->requests, p->answered, p->failed, p->unanswered, seconds);
	for (bool first = true; left.n; first = false) {
		const char *end = memchr(left.p, '\n', left.n);
		size_t n = end ? (size_t)(end - left.p) : left.n;
		(void)df_buf_addz(b, first ? "" : ",");
		(void)df_json_add_string(b, (struct df_str){left.p, n});
		left = (struct df_str){left.p + n + (end != NULL), left.n - n - (end != NULL)};
	}
	(void)df_buf_addz(b, "]}\n");
}

int df_batch_show_verify(const char *path, bool json, bool quick)
{
	struct view v;
	struct df_batch_proof p = {.quick = quick};
	struct df_fail fail = {.msg = ""};
	struct df_buf text;
	uint64_t start = df_clock_mono(&df_clock_real);
	enum df_err err = view_open(path, &v, &fail);
	if (err == DF_OK && v.live)
		err = df_fail(&fail, DF_ERR_BUSY, "a process is at work in '%s'; 'docflume status' tells how it stands",
			      path);
	if (err == DF_OK)
		err = df_batch_prove(v.dir_fd, &v.state, &p, &fail);
	if (err != DF_OK) {
		view_close(&v);
		int code = df_cli_fail("verify", err, &fail);
		return err == DF_ERR_BUSY ? DF_EXIT_STOPPED : code;
	}
	double seconds = (double)(df_clock_mono(&df_clock_real) - start) / 1e9;
	int code = p.faults ? DF_EXIT_FATAL : v.state.finished ? DF_EXIT_OK : DF_EXIT_STOPPED;
	df_buf_init(&text, TEXT_BYTES);
	(json ? proof_json : proof_text)(&v, &p, seconds, &text);
	df_batch_proof_release(&p);
	view_close(&v);
	return print("verify", &text, code);
}
