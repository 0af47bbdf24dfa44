// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Waiting for a buffer, in line. */
#include <sched.h>

#include "pool_ways.h"

#define MS       ((uint64_t)1000000)
#define FOR_EVER UINT64_MAX
#define LONG_MS  10000u /* nothing takes so long, on a machine that does other things too */
#define LONG     (LONG_MS * MS)

/* ---- for a hand --------------------------------------------------------------------------------------------------- */

typedef struct wish {
    nm_pool *pool;
    uint64_t timeout_ns;
    nm_lease lease;
    nm_status status;
    double took_ms;
} wish;

static void wait_for_lease(void *arg) {
    wish *w = arg;
    double begin = clock_ms();
    w->status = nm_pool_lease_wait(w->pool, &w->lease, w->timeout_ns);
    w->took_ms = clock_ms() - begin;
}

static void await_waiting(const nm_pool *pool, size_t count) {
    for (double begin = clock_ms(); stats_of(pool).waiting_count != count; sleep_ms(1))
        if (clock_ms() - begin > LONG_MS) fail_msg("%zu wait, not %zu", stats_of(pool).waiting_count, count);
}

/* Begins to wait on that thread, and is in line when this returns. */
static void stand_in_line(hand *h, wish *w) {
    size_t before = stats_of(w->pool).waiting_count;
    hand_begin(h, wait_for_lease, w);
    await_waiting(w->pool, before + 1);
}

/* ---- short waits ------------------------------------------------------------------------------------------------- */

static void a_free_buffer_is_leased_without_waiting(void **state) {
    fixture *f = *state;
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        nm_lease lease;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        static const uint64_t timeouts[] = {0, 1, LONG, FOR_EVER};
        for (size_t i = 0; i < COUNT(timeouts); i++) {
            assert_ok(nm_pool_lease_wait(s.pool, &lease, timeouts[i]));
            memset(lease.data, 1, lease.size);
            nm_lease_release(&lease);
        }
        assert_ok((nm_pool_lease_wait)(s.pool, &lease, 0)); /* the plain function */
        nm_lease_release(&lease);
        assert_int_equal(stats_of(s.pool).wait_count, 0);
        scarce_close(&s);
    }
}

static void no_time_is_no_wait(void **state) {
    fixture *f = *state;
    scarce s;
    scarce_open(&s, f->scope, 128);
    nm_lease lease = lease_of(s.pool), out = lease;
    assert_status(nm_pool_lease_wait(s.pool, &out, 0), NM_ETIMEDOUT);
    assert_false(nm_lease_ok(out));
    assert_int_equal(stats_of(s.pool).wait_count, 0);
    assert_status(nm_pool_lease_wait(NULL, &out, FOR_EVER), NM_EINVAL);
    assert_status(nm_pool_lease_wait(s.pool, NULL, FOR_EVER), NM_EINVAL);
    nm_lease_release(&lease);
    scarce_close(&s);
}

static void a_wait_ends_when_its_time_is_up_and_not_before(void **state) {
    fixture *f = *state;
    static const uint64_t times_ms[] = {1, 15, 25, 90};
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        nm_lease lease = lease_of(s.pool);
        for (size_t i = 0; i < COUNT(times_ms); i++) {
            wish w = {.pool = s.pool, .timeout_ns = times_ms[i] * MS, .lease = lease};
            wait_for_lease(&w);
            assert_status(w.status, NM_ETIMEDOUT);
            assert_false(nm_lease_ok(w.lease));
            assert_true(w.took_ms >= (double)times_ms[i]);
            assert_true(w.took_ms < (double)times_ms[i] + LONG_MS / 2);
            assert_int_equal(stats_of(s.pool).wait_count, i + 1);
            assert_int_equal(stats_of(s.pool).waiting_count, 0);
        }
        nm_lease_release(&lease);
        scarce_close(&s);
    }
}

