// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Pools, as docs/guide/pools.md has them: opening, leasing, being refused, sharing, giving memory back. */
#include <nebula/memory.h>
#include <stdio.h>
#include <string.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

static nm_status io_open(nm_scope *root, nm_scope **io, nm_pool **buffers) {
    *buffers = NULL;
    nm_status st = nm_scope_open(io, root, NM_SCOPE_OPTIONS(.name = "io", .hard_bytes = 4 << 20));
    if (st != NM_OK) return st;
    st = nm_pool_open(buffers, *io, NM_POOL_OPTIONS(.name = "rx", .chunk_bytes = 16 << 10, .max_count = 200));
    if (st != NM_OK) nm_scope_close(*io, NULL);
    return st;
}

/* ---- leasing ------------------------------------------------------------------------------------------------------- */

static int leasing(nm_pool *pool) {
    nm_lease buffer = nm_pool_lease(pool);
    CHECK(nm_lease_ok(buffer)); /* else buffer.data is NULL */
    memset(buffer.data, 'x', buffer.size);
    nm_lease_release(&buffer);   /* by any thread */
    CHECK(!nm_lease_ok(buffer)); /* it is emptied, */
    nm_lease_release(&buffer);   /* and an empty one is ignored */
    CHECK(buffer.data == NULL);
    return 0;
}

static int refusal(nm_pool *pool) {
    nm_lease leases[200], more;
    for (size_t i = 0; i < 200; i++) CHECK(nm_pool_try_lease(pool, &leases[i]) == NM_OK);
    CHECK(nm_pool_try_lease(pool, &more) == NM_ECAPACITY); /* exactly max_count can be out */
    nm_lease_release(&leases[7]);
    CHECK(nm_pool_try_lease(pool, &more) == NM_OK); /* a refusal changes nothing: the next call works */
    nm_lease_release(&more);
    nm_lease_release_many(leases, 200); /* leases[7] is empty */
    return 0;
}

/* The buffer goes back whichever way the function is left. */
static nm_status reply(nm_pool *pool, const char *name, FILE *out) {
    NM_LEASE_SCOPED(buffer, pool);
    if (!nm_lease_ok(buffer)) return NM_ECAPACITY;
    int n = snprintf(buffer.data, buffer.size, "hello, %s\n", name);
    if (n < 0 || (size_t)n >= buffer.size) return NM_ETOOLARGE;
    return fwrite(buffer.data, 1, (size_t)n, out) == (size_t)n ? NM_OK : NM_ESYSTEM;
}

static int held(nm_scope *root, nm_pool *pool) {
    nm_scope *request;
    nm_lease in, out;
    CHECK(nm_scope_open(&request, root, NM_SCOPE_OPTIONS(.name = "GET /a", .kind = NM_SCOPE_REQUEST)) == NM_OK);
    CHECK(nm_pool_lease_in(pool, request, &in) == NM_OK && nm_pool_lease_in(pool, request, &out) == NM_OK);
    nm_lease_release(&in);                     /* as soon as it is not needed any more */
    CHECK(nm_scope_close(request, NULL) == 0); /* out goes back now, and that is no leak */
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.leased_count == 0);
    return 0;
}

static int many(nm_pool *pool) {
    nm_lease burst[32];
    size_t got = nm_pool_lease_many(pool, burst, 32); /* fewer only where the next one would be refused */
    for (size_t i = 0; i < got; i++) memset(burst[i].data, (int)i, burst[i].size);
    nm_lease_release_many(burst, got);
    CHECK(got == 32);
    return 0;
}

/* ---- more than one holder ------------------------------------------------------------------------------------------ */

struct client {
    nm_lease outgoing; /* empty: nothing is to be sent */
};

/* A message for many: each has a lease of its own, and the buffer goes back with the last of them. */
static size_t broadcast(nm_lease *message, struct client *clients, size_t count) {
    size_t queued = 0;
    for (size_t i = 0; i < count; i++) queued += nm_lease_share(message, &clients[i].outgoing) == NM_OK;
    nm_lease_release(message);
    return queued;
}

static int sharing(nm_pool *pool) {
    struct client clients[10] = {0};
    nm_lease message = nm_pool_lease(pool);
    CHECK(nm_lease_ok(message));
    snprintf(message.data, message.size, "news");
    CHECK(broadcast(&message, clients, 10) == 10 && !nm_lease_ok(message));

    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.leased_count == 1); /* one buffer */
    for (size_t i = 0; i < 10; i++) {
        CHECK(strcmp(clients[i].outgoing.data, "news") == 0);
        nm_lease_release(&clients[i].outgoing);
    }
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.leased_count == 0);
    return 0;
}

