// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula/scope.h: named owners of memory in one tree of byte budgets.
 *
 * A root scope is a memory manager of its own; arenas, pools and caches are opened in a scope and charge it, and all its
 * ancestors, for every byte that they take. Whoever would pass a hard limit is refused, after the caches and the idle
 * buffers below that limit were asked to give back. Closing a scope frees all that it was granted and tells what leaked.
 *
 * Threads: process and service scopes are shared; session, request and task scopes belong to one thread at a time.
 * Stats, dump and reclaim may be called from any thread. Closing a scope while another thread uses anything below it is
 * an error of the program. */
#ifndef NEBULA_SCOPE_H
#define NEBULA_SCOPE_H

#include <stdio.h>
#include <string.h>

#include "nebula/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nm_scope nm_scope;

typedef enum nm_scope_kind {
    NM_SCOPE_DEFAULT = 0, /* a root: process; any other: service */
    NM_SCOPE_PROCESS,
    NM_SCOPE_SERVICE,
    NM_SCOPE_SESSION,
    NM_SCOPE_REQUEST,
    NM_SCOPE_TASK,
} nm_scope_kind;

typedef enum nm_leak_mode {
    NM_LEAKS_DEFAULT = 0, /* report what should have been returned by hand */
    NM_LEAKS_STRICT,      /* and what the scope itself held and gave back (the _in functions) */
    NM_LEAKS_OFF,         /* report nothing, count nothing; everything is freed all the same */
} nm_leak_mode;

/* Called when `crossed` grows over its soft limit, and once more before its hard limit refuses; `wanted_bytes` is what is
 * still wanted after the library's own reclaim (0 if nothing). Runs on the thread that grew, with no lock held; it may
 * release, evict and grow (no recursion: a crossing inside the hook does not call it), but not close a scope, pool or
 * cache. */
typedef void nm_pressure_fn(nm_scope *crossed, size_t wanted_bytes, void *context);

/* What a checking run wants to see; see docs/guide/scopes-and-arenas.md. The same words, with commas between them, in the
 * environment variable NM_DEBUG ("trace,sample=512KiB,fill,quarantine,guard,fail=N") add to what a root's options say; words
 * that it does not know are passed over. What is found goes to the misuse handler. Watched arenas need more memory, and all
 * but sampled ones take the slow path at every allocation. Under the address sanitizer and memcheck, which see more and
 * sooner, arenas are watched by them, and `fill`, `quarantine` and `guard` do nothing. */
typedef enum nm_debug_flags {
    NM_DEBUG_TRACE = 1,      /* count every arena allocation by its call site; goes before sampling */
    NM_DEBUG_FILL = 2,       /* fill what is allocated with 0xa5 and what is undone with 0xdd */
    NM_DEBUG_QUARANTINE = 4, /* keep what is undone out of use and check that nobody writes to it */
    NM_DEBUG_GUARD = 8,      /* a red zone behind every allocation, checked when it is undone */
} nm_debug_flags;

typedef struct nm_scope_options {
    size_t struct_size;          /* filled in by NM_SCOPE_OPTIONS and nm_scope_options_init */
    const char *name;            /* copied, cut at 31 bytes; default "" */
    nm_scope_kind kind;          /* see nm_scope_kind */
    nm_leak_mode leak_report;    /* see nm_leak_mode */
    size_t soft_bytes;           /* 0 = none; not above hard_bytes */
    size_t hard_bytes;           /* 0 = the parent's, without one none; of a root at least NM_ROOT_MIN_BYTES.
                                    NM_BYTES_AUTO, of a root only: the least of its control group's limits (v2 and v1, of the
                                    groups above it too) and the physical memory, less an eighth for what is not the
                                    library's; read once, at the opening */
    size_t held_limit_bytes;     /* most that may be leased, pinned or reserved through this scope (the _in functions);
                                    counted, not charged twice; 0 = no limit */
    nm_pressure_fn *on_pressure; /* NULL = none */
    void *context;               /* given to on_pressure */
    size_t credit_bytes;         /* of a process or service scope below the root: bytes that each thread takes from the
                                    ancestors ahead of need, so that their counters stay quiet; granted, and recalled
                                    before any refusal. 0 = none. Idle request scopes are kept as credit in any case */
    unsigned debug;              /* nm_debug_flags, for this scope and what is opened below it; 0 = as the parent */
    bool huge_pages;             /* of a root of at least 64 MiB: takes memory for blocks from the system in pieces of
                                    2 MiB and huge pages, where it has them. They go back only as a whole */
    size_t sample_bytes;         /* count one arena allocation by its site for each so many bytes, rounded up to a power
                                    of two; 0 = as the parent */
} nm_scope_options;