static void nothing_is_waited_for_where_no_buffer_is_out_that_could_come_back(void **state) {
    fixture *f = *state;
    nm_scope *tight;
    nm_lease lease;
    /* the pool, its groups, descriptors, and half a buffer */
    assert_ok(nm_scope_open(&tight, f->scope, NM_SCOPE_OPTIONS(.hard_bytes = 4 * PAGE)));
    nm_pool *pool = open_pool(tight, NM_POOL_OPTIONS(.chunk_bytes = 2 * PAGE));
    double begin = clock_ms();
    assert_status(nm_pool_lease_wait(pool, &lease, FOR_EVER), NM_EBUDGET);
    assert_false(nm_lease_ok(lease));
    assert_true(clock_ms() - begin < LONG_MS);
    assert_int_equal(stats_of(pool).wait_count, 0);
    assert_ok(nm_scope_set_budget(tight, 0, 5 * PAGE));
    assert_ok(nm_pool_lease_wait(pool, &lease, FOR_EVER));
    nm_lease_release(&lease);
    close_pool(pool);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
}

static void the_longest_times_do_not_wrap(void **state) {
    fixture *f = *state;
    hand h;
    scarce s;
    hand_start(&h);
    scarce_open(&s, f->scope, 1);
    static const uint64_t times[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 2 + 1, (uint64_t)INT64_MAX};
    for (size_t i = 0; i < COUNT(times); i++) {
        nm_lease lease = lease_of(s.pool);
        wish w = {.pool = s.pool, .timeout_ns = times[i]};
        stand_in_line(&h, &w);
        sleep_ms(3);
        assert_false(hand_rests(&h));
        nm_lease_release(&lease);
        hand_await(&h);
        assert_ok(w.status);
        nm_lease_release(&w.lease);
    }
    scarce_close(&s);
    hand_end(&h);
}

/* ---- first come, first served ------------------------------------------------------------------------------------ */

enum { WAITERS = 4 };

static void buffers_go_to_those_who_wait_longest(void **state) {
    fixture *f = *state;
    hand hands[WAITERS];
    for (size_t i = 0; i < WAITERS; i++) hand_start(&hands[i]);
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        for (size_t order = 0; order < WAITERS; order++) {
            nm_lease lease = lease_of(s.pool);
            wish w[WAITERS];
            uint64_t waited = stats_of(s.pool).wait_count;
            for (size_t i = 0; i < WAITERS; i++) {
                w[i] = (wish){.pool = s.pool, .timeout_ns = FOR_EVER};
                stand_in_line(&hands[(i + order) % WAITERS], &w[i]);
            }
            assert_int_equal(stats_of(s.pool).wait_count, waited + WAITERS);
            for (size_t i = 0; i < WAITERS; i++) {
                nm_lease_release(i == 0 ? &lease : &w[i - 1].lease);
                hand_await(&hands[(i + order) % WAITERS]);
                assert_ok(w[i].status);
                memset(w[i].lease.data, 1, w[i].lease.size);
                assert_int_equal(stats_of(s.pool).waiting_count, WAITERS - 1 - i);
                for (size_t k = i + 1; k < WAITERS; k++) assert_false(hand_rests(&hands[(k + order) % WAITERS]));
            }
            nm_lease_release(&w[WAITERS - 1].lease);
        }
        scarce_close(&s);
    }
    for (size_t i = 0; i < WAITERS; i++) hand_end(&hands[i]);
}

static void whoever_leaves_the_line_leaves_the_order_of_the_others(void **state) {
    fixture *f = *state;
    hand hands[WAITERS];
    scarce s;
    for (size_t i = 0; i < WAITERS; i++) hand_start(&hands[i]);
    scarce_open(&s, f->scope, 1);
    for (size_t leaver = 0; leaver < WAITERS; leaver++) {
        nm_lease lease = lease_of(s.pool), *last = &lease;
        wish w[WAITERS];
        for (size_t i = 0; i < WAITERS; i++) {
            w[i] = (wish){.pool = s.pool, .timeout_ns = i == leaver ? 100 * MS : FOR_EVER};
            hand_begin(&hands[i], wait_for_lease, &w[i]);
            /* It may be gone again where the machine is slow; then this says nothing, and breaks nothing. */
            for (double begin = clock_ms(); stats_of(s.pool).waiting_count <= i && clock_ms() - begin < 90; sleep_ms(1))
                ;
        }
        hand_await(&hands[leaver]);
        assert_status(w[leaver].status, NM_ETIMEDOUT);
        await_waiting(s.pool, WAITERS - 1);
        for (size_t i = 0; i < WAITERS; i++) {
            if (i == leaver) continue;
            nm_lease_release(last);
            hand_await(&hands[i]);
            assert_ok(w[i].status);
            last = &w[i].lease;
        }
        nm_lease_release(last);
    }
    scarce_close(&s);
    for (size_t i = 0; i < WAITERS; i++) hand_end(&hands[i]);
}

