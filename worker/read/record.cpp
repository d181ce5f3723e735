// SPDX-License-Identifier: Apache-2.0
/*
 * record: the only C++ of docflume, and the only file that includes simdjson.h.
 *
 * DESIGN. simdjson's stage 1 validates UTF-8 and control characters and lists the byte of every structural character
 * and of every scalar's start; strings are known to be closed. What is left is the grammar over that list: a
 * loop with one bit per open container (`walk`); escapes are escape.c's. No tape is built and no string is copied that need not be, raw
 * spans come for free, and, unlike on-demand, nothing is left unchecked. Most of the time goes into unescaping.
 * An entry's extent ends where the next entry begins, less blanks: stage 1 lists everything that is not a blank, a
 * string's inside, or a scalar's later bytes. The file stays whole: `walk` is inlined into what asks it, entry by entry.
 */
/* C headers, read by a C++ compiler: compound literals, and functions named like a struct. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#include "worker/read/escape.h"
#include "worker/read/record.h"
}
#pragma GCC diagnostic pop

#include <simdjson.h>

#include <atomic>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace
{

constexpr size_t KEEP_CAPACITY = 1 << 20; /* larger index tables are given back after use */

inline bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

inline bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* RFC 8259 number, the whole of [p, end). */
bool is_number(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	if (p == end || !is_digit(*p))
		return false;
	if (*p == '0') {
		p++;
	} else {
		while (p < end && is_digit(*p))
			p++;
	}
	if (p < end && *p == '.') {
		if (++p == end || !is_digit(*p))
			return false;
		while (p < end && is_digit(*p))
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		if (++p < end && (*p == '+' || *p == '-'))
			p++;
		if (p == end || !is_digit(*p))
			return false;
		while (p < end && is_digit(*p))
			p++;
	}
	return p == end;
}

bool is_literal(const char *p, const char *end)
{
	size_t n = static_cast<size_t>(end - p);
	return (n == 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0)) ||
	       (n == 5 && memcmp(p, "false", 5) == 0);
}

const char *type_name(char first)
{
	switch (first) {
	case '{':
		return "an object";
	case '[':
		return "an array";
	case '"':
		return "a string";
	case 't':
	case 'f':
		return "a boolean";
	case 'n':
		return "null";
	default:
		return "a number";
	}
}

/* One pass over the list of stage 1. Members return DF_OK or what df_fail() gave. */
struct walk {
	const char *text;
	size_t n_text;
	const uint32_t *index;
	size_t n_index;
	struct df_fail *fail;

	enum df_err refuse(size_t at, const char *what) const
	{
		return df_fail(fail, DF_ERR_PARSE, "invalid JSON at byte %zu: %s", at, what);
	}

	char at(size_t i) const
	{
		return i < n_index ? text[index[i]] : '\0';
	}

	size_t place(size_t i) const
	{
		return i < n_index ? index[i] : n_text;
	}

	/* Where the scalar or string of entry i ends. */
	const char *end_of(size_t i) const
	{
		const char *first = text + index[i], *end = text + place(i + 1);
		while (end > first + 1 && is_blank(end[-1]))
			end--;
		return end;
	}

	enum df_err refuse_escape(enum df_escape err, const char *where) const
	{
		size_t place_bytes = static_cast<size_t>(where - text);
		if (err == DF_ESCAPE_SURROGATE)
			return df_fail(fail, DF_ERR_UTF8, "a lone surrogate escape at byte %zu", place_bytes);
		return refuse(place_bytes, "no such escape in a string");
	}

	enum df_err string(size_t i, struct df_str *ret_inside, bool *ret_escaped) const
	{
		const char *first = text + index[i], *end = end_of(i);
		if (end - first < 2 || end[-1] != '"')
			return refuse(index[i], "a string that does not end");
		*ret_inside = {first + 1, static_cast<size_t>(end - first) - 2};
		*ret_escaped = memchr(first + 1, '\\', ret_inside->n) != nullptr;
		return DF_OK;
	}

	enum df_err check_string(size_t i) const
	{
		struct df_str inside = {nullptr, 0};
		bool escaped = false;
		const char *where = nullptr;
		DF_TRY(string(i, &inside, &escaped));
		if (!escaped)
			return DF_OK;
		enum df_escape err = df_escape_check(inside, &where);
		return err == DF_ESCAPE_OK ? DF_OK : refuse_escape(err, where);
	}

	enum df_err check_scalar(size_t i) const
	{
		char c = at(i);
		if (c == '"')
			return check_string(i);
		if (i >= n_index)
			return refuse(n_text, "it ends where a value is expected");
		const char *first = text + index[i], *end = end_of(i);
		if (c == '-' || is_digit(c))
			return is_number(first, end) ? DF_OK : refuse(index[i], "not a number");
		return is_literal(first, end) ? DF_OK : refuse(index[i], "a value is expected");
	}

