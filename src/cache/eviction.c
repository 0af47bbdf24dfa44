// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/eviction.h"

#include <string.h>

#include "cache/eviction_lists.h"

/* ---- lists ---- */

static void link_head(nm__policy *p, nm__list *list, uint32_t number) {
    nm__node *node = nm__policy_node(p, number);
    nm__node_set_prev(node, 0);
    nm__node_set_next(node, list->head);
    if (list->head != 0)
        nm__node_set_prev(nm__policy_node(p, list->head), number);
    else
        list->tail = number;
    list->head = number;
}

static void unlink_from(nm__policy *p, nm__list *list, uint32_t number) {
    const nm__node *node = nm__policy_node(p, number);
    if (node->prev != 0)
        nm__node_set_next(nm__policy_node(p, node->prev), node->next);
    else
        list->head = node->next;
    if (node->next != 0)
        nm__node_set_prev(nm__policy_node(p, node->next), node->prev);
    else
        list->tail = node->prev;
}

void nm__enlist(nm__policy *p, uint32_t number, size_t weight) {
    p->chosen = 0;
    uint32_t state = nm__node_state(nm__policy_node(p, number));
    unsigned at = nm__list_of(p, state, weight);
    if (p->lists[at].head == 0) {
        p->filled[nm__rank_of_list(at)] |= 1u << nm__class_of_list(at);
        p->tail_time[at] = nm__time_of(state);
    }
    p->head_time[at] = nm__time_of(state);
    link_head(p, &p->lists[at], number);
}

void nm__delist(nm__policy *p, uint32_t number, size_t weight) {
    p->chosen = 0;
    uint32_t state = nm__node_state(nm__policy_node(p, number));
    if (state & NM__HELD_BIT) {
        unlink_from(p, &p->held, number);
        return;
    }
    unsigned at = nm__list_of(p, state, weight);
    nm__list *list = &p->lists[at], before = *list;
    unlink_from(p, list, number);
    if (list->head == 0) {
        p->filled[nm__rank_of_list(at)] &= ~(1u << nm__class_of_list(at));
        return;
    }
    if (list->head != before.head) p->head_time[at] = nm__time_of(nm__node_state(nm__policy_node(p, list->head)));
    if (list->tail != before.tail) p->tail_time[at] = nm__time_of(nm__node_state(nm__policy_node(p, list->tail)));
}

void nm__reenlist(nm__policy *p, uint32_t number, uint32_t state, size_t weight) {
    nm__node *node = nm__policy_node(p, number);
    nm__delist(p, number, weight);
    p->bytes[nm__segment_of(p, nm__node_state(node))] -= weight;
    p->bytes[nm__segment_of(p, state)] += weight;
    nm__node_set_state(node, state);
    nm__enlist(p, number, weight);
}

/* ---- segmented LRU ---- */

/* Of a segment: what is not farther from its front counts as being there. */
#define NM__FRONT_SHARE 16

/* One hit may push several small nodes out; a smaller room very many, which then go in several calls. */
#define NM__DEMOTE_MAX 64

static nm__list *slru_list(nm__policy *p, nm__segment segment) { return &p->lists[segment]; }

static void slru_demote(nm__policy *p) {
    uint32_t tail;
    for (int i = 0; i < NM__DEMOTE_MAX && p->bytes[NM__PROTECTED] > p->protected_limit; i++) {
        if ((tail = nm__tail(p, NM__PROTECTED)) == 0) return; /* held ones cannot be moved until they are unpinned */
        nm__node *node = nm__policy_node(p, tail);
        size_t weight = nm__weigh(p, tail);
        unlink_from(p, slru_list(p, NM__PROTECTED), tail);
        p->bytes[NM__PROTECTED] -= weight;
        p->bytes[NM__PROBATION] += weight;
        nm__node_set_state(node, nm__with_rank(nm__node_state(node), NM__PROBATION));
        link_head(p, slru_list(p, NM__PROBATION), tail);
    }
}

/* In front from now on. Time goes on whenever as much came there as a 16th of the segment that is evicted last: 8 bits of it come
 * round after 16 turnovers, and nothing lies there so long. */
static uint32_t to_front(nm__policy *p, uint32_t state, nm__segment segment, size_t weight) {
    p->fronted += weight;
    if (p->fronted > (p->protected_limit != 0 ? p->protected_limit : p->room) / NM__FRONT_SHARE) {
        p->fronted = 0;
        p->clock += (uint64_t)1 << 32;
    }
    return nm__with_time(nm__with_rank(state, segment), nm__now(p));
}

