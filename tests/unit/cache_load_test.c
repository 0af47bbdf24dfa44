// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Reading through: one load for all who ask, and whatever may come between its beginning and its end. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache_fixture.h"

#define FOR_EVER UINT64_MAX
#define MS(n)    ((uint64_t)(n)*1000000u)

static NM_ATOMIC(uint32_t) loads;  /* loaders that were run */
static NM_ATOMIC(uint32_t) inside; /* that are running */
static NM_ATOMIC(uint32_t) gate;   /* 1: those may go on */
static NM_ATOMIC(uint32_t) wrong;

static void reset(void) { loads = inside = gate = wrong = 0; }

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); }

/* Ten seconds, then whatever was waited for is said to have failed. */
#define WAIT_FOR(condition)                                                                                            \
    do {                                                                                                               \
        for (int naps = 0; !(condition) && naps < 100000; naps++) nap();                                               \
        if (!(condition)) nm_atomic_store(&wrong, __LINE__, NM_RELAXED);                                               \
    } while (0)

/* What the loaders of this file make of their argument. */
typedef struct plan {
    const char *value; /* reserved and filled; NULL: nothing is reserved */
    nm_status status;
    bool waits; /* at the gate */
    nm_put_options options;
    void (*meanwhile)(void);
} plan;

static nm_status reserve_text(const void *key, size_t key_len, const char *value, nm_entry *room) {
    nm_status st = nm_cache_reserve(cache, key, key_len, strlen(value), room);
    if (st == NM_OK && value[0] != '\0') memcpy(room->value, value, strlen(value));
    return st;
}

static nm_status load(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                      void *arg) {
    const plan *p = arg;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    nm_atomic_add(&inside, 1, NM_RELAXED);
    if (of != cache || room->slot != NULL || options->struct_size != sizeof *options)
        nm_atomic_store(&wrong, 1, NM_RELAXED);
    if (p->meanwhile != NULL) p->meanwhile();
    if (p->waits) WAIT_FOR(nm_atomic_load(&gate, NM_ACQUIRE) != 0);
    nm_status st = p->value != NULL ? reserve_text(key, key_len, p->value, room) : NM_OK;
    if (p->options.struct_size != 0) *options = p->options;
    nm_atomic_sub(&inside, 1, NM_RELAXED);
    return p->status != NM_OK ? p->status : st;
}

static nm_status ask(const char *key, plan *p, uint64_t timeout_ns, nm_entry *out) {
    return nm_cache_get_or_load(cache, key, strlen(key), load, p, timeout_ns, out);
}

/* ---- one thread ---- */

static void an_absent_entry_is_loaded_and_then_found(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = MIB);
    nm_entry e;
    plan p = {.value = "value"};
    for (int i = 0; i < 3; i++) {
        assert_ok(ask("k", &p, FOR_EVER, &e));
        assert_value(&e, "value");
        assert_int_equal(e.key_len, 1);
        assert_memory_equal(e.key, "k", 1);
        assert_int_not_equal(e.cas, 0);
        assert_true(e.expires_ms == NM_TTL_NEVER);
        assert_int_equal(stats().pinned_count, 1);
        nm_entry_release(&e);
        assert_int_equal(stats().pinned_count, 0);
    }
    assert_int_equal(loads, 1);
    assert_int_equal(stats().loads, 1);
    assert_int_equal(stats().load_failures, 0);
    assert_int_equal(stats().puts, 1);
    assert_text("k", "value");
    assert_ok((nm_cache_get_or_load)(cache, "other", 5, load, &p, 0, &e));
    nm_entry_release(&e);
    plan empty = {.value = ""};
    assert_ok(ask("empty", &empty, 0, &e));
    assert_int_equal(e.value_len, 0);
    nm_entry_release(&e);
    assert_int_equal(wrong, 0);
    close_cache();
}

static void bad_arguments_are_refused_without_a_load(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = MIB);
    static char key[NM_CACHE_KEY_MAX + 1];
    nm_entry e;
    plan p = {.value = "value"};
    assert_status(nm_cache_get_or_load(NULL, "k", 1, load, &p, FOR_EVER, &e), NM_EINVAL);
    assert_status(nm_cache_get_or_load(cache, NULL, 1, load, &p, FOR_EVER, &e), NM_EINVAL);
    assert_status(nm_cache_get_or_load(cache, "k", 0, load, &p, FOR_EVER, &e), NM_EINVAL);
    assert_status(nm_cache_get_or_load(cache, "k", 1, NULL, &p, FOR_EVER, &e), NM_EINVAL);
    assert_status(nm_cache_get_or_load(cache, "k", 1, load, &p, FOR_EVER, NULL), NM_EINVAL);
    assert_status(nm_cache_get_or_load(cache, key, sizeof key, load, &p, FOR_EVER, &e), NM_ETOOLARGE);
    assert_null(e.slot);
    assert_int_equal(loads, 0);
    assert_int_equal(nm_cache_count(cache), 0);
    close_cache();
}

