// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Every way for the one buffer that is left of a pool to come back. */
#ifndef NM_TESTS_SUPPORT_POOL_WAYS_H
#define NM_TESTS_SUPPORT_POOL_WAYS_H

#include "pool_scarce.h"

/* A way for the one buffer to come back; `lease` was leased by the main thread, which has a magazine if the pool has any. */
typedef struct way {
    const char *name;
    void (*prepare)(fixture *f, scarce *s, nm_lease *lease);
    void (*back)(scarce *s, nm_lease *lease);
} way;

static hand way_hand; /* another thread, for the ways */
static nm_scope *way_request;
static nm_lease way_share;

static inline void lease_it(fixture *f, scarce *s, nm_lease *lease) {
    (void)f;
    *lease = lease_of(s->pool);
}
static inline void lease_it_and_share_it(fixture *f, scarce *s, nm_lease *lease) {
    lease_it(f, s, lease);
    assert_ok(nm_lease_share(lease, &way_share));
}
static inline void lease_it_for_a_request(fixture *f, scarce *s, nm_lease *lease) {
    assert_ok(nm_scope_open(&way_request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
    assert_ok(nm_pool_lease_in(s->pool, way_request, lease));
}
static inline void lease_it_elsewhere(fixture *f, scarce *s, nm_lease *lease) {
    (void)f;
    lot l = {.pool = s->pool, .leases = lease, .count = 1};
    hand_do(&way_hand, lease_lot, &l);
    assert_int_equal(l.failed, 0);
}
static inline void lease_it_elsewhere_where_it_is_done_often(fixture *f, scarce *s, nm_lease *lease) {
    lot often = {.pool = s->pool, .count = 1};
    hand_do(&way_hand, use_often, &often);
    lease_it_elsewhere(f, s, lease);
}

static inline void release_it(scarce *s, nm_lease *lease) {
    (void)s;
    nm_lease_release(lease);
}
static inline void release_its_address(scarce *s, nm_lease *lease) {
    nm_pool_release_data(s->pool, lease->data);
    *lease = (nm_lease){0};
}
static inline void release_it_among_many(scarce *s, nm_lease *lease) {
    (void)s;
    nm_lease many[3] = {{0}, *lease, {0}};
    nm_lease_release_many(many, COUNT(many));
}
static inline void close_the_request(scarce *s, nm_lease *lease) {
    (void)s, (void)lease;
    assert_int_equal(nm_scope_close(way_request, NULL), 0);
}
static inline void release_it_then_its_share(scarce *s, nm_lease *lease) {
    nm_lease_release(lease);
    assert_int_equal(stats_of(s->pool).waiting_count, 1);
    nm_lease_release(&way_share);
}
static inline void release_its_share_then_it_elsewhere(scarce *s, nm_lease *lease) {
    nm_lease_release(&way_share);
    assert_int_equal(stats_of(s->pool).waiting_count, 1);
    hand_do(&way_hand, release_one, lease);
}
static inline void release_it_elsewhere(scarce *s, nm_lease *lease) {
    (void)s;
    hand_do(&way_hand, release_one, lease);
}
static inline void release_it_on_a_thread_that_ends(scarce *s, nm_lease *lease) {
    (void)s;
    hand_do(&way_hand, release_one, lease);
    hand_end(&way_hand);
    hand_start(&way_hand);
}
static inline void end_the_block(scarce *s, nm_lease *lease) {
    (void)s;
    nm_lease scoped __attribute__((__cleanup__(nm__lease_end))) = *lease;
    (void)scoped;
}

static const way ways[] = {
    {"released", lease_it, release_it},
    {"released by address", lease_it, release_its_address},
    {"released among many", lease_it, release_it_among_many},
    {"released at the end of a block", lease_it, end_the_block},
    {"given back by the scope that held it", lease_it_for_a_request, close_the_request},
    {"released by the last that shared it", lease_it_and_share_it, release_it_then_its_share},
    {"released elsewhere by the last holder", lease_it_and_share_it, release_its_share_then_it_elsewhere},
    {"released by another thread", lease_it, release_it_elsewhere},
    {"released by another thread, which ends", lease_it, release_it_on_a_thread_that_ends},
    {"released for another thread", lease_it_elsewhere, release_it},
    {"released for another thread, which has a magazine", lease_it_elsewhere_where_it_is_done_often, release_it},
    {"released by address for another thread", lease_it_elsewhere_where_it_is_done_often, release_its_address},
};

#endif
