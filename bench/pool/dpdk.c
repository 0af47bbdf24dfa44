// SPDX-License-Identifier: Apache-2.0 OR MIT
/* rte_mempool of DPDK, inlined as DPDK's own programs have it; its layer under the program runs without huge pages, devices
 * and root, on ordinary memory as all others here.
 *
 *   dpdk_cache        with its cache for each thread (rte_mempool_get, rte_mempool_put, and the _bulk ones), of 256 buffers as
 *                     DPDK's own programs choose it. The threads are registered, without which they would have none
 *   dpdk_cache_kept   the same, with the cache looked up once for each loop and passed (rte_mempool_generic_get), as its
 *                     documentation offers to who wants to save the look-up
 *   dpdk_cache_64     with caches of 64, as many as nebula's threads keep
 *   dpdk              without cache: the ring that lies below
 *
 * Up to half of its size more stay in a cache, and DPDK wants these to be fewer than the pool has. */
#include "bench.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

#include "pool/subject.h"
#include "pool/ticks.h"

static const unsigned cache_256 = 256, cache_64 = 64, cache_0 = 0; /* tags of subjects */

static void *dpdk_open(const pool_subject *self, size_t bytes, size_t count) {
    unsigned cache = *(const unsigned *)self->tag;
    /* Names are of all pools of the process. */
    static unsigned serial;
    char name[RTE_MEMPOOL_NAMESIZE];
    snprintf(name, sizeof name, "bench%u", serial++);
    return rte_mempool_create(name, (unsigned)count, (unsigned)bytes, cache, 0, NULL, NULL, NULL, NULL, SOCKET_ID_ANY,
                              RTE_MEMPOOL_F_NO_IOVA_CONTIG);
}

static void dpdk_close(void *context) { rte_mempool_free(context); }

static void dpdk_enter(void *context) {
    (void)context;
    if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0)
        pool_fail("dpdk", "a thread cannot be registered");
}

#define SUBJECT            dpdk_cache
#define LOCALS(context)    struct rte_mempool *pool = (context)
#define TAKE(h)            (rte_mempool_get(pool, h) == 0)
#define GIVE(h)            rte_mempool_put(pool, *(h))
#define TAKE_MANY(held, n) (rte_mempool_get_bulk(pool, held, n) == 0 ? (n) : 0)
#define GIVE_MANY(held, n) rte_mempool_put_bulk(pool, held, n)
#include "pool/loops.h"

#define SUBJECT dpdk_cache_kept
#define LOCALS(context)                                                                                                \
    struct rte_mempool *pool = (context);                                                                              \
    struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id())
#define TAKE(h)            (rte_mempool_generic_get(pool, h, 1, cache) == 0)
#define GIVE(h)            rte_mempool_generic_put(pool, h, 1, cache)
#define TAKE_MANY(held, n) (rte_mempool_generic_get(pool, held, n, cache) == 0 ? (n) : 0)
#define GIVE_MANY(held, n) rte_mempool_generic_put(pool, held, n, cache)
#include "pool/loops.h"

/* Starts DPDK once; the thread that does it is left on the processors that it had. */
static bool start(void) {
    char *arguments[] = {"pool",           "--no-huge", "--no-pci",        "-m", "512", "--no-shconf",
                         "--no-telemetry", "--no-hpet", "--log-level=*:1", NULL};
    int count = (int)(sizeof arguments / sizeof arguments[0]) - 1;
    cpu_set_t allowed;
    bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    int done = rte_eal_init(count, arguments);
    if (known) (void)sched_setaffinity(0, sizeof allowed, &allowed);
    return done >= 0;
}

void pool_add_dpdk(pool_list *list) {
    if (!start()) {
        fprintf(stderr, "pool: dpdk is left out: rte_eal_init: %s\n", rte_strerror(rte_errno));
        return;
    }
    pool_subject subject = {.tag = &cache_256, .holder = "no", .travels = "address", .capped = true};
    subject.open = dpdk_open;
    subject.close = dpdk_close;
    subject.enter = dpdk_enter;
    pool_subject kept = subject;
    dpdk_cache_loops(&subject);
    subject.least_count = 3 * cache_256 / 2;
    pool_list_add(list, &subject);
    dpdk_cache_kept_loops(&kept);
    kept.least_count = subject.least_count;
    kept.latency = NULL;
    kept.send = NULL;
    pool_list_add(list, &kept);
    subject.name = "dpdk_cache_64";
    subject.tag = &cache_64;
    subject.least_count = 3 * cache_64 / 2;
    pool_list_add(list, &subject);
    subject.name = "dpdk";
    subject.tag = &cache_0;
    subject.least_count = 0;
    subject.crowd_step = 1;
    pool_list_add(list, &subject);
}
