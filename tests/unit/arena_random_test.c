// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Random sequences of all operations against a model that knows what is alive, what it contains, and what is used.
 * NEBULA_SEED repeats a run. */
#include <time.h>

#include "arena_fixture.h"

#define LIVE_MAX  4096
#define MARKS_MAX 64
#define STALE_MAX 64

typedef struct live {
    unsigned char *p;
    size_t n;
    uint64_t seed;
} live;

typedef struct model {
    nm_arena *arena;
    live live[LIVE_MAX];
    size_t live_count;
    struct {
        nm_mark mark;
        size_t live_count, used, deferred;
    } marks[MARKS_MAX];
    size_t mark_count;
    nm_mark stale[STALE_MAX];
    size_t stale_count;
    size_t deferred; /* functions that wait, and that ran: both by number */
    size_t expected_next;
    uint64_t random;
} model;

static uint64_t next_random(model *m) {
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random * 0x2545f4914f6cdd1du >> 11;
}
static size_t below(model *m, size_t n) { return (size_t)(next_random(m) % n); }

static size_t random_size(model *m) {
    switch (below(m, 16)) {
    case 0: return 0;
    case 1: return below(m, 6000);
    case 2: return below(m, 200) == 0 ? below(m, 3 << 20) : below(m, 20000);
    default: return below(m, 300);
    }
}

static void verify(const model *m) {
    for (size_t i = 0; i < m->live_count; i++) {
        const live *l = &m->live[i];
        if (!pattern_holds(l->p, l->n, l->seed)) fail_msg("allocation %zu of %zu bytes was overwritten", i, l->n);
        if (!nm_arena_owns(m->arena, l->p)) fail_msg("allocation %zu is not owned", i);
    }
}

static void add(model *m, void *p, size_t n) {
    live *l = &m->live[m->live_count++];
    *l = (live){p, n, next_random(m)};
    pattern_fill(p, n, l->seed);
}

static void make_stale(model *m, size_t from) {
    for (size_t i = from; i < m->mark_count; i++) m->stale[m->stale_count++ % STALE_MAX] = m->marks[i].mark;
    m->mark_count = from;
}

static model *running;
static void deferred_runs(void *arg) { /* must come with descending numbers */
    assert_int_equal((uintptr_t)arg, running->expected_next);
    running->expected_next--;
}

static void try_stale_marks(model *m) {
    size_t used = nm_arena_used(m->arena);
    for (size_t i = 0; i < m->stale_count && i < STALE_MAX; i++)
        assert_int_equal(nm_arena_rewind(m->arena, m->stale[i]), NM_ESTALE);
    assert_int_equal(nm_arena_used(m->arena), used);
}

static void undo_all(model *m) {
    m->expected_next = m->deferred;
    nm_arena_reset(m->arena);
    assert_int_equal(m->expected_next, 0);
    m->deferred = m->live_count = 0;
    make_stale(m, 0);
    assert_int_equal(nm_arena_used(m->arena), 0);
    assert_int_equal(nm_arena_status(m->arena), NM_OK);
}

static void allocate(model *m, size_t align) {
    nm_arena *a = m->arena;
    size_t n = random_size(m), used = nm_arena_used(a);
    unsigned char *p = align == 0 ? nm_arena_alloc(a, n) : nm_arena_alloc_aligned(a, n, align);
    if (p == NULL) {
        assert_int_equal(nm_arena_used(a), used);
        assert_int_not_equal(nm_arena_status(a), NM_OK);
        undo_all(m);
        return;
    }
    size_t most = align > 16 ? align : 16;
    assert_int_equal((uintptr_t)p % (align == 0 ? 16 : align), 0);
    assert_in_range(nm_arena_used(a) - used, round16(n), round16(n) + most - 16);
    add(m, p, n);
}

static void resize(model *m) {
    size_t protected = m->mark_count == 0 ? 0 : m->marks[m->mark_count - 1].live_count;
    if (m->live_count == protected) return;
    /* the last one often, as programs do; else any that no mark protects */
    size_t i = below(m, 2) ? m->live_count - 1 : protected + below(m, m->live_count - protected);
    live *l = &m->live[i];
    size_t n = random_size(m);
    unsigned char *p = nm_arena_realloc(m->arena, l->p, l->n, n);
    if (p == NULL) {
        assert_true(pattern_holds(l->p, l->n, l->seed));
        undo_all(m);
        return;
    }
    assert_true(pattern_holds(p, n < l->n ? n : l->n, l->seed));
    *l = (live){p, n, l->seed};
    pattern_fill(p, n, l->seed);
}

