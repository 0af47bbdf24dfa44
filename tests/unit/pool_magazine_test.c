// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What threads keep in front of a pool, and that nobody is the poorer for it. */
#include <sched.h>
#include <sys/uio.h>

#include "pool_fixture.h"

static nm_lease lease_of(nm_pool *pool) {
    nm_lease lease;
    assert_ok(nm_pool_try_lease(pool, &lease));
    return lease;
}

static size_t front_of(const nm_pool *pool) { return stats_of(pool).front_count; }

/* ---- magazine_count ----------------------------------------------------------------------------------------------- */

static void a_thread_keeps_as_many_as_its_magazine_holds(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    for (size_t count = 0; count <= 256; count = count == 0 ? 1 : 2 * count) {
        nm_pool *pool =
            open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 256, .max_count = 16384, .magazine_count = count));
        nm_lease leases[700];
        lot l = {.pool = pool, .leases = leases};
        size_t most = 0;
        for (l.count = COUNT(leases); l.count > 600; l.count--) {
            hand_do(&h, lease_lot, &l);
            assert_int_equal(l.failed, 0);
            for (size_t i = 0; i < l.count; i++) { /* the last of them while we look */
                if (i + 4 < l.count) continue;
                lot part = {.leases = leases + (i + 4 == l.count ? 0 : i), .count = i + 4 == l.count ? i + 1 : 1};
                hand_do(&h, release_lot, &part);
                size_t kept = front_of(pool);
                most = kept > most ? kept : most;
            }
        }
        size_t wanted = count == 0 ? 256 : count == 1 ? 0 : count;
        if (!keeps_in_front()) wanted = 0;
        assert_int_equal(most, wanted);
        assert_int_equal(stats_of(pool).thread_count, wanted != 0);
        close_pool(pool);
    }
    hand_end(&h);
}

static void a_magazine_count_that_is_no_power_of_two_up_to_256_is_refused(void **state) {
    fixture *f = *state;
    static const size_t bad[] = {3, 5, 6, 7, 12, 63, 65, 255, 257, 512, (size_t)1 << 63, SIZE_MAX, SIZE_MAX - 1};
    for (size_t i = 0; i < COUNT(bad); i++) {
        nm_pool *pool = (nm_pool *)(void *)f;
        assert_status(nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 64, .magazine_count = bad[i])),
                      NM_EINVAL);
        assert_null(pool);
        assert_int_equal(granted(f->scope), 0);
    }
}

static size_t page_calls;
static bool counted_commit(void *address, size_t bytes) {
    page_calls++;
    return nm__os_system.commit(address, bytes);
}
static bool counted_decommit(void *address, size_t bytes) {
    page_calls++;
    return nm__os_system.decommit(address, bytes);
}

static void a_pool_too_small_for_magazines_does_not_try_to_make_one_each_time(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    static nm__os table;
    table = nm__os_system;
    table.commit = counted_commit;
    table.decommit = counted_decommit;
    nm__os_replace(&table);
    static const size_t caps[] = {8, 64, 95, 96, 128, 256};
    for (size_t i = 0; i < COUNT(caps); i++) {
        nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 256, .max_count = caps[i]));
        lot often = {.pool = pool, .count = 4};
        use_often(&often);
        hand_do(&h, use_often, &often);
        page_calls = 0;
        for (int round = 0; round < 100; round++) {
            use_often(&often);
            nm_lease lease = lease_of(pool);
            hand_do(&h, release_one, &lease);
        }
        assert_int_equal(page_calls, 0);
        close_pool(pool);
    }
    nm__os_replace(NULL);
    hand_end(&h);
}

/* ---- the capacity promise ------------------------------------------------------------------------------------------ */

enum { IDLE = 3, CAP = 255 };

static size_t lease_each(nm_pool *pool, nm_scope *holder, nm_lease *out, size_t n) {
    (void)holder;
    size_t done = 0;
    while (done < n && nm_pool_try_lease(pool, &out[done]) == NM_OK) done++;
    return done;
}
static size_t lease_many_at_once(nm_pool *pool, nm_scope *holder, nm_lease *out, size_t n) {
    (void)holder;
    return nm_pool_lease_many(pool, out, n);
}
static size_t lease_without_waiting(nm_pool *pool, nm_scope *holder, nm_lease *out, size_t n) {
    (void)holder;
    size_t done = 0;
    while (done < n && nm_pool_lease_wait(pool, &out[done], 0) == NM_OK) done++;
    return done;
}
static size_t lease_for_a_scope(nm_pool *pool, nm_scope *holder, nm_lease *out, size_t n) {
    size_t done = 0;
    while (done < n && nm_pool_lease_in(pool, holder, &out[done]) == NM_OK) done++;
    return done;
}

