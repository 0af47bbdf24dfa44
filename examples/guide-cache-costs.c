// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a cache costs beside keys and values, as docs/guide/caches.md has it. */
#include <nebula/memory.h>
#include <stdio.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

#define MIB     ((size_t)1 << 20)
#define KEY_LEN ((size_t)16)

/* A full cache of entries of one kind, but for a part of the keys that never ends. */
static int cost(nm_scope *root, size_t value_len, uint64_t ttl_ms) {
    static char value[4096];
    nm_cache *cache;
    nm_cache_options options = nm_cache_options_init();
    options.budget_bytes = 8 * MIB;
    options.ttl_ms = ttl_ms;
    CHECK(nm_cache_open(&cache, root, &options) == NM_OK);
    size_t puts = options.budget_bytes / (KEY_LEN + value_len) * 2;
    for (size_t i = 0; i < puts; i++) {
        char key[KEY_LEN + 1];
        snprintf(key, sizeof key, "%016zx", i);
        CHECK(nm_cache_put(cache, key, KEY_LEN, value, value_len) == NM_OK);
    }
    nm_cache_stats s;
    nm_cache_get_stats(cache, &s);
    size_t own = KEY_LEN + value_len, charge = nm_cache_charge(&options, KEY_LEN, value_len) - own;
    double all = (double)s.granted_bytes / (double)s.entry_count - (double)own;
    printf("values of %4zu bytes%s %6zu entries, %2zu in the entry, %5.1f with index and free room\n", value_len,
           ttl_ms != 0 ? ", timed:" : ":       ", s.entry_count, charge, all);
    CHECK(s.used_bytes == s.entry_count * (own + charge) && all < (double)charge + 16 + (double)own / 20);
    return nm_cache_close(cache) == NM_OK ? 0 : 1;
}

/* What is there before the first entry. */
static int empty(nm_scope *root, size_t budget_bytes) {
    static const struct {
        const char *name;
        nm_cache_policy policy;
    } policies[] = {{"SLRU", NM_CACHE_SLRU}, {"S3FIFO", NM_CACHE_S3FIFO}, {"ADAPTIVE", NM_CACHE_ADAPTIVE}};
    printf("budget of %3zu MiB:", budget_bytes / MIB);
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        nm_cache *cache;
        nm_cache_stats s;
        CHECK(nm_cache_open(&cache, root,
                            NM_CACHE_OPTIONS(.budget_bytes = budget_bytes, .policy = policies[i].policy)) == NM_OK);
        nm_cache_get_stats(cache, &s);
        printf("  %s %7zu bytes, policy %7zu", policies[i].name, s.granted_bytes, s.policy_bytes);
        CHECK(s.policy_bytes < budget_bytes / 20);
        CHECK(nm_cache_close(cache) == NM_OK);
    }
    putchar('\n');
    return 0;
}

int main(void) {
    nm_scope *root;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "costs", .hard_bytes = 512 * MIB)) == NM_OK);
    CHECK(cost(root, 10, 0) == 0);
    CHECK(cost(root, 100, 0) == 0);
    CHECK(cost(root, 100, 60000) == 0);
    CHECK(cost(root, 1000, 0) == 0);
    CHECK(cost(root, 4096, 0) == 0);
    CHECK(empty(root, MIB) == 0 && empty(root, 16 * MIB) == 0 && empty(root, 64 * MIB) == 0 &&
          empty(root, 256 * MIB) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
