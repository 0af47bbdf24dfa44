// SPDX-License-Identifier: Apache-2.0 OR MIT
/* One load a key at a time. The stack frames of leaders and followers end where the tests say so, and AddressSanitizer
 * and ThreadSanitizer watch that nobody looks at one that has ended. */
#include "cache/flight.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hand.h"
#include "testing.h"

#define MS       ((uint64_t)1000000)
#define FOR_EVER UINT64_MAX
#define LONG     (LONG_MS * MS) /* rather than for ever where a failed test should come to an end */
#define LONG_MS  10000u         /* nothing takes so long, on a machine that does other things too */
#define HANDS    6

static nm__flight flight;
static hand hands[HANDS];

static int set_up(void **state) {
    (void)state;
    nm__flight_open(&flight);
    for (int i = 0; i < HANDS; i++) hand_start(&hands[i]);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < HANDS; i++) hand_end(&hands[i]);
    for (unsigned i = 0; i < NM__FLIGHT_STRIPES; i++) assert_null(flight.stripes[i].first);
    nm__flight_close(&flight);
    return 0;
}

/* A hash that puts keys into one stripe or another by their first letter. */
static uint64_t hash_of(const char *key) { return (uint64_t)key[0] << 40 | (uint64_t)strlen(key); }

static nm__flight_role begin(const char *key, nm__load *own) {
    return nm__flight_begin(&flight, hash_of(key), key, strlen(key), own);
}
static void put_seen(const char *key) { nm__flight_put_seen(&flight, hash_of(key), key, strlen(key)); }

/* ---- for a hand: what one asks, step by step ---- */

typedef struct ask {
    const char *key;
    nm__flight *in; /* NULL: flight */
    nm__load own;
    nm__flight_role role;
    uint64_t timeout_ns;
    nm_status ends_with; /* a leader's */
    nm_status status;    /* a follower's answer */
    bool overtaken;
    double took_ms;
} ask;

static nm__flight *of(const ask *a) { return a->in != NULL ? a->in : &flight; }
static void do_begin(void *arg) {
    ask *a = arg;
    a->role = nm__flight_begin(of(a), hash_of(a->key), a->key, strlen(a->key), &a->own);
}
static void do_end(void *arg) {
    ask *a = arg;
    a->overtaken = nm__flight_end(of(a), &a->own, a->ends_with);
    memset(&a->own, 0xdd, sizeof a->own);
}
static void do_wait(void *arg) {
    ask *a = arg;
    double from = clock_ms();
    a->status = nm__flight_wait(of(a), &a->own, a->timeout_ns);
    a->took_ms = clock_ms() - from;
    memset(&a->own, 0xdd, sizeof a->own);
}

static void lead(hand *h, ask *a) {
    hand_do(h, do_begin, a);
    assert_int_equal(a->role, NM__FLIGHT_LEADER);
}
/* Stands in line when this returns. */
static void follow(hand *h, ask *a) {
    hand_do(h, do_begin, a);
    assert_int_equal(a->role, NM__FLIGHT_FOLLOWER);
    hand_begin(h, do_wait, a);
}

/* ---- one load ---- */

static void the_first_leads_and_the_others_get_its_status(void **state) {
    (void)state;
    static const nm_status ends[] = {NM_OK, NM_ENOTFOUND, NM_EBUDGET};
    for (size_t n = 0; n < sizeof ends / sizeof ends[0]; n++) {
        ask first = {.key = "k", .ends_with = ends[n]}, others[HANDS - 1];
        lead(&hands[0], &first);
        for (int i = 0; i < HANDS - 1; i++) {
            others[i] = (ask){.key = "k", .timeout_ns = i % 2 ? FOR_EVER : LONG};
            follow(&hands[i + 1], &others[i]);
        }
        sleep_ms(2);
        for (int i = 0; i < HANDS - 1; i++) assert_false(hand_rests(&hands[i + 1]));
        hand_do(&hands[0], do_end, &first);
        assert_false(first.overtaken);
        for (int i = 0; i < HANDS - 1; i++) {
            hand_await(&hands[i + 1]);
            assert_status(others[i].status, ends[n]);
        }
        /* It is over: the next one leads again. */
        lead(&hands[1], &first);
        hand_do(&hands[1], do_end, &first);
    }
}

