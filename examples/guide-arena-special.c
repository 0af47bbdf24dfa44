// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Arenas for special needs, as docs/guide/scopes-and-arenas.md has them: one range, secrets, another owner. */
#include <nebula/memory.h>
#include <stdio.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* A buffer of unknown length that never moves: the range is reserved, memory is committed as it fills. */
static int contiguous(nm_scope *root) {
    nm_arena *arena;
    CHECK(nm_arena_open(&arena, root, NM_ARENA_OPTIONS(.contiguous = true, .capacity_bytes = 1 << 20)) == NM_OK);
    size_t n = 1000;
    char *buffer = nm_arena_alloc(arena, n), *first = buffer;
    CHECK(buffer != NULL);
    while (n < 500 << 10) {
        buffer = nm_arena_realloc(arena, buffer, n, 2 * n);
        CHECK(buffer == first);
        n *= 2;
    }
    CHECK(nm_arena_granted(arena) < 1 << 20); /* charged for what it has committed */
    nm_arena_close(arena);
    return 0;
}

/* Keys: wiped when undone, and kept out of core dumps. */
static int secret(nm_scope *root) {
    nm_arena *arena;
    CHECK(nm_arena_open(&arena, root, NM_ARENA_OPTIONS(.secret = true, .name = "keys")) == NM_OK);
    unsigned char *key = nm_arena_alloc(arena, 32);
    CHECK(key != NULL);
    memset(key, 0x5c, 32);
    nm_arena_reset(arena); /* the 32 bytes are zeros now */
    nm_arena_close(arena);
    return 0;
}

/* An answer that outlives its request: its arena gets another owner, nothing is copied. */
static int move(nm_scope *root) {
    nm_scope *request, *outbox;
    nm_arena *answer;
    CHECK(nm_scope_open(&request, root, NM_SCOPE_OPTIONS(.name = "GET /a", .kind = NM_SCOPE_REQUEST)) == NM_OK);
    CHECK(nm_scope_open(&outbox, root, NM_SCOPE_OPTIONS(.name = "outbox", .hard_bytes = 64 << 10)) == NM_OK);
    CHECK(nm_arena_open(&answer, request, NULL) == NM_OK);
    char *text = nm_arena_strdup(answer, "200 OK");
    CHECK(text != NULL);

    nm_status st = nm_arena_move(answer, outbox);
    if (st == NM_EBUDGET) return 1; /* the outbox is full: the answer is still the request's */
    CHECK(st == NM_OK);
    CHECK(nm_scope_close(request, NULL) == 0);
    CHECK(strcmp(text, "200 OK") == 0);
    CHECK(nm_scope_close(outbox, NULL) == 0);
    return 0;
}

int main(void) {
    nm_scope *root;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "guide", .hard_bytes = 4 << 20)) == NM_OK);
    int failed = contiguous(root) || secret(root) || move(root);
    return failed || nm_scope_close(root, NULL) != 0;
}
