// SPDX-License-Identifier: Apache-2.0 OR MIT
/* More than one holder of a buffer: shares and slices. */
#include "pool_scarce.h"

#define CHUNK ((size_t)1000)

static nm_lease share_of(const nm_lease *lease) {
    nm_lease share;
    assert_ok(nm_lease_share(lease, &share));
    return share;
}

static nm_lease slice_of(const nm_lease *lease, size_t offset, size_t n) {
    nm_lease slice;
    assert_ok(nm_lease_slice(lease, offset, n, &slice));
    return slice;
}

static void assert_counts(const nm_pool *pool, size_t leased, size_t shared) {
    nm_pool_stats s = stats_of(pool);
    assert_int_equal(s.leased_count, leased);
    assert_int_equal(s.shared_count, shared);
}

/* ---- what a share shows ------------------------------------------------------------------------------------------ */

static void a_share_shows_the_bytes_of_its_lease_through_a_descriptor_of_its_own(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 2));
    nm_lease lease = lease_of(pool), share = share_of(&lease);
    assert_ptr_equal(share.data, lease.data);
    assert_int_equal(share.size, CHUNK);
    assert_ptr_not_equal(share.slot, lease.slot);
    assert_counts(pool, 1, 1); /* one buffer */
    memset(lease.data, 7, CHUNK);
    nm_lease_release(&lease);
    assert_int_equal(((unsigned char *)share.data)[CHUNK - 1], 7); /* and it stays, as it was */
    memset(share.data, 8, CHUNK);
    assert_counts(pool, 1, 1);
    nm_lease_release(&share);
    assert_false(nm_lease_ok(share));
    assert_counts(pool, 0, 0);
    check_whole(pool, 2);
    close_pool(pool);
}

static void a_slice_shows_its_part_down_to_no_byte_at_the_end(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool);
    static const size_t parts[][2] = {{0, CHUNK}, {0, 0},     {CHUNK, 0},     {CHUNK - 1, 1},
                                      {10, 20},   {500, 500}, {1, CHUNK - 1}, {0, 1}};
    for (size_t i = 0; i < COUNT(parts); i++) {
        nm_lease slice = slice_of(&lease, parts[i][0], parts[i][1]);
        assert_ptr_equal(slice.data, (char *)lease.data + parts[i][0]);
        assert_int_equal(slice.size, parts[i][1]);
        memset(slice.data, 1, slice.size);
        nm_lease_release(&slice);
        assert_counts(pool, 1, 0);
    }
    nm_lease_release(&lease);
    close_pool(pool);
}

static void bytes_beyond_the_end_are_refused_and_nothing_changes(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool);
    size_t before = granted(f->scope);
    static const size_t beyond[][2] = {
        {0, CHUNK + 1},
        {CHUNK, 1},
        {CHUNK + 1, 0},
        {1, CHUNK},
        {SIZE_MAX, 0},
        {SIZE_MAX, 1},
        {0, SIZE_MAX},
        {1, SIZE_MAX},
        {500, SIZE_MAX - 499},
        {CHUNK, SIZE_MAX},
        {SIZE_MAX, SIZE_MAX},
        {SIZE_MAX - 1, 2},
        {SIZE_MAX / 2 + 1, 0},
        {0, SIZE_MAX / 2 + 1},
        {SIZE_MAX - CHUNK + 1, CHUNK},
    };
    for (size_t i = 0; i < COUNT(beyond); i++) {
        nm_lease slice = lease; /* something to be emptied */
        assert_status(nm_lease_slice(&lease, beyond[i][0], beyond[i][1], &slice), NM_EINVAL);
        assert_false(nm_lease_ok(slice));
        assert_counts(pool, 1, 0);
    }
    assert_int_equal(granted(f->scope), before);
    nm_lease_release(&lease);
    close_pool(pool);
}

