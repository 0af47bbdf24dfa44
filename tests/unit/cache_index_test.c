// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache_index_fixture.h"

#define NUMBERS 20000u

/* Which chunk each number has, and what the word should say. */
static index_fixture f;
static struct model {
    uint32_t offset; /* 0: it is not in the index */
    uint32_t pins;
    bool held;
    unsigned since; /* the step at which it came */
} model[NUMBERS];
static uint32_t present;

static int set_up(void **state) {
    (void)state;
    memset(model, 0, sizeof model);
    present = 0;
    fixture_open(&f);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fixture_close(&f);
    return 0;
}

static nm_status add(uint32_t number) {
    uint32_t offset = fixture_take(&f);
    fixture_write_number(&f, offset, number);
    nm_status status = nm__index_add(&f.index, fixture_hash_number(&f, number), offset);
    if (status != NM_OK) {
        fixture_give(&f, offset);
        return status;
    }
    model[number] = (struct model){.offset = offset};
    present++;
    return NM_OK;
}

static nm__place_of place_of(uint32_t number) {
    nm__place_of by_key, by_chunk;
    number_key key = number_key_of(number);
    uint64_t hash = fixture_hash_number(&f, number);
    assert_true(nm__index_find(&f.index, hash, &key, sizeof key, &by_key));
    assert_true(nm__index_locate(&f.index, hash, model[number].offset, &by_chunk));
    assert_true(by_key.position == by_chunk.position && by_key.offset == by_chunk.offset);
    assert_int_equal(by_key.offset, model[number].offset);
    assert_true(nm__index_names(&f.index, by_key, hash));
    return by_key;
}

/* Without the lock; what is there gets a pin, which is taken back. */
static bool found(uint32_t number) {
    nm__place_of place;
    number_key key = number_key_of(number);
    nm__find find = nm__index_pin(&f.index, fixture_hash_number(&f, number), &key, sizeof key, &place);
    assert_true(find != NM__FIND_UNSURE);
    if (find == NM__FIND_MISS) return false;
    assert_int_equal(place.offset, model[number].offset);
    assert_true(nm__index_unpin(&f.index, place));
    return true;
}

static void remove_number(uint32_t number) {
    uint32_t pins = nm__index_remove(&f.index, place_of(number));
    assert_int_equal(pins, model[number].pins);
    fixture_give(&f, model[number].offset);
    model[number] = (struct model){0};
    present--;
}

static void check_all(void) {
    for (uint32_t i = 0; i < NUMBERS; i++) assert_int_equal(found(i), model[i].offset != 0);
    assert_int_equal(f.index.entry_count, present);
}

static void check_sizes(void) {
    assert_int_equal(f.index.sequence % 2, 0);
    assert_int_equal(nm__index_bytes(&f.index), f.committed);
    uint32_t count = (uint32_t)nm__max(f.index.count, f.index.next_count);
    assert_true(f.committed >= (count * NM__BUCKET_WORDS + NM__STASH_WORDS) * sizeof(uint64_t));
}

static void settle_table(void) {
    for (int i = 0; i < 100000; i++) assert_ok(nm__index_step(&f.index));
    assert_int_equal(f.index.count, f.index.next_count);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static void it_grows_and_shrinks_in_steps_and_loses_nothing(void **state) {
    (void)state;
    uint32_t stash_most = 0;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        assert_ok(add(i));
        assert_ok(nm__index_step(&f.index));
        check_sizes();
        stash_most = (uint32_t)nm__max(stash_most, f.index.stash_count);
        if (i > 500) assert_true((size_t)i * 100 < (size_t)f.index.next_count * NM__BUCKET_WORDS * 90);
        if (i % 2000 == 0) check_all();
    }
    check_all();
    print_message("most in the stash: %u, went back: %u\n", stash_most, f.index.back_count);
    for (uint32_t i = 0; i < NUMBERS; i++) {
        remove_number(i);
        assert_ok(nm__index_step(&f.index));
        check_sizes();
        if (i % 2000 == 0) check_all();
    }
    settle_table();
    assert_int_equal(f.committed, NM__PAGE_BYTES);
}

