// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A shard's index, which readers search without a lock: words of 8 bytes that name an entry and count its pins.
 *
 *   63        52 51      48 47            32 31                         0
 *   +-----------+----------+----------------+---------------------------+
 *   | tag       | marks    | pins           | where: offset of the chunk|      a word; 0: empty
 *   +-----------+----------+----------------+---------------------------+
 * A bucket is a line of eight words. An entry's word is in one of two buckets, which its hash names (power of two
 * choices: Azar, Broder, Karlin, Upfal 1994), or, where no room could be made there, in a short list in front of
 * them, the stash. Two parts of the hash are points in [0, 2^32); the bucket of a point p among n is floor(p * n /
 * 2^32), for any n, which keeps the order of points; so the table grows and shrinks in place by any factor, bucket
 * by bucket.
 *
 *   growing, n to m > n, from the top down          shrinking, n to m < n, from the bottom up
 *   points  |--- by n ---|------- by m -------|     |------- by m -------|--- by n ---|
 *   lines   [0 .. C-1]   [>= C .. m-1]              [0 .. <= C-1]        [C .. n-1]
 * C is the cursor: the buckets of n from C on have been moved, or those below C. With m > n, a point at or above C/n
 * is in a bucket >= floor(C * m / n) >= C of m, and one below it is in a bucket <= C - 1 of n. With m < n, a point
 * below C/n is in a bucket < C * m / n < C of m, so <= C - 1, and one above it in a bucket >= C of n. So no line is
 * ever used by both; and what of a bucket that is moved belongs to the line of the same number just stays there.
 *
 * A word is all that a reader needs: it pins by one compare-and-swap of the word, then compares the key in the
 * chunk, which cannot go any more. A word that was freed and given to another entry in between is no harm: the key
 * decides. A miss is proved by the sequence counter, which is odd while words are under way from one place to
 * another. Lines given back stay readable and are zero: who comes late with an old size finds nothing there.
 *
 * No lock of its own: what says "locked" is called under the shard's lock. */
#ifndef NM_SRC_CACHE_INDEX_H
#define NM_SRC_CACHE_INDEX_H

#include <string.h>

#include "base/fault.h"
#include "cache/bucket.h"
#include "cache/heap.h"

#define NM__WORD_PIN     ((uint64_t)1 << 32)
#define NM__WORD_PINS    ((uint64_t)0xffff << 32)
#define NM__WORD_HELD    ((uint64_t)1 << 48) /* pinned, and the last unpin tells the shard */
#define NM__WORD_BUSY    ((uint64_t)1 << 49) /* unpinned, and its bytes are being changed or moved */
#define NM__WORD_BACK    ((uint64_t)1 << 50) /* went to an earlier place in the order of walks once */
#define NM__PAGE_BUCKETS ((uint32_t)64)
#define NM__STASH_WORDS  64u
#define NM__INDEX_BACK   64u
#define NM__WALK_WORDS   (NM__STASH_WORDS + 64u)

typedef struct nm__index {
    /* What readers look at, in a line that changes only with the table. */
    NM_ATOMIC(uint32_t) sequence __attribute__((__aligned__(64))); /* odd: words are under way */
    NM_ATOMIC(uint32_t) stash_end;  /* behind the last word of the stash that is in use */
    NM_ATOMIC(uint32_t) count;      /* buckets; points beyond the cursor are found with this many ... */
    NM_ATOMIC(uint32_t) next_count; /* ... and what it has passed with this many; the same: nothing is under way */
    NM_ATOMIC(uint32_t) cursor;
    NM_ATOMIC(uint64_t) * words; /* of the stash, then of the buckets */
    unsigned char *chunks;       /* the heap's base */

    uint32_t entry_count __attribute__((__aligned__(64)));
    uint32_t rest_from, rest_below; /* with so many entries a step has nothing to do */
    uint32_t stash_count;
    uint32_t stash_try;  /* words of the stash below this may find room in their buckets now */
    uint32_t back_count; /* words that went to an earlier place in the order of walks, ever */
    uint32_t page_count; /* committed */
    uint32_t page_limit;
    bool refused; /* the pages that it wanted last */
    const nm__pages *pages;
    uint64_t (*hash_of)(void *context, uint32_t offset); /* of the key of an entry: costly */
    void *context;
    uint64_t back_hashes[NM__INDEX_BACK]; /* of the last of them */
} nm__index;