static void a_slice_of_a_slice_is_bounded_by_the_slice(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool), slice = slice_of(&lease, 100, 50), refused;
    nm_lease part = slice_of(&slice, 10, 20), rest = slice_of(&slice, 50, 0), all = share_of(&slice);
    assert_ptr_equal(part.data, (char *)lease.data + 110);
    assert_int_equal(part.size, 20);
    assert_ptr_equal(rest.data, (char *)lease.data + 150);
    assert_ptr_equal(all.data, slice.data);
    assert_int_equal(all.size, 50);
    assert_status(nm_lease_slice(&slice, 0, 51, &refused), NM_EINVAL);
    assert_status(nm_lease_slice(&slice, 50, 1, &refused), NM_EINVAL);
    assert_status(nm_lease_slice(&part, 20, 1, &refused), NM_EINVAL);
    assert_counts(pool, 1, 4);
    /* the one that they were taken of first */
    nm_lease_release(&lease);
    nm_lease_release(&slice);
    nm_lease last = slice_of(&part, 19, 1);
    assert_ptr_equal(last.data, (char *)part.data + 19);
    nm_lease_release(&part);
    nm_lease_release(&rest);
    nm_lease_release(&all);
    assert_counts(pool, 1, 1);
    nm_lease_release(&last);
    assert_counts(pool, 0, 0);
    close_pool(pool);
}

static void no_lease_and_no_place_for_the_share_are_refused(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool), empty = {0}, out = lease;
    assert_status(nm_lease_share(&empty, &out), NM_EINVAL);
    assert_false(nm_lease_ok(out));
    out = lease;
    assert_status(nm_lease_share(NULL, &out), NM_EINVAL);
    assert_false(nm_lease_ok(out));
    assert_status(nm_lease_slice(&empty, 0, 0, &out), NM_EINVAL);
    assert_status(nm_lease_slice(NULL, 0, 0, &out), NM_EINVAL);
    assert_status(nm_lease_share(&lease, NULL), NM_EINVAL);
    assert_status(nm_lease_slice(&lease, 0, 0, NULL), NM_EINVAL);
    assert_counts(pool, 1, 0);
    assert_ok((nm_lease_share)(&lease, &out)); /* the plain functions */
    nm_lease_release(&out);
    assert_ok((nm_lease_slice)(&lease, 1, 2, &out));
    nm_lease_release(&out);
    nm_lease_release(&lease);
    close_pool(pool);
}

static void a_slice_may_replace_the_variable_that_it_is_taken_of(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool), whole = lease;
    assert_ok(nm_lease_slice(&lease, 10, 20, &lease));
    assert_ptr_equal(lease.data, (char *)whole.data + 10);
    assert_counts(pool, 1, 1);
    nm_lease_release(&lease);
    nm_lease_release(&whole);
    close_pool(pool);
}

static void shares_have_the_index_of_their_buffer(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .prealloc_count = 130, .max_count = 130));
    nm_lease leases[130];
    for (size_t i = 0; i < COUNT(leases); i++) {
        leases[i] = lease_of(pool);
        uint32_t index = nm_lease_index(&leases[i]);
        nm_lease slice = slice_of(&leases[i], CHUNK, 0), share = share_of(&slice);
        assert_true(index < COUNT(leases));
        assert_int_equal(nm_lease_index(&slice), index);
        assert_int_equal(nm_lease_index(&share), index);
        nm_lease_release(&slice);
        nm_lease_release(&share);
        assert_int_equal(nm_lease_index(&slice), UINT32_MAX);
    }
    nm_lease_release_many(leases, COUNT(leases));
    close_pool(pool);
}

/* ---- the last one gives it back ---------------------------------------------------------------------------------- */

enum { HOLDERS = 4 };

/* The buffer is out, whoever asks. */
static void assert_out(scarce *s, hand *other, size_t shares) {
    nm_lease got;
    lot l = {.pool = s->pool, .leases = &got, .count = 1};
    assert_status(nm_pool_try_lease(s->pool, &got), NM_ECAPACITY);
    hand_do(other, lease_lot, &l);
    assert_int_equal(l.failed, 1);
    assert_status(nm_pool_close(s->pool), NM_EBUSY);
    assert_counts(s->pool, s->count + 1, shares);
}

