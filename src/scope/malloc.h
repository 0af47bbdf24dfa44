// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the files of nm_scope_malloc share: the heap of a scope, its pages, and the header of an allocation.
 *
 *   page: a block of 4 to 64 KiB, all slots of one size        large: a block of its own
 *   +------+--------+---------+--------+---------+- - -        +------+- - -+--------+------------------+
 *   | page | header | payload | header | payload |             | page |     | header | payload          |
 *   +------+--------+---------+--------+---------+- - -        +------+- - -+--------+------------------+
 *           16 bytes           ^ slot                                  alignment
 *
 * The header tells where its page begins, and the page whose heap it is: a pointer alone is enough to free it. */
#ifndef NM_SRC_SCOPE_MALLOC_H
#define NM_SRC_SCOPE_MALLOC_H

#include "base/lock.h"
#include "scope/scope_internal.h"

/* Headers and freed payloads are poisoned while the address sanitizer watches; who reads them here is not to be told. */
#define NM__UNCHECKED __attribute__((no_sanitize("address")))

/* ---- headers ----------------------------------------------------------------------------------------------------- */

#define NM__MALLOC_UNIT ((size_t)16)

/* The word, from below: 18 bits distance from the page, in units (2 MiB of alignment and a page header fit);
 * 14 bits what was asked for, in bytes, of a slot in use, or the next free slot's distance; 10 bits how far an aligned
 * allocation stands behind the start of its slot, in units; 6 free; 16 the seal. */
typedef struct nm__malloc_header {
    NM_ATOMIC(const char *) site; /* where allocated; it stays when freed */
    NM_ATOMIC(uint64_t) word;
} nm__malloc_header;
_Static_assert(sizeof(nm__malloc_header) == 16, "what each allocation costs");

#define NM__MALLOC_DISTANCE_BITS 18
#define NM__MALLOC_BYTES_SHIFT   18
#define NM__MALLOC_BYTES_BITS    14
#define NM__MALLOC_SHIFT_SHIFT   32
#define NM__MALLOC_SHIFT_BITS    10

/* The seal is a hash of the header's address, so that a copy elsewhere does not pass, turned over by the state. */
#define NM__MALLOC_SEAL_MASK ((uint64_t)0xffff << 48)
#define NM__MALLOC_LIVE      ((uint64_t)0xa11c << 48)
#define NM__MALLOC_FREE      ((uint64_t)0xdead << 48)
#define NM__MALLOC_SHIFTED                                                                                             \
    ((uint64_t)0x51f7 << 48) /* an aligned allocation's own header lies further back in the slot */

#define NM__MALLOC_BYTES_MASK (((((uint64_t)1) << NM__MALLOC_BYTES_BITS) - 1) << NM__MALLOC_BYTES_SHIFT)

static inline uint64_t nm__malloc_seal(const nm__malloc_header *h, uint64_t state) {
    return (((uint64_t)(uintptr_t)h * UINT64_C(0x9e3779b97f4a7c15)) & NM__MALLOC_SEAL_MASK) ^ state;
}
static inline bool nm__malloc_is(const nm__malloc_header *h, uint64_t word, uint64_t state) {
    return ((word ^ nm__malloc_seal(h, state)) & NM__MALLOC_SEAL_MASK) == 0;
}
static inline size_t nm__malloc_distance(uint64_t word) { return word & (((size_t)1 << NM__MALLOC_DISTANCE_BITS) - 1); }
static inline size_t nm__malloc_word_bytes(uint64_t word) {
    return word >> NM__MALLOC_BYTES_SHIFT & (((size_t)1 << NM__MALLOC_BYTES_BITS) - 1);
}
static inline size_t nm__malloc_shift(uint64_t word) {
    return word >> NM__MALLOC_SHIFT_SHIFT & (((size_t)1 << NM__MALLOC_SHIFT_BITS) - 1);
}
static inline nm__malloc_header *nm__malloc_header_of(const void *p) {
    return (nm__malloc_header *)((uintptr_t)p - sizeof(nm__malloc_header));
}

/* Left in the first 16 bytes of a freed allocation. The check tells whether it was written over since. */
typedef struct nm__malloc_epitaph {
    const char *released_at;
    uintptr_t check;
} nm__malloc_epitaph;

/* ---- size classes ------------------------------------------------------------------------------------------------ */

/* Slots, header included: every 16 bytes from 32 to 128, then four to each doubling. */
#define NM__MALLOC_SLOT_MIN   ((size_t)32)
#define NM__MALLOC_SLOT_MAX   ((size_t)8192)
#define NM__MALLOC_CLASSES    31u
#define NM__MALLOC_LARGE      NM__MALLOC_CLASSES /* the class of what has a block of its own */
#define NM__MALLOC_SMALL_MAX  (NM__MALLOC_SLOT_MAX - sizeof(nm__malloc_header))
#define NM__MALLOC_FINE_LAST  ((size_t)128)
#define NM__MALLOC_FINE_COUNT 7u
_Static_assert(NM__MALLOC_SLOT_MAX <= (size_t)1 << NM__MALLOC_BYTES_BITS, "the word holds a slot's bytes");
_Static_assert(NM__MALLOC_SLOT_MAX / NM__MALLOC_UNIT <= (size_t)1 << NM__MALLOC_SHIFT_BITS, "and a shift in it");

/* n <= NM__MALLOC_SMALL_MAX */
static inline unsigned nm__malloc_class(size_t n) {
    size_t last = n + (n == 0) + sizeof(nm__malloc_header) - 1; /* of the slot's bytes */
    if (last < NM__MALLOC_FINE_LAST) return (unsigned)(last / NM__MALLOC_UNIT) - 1;
    unsigned log = nm__log2_floor(last);
    return NM__MALLOC_FINE_COUNT + (log - 7) * 4 + (unsigned)(last >> (log - 2) & 3);
}

