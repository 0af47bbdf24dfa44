// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "bench.h"

#include <math.h>

#include "cache/child.h"
#include "cache/memory.h"
#include "nebula/memory.h"

#define ENTRIES       1000000u
#define ENTRY_BYTES   40.0 /* most that nebula may take beyond key and value */
#define LAW_BUDGET    ((size_t)64 << 20)
#define LAW_FIXED     ((size_t)8 << 20)
#define LAW_MISSES    0.02 /* most by which misses may exceed those of a fresh cache */
#define LAW_LOOKS     32   /* at resident memory, in a stage */
#define MIX_LEAST     64.0
#define MIX_MOST      16384.0
#define LARGEST_VALUE 16384

static size_t resident_bytes(void) {
    char line[256];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    if (f == NULL) cache_fail("resident memory", "the system does not tell");
    while (fgets(line, sizeof line, f) != NULL && sscanf(line, "Rss: %lu", &kib) != 1) {
    }
    fclose(f);
    return (size_t)kib * 1024;
}

/* ---- bytes an entry ---------------------------------------------------------------------------------------------- */

void cache_memory_entries(const cache_subject *s) {
    /* Room for a million entries where they are charged; a quarter more are put, so that the cache is full and has
     * evicted. */
    size_t charge = nm_cache_charge(NULL, CACHE_KEY_BYTES, CACHE_VALUE_BYTES);
    cache_room room = {.bytes = ENTRIES * (charge + 8), .entries = ENTRIES, .by_entries = true, .lean = true};
    cache_tally tally = {0};
    size_t before = resident_bytes(), after, n = ENTRIES + ENTRIES / 4;
    void *context = s->open(s, &room);
    if (context == NULL) cache_fail(s->name, "cannot be opened");
    if (s->fill != NULL) {
        before = s->live_bytes(context);
        s->fill(context, n);
        after = s->live_bytes(context);
    } else {
        cache_request block[CACHE_BLOCK];
        for (size_t i = 0; i < n; i += CACHE_BLOCK) {
            size_t some = n - i < CACHE_BLOCK ? n - i : CACHE_BLOCK;
            for (size_t k = 0; k < some; k++) cache_make_request(&block[k], (uint32_t)(i + k) | CACHE_STREAM_PUT);
            s->serve(context, block, some, &tally);
        }
        after = resident_bytes();
    }
    printf("%zu %zu\n", s->count(context), after - before);
    fflush(stdout);
    s->close(context);
}

static bool report_entries(const cache_subject *subjects, size_t count) {
    bool kept = true;
    printf("subject,entries,resident_bytes,bytes_per_entry_beyond_key_and_value,measured\n");
    for (size_t i = 0; i < count; i++) {
        const cache_subject *s = &subjects[i];
        cache_child child;
        size_t entries, bytes;
        char *argv[] = {"/proc/self/exe", "--measure-entries", (char *)(uintptr_t)s->name, NULL};
        cache_child_start(&child, s->name, argv);
        cache_child_hear(&child, 2, "%zu %zu", &entries, &bytes);
        if (cache_child_end(&child) != 0) cache_fail(s->name, "the process that measures it failed");
        if (entries == 0) continue; /* it is no cache */
        double beyond = (double)bytes / (double)entries - CACHE_PAIR_BYTES;
        printf("%s,%zu,%zu,%.1f,%s\n", s->name, entries, bytes, beyond, s->fill != NULL ? "live heap" : "resident");
        fflush(stdout);
        if (i == 0 && beyond > ENTRY_BYTES) {
            fprintf(stderr, "cache: nebula: %.1f bytes an entry beyond key and value, more than %.0f\n", beyond,
                    ENTRY_BYTES);
            kept = false;
        }
    }
    return kept;
}

/* ---- resident memory when the sizes change ----------------------------------------------------------------------- */

static const struct stage {
    const char *name;
    size_t value_bytes; /* 0: 64 bytes to 16 KiB, each power of two as often as the others */
} stages[] = {{"100_bytes", 100}, {"10_kib", 10240}, {"1_kib", 1024}, {"mix", 0}};
#define STAGES (int)(sizeof stages / sizeof stages[0])

typedef struct law_row {
    size_t before, resident; /* bytes: before the cache was opened, and the most of a stage */
    double misses;           /* of the stage's last third */
} law_row;

static size_t value_bytes(int stage, uint64_t hash) {
    if (stages[stage].value_bytes != 0) return stages[stage].value_bytes;
    double share = (double)(hash >> 11) / 9007199254740992.0;
    return (size_t)(MIX_LEAST * pow(MIX_MOST / MIX_LEAST, share));
}

