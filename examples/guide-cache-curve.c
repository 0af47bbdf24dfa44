// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What another budget would bring, told by a cache at work, as docs/guide/caches.md has it. */
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

/* Few are asked for often, many seldom: the n-th of 65535 with a frequency of about 1/n. */
static uint32_t next_key(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint32_t octave = 1u << (*state >> 60), within = (uint32_t)(*state >> 32);
    return octave + within % octave;
}

static int serve(nm_cache *pages, int requests, uint64_t *state) {
    static char page[4096];
    for (int i = 0; i < requests; i++) {
        uint32_t key = next_key(state), page_len = 500 + key * 2654435761u % 3000;
        nm_entry hit;
        if (nm_cache_get(pages, &key, sizeof key, &hit))
            nm_entry_release(&hit);
        else
            CHECK(nm_cache_put(pages, &key, sizeof key, page, page_len) == NM_OK);
    }
    return 0;
}

static void print_curve(const nm_cache *pages) {
    nm_curve_point curve[7];
    size_t count = nm_cache_curve(pages, curve, 7); /* 0: nothing is known yet */
    for (size_t i = 0; i < count; i++)
        printf("%6.1f MiB: %.3f of requests hit, %.3f of bytes, %8.0f hits a second\n",
               (double)curve[i].budget_bytes / (double)MIB, curve[i].hit_ratio, curve[i].byte_hit_ratio,
               curve[i].hits_per_second);
}

/* Once an hour, say. A MiB more must save so many misses a second to be worth having. */
static nm_status follow_advice(nm_cache *pages, double hits_per_second_per_mib, size_t most) {
    size_t advised = nm_cache_advice(pages, hits_per_second_per_mib);
    if (advised == 0) return NM_OK; /* no curve: stay as it is */
    return nm_cache_resize(pages, advised < most ? advised : most);
}

int main(void) {
    nm_scope *root;
    nm_cache *pages;
    uint64_t state = 1;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 256 * MIB)) == NM_OK);
    CHECK(nm_cache_open(&pages, root, NM_CACHE_OPTIONS(.name = "pages", .budget_bytes = 16 * MIB)) == NM_OK);
    CHECK(nm_cache_advice(pages, 1) == 0); /* nobody has asked for anything yet */
    CHECK(serve(pages, 1000000, &state) == 0);
    print_curve(pages);

    nm_curve_point curve[7];
    CHECK(nm_cache_curve(pages, curve, 7) == 7 && curve[3].budget_bytes == 16 * MIB);
    for (int i = 1; i < 7; i++)
        CHECK(curve[i].hit_ratio >= curve[i - 1].hit_ratio && curve[i].budget_bytes == 2 * curve[i - 1].budget_bytes);

    /* Does it tell the truth? With twice the budget: */
    nm_cache_stats before, after;
    CHECK(nm_cache_resize(pages, 32 * MIB) == NM_OK);
    CHECK(serve(pages, 200000, &state) == 0); /* until it is full again */
    nm_cache_get_stats(pages, &before);
    CHECK(serve(pages, 200000, &state) == 0);
    nm_cache_get_stats(pages, &after);
    uint64_t hits = after.hits - before.hits, misses = after.misses - before.misses;
    double measured = (double)hits / (double)(hits + misses);
    printf("%.3f was predicted for 32 MiB, and %.3f is measured\n", curve[4].hit_ratio, measured);
    CHECK(measured > curve[4].hit_ratio - 0.05 && measured < curve[4].hit_ratio + 0.05);

    CHECK(follow_advice(pages, 5000, 64 * MIB) == NM_OK);
    printf("advised, if a MiB is to bring 5,000 hits a second: %zu MiB\n", nm_cache_budget(pages) / MIB);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
