// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "world.h"

#include "base/atomic.h"
#include "scope/scope_internal.h"
#include "testing.h"

#define KIB ((size_t)1 << 10)

typedef struct node node;
struct node {
    nm_scope *scope;      /* NULL: this place is free */
    node *parent;         /* NULL: the world's top */
    node *newest, *older; /* children in the order in which they are closed, and the next in the parent's list */
    int depth;
    bool strict;
    size_t hard; /* 0 = none */
    nm_arena *arena[WORLD_HOLDERS];
    nm_mark mark[WORLD_HOLDERS];
    bool marked[WORLD_HOLDERS];
    nm_pool *pool[WORLD_HOLDERS];
    nm_cache *cache[WORLD_HOLDERS];
    size_t deferred;
    size_t held; /* notes ever made, each at most a new record */
};

typedef struct lease {
    nm_lease lease;
    node *owner, *holder; /* of the pool (NULL: shared), of the lease (NULL: nobody) */
    int pool;
    unsigned char fill;
} lease;

typedef struct pin {
    nm_entry entry;
    node *owner, *holder;
    int cache;
} pin;

struct world {
    nm_scope *top;
    uint64_t random;
    size_t *outside;
    size_t steps;
    nm_pool *shared_pool;
    nm_cache *shared_cache;
    struct {
        size_t scopes, allocations, leases, puts, pins, refusals, leaks;
    } counts; /* a world in which nothing happens proves nothing */
    node nodes[WORLD_NODES];
    lease leases[WORLD_LEASES];
    pin pins[WORLD_LEASES];
};

#define EXPECT(condition, ...)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            print_error("%s:%d: after step %zu: %s: ", __FILE__, __LINE__, w->steps, #condition);                      \
            print_error(__VA_ARGS__);                                                                                  \
            print_error("\n");                                                                                         \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

static size_t below(world *w, size_t n) { return test_below(&w->random, n); }

world *world_new(nm_scope *top, uint64_t seed, size_t *outside) {
    world *w = calloc(1, sizeof *w);
    w->top = top;
    w->random = seed;
    w->outside = outside;
    return w;
}

void world_share(world *w, nm_pool *pool, nm_cache *cache) {
    w->shared_pool = pool;
    w->shared_cache = cache;
}

/* ---- the model: sums --------------------------------------------------------------------------------------------- */

/* What a scope is granted without what lies ready in it and below it. Of a request scope in a block of its own the parent is
 * granted the whole block, and what the request is not granted of it counts as credit. */
static size_t net(const nm_scope *scope) {
    nm_scope_stats st;
    nm_scope_get_stats(scope, &st);
    return nm__granted(scope) - st.credit_bytes;
}

static bool adds_up(const world *w, const node *n) {
    size_t sum = (n->deferred + 14) / 15 * NM__RECORD_BYTES;
    for (int i = 0; i < WORLD_HOLDERS; i++) {
        if (n->arena[i] != NULL) sum += nm_arena_granted(n->arena[i]);
        if (n->pool[i] != NULL) {
            nm_pool_stats st;
            nm_pool_get_stats(n->pool[i], &st);
            sum += st.granted_bytes;
        }
        if (n->cache[i] != NULL) {
            size_t used = nm_cache_used(n->cache[i]), granted = nm_cache_granted(n->cache[i]);
            EXPECT(used <= granted && granted <= nm_cache_budget(n->cache[i]), "%zu used, %zu granted of %zu", used,
                   granted, nm_cache_budget(n->cache[i]));
            sum += granted;
        }
    }
    for (const node *c = n->newest; c != NULL; c = c->older) sum += net(c->scope) + NM__RECORD_BYTES;
    size_t granted = net(n->scope);
    /* how many records the notes of held things take depends on which are stale; never more than one each */
    size_t notes = granted - sum;
    EXPECT(granted >= sum && notes % NM__RECORD_BYTES == 0 && notes <= n->held * NM__RECORD_BYTES,
           "scope at depth %d granted %zu, its parts add up to %zu", n->depth, granted, sum);
    return true;
}

bool world_adds_up(const world *w) {
    size_t sum = 0;
    for (int i = 0; i < WORLD_NODES; i++) {
        const node *n = &w->nodes[i];
        if (n->scope == NULL) continue;
        if (!adds_up(w, n)) return false;
        if (n->parent == NULL) sum += net(n->scope) + NM__RECORD_BYTES;
    }
    if (w->top->parent == NULL) {
        nm_scope_stats st;
        nm_scope_get_stats(w->top, &st);
        size_t handed = nm_atomic_load(&w->top->root->handed, NM_RELAXED) - st.credit_bytes;
        EXPECT(handed == sum, "the root handed %zu, the scopes have %zu", handed, sum);
    } else {
        EXPECT(net(w->top) == sum, "the top has %zu, its scopes %zu", net(w->top), sum);
    }
    return true;
}