static void who_comes_to_wait_after_the_end_knows_how_it_went(void **state) {
    (void)state;
    ask first = {.key = "k", .ends_with = NM_EBUDGET}, second = {.key = "k", .timeout_ns = 0};
    lead(&hands[0], &first);
    hand_do(&hands[1], do_begin, &second);
    hand_do(&hands[0], do_end, &first);
    hand_do(&hands[1], do_wait, &second);
    assert_status(second.status, NM_EBUDGET);
}

static void keys_are_told_apart_by_their_bytes(void **state) {
    (void)state;
    static const char bytes[] = {'a', 0, 'b'};
    nm__load loads[5];
    /* One hash for all, as if they collided; lengths differ, bytes differ, one is empty. */
    assert_int_equal(nm__flight_begin(&flight, 7, "aa", 2, &loads[0]), NM__FLIGHT_LEADER);
    assert_int_equal(nm__flight_begin(&flight, 7, "ab", 2, &loads[1]), NM__FLIGHT_LEADER);
    assert_int_equal(nm__flight_begin(&flight, 7, "a", 1, &loads[2]), NM__FLIGHT_LEADER);
    assert_int_equal(nm__flight_begin(&flight, 7, bytes, 3, &loads[3]), NM__FLIGHT_LEADER);
    assert_int_equal(nm__flight_begin(&flight, 7, NULL, 0, &loads[4]), NM__FLIGHT_LEADER);
    nm__flight_put_seen(&flight, 7, "ab", 2);
    nm__flight_put_seen(&flight, 7, "b", 1);
    nm__flight_put_seen(&flight, 8, "aa", 2);
    for (int i = 0; i < 5; i++) assert_int_equal(nm__load_is_overtaken(&loads[i]), i == 1);
    for (int i = 0; i < 5; i++) assert_int_equal(nm__flight_end(&flight, &loads[(i + 2) % 5], NM_OK), i == 4);
}

/* ---- time ---- */

static void a_follower_whose_time_is_up_goes_and_the_rest_stay(void **state) {
    (void)state;
    ask first = {.key = "k"}, stays[2] = {{.key = "k", .timeout_ns = LONG}, {.key = "k", .timeout_ns = LONG}};
    ask goes = {.key = "k", .timeout_ns = 20 * MS}, at_once = {.key = "k", .timeout_ns = 0};
    lead(&hands[0], &first);
    follow(&hands[1], &stays[0]);
    follow(&hands[2], &goes);
    follow(&hands[3], &stays[1]);
    follow(&hands[4], &at_once);
    hand_await(&hands[4]);
    hand_await(&hands[2]);
    assert_status(at_once.status, NM_ETIMEDOUT);
    assert_status(goes.status, NM_ETIMEDOUT);
    assert_in_range((uint64_t)goes.took_ms, 19, LONG_MS);
    assert_in_range((uint64_t)at_once.took_ms, 0, LONG_MS);
    assert_false(hand_rests(&hands[1]));
    hand_do(&hands[0], do_end, &first);
    hand_await(&hands[1]);
    hand_await(&hands[3]);
    assert_ok(stays[0].status);
    assert_ok(stays[1].status);
}

/* ---- a put meanwhile ---- */

static void a_put_meanwhile_is_known_to_the_leader_and_all_look_again(void **state) {
    (void)state;
    static const nm_status ends[] = {NM_OK, NM_ENOTFOUND};
    for (size_t n = 0; n < 2; n++) {
        ask first = {.key = "k", .ends_with = ends[n]}, second = {.key = "k", .timeout_ns = LONG};
        lead(&hands[0], &first);
        put_seen("kk"); /* same stripe */
        assert_false(nm__load_is_overtaken(&first.own));
        follow(&hands[1], &second);
        put_seen("k");
        assert_true(nm__load_is_overtaken(&first.own));
        assert_false(hand_rests(&hands[1])); /* still one load a key */
        hand_do(&hands[0], do_end, &first);
        assert_true(first.overtaken);
        hand_await(&hands[1]);
        assert_ok(second.status);
    }
    /* What was put before a load began is nothing to it. */
    put_seen("k");
    ask after = {.key = "k"};
    lead(&hands[0], &after);
    hand_do(&hands[0], do_end, &after);
    assert_false(after.overtaken);
}