static void pages_that_are_refused_leave_it_as_it_was(void **state) {
    (void)state;
    f.refuse = true;
    uint32_t i = 0;
    assert_int_equal(nm__index_wants(&f.index), 0);
    for (nm_status status; (status = add(i)) == NM_OK; i++) {
        status = nm__index_step(&f.index);
        assert_status(status, nm__index_wants(&f.index) != 0 ? NM_EBUDGET : NM_OK);
        assert_int_equal(f.committed, NM__PAGE_BYTES);
    }
    check_all();
    assert_true(i > 440); /* of 448 words in buckets, and some of the stash */
    assert_int_equal(nm__index_wants(&f.index), NM__PAGE_BYTES);

    uint32_t crowd[2 * NM__BUCKET_WORDS];
    unsigned count = nm__index_crowd(&f.index, fixture_hash_number(&f, i), crowd);
    assert_true(count == 2 * NM__BUCKET_WORDS || count == NM__BUCKET_WORDS);
    uint64_t victim;
    memcpy(&victim, nm__entry_key(nm__heap_at(&f.heap, crowd[count - 1])), sizeof victim);
    remove_number((uint32_t)victim);
    assert_ok(add(i));
    check_all();

    f.refuse = false;
    assert_ok(nm__index_step(&f.index));
    settle_table();
    assert_int_equal(f.index.stash_count, 0);
    assert_int_equal(f.index.stash_end, 0);
    assert_int_equal(nm__index_wants(&f.index), 0);
    check_all();
}

static void it_stops_where_its_range_ends(void **state) {
    (void)state;
    f.index.page_limit = 3;
    uint32_t i = 0;
    for (; add(i) == NM_OK; i++) assert_ok(nm__index_step(&f.index));
    assert_int_equal(f.committed, 3 * NM__PAGE_BYTES);
    assert_int_equal(nm__index_wants(&f.index), 0);
    check_all();
}

static void pages_that_the_system_keeps_are_used_again(void **state) {
    (void)state;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        assert_ok(add(i));
        assert_ok(nm__index_step(&f.index));
    }
    size_t most = f.committed;
    f.keep = true;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        remove_number(i);
        assert_ok(nm__index_step(&f.index));
    }
    settle_table();
    assert_true(f.index.count < NM__PAGE_BUCKETS);
    assert_int_equal(f.committed, most);
    f.refuse = true;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        assert_ok(add(i));
        assert_ok(nm__index_step(&f.index));
    }
    check_all();
}

static void a_full_stash_refuses_and_changes_nothing(void **state) {
    (void)state;
    f.hash_mask = 0xfff; /* all in the first bucket, by both points */
    uint32_t i = 0;
    for (; add(i) == NM_OK; i++) assert_ok(nm__index_step(&f.index));
    assert_int_equal(i, NM__BUCKET_WORDS + NM__STASH_WORDS - NM__BUCKET_WORDS);
    static uint64_t before[NM__STASH_WORDS + NM__PAGE_BUCKETS];
    memcpy(before, f.range, sizeof before);
    uint32_t sequence = f.index.sequence;
    assert_status(add(i), NM_ECAPACITY);
    assert_memory_equal(before, f.range, sizeof before);
    assert_int_equal(f.index.sequence, sequence);
    check_all();
    /* More than half of the stash, but a larger table would not help. */
    assert_ok(nm__index_step(&f.index));
    assert_int_equal(f.committed, NM__PAGE_BYTES);
    for (uint32_t k = 0; k < i; k++) remove_number(k);
    assert_int_equal(f.index.stash_end, 0);
    check_all();
}

/* ---- keys and pins ----------------------------------------------------------------------------------------------- */

static void every_key_is_told_from_its_neighbours(void **state) {
    (void)state;
    static unsigned char memory[4096] __attribute__((__aligned__(16))), key[300], other[301];
    uint64_t seed = 7;
    for (size_t len = 1; len <= sizeof key; len++)
        for (size_t value_len = 0; value_len < 40; value_len += 1 + value_len % 3)
            for (unsigned shape = 0; shape < 4; shape++) {
                nm__entry *e = (nm__entry *)(void *)(memory + 4 + (shape & 1) * 8);
                bool more = (shape & 2) != 0 || len > UINT8_MAX;
                for (size_t i = 0; i < len; i++) key[i] = (unsigned char)test_random(&seed);
                fixture_write(e, key, len, value_len, more);
                memset(nm__entry_value(e), 0xaa, value_len);
                assert_true(nm__entry_has_key(e, key, len));
                memcpy(other, key, len);
                other[len] = 0xaa;
                assert_false(nm__entry_has_key(e, other, len + 1));
                if (len > 1) assert_false(nm__entry_has_key(e, other, len - 1));
                size_t at = test_below(&seed, len);
                other[at] ^= (unsigned char)(1u << test_below(&seed, 8));
                assert_false(nm__entry_has_key(e, other, len));
            }
    for (size_t len = 1; len <= 100; len++)
        for (size_t at = 0; at < len; at++) {
            memset(key, 0x55, len);
            memset(other, 0x55, len);
            assert_true(nm__key_equal(key, other, len));
            other[at] = 0x54;
            assert_false(nm__key_equal(key, other, len));
        }
}

