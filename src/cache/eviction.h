// SPDX-License-Identifier: Apache-2.0 OR MIT
/* eviction.h: who leaves the cache next.
 *
 * It knows nothing of memory or threads: a node's address is base + 8 * number, what it weighs is asked from the owner. So the
 * same code serves the shards of a cache, the shadows by which a cache finds its setting, and a simulator that has nothing
 * but nodes. One policy object a shard; all calls under the shard's lock. No call allocates.
 *
 * SLRU      new -> [ probation ] <-> [ protected ]                        (Karedla, Love, Wherry 1994); LRU: protected 0
 * S3FIFO    new -> [ window ] -> [ probation, round and round ]           (Yang, Zhang, Qiu, Yue, Rashmi 2023), see s3fifo.c
 * ADAPTIVE  one list for each rank and size class, and three ways to choose among their ends, see ranks.c
 *
 * Of node.state the low 16 bits are the policy's, the others the owner's; see node.h:
 *     0-1 rank (or segment), 2 held, 3-6 uses, 8-15 time of the last use */
#ifndef NM_SRC_CACHE_EVICTION_H
#define NM_SRC_CACHE_EVICTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/ghosts.h"
#include "cache/node.h"
#include "nebula/cache.h"

typedef struct nm__policy_owner {
    /* Bytes; constant while the node is in the policy. Cheap: asked at nearly every call. */
    size_t (*weight)(void *context, uint32_t number);
    /* The hash that was given to nm__policy_add. Asked once for each node that leaves as a victim, at nm__policy_remove; never
     * by SLRU and LRU. */
    uint64_t (*hash)(void *context, uint32_t number);
} nm__policy_owner;

/* What NM_CACHE_DEFAULT is: on public traces, from 4 MiB of budget on, it saves nearly twice as many of LRU's misses as the best of the others,
 * and is never much worse than LRU (scripts/compare-policies.sh; docs/guide/caches.md has the figures). */
#define NM__POLICY_AUTO NM_CACHE_ADAPTIVE

typedef enum nm__segment { NM__WINDOW, NM__PROBATION, NM__PROTECTED, NM__SEGMENTS } nm__segment;

typedef struct nm__list {
    uint32_t head, tail; /* head: most recent; 0: empty */
} nm__list;

/* Four ranks: of ADAPTIVE. Used once, twice, three or four times, more often: finer ones are told apart by few samples, and the
 * first uses say most. */
#define NM__RANKS 4u
/* Powers of two of bytes: an end of a list stands for weights that differ by less than 2 to 1. */
#define NM__SIZE_CLASSES 32u
/* Classes of age, see nm__age_bin. */
#define NM__AGE_BINS 28u

typedef enum nm__choice {
    NM__BY_AGE,     /* the least recent of all: LRU */
    NM__BY_SEGMENT, /* the least recent of rank 0; the others are protected, up to protected_percent */
    NM__BY_WORTH,   /* the least worth by byte: `worth` of its rank and age */
} nm__choice;

/* Time is counted in sixteenths of a turnover: 8 bits reach 16 turnovers, and finer ones would tell nodes apart that the lists have in order
 * anyway. As many new nodes as there are nodes are a turnover, and so are as many new bytes as there are bytes: each is half of it, so that
 * time goes on where entries become much larger or smaller than they were. A new node advances the clock by this much. */
#define NM__TIMES_A_TURNOVER 16u
static inline uint64_t nm__clock_share(size_t part, size_t all) {
    if (all < part * NM__TIMES_A_TURNOVER) return (uint64_t)1 << 31;
    return (uint64_t)(((double)NM__TIMES_A_TURNOVER * 2147483648.0) * (double)part / (double)all);
}
static inline uint64_t nm__clock_step(size_t nodes, size_t weight, size_t bytes) {
    return nm__clock_share(1, nodes) + nm__clock_share(weight, bytes);
}

/* Ages in sixteenths of a turnover: one by one up to 8, then four to an octave. */
static inline unsigned nm__age_bin(unsigned age) {
    if (age < 8) return age;
    unsigned octave = 31u - (unsigned)__builtin_clz(age);
    return 8 + (octave - 3) * 4 + (age >> (octave - 2)) % 4;
}