static void print_text(model *m) {
    int width = (int)below(m, 400);
    char *p = nm_arena_printf(m->arena, "%0*d", width, 7);
    if (p == NULL) {
        undo_all(m);
        return;
    }
    assert_int_equal(strlen(p), width == 0 ? 1 : width);
    add(m, p, strlen(p) + 1);
}

static void take_mark(model *m) {
    nm_mark mark = nm_arena_mark(m->arena);
    if (mark.record == NULL) {
        undo_all(m);
        return;
    }
    bool same = m->mark_count > 0 && m->marks[m->mark_count - 1].mark.id == mark.id;
    if (same) {
        assert_int_equal(m->marks[m->mark_count - 1].used, nm_arena_used(m->arena));
        return;
    }
    m->marks[m->mark_count].mark = mark;
    m->marks[m->mark_count].live_count = m->live_count;
    m->marks[m->mark_count].used = nm_arena_used(m->arena);
    m->marks[m->mark_count].deferred = m->deferred;
    m->mark_count++;
}

static void rewind_some(model *m) {
    if (m->mark_count == 0) return;
    verify(m);
    size_t i = below(m, 4) ? m->mark_count - 1 : below(m, m->mark_count);
    m->expected_next = m->deferred;
    assert_int_equal(nm_arena_rewind(m->arena, m->marks[i].mark), NM_OK);
    assert_int_equal(nm_arena_used(m->arena), m->marks[i].used);
    m->deferred = m->marks[i].deferred;
    assert_int_equal(m->expected_next, m->deferred);
    m->live_count = m->marks[i].live_count;
    make_stale(m, i + 1);
    verify(m);
}

static void use_temp_block(model *m) {
    size_t used = nm_arena_used(m->arena);
    NM_ARENA_TEMP (m->arena) {
        /* A refused mark undoes nothing; but then the refusals below leave nothing either. */
        if (nm_arena_status(m->arena) != NM_OK) break;
        for (size_t i = below(m, 20); i > 0; i--) {
            size_t n = random_size(m);
            unsigned char *p = nm_arena_alloc(m->arena, n);
            if (p == NULL) break;
            memset(p, 0xdd, n);
        }
    }
    assert_int_equal(nm_arena_used(m->arena), used);
    if (nm_arena_status(m->arena) != NM_OK) undo_all(m);
}

static void run(void **state, nm_arena *arena, nm_scope *scope, uint64_t seed, size_t operations) {
    (void)state;
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->arena = arena;
    m->random = seed | 1;
    running = m;
    nm_scope_stats stats;
    for (size_t i = 0; i < operations; i++) {
        if (m->live_count >= LIVE_MAX - 1 || m->mark_count >= MARKS_MAX - 1) undo_all(m);
        switch (below(m, 32)) {
        case 0: take_mark(m); break;
        case 1: rewind_some(m); break;
        case 2: use_temp_block(m); break;
        case 3: resize(m); break;
        case 4: resize(m); break;
        case 5: print_text(m); break;
        case 6: allocate(m, (size_t)1 << below(m, below(m, 50) == 0 ? 22 : 9)); break;
        case 7:
            if (nm_arena_defer(arena, deferred_runs, (void *)(m->deferred + 1)) == NM_OK)
                m->deferred++;
            else
                undo_all(m);
            break;
        case 8:
            if (below(m, 40) == 0) {
                verify(m);
                undo_all(m);
            }
            break;
        case 9: try_stale_marks(m); break;
        default: allocate(m, 0); break;
        }
        if (i % 256 == 0) {
            verify(m);
            nm_scope_get_stats(scope, &stats);
            assert_true(stats.granted_bytes <= stats.hard_bytes || stats.hard_bytes == 0);
            assert_int_equal(stats.granted_bytes, nm_arena_granted(arena));
            assert_true(nm_arena_used(arena) <= nm_arena_granted(arena));
            assert_true(nm_arena_used(arena) <= nm_arena_capacity(arena));
        }
    }
    verify(m);
    undo_all(m);
    free(m);
}