/* The smallest hard limit that a root takes. */
#define NM_ROOT_MIN_BYTES ((size_t)64 << 10)

#define NM_SCOPE_OPTIONS(...) (&(nm_scope_options){.struct_size = sizeof(nm_scope_options), __VA_ARGS__})
static inline nm_scope_options nm_scope_options_init(void) {
    nm_scope_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    return o;
}

/* Opens a scope under `parent`, or a new root (a memory manager of its own) where parent is NULL. *out is the caller's
 * to close, and NULL unless NM_OK. The scope's header, 256 bytes, is charged to the parent; a request
 * or task scope has one block of 4 to 64 KiB for itself, an arena and that arena's first bytes where its limits allow, charged
 * to the nearest process or service scope above and left ready there when it closes.
 * NM_EINVAL: an option out of range. NM_EBUDGET: an ancestor's hard limit. NM_ENOMEM, NM_ESYSTEM: the system refused, or
 * does not tell what NM_BYTES_AUTO is.
 * Any thread, if the parent is shared; else the parent's. Cost: a root some system calls, a request or task scope whose
 * thread has a block ready O(1) with no lock and nothing shared, others O(depth). */
NM_API NM_NODISCARD nm_status nm_scope_open(nm_scope **out, nm_scope *parent, const nm_scope_options *options);
NM_API NM_NODISCARD nm_status nm_scope_open_at(nm_scope **out, nm_scope *parent, const nm_scope_options *options,
                                               const char *site);
#define nm_scope_open(out, parent, options) nm_scope_open_at(out, parent, options, NM_SITE)

typedef enum nm_leak_kind {
    NM_LEAK_SCOPE,       /* a child scope still open; bytes: what it was granted */
    NM_LEAK_LEASE,       /* a lease still out of a pool that closes, or held by a strict scope */
    NM_LEAK_PIN,         /* an entry still pinned, likewise */
    NM_LEAK_RESERVATION, /* room reserved in a cache, neither committed nor aborted, likewise */
    NM_LEAK_MALLOC,      /* an allocation of nm_scope_malloc that was not freed */
} nm_leak_kind;

typedef struct nm_leak_site {
    nm_leak_kind kind;
    size_t count;             /* how many of this kind, name and site */
    size_t bytes;             /* their sum */
    const char *site;         /* where leased, pinned, reserved or opened */
    char name[NM_NAME_BYTES]; /* of the pool, cache or scope */
} nm_leak_site;

#define NM_LEAK_SITES 16

/* Self-contained: nothing in it is to be freed, and it outlives the scope. */
typedef struct nm_leak_report {
    size_t leaked_count;
    size_t leaked_bytes;
    size_t peak_bytes; /* the most that the scope was ever granted */
    size_t soft_bytes; /* its limits, 0 = none */
    size_t hard_bytes;
    char scope_name[NM_NAME_BYTES];
    nm_scope_kind scope_kind;
    uint32_t site_count;  /* entries of `sites` that are filled in, in the order of discovery */
    size_t sites_omitted; /* leaks that found no room in `sites`; they count in the sums above */
    nm_leak_site sites[NM_LEAK_SITES];
} nm_leak_report;