/* Where an entry was found. Under the lock it holds until the next add or step; without, it is a guess. */
typedef struct nm__place_of {
    uint32_t position; /* of its word */
    uint32_t offset;   /* of its chunk; 0: none */
} nm__place_of;

/* What was read of an entry as its key was compared: its state, the bytes of its chunk, where its key is. */
typedef struct nm__seen {
    uint32_t state;
    size_t bytes;
    const unsigned char *key;
} nm__seen;

typedef enum nm__find { NM__FIND_MISS, NM__FIND_HIT, NM__FIND_UNSURE, NM__FIND_OPEN } nm__find;

/* ---- without a lock ---- */

/* Finds the entry of that key and pins it. UNSURE: ask again under the lock (words were under way three times, the
 * entry is being changed, or it has 65535 pins); if out->offset is not 0 then, a pin of that other entry was left,
 * since only the lock can take it back: unpin it first. Never waits. Two lines of the index at most, if there is no
 * stash, and the chunk. */
static inline nm__find nm__index_pin(nm__index *index, uint64_t hash, const void *key, size_t key_len,
                                     nm__place_of *out);
/* The same in two steps. The first, straight on and inline, finds nearly all; of a hit it tells what it saw of the entry. OPEN: it
 * takes the second, which looks again. */
static inline nm__find nm__index_pin_first(nm__index *index, uint64_t hash, const void *key, size_t key_len,
                                           nm__place_of *out, nm__seen *seen);
nm__find nm__index_pin_second(nm__index *index, uint64_t hash, const void *key, size_t key_len, nm__place_of *out);
/* One pin less of the chunk, which the caller has pinned. False: its word is not there any more, or it is held and
 * this is its last pin; nothing was done, and it is to be unpinned under the lock. */
static inline bool nm__index_unpin(nm__index *index, nm__place_of place);

/* ---- locked: one entry ---- */

bool nm__index_find(const nm__index *index, uint64_t hash, const void *key, size_t key_len, nm__place_of *out);
/* What will be asked about that hash soon is fetched meanwhile. */
static inline void nm__index_prefetch(const nm__index *index, uint64_t hash);
/* The word that names this chunk; false: there is none. */
bool nm__index_locate(const nm__index *index, uint64_t hash, uint32_t offset, nm__place_of *out);
/* Does the word there still name that chunk, of an entry with such a hash? For places that were noted long ago. */
static inline bool nm__index_names(const nm__index *index, nm__place_of place, uint64_t hash);
/* NM_ECAPACITY: there is no room, nor can any be made by moving one entry; nothing changed. O(1). */
nm_status nm__index_add(nm__index *index, uint64_t hash, uint32_t offset);
/* Chunks in the two buckets of that hash: if one of them is removed an add has room. How many. */
unsigned nm__index_crowd(const nm__index *index, uint64_t hash, uint32_t out[2 * NM__BUCKET_WORDS]);
/* Another chunk with the same key takes the place of this one, at one instant; the pins that the old one had. */
uint32_t nm__index_replace(nm__index *index, nm__place_of place, uint32_t offset);
/* Takes the word out; the pins that the chunk had. */
uint32_t nm__index_remove(nm__index *index, nm__place_of place);
/* Takes the word out of an entry that nobody pins; false: it is pinned, and nothing changed. */
bool nm__index_remove_unpinned(nm__index *index, nm__place_of place);
/* Marks the word busy, so that nobody pins it; false: it is pinned. Then either settle or remove, before any add or
 * step. */
bool nm__index_seize(nm__index *index, nm__place_of place);
void nm__index_settle(nm__index *index, nm__place_of place, uint32_t offset); /* at this chunk, the same or another */
/* False: it has 65535 pins. */
bool nm__index_pin_locked(nm__index *index, nm__place_of place);
/* True: it was held and has no pins any more. */
bool nm__index_unpin_locked(nm__index *index, nm__place_of place);
/* From now on the last unpin goes through the lock; false: nobody pins it any more, and it is not marked. */
bool nm__index_hold(nm__index *index, nm__place_of place);
uint32_t nm__index_pins(const nm__index *index, nm__place_of place);

