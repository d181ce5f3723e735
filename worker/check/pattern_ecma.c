// SPDX-License-Identifier: Apache-2.0
/* pattern_ecma: a regular expression of ECMA-262 written anew for PCRE2, character by character. */
#include <string.h>

#include "worker/check/schema_pattern.h"

#define SPACE "\\p{Xsp}\\x{FEFF}" /* ECMA's WhiteSpace and LineTerminator */

struct reader {
	struct df_str text;
	size_t at;
	struct df_buf *out;
	struct df_fail *fail;
};

/* General categories by their long names; ECMA knows both. */
static const char *const categories[] = {
	"Letter",
	"L",
	"Cased_Letter",
	"L&",
	"Uppercase_Letter",
	"Lu",
	"Lowercase_Letter",
	"Ll",
	"Titlecase_Letter",
	"Lt",
	"Modifier_Letter",
	"Lm",
	"Other_Letter",
	"Lo",
	"Mark",
	"M",
	"Combining_Mark",
	"M",
	"Nonspacing_Mark",
	"Mn",
	"Spacing_Mark",
	"Mc",
	"Enclosing_Mark",
	"Me",
	"Number",
	"N",
	"Decimal_Number",
	"Nd",
	"digit",
	"Nd",
	"Letter_Number",
	"Nl",
	"Other_Number",
	"No",
	"Punctuation",
	"P",
	"punct",
	"P",
	"Connector_Punctuation",
	"Pc",
	"Dash_Punctuation",
	"Pd",
	"Open_Punctuation",
	"Ps",
	"Close_Punctuation",
	"Pe",
	"Initial_Punctuation",
	"Pi",
	"Final_Punctuation",
	"Pf",
	"Other_Punctuation",
	"Po",
	"Symbol",
	"S",
	"Math_Symbol",
	"Sm",
	"Currency_Symbol",
	"Sc",
	"Modifier_Symbol",
	"Sk",
	"Other_Symbol",
	"So",
	"Separator",
	"Z",
	"Space_Separator",
	"Zs",
	"Line_Separator",
	"Zl",
	"Paragraph_Separator",
	"Zp",
	"Other",
	"C",
	"Control",
	"Cc",
	"cntrl",
	"Cc",
	"Format",
	"Cf",
	"Surrogate",
	"Cs",
	"Private_Use",
	"Co",
	"Unassigned",
	"Cn",
	NULL,
};

static enum df_err bad(const struct reader *r, const char *what)
{
	return df_fail(r->fail, DF_ERR_USAGE, "the pattern '%.*s': %s at character %zu",
		       (int)(r->text.n < 120 ? r->text.n : 120), r->text.p, what, r->at + 1);
}