bool world_within_limits(const world *w) {
    for (int i = 0; i < WORLD_NODES; i++) {
        const node *n = &w->nodes[i];
        if (n->scope == NULL || n->hard == 0) continue;
        EXPECT(nm__granted(n->scope) <= n->hard, "granted %zu of %zu", nm__granted(n->scope), n->hard);
    }
    for (const nm_scope *s = w->top; s != NULL; s = s->parent) {
        size_t granted = nm__granted(s), hard = nm_atomic_load(&s->hard, NM_RELAXED);
        EXPECT(granted <= hard, "\"%s\" granted %zu of %zu", s->name, granted, hard);
    }
    return true;
}

/* ---- the model: closing ------------------------------------------------------------------------------------------ */

/* True if both are closed by the same close. Which of them goes first is not promised where requests are among them: then what
 * one holds of the other's pool or cache may be found out as a leak, or have gone back already. */
static bool is_under(const node *n, const node *closing) {
    while (n != NULL && n != closing) n = n->parent;
    return n != NULL;
}

static size_t either_way(const world *w, const node *closing) {
    size_t count = 0;
    for (int k = 0; k < WORLD_LEASES; k++) {
        const lease *l = &w->leases[k];
        const pin *p = &w->pins[k];
        if (l->lease.data != NULL && l->owner != NULL && l->holder != NULL && l->owner != l->holder)
            count += is_under(l->owner, closing) && is_under(l->holder, closing);
        if (p->entry.slot != NULL && p->owner != NULL && p->holder != NULL && p->owner != p->holder)
            count += is_under(p->owner, closing) && is_under(p->holder, closing);
    }
    return count;
}

static size_t forget_pool(world *w, const node *n, int i) {
    size_t leaks = 0;
    for (int k = 0; k < WORLD_LEASES; k++) {
        lease *l = &w->leases[k];
        if (l->lease.data == NULL || l->owner != n || l->pool != i) continue;
        memset(l, 0, sizeof *l);
        leaks++;
    }
    return leaks;
}

static size_t forget_cache(world *w, const node *n, int i) {
    size_t leaks = 0;
    for (int k = 0; k < WORLD_LEASES; k++) {
        pin *p = &w->pins[k];
        if (p->entry.slot == NULL || p->owner != n || p->cache != i) continue;
        memset(p, 0, sizeof *p);
        leaks++;
    }
    return leaks;
}

static void forget_held(world *w, const node *n, size_t *strict_leaks) {
    for (int k = 0; k < WORLD_LEASES; k++) {
        if (w->leases[k].lease.data != NULL && w->leases[k].holder == n) {
            memset(&w->leases[k], 0, sizeof w->leases[k]);
            ++*strict_leaks;
        }
        if (w->pins[k].entry.slot != NULL && w->pins[k].holder == n) {
            memset(&w->pins[k], 0, sizeof w->pins[k]);
            ++*strict_leaks;
        }
    }
}

/* What nm_scope_close does, in its order; returns the leaks. */
static size_t forget_node(world *w, node *n) {
    size_t leaks = 0, held = 0;
    while (n->newest != NULL) leaks += 1 + forget_node(w, n->newest);
    forget_held(w, n, &held);
    if (n->strict) leaks += held;
    for (int i = 0; i < WORLD_HOLDERS; i++) {
        if (n->pool[i] != NULL) leaks += forget_pool(w, n, i);
        if (n->cache[i] != NULL) leaks += forget_cache(w, n, i);
    }
    if (n->parent != NULL) {
        node **link = &n->parent->newest;
        while (*link != n) link = &(*link)->older;
        *link = n->older;
    }
    memset(n, 0, sizeof *n);
    return leaks;
}

/* ---- operations on scopes ---------------------------------------------------------------------------------------- */

static node *some_node(world *w) {
    for (int tries = 0; tries < 8; tries++) {
        node *n = &w->nodes[below(w, WORLD_NODES)];
        if (n->scope != NULL) return n;
    }
    return NULL;
}

