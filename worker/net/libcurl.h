// SPDX-License-Identifier: Apache-2.0
/*
 * libcurl: loaded when the first pipeline needs it, not at each start of the program. It brings 22 libraries along (TLS, Kerberos, LDAP, ...), which
 * take longer to load than all that `docflume --help` does, and memory in each process that never calls out.
 */
#ifndef DF_WORKER_NET_LIBCURL_H
#define DF_WORKER_NET_LIBCURL_H

#define CURL_DISABLE_TYPECHECK /* its macros know functions, not pointers to them */
#include <curl/curl.h>

#include "base/err.h"

#define DF_LIBCURL_FUNCTIONS(F)                                                                                        \
	F(easy_cleanup)                                                                                                \
	F(easy_getinfo)                                                                                                \
	F(easy_init)                                                                                                   \
	F(easy_setopt)                                                                                                 \
	F(easy_strerror)                                                                                               \
	F(global_cleanup)                                                                                              \
	F(global_init)                                                                                                 \
	F(multi_add_handle)                                                                                            \
	F(multi_cleanup)                                                                                               \
	F(multi_info_read)                                                                                             \
	F(multi_init)                                                                                                  \
	F(multi_remove_handle)                                                                                         \
	F(multi_setopt)                                                                                                \
	F(multi_socket_action)                                                                                         \
	F(share_cleanup)                                                                                               \
	F(share_init)                                                                                                  \
	F(share_setopt)                                                                                                \
	F(version_info)

struct df_libcurl {
#define DF_LIBCURL_POINTER(name) __typeof__(&curl_##name) name;
	DF_LIBCURL_FUNCTIONS(DF_LIBCURL_POINTER)
#undef DF_LIBCURL_POINTER
};

/* All NULL until df_http_load (http.h). */
extern struct df_libcurl df_curl;

#endif