/* order: a permutation of the holders, four bits each; threads: a bit each, who releases it. */
static void release_in_order(scarce *s, hand *other, unsigned order, unsigned threads) {
    nm_lease h[HOLDERS];
    h[0] = lease_of(s->pool);
    h[1] = share_of(&h[0]);
    h[2] = slice_of(&h[1], 1, 2);
    h[3] = share_of(&h[0]);
    size_t shares = HOLDERS - 1;
    for (unsigned i = 0; i < HOLDERS; i++) {
        unsigned which = order >> (4 * i) & 15;
        assert_out(s, other, shares);
        if ((threads >> which & 1) != 0)
            hand_do(other, release_one, &h[which]);
        else
            nm_lease_release(&h[which]);
        shares -= which != 0;
    }
    assert_counts(s->pool, s->count, 0);
    nm_lease again = lease_of(s->pool);
    nm_lease_release(&again);
}

static void holders_may_release_in_every_order_on_every_thread(void **state) {
    fixture *f = *state;
    hand other;
    hand_start(&other);
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        scarce s;
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        size_t tried = 0;
        for (unsigned order = 0; order < 0x3333 + 1; order++) {
            unsigned seen = 0;
            for (unsigned i = 0; i < HOLDERS; i++) seen |= 1u << (order >> (4 * i) & 15);
            if (seen != 15) continue;
            for (unsigned threads = 0; threads < 16; threads++) release_in_order(&s, &other, order, threads);
            tried++;
        }
        assert_int_equal(tried, 24);
        scarce_close(&s);
    }
    hand_end(&other);
}

static void a_pool_does_not_close_while_a_share_is_out_and_its_lease_was_released_elsewhere(void **state) {
    fixture *f = *state;
    hand other;
    hand_start(&other);
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 256));
    lot often = {.pool = pool, .count = 20};
    use_often(&often);
    hand_do(&other, use_often, &often);
    nm_lease lease = lease_of(pool), share = share_of(&lease);
    hand_do(&other, release_one, &lease); /* it notes that only, and nobody has looked at it yet */
    assert_counts(pool, 1, 1);
    assert_status(nm_pool_close(pool), NM_EBUSY);
    memset(share.data, 1, share.size);
    nm_lease_release(&share);
    close_pool(pool);
    hand_end(&other);
}

static void a_lease_that_a_scope_holds_leaves_the_buffer_to_its_shares(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_scope *request;
    nm_lease lease, refused;
    assert_ok(nm_scope_open(&request, f->root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)));
    assert_ok(nm_pool_lease_in(pool, request, &lease));
    nm_lease share = share_of(&lease);
    assert_int_equal(nm_scope_close(request, NULL), 0);
    assert_counts(pool, 1, 1);
    assert_status(nm_pool_try_lease(pool, &refused), NM_ECAPACITY);
    nm_lease_release(&share);
    check_whole(pool, 1);
    close_pool(pool);
}

static void many_holders_release_at_once_with_empty_leases_among_them(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 2));
    nm_lease h[9] = {{0}};
    h[1] = lease_of(pool);
    h[8] = share_of(&h[1]);
    h[3] = slice_of(&h[8], 3, 4);
    h[4] = lease_of(pool);
    h[6] = share_of(&h[4]);
    nm_lease_release_many(h, COUNT(h));
    for (size_t i = 0; i < COUNT(h); i++) assert_false(nm_lease_ok(h[i]));
    assert_counts(pool, 0, 0);
    check_whole(pool, 2);
    close_pool(pool);
}

static void a_shared_address_released_is_the_lease_that_was_there_first(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool), share = share_of(&lease);
    nm_pool_release_data(pool, share.data);
    assert_int_equal(nm_lease_index(&lease), UINT32_MAX);
    assert_int_equal(nm_lease_index(&share), 0);
    assert_counts(pool, 1, 1);
    nm_lease_release(&share);
    close_pool(pool);
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

