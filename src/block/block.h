// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Blocks: power-of-two pieces of memory of a root, from 4 KiB to 2 MiB, and larger ones as mappings of their own.
 *
 * A slab is 2 MiB of address space, cut by the buddy system; its first page describes it. Only what is committed counts:
 * the store asks `ledger` before it commits a byte and tells it when pages went back. Blocks given back stay committed,
 * idle, up to a cap; a few lie in front of the store for each thread, in slots that anybody short of memory may take. All
 * functions take the store's own lock, but for what those slots serve; see README.md. */
#ifndef NM_SRC_BLOCK_BLOCK_H
#define NM_SRC_BLOCK_BLOCK_H

#include <pthread.h>

#include "base/atomic.h"
#include "base/math.h"
#include "base/thread.h"
#include "nebula/base.h"
#include "os/os.h"

#define NM__BLOCK_MIN_BYTES ((size_t)4 << 10)
#define NM__SLAB_BYTES      ((size_t)2 << 20)
#define NM__BLOCK_ORDERS    10 /* 4 KiB << 9 = 2 MiB */

/* Who is charged for committed bytes: the root scope. charge: false = refused. Called with the store's lock held. */
typedef struct nm__ledger {
    bool (*charge)(void *context, size_t bytes);
    void (*uncharge)(void *context, size_t bytes);
    size_t (*committed)(const void *context);
    size_t (*limit)(const void *context);
    void *context;
} nm__ledger;

typedef struct nm__slab nm__slab;
typedef struct nm__idle_block nm__idle_block;

/* One stripe's: a block of each of the smallest classes, and a second one of the smallest. One cache line. */
#define NM__FRONT_SLOTS 8u
typedef struct nm__front {
    _Alignas(64) NM_ATOMIC(void *) slot[NM__FRONT_SLOTS];
} nm__front;

typedef struct nm__blocks {
    pthread_mutex_t lock;
    nm__ledger ledger;
    nm__idle_block *idle[NM__BLOCK_ORDERS]; /* committed, of no owner; newest first */
    nm__slab *partial[NM__BLOCK_ORDERS];    /* slabs by the largest order that they have free */
    nm__slab *full;                         /* slabs with nothing free */
    size_t idle_bytes;                      /* in those lists */
    size_t idle_low;     /* the least that idle_bytes was since the last decay: nobody needed so much */
    uint64_t decayed_ms; /* when that was */
    size_t own_bytes;    /* committed for slab headers */
    bool huge;           /* new slabs are committed whole, in huge pages */
    nm__front front[NM__STRIPES];
} nm__blocks;

/* `huge`: slabs are committed as a whole, in huge pages where the system has them. */
void nm__blocks_open(nm__blocks *blocks, const nm__ledger *ledger, bool huge);
/* Gives everything to the system, idle or not. */
void nm__blocks_close(nm__blocks *blocks);

/* The size of the block that serves `bytes`: a power of two up to 2 MiB, whole pages above. bytes <= NM__BYTES_MAX. */
size_t nm__block_bytes(size_t bytes);

/* Takes a block of nm__block_bytes(bytes), contents undefined. NM_EBUDGET: the ledger refused (after all idle blocks were
 * given back). NM_ENOMEM: the system refused. */
nm_status nm__blocks_take(nm__blocks *blocks, size_t bytes, void **out);
/* Gives back a block of that size (as nm__block_bytes says). Keeps it idle if the cap allows. */
void nm__blocks_give(nm__blocks *blocks, void *block, size_t bytes);
/* Gives idle blocks to the system until `wanted` bytes are gone or none is left. Returns the bytes. */
size_t nm__blocks_trim(nm__blocks *blocks, size_t wanted);
size_t nm__blocks_idle_bytes(nm__blocks *blocks);

/* A period of decay in milliseconds. */
#define NM__DECAY_MS 1000u
/* If a period has passed since the last time, gives the system what lay idle all through it. Returns the milliseconds until it
 * is worth calling again; UINT64_MAX: nothing is idle. *due: a period had passed. */
uint64_t nm__blocks_decay(nm__blocks *blocks, bool *due);

#endif