static void all_buffers_can_be_leased_whatever_threads_that_rest_have_in_front(void **state) {
    fixture *f = *state;
    static size_t (*const ways[])(nm_pool *, nm_scope *, nm_lease *,
                                  size_t) = {lease_each, lease_many_at_once, lease_without_waiting, lease_for_a_scope};
    static const size_t counts[] = {0, 2, 16, 64};
    hand hands[IDLE];
    nm_lease leases[CAP + 1], one_more, theirs[IDLE][40];
    for (size_t i = 0; i < IDLE; i++) hand_start(&hands[i]);
    for (size_t c = 0; c < 2 * COUNT(counts); c++) {
        bool prealloc = c % 2 != 0;
        nm_pool *pool =
            open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 512, .max_count = CAP,
                                                .prealloc_count = prealloc ? CAP : 0, .magazine_count = counts[c / 2]));
        for (size_t w = 0; w < COUNT(ways); w++) {
            nm_scope *request;
            assert_ok(nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
            lot often = {.pool = pool, .count = 40}, l[IDLE];
            for (size_t i = 0; i < IDLE; i++) {
                hand_do(&hands[i], use_often, &often);
                l[i] = (lot){.pool = pool, .leases = theirs[i], .count = 40};
                hand_do(&hands[i], lease_lot, &l[i]);
            }
            /* and have released what others leased, which may lie with them as notes */
            for (size_t i = 0; i < IDLE; i++) hand_do(&hands[i], release_lot, &l[(i + 1) % IDLE]);
            assert_int_equal(often.failed, 0);
            if (keeps_in_front()) assert_true(front_of(pool) > 0 && stats_of(pool).thread_count >= IDLE);
            assert_int_equal(ways[w](pool, request, leases, COUNT(leases)), CAP);
            assert_int_equal(stats_of(pool).leased_count, CAP);
            assert_status(nm_pool_try_lease(pool, &one_more), NM_ECAPACITY);
            for (size_t i = 0; i < CAP; i++) memset(leases[i].data, 1, leases[i].size);
            nm_lease_release_many(leases, CAP);
            assert_int_equal(nm_scope_close(request, NULL), 0);
        }
        close_pool(pool);
    }
    for (size_t i = 0; i < IDLE; i++) hand_end(&hands[i]);
}

enum { CROWD = 8 };

typedef struct crowd {
    nm_pool *pool;
    size_t rounds, share;
    NM_ATOMIC(size_t) refused;
} crowd;

/* Never more than its share: so whatever the others do, there is one for it. */
static void *lease_ones_share(void *arg) {
    crowd *c = arg;
    nm_lease leases[32];
    for (size_t round = 0; round < c->rounds; round++) {
        size_t n = round % 3 == 0 ? 1 + round / 3 % c->share : c->share;
        for (size_t i = 0; i < n; i++)
            if (nm_pool_try_lease(c->pool, &leases[i]) != NM_OK) nm_atomic_add(&c->refused, 1, NM_RELAXED);
        nm_lease_release_many(leases, n);
    }
    return NULL;
}

static void threads_that_together_want_no_more_than_there_is_are_never_refused(void **state) {
    fixture *f = *state;
    static const struct { size_t threads, share; } shapes[] = {{8, 1}, {8, 16}, {4, 32}, {2, 32}, {8, 32}, {5, 23}};
    for (size_t s = 0; s < COUNT(shapes); s++) {
        crowd c = {.share = shapes[s].share, .rounds = (TEST_SLOW ? 1000 : 10000) / shapes[s].share};
        pthread_t threads[CROWD];
        c.pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 64, .max_count = c.share * shapes[s].threads));
        for (size_t i = 0; i < shapes[s].threads; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, lease_ones_share, &c), 0);
        for (size_t i = 0; i < shapes[s].threads; i++) pthread_join(threads[i], NULL);
        if (c.refused != 0) fail_msg("%zu threads, %zu each: %zu refused", shapes[s].threads, c.share, c.refused);
        check_whole(c.pool, c.share * shapes[s].threads);
        close_pool(c.pool);
    }
}

/* ---- an eighth ------------------------------------------------------------------------------------------------------ */

enum { HANDS = 6 };

