// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The index under its lock: words come, go and change; the table grows and shrinks.
 *
 * Who holds the lock is the only one to fill an empty word, and the only one to change anything but the pins of a
 * full one; so what was loaded of a word stays true, its pins apart, and all loads here are relaxed. */
#include "cache/index.h"

/* Of the stash, for the entries of a bucket that is moved: so moving never fails. */
#define STASH_KEPT NM__BUCKET_WORDS
/* Percent of the words that may be in use before the table grows; below which it shrinks, and what is aimed at then. */
#define FULL_PERCENT  82
#define EMPTY_PERCENT 45
#define GOOD_PERCENT  72
/* A stash that fills while much is free is the fault of the hash, which a larger table does not mend. */
#define STASH_PERCENT 60
/* A growth by a quarter begins every 1.6 puts a bucket: one bucket a put would do. */
#define STEP_BUCKETS 4u
#define STEP_STASH   4u
/* Entries of a full bucket that are fetched at once: the second or third of them can mostly move. */
#define FETCH_AHEAD 3u
#define NOWHERE     UINT32_MAX

static uint64_t load(const nm__index *index, uint32_t position) {
    return nm_atomic_load(&index->words[position], NM_RELAXED);
}
static uint32_t count_of(const nm__index *index) { return nm_atomic_load(&index->count, NM_RELAXED); }
static uint32_t next_of(const nm__index *index) { return nm_atomic_load(&index->next_count, NM_RELAXED); }
static uint32_t cursor_of(const nm__index *index) { return nm_atomic_load(&index->cursor, NM_RELAXED); }
static bool is_moving(const nm__index *index) { return count_of(index) != next_of(index); }
static bool is_growing(const nm__index *index) { return next_of(index) > count_of(index); }
static uint32_t position_of(uint32_t bucket) { return NM__STASH_WORDS + bucket * NM__BUCKET_WORDS; }
static bool in_stash(uint32_t position) { return position < NM__STASH_WORDS; }
static uint64_t hash_at(const nm__index *index, uint32_t position) {
    return index->hash_of(index->context, (uint32_t)load(index, position));
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static void stash_took(nm__index *index, uint32_t position) {
    index->stash_count++;
    index->rest_below = 0;
    /* release: behind the word itself. Who saw the old value can have missed it only while it was on its way, or not
     * there. */
    if (position >= nm_atomic_load(&index->stash_end, NM_RELAXED))
        nm_atomic_store(&index->stash_end, position + 1, NM_RELEASE);
}

static void stash_gave(nm__index *index) {
    index->stash_count--;
    uint32_t end = nm_atomic_load(&index->stash_end, NM_RELAXED);
    while (end != 0 && load(index, end - 1) == 0) end--;
    nm_atomic_store(&index->stash_end, end, NM_RELEASE); /* release: as in stash_took */
}

/* Fills an empty word. */
static void put(nm__index *index, uint32_t position, uint64_t word) {
    /* release: pairs with the acquire in nm__word_pin; who pins it sees the chunk complete */
    nm_atomic_store(&index->words[position], word, NM_RELEASE);
    if (in_stash(position)) stash_took(index, position);
}

/* Empties a word; what it was, with the pins of the last instant. */
static uint64_t take(nm__index *index, uint32_t position) {
    /* acquire: pairs with the releases of pins; without pins, all reading of the chunk has ended. release: pairs
     * with the loads of words; who finds this one empty sees that the sequence is odd, if it is. */
    uint64_t word = NM__FAULT(index_take_by_store) ? load(index, position) : UINT64_MAX;
    if (NM__FAULT(index_take_by_store))
        nm_atomic_store(&index->words[position], (uint64_t)0, NM_RELEASE);
    else
        word = nm_atomic_exchange(&index->words[position], (uint64_t)0, NM_ACQ_REL);
    if (in_stash(position)) stash_gave(index);
    return word;
}

/* Words are under way from here on. relaxed: what moves one releases. */
static void open_sequence(nm__index *index) {
    if (NM__FAULT(index_move_unannounced)) return;
    nm_atomic_store(&index->sequence, nm_atomic_load(&index->sequence, NM_RELAXED) + 1, NM_RELAXED);
}
/* release: pairs with the acquires in nm__index_pin_first and _second; who sees this sees where the words went */
static void close_sequence(nm__index *index) {
    if (NM__FAULT(index_move_unannounced)) return;
    nm_atomic_store(&index->sequence, nm_atomic_load(&index->sequence, NM_RELAXED) + 1, NM_RELEASE);
}

/* Moves a word with its pins, the sequence being odd. Who unpins it meanwhile finds it gone, and waits for the lock. */
static void carry(nm__index *index, uint32_t from, uint32_t to) {
    if (NM__FAULT(index_move_by_store)) put(index, to, load(index, from));
    uint64_t word = take(index, from);
    if (!NM__FAULT(index_move_by_store)) put(index, to, word);
}

/* The same, to an earlier place in the order of walks: one that is under way may have passed there. */
static void carry_back(nm__index *index, uint32_t from, uint32_t to, uint64_t hash) {
    put(index, to, take(index, from) | NM__WORD_BACK);
    index->back_hashes[index->back_count++ % NM__INDEX_BACK] = hash;
}

/* ---- where there is room ----------------------------------------------------------------------------------------- */

/* A free word of the bucket at that line. */
static uint32_t free_in(const nm__index *index, uint32_t line) {
    unsigned empty = nm__bucket_naming(&index->words[line], 0);
    return empty != 0 ? line + (unsigned)__builtin_ctz(empty) : NOWHERE;
}

/* The lowest, so that readers look at few. */
static uint32_t free_in_stash(const nm__index *index, uint32_t kept) {
    if (index->stash_count + kept >= NM__STASH_WORDS) return NOWHERE;
    for (uint32_t at = 0; at < NM__STASH_WORDS; at++)
        if (load(index, at) == 0) return at;
    return NOWHERE;
}

typedef struct spot {
    uint32_t point, line;
} spot;

static spot spot_of(const nm__index *index, uint32_t point) { return (spot){point, nm__index_line(index, point)}; }

/* By which of its points an entry is at that line, and where it could be as well. */
static void spots_of(const nm__index *index, uint64_t hash, uint32_t line, spot *own, spot *other) {
    spot first = spot_of(index, nm__hash_first(hash)), second = spot_of(index, nm__hash_second(hash));
    bool by_first = first.line == line;
    *own = by_first ? first : second;
    *other = by_first ? second : first;
}

/* Always inline, these two: as nm__index_prefetch. */
static inline __attribute__((__always_inline__)) void prefetch_entry(const nm__index *index, uint32_t position) {
    const unsigned char *chunk = (const unsigned char *)nm__index_chunk(index, (uint32_t)load(index, position));
    __builtin_prefetch(chunk);
    __builtin_prefetch(chunk + 64);
    __builtin_prefetch(chunk + 128);
}

static inline __attribute__((__always_inline__)) void prefetch_line(const nm__index *index, uint32_t line) {
    for (uint32_t at = line; at < line + NM__BUCKET_WORDS; at++)
        if (load(index, at) != 0) prefetch_entry(index, at);
}

/* Which moves make room: those towards later buckets are met by walks in any case. */
typedef enum push_mode { PUSH_ON, PUSH_ANYWHERE } push_mode;
typedef struct push_move {
    uint32_t from, to; /* NOWHERE: there is none */
    bool back;
    uint64_t hash;
} push_move;

/* How a full bucket gets room: one of its entries goes to that one's other bucket, if that is not full too. */
static push_move find_push(const nm__index *index, uint32_t line, push_mode mode) {
    for (uint32_t at = line; at < line + FETCH_AHEAD; at++) prefetch_entry(index, at);
    for (uint32_t at = line; at < line + NM__BUCKET_WORDS; at++) {
        spot own, other;
        if (at + FETCH_AHEAD < line + NM__BUCKET_WORDS) prefetch_entry(index, at + FETCH_AHEAD);
        uint64_t hash = hash_at(index, at);
        spots_of(index, hash, line, &own, &other);
        bool back = other.point < own.point;
        if (other.line == line || (back && mode == PUSH_ON)) continue;
        uint32_t to = free_in(index, other.line);
        if (to != NOWHERE) return (push_move){at, to, back, hash};
    }
    return (push_move){.from = NOWHERE};
}

/* Of the full bucket itself or, if there is one, of another; the sequence is even. */
static push_move find_push_of(const nm__index *index, uint32_t line, uint32_t other) {
    push_move push = find_push(index, line, PUSH_ON);
    if (push.from == NOWHERE && other != line) push = find_push(index, other, PUSH_ON);
    if (push.from == NOWHERE) push = find_push(index, line, PUSH_ANYWHERE);
    if (push.from == NOWHERE && other != line) push = find_push(index, other, PUSH_ANYWHERE);
    return push;
}

static uint32_t push_on(nm__index *index, push_move push) {
    if (push.from == NOWHERE) return NOWHERE;
    if (push.back)
        carry_back(index, push.from, push.to, push.hash);
    else
        carry(index, push.from, push.to);
    return push.from;
}

/* ---- without the lock ---- */

static nm__find bucket_pin(nm__index *index, uint32_t line, uint64_t tag, const void *key, size_t key_len,
                           nm__place_of *out) {
    nm__seen seen;
    for (unsigned match = nm__bucket_match(&index->words[line], tag); match != 0; match &= match - 1) {
        nm__find find = nm__word_pin(index, line + (unsigned)__builtin_ctz(match), key, key_len, out, &seen);
        if (NM_LIKELY(find != NM__FIND_MISS)) return find;
    }
    return NM__FIND_MISS;
}

nm__find nm__index_pin_second(nm__index *index, uint64_t hash, const void *key, size_t key_len, nm__place_of *out) {
    uint64_t tag = hash << NM__WORD_TAG_SHIFT;
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        /* acquire: as in nm__index_pin_first */
        uint32_t sequence = nm_atomic_load(&index->sequence, NM_ACQUIRE), lines[2];
        nm__index_lines(index, hash, lines);
        nm__find find = NM__FIND_MISS;
        for (unsigned i = 0; i < 2 && find == NM__FIND_MISS; i++)
            find = bucket_pin(index, lines[i], tag, key, key_len, out);
        /* acquire: as the loads of words */
        uint32_t end = find == NM__FIND_MISS ? nm_atomic_load(&index->stash_end, NM_ACQUIRE) : 0;
        for (uint32_t line = 0; line < end && find == NM__FIND_MISS; line += NM__BUCKET_WORDS)
            find = bucket_pin(index, line, tag, key, key_len, out);
        if (find != NM__FIND_MISS) return find;
        /* relaxed: behind acquires. As in nm__index_pin_first. */
        if (NM_LIKELY((sequence & 1) == 0 && nm_atomic_load(&index->sequence, NM_RELAXED) == sequence))
            return NM__FIND_MISS;
        if (NM__FAULT(index_miss_unproved)) return NM__FIND_MISS;
    }
    out->offset = 0;
    return NM__FIND_UNSURE;
}