static void a_clear_meanwhile_overtakes_all(void **state) {
    (void)state;
    ask asks[4] = {{.key = "a"}, {.key = "b"}, {.key = "ab"}, {.key = "z"}};
    for (int i = 0; i < 4; i++) lead(&hands[i], &asks[i]);
    nm__flight_clear_seen(&flight);
    for (int i = 0; i < 4; i++) hand_do(&hands[i], do_end, &asks[i]);
    for (int i = 0; i < 4; i++) assert_true(asks[i].overtaken);
    lead(&hands[0], &asks[0]);
    hand_do(&hands[0], do_end, &asks[0]);
    assert_false(asks[0].overtaken);
}

/* ---- loaders that ask ---- */

static void a_loader_that_asks_for_its_own_key_is_refused_at_once(void **state) {
    (void)state;
    nm__load outer, inner, again;
    ask other = {.key = "outer", .timeout_ns = LONG};
    assert_int_equal(begin("outer", &outer), NM__FLIGHT_LEADER);
    follow(&hands[0], &other);
    assert_int_equal(begin("inner", &inner), NM__FLIGHT_LEADER);
    assert_int_equal(begin("outer", &again), NM__FLIGHT_FOLLOWER);
    assert_status(nm__flight_wait(&flight, &again, FOR_EVER), NM_EBUSY);
    assert_int_equal(begin("inner", &again), NM__FLIGHT_FOLLOWER);
    assert_status(nm__flight_wait(&flight, &again, 0), NM_EBUSY);
    assert_false(hand_rests(&hands[0]));
    assert_false(nm__flight_end(&flight, &inner, NM_OK));
    assert_false(nm__flight_end(&flight, &outer, NM_OK));
    hand_await(&hands[0]);
    assert_ok(other.status);
}

static void loaders_that_wait_for_each_other_in_a_ring_are_refused(void **state) {
    (void)state;
    /* 0 leads a and waits for b; 1 leads b and waits for c; 2 leads c (and x, in it) and wants a. */
    ask leads[4] = {{.key = "a"}, {.key = "b"}, {.key = "c"}, {.key = "x"}};
    ask waits[2] = {{.key = "b", .timeout_ns = LONG}, {.key = "c", .timeout_ns = LONG}};
    ask last = {.key = "a", .timeout_ns = LONG}, outside = {.key = "a", .timeout_ns = LONG};
    for (int i = 0; i < 3; i++) lead(&hands[i], &leads[i]);
    lead(&hands[2], &leads[3]);
    follow(&hands[0], &waits[0]);
    follow(&hands[1], &waits[1]);
    follow(&hands[3], &outside);
    hand_do(&hands[2], do_begin, &last);
    hand_do(&hands[2], do_wait, &last);
    assert_status(last.status, NM_EBUSY);
    hand_do(&hands[2], do_end, &leads[2]);
    hand_await(&hands[1]);
    assert_ok(waits[1].status);
    /* The ring is open, for 1 waits for nothing; though 2 still leads x. */
    follow(&hands[2], &last);
    hand_do(&hands[1], do_end, &leads[1]);
    hand_await(&hands[0]);
    assert_ok(waits[0].status);
    hand_do(&hands[0], do_end, &leads[0]);
    hand_await(&hands[2]);
    hand_await(&hands[3]);
    assert_ok(last.status);
    assert_ok(outside.status);
    hand_do(&hands[2], do_end, &leads[3]);
}

static void a_loader_whose_time_is_up_is_in_no_ring(void **state) {
    (void)state;
    ask leads[2] = {{.key = "a"}, {.key = "b"}}, wants_b = {.key = "b", .timeout_ns = 5 * MS};
    ask wants_a = {.key = "a", .timeout_ns = LONG};
    lead(&hands[0], &leads[0]);
    lead(&hands[1], &leads[1]);
    follow(&hands[0], &wants_b);
    hand_await(&hands[0]);
    assert_status(wants_b.status, NM_ETIMEDOUT);
    follow(&hands[1], &wants_a); /* not refused */
    sleep_ms(2);
    assert_false(hand_rests(&hands[1]));
    hand_do(&hands[0], do_end, &leads[0]);
    hand_await(&hands[1]);
    assert_ok(wants_a.status);
    hand_do(&hands[1], do_end, &leads[1]);
}