static void options_of_the_loader_are_those_of_the_put(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = MIB);
    nm_entry e;
    uint64_t cas = 0;
    plan p = {.value = "value", .options = nm_put_options_init()};
    p.options.ttl_ms = 500;
    p.options.flags = 12;
    p.options.cas_out = &cas;
    assert_ok(ask("k", &p, FOR_EVER, &e));
    assert_int_equal(e.expires_ms, 500);
    assert_int_equal(e.flags, 12);
    assert_int_equal(e.cas, cas);
    nm_entry_release(&e);
    pass_ms(499);
    assert_ok(ask("k", &p, FOR_EVER, &e));
    nm_entry_release(&e);
    assert_int_equal(loads, 1);
    pass_ms(1);
    assert_ok(ask("k", &p, FOR_EVER, &e));
    nm_entry_release(&e);
    assert_int_equal(loads, 2);
    assert_int_equal(stats().expirations, 1);
    p.options.mode = (nm_put_mode)77;
    plan bad = p;
    nm_status st = ask("bad", &bad, FOR_EVER, &e); /* the mode is not the loader's to choose: ignored, or refused */
    assert_true(st == NM_OK || st == NM_EINVAL);
    nm_entry_release(&e);
    assert_int_equal(stats().pinned_count, 0);
    close_cache();
}

static void a_failure_is_told_and_leaves_nothing(void **state) {
    (void)state;
    static const nm_status statuses[] = {NM_ENOTFOUND, NM_ESYSTEM, NM_EFORMAT, NM_ETIMEDOUT, NM_EBUDGET,
                                         NM_EBUSY,     NM_EEXISTS, NM_ESTALE,  NM_ECLOSED,   NM_EINVAL};
    open_cache(.budget_bytes = MIB);
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        for (int reserved = 0; reserved < 2; reserved++) {
            reset();
            uint64_t failures = stats().load_failures;
            nm_entry e;
            plan p = {.value = reserved ? "value" : NULL, .status = statuses[i]};
            assert_status(ask("k", &p, FOR_EVER, &e), statuses[i]);
            assert_null(e.slot);
            assert_false(has_text("k"));
            assert_int_equal(loads, 1);
            assert_int_equal(stats().load_failures, failures + 1);
            assert_int_equal(stats().pinned_count, 0);
            assert_int_equal(nm_cache_used(cache), 0);
            cache_check(cache);
        }
    close_cache();
}

static void that_there_is_no_such_thing_is_remembered_if_asked_for(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = MIB, .negative_ttl_ms = 100);
    nm_entry e;
    plan p = {.status = NM_ENOTFOUND};
    for (int i = 0; i < 3; i++) assert_status(ask("k", &p, FOR_EVER, &e), NM_ENOTFOUND);
    assert_int_equal(loads, 1);
    assert_false(pin_text("k", &e));
    assert_true(e.negative);
    pass_ms(100);
    assert_status(ask("k", &p, FOR_EVER, &e), NM_ENOTFOUND);
    assert_int_equal(loads, 2);
    assert_ok(put_text("k", "value"));
    assert_ok(ask("k", &p, FOR_EVER, &e));
    nm_entry_release(&e);
    assert_int_equal(loads, 2);
    assert_ok(nm_cache_put_negative(cache, "n", 1, 1000)); /* also what others have said */
    assert_status(ask("n", &p, FOR_EVER, &e), NM_ENOTFOUND);
    assert_int_equal(loads, 2);
    p.status = NM_ESYSTEM; /* any other failure is not */
    for (int i = 0; i < 3; i++) assert_status(ask("x", &p, FOR_EVER, &e), NM_ESYSTEM);
    assert_int_equal(loads, 5);
    close_cache();
    reset();
    open_cache(.budget_bytes = MIB);
    p.status = NM_ENOTFOUND;
    for (int i = 0; i < 3; i++) assert_status(ask("k", &p, FOR_EVER, &e), NM_ENOTFOUND);
    assert_int_equal(loads, 3);
    assert_int_equal(nm_cache_count(cache), 0);
    close_cache();
}

/* ---- loaders that use the cache ---- */