	enum df_err check_key(size_t &i) const
	{
		if (at(i) != '"')
			return refuse(place(i), "a key in quotes is expected");
		DF_TRY(check_string(i));
		if (at(++i) != ':')
			return refuse(place(i), "':' is expected behind a key");
		i++;
		return DF_OK;
	}

	/* A whole value from entry i; moves i behind it. `depth`: containers already open around it. */
	enum df_err value(size_t &i, unsigned depth) const
	{
		const unsigned base = depth;
		uint64_t objects = 0; /* bit d: the container at depth d is an object */
		for (;;) {
			char c = at(i);
			if (c == '{' || c == '[') {
				if (++depth > DF_JSON_DEPTH)
					return df_fail(fail, DF_ERR_LIMIT,
						       "JSON nested deeper than %d levels at byte %zu", DF_JSON_DEPTH,
						       place(i));
				uint64_t bit = UINT64_C(1) << (depth - 1);
				objects = c == '{' ? objects | bit : objects & ~bit;
				i++;
				if (at(i) != (c == '{' ? '}' : ']')) {
					if (c == '{')
						DF_TRY(check_key(i));
					continue;
				}
				depth--;
			} else {
				DF_TRY(check_scalar(i));
			}
			i++;
			/* a value is complete: close what closes here, or find the comma */
			while (depth > base) {
				bool object = (objects >> (depth - 1)) & 1;
				c = at(i);
				if (c == ',')
					break;
				if (c != (object ? '}' : ']'))
					return refuse(place(i),
						      object ? "',' or '}' is expected" : "',' or ']' is expected");
				depth--;
				i++;
			}
			if (depth == base)
				return DF_OK;
			i++;
			if ((objects >> (depth - 1)) & 1)
				DF_TRY(check_key(i));
		}
	}

	struct df_str span(size_t first, size_t behind) const
	{
		const char *p = text + index[first], *end = end_of(behind - 1);
		return {p, static_cast<size_t>(end - p)};
	}
};

} // namespace

namespace
{

/* What stage 1 writes to: four bytes for each byte of the largest record. */
struct index_room {
	std::unique_ptr<simdjson::internal::dom_parser_implementation> impl;
	size_t capacity = 0;
};

/* The room of a parser that rests, for the next that works. At most one: those of jobs that wait for the network, hundreds, would be most of a worker's
 * memory, and one job computes at a time. */
std::atomic<index_room *> spare;

} // namespace

struct df_record_parser {
	index_room *room; /* NULL: resting, or nothing was parsed yet */
	size_t max_record;
	struct df_record_keys keys;
	struct df_field *field; /* scratch */
	size_t n_field, cap_field;
};

