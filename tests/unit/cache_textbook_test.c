// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The whole cache, memory and all, hits as often as a textbook's segmented LRU of as many entries. */
#define _DEFAULT_SOURCE /* popen, in textbook.h */
#include "textbook.h"

#include "cache_fixture.h"

static textbook book;

static double run_cache(const char *name) {
    long hits = 0, count = 0;
    FILE *from = trace_open(name);
    for (uint32_t key; (key = trace_next(from)) != 0; count++) {
        char text[16];
        nm_entry e;
        (void)snprintf(text, sizeof text, "%u", key); /* keys of many lengths, so entries of some */
        if (pin_text(text, &e)) {
            hits++;
            nm_entry_release(&e);
        } else {
            unsigned char value[4096];
            fill(value, key, sizeof value);
            assert_ok(nm_cache_put(cache, text, strlen(text), value, sizeof value));
        }
    }
    trace_close(from);
    return (double)hits / (double)count;
}

static double run_textbook(const char *name) {
    long hits = 0, count = 0;
    FILE *from = trace_open(name);
    for (uint32_t key; (key = trace_next(from)) != 0; count++) hits += textbook_request(&book, key);
    trace_close(from);
    return (double)hits / (double)count;
}

static void slru_in_one_shard_hits_as_the_textbook(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t keys;
    } traces[] = {{"cache2k-web07", 20484},
                  {"lirs-2_pools", 9939},
                  {"lirs-multi2", 5684},
                  {"lirs-multi3", 7454},
                  {"lirs-sprite", 7075}};
    if (!trace_folder()) skip();
    for (size_t t = 0; t < sizeof traces / sizeof *traces; t++)
        for (unsigned percent = 10; percent <= 40; percent *= 2) {
            size_t budget = (size_t)traces[t].keys * percent / 100 * nm_cache_charge(NULL, 5, 4096);
            if (budget < 4 * MIB) continue;
            open_cache(.budget_bytes = budget, .shard_count = 1, .policy = NM_CACHE_SLRU);
            double hits = run_cache(traces[t].name);
            textbook_open(&book, nm_cache_count(cache), 80);
            double wanted = run_textbook(traces[t].name);
            print_message("%s, %zu entries in %zu bytes: %.4f hit, textbook %.4f\n", traces[t].name,
                          nm_cache_count(cache), budget, hits, wanted);
            /* The textbook has no hits that wait in a reader's desk: where a loop just fits, a hundredth more of protected room is 0.004. */
            assert_true(hits - wanted <= 0.005 && wanted - hits <= 0.005);
            close_cache();
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(slru_in_one_shard_hits_as_the_textbook)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