static void more_shares_than_a_page_of_descriptors_has(void **state) {
    fixture *f = *state;
    enum { MANY = 200 };
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool), shares[MANY];
    size_t before = granted(f->scope), after = 0;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++) {
            shares[i] = share_of(i % 3 == 0 ? &lease : &shares[i - 1]);
            for (size_t k = 0; k < i; k++) assert_ptr_not_equal(shares[i].slot, shares[k].slot);
        }
        assert_counts(pool, 1, MANY);
        assert_int_equal(stats_of(pool).granted_bytes, granted(f->scope));
        if (round == 0) after = granted(f->scope);
        assert_in_range(after - before, MANY / 64 * PAGE, (MANY / 64 + 1) * PAGE);
        assert_int_equal(granted(f->scope), after); /* they serve again */
        for (size_t i = 0; i < MANY; i++) nm_lease_release(&shares[(i * 77 + (size_t)round) % MANY]);
        assert_counts(pool, 1, 0);
    }
    nm_lease_release(&lease);
    check_whole(pool, 1);
    close_pool(pool);
}

static void a_share_refused_at_its_grant_changes_nothing_and_the_next_call_works(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool), share;
    size_t before = granted(f->scope);
    uint64_t n = 1;
    for (;; n++) {
        nm_scope_fail_after(f->scope, n);
        share = lease;
        nm_status st = nm_lease_share(&lease, &share);
        if (st == NM_OK) break;
        assert_status(st, NM_EBUDGET);
        assert_false(nm_lease_ok(share));
        assert_int_equal(granted(f->scope), before);
        assert_int_equal(stats_of(pool).granted_bytes, before);
        assert_counts(pool, 1, 0);
    }
    assert_int_equal(n, 2); /* a page of descriptors; the next passes */
    nm_scope_fail_after(f->scope, 0);
    assert_counts(pool, 1, 1);
    nm_lease_release(&share);
    nm_lease_release(&lease);
    check_whole(pool, 1);
    close_pool(pool);
}

static bool refuse_commits;
static bool commit_or_not(void *address, size_t bytes) {
    return !refuse_commits && nm__os_system.commit(address, bytes);
}

static void a_share_that_the_system_refuses_changes_nothing(void **state) {
    fixture *f = *state;
    nm_pool *pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1));
    nm_lease lease = lease_of(pool), share = lease;
    size_t before = granted(f->scope);
    static nm__os table;
    table = nm__os_system;
    table.commit = commit_or_not;
    nm__os_replace(&table);
    refuse_commits = true;
    assert_status(nm_lease_share(&lease, &share), NM_ENOMEM);
    assert_false(nm_lease_ok(share));
    assert_int_equal(granted(f->scope), before);
    refuse_commits = false;
    share = share_of(&lease);
    nm__os_replace(NULL);
    nm_lease_release(&share);
    nm_lease_release(&lease);
    close_pool(pool);
}

static void a_share_needs_budget_for_its_descriptor_and_has_it_when_there_is_some(void **state) {
    fixture *f = *state;
    nm_scope *tight;
    nm_lease share;
    /* pool, groups, descriptors, a page of one buffer; no page for descriptors of shares */
    assert_ok(nm_scope_open(&tight, f->scope, NM_SCOPE_OPTIONS(.hard_bytes = 4 * PAGE)));
    nm_pool *pool = open_pool(tight, NM_POOL_OPTIONS(.chunk_bytes = 4096));
    nm_lease lease = lease_of(pool);
    assert_int_equal(granted(tight), 4 * PAGE);
    assert_status(nm_lease_share(&lease, &share), NM_EBUDGET);
    assert_status(nm_lease_slice(&lease, 5, 5, &share), NM_EBUDGET);
    assert_counts(pool, 1, 0);
    assert_int_equal(granted(tight), 4 * PAGE);
    assert_ok(nm_scope_set_budget(tight, 0, 5 * PAGE));
    share = share_of(&lease);
    assert_int_equal(granted(tight), 5 * PAGE);
    nm_lease_release(&lease);
    nm_lease_release(&share);
    close_pool(pool);
    assert_int_equal(nm_scope_close(tight, NULL), 0);
}

