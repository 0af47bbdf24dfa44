// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Opening and closing scopes, and their limits. */
#include "base/options.h"
#include "check/check.h"
#include "check/debug_env.h"
#include "os/os.h"
#include "scope/ready.h"
#include "scope/sites.h"

/* Rounds of reclaim before a smaller budget is refused. */
#define NM__SET_BUDGET_ROUNDS 4

/* ---- open -------------------------------------------------------------------------------------------------------- */

static nm_status check_limits(const nm_scope *parent, size_t soft, size_t hard) {
    if (hard > NM__BYTES_MAX || soft > NM__BYTES_MAX) return NM_EINVAL;
    if (hard != 0 && soft > hard) return NM_EINVAL;
    if (parent == NULL && hard != 0 && hard < NM_ROOT_MIN_BYTES) return NM_EINVAL;
    return NM_OK;
}

static nm_status check_options(const nm_scope *parent, const nm_scope_options *o) {
    if ((unsigned)o->kind > NM_SCOPE_TASK || (unsigned)o->leak_report > NM_LEAKS_OFF) return NM_EINVAL;
    nm_scope_kind kind = o->kind;
    bool shared = kind == NM_SCOPE_DEFAULT || kind == NM_SCOPE_PROCESS || kind == NM_SCOPE_SERVICE;
    if (o->credit_bytes != 0 && (parent == NULL || !shared || o->credit_bytes > NM__BYTES_MAX)) return NM_EINVAL;
    if (o->debug > NM__DEBUG_ALL || o->sample_bytes > NM__BYTES_MAX) return NM_EINVAL;
    return check_limits(parent, o->soft_bytes, o->hard_bytes);
}

/* What the options say. The rest is 0. Stats may look at the limits of a scope in a block of its own at any time: relaxed. */
static void fill_in(nm_scope *s, const nm_scope *parent, const nm_scope_options *o, const char *site) {
    nm_atomic_store(&s->hard, o->hard_bytes != 0 ? o->hard_bytes : NM__UNLIMITED, NM_RELAXED);
    nm_atomic_store(&s->soft, o->soft_bytes, NM_RELAXED);
    s->kind = (uint8_t)(o->kind != NM_SCOPE_DEFAULT ? o->kind : parent == NULL ? NM_SCOPE_PROCESS : NM_SCOPE_SERVICE);
    s->leak_mode = (uint8_t)o->leak_report;
    s->on_pressure = o->on_pressure;
    s->context = o->context;
    s->held_limit = o->held_limit_bytes;
    s->site = site;
    s->debug = (uint8_t)(o->debug | (parent != NULL ? parent->debug : 0));
    s->sample_log2 = o->sample_bytes != 0 ? (uint8_t)nm__log2_ceil(nm__max(o->sample_bytes, NM_ALIGN))
                     : parent != NULL     ? parent->sample_log2
                                          : 0;
    nm__name_copy(s->name, o->name);
}

static nm_status open_root(nm_scope **out, const nm_scope_options *o, const char *site) {
    const nm__os *os = nm__os_get();
    if (os->page_bytes() != NM__PAGE_BYTES) return NM_ESYSTEM;

    /* Room for as many slots as there are numbers, or as the limit could pay for; less where address space is short. */
    size_t slots = ((size_t)1 << NM__SLOT_NUMBER_BITS) * sizeof(nm__slot);
    if (o->hard_bytes != 0) slots = nm__min(slots, nm__round_up(o->hard_bytes, NM__PAGE_BYTES));
    slots -= nm__min(NM__ROOT_BYTES, slots / 2); /* the root lies among the numbers */
    slots = nm__round_up(slots, NM__PAGE_BYTES);
    void *range;
    nm_status st = nm__range_reserve(NM__ROOT_BYTES + slots, NM__PAGE_BYTES, &range);
    while (st != NM_OK && slots > NM_ROOT_MIN_BYTES) {
        slots = nm__round_up(slots / 2, NM__PAGE_BYTES);
        st = nm__range_reserve(NM__ROOT_BYTES + slots, NM__PAGE_BYTES, &range);
    }
    if (st != NM_OK) return st;
    if (!os->commit(range, NM__ROOT_BYTES)) {
        nm__range_release(range, NM__ROOT_BYTES + slots);
        return NM_ENOMEM;
    }

    nm__root *root = range;
    nm__check_unpoison(root, NM__ROOT_BYTES);
    root->scope.root = root;
    nm__debug_env env = nm__debug_from_environment();
    nm_scope_options with_env = *o;
    with_env.debug |= env.flags;
    if (env.sample_bytes != 0) with_env.sample_bytes = env.sample_bytes;
    fill_in(&root->scope, NULL, &with_env, site);
    nm_scope_fail_after(&root->scope, env.fail_after);
    if (nm__check_memcheck()) nm_atomic_add(&root->rare, 1, NM_RELAXED); /* which wants blocks and records apart */
    root->range_bytes = NM__ROOT_BYTES + slots;
    root->slot_pages_max = (uint32_t)(slots / NM__PAGE_BYTES);
    root->scope.granted = root->scope.peak = root->own_bytes = NM__ROOT_BYTES;
    pthread_mutex_init(&root->limits, NULL);
    pthread_mutex_init(&root->tree, NULL);
    pthread_mutex_init(&root->records, NULL);
    pthread_cond_init(&root->visited, NULL);
    nm__pressure_init(root);
    nm__ledger ledger = nm__root_ledger;
    ledger.context = root;
    nm__blocks_open(&root->blocks, &ledger,
                    o->huge_pages && (o->hard_bytes == 0 || o->hard_bytes >= NM__HUGE_LEAST_BYTES));
    nm__process_join(&root->member, &nm__root_member_class);
    *out = &root->scope;
    return NM_OK;
}