/* Closes a scope: runs its deferred functions, last first; closes the child scopes that are still open (each is a leak),
 * deepest first; gives back what it holds through the _in functions; closes its caches, pools and arenas; gives
 * everything back to the parent. Returns the number of leaks, of descendants too, and fills in the report if there is
 * one. Never fails; NULL is ignored and gives 0 leaks. A root gives all its memory back to the system.
 * One thread, and no other may use anything below the scope. Cost: O(what is open below it). */
NM_API size_t nm_scope_close(nm_scope *scope, nm_leak_report *report);
NM_API size_t nm_scope_close_at(nm_scope *scope, nm_leak_report *report, size_t report_bytes, const char *site);
#define nm_scope_close(scope, report) nm_scope_close_at(scope, report, sizeof(nm_leak_report), NM_SITE)

/* Prints a report for people: a headline, a line for each site, the peak and the limits. A report of 0 leaks is printed
 * too. */
NM_API void nm_leak_report_print(const nm_leak_report *report, FILE *to);

/* How reports and dumps are written: for people; as one JSON object on lines that end with a newline; in the text exposition
 * format 0.0.4 of Prometheus. Names are bytes of the program's choice: the text has '?' for their control characters, JSON
 * has U+FFFD for what is not UTF-8, and Prometheus has %XX for that and for '%', so that different names stay different. */
typedef enum nm_dump_format { NM_DUMP_TEXT = 0, NM_DUMP_JSON, NM_DUMP_PROMETHEUS } nm_dump_format;

/* The report in any of the formats, flushed. NM_DUMP_TEXT is what nm_leak_report_print prints; JSON has the fields of the
 * struct; Prometheus has gauges for the sums, and nebula_leaks and nebula_leaked_bytes by kind, name and site.
 * NM_EINVAL: unknown format, or NULL. NM_ESYSTEM: the file did not take it. */
NM_API NM_NODISCARD nm_status nm_leak_report_write(const nm_leak_report *report, FILE *to, nm_dump_format format);

/* Changes the limits; 0 and NM_BYTES_AUTO mean what they mean in the options, so a root follows its control group when told
 * to, not by itself. Reclaims first if the scope is above the new hard limit; if it
 * still is, or the limit is out of range, nothing is changed.
 * NM_EBUSY: still above. NM_EINVAL: soft above hard, or a root below NM_ROOT_MIN_BYTES. NM_ESYSTEM: as at the opening.
 * Any thread. */
NM_API NM_NODISCARD nm_status nm_scope_set_budget(nm_scope *scope, size_t soft_bytes, size_t hard_bytes);

/* Asks the elastic holders below the scope to give back: of a root first the idle blocks, then pools' idle buffers, then
 * elastic caches. Returns the bytes freed, which may be more or less than wanted. Any thread, no lock of its own held.
 * Cost: O(holders) and the system calls that give pages back. */
NM_API size_t nm_scope_reclaim(nm_scope *scope, size_t wanted_bytes);

typedef struct nm_scope_stats {
    size_t granted_bytes; /* charged to the scope and all below it; of a root: all memory that it has committed */
    size_t used_bytes;    /* handed out inside that; arenas count as of their last block */
    size_t peak_bytes;    /* the most that was granted */
    size_t soft_bytes;    /* limits in force here, 0 = none; hard: its own, else the nearest ancestor's */
    size_t hard_bytes;
    size_t
        idle_bytes;   /* of a root: committed and granted to nobody: idle blocks and free room in bookkeeping; else 0 */
    size_t own_bytes; /* of a root: its own bookkeeping; else 0. granted = own + idle + what was handed down */
    size_t child_count;     /* child scopes that are open */
    uint64_t refused_count; /* grants that this scope's hard limit refused */
    uint64_t soft_count;    /* crossings of the soft limit */
    nm_scope_kind kind;
    char name[NM_NAME_BYTES];
    size_t credit_bytes; /* granted ahead of need: credits of threads and idle request scopes, of all below it */
    struct {
        nm_status status;         /* NM_OK: nothing was refused yet */
        size_t wanted_bytes;      /* what was asked for */
        char name[NM_NAME_BYTES]; /* the scope whose limit refused; "" if it was the system */
    } last_refusal;               /* of what was asked of this scope */
} nm_scope_stats;