static void threads_together_never_keep_more_than_an_eighth(void **state) {
    fixture *f = *state;
    hand hands[HANDS];
    static nm_lease leases[HANDS][700];
    for (size_t i = 0; i < HANDS; i++) hand_start(&hands[i]);
    for (size_t cap = 8; cap <= 4096; cap += cap < 64 ? 8 : cap < 512 ? 61 : 511) {
        for (size_t magazine = 0; magazine <= 64; magazine = magazine == 0 ? 2 : 8 * magazine) {
            nm_pool *pool =
                open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 64, .max_count = cap, .magazine_count = magazine));
            size_t most = 0;
            lot l[HANDS];
            for (size_t i = 0; i < HANDS; i++)
                l[i] = (lot){.pool = pool, .leases = leases[i], .count = cap / HANDS, .failed = 0};
            for (size_t round = 0; round < 12; round++) {
                for (size_t i = 0; i < HANDS; i++) hand_do(&hands[i], lease_lot, &l[i]);
                for (size_t i = 0; i < HANDS; i++) {
                    assert_int_equal(l[i].failed, 0);
                    /* its own, or its neighbour's */
                    hand_do(&hands[(i + round) % HANDS], release_lot, &l[i]);
                    size_t kept = front_of(pool);
                    most = kept > most ? kept : most;
                    assert_true(kept <= cap / 8);
                }
            }
            if (keeps_in_front() && cap >= 128) assert_true(most > 0);
            close_pool(pool);
        }
    }
    for (size_t i = 0; i < HANDS; i++) hand_end(&hands[i]);
}

/* ---- threads that end ----------------------------------------------------------------------------------------------- */

static void a_thread_that_ends_gives_back_what_it_kept(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = 512));
    size_t after_first = 0;
    for (int round = 0; round < 20; round++) {
        hand h;
        hand_start(&h);
        lot often = {.pool = pool, .count = 40};
        hand_do(&h, use_often, &often);
        if (keeps_in_front()) assert_true(front_of(pool) > 0 && stats_of(pool).thread_count == 1);
        hand_end(&h);
        assert_int_equal(front_of(pool), 0);
        assert_int_equal(stats_of(pool).thread_count, 0);
        if (round == 0) after_first = granted(f->scope);
        assert_int_equal(granted(f->scope), after_first); /* the next thread has what the last one had */
    }
    check_whole(pool, 512);
    close_pool(pool);
}

static void a_thread_may_end_while_its_leases_are_out_and_another_releases_them(void **state) {
    fixture *f = *state;
    hand other;
    hand_start(&other);
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 256));
    lot often = {.pool = pool, .count = 40};
    hand_do(&other, use_often, &often);
    for (int round = 0; round < 20; round++) {
        hand h;
        nm_lease leases[60];
        lot l = {.pool = pool, .leases = leases, .count = 60};
        hand_start(&h);
        hand_do(&h, use_often, &often);
        hand_do(&h, lease_lot, &l);
        if (round % 2 == 0) hand_end(&h);
        hand_do(&other, release_lot, &l);
        assert_int_equal(stats_of(pool).leased_count, 0);
        if (round % 2 != 0) hand_end(&h); /* what it was sent it has not looked at */
        if (round % 3 == 0) check_whole(pool, 256);
    }
    check_whole(pool, 256);
    close_pool(pool);
    hand_end(&other);
}

static void a_thread_may_end_before_it_told_others_what_it_released_for_them(void **state) {
    fixture *f = *state;
    hand home;
    hand_start(&home);
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 256));
    lot often = {.pool = pool, .count = 40};
    hand_do(&home, use_often, &often);
    for (size_t count = 1; count < 40; count++) {
        hand h;
        nm_lease leases[40];
        lot l = {.pool = pool, .leases = leases, .count = count};
        hand_start(&h);
        hand_do(&h, use_often, &often);
        hand_do(&home, lease_lot, &l);
        hand_do(&h, release_lot, &l);
        hand_end(&h);
        assert_int_equal(stats_of(pool).leased_count, 0);
        if (count % 5 == 0) check_whole(pool, 256);
    }
    hand_end(&home);
    check_whole(pool, 256);
    close_pool(pool);
}

static void threads_that_come_and_go_cost_no_more_than_those_that_live_at_one_time(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = 4096));
    size_t bound = 0;
    for (int i = 0; i < 200; i++) {
        hand a, b;
        lot often = {.pool = pool, .count = 30};
        hand_start(&a);
        hand_start(&b);
        hand_do(&a, use_often, &often);
        hand_do(&b, use_often, &often);
        nm_lease lease;
        lot l = {.pool = pool, .leases = &lease, .count = 1};
        hand_do(&a, lease_lot, &l);
        hand_do(&b, release_lot, &l);
        hand_end(i % 2 == 0 ? &a : &b);
        hand_end(i % 2 == 0 ? &b : &a);
        if (i == 0) bound = granted(f->scope);
        /* The first may find all buffers in one thread's hands; a step of growth is 64 pages at most. */
        assert_true(granted(f->scope) <= bound + 128 * PAGE);
        if (i == 50) bound = granted(f->scope);
        if (i > 50) assert_int_equal(granted(f->scope), bound);
    }
    assert_int_equal(stats_of(pool).thread_count, 0);
    close_pool(pool);
}