bool nm__key_equal_rest(const unsigned char *a, const unsigned char *b, size_t n) {
    uint64_t x, y;
    if (n > 64) return memcmp(a, b, n) == 0;
    if (n >= 8) { /* without memcmp's call for keys as they are usual */
        for (size_t i = 0; i + 8 < n; i += 8) {
            memcpy(&x, a + i, 8);
            memcpy(&y, b + i, 8);
            if (x != y) return false;
        }
        memcpy(&x, a + n - 8, 8);
        memcpy(&y, b + n - 8, 8);
        return x == y;
    }
    if (n >= 4) {
        uint32_t first[2], last[2];
        memcpy(&first[0], a, 4);
        memcpy(&first[1], b, 4);
        memcpy(&last[0], a + n - 4, 4);
        memcpy(&last[1], b + n - 4, 4);
        return ((first[0] ^ first[1]) | (last[0] ^ last[1])) == 0;
    }
    return ((a[0] ^ b[0]) | (a[n / 2] ^ b[n / 2]) | (a[n - 1] ^ b[n - 1])) == 0;
}

/* ---- one entry --------------------------------------------------------------------------------------------------- */

/* Where a word of that hash can be: two buckets and the stash. Line by line, until it returns false. */
typedef struct lookup {
    uint32_t line[3], end[3];
} lookup;

