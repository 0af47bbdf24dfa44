// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What is caught when leases are used wrongly, and what it prints, as docs/guide/pools.md has it. Each wrong thing is done in
 * a child process, for it ends there. */
#include <nebula/memory.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void release_twice(nm_pool *pool) {
    nm_lease buffer = nm_pool_lease(pool), copy = buffer;
    nm_lease_release(&buffer);
    nm_lease_release(&copy);
}

static void release_late(nm_pool *pool) {
    nm_lease buffer = nm_pool_lease(pool), copy = buffer;
    nm_lease_release(&buffer);
    if (nm_pool_close(pool) == NM_OK) nm_lease_release(&copy);
}

static void release_foreign(nm_pool *pool) {
    char mine[100];
    nm_pool_release_data(pool, mine);
}

static void release_free(nm_pool *pool) {
    nm_lease buffer = nm_pool_lease(pool);
    void *data = buffer.data;
    nm_lease_release(&buffer);
    nm_pool_release_data(pool, data);
}

static void release_inside(nm_pool *pool) {
    nm_lease buffer = nm_pool_lease(pool);
    nm_pool_release_data(pool, (char *)buffer.data + 16);
}

static void share_released(nm_pool *pool) {
    nm_lease buffer = nm_pool_lease(pool), copy = buffer, more;
    nm_lease_release(&buffer);
    if (nm_lease_share(&copy, &more) == NM_OK) nm_lease_release(&more);
}

/* True: the library has stopped the child. */
static bool is_caught(void (*wrong)(nm_pool *), nm_pool *pool) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        wrong(pool);
        _exit(0);
    }
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* A leak is no misuse: it is found when pool or scope are closed, and told by the line that leased, the oldest first. */
static size_t leave_open(nm_scope *root) {
    nm_scope *io;
    nm_pool *pool;
    nm_leak_report report;
    if (nm_scope_open(&io, root, NM_SCOPE_OPTIONS(.name = "io")) != NM_OK) return 0;
    if (nm_pool_open(&pool, io, NM_POOL_OPTIONS(.name = "rx", .chunk_bytes = 4096)) != NM_OK) return 0;
    nm_lease first = nm_pool_lease(pool), many[3];
    size_t got = nm_pool_lease_many(pool, many, 3);
    if (!nm_lease_ok(first) || got != 3 || nm_pool_close(pool) != NM_EBUSY) return 0;
    size_t leaks = nm_scope_close(io, &report);
    nm_leak_report_print(&report, stdout);
    return leaks;
}

int main(void) {
    static void (*const wrong[])(nm_pool *) = {release_twice, release_late,   release_foreign,
                                               release_free,  release_inside, share_released};
    nm_scope *root;
    nm_pool *pool;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 1 << 20)) != NM_OK) return 1;
    if (nm_pool_open(&pool, root, NM_POOL_OPTIONS(.name = "rx", .chunk_bytes = 4096)) != NM_OK) return 1;
    size_t caught = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) caught += is_caught(wrong[i], pool);
    size_t leaks = leave_open(root);
    return caught == sizeof wrong / sizeof wrong[0] && leaks == 4 && nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
