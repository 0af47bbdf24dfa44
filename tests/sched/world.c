// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The memory of an execution, and how it is brought back for the next: an arena behind the library's table of system
 * calls, the library's own variables, those of its threads. And which places of it threads share. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dl_iterate_phdr */
#endif
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/math.h"
#include "engine.h"
#include "os/os.h"
#include "sched_atomic.h"

#define PAGE        NM__PAGE_BYTES
#define STACK_BYTES ((size_t)256 << 10)
#define ARENA_BYTES ((size_t)64 << 20)
#define RESERVE_MAX ((size_t)8 << 20) /* more is refused: the library then makes do with less */
#define PAGES       (ARENA_BYTES / PAGE)
#define GRAIN       sizeof(uint32_t) /* sharing is told apart by so many bytes */

/* Memory in which accesses are points, with a byte for each grain of it. */
typedef struct region {
    unsigned char *base;
    size_t bytes;
    unsigned char *seen;  /* threads that read (low half) or wrote (high half) there, a bit each */
    unsigned char *known; /* to be shared, or to be left out */
} region;
enum { SHARED = 1, LEFT_OUT = 2 };

static struct {
    region arena, stacks, library;
    size_t top;     /* of the arena: what is above has not been reserved */
    size_t top_max; /* since the shared places were forgotten */
    bool committed[PAGES];
    bool dirty[PAGES];   /* not zero, perhaps */
    bool touched[PAGES]; /* committed at some time since the note */
    uint32_t touched_list[PAGES];
    uint32_t touched_count;
    size_t committed_bytes;
    unsigned char *tls;
    size_t tls_bytes;
    uint32_t *event;
    bool learnt; /* something is shared of which that was not known */
    struct {
        size_t top, committed_bytes, page_count;
        uint32_t pages[PAGES];
        bool committed[PAGES];
        unsigned char *bytes; /* of the pages */
        unsigned char *library;
        unsigned char *tls[SCHED_THREADS + 1];
    } note;
    unsigned char *first_library, *first_tls; /* as they were when the program began */
} world;

_Noreturn static void give_up(const char *what) {
    fprintf(stderr, "sched: %s\n", what);
    exit(1);
}

static void *from_system(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) give_up("the system has no memory");
    return p;
}

static void region_open(region *r, void *base, size_t bytes) {
    r->base = base;
    r->bytes = bytes;
    r->seen = from_system(2 * (bytes / GRAIN + 1));
    r->known = r->seen + bytes / GRAIN + 1;
}

/* ---- the library's table of system calls ------------------------------------------------------------------------- */

static size_t page_of(const void *p) { return (size_t)((const unsigned char *)p - world.arena.base) / PAGE; }

static void *os_reserve(size_t bytes, size_t align) {
    size_t from = nm__round_up(world.top, nm__max(align, PAGE));
    if (bytes > RESERVE_MAX || bytes > ARENA_BYTES - from) return NULL;
    world.top = from + bytes;
    world.top_max = nm__max(world.top_max, world.top);
    return world.arena.base + from;
}

static bool os_commit(void *address, size_t bytes) {
    for (size_t page = page_of(address), end = page + bytes / PAGE; page < end; page++) {
        if (world.committed[page]) continue;
        if (world.dirty[page]) memset(world.arena.base + page * PAGE, 0, PAGE);
        world.committed[page] = world.dirty[page] = true;
        world.committed_bytes += PAGE;
        if (world.touched[page]) continue;
        world.touched[page] = true;
        world.touched_list[world.touched_count++] = (uint32_t)page;
    }
    return true;
}

static bool os_decommit(void *address, size_t bytes) {
    for (size_t page = page_of(address), end = page + bytes / PAGE; page < end; page++) {
        if (!world.committed[page]) continue;
        world.committed[page] = false;
        world.committed_bytes -= PAGE;
    }
    return true;
}

static void os_unreserve(void *address, size_t bytes) { (void)os_decommit(address, nm__round_up(bytes, PAGE)); }

