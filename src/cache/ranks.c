// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The lists of NM_CACHE_ADAPTIVE and the three ways to choose a victim among their ends.
 *
 * A node's rank says how often it was used, its list also how large it is; each list is in the order of the last use. So the ends
 * of at most 128 lists stand for all nodes, and what is best among them is known without a heap, a sample or a scan:
 *   by age      the tail that is oldest: LRU, whatever the rank
 *   by segment  the oldest of rank 0, the other ranks being protected: segmented LRU, with ghosts; of sizes that differ, the
 *               one for which age times size is most, as the cost of keeping it is space and time
 *   by worth    the least uses to come for a byte, as they were learned for each rank and age
 * Another choice takes effect at once: nothing has to be moved. What goes to and fro between two choices is ordered by both. */
#include "cache/eviction_lists.h"

/* From this age on a node is made younger, before its time comes round again. */
#define NM__AGE_MAX 224u
/* More than are added in a unit of time must be looked at in one. */
#define NM__SWEEP_NODES 4
#define NM__DEMOTE_MAX  16
/* Of a line's 32: evicted within about half a turnover. Older ones came back later than what is protected would have to wait. */
#define NM__GHOST_FRESH 16u

static unsigned rank_of(unsigned uses) { return uses <= 1 ? 0 : uses == 2 ? 1 : uses <= 4 ? 2 : 3; }

static uint8_t age_of(const nm__policy *p, uint8_t time) { return (uint8_t)(nm__now(p) - time); }

/* The list whose tail is oldest, of ranks from..to-1, or the one for which age times size is most; -1: all are empty. Of equals,
 * that of the lowest rank and the largest. */
static int oldest(const nm__policy *p, unsigned from, unsigned to, bool times_size) {
    int best = -1;
    float most = 0;
    for (unsigned rank = from; rank < to; rank++)
        for (uint32_t left = p->filled[rank]; left != 0;) {
            unsigned class = 31u - (unsigned)__builtin_clz(left);
            left &= ~(1u << class);
            unsigned at = nm__list_at(rank, class);
            float age = (float)(age_of(p, p->tail_time[at]) + 1);
            if (times_size) age *= (float)(1u << class);
            if (age > most) {
                most = age;
                best = (int)at;
            }
        }
    return best;
}

static void demote(nm__policy *p) {
    if (p->setting.choice != NM__BY_SEGMENT) return;
    for (int i = 0; i < NM__DEMOTE_MAX && p->bytes[NM__PROTECTED] > p->protected_limit; i++) {
        int at = oldest(p, 1, NM__RANKS, p->setting.by_size);
        if (at < 0) return;
        uint32_t tail = p->lists[at].tail, state = nm__node_state(nm__policy_node(p, tail));
        nm__reenlist(p, tail, nm__with_time(nm__with_rank(state, 0), nm__now(p)), nm__weigh(p, tail));
    }
}

static unsigned rank_for(const nm__policy *p, unsigned uses, bool protect, size_t weight) {
    unsigned rank = rank_of(uses);
    if (p->setting.choice != NM__BY_SEGMENT) return rank;
    if (!protect || weight > p->protected_limit) return 0;
    return rank != 0 ? rank : 1;
}

/* Nodes that nobody used for so long have half their uses left, so that what was popular once does not stay for ever. */
static void sweep(nm__policy *p) {
    unsigned rank = p->swept / NM__SIZE_CLASSES, class = p->swept % NM__SIZE_CLASSES;
    for (unsigned i = 0; i <= NM__RANKS; i++) {
        uint32_t left = p->filled[rank] >> class;
        if (left != 0) {
            class += (unsigned)__builtin_ctz(left);
            break;
        }
        rank = (rank + 1) % NM__RANKS;
        class = 0;
    }
    p->swept = (uint8_t)((rank * NM__SIZE_CLASSES + class + 1) % (NM__RANKS * NM__SIZE_CLASSES));
    unsigned at = nm__list_at(rank, class);
    for (int i = 0; i < NM__SWEEP_NODES; i++) {
        uint32_t tail = p->lists[at].tail;
        if (tail == 0 || age_of(p, p->tail_time[at]) < NM__AGE_MAX) return;
        uint32_t state = nm__node_state(nm__policy_node(p, tail));
        unsigned uses = nm__uses_of(state) / 2;
        state = nm__with_uses(nm__with_time(state, nm__now(p)), uses != 0 ? uses : 1);
        if ((state & NM__RANK_BITS) > rank_of(uses)) state = nm__with_rank(state, rank_of(uses));
        nm__reenlist(p, tail, state, nm__weigh(p, tail));
    }
}