static void a_call_that_does_not_wait_does_not_overtake_one_that_does(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        nm_lease none[3];
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        lot often = {.pool = s.pool, .count = 1};
        use_often(&often);
        for (int round = 0; round < 50; round++) {
            nm_lease lease = lease_of(s.pool);
            wish w = {.pool = s.pool, .timeout_ns = FOR_EVER};
            stand_in_line(&h, &w);
            nm_lease_release(&lease);
            /* It is the other's, whether or not that one has woken up yet. */
            assert_status(nm_pool_try_lease(s.pool, &none[0]), NM_ECAPACITY);
            assert_false(nm_lease_ok(nm_pool_lease(s.pool)));
            assert_int_equal(nm_pool_lease_many(s.pool, none, COUNT(none)), 0);
            assert_status(nm_pool_lease_wait(s.pool, &none[0], 0), NM_ETIMEDOUT);
            hand_await(&h);
            assert_ok(w.status);
            nm_lease_release(&w.lease);
        }
        scarce_close(&s);
    }
    hand_end(&h);
}

static void more_than_the_waiting_can_use_is_anybodys(void **state) {
    fixture *f = *state;
    hand h;
    scarce s;
    hand_start(&h);
    scarce_open(&s, f->scope, 128);
    nm_lease lease = lease_of(s.pool);
    wish w = {.pool = s.pool, .timeout_ns = FOR_EVER};
    stand_in_line(&h, &w);
    nm_lease_release_many(s.others, 10);
    for (size_t i = 0; i < 9; i++) s.others[i] = lease_of(s.pool);
    hand_await(&h);
    assert_ok(w.status);
    assert_status(nm_pool_try_lease(s.pool, &s.others[9]), NM_ECAPACITY);
    nm_lease_release(&w.lease);
    nm_lease_release(&lease);
    scarce_close(&s);
    hand_end(&h);
}

/* ---- every way back ---------------------------------------------------------------------------------------------- */

static void whichever_way_a_buffer_comes_back_who_waits_gets_it(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    hand_start(&way_hand);
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        lot often = {.pool = s.pool, .count = 1};
        use_often(&often);
        for (size_t i = 0; i < 2 * COUNT(ways); i++) {
            const way *wy = &ways[i % COUNT(ways)];
            nm_lease lease;
            wy->prepare(f, &s, &lease);
            void *data = lease.data;
            wish w = {.pool = s.pool, .timeout_ns = LONG};
            stand_in_line(&h, &w);
            wy->back(&s, &lease);
            hand_await(&h);
            if (w.status != NM_OK) fail_msg("%s: %s", wy->name, nm_status_name(w.status));
            assert_ptr_equal(w.lease.data, data);
            nm_lease_release(&w.lease);
        }
        scarce_close(&s);
    }
    hand_end(&way_hand);
    hand_end(&h);
}

static void what_a_thread_keeps_in_front_is_given_to_who_waits(void **state) {
    fixture *f = *state;
    hand h;
    scarce s;
    hand_start(&h);
    scarce_open(&s, f->scope, 128);
    lot often = {.pool = s.pool, .count = 1};
    use_often(&often); /* the free one lies in this thread's magazine now, if it has any */
    for (int i = 0; i < 20; i++) {
        wish w = {.pool = s.pool, .timeout_ns = LONG};
        hand_do(&h, wait_for_lease, &w);
        assert_ok(w.status);
        nm_lease_release(&w.lease); /* for another thread */
    }
    scarce_close(&s);
    hand_end(&h);
}