/* ---- locked: the table ---- */

/* An index over `reserved` bytes at base, whole pages, that are zero once committed; the first is committed. */
nm_status nm__index_open(nm__index *index, void *base, size_t reserved, const nm__heap *heap, const nm__pages *pages,
                         uint64_t (*hash_of)(void *, uint32_t), void *context);
/* One bounded step towards the size that entry_count asks for: starts or goes on with a growth or shrinking, four
 * buckets a call; a growth ends before the next is needed if each put calls it once. Pages are committed when a
 * growth starts, all or none, and given back when a shrinking ends. Status of refused pages; the table stays as it
 * is then. */
static inline nm_status nm__index_step(nm__index *index);
/* Bytes of pages that the next growth would commit now; 0: none is needed, or possible. */
size_t nm__index_wants(const nm__index *index);
static inline size_t nm__index_bytes(const nm__index *index);
/* Walks. *position is 0 at first. The chunks of the bucket there, by the place of their word, 0 where there is none,
 * and of entries that the walk would miss else, into out[NM__WALK_WORDS], and how many places; *position moves
 * behind it. False: that was the last of them. With the same *position and sequence each entry is in the same place
 * again. Meets each entry that stays at least once, whatever the table does. */
bool nm__index_walk(const nm__index *index, uint64_t *position, uint32_t *out, unsigned *count);
/* The next entry behind that place that is pinned, in no particular order; {0} at first. False: there is none.
 * O(buckets). */
bool nm__index_next_pinned(const nm__index *index, nm__place_of *place);

/* ---- inline ------------------------------------------------------------------------------------------------------ */

/* The two points of a hash. Buckets come from their upper bits, which they have not in common; the shard is chosen
 * by the 8 bits above, and the tag is what is left below, as long as there are fewer than 2^20 buckets. */
static inline uint32_t nm__hash_first(uint64_t hash) { return (uint32_t)hash; }
static inline uint32_t nm__hash_second(uint64_t hash) { return (uint32_t)(hash >> 24); }

static inline uint32_t nm__point_bucket(uint32_t point, uint32_t count) {
    return (uint32_t)((uint64_t)point * count >> 32);
}

static inline size_t nm__index_bytes(const nm__index *index) {
    return (size_t)index->page_count * NM__PAGE_BUCKETS * NM__BUCKET_BYTES;
}

nm_status nm__index_step_on(nm__index *index);

static inline nm_status nm__index_step(nm__index *index) {
    if (NM_LIKELY(index->entry_count >= index->rest_from && index->entry_count < index->rest_below)) return NM_OK;
    return nm__index_step_on(index);
}

static inline nm__entry *nm__index_chunk(const nm__index *index, uint32_t offset) {
    /* Signed: of 0, which is none, it is an address that may be fetched, though not looked at. */
    return (nm__entry *)(void *)(index->chunks + ((ptrdiff_t)offset * (ptrdiff_t)NM__UNIT_BYTES - 4));
}

/* The position of the first word of the bucket of that point. acquire, all three: pair with the releases in index.c,
 * whose sequence was odd before. Who sees a size from a change of the table sees the odd sequence afterwards; and
 * the pages of that size are there. */
static inline __attribute__((__always_inline__)) uint32_t nm__line_among(const nm__index *index, uint32_t point,
                                                                         uint32_t count, uint32_t next) {
    uint32_t bucket = nm__point_bucket(point, count);
    if (NM_UNLIKELY(count != next)) {
        uint32_t cursor = nm_atomic_load(&index->cursor, NM_ACQUIRE);
        if (next > count ? bucket >= cursor : bucket < cursor) bucket = nm__point_bucket(point, next);
    }
    return NM__STASH_WORDS + bucket * NM__BUCKET_WORDS;
}
static inline __attribute__((__always_inline__)) uint32_t nm__index_line(const nm__index *index, uint32_t point) {
    uint32_t count = nm_atomic_load(&index->count, NM_ACQUIRE);
    return nm__line_among(index, point, count, nm_atomic_load(&index->next_count, NM_ACQUIRE));
}
/* Both of a hash, by one look at the sizes. */
static inline __attribute__((__always_inline__)) void nm__index_lines(const nm__index *index, uint64_t hash,
                                                                      uint32_t lines[2]) {
    uint32_t count = nm_atomic_load(&index->count, NM_ACQUIRE);
    uint32_t next = nm_atomic_load(&index->next_count, NM_ACQUIRE);
    lines[0] = nm__line_among(index, nm__hash_first(hash), count, next);
    lines[1] = nm__line_among(index, nm__hash_second(hash), count, next);
}