static void a_ring_through_two_caches_is_seen(void **state) {
    (void)state;
    static nm__flight other;
    nm__flight_open(&other);
    ask a = {.key = "a"}, b = {.key = "b", .in = &other};
    ask wants_a = {.key = "a", .timeout_ns = LONG}, wants_b = {.key = "b", .in = &other, .timeout_ns = LONG};
    lead(&hands[0], &a);
    lead(&hands[1], &b);
    follow(&hands[0], &wants_b);
    hand_do(&hands[1], do_begin, &wants_a);
    hand_do(&hands[1], do_wait, &wants_a);
    assert_status(wants_a.status, NM_EBUSY);
    hand_do(&hands[1], do_end, &b);
    hand_await(&hands[0]);
    assert_ok(wants_b.status);
    hand_do(&hands[0], do_end, &a);
    nm__flight_close(&other);
}

/* ---- fork ---- */

static void in_the_child_of_a_fork_only_ones_own_loads_are_in_flight(void **state) {
    (void)state;
    ask theirs = {.key = "theirs"}, follower = {.key = "mine", .timeout_ns = LONG};
    nm__load mine, own;
    lead(&hands[0], &theirs);
    assert_int_equal(begin("mine", &mine), NM__FLIGHT_LEADER);
    follow(&hands[1], &follower);
    nm__flight_before_fork(&flight);
    pid_t child = fork();
    nm__flight_after_fork(&flight, child == 0);
    if (child == 0) {
        int wrong = 0;
        wrong |= (begin("mine", &own) != NM__FLIGHT_FOLLOWER) << 0;
        wrong |= (nm__flight_wait(&flight, &own, FOR_EVER) != NM_EBUSY) << 1;
        put_seen("mine");
        wrong |= (!nm__flight_end(&flight, &mine, NM_OK)) << 2;
        wrong |= (begin("theirs", &own) != NM__FLIGHT_LEADER) << 3;
        wrong |= (nm__flight_end(&flight, &own, NM_OK)) << 4;
        for (unsigned i = 0; i < NM__FLIGHT_STRIPES; i++) wrong |= (flight.stripes[i].first != NULL) << 5;
        wrong |= (nm_atomic_load(&follower.own.landed, NM_RELAXED) != 0)
                 << 6; /* a frame of a thread that is not here */
        _exit(wrong);
    }
    assert_true(child > 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_false(nm__flight_end(&flight, &mine, NM_OK));
    hand_await(&hands[1]);
    assert_ok(follower.status);
    hand_do(&hands[0], do_end, &theirs);
}

/* ---- threads at once ---- */

#define KEYS    5u
#define THREADS 4u
#define ROUNDS  (TEST_SLOW ? 4000u : 30000u)

/* A cache of a few keys whose values are versions, and the source that they are loaded from. */
typedef struct place {
    pthread_mutex_t lock; /* the shard's */
    uint64_t version;     /* 0: none */
    uint64_t oldest;      /* what a put or remove has made the oldest version that may be here */
    NM_ATOMIC(uint64_t) source;
    NM_ATOMIC(uint32_t) loaders;
} place;

static place places[KEYS];
static NM_ATOMIC(uint32_t) broken; /* cmocka's asserts belong to the main thread */
static NM_ATOMIC(uint64_t) loads, overtaken_loads, timeouts, follows, failures;

static void broke(uint32_t how) { nm_atomic_or(&broken, how, NM_RELAXED); }

static uint64_t look(place *p) {
    pthread_mutex_lock(&p->lock);
    uint64_t version = p->version;
    pthread_mutex_unlock(&p->lock);
    return version;
}

/* 1 of 8 loaders fails. */
static nm_status load_from_source(place *p, uint64_t *seed, uint64_t *out) {
    if (nm_atomic_add(&p->loaders, 1, NM_RELAXED) != 0) broke(1);
    nm_atomic_add(&loads, 1, NM_RELAXED);
    *out = nm_atomic_load(&p->source, NM_RELAXED);
    for (size_t i = test_below(seed, 4); i > 0; i--) sched_yield();
    if (nm_atomic_sub(&p->loaders, 1, NM_RELAXED) != 1) broke(1);
    return test_below(seed, 8) == 0 ? NM_ENOTFOUND : NM_OK;
}

static nm_status get_or_load(uint64_t number, uint64_t *seed, uint64_t timeout_ns) {
    place *p = &places[number];
    for (;;) {
        if (look(p) != 0) return NM_OK;
        char key[16]; /* of this frame */
        int key_len = snprintf(key, sizeof key, "key %u", (unsigned)number);
        nm__load own;
        nm_status st;
        if (nm__flight_begin(&flight, number << 39, key, (size_t)key_len, &own) == NM__FLIGHT_FOLLOWER) {
            nm_atomic_add(&follows, 1, NM_RELAXED);
            st = nm__flight_wait(&flight, &own, timeout_ns);
            memset(&own, 0xdd, sizeof own);
            if (st != NM_OK) return st;
            continue;
        }
        uint64_t version = look(p); /* again */
        st = NM_OK;
        if (version == 0) {
            st = load_from_source(p, seed, &version);
            if (st == NM_OK) {
                pthread_mutex_lock(&p->lock);
                if (!nm__load_is_overtaken(&own)) {
                    p->version = version;
                    if (version < p->oldest) broke(2); /* what a put or remove said is forgotten */
                }
                pthread_mutex_unlock(&p->lock);
            }
        }
        bool overtaken = nm__flight_end(&flight, &own, st);
        memset(&own, 0xdd, sizeof own);
        if (overtaken) nm_atomic_add(&overtaken_loads, 1, NM_RELAXED);
        if (overtaken) continue;
        return st;
    }
}

/* A new version in the source, then into the cache; or out of the cache what is older. Nothing but the shard's lock
 * orders the source. */
static void change(uint64_t number, bool removes) {
    place *p = &places[number];
    char key[16];
    int key_len = snprintf(key, sizeof key, "key %u", (unsigned)number);
    uint64_t version = nm_atomic_add(&p->source, 1, NM_RELAXED) + 1;
    pthread_mutex_lock(&p->lock);
    if (version > p->oldest) {
        nm__flight_put_seen(&flight, number << 39, key, (size_t)key_len);
        p->oldest = version;
        p->version = removes ? 0 : version;
    }
    pthread_mutex_unlock(&p->lock);
}

static void *worker(void *arg) {
    uint64_t seed = *(uint64_t *)arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t number = test_below(&seed, KEYS);
        size_t what = test_below(&seed, 20);
        if (what < 4) {
            change(number, what < 3);
        } else {
            uint64_t timeout_ns = what < 12 ? FOR_EVER : test_below(&seed, 8) * 3000;
            nm_status st = get_or_load(number, &seed, timeout_ns);
            if (st == NM_ETIMEDOUT)
                nm_atomic_add(&timeouts, 1, NM_RELAXED);
            else if (st == NM_ENOTFOUND)
                nm_atomic_add(&failures, 1, NM_RELAXED);
            else if (st != NM_OK)
                broke(4);
            if (timeout_ns == FOR_EVER && st == NM_ETIMEDOUT) broke(8);
        }
    }
    return NULL;
}

