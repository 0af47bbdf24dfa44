// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The allocators that people use instead, as tables of functions, for the benchmarks only.
 *
 * Every peer is called through these pointers, nebula and the hand-made loops are not: a call through a pointer is what a
 * peer's own exported function costs anyway (it is one through the PLT), and it is the same for all peers. Wrappers are
 * there only where a peer has no function of that shape; they end in a jump.
 * A peer whose package is not installed is left out, and a line on stderr says so.
 *
 * No peer may become the malloc of the process, else the glibc row and everything else would silently be that peer's:
 * peers_heaps checks by address that `malloc` is libc's and that each heap's functions are of the library they should be
 * of. */
#ifndef NM_BENCH_PEERS_H
#define NM_BENCH_PEERS_H

#include <stddef.h>

#define PEERS_MAX 8

/* Allocations that are freed one by one. */
typedef struct peer_heap {
    const char *name;
    void *(*malloc)(size_t n);
    void (*free)(void *p);
    void (*tidy)(void); /* gives idle memory back to the system */
} peer_heap;

/* What is known beforehand of a region's use; a peer takes what it has an option for. */
typedef struct peer_need {
    size_t block_bytes; /* of the first block; 0: the peer's default */
    size_t total_bytes; /* of all allocations */
    size_t count;       /* of allocations */
} peer_need;

/* Allocations that are undone together. Functions that return a region or a mark return NULL when refused. */
typedef struct peer_region {
    const char *name;
    void *(*open)(const peer_need *need);
    void *(*alloc)(void *region, size_t n);
    void *(*reset)(void *region); /* the region to go on with: some have no reset but a new one */
    /* Returns the region to allocate from until the rewind, which may be a child; *mark is for the rewind. */
    void *(*mark)(void *region, void **mark);
    void (*rewind)(void *inner, void *mark);
    void (*close)(void *region);
    void (*tidy)(void);
} peer_region;

/* The peers that are here; the first heap is glibc. */
const peer_heap *peers_heaps(size_t *count);
const peer_region *peers_regions(size_t *count);

/* One for each that can be compiled in; all functions of `out` are set. */
void peer_obstack(peer_region *out);
void peer_talloc(peer_region *out);
void peer_apr(peer_region *out);

_Noreturn void peer_fail(const char *peer, const char *what);

#endif
