// SPDX-License-Identifier: Apache-2.0
/* exit: what docflume's exit codes mean. */
#ifndef DF_BASE_EXIT_H
#define DF_BASE_EXIT_H

enum df_exit {
	DF_EXIT_OK = 0,
	DF_EXIT_FATAL = 1,
	DF_EXIT_USAGE = 2,
	DF_EXIT_REJECTS = 3,  /* done; some documents or sources were rejected */
	DF_EXIT_QUOTA = 4,    /* a budget or a limit of the day is used up; the same command goes on */
	DF_EXIT_STOPPED = 75, /* stopped early; the same command goes on */
};

#endif