static lookup look_for(const nm__index *index, uint64_t hash) {
    uint32_t first = nm__index_line(index, nm__hash_first(hash));
    uint32_t second = nm__index_line(index, nm__hash_second(hash));
    __builtin_prefetch(&index->words[second]);
    return (lookup){
        {first, second, 0},
        {first + NM__BUCKET_WORDS, second + NM__BUCKET_WORDS, nm_atomic_load(&index->stash_end, NM_RELAXED)}};
}

static bool find_among(const nm__index *index, unsigned match, uint32_t line, const void *key, size_t key_len,
                       nm__place_of *out) {
    for (; match != 0; match &= match - 1) {
        uint32_t at = line + (unsigned)__builtin_ctz(match), offset = (uint32_t)load(index, at);
        if (offset == 0 || !nm__entry_has_key(nm__index_chunk(index, offset), key, key_len)) continue;
        *out = (nm__place_of){at, offset};
        return true;
    }
    return false;
}

/* The stash, in front of the buckets. */
static __attribute__((__noinline__)) bool find_in_stash(const nm__index *index, uint32_t end, uint64_t tag,
                                                        const void *key, size_t key_len, nm__place_of *out) {
    for (uint32_t line = 0; line < end; line += NM__BUCKET_WORDS)
        if (find_among(index, nm__bucket_match(&index->words[line], tag), line, key, key_len, out)) return true;
    return false;
}