/* ---- leaks ------------------------------------------------------------------------------------------------------- */

static void shares_left_out_are_reported_by_the_site_that_shared(void **state) {
    fixture *f = *state;
    nm_scope *gone;
    nm_leak_report report;
    nm_lease first, kept, shares[70];
    assert_ok(nm_scope_open(&gone, f->scope, NM_SCOPE_OPTIONS(.name = "gone")));
    nm_pool *pool = open_pool(gone, NM_POOL_OPTIONS(.chunk_bytes = 4096, .name = "rx"));
    assert_ok(nm_pool_try_lease_at(pool, &first, "first.c:1"));
    assert_ok(nm_pool_try_lease_at(pool, &kept, "kept.c:2"));
    for (size_t i = 0; i < COUNT(shares); i++) assert_ok(nm_lease_share_at(&first, &shares[i], "share.c:3"));
    nm_lease_release(&shares[5]);
    assert_ok(nm_lease_slice_at(&kept, 7, 8, &shares[5], "slice.c:4"));
    nm_lease_release(&first); /* its buffer stays with the shares */
    assert_int_equal(nm_scope_close(gone, &report), 1 + 69 + 1);
    assert_int_equal(report.leaked_count, 71);
    assert_int_equal(report.site_count, 3);
    static const struct {
        const char *site;
        size_t count;
    } wanted[] = {{"kept.c:2", 1}, {"share.c:3", 69}, {"slice.c:4", 1}};
    for (size_t i = 0; i < COUNT(wanted); i++) {
        size_t at = 0;
        while (at < report.site_count && strcmp(report.sites[at].site, wanted[i].site) != 0) at++;
        assert_true(at < report.site_count);
        assert_int_equal(report.sites[at].kind, NM_LEAK_LEASE);
        assert_int_equal(report.sites[at].count, wanted[i].count);
        assert_string_equal(report.sites[at].name, "rx");
    }
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, SHARES = 5 };

typedef struct party {
    nm_pool *pool;
    pthread_barrier_t barrier;
    nm_lease shares[THREADS][SHARES];
    size_t rounds;
    NM_ATOMIC(size_t) wrong;
} party;

typedef struct guest {
    party *party;
    size_t number;
} guest;

static void *release_ones_shares(void *arg) {
    const guest *me = arg;
    party *p = me->party;
    for (size_t round = 0; round < p->rounds; round++) {
        pthread_barrier_wait(&p->barrier);
        for (size_t i = 0; i < SHARES; i++) nm_lease_release(&p->shares[me->number][i]);
        pthread_barrier_wait(&p->barrier);
    }
    return NULL;
}

static void run_party(party *p, void *(*fn)(void *), pthread_t threads[THREADS], guest guests[THREADS]) {
    for (size_t i = 0; i < THREADS; i++) {
        guests[i] = (guest){p, i};
        assert_int_equal(pthread_create(&threads[i], NULL, fn, &guests[i]), 0);
    }
}

static void threads_that_release_the_shares_of_one_buffer_at_once_free_it_once(void **state) {
    fixture *f = *state;
    for (size_t shape = 0; shape < SCARCE_SHAPES; shape++) {
        static party p;
        scarce s;
        pthread_t threads[THREADS];
        guest guests[THREADS];
        scarce_open(&s, f->scope, scarce_shapes[shape]);
        p = (party){.pool = s.pool, .rounds = TEST_SLOW ? 300 : 2000};
        pthread_barrier_init(&p.barrier, NULL, THREADS + 1);
        run_party(&p, release_ones_shares, threads, guests);
        for (size_t round = 0; round < p.rounds; round++) {
            nm_lease lease = lease_of(s.pool), refused;
            for (size_t t = 0; t < THREADS; t++)
                for (size_t i = 0; i < SHARES; i++) p.shares[t][i] = share_of(t == 0 ? &lease : &p.shares[t - 1][i]);
            pthread_barrier_wait(&p.barrier);
            if (round % 2 == 0) nm_lease_release(&lease);
            pthread_barrier_wait(&p.barrier);
            if (round % 2 == 1) {
                assert_status(nm_pool_try_lease(s.pool, &refused), NM_ECAPACITY);
                nm_lease_release(&lease);
            }
            assert_counts(s.pool, s.count, 0);
        }
        for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&p.barrier);
        scarce_close(&s);
    }
}