static nm_status recursing(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                           void *arg) {
    (void)options;
    nm_entry e;
    unsigned *depth = arg;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    /* its own key, at once and whatever the time-out: a wait would be for itself */
    if (nm_cache_get_or_load(of, key, key_len, recursing, arg, FOR_EVER, &e) != NM_EBUSY || e.slot != NULL)
        nm_atomic_store(&wrong, 1, NM_RELAXED);
    if (--*depth > 0) {
        char other[16];
        snprintf(other, sizeof other, "key %u", *depth);
        if (nm_cache_get_or_load(of, other, strlen(other), recursing, arg, FOR_EVER, &e) != NM_OK)
            nm_atomic_store(&wrong, 2, NM_RELAXED);
        nm_entry_release(&e);
        /* also from below: a key that a load further up is about */
        if (nm_cache_get_or_load(of, "key 9", 5, recursing, arg, FOR_EVER, &e) != NM_EBUSY)
            nm_atomic_store(&wrong, 3, NM_RELAXED);
    }
    return reserve_text(key, key_len, "value", room);
}

static void a_load_of_the_same_key_from_inside_is_busy_and_of_another_is_fine(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = MIB);
    unsigned depth = 9;
    nm_entry e;
    assert_ok(nm_cache_get_or_load(cache, "key 9", 5, recursing, &depth, FOR_EVER, &e));
    assert_value(&e, "value");
    nm_entry_release(&e);
    assert_int_equal(wrong, 0);
    assert_int_equal(loads, 9);
    assert_int_equal(nm_cache_count(cache), 9);
    assert_int_equal(stats().pinned_count, 0);
    close_cache();
}

static nm_status busy_loader(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                             void *arg) {
    (void)options, (void)arg;
    nm_entry e;
    nm_cursor cursor = {0};
    nm_status st = nm_cache_put(of, "other", 5, "v", 1);
    if (!nm_cache_get(of, "other", 5, &e)) st = NM_ESYSTEM;
    nm_entry_release(&e);
    if (nm_cache_get(of, key, key_len, &e)) st = NM_ESYSTEM;
    if (nm_cache_contains(of, key, key_len)) st = NM_ESYSTEM;
    while (nm_cache_next(of, &cursor, &e) == NM_OK) nm_entry_release(&e);
    if (nm_cache_remove(of, "other", 5) != NM_OK) st = NM_ESYSTEM;
    if (nm_cache_resize(of, 2 * MIB) != NM_OK) st = NM_ESYSTEM;
    for (uint64_t i = 0; i < 20000 && st == NM_OK; i++) st = nm_cache_put(of, &i, sizeof i, "0123456789", 10);
    return st == NM_OK ? reserve_text(key, key_len, "value", room) : st;
}

static void a_loader_may_use_the_cache_as_anybody(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = 512 * KIB);
    nm_entry e;
    assert_ok(nm_cache_get_or_load(cache, "k", 1, busy_loader, NULL, FOR_EVER, &e));
    assert_value(&e, "value");
    nm_entry_release(&e);
    close_cache();
}

static nm_status other_cache_loader(nm_cache *of, const void *key, size_t key_len, nm_entry *room,
                                    nm_put_options *options, void *arg) {
    (void)options, (void)of;
    nm_cache *second = arg;
    nm_entry e;
    if (!nm_cache_get(second, "k", 1, &e)) return NM_ENOTFOUND;
    nm_status st = nm_cache_reserve(of, key, key_len, e.value_len, room);
    if (st == NM_OK) memcpy(room->value, e.value, e.value_len);
    nm_entry_release(&e);
    return st;
}

static void a_loader_may_use_another_cache(void **state) {
    (void)state;
    reset();
    nm_cache *second;
    nm_entry e;
    open_cache(.budget_bytes = MIB);
    assert_ok(nm_cache_open(&second, scope, NM_CACHE_OPTIONS(.budget_bytes = MIB)));
    assert_ok(nm_cache_put(second, "k", 1, "from below", 10));
    assert_ok(nm_cache_get_or_load(cache, "k", 1, other_cache_loader, second, FOR_EVER, &e));
    assert_value(&e, "from below");
    nm_entry_release(&e);
    assert_ok(nm_cache_close(second));
    close_cache();
}

/* ---- loaders that do not keep to the rules ---- */

static nm_status reserves_other_key(nm_cache *of, const void *key, size_t key_len, nm_entry *room,
                                    nm_put_options *options, void *arg) {
    (void)key, (void)key_len, (void)options, (void)arg;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    return nm_cache_reserve(of, "another key", 11, 5, room);
}
static nm_status reserves_too_much(nm_cache *of, const void *key, size_t key_len, nm_entry *room,
                                   nm_put_options *options, void *arg) {
    (void)options, (void)arg;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    return nm_cache_reserve(of, key, key_len, 100 * MIB, room);
}
static nm_status reserves_nothing(nm_cache *of, const void *key, size_t key_len, nm_entry *room,
                                  nm_put_options *options, void *arg) {
    (void)of, (void)key, (void)key_len, (void)room, (void)options, (void)arg;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    return NM_OK;
}
static nm_status reserves_elsewhere(nm_cache *of, const void *key, size_t key_len, nm_entry *room,
                                    nm_put_options *options, void *arg) {
    (void)of, (void)options;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    return nm_cache_reserve(arg, key, key_len, 5, room);
}
static nm_status puts_itself(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                             void *arg) {
    (void)room, (void)options, (void)arg;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    return nm_cache_put(of, key, key_len, "put", 3);
}
static nm_status commits_itself(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                                void *arg) {
    (void)options, (void)arg, (void)of;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    nm_status st = reserve_text(key, key_len, "commit", room);
    return st == NM_OK ? nm_cache_commit(room, NULL) : st;
}

