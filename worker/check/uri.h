// SPDX-License-Identifier: Apache-2.0
/* uri: references resolved against a base (RFC 3986, section 5), as far as names of schemas need it. Nothing is ever fetched. */
#ifndef DF_WORKER_CHECK_URI_H
#define DF_WORKER_CHECK_URI_H

#include "base/arena.h"
#include "base/str.h"

/* `base` is absolute and has no fragment. p is NULL when memory is out. */
struct df_str df_uri_resolve(struct df_str base, struct df_str reference, struct df_arena *arena);
/* Cut at the first '#': the part before it, and what is behind it (p NULL: no '#'). */
void df_uri_split(struct df_str uri, struct df_str *ret_main, struct df_str *ret_fragment);
/* %41 becomes A; what is no escape stays. p is NULL when memory is out. */
struct df_str df_uri_decode(struct df_str s, struct df_arena *arena);

#endif
