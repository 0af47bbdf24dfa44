// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Releases by other threads than the one that leased.
 *
 * Who releases a lease of another's station only notes it, and sends such notes in parcels of up to 32: the other, alone in
 * writing the marks of its own leases, ends them without a locked instruction. Message passing in place of locks for
 * memory that is freed elsewhere is an idea of snmalloc (Lietar et al. 2019). */
#include "pool/pool_internal.h"

static uint64_t letter_of(const nm_pool *pool, const nm__slot *slot, uint64_t generation) {
    return (uint64_t)(slot - pool->slots) << 40 | ((generation >> 1) & NM__LETTER_GENERATION);
}

/* The slot, and its generation if that is still the letter's; 0: it is not. */
static nm__slot *slot_of(const nm_pool *pool, uint64_t letter) { return pool->slots + (letter >> 40); }

static uint64_t generation_of(const nm__slot *slot, uint64_t letter) {
    uint64_t generation = nm_atomic_load(&slot->generation, NM_ACQUIRE);
    bool same = ((generation >> 1) & NM__LETTER_GENERATION) == (letter & NM__LETTER_GENERATION);
    return same || NM__FAULT(letter_without_generation) ? generation : 0;
}

static void send_home(nm__parcel *parcel) {
    NM_ATOMIC(nm__parcel *) *at = &parcel->home->returned;
    nm__parcel *seen = nm_atomic_load(at, NM_RELAXED);
    do {
        parcel->next = seen;
    } while (
        !nm_atomic_cas_weak(at, &seen, parcel, NM_RELEASE, NM_RELAXED)); /* pairs with the exchange in empty_parcel */
}

static nm__parcel *empty_parcel(nm__station *station) {
    if (station->empties == NULL) station->empties = nm_atomic_exchange(&station->returned, NULL, NM_ACQUIRE);
    nm__parcel *parcel = station->empties;
    if (parcel != NULL) station->empties = parcel->next;
    return parcel;
}

/* ---- to note, to send ---------------------------------------------------------------------------------------------- */

/* Sends all that is noted. */
static void flush(nm__station *station) {
    nm_pool *pool = station->magazine.pool;
    nm__late late = {0};
    nm__chain won = {0};
    if (!nm__station_move_begin(station)) return;
    uint64_t letters[NM__LETTERS];
    uint64_t top = nm_atomic_load(&station->out_top, NM_RELAXED),
             bottom = nm_atomic_load(&station->out_bottom, NM_RELAXED);
    size_t count = (top & NM__MAGAZINE_FROZEN) == 0 ? (size_t)(bottom - top) : 0;
    for (size_t i = 0; i < count; i++) letters[i] = nm_atomic_load(&station->out[(top + i) % NM__LETTERS], NM_RELAXED);
    /* Fails if the station was frozen since: then they are another's. */
    if (count != 0 && nm_atomic_cas(&station->out_top, &top, bottom, NM_ACQ_REL, NM_RELAXED))
        nm__letters_send(station, letters, count, &won, &late);
    nm__chain_push(pool, &won);
    nm__station_move_end(station);
    if (won.count != 0) nm__pool_answer(pool);
    nm__late_tell(pool, &late);
}

bool nm__letter_post(nm__station *station, nm__slot *slot, uint64_t generation) {
    for (int tries = 0;; tries++) {
        uint64_t at = nm_atomic_load(&station->out_bottom, NM_RELAXED);
        if (at - nm_atomic_load(&station->out_top, NM_RELAXED) < station->letters_max) {
            nm_atomic_store(&station->out[at % NM__LETTERS], letter_of(station->magazine.pool, slot, generation),
                            NM_RELAXED);
            nm_atomic_store(&station->out_bottom, at + 1, NM_RELEASE); /* pairs with the acquire in nm__pool_collect */
            nm__word_order();
            /* Frozen meanwhile? Then this one may lie there unseen. */
            if (nm__station_is_frozen(station)) nm__pool_answer(station->magazine.pool);
            return true;
        }
        if (tries == 1 || nm__station_is_frozen(station)) return false;
        flush(station);
    }
}