/* Each has one share and goes on with a share of that. */
static void *pass_on(void *arg) {
    const guest *me = arg;
    party *p = me->party;
    nm_lease mine = p->shares[me->number][0];
    for (size_t round = 0; round < p->rounds; round++) {
        nm_lease next;
        if (nm_lease_share(&mine, &next) != NM_OK) {
            nm_atomic_add(&p->wrong, 1, NM_RELAXED);
            break;
        }
        nm_pool_stats s;
        if (round % 64 == 0) {
            nm_pool_get_stats(p->pool, &s);
            if (s.total_count > s.max_count) nm_atomic_add(&p->wrong, 1, NM_RELAXED);
        }
        nm_lease_release(&mine);
        mine = next;
    }
    nm_lease_release(&mine);
    return NULL;
}

static void threads_may_share_and_release_the_shares_of_one_buffer_at_once(void **state) {
    fixture *f = *state;
    static party p;
    pthread_t threads[THREADS];
    guest guests[THREADS];
    p = (party){.pool = open_pool(f->scope, NM_POOL_OPTIONS(.chunk_bytes = CHUNK, .max_count = 1)),
                .rounds = TEST_SLOW ? 5000 : 50000};
    nm_lease lease = lease_of(p.pool);
    for (size_t i = 0; i < THREADS; i++) p.shares[i][0] = share_of(&lease);
    run_party(&p, pass_on, threads, guests);
    nm_lease_release(&lease);
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(p.wrong, 0);
    assert_counts(p.pool, 0, 0);
    check_whole(p.pool, 1);
    close_pool(p.pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        POOL_TEST(a_share_shows_the_bytes_of_its_lease_through_a_descriptor_of_its_own),
        POOL_TEST(a_slice_shows_its_part_down_to_no_byte_at_the_end),
        POOL_TEST(bytes_beyond_the_end_are_refused_and_nothing_changes),
        POOL_TEST(a_slice_of_a_slice_is_bounded_by_the_slice),
        POOL_TEST(no_lease_and_no_place_for_the_share_are_refused),
        POOL_TEST(a_slice_may_replace_the_variable_that_it_is_taken_of),
        POOL_TEST(shares_have_the_index_of_their_buffer),
        POOL_TEST(holders_may_release_in_every_order_on_every_thread),
        POOL_TEST(a_pool_does_not_close_while_a_share_is_out_and_its_lease_was_released_elsewhere),
        POOL_TEST(a_lease_that_a_scope_holds_leaves_the_buffer_to_its_shares),
        POOL_TEST(many_holders_release_at_once_with_empty_leases_among_them),
        POOL_TEST(a_shared_address_released_is_the_lease_that_was_there_first),
        POOL_TEST(more_shares_than_a_page_of_descriptors_has),
        POOL_TEST(a_share_refused_at_its_grant_changes_nothing_and_the_next_call_works),
        POOL_TEST(a_share_that_the_system_refuses_changes_nothing),
        POOL_TEST(a_share_needs_budget_for_its_descriptor_and_has_it_when_there_is_some),
        POOL_TEST(shares_left_out_are_reported_by_the_site_that_shared),
        POOL_TEST(threads_that_release_the_shares_of_one_buffer_at_once_free_it_once),
        POOL_TEST(threads_may_share_and_release_the_shares_of_one_buffer_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