static void a_pool_and_its_scope_may_close_before_the_threads_that_used_them_end(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    nm_pool *later = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 256));
    for (int round = 0; round < 20; round++) {
        nm_scope *scope;
        assert_ok(nm_scope_open(&scope, f->scope, NULL));
        nm_pool *pool = open_pool(scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 256));
        lot often = {.pool = pool, .count = 20}, others = {.pool = later, .count = 20};
        use_often(&often);
        hand_do(&h, use_often, &often);
        hand_do(&h, use_often, &others);
        if (round % 2 == 0) close_pool(pool);
        assert_int_equal(nm_scope_close(scope, NULL), 0);
        if (round % 5 == 4) { /* the thread ends, and has used pools that are gone */
            hand_end(&h);
            hand_start(&h);
        }
    }
    /* Also after the root is gone, and in another root. */
    nm_scope *root;
    assert_ok(nm_scope_open(&root, NULL, NULL));
    nm_pool *pool = open_pool(root, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 256));
    lot often = {.pool = pool, .count = 20};
    hand_do(&h, use_often, &often);
    assert_int_equal(nm_scope_close(root, NULL), 0);
    hand_end(&h);
    check_whole(later, 256);
    close_pool(later);
}

/* ---- many pools ----------------------------------------------------------------------------------------------------- */

static void a_thread_may_use_more_pools_in_turn_than_it_has_at_hand(void **state) {
    fixture *f = *state;
    enum { POOLS = 40 };
    hand h;
    nm_pool *pools[POOLS];
    nm_lease leases[POOLS][4];
    hand_start(&h);
    for (size_t i = 0; i < POOLS; i++)
        pools[i] = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100 + i, .max_count = 256));
    for (size_t i = 0; i < POOLS; i++) {
        lot often = {.pool = pools[i], .count = 4};
        use_often(&often);
        hand_do(&h, use_often, &often);
    }
    for (size_t round = 0; round < 40; round++) {
        for (size_t k = 0; k < 4; k++)
            for (size_t i = 0; i < POOLS; i++) leases[i][k] = lease_of(pools[i]);
        for (size_t i = 0; i < POOLS; i++)
            for (size_t k = 0; k < 4; k++) {
                assert_int_equal(leases[i][k].size, 100 + i);
                memset(leases[i][k].data, (int)i, leases[i][k].size);
            }
        for (size_t i = POOLS; i-- > 0;) {
            lot l = {.pool = pools[i], .leases = leases[i], .count = 2};
            hand_do(&h, release_lot, &l);
            nm_lease_release_many(leases[i] + 2, 2);
            assert_int_equal(stats_of(pools[i]).leased_count, 0);
        }
    }
    if (keeps_in_front())
        for (size_t i = 0; i < POOLS; i++) assert_true(front_of(pools[i]) > 0);
    for (size_t i = 0; i < POOLS; i++) {
        check_whole(pools[(i * 7) % POOLS], 256);
        close_pool(pools[(i * 7) % POOLS]);
    }
    hand_end(&h);
}

static void a_thread_that_uses_a_few_pools_in_turn_keeps_buffers_of_each(void **state) {
    fixture *f = *state;
    enum { POOLS = 8 };
    nm_pool *pools[POOLS];
    for (size_t count = 1; count <= POOLS; count++) {
        for (size_t i = 0; i < count; i++)
            pools[i] = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 256));
        for (size_t i = 0; i < 100 * count; i++) {
            nm_lease lease = lease_of(pools[i % count]);
            nm_lease_release(&lease);
        }
        for (size_t i = 0; i < count; i++) {
            if (keeps_in_front()) assert_true(front_of(pools[i]) > 0);
            close_pool(pools[i]);
        }
    }
}

/* ---- across threads ------------------------------------------------------------------------------------------------- */

enum { QUEUE = 64 };

/* One thread leases and puts in, another takes out and releases. */
typedef struct queue {
    nm_pool *pool;
    size_t items;
    NM_ATOMIC(size_t) in, out, wrong;
    nm_lease leases[QUEUE];
} queue;

typedef struct both_ways {
    queue *produce, *consume;
} both_ways;

