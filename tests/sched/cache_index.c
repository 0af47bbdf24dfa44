// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The cache's index, in every order of its threads' steps that the bounds allow: readers without a lock beside those
 * who have it.
 *
 * A scenario is a script for each thread, run after a prologue that one thread after the other runs undisturbed. A
 * word of a script is an operation and the key that it is about, a digit or a small letter:
 *   G1   gets and pins              A1    adds; nothing if it is there
 *   U1   unpins, if it was pinned   D1    removes, if it is there, whoever pins it
 *   H1   marks it held              E1    removes it if nobody pins it
 *   S    a step of the table        R1    replaces
 *   M1   moves it to another chunk  O1    writes over it in its chunk; both if nobody pins it
 * and for prologues:
 *   B    makes the index believe that it has 400 entries more, W: that it has not
 *   F    steps until the table is as large as it has to be, N: until one more step is needed */
#include <stdio.h>
#include <string.h>

#include "cache/index.h"
#include "driver.h"
#include "os/os.h"

#define KEYS        32u
#define CHUNKS      40u
#define CHUNK_UNITS ((uint32_t)5)
#define BIAS        400u
#define RANGE_BYTES ((size_t)8 * NM__PAGE_BYTES)
#define GARBAGE     UINT64_C(0xdddddddddddddddd)

typedef struct index_scenario {
    const char *name;
    /* In 1/256 of all points: the first and the second bucket of all keys, the second of key 1. */
    unsigned first, second, second_of_1;
    bool one_tag;
    const char *prologue[SCHED_THREADS];
    const char *script[SCHED_THREADS];
} index_scenario;

/* All that changes; brought back for each execution. */
static struct index_world {
    nm__index index;
    nm__heap heap; /* only its base */
    nm__pages pages;
    pthread_mutex_t lock;
    const index_scenario *scenario;
    uint32_t free[CHUNKS];
    unsigned free_count, zombies;
    uint32_t bias;
    struct {
        uint32_t chunk;   /* 0: it is not there. All here is changed under the lock */
        uint64_t version; /* the last that was written */
        bool held;
        /* What everybody must know: when it was last seen to be there, or gone, for good; 0: it may be neither. And
         * which version is replaced no more. */
        unsigned there, gone;
        uint64_t known_version;
    } key[KEYS];
    struct {
        nm__place_of place;
        uint64_t value;
        bool out;
    } pin[SCHED_THREADS][KEYS];
} * w;

extern const nm__os sched_os;

/* ---- entries ----------------------------------------------------------------------------------------------------- */

/* Never 0. */
static unsigned now(void) { return sched_now() + 1; }

static nm__entry *entry_at(uint32_t chunk) { return nm__heap_at(&w->heap, chunk); }
static uint64_t *value_at(uint32_t chunk) { return (uint64_t *)(void *)nm__entry_value(entry_at(chunk)); }

static uint64_t hash_of_key(uint64_t key) {
    const index_scenario *s = w->scenario;
    uint64_t second = key == 1 && s->second_of_1 != 0 ? s->second_of_1 : s->second;
    return (s->one_tag ? 7 : key) | (uint64_t)s->first << 24 | second << 48;
}

static uint64_t key_in(uint32_t chunk) {
    uint64_t key;
    memcpy(&key, nm__entry_key(entry_at(chunk)), sizeof key);
    return key;
}

static uint64_t hash_of_entry(void *context, uint32_t chunk) {
    (void)context;
    return hash_of_key(key_in(chunk));
}

/* Each access to a value is a point: between two of them another thread may write there, if it believes that it may. */
static void write_entry(uint32_t chunk, uint64_t key, uint64_t version) {
    nm__entry *e = entry_at(chunk);
    nm_atomic_store(&e->size, CHUNK_UNITS, NM_RELAXED);
    nm__node_set_state(&e->node, (uint32_t)sizeof key << NM__KEY_LEN_SHIFT | 4u << NM__SLACK_SHIFT);
    e->node.next = 0;
    memcpy(nm__entry_key(e), &key, sizeof key);
    nm_atomic_store(value_at(chunk), key << 32 | version, NM_RELAXED);
}

