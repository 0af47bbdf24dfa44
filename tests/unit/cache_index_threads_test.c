// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Readers that pin and unpin without the lock while a writer adds, removes, replaces, moves, grows and shrinks under
 * it. Each entry's value repeats the number that is its key, and a chunk is overwritten as soon as nobody may read
 * it any more. */
#include <pthread.h>

#include "cache_index_fixture.h"

#define READERS 3u
#define STAYING 2000u /* numbers below are always there */
#define NUMBERS 12000u
#define PINS    24u /* that a reader keeps */

static index_fixture f;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t chunk_of[NUMBERS]; /* under the lock, as all below */
static bool held[NUMBERS];
static uint32_t zombies;
static NM_ATOMIC(bool) ended;

typedef struct reader {
    uint64_t seed, hits, misses, unsure, elsewhere, held_ends;
    unsigned pin_count;
    struct {
        nm__place_of place;
        uint64_t number;
    } pins[PINS];
} reader;

static const nm__entry *chunk(uint32_t offset) { return nm__heap_at(&f.heap, offset); }

static uint64_t number_in(uint32_t offset) {
    number_key key;
    memcpy(&key, nm__entry_key(chunk(offset)), sizeof key);
    assert_true(key.word[0] == ~key.word[1]);
    return key.word[0];
}

static void check_value(uint32_t offset, uint64_t number) {
    uint64_t value[NUMBER_VALUE_BYTES / 8];
    assert_int_equal(nm__entry_value_len(chunk(offset)), sizeof value);
    memcpy(value, nm__entry_value(chunk(offset)), sizeof value);
    for (size_t i = 0; i < NUMBER_VALUE_BYTES / 8; i++) assert_true(value[i] == number);
    assert_true(number_in(offset) == number);
}

/* ---- under the lock ---------------------------------------------------------------------------------------------- */

/* It left the index with so many pins: the last of them frees it. */
static void leave(uint32_t offset, uint32_t pins) {
    if (pins == 0) {
        fixture_give(&f, offset);
        return;
    }
    nm__entry *e = nm__heap_at(&f.heap, offset);
    e->node.next = pins;
    nm__node_set_state(&e->node, nm__node_state(&e->node) | NM__ENTRY_OFF);
    zombies++;
}

static void unpin_locked(reader *r, uint32_t offset) {
    nm__entry *e = nm__heap_at(&f.heap, offset);
    nm__place_of place;
    r->elsewhere++;
    if (nm__node_state(&e->node) & NM__ENTRY_OFF) {
        if (--e->node.next != 0) return;
        zombies--;
        fixture_give(&f, offset);
        return;
    }
    uint64_t number = number_in(offset);
    assert_true(nm__index_locate(&f.index, fixture_hash_number(&f, number), offset, &place));
    if (!nm__index_unpin_locked(&f.index, place)) return;
    assert_true(held[number]);
    held[number] = false;
    r->held_ends++;
}

static void unpin(reader *r, nm__place_of place) {
    if (nm__index_unpin(&f.index, place)) return;
    pthread_mutex_lock(&lock);
    unpin_locked(r, place.offset);
    pthread_mutex_unlock(&lock);
}

static bool pin_with_lock(uint64_t number, nm__place_of *place) {
    number_key key = number_key_of(number);
    pthread_mutex_lock(&lock);
    bool found = nm__index_find(&f.index, fixture_hash_number(&f, number), &key, sizeof key, place) &&
                 nm__index_pin_locked(&f.index, *place);
    pthread_mutex_unlock(&lock);
    return found;
}

/* ---- readers ----------------------------------------------------------------------------------------------------- */

static void look(reader *r) {
    uint64_t number = test_below(&r->seed, test_below(&r->seed, 2) != 0 ? STAYING : NUMBERS);
    number_key key = number_key_of(number);
    nm__place_of place;
    nm__find find = nm__index_pin(&f.index, fixture_hash_number(&f, number), &key, sizeof key, &place);
    bool found = find == NM__FIND_HIT;
    if (find == NM__FIND_UNSURE) {
        r->unsure++;
        if (place.offset != 0) unpin(r, place);
        found = pin_with_lock(number, &place);
    }
    if (!found) {
        if (number < STAYING) print_error("number %" PRIu64 " is missed\n", number);
        assert_true(number >= STAYING);
        r->misses++;
        return;
    }
    check_value(place.offset, number);
    r->hits++;
    r->pins[r->pin_count].place = place;
    r->pins[r->pin_count++].number = number;
}

