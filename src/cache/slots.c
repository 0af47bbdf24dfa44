// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The slots that stand for pins and reservations, and the desk where those lie that no thread has in front. */
#include "cache/cache_internal.h"

/* ---- the desk; its lock is held ---- */

static void desk_push(nm__desk *desk, nm__slot *slot) {
    /* relaxed: the list is only touched under the desk's lock */
    nm_atomic_store(&slot->nm__link, desk->free_slot != NULL ? nm__slot_number(desk->free_slot) : NM__SLOT_NONE,
                    NM_RELAXED);
    desk->free_slot = slot;
    desk->free_count++;
}

static nm__slot *desk_pop(nm_cache *cache) {
    nm__slot *slot = cache->desk.free_slot;
    if (slot == NULL) return NULL;
    uint32_t next = nm_atomic_load(&slot->nm__link, NM_RELAXED);
    cache->desk.free_slot = next != NM__SLOT_NONE ? nm__slot_at(cache->scope, next) : NULL;
    cache->desk.free_count--;
    return slot;
}

static nm_status page_take(nm_cache *cache, bool quiet) {
    nm__slot *page;
    if (!nm__account_take(cache, NM__PAGE_BYTES)) return NM_ECAPACITY;
    nm_status status = nm__slots_take(cache->scope, quiet, &page);
    if (status != NM_OK) {
        nm__account_give(cache, NM__PAGE_BYTES);
        return status;
    }
    page->claim = (uint64_t)(uintptr_t)cache->desk.pages;
    cache->desk.pages = page;
    cache->desk.page_count++;
    for (unsigned i = NM__SLOTS_PER_PAGE; i-- > 0;) desk_push(&cache->desk, &page[i]);
    return NM_OK;
}

static nm__slot *next_page(const nm__slot *page) { return (nm__slot *)(uintptr_t)page->claim; }

static size_t give_pages(nm_cache *cache, nm__slot *page) {
    size_t bytes = 0;
    for (nm__slot *next; page != NULL; page = next, bytes += NM__PAGE_BYTES) {
        next = next_page(page);
        nm__slots_give(cache->scope, page);
        nm__account_give(cache, NM__PAGE_BYTES);
        cache->desk.page_count--;
    }
    return bytes;
}

/* ---- the desk ---- */

nm_status nm__desk_open(nm_cache *cache) {
    nm__slot_class_set(NM__SLOT_PIN, &nm__pin_class);
    nm__slot_class_set(NM__SLOT_RESERVATION, &nm__reservation_class);
    return page_take(cache, false);
}

void nm__desk_close(nm_cache *cache) {
    give_pages(cache, cache->desk.pages);
    cache->desk.pages = cache->desk.free_slot = NULL;
}

size_t nm__desk_trim(nm_cache *cache) {
    nm__desk *desk = &cache->desk;
    size_t bytes = 0;
    if (nm_atomic_load(&desk->page_count, NM_RELAXED) <= 1) return 0; /* relaxed: a glance */
    nm__lock_take(&desk->lock);
    if (desk->page_count > 1 && desk->free_count == desk->page_count * NM__SLOTS_PER_PAGE) {
        nm__slot *page = desk->pages;
        bytes = give_pages(cache, next_page(page));
        page->claim = 0;
        desk->free_slot = NULL;
        desk->free_count = 0;
        for (unsigned i = NM__SLOTS_PER_PAGE; i-- > 0;) desk_push(desk, &page[i]);
    }
    nm__lock_give(&desk->lock);
    return bytes;
}

unsigned nm__desk_take(nm_cache *cache, nm__slot **out, unsigned n, bool *grown) {
    unsigned got = 0;
    nm__lock_take(&cache->desk.lock);
    if (cache->desk.free_slot == NULL) *grown = page_take(cache, true) == NM_OK;
    while (got < n && (out[got] = desk_pop(cache)) != NULL) got++;
    nm__lock_give(&cache->desk.lock);
    return got;
}

