// SPDX-License-Identifier: Apache-2.0 OR MIT
/* An arena goes to another scope: both trees are charged rightly, nothing in it changes, and a refusal changes nothing. */
#include "arena_fixture.h"
#include "os_counter.h"
#include "scope/scope_internal.h"

static nm_scope *below(nm_scope *parent, size_t soft_bytes, size_t hard_bytes) {
    nm_scope *s;
    assert_int_equal(nm_scope_open(&s, parent, NM_SCOPE_OPTIONS(.soft_bytes = soft_bytes, .hard_bytes = hard_bytes)),
                     NM_OK);
    return s;
}

static nm_arena *filled(nm_scope *scope, size_t bytes, const nm_arena_options *options) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, scope, options), NM_OK);
    for (size_t taken = 0; taken < bytes; taken += 1000) {
        unsigned char *p = nm_arena_alloc(a, 1000);
        assert_non_null(p);
        memset(p, 0x77, 1000);
    }
    return a;
}

static void all_its_bytes_go_to_the_new_scope_and_none_stay(void **state) {
    nm_scope *root = root_of(state), *left = below(root, 0, 0), *right = below(root, 0, 0);
    nm_scope *deep = below(below(right, 0, 0), 0, 0);
    size_t in_right = granted_to(right), handed = left->root->handed;
    nm_arena *a = filled(left, 300000, NULL);
    unsigned char *large = nm_arena_alloc(a, 1 << 20);
    assert_non_null(large);
    large[0] = large[(1 << 20) - 1] = 1;
    size_t granted = nm_arena_granted(a), used = nm_arena_used(a);
    assert_int_equal(granted_to(left), granted);

    assert_int_equal(nm_arena_move(a, deep), NM_OK);
    assert_int_equal(granted_to(left), 0);
    assert_int_equal(granted_to(deep), granted);
    assert_int_equal(granted_to(right), in_right + granted);
    assert_int_equal(nm_arena_granted(a), granted);
    assert_int_equal(nm_arena_used(a), used);
    assert_int_equal(nm_scope_close(left, NULL), 0); /* not with it */
    assert_int_equal(large[0] + large[(1 << 20) - 1], 2);
    assert_usable(a);

    assert_int_equal(nm_arena_move(a, deep), NM_OK);  /* where it is */
    assert_int_equal(nm_arena_move(a, right), NM_OK); /* to an ancestor */
    assert_int_equal(granted_to(deep), 0);
    assert_int_equal(granted_to(right), in_right + nm_arena_granted(a));
    assert_int_equal(nm_arena_move(a, deep), NM_OK); /* and down again */
    assert_int_equal(granted_to(deep), nm_arena_granted(a));
    assert_int_equal(nm_arena_move(a, root), NM_OK);
    assert_int_equal(granted_to(deep), 0);
    assert_int_equal(nm_scope_close(right, NULL), 2);
    assert_usable(a);
    nm_arena_close(a);
    assert_int_equal(root->root->handed, handed - 4 * NM__RECORD_BYTES);
}

static void count_run(void *arg) { ++*(int *)arg; }

static void marks_and_deferred_functions_go_with_it(void **state) {
    int runs = 0;
    nm_scope *left = below(root_of(state), 0, 0), *right = below(root_of(state), 0, 0);
    nm_arena *a = filled(left, 10000, NULL);
    nm_mark mark = nm_arena_mark(a);
    size_t used = nm_arena_used(a);
    assert_int_equal(nm_arena_defer(a, count_run, &runs), NM_OK);
    for (int i = 0; i < 100; i++) assert_non_null(nm_arena_alloc(a, 1000));
    assert_int_equal(nm_arena_move(a, right), NM_OK);
    assert_int_equal(runs, 0);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_int_equal(runs, 1);
    assert_int_equal(nm_arena_used(a), used);
    assert_int_equal(granted_to(left), 0);
    assert_int_equal(granted_to(right), nm_arena_granted(a));
    assert_int_equal(nm_scope_close(right, NULL), 0);
    assert_int_equal(nm_scope_close(left, NULL), 0);
}