bool nm__index_find(const nm__index *index, uint64_t hash, const void *key, size_t key_len, nm__place_of *out) {
    uint64_t tag = hash << NM__WORD_TAG_SHIFT;
    uint32_t lines[2], end = nm_atomic_load(&index->stash_end, NM_RELAXED);
    nm__index_lines(index, hash, lines);
    *out = (nm__place_of){0};
    unsigned first = nm__bucket_match(&index->words[lines[0]], tag);
    unsigned second = nm__bucket_match(&index->words[lines[1]], tag);
    if (NM_LIKELY((first | second | end) == 0)) return false;
    return find_among(index, first, lines[0], key, key_len, out) ||
           find_among(index, second, lines[1], key, key_len, out) ||
           (end != 0 && find_in_stash(index, end, tag, key, key_len, out));
}

bool nm__index_locate(const nm__index *index, uint64_t hash, uint32_t offset, nm__place_of *out) {
    uint32_t lines[2], end;
    nm__index_lines(index, hash, lines);
    unsigned set = nm__bucket_naming(&index->words[lines[0]], offset);
    unsigned second = nm__bucket_naming(&index->words[lines[1]], offset);
    uint32_t line = set != 0 ? lines[0] : lines[1];
    set = set != 0 ? set : second;
    if (NM_UNLIKELY(set == 0)) {
        end = nm_atomic_load(&index->stash_end, NM_RELAXED);
        for (line = 0; line < end; line += NM__BUCKET_WORDS)
            if ((set = nm__bucket_naming(&index->words[line], offset)) != 0) break;
    }
    *out = set != 0 ? (nm__place_of){line + (unsigned)__builtin_ctz(set), offset} : (nm__place_of){0};
    return set != 0;
}

/* Has the second of two sets of 8 more members than the first? Counted side by side: not every machine has an instruction. */
static bool is_larger(unsigned second, unsigned first) {
    unsigned pair = second << 8 | first;
    pair -= pair >> 1 & 0x5555;
    pair = (pair & 0x3333) + (pair >> 2 & 0x3333);
    pair = (pair + (pair >> 4)) & 0x0f0f;
    return pair >> 8 > (pair & 0xff);
}

/* The emptier of the two: so hardly ever both are full, and room has to be made for one in thousands. */
static uint32_t room_for(nm__index *index, uint64_t hash) {
    uint32_t lines[2];
    nm__index_lines(index, hash, lines);
    uint32_t first = lines[0], second = lines[1];
    unsigned empty = nm__bucket_naming(&index->words[first], 0);
    unsigned empty_second = nm__bucket_naming(&index->words[second], 0);
    bool by_second = is_larger(empty_second, empty);
    unsigned room = by_second ? empty_second : empty;
    if (NM_LIKELY(room != 0)) return (by_second ? second : first) + (unsigned)__builtin_ctz(room);

    push_move push = find_push_of(index, first, second);
    if (push.from == NOWHERE) return free_in_stash(index, STASH_KEPT);
    open_sequence(index);
    push_on(index, push);
    close_sequence(index);
    return push.from;
}

nm_status nm__index_add(nm__index *index, uint64_t hash, uint32_t offset) {
    uint32_t at = room_for(index, hash);
    if (NM_UNLIKELY(at == NOWHERE)) return NM_ECAPACITY;
    put(index, at, hash << NM__WORD_TAG_SHIFT | offset);
    index->entry_count++;
    return NM_OK;
}

unsigned nm__index_crowd(const nm__index *index, uint64_t hash, uint32_t out[2 * NM__BUCKET_WORDS]) {
    lookup look = look_for(index, hash);
    unsigned count = 0;
    for (unsigned i = 0; i < (look.line[0] == look.line[1] ? 1u : 2u); i++)
        for (uint32_t at = look.line[i]; at < look.end[i]; at++) {
            uint32_t offset = (uint32_t)load(index, at);
            if (offset != 0) out[count++] = offset;
        }
    return count;
}

static uint32_t pins_of(uint64_t word) { return (uint32_t)((word & NM__WORD_PINS) / NM__WORD_PIN); }

uint32_t nm__index_replace(nm__index *index, nm__place_of place, uint32_t offset) {
    uint64_t old = load(index, place.position);
    uint64_t word = (old & (~(uint64_t)0 << NM__WORD_TAG_SHIFT | NM__WORD_BACK)) | offset;
    if (NM__FAULT(index_replace_by_store)) {
        nm_atomic_store(&index->words[place.position], word, NM_RELEASE);
        return pins_of(old);
    }
    /* release: pairs with the acquire in nm__word_pin; the new chunk is complete. acquire: pairs with the releases
     * of pins, as in take. */
    return pins_of(nm_atomic_exchange(&index->words[place.position], word, NM_ACQ_REL));
}