static void *produce_and_consume(void *arg) {
    const both_ways *b = arg;
    queue *p = b->produce, *c = b->consume;
    size_t made = 0, used = 0;
    while ((p != NULL && made < p->items) || (c != NULL && used < c->items)) {
        bool moved = false;
        /* acquire, release: an item passes with the count */
        if (p != NULL && made < p->items && made - nm_atomic_load(&p->out, NM_ACQUIRE) < QUEUE) {
            nm_lease lease;
            if (nm_pool_try_lease(p->pool, &lease) == NM_OK) {
                memcpy(lease.data, &made, sizeof made);
                p->leases[made++ % QUEUE] = lease;
                nm_atomic_store(&p->in, made, NM_RELEASE);
                moved = true;
            }
        }
        if (c != NULL && used < c->items && used != nm_atomic_load(&c->in, NM_ACQUIRE)) {
            nm_lease *lease = &c->leases[used % QUEUE];
            if (memcmp(lease->data, &used, sizeof used) != 0) nm_atomic_add(&c->wrong, 1, NM_RELAXED);
            nm_lease_release(lease);
            nm_atomic_store(&c->out, ++used, NM_RELEASE);
            moved = true;
        }
        if (!moved) sched_yield();
    }
    return NULL;
}

static void run_both_ways(fixture *f, size_t max_count, bool both) {
    static queue there, back;
    pthread_t a, b;
    there = (queue){.items = TEST_SLOW ? 10000 : 100000};
    there.pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = max_count));
    back = there;
    both_ways first = {&there, both ? &back : NULL}, second = {both ? &back : NULL, &there};
    assert_int_equal(pthread_create(&a, NULL, produce_and_consume, &first), 0);
    assert_int_equal(pthread_create(&b, NULL, produce_and_consume, &second), 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    assert_int_equal(there.wrong + back.wrong, 0);
    nm_pool_stats s = stats_of(there.pool);
    assert_int_equal(s.leased_count, 0);
    assert_int_equal(s.front_count, 0); /* they have ended */
    check_whole(there.pool, max_count);
    nm_pool_trim(there.pool, 0);
    assert_int_equal(stats_of(there.pool).total_count, 0);
    close_pool(there.pool);
}

static void leases_go_from_thread_to_thread_in_both_directions(void **state) {
    fixture *f = *state;
    static const size_t caps[] = {8, 64, 256, 4096};
    for (size_t i = 0; i < COUNT(caps); i++) {
        run_both_ways(f, caps[i], false);
        run_both_ways(f, caps[i], true);
    }
}

/* ---- taken from threads --------------------------------------------------------------------------------------------- */

static void trim_and_reclaim_take_what_threads_keep(void **state) {
    fixture *f = *state;
    hand hands[IDLE];
    for (size_t i = 0; i < IDLE; i++) hand_start(&hands[i]);
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = 512));
    for (int how = 0; how < 4; how++) {
        lot often = {.pool = pool, .count = 40};
        for (size_t i = 0; i < IDLE; i++) hand_do(&hands[i], use_often, &often);
        use_often(&often);
        nm_lease notes[5];
        lot l = {.pool = pool, .leases = notes, .count = 5};
        hand_do(&hands[0], lease_lot, &l);
        hand_do(&hands[1], release_lot, &l);
        size_t before = granted(f->scope), total = stats_of(pool).total_count, given;
        if (keeps_in_front()) assert_true(front_of(pool) > 0);
        if (how < 2)
            given = nm_pool_trim(pool, how == 0 ? 0 : 3);
        else
            given = nm_scope_reclaim(how == 2 ? f->scope : f->root, SIZE_MAX);
        nm_pool_stats s = stats_of(pool);
        assert_int_equal(s.total_count, how == 1 ? 3 : 0);
        assert_int_equal(s.front_count, 0);
        if (how != 3) assert_int_equal(given, (total - s.total_count) * 4096); /* of the root, other things go too */
        assert_int_equal(granted(f->scope), before - (total - s.total_count) * 4096);
        assert_int_equal(s.granted_bytes, granted(f->scope));
    }
    check_whole(pool, 512);
    close_pool(pool);
    for (size_t i = 0; i < IDLE; i++) hand_end(&hands[i]);
}

static void a_growing_neighbour_gets_what_threads_keep(void **state) {
    fixture *f = *state;
    hand h;
    nm_scope *tight;
    nm_lease all[60];
    hand_start(&h);
    assert_ok(nm_scope_open(&tight, f->scope, NM_SCOPE_OPTIONS(.hard_bytes = 128 * PAGE)));
    nm_pool *one = open_pool(tight, NM_POOL_OPTIONS(.chunk_bytes = 4096));
    nm_pool *other = open_pool(tight, NM_POOL_OPTIONS(.chunk_bytes = 4096 * 4));
    lot often = {.pool = one, .count = 60};
    hand_do(&h, use_often, &often);
    size_t count = nm_pool_lease_many(other, all, COUNT(all));
    assert_true(count >= 28); /* 128 pages, less than 16 of bookkeeping */
    assert_int_equal(stats_of(one).total_count, 0);
    nm_lease_release_many(all, count);
    close_pool(one);
    close_pool(other);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
    hand_end(&h);
}