namespace
{

enum df_err reserve_index(struct df_record_parser *parser, size_t n)
{
	if (!parser->room)
		parser->room = spare.exchange(nullptr);
	if (!parser->room)
		parser->room = new (std::nothrow) index_room();
	index_room *r = parser->room;
	if (!r)
		return DF_ERR_NOMEM;
	if (r->impl && n <= r->capacity && (r->capacity <= KEEP_CAPACITY || n > KEEP_CAPACITY / 2))
		return DF_OK;
	size_t capacity = 16 << 10;
	while (capacity < n)
		capacity *= 2;
	r->impl.reset();
	r->capacity = 0;
	if (simdjson::get_active_implementation()->create_dom_parser_implementation(capacity, 1, r->impl) !=
	    simdjson::SUCCESS)
		return DF_ERR_NOMEM;
	r->capacity = capacity;
	return DF_OK;
}

/* Stage 1; its coarse answers become a class and a place. */
enum df_err find_structure(struct df_record_parser *parser, struct df_str raw, struct df_fail *fail)
{
	if (raw.n > parser->max_record)
		return df_fail(fail, DF_ERR_LIMIT, "a record of %zu bytes, longer than max-record=%zu", raw.n,
			       parser->max_record);
	if (raw.n == 0)
		return df_fail(fail, DF_ERR_PARSE, "an empty record");
	if (reserve_index(parser, raw.n) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for a record of %zu bytes", raw.n);
	simdjson::error_code code = parser->room->impl->stage1(reinterpret_cast<const uint8_t *>(raw.p), raw.n,
							       simdjson::stage1_mode::regular);
	if (code == simdjson::SUCCESS)
		return DF_OK;
	size_t fault = df_str_utf8_prefix(raw);
	if (fault < raw.n)
		return df_fail(fail, DF_ERR_UTF8, "invalid UTF-8 at byte %zu", fault);
	if (code == simdjson::UNCLOSED_STRING)
		return df_fail(fail, DF_ERR_PARSE, "invalid JSON: a string is not closed");
	if (code == simdjson::UNESCAPED_CHARS)
		return df_fail(fail, DF_ERR_PARSE, "invalid JSON: a control character inside a string");
	if (code == simdjson::EMPTY)
		return df_fail(fail, DF_ERR_PARSE, "an empty record");
	return df_fail(fail, DF_ERR_PARSE, "invalid JSON: %s", simdjson::error_message(code));
}

/* The escapes of the text, an id and of keys are checked here, while they are copied. */
enum df_err unescape(const walk &w, struct df_str inside, struct df_arena *arena, struct df_str *ret_text)
{
	char *copy = static_cast<char *>(df_arena_alloc(arena, inside.n + DF_ESCAPE_SLACK));
	if (!copy)
		return df_fail(w.fail, DF_ERR_NOMEM, "out of memory for a text of %zu bytes", inside.n);
	const char *fault = nullptr;
	size_t n = 0;
	enum df_escape err = df_escape_copy(inside, copy, &n, &fault);
	if (err != DF_ESCAPE_OK)
		return w.refuse_escape(err, fault);
	*ret_text = {copy, n};
	return DF_OK;
}

enum df_err unescape_string(const walk &w, size_t i, struct df_arena *arena, struct df_str *ret_text)
{
	struct df_str inside = {nullptr, 0};
	bool escaped = false;
	DF_TRY(w.string(i, &inside, &escaped));
	if (escaped)
		return unescape(w, inside, arena, ret_text);
	*ret_text = inside;
	return DF_OK;
}

enum df_err add_field(struct df_record_parser *parser, struct df_str key, struct df_str raw, struct df_fail *fail)
{
	if (parser->n_field == DF_JSON_FIELDS)
		return df_fail(fail, DF_ERR_LIMIT, "more than %d members in one record", DF_JSON_FIELDS);
	if (parser->n_field == parser->cap_field) {
		size_t cap = parser->cap_field ? parser->cap_field * 2 : 32;
		void *grown = realloc(parser->field, cap * sizeof(*parser->field));
		if (!grown)
			return df_fail(fail, DF_ERR_NOMEM, "out of memory for the members of a record");
		parser->field = static_cast<struct df_field *>(grown);
		parser->cap_field = cap;
	}
	parser->field[parser->n_field++] = {key, raw};
	return DF_OK;
}

/* What the members say, before any of it goes into the document. */
struct findings {
	size_t text_field = SIZE_MAX, id_field = SIZE_MAX;
	struct df_str text = {nullptr, 0};
	struct df_str id = {nullptr, 0};
};

enum df_err one_member(struct df_record_parser *parser, const walk &w, size_t &i, struct df_arena *arena,
		       findings &found)
{
	struct df_str key;
	if (w.at(i) != '"')
		return w.refuse(w.place(i), "a key in quotes is expected");
	DF_TRY(unescape_string(w, i, arena, &key));
	if (w.at(++i) != ':')
		return w.refuse(w.place(i), "':' is expected behind a key");
	size_t first = ++i;
	bool is_text = df_str_eq(key, parser->keys.text), is_id = df_str_eq(key, parser->keys.id);
	if (is_text) {
		found.text_field = parser->n_field;
		found.text = {nullptr, 0};
	}
	if (is_id)
		found.id_field = parser->n_field;
	if (is_text && w.at(first) == '"') {
		DF_TRY(unescape_string(w, first, arena, &found.text));
		i++;
	} else {
		DF_TRY(w.value(i, 1));
	}
	return add_field(parser, key, w.span(first, i), w.fail);
}

enum df_err all_members(struct df_record_parser *parser, const walk &w, size_t &i, struct df_arena *arena,
			findings &found)
{
	i++;
	if (w.at(i) == '}') {
		i++;
		return DF_OK;
	}
	for (;;) {
		DF_TRY(one_member(parser, w, i, arena, found));
		char c = w.at(i++);
		if (c == '}')
			return DF_OK;
		if (c != ',')
			return w.refuse(w.place(i - 1), "',' or '}' is expected");
	}
}

enum df_err read_id(const walk &w, struct df_str raw, struct df_arena *arena, struct df_str *ret_id)
{
	if (raw.p[0] != '"') {
		*ret_id = raw;
		return DF_OK;
	}
	struct df_str inside = {raw.p + 1, raw.n - 2};
	if (memchr(inside.p, '\\', inside.n))
		return unescape(w, inside, arena, ret_id);
	*ret_id = inside;
	return DF_OK;
}

/* Is each of the right type? The document already has its members. */
enum df_err judge(const walk &w, const struct df_record_keys *keys, const findings &found, struct df_arena *arena,
		  struct df_doc *doc)
{
	if (found.id_field != SIZE_MAX) {
		struct df_str raw = doc->field[found.id_field].raw;
		if (raw.p[0] == '"' || raw.p[0] == '-' || is_digit(raw.p[0])) {
			DF_TRY(read_id(w, raw, arena, &doc->id));
			doc->id_raw = raw;
		} else if (raw.p[0] != 'n') {
			return df_fail(w.fail, DF_ERR_TYPE, "%.*s is not a string or a number but %s",
				       DF_STR_ARG(keys->id), type_name(raw.p[0]));
		}
	}
	if (found.text_field == SIZE_MAX && keys->text_optional) {
		doc->text = {"", 0};
		return DF_OK;
	}
	if (found.text_field == SIZE_MAX)
		return df_fail(w.fail, DF_ERR_TYPE, "no key '%.*s'", DF_STR_ARG(keys->text));
	if (!found.text.p)
		return df_fail(w.fail, DF_ERR_TYPE, "%.*s is not a string but %s", DF_STR_ARG(keys->text),
			       type_name(doc->field[found.text_field].raw.p[0]));
	doc->text = found.text;
	return DF_OK;
}

enum df_err fill(struct df_record_parser *parser, const findings &found, struct df_arena *arena, struct df_doc *doc,
		 struct df_fail *fail)
{
	struct df_field *field =
		static_cast<struct df_field *>(df_arena_array(arena, parser->n_field, sizeof(struct df_field)));
	if (!field)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the members of a record");
	if (parser->n_field)
		memcpy(field, parser->field, parser->n_field * sizeof(*field));
	doc->field = field;
	doc->n_field = parser->n_field;
	doc->text_field = found.text_field;
	doc->id_field = found.id_field;
	doc->id = {nullptr, 0};
	doc->id_raw = {nullptr, 0};
	doc->text = {nullptr, 0};
	return DF_OK;
}

/* Valid JSON that is no object is of a wrong type; anything else is no JSON. */
enum df_err refuse_top(const walk &w)
{
	size_t i = 0;
	DF_TRY(w.value(i, 0));
	if (i != w.n_index)
		return w.refuse(w.place(i), "something follows the value");
	return df_fail(w.fail, DF_ERR_TYPE, "not a JSON object but %s", type_name(w.at(0)));
}

} // namespace

extern "C" enum df_err df_record_parser_create(struct df_record_keys keys, size_t max_record,
					       struct df_record_parser **ret_parser)
{
	if (max_record > DF_RECORD_BYTES_MAX)
		return DF_ERR_LIMIT;
	struct df_record_parser *parser = new (std::nothrow) df_record_parser();
	if (!parser)
		return DF_ERR_NOMEM;
	parser->keys = keys;
	parser->max_record = max_record;
	*ret_parser = parser;
	return DF_OK;
}

extern "C" void df_record_parser_rest(struct df_record_parser *parser)
{
	if (parser->room)
		delete spare.exchange(parser->room);
	parser->room = nullptr;
}

extern "C" void df_record_parser_destroy(struct df_record_parser **parser)
{
	if (!*parser)
		return;
	delete (*parser)->room;
	free((*parser)->field);
	delete *parser;
	*parser = nullptr;
}

extern "C" enum df_err df_record_parse(struct df_record_parser *parser, struct df_str raw, struct df_arena *arena,
				       struct df_doc *doc, struct df_fail *fail)
{
	doc->raw = raw;
	DF_TRY(find_structure(parser, raw, fail));
	const auto &impl = *parser->room->impl;
	walk w = {raw.p, raw.n, impl.structural_indexes.get(), impl.n_structural_indexes, fail};
	if (w.at(0) != '{')
		return refuse_top(w);
	findings found;
	size_t i = 0;
	parser->n_field = 0;
	DF_TRY(all_members(parser, w, i, arena, found));
	if (i != w.n_index)
		return w.refuse(w.place(i), "something follows the object");
	DF_TRY(fill(parser, found, arena, doc, fail));
	return judge(w, &parser->keys, found, arena, doc);
}

extern "C" bool df_record_utf8(struct df_str s)
{
	return s.n == 0 || simdjson::validate_utf8(s.p, s.n);
}

extern "C" enum df_err df_record_from_text(struct df_str bytes, struct df_doc *doc, struct df_fail *fail)
{
	if (!df_record_utf8(bytes))
		return df_fail(fail, DF_ERR_UTF8, "invalid UTF-8 at byte %zu", df_str_utf8_prefix(bytes));
	doc->raw = bytes;
	doc->text = bytes;
	doc->field = nullptr;
	doc->n_field = 0;
	doc->text_field = SIZE_MAX;
	doc->id_field = SIZE_MAX;
	return DF_OK;
}
