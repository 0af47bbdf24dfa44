// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Notes of what a scope holds through the _in functions: leases, pins, reservations, given back at its close.
 *
 * A release never comes here: it may run on any thread. So a note is a slot and a generation, and it is stale once the slot
 * has moved on; stale notes are swept when room or the held limit is short. */
#include "base/options.h"
#include "scope/scope_internal.h"

typedef struct note {
    nm__slot *slot;
    uint64_t generation;
    size_t bytes;
} note;

#define NOTES_PER_RECORD ((NM__RECORD_BYTES - 2 * sizeof(void *)) / sizeof(note))

struct nm__held {
    nm__held *older;
    uint32_t count;
    uint32_t chunks; /* this record and all older ones */
    note notes[NOTES_PER_RECORD];
};
_Static_assert(sizeof(nm__held) <= NM__RECORD_BYTES, "notes lie in records");

static uint32_t chunks_of(const nm_scope *scope) { return scope->held != NULL ? scope->held->chunks : 0; }

/* The class first: where the slot has gone on to another part, that one's answer to an old generation is no, too. */
static bool is_stale(const note *n) {
    const nm__slot_class *class = nm__slot_class_of(n->slot);
    return class == NULL || !class->out(n->slot, n->generation);
}

static void sweep(nm_scope *scope, nm__held *record) {
    for (size_t i = record->count; i-- > 0;) {
        if (!is_stale(&record->notes[i])) continue;
        scope->held_bytes -= record->notes[i].bytes;
        scope->held_free++;
        record->notes[i] = record->notes[--record->count];
    }
}

static void sweep_all(nm_scope *scope) {
    for (nm__held *r = scope->held; r != NULL; r = r->older) sweep(scope, r);
}

/* True: one more note has room, and it is set aside. */
static bool set_aside(nm_scope *scope) {
    if (scope->held_free == scope->held_reserved && scope->held != NULL) {
        sweep(scope, scope->held);
        /* All records only if that is likely to free half of them: else their number doubles first. Amortized O(1). */
        if (scope->held_free == scope->held_reserved && chunks_of(scope) >= scope->held_sweep_at) {
            sweep_all(scope);
            bool half_free = scope->held_free >= chunks_of(scope) * (uint32_t)NOTES_PER_RECORD / 2;
            scope->held_sweep_at = half_free ? chunks_of(scope) : chunks_of(scope) * 2;
        }
    }
    if (scope->held_free == scope->held_reserved) return false;
    scope->held_reserved++;
    return true;
}

nm_status nm__hold_prepare(nm_scope *scope, size_t bytes) {
    nm__lock_if_shared(scope);
    if (scope->held_limit != 0) {
        if (bytes > scope->held_limit || scope->held_bytes > scope->held_limit - bytes) sweep_all(scope);
        if (bytes > scope->held_limit || scope->held_bytes > scope->held_limit - bytes) {
            nm__unlock_if_shared(scope);
            return NM_ECAPACITY;
        }
    }
    scope->held_bytes += bytes;
    bool ready = set_aside(scope);
    nm__unlock_if_shared(scope);
    if (ready) return NM_OK;

    void *memory;
    nm_status st = nm__record_take(scope, &memory);
    nm__lock_if_shared(scope);
    if (st == NM_OK) {
        nm__held *record = memory;
        record->older = scope->held;
        record->count = 0;
        record->chunks = chunks_of(scope) + 1;
        scope->held = record;
        scope->held_free += (uint32_t)NOTES_PER_RECORD;
        scope->held_reserved++;
    } else {
        scope->held_bytes -= bytes;
    }
    nm__unlock_if_shared(scope);
    return st;
}

void nm__hold(nm_scope *scope, nm__slot *slot, uint64_t generation, size_t bytes) {
    nm__lock_if_shared(scope);
    nm__held *record = scope->held;
    while (record->count == NOTES_PER_RECORD)
        record = record->older; /* nm__hold_prepare saw to it that there is room */
    record->notes[record->count++] = (note){slot, generation, bytes};
    scope->held_reserved--;
    scope->held_free--;
    nm__unlock_if_shared(scope);
}

void nm__hold_cancel(nm_scope *scope, size_t bytes) {
    nm__held *unused = NULL;
    nm__lock_if_shared(scope);
    scope->held_reserved--;
    scope->held_bytes -= bytes;
    /* A record that was taken for this note alone goes back: a refused call changes nothing. */
    if (scope->held->count == 0 && scope->held_free - scope->held_reserved >= NOTES_PER_RECORD) {
        unused = scope->held;
        scope->held = unused->older;
        scope->held_free -= (uint32_t)NOTES_PER_RECORD;
    }
    nm__unlock_if_shared(scope);
    if (unused != NULL) nm__record_give(scope, unused);
}

void nm__held_give_back(nm_scope *scope, nm__leaks *leaks, const char *site) {
    while (scope->held != NULL) {
        nm__held *record = scope->held;
        for (size_t i = record->count; i-- > 0;) {
            note *n = &record->notes[i];
            const nm__slot_class *class = nm__slot_class_of(n->slot);
            /* the site of this lease, read before a release lets the slot go to another */
            const char *leased_at = nm_atomic_load(&n->slot->leased_at, NM_RELAXED);
            bool strict = leaks->mode == NM_LEAKS_STRICT && !is_stale(n);
            char name[NM_NAME_BYTES] = "";
            if (strict) nm__name_copy(name, class->name(n->slot));
            if (!is_stale(n) && class->release(n->slot, n->generation, site) && strict)
                nm__leaks_note(leaks, class->leak, name, 1, n->bytes, leased_at);
        }
        scope->held = record->older;
        nm__record_give(scope, record);
    }
    scope->held_bytes = 0;
    scope->held_free = scope->held_reserved = scope->held_sweep_at = 0;
}