/* ---- zero_on_release ------------------------------------------------------------------------------------------------ */

/* Leases them all, asserts that each is zero, and soils it. */
static void all_are_zero(nm_pool *pool, nm_lease *leases, size_t count) {
    static const unsigned char zero[3000];
    assert_int_equal(nm_pool_lease_many(pool, leases, count), count);
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(leases[i].data, zero, leases[i].size);
        memset(leases[i].data, 0xff, leases[i].size);
    }
}

static void a_buffer_of_a_zeroing_pool_is_zero_whichever_way_it_came_back(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    static const size_t caps[] = {8, 256};
    for (size_t c = 0; c < COUNT(caps); c++) {
        nm_pool *pool =
            open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 3000, .max_count = caps[c], .zero_on_release = true));
        static nm_lease leases[256];
        lot often = {.pool = pool, .count = 5}, l = {.pool = pool, .leases = leases, .count = caps[c]};
        use_often(&often);
        hand_do(&h, use_often, &often);
        for (int how = 0; how < 8; how++) {
            all_are_zero(pool, leases, caps[c]);
            switch (how) {
            case 0: nm_lease_release_many(leases, caps[c]); break;
            case 1: hand_do(&h, release_lot, &l); break;
            case 2:
                for (size_t i = 0; i < caps[c]; i++) nm_pool_release_data(pool, leases[i].data);
                break;
            case 3: /* the last holder's release is the one */
                for (size_t i = 0; i < caps[c]; i++) {
                    nm_lease share;
                    assert_ok(nm_lease_slice(&leases[i], 1000, 10, &share));
                    nm_lease_release(&leases[i]);
                    assert_int_equal(*(unsigned char *)share.data, 0xff);
                    memset(share.data, 0xee, share.size);
                    if (i % 2 == 0)
                        nm_lease_release(&share);
                    else
                        hand_do(&h, release_one, &share);
                }
                break;
            case 4: /* through a scope's close */
                nm_lease_release_many(leases, caps[c]);
                nm_scope *request;
                assert_ok(nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
                for (size_t i = 0; i < caps[c]; i++) {
                    assert_ok(nm_pool_lease_in(pool, request, &leases[i]));
                    memset(leases[i].data, 0xff, leases[i].size);
                }
                assert_int_equal(nm_scope_close(request, NULL), 0);
                break;
            case 5: /* trimmed, and given memory again */
                nm_lease_release_many(leases, caps[c]);
                nm_pool_trim(pool, caps[c] / 3);
                break;
            case 6: /* by a thread that ends */
                hand_do(&h, release_lot, &l);
                hand_end(&h);
                hand_start(&h);
                break;
            default: /* leased by another, released by us */
                nm_lease_release_many(leases, caps[c]);
                hand_do(&h, lease_lot, &l);
                assert_int_equal(l.failed, 0);
                for (size_t i = 0; i < caps[c]; i++) memset(leases[i].data, 0xff, leases[i].size);
                nm_lease_release_many(leases, caps[c]);
                break;
            }
        }
        all_are_zero(pool, leases, caps[c]);
        nm_lease_release_many(leases, caps[c]);
        close_pool(pool);
    }
    hand_end(&h);
}

/* ---- registered buffers --------------------------------------------------------------------------------------------- */