static void loaders_that_reserve_something_else_are_refused(void **state) {
    (void)state;
    nm_cache *second;
    nm_entry e;
    open_cache(.budget_bytes = MIB);
    assert_ok(nm_cache_open(&second, scope, NM_CACHE_OPTIONS(.budget_bytes = MIB)));
    for (int i = 0; i < 100; i++) assert_ok(put_number((uint64_t)i, 1000));
    reset();
    assert_status(nm_cache_get_or_load(cache, "k", 1, reserves_other_key, NULL, FOR_EVER, &e), NM_EINVAL);
    assert_false(has_text("another key"));
    assert_status(nm_cache_get_or_load(cache, "k", 1, reserves_elsewhere, second, FOR_EVER, &e), NM_EINVAL);
    assert_int_equal(nm_cache_count(second), 0);
    assert_status(nm_cache_get_or_load(cache, "k", 1, reserves_too_much, NULL, FOR_EVER, &e), NM_ETOOLARGE);
    assert_status(nm_cache_get_or_load(cache, "k", 1, reserves_nothing, NULL, FOR_EVER, &e), NM_EINVAL);
    assert_int_equal(loads, 4); /* none of them again and again */
    assert_null(e.slot);
    assert_false(has_text("k"));
    assert_int_equal(nm_cache_count(cache), 100);
    assert_int_equal(stats().pinned_count, 0);
    assert_int_equal(stats().load_failures, 4);
    assert_ok(nm_cache_close(second));
    close_cache();
}

static void loaders_that_publish_themselves_are_believed(void **state) {
    (void)state;
    nm_entry e;
    open_cache(.budget_bytes = MIB);
    reset();
    assert_ok(nm_cache_get_or_load(cache, "p", 1, puts_itself, NULL, FOR_EVER, &e));
    assert_value(&e, "put");
    nm_entry_release(&e);
    assert_ok(nm_cache_get_or_load(cache, "c", 1, commits_itself, NULL, FOR_EVER, &e));
    assert_value(&e, "commit");
    nm_entry_release(&e);
    assert_int_equal(loads, 2);
    assert_int_equal(stats().pinned_count, 0);
    close_cache();
}

/* ---- what happens meanwhile wins ---- */

static int turn; /* the meanwhile happens in the first load only */
static void put_meanwhile(void) {
    if (turn++ == 0 && put_text("k", "put") != NM_OK) nm_atomic_store(&wrong, 1, NM_RELAXED);
}
static void put_and_remove_meanwhile(void) {
    if (turn++ != 0) return;
    if (put_text("k", "put") != NM_OK || nm_cache_remove(cache, "k", 1) != NM_OK)
        nm_atomic_store(&wrong, 1, NM_RELAXED);
}
static void remove_meanwhile(void) {
    if (turn++ == 0 && nm_cache_remove(cache, "k", 1) != NM_ENOTFOUND) nm_atomic_store(&wrong, 1, NM_RELAXED);
}
static void clear_meanwhile(void) {
    if (turn++ == 0) nm_cache_clear(cache);
}
static void commit_meanwhile(void) {
    nm_entry room;
    if (turn++ != 0) return;
    if (reserve_text("k", 1, "put", &room) != NM_OK || nm_cache_commit(&room, NULL) != NM_OK)
        nm_atomic_store(&wrong, 1, NM_RELAXED);
}
static void negative_meanwhile(void) {
    if (turn++ == 0 && nm_cache_put_negative(cache, "k", 1, 1000) != NM_OK) nm_atomic_store(&wrong, 1, NM_RELAXED);
}
static void put_another_meanwhile(void) {
    if (put_text("another", "put") != NM_OK || nm_cache_remove(cache, "another", 7) != NM_OK)
        nm_atomic_store(&wrong, 1, NM_RELAXED);
}