/* The word is out. */
static void removed(nm__index *index, uint64_t word) {
    index->entry_count--;
    if (NM_LIKELY(!(word & NM__WORD_BACK))) return;
    /* In what a walk was shown, others are in another place now. */
    open_sequence(index);
    close_sequence(index);
}

uint32_t nm__index_remove(nm__index *index, nm__place_of place) {
    uint64_t word = take(index, place.position);
    removed(index, word);
    return pins_of(word);
}

bool nm__index_remove_unpinned(nm__index *index, nm__place_of place) {
    uint64_t word = load(index, place.position);
    do {
        if (word & NM__WORD_PINS) return false;
        if (NM__FAULT(index_evict_by_store)) {
            nm_atomic_store(&index->words[place.position], (uint64_t)0, NM_RELEASE);
            break;
        }
        /* As take, and as seize: a failure is somebody's pin. */
    } while (!nm_atomic_cas_weak(&index->words[place.position], &word, (uint64_t)0, NM_ACQ_REL, NM_RELAXED));
    if (in_stash(place.position)) stash_gave(index);
    removed(index, word);
    return true;
}

bool nm__index_seize(nm__index *index, nm__place_of place) {
    uint64_t word = load(index, place.position);
    do {
        if (word & NM__WORD_PINS) return false;
        if (NM__FAULT(index_seize_by_store)) {
            nm_atomic_store(&index->words[place.position], word | NM__WORD_BUSY, NM_RELEASE);
            return true;
        }
        /* acquire: pairs with the release of the last pin, whose reader has ended. A failure: somebody pins it, or
         * did. */
    } while (!nm_atomic_cas_weak(&index->words[place.position], &word, word | NM__WORD_BUSY, NM_ACQUIRE, NM_RELAXED));
    return true;
}

void nm__index_settle(nm__index *index, nm__place_of place, uint32_t offset) {
    uint64_t word = load(index, place.position) & ~(NM__WORD_BUSY | UINT32_MAX);
    /* release: pairs with the acquire in nm__word_pin; the chunk is complete. A plain store: nobody pins a busy
     * word. */
    nm_atomic_store(&index->words[place.position], word | offset, NM_RELEASE);
}

bool nm__index_pin_locked(nm__index *index, nm__place_of place) {
    uint64_t word = load(index, place.position);
    do {
        if (NM_UNLIKELY((word & NM__WORD_PINS) == NM__WORD_PINS)) return false;
        /* relaxed: the lock has shown this thread the chunk already */
    } while (!nm_atomic_cas_weak(&index->words[place.position], &word, word + NM__WORD_PIN, NM_RELAXED, NM_RELAXED));
    return true;
}

bool nm__index_unpin_locked(nm__index *index, nm__place_of place) {
    uint64_t word = load(index, place.position), next;
    bool last;
    do {
        next = word - NM__WORD_PIN;
        last = (next & (NM__WORD_PINS | NM__WORD_HELD)) == NM__WORD_HELD;
        if (last) next &= ~NM__WORD_HELD;
        /* relaxed: the next who changes the chunk holds the lock too. Pins that came without it are in the word. */
    } while (!nm_atomic_cas_weak(&index->words[place.position], &word, next, NM_RELAXED, NM_RELAXED));
    return last;
}

bool nm__index_hold(nm__index *index, nm__place_of place) {
    uint64_t word = load(index, place.position);
    do {
        if ((word & NM__WORD_PINS) == 0) return false;
        if (NM__FAULT(index_hold_by_store)) {
            nm_atomic_store(&index->words[place.position], word | NM__WORD_HELD, NM_RELEASE);
            return true;
        }
        /* relaxed: it orders nothing. One operation with the look at the pins, so that their last one sees it. */
    } while (!nm_atomic_cas_weak(&index->words[place.position], &word, word | NM__WORD_HELD, NM_RELAXED, NM_RELAXED));
    return true;
}

uint32_t nm__index_pins(const nm__index *index, nm__place_of place) { return pins_of(load(index, place.position)); }

/* ---- growing and shrinking --------------------------------------------------------------------------------------- */

static uint32_t pages_of(uint32_t count) { return (count + NM__STASH_WORDS / NM__BUCKET_WORDS) / NM__PAGE_BUCKETS; }
static uint32_t buckets_of(uint32_t pages) { return pages * NM__PAGE_BUCKETS - NM__STASH_WORDS / NM__BUCKET_WORDS; }

