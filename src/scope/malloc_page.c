// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Pages of equal slots: cutting them, and which of the empty ones are kept. */
#include "check/check.h"
#include "scope/malloc.h"

/* A class begins with a page for so many slots, if that is more than the first page's size. */
#define FIRST_SLOTS 4

size_t nm__malloc_slot_bytes(unsigned class) {
    if (class < NM__MALLOC_FINE_COUNT) return NM__MALLOC_SLOT_MIN + class * NM__MALLOC_UNIT;
    unsigned coarse = class - NM__MALLOC_FINE_COUNT;
    size_t doubling = NM__MALLOC_FINE_LAST << coarse / 4;
    return doubling + doubling / 4 * (coarse % 4 + 1);
}

/* Behind the last slot, as behind every other one, there shall be bytes that are not to be touched. */
static size_t tail_bytes(void) { return nm__check_active() ? NM__RED_ZONE_BYTES : 0; }

size_t nm__malloc_page_least(unsigned class) {
    return NM__MALLOC_PAGE_HEADER_BYTES + nm__malloc_slot_bytes(class) + tail_bytes();
}

bool nm__malloc_home_serves(unsigned class) {
    return nm__malloc_page_least(class) <= NM__MALLOC_PAGE_FIRST_BYTES - offsetof(nm__malloc, home);
}

size_t nm__malloc_page_wanted(nm__malloc *heap, unsigned class) {
    size_t first = nm__max(NM__MALLOC_PAGE_FIRST_BYTES, nm__block_bytes(nm__malloc_slot_bytes(class) * FIRST_SLOTS));
    unsigned step = heap != NULL ? nm_atomic_load(&heap->step[class], NM_RELAXED) : 0; /* a hint */
    return nm__min(first << step, NM__MALLOC_PAGE_LAST_BYTES);
}

void nm__malloc_page_link(nm__malloc_page **list, nm__malloc_page *page) {
    page->previous = NULL;
    page->next = *list;
    if (page->next != NULL) page->next->previous = page;
    *list = page;
}

void nm__malloc_page_unlink(nm__malloc_page **list, nm__malloc_page *page) {
    if (page->previous != NULL)
        page->previous->next = page->next;
    else
        *list = page->next;
    if (page->next != NULL) page->next->previous = page->previous;
}

void nm__malloc_page_open(nm__malloc *heap, nm__malloc_page *page, size_t bytes) {
    page->heap = heap;
    page->units = (uint32_t)(bytes / NM__MALLOC_UNIT);
    page->used = 0;
    page->class = NM__MALLOC_LARGE;
    nm_atomic_store(&page->seal, nm__malloc_page_seal(page), NM_RELAXED);
    nm__check_poison(page + 1, page->units * NM__MALLOC_UNIT - sizeof *page);
}

static size_t slots_of(const nm__malloc_page *page, unsigned class) {
    size_t rest = page->units * NM__MALLOC_UNIT - NM__MALLOC_PAGE_HEADER_BYTES - tail_bytes();
    return rest / nm__malloc_slot_bytes(class);
}

void nm__malloc_page_cut(nm__malloc *heap, nm__malloc_page *page, unsigned class) {
    if (page->class != NM__MALLOC_LARGE) nm__malloc_page_unlink(&heap->open[page->class], page);
    page->class = class;
    page->step = (uint32_t)(nm__malloc_slot_bytes(class) / NM__MALLOC_UNIT);
    page->free = 0;
    page->fresh = NM__MALLOC_PAGE_HEADER_BYTES / NM__MALLOC_UNIT;
    page->capacity = (uint32_t)slots_of(page, class);
    nm__malloc_page_link(&heap->open[class], page);
}

void nm__malloc_page_fill(nm__malloc *heap, nm__malloc_page *page) {
    nm__malloc_page_unlink(&heap->open[page->class], page);
    nm__malloc_page_link(&heap->full, page);
}

void nm__malloc_page_reopen(nm__malloc *heap, nm__malloc_page *page) {
    nm__malloc_page_unlink(&heap->full, page);
    nm__malloc_page_link(&heap->open[page->class], page);
}

void nm__malloc_page_lose_free(nm__malloc *heap, nm__malloc_page *page) {
    if (page->used == 0) {
        nm__malloc_page_cut(heap, page, page->class);
        return;
    }
    size_t cut = (page->fresh - NM__MALLOC_PAGE_HEADER_BYTES / NM__MALLOC_UNIT) / page->step;
    page->free = 0;
    page->capacity = page->used + (uint32_t)(slots_of(page, page->class) - cut);
    if (page->used == page->capacity) nm__malloc_page_fill(heap, page);
}

static bool can_serve(const nm__malloc_page *page, unsigned class) {
    return page != NULL && page->used == 0 && slots_of(page, class) > 0;
}

nm__malloc_page *nm__malloc_page_find(nm__malloc *heap, unsigned class) {
    nm__malloc_page *page = heap->open[class];
    if (page != NULL) return page;
    if (can_serve(&heap->home, class))
        page = &heap->home;
    else if (can_serve(heap->empty, class))
        page = heap->empty;
    if (page != NULL) nm__malloc_page_cut(heap, page, class);
    return page;
}

nm__malloc_page *nm__malloc_page_take_empty(nm__malloc *heap) {
    nm__malloc_page *page = heap->empty;
    if (page == NULL) return NULL;
    nm__malloc_page_unlink(&heap->open[page->class], page);
    uint8_t step = heap->step[page->class];
    if (step > 0) nm_atomic_store(&heap->step[page->class], (uint8_t)(step - 1), NM_RELAXED);
    heap->empty = NULL;
    return page;
}

nm__malloc_page *nm__malloc_page_emptied(nm__malloc *heap, nm__malloc_page *page) {
    if (page == &heap->home) return NULL;
    nm__malloc_page *old = nm__malloc_page_take_empty(heap);
    heap->empty = page;
    return old;
}

void nm__malloc_page_give(nm__malloc *heap, nm__malloc_page *page) {
    nm__block block = page->block;
    nm_atomic_store(&page->seal, 0, NM_RELAXED);
    nm__check_unpoison(block.base, block.granted);
    nm__block_give(heap->scope, &block);
}