static void *read_on(void *argument) {
    reader *r = argument;
    while (!nm_atomic_load(&ended, NM_ACQUIRE) || r->pin_count != 0) {
        bool done = nm_atomic_load(&ended, NM_ACQUIRE);
        if (!done && r->pin_count < PINS && test_below(&r->seed, 8) >= r->pin_count / 4) {
            look(r);
        } else if (r->pin_count != 0) {
            size_t i = test_below(&r->seed, r->pin_count);
            check_value(r->pins[i].place.offset, r->pins[i].number);
            unpin(r, r->pins[i].place);
            r->pins[i] = r->pins[--r->pin_count];
        }
    }
    return NULL;
}

/* ---- the writer -------------------------------------------------------------------------------------------------- */

static void change(uint64_t *seed, bool fill) {
    uint32_t number = (uint32_t)test_below(seed, NUMBERS), at = chunk_of[number];
    uint64_t hash = fixture_hash_number(&f, number);
    nm__place_of place;
    if (at == 0) {
        if (!fill && test_below(seed, 4) != 0) return;
        at = fixture_take(&f);
        fixture_write_number(&f, at, number);
        assert_ok(nm__index_add(&f.index, hash, at));
        chunk_of[number] = at;
        return;
    }
    assert_true(nm__index_locate(&f.index, hash, at, &place));
    if (number >= STAYING && (!fill || test_below(seed, 4) == 0)) {
        leave(at, nm__index_remove(&f.index, place));
        chunk_of[number] = 0;
        held[number] = false;
        return;
    }
    uint32_t to = fixture_take(&f);
    switch (test_below(seed, 4)) {
    case 0:
        fixture_write_number(&f, to, number);
        leave(at, nm__index_replace(&f.index, place, to));
        chunk_of[number] = to;
        held[number] = false;
        return;
    case 1:
        if (!nm__index_seize(&f.index, place)) break;
        fixture_write_number(&f, to, number);
        nm__index_settle(&f.index, place, to);
        fixture_give(&f, at);
        chunk_of[number] = to;
        return;
    case 2:
        if (!nm__index_seize(&f.index, place)) break;
        memset(nm__entry_value(nm__heap_at(&f.heap, at)), 0xee, NUMBER_VALUE_BYTES);
        fixture_write_number(&f, at, number);
        nm__index_settle(&f.index, place, at);
        break;
    default: held[number] |= nm__index_hold(&f.index, place);
    }
    fixture_give(&f, to);
}

static void readers_find_what_is_there_and_nothing_else(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    fixture_open(&f);
    static reader readers[READERS];
    pthread_t threads[READERS];
    for (uint32_t i = 0; i < STAYING; i++) {
        chunk_of[i] = fixture_take(&f);
        fixture_write_number(&f, chunk_of[i], i);
        assert_ok(nm__index_add(&f.index, fixture_hash_number(&f, i), chunk_of[i]));
        for (unsigned k = 0; k < 2; k++) assert_ok(nm__index_step(&f.index));
    }
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].seed = test_random(&seed);
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    unsigned steps = TEST_SLOW ? 60000 : 600000, changes = 0;
    uint32_t count = f.index.count;
    for (unsigned step = 0; step < steps; step++) {
        pthread_mutex_lock(&lock);
        change(&seed, step / 30000 % 2 == 0);
        assert_ok(nm__index_step(&f.index));
        changes += count != f.index.count;
        count = f.index.count;
        pthread_mutex_unlock(&lock);
    }
    nm_atomic_store(&ended, true, NM_RELEASE);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        print_message("hits %" PRIu64 ", misses %" PRIu64 ", unsure %" PRIu64 ", unpins by lock %" PRIu64
                      ", of held ones %" PRIu64 "\n",
                      readers[i].hits, readers[i].misses, readers[i].unsure, readers[i].elsewhere,
                      readers[i].held_ends);
    }
    print_message("sizes of the table: %u\n", changes);
    assert_true(changes > 2);
    assert_int_equal(zombies, 0);
    uint32_t present = 0;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        nm__place_of place;
        if (chunk_of[i] == 0) continue;
        present++;
        assert_true(nm__index_locate(&f.index, fixture_hash_number(&f, i), chunk_of[i], &place));
        assert_int_equal(nm__index_pins(&f.index, place), 0);
        assert_false(held[i]);
    }
    assert_int_equal(present, f.index.entry_count);
    assert_int_equal(f.free_count + present, CHUNKS);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_find_what_is_there_and_nothing_else)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