static uint64_t os_clock_ns(void) { return sched.clock_ns; }
static uint64_t os_clock_coarse_ms(void) { return sched.clock_ns / 1000000; }

static bool os_random(void *out, size_t bytes) {
    memset(out, 0x5a, bytes); /* the same in each execution */
    return true;
}

static size_t os_page_bytes(void) { return PAGE; }
static uint64_t os_physical_bytes(void) { return ARENA_BYTES; }
static bool os_no(void *address, size_t bytes) {
    (void)address;
    (void)bytes;
    return false;
}

static ptrdiff_t os_read_file(const char *path, uint64_t offset, char *out, size_t bytes) {
    (void)path;
    (void)offset;
    (void)out;
    (void)bytes;
    return 0;
}

static int os_open_file(const char *path) {
    (void)path;
    return -1;
}

static bool os_write_file(int file, const void *from, size_t bytes) {
    (void)file;
    (void)from;
    (void)bytes;
    return false;
}

static void os_close_file(int file) { (void)file; }

static bool os_barrier(void) {
    sched_barrier_all();
    return true;
}

static void os_wait(const uint32_t *word, uint32_t value, uint64_t timeout_ns) {
    (void)sched_wait(word, value, timeout_ns);
}

static void os_wake(const uint32_t *word) { sched_wake(word, 1); }

/* The one event: a word that is 1 while it is readable. */
static int os_event_open(void) {
    if (world.event == NULL) world.event = sched_memory(sizeof *world.event);
    return 1;
}

static void os_event_clear(int event) {
    (void)event;
    (void)sched_exchange(world.event, sizeof *world.event, 0, "event: clear");
}

static void os_event_signal(int event) {
    (void)event;
    (void)sched_exchange(world.event, sizeof *world.event, 1, "event: signal");
    sched_wake(world.event, UINT32_MAX);
}

void sched_await_event(void) { (void)sched_wait(world.event, 0, UINT64_MAX); }

const nm__os sched_os = {
    .reserve = os_reserve,
    .unreserve = os_unreserve,
    .commit = os_commit,
    .decommit = os_decommit,
    .keep_out_of_dumps = os_no,
    .use_huge_pages = os_no,
    .make_huge_pages = os_no,
    .clock_ns = os_clock_ns,
    .clock_coarse_ms = os_clock_coarse_ms,
    .random = os_random,
    .page_bytes = os_page_bytes,
    .physical_bytes = os_physical_bytes,
    .read_file = os_read_file,
    .open_file = os_open_file,
    .write_file = os_write_file,
    .close_file = os_close_file,
    .barrier = os_barrier,
    .wait = os_wait,
    .wake = os_wake,
    .yield = sched_yield_now,
    .event_open = os_event_open,
    .event_signal = os_event_signal,
    .event_clear = os_event_clear,
};

size_t sched_committed(void) { return world.committed_bytes; }

bool sched_is_committed(const void *p, size_t bytes) {
    if (bytes == 0) return true;
    for (size_t page = page_of(p); page <= page_of((const unsigned char *)p + bytes - 1); page++)
        if (page >= PAGES || !world.committed[page]) return false;
    return true;
}

void *sched_memory(size_t bytes) {
    bytes = nm__round_up(bytes, PAGE);
    void *p = os_reserve(bytes, PAGE);
    if (p == NULL) give_up("a scenario wants too much memory");
    (void)os_commit(p, bytes);
    world.committed_bytes -= bytes; /* not the library's */
    return p;
}

/* ---- the library's own variables --------------------------------------------------------------------------------- */

/* The writable part of the library's file, but for what the loader has made read-only again. */
static int find_library(struct dl_phdr_info *info, size_t bytes, void *context) {
    (void)bytes;
    (void)context;
    if (strstr(info->dlpi_name, "nebula-sched") == NULL) return 0;
    uintptr_t from = 0, to = 0, fixed = 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + part->p_vaddr, end = begin + part->p_memsz;
        if (part->p_type == PT_LOAD && (part->p_flags & PF_W) != 0) {
            if (from != 0) give_up("the library has two writable parts");
            from = begin;
            to = end;
        }
        if (part->p_type == PT_GNU_RELRO) fixed = nm__round_up(end, PAGE);
        if (part->p_type == PT_TLS) {
            world.tls = info->dlpi_tls_data;
            world.tls_bytes = part->p_memsz;
        }
    }
    if (fixed > from) from = fixed;
    if (from < to) region_open(&world.library, (void *)from, to - from);
    return 1;
}

