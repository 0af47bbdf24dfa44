// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the policies share: the lists, and the policy's bits in a node's state. For eviction.c, s3fifo.c and ranks.c alone. */
#ifndef NM_SRC_CACHE_EVICTION_LISTS_H
#define NM_SRC_CACHE_EVICTION_LISTS_H

#include "cache/eviction.h"

static inline nm__node *nm__policy_node(const nm__policy *p, uint32_t number) {
    return (nm__node *)(void *)(p->base + (size_t)number * NM__UNIT_BYTES);
}

static inline size_t nm__weigh(const nm__policy *p, uint32_t number) { return p->owner->weight(p->context, number); }

static inline unsigned nm__uses_of(uint32_t state) { return (state & NM__USES_BITS) >> NM__USES_SHIFT; }
static inline uint8_t nm__time_of(uint32_t state) { return (uint8_t)(state >> NM__TIME_SHIFT); }

static inline uint32_t nm__with_rank(uint32_t state, unsigned rank) { return (state & ~NM__RANK_BITS) | rank; }
static inline uint32_t nm__with_uses(uint32_t state, unsigned uses) {
    return (state & ~NM__USES_BITS) | uses << NM__USES_SHIFT;
}
static inline uint32_t nm__with_time(uint32_t state, uint8_t time) {
    return (state & ~NM__TIME_BITS) | (uint32_t)time << NM__TIME_SHIFT;
}

/* Where ADAPTIVE has ranks the others have segments. */
static inline nm__segment nm__segment_of(const nm__policy *p, uint32_t state) {
    unsigned rank = state & NM__RANK_BITS;
    if (p->policy != NM_CACHE_ADAPTIVE) return (nm__segment)rank;
    return rank == 0 ? NM__PROBATION : NM__PROTECTED;
}

/* Where the list of a rank, or segment, and size class is. Without size classes all of them lie side by side. */
static inline unsigned nm__list_at(unsigned rank, unsigned class) { return class * NM__RANKS + rank; }
static inline unsigned nm__rank_of_list(unsigned at) { return at % NM__RANKS; }
static inline unsigned nm__class_of_list(unsigned at) { return at / NM__RANKS; }

static inline unsigned nm__size_class(const nm__policy *p, size_t weight) {
    if (!p->by_size || weight < 2) return 0;
    unsigned log = 63u - (unsigned)__builtin_clzll(weight);
    return log < NM__SIZE_CLASSES ? log : NM__SIZE_CLASSES - 1;
}

static inline unsigned nm__list_of(const nm__policy *p, uint32_t state, size_t weight) {
    return nm__list_at(state & NM__RANK_BITS, nm__size_class(p, weight));
}

static inline uint8_t nm__now(const nm__policy *p) { return (uint8_t)(p->clock >> 32); }

/* At the head of the list that its state names. The caller counts bytes and nodes. */
void nm__enlist(nm__policy *p, uint32_t number, size_t weight);
/* Out of the list that its state names, or of the held ones. */
void nm__delist(nm__policy *p, uint32_t number, size_t weight);
/* To the head of the list that a new state names; the bytes follow. */
void nm__reenlist(nm__policy *p, uint32_t number, uint32_t state, size_t weight);

static inline uint32_t nm__tail(const nm__policy *p, unsigned segment) { return p->lists[segment].tail; }

void nm__s3fifo_add(nm__policy *p, uint32_t number, uint64_t hash);
uint32_t nm__s3fifo_victim(nm__policy *p, size_t incoming);

void nm__ranks_add(nm__policy *p, uint32_t number, uint64_t hash);
void nm__ranks_hit(nm__policy *p, uint32_t number);

#endif
