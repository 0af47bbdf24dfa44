// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The one table of system calls. Nothing else in the library talks to the kernel (but for libc's mutexes). */
#ifndef NM_SRC_OS_OS_H
#define NM_SRC_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The unit of commit and decommit. Systems with larger pages are refused at the opening of a root. */
#define NM__PAGE_BYTES ((size_t)4096)

typedef struct nm__os {
    /* Address space, no memory: not accessible until committed. `align` is a power of two. NULL: refused. */
    void *(*reserve)(size_t bytes, size_t align);
    void (*unreserve)(void *address, size_t bytes);
    /* Makes pages readable and writable; they are zero if never committed before or decommitted since. Committing what is
     * committed is allowed. False: refused, nothing changed. */
    bool (*commit)(void *address, size_t bytes);
    /* Gives the pages back to the system; the addresses stay reserved. False: refused, the pages are as they were. */
    bool (*decommit)(void *address, size_t bytes);
    /* Leaves the pages out of core dumps, for as long as they are reserved. False: the kernel cannot. */
    bool (*keep_out_of_dumps)(void *address, size_t bytes);
    /* Wishes for huge pages there; for the range's address and size multiples of 2 MiB. False: the system has none. */
    bool (*use_huge_pages)(void *address, size_t bytes);
    /* What is committed there becomes huge pages now, its contents kept, also of pages that were used before. False: the system
     * cannot. */
    bool (*make_huge_pages)(void *address, size_t bytes);
    uint64_t (*clock_ns)(void);        /* monotonic */
    uint64_t (*clock_coarse_ms)(void); /* monotonic, a few milliseconds coarse, cheap */
    bool (*random)(void *out, size_t bytes);
    size_t (*page_bytes)(void);
    uint64_t (*physical_bytes)(void); /* 0: unknown */
    /* What stands in the file from `offset` on, fewer than `bytes` only at its end. 0: no more, no such file, not for us.
     * -1: the system has no descriptor or memory left to look. */
    ptrdiff_t (*read_file)(const char *path, uint64_t offset, char *out, size_t bytes);
    /* For reading and writing, not blocking, closed at exec. -1, with errno: refused. */
    int (*open_file)(const char *path);
    bool (*write_file)(int file, const void *from, size_t bytes); /* in one piece; false, with errno: refused */
    void (*close_file)(int file);
    /* Returns when every other thread of the process has passed a full memory barrier, or has not run meanwhile. False: the
     * system has no such call. Costs a fraction of a microsecond, and an interrupt of every processor that runs one. */
    bool (*barrier)(void);
    /* Sleeps while *word is `value`, at most `timeout_ns`; may return earlier. UINT64_MAX: for ever. */
    void (*wait)(const uint32_t *word, uint32_t value, uint64_t timeout_ns);
    /* Wakes one that sleeps on the word, which may lie in memory that is gone already. */
    void (*wake)(const uint32_t *word);
    void (*yield)(void); /* lets another thread run */
    /* A descriptor that is readable once signalled, until 8 bytes are read or it is cleared. -1: refused. */
    int (*event_open)(void);
    void (*event_signal)(int event);
    void (*event_clear)(int event);
} nm__os;

/* The table in force: the system's, until a test replaces it (NULL: brings the system's back). */
extern const nm__os nm__os_system;
const nm__os *nm__os_get(void);
void nm__os_replace(const nm__os *table);

#endif