static void a_put_or_remove_meanwhile_wins(void **state) {
    (void)state;
    static const struct {
        void (*meanwhile)(void);
        const char *value; /* that counts in the end */
        unsigned loads;
    } cases[] = {
        {put_meanwhile, "put", 1},       {commit_meanwhile, "put", 1},   {put_and_remove_meanwhile, "loaded", 2},
        {remove_meanwhile, "loaded", 2}, {clear_meanwhile, "loaded", 2}, {put_another_meanwhile, "loaded", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_cache(.budget_bytes = MIB);
        reset();
        turn = 0;
        nm_entry e;
        plan p = {.value = "loaded", .meanwhile = cases[i].meanwhile};
        assert_ok(ask("k", &p, FOR_EVER, &e));
        assert_value(&e, cases[i].value);
        assert_text("k", cases[i].value);
        nm_entry_release(&e);
        assert_int_equal(loads, cases[i].loads);
        assert_int_equal(wrong, 0);
        assert_int_equal(stats().pinned_count, 0);
        close_cache();
    }
    open_cache(.budget_bytes = MIB);
    reset();
    turn = 0;
    nm_entry e;
    plan p = {.value = "loaded", .meanwhile = negative_meanwhile};
    assert_status(ask("k", &p, FOR_EVER, &e), NM_ENOTFOUND);
    assert_int_equal(loads, 1);
    close_cache();
    /* And a load that found nothing does not hide what was put since. */
    open_cache(.budget_bytes = MIB, .negative_ttl_ms = 1000);
    reset();
    turn = 0;
    plan none = {.status = NM_ENOTFOUND, .meanwhile = put_meanwhile};
    assert_ok(ask("k", &none, FOR_EVER, &e));
    assert_value(&e, "put");
    nm_entry_release(&e);
    close_cache();
}

/* Evicted between the commit and the return: the pin was taken with the commit. */
static void fill_up(void) {
    for (uint64_t i = 0; i < 5000; i++)
        if (put_number(i, 200) != NM_OK) nm_atomic_store(&wrong, 1, NM_RELAXED);
}
static void evict_all(nm_evict_reason reason, const void *key, size_t key_len, void *value, size_t size,
                      void *context) {
    (void)reason, (void)key_len, (void)value, (void)size, (void)context;
    static bool under_way;
    if (under_way || *(const char *)key == 'k') return;
    under_way = true;
    (void)nm_cache_remove(cache, "k", 1);
    under_way = false;
}

static void what_is_evicted_at_once_is_still_handed_out(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = 64 * KIB, .shard_count = 1);
    nm_entry e;
    plan p = {.value = "loaded", .meanwhile = fill_up};
    for (int i = 0; i < 20; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        assert_ok(ask(key, &p, FOR_EVER, &e));
        fill_up();
        assert_value(&e, "loaded");
        nm_entry_release(&e);
    }
    close_cache();
    /* Somebody is told of the entry that made room, and removes the new one from there. */
    open_cache(.budget_bytes = 64 * KIB, .shard_count = 1, .on_evict = evict_all);
    p.meanwhile = NULL;
    for (int way = 0; way < 20; way++) {
        fill_up();
        /* With flags it is written anew, which evicts once more, with the callback in between. */
        if (way % 2 == 1) p.options = nm_put_options_init();
        p.options.flags = 7;
        nm_status st = ask("k", &p, FOR_EVER, &e);
        assert_true(st == NM_OK || st == NM_EBUSY); /* each time it is loaded it may be removed again */
        if (st == NM_OK) assert_value(&e, "loaded");
        nm_entry_release(&e);
        (void)nm_cache_remove(cache, "k", 1);
    }
    assert_int_equal(stats().pinned_count, 0);
    assert_int_equal(wrong, 0);
    close_cache();
}

/* ---- threads ---- */

#define THREADS 8

typedef struct asker {
    pthread_t id;
    const char *key;
    plan *p;
    uint64_t timeout_ns;
    nm_status status;
    char value[32];
    bool negative;
} asker;

static void *ask_in_thread(void *arg) {
    asker *a = arg;
    nm_entry e;
    a->status = ask(a->key, a->p, a->timeout_ns, &e);
    if (a->status == NM_OK) {
        if (e.value_len < sizeof a->value) memcpy(a->value, e.value, e.value_len);
        nm_entry_release(&e);
    } else if (e.slot != NULL) {
        nm_atomic_store(&wrong, 1, NM_RELAXED);
    }
    return NULL;
}
static void start(asker *a, const char *key, plan *p, uint64_t timeout_ns) {
    *a = (asker){.key = key, .p = p, .timeout_ns = timeout_ns};
    assert_int_equal(pthread_create(&a->id, NULL, ask_in_thread, a), 0);
}
/* Those who wait for the loads that are under way. */
static unsigned waiters(void) {
    unsigned n = 0;
    for (unsigned i = 0; i < NM__FLIGHT_STRIPES; i++) {
        nm__flight_stripe *stripe = &cache->flight.stripes[i];
        nm__lock_take(&stripe->lock);
        for (const nm__load *l = stripe->first; l != NULL; l = l->next)
            for (const nm__load *f = l->followers; f != NULL; f = f->next) n++;
        nm__lock_give(&stripe->lock);
    }
    return n;
}