static void without_room_it_stays_as_it_was(void **state) {
    nm_scope *root = root_of(state), *left = below(root, 0, 0), *middle = below(root, 0, 100000);
    nm_scope *right = below(middle, 0, 0);
    nm_arena *a = filled(left, 200000, NULL);
    size_t granted = nm_arena_granted(a), in_middle = granted_to(middle);
    nm_scope_stats stats;
    assert_int_equal(nm_arena_move(a, right), NM_EBUDGET);
    assert_int_equal(granted_to(left), granted);
    assert_int_equal(granted_to(right), 0);
    assert_int_equal(granted_to(middle), in_middle);
    nm_scope_get_stats(middle, &stats);
    assert_int_equal(stats.refused_count, 1);
    assert_usable(a);
    assert_int_equal(nm_arena_status(a), NM_OK);
    /* to the byte */
    assert_int_equal(nm_scope_set_budget(middle, 0, in_middle + nm_arena_granted(a) - 1), NM_OK);
    assert_int_equal(nm_arena_move(a, right), NM_EBUDGET);
    assert_int_equal(nm_scope_set_budget(middle, 0, in_middle + nm_arena_granted(a)), NM_OK);
    assert_int_equal(nm_arena_move(a, right), NM_OK);
    assert_int_equal(nm_scope_close(middle, NULL), 1);
    assert_int_equal(nm_scope_close(left, NULL), 0);
}

/* The common ancestor holds the bytes once, so it needs no room for them twice. */
static void a_common_ancestor_that_is_full_does_not_refuse(void **state) {
    nm_scope *top = below(root_of(state), 0, 0), *left = below(top, 0, 0), *right = below(top, 0, 0);
    nm_arena *a = filled(left, 200000, NULL);
    assert_int_equal(nm_scope_set_budget(top, 0, granted_to(top)), NM_OK);
    assert_int_equal(nm_arena_move(a, right), NM_OK);
    assert_int_equal(granted_to(right), nm_arena_granted(a));
    nm_scope_stats stats;
    nm_scope_get_stats(top, &stats);
    assert_int_equal(stats.refused_count, 0);
    assert_int_equal(stats.peak_bytes, stats.granted_bytes);
    assert_int_equal(nm_scope_close(top, NULL), 2);
}

static void a_refused_grant_refuses_it_and_the_next_works(void **state) {
    nm_scope *left = below(root_of(state), 0, 0), *right = below(root_of(state), 0, 0);
    nm_arena *a = filled(left, 5000, NULL);
    size_t granted = nm_arena_granted(a);
    nm_scope_fail_after(right, 1);
    assert_int_equal(nm_arena_move(a, right), NM_EBUDGET);
    assert_int_equal(granted_to(left), granted);
    assert_int_equal(granted_to(right), 0);
    assert_int_equal(nm_arena_move(a, right), NM_OK);
    assert_int_equal(granted_to(right), granted);
    assert_int_equal(nm_scope_close(right, NULL), 0);
    assert_int_equal(nm_scope_close(left, NULL), 0);
}

static void it_cannot_go_to_another_root_or_nowhere(void **state) {
    nm_arena *a = arena_of(state);
    nm_scope *other;
    assert_int_equal(nm_scope_open(&other, NULL, NULL), NM_OK);
    assert_usable(a);
    size_t in_other = granted_to(other);
    assert_int_equal(nm_arena_move(a, other), NM_EINVAL);
    assert_int_equal(nm_arena_move(a, NULL), NM_EINVAL);
    assert_int_equal(granted_to(other), in_other);
    assert_usable(a);
    assert_int_equal(nm_scope_close(other, NULL), 0);
}

static int crossed;
static void on_pressure(nm_scope *scope, size_t wanted, void *context) {
    (void)scope, (void)wanted;
    crossed += *(const int *)context;
}

static void the_soft_limit_of_the_new_scope_is_seen(void **state) {
    static int one = 1;
    crossed = 0;
    nm_scope *left = below(root_of(state), 0, 0), *right;
    assert_int_equal(nm_scope_open(&right, root_of(state),
                                   NM_SCOPE_OPTIONS(.soft_bytes = 50000, .on_pressure = on_pressure, .context = &one)),
                     NM_OK);
    nm_arena *a = filled(left, 100000, NULL);
    assert_int_equal(crossed, 0);
    assert_int_equal(nm_arena_move(a, right), NM_OK);
    assert_int_equal(crossed, 1);
    assert_int_equal(nm_scope_close(right, NULL), 0);
    assert_int_equal(nm_scope_close(left, NULL), 0);
}

