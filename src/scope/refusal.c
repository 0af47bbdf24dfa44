// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The last refusal of what was asked of a scope, for its stats: a bare NULL has its reason here. */
#include "base/options.h"
#include "scope/scope_internal.h"

void nm__refusal_note(nm_scope *owner, nm_status status, nm_scope *at_or_null, size_t wanted_bytes) {
    /* relaxed: each value is right by itself; two threads that are refused at one time may leave a mixture */
    nm_atomic_store(&owner->refused_at, at_or_null, NM_RELAXED);
    nm_atomic_store(&owner->refused_wanted, wanted_bytes, NM_RELAXED);
    nm_atomic_store(&owner->refused_status, (uint8_t)-status, NM_RELAXED);
}

void nm__refusal_read(const nm_scope *scope, nm_scope_stats *out) {
    const nm_scope *at = nm_atomic_load(&scope->refused_at, NM_RELAXED); /* itself or an ancestor: it lives */
    out->last_refusal.status = (nm_status)-nm_atomic_load(&scope->refused_status, NM_RELAXED);
    out->last_refusal.wanted_bytes = nm_atomic_load(&scope->refused_wanted, NM_RELAXED);
    if (at != NULL) nm__name_copy(out->last_refusal.name, at->name);
}