static uint32_t take_chunk(void) {
    SCHED_CHECK(w->free_count != 0, "script: no chunk is free");
    return w->free[--w->free_count];
}

static void free_chunk(uint32_t chunk) {
    for (unsigned t = 0; t < SCHED_THREADS; t++)
        for (unsigned k = 0; k < KEYS; k++)
            SCHED_CHECK(!w->pin[t][k].out || w->pin[t][k].place.offset != chunk,
                        "a chunk is freed that thread %u has pinned", t);
    nm_atomic_store(value_at(chunk), GARBAGE, NM_RELAXED);
    w->free[w->free_count++] = chunk;
}

/* ---- under the lock ---------------------------------------------------------------------------------------------- */

static void lock(void) { pthread_mutex_lock(&w->lock); }
static void unlock(void) { pthread_mutex_unlock(&w->lock); }

static bool find(unsigned key, nm__place_of *out) {
    uint64_t word = key;
    bool found = nm__index_find(&w->index, hash_of_key(key), &word, sizeof word, out);
    SCHED_CHECK(found == (w->key[key].chunk != 0), "key %u is %s under the lock", key, found ? "found" : "missed");
    SCHED_CHECK(!found || out->offset == w->key[key].chunk, "key %u is in another chunk", key);
    return found;
}

/* It left with so many pins. */
static void leave(uint32_t chunk, uint32_t pins) {
    if (pins == 0) {
        free_chunk(chunk);
        return;
    }
    nm__entry *e = entry_at(chunk);
    e->node.next = pins;
    nm__node_set_state(&e->node, nm__node_state(&e->node) | NM__ENTRY_OFF);
    w->zombies++;
}

static void do_add(unsigned key) {
    lock();
    if (w->key[key].chunk == 0) {
        uint32_t chunk = take_chunk();
        w->key[key].gone = 0;
        write_entry(chunk, key, ++w->key[key].version);
        nm_status status = nm__index_add(&w->index, hash_of_key(key), chunk);
        SCHED_CHECK(status == NM_OK, "key %u cannot be added", key);
        w->key[key].chunk = chunk;
        w->key[key].known_version = w->key[key].version;
        unlock();
        w->key[key].there = now();
        return;
    }
    unlock();
}

static void do_remove(unsigned key, bool if_free) {
    nm__place_of place;
    lock();
    if (find(key, &place) && (!if_free || nm__index_remove_unpinned(&w->index, place))) {
        w->key[key].there = 0;
        uint32_t pins = if_free ? 0 : nm__index_remove(&w->index, place);
        w->key[key].chunk = 0;
        w->key[key].held = false;
        leave(place.offset, pins);
        w->key[key].gone = now();
    }
    unlock();
}

static void do_replace(unsigned key) {
    nm__place_of place;
    lock();
    if (find(key, &place)) {
        uint32_t chunk = take_chunk();
        write_entry(chunk, key, ++w->key[key].version);
        w->key[key].chunk = chunk;
        w->key[key].held = false;
        leave(place.offset, nm__index_replace(&w->index, place, chunk));
        w->key[key].known_version = w->key[key].version;
    }
    unlock();
}

static void do_move(unsigned key, bool in_place) {
    nm__place_of place;
    lock();
    if (find(key, &place) && nm__index_seize(&w->index, place)) {
        if (in_place) {
            nm_atomic_store(value_at(place.offset), GARBAGE, NM_RELAXED);
            write_entry(place.offset, key, ++w->key[key].version);
            nm__index_settle(&w->index, place, place.offset);
            w->key[key].known_version = w->key[key].version;
        } else {
            uint32_t chunk = take_chunk();
            write_entry(chunk, key, w->key[key].version);
            w->key[key].chunk = chunk;
            nm__index_settle(&w->index, place, chunk);
            free_chunk(place.offset);
        }
    }
    unlock();
}