static nm_status open_in_record(nm_scope **out, nm_scope *parent, const nm_scope_options *o, const char *site) {
    void *memory;
    nm_status st = nm__record_take(parent, &memory);
    if (st != NM_OK) return st;
    nm_scope *s = memory;
    memset(s, 0, sizeof *s);
    s->root = parent->root;
    s->parent = parent;
    fill_in(s, parent, o, site);
    if (o->credit_bytes != 0) {
        st = nm__ready_open(s, o->credit_bytes);
        if (st != NM_OK) {
            nm__record_give(parent, s);
            return st;
        }
    }
    pthread_mutex_lock(&s->root->tree);
    s->next_sibling = parent->first_child;
    if (s->next_sibling != NULL) s->next_sibling->previous_sibling = s;
    parent->first_child = s;
    nm_atomic_store(&parent->child_count, parent->child_count + 1, NM_RELAXED);
    pthread_mutex_unlock(&s->root->tree);
    *out = s;
    return NM_OK;
}

static nm_scope *open_in_block(nm_scope *parent, const nm_scope_options *o, const char *site) {
    nm_scope *s = nm__ready_take(parent);
    if (NM_UNLIKELY(s == NULL)) return NULL;
    fill_in(s, parent, o, site);
    /* release: pairs with the acquire of whoever walks the blocks of the scope above (ready.c, stats) */
    nm_atomic_store(&s->is_open, true, NM_RELEASE);
    nm__settle(parent, NULL);
    return s;
}

nm_status nm_scope_open_at(nm_scope **out, nm_scope *parent, const nm_scope_options *options, const char *site) {
    if (out == NULL) return NM_EINVAL;
    *out = NULL;
    nm_scope_options copy;
    const nm_scope_options *o = options;
    if (NM_UNLIKELY(o == NULL || o->struct_size != sizeof copy || o->hard_bytes == NM_BYTES_AUTO)) {
        copy = nm_scope_options_init();
        nm_status st = nm__options_read(&copy, sizeof copy, options);
        if (st == NM_OK) st = nm__hard_resolve(parent, &copy.hard_bytes);
        if (st != NM_OK) return st;
        o = &copy;
    }
    nm_status st = check_options(parent, o);
    if (st != NM_OK) return st;
    if (parent == NULL) return open_root(out, o, site);
    if (o->kind >= NM_SCOPE_REQUEST) *out = open_in_block(parent, o, site);
    return *out != NULL ? NM_OK : open_in_record(out, parent, o, site);
}

nm_status(nm_scope_open)(nm_scope **out, nm_scope *parent, const nm_scope_options *options) {
    return nm_scope_open_at(out, parent, options, "?");
}

/* ---- close ------------------------------------------------------------------------------------------------------- */

static void unlink_child(nm_scope *s) {
    if (s->parent == NULL || s->block_order != 0) return;
    pthread_mutex_lock(&s->root->tree);
    if (s->previous_sibling != NULL)
        s->previous_sibling->next_sibling = s->next_sibling;
    else
        s->parent->first_child = s->next_sibling;
    if (s->next_sibling != NULL) s->next_sibling->previous_sibling = s->previous_sibling;
    nm_atomic_store(&s->parent->child_count, s->parent->child_count - 1, NM_RELAXED);
    pthread_mutex_unlock(&s->root->tree);
}

