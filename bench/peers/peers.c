// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Which peers are here, and the three that export the names of malloc.
 *
 * All are reached by dlsym on a handle of their own, so no header of theirs is needed. mimalloc and tcmalloc are loaded with
 * RTLD_LOCAL. jemalloc cannot be loaded late: its thread-local data is of the static model and does not fit into
 * what the loader keeps spare. The build links it behind libc (bench/CMakeLists.txt), so that it is there from the start,
 * but libc is searched first and remains the malloc of the process. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "peers/peers.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void peer_fail(const char *peer, const char *what) {
    fprintf(stderr, "peers: %s: %s\n", peer, what);
    exit(1);
}

static void absent(const char *name, const char *package) {
    fprintf(stderr, "peers: %s is left out: %s is not installed (scripts/setup.sh bench)\n", name, package);
}

/* A function's address; POSIX wants data and function pointers to be of one shape, C does not know it. */
typedef void function(void);

static function *function_of(void *library, const char *name) {
    void *address = dlsym(library, name);
    function *f;
    memcpy(&f, &address, sizeof f);
    return f;
}

/* True if the function lies in a library whose file is called `file...`. */
static bool lies_in(function *f, const char *file) {
    void *address;
    Dl_info info;
    memcpy(&address, &f, sizeof address);
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL) return false;
    const char *slash = strrchr(info.dli_fname, '/');
    return strncmp(slash != NULL ? slash + 1 : info.dli_fname, file, strlen(file)) == 0;
}

static function *must_find(void *library, const char *file, const char *name) {
    function *f = function_of(library, name);
    if (f == NULL || !lies_in(f, file)) peer_fail(name, "is not the function of the library that was asked for");
    return f;
}

/* ---- heaps ------------------------------------------------------------------------------------------------------- */

static void glibc_tidy(void) { malloc_trim(0); }

static int (*je_mallctl)(const char *name, void *old, size_t *old_bytes, void *new, size_t new_bytes);
static void jemalloc_tidy(void) {
    /* 4096 is MALLCTL_ARENAS_ALL of its header */
    if (je_mallctl("thread.tcache.flush", NULL, NULL, NULL, 0) != 0 ||
        je_mallctl("arena.4096.purge", NULL, NULL, NULL, 0) != 0)
        peer_fail("jemalloc", "cannot purge");
}

static void (*mi_collect_all)(bool force);
static void mimalloc_tidy(void) { mi_collect_all(true); }

static void (*tc_release_free_memory)(void);
static void tcmalloc_tidy(void) { tc_release_free_memory(); }

static void *mimalloc(void) {
    static void *library;
    if (library == NULL) library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) library = dlopen("libmimalloc.so", RTLD_NOW | RTLD_LOCAL); /* of another version */
    return library;
}

const peer_heap *peers_heaps(size_t *count) {
    static peer_heap heaps[PEERS_MAX];
    static size_t n;
    *count = n;
    if (n > 0) return heaps;
    if (!lies_in((function *)malloc, "libc.") || !lies_in((function *)free, "libc."))
        peer_fail("glibc", "malloc of this process is another library's (LD_PRELOAD?)");
    heaps[n++] = (peer_heap){"glibc", malloc, free, glibc_tidy};

    void *je = dlopen("libjemalloc.so.2", RTLD_NOW | RTLD_NOLOAD);
    if (je == NULL) {
        absent("jemalloc", "libjemalloc-dev");
    } else {
        je_mallctl = (int (*)(const char *, void *, size_t *, void *, size_t))must_find(je, "libjemalloc.", "mallctl");
        heaps[n++] = (peer_heap){"jemalloc", (void *(*)(size_t))must_find(je, "libjemalloc.", "malloc"),
                                 (void (*)(void *))must_find(je, "libjemalloc.", "free"), jemalloc_tidy};
    }

    void *mi = mimalloc();
    if (mi == NULL) {
        absent("mimalloc", "libmimalloc-dev");
    } else {
        mi_collect_all = (void (*)(bool))must_find(mi, "libmimalloc.", "mi_collect");
        heaps[n++] = (peer_heap){"mimalloc", (void *(*)(size_t))must_find(mi, "libmimalloc.", "mi_malloc"),
                                 (void (*)(void *))must_find(mi, "libmimalloc.", "mi_free"), mimalloc_tidy};
    }

    void *tc = dlopen("libtcmalloc_minimal.so.4", RTLD_NOW | RTLD_LOCAL);
    if (tc == NULL) {
        absent("tcmalloc", "libgoogle-perftools-dev");
    } else {
        const char *file = "libtcmalloc_minimal.";
        tc_release_free_memory = (void (*)(void))must_find(tc, file, "MallocExtension_ReleaseFreeMemory");
        heaps[n++] = (peer_heap){"tcmalloc", (void *(*)(size_t))must_find(tc, file, "tc_malloc"),
                                 (void (*)(void *))must_find(tc, file, "tc_free"), tcmalloc_tidy};
    }
    *count = n;
    return heaps;
}

/* ---- mimalloc's heaps, destroyed whole --------------------------------------------------------------------------- */

static void *(*mi_heap_new)(void);
static void (*mi_heap_destroy)(void *heap);

static void *mi_region_open(const peer_need *need) {
    (void)need;
    return mi_heap_new();
}

static void *mi_region_reset(void *heap) {
    mi_heap_destroy(heap);
    return mi_heap_new();
}

static void *mi_region_mark(void *heap, void **mark) {
    (void)heap;
    return *mark = mi_heap_new();
}

static void mi_region_rewind(void *inner, void *mark) {
    (void)inner;
    mi_heap_destroy(mark);
}

const peer_region *peers_regions(size_t *count) {
    static peer_region regions[PEERS_MAX];
    static size_t n;
    *count = n;
    if (n > 0) return regions;
    void *mi = mimalloc();
    if (mi == NULL) {
        absent("mimalloc_heap", "libmimalloc-dev");
    } else {
        const char *file = "libmimalloc.";
        mi_heap_new = (void *(*)(void))must_find(mi, file, "mi_heap_new");
        mi_heap_destroy = (void (*)(void *))must_find(mi, file, "mi_heap_destroy");
        mi_collect_all = (void (*)(bool))must_find(mi, file, "mi_collect");
        regions[n++] = (peer_region){.name = "mimalloc_heap",
                                     .open = mi_region_open,
                                     .alloc = (void *(*)(void *, size_t))must_find(mi, file, "mi_heap_malloc"),
                                     .reset = mi_region_reset,
                                     .mark = mi_region_mark,
                                     .rewind = mi_region_rewind,
                                     .close = mi_heap_destroy,
                                     .tidy = mimalloc_tidy};
    }
#ifdef NM_BENCH_TALLOC
    peer_talloc(&regions[n++]);
#else
    absent("talloc", "libtalloc-dev");
#endif
#ifdef NM_BENCH_APR
    peer_apr(&regions[n++]);
#else
    absent("apr_pool", "libapr1-dev");
#endif
    peer_obstack(&regions[n++]);
    *count = n;
    return regions;
}
