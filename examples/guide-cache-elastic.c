// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A cache that uses what others leave, as docs/guide/caches.md has it. */
#include <nebula/memory.h>
#include <stdio.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

#define MIB ((size_t)1 << 20)

static int serve(nm_cache *pages, uint32_t first, uint32_t count) {
    static char page[2000];
    for (uint32_t i = first; i < first + count; i++)
        CHECK(nm_cache_put(pages, &i, sizeof i, page, sizeof page) == NM_OK);
    return 0;
}

static void tell(const char *when, const nm_cache *pages) {
    printf("%-14s %zu entries, %.1f MiB granted\n", when, nm_cache_count(pages),
           (double)nm_cache_granted(pages) / (double)MIB);
}

static int elastic(nm_scope *root) {
    nm_scope *work;
    nm_cache *pages;
    nm_arena *arena;
    CHECK(nm_cache_open(&pages, root,
                        NM_CACHE_OPTIONS(.name = "pages", .budget_bytes = 7 * MIB, .elastic = true,
                                         .floor_bytes = MIB)) == NM_OK);
    CHECK(serve(pages, 0, 10000) == 0);
    tell("alone:", pages);

    CHECK(nm_scope_open(&work, root, NM_SCOPE_OPTIONS(.name = "work")) == NM_OK);
    CHECK(nm_arena_open(&arena, work, NULL) == NM_OK);
    CHECK(nm_arena_alloc(arena, 5 * MIB) != NULL); /* of 8 MiB for all: the cache has given back what was missing */
    tell("with others:", pages);
    CHECK(nm_cache_granted(pages) < 3 * MIB);

    CHECK(nm_scope_close(work, NULL) == 0);
    CHECK(serve(pages, 10000, 10000) == 0); /* it grows again as entries are put */
    tell("alone again:", pages);
    CHECK(nm_cache_granted(pages) > 6 * MIB);

    CHECK(nm_scope_reclaim(root, 100 * MIB) > 0); /* all that anybody can give: the cache keeps its floor */
    tell("asked for all:", pages);
    return 0;
}

int main(void) {
    nm_scope *root;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 8 * MIB)) == NM_OK);
    CHECK(elastic(root) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
