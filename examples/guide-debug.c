// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A checking run, as docs/guide/scopes-and-arenas.md has it: red zones switched on by an option. */
#include <nebula/memory.h>
#include <stdio.h>

static void tell(const nm_misuse *misuse, void *count) {
    printf("%s\n", misuse->what);
    ++*(int *)count;
}

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#define HAS_ASAN __has_feature(address_sanitizer)
#else
#define HAS_ASAN 0
#endif

int main(void) {
    nm_scope *root;
    nm_arena *arena;
    int found = 0;
    nm_set_misuse_handler(tell, &found); /* without it: what, where, and abort */
    if (nm_scope_open(&root, NULL,
                      NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 4 << 20,
                                       .debug = NM_DEBUG_GUARD | NM_DEBUG_FILL | NM_DEBUG_TRACE)) != NM_OK)
        return 1;
    if (nm_arena_open(&arena, root, NULL) != NM_OK) return 1;
    volatile char *name = nm_arena_alloc(arena, 20);
    if (name == NULL) return 1;
    bool planted = !HAS_ASAN; /* which would stop the program at the very line */
    if (planted) name[20] = 'x';
    nm_arena_reset(arena); /* looks at the red zones of what it undoes */
    if (found != (planted ? 1 : 0)) return 1;
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