/* Gets by Zipf's law over four times as many keys as fit; a miss is put. The last third of the requests counts. */
static law_row run_stage(nm_cache *cache, int stage) {
    static const unsigned char source[LARGEST_VALUE];
    double mean = (MIX_MOST - MIX_LEAST) / log(MIX_MOST / MIX_LEAST); /* of the mix */
    if (stages[stage].value_bytes != 0) mean = (double)stages[stage].value_bytes;
    uint64_t keys = (uint64_t)(4 * (double)LAW_BUDGET / (mean + CACHE_KEY_BYTES)), seed = 0x5eed + (uint64_t)stage;
    size_t least = 6000000, requests = 4 * keys < least ? least : 4 * (size_t)keys, counted = requests / 3, missed = 0;
    cache_zipf zipf;
    law_row row = {0};
    cache_zipf_init(&zipf, keys);
    for (size_t i = 0; i < requests; i++) {
        cache_request r;
        nm_entry e;
        cache_make_request(&r, cache_zipf_draw(&zipf, &seed));
        r.key[1] |= (uint64_t)(stage + 1) << 32; /* other keys than in other stages */
        if (nm_cache_get(cache, r.key, sizeof r.key, &e)) {
            nm_entry_release(&e);
        } else {
            missed += i >= requests - counted;
            if (nm_cache_put(cache, r.key, sizeof r.key, source, value_bytes(stage, r.key[0] * 0xff51afd7ed558ccdu)) !=
                NM_OK)
                cache_fail("nebula", "a put was refused");
        }
        if (i % (requests / LAW_LOOKS) == 0 || i == requests - 1) {
            size_t resident = resident_bytes();
            if (resident > row.resident) row.resident = resident;
        }
    }
    row.misses = (double)missed / (double)counted;
    return row;
}

void cache_memory_law(int only) {
    nm_scope *root;
    nm_cache *cache;
    size_t before = resident_bytes();
    if (nm_scope_open(&root, NULL, NULL) != NM_OK ||
        nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = LAW_BUDGET)) != NM_OK)
        cache_fail("nebula", "cannot be opened");
    for (int stage = 0; stage < STAGES; stage++) {
        if (only >= 0 && stage != only) continue;
        law_row row = run_stage(cache, stage);
        printf("%zu %zu %.6f\n", before, row.resident, row.misses);
    }
    if (nm_cache_close(cache) != NM_OK || nm_scope_close(root, NULL) != 0) cache_fail("nebula", "leaked");
}

static void law_start(cache_child *child, int stage) {
    char number[16];
    snprintf(number, sizeof number, "%d", stage);
    char *argv[] = {"/proc/self/exe", "--measure-law", number, NULL};
    cache_child_start(child, "the law of resident memory", argv);
}

static law_row law_hear(cache_child *child) {
    law_row row;
    cache_child_hear(child, 3, "%zu %zu %lf", &row.before, &row.resident, &row.misses);
    return row;
}

static void law_end(cache_child *child) {
    if (cache_child_end(child) != 0) cache_fail(child->name, "the process that measures it failed");
}

/* What the process has before the cache is opened, the libraries of the peers above all, is no part of it. */
static bool report_law(void) {
    size_t most = LAW_BUDGET / 20 * 21 + LAW_FIXED;
    bool kept = true;
    cache_child all, fresh;
    printf("\nstage,budget_bytes,resident_bytes,allowed_bytes,misses,misses_of_fresh_cache,more_misses\n");
    law_start(&all, -1);
    for (int stage = 0; stage < STAGES; stage++) {
        law_row row = law_hear(&all);
        law_start(&fresh, stage);
        law_row alone = law_hear(&fresh);
        law_end(&fresh);
        size_t resident = row.resident - row.before;
        double more = row.misses / alone.misses - 1;
        printf("%s,%zu,%zu,%zu,%.4f,%.4f,%+.4f\n", stages[stage].name, LAW_BUDGET, resident, most, row.misses,
               alone.misses, more);
        fflush(stdout);
        if (resident > most || more > LAW_MISSES) {
            fprintf(stderr, "cache: nebula: stage %s: more resident memory or more misses than allowed\n",
                    stages[stage].name);
            kept = false;
        }
    }
    law_end(&all);
    return kept;
}

bool cache_memory_report(const cache_subject *subjects, size_t count) {
    bool small = report_entries(subjects, count), lawful = report_law();
    return small && lawful;
}
