// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Pools that open and close while threads come and go, in whatever order. */
#include "pool_fixture.h"

/* ---- a close and the end of a thread at the same time -------------------------------------------------------------- */

typedef struct user {
    nm_pool *pool, *other;
    pthread_barrier_t done;
    size_t failed;
} user;

static void *use_and_end(void *arg) {
    user *u = arg;
    lot often = {.pool = u->pool, .count = 20}, others = {.pool = u->other, .count = 20};
    use_often(&often);
    use_often(&others);
    u->failed = often.failed + others.failed;
    pthread_barrier_wait(&u->done);
    return NULL; /* and gives back what it kept, in both pools */
}

static void a_pool_may_close_at_the_moment_that_a_thread_which_used_it_ends(void **state) {
    fixture *f = *state;
    enum { USERS = 3 };
    nm_pool *lasting = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 1024));
    for (int round = 0; round < (TEST_SLOW ? 100 : 500); round++) {
        nm_scope *scope;
        user users[USERS];
        pthread_t threads[USERS];
        assert_ok(nm_scope_open(&scope, f->scope, NULL));
        nm_pool *pool = open_pool(scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 1024));
        for (size_t i = 0; i < USERS; i++) {
            users[i] = (user){.pool = pool, .other = lasting};
            pthread_barrier_init(&users[i].done, NULL, 2);
            assert_int_equal(pthread_create(&threads[i], NULL, use_and_end, &users[i]), 0);
        }
        for (size_t i = 0; i < USERS; i++) pthread_barrier_wait(&users[i].done);
        if (round % 3 == 0) assert_ok(nm_pool_close(pool));
        if (round % 3 == 1) (void)nm_pool_trim(pool, 0);
        assert_int_equal(nm_scope_close(scope, NULL), 0);
        for (size_t i = 0; i < USERS; i++) {
            pthread_join(threads[i], NULL);
            pthread_barrier_destroy(&users[i].done);
            assert_int_equal(users[i].failed, 0);
        }
    }
    assert_int_equal(stats_of(lasting).front_count, 0);
    assert_int_equal(stats_of(lasting).thread_count, 0);
    check_whole(lasting, 1024);
    close_pool(lasting);
}

typedef struct opener {
    nm_scope *scope;
    size_t rounds;
    NM_ATOMIC(size_t) wrong;
} opener;

static void *open_use_and_close(void *arg) {
    opener *o = arg;
    nm_pool *pools[3];
    for (size_t round = 0; round < o->rounds; round++) {
        for (size_t i = 0; i < COUNT(pools); i++)
            if (nm_pool_open(&pools[i], o->scope, NM_POOL_OPTIONS(.chunk_bytes = 64 << i, .max_count = 256)) != NM_OK) {
                nm_atomic_add(&o->wrong, 1, NM_RELAXED);
                return NULL;
            }
        for (size_t i = 0; i < COUNT(pools); i++) {
            lot often = {.pool = pools[(round + i) % COUNT(pools)], .count = 10};
            use_often(&often);
            nm_atomic_add(&o->wrong, often.failed, NM_RELAXED);
        }
        for (size_t i = 0; i < COUNT(pools); i++)
            if (nm_pool_close(pools[(i + round) % COUNT(pools)]) != NM_OK) nm_atomic_add(&o->wrong, 1, NM_RELAXED);
    }
    return NULL;
}

static void threads_may_open_use_and_close_pools_of_their_own_at_once(void **state) {
    fixture *f = *state;
    opener o = {.scope = f->scope, .rounds = TEST_SLOW ? 50 : 300};
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_use_and_close, &o), 0);
    for (int i = 0; i < 20; i++) (void)nm_scope_reclaim(f->root, SIZE_MAX);
    for (size_t i = 0; i < COUNT(threads); i++) pthread_join(threads[i], NULL);
    assert_int_equal(o.wrong, 0);
}

/* ---- many threads -------------------------------------------------------------------------------------------------- */

