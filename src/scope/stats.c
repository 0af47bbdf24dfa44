// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What one scope says of itself. */
#include "base/options.h"
#include "scope/dump.h"
#include "scope/ready.h"

const nm_scope *nm__next_below(const nm_scope *s, const nm_scope *top, bool into_children, unsigned *depth) {
    if (into_children && s->first_child != NULL) {
        ++*depth;
        return s->first_child;
    }
    for (; s != top && s->next_sibling == NULL; s = s->parent) --*depth;
    return s != top ? s->next_sibling : NULL;
}

size_t nm__holder_used(const nm__holder *holder) {
    return holder->class->used != NULL ? holder->class->used(holder) : 0;
}

const nm__holder *nm__next_holder(const nm_scope *s, const nm__holder *h) {
    const nm__holder *placed = NULL;
    if (s->block_order != 0 && nm_atomic_load(&s->placed, NM_RELAXED) != 0) {
        placed = nm__placed_holder(s);
        /* acquire: pairs with the release in nm__holder_place */
        if (nm_atomic_load(&placed->class, NM_ACQUIRE) == NULL) placed = NULL;
    }
    if (h != NULL && h == placed) return NULL;
    const nm__holder *next = h != NULL ? h->next : s->holders;
    return next != NULL ? next : placed;
}

static size_t used_in_tree(const nm_scope *top) {
    size_t used = 0;
    unsigned depth = 0;
    for (const nm_scope *s = top; s != NULL; s = nm__next_below(s, top, true, &depth))
        for (const nm__holder *h = NULL; (h = nm__next_holder(s, h)) != NULL;) used += nm__holder_used(h);
    return used;
}

/* acquire: pairs with the release that opens it; its parent is of this life or a later one */
static bool is_open(const nm_scope *block) { return nm_atomic_load(&block->is_open, NM_ACQUIRE); }

size_t nm__used_below(const nm_scope *top) {
    size_t used = used_in_tree(top);
    for (const nm__ready *r = top->root->readies; r != NULL; r = r->next)
        for (const nm_scope *s = r->first; s != NULL; s = s->next_sibling)
            if (is_open(s) && nm__is_below(nm_atomic_load(&s->parent, NM_RELAXED), top)) used += used_in_tree(s);
    return used;
}

size_t nm__count_requests(const nm_scope *parent, size_t *granted) {
    size_t count = 0;
    *granted = 0;
    for (const nm_scope *s = parent->first_child; s != NULL; s = s->next_sibling) {
        if (nm__is_listed(s)) continue;
        count++;
        *granted += nm__granted(s);
    }
    const nm_scope *base = parent;
    while (!nm__is_shared(base) && base->parent != NULL) base = base->parent;
    if (base->ready == NULL || (base != parent && nm_atomic_load(&parent->child_count, NM_RELAXED) == 0)) return count;
    for (const nm_scope *s = base->ready->first; s != NULL; s = s->next_sibling) {
        if (!is_open(s) || nm_atomic_load(&s->parent, NM_RELAXED) != parent) continue;
        count++;
        *granted += nm__granted(s);
    }
    return count;
}

/* Of a shared scope child_count leaves out those in blocks of their own. */
static size_t count_children(const nm_scope *parent) {
    size_t count = nm_atomic_load(&parent->child_count, NM_RELAXED);
    if (parent->ready == NULL) return count;
    for (const nm_scope *s = parent->ready->first; s != NULL; s = s->next_sibling)
        count += is_open(s) && nm_atomic_load(&s->parent, NM_RELAXED) == parent;
    return count;
}

static size_t hard_in_force(const nm_scope *s) {
    while (s != NULL && nm_atomic_load(&s->hard, NM_RELAXED) == NM__UNLIMITED) s = s->parent;
    return s != NULL ? nm_atomic_load(&s->hard, NM_RELAXED) : 0;
}

void nm__stats_read(const nm_scope *s, nm_scope_stats *out) {
    memset(out, 0, sizeof *out);
    out->granted_bytes = nm__granted(s);
    out->peak_bytes = nm_atomic_load(&s->peak, NM_RELAXED);
    out->soft_bytes = nm_atomic_load(&s->soft, NM_RELAXED);
    out->hard_bytes = hard_in_force(s);
    out->child_count = count_children(s);
    out->refused_count = nm_atomic_load(&s->refused_count, NM_RELAXED);
    out->soft_count = nm_atomic_load(&s->soft_count, NM_RELAXED);
    out->kind = (nm_scope_kind)s->kind;
    nm__name_copy(out->name, s->name);
}

static size_t own_bytes(nm__root *root) {
    pthread_mutex_lock(&root->records);
    size_t bytes = root->own_bytes;
    pthread_mutex_unlock(&root->records);
    pthread_mutex_lock(&root->blocks.lock);
    bytes += root->blocks.own_bytes;
    pthread_mutex_unlock(&root->blocks.lock);
    return bytes;
}

void nm__stats_read_root(nm__root *root, nm_scope_stats *out) {
    out->granted_bytes = nm__granted(&root->scope);
    out->own_bytes = own_bytes(root);
    size_t taken = out->own_bytes + nm_atomic_load(&root->handed, NM_RELAXED);
    out->idle_bytes = out->granted_bytes > taken ? out->granted_bytes - taken : 0;
}

void nm_scope_get_stats_sized(const nm_scope *scope, nm_scope_stats *out, size_t out_bytes) {
    if (out == NULL) return;
    nm_scope_stats st;
    memset(&st, 0, sizeof st);
    if (scope != NULL) {
        nm__root *root = scope->root;
        pthread_mutex_lock(&root->tree);
        nm__stats_read(scope, &st);
        st.used_bytes = nm__used_below(scope);
        st.credit_bytes = nm__ready_credit(scope);
        pthread_mutex_unlock(&root->tree);
        if (scope->parent == NULL) nm__stats_read_root(root, &st);
    }
    nm__struct_write(out, out_bytes, &st, sizeof st);
}

void(nm_scope_get_stats)(const nm_scope *scope, nm_scope_stats *out) {
    nm_scope_get_stats_sized(scope, out, sizeof *out);
}
