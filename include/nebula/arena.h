// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula/arena.h: bump allocation inside a scope, freed all at once.
 *
 * An arena takes blocks from its scope, which is charged for each block and for nothing else. Allocation moves a pointer;
 * nothing is freed one by one: reset, rewind to a mark, close of the arena or of its scope.
 * Threads: an arena belongs to one thread at a time. */
#ifndef NEBULA_ARENA_H
#define NEBULA_ARENA_H

#include <stdarg.h>
#include <string.h>

#include "nebula/base.h"
#include "nebula/scope.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Visible for the inline path only; the rest lies behind it: never copy, never write.
 * `end` is the next address at which something must happen: the block is full, a capacity or a budget is reached, or a
 * checker wants to see every allocation. It is not the end of the block. */
typedef struct nm_arena {
    unsigned char *ptr; /* always a multiple of NM_ALIGN */
    unsigned char *end;
} nm_arena;

typedef struct nm_arena_options {
    size_t struct_size;    /* filled in by NM_ARENA_OPTIONS and nm_arena_options_init */
    size_t capacity_bytes; /* most that the arena may hand out, padding included; 0 = as the budget allows */
    size_t block_bytes;    /* size of the first block, rounded up to a power of two; 4 KiB to 2 MiB; 0 = 4 KiB.
                              Blocks double up to 1 MiB */
    const char *name;      /* copied, cut at 31 bytes; default "" */
    bool contiguous; /* one range of addresses, reserved for capacity_bytes (which must be given) and committed as it
                              fills, its first page at once: for one giant growing buffer, which realloc then never
                              copies. Costs system calls, and is charged by whole pages */
    bool secret;     /* wiped when undone: at reset, rewind, realloc and close; kept out of core dumps where the kernel
                              can. Its blocks are mappings of their own, so they cost system calls and whole pages */
} nm_arena_options;

#define NM_ARENA_OPTIONS(...) (&(nm_arena_options){.struct_size = sizeof(nm_arena_options), __VA_ARGS__})
static inline nm_arena_options nm_arena_options_init(void) {
    nm_arena_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    return o;
}

/* Opens an arena in `scope`. It takes no block before its first allocation; its header, 256 bytes, is charged at once. The first
 * arena of a request or task scope lies in the scope's own block and is granted what that has left.
 * *out lives until nm_arena_close or the scope's close, and is NULL unless NM_OK.
 * Where its scope is watched (nm_scope_options.debug, .sample_bytes), it takes more: see there.
 * NM_EINVAL: an option out of range. NM_ETOOLARGE: a contiguous capacity that no machine has. NM_EBUDGET, NM_ENOMEM: no room
 * for the header, or for the range. O(depth). */
NM_API NM_NODISCARD nm_status nm_arena_open(nm_arena **out, nm_scope *scope, const nm_arena_options *options);
NM_API NM_NODISCARD nm_status nm_arena_open_at(nm_arena **out, nm_scope *scope, const nm_arena_options *options,
                                               const char *site);
#define nm_arena_open(out, scope, options) nm_arena_open_at(out, scope, options, NM_SITE)

/* Runs what was deferred and gives all blocks back. Optional: the scope's close does it too, and that is no leak.
 * NULL is ignored. O(blocks). */
NM_API void nm_arena_close(nm_arena *arena);

/* Takes n bytes, aligned to NM_ALIGN; contents undefined. They live until a reset, a rewind past them or the close.
 * n == 0 gives a distinct valid pointer of which no byte may be used.
 * NULL: see nm_arena_status; the arena is unchanged then. Cost: add, compare, store; no counter is touched. */
NM_NODISCARD NM_ALLOC_SIZE(2) static inline void *nm_arena_alloc(nm_arena *arena, size_t n);
NM_NODISCARD NM_ALLOC_SIZE(2) static inline void *nm_arena_alloc_at(nm_arena *arena, size_t n, const char *site);

/* The same, aligned to `align`, a power of two up to 2 MiB; another one: NULL and NM_EINVAL. */
NM_NODISCARD NM_ALLOC_SIZE(2) static inline void *nm_arena_alloc_aligned(nm_arena *arena, size_t n, size_t align);
NM_NODISCARD NM_ALLOC_SIZE(2) static inline void *nm_arena_alloc_aligned_at(nm_arena *arena, size_t n, size_t align,
                                                                            const char *site);

