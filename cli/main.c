// SPDX-License-Identifier: Apache-2.0
/* main: the program; all of it but the standard descriptors is in cli.c, so that tests can link it. */
#include <fcntl.h>
#include <unistd.h>

#include "cli/commands.h"

/*
 * A shell's `<&-`, `>&-` or `2>&-` leaves 0, 1 or 2 free: the next file opened would get that number, and what is meant for
 * people or for stdout would be written into it (a journal, a lock, a socket). Each is taken by /dev/null the wrong way
 * round, so that using it still fails as a closed one does; stderr alone swallows what it is given.
 */
static void take_standard_descriptors(void)
{
	static const int flags[] = {O_WRONLY, O_RDONLY, O_WRONLY};
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", flags[fd]) != fd)
			_exit(1); /* the lowest free number is fd, unless /dev/null is not there: nobody to tell */
}

int main(int argc, char **argv)
{
	take_standard_descriptors();
	return df_cli_main(argc, argv);
}