void nm__desk_give(nm_cache *cache, nm__slot *const *slots, unsigned n) {
    nm__lock_take(&cache->desk.lock);
    for (unsigned i = 0; i < n; i++) desk_push(&cache->desk, slots[i]);
    nm__lock_give(&cache->desk.lock);
}

/* ---- slots for whoever needs one ---- */

nm__slot *nm__slot_make(nm__shard *shard, nm__reader *reader, nm__doomed *doomed) {
    nm_cache *cache = shard->cache;
    nm__slot *slot = NULL;
    bool more = true;
    if (reader != NULL && reader->slot_count != 0) return reader->slots[--reader->slot_count];
    /* Each round evicts for a page; others may take it first. */
    for (int i = 0; i < 4; i++) {
        bool grown = false;
        unsigned got = nm__desk_take(cache, &slot, 1, &grown);
        shard->unsettled |= grown;
        if (got == 1) return slot;
        if (!more) return NULL;
        if (nm__shard_squeeze(shard, NM__PAGE_BYTES, NM_EVICT_SPACE, doomed, &more) == 0 && !more) return NULL;
    }
    return NULL;
}

static inline bool gave_quick(nm__reader *reader, nm__slot *slot) {
    if (NM_UNLIKELY(reader == NULL || reader->slot_count == NM__READER_SLOTS)) return false;
    reader->slots[reader->slot_count++] = slot;
    return true;
}

void nm__slot_give(nm_cache *cache, nm__reader *reader, nm__slot *slot) {
    if (gave_quick(reader, slot)) return;
    if (reader == NULL) {
        nm__desk_give(cache, &slot, 1);
    } else {
        reader->slot_count -= NM__READER_SLOTS / 2;
        nm__desk_give(cache, &reader->slots[reader->slot_count], NM__READER_SLOTS / 2);
        reader->slots[reader->slot_count++] = slot;
    }
}

/* ---- the end of a pin ---- */

void nm__unpin_locked(nm__shard *shard, uint32_t offset, nm__doomed *doomed) {
    nm__entry *e = nm__entry_at(shard, offset); /* the pin keeps it where it is */
    if (nm__node_state(&e->node) & NM__ENTRY_OFF) {
        nm__node_set_next(&e->node, e->node.next - 1);
        if (e->node.next != 0) return;
        nm__chunk_unfix(shard, offset);
        nm__entry_mark(e, 0, NM__ENTRY_FIXED);
        nm__entry_retire(shard, offset, doomed);
    } else {
        nm__place_of place = nm__entry_place(shard, offset, nm__entry_hash(shard, e));
        if (nm__index_unpin_locked(&shard->index, place)) nm__entry_unhold(shard, offset);
    }
}

/* The word is not where it was, or the shard waits for this pin. */
static __attribute__((__noinline__)) void unpin_with_lock(nm__shard *shard, nm__place_of place) {
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    nm__unpin_locked(shard, place.offset, &doomed);
    nm__shard_unlock(shard, &doomed);
}

void nm__entry_unpin(nm__shard *shard, nm__place_of place) {
    if (NM_UNLIKELY(!nm__index_unpin(&shard->index, place))) unpin_with_lock(shard, place);
}

static void drop_reservation(nm__shard *shard, uint32_t offset) {
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    nm__chunk_unfix(shard, offset);
    doomed.seed = nm__heap_give(&shard->heap, offset); /* never was in the cache: no callback */
    nm__shard_unlock(shard, &doomed);
}

