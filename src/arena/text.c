// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Resizing, copies and formatted strings. */
#include "arena/watch.h"

#include <stdio.h>

/* ---- realloc ----------------------------------------------------------------------------------------------------- */

/* Makes n bytes at p touchable and the rest of its `size` not. */
static void recheck(const nm__arena *a, unsigned char *p, size_t size, size_t n) {
    if (!a->checked) return;
    nm__check_poison(p, size);
    nm__check_unpoison(p, n);
}

static bool is_last_in_chain(const nm__arena *a, const unsigned char *p, size_t size) {
    return a->block != NULL && nm__arena_in_block(a->block, p) &&
           (size_t)((uintptr_t)a->face.ptr - (uintptr_t)p) == size + nm__arena_red_zone(a);
}

/* The newest large allocation, taken since the newest mark. One from before it keeps its place and size, which a rewind
 * to that mark must find again. */
static bool is_last_large(const nm__arena *a, const unsigned char *p) {
    return a->large != NULL && a->large->data == p && a->large->mark_id == nm__arena_newest_mark_id(a);
}

/* Taken after the newest mark: nobody can come back to it. O(blocks). */
static bool is_beyond_marks(const nm__arena *a, const unsigned char *p) {
    if (a->mark == NULL) return true;
    for (const nm__arena_large *l = a->large; l != NULL; l = l->previous)
        if (l->data == p) return l->mark_id == a->mark->id;
    for (const nm__arena_block *b = a->block; b != NULL; b = b->previous) {
        bool mark_here = nm__arena_in_block(b, a->mark);
        if (nm__arena_in_block(b, p)) return !mark_here || (uintptr_t)p > (uintptr_t)a->mark;
        if (mark_here) break;
    }
    return false;
}

/* Room for `size` bytes and a red zone at p, in its block. NM_ETOOLARGE: the block is too small. */
static nm_status make_room_in(nm__arena *a, nm__block *block, const unsigned char *p, size_t old_size, size_t size) {
    if (size <= old_size) return NM_OK;
    if (size - old_size > a->capacity_bytes - nm__arena_used(a)) return NM_ECAPACITY;
    size_t needed = (size_t)(p - block->base) + size + nm__arena_red_zone(a);
    if (needed > block->bytes) return NM_ETOOLARGE;
    return needed <= block->granted ? NM_OK : nm__arena_extend(a, block, needed - block->granted);
}

static nm_status resize_in_chain(nm__arena *a, unsigned char *p, size_t old_size, size_t size) {
    nm_status st = make_room_in(a, &a->block->block, p, old_size, size);
    if (st != NM_OK) return st;
    a->face.ptr = p + size + nm__arena_red_zone(a);
    nm__arena_settle(a);
    return NM_OK;
}

static nm_status resize_large(nm__arena *a, nm__arena_large *l, size_t size) {
    nm_status st = make_room_in(a, &l->block, l->data, l->bytes, size);
    if (st != NM_OK) return st;
    a->large_bytes = a->large_bytes - l->bytes + size;
    l->bytes = size;
    nm__arena_settle(a);
    return NM_OK;
}

/* Gives back a large block whose contents were copied away. At most one was taken since it was the newest. */
static void unlink_large(nm__arena *a, nm__arena_large *l) {
    nm__arena_large *newer = a->large;
    if (newer == l) {
        nm__arena_pop_large(a);
    } else {
        a->large = l;
        newer->previous = l->previous;
        nm__arena_pop_large(a);
        a->large = newer;
    }
    nm__arena_settle(a);
}

static void *copy_elsewhere(nm__arena *a, unsigned char *p, size_t old_n, size_t n, const char *site) {
    nm__arena_large *l = is_last_large(a, p) ? a->large : NULL;
    bool dead = a->watched && l == NULL && is_beyond_marks(a, p);
    void *q = nm_arena_alloc_at(&a->face, n, site);
    if (q == NULL) return NULL;
    memcpy(q, p, nm__min(old_n, n));
    if (a->watch != NULL && (l != NULL || dead)) nm__arena_log_moved(a, p, l != NULL);
    /* a buffer that grows step by step would otherwise hold the sum of all its sizes */
    if (l != NULL) unlink_large(a, l);
    if (dead) nm__arena_undo(a, p, nm__arena_size(old_n));
    return q;
}

