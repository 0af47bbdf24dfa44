// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A shard's timing wheel (Varghese, Lauck 1987, the hierarchical one): which entries have run out, found without
 * looking at those that have not. No lock of its own, no allocation: the list of a bucket runs through the entries.
 *
 *   level 0   32 buckets of 16 ms   half a second         level 4   of 4.7 hours   6 days
 *   level 1   of half a second      16 seconds            level 5   of 6 days      6 months
 *   level 2   of 16 seconds         9 minutes             level 6   of 6 months    17 years
 *   level 3   of 9 minutes          4.7 hours             later     one list
 *
 * The level is the highest digit (of base 32) in which an entry's time differs from the wheel's. So whatever is on a
 * level comes before all that is above it, the next bucket to be looked at is the first one of the lowest level in
 * use, and time may jump by years at the cost of the buckets in use on the way. When the wheel's time comes to a
 * bucket, what is in it falls to lower levels, one by one as the budget allows. */
#ifndef NM_SRC_CACHE_WHEEL_H
#define NM_SRC_CACHE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define NM__WHEEL_TICK_MS 16u
#define NM__WHEEL_LEVELS  7u
#define NM__WHEEL_SLOTS   32u

/* What an entry with a time to live has. Only the wheel writes next and prev. expires_ms is the owner's, and never
 * changes while the entry is in the wheel. */
typedef struct nm__timer {
    uint32_t next, prev; /* in its bucket; 0: none */
    uint64_t expires_ms;
} nm__timer;

typedef nm__timer *nm__timer_at(void *context, uint32_t number);

typedef struct nm__wheel {
    nm__timer_at *at;
    void *context;
    uint64_t base_ms;                /* tick 0 */
    uint64_t tick;                   /* everything up to here is due; all other times are measured from here */
    uint64_t next_tick;              /* no bucket in use begins sooner; UINT64_MAX: none is */
    uint32_t used[NM__WHEEL_LEVELS]; /* bit i: slot i has entries */
    uint32_t slots[NM__WHEEL_LEVELS * NM__WHEEL_SLOTS];
    uint32_t later; /* beyond the top level */
    uint32_t due;   /* of the bucket that the wheel's time is in: to be handed out, or to fall */
} nm__wheel;
_Static_assert(sizeof(nm__wheel) <= 1024, "one for each shard");

/* An empty wheel. `at` gives the timer of a number that is not 0. O(buckets). */
void nm__wheel_open(nm__wheel *wheel, nm__timer_at *at, void *context, uint64_t now_ms);

/* Forgets all entries, without a look at them. O(buckets). */
void nm__wheel_clear(nm__wheel *wheel, uint64_t now_ms);

/* Its expires_ms is set, and is not NM_TTL_NEVER: what never expires does not enter. It may be over already. O(1). */
void nm__wheel_add(nm__wheel *wheel, uint32_t number, uint64_t now_ms);
/* Of an entry that is in the wheel. O(1). */
void nm__wheel_remove(nm__wheel *wheel, uint32_t number);
/* The entry, timer included, was copied from one place to the other: `from` is not looked at. O(1). */
void nm__wheel_moved(nm__wheel *wheel, uint32_t from, uint32_t to);

/* Takes an entry that has run out off the wheel. 0: there is none, or *budget was used up. Each step takes 1 from
 * *budget: an entry handed out, an entry that falls to a lower level, a bucket come to. A step touches at most three
 * entries.
 *
 * Never early, by the latest now_ms that the wheel was told: threads may look at the clock in one order and come in
 * another. Late by less than a tick, plus what the budget puts off: an entry falls at most 7 times (once more for each
 * 17 years that it lives), so calls whose budgets sum up to 16 times the entries hand out all that were due when the
 * first of them was made. */
uint32_t nm__wheel_next_expired(nm__wheel *wheel, uint64_t now_ms, unsigned *budget);

static inline uint64_t nm__wheel_tick_of(const nm__wheel *wheel, uint64_t now_ms) {
    return now_ms > wheel->base_ms ? (now_ms - wheel->base_ms) / NM__WHEEL_TICK_MS : 0;
}
static inline bool nm__wheel_is_empty(const nm__wheel *wheel) {
    return wheel->due == 0 && wheel->next_tick == UINT64_MAX;
}
/* False: nm__wheel_next_expired would give 0, and need not be called. */
static inline bool nm__wheel_has_work(const nm__wheel *wheel, uint64_t now_ms) {
    return wheel->due != 0 || nm__wheel_tick_of(wheel, now_ms) >= wheel->next_tick;
}
/* When nm__wheel_next_expired is worth calling again: often before the first entry is over, at the latest a tick after.
 * UINT64_MAX: the wheel is empty. O(1). */
uint64_t nm__wheel_next_ms(const nm__wheel *wheel);

#endif
