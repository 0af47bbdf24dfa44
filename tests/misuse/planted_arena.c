// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A program with one bug of its own, whose name is its argument: planted_arena.sh demands that each is found. `none` is none,
 * and must end quietly with status 0. */
#include <stdio.h>
#include <string.h>

#include "nebula/memory.h"

static nm_scope *root;
static nm_arena *arena;

/* Through volatile, so that the compiler neither sees nor removes the access. */
static void write_at(unsigned char *p, size_t i) { ((volatile unsigned char *)p)[i] = 1; }
static int read_at(unsigned char *p, size_t i) { return ((volatile unsigned char *)p)[i]; }

static unsigned char *volatile found; /* where the next step looks for it */

static unsigned char *take(size_t n) {
    unsigned char *p = nm_arena_alloc(arena, n);
    if (p == NULL) return NULL;
    memset(p, 0x11, n);
    found = p;
    return found;
}

static int none(void) {
    for (int round = 0; round < 3; round++) {
        nm_mark mark = nm_arena_mark(arena);
        unsigned char *p = take(33);
        p = nm_arena_realloc(arena, p, 33, 333);
        memset(p, 1, 333);
        if (nm_arena_rewind(arena, mark) != NM_OK) return 1;
        NM_ARENA_TEMP (arena) {
            take(5001);
            take(500001);
        }
        take(0);
        nm_arena_reset(arena);
    }
    return 0;
}

static int write_into_padding(void) {
    write_at(take(20), 20);
    return 0;
}

static int write_one_past_the_end(void) {
    unsigned char *p = take(32);
    take(32);
    write_at(p, 32);
    return 0;
}

/* Where nothing sees the read itself, what is read must not be what was there: that is a finding of the program's own. */
static int read_after_reset(void) {
    unsigned char *p = take(32);
    nm_arena_reset(arena);
    int got = read_at(p, 5);
    if (got == 0xdd) {
        fprintf(stderr, "planted: read 0xdd after the reset\n");
        return 3;
    }
    take(32);
    return 0;
}

static int write_after_reset(void) {
    unsigned char *p = take(32);
    nm_arena_reset(arena);
    write_at(p, 5);
    take(32);
    return 0;
}

static int write_after_rewind(void) {
    nm_mark mark = nm_arena_mark(arena);
    unsigned char *p = take(32);
    if (nm_arena_rewind(arena, mark) != NM_OK) return 0;
    write_at(p, 31);
    return 0;
}

static int write_after_close(void) {
    unsigned char *p = take(32);
    nm_arena_close(arena);
    write_at(p, 7);
    return 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*run)(void);
    } bugs[] = {
        {"none", none},
        {"write_into_padding", write_into_padding},
        {"write_one_past_the_end", write_one_past_the_end},
        {"read_after_reset", read_after_reset},
        {"write_after_reset", write_after_reset},
        {"write_after_rewind", write_after_rewind},
        {"write_after_close", write_after_close},
    };
    if (argc != 2 || nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "planted")) != NM_OK ||
        nm_arena_open(&arena, root, NM_ARENA_OPTIONS(.name = "planted")) != NM_OK)
        return 2;
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++)
        if (strcmp(argv[1], bugs[i].name) == 0) {
            int status = bugs[i].run();
            nm_scope_close(root, NULL);
            return status;
        }
    fprintf(stderr, "planted: no such bug: %s\n", argv[1]);
    return 2;
}
