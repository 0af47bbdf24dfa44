// SPDX-License-Identifier: Apache-2.0 OR MIT
/* S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi 2023): a small queue that new nodes must outlive, a main queue in which what was used
 * goes round again, and ghosts of what did not outlive the small one. The figures are the paper's. */
#include "cache/eviction_lists.h"

#define NM__SMALL_PERCENT 10
#define NM__SMALL_USES    2 /* hits in the small queue that earn a place in the main one */
/* A call looks at so many nodes; who was passed over so often is no better than the next. */
#define NM__ROUNDS_MAX 64

static size_t small_limit(const nm__policy *p) { return p->room / 100 * NM__SMALL_PERCENT + p->room % 100 / 10; }

void nm__s3fifo_add(nm__policy *p, uint32_t number, uint64_t hash) {
    nm__node *node = nm__policy_node(p, number);
    size_t weight = nm__weigh(p, number);
    /* While there is room nobody is tried: the small queue stays small. */
    bool fill = !p->full && p->bytes[NM__WINDOW] + weight > small_limit(p);
    unsigned place;
    bool main = nm__ghosts_take(&p->ghosts, hash, &place) != 0 || fill;
    nm__node_set_state(node, nm__with_rank(nm__node_state(node), main ? NM__PROBATION : NM__WINDOW));
    p->bytes[main ? NM__PROBATION : NM__WINDOW] += weight;
    nm__enlist(p, number, weight);
}

uint32_t nm__s3fifo_victim(nm__policy *p, size_t incoming) {
    (void)incoming;
    p->full = true;
    for (int round = 0;; round++) {
        uint32_t small = nm__tail(p, NM__WINDOW), main = nm__tail(p, NM__PROBATION);
        bool from_small = small != 0 && (p->bytes[NM__WINDOW] > small_limit(p) || main == 0);
        uint32_t at = from_small ? small : main;
        if (at == 0 || round == NM__ROUNDS_MAX) return at;
        uint32_t state = nm__node_state(nm__policy_node(p, at));
        unsigned uses = nm__uses_of(state);
        if (from_small) {
            if (uses < NM__SMALL_USES) return at;
            state = nm__with_uses(nm__with_rank(state, NM__PROBATION), 0);
        } else {
            if (uses == 0) return at;
            state = nm__with_uses(state, (uses < NM__MAIN_USES ? uses : NM__MAIN_USES) - 1);
        }
        nm__reenlist(p, at, state, nm__weigh(p, at));
    }
}
