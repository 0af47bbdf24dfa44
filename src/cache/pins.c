// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Pins and reservations: the slots that stand for them. */
#include "cache/cache_internal.h"

static void list_slot(nm__shard *shard, nm__slot *slot) {
    /* relaxed: the lists of free slots are only touched under the shard's lock */
    nm_atomic_store(&slot->nm__link, shard->free_slot != NULL ? nm__slot_number(shard->free_slot) : NM__SLOT_NONE,
                    NM_RELAXED);
    shard->free_slot = slot;
}

nm_status nm__slot_page_take(nm__shard *shard, bool quiet) {
    nm_cache *cache = shard->cache;
    nm__slot *page;
    nm__slot_class_set(NM__SLOT_PIN, &nm__pin_class);
    nm__slot_class_set(NM__SLOT_RESERVATION, &nm__reservation_class);
    if (!nm__account_take(cache, NM__PAGE_BYTES)) return NM_ECAPACITY;
    nm_status status = nm__slots_take(cache->scope, quiet, &page);
    if (status != NM_OK) {
        nm__account_give(cache, NM__PAGE_BYTES);
        return status;
    }
    page->claim = (uint64_t)(uintptr_t)shard->slot_pages;
    shard->slot_pages = page;
    shard->slot_page_count++;
    shard->unsettled = true;
    for (unsigned i = NM__SLOTS_PER_PAGE; i-- > 0;) list_slot(shard, &page[i]);
    return NM_OK;
}

static nm__slot *next_page(const nm__slot *page) { return (nm__slot *)(uintptr_t)page->claim; }

static void give_pages(nm__shard *shard, nm__slot *page) {
    while (page != NULL) {
        nm__slot *next = next_page(page);
        nm__slots_give(shard->cache->scope, page);
        nm__account_give(shard->cache, NM__PAGE_BYTES);
        shard->given_bytes += NM__PAGE_BYTES;
        shard->slot_page_count--;
        page = next;
    }
}

size_t nm__slot_pages_trim(nm__shard *shard) {
    size_t start = shard->given_bytes;
    if (shard->pin_count != 0 || shard->slot_page_count <= 1) return 0;
    nm__slot *page = shard->slot_pages;
    give_pages(shard, next_page(page));
    page->claim = 0;
    shard->free_slot = NULL;
    for (unsigned i = NM__SLOTS_PER_PAGE; i-- > 0;) list_slot(shard, &page[i]);
    return shard->given_bytes - start;
}

bool nm__slot_ready(nm__shard *shard, nm__doomed *doomed) {
    for (int i = 0; shard->free_slot == NULL; i++) {
        if (nm__slot_page_take(shard, true) == NM_OK) return true;
        bool more;
        if (i == 4 || (nm__shard_squeeze(shard, NM__PAGE_BYTES, NM_EVICT_SPACE, doomed, &more) == 0 && !more))
            return false;
    }
    return true;
}

void nm__entry_describe(const nm__shard *shard, uint32_t offset, nm_entry *out) {
    const nm__entry *e = nm__heap_at(&shard->heap, offset);
    const nm__entry_more *more = nm__entry_more_of(e);
    out->value = nm__entry_value(e);
    out->value_len = nm__entry_value_len(e);
    if (e->bits & NM__IS_OBJECT) {
        const nm__object *object = out->value;
        out->value_len = (size_t)object->bytes;
        out->value = object->address;
    }
    out->key = nm__entry_key(e);
    out->key_len = e->key_len;
    out->cas = e->cas;
    out->flags = more != NULL ? more->flags : 0;
    out->expires_ms = NM_TTL_NEVER;
    if (more != NULL && more->expires_ms != NM_TTL_NEVER) {
        uint64_t now = nm__os_get()->clock_coarse_ms();
        out->expires_ms = more->expires_ms > now ? more->expires_ms - now : 0;
    }
}