/* The same as nm_arena_alloc, filled with zeros. */
NM_NODISCARD NM_ALLOC_SIZE(2) static inline void *nm_arena_zalloc(nm_arena *arena, size_t n);
NM_NODISCARD NM_ALLOC_SIZE(2) static inline void *nm_arena_zalloc_at(nm_arena *arena, size_t n, const char *site);

/* (T *), zeroed, aligned for T. NM_NEW_ARRAY checks n * sizeof(T) for overflow: NULL and NM_ETOOLARGE. */
#define NM_NEW(arena, T) NM_NEW_ARRAY(arena, T, 1)
#ifdef __cplusplus
#define NM_NEW_ARRAY(arena, T, n) ((T *)nm__arena_new((arena), (n), sizeof(T), alignof(T), NM_SITE))
#else
#define NM_NEW_ARRAY(arena, T, n) ((T *)nm__arena_new((arena), (n), sizeof(T), _Alignof(T), NM_SITE))
#endif

/* Grows or shrinks p, which holds old_n bytes: in place when p is the last allocation and there is room, or when it
 * shrinks; else a copy, after which p is not to be used. p == NULL allocates. NULL: refused, p is as it was. O(1), or O(old_n)
 * for the copy. */
NM_API NM_NODISCARD void *nm_arena_realloc(nm_arena *arena, void *p, size_t old_n, size_t n);
NM_API NM_NODISCARD void *nm_arena_realloc_at(nm_arena *arena, void *p, size_t old_n, size_t n, const char *site);
#define nm_arena_realloc(arena, p, old_n, n) nm_arena_realloc_at(arena, p, old_n, n, NM_SITE)

/* Copies into the arena: a string; its first n bytes at most, with a final 0; n bytes. NULL: refused; NM_EINVAL where there is
 * nothing to copy from. O(n). */
NM_API NM_NODISCARD char *nm_arena_strdup(nm_arena *arena, const char *s);
NM_API NM_NODISCARD char *nm_arena_strdup_at(nm_arena *arena, const char *s, const char *site);
NM_API NM_NODISCARD char *nm_arena_strndup(nm_arena *arena, const char *s, size_t n);
NM_API NM_NODISCARD char *nm_arena_strndup_at(nm_arena *arena, const char *s, size_t n, const char *site);
NM_API NM_NODISCARD void *nm_arena_memdup(nm_arena *arena, const void *p, size_t n);
NM_API NM_NODISCARD void *nm_arena_memdup_at(nm_arena *arena, const void *p, size_t n, const char *site);
#define nm_arena_strdup(arena, s)     nm_arena_strdup_at(arena, s, NM_SITE)
#define nm_arena_strndup(arena, s, n) nm_arena_strndup_at(arena, s, n, NM_SITE)
#define nm_arena_memdup(arena, p, n)  nm_arena_memdup_at(arena, p, n, NM_SITE)

/* printf into the arena. NULL: refused, or the format cannot be converted (nm_arena_status: NM_EFORMAT). O(length). */
NM_API NM_NODISCARD NM_PRINTF(2, 3) char *nm_arena_printf(nm_arena *arena, const char *format, ...);
NM_API NM_NODISCARD NM_PRINTF(3, 4) char *nm_arena_printf_at(nm_arena *arena, const char *site, const char *format,
                                                             ...);
NM_API NM_NODISCARD NM_PRINTF(2, 0) char *nm_arena_vprintf(nm_arena *arena, const char *format, va_list args);
NM_API NM_NODISCARD NM_PRINTF(3, 0) char *nm_arena_vprintf_at(nm_arena *arena, const char *site, const char *format,
                                                              va_list args);
#define nm_arena_printf(arena, ...)           nm_arena_printf_at(arena, NM_SITE, __VA_ARGS__)
#define nm_arena_vprintf(arena, format, args) nm_arena_vprintf_at(arena, NM_SITE, format, args)

/* Runs fn(arg) at the next reset, at a rewind past this point or at the close, last deferred first. The note of it lies
 * in the arena. fn may read what lies in the arena, not change it: while it runs, allocation, marks, rewind and defer are
 * refused with NM_EBUSY, and a reset or close of this arena is misuse; nor may it close the arena's scope.
 * NM_EBUDGET, NM_ECAPACITY, NM_ENOMEM: no room; nothing is deferred. NM_EINVAL: no fn. O(1). */