/* ---- served as the time runs out --------------------------------------------------------------------------------- */

static void a_buffer_that_comes_as_the_time_runs_out_is_leased_or_free(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    size_t served = 0, late = 0, rounds = TEST_SLOW ? 300 : 1000;
    uint64_t random = test_seed();
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        for (size_t i = 0; i < rounds; i++) {
            nm_lease lease = lease_of(s.pool), one_more;
            uint64_t time = 20000 + test_random(&random) % 200000;
            wish w = {.pool = s.pool, .timeout_ns = time};
            hand_begin(&h, wait_for_lease, &w);
            for (double end = clock_ms() + (double)(test_random(&random) % (2 * time)) / 1e6; clock_ms() < end;)
                ;
            nm_lease_release(&lease);
            hand_await(&h);
            assert_true(w.status == NM_OK || w.status == NM_ETIMEDOUT);
            served += w.status == NM_OK;
            late += w.status != NM_OK;
            assert_int_equal(nm_lease_ok(w.lease), w.status == NM_OK);
            assert_int_equal(stats_of(s.pool).leased_count, s.count + (w.status == NM_OK));
            /* exactly one buffer is not leased by us */
            if (w.status != NM_OK) w.lease = lease_of(s.pool);
            assert_status(nm_pool_try_lease(s.pool, &one_more), NM_ECAPACITY);
            nm_lease_release(&w.lease);
        }
        scarce_close(&s);
    }
    print_message("served %zu, late %zu\n", served, late);
    assert_true(served != 0 && late != 0);
    hand_end(&h);
}

enum { BOXES = 8 };

typedef struct contest {
    nm_pool *pool;
    size_t rounds, most; /* buffers for the contest */
    bool passed_on;      /* released by a thread of its own, which only does that */
    NM_ATOMIC(size_t) wrong, inside;
    NM_ATOMIC(bool) over;
    struct {
        NM_ATOMIC(uint32_t) full;
        nm_lease lease;
    } boxes[BOXES];
} contest;

typedef struct contestant {
    contest *contest;
    size_t number;
} contestant;

static void *wait_and_release(void *arg) {
    const contestant *me = arg;
    contest *c = me->contest;
    for (size_t i = 0; i < c->rounds; i++) {
        nm_lease lease;
        nm_status st = nm_pool_lease_wait(c->pool, &lease, i % 2 == 0 ? LONG : FOR_EVER);
        if (st != NM_OK) {
            if (nm_atomic_add(&c->wrong, 1, NM_RELAXED) == 0) print_error("round %zu: %s\n", i, nm_status_name(st));
            continue;
        }
        if (nm_atomic_add(&c->inside, 1, NM_RELAXED) >= c->most) nm_atomic_add(&c->wrong, 1, NM_RELAXED);
        *(size_t *)lease.data = i;
        if (i % 16 == 0) sched_yield();
        nm_atomic_sub(&c->inside, 1, NM_RELAXED);
        if (!c->passed_on) {
            nm_lease_release(&lease);
            continue;
        }
        c->boxes[me->number].lease = lease;
        nm_atomic_store(&c->boxes[me->number].full, 1u, NM_RELEASE); /* pairs with the acquire of the other thread */
        while (nm_atomic_load(&c->boxes[me->number].full, NM_ACQUIRE) != 0) sched_yield();
    }
    return NULL;
}

static void *release_what_is_passed_on(void *arg) {
    contest *c = arg;
    for (size_t i = 0; !nm_atomic_load(&c->over, NM_RELAXED); i++) {
        if (nm_atomic_load(&c->boxes[i % BOXES].full, NM_ACQUIRE) == 0) {
            if (i % BOXES == 0) sched_yield();
            continue;
        }
        nm_lease_release(&c->boxes[i % BOXES].lease);
        nm_atomic_store(&c->boxes[i % BOXES].full, 0u, NM_RELEASE);
    }
    return NULL;
}