static void one_load_serves_all_who_ask(void **state) {
    (void)state;
    asker askers[THREADS];
    open_cache(.budget_bytes = MIB);
    for (int round = 0; round < 20; round++) {
        reset();
        char key[16];
        snprintf(key, sizeof key, "key %d", round);
        plan p = {.value = "loaded", .waits = true};
        for (int i = 0; i < THREADS; i++) start(&askers[i], key, &p, FOR_EVER);
        WAIT_FOR(waiters() == THREADS - 1);
        assert_int_equal(nm_atomic_load(&inside, NM_RELAXED), 1);
        nm_atomic_store(&gate, 1, NM_RELEASE);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(askers[i].id, NULL);
            assert_ok(askers[i].status);
            assert_string_equal(askers[i].value, "loaded");
        }
        assert_int_equal(loads, 1);
        assert_int_equal(wrong, 0);
        assert_int_equal(stats().pinned_count, 0);
    }
    assert_int_equal(stats().loads, 20);
    close_cache();
}

static void loads_of_different_keys_run_at_the_same_time(void **state) {
    (void)state;
    asker askers[THREADS];
    static const char *const keys[THREADS] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    reset();
    open_cache(.budget_bytes = MIB);
    plan p = {.value = "loaded", .waits = true};
    for (int i = 0; i < THREADS; i++) start(&askers[i], keys[i], &p, FOR_EVER);
    WAIT_FOR(nm_atomic_load(&inside, NM_RELAXED) == THREADS);
    /* and everything else goes on as well */
    assert_ok(put_text("other", "v"));
    assert_text("other", "v");
    nm_atomic_store(&gate, 1, NM_RELEASE);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(askers[i].id, NULL);
        assert_ok(askers[i].status);
    }
    assert_int_equal(loads, THREADS);
    assert_int_equal(wrong, 0);
    close_cache();
}

static void a_failure_is_told_to_all_who_waited(void **state) {
    (void)state;
    asker askers[THREADS];
    static const nm_status statuses[] = {NM_ESYSTEM, NM_ENOTFOUND, NM_EEXISTS, NM_ETIMEDOUT};
    for (int round = 0; round < 8; round++) {
        reset();
        open_cache(.budget_bytes = MIB, .negative_ttl_ms = round < 4 ? 0 : 1000);
        plan p = {.value = "half", .status = statuses[round % 4], .waits = true};
        for (int i = 0; i < THREADS; i++) start(&askers[i], "k", &p, FOR_EVER);
        WAIT_FOR(waiters() == THREADS - 1);
        nm_atomic_store(&gate, 1, NM_RELEASE);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(askers[i].id, NULL);
            assert_status(askers[i].status, statuses[round % 4]);
        }
        assert_int_equal(loads, 1);
        assert_false(has_text("k"));
        assert_int_equal(wrong, 0);
        close_cache();
    }
}

static uint64_t now_ns(void) { return nm__os_get()->clock_ns(); }

static void who_waited_long_enough_gives_up_and_the_load_goes_on(void **state) {
    (void)state;
    asker loader, patient;
    nm_entry e;
    reset();
    open_cache(.budget_bytes = MIB);
    plan p = {.value = "loaded", .waits = true};
    start(&loader, "k", &p, MS(1)); /* it is how long one waits for others: not for oneself */
    WAIT_FOR(nm_atomic_load(&inside, NM_RELAXED) == 1);
    start(&patient, "k", &p, FOR_EVER);
    WAIT_FOR(waiters() == 1);
    static const uint64_t timeouts[] = {0, 1, MS(1), MS(50)};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        uint64_t began = now_ns();
        assert_status(ask("k", &p, timeouts[i], &e), NM_ETIMEDOUT);
        uint64_t took = now_ns() - began;
        assert_null(e.slot);
        assert_true(took >= timeouts[i]);
        assert_true(took < timeouts[i] + MS(5000));
        assert_int_equal(waiters(), 1);
    }
    assert_int_equal(nm_atomic_load(&loads, NM_RELAXED), 1);
    nm_atomic_store(&gate, 1, NM_RELEASE);
    pthread_join(loader.id, NULL);
    pthread_join(patient.id, NULL);
    assert_ok(loader.status);
    assert_ok(patient.status);
    assert_int_equal(loads, 1);
    assert_ok(ask("k", &p, 0, &e));
    assert_value(&e, "loaded");
    nm_entry_release(&e);
    assert_int_equal(wrong, 0);
    close_cache();
}