size_t nm__malloc_slot_bytes(unsigned class);

/* ---- pages and the heap ------------------------------------------------------------------------------------------ */

#define NM__MALLOC_PAGE_FIRST_BYTES ((size_t)4 << 10)
#define NM__MALLOC_PAGE_LAST_BYTES  ((size_t)64 << 10)

/* Distances are in units from the page. All under the heap's lock, but for what stays while an allocation in it lives:
 * seal, heap, class, block; and of a large one all, which is its user's. */
typedef struct nm__malloc_page {
    NM_ATOMIC(uint64_t) seal; /* nm__malloc_page_seal while it is a page */
    nm__malloc *heap;
    struct nm__malloc_page *next, *previous; /* with free slots, of one class; or the full ones; or the large ones */
    nm__block block;                         /* base NULL: the home page, what the heap's own block has left */
    uint32_t class;
    uint32_t free;      /* newest free slot, 0 = none; of a large one its header */
    uint32_t fresh;     /* first slot that was never used */
    uint32_t used;      /* slots in use */
    uint32_t capacity;  /* slots that it has */
    uint32_t step;      /* a slot */
    uint32_t units;     /* the page */
    size_t large_bytes; /* asked for, of a large one */
} nm__malloc_page;
#define NM__MALLOC_PAGE_HEADER_BYTES ((size_t)96)
_Static_assert(sizeof(nm__malloc_page) == NM__MALLOC_PAGE_HEADER_BYTES, "headers behind it are aligned");

static inline uint64_t nm__malloc_page_seal(const nm__malloc_page *page) {
    return (uint64_t)(uintptr_t)page ^ UINT64_C(0x6e6d5f73636f7065);
}

/* Lies at the start of its first block, which stays until the scope closes; what is left of it is the home page. */
struct nm__malloc {
    nm__lock lock; /* for all below */
    nm_scope *scope;
    bool checked; /* the address sanitizer watches */
    nm__holder holder;
    nm__block block;
    NM_ATOMIC(size_t) used; /* asked for and not freed, bytes */
    nm__malloc_page *open[NM__MALLOC_CLASSES];
    nm__malloc_page *full, *large;
    nm__malloc_page *empty;                      /* the one empty page that is kept, home apart; it is in `open` too */
    NM_ATOMIC(uint8_t) step[NM__MALLOC_CLASSES]; /* how often the class's next page is to be doubled */
    _Alignas(16) nm__malloc_page home;
};
_Static_assert(sizeof(nm__malloc) % NM__MALLOC_UNIT == 0, "the home page's slots are aligned");
_Static_assert(sizeof(nm__malloc) < NM__BLOCK_MIN_BYTES / 4, "most of a small heap is for its user");

/* malloc_heap.c: the scope's heap, made at the first call, by one grant. NULL: refused, and noted. */
nm__malloc *nm__malloc_heap(nm_scope *scope);

/* True if a new heap has room for a slot of the class in its home page. */
bool nm__malloc_home_serves(unsigned class);

/* malloc_page.c; under the lock, where nothing else is said */

void nm__malloc_page_link(nm__malloc_page **list, nm__malloc_page *page);
void nm__malloc_page_unlink(nm__malloc_page **list, nm__malloc_page *page);
/* Makes a page of what begins at `page` and has that many bytes, without a class. */
void nm__malloc_page_open(nm__malloc *heap, nm__malloc_page *page, size_t bytes);
/* Gives an empty page, of no class or another, to a class and links it. */
void nm__malloc_page_cut(nm__malloc *heap, nm__malloc_page *page, unsigned class);
/* Bytes to ask for: at least, and as the class grows. Without the lock; the heap may not be there yet. */
size_t nm__malloc_page_least(unsigned class);
size_t nm__malloc_page_wanted(nm__malloc *heap, unsigned class);
/* The list of free slots was written over: goes on without it. */
void nm__malloc_page_lose_free(nm__malloc *heap, nm__malloc_page *page);
/* Between the lists, when the last slot is taken and when the first comes back. */
void nm__malloc_page_fill(nm__malloc *heap, nm__malloc_page *page);
void nm__malloc_page_reopen(nm__malloc *heap, nm__malloc_page *page);
/* A page of the class with a free slot, if there is one without asking the scope; else NULL. */
nm__malloc_page *nm__malloc_page_find(nm__malloc *heap, unsigned class);
/* Takes a page that is empty out of the heap, to be given back; NULL: it stays, perhaps another one is returned. */
nm__malloc_page *nm__malloc_page_emptied(nm__malloc *heap, nm__malloc_page *page);
/* Takes the kept empty page out; NULL: there is none. */
nm__malloc_page *nm__malloc_page_take_empty(nm__malloc *heap);
/* Gives a page's block back to the scope. Without the lock. */
void nm__malloc_page_give(nm__malloc *heap, nm__malloc_page *page);
static inline nm__malloc_header *nm__malloc_header_at(nm__malloc_page *page, size_t distance) {
    return (nm__malloc_header *)(void *)((unsigned char *)page + distance * NM__MALLOC_UNIT);
}
static inline nm__malloc_page *nm__malloc_page_of(nm__malloc_header *h, uint64_t word) {
    return (nm__malloc_page *)(void *)((unsigned char *)h - nm__malloc_distance(word) * NM__MALLOC_UNIT);
}

#endif
