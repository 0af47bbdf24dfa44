// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A cache with a byte budget: put more than fits, and it still holds no more bytes than it was given. */
#include <nebula/memory.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    nm_scope *root;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 4 << 20)) != NM_OK) return 1;

    nm_cache *pages;
    nm_status st = nm_cache_open(&pages, root, NM_CACHE_OPTIONS(.budget_bytes = 1 << 20, .name = "pages"));
    if (st != NM_OK) {
        fprintf(stderr, "cache: %s\n", nm_status_text(st));
        return 1;
    }
    char page[1000];
    memset(page, '.', sizeof page);
    for (int i = 0; i < 10000; i++) {
        char key[16];
        int key_len = snprintf(key, sizeof key, "/page/%d", i);
        if (nm_cache_put(pages, key, (size_t)key_len, page, sizeof page) != NM_OK) return 1;
    }

    nm_entry hit; /* pinned: readable until it is released, whatever the cache does meanwhile */
    if (!nm_cache_get(pages, "/page/9999", 10, &hit)) return 1;
    printf("newest page: %zu bytes\n", hit.value_len);
    nm_entry_release(&hit);

    printf("10,000 pages put, %zu kept: used %zu <= granted %zu <= budget %zu\n", nm_cache_count(pages),
           nm_cache_used(pages), nm_cache_granted(pages), nm_cache_budget(pages));
    return nm_cache_granted(pages) <= nm_cache_budget(pages) && nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
