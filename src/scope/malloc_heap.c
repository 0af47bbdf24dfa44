// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The life of a scope's heap: made at the first allocation, asked to give back, closed with what leaked. */
#include "check/check.h"
#include "scope/malloc.h"

static nm__malloc *of_holder(nm__holder *holder) {
    return (nm__malloc *)(void *)((unsigned char *)holder - offsetof(nm__malloc, holder));
}

static size_t reclaim(nm__holder *holder, size_t wanted_bytes) {
    (void)wanted_bytes; /* there is one page to give */
    nm__malloc *heap = of_holder(holder);
    if (!nm__lock_try(&heap->lock)) return 0;
    nm__malloc_page *page = nm__malloc_page_take_empty(heap);
    nm__lock_give(&heap->lock);
    if (page == NULL) return 0;
    size_t bytes = page->block.granted;
    nm__malloc_page_give(heap, page);
    return bytes;
}

static size_t used(const nm__holder *holder) {
    const nm__malloc *heap =
        (const nm__malloc *)(const void *)((const unsigned char *)holder - offsetof(nm__malloc, holder));
    /* relaxed: pairs with nm__malloc_count; a number for people */
    return nm_atomic_load(&heap->used, NM_RELAXED);
}

/* ---- close ------------------------------------------------------------------------------------------------------- */

NM__UNCHECKED static void note(const nm__malloc *heap, nm__leaks *leaks, const nm__malloc_header *h, size_t bytes) {
    nm__leaks_note(leaks, NM_LEAK_MALLOC, heap->scope->name, 1, bytes, nm_atomic_load(&h->site, NM_RELAXED));
}

NM__UNCHECKED static void note_slots(const nm__malloc *heap, nm__leaks *leaks, nm__malloc_page *page) {
    if (page->used == 0) return;
    for (size_t d = NM__MALLOC_PAGE_HEADER_BYTES / NM__MALLOC_UNIT; d < page->fresh; d += page->step) {
        const nm__malloc_header *h = nm__malloc_header_at(page, d);
        uint64_t word = nm_atomic_load(&h->word, NM_RELAXED);
        if (nm__malloc_is(h, word, NM__MALLOC_SHIFTED)) {
            h += nm__malloc_shift(word);
            word = nm_atomic_load(&h->word, NM_RELAXED);
        }
        if (nm__malloc_is(h, word, NM__MALLOC_LIVE)) note(heap, leaks, h, nm__malloc_word_bytes(word));
    }
}

static void close_pages(nm__malloc *heap, nm__leaks *leaks, nm__malloc_page *page) {
    while (page != NULL) {
        nm__malloc_page *next = page->next;
        if (leaks->mode != NM_LEAKS_OFF) note_slots(heap, leaks, page);
        if (page != &heap->home) nm__malloc_page_give(heap, page);
        page = next;
    }
}

static void close_large(nm__malloc *heap, nm__leaks *leaks) {
    while (heap->large != NULL) {
        nm__malloc_page *page = heap->large;
        heap->large = page->next;
        note(heap, leaks, nm__malloc_header_at(page, page->free), page->large_bytes);
        nm__malloc_page_give(heap, page);
    }
}

static void close_with_scope(nm__holder *holder, nm__leaks *leaks, const char *site) {
    (void)site;
    nm__malloc *heap = of_holder(holder);
    nm_scope *scope = heap->scope;
    nm_atomic_store(&scope->heap, (nm__malloc *)NULL, NM_RELAXED);
    close_large(heap, leaks);
    close_pages(heap, leaks, heap->full);
    for (unsigned class = 0; class < NM__MALLOC_CLASSES; class ++) close_pages(heap, leaks, heap->open[class]);
    nm__lock_close(&heap->lock);
    heap->home.block = heap->block;
    nm__malloc_page_give(heap, &heap->home);
}

static const nm__holder_class malloc_class = {
    .part = "malloc",
    .reclaim = reclaim,
    .close = close_with_scope,
    .used = used,
};

/* ---- open -------------------------------------------------------------------------------------------------------- */

/* Holders are closed from the front of the list and enter it there. What a cache does with its objects when it closes may
 * be to free them here, so the heap goes last. */
static void move_to_the_end(nm_scope *scope, nm__holder *holder) {
    pthread_mutex_lock(&scope->root->tree);
    while (holder->next != NULL) {
        nm__holder *before = holder->previous, *other = holder->next, *after = other->next;
        if (before != NULL)
            before->next = other;
        else
            scope->holders = other;
        other->previous = before;
        other->next = holder;
        holder->previous = other;
        holder->next = after;
        if (after != NULL) after->previous = holder;
    }
    pthread_mutex_unlock(&scope->root->tree);
}

nm__holder *nm__malloc_holder(const nm_scope *scope) {
    nm__malloc *heap = nm_atomic_load(&scope->heap, NM_ACQUIRE);
    return heap != NULL ? &heap->holder : NULL;
}

nm__malloc *nm__malloc_heap(nm_scope *scope) {
    /* acquire: pairs with the exchange below; the heap is seen whole */
    nm__malloc *seen = nm_atomic_load(&scope->heap, NM_ACQUIRE);
    if (seen != NULL) return seen;
    nm__block block;
    nm_status st = nm__block_take(scope, NM__MALLOC_PAGE_FIRST_BYTES, NM__MALLOC_PAGE_FIRST_BYTES, &block);
    if (st != NM_OK) return NULL;
    nm__malloc *heap = (nm__malloc *)(void *)block.base;
    memset(heap, 0, sizeof *heap);
    nm__lock_open(&heap->lock);
    heap->scope = scope;
    heap->block = block;
    heap->checked = nm__check_active();
    heap->holder.class = &malloc_class;
    heap->holder.name = "";
    nm__malloc_page_open(heap, &heap->home, block.granted - offsetof(nm__malloc, home));
    /* release: publishes the heap. Two threads may come here at once; the second one's is not needed */
    if (!nm_atomic_cas(&scope->heap, &seen, heap, NM_RELEASE, NM_ACQUIRE)) {
        nm__lock_close(&heap->lock);
        heap->home.block = block;
        nm__malloc_page_give(heap, &heap->home);
        return seen;
    }
    nm__holder_add(scope, &heap->holder, NM__RECLAIM_POOL);
    move_to_the_end(scope, &heap->holder);
    return heap;
}