static void close_root(nm__root *root) {
    nm__process_leave(&root->member);
    nm__pressure_close(root);
    nm__records_close(root);
    nm__sites_close(&root->scope);
    nm__blocks_close(&root->blocks);
    pthread_cond_destroy(&root->visited);
    pthread_mutex_destroy(&root->records);
    pthread_mutex_destroy(&root->tree);
    pthread_mutex_destroy(&root->limits);
    nm__range_release(root, root->range_bytes);
}

static void close_holder(nm__holder *holder, nm__leaks *leaks, const char *site) {
    nm__holder_remove(holder);
    holder->class->close(holder, leaks, site);
}

/* True: there is nothing in it but an arena in its place, or not even that. *used is what the arena used. */
static bool closes_quickly(const nm_scope *s, size_t *used) {
    *used = 0;
    if (s->deferred != NULL || s->held != NULL || s->holders != NULL ||
        nm_atomic_load(&s->child_count, NM_RELAXED) != 0 || nm_atomic_load(&s->soft_pending, NM_RELAXED) ||
        nm_atomic_load(&s->fail_after, NM_RELAXED) != 0)
        return false;
    if (nm_atomic_load(&s->placed, NM_RELAXED) == 0) return true;
    const nm__holder *arena = nm__placed_holder(s);
    *used = arena->class->used_in_place(arena);
    return *used != SIZE_MAX;
}

/* For the dump. A close that finds nothing, which is nearly every one, touches no line that others want. */
static void count_leaks(nm__root *root, const nm_leak_report *report) {
    if (NM_LIKELY(report->leaked_count == 0)) return;
    nm_atomic_add(&root->leaked_count, report->leaked_count, NM_RELAXED);
    nm_atomic_add(&root->leaked_bytes, report->leaked_bytes, NM_RELAXED);
}

/* The scope has no children and has run what was deferred. */
static void tear_down(nm_scope *s, nm__leaks *leaks, const char *site) {
    leaks->mode = (nm_leak_mode)s->leak_mode;
    nm__held_give_back(s, leaks, site);
    while (s->holders != NULL && s->holders != nm__malloc_holder(s)) close_holder(s->holders, leaks, site);
    if (s->block_order != 0 && s->placed != 0) close_holder(nm__placed_holder(s), leaks, site);
    /* the heap of nm_scope_malloc: what arenas deferred and what caches hold may be freed into it until here */
    while (s->holders != NULL) close_holder(s->holders, leaks, site);
    if (nm_atomic_exchange(&s->soft_pending, false, NM_RELAXED)) nm_atomic_sub(&s->root->crossings, 1, NM_RELAXED);
    nm_scope_fail_after(s, 0);
    nm__ready_end_close(s);
    if (s->parent == NULL)
        close_root(s->root);
    else if (s->block_order != 0)
        nm__ready_give(s, 0);
    else
        nm__record_give(s->parent, s);
}

/* A child that is still open; NULL: none. */
static nm_scope *open_child(nm_scope *s) {
    if (s->first_child != NULL) return s->first_child;
    bool may_be = s->ready != NULL || nm_atomic_load(&s->child_count, NM_RELAXED) != 0;
    return may_be ? nm__ready_child(s) : NULL;
}

static void begin_report(nm__leaks *leaks, const nm_scope *s) {
    /* not the sites: a request that leaks nothing shall not pay for a report that nobody reads */
    memset(&leaks->report, 0, offsetof(nm_leak_report, sites));
    leaks->mode = (nm_leak_mode)s->leak_mode;
    size_t hard = nm_atomic_load(&s->hard, NM_RELAXED);
    leaks->report.hard_bytes = hard != NM__UNLIMITED ? hard : 0;
    leaks->report.soft_bytes = nm_atomic_load(&s->soft, NM_RELAXED);
    leaks->report.peak_bytes = nm_atomic_load(&s->peak, NM_RELAXED);
    leaks->report.scope_kind = (nm_scope_kind)s->kind;
    nm__name_copy(leaks->report.scope_name, s->name);
}

static void end_report(nm__leaks *leaks, nm_leak_report *out, size_t out_bytes) {
    size_t filled = leaks->report.site_count;
    memset(&leaks->report.sites[filled], 0, (NM_LEAK_SITES - filled) * sizeof leaks->report.sites[0]);
    nm__struct_write(out, out_bytes, &leaks->report, sizeof leaks->report);
}