static inline bool nm__index_names(const nm__index *index, nm__place_of place, uint64_t hash) {
    uint64_t word = nm_atomic_load(&index->words[place.position], NM_RELAXED); /* relaxed: as all under the lock */
    return (uint32_t)word == place.offset && (word ^ hash << NM__WORD_TAG_SHIFT) >> NM__WORD_TAG_SHIFT == 0;
}

/* Always inline: gcc takes a function that only fetches for one without effect, and drops its calls. */
static inline __attribute__((__always_inline__)) void nm__index_prefetch(const nm__index *index, uint64_t hash) {
    uint32_t lines[2];
    nm__index_lines(index, hash, lines);
    __builtin_prefetch(&index->words[lines[0]], 1);
    __builtin_prefetch(&index->words[lines[1]], 1);
}

/* As memcmp() == 0. n != 0. */
bool nm__key_equal_rest(const unsigned char *a, const unsigned char *b, size_t n);
static inline bool nm__key_equal(const unsigned char *a, const unsigned char *b, size_t n) {
    uint64_t first[2], last[2];
    if (NM_UNLIKELY(n - 8 > 8)) return nm__key_equal_rest(a, b, n);
    /* Two words, which overlap or are the same if n is less than 16. */
    memcpy(&first[0], a, 8);
    memcpy(&first[1], b, 8);
    memcpy(&last[0], a + n - 8, 8);
    memcpy(&last[1], b + n - 8, 8);
    return ((first[0] ^ first[1]) | (last[0] ^ last[1])) == 0;
}

/* Has this entry that key? Each word of the header is loaded once, and nothing depends on where the chunk lies but
 * an address. */
static inline bool nm__entry_shows_key(const nm__entry *e, const void *key, size_t key_len, nm__seen *seen) {
    uint32_t state = nm__node_state(&e->node);
    *seen = (nm__seen){.state = state, .bytes = nm__entry_bytes(e)};
    if (NM_UNLIKELY(state & NM__ENTRY_MORE)) {
        seen->key = nm__entry_key(e);
        return nm__entry_key_len(e) == key_len && nm__key_equal(seen->key, key, key_len);
    }
    /* Of a wide value's 8 bytes of room, those that are not in front of it are behind the slack. */
    size_t behind = nm__wide_bytes(state) & ~(uintptr_t)(e + 1);
    seen->key = (const unsigned char *)e + (seen->bytes - behind - (state >> NM__SLACK_SHIFT & 7) - key_len);
    return state >> NM__KEY_LEN_SHIFT == key_len && nm__key_equal(seen->key, key, key_len);
}
static inline bool nm__entry_has_key(const nm__entry *e, const void *key, size_t key_len) {
    nm__seen seen;
    return nm__entry_shows_key(e, key, key_len, &seen);
}

static inline bool nm__index_unpin(nm__index *index, nm__place_of place) {
    NM_ATOMIC(uint64_t) *at = &index->words[place.position];
    uint64_t word = nm_atomic_load(at, NM_RELAXED); /* relaxed: a guess, which the exchange proves */
    do {
        /* It names this chunk: then it is this entry's, for a chunk with pins is nobody else's. */
        if (NM_UNLIKELY((uint32_t)word != place.offset) && !NM__FAULT(index_unpin_blind)) return false;
        if (NM_UNLIKELY(word & NM__WORD_HELD) && (word & NM__WORD_PINS) == NM__WORD_PIN &&
            !NM__FAULT(index_unpin_untold))
            return false;
        /* release: pairs with the acquires in seize, remove and replace; who finds no pins left may write over the
         * chunk, after all that was read of it here. */
    } while (!nm_atomic_cas_weak(at, &word, word - NM__WORD_PIN, NM_RELEASE, NM_RELAXED));
    return true;
}