static void the_iovecs_of_a_whole_pool_are_its_buffers_in_the_order_of_their_indices(void **state) {
    fixture *f = *state;
    static const size_t shapes[][2] = {{4096, 130}, {1000, 64}, {65536, 3}, {1, 1}, {9000, 33}};
    for (size_t s = 0; s < COUNT(shapes); s++) {
        size_t chunk = shapes[s][0], count = shapes[s][1];
        struct iovec vecs[131];
        nm_lease leases[130];
        bool seen[130] = {false};
        nm_pool *pool =
            open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = chunk, .prealloc_count = count, .max_count = count));
        assert_int_equal(nm_pool_iovecs(pool, NULL, 0), count);
        memset(vecs, 0x5a, sizeof vecs);
        assert_int_equal(nm_pool_iovecs(pool, vecs, 1), count); /* no more than there is room for */
        assert_int_equal(vecs[0].iov_len, chunk);
        assert_int_equal(vecs[1].iov_len, 0x5a5a5a5a5a5a5a5a);
        assert_int_equal(nm_pool_iovecs(pool, vecs, COUNT(vecs)), count);
        assert_int_equal(vecs[count].iov_len, 0x5a5a5a5a5a5a5a5a);
        for (size_t i = 0; i < count; i++) {
            leases[i] = lease_of(pool);
            uint32_t index = nm_lease_index(&leases[i]);
            assert_true(index < count && !seen[index]);
            seen[index] = true;
            assert_ptr_equal(vecs[index].iov_base, leases[i].data);
            assert_int_equal(vecs[index].iov_len, chunk);
        }
        nm_lease_release_many(leases, count);
        /* They stay where they are. */
        size_t before = granted(f->scope);
        assert_int_equal(nm_pool_trim(pool, 0), 0);
        assert_int_equal(nm_scope_reclaim(f->scope, SIZE_MAX), 0);
        assert_int_equal(granted(f->scope), before);
        assert_int_equal(stats_of(pool).total_count, count);
        close_pool(pool);
    }
}

static void the_iovecs_of_a_large_pool_lie_apart_and_never_overlap(void **state) {
    fixture *f = *state;
    enum { MANY = 8300 }; /* of whole pages, and more than 32 MiB: they do not begin at the same place of a page */
    nm_pool *pool =
        open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .prealloc_count = MANY, .max_count = MANY));
    struct iovec *vecs = calloc(MANY, sizeof *vecs);
    assert_non_null(vecs);
    assert_int_equal(nm_pool_iovecs(pool, vecs, MANY), MANY);
    for (size_t i = 0; i + 1 < MANY; i++)
        assert_true((char *)vecs[i + 1].iov_base >= (char *)vecs[i].iov_base + vecs[i].iov_len);
    for (int i = 0; i < 500; i++) {
        nm_lease lease = lease_of(pool);
        uint32_t index = nm_lease_index(&lease);
        assert_true(index < MANY);
        assert_ptr_equal(vecs[index].iov_base, lease.data);
        assert_int_equal((uintptr_t)lease.data % 64, 0);
        if (i % 3 != 0) nm_lease_release(&lease);
    }
    free(vecs);
    assert_status(nm_pool_close(pool), NM_EBUSY);
    assert_int_equal(nm_scope_close(f->scope, NULL), (500 + 2) / 3);
    assert_ok(nm_scope_open(&f->scope, f->root, NULL));
}

static void a_pool_that_may_grow_or_shrink_has_no_iovecs(void **state) {
    fixture *f = *state;
    struct iovec vec = {.iov_len = 7};
    static const size_t shapes[][2] = {{0, 0}, {0, 10}, {9, 10}, {10, 0}}; /* prealloc_count, max_count */
    for (size_t s = 0; s < COUNT(shapes); s++) {
        nm_pool *pool = open_pool(
            f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .prealloc_count = shapes[s][0], .max_count = shapes[s][1]));
        assert_int_equal(nm_pool_iovecs(pool, &vec, 1), 0);
        assert_int_equal(nm_pool_iovecs(pool, NULL, 0), 0);
        assert_int_equal(vec.iov_len, 7);
        close_pool(pool);
    }
    assert_int_equal(nm_pool_iovecs(NULL, &vec, 1), 0);
    nm_lease empty = {0};
    assert_int_equal(nm_lease_index(&empty), UINT32_MAX);
    assert_int_equal(nm_lease_index(NULL), UINT32_MAX);
}

static void huge_pages_need_their_alignment_and_give_it(void **state) {
    fixture *f = *state;
    static const size_t huge = (size_t)2 << 20;
    nm_pool *pool = (nm_pool *)(void *)f;
    static const size_t aligns[] = {0, 64, 4096, 1 << 20};
    for (size_t i = 0; i < COUNT(aligns); i++) {
        assert_status(nm_pool_open(&pool, f->scope,
                                   NM_POOL_OPTIONS(.chunk_bytes = huge, .align_bytes = aligns[i], .huge_pages = true)),
                      NM_EINVAL);
        assert_null(pool);
    }
    pool = open_pool(f->scope,
                     NM_POOL_OPTIONS(.chunk_bytes = huge, .align_bytes = huge, .huge_pages = true, .max_count = 4));
    nm_lease leases[4];
    assert_int_equal(nm_pool_lease_many(pool, leases, 4), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal((uintptr_t)leases[i].data % huge, 0);
        *(char *)leases[i].data = ((char *)leases[i].data)[huge - 1] = 1;
    }
    nm_lease_release_many(leases, 4);
    assert_int_equal(nm_pool_trim(pool, 1), 3 * huge);
    check_whole(pool, 4);
    close_pool(pool);
}

