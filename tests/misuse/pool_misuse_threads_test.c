// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A lease released twice, by more than one thread: one after the other, which is told at once, and at the same moment, which is
 * told once, at the latest when the pool is trimmed or closed. A buffer never has two holders. */
#include <signal.h>
#include <unistd.h>

#include "pool_fixture.h"

#define ONE_AFTER_THE_OTHER "lease released twice"
#define AT_THE_SAME_TIME    "lease released twice, by two threads"

/* The handler may be called on any thread. */
static struct told {
    pthread_mutex_t lock;
    size_t count;
    nm_misuse last;
    char name[NM_NAME_BYTES];
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void listen(const nm_misuse *misuse, void *context) {
    (void)context;
    pthread_mutex_lock(&told.lock);
    told.count++;
    told.last = *misuse;
    snprintf(told.name, sizeof told.name, "%s", misuse->name != NULL ? misuse->name : "(null)");
    pthread_mutex_unlock(&told.lock);
}

static size_t told_count(void) {
    pthread_mutex_lock(&told.lock);
    size_t count = told.count;
    pthread_mutex_unlock(&told.lock);
    return count;
}

static int set_up_and_listen(void **state) {
    told.count = 0;
    nm_set_misuse_handler(listen, NULL);
    return set_up(state);
}

static int tear_down_and_listen_no_more(void **state) {
    nm_set_misuse_handler(NULL, NULL);
    return tear_down(state);
}

/* Three buffers, where threads keep nothing; or more, where those that come often do. */
static const size_t shapes[] = {3, 256};

static nm_pool *open_shape(fixture *f, size_t max_count) {
    return open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = 1000, .max_count = max_count, .name = "rx"));
}

/* ---- one after the other ------------------------------------------------------------------------------------------ */

enum { PLACES = 3 }; /* this thread, and two hands */
static hand hands[PLACES];

typedef struct step {
    nm_pool *pool;
    nm_lease *lease;
    const char *site;
} step;

static void lease_at(void *arg) {
    const step *s = arg;
    *s->lease = nm_pool_lease_at(s->pool, s->site);
}
static void release_at(void *arg) {
    const step *s = arg;
    nm_lease_release_at(s->lease, s->site);
}

static void on(size_t place, void (*work)(void *), void *arg) {
    if (place == 0)
        work(arg);
    else
        hand_do(&hands[place], work, arg);
}

static void hands_start(void) {
    for (size_t i = 1; i < PLACES; i++) hand_start(&hands[i]);
}
static void hands_end(void) {
    for (size_t i = 1; i < PLACES; i++) hand_end(&hands[i]);
}

static void assert_told(size_t count, const char *what, const void *address, const char *site, const char *leased_at,
                        const char *released_at) {
    assert_int_equal(told_count(), count);
    assert_string_equal(told.last.what, what);
    assert_string_equal(told.last.part, "pool");
    assert_string_equal(told.name, "rx");
    assert_ptr_equal(told.last.address, address);
    assert_string_equal(told.last.site, site);
    assert_string_equal(told.last.leased_at, leased_at);
    assert_string_equal(told.last.released_at, released_at);
}

static void a_copy_released_on_any_thread_after_any_other_released_the_lease_is_told_at_once(void **state) {
    fixture *f = *state;
    size_t count = 0;
    for (size_t shape = 0; shape < COUNT(shapes); shape++)
        for (size_t often = 0; often < 1u << PLACES; often++) { /* which threads have magazines */
            hands_start();
            nm_pool *pool = open_shape(f, shapes[shape]);
            lot l = {.pool = pool, .count = 2};
            for (size_t i = 0; i < PLACES; i++)
                if ((often >> i & 1) != 0) on(i, use_often, &l);
            for (size_t who = 0; who < PLACES * PLACES * PLACES; who++) {
                size_t leaser = who % PLACES, first = who / PLACES % PLACES, second = who / PLACES / PLACES;
                nm_lease lease, copy;
                on(leaser, lease_at, &(step){pool, &lease, "lease.c:1"});
                assert_true(nm_lease_ok(lease));
                copy = lease;
                on(first, release_at, &(step){NULL, &lease, "first.c:2"});
                assert_false(nm_lease_ok(lease));
                assert_int_equal(told_count(), count);
                on(second, release_at, &(step){NULL, &copy, "second.c:3"});
                assert_told(++count, ONE_AFTER_THE_OTHER, copy.data, "second.c:3", "lease.c:1", "first.c:2");
                if (who % 4 == 0) nm_pool_trim(pool, SIZE_MAX); /* nothing more is found out later */
                assert_int_equal(told_count(), count);
            }
            check_whole(pool, shapes[shape]);
            close_pool(pool);
            hands_end();
        }
    assert_int_equal(told_count(), count);
}

