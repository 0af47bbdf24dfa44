// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Waiting for a buffer in an event loop. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include "pool_ways.h"

#define MS      ((uint64_t)1000000)
#define LONG_MS 10000u /* nothing takes so long, on a machine that does other things too */
#define LONG    (LONG_MS * MS)

static bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_true(poll(&p, 1, 0) >= 0);
    return (p.revents & POLLIN) != 0;
}

static void drain(int fd) {
    uint64_t count;
    assert_int_equal(read(fd, &count, sizeof count), sizeof count);
    assert_false(readable(fd));
}

static void the_event_is_readable_after_a_refusal_and_a_release(void **state) {
    fixture *f = *state;
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        nm_lease none[2];
        nm_scope *holder;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        assert_ok(nm_scope_open(&holder, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
        lot often = {.pool = s.pool, .count = 1};
        use_often(&often);
        nm_lease lease = lease_of(s.pool);
        /* asked for the first time: a refusal may have been before */
        int fd = nm_pool_event_fd(s.pool);
        assert_true(fd >= 0);
        assert_false(readable(fd));
        nm_lease_release(&lease);
        drain(fd);
        for (int how = 0; how < 6; how++) {
            lease = lease_of(s.pool);
            assert_false(readable(fd));
            nm_lease_release(&lease); /* nobody was refused */
            assert_false(readable(fd));
            lease = lease_of(s.pool);
            switch (how) {
            case 0: assert_status(nm_pool_try_lease(s.pool, &none[0]), NM_ECAPACITY); break;
            case 1: assert_false(nm_lease_ok(nm_pool_lease(s.pool))); break;
            case 2: assert_int_equal(nm_pool_lease_many(s.pool, none, COUNT(none)), 0); break;
            case 3: assert_status(nm_pool_lease_in(s.pool, holder, &none[0]), NM_ECAPACITY); break;
            case 4: assert_status(nm_pool_lease_wait(s.pool, &none[0], 0), NM_ETIMEDOUT); break;
            default: assert_status(nm_pool_lease_wait(s.pool, &none[0], MS), NM_ETIMEDOUT); break;
            }
            assert_false(readable(fd));
            assert_int_equal(nm_pool_event_fd(s.pool), fd);
            nm_lease_release(&lease);
            assert_true(readable(fd));
            assert_true(readable(fd)); /* until it is read */
            drain(fd);
        }
        assert_int_equal(nm_scope_close(holder, NULL), 0);
        scarce_close(&s);
        assert_true(fcntl(fd, F_GETFD) < 0 && errno == EBADF); /* the pool has closed it */
    }
    assert_int_equal(nm_pool_event_fd(NULL), -1);
}

static void whichever_way_a_buffer_comes_back_the_event_is_readable(void **state) {
    fixture *f = *state;
    hand_start(&way_hand);
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        lot often = {.pool = s.pool, .count = 1};
        use_often(&often);
        int fd = nm_pool_event_fd(s.pool);
        if (readable(fd)) drain(fd);
        for (size_t i = 0; i < 2 * COUNT(ways); i++) {
            const way *wy = &ways[i % COUNT(ways)];
            nm_lease lease, none;
            if (wy->back == release_it_then_its_share || wy->back == release_its_share_then_it_elsewhere) continue;
            wy->prepare(f, &s, &lease);
            assert_status(nm_pool_try_lease(s.pool, &none), NM_ECAPACITY);
            assert_false(readable(fd));
            wy->back(&s, &lease);
            if (!readable(fd)) fail_msg("%s: not readable", wy->name);
            drain(fd);
        }
        scarce_close(&s);
    }
    hand_end(&way_hand);
}

static void an_event_asked_for_after_the_refusal_is_not_missed(void **state) {
    fixture *f = *state;
    scarce s;
    nm_lease none;
    scarce_open(&s, f->scope, 128);
    lot often = {.pool = s.pool, .count = 1};
    use_often(&often);
    nm_lease lease = lease_of(s.pool);
    assert_status(nm_pool_try_lease(s.pool, &none), NM_ECAPACITY);
    nm_lease_release(&lease); /* it has come back already when the event is asked for */
    int fd = nm_pool_event_fd(s.pool);
    assert_true(readable(fd));
    drain(fd);
    lease = lease_of(s.pool);
    nm_lease_release(&lease);
    scarce_close(&s);
}

static int no_event(void) { return -1; }