static size_t some_limit(world *w) {
    static const size_t limits[] = {0, 0, 0, 3000, 40000, (size_t)200 << 10, (size_t)500 << 10, (size_t)1 << 20};
    return limits[below(w, sizeof limits / sizeof limits[0])];
}

/* Counts what succeeds in *count. True: the status is one that the call may give. */
static bool done_or_refused(world *w, nm_status st, size_t *count) {
    if (st == NM_OK) ++*count;
    if (st != NM_OK) w->counts.refusals++;
    return st == NM_OK || st == NM_EBUDGET || st == NM_ENOMEM || st == NM_ECAPACITY || st == NM_ETOOLARGE;
}

static bool open_scope(world *w) {
    node *n = NULL;
    for (int i = 0; i < WORLD_NODES && n == NULL; i++)
        if (w->nodes[i].scope == NULL) n = &w->nodes[i];
    if (n == NULL) return true;
    node *parent = some_node(w);
    if (parent != NULL && parent->depth == WORLD_DEPTH) parent = NULL;
    size_t hard = some_limit(w);
    bool strict = below(w, 4) == 0;
    nm_scope_kind kind = (nm_scope_kind)(NM_SCOPE_SERVICE + below(w, 4));
    size_t credit = kind == NM_SCOPE_SERVICE && below(w, 3) == 0 ? (size_t)4096 << below(w, 4) : 0;
    nm_status st = nm_scope_open(&n->scope, parent != NULL ? parent->scope : w->top,
                                 NM_SCOPE_OPTIONS(.kind = kind, .credit_bytes = credit,
                                                  .soft_bytes = below(w, 3) == 0 ? hard / 2 : 0, .hard_bytes = hard,
                                                  .leak_report = strict ? NM_LEAKS_STRICT : NM_LEAKS_DEFAULT));
    EXPECT(done_or_refused(w, st, &w->counts.scopes), "%s", nm_status_name(st));
    if (st != NM_OK) return true;
    n->hard = hard;
    n->strict = strict;
    n->parent = parent;
    if (parent != NULL) {
        n->depth = parent->depth + 1;
        n->older = parent->newest;
        parent->newest = n;
    }
    return true;
}

static bool close_node(world *w, node *n) {
    nm_scope *scope = n->scope, *parent = scope->parent;
    size_t here = net(scope), before = net(parent);
    bool alone = parent->parent != NULL && w->shared_pool == NULL;
    size_t doubtful = either_way(w, n), leaks = forget_node(w, n);
    nm_leak_report report;
    size_t got = nm_scope_close(scope, &report);
    EXPECT(got == report.leaked_count && got + doubtful >= leaks && got <= leaks + doubtful,
           "%zu leaks reported, %zu left, %zu either way", got, leaks, doubtful);
    w->counts.leaks += got;
    /* the parent gets back what it had given; more, where the scope's pins were the last of what a cache had dropped */
    size_t after = net(parent);
    EXPECT(!alone || after <= before - here - NM__RECORD_BYTES, "parent %zu -> %zu, the scope had %zu", before, after,
           here);
    return true;
}

static bool change_budget(world *w, node *n) {
    size_t hard = some_limit(w);
    nm_status st = nm_scope_set_budget(n->scope, 0, hard);
    EXPECT(st == NM_OK || st == NM_EBUSY, "%s", nm_status_name(st));
    if (st == NM_OK) n->hard = hard;
    return true;
}

static void nothing(void *arg) { (void)arg; }

static bool defer(world *w, node *n) {
    nm_status st = nm_scope_defer(n->scope, nothing, NULL);
    EXPECT(done_or_refused(w, st, &n->deferred), "%s", nm_status_name(st));
    return true;
}

/* ---- operations on arenas ---------------------------------------------------------------------------------------- */

/* To a free place of any scope of the world. */
static bool move_arena(world *w, node *from, int i) {
    node *to = some_node(w);
    if (to == NULL) return true;
    int k = 0;
    while (k < WORLD_HOLDERS && to->arena[k] != NULL) k++;
    if (k == WORLD_HOLDERS || to == from) return true;
    size_t granted = nm_arena_granted(from->arena[i]);
    nm_status st = nm_arena_move(from->arena[i], to->scope);
    EXPECT(nm_arena_granted(from->arena[i]) == granted, "granted %zu", granted);
    if (st != NM_OK) {
        EXPECT(st == NM_EBUDGET, "%s", nm_status_name(st));
        w->counts.refusals++;
        return true;
    }
    to->arena[k] = from->arena[i];
    to->mark[k] = from->mark[i];
    to->marked[k] = from->marked[i];
    from->arena[i] = NULL;
    from->marked[i] = false;
    return true;
}