static void do_hold(unsigned key) {
    nm__place_of place;
    lock();
    if (find(key, &place) && nm__index_hold(&w->index, place)) w->key[key].held = true;
    unlock();
}

static void do_step(void) {
    lock();
    nm_status status = nm__index_step(&w->index);
    SCHED_CHECK(status == NM_OK, "a step of the table: %s", nm_status_name(status));
    unlock();
}

static uint32_t buckets_left(void) {
    uint32_t count = w->index.count, next = w->index.next_count, cursor = w->index.cursor;
    return next > count ? cursor : next < count ? count - cursor : 0;
}

static void do_steps(bool all) {
    do do_step();
    while (all ? buckets_left() != 0 : buckets_left() > 4);
}

static void set_bias(uint32_t bias) {
    w->index.entry_count += bias - w->bias;
    w->bias = bias;
}

/* ---- without ----------------------------------------------------------------------------------------------------- */

static void unpin(nm__place_of place) {
    if (nm__index_unpin(&w->index, place)) return;
    lock();
    nm__entry *e = entry_at(place.offset);
    if (nm__node_state(&e->node) & NM__ENTRY_OFF) {
        SCHED_CHECK(e->node.next != 0, "more pins go than came");
        if (--e->node.next == 0) {
            w->zombies--;
            free_chunk(place.offset);
        }
    } else {
        uint64_t key = key_in(place.offset);
        bool there = nm__index_locate(&w->index, hash_of_key(key), place.offset, &place);
        SCHED_CHECK(there, "a pinned chunk is not in the index");
        SCHED_CHECK(nm__index_pins(&w->index, place) != 0, "more pins go than came");
        if (nm__index_unpin_locked(&w->index, place)) {
            SCHED_CHECK(w->key[key].held, "key %u was not held", (unsigned)key);
            w->key[key].held = false;
        }
    }
    unlock();
}

static void do_get(unsigned key, unsigned thread) {
    unsigned began = now();
    uint64_t known = w->key[key].known_version, word = key;
    SCHED_CHECK(!w->pin[thread][key].out, "script: key %u is pinned", key);
    nm__place_of place;
    nm__find found = nm__index_pin(&w->index, hash_of_key(key), &word, sizeof word, &place);
    sched_say("get %u: %s", key, found == NM__FIND_HIT ? "hit" : found == NM__FIND_MISS ? "miss" : "unsure");
    if (found == NM__FIND_UNSURE) {
        if (place.offset != 0) unpin(place);
        lock();
        found = find(key, &place) && nm__index_pin_locked(&w->index, place) ? NM__FIND_HIT : NM__FIND_MISS;
        unlock();
    }
    if (found == NM__FIND_MISS) {
        unsigned there = w->key[key].there;
        SCHED_CHECK(there == 0 || there >= began, "key %u was there all the time, and is missed", key);
        return;
    }
    unsigned gone = w->key[key].gone;
    SCHED_CHECK(gone == 0 || gone >= began, "key %u was gone before, and is found", key);
    w->pin[thread][key].place = place;
    w->pin[thread][key].out = true;
    uint64_t value = nm_atomic_load(value_at(place.offset), NM_RELAXED);
    SCHED_CHECK(value != GARBAGE, "key %u is found in a chunk that is free", key);
    SCHED_CHECK(value >> 32 == key, "key %u is found, and is %u", key, (unsigned)(value >> 32));
    SCHED_CHECK((uint32_t)value >= known, "key %u is found as it was before", key);
    w->pin[thread][key].value = value;
}

static void do_unpin(unsigned key, unsigned thread) {
    if (!w->pin[thread][key].out) return;
    nm__place_of place = w->pin[thread][key].place;
    uint64_t value = nm_atomic_load(value_at(place.offset), NM_RELAXED);
    SCHED_CHECK(value == w->pin[thread][key].value, "key %u changed while it was pinned", key);
    w->pin[thread][key].out = false;
    unpin(place);
}

