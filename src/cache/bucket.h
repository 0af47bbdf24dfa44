// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A bucket of the index: a line of eight words, looked at all at once. index.h says what a word is.
 *
 * The answers are sets: bit k stands for word k. None of these functions branches, for which word fits cannot be foreseen. */
#ifndef NM_SRC_CACHE_BUCKET_H
#define NM_SRC_CACHE_BUCKET_H

#include "base/atomic.h"

#define NM__WORD_TAG_SHIFT 52
#define NM__BUCKET_WORDS   8u
#define NM__BUCKET_BYTES   (NM__BUCKET_WORDS * sizeof(uint64_t))

/* Words whose upper 12 bits are those of `tag`, whose lower bits are 0; an empty word has tag 0.
 * acquire: pairs with the release of who took a word away to move it. A miss that was seen there is followed by the
 * look at the sequence, which is then seen to be odd, or past that. */
static inline unsigned nm__bucket_match(const NM_ATOMIC(uint64_t) * line, uint64_t tag);

/* The same of two buckets, of which the second one's words are bits 8 to 15; where words are looked at one by one, only if none
 * of the first fits. */
static inline unsigned nm__buckets_match(const NM_ATOMIC(uint64_t) * first, const NM_ATOMIC(uint64_t) * second,
                                         uint64_t tag);

/* Words that name the chunk at `offset`; of 0, those that are empty. The shard's lock is held. */
static inline unsigned nm__bucket_naming(const NM_ATOMIC(uint64_t) * line, uint32_t offset);

/* ---- inline ------------------------------------------------------------------------------------------------------ */

#ifdef NM_ATOMIC_PAIRS
#include <emmintrin.h>

/* The lower or upper halves of four words. */
static inline __m128i nm__low_halves(const NM_ATOMIC(uint64_t) * words) {
    const __m128i *pairs = (const __m128i *)(const void *)words;
    return _mm_castps_si128(
        _mm_shuffle_ps(_mm_castsi128_ps(_mm_load_si128(pairs)), _mm_castsi128_ps(_mm_load_si128(pairs + 1)), 0x88));
}
static inline __m128i nm__high_halves(const NM_ATOMIC(uint64_t) * words) {
    const __m128i *pairs = (const __m128i *)(const void *)words;
    return _mm_castps_si128(
        _mm_shuffle_ps(_mm_castsi128_ps(_mm_load_si128(pairs)), _mm_castsi128_ps(_mm_load_si128(pairs + 1)), 0xdd));
}
/* Four lanes of all ones or zeros each, to a set. */
static inline unsigned nm__lanes(__m128i low, __m128i high) {
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128()));
}

/* Four words whose tag is `wanted`. */
static inline __m128i nm__tags_equal(const NM_ATOMIC(uint64_t) * words, __m128i wanted) {
    return _mm_cmpeq_epi32(_mm_srli_epi32(nm__high_halves(words), NM__WORD_TAG_SHIFT - 32), wanted);
}

static inline unsigned nm__bucket_match(const NM_ATOMIC(uint64_t) * line, uint64_t tag) {
    __m128i wanted = _mm_set1_epi32((int)(tag >> NM__WORD_TAG_SHIFT));
    unsigned set = nm__lanes(nm__tags_equal(line, wanted), nm__tags_equal(line + 4, wanted));
    nm_atomic_pairs_acquired();
    return set;
}

static inline unsigned nm__buckets_match(const NM_ATOMIC(uint64_t) * first, const NM_ATOMIC(uint64_t) * second,
                                         uint64_t tag) {
    __m128i wanted = _mm_set1_epi32((int)(tag >> NM__WORD_TAG_SHIFT));
    __m128i low = _mm_packs_epi32(nm__tags_equal(first, wanted), nm__tags_equal(first + 4, wanted));
    __m128i high = _mm_packs_epi32(nm__tags_equal(second, wanted), nm__tags_equal(second + 4, wanted));
    unsigned set = (unsigned)_mm_movemask_epi8(_mm_packs_epi16(low, high));
    nm_atomic_pairs_acquired();
    return set;
}

static inline unsigned nm__bucket_naming(const NM_ATOMIC(uint64_t) * line, uint32_t offset) {
    __m128i wanted = _mm_set1_epi32((int)offset);
    return nm__lanes(_mm_cmpeq_epi32(nm__low_halves(line), wanted), _mm_cmpeq_epi32(nm__low_halves(line + 4), wanted));
}

#else

static inline unsigned nm__bucket_match(const NM_ATOMIC(uint64_t) * line, uint64_t tag) {
    unsigned set = 0;
    for (unsigned k = 0; k < NM__BUCKET_WORDS; k++)
        set |= (unsigned)((nm_atomic_load(&line[k], NM_ACQUIRE) ^ tag) >> NM__WORD_TAG_SHIFT == 0) << k;
    return set;
}

static inline unsigned nm__buckets_match(const NM_ATOMIC(uint64_t) * first, const NM_ATOMIC(uint64_t) * second,
                                         uint64_t tag) {
    unsigned set = nm__bucket_match(first, tag);
    return set != 0 ? set : nm__bucket_match(second, tag) << NM__BUCKET_WORDS;
}

static inline unsigned nm__bucket_naming(const NM_ATOMIC(uint64_t) * line, uint32_t offset) {
    unsigned set = 0;
    for (unsigned k = 0; k < NM__BUCKET_WORDS; k++)
        set |= (unsigned)((uint32_t)nm_atomic_load(&line[k], NM_RELAXED) == offset) << k;
    return set;
}

#endif

#endif
