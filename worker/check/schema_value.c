// SPDX-License-Identifier: Apache-2.0
/* schema_value: when two values are the same: numbers by what they say, objects in any order. */
#include <stdlib.h>

#include "worker/check/schema_run.h"

bool df_check_pay(struct df_check_run *r, uint64_t steps)
{
	if (r->err == DF_OK && r->work >= steps) {
		r->work -= steps;
		return true;
	}
	r->work = 0;
	r->err = r->err == DF_OK ? DF_ERR_LIMIT : r->err;
	return false;
}

static const struct df_json *member(struct df_check_run *r, const struct df_json *object, struct df_str key)
{
	for (const struct df_json *m = object->child; m; m = m->next) {
		if (!df_check_pay(r, 1))
			return NULL;
		if (df_str_eq(m->key, key))
			return m;
	}
	return NULL;
}

static bool equal_objects(struct df_check_run *r, const struct df_json *a, const struct df_json *b)
{
	if (a->n != b->n)
		return false;
	for (const struct df_json *m = a->child; m; m = m->next) {
		const struct df_json *other = member(r, b, m->key);
		if (!other || !df_check_equal(r, m, other))
			return false;
	}
	return true;
}

bool df_check_equal(struct df_check_run *r, const struct df_json *a, const struct df_json *b)
{
	struct df_decimal x, y;
	const struct df_json *m = a->child, *o = b->child;
	if (a->type != b->type || !df_check_pay(r, 1 + (a->string.n + b->string.n) / 64))
		return false;
	switch (a->type) {
	case DF_JSON_NULL:
		return true;
	case DF_JSON_BOOL:
		return a->boolean == b->boolean;
	case DF_JSON_STRING:
		return df_str_eq(a->string, b->string);
	case DF_JSON_NUMBER:
		x = df_decimal_of(a->string);
		y = df_decimal_of(b->string);
		return df_decimal_compare(&x, &y) == 0;
	case DF_JSON_OBJECT:
		return equal_objects(r, a, b);
	case DF_JSON_ARRAY:
		for (; m && o; m = m->next, o = o->next)
			if (!df_check_equal(r, m, o))
				return false;
		return !m && !o;
	}
	return false;
}

static uint64_t hash_bytes(uint64_t h, struct df_str s)
{
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Equal values have equal hashes; members of an object are added up, since their order means nothing. */
static uint64_t hash(struct df_check_run *r, const struct df_json *v)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) + v->type * 2 + v->boolean;
	struct df_decimal d;
	if (!df_check_pay(r, 1 + v->string.n / 64))
		return h;
	if (v->type == DF_JSON_STRING)
		return hash_bytes(h, v->string);
	if (v->type == DF_JSON_NUMBER) {
		d = df_decimal_of(v->string);
		return df_decimal_hash(&d);
	}
	for (const struct df_json *m = v->child; m; m = m->next) {
		uint64_t one = hash_bytes(hash(r, m), m->key);
		h = v->type == DF_JSON_OBJECT ? h + one * UINT64_C(0x9e3779b97f4a7c15)
					      : (h ^ one) * UINT64_C(0x100000001b3);
	}
	return h;
}

struct hashed {
	uint64_t hash;
	size_t no;
	const struct df_json *v;
};

static int by_hash(const void *a, const void *b)
{
	const struct hashed *x = a, *y = b;
	return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : x->no < y->no ? -1 : x->no > y->no;
}

bool df_check_twins(struct df_check_run *r, const struct df_json *array, size_t *ret_first, size_t *ret_second)
{
	struct hashed *all = df_arena_array(r->arena, array->n, sizeof(*all));
	size_t n = 0;
	if (!all) {
		r->err = DF_ERR_NOMEM;
		return false;
	}
	for (const struct df_json *m = array->child; m; m = m->next, n++)
		all[n] = (struct hashed){hash(r, m), n, m};
	if (n)
		qsort(all, n, sizeof(*all), by_hash);
	for (size_t i = 0; i < n && r->err == DF_OK; i++)
		for (size_t k = i + 1; k < n && all[k].hash == all[i].hash && r->err == DF_OK; k++)
			if (df_check_equal(r, all[i].v, all[k].v)) {
				*ret_first = all[i].no;
				*ret_second = all[k].no;
				return true;
			}
	return false;
}

uint64_t df_check_characters(struct df_str s)
{
	uint64_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}