static void who_waits_gets_what_was_put_meanwhile(void **state) {
    (void)state;
    for (int way = 0; way < 3; way++) {
        asker askers[3];
        reset();
        open_cache(.budget_bytes = MIB);
        plan p = {.value = "loaded", .waits = true};
        for (int i = 0; i < 3; i++) start(&askers[i], "k", &p, FOR_EVER);
        WAIT_FOR(waiters() == 2);
        if (way == 0) assert_ok(put_text("k", "put"));
        if (way == 1) assert_status(nm_cache_remove(cache, "k", 1), NM_ENOTFOUND);
        if (way == 2) assert_ok(nm_cache_put_negative(cache, "k", 1, 1000));
        nm_atomic_store(&gate, 1, NM_RELEASE);
        for (int i = 0; i < 3; i++) {
            pthread_join(askers[i].id, NULL);
            assert_status(askers[i].status, way == 2 ? NM_ENOTFOUND : NM_OK);
            if (way != 2) assert_string_equal(askers[i].value, way == 0 ? "put" : "loaded");
        }
        assert_int_equal(loads, way == 1 ? 2 : 1);
        assert_int_equal(wrong, 0);
        assert_int_equal(stats().pinned_count, 0);
        close_cache();
    }
}

/* Each of two threads loads what the other one waits for: one of them has to be told. */
static nm_status crossing(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                          void *arg) {
    (void)options;
    const char *other = *(const char *)key == 'a' ? "b" : "a";
    nm_entry e;
    nm_atomic_add(&loads, 1, NM_RELAXED);
    nm_atomic_add(&inside, 1, NM_RELAXED);
    WAIT_FOR(nm_atomic_load(&inside, NM_RELAXED) == 2);
    nm_status st = nm_cache_get_or_load(of, other, 1, load, arg, FOR_EVER, &e);
    if (st == NM_OK)
        nm_entry_release(&e);
    else if (st != NM_EBUSY)
        nm_atomic_store(&wrong, 1, NM_RELAXED);
    return st == NM_OK ? reserve_text(key, key_len, "loaded", room) : st;
}
static void *cross_in_thread(void *arg) {
    asker *a = arg;
    nm_entry e;
    a->status = nm_cache_get_or_load(cache, a->key, 1, crossing, a->p, FOR_EVER, &e);
    if (a->status == NM_OK) nm_entry_release(&e);
    return NULL;
}

static void loads_that_wait_for_each_other_are_busy(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        reset();
        open_cache(.budget_bytes = MIB);
        plan p = {.value = "inner"};
        asker askers[2] = {{.key = "a", .p = &p}, {.key = "b", .p = &p}};
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&askers[i].id, NULL, cross_in_thread, &askers[i]), 0);
        for (int i = 0; i < 2; i++) pthread_join(askers[i].id, NULL);
        /* Who was told to be busy failed, and the other one with him, who waited. Or he asks so late that it is over. */
        for (int i = 0; i < 2; i++) assert_true(askers[i].status == NM_OK || askers[i].status == NM_EBUSY);
        assert_true(askers[0].status == NM_EBUSY || askers[1].status == NM_EBUSY);
        assert_int_equal(wrong, 0);
        assert_int_equal(stats().pinned_count, 0);
        close_cache();
    }
}

/* Random keys, loaders, failures, removes and puts; each value says which key it is of. */
static nm_status random_load(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                             void *arg) {
    uint64_t *seed = arg, r = test_random(seed);
    nm_atomic_add(&loads, 1, NM_RELAXED);
    if (r % 8 == 0) return r % 16 == 0 ? NM_ENOTFOUND : NM_ESYSTEM;
    if (r % 8 == 1) nap();
    nm_status st = nm_cache_reserve(of, key, key_len, 8 + (r >> 8) % 100, room);
    if (st != NM_OK) return st;
    memset(room->value, *(const unsigned char *)key, room->value_len);
    if (r % 8 == 2) options->ttl_ms = 1000000;
    return r % 8 == 3 ? NM_EFORMAT : NM_OK;
}

static void *random_ask(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < (TEST_SLOW ? 1500 : 6000); i++) {
        uint64_t r = test_random(&seed), number = (r >> 32) % 60;
        nm_entry e;
        if (r % 16 == 0) (void)nm_cache_remove(cache, &number, sizeof number);
        if (r % 16 == 1) {
            nm_status st = nm_cache_put(cache, &number, sizeof number, &number, 1);
            if (st != NM_OK && st != NM_ECAPACITY) nm_atomic_store(&wrong, 3, NM_RELAXED);
        }
        if (r % 1024 == 2) nm_cache_clear(cache);
        nm_status st =
            nm_cache_get_or_load(cache, &number, sizeof number, random_load, &seed, r % 4 == 0 ? MS(1) : FOR_EVER, &e);
        if (st == NM_OK) {
            for (size_t b = 0; b < e.value_len; b++)
                if (((unsigned char *)e.value)[b] != (unsigned char)number) nm_atomic_store(&wrong, 1, NM_RELAXED);
            nm_entry_release(&e);
        } else if (st != NM_ENOTFOUND && st != NM_ESYSTEM && st != NM_EFORMAT && st != NM_ETIMEDOUT &&
                   st != NM_ECAPACITY && st != NM_EBUSY) {
            nm_atomic_store(&wrong, 2, NM_RELAXED);
        }
    }
    return NULL;
}

