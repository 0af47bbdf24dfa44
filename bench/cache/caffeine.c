// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Caffeine, the cache of Java, in a process of its own (Caffeine.java) that reads the same stream and takes its turn
 * in each round. It has as many processors as this program's threads, for its upkeep, which it does on the threads that
 * use it (by default it has others for that: a second processor in the rows of one thread), and for the collector. Of
 * Java's collectors the parallel one with a large young generation served it best, and the heap is many times what
 * lives in it. The hash is Java's hashCode, not keyed; its table keeps its speed with keys that collide. Memory is what
 * lives in the heap after a collection. */
#include "bench.h"

#include "cache/child.h"
#include "cache/subject.h"

typedef struct setup {
    cache_child java;
} setup;

static void *caffeine_open(const cache_subject *self, const cache_room *room) {
    setup *c = cache_must(calloc(1, sizeof *c));
    char *argv[] = {
        NM_BENCH_JAVA,          "-Xms1g",   "-Xmx1g", "-Xmn600m", "-XX:+UseParallelGC", "-XX:+AlwaysPreTouch", "-cp",
        NM_BENCH_CAFFEINE_PATH, "Caffeine", NULL};
    cache_child_start(&c->java, self->name, argv);
    cache_child_say(&c->java, "open %zu %d %u\n", room->entries, cache_stream_descriptor, CACHE_PIECE);
    cache_child_hear(&c->java, 0, "ready");
    return c;
}

static void caffeine_close(void *context) {
    setup *c = context;
    if (cache_child_end(&c->java) != 0) cache_fail("caffeine", "the process failed");
    free(c);
}

static void caffeine_measure(void *context, unsigned threads, unsigned warm_ms, unsigned ms, cache_rate *out) {
    setup *c = context;
    unsigned long gets, hits, wrong;
    workers_confine(c->java.pid, threads);
    cache_child_say(&c->java, "round %u %u %u\n", threads, warm_ms, ms);
    cache_child_hear(&c->java, 4, "%lf %lu %lu %lu", &out->ns_per_request, &gets, &hits, &wrong);
    out->tally = (cache_tally){gets, hits, wrong};
}

static size_t ask(void *context, const char *what) {
    setup *c = context;
    size_t answer;
    cache_child_say(&c->java, "%s\n", what);
    cache_child_hear(&c->java, 1, "%zu", &answer);
    return answer;
}

static size_t caffeine_count(void *context) { return ask(context, "count"); }
static size_t caffeine_live_bytes(void *context) { return ask(context, "live"); }

static void caffeine_fill(void *context, size_t n) {
    setup *c = context;
    cache_child_say(&c->java, "fill %zu\n", n);
    cache_child_hear(&c->java, 0, "ready");
}

void cache_add_caffeine(cache_list *list) {
    cache_subject subject = {.name = "caffeine",
                             .open = caffeine_open,
                             .close = caffeine_close,
                             .count = caffeine_count,
                             .measure = caffeine_measure,
                             .fill = caffeine_fill,
                             .live_bytes = caffeine_live_bytes};
    cache_list_add(list, &subject);
}
