// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Open a scope with a budget, allocate in an arena, close: everything goes back at once. */
#include <nebula/memory.h>
#include <stdio.h>

int main(void) {
    nm_scope *root, *request;
    nm_arena *arena;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 64 << 20)) != NM_OK) return 1;
    if (nm_scope_open(&request, root, NM_SCOPE_OPTIONS(.name = "GET /", .hard_bytes = 256 << 10)) != NM_OK) return 1;
    if (nm_arena_open(&arena, request, NULL) != NM_OK) return 1;

    int *squares = NM_NEW_ARRAY(arena, int, 10); /* zeroed, aligned, the product checked for overflow */
    char *line = nm_arena_printf(arena, "%s has %d squares", "GET /", 10);
    if (squares == NULL || line == NULL) return 1;
    for (int i = 0; i < 10; i++) squares[i] = i * i;
    printf("%s, the last is %d; %zu bytes used\n", line, squares[9], nm_arena_used(arena));

    /* more than the request may have: an ordinary answer, and the next call works */
    if (nm_arena_alloc(arena, 1 << 20) != NULL) return 1;
    printf("1 MiB: %s\n", nm_status_text(nm_arena_status(arena)));
    if (nm_arena_alloc(arena, 1000) == NULL) return 1;

    size_t leaks = nm_scope_close(request, NULL) + nm_scope_close(root, NULL);
    printf("%zu leaks\n", leaks);
    return leaks == 0 ? 0 : 1;
}
