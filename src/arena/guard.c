// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The log of a guarded arena: what was allocated, where, with which bytes behind it that nobody may write.
 *
 * It lies outside of the arena's blocks, so that a program that writes where it should not does not write there. */
#include "arena/watch.h"

#define PAGE_BYTES_FIRST ((size_t)4 << 10)
#define PAGE_BYTES_NEXT  ((size_t)64 << 10)
#define PAGE_BYTES_LEAST ((size_t)1 << 10) /* where a budget has no room for more */

const char nm__arena_hole[] = "(undone)";

void nm__arena_report(const nm__arena *a, const char *what, const void *address, const char *site) {
    nm__misuse(&(nm_misuse){.what = what, .part = "arena", .name = a->name, .address = address, .leased_at = site});
}

/* ---- pages ------------------------------------------------------------------------------------------------------- */

nm_status nm__arena_log_ready(nm__arena *a) {
    nm__arena_watch *w = a->watch;
    if (w->log != NULL && w->log->count < w->log->max) return NM_OK;
    nm__block block;
    size_t want = w->log == NULL ? PAGE_BYTES_FIRST : PAGE_BYTES_NEXT;
    nm_status st = nm__block_take(a->holder.scope, PAGE_BYTES_LEAST, want, &block);
    if (st != NM_OK) return st;
    nm__arena_log *page = (nm__arena_log *)(void *)block.base;
    size_t max = (block.granted - sizeof *page) / sizeof page->notes[0];
    *page = (nm__arena_log){.block = block, .previous = w->log, .max = max};
    w->log = page;
    w->side_bytes += block.granted;
    return NM_OK;
}

static void give_page(nm__arena *a) {
    nm__arena_watch *w = a->watch;
    nm__block block = w->log->block;
    w->log = w->log->previous;
    w->side_bytes -= block.granted;
    nm__block_give(a->holder.scope, &block);
}

void nm__arena_log_trim(nm__arena *a) {
    nm__arena_watch *w = a->watch;
    if (w->log != NULL && w->log->count == 0) give_page(a);
}

void nm__arena_log_close(nm__arena *a) {
    while (a->watch->log != NULL) give_page(a);
    a->watch->log_count = 0;
}

/* ---- notes ------------------------------------------------------------------------------------------------------- */

static void set_guard(const nm__arena *a, const nm__arena_note *note) {
    unsigned char *guard = note->data + note->bytes;
    if (a->watch->guarding) memset(guard, NM__FILL_GUARD, (size_t)(note->end - guard));
}

static bool is_all(const unsigned char *p, const unsigned char *end, unsigned char byte) {
    while (p < end && *p == byte) p++;
    return p == end;
}

static void check(const nm__arena *a, const nm__arena_note *note) {
    if (!a->watch->guarding) return;
    bool hole = note->site == nm__arena_hole;
    unsigned char byte = !hole ? NM__FILL_GUARD : a->secret ? 0 : NM__FILL_UNDONE;
    if (is_all(note->data + note->bytes, note->end, byte)) return;
    nm__arena_report(
        a, hole ? "arena memory written after it was undone" : "arena memory written past an allocation's end",
        note->data, hole ? NULL : note->site);
}

void nm__arena_log_check_all(const nm__arena *a) {
    for (const nm__arena_log *page = a->watch->log; page != NULL; page = page->previous)
        for (size_t i = page->count; i-- > 0;) check(a, &page->notes[i]);
}

static void push(nm__arena *a, nm__arena_note note) {
    a->watch->log->notes[a->watch->log->count++] = note;
    a->watch->log_count++;
}

void nm__arena_log_push(nm__arena *a, unsigned char *p, size_t n, const char *site) {
    nm__arena_note note = {p, n, p + nm__arena_size(n) + nm__arena_red_zone(a), site};
    push(a, note);
    set_guard(a, &note);
    nm__check_mempool_alloc(a, p, n);
}

void nm__arena_log_rewind(nm__arena *a, size_t count) {
    nm__arena_watch *w = a->watch;
    while (w->log_count > count) {
        while (w->log->count == 0) give_page(a);
        w->log_count--;
        nm__arena_note note = w->log->notes[--w->log->count];
        check(a, &note);
        if (w->pooling && note.site != nm__arena_hole) nm__check_mempool_free(a, note.data);
    }
}

/* From the newest on: mostly it is found at once. NULL: not in the log. */
static nm__arena_note *find(const nm__arena *a, const unsigned char *p) {
    for (nm__arena_log *page = a->watch->log; page != NULL; page = page->previous)
        for (size_t i = page->count; i-- > 0;)
            if (page->notes[i].data == p && page->notes[i].site != nm__arena_hole) return &page->notes[i];
    return NULL;
}

void nm__arena_log_take_back(nm__arena *a, const unsigned char *p) {
    nm__arena_watch *w = a->watch;
    if (w->log == NULL || w->log->count == 0 || w->log->notes[w->log->count - 1].data != p) return;
    w->log->count--;
    w->log_count--;
    nm__check_mempool_free(a, p);
}

void nm__arena_log_check(nm__arena *a, const unsigned char *p) {
    const nm__arena_note *note = find(a, p);
    if (note != NULL) check(a, note);
}

void nm__arena_log_resized(nm__arena *a, const unsigned char *p, size_t n, unsigned char *end) {
    nm__arena_note *note = find(a, p);
    if (note == NULL) return;
    if (n > note->bytes && a->watch->filling) memset(note->data + note->bytes, NM__FILL_NEW, n - note->bytes);
    note->bytes = n;
    if (end != NULL) note->end = end;
    set_guard(a, note);
    nm__check_mempool_change(a, p, n);
}

void nm__arena_log_moved(nm__arena *a, const unsigned char *p, bool goes_back) {
    nm__arena_note *note = find(a, p);
    if (note == NULL) return;
    nm__check_mempool_free(a, p);
    bool watch_it = a->watch->holding && !goes_back;
    unsigned char *end = note->data + (watch_it ? nm__arena_size(note->bytes) : 0);
    *note = (nm__arena_note){.data = note->data, .bytes = 0, .end = end, .site = nm__arena_hole};
}

void nm__arena_log_hole(nm__arena *a, unsigned char *p) {
    nm__arena_watch *w = a->watch;
    /* without room for the note it is out of use all the same, but unseen; a page is not to be had here, for a rewind is
     * not refused */
    if (p != a->face.ptr && w->log != NULL && w->log->count < w->log->max)
        push(a, (nm__arena_note){p, 0, a->face.ptr, nm__arena_hole});
}