typedef struct mover {
    nm_arena *arena;
    nm_scope *to;
    nm_status status;
} mover;
static void move_it(void *arg) {
    mover *m = arg;
    m->status = nm_arena_move(m->arena, m->to);
}

static void a_deferred_function_cannot_move_it(void **state) {
    nm_scope *right = below(root_of(state), 0, 0);
    nm_arena *a = arena_of(state);
    mover m = {a, right, NM_OK};
    assert_int_equal(nm_arena_defer(a, move_it, &m), NM_OK);
    assert_int_equal(nm_arena_move(a, right), NM_OK); /* which does not run it */
    assert_int_equal(m.status, NM_OK);
    assert_int_equal(nm_arena_move(a, root_of(state)), NM_OK);
    nm_arena_reset(a);
    assert_int_equal(m.status, NM_EBUSY);
    assert_int_equal(granted_to(right), 0);
    assert_int_equal(nm_scope_close(right, NULL), 0);
}

static void arenas_with_ranges_of_their_own_move_too(void **state) {
    for (int i = 1; i < 4; i++) {
        nm_scope *left = below(root_of(state), 0, 0), *right = below(root_of(state), 0, 0);
        nm_arena *a =
            filled(left, 50000,
                   NM_ARENA_OPTIONS(.contiguous = (i & 1) != 0, .secret = (i & 2) != 0, .capacity_bytes = 1 << 20));
        assert_int_equal(nm_arena_move(a, right), NM_OK);
        assert_int_equal(granted_to(left), 0);
        for (int k = 0; k < 300; k++) assert_non_null(nm_arena_alloc(a, 1000));
        assert_int_equal(granted_to(right), nm_arena_granted(a));
        nm_arena_reset(a);
        assert_int_equal(granted_to(right), nm_arena_granted(a));
        nm_arena_close(a);
        assert_int_equal(granted_to(right), 0);
        assert_int_equal(nm_scope_close(right, NULL), 0);
        assert_int_equal(nm_scope_close(left, NULL), 0);
    }
}

/* ---- out of a request's own block ---------------------------------------------------------------------------------- */

static nm_scope *counted_root(void) {
    nm_scope *root;
    os_counter_install();
    assert_int_equal(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = 64 << 20)), NM_OK);
    return root;
}

static void close_counted(nm_scope *root) {
    nm_scope_stats stats;
    nm_scope_get_stats(root, &stats);
    assert_int_equal(stats.granted_bytes, os_counter_committed());
    assert_int_equal(nm_scope_close(root, NULL), 0);
    assert_true(os_counter_remove());
}

static nm_scope *request_below(nm_scope *parent, size_t hard_bytes) {
    nm_scope *s;
    assert_int_equal(nm_scope_open(&s, parent, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .hard_bytes = hard_bytes)),
                     NM_OK);
    return s;
}

typedef enum order { REQUEST_FIRST, ARENA_FIRST, BACK_AND_REQUEST, TO_PARENT, ON_TO_A_THIRD, ORDERS } order;