static int slices(nm_pool *pool) {
    nm_lease packet = nm_pool_lease(pool), header, body;
    CHECK(nm_lease_ok(packet));
    memcpy(packet.data, "HEADbody", 8);
    CHECK(nm_lease_slice(&packet, 0, 4, &header) == NM_OK && nm_lease_slice(&packet, 4, 4, &body) == NM_OK);
    nm_lease_release(&packet); /* who reads the packet is done; the parts go their own ways */
    CHECK(header.size == 4 && memcmp(header.data, "HEAD", 4) == 0);
    nm_lease_release(&header);
    CHECK(memcmp(body.data, "body", 4) == 0);
    nm_lease_release(&body); /* now the buffer goes back */
    return 0;
}

/* ---- where only the address travels -------------------------------------------------------------------------------- */

/* The shape of many libraries' callbacks: "we are done with these bytes". */
typedef void done_fn(void *data, void *context);

static void send_away(void *data, size_t bytes, done_fn *done, void *context) {
    (void)bytes;
    done(data, context);
}

static void buffer_done(void *data, void *pool) { nm_pool_release_data(pool, data); }

static int by_address(nm_pool *pool) {
    nm_lease buffer = nm_pool_lease(pool);
    CHECK(nm_lease_ok(buffer));
    send_away(buffer.data, buffer.size, buffer_done, pool); /* from here on the lease is not ours */
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.leased_count == 0);
    return 0;
}

/* ---- giving back --------------------------------------------------------------------------------------------------- */

static int trimming(nm_pool *pool) {
    nm_pool_stats stats;
    nm_pool_trim(pool, 8); /* after a burst: eight free buffers are enough for what is usual */
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.free_count == 8);
    return 0;
}

/* What lies idle in a pool is asked back before anybody below the same limit is refused. */
static int pressure(void) {
    nm_scope *root, *work;
    nm_pool *pool;
    nm_arena *arena;
    nm_lease leases[180];
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 4 << 20)) == NM_OK);
    CHECK(nm_pool_open(&pool, root, NM_POOL_OPTIONS(.name = "rx", .chunk_bytes = 16 << 10)) == NM_OK);
    CHECK(nm_pool_lease_many(pool, leases, 180) == 180);
    nm_lease_release_many(leases, 180); /* 2.8 MiB lie idle */

    CHECK(nm_scope_open(&work, root, NM_SCOPE_OPTIONS(.name = "work")) == NM_OK);
    CHECK(nm_arena_open(&arena, work, NULL) == NM_OK);
    CHECK(nm_arena_alloc(arena, 3 << 19) != NULL); /* 1.5 MiB: the pool has given back what was missing */
    nm_pool_stats stats;
    nm_pool_get_stats(pool, &stats);
    CHECK(stats.free_count < 180);
    CHECK(nm_scope_close(work, NULL) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}

/* ---- options ------------------------------------------------------------------------------------------------------- */

static int zeroing(nm_scope *root) {
    nm_pool *pool;
    CHECK(nm_pool_open(&pool, root, NM_POOL_OPTIONS(.chunk_bytes = 100, .zero_on_release = true)) == NM_OK);
    nm_lease first = nm_pool_lease(pool);
    CHECK(nm_lease_ok(first));
    memset(first.data, 'x', first.size);
    nm_lease_release(&first);
    nm_lease next = nm_pool_lease(pool);
    CHECK(nm_lease_ok(next));
    for (size_t i = 0; i < next.size; i++) CHECK(((char *)next.data)[i] == 0);
    nm_lease_release(&next);
    CHECK(nm_pool_close(pool) == NM_OK); /* NM_EBUSY while leases are out */
    return 0;
}

int main(void) {
    nm_scope *root, *io;
    nm_pool *pool;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 64 << 20)) == NM_OK);
    CHECK(io_open(root, &io, &pool) == NM_OK);
    CHECK(leasing(pool) == 0 && refusal(pool) == 0 && held(root, pool) == 0 && many(pool) == 0);
    CHECK(reply(pool, "pool", stdout) == NM_OK);
    CHECK(sharing(pool) == 0 && slices(pool) == 0 && by_address(pool) == 0);
    CHECK(trimming(pool) == 0 && zeroing(root) == 0);
    CHECK(nm_scope_close(io, NULL) == 0); /* and with it the pool */
    CHECK(nm_scope_close(root, NULL) == 0);
    return pressure();
}