static char here(const struct reader *r, size_t ahead)
{
	return r->at + ahead < r->text.n ? r->text.p[r->at + ahead] : '\0';
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* `n` hex digits from `ahead`; -1: they are not. */
static int64_t hex_number(const struct reader *r, size_t ahead, size_t n)
{
	int64_t v = 0;
	for (size_t i = 0; i < n; i++) {
		int d = hex(here(r, ahead + i));
		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static enum df_err put_char(struct reader *r, int64_t c)
{
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return bad(r, "half a surrogate pair or no character");
	return df_buf_addf(r->out, "\\x{%llX}", (unsigned long long)c);
}

/* At "\u". */
static enum df_err unicode_escape(struct reader *r)
{
	int64_t c = hex_number(r, 2, 4), low = -1;
	if (here(r, 2) == '{') {
		size_t n = 0;
		while (hex(here(r, 3 + n)) >= 0 && n < 8)
			n++;
		if (n == 0 || here(r, 3 + n) != '}')
			return bad(r, "\\u{...} needs hex digits");
		c = hex_number(r, 3, n);
		DF_TRY(put_char(r, c));
		r->at += n + 4;
		return DF_OK;
	}
	if (c < 0)
		return bad(r, "\\u needs four hex digits");
	if (c >= 0xd800 && c <= 0xdbff && here(r, 6) == '\\' && here(r, 7) == 'u')
		low = hex_number(r, 8, 4);
	if (low >= 0xdc00 && low <= 0xdfff) {
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		r->at += 6;
	}
	DF_TRY(put_char(r, c));
	r->at += 6;
	return DF_OK;
}

/* At "\p{" or "\P{". */
static enum df_err property(struct reader *r)
{
	size_t n = 0;
	const char *name = r->text.p + r->at + 3;
	while (here(r, 3 + n) && here(r, 3 + n) != '}')
		n++;
	if (here(r, 2) != '{' || n == 0 || here(r, 3 + n) != '}')
		return bad(r, "\\p needs {a name}");
	struct df_str word = {name, n};
	const char *equals = memchr(name, '=', n);
	if (equals) {
		struct df_str key = {name, (size_t)(equals - name)};
		word = (struct df_str){equals + 1, n - key.n - 1};
		if (df_str_is(key, "Script") || df_str_is(key, "sc"))
			(void)df_buf_addf(r->out, "\\%c{sc:%.*s}", here(r, 1), (int)word.n, word.p);
		else if (df_str_is(key, "Script_Extensions") || df_str_is(key, "scx"))
			(void)df_buf_addf(r->out, "\\%c{scx:%.*s}", here(r, 1), (int)word.n, word.p);
		else if (!df_str_is(key, "General_Category") && !df_str_is(key, "gc"))
			return bad(r, "an unknown property");
		else
			equals = NULL;
	}
	if (!equals) {
		for (size_t i = 0; categories[i]; i += 2)
			if (df_str_is(word, categories[i]))
				word = df_str_from(categories[i + 1]);
		(void)df_buf_addf(r->out, "\\%c{%.*s}", here(r, 1), (int)word.n, word.p);
	}
	r->at += n + 4;
	return df_buf_err(r->out);
}

static enum df_err as_it_is(struct reader *r, size_t n)
{
	DF_TRY(df_buf_add(r->out, r->text.p + r->at, n));
	r->at += n;
	return DF_OK;
}

static enum df_err instead(struct reader *r, size_t n, const char *z)
{
	r->at += n;
	return df_buf_addz(r->out, z);
}

/* At '\'. */
static enum df_err escape(struct reader *r, bool in_class)
{
	char c = here(r, 1);
	if (c == 's')
		return instead(r, 2, in_class ? SPACE : "[" SPACE "]");
	if (c == 'S')
		return instead(r, 2, in_class ? "\\P{Xsp}" : "[^" SPACE "]");
	if (c == 'u')
		return unicode_escape(r);
	if (c == 'p' || c == 'P')
		return property(r);
	if (c == 'b' && in_class)
		return instead(r, 2, "\\x08");
	if (c == 'v')
		return instead(r, 2, "\\x0B");
	if (c == '0' && !(here(r, 2) >= '0' && here(r, 2) <= '9'))
		return instead(r, 2, "\\x00");
	if (c == 'x' && hex_number(r, 2, 2) >= 0) {
		DF_TRY(put_char(r, hex_number(r, 2, 2)));
		r->at += 4;
		return DF_OK;
	}
	if (c == 'c' && ((here(r, 2) | 32) >= 'a') && ((here(r, 2) | 32) <= 'z'))
		return as_it_is(r, 3);
	if (c == 'k' && !in_class && here(r, 2) == '<')
		return as_it_is(r, 2);
	if (c && strchr("dDwWfnrt", c))
		return as_it_is(r, 2);
	if (!in_class && (c == 'b' || c == 'B'))
		return as_it_is(r, 2);
	if (!in_class && c >= '1' && c <= '9')
		return as_it_is(r, 2);
	if (c && (unsigned char)c < 0x80 && !(c >= '0' && c <= '9') && !((c | 32) >= 'a' && (c | 32) <= 'z'))
		return as_it_is(r, 2); /* the character itself */
	return bad(r, "an escape that ECMA-262 does not have");
}

/* At '[': up to its ']'. PCRE2's own [:names:] are no more than characters here. */
static enum df_err class_(struct reader *r)
{
	DF_TRY(as_it_is(r, here(r, 1) == '^' ? 2 : 1));
	if (here(r, 0) == ']') /* nothing, or anything */
		return as_it_is(r, 1);
	while (r->at < r->text.n) {
		char c = here(r, 0);
		if (c == ']')
			return as_it_is(r, 1);
		if (c == '\\')
			DF_TRY(escape(r, true));
		else if (c == '[')
			DF_TRY(instead(r, 1, "\\["));
		else
			DF_TRY(as_it_is(r, 1));
	}
	return bad(r, "']' is missing");
}

/* At '('. */
static enum df_err group(struct reader *r)
{
	if (here(r, 1) == '*')
		return bad(r, "nothing to repeat");
	if (here(r, 1) != '?')
		return as_it_is(r, 1);
	char c = here(r, 2), d = here(r, 3);
	if (c == ':' || c == '=' || c == '!')
		return as_it_is(r, 3);
	bool named = (d | 32) >= 'a' && (d | 32) <= 'z';
	if (c == '<' && (d == '=' || d == '!' || d == '_' || named))
		return as_it_is(r, 4);
	return bad(r, "a group that ECMA-262 does not have");
}

/* The length of a quantifier here, or 0. */
static size_t quantifier(const struct reader *r)
{
	size_t n = 1;
	char c = here(r, 0);
	if (c == '*' || c == '+' || c == '?')
		return 1;
	if (c != '{' || !(here(r, 1) >= '0' && here(r, 1) <= '9'))
		return 0;
	while ((here(r, n) >= '0' && here(r, n) <= '9') || here(r, n) == ',')
		n++;
	return here(r, n) == '}' ? n + 1 : 0;
}

enum df_err df_pattern_translate(struct df_str text, struct df_buf *out, struct df_fail *fail)
{
	struct reader r = {text, 0, out, fail};
	while (r.at < text.n) {
		size_t n = quantifier(&r);
		char c = here(&r, 0);
		if (c == '\0')
			DF_TRY(instead(&r, 1, "\\x00"));
		else if (c == '\\')
			DF_TRY(escape(&r, false));
		else if (c == '[')
			DF_TRY(class_(&r));
		else if (c == '(')
			DF_TRY(group(&r));
		else if (c == '.')
			DF_TRY(instead(&r, 1, "[^\\n\\r\\x{2028}\\x{2029}]"));
		else if (n)
			DF_TRY(as_it_is(&r, n + (here(&r, n) == '?')));
		else
			DF_TRY(as_it_is(&r, 1));
		if (n && quantifier(&r))
			return bad(&r, "nothing to repeat");
	}
	return df_buf_err(out);
}