static void an_arena_outlives_the_request_in_whose_block_it_lies(void **state) {
    (void)state;
    for (int o = 0; o < ORDERS; o++)
        for (size_t bytes = 100; bytes < 100000; bytes *= 8) {
            nm_scope *root = counted_root(), *service = below(root, 0, 0), *session = below(service, 0, 0);
            nm_scope *third = below(root, 0, 0);
            for (int round = 0; round < 20; round++) { /* blocks are used again */
                nm_scope *request = request_below(service, 1 << 20);
                nm_arena *a = filled(request, bytes, NULL);
                char *text = nm_arena_strdup(a, "what the session keeps");
                nm_mark mark = nm_arena_mark(a);
                nm_scope *to = o == TO_PARENT ? service : session;
                size_t granted = nm_arena_granted(a), in_session = granted_to(session);
                assert_int_equal(nm_arena_move(a, to), NM_OK);
                assert_int_equal(granted_to(request), 0);
                if (to == session) assert_int_equal(granted_to(session), in_session + granted);
                nm_arena *second; /* not in the same place */
                assert_int_equal(nm_arena_open(&second, request, NULL), NM_OK);
                memset(nm_arena_alloc(second, 1000), 0xff, 1000);
                assert_string_equal(text, "what the session keeps");
                if (o == ON_TO_A_THIRD) {
                    assert_int_equal(nm_arena_move(a, third), NM_OK);
                    assert_int_equal(granted_to(session), in_session);
                }
                if (o == BACK_AND_REQUEST) assert_int_equal(nm_arena_move(a, request), NM_OK);
                if (o == ARENA_FIRST) nm_arena_close(a);
                assert_int_equal(nm_scope_close(request, NULL), 0);
                nm_scope *next = request_below(service, 1 << 20); /* gets another block while the arena is there */
                nm_arena *other = filled(next, bytes, NULL);
                memset(nm_arena_alloc(other, 2000), 0xee, 2000);
                if (o != ARENA_FIRST && o != BACK_AND_REQUEST) {
                    assert_string_equal(text, "what the session keeps");
                    for (int i = 0; i < 50; i++) memset(nm_arena_alloc(a, 300), 0x11, 300);
                    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
                    nm_arena_reset(a);
                    for (int i = 0; i < 50; i++) memset(nm_arena_alloc(a, 300), 0x11, 300);
                }
                assert_int_equal(nm_scope_close(next, NULL), 0);
                if (o == TO_PARENT || (o != ARENA_FIRST && o != BACK_AND_REQUEST && round % 3 != 2)) nm_arena_close(a);
            }
            assert_int_equal(nm_scope_close(session, NULL), 0); /* and what was not closed by hand */
            assert_int_equal(nm_scope_close(third, NULL), 0);
            assert_int_equal(nm_scope_close(service, NULL), 0);
            close_counted(root);
        }
}

static void a_refused_move_out_of_a_request_leaves_it_there(void **state) {
    (void)state;
    nm_scope *root = counted_root(), *service = below(root, 0, 0), *small = below(root, 0, 2000);
    nm_scope *request = request_below(service, 1 << 20);
    nm_arena *a = filled(request, 1000, NULL);
    size_t granted = granted_to(request), in_root = granted_to(root);
    assert_int_equal(nm_arena_move(a, small), NM_EBUDGET);
    assert_int_equal(granted_to(request), granted);
    assert_int_equal(granted_to(small), 0);
    assert_int_equal(granted_to(root), in_root);
    assert_usable(a);
    assert_int_equal(nm_scope_close(request, NULL), 0);
    assert_int_equal(nm_scope_close(small, NULL), 0);
    assert_int_equal(nm_scope_close(service, NULL), 0);
    close_counted(root);
}