/* Free protected room first: a working set that fits is protected without being used twice. */
static void slru_add(nm__policy *p, uint32_t number, size_t weight) {
    size_t protected = p->bytes[NM__PROTECTED];
    bool room = protected <= p->protected_limit && weight <= p->protected_limit - protected;
    nm__segment segment = room ? NM__PROTECTED : NM__PROBATION;
    nm__node *node = nm__policy_node(p, number);
    p->bytes[segment] += weight;
    nm__node_set_state(node, to_front(p, nm__node_state(node), segment, weight));
    link_head(p, slru_list(p, segment), number);
    slru_demote(p);
}

/* A node that is larger than the protected segment stays where it is: it would empty that and then fall out of it. */
static void slru_hit(nm__policy *p, uint32_t number) {
    nm__node *node = nm__policy_node(p, number);
    uint32_t state = nm__node_state(node);
    size_t weight = nm__weigh(p, number);
    nm__segment from = nm__segment_of(p, state), to = weight <= p->protected_limit ? NM__PROTECTED : from;
    unlink_from(p, slru_list(p, from), number);
    p->bytes[from] -= weight;
    p->bytes[to] += weight;
    nm__node_set_state(node, to_front(p, state, to, weight));
    link_head(p, slru_list(p, to), number);
    if (from != to) slru_demote(p);
}

/* ---- all policies ---- */

static bool segmented(const nm__policy *p) { return p->policy == NM_CACHE_SLRU || p->policy == NM_CACHE_LRU; }

static void set_limit(nm__policy *p) {
    p->protected_limit =
        p->room / 100 * p->setting.protected_percent + p->room % 100 * p->setting.protected_percent / 100;
}

void nm__policy_open(nm__policy *p, const nm__policy_owner *owner, void *context, void *base, nm_cache_policy policy,
                     nm_cache_objective objective, unsigned protected_percent, void *tables, size_t tables_bytes) {
    memset(p, 0, sizeof *p);
    p->base = base;
    p->owner = owner;
    p->context = context;
    p->policy = (uint8_t)(policy == NM_CACHE_DEFAULT ? NM__POLICY_AUTO : policy);
    p->setting.choice = NM__BY_SEGMENT;
    p->setting.protected_percent = (uint8_t)(policy == NM_CACHE_LRU ? 0 : protected_percent);
    /* For bytes the size does not matter: uses to come, times the bytes of each, by byte. */
    p->by_size = policy == NM_CACHE_ADAPTIVE && objective == NM_OBJECTIVE_HITS;
    nm__policy_set_tables(p, tables, tables_bytes);
}

void nm__policy_set_room(nm__policy *p, size_t bytes) {
    p->room = bytes;
    set_limit(p);
    if (segmented(p)) slru_demote(p);
}

void nm__policy_set(nm__policy *p, const nm__setting *setting) {
    if (p->policy != NM_CACHE_ADAPTIVE) return;
    p->setting = *setting;
    p->chosen = 0;
    set_limit(p);
}

size_t nm__policy_tables_bytes(nm_cache_policy policy, size_t room_bytes, size_t expected_entries) {
    if (policy != NM_CACHE_S3FIFO && policy != NM_CACHE_ADAPTIVE) return 0;
    size_t entries = expected_entries != 0 ? expected_entries : room_bytes / 256;
    const size_t line = sizeof *(nm__ghosts){0}.lines;
    size_t lines =
        entries / NM__GHOST_LINE / 4 * 5 + entries / NM__GHOST_LINE % 4 * 5 / 4 + 1; /* five ghosts for four entries */
    return lines > SIZE_MAX / line ? SIZE_MAX / line * line : lines * line;
}

void nm__policy_set_tables(nm__policy *p, void *tables, size_t bytes) {
    nm__ghosts_set_memory(&p->ghosts, tables, bytes);
}

void nm__policy_hit(nm__policy *p, uint32_t number, uint64_t hash) {
    (void)hash;
    if (segmented(p)) {
        slru_hit(p, number);
    } else if (p->policy == NM_CACHE_ADAPTIVE) {
        nm__ranks_hit(p, number);
    } else { /* S3FIFO moves nothing on a hit */
        nm__node *node = nm__policy_node(p, number);
        uint32_t state = nm__node_state(node);
        if (nm__uses_of(state) < NM__MAIN_USES) nm__node_set_state(node, nm__with_uses(state, nm__uses_of(state) + 1));
    }
}

void nm__policy_add(nm__policy *p, uint32_t number, uint64_t hash) {
    p->count++;
    if (segmented(p))
        slru_add(p, number, nm__weigh(p, number));
    else if (p->policy == NM_CACHE_ADAPTIVE)
        nm__ranks_add(p, number, hash);
    else
        nm__s3fifo_add(p, number, hash);
}

void nm__policy_add_as(nm__policy *p, uint32_t number, uint32_t old_state) {
    nm__node *node = nm__policy_node(p, number);
    size_t weight = nm__weigh(p, number);
    uint32_t rank = old_state & NM__NODE_POLICY_BITS & ~(NM__HELD_BIT | NM__TIME_BITS);
    uint32_t state = (nm__node_state(node) & ~NM__NODE_POLICY_BITS) | nm__with_time(rank, nm__now(p));
    nm__node_set_state(node, state);
    p->count++;
    p->bytes[nm__segment_of(p, state)] += weight;
    nm__enlist(p, number, weight);
    if (segmented(p)) slru_demote(p);
}