size_t nm_scope_close_at(nm_scope *scope, nm_leak_report *report, size_t report_bytes, const char *site) {
    nm__leaks leaks;
    if (scope == NULL) {
        if (report != NULL) memset(report, 0, report_bytes);
        return 0;
    }
    size_t used;
    if (scope->block_order != 0 && closes_quickly(scope, &used)) {
        if (report != NULL) {
            begin_report(&leaks, scope);
            end_report(&leaks, report, report_bytes);
        }
        nm__ready_give(scope, used);
        return 0;
    }
    begin_report(&leaks, scope);
    nm__root *stays = scope->parent != NULL ? scope->root : NULL;
    /* Down to the deepest open child, then up again: no recursion, a tree may be deep. */
    for (nm_scope *s = scope;;) {
        if (!s->defers_ran) {
            nm__defers_run(s);
            s->defers_ran = true;
            nm__ready_begin_close(s);
        }
        nm_scope *child = open_child(s);
        if (child != NULL) {
            leaks.mode = (nm_leak_mode)s->leak_mode;
            nm__leaks_note(&leaks, NM_LEAK_SCOPE, child->name, 1, nm__granted(child), child->site);
            s = child;
            continue;
        }
        nm_scope *parent = s->parent;
        bool last = s == scope;
        nm__defers_run(s); /* what the closing of the children deferred */
        if (last) leaks.report.peak_bytes = nm_atomic_load(&s->peak, NM_RELAXED);
        unlink_child(s);
        tear_down(s, &leaks, site);
        if (last) break;
        s = parent;
    }
    if (stays != NULL) count_leaks(stays, &leaks.report);
    if (report != NULL) end_report(&leaks, report, report_bytes);
    return leaks.report.leaked_count;
}

size_t(nm_scope_close)(nm_scope *scope, nm_leak_report *report) {
    return nm_scope_close_at(scope, report, sizeof *report, "?");
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static bool change_limits(nm_scope *s, size_t soft, size_t hard, size_t *over) {
    pthread_mutex_lock(&s->root->limits);
    size_t now = nm_atomic_or(&s->granted, NM__FROZEN, NM_ACQUIRE) & NM__GRANTED_MASK;
    bool fits = hard == 0 || now <= hard;
    if (fits) {
        nm_atomic_store(&s->hard, hard != 0 ? hard : NM__UNLIMITED, NM_RELAXED);
        nm_atomic_store(&s->soft, soft, NM_RELAXED);
        /* release, as below: where the count wraps, it clears the frozen bit by itself */
        nm_atomic_add(&s->granted, NM__LIMITS_CHANGED, NM_RELEASE);
    }
    /* release: pairs with the acquire in add() of budget.c; whoever sees the new marks sees the new limits */
    nm_atomic_and(&s->granted, ~NM__FROZEN, NM_RELEASE);
    pthread_mutex_unlock(&s->root->limits);
    *over = fits ? 0 : now - hard;
    return fits;
}

nm_status nm_scope_set_budget(nm_scope *scope, size_t soft_bytes, size_t hard_bytes) {
    if (scope == NULL) return NM_EINVAL;
    nm_status st = nm__hard_resolve(scope->parent, &hard_bytes);
    if (st == NM_OK) st = check_limits(scope->parent, soft_bytes, hard_bytes);
    if (st != NM_OK) return st;
    size_t over;
    for (int round = 0; !change_limits(scope, soft_bytes, hard_bytes, &over); round++) {
        if (round == NM__SET_BUDGET_ROUNDS) return NM_EBUSY;
        if (nm__reclaim(scope, over, NULL) == 0) return NM_EBUSY;
    }
    /* The new soft limit may be crossed from the start. */
    nm_atomic_store(&scope->over_soft, false, NM_RELAXED);
    nm__note_growth(scope);
    nm__ready_limits_changed(scope);
    nm__settle(scope, NULL);
    return NM_OK;
}

unsigned nm__debug(const nm_scope *scope) { return scope->debug; }
size_t nm__sample_bytes(const nm_scope *scope) { return scope->sample_log2 != 0 ? (size_t)1 << scope->sample_log2 : 0; }

void nm_scope_fail_after(nm_scope *scope, uint64_t n) {
    if (scope == NULL) return;
    uint64_t before = nm_atomic_exchange(&scope->fail_after, n, NM_RELAXED);
    if (before == 0 && n != 0) nm_atomic_add(&scope->root->rare, 1, NM_RELAXED);
    if (before != 0 && n == 0) nm_atomic_sub(&scope->root->rare, 1, NM_RELAXED);
}