static bool use_arena(world *w, node *n) {
    int i = (int)below(w, WORLD_HOLDERS);
    if (n->arena[i] == NULL) {
        bool contiguous = below(w, 8) == 0, secret = below(w, 8) == 0;
        size_t capacity = contiguous || below(w, 4) == 0 ? 100000 : 0;
        nm_status st =
            nm_arena_open(&n->arena[i], n->scope,
                          NM_ARENA_OPTIONS(.capacity_bytes = capacity, .contiguous = contiguous, .secret = secret));
        EXPECT((st == NM_OK) == (n->arena[i] != NULL), "%s", nm_status_name(st));
        return true;
    }
    nm_arena *a = n->arena[i];
    switch (below(w, 24)) {
    case 0:
        nm_arena_close(a);
        n->arena[i] = NULL;
        n->marked[i] = false;
        return true;
    case 1:
        nm_arena_reset(a);
        n->marked[i] = false;
        EXPECT(nm_arena_used(a) == 0, "%zu", nm_arena_used(a));
        return true;
    case 2:
        n->mark[i] = nm_arena_mark(a);
        n->marked[i] = n->mark[i].record != NULL;
        return true;
    case 3:
        if (n->marked[i]) EXPECT(nm_arena_rewind(a, n->mark[i]) == NM_OK, "a mark in force was refused");
        return true;
    case 4: return move_arena(w, n, i);
    default: break;
    }
    size_t bytes = below(w, 40) == 0 ? below(w, (size_t)300 << 10) : below(w, 400);
    size_t used = nm_arena_used(a);
    unsigned char *p = nm_arena_alloc(a, bytes);
    if (p == NULL) {
        EXPECT(nm_arena_status(a) != NM_OK && nm_arena_used(a) == used, "%s", nm_status_name(nm_arena_status(a)));
        w->counts.refusals++;
        return true;
    }
    w->counts.allocations++;
    if (bytes > 0) p[0] = p[bytes - 1] = 1;
    EXPECT(nm_arena_used(a) > used && nm_arena_used(a) <= nm_arena_capacity(a), "used %zu -> %zu of %zu", used,
           nm_arena_used(a), nm_arena_capacity(a));
    return true;
}

/* ---- operations on pools ----------------------------------------------------------------------------------------- */

static bool release_some_lease(world *w) {
    lease *l = &w->leases[below(w, WORLD_LEASES)];
    if (l->lease.data == NULL) return true;
    unsigned char *p = l->lease.data;
    EXPECT(p[0] == l->fill && p[l->lease.size - 1] == l->fill, "a leased buffer was written by somebody else");
    if (l->owner != NULL && below(w, 3) == 0)
        nm_pool_release_data(l->owner->pool[l->pool], p);
    else
        nm_lease_release(&l->lease);
    memset(l, 0, sizeof *l);
    return true;
}

static bool lease_from(world *w, nm_pool *pool, node *owner, int i) {
    lease *l = &w->leases[below(w, WORLD_LEASES)];
    if (l->lease.data != NULL) return true;
    node *holder = below(w, 2) == 0 ? some_node(w) : NULL;
    nm_status st =
        holder != NULL ? nm_pool_lease_in(pool, holder->scope, &l->lease) : nm_pool_try_lease(pool, &l->lease);
    EXPECT((st == NM_OK) == (l->lease.data != NULL) && done_or_refused(w, st, &w->counts.leases), "%s",
           nm_status_name(st));
    if (st != NM_OK) return true;
    l->owner = owner;
    l->pool = i;
    l->holder = holder;
    l->fill = (unsigned char)w->steps;
    if (holder != NULL) holder->held++;
    memset(l->lease.data, l->fill, l->lease.size);
    return true;
}

static size_t leases_out(const world *w, const node *n, int i) {
    size_t out = 0;
    for (int k = 0; k < WORLD_LEASES; k++)
        if (w->leases[k].lease.data != NULL && w->leases[k].owner == n && w->leases[k].pool == i) out++;
    return out;
}

