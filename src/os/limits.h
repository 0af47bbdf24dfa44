// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the system lets the process have: the limits of its control groups, physical memory, and word of pressure. */
#ifndef NM_SRC_OS_LIMITS_H
#define NM_SRC_OS_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

/* The least of physical memory and the limits of the process's control groups, those above them included, as far as they
 * can be seen from here. May be 0. False: nothing is known, or the system has no means left to look; a larger limit than
 * the true one would be worse than none. Takes 20 KiB of stack. */
bool nm__memory_limit(size_t *bytes);

/* A descriptor that polls with POLLPRI when memory is short: a trigger on the pressure of the process's own group, where
 * there is none on the system's. The caller's, to be closed by the table. -1, with errno: refused. */
int nm__pressure_open(void);

/* ---- the lines of the kernel's files, for limits.c and the tests ---------------------------------------------------- */

typedef enum nm__group_version { NM__GROUP_V1, NM__GROUP_V2 } nm__group_version;

/* The text of a limit's file; SIZE_MAX: it says "max", is no number, or is more than any machine has, which is how the first
 * version says "none". */
size_t nm__limit_value(const char *text);

/* A line of /proc/self/cgroup. Returns the group's path in that hierarchy (of the first version the one that counts memory),
 * NULL: the line is about another. */
const char *nm__group_line(const char *line, nm__group_version version);

/* A line of /proc/self/mountinfo, which is taken apart in place. True: that hierarchy is mounted at *point, from the group
 * *root on. */
bool nm__mount_line(char *line, nm__group_version version, char **root, char **point);

/* What follows `root` in `group`: "" or "/...". NULL: the group does not lie below it, or where is not to be seen from here
 * (".."). */
const char *nm__group_below(const char *group, const char *root);

#endif
