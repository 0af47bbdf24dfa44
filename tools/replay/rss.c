// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "rss.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line such as "VmHWM:     1234 kB" of /proc/self/status, in bytes; 0 if it is not there. */
static uint64_t status_bytes(const char *field) {
    FILE *status = fopen("/proc/self/status", "re");
    if (status == NULL) return 0;
    char line[256];
    uint64_t bytes = 0;
    size_t len = strlen(field);
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, field, len) != 0 || line[len] != ':') continue;
        bytes = strtoull(line + len + 1, NULL, 10) * 1024;
        break;
    }
    fclose(status);
    return bytes;
}

static bool reset_kernel_peak(void) {
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = write(fd, "5", 1) == 1;
    close(fd);
    return ok;
}

void rss_start(rss_peak *peak) {
    malloc_trim(0); /* what the program itself has freed, such as the table of keys, is not this run's */
    *peak = (rss_peak){.from_kernel = reset_kernel_peak()};
    rss_sample(peak);
}

void rss_sample(rss_peak *peak) {
    if (peak->from_kernel) return;
    uint64_t now = status_bytes("VmRSS");
    if (now > peak->bytes) peak->bytes = now;
}

uint64_t rss_read(rss_peak *peak) {
    if (peak->from_kernel) return status_bytes("VmHWM");
    rss_sample(peak);
    return peak->bytes;
}
