// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "scope/scope_internal.h"

typedef struct deferral {
    void (*fn)(void *arg);
    void *arg;
} deferral;

struct nm__deferred {
    nm__deferred *older;
    size_t count;
    deferral calls[(NM__RECORD_BYTES - 2 * sizeof(void *)) / sizeof(deferral)];
};
_Static_assert(sizeof(nm__deferred) <= NM__RECORD_BYTES, "deferrals lie in records");

static bool append(nm_scope *scope, deferral call) {
    nm__deferred *record = scope->deferred;
    if (record == NULL || record->count == sizeof record->calls / sizeof record->calls[0]) return false;
    record->calls[record->count++] = call;
    return true;
}

nm_status nm_scope_defer(nm_scope *scope, void (*fn)(void *arg), void *arg) {
    if (scope == NULL || fn == NULL) return NM_EINVAL;
    deferral call = {fn, arg};
    nm__lock_if_shared(scope);
    bool done = append(scope, call);
    nm__unlock_if_shared(scope);
    if (done) return NM_OK;
    /* The record is taken with no lock held, as it may reclaim; meanwhile others may have found room: then one of the two
     * records stays half empty, which costs nothing but its bytes. */
    void *memory;
    nm_status st = nm__record_take(scope, &memory);
    if (st != NM_OK) return st;
    nm__deferred *record = memory;
    nm__lock_if_shared(scope);
    record->older = scope->deferred;
    record->count = 0;
    scope->deferred = record;
    append(scope, call);
    nm__unlock_if_shared(scope);
    return NM_OK;
}

void nm__defers_run(nm_scope *scope) {
    /* A deferred function may defer another one: it runs next. */
    while (scope->deferred != NULL) {
        nm__deferred *record = scope->deferred;
        if (record->count == 0) {
            scope->deferred = record->older;
            nm__record_give(scope, record);
            continue;
        }
        deferral call = record->calls[--record->count];
        call.fn(call.arg);
    }
}