/* What NM_CACHE_ADAPTIVE may change while it runs. */
typedef struct nm__setting {
    uint8_t choice;            /* nm__choice */
    uint8_t protected_percent; /* of the room, for NM__BY_SEGMENT */
    bool by_size;              /* for NM__BY_SEGMENT: age times size; a cache that cannot learn goes without */
    float worth[NM__RANKS][NM__AGE_BINS]; /* for NM__BY_WORTH: uses to come, by unit of time */
} nm__setting;

typedef struct nm__policy {
    /* What most calls change, in two lines. */
    size_t bytes[NM__SEGMENTS]; /* of each segment, its held nodes included */
    uint32_t count;             /* of nodes */
    uint32_t victim;            /* given out last; as it leaves it becomes a ghost */
    uint32_t chosen;            /* of ADAPTIVE: who is the next one until anything changes; 0: not known */
    /* Of ADAPTIVE: sixteenths of a turnover of all nodes, in units of 2^-32; of SLRU and LRU: see nm__policy_settled. */
    uint64_t clock;
    size_t fronted; /* of SLRU and LRU: bytes that came to the front since the clock went on */
    nm__list lists[NM__SIZE_CLASSES * NM__RANKS]; /* of each size class its ranks: nm__list_at */

    unsigned char *base;
    const nm__policy_owner *owner;
    void *context;
    nm__ghosts ghosts;
    size_t room;
    size_t protected_limit;
    uint8_t policy; /* nm_cache_policy */
    bool full;      /* of S3FIFO: there were victims */
    bool by_size;   /* lists for each size class */
    uint8_t swept;  /* where the next look for nodes that are out of time begins */
    bool clock_set; /* by nm__policy_set_clock, so that adding does not advance it */
    nm__setting setting;
    nm__list held;              /* nodes that are out of the victims' way */
    uint32_t filled[NM__RANKS]; /* a bit for each size class whose list is not empty */
    /* The times of the ends of each list: choosing looks at no node. */
    uint8_t head_time[NM__RANKS * NM__SIZE_CLASSES], tail_time[NM__RANKS * NM__SIZE_CLASSES];
} nm__policy;

/* `base` is the address of node number 0, which is none. protected_percent: 0 to 99. NM_CACHE_ADAPTIVE begins as SLRU, and
 * stays that until nm__policy_set. tables: as nm__policy_set_tables. The room is 0 until nm__policy_set_room. */
void nm__policy_open(nm__policy *p, const nm__policy_owner *owner, void *context, void *base, nm_cache_policy policy,
                     nm_cache_objective objective, unsigned protected_percent, void *tables, size_t tables_bytes);

/* The bytes that its nodes may have. A goal: who asks for victims when is the owner's affair, and nodes may be above it. */
void nm__policy_set_room(nm__policy *p, size_t bytes);

/* Time of ADAPTIVE, for who has several policies that should have the same. Without it, added nodes are the clock. */
static inline void nm__policy_set_clock(nm__policy *p, uint64_t clock) {
    p->clock = clock;
    p->clock_set = true;
    p->chosen = 0;
}

/* Another setting; ignored unless the policy is NM_CACHE_ADAPTIVE. No node moves at once. */
void nm__policy_set(nm__policy *p, const nm__setting *setting);

/* The memory that the policy wants beside the nodes, 0 if none: 2.5 bytes an entry. expected_entries: how many entries will be
 * there when the room is used; 0: not known, taken as room_bytes / 256. */
size_t nm__policy_tables_bytes(nm_cache_policy policy, size_t room_bytes, size_t expected_entries);

/* Gives it `bytes` of zeroed memory, aligned to 64; NULL, 0: none, and it works without, less well. What it knows is carried
 * over from the tables before, which the owner may give back afterwards. Any number of bytes will do. O(bytes). */
void nm__policy_set_tables(nm__policy *p, void *tables, size_t bytes);

/* A use of a linked node, not of a held one. Some may be lost and all may come late. O(1). */
void nm__policy_hit(nm__policy *p, uint32_t number, uint64_t hash);

/* Which hits change nothing that matters, so that they need not be told: those of nodes in whose state the bits that are set in
 * the upper half of this are as in the lower half. In SLRU and LRU a node that came to the front lately, with less than a 16th
 * of its segment before it; in S3FIFO and ADAPTIVE one whose uses are counted no further. Changes as time goes on. */