static void a_copy_released_on_any_thread_after_the_buffer_is_anothers_takes_it_from_nobody(void **state) {
    fixture *f = *state;
    size_t count = 0;
    for (size_t shape = 0; shape < COUNT(shapes); shape++) {
        hands_start();
        nm_pool *pool = open_shape(f, shapes[shape]);
        lot l = {.pool = pool, .count = 2};
        for (size_t i = 0; shape == 1 && i < PLACES; i++) on(i, use_often, &l);
        for (size_t who = 0; who < PLACES * PLACES * PLACES * PLACES; who++) {
            size_t leaser = who % PLACES, first = who / PLACES % PLACES, next = who / PLACES / PLACES % PLACES;
            static nm_lease all[256];
            nm_lease lease, copy;
            on(leaser, lease_at, &(step){pool, &lease, "lease.c:1"});
            copy = lease;
            on(first, release_at, &(step){NULL, &lease, "first.c:2"});
            /* all buffers are the next one's, so that the one in question is among them */
            lot every = {.pool = pool, .leases = all, .count = shapes[shape]};
            on(next, lease_lot, &every);
            assert_int_equal(every.failed, 0);
            on(who / PLACES / PLACES / PLACES, release_at, &(step){NULL, &copy, "second.c:3"});
            assert_int_equal(told_count(), ++count);
            assert_string_equal(told.last.what, ONE_AFTER_THE_OTHER);
            assert_string_equal(told.last.site, "second.c:3");
            nm_pool_trim(pool, SIZE_MAX);
            assert_int_equal(stats_of(pool).leased_count, shapes[shape]);
            on(first, release_lot, &every);
            assert_int_equal(told_count(), count);
        }
        check_whole(pool, shapes[shape]);
        close_pool(pool);
        hands_end();
    }
}

/* ---- at the same moment -------------------------------------------------------------------------------------------- */

enum { RACERS = 4 };

typedef struct race {
    nm_pool *pool;
    pthread_barrier_t barrier;
    size_t racers, rounds;
    nm_lease lease;
    NM_ATOMIC(size_t) wrong;
} race;

typedef struct racer {
    race *race;
    size_t number;
} racer;

