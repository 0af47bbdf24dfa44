// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Fork of a process whose threads are at work: the child has a copy of all, one thread, and what threads that are gone had
 * in their hands is free in it. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "nebula/memory.h"

#define BUFFERS ((size_t)256)
#define WORKERS ((size_t)3)

#if defined(__SANITIZE_THREAD__)
#define FORKS 4
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FORKS 4
#endif
#endif
#ifndef FORKS
#define FORKS 300
#endif

typedef struct world {
    nm_scope *root, *scope;
    nm_pool *pool;
    nm_cache *cache;
    pthread_t threads[WORKERS];
    NM_ATOMIC(bool) stop;
    NM_ATOMIC(size_t) rounds;
    nm_lease exchange[WORKERS]; /* under the lock */
    pthread_mutex_t lock;
} world;

/* In the child no assertion of cmocka's: its way out is the parent's. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) _exit(__LINE__ % 200 + 1);                                                                   \
    } while (0)

static void run_child(void (*fn)(world *), world *w) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60); /* a lock that nobody gives back */
        fn(w);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("child: signal %d, exit %d (line modulo 200, plus 1)", WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                 WEXITSTATUS(status));
}

static void *work(void *arg) {
    world *w = arg;
    nm_lease mine[20] = {0};
    for (size_t i = 0; !nm_atomic_load(&w->stop, NM_RELAXED); i++) {
        size_t k = i * 7 % 20;
        if (nm_lease_ok(mine[k])) {
            if (i % 5 == 0) { /* to whom it may concern: another thread releases it */
                pthread_mutex_lock(&w->lock);
                nm_lease other = w->exchange[i % WORKERS];
                w->exchange[i % WORKERS] = mine[k];
                pthread_mutex_unlock(&w->lock);
                mine[k] = other;
            }
            nm_lease_release(&mine[k]);
        } else {
            mine[k] = nm_pool_lease(w->pool);
        }
        char key[8] = "key";
        key[3] = (char)('a' + i % 20);
        nm_entry entry;
        if (nm_cache_get(w->cache, key, 4, &entry))
            nm_entry_release(&entry);
        else if (nm_cache_put(w->cache, key, 4, key, sizeof key) != NM_OK)
            abort();
        if (i % 64 == 0) nm_pool_trim(w->pool, 100);
        nm_atomic_add(&w->rounds, 1, NM_RELAXED);
    }
    for (size_t k = 0; k < 20; k++) nm_lease_release(&mine[k]);
    return NULL;
}

static void world_open(world *w) {
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    assert_int_equal(nm_scope_open(&w->root, NULL, NULL), NM_OK);
    assert_int_equal(nm_scope_open(&w->scope, w->root, NM_SCOPE_OPTIONS(.name = "io")), NM_OK);
    assert_int_equal(nm_pool_open(&w->pool, w->scope, NM_POOL_OPTIONS(.chunk_bytes = 4096, .max_count = BUFFERS)),
                     NM_OK);
    assert_int_equal(nm_cache_open(&w->cache, w->scope, NM_CACHE_OPTIONS(.budget_bytes = 1 << 20)), NM_OK);
}

static void start(world *w) {
    for (size_t i = 0; i < WORKERS; i++) assert_int_equal(pthread_create(&w->threads[i], NULL, work, w), 0);
    while (nm_atomic_load(&w->rounds, NM_RELAXED) < 1000) sched_yield();
}

static void stop(world *w) {
    nm_atomic_store(&w->stop, true, NM_RELAXED);
    for (size_t i = 0; i < WORKERS; i++) pthread_join(w->threads[i], NULL);
    for (size_t i = 0; i < WORKERS; i++) nm_lease_release(&w->exchange[i]);
    nm_pool_stats stats;
    nm_pool_get_stats(w->pool, &stats);
    assert_int_equal(stats.leased_count, 0);
    assert_int_equal(nm_pool_close(w->pool), NM_OK);
    assert_int_equal(nm_cache_close(w->cache), NM_OK);
    assert_int_equal(nm_scope_close(w->root, NULL), 1); /* the scope below */
}

/* Every buffer that is not out can be had, grown, trimmed and released; the scope closes and gives all back. */
static void child_uses_everything(world *w) {
    nm_pool_stats before, stats;
    nm_pool_get_stats(w->pool, &before);
    CHECK(before.leased_count <= BUFFERS && before.waiting_count == 0);
    nm_lease *leases = calloc(BUFFERS + 1, sizeof *leases);
    size_t can = BUFFERS - before.leased_count;
    for (size_t i = 0; i < can; i++) {
        CHECK(nm_pool_try_lease(w->pool, &leases[i]) == NM_OK);
        memset(leases[i].data, 1, leases[i].size);
    }
    CHECK(nm_pool_try_lease(w->pool, &leases[can]) == NM_ECAPACITY);
    CHECK(nm_pool_lease_wait(w->pool, &leases[can], 1000) == NM_ETIMEDOUT);
    for (size_t i = 0; i < can; i++) nm_lease_release(&leases[i]);
    for (size_t i = 0; i < 1000; i++) {
        nm_lease lease = nm_pool_lease(w->pool);
        CHECK(nm_lease_ok(lease));
        nm_lease_release(&lease);
    }
    nm_pool_trim(w->pool, 0);
    nm_pool_get_stats(w->pool, &stats);
    CHECK(stats.leased_count == before.leased_count && stats.free_count < 16);
    nm_entry entry;
    CHECK(nm_cache_put(w->cache, "child", 5, "value", 5) == NM_OK);
    CHECK(nm_cache_get(w->cache, "child", 5, &entry));
    nm_entry_release(&entry);
    nm_scope *request;
    nm_arena *arena;
    CHECK(nm_scope_open(&request, w->scope, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST)) == NM_OK);
    CHECK(nm_arena_open(&arena, request, NULL) == NM_OK && nm_arena_alloc(arena, 100000) != NULL);
    CHECK(nm_scope_close(request, NULL) == 0);
    nm_leak_report report;
    nm_scope_close(w->root, &report);
    free(leases);
}