/* ---- scripts ----------------------------------------------------------------------------------------------------- */

static void do_operation(const char *word, unsigned thread) {
    unsigned key = word[1] >= 'a' ? (unsigned)(word[1] - 'a') + 10 : word[1] > '0' ? (unsigned)(word[1] - '0') : 0;
    switch (word[0]) {
    case 'G': do_get(key, thread); break;
    case 'U': do_unpin(key, thread); break;
    case 'A': do_add(key); break;
    case 'D': do_remove(key, false); break;
    case 'E': do_remove(key, true); break;
    case 'R': do_replace(key); break;
    case 'M': do_move(key, false); break;
    case 'O': do_move(key, true); break;
    case 'H': do_hold(key); break;
    case 'S': do_step(); break;
    case 'B': set_bias(BIAS); break;
    case 'W': set_bias(0); break;
    case 'F': do_steps(true); break;
    case 'N': do_steps(false); break;
    default: sched_fail("script: no operation %c", word[0]);
    }
}

static void do_script(const char *script, unsigned thread) {
    while (script != NULL && *script != '\0') {
        do_operation(script, thread);
        while (*script != '\0' && *script != ' ') script++;
        while (*script == ' ') script++;
    }
}

static void run(const void *argument, unsigned thread) {
    const index_scenario *s = argument;
    do_script(s->script[thread], thread);
}

/* ---- before and after -------------------------------------------------------------------------------------------- */

static nm_status commit(void *context, void *address, size_t bytes) {
    (void)context;
    return sched_os.commit(address, bytes) ? NM_OK : NM_ENOMEM;
}

static bool decommit(void *context, void *address, size_t bytes) {
    (void)context;
    return sched_os.decommit(address, bytes);
}

static void prepare(const void *argument) {
    const index_scenario *s = argument;
    w = sched_memory(sizeof *w);
    w->scenario = s;
    w->heap.base = sched_memory((CHUNKS * CHUNK_UNITS + 2) * NM__UNIT_BYTES);
    w->pages = (nm__pages){.commit = commit, .decommit = decommit};
    pthread_mutex_init(&w->lock, NULL);
    while (w->free_count < CHUNKS) {
        w->free[w->free_count] = 1 + w->free_count * CHUNK_UNITS;
        w->free_count++;
    }
    nm_status status = nm__index_open(&w->index, sched_os.reserve(RANGE_BYTES, NM__PAGE_BYTES), RANGE_BYTES, &w->heap,
                                      &w->pages, hash_of_entry, NULL);
    SCHED_CHECK(status == NM_OK, "the index cannot be opened");
    for (unsigned i = 0; i < SCHED_THREADS; i++) do_script(s->prologue[i], i);
}

static void check(const void *argument) {
    (void)argument;
    SCHED_CHECK(w->index.sequence % 2 == 0, "at the end words are under way");
    for (unsigned t = 0; t < SCHED_THREADS; t++)
        for (unsigned k = 0; k < KEYS; k++) do_unpin(k, t);
    unsigned present = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        nm__place_of place;
        if (!find(k, &place)) continue;
        present++;
        uint64_t word = w->index.words[place.position];
        SCHED_CHECK((word & NM__WORD_PINS) == 0, "at the end key %u has %u pins", k, nm__index_pins(&w->index, place));
        SCHED_CHECK((word & (NM__WORD_HELD | NM__WORD_BUSY)) == 0, "at the end key %u is marked", k);
        SCHED_CHECK(!w->key[k].held, "nobody has told that key %u is pinned no more", k);
    }
    SCHED_CHECK(w->zombies == 0, "at the end %u chunks wait for their last unpin", w->zombies);
    SCHED_CHECK(present + w->free_count == CHUNKS, "at the end %u chunks are used, %u are free", present,
                w->free_count);
    SCHED_CHECK(w->index.entry_count == present + w->bias, "at the end %u entries are counted, %u are there",
                w->index.entry_count - w->bias, present);
}

