// SPDX-License-Identifier: Apache-2.0
/* safetensors: header JSON to a checked list of tensors over a mapped file. */
#include "worker/model/safetensors.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"

#define ARENA_MAX (64U << 20) /* a header of the largest size, as a JSON tree */

static enum df_err corrupt(struct df_fail *fail, struct df_str name, const char *what)
{
	struct df_str cut = {name.p, name.n < 100 ? name.n : 100};
	return df_fail(fail, DF_ERR_CORRUPT, "tensor '" DF_STR_FMT "' %s", DF_STR_ARG(cut), what);
}

/* A plain non-negative integer. */
static bool whole(const struct df_json *v, uint64_t *ret)
{
	uint64_t n = 0;
	if (!v || v->type != DF_JSON_NUMBER || df_str_to_u64(v->string, &n) != DF_OK)
		return false;
	*ret = n;
	return true;
}

static size_t bits_of_dtype(struct df_str word, enum df_tensor_dtype *ret)
{
	static const struct {
		const char *word;
		enum df_tensor_dtype dtype;
		size_t bits;
	} known[] = {
		{"F32", DF_TENSOR_F32, 32},   {"F16", DF_TENSOR_F16, 16},      {"BF16", DF_TENSOR_BF16, 16},
		{"F64", DF_TENSOR_OTHER, 64}, {"I64", DF_TENSOR_OTHER, 64},    {"U64", DF_TENSOR_OTHER, 64},
		{"I32", DF_TENSOR_OTHER, 32}, {"U32", DF_TENSOR_OTHER, 32},    {"I16", DF_TENSOR_OTHER, 16},
		{"U16", DF_TENSOR_OTHER, 16}, {"I8", DF_TENSOR_OTHER, 8},      {"U8", DF_TENSOR_OTHER, 8},
		{"BOOL", DF_TENSOR_OTHER, 8}, {"F8_E4M3", DF_TENSOR_OTHER, 8}, {"F8_E5M2", DF_TENSOR_OTHER, 8},
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (df_str_is(word, known[i].word)) {
			*ret = known[i].dtype;
			return known[i].bits;
		}
	return 0;
}

static enum df_err read_shape(const struct df_json *shape, struct df_tensor *t, struct df_fail *fail)
{
	if (!shape || shape->type != DF_JSON_ARRAY || shape->n > DF_TENSOR_DIMS_MAX)
		return corrupt(fail, t->name, "has no shape of at most 8 dimensions");
	t->n_item = 1;
	for (const struct df_json *d = shape->child; d; d = d->next) {
		if (!whole(d, &t->shape[t->n_dim]))
			return corrupt(fail, t->name, "has a dimension that is not a whole number");
		if (__builtin_mul_overflow(t->n_item, t->shape[t->n_dim++], &t->n_item))
			return corrupt(fail, t->name, "has too many items");
	}
	return DF_OK;
}

static enum df_err read_tensor(const struct df_json *v, struct df_str data, struct df_tensor *t, struct df_fail *fail)
{
	*t = (struct df_tensor){.name = v->key};
	size_t bits = bits_of_dtype(df_json_get_str(v, "dtype"), &t->dtype);
	if (!bits)
		return corrupt(fail, t->name, "has an unknown dtype");
	DF_TRY(read_shape(df_json_get(v, "shape"), t, fail));
	const struct df_json *range = df_json_get(v, "data_offsets");
	uint64_t begin = 0, end = 0, want = 0;
	if (!range || range->type != DF_JSON_ARRAY || range->n != 2 || !whole(range->child, &begin) ||
	    !whole(range->child->next, &end))
		return corrupt(fail, t->name, "has no data_offsets");
	if (begin > end || end > data.n)
		return corrupt(fail, t->name, "lies outside the file (was it cut short?)");
	if (__builtin_mul_overflow(t->n_item, (uint64_t)bits / 8, &want) || want != end - begin)
		return corrupt(fail, t->name, "has a size that does not fit its shape");
	t->data = data.p + begin;
	t->size_bytes = (size_t)(end - begin);
	return DF_OK;
}

static enum df_err read_tensors(struct df_safetensors *s, const struct df_json *root, struct df_str data,
				struct df_fail *fail)
{
	if (root->type != DF_JSON_OBJECT)
		return df_fail(fail, DF_ERR_CORRUPT, "the header is not a JSON object");
	if (root->n > DF_SAFETENSORS_TENSORS_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "%zu tensors; at most %u are read", root->n,
			       DF_SAFETENSORS_TENSORS_MAX);
	s->tensor = df_arena_array(&s->arena, root->n ? root->n : 1, sizeof(*s->tensor));
	if (!s->tensor)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu tensors", root->n);
	for (const struct df_json *v = root->child; v; v = v->next) {
		if (df_str_is(v->key, "__metadata__"))
			continue;
		DF_TRY(read_tensor(v, data, &s->tensor[s->n_tensor], fail));
		s->n_tensor++;
	}
	return DF_OK;
}

enum df_err df_safetensors_parse(struct df_safetensors *s, struct df_str file, struct df_fail *fail)
{
	uint64_t n = 0;
	*s = (struct df_safetensors){0};
	df_arena_init(&s->arena, ARENA_MAX, 0);
	if (file.n < sizeof(n))
		return df_fail(fail, DF_ERR_CORRUPT, "not a safetensors file: %zu bytes", file.n);
	memcpy(&n, file.p, sizeof(n));
	n = le64toh(n);
	if (n > DF_SAFETENSORS_HEADER_MAX)
		return df_fail(fail, DF_ERR_CORRUPT, "not a safetensors file, or a header beyond %u bytes",
			       DF_SAFETENSORS_HEADER_MAX);
	if (n > file.n - sizeof(n))
		return df_fail(fail, DF_ERR_CORRUPT, "the header is cut short");
	struct df_str header = {file.p + sizeof(n), (size_t)n};
	struct df_str data = {header.p + n, file.n - sizeof(n) - (size_t)n};
	struct df_json *root = NULL;
	DF_TRY(df_json_parse(header, &s->arena, &root, fail));
	return read_tensors(s, root, data, fail);
}

/* Map all of an open file. An empty file maps to nothing. */
static enum df_err map_file(int fd, const char *path, void **ret_p, size_t *ret_bytes, struct df_fail *fail)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return df_fail_errno(fail, "cannot read '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return df_fail(fail, DF_ERR_CORRUPT, "'%s' is empty or no regular file", path);
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return df_fail_errno(fail, "cannot map '%s'", path);
	*ret_p = p;
	*ret_bytes = (size_t)st.st_size;
	return DF_OK;
}

enum df_err df_safetensors_open(struct df_safetensors *s, const char *path, struct df_fail *fail)
{
	void *p = NULL;
	size_t n = 0;
	*s = (struct df_safetensors){0};
	int fd = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", path);
	enum df_err err = map_file(fd, path, &p, &n, fail);
	(void)close(fd);
	if (err != DF_OK)
		return err;
	struct df_fail inner = {0};
	err = df_safetensors_parse(s, (struct df_str){p, n}, &inner);
	s->map = p;
	s->map_bytes = n;
	return err == DF_OK ? DF_OK : df_fail(fail, err, "'%s': %s", path, inner.msg);
}

void df_safetensors_close(struct df_safetensors *s)
{
	if (s->map)
		(void)munmap(s->map, s->map_bytes);
	df_arena_release(&s->arena);
	*s = (struct df_safetensors){0};
}

const struct df_tensor *df_safetensors_find(const struct df_safetensors *s, struct df_str name)
{
	for (size_t i = 0; i < s->n_tensor; i++)
		if (df_str_eq(s->tensor[i].name, name))
			return &s->tensor[i];
	return NULL;
}