NM_API NM_NODISCARD nm_status nm_arena_defer(nm_arena *arena, void (*fn)(void *arg), void *arg);

/* A point to which the arena can be rewound, any number of times, until it is rewound past it or reset. */
typedef struct nm_mark {
    void *record;
    uint64_t id;
} nm_mark;

/* Takes a mark: a record of 16 bytes in the arena (none, if nothing was allocated since the last mark). A mark that was
 * refused for want of memory is stale from the start. O(1). */
NM_API NM_NODISCARD nm_mark nm_arena_mark(nm_arena *arena);

/* Undoes all allocations and marks made, and runs what was deferred, after the mark; the mark itself stays valid.
 * NM_ESTALE: the arena was rewound past it or reset, or the mark is another arena's; nothing is changed then, in release
 * builds too. NM_EBUSY: from a deferred function. Cost: O(marks, large allocations and blocks taken since). */
NM_API NM_NODISCARD nm_status nm_arena_rewind(nm_arena *arena, nm_mark mark);

/* NM_ARENA_TEMP(arena) { ... } is a block whose allocations are undone at its end, also when it is left by break, goto or
 * return. Nests. `continue` leaves it too. If its mark is refused (nm_arena_status tells), nothing is undone. */
#define NM_ARENA_TEMP(arena)                                                                                           \
    for (nm__arena_temp NM__UNIQUE(nm__temp)                                                                           \
             __attribute__((__cleanup__(nm__arena_temp_end))) = nm__arena_temp_begin(arena);                           \
         !NM__UNIQUE(nm__temp).done; NM__UNIQUE(nm__temp).done = true)

/* Undoes everything: used is 0, marks are stale, what was deferred has run, the status is NM_OK again. Keeps for the next
 * round the blocks that rounds of late have needed (a maximum that decays by an eighth with each reset), but not those taken
 * for one large allocation; the rest goes back to the scope. O(large allocations + deferrals + blocks that go back), O(1)
 * without them; of a secret arena O(bytes). */
NM_API void nm_arena_reset(nm_arena *arena);

/* Gives the arena to another scope of the same root: all its bytes are charged there, and no longer here, and it closes with
 * that one. Memory, marks and deferrals stay as they are. Scopes above both hold the bytes throughout and need no room for
 * them twice; but for an arena that was opened in a request scope, in whose block its first bytes lie: these count twice there
 * until the request closes. NM_EBUDGET: no room (after reclaim). NM_EINVAL: another root, or `to` is NULL. NM_EBUSY: from a
 * deferred function. Unchanged if not NM_OK. O(depth). */
NM_API NM_NODISCARD nm_status nm_arena_move(nm_arena *arena, nm_scope *to);

/* used: what was handed out, padding and marks included; of an allocation with a block of its own, its rounded size. capacity: the most that may be; SIZE_MAX without a limit.
 * granted: what the scope is charged for the arena, kept blocks and header included. O(1). */
NM_API size_t nm_arena_used(const nm_arena *arena);
NM_API size_t nm_arena_capacity(const nm_arena *arena);
NM_API size_t nm_arena_granted(const nm_arena *arena);

/* True if p points into memory that the arena has handed out and not undone. O(blocks). */
NM_API bool nm_arena_owns(const nm_arena *arena, const void *p);

/* The first refusal since the arena was opened or reset, else NM_OK: allocate freely, check once (as with ferror). O(1). */
NM_API nm_status nm_arena_status(const nm_arena *arena);

/* ---- the inline path --------------------------------------------------------------------------------------------- */

#define NM__CONCAT_(a, b) a##b
#define NM__CONCAT(a, b)  NM__CONCAT_(a, b)
#define NM__UNIQUE(name)  NM__CONCAT(name, __LINE__)

#define NM__ARENA_ALIGN_MAX ((size_t)2 << 20)

/* Memory that is soon handed out is fetched beforehand, as virtual machines with bump allocation do: the store of `ptr`
 * between the program's stores keeps the processor from seeing that they are in sequence. 2 KiB ahead was best over 256 to 8192:
 * less comes late in long runs, more in short ones. The address is a hint, of which no byte need exist. */