/* ---- table ------------------------------------------------------------------------------------------------------- */

/* Near the top: moved by the first step of a growth, and by the last of a shrinking. Near the bottom: the other way
 * round. */
#define TOP    .first = 250, .second = 252
#define BOTTOM .first = 6, .second = 7
/* Both buckets are the same, but for key 1: the ninth entry makes it move on, or goes to the stash if it cannot. */
#define CROWD .first = 100, .second = 100, .second_of_1 = 200
#define FULL  .first = 100, .second = 100
#define EIGHT "A1 A2 A3 A4 A5 A6 A7 A8"

static const index_scenario table[] = {
    /* one word that changes */
    {"add", TOP, .script = {"A1", "G1 U1 G1 U1"}},
    {"remove", TOP, .prologue = {"A1"}, .script = {"D1", "G1 U1"}},
    {"remove_pinned", TOP, .prologue = {"A1", "G1"}, .script = {"D1 A1", "U1 G1 U1"}},
    {"remove_reuse", TOP, .one_tag = true, .prologue = {"A1"}, .script = {"D1 A2", "G1 U1"}},
    {"remove_again", TOP, .prologue = {"A1"}, .script = {"D1 A1", "G1 U1"}},
    {"evict", TOP, .prologue = {"A1"}, .script = {"E1", "G1 U1"}},
    {"evict_pinned", TOP, .prologue = {"A1", "G1"}, .script = {"E1 E1", "U1 G1 U1"}},
    {"replace", TOP, .prologue = {"A1"}, .script = {"R1", "G1 U1"}},
    {"replace_pinned", TOP, .prologue = {"A1", "G1"}, .script = {"R1 R1", "U1 G1 U1"}},
    {"move", TOP, .prologue = {"A1"}, .script = {"M1", "G1 U1"}},
    {"move_pinned", TOP, .prologue = {"A1", "G1"}, .script = {"M1", "U1 G1 U1"}},
    {"move_twice", TOP, .prologue = {"A1"}, .script = {"M1 M1", "G1 U1"}},
    {"overwrite", TOP, .prologue = {"A1"}, .script = {"O1", "G1 U1"}},
    {"hold", TOP, .prologue = {"A1", "G1"}, .script = {"H1 E1", "U1"}},
    {"hold_again", TOP, .prologue = {"A1", "G1"}, .script = {"H1", "U1 G1 U1"}},
    /* another entry that looks the same */
    {"other_removed", TOP, .one_tag = true, .prologue = {"A2 A1"}, .script = {"D2", "G1 U1"}},
    {"other_held", TOP, .one_tag = true, .prologue = {"A2 A1"}, .script = {"H2 E2", "G1 U1"}},
    {"other_moved", TOP, .one_tag = true, .prologue = {"A2 A1"}, .script = {"M2", "G1 U1"}},
    {"other_grown", TOP, .one_tag = true, .prologue = {"A2 B"}, .script = {"S", "G1"}},
    /* words under way */
    {"grow", TOP, .prologue = {"A1 B"}, .script = {"S", "G1 U1"}},
    {"grow_pinned", TOP, .prologue = {"A1 B", "G1"}, .script = {"S", "U1"}},
    {"grow_remove", TOP, .prologue = {"A1 B"}, .script = {"S D1", "G1 U1"}},
    {"grow_held", TOP, .prologue = {"A1 B", "G1"}, .script = {"H1 S", "U1"}},
    {"grow_end", BOTTOM, .prologue = {"A1 B N"}, .script = {"S", "G1 U1"}},
    {"grow_two", TOP, .prologue = {"A1 A2 B"}, .script = {"S", "G1 G2 U1 U2"}},
    {"shrink", BOTTOM, .prologue = {"B F W A1"}, .script = {"S", "G1 U1"}},
    {"shrink_pinned", BOTTOM, .prologue = {"B F W A1", "G1"}, .script = {"S", "U1"}},
    {"shrink_end", TOP, .prologue = {"B F W A1 N"}, .script = {"S", "G1 U1"}},
    {"push", CROWD, .prologue = {EIGHT}, .script = {"A9", "G1 U1"}},
    {"push_pinned", CROWD, .prologue = {EIGHT, "G1"}, .script = {"A9", "U1"}},
    {"stash_add", FULL, .prologue = {EIGHT}, .script = {"A9", "G9 U9"}},
    {"stash_remove", FULL, .prologue = {EIGHT " A9"}, .script = {"D9 A9", "G9 U9"}},
    {"stash_return", FULL, .prologue = {EIGHT " A9 B F D1"}, .script = {"S S", "G9 U9"}},
    {"stash_pinned", FULL, .prologue = {EIGHT " A9 B F D1", "G9"}, .script = {"S S", "U9"}},
    /* three threads */
    {"remove_3", TOP, .prologue = {"A1"}, .script = {"D1", "G1 U1", "G1 U1"}},
    {"replace_3", TOP, .prologue = {"A1"}, .script = {"R1", "G1 U1", "G1 U1"}},
    {"move_3", TOP, .prologue = {"A1"}, .script = {"M1", "G1 U1", "G1 U1"}},
    {"hold_3", TOP, .prologue = {"A1", "G1", "G1"}, .script = {"H1 E1", "U1", "U1"}},
    {"grow_3", TOP, .prologue = {"A1 B", "G1"}, .script = {"S", "U1", "G1 U1"}},
    {"shrink_3", BOTTOM, .prologue = {"B F W A1", "G1"}, .script = {"S", "U1", "G1 U1"}},
    {"writers_3", TOP, .prologue = {"A1 B"}, .script = {"S", "R1", "G1 U1"}},
    {"other_3", TOP, .one_tag = true, .prologue = {"A2 A1", "", "G2"}, .script = {"H2", "G1 U1", "U2"}},
};
#define COUNT (sizeof table / sizeof table[0])