/* All release copies of one lease, and lease another at once; then each must have a buffer of its own. */
static void *release_a_copy(void *arg) {
    const racer *me = arg;
    race *r = me->race;
    for (size_t round = 0; round < r->rounds; round++) {
        nm_lease mine = {0}, more = {0};
        /* the thread that leases goes round, so that the releases come from its own and from others' */
        if (round % r->racers == me->number) r->lease = nm_pool_lease_at(r->pool, "lease.c:1");
        pthread_barrier_wait(&r->barrier);
        nm_lease copy = r->lease;
        nm_lease_release_at(&copy, "release.c:2");
        if (nm_pool_try_lease(r->pool, &mine) == NM_OK) memcpy(mine.data, &me->number, sizeof me->number);
        if (round % 2 == 0 && nm_pool_try_lease(r->pool, &more) == NM_OK)
            memcpy(more.data, &me->number, sizeof me->number);
        pthread_barrier_wait(&r->barrier);
        /* A copy comes too late, too, when the buffer is another's already. */
        if (nm_lease_ok(mine) && memcmp(mine.data, &me->number, sizeof me->number) != 0)
            nm_atomic_add(&r->wrong, 1, NM_RELAXED);
        if (nm_lease_ok(more) && memcmp(more.data, &me->number, sizeof me->number) != 0)
            nm_atomic_add(&r->wrong, 1, NM_RELAXED);
        nm_lease_release(&mine);
        nm_lease_release(&more);
        if (pthread_barrier_wait(&r->barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
            nm_pool_trim(r->pool, SIZE_MAX);
            /* one was the release, and all others were told, no more and no fewer */
            if (told_count() != (round + 1) * (r->racers - 1)) nm_atomic_add(&r->wrong, 1, NM_RELAXED);
        }
        pthread_barrier_wait(&r->barrier);
    }
    return NULL;
}

static void copies_released_by_threads_at_the_same_moment_are_one_release_and_misuse(void **state) {
    fixture *f = *state;
    for (size_t shape = 0; shape < COUNT(shapes); shape++)
        for (size_t racers = 2; racers <= RACERS; racers++) {
            static race r;
            racer each[RACERS];
            pthread_t threads[RACERS];
            told.count = 0;
            r = (race){.racers = racers, .rounds = TEST_SLOW ? 400 : 3000};
            r.pool = open_shape(f, shapes[shape]);
            pthread_barrier_init(&r.barrier, NULL, (unsigned)racers);
            for (size_t i = 0; i < racers; i++) {
                each[i] = (racer){&r, i};
                assert_int_equal(pthread_create(&threads[i], NULL, release_a_copy, &each[i]), 0);
            }
            for (size_t i = 0; i < racers; i++) pthread_join(threads[i], NULL);
            pthread_barrier_destroy(&r.barrier);
            assert_int_equal(r.wrong, 0);
            assert_int_equal(told_count(), r.rounds * (racers - 1));
            assert_true(strcmp(told.last.what, ONE_AFTER_THE_OTHER) == 0 ||
                        strcmp(told.last.what, AT_THE_SAME_TIME) == 0);
            assert_non_null(told.last.leased_at);
            assert_non_null(told.last.released_at);
            check_whole(r.pool, shapes[shape]);
            close_pool(r.pool);
            assert_int_equal(told_count(), r.rounds * (racers - 1));
        }
}

/* ---- found out later ----------------------------------------------------------------------------------------------- */

/* Two threads that release at the same moment do not see each other's marks. Here one of them comes after the other, and the
 * mark is wiped out in between, so that it is as if they had, each time. The release that is wrong is a note then, with the
 * thread that made it. */
typedef struct late {
    fixture *f;
    nm_pool *pool;
    hand home, other; /* leased and released; released the copy */
    nm_lease leases[256], copies[40];
    size_t count;
} late;

static void late_open(late *l, fixture *f) {
    l->f = f;
    l->pool = open_shape(f, 256);
    hand_start(&l->home);
    hand_start(&l->other);
    lot often = {.pool = l->pool, .count = 20};
    hand_do(&l->home, use_often, &often);
    hand_do(&l->other, use_often, &often);
    told.count = 0;
}

static void late_make(late *l, size_t count) {
    lot all = {.pool = l->pool, .leases = l->leases, .count = count}, copies = {.leases = l->copies, .count = count};
    hand_do(&l->home, lease_lot, &all);
    memcpy(l->copies, l->leases, count * sizeof l->leases[0]);
    hand_do(&l->other, release_lot, &copies);
    for (size_t i = 0; i < count; i++) nm_atomic_store(&l->leases[i].slot->nm__far_mark, 0u, NM_RELAXED);
    hand_do(&l->home, release_lot, &all);
    l->count = count;
}

static void late_close(late *l) {
    assert_int_equal(told_count(), l->count);
    if (l->count != 0) {
        assert_string_equal(told.last.what, AT_THE_SAME_TIME);
        assert_non_null(told.last.leased_at);
        assert_non_null(told.last.released_at);
        assert_non_null(told.last.site);
        assert_string_equal(told.name, "rx");
    }
    if (l->pool != NULL) {
        check_whole(l->pool, 256);
        close_pool(l->pool);
    }
    hand_end(&l->home);
    hand_end(&l->other);
    assert_int_equal(told_count(), l->count);
}

static void trim_it(late *l) { assert_int_equal(nm_pool_trim(l->pool, SIZE_MAX), 0); }
static void reclaim_it(late *l) { assert_true(nm_scope_reclaim(l->f->scope, SIZE_MAX) > 0); }
static void close_it(late *l) {
    close_pool(l->pool);
    l->pool = NULL;
}
static void lease_all(late *l) {
    assert_int_equal(nm_pool_lease_many(l->pool, l->leases, 256), 256);
    nm_lease_release_many(l->leases, 256);
}
static void wait_for_one_more(late *l) {
    nm_lease one_more;
    size_t count = nm_pool_lease_many(l->pool, l->leases, 255); /* may find it out already */
    assert_int_equal(count, 255);
    assert_ok(nm_pool_lease_wait(l->pool, &one_more, UINT64_MAX));
    nm_lease_release(&one_more);
    nm_lease_release_many(l->leases, count);
}
static void ask_for_the_event(late *l) { assert_true(nm_pool_event_fd(l->pool) >= 0); }
static void end_the_other_thread(late *l) {
    hand_end(&l->other);
    hand_start(&l->other);
}
/* The other sends what it has noted, when there is no more room for notes. */
static void send_and_look(late *l) {
    static nm_lease more[100];
    lot all = {.pool = l->pool, .leases = more, .count = 100};
    for (int i = 0; i < 3; i++) {
        hand_do(&l->home, lease_lot, &all);
        assert_int_equal(all.failed, 0);
        hand_do(&l->other, release_lot, &all);
    }
    hand_do(&l->home, lease_lot, &all); /* finds its letters when its magazine is empty */
    hand_do(&l->home, release_lot, &all);
}
static void send_and_end_the_thread_that_leased(late *l) {
    static nm_lease more[100];
    lot all = {.pool = l->pool, .leases = more, .count = 100};
    hand_do(&l->home, lease_lot, &all);
    hand_do(&l->other, release_lot, &all);
    hand_end(&l->home);
    hand_start(&l->home);
}

static const struct {
    const char *name;
    void (*find)(late *);
} finders[] = {
    {"trim", trim_it},
    {"reclaim", reclaim_it},
    {"close", close_it},
    {"all leased", lease_all},
    {"a wait", wait_for_one_more},
    {"the event asked for", ask_for_the_event},
    {"the end of the thread that was wrong", end_the_other_thread},
    {"letters sent", send_and_look},
    {"the end of the thread that leased", send_and_end_the_thread_that_leased},
};

static void out_of_time(int number) {
    (void)number;
    static const char text[] = "pool_misuse_threads: a handler that uses the library never returns\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(1);
}

/* As a handler may, since no lock of the library is held. */
static void use_the_library(const nm_misuse *misuse, void *context) {
    fixture *f = context;
    nm_pool *pool;
    nm_lease lease = {0};
    nm_scope_stats stats;
    listen(misuse, NULL);
    if (nm_pool_open(&pool, f->scope, NM_POOL_OPTIONS(.chunk_bytes = 100, .max_count = 2)) != NM_OK) return;
    if (nm_pool_try_lease(pool, &lease) == NM_OK) memset(lease.data, 1, lease.size);
    nm_lease_release(&lease);
    nm_pool_trim(pool, 0);
    if (nm_pool_close(pool) != NM_OK) abort();
    nm_scope_get_stats(f->scope, &stats);
}

static void a_release_that_was_wrong_is_told_wherever_it_is_found_with_no_lock_held(void **state) {
    fixture *f = *state;
    if (!keeps_in_front()) skip(); /* every release is looked at at once */
    signal(SIGALRM, out_of_time);
    alarm(120);
    nm_set_misuse_handler(use_the_library, f);
    for (size_t i = 0; i < COUNT(finders); i++) {
        static late l;
        print_message("%s\n", finders[i].name);
        late_open(&l, f);
        late_make(&l, 1);
        assert_int_equal(told_count(), 0);
        finders[i].find(&l);
        late_close(&l);
    }
    alarm(0);
}

static void many_that_were_wrong_are_all_told_of(void **state) {
    fixture *f = *state;
    if (!keeps_in_front()) skip();
    static late l;
    late_open(&l, f);
    late_make(&l, 2);
    late_make(&l, 2);
    nm_pool_trim(l.pool, SIZE_MAX);
    l.count = 4;
    late_close(&l);
}

static void a_buffer_leased_again_before_the_wrong_release_is_found_stays_leased(void **state) {
    fixture *f = *state;
    if (!keeps_in_front()) skip();
    for (size_t i = 0; i < COUNT(finders); i++) {
        static late l;
        nm_lease held;
        lot one = {.leases = &held, .count = 1};
        if (finders[i].find == close_it || finders[i].find == lease_all || finders[i].find == wait_for_one_more)
            continue;
        late_open(&l, f);
        late_make(&l, 1);
        void *data = l.copies[0].slot->data;
        one.pool = l.pool;
        hand_do(&l.home, lease_lot, &one); /* the newest in its magazine */
        assert_ptr_equal(held.data, data);
        memset(held.data, 0x77, held.size);
        finders[i].find(&l);
        assert_int_equal(told_count(), 1);
        assert_int_not_equal(nm_lease_index(&held), UINT32_MAX);
        assert_int_equal(stats_of(l.pool).leased_count, 1);
        assert_int_equal(*(unsigned char *)held.data, 0x77);
        nm_lease_release(&held);
        late_close(&l);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up_and_listen, tear_down_and_listen_no_more)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_copy_released_on_any_thread_after_any_other_released_the_lease_is_told_at_once),
        T(a_copy_released_on_any_thread_after_the_buffer_is_anothers_takes_it_from_nobody),
        T(copies_released_by_threads_at_the_same_moment_are_one_release_and_misuse),
        T(a_release_that_was_wrong_is_told_wherever_it_is_found_with_no_lock_held),
        T(many_that_were_wrong_are_all_told_of),
        T(a_buffer_leased_again_before_the_wrong_release_is_found_stays_leased),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