void *sched_world_tls(size_t *bytes) {
    *bytes = world.tls_bytes;
    return world.tls;
}

const void *sched_world_first_tls(void) { return world.first_tls; }

/* ---- opening, note, restore -------------------------------------------------------------------------------------- */

static void *copy_of(const void *p, size_t bytes) {
    if (bytes == 0) return NULL;
    void *copy = malloc(bytes);
    if (copy == NULL) give_up("out of memory");
    return memcpy(copy, p, bytes);
}

static void put(void *to, const void *from, size_t bytes) {
    if (bytes != 0) memcpy(to, from, bytes);
}

static void open_once(void) {
    region_open(&world.arena, from_system(ARENA_BYTES), ARENA_BYTES);
    region_open(&world.stacks, from_system(SCHED_THREADS * STACK_BYTES), SCHED_THREADS * STACK_BYTES);
    (void)dl_iterate_phdr(find_library, NULL);
    world.first_library = copy_of(world.library.base, world.library.bytes);
    world.first_tls = copy_of(world.tls, world.tls_bytes);
    for (unsigned i = 0; i <= SCHED_THREADS; i++) world.note.tls[i] = copy_of(world.tls, world.tls_bytes);
    world.note.library = copy_of(world.library.base, world.library.bytes);
}

void sched_world_open(void) {
    if (world.arena.base == NULL) open_once();
    put(world.library.base, world.first_library, world.library.bytes);
    put(world.tls, world.first_tls, world.tls_bytes);
    for (unsigned i = 0; i <= SCHED_THREADS; i++) sched.threads[i].tls = copy_of(world.first_tls, world.tls_bytes);
    for (uint32_t i = 0; i < world.touched_count; i++) {
        size_t page = world.touched_list[i];
        world.touched[page] = world.committed[page] = false;
    }
    world.touched_count = 0;
    world.event = NULL;
    world.top = PAGE; /* so that no place has address 0 of the arena */
    world.committed_bytes = 0;
}

void sched_world_note(void) {
    world.note.top = world.top;
    world.note.committed_bytes = world.committed_bytes;
    world.note.page_count = 0;
    free(world.note.bytes);
    world.note.bytes = malloc(world.touched_count * PAGE + 1);
    if (world.note.bytes == NULL) give_up("out of memory");
    for (uint32_t i = 0; i < world.touched_count; i++) {
        uint32_t page = world.touched_list[i];
        world.note.committed[page] = world.committed[page];
        memcpy(world.note.bytes + world.note.page_count * PAGE, world.arena.base + page * PAGE, PAGE);
        world.note.pages[world.note.page_count++] = page;
    }
    put(world.note.library, world.library.base, world.library.bytes);
    sched_keys_note();
    for (unsigned i = 0; i < SCHED_THREADS; i++) put(world.note.tls[i], sched.threads[i].tls, world.tls_bytes);
    put(world.note.tls[SCHED_NOBODY], world.tls, world.tls_bytes);
}

void sched_world_restore(void) {
    size_t noted = world.note.page_count;
    for (uint32_t i = 0; i < world.touched_count; i++) {
        size_t page = world.touched_list[i];
        if (i < noted) { /* the list begins with the pages of the note */
            memcpy(world.arena.base + page * PAGE, world.note.bytes + i * PAGE, PAGE);
            world.committed[page] = world.note.committed[page];
        } else {
            world.committed[page] = world.touched[page] = false;
        }
    }
    world.touched_count = (uint32_t)noted;
    world.top = world.note.top;
    world.committed_bytes = world.note.committed_bytes;
    put(world.library.base, world.note.library, world.library.bytes);
    sched_keys_restore();
    for (unsigned i = 0; i <= SCHED_THREADS; i++) put(sched.threads[i].tls, world.note.tls[i], world.tls_bytes);
    put(world.tls, world.note.tls[SCHED_NOBODY], world.tls_bytes);
}