nm_status nm__index_open(nm__index *index, void *base, size_t reserved, const nm__heap *heap, const nm__pages *pages,
                         uint64_t (*hash_of)(void *, uint32_t), void *context) {
    size_t page_bytes = NM__PAGE_BUCKETS * NM__BUCKET_BYTES;
    nm_status status = pages->commit(pages->context, base, page_bytes);
    if (status != NM_OK) return status;
    uint32_t count = buckets_of(1);
    /* Positions are 32 bits. */
    size_t page_limit = nm__min(reserved / page_bytes, UINT32_MAX / (NM__PAGE_BUCKETS * NM__BUCKET_WORDS));
    *index = (nm__index){.count = count,
                         .next_count = count,
                         .words = base,
                         .chunks = heap->base,
                         .page_count = 1,
                         .page_limit = (uint32_t)page_limit,
                         .pages = pages,
                         .hash_of = hash_of,
                         .context = context};
    return NM_OK;
}

/* Pages of the table that there should be, nothing being under way. */
static uint32_t pages_wanted(const nm__index *index) {
    uint32_t pages = pages_of(count_of(index));
    uint64_t words = (uint64_t)count_of(index) * NM__BUCKET_WORDS, percent = (uint64_t)index->entry_count * 100;
    bool crowded = index->stash_count > NM__STASH_WORDS / 2 && percent > words * STASH_PERCENT;
    /* Entries that left so that it could have its pages are no reason to do without them. */
    if (percent > words * (index->refused ? GOOD_PERCENT : FULL_PERCENT) || crowded)
        return (uint32_t)nm__min(pages + nm__max((pages + 2) / 4, 1), nm__max(index->page_limit, pages));
    if (percent >= words * EMPTY_PERCENT || pages == 1) return pages;
    uint64_t good = percent / GOOD_PERCENT + NM__STASH_WORDS + 1,
             page_words = (uint64_t)NM__PAGE_BUCKETS * NM__BUCKET_WORDS;
    return (uint32_t)nm__min(pages, (good + page_words - 1) / page_words);
}

size_t nm__index_wants(const nm__index *index) {
    if (is_moving(index)) return 0;
    uint32_t pages = pages_wanted(index);
    return pages > index->page_count ? (size_t)(pages - index->page_count) * NM__PAGE_BUCKETS * NM__BUCKET_BYTES : 0;
}

/* Where to put an entry whose bucket there is full. There is always room in the stash. */
static uint32_t room_elsewhere(nm__index *index, uint64_t hash, uint32_t line, bool *back) {
    spot own, other;
    spots_of(index, hash, line, &own, &other);
    uint32_t at = NOWHERE;
    *back = false;
    if (other.line != line) at = free_in(index, other.line);
    if (at != NOWHERE) {
        *back = other.point < own.point;
        return at;
    }
    at = push_on(index, find_push_of(index, line, line));
    return at != NOWHERE ? at : free_in_stash(index, 0);
}

/* The hashes of a bucket's entries, found before the sequence is odd. What has come since is another. */
typedef struct bucket_hashes {
    uint32_t offset[NM__BUCKET_WORDS];
    uint64_t hash[NM__BUCKET_WORDS];
} bucket_hashes;

static void hash_bucket(const nm__index *index, uint32_t bucket, bucket_hashes *out) {
    for (uint32_t i = 0, line = position_of(bucket); i < NM__BUCKET_WORDS; i++) {
        out->offset[i] = (uint32_t)load(index, line + i);
        if (out->offset[i] != 0) out->hash[i] = hash_at(index, line + i);
    }
}

/* Moves the entries of one bucket of the old count to where they are by the new one. The sequence is odd, and the
 * cursor behind it. Its own line may be one of theirs, and may get others meanwhile, making room for these: all
 * points of the new bucket there that have been moved are of this old bucket too, so those are in their place and
 * stay. */
static void move_bucket(nm__index *index, uint32_t bucket, const bucket_hashes *hashes) {
    uint32_t count = count_of(index), next = next_of(index), line = position_of(bucket);
    for (uint32_t i = 0; i < NM__BUCKET_WORDS; i++) {
        uint32_t offset = (uint32_t)load(index, line + i);
        if (offset == 0) continue;
        uint64_t hash = offset == hashes->offset[i] ? hashes->hash[i] : hash_at(index, line + i);
        uint32_t first = nm__hash_first(hash), second = nm__hash_second(hash);
        bool by_first = nm__point_bucket(first, count) == bucket;
        bool by_both = by_first && nm__point_bucket(second, count) == bucket;
        uint32_t to_line = position_of(nm__point_bucket(by_first ? first : second, next));
        /* Where it could have come by either, nobody knows by which, and so it may be by the other one that walks
         * expect it. */
        bool back = by_both && first < second;
        if (to_line == line) continue;
        uint32_t to = free_in(index, to_line);
        if (NM_UNLIKELY(to == NOWHERE)) {
            bool further;
            to = room_elsewhere(index, hash, to_line, &further);
            back |= further;
        }
        if (back)
            carry_back(index, line + i, to, hash);
        else
            carry(index, line + i, to);
    }
}

