// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "os_counter.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"

/* Pages are tracked one by one, since committing what is committed is allowed and must not count twice. */
typedef struct range {
    struct range *next;
    unsigned char *base;
    size_t bytes;
    unsigned char *committed; /* a bit a page; grown as pages are touched, for ranges are large and mostly unused */
    size_t tracked_pages;
} range;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static range *ranges;
static size_t committed_bytes, reserved_bytes;
static uint64_t fail_in;
static bool failed;

static bool refuse_this(void) {
    if (fail_in == 0 || --fail_in != 0) return false;
    failed = true;
    return true;
}

static range *find(const void *address) {
    const unsigned char *p = address;
    range *r = ranges;
    while (r != NULL && !(p >= r->base && p < r->base + r->bytes)) r = r->next;
    if (r == NULL) {
        fprintf(stderr, "os_counter: %p was never reserved\n", address);
        abort();
    }
    return r;
}

static void mark(range *r, const void *address, size_t bytes, bool on) {
    size_t first = (size_t)((const unsigned char *)address - r->base) / NM__PAGE_BYTES;
    size_t end = first + bytes / NM__PAGE_BYTES;
    if (bytes % NM__PAGE_BYTES != 0 || (uintptr_t)address % NM__PAGE_BYTES != 0 || end * NM__PAGE_BYTES > r->bytes) {
        fprintf(stderr, "os_counter: %zu bytes at %p are not whole pages of a range\n", bytes, address);
        abort();
    }
    if (on && end > r->tracked_pages) {
        size_t pages = (end * 2 + 7) & ~(size_t)7;
        r->committed = realloc(r->committed, pages / 8);
        memset(r->committed + r->tracked_pages / 8, 0, pages / 8 - r->tracked_pages / 8);
        r->tracked_pages = pages;
    }
    for (size_t i = first; i < end && i < r->tracked_pages; i++) {
        bool was = (r->committed[i / 8] >> (i % 8) & 1) != 0;
        if (was == on) continue;
        r->committed[i / 8] ^= (unsigned char)(1u << (i % 8));
        committed_bytes += on ? NM__PAGE_BYTES : -NM__PAGE_BYTES;
    }
}

static void *counted_reserve(size_t bytes, size_t align) {
    pthread_mutex_lock(&lock);
    void *p = refuse_this() ? NULL : nm__os_system.reserve(bytes, align);
    if (p != NULL) {
        range *r = calloc(1, sizeof *r);
        r->base = p;
        r->bytes = bytes;
        r->next = ranges;
        ranges = r;
        reserved_bytes += bytes;
    }
    pthread_mutex_unlock(&lock);
    return p;
}

static void counted_unreserve(void *address, size_t bytes) {
    pthread_mutex_lock(&lock);
    range *r = find(address);
    if (r->base != address || r->bytes != bytes) {
        fprintf(stderr, "os_counter: %zu bytes at %p released, %zu at %p reserved\n", bytes, address, r->bytes,
                (void *)r->base);
        abort();
    }
    mark(r, address, bytes, false);
    range **link = &ranges;
    while (*link != r) link = &(*link)->next;
    *link = r->next;
    reserved_bytes -= bytes;
    free(r->committed);
    free(r);
    nm__os_system.unreserve(address, bytes);
    pthread_mutex_unlock(&lock);
}

static bool counted_commit(void *address, size_t bytes) {
    pthread_mutex_lock(&lock);
    bool done = !refuse_this() && nm__os_system.commit(address, bytes);
    if (done) mark(find(address), address, bytes, true);
    pthread_mutex_unlock(&lock);
    return done;
}

static bool counted_decommit(void *address, size_t bytes) {
    pthread_mutex_lock(&lock);
    bool done = !refuse_this() && nm__os_system.decommit(address, bytes);
    if (done) mark(find(address), address, bytes, false);
    pthread_mutex_unlock(&lock);
    return done;
}

static bool counted_random(void *out, size_t bytes) {
    pthread_mutex_lock(&lock);
    bool done = !refuse_this() && nm__os_system.random(out, bytes);
    pthread_mutex_unlock(&lock);
    return done;
}

static bool refuse_counted(void) {
    pthread_mutex_lock(&lock);
    bool refused = refuse_this();
    pthread_mutex_unlock(&lock);
    return refused;
}

static uint64_t counted_physical_bytes(void) { return refuse_counted() ? 0 : nm__os_system.physical_bytes(); }

static ptrdiff_t counted_read_file(const char *path, uint64_t offset, char *out, size_t bytes) {
    return refuse_counted() ? -1 : nm__os_system.read_file(path, offset, out, bytes);
}

static int counted_open_file(const char *path) {
    if (!refuse_counted()) return nm__os_system.open_file(path);
    errno = EMFILE;
    return -1;
}

static bool counted_write_file(int file, const void *from, size_t bytes) {
    if (!refuse_counted()) return nm__os_system.write_file(file, from, bytes);
    errno = ENOMEM;
    return false;
}

static nm__os table;

void os_counter_install(void) {
    committed_bytes = reserved_bytes = 0;
    fail_in = 0;
    failed = false;
    table = nm__os_system;
    table.reserve = counted_reserve;
    table.unreserve = counted_unreserve;
    table.commit = counted_commit;
    table.decommit = counted_decommit;
    table.random = counted_random;
    table.physical_bytes = counted_physical_bytes;
    table.read_file = counted_read_file;
    table.open_file = counted_open_file;
    table.write_file = counted_write_file;
    nm__os_replace(&table);
}

bool os_counter_remove(void) {
    nm__os_replace(NULL);
    bool clean = ranges == NULL && committed_bytes == 0;
    for (const range *r = ranges; r != NULL; r = r->next)
        fprintf(stderr, "os_counter: %zu bytes at %p were never given back\n", r->bytes, (void *)r->base);
    while (ranges != NULL) {
        range *r = ranges;
        ranges = r->next;
        free(r->committed);
        free(r);
    }
    return clean;
}

size_t os_counter_committed(void) {
    pthread_mutex_lock(&lock);
    size_t bytes = committed_bytes;
    pthread_mutex_unlock(&lock);
    return bytes;
}

size_t os_counter_reserved(void) {
    pthread_mutex_lock(&lock);
    size_t bytes = reserved_bytes;
    pthread_mutex_unlock(&lock);
    return bytes;
}

void os_counter_fail_after(uint64_t n) {
    pthread_mutex_lock(&lock);
    fail_in = n;
    failed = false;
    pthread_mutex_unlock(&lock);
}

bool os_counter_failed(void) {
    pthread_mutex_lock(&lock);
    bool has = failed;
    pthread_mutex_unlock(&lock);
    return has;
}