/* Of any kind, by any thread. */
static __attribute__((__noinline__)) void return_unusual(nm__shard *shard, nm__slot *slot) {
    nm_cache *cache = shard->cache;
    nm__reader *reader = nm__reader_find(cache);
    nm__place_of place = {.position = nm_atomic_load(&slot->nm__far_mark, NM_RELAXED),
                          .offset = nm__offset_of(shard, slot->data)};
    bool pin = nm_atomic_load(&slot->nm__stamp, NM_RELAXED) == NM__SLOT_PIN;
    nm__counts_pin(cache, reader, -1, -(int64_t)nm__entry_weight(slot->data));
    nm__slot_give(cache, reader, slot);
    if (pin)
        nm__entry_unpin(shard, place);
    else
        drop_reservation(shard, place.offset);
}

static inline __attribute__((__always_inline__)) void slot_return(nm__shard *shard, nm__slot *slot) {
    nm__reader *reader = nm__reader_quick(shard->cache->id);
    if (NM_UNLIKELY(reader == NULL || nm_atomic_load(&slot->nm__stamp, NM_RELAXED) != NM__SLOT_PIN)) {
        return_unusual(shard, slot);
        return;
    }
    nm__place_of place = {.position = nm_atomic_load(&slot->nm__far_mark, NM_RELAXED),
                          .offset = nm__offset_of(shard, slot->data)};
    nm__count_pin(&reader->counts, -1, -(int64_t)nm__entry_weight(slot->data));
    if (NM_UNLIKELY(!gave_quick(reader, slot))) nm__slot_give(shard->cache, reader, slot);
    if (NM_UNLIKELY(!nm__index_unpin(&shard->index, place))) unpin_with_lock(shard, place);
}

void nm__slot_return(nm__shard *shard, nm__slot *slot) { slot_return(shard, slot); }

/* ---- classes, and the close of a scope ---- */

static bool give_back(nm__slot *slot, uint64_t generation, const char *site) {
    if (!nm__slot_end(slot, generation, site)) return false;
    nm__slot_return(slot->owner, slot);
    return true;
}

static const char *name_of(const nm__slot *slot) { return ((const nm__shard *)slot->owner)->cache->name; }

static size_t bytes_of(const nm__slot *slot) { return nm__entry_weight(slot->data); }

static bool is_out(const nm__slot *slot, uint64_t generation) {
    return (generation & 1) != 0 && nm_atomic_load(&slot->generation, NM_ACQUIRE) == generation;
}

const nm__slot_class nm__pin_class = {
    .part = "cache", .leak = NM_LEAK_PIN, .release = give_back, .out = is_out, .name = name_of, .bytes = bytes_of};
const nm__slot_class nm__reservation_class = {.part = "cache",
                                              .leak = NM_LEAK_RESERVATION,
                                              .release = give_back,
                                              .out = is_out,
                                              .name = name_of,
                                              .bytes = bytes_of};

void nm__slots_end_all(nm_cache *cache, nm__leaks *leaks, const char *site) {
    for (nm__slot *page = cache->desk.pages; page != NULL; page = next_page(page))
        for (unsigned i = 0; i < NM__SLOTS_PER_PAGE; i++) {
            nm__slot *slot = &page[i];
            uint64_t generation = nm_atomic_load(&slot->generation, NM_ACQUIRE); /* pairs with nm__slot_issue */
            if ((generation & 1) == 0) continue;
            const nm__slot_class *class = nm__slot_class_of(slot);
            nm__leaks_note(leaks, class->leak, cache->name, 1, class->bytes(slot),
                           nm_atomic_load(&slot->leased_at, NM_RELAXED));
            (void)class->release(slot, generation, site);
        }
}

void(nm_entry_release)(nm_entry *entry) { nm_entry_release_at(entry, "?"); }

void nm_entry_release_at(nm_entry *entry, const char *site) {
    if (entry == NULL || entry->slot == NULL) return;
    nm__slot *slot = entry->slot;
    if (NM_LIKELY(nm__slot_end(slot, entry->generation, site)))
        slot_return(slot->owner, slot);
    else
        nm__slot_misuse(slot, "entry released twice", entry->value, site);
    memset(entry, 0, sizeof *entry);
}