static uint32_t slru_victim(const nm__policy *p) {
    uint32_t tail = nm__tail(p, NM__PROBATION);
    return tail != 0 ? tail : nm__tail(p, NM__PROTECTED);
}

uint32_t nm__policy_victim(nm__policy *p, size_t incoming_bytes) {
    if (segmented(p))
        p->victim = slru_victim(p);
    else if (p->policy == NM_CACHE_ADAPTIVE)
        p->victim = nm__ranks_victim(p);
    else
        p->victim = nm__s3fifo_victim(p, incoming_bytes);
    return p->victim;
}

void nm__policy_hold(nm__policy *p, uint32_t number) {
    nm__node *node = nm__policy_node(p, number);
    nm__delist(p, number, nm__weigh(p, number));
    nm__node_set_state(node, nm__node_state(node) | NM__HELD_BIT);
    link_head(p, &p->held, number);
    if (number == p->victim) p->victim = 0;
}

void nm__policy_unhold(nm__policy *p, uint32_t number) {
    nm__node *node = nm__policy_node(p, number);
    size_t weight = nm__weigh(p, number);
    nm__delist(p, number, weight);
    nm__node_set_state(node, nm__with_time(nm__node_state(node) & ~NM__HELD_BIT, nm__now(p)));
    nm__enlist(p, number, weight);
    if (segmented(p)) slru_demote(p);
}

void nm__policy_remove(nm__policy *p, uint32_t number) {
    size_t weight = nm__weigh(p, number);
    uint32_t state = nm__node_state(nm__policy_node(p, number));
    if (number == p->victim) {
        p->victim = 0;
        unsigned uses = nm__uses_of(state);
        /* S3FIFO remembers who did not outlive the small queue, and nobody else: in a loop the next one to come is always the one that
         * the main queue let go last, and would be let in again. */
        bool ghost = p->policy != NM_CACHE_S3FIFO || nm__segment_of(p, state) == NM__WINDOW;
        if (p->ghosts.line_count != 0 && ghost)
            nm__ghosts_put(&p->ghosts, p->owner->hash(p->context, number), uses != 0 ? uses : 1);
    }
    if (NM_LIKELY(segmented(p) && !(state & NM__HELD_BIT)))
        unlink_from(p, slru_list(p, nm__segment_of(p, state)), number);
    else
        nm__delist(p, number, weight);
    p->bytes[nm__segment_of(p, state)] -= weight;
    p->count--;
}

void nm__policy_moved(nm__policy *p, uint32_t to) {
    const nm__node *node = nm__policy_node(p, to);
    uint32_t state = nm__node_state(node);
    nm__list *list = state & NM__HELD_BIT ? &p->held : &p->lists[nm__list_of(p, state, nm__weigh(p, to))];
    if (node->prev != 0)
        nm__node_set_next(nm__policy_node(p, node->prev), to);
    else
        list->head = to;
    if (node->next != 0)
        nm__node_set_prev(nm__policy_node(p, node->next), to);
    else
        list->tail = to;
    p->victim = p->chosen = 0; /* it may have been that one, and the number may soon be another's */
}

uint32_t nm__policy_any(const nm__policy *p) {
    for (unsigned rank = 0; rank < NM__RANKS; rank++) {
        /* Without size classes there is one list of each rank, and SLRU keeps no other account of them. */
        unsigned class = p->by_size && p->filled[rank] != 0 ? (unsigned)__builtin_ctz(p->filled[rank]) : 0;
        uint32_t tail = p->lists[nm__list_at(rank, class)].tail;
        if (tail != 0) return tail;
    }
    return p->held.tail;
}

static void append(nm__policy *p, nm__list *out, const nm__list *list) {
    if (list->head == 0) return;
    if (out->tail != 0) {
        nm__node_set_next(nm__policy_node(p, out->tail), list->head);
        nm__node_set_prev(nm__policy_node(p, list->head), out->tail);
        out->tail = list->tail;
    } else {
        *out = *list;
    }
}

void nm__policy_clear_to(nm__policy *p, nm__list *out) {
    *out = (nm__list){0};
    for (unsigned at = 0; at < NM__RANKS * NM__SIZE_CLASSES; at++) append(p, out, &p->lists[at]);
    append(p, out, &p->held);
    memset(p->lists, 0, sizeof p->lists);
    memset(p->filled, 0, sizeof p->filled);
    memset(p->bytes, 0, sizeof p->bytes);
    p->held = (nm__list){0};
    p->count = p->victim = p->chosen = 0;
}