#define NM__PREFETCH_AHEAD(p) __builtin_prefetch((const void *)((uintptr_t)(p) + 2048), 1)

/* What was allocated (NULL: refused), and where ptr belongs now. Both paths end in the one store of ptr, so a compiler keeps
 * it in a register from one allocation to the next; otherwise each would wait for the store of the one before, 5 cycles. */
typedef struct nm__arena_piece {
    void *data;
    unsigned char *ptr;
} nm__arena_piece;

NM_API nm__arena_piece nm__arena_alloc_slow(nm_arena *arena, size_t n, size_t align, const char *site);
NM_API void *nm__arena_refuse(nm_arena *arena, nm_status why);

static inline void *nm_arena_alloc_at(nm_arena *arena, size_t n, const char *site) {
    unsigned char *p = arena->ptr;
    size_t size = (n + (NM_ALIGN - 1)) & ~(size_t)(NM_ALIGN - 1);
    nm__arena_piece piece = {p, p};
    /* size is 0 for n == 0 and where the rounding wrapped: minus one, both are larger than any room */
    if (NM_UNLIKELY(size - 1 >= (size_t)(arena->end - p))) {
        piece = nm__arena_alloc_slow(arena, n, NM_ALIGN, site);
    } else {
        piece.ptr += size; /* not before: p + size is no address where size does not fit */
        NM__PREFETCH_AHEAD(p);
    }
    arena->ptr = piece.ptr;
    return piece.data;
}

static inline void *nm_arena_alloc_aligned_at(nm_arena *arena, size_t n, size_t align, const char *site) {
    unsigned char *p = arena->ptr;
    size_t pad = (size_t) - (uintptr_t)p & (align - 1);
    size_t size = (n + (NM_ALIGN - 1)) & ~(size_t)(NM_ALIGN - 1);
    size_t room = (size_t)(arena->end - p);
    bool odd = align < NM_ALIGN || align > NM__ARENA_ALIGN_MAX || (align & (align - 1)) != 0;
    nm__arena_piece piece = {p, p};
    if (NM_UNLIKELY(odd || pad >= room || size - 1 >= room - pad)) {
        piece = nm__arena_alloc_slow(arena, n, align, site);
    } else {
        piece.data = p + pad;
        piece.ptr = p + pad + size;
    }
    arena->ptr = piece.ptr;
    return piece.data;
}

static inline void *nm_arena_zalloc_at(nm_arena *arena, size_t n, const char *site) {
    void *p = nm_arena_alloc_at(arena, n, site);
    return p != NULL ? memset(p, 0, n) : NULL;
}

static inline void *nm__arena_new(nm_arena *arena, size_t n, size_t size, size_t align, const char *site) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) return nm__arena_refuse(arena, NM_ETOOLARGE);
    void *p = nm_arena_alloc_aligned_at(arena, bytes, align > NM_ALIGN ? align : NM_ALIGN, site);
    return p != NULL ? memset(p, 0, bytes) : NULL;
}

static inline void *nm_arena_alloc(nm_arena *arena, size_t n) { return nm_arena_alloc_at(arena, n, "?"); }
static inline void *nm_arena_alloc_aligned(nm_arena *arena, size_t n, size_t align) {
    return nm_arena_alloc_aligned_at(arena, n, align, "?");
}
static inline void *nm_arena_zalloc(nm_arena *arena, size_t n) { return nm_arena_zalloc_at(arena, n, "?"); }
#define nm_arena_alloc(arena, n)                nm_arena_alloc_at(arena, n, NM_SITE)
#define nm_arena_alloc_aligned(arena, n, align) nm_arena_alloc_aligned_at(arena, n, align, NM_SITE)
#define nm_arena_zalloc(arena, n)               nm_arena_zalloc_at(arena, n, NM_SITE)

typedef struct nm__arena_temp {
    nm_arena *arena;
    nm_mark mark;
    bool done;
} nm__arena_temp;

NM_API nm__arena_temp nm__arena_temp_begin(nm_arena *arena);
NM_API void nm__arena_temp_end(nm__arena_temp *temp);

#ifdef __cplusplus
}
#endif

#endif
