// SPDX-License-Identifier: Apache-2.0
/* descriptors: the limit of open files, raised or refused. */
#include "coordinator/children/descriptors.h"

#include <sys/resource.h>

#include "base/limits.h"

enum df_err df_descriptors_provide(uint64_t n_worker, struct df_fail *fail)
{
	struct rlimit limit;
	rlim_t need = DF_DESCRIPTORS_OWN + ((rlim_t)n_worker + DF_READERS_MAX) * DF_DESCRIPTORS_PER_CHILD;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need)
		return DF_OK;
	limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
	if (limit.rlim_cur < need || setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return df_fail(fail, DF_ERR_LIMIT,
			       "%llu workers need %llu open files, and the limit is %llu: raise it (ulimit -n) or use "
			       "fewer (-j)",
			       (unsigned long long)n_worker, (unsigned long long)need,
			       (unsigned long long)limit.rlim_max);
	return DF_OK;
}