static nm__find pin(uint32_t number, nm__place_of *place) {
    number_key key = number_key_of(number);
    return nm__index_pin(&f.index, fixture_hash_number(&f, number), &key, sizeof key, place);
}

static void a_pin_keeps_an_entry_from_being_seized_and_is_told_of_at_removal(void **state) {
    (void)state;
    nm__place_of place, other;
    assert_ok(add(1));
    assert_ok(add(2));
    assert_int_equal(pin(1, &place), NM__FIND_HIT);
    assert_int_equal(pin(1, &other), NM__FIND_HIT);
    assert_int_equal(nm__index_pins(&f.index, place), 2);
    assert_false(nm__index_seize(&f.index, place));
    assert_true(nm__index_unpin(&f.index, other));
    assert_int_equal(nm__index_remove(&f.index, place), 1);
    assert_int_equal(pin(1, &other), NM__FIND_MISS);
    assert_false(nm__index_unpin(&f.index, place)); /* the lock knows */
    model[1].offset = 0;
    present--;

    place = place_of(2);
    assert_true(nm__index_seize(&f.index, place));
    assert_int_equal(pin(2, &other), NM__FIND_UNSURE);
    assert_int_equal(other.offset, 0);
    uint32_t moved = fixture_take(&f);
    fixture_write_number(&f, moved, 2);
    nm__index_settle(&f.index, place, moved);
    fixture_give(&f, place.offset);
    model[2].offset = moved;
    assert_int_equal(place_of(2).position, place.position);
    assert_int_equal(pin(2, &other), NM__FIND_HIT);
    assert_int_equal(other.offset, moved);

    uint32_t newer = fixture_take(&f);
    fixture_write_number(&f, newer, 2);
    assert_int_equal(nm__index_replace(&f.index, other, newer), 1);
    assert_false(nm__index_unpin(&f.index, other));
    model[2].offset = newer;
    assert_int_equal(nm__index_pins(&f.index, place_of(2)), 0);
    check_all();
}

static void the_last_pin_of_a_held_entry_goes_through_the_lock(void **state) {
    (void)state;
    nm__place_of place;
    assert_ok(add(1));
    assert_false(nm__index_hold(&f.index, place_of(1)));
    assert_int_equal(pin(1, &place), NM__FIND_HIT);
    assert_int_equal(pin(1, &place), NM__FIND_HIT);
    assert_true(nm__index_hold(&f.index, place));
    assert_true(nm__index_hold(&f.index, place));
    assert_true(nm__index_unpin(&f.index, place));
    assert_false(nm__index_unpin(&f.index, place));
    assert_int_equal(nm__index_pins(&f.index, place), 1);
    assert_true(nm__index_pin_locked(&f.index, place));
    assert_false(nm__index_unpin_locked(&f.index, place));
    assert_true(nm__index_unpin_locked(&f.index, place));
    assert_int_equal(nm__index_pins(&f.index, place), 0);
    assert_true(nm__index_pin_locked(&f.index, place));
    assert_true(nm__index_unpin(&f.index, place)); /* the mark is gone */
}

static void one_pin_more_than_a_word_can_count_is_not_had(void **state) {
    (void)state;
    nm__place_of place;
    assert_ok(add(1));
    for (unsigned i = 0; i < 0xffff; i++) assert_int_equal(pin(1, &place), NM__FIND_HIT);
    nm__place_of other;
    assert_int_equal(pin(1, &other), NM__FIND_UNSURE);
    assert_int_equal(other.offset, 0);
    assert_false(nm__index_pin_locked(&f.index, place));
    assert_int_equal(nm__index_pins(&f.index, place), 0xffff);
    assert_true(nm__index_unpin(&f.index, place));
    assert_true(nm__index_pin_locked(&f.index, place));
    assert_int_equal(nm__index_remove(&f.index, place), 0xffff);
}

/* ---- at random, against a model ---------------------------------------------------------------------------------- */

static void step_table(uint64_t *seed) {
    f.refuse = test_below(seed, 4) == 0;
    f.keep = test_below(seed, 4) == 0;
    nm_status status = nm__index_step(&f.index);
    assert_true(status == NM_OK || (f.refuse && status == NM_EBUDGET));
    check_sizes();
}

