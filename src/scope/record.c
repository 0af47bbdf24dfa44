// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Records: 256-byte pieces of 4 KiB blocks, for headers and bookkeeping. The page's first record describes the page; an
 * empty page goes back to the block store. */
#include "os/os.h"
#include "scope/scope_internal.h"

typedef struct free_record {
    struct free_record *next;
} free_record;

struct nm__record_page {
    nm__record_page *next, *previous; /* among the pages with a free record */
    free_record *free;
    unsigned used;
};

#define RECORDS_PER_PAGE ((unsigned)(NM__BLOCK_MIN_BYTES / NM__RECORD_BYTES) - 1)

static nm__record_page *page_of(void *record) {
    return (nm__record_page *)((uintptr_t)record & ~(uintptr_t)(NM__BLOCK_MIN_BYTES - 1));
}

static void link_page(nm__root *root, nm__record_page *page) {
    page->previous = NULL;
    page->next = root->record_pages;
    if (page->next != NULL) page->next->previous = page;
    root->record_pages = page;
}

static void unlink_page(nm__root *root, nm__record_page *page) {
    if (page->previous != NULL)
        page->previous->next = page->next;
    else
        root->record_pages = page->next;
    if (page->next != NULL) page->next->previous = page->previous;
}

static nm_status open_page(nm__root *root) {
    void *block;
    nm_status st = nm__blocks_take(&root->blocks, NM__BLOCK_MIN_BYTES, &block);
    if (st != NM_OK) return st;
    nm__record_page *page = block;
    page->free = NULL;
    page->used = 0;
    for (unsigned i = RECORDS_PER_PAGE; i > 0; i--) {
        free_record *record = (free_record *)((unsigned char *)block + i * NM__RECORD_BYTES);
        record->next = page->free;
        page->free = record;
    }
    link_page(root, page);
    root->own_bytes += NM__RECORD_BYTES;
    return NM_OK;
}

static nm_status take(nm__root *root, void **out) {
    nm_status st = NM_OK;
    pthread_mutex_lock(&root->records);
    if (root->record_pages == NULL) st = open_page(root);
    if (st == NM_OK) {
        nm__record_page *page = root->record_pages;
        *out = page->free;
        page->free = page->free->next;
        page->used++;
        if (page->free == NULL) unlink_page(root, page);
    }
    pthread_mutex_unlock(&root->records);
    return st;
}

nm_status nm__record_take_in(nm_scope *owner, nm__grant_mode mode, void **out) {
    nm__root *root = owner->root;
    bool full = mode == NM__GRANT_FULL;
    *out = NULL;
    nm_status st = nm__grant(owner, NM__RECORD_BYTES, mode, NULL);
    if (st != NM_OK) return st;
    st = take(root, out);
    /* Only the root's own limit can refuse here. */
    for (int round = 0; st == NM_EBUDGET && full && round < NM__GRANT_ROUNDS; round++) {
        if (!nm__try_room(&root->scope, NM__ROOM_FOR_BLOCK(NM__BLOCK_MIN_BYTES), NULL)) break;
        st = take(root, out);
    }
    if (st != NM_OK) {
        if (st == NM_EBUDGET && full) nm__refused(&root->scope);
        nm__uncharge(owner, NM__RECORD_BYTES);
        return st;
    }
    if (full) nm__settle(owner, NULL);
    return NM_OK;
}

nm_status nm__record_take(nm_scope *owner, void **out) { return nm__record_take_in(owner, NM__GRANT_FULL, out); }

void nm__record_give(nm_scope *owner, void *record) {
    if (nm__place_give_record(owner, record)) return;
    nm__root *root = owner->root;
    free_record *free = record;
    nm__record_page *page = page_of(record);
    pthread_mutex_lock(&root->records);
    if (page->free == NULL) link_page(root, page);
    free->next = page->free;
    page->free = free;
    /* The last page stays, or a scope opened and closed in a loop would take and give a block each time. */
    bool empty = --page->used == 0 && (page->next != NULL || page->previous != NULL);
    if (empty) {
        unlink_page(root, page);
        root->own_bytes -= NM__RECORD_BYTES;
    }
    pthread_mutex_unlock(&root->records);
    if (empty) nm__blocks_give(&root->blocks, page, NM__BLOCK_MIN_BYTES);
    nm__uncharge(owner, NM__RECORD_BYTES);
}

/* Every record is back: at most one page is left. */
void nm__records_close(nm__root *root) {
    while (root->record_pages != NULL) {
        nm__record_page *page = root->record_pages;
        unlink_page(root, page);
        nm__blocks_give(&root->blocks, page, NM__BLOCK_MIN_BYTES);
    }
}