/* A snapshot; each value is right, their sum only at a quiet point. Any thread. O(holders below the scope). */
NM_API void nm_scope_get_stats(const nm_scope *scope, nm_scope_stats *out);
NM_API void nm_scope_get_stats_sized(const nm_scope *scope, nm_scope_stats *out, size_t out_bytes);
#define nm_scope_get_stats(scope, out) nm_scope_get_stats_sized(scope, out, sizeof(nm_scope_stats))

/* Writes the tree from `scope` down, and flushes: process, service and session scopes with what they hold; request and task
 * scopes as a count and a sum at their parent. Of a root also its own and idle bytes, the leaks that closes found so far, and
 * the call sites with most bytes if arenas are traced or sampled.
 *   text         a line for each scope and holder; figures that are 0 are mostly left out
 *   JSON         scopes as objects in their parents' "children"; names and meaning as in nm_scope_stats; no key is left out
 *   Prometheus   nebula_scope_* by scope="root/listener/session" and kind, nebula_root_*, nebula_holder_used_bytes, nebula_site_*.
 *                The path starts at the root wherever the dump does, with '/' in a name written as %2F. Scopes of the same
 *                path and kind are one series, their sum (of peaks too, so an upper bound there), and its counters start
 *                again when one of them closes. A dump is a whole exposition: two cannot be joined, for HELP stands once
 * Takes no memory of the library, so it works when there is none. Any thread; scopes are neither opened nor closed meanwhile by
 * others: they wait, also for a slow file, and the file's own functions must not call the library. Where that matters, dump to
 * memory (open_memstream) first.
 * NM_EINVAL: unknown format, or NULL. NM_ESYSTEM: the file did not take it.
 * Cost: O(scopes * depth), for Prometheus a walk for each of some twenty metrics and a sort. */
NM_API NM_NODISCARD nm_status nm_scope_dump(const nm_scope *scope, FILE *to, nm_dump_format format);

/* Runs fn(arg) when the scope closes, last deferred first, before anything of the scope is torn down.
 * NM_EBUDGET, NM_ENOMEM: no room to note it; nothing is deferred. O(1); a deferral takes 16 bytes, in steps of 256. */
NM_API NM_NODISCARD nm_status nm_scope_defer(nm_scope *scope, void (*fn)(void *arg), void *arg);

/* Gives back to the system what decay says: idle blocks above the decaying high-water mark of use, credits and idle request
 * scopes that nobody has used for a period. Returns the nanoseconds until it is worth calling again; UINT64_MAX: nothing
 * is idle. For an event loop's timer. Optional: a spike goes back by the closes themselves down to 16 MiB or an eighth of
 * what is granted. Any thread. */
NM_API uint64_t nm_scope_maintain(nm_scope *root);

/* A descriptor that polls with POLLPRI while threads stall for want of memory, at most once in 2 s (a trigger on PSI, of the
 * process's own control group, else of the system), for an event loop, which then calls nm_scope_reclaim. Made at the first
 * call that succeeds; the root's, closed with it. -1: the system has none (errno tells), or it is no root (EINVAL). Any
 * thread. */
NM_API int nm_scope_pressure_fd(nm_scope *root);

/* The rest of a program's memory: allocations freed one by one, charged to the scope, in its leak report by site; made to be
 * another library's allocator hooks. 16-aligned, or to `align`, a power of two up to 2 MiB. n == 0 gives a distinct pointer.
 * realloc of NULL allocates, leaves p as it is if it is refused, and is not refused if n is less than p has; it keeps the
 * contents, not an alignment above 16; it may be called for a p of this scope only.
 * NULL: refused, and nm_scope_stats.last_refusal tells why. What is not freed before the scope closes is a leak, and freed.
 * Each allocation costs 16 bytes beside its own and its rounding to a size class, an aligned one up to `align` more. Any
 * thread, if the scope is shared; else the scope's, but free may come from any. Cost: O(1) and a lock; the scope is charged for whole blocks, now and then. */
