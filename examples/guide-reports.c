// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Reports, as docs/guide/scopes-and-arenas.md has them: a request that forgets a buffer, and the tree while it is open. */
#include <nebula/memory.h>
#include <stdio.h>

static size_t serve(nm_scope *session, nm_scope *root) {
    nm_scope *request;
    nm_arena *arena;
    nm_pool *parts;
    nm_leak_report report;
    if (nm_scope_open(&request, session,
                      NM_SCOPE_OPTIONS(.name = "GET /a", .kind = NM_SCOPE_REQUEST, .soft_bytes = 128 << 10,
                                       .hard_bytes = 256 << 10)) != NM_OK)
        return 0;
    if (nm_arena_open(&arena, request, NULL) == NM_OK && nm_arena_alloc(arena, 1000) != NULL &&
        nm_pool_open(&parts, request, NM_POOL_OPTIONS(.name = "parts", .chunk_bytes = 4096)) == NM_OK) {
        nm_lease head = nm_pool_lease(parts), body = nm_pool_lease(parts);
        nm_lease_release(&head); /* body is forgotten */
        (void)body;
    }
    if (nm_scope_dump(root, stdout, NM_DUMP_TEXT) != NM_OK) return 0;

    size_t leaks = nm_scope_close(request, &report);
    if (leaks > 0) nm_leak_report_print(&report, stdout);
    return leaks;
}

int main(void) {
    nm_scope *root, *session;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 64 << 20)) != NM_OK) return 1;
    if (nm_scope_open(&session, root, NM_SCOPE_OPTIONS(.name = "session-17", .kind = NM_SCOPE_SESSION)) != NM_OK)
        return 1;
    size_t found = serve(session, root);
    size_t others = nm_scope_close(session, NULL) + nm_scope_close(root, NULL);
    return found == 1 && others == 0 ? 0 : 1;
}
