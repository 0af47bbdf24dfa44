// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/wheel.h"

#include <string.h>

#define DIGIT_BITS 5u
#define SPAN_BITS  (DIGIT_BITS * NM__WHEEL_LEVELS) /* of a tick: those that have a level */
_Static_assert(NM__WHEEL_SLOTS == 1u << DIGIT_BITS, "a digit names a slot");

static inline nm__timer *timer_at(const nm__wheel *wheel, uint32_t number) { return wheel->at(wheel->context, number); }

/* The first tick by which it is over, so that it is never early. */
static inline uint64_t tick_of(const nm__wheel *wheel, const nm__timer *timer) {
    if (timer->expires_ms <= wheel->base_ms) return 0;
    uint64_t ms = timer->expires_ms - wheel->base_ms;
    return ms / NM__WHEEL_TICK_MS + (ms % NM__WHEEL_TICK_MS != 0);
}

static inline unsigned level_of(const nm__wheel *wheel, uint64_t tick) {
    return (63u - (unsigned)__builtin_clzll(tick ^ wheel->tick)) / DIGIT_BITS;
}
static inline unsigned slot_of(uint64_t tick, unsigned level) {
    return (unsigned)(tick >> (level * DIGIT_BITS)) % NM__WHEEL_SLOTS;
}

/* The first tick of the first bucket in use. */
static uint64_t first_bucket(const nm__wheel *wheel, unsigned *level) {
    for (*level = 0; *level < NM__WHEEL_LEVELS; ++*level) {
        uint32_t used = wheel->used[*level];
        if (used == 0) continue;
        uint64_t above = wheel->tick >> DIGIT_BITS * (*level + 1);
        return (above << DIGIT_BITS | (unsigned)__builtin_ctz(used)) << DIGIT_BITS * *level;
    }
    return wheel->later != 0 ? ((wheel->tick >> SPAN_BITS) + 1) << SPAN_BITS : UINT64_MAX;
}

static void forget(nm__wheel *wheel) {
    memset(wheel->used, 0, sizeof wheel->used);
    memset(wheel->slots, 0, sizeof wheel->slots);
    wheel->later = wheel->due = 0;
    wheel->next_tick = UINT64_MAX;
}

void nm__wheel_open(nm__wheel *wheel, nm__timer_at *at, void *context, uint64_t now_ms) {
    wheel->at = at;
    wheel->context = context;
    wheel->base_ms = now_ms;
    wheel->tick = 0;
    forget(wheel);
}

/* No bucket begins before next_tick: up to there the wheel's time can go by itself. What is added then has less far to
 * fall, and of what is in `due` more is over at once. */
static inline void follow(nm__wheel *wheel, uint64_t now_tick) {
    uint64_t tick = now_tick < wheel->next_tick ? now_tick : wheel->next_tick - 1;
    if (tick > wheel->tick) wheel->tick = tick;
}

void nm__wheel_clear(nm__wheel *wheel, uint64_t now_ms) {
    forget(wheel);
    follow(wheel, nm__wheel_tick_of(wheel, now_ms));
}

static void put(nm__wheel *wheel, uint32_t number, nm__timer *timer) {
    uint64_t tick = tick_of(wheel, timer), begins = UINT64_MAX;
    uint32_t *head = &wheel->due;
    if (tick > wheel->tick) {
        unsigned level = level_of(wheel, tick);
        if (level < NM__WHEEL_LEVELS) {
            unsigned slot = slot_of(tick, level);
            wheel->used[level] |= (uint32_t)1 << slot;
            head = &wheel->slots[level * NM__WHEEL_SLOTS + slot];
            begins = tick >> level * DIGIT_BITS << level * DIGIT_BITS;
        } else {
            head = &wheel->later;
            begins = ((wheel->tick >> SPAN_BITS) + 1) << SPAN_BITS;
        }
    }
    if (begins < wheel->next_tick) wheel->next_tick = begins;
    timer->prev = 0;
    timer->next = *head;
    if (*head != 0) timer_at(wheel, *head)->prev = number;
    *head = number;
}

