// SPDX-License-Identifier: Apache-2.0
/* status_text: a run as `docflume status` shows it, for people and as one JSON object. */
#ifndef DF_CLI_STATUS_TEXT_H
#define DF_CLI_STATUS_TEXT_H

#include "base/buf.h"
#include "coordinator/show/view.h"

/* Lines; none that a name from outside could forge. */
void df_status_add_text(const struct df_view *v, struct df_buf *out);
/* {"state", "directory", "pid", "epoch", "counts", "filtered", "rejected", "strikes", "sources", "live"} and a line break. */
void df_status_add_json(const struct df_view *v, struct df_buf *out);

#endif
