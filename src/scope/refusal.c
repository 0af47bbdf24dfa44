// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The last refusal of what was asked of a scope, for its stats: a bare NULL has its reason here. */
#include "base/options.h"
#include "scope/scope_internal.h"

void nm__refusal_note(nm_scope *owner, nm_status status, const nm_scope *at_or_null, size_t wanted_bytes) {
    size_t above = at_or_null != NULL ? 1 : 0;
    for (const nm_scope *s = owner; above != 0 && s != at_or_null && s->parent != NULL; s = s->parent) above++;
    /* relaxed: each value is right by itself; two threads that are refused at one time may leave a mixture */
    nm_atomic_store(&owner->refused_above, (uint8_t)nm__min(above, UINT8_MAX), NM_RELAXED);
    nm_atomic_store(&owner->refused_wanted, wanted_bytes, NM_RELAXED);
    nm_atomic_store(&owner->refused_status, (uint8_t)-status, NM_RELAXED);
}

void nm__refusal_read(const nm_scope *scope, nm_scope_stats *out) {
    out->last_refusal.status = (nm_status)-nm_atomic_load(&scope->refused_status, NM_RELAXED);
    if (out->last_refusal.status == NM_OK) return;
    out->last_refusal.wanted_bytes = nm_atomic_load(&scope->refused_wanted, NM_RELAXED);
    size_t above = nm_atomic_load(&scope->refused_above, NM_RELAXED);
    if (above == 0) return;
    const nm_scope *at = scope;
    while (--above > 0 && at->parent != NULL) at = at->parent;
    nm__name_copy(out->last_refusal.name, at->name);
}