void nm__wheel_add(nm__wheel *wheel, uint32_t number, uint64_t now_ms) {
    follow(wheel, nm__wheel_tick_of(wheel, now_ms));
    put(wheel, number, timer_at(wheel, number));
}

/* The entry in front of all others in its bucket becomes another one, or none. Its bucket is the one that its time
 * says, unless the wheel's time has come to it: then it is in `due`. */
static void set_head(nm__wheel *wheel, uint64_t tick, uint32_t from, uint32_t to) {
    if (wheel->due == from) {
        wheel->due = to;
        return;
    }
    unsigned level = level_of(wheel, tick);
    if (level >= NM__WHEEL_LEVELS) {
        wheel->later = to;
        return;
    }
    unsigned slot = slot_of(tick, level);
    wheel->slots[level * NM__WHEEL_SLOTS + slot] = to;
    if (to == 0) wheel->used[level] &= ~((uint32_t)1 << slot);
}

void nm__wheel_remove(nm__wheel *wheel, uint32_t number) {
    const nm__timer *timer = timer_at(wheel, number);
    uint32_t next = timer->next, prev = timer->prev;
    if (next != 0) timer_at(wheel, next)->prev = prev;
    if (prev != 0)
        timer_at(wheel, prev)->next = next;
    else
        set_head(wheel, tick_of(wheel, timer), number, next);
}

void nm__wheel_moved(nm__wheel *wheel, uint32_t from, uint32_t to) {
    const nm__timer *timer = timer_at(wheel, to);
    if (timer->next != 0) timer_at(wheel, timer->next)->prev = to;
    if (timer->prev != 0)
        timer_at(wheel, timer->prev)->next = to;
    else
        set_head(wheel, tick_of(wheel, timer), from, to);
}

/* The wheel's time comes to the first bucket in use, if that is not after `now_tick`. `due` is empty. */
static bool turn(nm__wheel *wheel, uint64_t now_tick) {
    unsigned level;
    uint64_t begins = first_bucket(wheel, &level);
    wheel->next_tick = begins;
    if (begins > now_tick) return false;
    wheel->tick = begins;
    if (level < NM__WHEEL_LEVELS) {
        unsigned slot = slot_of(begins, level);
        uint32_t *head = &wheel->slots[level * NM__WHEEL_SLOTS + slot];
        wheel->due = *head;
        *head = 0;
        wheel->used[level] &= ~((uint32_t)1 << slot);
    } else {
        wheel->due = wheel->later;
        wheel->later = 0;
    }
    wheel->next_tick = first_bucket(wheel, &level);
    return true;
}

uint32_t nm__wheel_next_expired(nm__wheel *wheel, uint64_t now_ms, unsigned *budget) {
    uint64_t now_tick = nm__wheel_tick_of(wheel, now_ms);
    for (; *budget != 0; --*budget) {
        follow(wheel, now_tick);
        uint32_t number = wheel->due;
        if (number != 0) {
            nm__timer *timer = timer_at(wheel, number);
            wheel->due = timer->next;
            if (timer->next != 0) timer_at(wheel, timer->next)->prev = 0;
            if (tick_of(wheel, timer) <= wheel->tick) {
                --*budget;
                return number;
            }
            put(wheel, number, timer);
        } else if (now_tick < wheel->next_tick || !turn(wheel, now_tick)) {
            return 0;
        }
    }
    return 0;
}

uint64_t nm__wheel_next_ms(const nm__wheel *wheel) {
    unsigned level;
    uint64_t tick = wheel->due != 0 ? wheel->tick : first_bucket(wheel, &level), ms;
    if (__builtin_mul_overflow(tick, (uint64_t)NM__WHEEL_TICK_MS, &ms)) return UINT64_MAX;
    return ms > UINT64_MAX - wheel->base_ms ? UINT64_MAX : ms + wheel->base_ms;
}