void nm__letters_send(nm__station *from, uint64_t *letters, size_t count, nm__chain *won, nm__late *late) {
    nm_pool *pool = from->magazine.pool;
    while (count != 0) {
        nm__slot *first = slot_of(pool, letters[count - 1]);
        uint64_t generation = generation_of(first, letters[count - 1]);
        if (generation == 0) {
            nm__late_note(late, first);
            count--;
            continue;
        }
        nm__parcel *parcel = empty_parcel(from);
        if (parcel == NULL) {
            /* Whoever should have looked at what was sent has not: so that is ended here, with these, and comes home. */
            nm__station *to = (nm__station *)(void *)nm__magazine_of(first);
            nm__letters_end(pool, nm_atomic_exchange(&to->inbox, NULL, NM_SEQ_CST), letters, count, won, late);
            return;
        }
        /* All for the same station go together. */
        size_t kept = 0, taken = 0;
        nm__magazine *magazine = nm__magazine_of(first);
        for (size_t i = 0; i < count; i++) {
            if (nm__magazine_of(slot_of(pool, letters[i])) == magazine)
                parcel->letters[taken++] = letters[i];
            else
                letters[kept++] = letters[i];
        }
        count = kept;
        parcel->count = taken;
        nm__station *to = (nm__station *)(void *)magazine;
        nm__parcel *seen = nm_atomic_load(&to->inbox, NM_RELAXED);
        do {
            parcel->next = seen;
            /* release: pairs with the exchanges that take all. seq_cst: and before the look at the owner. */
        } while (!nm_atomic_cas_weak(&to->inbox, &seen, parcel, NM_SEQ_CST, NM_RELAXED));
        if (nm_atomic_load(&to->magazine.thread, NM_SEQ_CST) == NULL)
            nm__letters_end(pool, nm_atomic_exchange(&to->inbox, NULL, NM_SEQ_CST), NULL, 0, won, late);
    }
}

/* ---- to end -------------------------------------------------------------------------------------------------------- */

static void won_or_held(nm_pool *pool, nm__slot *slot, nm__chain *won) {
    if (!nm__lease_leaves(pool, slot)) return;
    nm__buffer_rest(pool, slot);
    nm__chain_add(pool, won, slot);
}

void nm__inbox_take(nm__station *station, nm__chain *rest, nm__late *late) {
    /* relaxed: a glance; what is missed is found the next time */
    if (nm_atomic_load(&station->inbox, NM_RELAXED) == NULL) return;
    nm_pool *pool = station->magazine.pool;
    nm__parcel *parcel = nm_atomic_exchange(&station->inbox, NULL, NM_ACQ_REL), *next;
    for (nm__parcel *p = parcel; p != NULL; p = p->next)
        for (size_t i = 0; i < p->count; i++) __builtin_prefetch(slot_of(pool, p->letters[i]), 1);
    for (; parcel != NULL; parcel = next) {
        next = parcel->next;
        for (size_t i = 0; i < parcel->count; i++) {
            nm__slot *slot = slot_of(pool, parcel->letters[i]);
            uint64_t generation = generation_of(slot, parcel->letters[i]);
            bool out = generation != 0 && nm__magazine_of(slot) == &station->magazine &&
                       nm_atomic_load(&slot->nm__own_mark, NM_RELAXED) != nm__generation_mark(generation);
            if (!out || !nm__end_own(slot, generation)) {
                nm__late_note(late, slot);
                continue;
            }
            nm__far_mark_settle(slot);
            if (nm__lease_leaves(pool, slot)) {
                nm__buffer_rest(pool, slot);
                if (nm__magazine_count(&station->magazine) < station->room)
                    nm__magazine_push(&station->magazine, slot);
                else
                    nm__chain_add(pool, rest, slot);
            }
        }
        send_home(parcel);
    }
}

/* First half for one letter; one that is lost is told late and becomes 0: no slot has the number 0. */
static void claim(const nm_pool *pool, uint64_t *letter, nm__late *late) {
    nm__slot *slot = slot_of(pool, *letter);
    uint64_t generation = generation_of(slot, *letter);
    if (generation != 0 && nm__end_claim(slot, generation)) return;
    nm__late_note(late, slot);
    *letter = 0;
}

static void decide(nm_pool *pool, uint64_t letter, nm__chain *won, nm__late *late) {
    if (letter == 0) return;
    nm__slot *slot = slot_of(pool, letter);
    uint64_t generation = generation_of(slot, letter);
    if (generation != 0 && nm__end_decide(slot, generation))
        won_or_held(pool, slot, won);
    else
        nm__late_note(late, slot);
}

void nm__letters_end(nm_pool *pool, nm__parcel *parcels, uint64_t *letters, size_t count, nm__chain *won,
                     nm__late *late) {
    if (parcels == NULL && count == 0) return;
    for (nm__parcel *p = parcels; p != NULL; p = p->next)
        for (size_t i = 0; i < p->count; i++) claim(pool, &p->letters[i], late);
    for (size_t i = 0; i < count; i++) claim(pool, &letters[i], late);
    if (!NM__FAULT(claim_without_barrier)) nm__os_get()->barrier();
    for (nm__parcel *p = parcels, *next; p != NULL; p = next) {
        next = p->next;
        for (size_t i = 0; i < p->count; i++) decide(pool, p->letters[i], won, late);
        send_home(p);
    }
    for (size_t i = 0; i < count; i++) decide(pool, letters[i], won, late);
}

bool nm__end_far_now(nm__slot *slot, uint64_t generation) {
    if (!nm__end_claim(slot, generation)) return false;
    if (!NM__FAULT(claim_without_barrier)) nm__os_get()->barrier();
    return nm__end_decide(slot, generation);
}