static void without_a_descriptor_there_is_no_event_and_the_next_call_works(void **state) {
    fixture *f = *state;
    scarce s;
    nm_lease none;
    scarce_open(&s, f->scope, 1);
    static nm__os table;
    table = nm__os_system;
    table.event_open = no_event;
    nm__os_replace(&table);
    assert_int_equal(nm_pool_event_fd(s.pool), -1);
    nm_lease lease = lease_of(s.pool);
    assert_status(nm_pool_try_lease(s.pool, &none), NM_ECAPACITY);
    nm__os_replace(NULL);
    int fd = nm_pool_event_fd(s.pool);
    assert_true(fd >= 0);
    nm_lease_release(&lease);
    assert_true(readable(fd));
    scarce_close(&s);
    /* The scope's close closes it too. */
    nm_scope *gone;
    assert_ok(nm_scope_open(&gone, f->scope, NULL));
    fd = nm_pool_event_fd(open_pool(gone, NM_POOL_OPTIONS(.chunk_bytes = 1)));
    assert_true(fd >= 0 && fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(nm_scope_close(gone, NULL), 0);
    assert_true(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
}

typedef struct loops {
    nm_pool *pool;
    size_t rounds;
    bool reads;
    NM_ATOMIC(size_t) missed, waits;
} loops;

/* As the header says: refused, so wait until it is readable, try again. */
static void *event_loop(void *arg) {
    loops *l = arg;
    struct pollfd p = {.fd = nm_pool_event_fd(l->pool), .events = POLLIN};
    for (size_t i = 0; i < l->rounds; i++) {
        nm_lease lease;
        while (nm_pool_try_lease(l->pool, &lease) != NM_OK) {
            uint64_t count;
            if (poll(&p, 1, LONG_MS / 2) == 0) nm_atomic_add(&l->missed, 1, NM_RELAXED);
            if (l->reads && read(p.fd, &count, sizeof count) < 0)
                nm_atomic_add(&l->missed, errno != EAGAIN, NM_RELAXED);
            nm_atomic_add(&l->waits, 1, NM_RELAXED);
        }
        *(size_t *)lease.data = i;
        if (i % 7 == 0) sched_yield();
        nm_lease_release(&lease);
    }
    return NULL;
}

/* One that waits in line, and so never leaves the loop without a buffer for ever. */
static void *no_loop(void *arg) {
    loops *l = arg;
    for (size_t i = 0; i < l->rounds; i++) {
        nm_lease lease;
        if (nm_pool_lease_wait(l->pool, &lease, LONG) != NM_OK) {
            nm_atomic_add(&l->missed, 1, NM_RELAXED);
            continue;
        }
        if (i % 7 == 0) sched_yield();
        nm_lease_release(&lease);
    }
    return NULL;
}

/* In a pool that has `count` buffers for them; in a large one of 128 the others are leased. */
static void run_loops(fixture *f, size_t loop_count, size_t others, size_t count, bool large) {
    loops l = {.rounds = TEST_SLOW ? 1000 : 10000, .reads = loop_count == 1};
    pthread_t threads[4];
    size_t max_count = large ? 128 : count;
    nm_lease held[128];
    l.pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = max_count));
    for (size_t i = count; i < max_count; i++) held[i] = lease_of(l.pool);
    assert_true(nm_pool_event_fd(l.pool) >= 0);
    for (size_t i = 0; i < loop_count + others; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < loop_count ? event_loop : no_loop, &l), 0);
    for (size_t i = 0; i < loop_count + others; i++) pthread_join(threads[i], NULL);
    print_message("%zu loops, %zu others, %zu buffers: %zu waits, %zu missed\n", loop_count, others, count, l.waits,
                  l.missed);
    assert_int_equal(l.missed, 0);
    nm_lease_release_many(held + count, max_count - count);
    check_whole(l.pool, max_count);
    close_pool(l.pool);
}

static void event_loops_of_three_threads_miss_no_buffer(void **state) {
    fixture *f = *state;
    for (int large = 0; large < 2; large++) {
        run_loops(f, 2, 0, 1, large);
        run_loops(f, 3, 0, 1, large);
        run_loops(f, 3, 0, 2, large);
    }
}

static void an_event_loop_among_threads_that_wait_in_line_misses_no_buffer(void **state) {
    fixture *f = *state;
    for (int large = 0; large < 2; large++) {
        run_loops(f, 1, 2, 1, large);
        run_loops(f, 1, 2, 2, large);
        run_loops(f, 2, 2, 2, large);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        POOL_TEST(the_event_is_readable_after_a_refusal_and_a_release),
        POOL_TEST(whichever_way_a_buffer_comes_back_the_event_is_readable),
        POOL_TEST(an_event_asked_for_after_the_refusal_is_not_missed),
        POOL_TEST(without_a_descriptor_there_is_no_event_and_the_next_call_works),
        POOL_TEST(event_loops_of_three_threads_miss_no_buffer),
        POOL_TEST(an_event_loop_among_threads_that_wait_in_line_misses_no_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
