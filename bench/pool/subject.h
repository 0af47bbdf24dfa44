// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What is measured: one way to lease buffers, with the loops of each work (see loops.h) compiled around its own calls, so
 * that a peer that can be inlined is. C and C++. */
#ifndef NM_BENCH_POOL_SUBJECT_H
#define NM_BENCH_POOL_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/ring.h"
#include "threads/workers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_BUFFERS      1024 /* of each pool */
#define POOL_THREADS_MAX  WORKERS_MAX
#define POOL_LOCAL        (POOL_BUFFERS / POOL_THREADS_MAX) /* of a thread that has buffers of its own */
#define POOL_BURST        32
#define POOL_LATENCY_HELD POOL_LOCAL /* most buffers that a thread holds while single leases are timed */
#define POOL_ASIDE        8          /* fewer than these are held aside during a round */
#define POOL_SUBJECTS_MAX 32

typedef struct pool_subject pool_subject;
struct pool_subject {
    const char *name;
    const void *tag;     /* for `open`, where several subjects share it */
    const char *holder;  /* does it know who holds a buffer? yes or no */
    size_t handle_bytes; /* of what a lease gives, and a release takes */
    const char *travels; /* from core to core in the work `cross` */
    bool capped;         /* has as many buffers as it was opened with, for whichever thread */
    size_t least_count;  /* buffers that it must have to work as it is; 0: any number */
    /* Where a thread that lost its processor stalls all others: most pairs between two looks at the clock in rows with more
     * threads than processors, so that a round ends. 0: as many as fit. */
    size_t crowd_step;
    void *(*open)(const pool_subject *self, size_t bytes, size_t count); /* the context; NULL: refused */
    void (*close)(void *context);
    /* NULL, or called by each thread before it uses the context for the first time, and after the last. */
    void (*enter)(void *context);
    void (*leave)(void *context);

    /* The loops; NULL where a subject has no part in a work. `pairs` of `burst` and `many` is a multiple of POOL_BURST. */
    void (*pair)(void *context, size_t pairs);
    void (*burst)(void *context, size_t pairs);
    void (*many)(void *context, size_t pairs);
    void (*send)(void *context, pool_ring *ring, size_t n);
    void (*receive)(void *context, pool_ring *ring); /* until the end */
    void (*latency)(void *context, uint32_t *ticks, size_t n);
    /* Leases n buffers, fewer than POOL_ASIDE, which the calling thread holds; 0: gives them back. */
    void (*aside)(void *context, size_t n);
    /* Leases up to n buffers, looks whether each lies apart from all others, releases them; returns how many there were. */
    size_t (*fill)(void *context, size_t bytes, size_t n);
    /* Takes some buffers, writes whose they are into them, and looks whether that is still so before giving them back. */
    void (*claim)(void *context, size_t bytes, uint64_t thread, uint64_t turn);
};

/* The subjects that are here, the limit first; a line on stderr for each that is not. */
size_t pool_subjects(pool_subject out[POOL_SUBJECTS_MAX]);

/* One function for each file. */
typedef struct pool_list {
    pool_subject *subjects;
    size_t count;
} pool_list;
void pool_list_add(pool_list *list, const pool_subject *subject);
void pool_add_limit(pool_list *list);
void pool_add_nebula(pool_list *list);
void pool_add_mutex_list(pool_list *list);
void pool_add_heaps(pool_list *list);
void pool_add_dpdk(pool_list *list);
void pool_add_ck(pool_list *list);
void pool_add_urcu(pool_list *list);
void pool_add_boost(pool_list *list);
void pool_add_tbb(pool_list *list);
void pool_add_crossbeam(pool_list *list);

/* Memory for subjects that are given theirs: each buffer is aligned to a cache line and the next begins a line later than
 * its size says, so that the first lines of 4 KiB buffers do not all compete for one place in the processor's cache. */
typedef struct pool_memory {
    unsigned char *start;
    size_t stride, total;
} pool_memory;
bool pool_memory_open(pool_memory *memory, size_t bytes, size_t count);
void pool_memory_close(pool_memory *memory);
static inline void *pool_memory_at(const pool_memory *memory, size_t index) {
    return memory->start + index * memory->stride;
}

#if defined(__GNUC__)
__attribute__((__noreturn__, __cold__))
#endif
void pool_fail(const char *who, const char *what);
/* Are the n addresses at least `bytes` apart? Sorts them. */
bool pool_all_apart(void **addresses, size_t n, size_t bytes);

/* The use of a buffer: volatile, so that it is never left out, and the first byte, so that it is no more than that. */
static inline void pool_touch(void *p) { *(volatile unsigned char *)p = 1; }

/* The compiler must not know that what is released is what was leased, nor that memory is as it was: in a program, other
 * code runs between the two. */
#define POOL_FORGET(pointer) __asm__ volatile("" : "+r"(pointer) : : "memory")
/* The pointer only. */
#define POOL_OPAQUE(pointer) __asm__("" : "+r"(pointer))
#define POOL_UNLIKELY(x)     __builtin_expect(!!(x), 0)

#ifdef __cplusplus
}
#endif

#endif
