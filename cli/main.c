// SPDX-License-Identifier: Apache-2.0
/* main: the program; all of it is in cli.c, so that tests can link it. */
#include "cli/commands.h"

int main(int argc, char **argv)
{
	return df_cli_main(argc, argv);
}