void *sched_world_stack(unsigned thread, size_t *bytes) {
    *bytes = STACK_BYTES;
    return world.stacks.base + thread * STACK_BYTES;
}

/* ---- what is shared ---------------------------------------------------------------------------------------------- */

static bool is_in(const region *r, const volatile void *p) { return (uintptr_t)p - (uintptr_t)r->base < r->bytes; }

static region *region_of(const volatile void *p) {
    if (is_in(&world.arena, p)) return &world.arena;
    if (is_in(&world.stacks, p)) return &world.stacks;
    if (is_in(&world.library, p)) return &world.library;
    return NULL;
}

bool sched_world_is_stack(const volatile void *p) { return is_in(&world.stacks, p); }

const char *sched_world_name(const volatile void *p, char *out, size_t bytes) {
    const region *r = region_of(p);
    if (r == NULL) {
        snprintf(out, bytes, "-");
    } else {
        const char *name = r == &world.arena ? "arena" : r == &world.stacks ? "stack" : "library";
        snprintf(out, bytes, "%s+%#zx", name, (size_t)((uintptr_t)p - (uintptr_t)r->base));
    }
    return out;
}

/* Two threads, one of which writes. */
static bool is_shared(unsigned char seen) {
    unsigned writers = seen >> 4, all = (seen & 15u) | writers;
    return writers != 0 && (all & (all - 1)) != 0;
}

bool sched_shared_note(const volatile void *p, size_t size, bool writes, unsigned thread) {
    _Static_assert(SCHED_THREADS <= 4, "a half of a byte has a bit for each thread");
    region *r = is_in(&world.arena, p) ? &world.arena : region_of(p);
    if (r == NULL) return false;
    size_t at = (uintptr_t)p - (uintptr_t)r->base, to = (at + size - 1) / GRAIN;
    unsigned char bit = (unsigned char)((writes ? 16u : 1u) << thread);
    bool known = sched.plain;
    for (size_t i = at / GRAIN; i <= to; i++) {
        if (r->known[i] == LEFT_OUT) continue;
        known |= r->known[i] == SHARED;
        if ((r->seen[i] & bit) != 0) continue;
        world.learnt |= is_shared(r->seen[i] | bit) && !is_shared(r->seen[i]);
        r->seen[i] |= bit;
    }
    return known;
}

bool sched_shared_is_known(const volatile void *p, size_t size) {
    const region *r = region_of(p);
    if (r == NULL) return false;
    size_t from = (uintptr_t)p - (uintptr_t)r->base;
    return r->known[from / GRAIN] == SHARED || r->known[(from + size - 1) / GRAIN] == SHARED;
}

void sched_leave_out(const volatile void *p, size_t bytes) {
    region *r = region_of(p);
    if (r == NULL) return;
    memset(r->known + ((uintptr_t)p - (uintptr_t)r->base) / GRAIN, LEFT_OUT, bytes / GRAIN);
}

static void learn_region(region *r, size_t bytes) {
    for (size_t i = 0; i < bytes / GRAIN; i++)
        if (r->known[i] != LEFT_OUT && is_shared(r->seen[i])) r->known[i] = SHARED;
}

bool sched_shared_learn(void) {
    if (!world.learnt) return false;
    world.learnt = false;
    learn_region(&world.arena, world.top_max);
    learn_region(&world.stacks, world.stacks.bytes);
    learn_region(&world.library, world.library.bytes);
    return true;
}

static void forget_region(region *r, size_t bytes) {
    if (bytes == 0) return;
    memset(r->seen, 0, bytes / GRAIN);
    memset(r->known, 0, bytes / GRAIN);
}

void sched_shared_forget(void) {
    world.learnt = false;
    forget_region(&world.arena, world.top_max);
    forget_region(&world.stacks, world.stacks.bytes);
    forget_region(&world.library, world.library.bytes);
}