static void change_pins(uint32_t number, uint64_t *seed) {
    struct model *m = &model[number];
    nm__place_of place = place_of(number), other;
    assert_int_equal(nm__index_pins(&f.index, place), m->pins);
    switch (test_below(seed, 5)) {
    case 0:
        assert_int_equal(pin(number, &other), NM__FIND_HIT);
        assert_int_equal(other.position, place.position);
        m->pins++;
        break;
    case 1:
        assert_true(nm__index_pin_locked(&f.index, place));
        m->pins++;
        break;
    case 2:
        assert_int_equal(nm__index_hold(&f.index, place), m->pins != 0);
        if (m->pins != 0) m->held = true;
        break;
    default:
        if (m->pins == 0) break;
        if (test_below(seed, 2) == 0 && nm__index_unpin(&f.index, place)) {
            assert_true(!m->held || m->pins > 1);
        } else {
            bool last = nm__index_unpin_locked(&f.index, place);
            assert_int_equal(last, m->held && m->pins == 1);
            if (last) m->held = false;
        }
        m->pins--;
    }
}

static void change_chunk(uint32_t number, uint64_t *seed) {
    struct model *m = &model[number];
    nm__place_of place = place_of(number);
    uint32_t to = fixture_take(&f), from = m->offset;
    fixture_write_number(&f, to, number);
    if (test_below(seed, 2) == 0) {
        assert_int_equal(nm__index_replace(&f.index, place, to), m->pins);
        m->pins = 0;
        m->held = false;
    } else if (nm__index_seize(&f.index, place)) {
        assert_int_equal(m->pins, 0);
        nm__index_settle(&f.index, place, to);
    } else {
        assert_true(m->pins != 0);
        fixture_give(&f, to);
        return;
    }
    m->offset = to;
    fixture_give(&f, from);
}

static void check_pinned(void) {
    uint32_t pinned = 0, listed = 0;
    for (uint32_t i = 0; i < NUMBERS; i++) pinned += model[i].pins != 0;
    for (nm__place_of place = {0}; nm__index_next_pinned(&f.index, &place); listed++) {
        uint64_t number;
        memcpy(&number, nm__entry_key(nm__heap_at(&f.heap, place.offset)), sizeof number);
        assert_int_equal(model[number].offset, place.offset);
        assert_int_equal(model[number].pins, nm__index_pins(&f.index, place));
    }
    assert_int_equal(listed, pinned);
}

static void random_changes_agree_with_a_model(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    unsigned steps = TEST_SLOW ? 200000 : 600000;
    for (unsigned step = 0; step < steps; step++) {
        uint32_t number = (uint32_t)test_below(&seed, NUMBERS);
        bool fill = step / (steps / 10) % 2 == 0;
        assert_int_equal(found(number), model[number].offset != 0);
        if (model[number].offset == 0) {
            if (fill || test_below(&seed, 4) == 0) {
                nm_status status = add(number);
                assert_true(status == NM_OK || nm__index_wants(&f.index) != 0);
            }
        } else if (!fill || test_below(&seed, 4) == 0) {
            remove_number(number);
        } else if (test_below(&seed, 2) == 0) {
            change_chunk(number, &seed);
        } else {
            change_pins(number, &seed);
        }
        step_table(&seed);
        if (step % (steps / 30) == 0) {
            check_all();
            check_pinned();
        }
    }
    check_all();
}

/* ---- walks ------------------------------------------------------------------------------------------------------- */

#define WALKS 8u

typedef struct walk {
    uint64_t position;
    uint32_t sequence;
    unsigned within; /* the next in the bucket, as long as the sequence is that */
    unsigned began, turns;
    unsigned char seen[NUMBERS];
} walk;

static void check_walk(const walk *w) {
    for (uint32_t i = 0; i < NUMBERS; i++)
        if (model[i].offset != 0 && model[i].since < w->began) assert_true(w->seen[i]);
}

/* As many places of a bucket; begins anew when it is at its end. */
static bool walk_on(walk *w, unsigned step, unsigned places) {
    if (w->turns++ == 0) {
        memset(w->seen, 0, sizeof w->seen);
        w->began = step;
    }
    uint32_t offsets[NM__WALK_WORDS];
    unsigned count;
    uint64_t position = w->position;
    bool more = nm__index_walk(&f.index, &position, offsets, &count);
    if (w->sequence != f.index.sequence) w->within = 0;
    w->sequence = f.index.sequence;
    for (; w->within < count && places != 0; w->within++, places--) {
        uint64_t number;
        if (offsets[w->within] == 0) continue;
        memcpy(&number, nm__entry_key(nm__heap_at(&f.heap, offsets[w->within])), sizeof number);
        assert_int_equal(model[number].offset, offsets[w->within]);
        w->seen[number] += w->seen[number] < 255;
    }
    assert_true(w->turns < 10000000);
    if (w->within < count) return false;
    w->within = 0;
    w->position = position;
    if (more) return false;
    check_walk(w);
    w->position = 0;
    w->turns = 0;
    return true;
}

