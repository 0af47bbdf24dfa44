// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A table of system calls whose files are made of text. */
#ifndef NM_TESTS_SUPPORT_FAKE_FILES_H
#define NM_TESTS_SUPPORT_FAKE_FILES_H

#include <stddef.h>
#include <stdint.h>

typedef struct fake_file {
    const char *path, *text;
} fake_file;

/* A list of them, up to one without a path. */
#define FILES(...) ((const fake_file[]){__VA_ARGS__, {NULL, NULL}})

/* The files that tell of control groups, and lines of them. */
#define CGROUP     "/proc/self/cgroup"
#define MOUNTS     "/proc/self/mountinfo"
#define ROOT_MOUNT "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
#define V2_MOUNT   "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNTS                                                                                                      \
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"                                      \
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"

/* The first descriptor given out: none that a program of a few files has. */
enum { FAKE_FD = 1000 };

/* What there is, what is refused, what was done. */
typedef struct fake_system {
    const fake_file *files;
    uint64_t physical_bytes;
    uint64_t reads, fail_read;          /* the n-th read is refused; 0 = none */
    const char *no_open, *no_write;     /* paths that are refused, with EACCES and EOPNOTSUPP */
    int opened, closed;                 /* for writing */
    char tried[256], tried_before[256]; /* the paths of the last two opens */
    char written[64];
} fake_system;
extern fake_system fake;

/* Puts the table in force, everything else as at first. */
void fake_files_install(const fake_file *files, uint64_t physical_bytes);
void fake_files_remove(void);

#endif
