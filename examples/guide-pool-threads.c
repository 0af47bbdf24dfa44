// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A pool and threads, as docs/guide/pools.md has it: buffers that one thread leases and another releases, what threads keep
 * in front, and a child process. */
#include <nebula/memory.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

#define DEPTH 16

/* Leases are values: a queue holds them as they are. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    nm_lease leases[DEPTH];
    size_t first, count;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void push(nm_lease lease) {
    pthread_mutex_lock(&queue.lock);
    while (queue.count == DEPTH) pthread_cond_wait(&queue.changed, &queue.lock);
    queue.leases[(queue.first + queue.count++) % DEPTH] = lease;
    pthread_cond_broadcast(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
}

static nm_lease pop(void) {
    pthread_mutex_lock(&queue.lock);
    while (queue.count == 0) pthread_cond_wait(&queue.changed, &queue.lock);
    nm_lease lease = queue.leases[queue.first];
    queue.first = (queue.first + 1) % DEPTH;
    queue.count--;
    pthread_cond_broadcast(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    return lease;
}

/* Leases, fills, and hands on: what is pushed is the writer's, and no copy of it is touched here any more. */
static void *reader(void *pool) {
    for (int i = 0; i < 10000; i++) {
        nm_lease buffer;
        if (nm_pool_lease_wait(pool, &buffer, UINT64_MAX) != NM_OK) break;
        memcpy(buffer.data, &i, sizeof i);
        push(buffer);
    }
    push((nm_lease){0}); /* an empty one: the end */
    return NULL;
}

/* Releases what another thread has leased. */
static void *writer(void *sum) {
    for (;;) {
        nm_lease buffer = pop();
        if (!nm_lease_ok(buffer)) return NULL;
        int i;
        memcpy(&i, buffer.data, sizeof i);
        *(long *)sum += i;
        nm_lease_release(&buffer);
    }
}

static int across_threads(nm_pool *pool) {
    pthread_t threads[2];
    long sum = 0;
    CHECK(pthread_create(&threads[0], NULL, reader, pool) == 0 && pthread_create(&threads[1], NULL, writer, &sum) == 0);
    CHECK(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
    CHECK(sum == 10000L * 9999 / 2);

    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.leased_count == 0);
    CHECK(stats.thread_count == 0 && stats.front_count == 0); /* both have ended, and nothing went with them */
    return 0;
}

static int in_front(nm_pool *pool) {
    for (int i = 0; i < 100; i++) { /* often enough to be given a place of its own */
        nm_lease buffer = nm_pool_lease(pool);
        nm_lease_release(&buffer);
    }
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    printf("%zu buffers: %zu out, %zu free, %zu of them in front of %zu thread; %zu bytes granted\n", stats.total_count,
           stats.leased_count, stats.free_count, stats.front_count, stats.thread_count, stats.granted_bytes);
    return 0;
}

/* What the parent had leased stays so in the child, which has a copy of everything; the rest of the pool is free there. */
static int in_a_child(nm_pool *pool) {
    nm_lease parents = nm_pool_lease(pool);
    CHECK(nm_lease_ok(parents));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        nm_lease own = nm_pool_lease(pool);
        int good = nm_lease_ok(own) && own.data != parents.data;
        nm_lease_release(&own);
        nm_lease_release(&parents); /* the child's copy of it: the parent's is still out */
        _exit(good ? 0 : 1);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    nm_lease_release(&parents);
    return 0;
}

int main(void) {
    nm_scope *root;
    nm_pool *pool;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 8 << 20)) == NM_OK);
    CHECK(nm_pool_open(&pool, root, NM_POOL_OPTIONS(.name = "rx", .chunk_bytes = 4096, .max_count = 1000)) == NM_OK);
    CHECK(across_threads(pool) == 0 && in_front(pool) == 0 && in_a_child(pool) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
