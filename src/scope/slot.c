// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "scope/slot.h"

#include "check/check.h"
#include "os/os.h"
#include "scope/scope_internal.h"

/* Of the process, and constant once set. */
static NM_ATOMIC(const nm__slot_class *) classes[NM__SLOT_KINDS];

/* release, acquire: the class is a constant, but the pointer to it need not be one that the loader has placed */
void nm__slot_class_set(nm__slot_kind kind, const nm__slot_class *class) {
    nm_atomic_store(&classes[kind], class, NM_RELEASE);
}

const nm__slot_class *nm__slot_class_of(const nm__slot *slot) {
    size_t kind = nm_atomic_load(&slot->nm__stamp, NM_RELAXED) & ((1u << NM__SLOT_KIND_BITS) - 1);
    return kind < NM__SLOT_KINDS ? nm_atomic_load(&classes[kind], NM_ACQUIRE) : NULL;
}

/* Slot numbers count cache lines from the start of the root's range, where the root itself lies: 0 is never a slot. */
nm__slot *nm__slot_at(const nm_scope *any_scope_of_root, uint32_t number) {
    return (nm__slot *)(void *)any_scope_of_root->root + number;
}

static nm_status new_page(nm__root *root, nm__slot **out) {
    if (root->slot_pages == root->slot_pages_max) return NM_ECAPACITY;
    if (!nm__root_charge(root, NM__PAGE_BYTES, NM__GRANT_QUIET)) return NM_EBUDGET;
    size_t offset = NM__ROOT_BYTES + (size_t)root->slot_pages * NM__PAGE_BYTES;
    unsigned char *page = (unsigned char *)root + offset;
    if (!nm__os_get()->commit(page, NM__PAGE_BYTES)) {
        nm__root_uncharge(root, NM__PAGE_BYTES);
        return NM_ENOMEM;
    }
    nm__check_unpoison(page, NM__PAGE_BYTES);
    root->slot_pages++;
    nm__slot *slots = (nm__slot *)(void *)page;
    for (uint32_t i = 0; i < NM__SLOTS_PER_PAGE; i++) slots[i].nm__own_mark = (uint32_t)(offset / sizeof(nm__slot)) + i;
    *out = slots;
    return NM_OK;
}

static nm_status take(nm__root *root, nm__slot **out) {
    nm_status st = NM_OK;
    pthread_mutex_lock(&root->records);
    if (root->free_slot_pages != NULL) {
        *out = root->free_slot_pages;
        root->free_slot_pages = (*out)->data;
    } else {
        st = new_page(root, out);
    }
    pthread_mutex_unlock(&root->records);
    return st;
}

nm_status nm__slots_take(nm_scope *owner, bool quiet, nm__slot **out) {
    nm__root *root = owner->root;
    *out = NULL;
    nm_status st = nm__grant(owner, NM__PAGE_BYTES, quiet ? NM__GRANT_QUIET : NM__GRANT_FULL, NULL);
    if (st != NM_OK) return st;
    st = take(root, out);
    for (int round = 0; st == NM_EBUDGET && !quiet && round < NM__GRANT_ROUNDS; round++) {
        if (!nm__try_room(&root->scope, NM__PAGE_BYTES, NULL)) break;
        st = take(root, out);
    }
    if (st != NM_OK) {
        if (st == NM_EBUDGET && !quiet) nm__refused(&root->scope);
        if (st != NM_EBUDGET || !quiet)
            nm__refusal_note(owner, st, st == NM_EBUDGET ? &root->scope : NULL, NM__PAGE_BYTES);
        nm__uncharge(owner, NM__PAGE_BYTES);
        return st;
    }
    if (!quiet) nm__settle(owner, NULL);
    return NM_OK;
}

void nm__slots_give(nm_scope *owner, nm__slot *page) {
    nm__root *root = owner->root;
    pthread_mutex_lock(&root->records);
    page->data = root->free_slot_pages;
    root->free_slot_pages = page;
    pthread_mutex_unlock(&root->records);
    nm__uncharge(owner, NM__PAGE_BYTES);
}

void nm__slot_misuse(const nm__slot *slot, const char *what, const void *address, const char *site) {
    const nm__slot_class *class = nm__slot_class_of(slot);
    /* The name is the owner's, which is sure to live only while the slot is out. */
    bool out = class != NULL && class->out(slot, nm_atomic_load(&slot->generation, NM_ACQUIRE));
    nm_misuse misuse = {
        .what = what,
        .part = class != NULL ? class->part : NULL,
        .name = out ? class->name(slot) : NULL,
        .address = address,
        .site = site,
        .leased_at = nm_atomic_load(&slot->leased_at, NM_RELAXED),
        .released_at = nm_atomic_load(&slot->released_at, NM_RELAXED),
    };
    nm__misuse(&misuse);
}
