// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The loads in flight of a cache: one a key at a time. Who asks for a key first leads: it runs the loader, with no
 * lock held. Who asks meanwhile follows: it waits, and is told how the load went.
 *
 *   miss ── begin ── LEADER ──── look again ── load ── put unless overtaken ── end
 *                 └─ FOLLOWER ── wait ── NM_OK: look again; else: what the leader's load came to
 *
 * No allocation: leaders and followers are on the stacks of their threads, in lists. A leader's frame is touched by
 * others under the lock of its stripe alone, which it takes before it goes. A follower's is let go in its leader's
 * last step, behind which only its address is used; one whose time is up takes itself out of line, or, if the leader
 * has called it already, waits for that step. So nobody waits for a thread that sleeps, and nobody looks at a frame
 * that is gone.
 *
 * A put wins against a load that began before it, if all of these happen under the lock of the key's shard:
 * - A put or remove, but not the leader's own put, calls nm__flight_put_seen.
 * - A leader, before it loads, looks into the cache again. (It must anyway: another load of the key may have ended
 *   between its miss and its begin.)
 * - A leader puts what it loaded only if nm__load_is_overtaken says no.
 * A put that came to the lock before the leader's second look is older than the load, which sees all that came before
 * it. One that came after sees the leader in the list, so that one relaxed load is enough to ask whether there is any;
 * and either the leader knows of it when it puts, or it comes later still and replaces what was loaded. */
#ifndef NM_SRC_CACHE_FLIGHT_H
#define NM_SRC_CACHE_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "nebula/base.h"

#define NM__FLIGHT_STRIPES 8u

typedef struct nm__load nm__load;
typedef struct nm__loader nm__loader;

/* On the stack of a thread that asks, in either role. All fields are the table's. */
struct nm__load {
    const void *key;
    size_t key_len;
    uint64_t hash;
    nm__loader *loader; /* the thread */
    nm__load *next;     /* leaders: in the stripe; followers: of the same leader */
    nm__load **link;    /* what points here */
    nm__load *followers;
    nm__load *leader; /* NULL: leads, or stands in line no more */
    nm_status status; /* what a follower is told */
    bool tied;        /* see nm__loader */
    NM_ATOMIC(uint32_t) overtaken;
    NM_ATOMIC(uint32_t) landed; /* of a follower: status is set, and nobody will look here any more */
};

typedef struct nm__flight_stripe {
    nm__load *first; /* atomic; changed under the lock */
    nm__lock lock;
} __attribute__((aligned(64))) nm__flight_stripe;

typedef struct nm__flight {
    nm__flight_stripe stripes[NM__FLIGHT_STRIPES];
} nm__flight;

typedef enum nm__flight_role { NM__FLIGHT_LEADER, NM__FLIGHT_FOLLOWER } nm__flight_role;

void nm__flight_open(nm__flight *flight);
void nm__flight_close(nm__flight *flight); /* nothing is in flight */

/* Asks for a key, whose bytes and `own` stay where they are until nm__flight_end or nm__flight_wait returned. A leader
 * must call the one, a follower the other, on this thread. Any number of loads of other keys may lie between. No lock
 * of the cache's need be held, and none of its shards' may. O(loads in flight / stripes). */
nm__flight_role nm__flight_begin(nm__flight *flight, uint64_t hash, const void *key, size_t key_len, nm__load *own);

/* NM_OK: the load is over, or a put was quicker; look again. NM_ETIMEDOUT: it goes on. NM_EBUSY, at once: this thread
 * leads the load of that key, or its leader waits, perhaps through others, for a load that this thread leads. Else the
 * status that the leader's load failed with. timeout_ns: UINT64_MAX = for ever. */
nm_status nm__flight_wait(nm__flight *flight, nm__load *own, uint64_t timeout_ns);

/* The leader's load is over: NM_OK, or why there is no value. Wakes the followers. True: a put or remove of that key
 * was seen meanwhile; they are told to look again, whatever the status, and so should the leader. */
bool nm__flight_end(nm__flight *flight, nm__load *own, nm_status status);

/* For the leader, under its key's shard's lock. */
static inline bool nm__load_is_overtaken(const nm__load *own) {
    return nm_atomic_load(&own->overtaken, NM_RELAXED) != 0; /* relaxed: that lock orders it */
}

static inline nm__flight_stripe *nm__flight_stripe_of(nm__flight *flight, uint64_t hash) {
    return &flight->stripes[(hash >> 40) % NM__FLIGHT_STRIPES]; /* not the bits of shard and bucket */
}

/* A put or remove of that key; see above for when. One relaxed load where nothing is in flight. */
void nm__flight_overtake(nm__flight_stripe *stripe, uint64_t hash, const void *key, size_t key_len);
static inline void nm__flight_put_seen(nm__flight *flight, uint64_t hash, const void *key, size_t key_len) {
    nm__flight_stripe *stripe = nm__flight_stripe_of(flight, hash);
    /* relaxed: see above */
    if (__builtin_expect(nm_atomic_load(&stripe->first, NM_RELAXED) != NULL, 0))
        nm__flight_overtake(stripe, hash, key, key_len);
}
/* All keys of a shard are removed: under its lock, in the place of nm__flight_put_seen. Overtakes the loads of other
 * shards too, which only makes them load again. */
void nm__flight_clear_seen(nm__flight *flight);

/* Around fork, behind the locks of the shards. In the child the loads of other threads are gone. */
void nm__flight_before_fork(nm__flight *flight);
void nm__flight_after_fork(nm__flight *flight, bool in_child);

#endif
