// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What one scope says of itself. */
#include "base/options.h"
#include "scope/dump.h"

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

size_t nm__used_below(const nm_scope *top) {
    size_t used = 0;
    unsigned depth = 0;
    for (const nm_scope *s = top; s != NULL; s = nm__next_below(s, top, true, &depth))
        for (const nm__holder *h = s->holders; h != NULL; h = h->next) used += nm__holder_used(h);
    return used;
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
    out->child_count = s->child_count;
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
        pthread_mutex_unlock(&root->tree);
        if (scope->parent == NULL) nm__stats_read_root(root, &st);
    }
    nm__struct_write(out, out_bytes, &st, sizeof st);
}

void(nm_scope_get_stats)(const nm_scope *scope, nm_scope_stats *out) {
    nm_scope_get_stats_sized(scope, out, sizeof *out);
}