void nm__ranks_add(nm__policy *p, uint32_t number, uint64_t hash) {
    nm__node *node = nm__policy_node(p, number);
    size_t weight = nm__weigh(p, number), protected = p->bytes[NM__PROTECTED];
    if (!p->clock_set) p->clock += nm__clock_step(p->count, weight, p->bytes[NM__PROBATION] + p->bytes[NM__PROTECTED]);
    unsigned place, ghost = nm__ghosts_take(&p->ghosts, hash, &place),
                    uses = ghost < NM__USES_MAX ? ghost + 1 : NM__USES_MAX;
    /* As in the segmented LRU free protected room is filled first; and a fresh ghost's second use is as good as a hit. */
    bool room = protected <= p->protected_limit && weight <= p->protected_limit - protected;
    uint32_t state = nm__with_uses(nm__with_time(nm__node_state(node), nm__now(p)), uses);
    state = nm__with_rank(state, rank_for(p, uses, room || (ghost != 0 && place < NM__GHOST_FRESH), weight));
    nm__node_set_state(node, state);
    p->bytes[nm__segment_of(p, state)] += weight;
    nm__enlist(p, number, weight);
    demote(p);
    sweep(p);
}

void nm__ranks_hit(nm__policy *p, uint32_t number) {
    uint32_t state = nm__node_state(nm__policy_node(p, number));
    size_t weight = nm__weigh(p, number);
    unsigned uses = nm__uses_of(state) < NM__USES_MAX ? nm__uses_of(state) + 1 : NM__USES_MAX;
    state = nm__with_uses(nm__with_time(state, nm__now(p)), uses);
    nm__reenlist(p, number, nm__with_rank(state, rank_for(p, uses, true, weight)), weight);
    demote(p);
}

/* Heads too: in a loop that does not fit, the one just used is the one needed last. */
static uint32_t least_worth(const nm__policy *p) {
    uint32_t best = 0;
    float least = 0;
    for (unsigned rank = 0; rank < NM__RANKS; rank++)
        for (uint32_t left = p->filled[rank]; left != 0;) {
            unsigned class = 31u - (unsigned)__builtin_clz(left);
            left &= ~(1u << class);
            unsigned at = nm__list_at(rank, class);
            float byte = 1.0f / (float)(1u << class);
            const float *worth = p->setting.worth[rank];
            float tail = worth[nm__age_bin(age_of(p, p->tail_time[at]))] * byte;
            if (best == 0 || tail < least) {
                least = tail;
                best = p->lists[at].tail;
            }
            float head = worth[nm__age_bin(age_of(p, p->head_time[at]))] * byte;
            if (head < least) {
                least = head;
                best = p->lists[at].head;
            }
        }
    return best;
}

static uint32_t choose(const nm__policy *p) {
    if (p->setting.choice == NM__BY_WORTH) return least_worth(p);
    bool segment = p->setting.choice == NM__BY_SEGMENT;
    bool by_size = segment && p->setting.by_size;
    int at = oldest(p, 0, segment ? 1 : NM__RANKS, by_size);
    if (at < 0) at = oldest(p, 1, NM__RANKS, by_size);
    return at < 0 ? 0 : p->lists[at].tail;
}

uint32_t nm__ranks_victim(nm__policy *p) {
    if (p->chosen == 0) p->chosen = choose(p);
    return p->chosen;
}