/* The word there, if it is that key's: a look at all of the bucket said that its tag is. It may be another entry's by now,
 * even of another tag; then the key tells. */
static inline __attribute__((__always_inline__)) nm__find nm__word_pin(nm__index *index, uint32_t position,
                                                                       const void *key, size_t key_len,
                                                                       nm__place_of *out, nm__seen *seen) {
    NM_ATOMIC(uint64_t) *at = &index->words[position];
    uint64_t word = nm_atomic_load(at, NM_ACQUIRE); /* acquire: as in nm__bucket_match */
    const nm__entry *e;
    do {
        uint32_t offset = (uint32_t)word;
        if (NM_UNLIKELY(offset == 0)) return NM__FIND_MISS;
        e = nm__index_chunk(index, offset);
        __builtin_prefetch(e);
        __builtin_prefetch((const unsigned char *)e + 64);
        __builtin_prefetch((const unsigned char *)e + 128);
        __builtin_prefetch((const unsigned char *)e + 192);
        *out = (nm__place_of){position, offset};
        /* Busy, or as many pins as there can be: one compare tells both. */
        uint64_t off = word & (NM__WORD_PINS | (NM__FAULT(index_pin_busy) ? 0 : NM__WORD_BUSY));
        if (NM_UNLIKELY(off >= NM__WORD_PINS)) {
            out->offset = 0;
            return NM__FIND_UNSURE;
        }
        /* acquire: pairs with the releases of add, replace and settle: the chunk is complete. A failure tells as
         * much as a load. */
    } while (NM_UNLIKELY(!nm_atomic_cas_weak(at, &word, word + NM__WORD_PIN, NM_ACQUIRE, NM_ACQUIRE)));
    if (NM_LIKELY(nm__entry_shows_key(e, key, key_len, seen)) || NM__FAULT(index_pin_without_key)) return NM__FIND_HIT;
    if (NM_LIKELY(nm__index_unpin(index, *out))) return NM__FIND_MISS;
    return NM__FIND_UNSURE;
}

static inline __attribute__((__always_inline__)) nm__find nm__index_pin_first(nm__index *index, uint64_t hash,
                                                                              const void *key, size_t key_len,
                                                                              nm__place_of *out, nm__seen *seen) {
    uint32_t lines[2];
    /* acquire: pairs with the release that makes it even; who sees that sees all words where they went. */
    uint32_t sequence = nm_atomic_load(&index->sequence, NM_ACQUIRE);
    nm__index_lines(index, hash, lines);
    __builtin_prefetch(&index->words[lines[0]]);
    __builtin_prefetch(&index->words[lines[1]]);
    unsigned match = nm__buckets_match(&index->words[lines[0]], &index->words[lines[1]], hash << NM__WORD_TAG_SHIFT);
    if (NM_UNLIKELY(match == 0)) {
        /* acquire: as the loads of words */
        if (NM_UNLIKELY(nm_atomic_load(&index->stash_end, NM_ACQUIRE) != 0)) return NM__FIND_OPEN;
        /* relaxed: behind acquires. Even and the same: nothing was under way between the two looks. */
        if (NM_LIKELY((sequence & 1) == 0 && nm_atomic_load(&index->sequence, NM_RELAXED) == sequence))
            return NM__FIND_MISS;
        return NM__FAULT(index_miss_unproved) ? NM__FIND_MISS : NM__FIND_OPEN;
    }
    /* Which of the two buckets it is in cannot be foreseen, so that is no branch. */
    unsigned k = (unsigned)__builtin_ctz(match);
    uint32_t line = k < NM__BUCKET_WORDS ? lines[0] : lines[1] - NM__BUCKET_WORDS;
    nm__find find = nm__word_pin(index, line + k, key, key_len, out, seen);
    /* One of 4000 is another entry's. */
    return NM_LIKELY(find != NM__FIND_MISS) ? find : NM__FIND_OPEN;
}

static inline nm__find nm__index_pin(nm__index *index, uint64_t hash, const void *key, size_t key_len,
                                     nm__place_of *out) {
    nm__seen seen;
    nm__find find = nm__index_pin_first(index, hash, key, key_len, out, &seen);
    return NM_LIKELY(find != NM__FIND_OPEN) ? find : nm__index_pin_second(index, hash, key, key_len, out);
}

#endif