static void a_walk_meets_once_what_nobody_touches(void **state) {
    (void)state;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        assert_ok(add(i));
        if (i % 7 != 0) assert_ok(nm__index_step(&f.index)); /* ends in the middle of a growth, with some luck */
    }
    static walk w;
    memset(&w, 0, sizeof w);
    while (!walk_on(&w, 1, NM__WALK_WORDS)) {
    }
    for (uint32_t i = 0; i < NUMBERS; i++) assert_int_equal(w.seen[i], 1);
}

static unsigned walk_while_changing(uint32_t numbers, unsigned steps, uint64_t *seed) {
    static walk walks[WALKS];
    memset(walks, 0, sizeof walks);
    unsigned ended = 0;
    for (unsigned step = 1; step <= steps; step++) {
        uint32_t number = (uint32_t)test_below(seed, numbers);
        bool fill = step / (2 * numbers) % 2 == 0;
        if (model[number].offset == 0 && fill) {
            if (add(number) == NM_OK) model[number].since = step;
        } else if (model[number].offset != 0 && !fill && number % 8 != 0) {
            remove_number(number);
        }
        step_table(seed);
        /* Some go bucket by bucket, some entry by entry. */
        size_t turn = test_below(seed, WALKS);
        for (unsigned i = 0; i < 3; i++) ended += walk_on(&walks[turn], step, turn % 2 != 0 ? NM__WALK_WORDS : 3);
        assert_int_equal(found(number), model[number].offset != 0);
    }
    return ended;
}

static void walks_meet_all_that_stays_while_the_table_changes(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    unsigned ended = walk_while_changing(NUMBERS, TEST_SLOW ? 100000 : 400000, &seed);
    print_message("walks: %u, went back: %u\n", ended, f.index.back_count);
    assert_true(ended > 10 && f.index.back_count > 20);
}

/* Small tables, and hashes that choose from few places: so moves meet full buckets, and the stash is used. */
static void the_same_with_a_hash_that_crowds_them(void **state) {
    uint64_t seed = test_seed();
    unsigned ended = 0, back = 0, stashed = 0;
    for (unsigned run = 0; run < (TEST_SLOW ? 60 : 400); run++) {
        if (run != 0) {
            tear_down(state);
            set_up(state);
        }
        /* How many of the upper bits of the points are not 0, so that they come in clumps, or lie near the bottom. */
        uint64_t first = UINT64_MAX << (20 + test_below(&seed, 8)), second = first << (16 + test_below(&seed, 8));
        f.hash_mask = test_below(&seed, 2) != 0 ? 0xff | first : UINT64_MAX;
        f.hash_mask &= test_below(&seed, 2) != 0 ? 0xffffffff | second : UINT64_MAX;
        uint64_t low = test_below(&seed, 3);
        f.hash_mask &= ~(low << 30 | low << 54);
        f.hash_near = test_below(&seed, 2) != 0;
        ended += walk_while_changing(300 + (uint32_t)test_below(&seed, 1200), 6000, &seed);
        check_all();
        back += f.index.back_count;
        stashed += f.index.stash_count != 0;
    }
    print_message("walks: %u, went back: %u, with a stash: %u\n", ended, back, stashed);
    assert_true(ended > 100 && back > 100 && stashed > 5);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_grows_and_shrinks_in_steps_and_loses_nothing),
        TEST(pages_that_are_refused_leave_it_as_it_was),
        TEST(it_stops_where_its_range_ends),
        TEST(pages_that_the_system_keeps_are_used_again),
        TEST(a_full_stash_refuses_and_changes_nothing),
        TEST(every_key_is_told_from_its_neighbours),
        TEST(a_pin_keeps_an_entry_from_being_seized_and_is_told_of_at_removal),
        TEST(the_last_pin_of_a_held_entry_goes_through_the_lock),
        TEST(one_pin_more_than_a_word_can_count_is_not_had),
        TEST(random_changes_agree_with_a_model),
        TEST(a_walk_meets_once_what_nobody_touches),
        TEST(walks_meet_all_that_stays_while_the_table_changes),
        TEST(the_same_with_a_hash_that_crowds_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
