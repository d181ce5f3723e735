// SPDX-License-Identifier: Apache-2.0
/* test_url: base URLs that are ones, what is said of others, and what of a URL may be shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/url.h"

static void test_check__takes_what_leads_somewhere(void **state)
{
	static const char *const good[] = {
		"http://h",          "https://api.example-x.com/v1",  "http://127.0.0.1:1/v1",
		"http://h:65535",    "http://gpu_1:8000/v1/",         "http://[::1]/v1",
		"http://[::1]:8000", "http://[fe80::1%25eth0]:80/v1", "http://\xc3\xbc-cher.example/a:b/c"};
	struct df_fail fail = {.msg = ""};
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (df_url_check("it", df_str_from(good[i]), &fail) != DF_OK)
			fail_msg("%s: %s", good[i], fail.msg);
}

static void test_check__says_what_is_wrong(void **state)
{
	static const struct {
		const char *url, *words;
	} bad[] = {{"", "it is neither http:// nor https://"},
		   {"htp://x", "neither"},
		   {"h:80", "neither"},
		   {"http://", "no host"},
		   {"http:///v1", "no host"},
		   {"http://:80", "no host"},
		   {"http://h:", "the port ''"},
		   {"http://h:0", "the port '0'"},
		   {"http://h:65536", "the port '65536'"},
		   {"http://h:000080", "the port '000080'"},
		   {"http://h:8o/v1", "the port '8o'"},
		   {"http://h:-1", "the port '-1'"},
		   {"http://[::1:18201", "'[' without its ']'"},
		   {"http://[]", "no IPv6"},
		   {"http://[%25eth0]", "no IPv6"},
		   {"http://[1.2.3.4]", "no IPv6"},
		   {"http://[::1]80", "behind the ']'"},
		   {"http://[::1]:", "the port ''"},
		   {"http://::1:80/v1", "more than one ':'"},
		   {"http://a<b", "no name of a host"},
		   {"http://a%41b", "no name of a host"},
		   {"http://a b", "a blank"},
		   {"http://h/\n", "a blank"},
		   {"http://u:hunter2@h", "a blank, '@'"},
		   {"http://h?hunter2", "'?'"},
		   {"http://h:hunter2#x", "'#'"}};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct df_fail fail = {.msg = ""};
		if (df_url_check("it", df_str_from(bad[i].url), &fail) != DF_ERR_USAGE ||
		    !strstr(fail.msg, bad[i].words) || strstr(fail.msg, "hunter2"))
			fail_msg("%s: %s", bad[i].url, fail.msg);
	}
}

static void test_show__hides_what_may_be_a_secret(void **state)
{
	static const struct {
		const char *url, *shown;
	} row[] = {{"https://h/v1", "https://h/v1"},
		   {"https://u:p@h:80/v1?key=s#t", "https://h:80/v1"},
		   {"https://u:p@q@h", "https://h"},
		   {"//u:p@h/x", "//h/x"},
		   {"/v2/chat?next=http://u:p@h", "/v2/chat"},
		   {"https://h/a@b", "https://h/a@b"},
		   {"?s", ""},
		   {"", ""}};
	char z[300];
	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		df_url_show(df_str_from(row[i].url), z, sizeof(z));
		assert_string_equal(z, row[i].shown);
	}
	df_url_show((struct df_str){NULL, 0}, z, sizeof(z));
	assert_string_equal(z, "");
}

static void test_show__is_cut_at_any_size(void **state)
{
	static const char url[] = "https://u:p@\xc3\xbc-cher.example/v1?x";
	char z[64];
	(void)state;
	for (size_t size = 1; size < sizeof(z); size++) {
		memset(z, 'x', sizeof(z));
		df_url_show(df_str_from(url), z, size);
		struct df_str shown = df_str_from(z);
		assert_true(shown.n < size && df_str_utf8_prefix(shown) == shown.n);
		assert_memory_equal(z, "https://\xc3\xbc-cher.example/v1", shown.n);
	}
}

static void test_variable__is_no_key(void **state)
{
	(void)state;
	assert_true(df_url_is_variable(DF_STR("OPENAI_API_KEY")) && df_url_is_variable(DF_STR("_x9")));
	assert_false(df_url_is_variable(DF_STR("sk-abc")) || df_url_is_variable(DF_STR("9X")) ||
		     df_url_is_variable(DF_STR("")) || df_url_is_variable(DF_STR("A=B")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check__takes_what_leads_somewhere),
		cmocka_unit_test(test_check__says_what_is_wrong),
		cmocka_unit_test(test_show__hides_what_may_be_a_secret),
		cmocka_unit_test(test_show__is_cut_at_any_size),
		cmocka_unit_test(test_variable__is_no_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