NM_API NM_NODISCARD NM_ALLOC_SIZE(2) void *nm_scope_malloc(nm_scope *scope, size_t n);
NM_API NM_NODISCARD NM_ALLOC_SIZE(2) void *nm_scope_malloc_at(nm_scope *scope, size_t n, const char *site);
NM_API NM_NODISCARD NM_ALLOC_SIZE(2, 3) void *nm_scope_calloc(nm_scope *scope, size_t n, size_t size);
NM_API NM_NODISCARD NM_ALLOC_SIZE(2, 3) void *nm_scope_calloc_at(nm_scope *scope, size_t n, size_t size,
                                                                 const char *site);
NM_API NM_NODISCARD NM_ALLOC_SIZE(3) void *nm_scope_realloc(nm_scope *scope, void *p, size_t n);
NM_API NM_NODISCARD NM_ALLOC_SIZE(3) void *nm_scope_realloc_at(nm_scope *scope, void *p, size_t n, const char *site);
NM_API NM_NODISCARD NM_ALLOC_SIZE(3) void *nm_scope_aligned_alloc(nm_scope *scope, size_t align, size_t n);
NM_API NM_NODISCARD NM_ALLOC_SIZE(3) void *nm_scope_aligned_alloc_at(nm_scope *scope, size_t align, size_t n,
                                                                     const char *site);
#define nm_scope_malloc(scope, n)               nm_scope_malloc_at(scope, n, NM_SITE)
#define nm_scope_calloc(scope, n, size)         nm_scope_calloc_at(scope, n, size, NM_SITE)
#define nm_scope_realloc(scope, p, n)           nm_scope_realloc_at(scope, p, n, NM_SITE)
#define nm_scope_aligned_alloc(scope, align, n) nm_scope_aligned_alloc_at(scope, align, n, NM_SITE)
/* Frees; NULL is ignored. A pointer that is not such an allocation, or was freed already, is misuse where it is found. */
NM_API void nm_scope_free(void *p);
NM_API void nm_scope_free_at(void *p, const char *site);
#define nm_scope_free(p) nm_scope_free_at(p, NM_SITE)
/* The bytes that p may use: at least what was asked for. NULL: 0. */
NM_API size_t nm_scope_malloc_size(const void *p);

/* For tests: the n-th grant from now on to the scope or to anything below it is refused, once, with NM_EBUDGET and
 * without reclaim; 0 switches it off. Any thread. */
NM_API void nm_scope_fail_after(nm_scope *scope, uint64_t n);

/* ---- descriptors ---------------------------------------------------------------------------------------------------
 * Private; here because leases are taken and released inline. Slots belong to the root and are never used for anything
 * else while it lives, so that a handle which comes late is recognised; see src/scope/slot.h and src/pool/README.md. */

/* What stands in own_mark and far_mark when that generation was released: odd, so never 0. */
static inline uint32_t nm__generation_mark(uint64_t generation) { return (uint32_t)generation + 1; }

/* Two halves that are written together, and read together where both are of interest. */
typedef union nm__halves {
    uint64_t both;
    uint32_t half[2];
} nm__halves;

struct nm__slot {
    uint64_t generation; /* of the last lease, even; of a pin: odd while it is out */
    uint64_t claim;      /* the generation that a thread other than its leaser is ending; + 1: decided */
    void *owner;         /* of a lease: the magazine that it was taken from; the cache's shard */
    void *data;          /* the buffer; the entry */
    const char *leased_at, *released_at; /* sites, for reports */
    nm__halves begun;                    /* own_mark, stamp */
    nm__halves rare;                     /* far_mark, link: 0 in the most common case */
};
#define nm__own_mark begun.half[0] /* released, and looked at by whoever may end it */
#define nm__stamp    begun.half[1] /* when it was leased: coarse time; lowest byte: kind of slot */
#define nm__far_mark rare.half[0]  /* released by another than the leaser, which has not been looked at yet */
#define nm__link     rare.half[1]  /* while out: holders, if it is shared; while free: the next in a list */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the first half must be the lower one"
#endif

#ifdef __cplusplus
}
#endif

#endif