static void more_threads_than_a_pool_has_magazines_for_use_it_all_the_same(void **state) {
    fixture *f = *state;
    enum { MANY = 280 };
    static hand hands[MANY];
    static nm_lease leases[MANY][3];
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 64, .max_count = 60000, .magazine_count = 4));
    for (size_t i = 0; i < MANY; i++) {
        lot often = {.pool = pool, .count = 3};
        hand_start(&hands[i]);
        hand_do(&hands[i], use_often, &often);
        assert_int_equal(often.failed, 0);
    }
    nm_pool_stats s = stats_of(pool);
    if (keeps_in_front()) assert_in_range(s.thread_count, 200, MANY - 1);
    for (size_t i = 0; i < MANY; i++) {
        lot l = {.pool = pool, .leases = leases[i], .count = 3};
        hand_do(&hands[i], lease_lot, &l);
        assert_int_equal(l.failed, 0);
    }
    assert_int_equal(stats_of(pool).leased_count, 3 * MANY);
    for (size_t i = 0; i < MANY; i++) { /* one's own, and others' */
        lot l = {.pool = pool, .leases = leases[(i + i % 2 * 150) % MANY], .count = 3};
        hand_do(&hands[i], release_lot, &l);
    }
    for (size_t i = 0; i < MANY; i++) nm_lease_release_many(leases[i], 3); /* what nobody released */
    assert_int_equal(stats_of(pool).leased_count, 0);
    for (size_t i = 0; i < MANY; i++) hand_end(&hands[i]);
    s = stats_of(pool);
    assert_int_equal(s.front_count, 0);
    assert_int_equal(s.thread_count, 0);
    check_whole(pool, 60000);
    close_pool(pool);
}

/* ---- code that runs when a thread has nearly ended ----------------------------------------------------------------- */

static pthread_key_t late_key;
static struct late {
    nm_pool *pool;
    unsigned times; /* so often it asks to be called again */
    NM_ATOMIC(size_t) calls, failed;
} late;

/* A destructor of the program's that uses the pool, behind the pool's own in each round. */
static void use_when_nearly_ended(void *value) {
    lot often = {.pool = late.pool, .count = 10};
    use_often(&often);
    nm_atomic_add(&late.failed, often.failed, NM_RELAXED);
    if (nm_atomic_add(&late.calls, 1, NM_RELAXED) + 1 < late.times) pthread_setspecific(late_key, value);
}

static void *use_now_and_when_nearly_ended(void *arg) {
    pthread_setspecific(late_key, arg);
    lot often = {.pool = late.pool, .count = 10};
    use_often(&often);
    return NULL;
}

static void a_thread_that_uses_a_pool_while_it_ends_takes_nothing_along(void **state) {
    fixture *f = *state;
    late.pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 256));
    lot often = {.pool = late.pool, .count = 10};
    use_often(&often); /* the pool's own key is there first */
    assert_int_equal(pthread_key_create(&late_key, use_when_nearly_ended), 0);
    /* A sanitizer ends in the same way, and sees nothing in the last round. */
    for (unsigned times = 1; times <= (TEST_SLOW ? 2 : 10); times++)
        for (int round = 0; round < 10; round++) {
            pthread_t thread;
            nm_lease all[257];
            late.times = times;
            late.calls = 0;
            assert_int_equal(pthread_create(&thread, NULL, use_now_and_when_nearly_ended, &late), 0);
            pthread_join(thread, NULL);
            assert_true(late.calls >= 1); /* the system stops after some rounds */
            assert_int_equal(late.failed, 0);
            /* Whatever became of its magazine, all buffers can be had, and another thread can use the pool. */
            assert_int_equal(nm_pool_lease_many(late.pool, all, COUNT(all)), 256);
            nm_lease_release_many(all, 256);
            if (times <= 2) assert_int_equal(stats_of(late.pool).thread_count, keeps_in_front());
            assert_true(stats_of(late.pool).thread_count <= 2);
        }
    pthread_key_delete(late_key);
    close_pool(late.pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        POOL_TEST(a_pool_may_close_at_the_moment_that_a_thread_which_used_it_ends),
        POOL_TEST(threads_may_open_use_and_close_pools_of_their_own_at_once),
        POOL_TEST(more_threads_than_a_pool_has_magazines_for_use_it_all_the_same),
        POOL_TEST(a_thread_that_uses_a_pool_while_it_ends_takes_nothing_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