static void eight_threads_ask_and_interfere(void **state) {
    (void)state;
    pthread_t ids[THREADS];
    uint64_t seed = test_seed();
    reset();
    open_cache(.budget_bytes = 40 * KIB, .shard_count = 1, .negative_ttl_ms = 50);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, random_ask, (void *)(uintptr_t)test_random(&seed)), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(waiters(), 0);
    assert_int_equal(stats().pinned_count, 0);
    assert_int_equal(stats().loads, loads);
    close_cache();
}

/* ---- fork ---- */

/* A load that another thread runs, and its waiters, are not in the child: who asks there loads himself, and can close. */
static void after_a_fork_the_child_loads_itself(void **state) {
    (void)state;
    asker askers[3];
    for (int closes = 0; closes < 2; closes++) {
        reset();
        open_cache(.budget_bytes = MIB);
        assert_ok(put_text("present", "value"));
        plan p = {.value = "loaded", .waits = true};
        for (int i = 0; i < 3; i++) start(&askers[i], "k", &p, FOR_EVER);
        WAIT_FOR(waiters() == 2);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(30);
            nm_entry e;
            plan own = {.value = "in the child"};
            if (!pin_text("present", &e)) _exit(1);
            nm_entry_release(&e);
            if (ask("k", &own, FOR_EVER, &e) != NM_OK || e.value_len != 12) _exit(2);
            nm_entry_release(&e);
            if (nm_cache_remove(cache, "k", 1) != NM_OK || ask("k", &own, 0, &e) != NM_OK) _exit(3);
            nm_entry_release(&e);
            if (closes && nm_cache_close(cache) != NM_OK) _exit(4);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        nm_atomic_store(&gate, 1, NM_RELEASE);
        for (int i = 0; i < 3; i++) {
            pthread_join(askers[i].id, NULL);
            assert_ok(askers[i].status);
            assert_string_equal(askers[i].value, "loaded");
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("child: signal %d, exit %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0, WEXITSTATUS(status));
        assert_int_equal(wrong, 0);
        close_cache();
    }
}

static nm_status forking(nm_cache *of, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                         void *arg) {
    (void)of, (void)options;
    *(pid_t *)arg = fork();
    return reserve_text(key, key_len, "value", room);
}

static void a_loader_may_fork(void **state) {
    (void)state;
    reset();
    open_cache(.budget_bytes = MIB);
    pid_t child = -1;
    nm_entry e;
    nm_status st = nm_cache_get_or_load(cache, "k", 1, forking, &child, FOR_EVER, &e);
    if (child == 0) {
        alarm(30);
        if (st != NM_OK || e.value_len != 5) _exit(1);
        nm_entry_release(&e);
        _exit(nm_cache_close(cache) == NM_OK ? 0 : 2);
    }
    assert_ok(st);
    assert_true(child > 0);
    nm_entry_release(&e);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close_cache();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_absent_entry_is_loaded_and_then_found),
        TEST(bad_arguments_are_refused_without_a_load),
        TEST(options_of_the_loader_are_those_of_the_put),
        TEST(a_failure_is_told_and_leaves_nothing),
        TEST(that_there_is_no_such_thing_is_remembered_if_asked_for),
        TEST(a_load_of_the_same_key_from_inside_is_busy_and_of_another_is_fine),
        TEST(a_loader_may_use_the_cache_as_anybody),
        TEST(a_loader_may_use_another_cache),
        TEST(loaders_that_reserve_something_else_are_refused),
        TEST(loaders_that_publish_themselves_are_believed),
        TEST(a_put_or_remove_meanwhile_wins),
        TEST(what_is_evicted_at_once_is_still_handed_out),
        TEST(one_load_serves_all_who_ask),
        TEST(loads_of_different_keys_run_at_the_same_time),
        TEST(a_failure_is_told_to_all_who_waited),
        TEST(who_waited_long_enough_gives_up_and_the_load_goes_on),
        TEST(who_waits_gets_what_was_put_meanwhile),
        TEST(loads_that_wait_for_each_other_are_busy),
        TEST(eight_threads_ask_and_interfere),
        TEST(after_a_fork_the_child_loads_itself),
        TEST(a_loader_may_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