static inline uint32_t nm__policy_settled(const nm__policy *p);
static inline bool nm__hit_is_settled(uint32_t settled, uint32_t state) {
    return ((state ^ settled) & settled >> 16) == 0;
}

/* A new node; its weight is known, the low 16 bits of its state are 0. O(1). */
void nm__policy_add(nm__policy *p, uint32_t number, uint64_t hash);

/* A new node that takes the place of one that was removed: most recent in its rank. old_state: the state of that one before
 * or after nm__policy_remove. Its weight may be another. O(1). */
void nm__policy_add_as(nm__policy *p, uint32_t number, uint32_t old_state);

/* The node that should leave next for incoming_bytes to fit in; it stays linked until nm__policy_remove. 0: all are held, or
 * there is none. A call that is repeated gives the same node, unless that was held or removed meanwhile. O(1). */
uint32_t nm__policy_victim(nm__policy *p, size_t incoming_bytes);

/* Of ADAPTIVE, see ranks.c. */
uint32_t nm__ranks_victim(nm__policy *p);

/* What it will be most likely, for who wants to fetch it meanwhile; 0: not known. */
static inline uint32_t nm__policy_next_guess(nm__policy *p) {
    return p->policy != NM_CACHE_ADAPTIVE ? p->lists[NM__PROBATION].tail : nm__ranks_victim(p);
}

/* Fetches what the policy will look at when a key with this hash is added, or leaves as a victim. */
static inline __attribute__((__always_inline__)) void nm__policy_prefetch(const nm__policy *p, uint64_t hash) {
    nm__ghosts_prefetch(&p->ghosts, hash);
}

/* Takes a linked node out of the victims' way; it counts in its segment as before. Back again: most recent in its segment. O(1). */
void nm__policy_hold(nm__policy *p, uint32_t number);
void nm__policy_unhold(nm__policy *p, uint32_t number);

/* Any linked or held node. O(1). */
void nm__policy_remove(nm__policy *p, uint32_t number);

/* The node, linked or held, was copied to `to` (links and state), and its old place may be gone. O(1). */
void nm__policy_moved(nm__policy *p, uint32_t to);

/* Any node, linked or held; 0: there is none. O(1). */
uint32_t nm__policy_any(const nm__policy *p);

/* Hands out all nodes, the held ones too, as one list in no order to rely on, and forgets them. Ghosts stay. O(1). */
void nm__policy_clear_to(nm__policy *p, nm__list *out);

/* Bytes of the nodes in a segment, held ones included. Of ADAPTIVE rank 0 is probation, the others are protected. O(1). */
static inline size_t nm__policy_bytes(const nm__policy *p, nm__segment segment) { return p->bytes[segment]; }

/* ---- inline ------------------------------------------------------------------------------------------------------ */

/* The policy's bits in a node's state. */
#define NM__RANK_BITS  0x0003u
#define NM__HELD_BIT   0x0004u
#define NM__USES_SHIFT 3
#define NM__USES_MAX   NM__GHOST_USES_MAX
#define NM__USES_BITS  (NM__USES_MAX << NM__USES_SHIFT)
#define NM__TIME_SHIFT 8
#define NM__TIME_BITS  0xff00u
/* Of S3FIFO: more hits earn nothing. */
#define NM__MAIN_USES 3u

static inline uint32_t nm__policy_settled(const nm__policy *p) {
    uint32_t now = (uint32_t)(uint8_t)(p->clock >> 32) << NM__TIME_SHIFT;
    uint32_t bits = NM__TIME_BITS | NM__RANK_BITS, rank = p->protected_limit != 0 ? NM__PROTECTED : NM__PROBATION;
    if (p->policy == NM_CACHE_S3FIFO) return NM__USES_BITS << 16 | NM__MAIN_USES << NM__USES_SHIFT;
    if (p->policy == NM_CACHE_ADAPTIVE)
        return (NM__TIME_BITS | NM__USES_BITS) << 16 | now | NM__USES_MAX << NM__USES_SHIFT;
    return bits << 16 | now | rank;
}

#endif