/* Never waits: what it gets it gives back, and what it trims the others make grow again. */
static void *come_between(void *arg) {
    contest *c = arg;
    for (size_t i = 0; !nm_atomic_load(&c->over, NM_RELAXED); i++) {
        nm_lease lease = nm_pool_lease(c->pool);
        if (nm_lease_ok(lease)) *(size_t *)lease.data = i;
        nm_lease_release(&lease);
        if (i % 50 == 0) nm_pool_trim(c->pool, 0);
        if (i % 4 == 0) sched_yield();
    }
    return NULL;
}

static void hold_contest(fixture *f, size_t max_count, size_t most, size_t count, bool passed_on) {
    static contest c;
    pthread_t threads[BOXES], releaser, other;
    contestant each[BOXES];
    nm_lease held[128];
    c = (contest){.rounds = (TEST_SLOW ? 1000 : 8000) / count, .most = most, .passed_on = passed_on};
    c.pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = max_count));
    for (size_t i = most; i < max_count; i++) held[i] = lease_of(c.pool);
    assert_int_equal(pthread_create(&releaser, NULL, release_what_is_passed_on, &c), 0);
    assert_int_equal(pthread_create(&other, NULL, come_between, &c), 0);
    for (size_t i = 0; i < count; i++) {
        each[i] = (contestant){&c, i};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_and_release, &each[i]), 0);
    }
    for (size_t i = 0; i < count; i++) pthread_join(threads[i], NULL);
    nm_atomic_store(&c.over, true, NM_RELAXED);
    pthread_join(releaser, NULL);
    pthread_join(other, NULL);
    assert_int_equal(c.wrong, 0);
    nm_lease_release_many(held + most, max_count - most);
    check_whole(c.pool, max_count);
    close_pool(c.pool);
}

static void threads_that_wait_for_few_buffers_all_get_one_each_time(void **state) {
    fixture *f = *state;
    static const size_t contests[][3] = {/* max_count, of these free, threads */
                                         {1, 1, 4}, {2, 2, 4}, {3, 3, 8}, {128, 1, 4}, {128, 2, 3}, {128, 3, 8}};
    for (size_t i = 0; i < COUNT(contests); i++)
        for (int passed_on = 0; passed_on < 2; passed_on++)
            hold_contest(f, contests[i][0], contests[i][1], contests[i][2], passed_on);
}

/* ---- waiting for bytes ------------------------------------------------------------------------------------------- */

static void who_waits_for_budget_finds_what_another_gave_back(void **state) {
    fixture *f = *state;
    nm_scope *tight;
    hand h;
    hand_start(&h);
    assert_ok(nm_scope_open(&tight, f->scope, NM_SCOPE_OPTIONS(.hard_bytes = 40 * PAGE)));
    nm_pool *pool = open_pool(tight, NM_POOL_OPTIONS(.chunk_bytes = 8 * PAGE));
    nm_pool *other = open_pool(tight, NM_POOL_OPTIONS(.chunk_bytes = 8 * PAGE));
    nm_lease lease = lease_of(pool), theirs[3];
    for (size_t i = 0; i < COUNT(theirs); i++) theirs[i] = lease_of(other);
    wish w = {.pool = pool, .timeout_ns = 60 * MS};
    wait_for_lease(&w);
    assert_status(w.status, NM_ETIMEDOUT);
    w.timeout_ns = LONG;
    stand_in_line(&h, &w);
    /* Nobody tells the pool, and nobody trims: the wait itself asks for it. */
    nm_lease_release(&theirs[1]);
    hand_await(&h);
    assert_ok(w.status);
    assert_int_equal(stats_of(pool).leased_count, 2);
    nm_lease_release(&w.lease);
    nm_lease_release(&lease);
    nm_lease_release_many(theirs, COUNT(theirs));
    close_pool(pool);
    close_pool(other);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
    hand_end(&h);
}

