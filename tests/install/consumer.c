// SPDX-License-Identifier: Apache-2.0 OR MIT
// What a user's first program does, built from the installed files alone.
#include <nebula/memory.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    nm_scope *scope;
    nm_status status = nm_scope_open(&scope, NULL, NM_SCOPE_OPTIONS(.name = "consumer", .hard_bytes = 1u << 20));
    if (status != NM_OK) {
        fprintf(stderr, "nm_scope_open: %s\n", nm_status_text(status));
        return 1;
    }
    nm_arena *arena;
    status = nm_arena_open(&arena, scope, NULL);
    if (status != NM_OK) {
        fprintf(stderr, "nm_arena_open: %s\n", nm_status_text(status));
        return 1;
    }
    char *bytes = nm_arena_alloc(arena, 100);
    if (!bytes) return 1;
    memset(bytes, 'x', 100);
    // The header that was compiled and the library that was found must be of one version.
    printf("%s\n", nm_version());
    return nm_scope_close(scope, NULL) == 0 ? 0 : 1;
}
