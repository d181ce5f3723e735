// SPDX-License-Identifier: Apache-2.0
/*
 * url: base URLs, and names of variables that hold keys, judged where a user wrote them and before anything starts: in a pipeline, in models.yaml, in the
 * environment. Pure. A base URL is http(s)://HOST[:PORT][/PATH] with a host of letters, digits, '-', '_', '.' and bytes beyond ASCII, or an IPv6 address
 * in brackets; a user, a password, a query and a fragment do not belong there, since URLs are written down.
 */
#ifndef DF_BASE_URL_H
#define DF_BASE_URL_H

#include "base/err.h"
#include "base/str.h"

/* `what` begins the message: "option 'base_url'". It does not repeat what may be a secret. DF_ERR_USAGE. */
enum df_err df_url_check(const char *what, struct df_str url, struct df_fail *fail) DF_MUST_CHECK;
/* Is it a variable's name: letters, digits and '_', no digit first? (a key itself seldom is) */
bool df_url_is_variable(struct df_str name);
/* For messages: without user, password, query and fragment, cut at a character's border; also of a path alone. */
void df_url_show(struct df_str url, char *to, size_t size);

#endif