static bool refuse_commits;
static bool commit_or_not(void *address, size_t bytes) {
    return !nm_atomic_load(&refuse_commits, NM_RELAXED) && nm__os_system.commit(address, bytes);
}

static void who_waits_for_memory_of_the_system_gets_it_when_there_is_some(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = 2));
    nm_lease lease = lease_of(pool);
    static nm__os table;
    table = nm__os_system;
    table.commit = commit_or_not;
    nm__os_replace(&table);
    nm_atomic_store(&refuse_commits, true, NM_RELAXED);
    wish w = {.pool = pool, .timeout_ns = 50 * MS};
    wait_for_lease(&w);
    assert_status(w.status, NM_ETIMEDOUT);
    w.timeout_ns = LONG;
    stand_in_line(&h, &w);
    nm_atomic_store(&refuse_commits, false, NM_RELAXED);
    hand_await(&h);
    nm__os_replace(NULL);
    assert_ok(w.status);
    nm_lease_release(&w.lease);
    nm_lease_release(&lease);
    close_pool(pool);
    hand_end(&h);
}

/* ---- afterwards -------------------------------------------------------------------------------------------------- */

/* This thread keeps buffers in front again: without a shared word touched, so the depot's part of the free ones goes down. */
static void assert_fast_again(nm_pool *pool) {
    lot often = {.pool = pool, .count = 8};
    use_often(&often);
    assert_int_equal(often.failed, 0);
    if (keeps_in_front()) assert_true(stats_of(pool).front_count > 0);
}

static void when_nobody_waits_any_more_threads_keep_buffers_in_front_again(void **state) {
    fixture *f = *state;
    hand h;
    hand_start(&h);
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .max_count = 256));
    nm_lease leases[256], one_more;
    for (int how = 0; how < 3; how++) {
        assert_fast_again(pool);
        for (size_t i = 0; i < COUNT(leases); i++) leases[i] = lease_of(pool);
        wish w = {.pool = pool, .timeout_ns = how == 0 ? 30 * MS : LONG};
        if (how == 0) { /* the wait ends without a buffer */
            wait_for_lease(&w);
            assert_status(w.status, NM_ETIMEDOUT);
        } else if (how == 1) { /* or with one */
            stand_in_line(&h, &w);
            nm_lease_release(&leases[0]);
            hand_await(&h);
            assert_ok(w.status);
            leases[0] = w.lease;
        } else { /* or it is an event that is waited for */
            assert_true(nm_pool_event_fd(pool) >= 0);
            assert_status(nm_pool_try_lease(pool, &one_more), NM_ECAPACITY);
        }
        nm_lease_release_many(leases, COUNT(leases));
    }
    assert_fast_again(pool);
    close_pool(pool);
    hand_end(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        POOL_TEST(a_free_buffer_is_leased_without_waiting),
        POOL_TEST(no_time_is_no_wait),
        POOL_TEST(a_wait_ends_when_its_time_is_up_and_not_before),
        POOL_TEST(nothing_is_waited_for_where_no_buffer_is_out_that_could_come_back),
        POOL_TEST(the_longest_times_do_not_wrap),
        POOL_TEST(buffers_go_to_those_who_wait_longest),
        POOL_TEST(whoever_leaves_the_line_leaves_the_order_of_the_others),
        POOL_TEST(a_call_that_does_not_wait_does_not_overtake_one_that_does),
        POOL_TEST(more_than_the_waiting_can_use_is_anybodys),
        POOL_TEST(whichever_way_a_buffer_comes_back_who_waits_gets_it),
        POOL_TEST(what_a_thread_keeps_in_front_is_given_to_who_waits),
        POOL_TEST(a_buffer_that_comes_as_the_time_runs_out_is_leased_or_free),
        POOL_TEST(threads_that_wait_for_few_buffers_all_get_one_each_time),
        POOL_TEST(who_waits_for_budget_finds_what_another_gave_back),
        POOL_TEST(who_waits_for_memory_of_the_system_gets_it_when_there_is_some),
        POOL_TEST(when_nobody_waits_any_more_threads_keep_buffers_in_front_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