void nm__slot_lease(nm__shard *shard, uint32_t offset, nm__slot_kind kind, const char *site, nm_entry *out) {
    nm__entry *e = nm__heap_at(&shard->heap, offset);
    nm__slot *slot = shard->free_slot;
    uint32_t next = nm_atomic_load(&slot->nm__link, NM_RELAXED);
    shard->free_slot = next != NM__SLOT_NONE ? nm__slot_at(shard->cache->scope, next) : NULL;
    if ((e->node.state & NM__PINS) == 0) {
        if (!(e->node.state & NM__RESERVED)) nm__segments_pin(&shard->segments, offset);
        nm__chunk_fix(shard, offset);
        shard->pinned_bytes += nm__entry_weight(e);
    }
    e->node.state++;
    shard->pin_count++;
    slot->owner = shard;
    slot->data = e;
    nm_atomic_store(&slot->nm__stamp, (uint32_t)kind, NM_RELAXED); /* published by the generation */
    nm_atomic_store(&slot->leased_at, site, NM_RELAXED);
    uint64_t generation = nm_atomic_load(&slot->generation, NM_RELAXED) + 1;
    /* release: pairs with the acquire in nm__slot_end; whoever ends this life sees owner and data */
    nm_atomic_store(&slot->generation, generation, NM_RELEASE);
    out->slot = slot;
    out->generation = generation;
}

bool nm__slot_end(nm__slot *slot, uint64_t generation, const char *site) {
    uint64_t seen = generation;
    /* acquire: pairs with the release in nm__slot_lease. release: pairs with the acquire of a later nm__slot_end, which then
     * loses. Only the one that wins touches the entry. */
    if ((generation & 1) == 0 || !nm_atomic_cas(&slot->generation, &seen, generation + 1, NM_ACQ_REL, NM_ACQUIRE))
        return false;
    nm_atomic_store(&slot->released_at, site, NM_RELAXED); /* for reports only */
    return true;
}

/* One pin less. True if it was the last. */
static bool unpin(nm__shard *shard, nm__slot *slot) {
    nm__entry *e = slot->data;
    list_slot(shard, slot);
    shard->pin_count--;
    if ((--e->node.state & NM__PINS) != 0) return false;
    shard->pinned_bytes -= nm__entry_weight(e);
    nm__chunk_unfix(shard, nm__offset_of(shard, e));
    return true;
}

void nm__slot_return(nm__shard *shard, nm__slot *slot, nm__doomed *doomed) {
    const nm__entry *e = slot->data;
    uint32_t offset = nm__offset_of(shard, e);
    if (!unpin(shard, slot)) return;
    if (e->node.state & NM__ZOMBIE)
        nm__entry_retire(shard, offset, doomed);
    else if (e->node.state & NM__RESERVED)
        doomed->seed = nm__heap_give(&shard->heap, offset); /* never was in the cache: no callback */
    else
        nm__segments_unpin(&shard->segments, offset);
}

void nm__slot_publish(nm__shard *shard, nm__slot *slot) { unpin(shard, slot); }

void nm__slots_end_all(nm__shard *shard, nm__leaks *leaks, const char *site) {
    const nm__slot_class *class;
    for (nm__slot *page = shard->slot_pages; page != NULL; page = next_page(page))
        for (unsigned i = 0; i < NM__SLOTS_PER_PAGE; i++) {
            nm__slot *slot = &page[i];
            nm__doomed doomed = {0};
            uint64_t generation = nm_atomic_load(&slot->generation, NM_ACQUIRE); /* pairs with nm__slot_lease */
            if ((generation & 1) == 0) continue;
            class = nm__slot_class_of(slot);
            nm__leaks_note(leaks, class->leak, shard->cache->name, 1, class->bytes(slot),
                           nm_atomic_load(&slot->leased_at, NM_RELAXED));
            if (!nm__slot_end(slot, generation, site)) continue;
            nm__shard_lock(shard);
            nm__slot_return(shard, slot, &doomed);
            nm__shard_unlock(shard, &doomed);
        }
}

void nm__slot_pages_give(nm__shard *shard) {
    give_pages(shard, shard->slot_pages);
    shard->slot_pages = shard->free_slot = NULL;
}

static bool give_back(nm__slot *slot, uint64_t generation, const char *site) {
    if (!nm__slot_end(slot, generation, site)) return false;
    nm__shard *shard = slot->owner;
    nm__doomed doomed = {0};
    nm__shard_lock(shard);
    nm__slot_return(shard, slot, &doomed);
    nm__shard_unlock(shard, &doomed);
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

void(nm_entry_release)(nm_entry *entry) { nm_entry_release_at(entry, "?"); }

void nm_entry_release_at(nm_entry *entry, const char *site) {
    if (entry == NULL || entry->slot == NULL) return;
    if (!give_back(entry->slot, entry->generation, site))
        nm__slot_misuse(entry->slot, "entry released twice", entry->value, site);
    memset(entry, 0, sizeof *entry);
}