/* Entries of the stash go to their buckets where there is room by now, or can be made. */
static void empty_stash(nm__index *index) {
    for (unsigned i = 0; i < STEP_STASH && index->stash_try != 0; i++) {
        uint32_t from = --index->stash_try;
        if (load(index, from) == 0) continue;
        uint64_t hash = hash_at(index, from);
        uint32_t first = nm__index_line(index, nm__hash_first(hash));
        uint32_t to = free_in(index, first);
        if (to == NOWHERE) to = free_in(index, nm__index_line(index, nm__hash_second(hash)));
        if (to == NOWHERE) to = push_on(index, find_push_of(index, first, first));
        if (to != NOWHERE) carry_back(index, from, to, hash);
    }
}

/* The bucket that is moved next. */
static uint32_t bucket_due(const nm__index *index) {
    return is_growing(index) ? cursor_of(index) - 1 : cursor_of(index);
}
static uint32_t buckets_left(const nm__index *index) {
    if (!is_moving(index)) return 0;
    return is_growing(index) ? cursor_of(index) : count_of(index) - cursor_of(index);
}

static void set_cursor(nm__index *index, uint32_t cursor) {
    nm_atomic_store(&index->cursor, cursor,
                    NM_RELEASE); /* release, here and for the counts: pairs with nm__index_line */
}

static void begin(nm__index *index, uint32_t next) {
    open_sequence(index);
    set_cursor(index, next > count_of(index) ? count_of(index) : 0);
    nm_atomic_store(&index->next_count, next, NM_RELEASE);
    close_sequence(index);
}

static void give_pages(nm__index *index) {
    uint32_t pages = pages_of(count_of(index));
    if (pages >= index->page_count) return;
    unsigned char *from = (unsigned char *)index->words + (size_t)pages * NM__PAGE_BUCKETS * NM__BUCKET_BYTES;
    size_t bytes = (size_t)(index->page_count - pages) * NM__PAGE_BUCKETS * NM__BUCKET_BYTES;
    /* Refused: they are kept, all zero, for the next growth. */
    if (index->pages->decommit(index->pages->context, from, bytes)) index->page_count = pages;
}

/* Nothing is to be done until it has so many entries more or less, or a word of the stash. */
static void rest(nm__index *index) {
    uint64_t words = (uint64_t)count_of(index) * NM__BUCKET_WORDS;
    if (index->stash_count != 0 || index->refused) return;
    index->rest_below = (uint32_t)(words * FULL_PERCENT / 100);
    index->rest_from = pages_of(count_of(index)) == 1 ? 0 : (uint32_t)(words * EMPTY_PERCENT / 100) + 1;
}

static nm_status start(nm__index *index) {
    uint32_t pages = pages_wanted(index);
    if (NM_LIKELY(pages == pages_of(count_of(index)))) {
        rest(index);
        return NM_OK;
    }
    size_t bytes = nm__index_wants(index);
    if (bytes != 0) {
        void *from = (unsigned char *)index->words + nm__index_bytes(index);
        nm_status status = index->pages->commit(index->pages->context, from, bytes);
        index->refused = status != NM_OK;
        if (status != NM_OK) return status;
        index->page_count = pages;
    }
    begin(index, buckets_of(pages));
    return NM_OK;
}

/* Four buckets and a few words of the stash. */
static void go_on(nm__index *index) {
    bucket_hashes hashes[STEP_BUCKETS];
    uint32_t steps = (uint32_t)nm__min(STEP_BUCKETS, buckets_left(index)), due = bucket_due(index);
    bool growing = is_growing(index);
    for (uint32_t i = 0; i < steps; i++) prefetch_line(index, position_of(growing ? due - i : due + i));
    for (uint32_t i = 0; i < steps; i++) hash_bucket(index, growing ? due - i : due + i, &hashes[i]);
    open_sequence(index);
    for (uint32_t i = 0; i < steps && index->stash_count + STASH_KEPT <= NM__STASH_WORDS; i++) {
        uint32_t bucket = bucket_due(index);
        set_cursor(index, growing ? bucket : bucket + 1);
        move_bucket(index, bucket, &hashes[i]);
    }
    empty_stash(index);
    if (buckets_left(index) == 0 && is_moving(index)) {
        nm_atomic_store(&index->count, next_of(index), NM_RELEASE);
        index->stash_try = nm_atomic_load(&index->stash_end, NM_RELAXED);
    }
    close_sequence(index);
}