/* The request's quick close must not take a block that replaced the one in the place for that one. */
static void a_request_whose_arena_gave_its_place_back_closes_whole(void **state) {
    (void)state;
    nm_scope *root = counted_root(), *service = below(root, 0, 0);
    for (int round = 0; round < 5; round++) {
        nm_scope *request = request_below(service, 256 << 10);
        nm_arena *a = filled(request, 100, NULL);
        nm_arena_reset(a);
        assert_non_null(nm_arena_alloc(a, 250 << 10)); /* only without the empty block */
        nm_arena_reset(a);
        assert_usable(a);
        assert_int_equal(nm_scope_close(request, NULL), 0);
        nm_scope_stats stats;
        nm_scope_get_stats(service, &stats);
        assert_int_equal(stats.granted_bytes, stats.credit_bytes);
    }
    assert_int_equal(nm_scope_close(service, NULL), 0);
    close_counted(root);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { MOVES = 3000 };
typedef struct traveller {
    nm_scope *here, *there;
    int failed;
} traveller;

static void *travel(void *arg) {
    traveller *t = arg;
    nm_arena *a;
    if (nm_arena_open(&a, t->here, NULL) != NM_OK) t->failed++;
    for (int i = 0; i < MOVES && t->failed == 0; i++) {
        if (nm_arena_alloc(a, 3000) == NULL) t->failed++;
        if (nm_arena_move(a, i % 2 == 0 ? t->there : t->here) != NM_OK) t->failed++;
        if (i % 7 == 0) nm_arena_reset(a);
    }
    nm_arena_close(a);
    return NULL;
}

static void two_threads_move_arenas_between_the_same_scopes(void **state) {
    nm_scope *left = below(root_of(state), 0, 0), *right = below(root_of(state), 0, 0);
    traveller travellers[2] = {{left, right, 0}, {right, left, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, travel, &travellers[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_int_equal(travellers[0].failed + travellers[1].failed, 0);
    assert_int_equal(granted_to(left), 0);
    assert_int_equal(granted_to(right), 0);
    assert_int_equal(nm_scope_close(right, NULL), 0);
    assert_int_equal(nm_scope_close(left, NULL), 0);
}

/* One thread serves requests and hands their arenas over; the other closes them, before or after the request. */
enum { HANDED = 2000 };
typedef struct hand_over {
    nm_scope *service, *session;
    NM_ATOMIC(nm_arena *) slot;
    NM_ATOMIC(int) failed;
} hand_over;

static void *serve(void *arg) {
    hand_over *h = arg;
    for (int i = 0; i < HANDED; i++) {
        nm_scope *request;
        nm_arena *a;
        bool ok = nm_scope_open(&request, h->service, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)) == NM_OK &&
                  nm_arena_open(&a, request, NULL) == NM_OK && nm_arena_alloc(a, 3000) != NULL &&
                  nm_arena_move(a, h->session) == NM_OK;
        if (!ok) {
            nm_atomic_store(&h->failed, 1, NM_RELAXED);
            return NULL;
        }
        nm_arena *none = NULL;
        while (!nm_atomic_cas(&h->slot, &none, a, NM_RELEASE, NM_RELAXED)) none = NULL;
        nm_scope_close(request, NULL);
    }
    return NULL;
}

static void two_threads_hand_arenas_of_requests_over(void **state) {
    hand_over h = {.service = below(root_of(state), 0, 0), .session = below(root_of(state), 0, 0)};
    pthread_t server;
    assert_int_equal(pthread_create(&server, NULL, serve, &h), 0);
    for (int i = 0; i < HANDED && nm_atomic_load(&h.failed, NM_RELAXED) == 0;) {
        nm_arena *a = nm_atomic_exchange(&h.slot, NULL, NM_ACQUIRE);
        if (a == NULL) continue;
        i++;
        assert_non_null(nm_arena_alloc(a, 3000));
        nm_arena_close(a);
    }
    pthread_join(server, NULL);
    assert_int_equal(h.failed, 0);
    assert_int_equal(granted_to(h.session), 0);
    assert_int_equal(nm_scope_close(h.session, NULL), 0);
    assert_int_equal(nm_scope_close(h.service, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(all_its_bytes_go_to_the_new_scope_and_none_stay),
        ARENA_TEST(marks_and_deferred_functions_go_with_it),
        ARENA_TEST(without_room_it_stays_as_it_was),
        ARENA_TEST(a_common_ancestor_that_is_full_does_not_refuse),
        ARENA_TEST(a_refused_grant_refuses_it_and_the_next_works),
        ARENA_TEST(it_cannot_go_to_another_root_or_nowhere),
        ARENA_TEST(the_soft_limit_of_the_new_scope_is_seen),
        ARENA_TEST(a_deferred_function_cannot_move_it),
        ARENA_TEST(arenas_with_ranges_of_their_own_move_too),
        cmocka_unit_test(an_arena_outlives_the_request_in_whose_block_it_lies),
        cmocka_unit_test(a_refused_move_out_of_a_request_leaves_it_there),
        cmocka_unit_test(a_request_whose_arena_gave_its_place_back_closes_whole),
        ARENA_TEST(two_threads_hand_arenas_of_requests_over),
        ARENA_TEST(two_threads_move_arenas_between_the_same_scopes),
    };
    return cmocka_run_group_tests_name("arena_move", tests, NULL, NULL);
}
