// SPDX-License-Identifier: Apache-2.0
/* examples: for each kind of reject one document with its reason, at a run's end. */
#ifndef DF_COORDINATOR_SHOW_EXAMPLES_H
#define DF_COORDINATOR_SHOW_EXAMPLES_H

#include "base/map.h"

/* One line (log) for each kind in the totals, in the order of their names. */
void df_examples_tell(const struct df_map *totals);

#endif
