// SPDX-License-Identifier: Apache-2.0
/* libcurl: the library's functions by name, once for the life of the process. */
#include "worker/net/libcurl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "worker/net/http.h"

#define SONAME "libcurl.so.4"

struct df_libcurl df_curl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct df_fail why;

static void load(void)
{
	void *library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		(void)df_fail(&why, DF_ERR_UNSUPPORTED, "calls need libcurl, which cannot be loaded: %s", dlerror());
		return;
	}
	struct df_libcurl found = {0};
	void *at; /* POSIX has a function's address in an object pointer here; C has no cast for it */
#define LOOK_UP(name)                                                                                                  \
	at = dlsym(library, "curl_" #name);                                                                            \
	memcpy(&found.name, &at, sizeof(at));                                                                          \
	if (!at) {                                                                                                     \
		(void)df_fail(&why, DF_ERR_UNSUPPORTED, "this machine's " SONAME " has no curl_" #name "()");          \
		(void)dlclose(library);                                                                                \
		return;                                                                                                \
	}
	DF_LIBCURL_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
	df_curl = found; /* never unloaded: its libraries keep threads' memory */
}

enum df_err df_http_load(struct df_fail *fail)
{
	(void)pthread_once(&once, load);
	return why.code == DF_OK ? DF_OK : df_fail(fail, why.code, "%s", why.msg);
}
