// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Stats of a scope, and the tree as text. */
#include "base/options.h"
#include "scope/print.h"
#include "scope/ready.h"

const char *nm__grouped(char out[NM__GROUPED_BYTES], size_t n) {
    char *p = out + NM__GROUPED_BYTES;
    *--p = 0;
    for (int digits = 0; digits == 0 || n != 0; digits++, n /= 10) {
        if (digits != 0 && digits % 3 == 0) *--p = ',';
        *--p = (char)('0' + n % 10);
    }
    return p;
}

const char *nm__kind_name(nm_scope_kind kind) {
    static const char *const names[] = {"default", "process", "service", "session", "request", "task"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

/* The scope after s in the tree below `top`, parents before children; NULL at the end. The tree lock is held. */
static const nm_scope *next_below(const nm_scope *s, const nm_scope *top, bool into_children) {
    if (into_children && s->first_child != NULL) return s->first_child;
    while (s != top && s->next_sibling == NULL) s = s->parent;
    return s != top ? s->next_sibling : NULL;
}

static size_t used_by_holders(const nm_scope *s) {
    size_t used = 0;
    for (const nm__holder *h = s->holders; h != NULL; h = h->next)
        if (h->class->used != NULL) used += h->class->used(h);
    if (s->block_order != 0 && nm_atomic_load(&s->placed, NM_RELAXED) != 0) {
        const nm__holder *arena = nm__placed_holder(s);
        /* acquire: pairs with the release in nm__holder_place */
        const nm__holder_class *class = nm_atomic_load(&arena->class, NM_ACQUIRE);
        if (class != NULL) used += class->used(arena);
    }
    return used;
}

static size_t used_in_tree(const nm_scope *top) {
    size_t used = 0;
    for (const nm_scope *s = top; s != NULL; s = next_below(s, top, true)) used += used_by_holders(s);
    return used;
}

/* The scopes in blocks of their own are in no list of their parents' (ready.h). */
static bool is_open_below(const nm_scope *s, const nm_scope *top) {
    return nm_atomic_load(&s->is_open, NM_ACQUIRE) && nm__is_below(nm_atomic_load(&s->parent, NM_RELAXED), top);
}

static size_t used_below(const nm_scope *top) {
    size_t used = used_in_tree(top);
    for (const nm__ready *r = top->root->readies; r != NULL; r = r->next)
        for (const nm_scope *s = r->first; s != NULL; s = s->next_sibling)
            if (is_open_below(s, top)) used += used_in_tree(s);
    return used;
}

/* Those directly below s, and what they are granted. */
static size_t count_blocks(const nm_scope *parent, size_t *granted) {
    const nm_scope *base = parent;
    size_t count = 0;
    *granted = 0;
    while (!nm__is_shared(base) && base->parent != NULL) base = base->parent;
    if (base->ready == NULL || (base != parent && nm_atomic_load(&parent->child_count, NM_RELAXED) == 0)) return 0;
    for (const nm_scope *s = base->ready->first; s != NULL; s = s->next_sibling) {
        if (!nm_atomic_load(&s->is_open, NM_ACQUIRE) || nm_atomic_load(&s->parent, NM_RELAXED) != parent) continue;
        count++;
        *granted += nm__granted(s);
    }
    return count;
}

static size_t hard_in_force(const nm_scope *s) {
    while (s != NULL && nm_atomic_load(&s->hard, NM_RELAXED) == NM__UNLIMITED) s = s->parent;
    return s != NULL ? nm_atomic_load(&s->hard, NM_RELAXED) : 0;
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

void nm_scope_get_stats_sized(const nm_scope *scope, nm_scope_stats *out, size_t out_bytes) {
    if (out == NULL) return;
    nm_scope_stats st;
    memset(&st, 0, sizeof st);
    if (scope != NULL) {
        nm__root *root = scope->root;
        pthread_mutex_lock(&root->tree);
        st.used_bytes = used_below(scope);
        size_t unused;
        st.child_count = nm_atomic_load(&scope->child_count, NM_RELAXED);
        if (scope->ready != NULL) st.child_count += count_blocks(scope, &unused);
        st.credit_bytes = nm__ready_credit(scope);
        pthread_mutex_unlock(&root->tree);
        st.granted_bytes = nm__granted(scope);
        st.peak_bytes = nm_atomic_load(&scope->peak, NM_RELAXED);
        st.soft_bytes = nm_atomic_load(&scope->soft, NM_RELAXED);
        st.hard_bytes = hard_in_force(scope);
        if (scope->parent == NULL) {
            st.own_bytes = own_bytes(root);
            size_t taken = st.own_bytes + nm_atomic_load(&root->handed, NM_RELAXED);
            st.idle_bytes = st.granted_bytes > taken ? st.granted_bytes - taken : 0;
        }
        st.refused_count = nm_atomic_load(&scope->refused_count, NM_RELAXED);
        st.soft_count = nm_atomic_load(&scope->soft_count, NM_RELAXED);
        st.kind = (nm_scope_kind)scope->kind;
        nm__name_copy(st.name, scope->name);
    }
    nm__struct_write(out, out_bytes, &st, sizeof st);
}

void(nm_scope_get_stats)(const nm_scope *scope, nm_scope_stats *out) {
    nm_scope_get_stats_sized(scope, out, sizeof *out);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static bool is_listed(const nm_scope *s) { return s->kind <= NM_SCOPE_SESSION; }

static void print_limit(FILE *to, const char *what, size_t bytes) {
    char text[NM__GROUPED_BYTES];
    if (bytes != 0) fprintf(to, ", %s %s", what, nm__grouped(text, bytes));
}

/* Request and task scopes come and go by the thousand: a count and a sum of those directly below s. */
static void print_unlisted(const nm_scope *s, int indent, FILE *to) {
    size_t granted, count = count_blocks(s, &granted);
    char text[NM__GROUPED_BYTES];
    for (const nm_scope *c = s->first_child; c != NULL; c = c->next_sibling) {
        if (is_listed(c)) continue;
        count++;
        granted += nm__granted(c);
    }
    if (count > 0)
        fprintf(to, "%*s%zu request and task scopes: granted %s\n", indent, "", count, nm__grouped(text, granted));
}

static void print_scope(const nm_scope *s, int indent, FILE *to) {
    char a[NM__GROUPED_BYTES], b[NM__GROUPED_BYTES];
    fprintf(to, "%*s%s \"%s\": granted %s, peak %s", indent, "", nm__kind_name((nm_scope_kind)s->kind), s->name,
            nm__grouped(a, nm__granted(s)), nm__grouped(b, nm_atomic_load(&s->peak, NM_RELAXED)));
    size_t hard = nm_atomic_load(&s->hard, NM_RELAXED);
    print_limit(to, "soft", nm_atomic_load(&s->soft, NM_RELAXED));
    print_limit(to, "hard", hard != NM__UNLIMITED ? hard : 0);
    print_limit(to, "refused", nm_atomic_load(&s->refused_count, NM_RELAXED));
    print_limit(to, "soft crossed", nm_atomic_load(&s->soft_count, NM_RELAXED));
    fputc('\n', to);
    for (const nm__holder *h = s->holders; h != NULL; h = h->next)
        fprintf(to, "%*s%s \"%s\": used %s\n", indent + 2, "", h->class->part, h->name,
                nm__grouped(a, h->class->used != NULL ? h->class->used(h) : 0));
    print_unlisted(s, indent + 2, to);
}

nm_status nm_scope_dump(const nm_scope *scope, FILE *to, nm_dump_format format) {
    if (scope == NULL || to == NULL || format != NM_DUMP_TEXT) return NM_EINVAL;
    pthread_mutex_lock(&scope->root->tree);
    for (const nm_scope *s = scope; s != NULL; s = next_below(s, scope, is_listed(s))) {
        int depth = 0;
        for (const nm_scope *p = s; p != scope; p = p->parent) depth++;
        if (s == scope || is_listed(s)) print_scope(s, 2 * depth, to);
    }
    pthread_mutex_unlock(&scope->root->tree);
    return ferror(to) ? NM_ESYSTEM : NM_OK;
}