void *nm_arena_realloc_at(nm_arena *arena, void *p, size_t old_n, size_t n, const char *site) {
    if (p == NULL) return nm_arena_alloc_at(arena, n, site);
    nm__arena *a = nm__arena_of(arena);
    if (a->running) return nm__arena_refuse(arena, NM_EBUSY);
    if (old_n > NM__BYTES_MAX) return nm__arena_refuse(arena, NM_EINVAL);
    if (n > NM__BYTES_MAX) return nm__arena_refuse(arena, NM_ETOOLARGE);

    size_t old_size = nm__arena_size(old_n), size = nm__arena_size(n);
    unsigned char *end = NULL; /* of a guard that moves with the size */
    if (a->watch != NULL) {
        nm__arena_sample_sync(a);
        nm__arena_log_check(a, p);
        a->watch->rewound = NULL;
    }
    nm_status st = NM_ETOOLARGE;
    if (is_last_in_chain(a, p, old_size)) {
        st = resize_in_chain(a, p, old_size, size);
        end = (unsigned char *)p + size + nm__arena_red_zone(a);
    } else if (is_last_large(a, p)) {
        st = resize_large(a, a->large, size);
        end = (unsigned char *)p + size + nm__arena_red_zone(a);
    } else if (size <= old_size) {
        st = NM_OK;
    }
    if (st == NM_ETOOLARGE) return copy_elsewhere(a, p, old_n, n, site);
    if (st != NM_OK) return nm__arena_refuse(arena, st);
    if (a->watched && n < old_n) nm__arena_undo(a, (unsigned char *)p + n, old_size - n);
    recheck(a, p, nm__max(old_size, size), n);
    if (a->watch != NULL) nm__arena_log_resized(a, p, n, end);
    return p;
}

void *(nm_arena_realloc)(nm_arena *arena, void *p, size_t old_n, size_t n) {
    return nm_arena_realloc_at(arena, p, old_n, n, "?");
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

void *nm_arena_memdup_at(nm_arena *arena, const void *p, size_t n, const char *site) {
    if (p == NULL && n != 0) return nm__arena_refuse(arena, NM_EINVAL);
    void *q = nm_arena_alloc_at(arena, n, site);
    if (q != NULL && n != 0) memcpy(q, p, n);
    return q;
}

static char *copy_string(nm_arena *arena, const char *s, size_t length, const char *site) {
    char *q = nm_arena_alloc_at(arena, length + 1, site);
    if (q == NULL) return NULL;
    memcpy(q, s, length);
    q[length] = '\0';
    return q;
}

char *nm_arena_strdup_at(nm_arena *arena, const char *s, const char *site) {
    if (s == NULL) return nm__arena_refuse(arena, NM_EINVAL);
    return copy_string(arena, s, strlen(s), site);
}

char *nm_arena_strndup_at(nm_arena *arena, const char *s, size_t n, const char *site) {
    if (s == NULL) return nm__arena_refuse(arena, NM_EINVAL);
    const char *zero = n == 0 ? s : memchr(s, 0, n);
    return copy_string(arena, s, zero == NULL ? n : (size_t)(zero - s), site);
}

void *(nm_arena_memdup)(nm_arena *arena, const void *p, size_t n) { return nm_arena_memdup_at(arena, p, n, "?"); }
char *(nm_arena_strdup)(nm_arena *arena, const char *s) { return nm_arena_strdup_at(arena, s, "?"); }
char *(nm_arena_strndup)(nm_arena *arena, const char *s, size_t n) { return nm_arena_strndup_at(arena, s, n, "?"); }

/* ---- printf ------------------------------------------------------------------------------------------------------ */

/* Takes back the n bytes at p that were allocated just now. */
static void take_back(nm__arena *a, unsigned char *p, size_t n) {
    if (a->watch != NULL) nm__arena_log_take_back(a, p);
    if (a->large != NULL && a->large->data == p) {
        nm__arena_pop_large(a);
    } else if (is_last_in_chain(a, p, nm__arena_size(n))) {
        if (a->watched) nm__arena_undo(a, p, nm__arena_size(n) + nm__arena_red_zone(a));
        a->face.ptr = p;
        a->extra_bytes -= nm__arena_red_zone(a);
    }
    nm__arena_settle(a);
}

/* The first pass writes into what is left of the block and mostly ends there; else it has found the length. */
char *nm_arena_vprintf_at(nm_arena *arena, const char *site, const char *format, va_list args) {
    if (format == NULL) return nm__arena_refuse(arena, NM_EINVAL);
    char *here = (char *)arena->ptr;
    /* not where a secret would be left behind `ptr` if it did not fit */
    size_t room = nm__arena_of(arena)->secret ? 0 : (size_t)(arena->end - arena->ptr);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(room == 0 ? NULL : here, room, format, args);
    char *p = NULL;
    if (length < 0) {
        p = nm__arena_refuse(arena, NM_EFORMAT);
    } else {
        size_t n = (size_t)length + 1;
        p = nm_arena_alloc_at(arena, n, site);
        if (p != NULL && (p != here || n > room) && vsnprintf(p, n, format, again) != length) {
            take_back(nm__arena_of(arena), (unsigned char *)p, n);
            p = nm__arena_refuse(arena, NM_EFORMAT);
        }
    }
    va_end(again);
    return p;
}

char *nm_arena_printf_at(nm_arena *arena, const char *site, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *p = nm_arena_vprintf_at(arena, site, format, args);
    va_end(args);
    return p;
}

char *(nm_arena_vprintf)(nm_arena *arena, const char *format, va_list args) {
    return nm_arena_vprintf_at(arena, "?", format, args);
}

char *(nm_arena_printf)(nm_arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *p = nm_arena_vprintf_at(arena, "?", format, args);
    va_end(args);
    return p;
}