static void a_put_wins_and_one_loads_whatever_threads_do(void **state) {
    (void)state;
    uint64_t seed = test_seed(), seeds[THREADS];
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < KEYS; i++) {
        places[i] = (place){.source = 1};
        pthread_mutex_init(&places[i].lock, NULL);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = test_random(&seed);
        assert_int_equal(pthread_create(&threads[i], NULL, worker, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(broken, 0);
    print_message("loads %" PRIu64 ", overtaken %" PRIu64 ", followed %" PRIu64 ", failed %" PRIu64
                  ", timed out %" PRIu64 "\n",
                  loads, overtaken_loads, follows, failures, timeouts);
    assert_true(loads != 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_leads_and_the_others_get_its_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_comes_to_wait_after_the_end_knows_how_it_went, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_are_told_apart_by_their_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_follower_whose_time_is_up_goes_and_the_rest_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_put_meanwhile_is_known_to_the_leader_and_all_look_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_clear_meanwhile_overtakes_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_loader_that_asks_for_its_own_key_is_refused_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(loaders_that_wait_for_each_other_in_a_ring_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_loader_whose_time_is_up_is_in_no_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_ring_through_two_caches_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(in_the_child_of_a_fork_only_ones_own_loads_are_in_flight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_put_wins_and_one_loads_whatever_threads_do, set_up, tear_down),
    };
    alarm(120); /* a failed assertion may leave a hand that waits for ever */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