/* ---- many at once --------------------------------------------------------------------------------------------------- */

static void many_leases_at_once_up_to_all_and_beyond(void **state) {
    fixture *f = *state;
    static const size_t caps[] = {1, 63, 64, 65, 200, 600};
    static nm_lease leases[1300];
    for (size_t c = 0; c < COUNT(caps); c++) {
        size_t cap = caps[c];
        nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = cap));
        for (int round = 0; round < 3; round++) {
            memset(leases, 0x5a, sizeof leases);
            assert_int_equal(nm_pool_lease_many(pool, leases, 0), 0);
            assert_ptr_equal(leases[0].data, (void *)0x5a5a5a5a5a5a5a5a);
            assert_int_equal(nm_pool_lease_many(pool, leases, 1), 1);
            nm_lease_release_many(leases, 1);
            /* more than there is: the rest is empty */
            assert_int_equal(nm_pool_lease_many(pool, leases, 2 * cap), cap);
            for (size_t i = 0; i < 2 * cap; i++) assert_int_equal(nm_lease_ok(leases[i]), i < cap);
            for (size_t i = 0; i < cap; i++) memset(leases[i].data, (int)i, leases[i].size);
            for (size_t i = 0; i < cap; i++) assert_int_equal(*(unsigned char *)leases[i].data, (unsigned char)i);
            assert_int_equal(stats_of(pool).leased_count, cap);
            assert_int_equal(nm_pool_lease_many(pool, leases + cap, 5), 0);
            /* every third, and then all, empty ones among them */
            for (size_t i = 0; i < cap; i += 3) nm_lease_release(&leases[i]);
            nm_lease_release_many(leases, 0);
            assert_int_equal(stats_of(pool).leased_count, cap - (cap + 2) / 3);
            nm_lease_release_many(leases, 2 * cap);
            for (size_t i = 0; i < 2 * cap; i++) assert_false(nm_lease_ok(leases[i]));
            assert_int_equal(stats_of(pool).leased_count, 0);
        }
        nm_lease_release_many(NULL, 7);
        assert_int_equal(nm_pool_lease_many(pool, NULL, 7), 0);
        assert_int_equal((nm_pool_lease_many)(pool, leases, 1), 1);
        (nm_lease_release_many)(leases, 1);
        memset(leases, 0x5a, sizeof leases);
        assert_int_equal(nm_pool_lease_many(NULL, leases, 3), 0);
        for (size_t i = 0; i < 3; i++) assert_false(nm_lease_ok(leases[i]));
        close_pool(pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        POOL_TEST(a_thread_keeps_as_many_as_its_magazine_holds),
        POOL_TEST(a_magazine_count_that_is_no_power_of_two_up_to_256_is_refused),
        POOL_TEST(a_pool_too_small_for_magazines_does_not_try_to_make_one_each_time),
        POOL_TEST(all_buffers_can_be_leased_whatever_threads_that_rest_have_in_front),
        POOL_TEST(threads_that_together_want_no_more_than_there_is_are_never_refused),
        POOL_TEST(threads_together_never_keep_more_than_an_eighth),
        POOL_TEST(a_thread_that_ends_gives_back_what_it_kept),
        POOL_TEST(a_thread_may_end_while_its_leases_are_out_and_another_releases_them),
        POOL_TEST(a_thread_may_end_before_it_told_others_what_it_released_for_them),
        POOL_TEST(threads_that_come_and_go_cost_no_more_than_those_that_live_at_one_time),
        POOL_TEST(a_pool_and_its_scope_may_close_before_the_threads_that_used_them_end),
        POOL_TEST(a_thread_may_use_more_pools_in_turn_than_it_has_at_hand),
        POOL_TEST(a_thread_that_uses_a_few_pools_in_turn_keeps_buffers_of_each),
        POOL_TEST(leases_go_from_thread_to_thread_in_both_directions),
        POOL_TEST(trim_and_reclaim_take_what_threads_keep),
        POOL_TEST(a_growing_neighbour_gets_what_threads_keep),
        POOL_TEST(a_buffer_of_a_zeroing_pool_is_zero_whichever_way_it_came_back),
        POOL_TEST(the_iovecs_of_a_whole_pool_are_its_buffers_in_the_order_of_their_indices),
        POOL_TEST(the_iovecs_of_a_large_pool_lie_apart_and_never_overlap),
        POOL_TEST(a_pool_that_may_grow_or_shrink_has_no_iovecs),
        POOL_TEST(huge_pages_need_their_alignment_and_give_it),
        POOL_TEST(many_leases_at_once_up_to_all_and_beyond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