static void a_child_can_have_every_buffer_that_is_not_out(void **state) {
    (void)state;
    world w;
    world_open(&w);
    start(&w);
    for (int i = 0; i < FORKS; i++) run_child(child_uses_everything, &w);
    stop(&w);
}

/* ---- what the forking thread holds ------------------------------------------------------------------------------- */

static nm_lease held, shared;

static void child_releases_what_it_holds(world *w) {
    nm_pool_stats stats;
    nm_pool_get_stats(w->pool, &stats);
    CHECK(stats.leased_count == 2 && stats.shared_count == 1);
    nm_lease_release(&held);
    nm_pool_get_stats(w->pool, &stats);
    CHECK(stats.leased_count == 2); /* the share keeps it */
    nm_lease_release(&shared);
    nm_pool_get_stats(w->pool, &stats);
    CHECK(stats.leased_count == 1); /* the other thread's, which is gone; it may be released by whoever knows it */
    nm_lease_release(&w->exchange[0]);
    CHECK(nm_pool_close(w->pool) == NM_OK);
    CHECK(nm_cache_close(w->cache) == NM_OK);
    CHECK(nm_scope_close(w->root, NULL) == 1);
}

static void *lease_one_and_keep_others(void *arg) {
    world *w = arg;
    nm_lease leases[30];
    for (size_t i = 0; i < 30; i++) leases[i] = nm_pool_lease(w->pool);
    w->exchange[0] = leases[29];
    nm_lease_release_many(leases, 29);
    nm_atomic_store(&w->rounds, 1, NM_RELEASE);
    while (!nm_atomic_load(&w->stop, NM_ACQUIRE)) sched_yield();
    return NULL;
}

static void leases_stay_valid_in_the_child_and_are_apart_from_the_parents(void **state) {
    (void)state;
    world w;
    world_open(&w);
    assert_int_equal(pthread_create(&w.threads[0], NULL, lease_one_and_keep_others, &w), 0);
    while (nm_atomic_load(&w.rounds, NM_ACQUIRE) == 0) sched_yield();
    held = nm_pool_lease(w.pool);
    assert_int_equal(nm_lease_share(&held, &shared), NM_OK);
    strcpy(held.data, "parent");
    run_child(child_releases_what_it_holds, &w);
    assert_string_equal(held.data, "parent");
    nm_pool_stats stats;
    nm_pool_get_stats(w.pool, &stats);
    assert_int_equal(stats.leased_count, 2);
    nm_lease_release(&held);
    nm_lease_release(&shared);
    nm_lease_release(&w.exchange[0]);
    nm_atomic_store(&w.stop, true, NM_RELEASE);
    pthread_join(w.threads[0], NULL);
    memset(w.exchange, 0, sizeof w.exchange);
    nm_pool_get_stats(w.pool, &stats);
    assert_int_equal(stats.leased_count, 0);
    assert_int_equal(nm_pool_close(w.pool), NM_OK);
    assert_int_equal(nm_cache_close(w.cache), NM_OK);
    assert_int_equal(nm_scope_close(w.root, NULL), 1);
}

/* ---- the event --------------------------------------------------------------------------------------------------- */

static void child_has_an_event_of_its_own(world *w) {
    int fd = nm_pool_event_fd(w->pool);
    CHECK(fd >= 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t count;
    while (poll(&p, 1, 0) == 1) CHECK(read(fd, &count, sizeof count) == sizeof count);
    nm_lease leases[BUFFERS], none;
    CHECK(nm_pool_lease_many(w->pool, leases, BUFFERS) == BUFFERS);
    CHECK(nm_pool_try_lease(w->pool, &none) == NM_ECAPACITY);
    CHECK(poll(&p, 1, 0) == 0);
    nm_lease_release(&leases[3]);
    CHECK(poll(&p, 1, 0) == 1);
}

static void the_childs_event_does_not_wake_the_parent(void **state) {
    (void)state;
    world w;
    world_open(&w);
    int fd = nm_pool_event_fd(w.pool);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t count;
    while (poll(&p, 1, 0) == 1) assert_int_equal(read(fd, &count, sizeof count), sizeof count);
    run_child(child_has_an_event_of_its_own, &w);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(nm_pool_close(w.pool), NM_OK);
    assert_int_equal(nm_cache_close(w.cache), NM_OK);
    assert_int_equal(nm_scope_close(w.root, NULL), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_can_have_every_buffer_that_is_not_out),
        cmocka_unit_test(leases_stay_valid_in_the_child_and_are_apart_from_the_parents),
        cmocka_unit_test(the_childs_event_does_not_wake_the_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
