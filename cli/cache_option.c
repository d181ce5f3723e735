// SPDX-License-Identifier: Apache-2.0
/* cache_option: a folder, or a word for none. */
#include "cli/cache_option.h"

#include <strings.h>

static bool is_one_of(struct df_str s, const char *const *word)
{
	while (*word && (strlen(*word) != s.n || strncasecmp(*word, s.p, s.n) != 0))
		word++;
	return *word != NULL;
}

enum df_err df_cache_option(struct df_str given, bool *ret_no_cache, struct df_fail *fail)
{
	static const char *const no[] = {"no", "off", "none", "false", "never", "0", NULL};
	static const char *const yes[] = {"yes", "on", "true", "auto", "default", "1", NULL};
	if (given.n && is_one_of(given, yes))
		return df_fail(fail, DF_ERR_USAGE,
			       "'--cache " DF_STR_FMT "' is neither a folder nor 'no': answers are kept when it is not "
			       "given; a folder of that name is './" DF_STR_FMT "'",
			       DF_STR_ARG(given), DF_STR_ARG(given));
	*ret_no_cache = given.n && is_one_of(given, no);
	return DF_OK;
}