static bool use_pool(world *w, node *n) {
    int i = (int)below(w, WORLD_HOLDERS);
    if (n->pool[i] == NULL) {
        static const size_t chunks[] = {100, 1000, 4096, 16384};
        nm_status st = nm_pool_open(&n->pool[i], n->scope,
                                    NM_POOL_OPTIONS(.chunk_bytes = chunks[below(w, 4)], .prealloc_count = below(w, 3),
                                                    .max_count = 2 + below(w, 20)));
        size_t opened = 0;
        EXPECT((st == NM_OK) == (n->pool[i] != NULL) && done_or_refused(w, st, &opened), "%s", nm_status_name(st));
        return true;
    }
    switch (below(w, 24)) {
    case 0: {
        size_t out = leases_out(w, n, i);
        nm_status st = nm_pool_close(n->pool[i]);
        EXPECT(st == (out == 0 ? NM_OK : NM_EBUSY), "%s with %zu leases out", nm_status_name(st), out);
        if (st == NM_OK) n->pool[i] = NULL;
        return true;
    }
    case 1: nm_pool_trim(n->pool[i], below(w, 4)); return true;
    case 2: {
        nm_pool_stats st;
        nm_pool_get_stats(n->pool[i], &st);
        EXPECT(st.leased_count == leases_out(w, n, i), "%zu counted, %zu out", st.leased_count, leases_out(w, n, i));
        return true;
    }
    default: return lease_from(w, n->pool[i], n, i);
    }
}

/* ---- operations on caches ---------------------------------------------------------------------------------------- */

void world_object_left(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size,
                       void *context) {
    (void)reason;
    (void)key;
    /* objects have keys of 2 bytes in these worlds, values of 3 and more */
    if (key_len == 2 && value != NULL) nm_atomic_sub((size_t *)context, size, NM_RELAXED);
}

static bool release_some_pin(world *w) {
    pin *p = &w->pins[below(w, WORLD_LEASES)];
    if (p->entry.slot == NULL) return true;
    nm_entry_release(&p->entry);
    memset(p, 0, sizeof *p);
    return true;
}

static bool put_object(world *w, nm_cache *cache) {
    unsigned char key[2] = {(unsigned char)below(w, 100), 'o'};
    static char object;
    size_t size = below(w, 3000);
    /* before, for the object may be evicted again before the call returns */
    nm_atomic_add(w->outside, size, NM_RELAXED);
    nm_status st = nm_cache_put_object(cache, key, sizeof key, &object, size);
    if (st != NM_OK) nm_atomic_sub(w->outside, size, NM_RELAXED);
    EXPECT(done_or_refused(w, st, &w->counts.puts), "%s", nm_status_name(st));
    return true;
}

static bool use_entries(world *w, nm_cache *cache, node *owner, int i) {
    char key[16];
    size_t key_len = (size_t)snprintf(key, sizeof key, "key%zu", below(w, 20));
    static const unsigned char value[(size_t)40 << 10];
    switch (below(w, 8)) {
    case 0: {
        pin *p = &w->pins[below(w, WORLD_LEASES)];
        if (p->entry.slot != NULL) return true;
        node *holder = below(w, 2) == 0 ? some_node(w) : NULL;
        bool hit = holder != NULL ? nm_cache_get_in(cache, holder->scope, key, key_len, &p->entry)
                                  : nm_cache_get(cache, key, key_len, &p->entry);
        EXPECT(hit == (p->entry.slot != NULL), "a hit and its entry disagree");
        if (!hit) return true;
        EXPECT(p->entry.key_len == key_len && memcmp(p->entry.key, key, key_len) == 0, "another key's entry");
        w->counts.pins++;
        p->owner = owner;
        p->cache = i;
        p->holder = holder;
        if (holder != NULL) holder->held++;
        return true;
    }
    case 1: {
        nm_status st = nm_cache_remove(cache, key, key_len);
        EXPECT(st == NM_OK || st == NM_ENOTFOUND, "%s", nm_status_name(st));
        return true;
    }
    case 2: return put_object(w, cache);
    default: {
        size_t size = below(w, 30) == 0 ? below(w, sizeof value) : below(w, 500);
        nm_status st = nm_cache_put(cache, key, key_len, value, size);
        EXPECT(done_or_refused(w, st, &w->counts.puts), "%s", nm_status_name(st));
        return true;
    }
    }
}

static bool open_cache(world *w, node *n, int i) {
    nm_cache_options o = nm_cache_options_init();
    o.elastic = below(w, 2) == 0;
    o.shard_count = (unsigned)1 << below(w, 2);
    o.policy = below(w, 3) == 0 ? NM_CACHE_LRU : NM_CACHE_SLRU;
    o.on_evict = world_object_left;
    o.context = w->outside;
    o.budget_bytes = nm_cache_min_bytes(&o) + below(w, (size_t)100 << 10);
    nm_status st = nm_cache_open(&n->cache[i], n->scope, &o);
    size_t opened = 0;
    EXPECT((st == NM_OK) == (n->cache[i] != NULL) && done_or_refused(w, st, &opened), "%s", nm_status_name(st));
    return true;
}