nm_status nm__index_step_on(nm__index *index) {
    index->rest_below = 0;
    if (!is_moving(index)) {
        nm_status status = start(index);
        if (status != NM_OK) return status;
    }
    if (NM_LIKELY(!is_moving(index) && index->stash_try == 0)) return NM_OK;
    if (index->stash_count + STASH_KEPT > NM__STASH_WORDS) index->stash_try = NM__STASH_WORDS;
    bool shrinking = is_moving(index) && !is_growing(index);
    go_on(index);
    if (shrinking && !is_moving(index)) give_pages(index);
    return NM_OK;
}

/* ---- walks ------------------------------------------------------------------------------------------------------- */

/* A walk's position: 33 bits of a point, 2^32 being the stash; two marks; how many had gone back when it was here.
 *
 * An entry stays at a point, in the order of which it is met, unless it goes to its other one or to the stash.
 * Towards the end, that is no matter. Those that went back since the last call are shown with the next bucket. If
 * they were too many, the walk goes through all once more at its end, and shows what ever went back. */
#define WALK_STASH      ((uint64_t)1 << 32)
#define WALK_AGAIN      ((uint64_t)1 << 33)
#define WALK_LOST       ((uint64_t)1 << 34)
#define WALK_BACK_SHIFT 35
#define WALK_BACK_MASK  (((uint32_t)1 << 29) - 1)

/* The first point of a bucket among so many. */
static uint64_t first_point(uint64_t bucket, uint32_t count) { return ((bucket << 32) + count - 1) / count; }

/* The line of a point, and the first point that is elsewhere. */
static uint32_t line_at(const nm__index *index, uint32_t point, uint64_t *end) {
    uint32_t count = count_of(index), next = next_of(index), cursor = cursor_of(index);
    uint32_t bucket = nm__point_bucket(point, count);
    *end = first_point((uint64_t)bucket + 1, count);
    if (count != next && (is_growing(index) ? bucket >= cursor : bucket < cursor)) {
        bucket = nm__point_bucket(point, next);
        *end = first_point((uint64_t)bucket + 1, next);
        /* What else will belong there has not come yet. */
        if (!is_growing(index)) *end = nm__min(*end, first_point(cursor, count));
    }
    return position_of(bucket);
}

/* Adds the chunks that went back, the last `fresh` of them, and some that look like them. False: there is no room. */
static bool add_back(const nm__index *index, uint32_t fresh, uint32_t *out, unsigned *count) {
    for (; fresh != 0; fresh--) {
        uint64_t hash = index->back_hashes[(index->back_count - fresh) % NM__INDEX_BACK];
        lookup look = look_for(index, hash);
        for (unsigned i = 0; i < 3; i++)
            for (uint32_t at = look.line[i]; at < look.end[i]; at++) {
                uint64_t word = load(index, at);
                if (!(word & NM__WORD_BACK) || (word ^ hash << NM__WORD_TAG_SHIFT) >> NM__WORD_TAG_SHIFT != 0) continue;
                if (*count == NM__WALK_WORDS) return false;
                out[(*count)++] = (uint32_t)word;
            }
    }
    return true;
}

bool nm__index_walk(const nm__index *index, uint64_t *position, uint32_t *out, unsigned *count) {
    uint64_t point = *position & (WALK_AGAIN - 1), marks = *position & (WALK_AGAIN | WALK_LOST);
    uint32_t now = index->back_count & WALK_BACK_MASK;
    uint32_t fresh = *position == 0 ? 0 : (now - (uint32_t)(*position >> WALK_BACK_SHIFT)) & WALK_BACK_MASK;
    bool in_buckets = point < WALK_STASH;
    uint32_t line = in_buckets ? line_at(index, (uint32_t)point, &point) : 0;
    unsigned words = in_buckets ? NM__BUCKET_WORDS : NM__STASH_WORDS;
    for (*count = 0; *count < words; (*count)++) {
        uint64_t word = load(index, line + *count);
        out[*count] = !(marks & WALK_AGAIN) || (word & NM__WORD_BACK) ? (uint32_t)word : 0;
    }
    if (fresh > NM__INDEX_BACK || !add_back(index, fresh, out, count)) marks |= WALK_LOST;
    if (in_buckets) {
        *position = (uint64_t)now << WALK_BACK_SHIFT | marks | point;
        return true;
    }
    *position = (uint64_t)now << WALK_BACK_SHIFT | WALK_AGAIN;
    return (marks & WALK_LOST) != 0;
}

bool nm__index_next_pinned(const nm__index *index, nm__place_of *place) {
    uint32_t end = position_of((uint32_t)nm__max(count_of(index), next_of(index)));
    for (uint32_t at = place->offset != 0 ? place->position + 1 : 0; at < end; at++) {
        uint64_t word = load(index, at);
        if (NM_LIKELY((word & NM__WORD_PINS) == 0)) continue;
        *place = (nm__place_of){at, (uint32_t)word};
        return true;
    }
    *place = (nm__place_of){0};
    return false;
}