static uint64_t seed_of_run(void) {
    const char *given = getenv("NEBULA_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    print_message("NEBULA_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static void no_misuse(const nm_misuse *misuse, void *context) {
    (void)context;
    fail_msg("%s at %p, allocated at %s", misuse->what, misuse->address, misuse->leased_at);
}

static unsigned debug; /* of the scopes that are opened from here on */
static size_t sample_bytes;

static void random_operations(void **state, size_t hard_bytes, const nm_arena_options *options, uint64_t salt) {
    nm_scope *scope;
    nm_arena *a;
    assert_int_equal(
        nm_scope_open(&scope, root_of(state),
                      NM_SCOPE_OPTIONS(.hard_bytes = hard_bytes, .debug = debug, .sample_bytes = sample_bytes)),
        NM_OK);
    assert_int_equal(nm_arena_open(&a, scope, options), NM_OK);
    run(state, a, scope, seed_of_run() + salt, debug != 0 || sample_bytes != 0 ? 8000 : 60000);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

static void random_operations_without_a_limit_agree_with_the_model(void **state) {
    random_operations(state, 0, NULL, 0);
}
static void random_operations_in_a_small_budget_agree_with_the_model(void **state) {
    random_operations(state, 200000, NULL, 1);
}
static void random_operations_under_a_capacity_agree_with_the_model(void **state) {
    random_operations(state, 0, NM_ARENA_OPTIONS(.capacity_bytes = 100000, .block_bytes = 16384), 2);
}

static void random_operations_in_one_range_agree_with_the_model(void **state) {
    random_operations(state, 0, NM_ARENA_OPTIONS(.capacity_bytes = 3 << 20, .contiguous = true), 3);
}
static void random_operations_in_a_secret_arena_agree_with_the_model(void **state) {
    random_operations(state, 0, NM_ARENA_OPTIONS(.secret = true), 4);
}
static void random_operations_in_a_small_secret_range_agree_with_the_model(void **state) {
    random_operations(state, 200000, NM_ARENA_OPTIONS(.capacity_bytes = 1 << 20, .contiguous = true, .secret = true),
                      5);
}

static void random_operations_agree_with_the_model_however_they_are_watched(void **state) {
    static const nm_arena_options options[] = {
        {.struct_size = sizeof(nm_arena_options)},
        {.struct_size = sizeof(nm_arena_options), .secret = true},
        {.struct_size = sizeof(nm_arena_options), .contiguous = true, .capacity_bytes = 3 << 20},
    };
    static const unsigned flags[] = {NM_DEBUG_TRACE,
                                     NM_DEBUG_FILL,
                                     NM_DEBUG_GUARD,
                                     NM_DEBUG_QUARANTINE,
                                     NM_DEBUG_QUARANTINE | NM_DEBUG_GUARD,
                                     NM_DEBUG_TRACE | NM_DEBUG_FILL | NM_DEBUG_QUARANTINE | NM_DEBUG_GUARD};
    nm_set_misuse_handler(no_misuse, NULL);
    for (size_t o = 0; o < sizeof options / sizeof *options; o++)
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
            debug = flags[i];
            random_operations(state, 0, &options[o], 100 + i + o * 16);
            random_operations(state, 300000, &options[o], 200 + i + o * 16);
        }
    debug = 0;
    nm_set_misuse_handler(NULL, NULL);
}

static void random_operations_agree_with_the_model_when_they_are_sampled(void **state) {
    for (sample_bytes = 1; sample_bytes < 1000000; sample_bytes *= 17) random_operations(state, 0, NULL, sample_bytes);
    random_operations(state, 300000, NULL, sample_bytes);
    sample_bytes = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(random_operations_without_a_limit_agree_with_the_model),
        ARENA_TEST(random_operations_in_a_small_budget_agree_with_the_model),
        ARENA_TEST(random_operations_under_a_capacity_agree_with_the_model),
        ARENA_TEST(random_operations_in_one_range_agree_with_the_model),
        ARENA_TEST(random_operations_in_a_secret_arena_agree_with_the_model),
        ARENA_TEST(random_operations_in_a_small_secret_range_agree_with_the_model),
        ARENA_TEST(random_operations_agree_with_the_model_however_they_are_watched),
        ARENA_TEST(random_operations_agree_with_the_model_when_they_are_sampled),
    };
    return cmocka_run_group_tests_name("arena_random", tests, NULL, NULL);
}
