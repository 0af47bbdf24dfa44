// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Does memory come back after a spike?
 *
 * 16 arenas of 64 MiB in 16 scopes of one root are filled, every page of them touched, and all closed: 1 GiB. Printed is the
 * resident memory of the process (/proc/self/statm), in MiB, the program's own pages included:
 *
 *   rss_start    before
 *   rss_full     with all 16 open: at least 1024 more, else this measures nothing, and it fails
 *   rss_closed   right after the last close: what the closes themselves gave back
 *   rss_later    after the subject was asked to give back what is idle: nebula by nm_scope_maintain, called as often as it
 *                asks for within 10 s (`seconds` tells how long that was, a decay period); peers by the function that they
 *                have for it, at once (malloc_trim, mi_collect, jemalloc's purge)
 *
 * Each subject runs in a process of its own, so that none finds what another left. Sizes are 16 to 2048 bytes. Heaps free one
 * by one, in the order of allocation; their pointers are chained through the allocations. */
#include "bench.h"

#include <sys/wait.h>
#include <unistd.h>

#include "nebula/memory.h"
#include "peers/peers.h"

#define PARTS         16
#define PART_BYTES    ((size_t)64 << 20)
#define LATER_SECONDS 10
#define MIB(bytes)    ((double)(bytes) / (1 << 20))

_Noreturn static void fail(const char *what) {
    fprintf(stderr, "spike: %s\n", what);
    exit(1);
}

static size_t resident_bytes(void) {
    unsigned long total, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%lu %lu", &total, &resident) != 2) fail("cannot read /proc/self/statm");
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* The sizes of all subjects: the same sequence. */
static size_t next_size(uint64_t *state) { return 16 + (bench_random(state) >> 32) % (2048 - 16 + 1); }

/* Writes to every page that the allocation touches first. */
static void *touched(void *p, size_t n) {
    if (p == NULL) fail("an allocation was refused");
    memset(p, 1, n);
    return p;
}

/* One spike: fills all parts, closes all of them, gives back what is idle. */
typedef struct spiker {
    const char *name;
    const peer_heap *heap;     /* one of the two, or */
    const peer_region *region; /* none: nebula */
} spiker;

typedef struct chained {
    struct chained *next;
} chained;

static nm_scope *root;
static void *parts[PARTS]; /* scopes, regions, or the chains of heaps */

static void open_part(const spiker *s, size_t k) {
    uint64_t state = 20240229 + k;
    if (s->heap != NULL) {
        chained *first = NULL, **end = &first;
        for (size_t bytes = 0, n; bytes < PART_BYTES; bytes += n) {
            n = next_size(&state);
            chained *c = touched(s->heap->malloc(n), n);
            c->next = NULL;
            *end = c;
            end = &c->next;
        }
        parts[k] = first;
    } else if (s->region != NULL) {
        peer_need need = {.total_bytes = PART_BYTES, .count = PART_BYTES / 1024};
        void *region = parts[k] = s->region->open(&need);
        if (region == NULL) fail("a peer refused a region");
        for (size_t bytes = 0, n; bytes < PART_BYTES; bytes += n) {
            n = next_size(&state);
            touched(s->region->alloc(region, n), n);
        }
    } else {
        nm_scope *scope;
        nm_arena *arena;
        if (nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "part")) != NM_OK ||
            nm_arena_open(&arena, scope, NULL) != NM_OK)
            fail("a part was refused");
        for (size_t bytes = 0, n; bytes < PART_BYTES; bytes += n) {
            n = next_size(&state);
            touched(nm_arena_alloc(arena, n), n);
        }
        parts[k] = scope;
    }
}

static void close_part(const spiker *s, size_t k) {
    if (s->heap != NULL) {
        for (chained *c = parts[k], *next; c != NULL; c = next) {
            next = c->next;
            s->heap->free(c);
        }
    } else if (s->region != NULL) {
        s->region->close(parts[k]);
    } else if (nm_scope_close(parts[k], NULL) != 0) {
        fail("a part leaked");
    }
}

/* What an event loop's timer does, until nothing is idle or the time is up. */
static void maintain(void) {
    uint64_t end = bench_now_ns() + (uint64_t)LATER_SECONDS * 1000000000u;
    for (;;) {
        uint64_t wait = nm_scope_maintain(root), now = bench_now_ns();
        if (wait == UINT64_MAX || now >= end) return;
        if (wait > end - now) wait = end - now;
        struct timespec t = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
        nanosleep(&t, NULL);
    }
}

static void run(const spiker *s) {
    if (s->heap == NULL && s->region == NULL && nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "bench")) != NM_OK)
        fail("cannot open a root");
    size_t start = resident_bytes();
    for (size_t k = 0; k < PARTS; k++) open_part(s, k);
    size_t full = resident_bytes();
    if (full < start + PARTS * PART_BYTES) fail("the memory was not all touched");
    for (size_t k = 0; k < PARTS; k++) close_part(s, k);
    size_t closed = resident_bytes();
    uint64_t begin = bench_now_ns();
    if (s->heap != NULL)
        s->heap->tidy();
    else if (s->region != NULL)
        s->region->tidy();
    else
        maintain();
    double seconds = (double)(bench_now_ns() - begin) / 1e9;
    printf("spike_1GiB,%s,%.1f,%.1f,%.1f,%.1f,%.2f\n", s->name, MIB(start), MIB(full), MIB(closed),
           MIB(resident_bytes()), seconds);
    if (root != NULL && nm_scope_close(root, NULL) != 0) fail("the root leaked");
}

static void run_apart(const spiker *s) {
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) fail("no process");
    if (child == 0) {
        run(s);
        fflush(stdout);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("a subject failed");
}

int main(void) {
    size_t heaps, regions;
    const peer_heap *heap = peers_heaps(&heaps);
    const peer_region *region = peers_regions(&regions);
    printf("work,subject,rss_start_mib,rss_full_mib,rss_closed_mib,rss_later_mib,seconds\n");
    run_apart(&(spiker){.name = "nebula"});
    for (size_t h = 0; h < heaps; h++) run_apart(&(spiker){.name = heap[h].name, .heap = &heap[h]});
    for (size_t k = 0; k < regions; k++) run_apart(&(spiker){.name = region[k].name, .region = &region[k]});
    return 0;
}
