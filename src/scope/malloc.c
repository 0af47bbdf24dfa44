// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nm_scope_malloc and its kin: slots of pages, and large ones with a block of their own. */
#include "scope/malloc.h"
#include "check/check.h"

#define ALIGN_MAX ((size_t)2 << 20)

/* ---- headers ----------------------------------------------------------------------------------------------------- */

NM__UNCHECKED static inline void write_word(nm__malloc_header *h, uint64_t state, uint64_t low) {
    nm_atomic_store(&h->word, (nm__malloc_seal(h, state) & NM__MALLOC_SEAL_MASK) | low, NM_RELAXED);
}

NM__UNCHECKED static inline void write_header(nm__malloc_header *h, const char *site, uint64_t state, uint64_t low) {
    nm_atomic_store(&h->site, site, NM_RELAXED);
    write_word(h, state, low);
}

NM__UNCHECKED static uint64_t read_word(const nm__malloc_header *h) { return nm_atomic_load(&h->word, NM_RELAXED); }

static uintptr_t epitaph_check(const nm__malloc_epitaph *e, const char *released_at) {
    return ~((uintptr_t)e ^ (uintptr_t)released_at);
}

NM__UNCHECKED static void write_epitaph(void *p, const char *site) {
    nm__malloc_epitaph *e = p;
    e->released_at = site;
    e->check = epitaph_check(e, site);
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

NM__UNCHECKED __attribute__((cold, noinline)) static void tell(const char *what, const void *p, const char *name,
                                                               const char *site) {
    nm_misuse misuse = {.what = what, .part = "malloc", .name = name, .address = p, .site = site};
    const nm__malloc_header *h = nm__malloc_header_of(p);
    bool header = (uintptr_t)p % NM__MALLOC_UNIT == 0;
    bool freed = header && nm__malloc_is(h, read_word(h), NM__MALLOC_FREE);
    if (freed || (header && nm__malloc_is(h, read_word(h), NM__MALLOC_LIVE)))
        misuse.leased_at = nm_atomic_load(&h->site, NM_RELAXED);
    if (freed) {
        const nm__malloc_epitaph *e = p;
        if (e->check == epitaph_check(e, e->released_at)) misuse.released_at = e->released_at;
    }
    nm__misuse(&misuse);
}

__attribute__((cold, noinline)) static void tell_which(const void *p, const char *site) {
    const nm__malloc_header *h = nm__malloc_header_of(p);
    const char *what = "not an allocation of nm_scope_malloc, or the bytes before it were overwritten";
    if ((uintptr_t)p % NM__MALLOC_UNIT == 0) {
        uint64_t word = read_word(h);
        if (nm__malloc_is(h, word, NM__MALLOC_FREE)) what = "allocation freed already";
        if (nm__malloc_is(h, word, NM__MALLOC_LIVE)) what = "allocation of a scope that is closed";
    }
    tell(what, p, NULL, site);
}

/* The page of a live allocation and its header's word; NULL: it is none, which has been told. */
NM__UNCHECKED static inline nm__malloc_page *find(const void *p, uint64_t *word, const char *site) {
    nm__malloc_header *h = nm__malloc_header_of(p);
    if (NM_LIKELY((uintptr_t)p % NM__MALLOC_UNIT == 0)) {
        *word = nm_atomic_load(&h->word, NM_RELAXED);
        if (NM_LIKELY(nm__malloc_is(h, *word, NM__MALLOC_LIVE))) {
            nm__malloc_page *page = nm__malloc_page_of(h, *word);
            if (NM_LIKELY(nm_atomic_load(&page->seal, NM_RELAXED) == nm__malloc_page_seal(page))) return page;
        }
    }
    tell_which(p, site);
    return NULL;
}

/* ---- what an allocation has -------------------------------------------------------------------------------------- */

static bool is_large(const nm__malloc_page *page) { return page->class == NM__MALLOC_LARGE; }

static size_t asked_bytes(const nm__malloc_page *page, uint64_t word) {
    return is_large(page) ? page->large_bytes : nm__malloc_word_bytes(word);
}

/* Up to the end of its slot or block. */
static size_t room_bytes(const nm__malloc_page *page, const void *p, uint64_t word) {
    if (is_large(page)) {
        size_t end = (size_t)(page->block.base + page->block.granted - (const unsigned char *)p);
        return page->heap->checked ? end - NM__RED_ZONE_BYTES : end;
    }
    size_t before = (nm__malloc_shift(word) + 1) * NM__MALLOC_UNIT;
    return nm__malloc_slot_bytes(page->class) - before;
}

/* While a checker watches, what was not asked for is poisoned. */
static size_t usable_bytes(const nm__malloc_page *page, const void *p, uint64_t word) {
    return page->heap->checked ? asked_bytes(page, word) : room_bytes(page, p, word);
}

static void count(nm__malloc *heap, size_t more, size_t less) {
    /* written under the lock only; relaxed: pairs with the load of stats */
    nm_atomic_store(&heap->used, heap->used + more - less, NM_RELAXED);
}

/* ---- small ones -------------------------------------------------------------------------------------------------- */

/* The page has a slot free, and the slot's room, aligned, has n bytes. NULL: the list of free slots was written over.
 * Under the lock. */
NM__UNCHECKED static inline void *place(nm__malloc *heap, nm__malloc_page *page, size_t n, size_t align,
                                        const char *site) {
    size_t d = page->free;
    nm__malloc_header *h = nm__malloc_header_at(page, d);
    if (d != 0) {
        uint64_t word = nm_atomic_load(&h->word, NM_RELAXED);
        if (NM_UNLIKELY(!nm__malloc_is(h, word, NM__MALLOC_FREE))) return NULL;
        page->free = (uint32_t)nm__malloc_word_bytes(word);
    } else {
        d = page->fresh;
        page->fresh += page->step;
        h = nm__malloc_header_at(page, d);
    }
    size_t shift = 0;
    if (align > NM__MALLOC_UNIT) {
        uintptr_t p = nm__round_up((uintptr_t)(h + 1), align);
        shift = (p - (uintptr_t)(h + 1)) / NM__MALLOC_UNIT;
        if (shift != 0) write_header(h, site, NM__MALLOC_SHIFTED, shift << NM__MALLOC_SHIFT_SHIFT | d);
        h += shift;
        d += shift;
    }
    write_header(h, site, NM__MALLOC_LIVE, shift << NM__MALLOC_SHIFT_SHIFT | n << NM__MALLOC_BYTES_SHIFT | d);
    if (page == heap->empty) heap->empty = NULL;
    if (++page->used == page->capacity) nm__malloc_page_fill(heap, page);
    count(heap, n, 0);
    if (NM_UNLIKELY(heap->checked)) nm__check_unpoison(h + 1, n);
    return h + 1;
}

static const char *const overwritten = "freed memory, or the end of what lies before it, was written over";

/* From a page that the heap has. NULL: none has a slot free. */
static void *from_pages(nm__malloc *heap, unsigned class, size_t n, size_t align, const char *site) {
    for (;;) {
        nm__lock_take(&heap->lock);
        nm__malloc_page *page = nm__malloc_page_find(heap, class);
        void *p = page != NULL ? place(heap, page, n, align, site) : NULL;
        bool lost = page != NULL && p == NULL;
        const void *at = lost ? nm__malloc_header_at(page, page->free) + 1 : NULL;
        if (lost) nm__malloc_page_lose_free(heap, page);
        nm__lock_give(&heap->lock);
        if (!lost) return p;
        nm__misuse(&(nm_misuse){.what = overwritten, .part = "malloc", .address = at, .site = site});
    }
}

/* Nothing is refused that a larger slot can serve. */
static void *from_larger(nm__malloc *heap, unsigned class, size_t n, size_t align, const char *site) {
    void *p = NULL;
    while (p == NULL && ++class < NM__MALLOC_CLASSES) p = from_pages(heap, class, n, align, site);
    return p;
}

/* All or nothing: what may be refused is asked for before the heap is made, if the heap's own block does not serve. */
static void *small(nm_scope *scope, unsigned class, size_t n, size_t align, const char *site) {
    nm__malloc *heap = nm_atomic_load(&scope->heap, NM_ACQUIRE); /* acquire: pairs with nm__malloc_heap */
    if (heap == NULL && nm__malloc_home_serves(class)) {
        heap = nm__malloc_heap(scope);
        if (heap == NULL) return NULL;
    }
    void *p = heap != NULL ? from_pages(heap, class, n, align, site) : NULL;
    if (p != NULL) return p;
    nm__block block;
    nm_status st = nm__block_take(scope, nm__malloc_page_least(class), nm__malloc_page_wanted(heap, class), &block);
    if (st != NM_OK) return heap != NULL ? from_larger(heap, class, n, align, site) : NULL;
    heap = nm__malloc_heap(scope);
    if (heap == NULL) {
        nm__block_give(scope, &block);
        return NULL;
    }
    nm__malloc_page *page = (nm__malloc_page *)(void *)block.base;
    page->block = block;
    nm__malloc_page_open(heap, page, block.granted);
    nm__lock_take(&heap->lock);
    nm__malloc_page_cut(heap, page, class);
    if (nm__malloc_page_wanted(heap, class) < NM__MALLOC_PAGE_LAST_BYTES)
        nm_atomic_store(&heap->step[class], (uint8_t)(heap->step[class] + 1), NM_RELAXED);
    p = place(heap, page, n, align, site); /* fresh: it does not fail */
    nm__lock_give(&heap->lock);
    return p;
}

/* ---- large ones -------------------------------------------------------------------------------------------------- */

static void *large(nm_scope *scope, size_t n, size_t align, const char *site) {
    size_t offset = nm__round_up(NM__MALLOC_PAGE_HEADER_BYTES + sizeof(nm__malloc_header), align);
    size_t bytes = offset + nm__max(n, sizeof(nm__malloc_epitaph)) + (nm__check_active() ? NM__RED_ZONE_BYTES : 0);
    nm__block block;
    nm_status st = nm__block_take(scope, bytes, bytes, &block);
    if (st != NM_OK) return NULL;
    nm__malloc *heap = nm__malloc_heap(scope);
    if (heap == NULL) {
        nm__block_give(scope, &block);
        return NULL;
    }
    nm__malloc_page *page = (nm__malloc_page *)(void *)block.base;
    void *p = block.base + offset;
    nm__malloc_header *h = nm__malloc_header_of(p);
    page->heap = heap;
    page->block = block;
    page->class = NM__MALLOC_LARGE;
    page->free = (uint32_t)(offset / NM__MALLOC_UNIT) - 1;
    page->large_bytes = n;
    nm_atomic_store(&page->seal, nm__malloc_page_seal(page), NM_RELAXED);
    write_header(h, site, NM__MALLOC_LIVE, page->free);
    nm__check_poison(page + 1, block.granted - sizeof *page);
    nm__check_unpoison(p, n);
    nm__lock_take(&heap->lock);
    nm__malloc_page_link(&heap->large, page);
    count(heap, n, 0);
    nm__lock_give(&heap->lock);
    return p;
}

/* ---- allocate and free ------------------------------------------------------------------------------------------- */

/* Sums with headers and alignment stay below NM__BYTES_MAX. */
#define BYTES_LIMIT (NM__BYTES_MAX / 2)

/* Where the status is a grant's the scope has noted it, with the bytes of the block; told is what was asked for. */
static void *refused(nm_scope *scope, size_t n) {
    nm_atomic_store(&scope->refused_wanted, n, NM_RELAXED);
    return NULL;
}

static void *refused_for(nm_scope *scope, nm_status status, size_t n) {
    nm__refusal_note(scope, status, NULL, n);
    return NULL;
}

__attribute__((noinline)) static void *allocate(nm_scope *scope, size_t n, size_t align, const char *site) {
    if (n > BYTES_LIMIT) return refused_for(scope, NM_ETOOLARGE, n);
    /* an aligned one keeps room for the epitaph where it begins */
    size_t room = align > NM__MALLOC_UNIT ? nm__max(n, sizeof(nm__malloc_epitaph)) + align - NM__MALLOC_UNIT : n;
    void *p = room <= NM__MALLOC_SMALL_MAX ? small(scope, nm__malloc_class(room), n, align, site)
                                           : large(scope, n, align, site);
    return p != NULL ? p : refused(scope, n);
}

void *nm_scope_malloc_at(nm_scope *scope, size_t n, const char *site) {
    if (scope == NULL) return NULL;
    nm__malloc *heap = nm_atomic_load(&scope->heap, NM_ACQUIRE); /* acquire: pairs with nm__malloc_heap */
    if (NM_LIKELY(heap != NULL && n <= NM__MALLOC_SMALL_MAX)) {
        unsigned class = nm__malloc_class(n);
        nm__lock_take(&heap->lock);
        nm__malloc_page *page = heap->open[class];
        void *p = page != NULL ? place(heap, page, n, NM__MALLOC_UNIT, site) : NULL;
        nm__lock_give(&heap->lock);
        if (NM_LIKELY(p != NULL)) return p;
    }
    return allocate(scope, n, NM__MALLOC_UNIT, site);
}

static void free_large(nm__malloc_page *page, void *p, uint64_t word, const char *site) {
    nm__malloc *heap = page->heap;
    nm__malloc_header *h = nm__malloc_header_of(p);
    nm__lock_take(&heap->lock);
    if (read_word(h) != word) { /* another thread was faster */
        nm__lock_give(&heap->lock);
        tell_which(p, site);
        return;
    }
    nm__malloc_page_unlink(&heap->large, page);
    count(heap, 0, page->large_bytes);
    write_word(h, NM__MALLOC_FREE, word & ~NM__MALLOC_SEAL_MASK);
    write_epitaph(p, site);
    nm__lock_give(&heap->lock);
    nm__malloc_page_give(heap, page);
}

NM__UNCHECKED void nm_scope_free_at(void *p, const char *site) {
    if (p == NULL) return;
    uint64_t word;
    nm__malloc_page *page = find(p, &word, site);
    if (NM_UNLIKELY(page == NULL)) return;
    if (NM_UNLIKELY(is_large(page))) {
        free_large(page, p, word, site);
        return;
    }
    nm__malloc *heap = page->heap;
    nm__malloc_header *h = nm__malloc_header_of(p);
    nm__malloc_page *gone = NULL;
    nm__lock_take(&heap->lock);
    if (NM_UNLIKELY(nm_atomic_load(&h->word, NM_RELAXED) != word)) {
        nm__lock_give(&heap->lock);
        tell_which(p, site);
        return;
    }
    size_t shift = nm__malloc_shift(word), d = nm__malloc_distance(word) - shift;
    count(heap, 0, nm__malloc_word_bytes(word));
    write_epitaph(p, site);
    if (NM_UNLIKELY(heap->checked)) nm__check_poison(p, room_bytes(page, p, word));
    if (NM_UNLIKELY(shift != 0)) {
        write_word(h, NM__MALLOC_FREE, word & ~NM__MALLOC_SEAL_MASK);
        h -= shift;
    }
    write_word(h, NM__MALLOC_FREE, (uint64_t)page->free << NM__MALLOC_BYTES_SHIFT | d);
    page->free = (uint32_t)d;
    if (NM_UNLIKELY(page->used == page->capacity)) nm__malloc_page_reopen(heap, page);
    if (NM_UNLIKELY(--page->used == 0)) gone = nm__malloc_page_emptied(heap, page);
    nm__lock_give(&heap->lock);
    if (NM_UNLIKELY(gone != NULL)) nm__malloc_page_give(heap, gone);
}

void *nm_scope_calloc_at(nm_scope *scope, size_t n, size_t size, const char *site) {
    size_t bytes;
    if (scope == NULL) return NULL;
    if (nm__mul_overflows(n, size, &bytes)) return refused_for(scope, NM_ETOOLARGE, SIZE_MAX);
    void *p = nm_scope_malloc_at(scope, bytes, site);
    if (p != NULL) memset(p, 0, bytes);
    return p;
}

void *nm_scope_aligned_alloc_at(nm_scope *scope, size_t align, size_t n, const char *site) {
    if (scope == NULL) return NULL;
    if (!nm__is_power_of_two(align) || align > ALIGN_MAX) return refused_for(scope, NM_EINVAL, n);
    return allocate(scope, n, nm__max(align, NM__MALLOC_UNIT), site);
}

size_t nm_scope_malloc_size(const void *p) {
    uint64_t word;
    if (p == NULL) return 0;
    nm__malloc_page *page = find(p, &word, "nm_scope_malloc_size");
    return page != NULL ? usable_bytes(page, p, word) : 0;
}

/* ---- realloc ----------------------------------------------------------------------------------------------------- */

/* The room has n bytes. */
static void resize(nm__malloc_page *page, void *p, uint64_t word, size_t n, const char *site) {
    nm__malloc *heap = page->heap;
    nm__malloc_header *h = nm__malloc_header_of(p);
    nm__lock_take(&heap->lock);
    count(heap, n, asked_bytes(page, word));
    nm__lock_give(&heap->lock);
    size_t bytes = is_large(page) ? 0 : n;
    if (is_large(page)) page->large_bytes = n;
    uint64_t place = word & ~(NM__MALLOC_SEAL_MASK | NM__MALLOC_BYTES_MASK);
    write_header(h, site, NM__MALLOC_LIVE, place | bytes << NM__MALLOC_BYTES_SHIFT);
    if (!heap->checked) return;
    nm__check_poison(p, room_bytes(page, p, word));
    nm__check_unpoison(p, n);
}

/* Grants more of a large one's block, if the block is large enough. */
static bool extends(nm__malloc_page *page, const void *p, uint64_t word, size_t n) {
    nm__block *block = &page->block;
    size_t more = nm__round_up(n - room_bytes(page, p, word), NM_ALIGN);
    if (!is_large(page) || more > block->bytes - block->granted) return false;
    unsigned char *old_end = block->base + block->granted;
    if (nm__block_extend(page->heap->scope, block, more) != NM_OK) return false;
    nm__check_poison(old_end, (size_t)(block->base + block->granted - old_end));
    return true;
}

void *nm_scope_realloc_at(nm_scope *scope, void *p, size_t n, const char *site) {
    if (p == NULL) return nm_scope_malloc_at(scope, n, site);
    if (scope == NULL) return NULL;
    uint64_t word;
    nm__malloc_page *page = find(p, &word, site);
    if (page == NULL) return NULL;
    if (page->heap->scope != scope) {
        tell("allocation given to realloc with another scope than its own", p, page->heap->scope->name, site);
        return NULL;
    }
    if (n > BYTES_LIMIT) return refused_for(scope, NM_ETOOLARGE, n);
    size_t room = room_bytes(page, p, word);
    /* a slot or block of which half is left over is given up */
    bool stays = n <= room ? n >= room / 2 || room < NM__MALLOC_SLOT_MIN : extends(page, p, word, n);
    void *moved = stays ? NULL : nm_scope_malloc_at(scope, n, site);
    if (moved == NULL) {
        if (!stays && n > room) return refused(scope, n);
        resize(page, p, word, n, site); /* shrinking is never refused */
        return p;
    }
    memcpy(moved, p, nm__min(usable_bytes(page, p, word), n));
    nm_scope_free_at(p, site);
    return moved;
}

/* ---- for pointers and bindings ----------------------------------------------------------------------------------- */

void *(nm_scope_malloc)(nm_scope *scope, size_t n) { return nm_scope_malloc_at(scope, n, "?"); }
void *(nm_scope_calloc)(nm_scope *scope, size_t n, size_t size) { return nm_scope_calloc_at(scope, n, size, "?"); }
void *(nm_scope_realloc)(nm_scope *scope, void *p, size_t n) { return nm_scope_realloc_at(scope, p, n, "?"); }
void *(nm_scope_aligned_alloc)(nm_scope *scope, size_t align, size_t n) {
    return nm_scope_aligned_alloc_at(scope, align, n, "?");
}
void(nm_scope_free)(void *p) { nm_scope_free_at(p, "?"); }