static const sched_fault_case fault_cases[] = {
    {SCHED_FAULT_index_miss_unproved, {"grow", "shrink", "push"}},
    {SCHED_FAULT_index_move_unannounced, {"grow", "shrink"}},
    {SCHED_FAULT_index_pin_without_key, {"remove_reuse", "other_moved"}},
    {SCHED_FAULT_index_pin_busy, {"move", "overwrite"}},
    {SCHED_FAULT_index_take_by_store, {"remove", "grow"}},
    {SCHED_FAULT_index_move_by_store, {"grow", "grow_pinned"}},
    {SCHED_FAULT_index_replace_by_store, {"replace"}},
    {SCHED_FAULT_index_seize_by_store, {"move", "overwrite"}},
    {SCHED_FAULT_index_evict_by_store, {"evict"}},
    {SCHED_FAULT_index_hold_by_store, {"hold"}},
    {SCHED_FAULT_index_unpin_blind, {"grow_pinned", "remove_pinned"}},
    {SCHED_FAULT_index_unpin_untold, {"hold", "hold_again"}},
};

int main(int argc, char **argv) {
    static sched_scenario scenarios[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        unsigned threads = 0;
        while (threads < SCHED_THREADS && table[i].script[threads] != NULL) threads++;
        scenarios[i] = (sched_scenario){
            .name = table[i].name,
            .thread_count = threads,
            .bounds = {.preemptions = threads == 2 ? 3 : 2, .stale = 2},
            .prepare = prepare,
            .run = run,
            .check = check,
            .argument = &table[i],
        };
    }
    static const sched_program program = {
        .name = "sched-cache-index",
        .scenarios = scenarios,
        .scenario_count = COUNT,
        .faults = fault_cases,
        .fault_count = sizeof fault_cases / sizeof fault_cases[0],
    };
    return sched_main(&program, argc, argv);
}