static bool use_cache(world *w, node *n) {
    int i = (int)below(w, WORLD_HOLDERS / 2);
    if (n->cache[i] == NULL) return open_cache(w, n, i);
    switch (below(w, 60)) {
    case 0: {
        size_t out = 0;
        for (int k = 0; k < WORLD_LEASES; k++)
            if (w->pins[k].entry.slot != NULL && w->pins[k].owner == n && w->pins[k].cache == i) out++;
        nm_status st = nm_cache_close(n->cache[i]);
        EXPECT(st == (out == 0 ? NM_OK : NM_EBUSY), "%s with %zu pins out", nm_status_name(st), out);
        if (st == NM_OK) n->cache[i] = NULL;
        return true;
    }
    case 1: nm_cache_clear(n->cache[i]); return true;
    case 2: {
        size_t budget = nm_cache_budget(n->cache[i]) / 2 + below(w, (size_t)200 << 10);
        nm_status st = nm_cache_resize(n->cache[i], budget);
        EXPECT(st == NM_OK || st == NM_EINVAL || st == NM_EBUSY || st == NM_ECAPACITY, "%s", nm_status_name(st));
        EXPECT(st != NM_OK || nm_cache_budget(n->cache[i]) == budget, "the budget is not what was asked for");
        return true;
    }
    default:
        for (int k = 0; k < 3; k++)
            if (!use_entries(w, n->cache[i], n, i)) return false;
        return true;
    }
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

bool world_step(world *w) {
    w->steps++;
    size_t what = below(w, 200);
    if (what < 6) return open_scope(w);
    if (what < 20) return release_some_lease(w);
    if (what < 30) return release_some_pin(w);
    if (what < 36 && w->shared_pool != NULL) return lease_from(w, w->shared_pool, NULL, 0);
    if (what < 50 && w->shared_cache != NULL) return use_entries(w, w->shared_cache, NULL, 0);
    node *n = some_node(w);
    if (n == NULL) return open_scope(w);
    /* mostly leaves: with every inner scope goes a tree */
    if (what < 52) return n->newest == NULL || below(w, 16) == 0 ? close_node(w, n) : true;
    if (what < 56) return change_budget(w, n);
    if (what < 58) {
        nm_scope_reclaim(n->scope, below(w, (size_t)64 << 10));
        return true;
    }
    if (what < 60) {
        nm_scope_fail_after(n->scope, below(w, 4));
        return true;
    }
    if (what < 62) return defer(w, n);
    if (what < 110) return use_arena(w, n);
    if (what < 150) return use_pool(w, n);
    return use_cache(w, n);
}

static bool drop_shared(world *w) {
    for (int k = 0; k < WORLD_LEASES; k++) {
        if (w->leases[k].lease.data != NULL && w->leases[k].owner == NULL) {
            nm_lease_release(&w->leases[k].lease);
            memset(&w->leases[k], 0, sizeof w->leases[k]);
        }
        if (w->pins[k].entry.slot != NULL && w->pins[k].owner == NULL) {
            nm_entry_release(&w->pins[k].entry);
            memset(&w->pins[k], 0, sizeof w->pins[k]);
        }
    }
    return true;
}

bool world_end(world *w) {
    bool ok = drop_shared(w);
    for (int i = 0; i < WORLD_NODES; i++)
        while (w->nodes[i].scope != NULL && ok) {
            node *n = &w->nodes[i];
            while (n->parent != NULL) n = n->parent;
            ok = close_node(w, n);
        }
    print_message("  %zu steps: %zu scopes, %zu allocations, %zu leases, %zu puts, %zu pins, %zu refusals, %zu leaks\n",
                  w->steps, w->counts.scopes, w->counts.allocations, w->counts.leases, w->counts.puts, w->counts.pins,
                  w->counts.refusals, w->counts.leaks);
    /* short runs may miss a kind; long ones must have seen all */
    const size_t counts[] = {w->counts.scopes, w->counts.allocations, w->counts.leases, w->counts.puts,
                             w->counts.pins,   w->counts.refusals,    w->counts.leaks};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && w->steps >= 50000; i++)
        EXPECT(counts[i] >= 100, "some kind of operation hardly ever happens");
    free(w);
    return ok;
}
