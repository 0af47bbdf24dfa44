// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The tree and a leak report for programs, as docs/guide/scopes-and-arenas.md has them. */
#include <nebula/memory.h>
#include <stdio.h>

int main(void) {
    nm_scope *root, *session;
    nm_leak_report report;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 64 << 20)) != NM_OK) return 1;
    if (nm_scope_open(&session, root, NM_SCOPE_OPTIONS(.name = "session-17", .kind = NM_SCOPE_SESSION)) != NM_OK)
        return 1;

    nm_status st = nm_scope_dump(root, stdout, NM_DUMP_JSON);
    if (st == NM_OK) st = nm_scope_dump(root, stdout, NM_DUMP_PROMETHEUS);

    size_t leaks = nm_scope_close(root, &report); /* the session was forgotten */
    if (st == NM_OK) st = nm_leak_report_write(&report, stdout, NM_DUMP_JSON);
    return st == NM_OK && leaks == 1 ? 0 : 1;
}
