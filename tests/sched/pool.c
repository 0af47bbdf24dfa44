// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The pool, in every order of its threads' steps that the bounds allow.
 *
 * A scenario is a script for each thread, run after a prologue that one thread after the other runs undisturbed. A word
 * of a script is an operation and the numbers of the leases that it is about, which all threads share:
 *   L1   leases                      R1    releases, if there is something to release
 *   W1   leases, waits for ever      P1    lets others know of the lease
 *   V1   leases, waits a while       X1    releases it, if it is known to this thread
 *   B1   leases 1 and 2 at once      C12   makes 2 a copy of 1: both will be released, one of them is wrong
 *   H1   leases, held by a scope     S12   shares 1 as 2
 *   A1   releases by address         Z1    closes the scope that holds 1
 *   M1   releases 1 and 2 at once    Y1    leases as an event loop does: tries, and waits for the event
 *   T    trims                       G     reads statistics
 *   Q    has its scope reclaim all   O     asks for the event (prologue)
 *   F    leases and releases until the thread has a station; E: until it nearly has one */
#include <string.h>

#include "driver.h"
#include "history.h"
#include "nebula/scope.h"
#include "pool/pool_internal.h"

#define LEASES  10u
#define OUTSIDE 256u

typedef struct pool_scenario {
    const char *name;
    size_t max_count;
    size_t free_count;  /* so many are left to the threads, the others are out all the time; 0: nothing is out */
    size_t chunk_bytes; /* 0: 64 */
    size_t magazine_count;
    bool zeroing;
    bool roomy; /* no lease may be refused */
    bool end;   /* threads end with their scripts; else they stay, and what they keep stays with them */
    const char *prologue[SCHED_THREADS];
    const char *script[SCHED_THREADS];
} pool_scenario;

/* All that changes; brought back for each execution. */
static struct pool_world {
    nm__thread_pools threads[SCHED_THREADS + 1], stranger;
    nm_scope *root, *scope, *holder;
    nm_pool *pool;
    size_t root_granted; /* before the pool's scope was opened */
    struct {
        nm_lease lease;
        bool held; /* out, and nobody but its holder touches its bytes */
        bool copied;
        unsigned family; /* all that share a buffer have the same; 0: not shared */
        uint32_t mark;   /* what its holder wrote into it */
        NM_ATOMIC(uint32_t) known;
    } at[LEASES];
    unsigned copies; /* releases that are too many */
    unsigned misuses;
    nm_lease outside[OUTSIDE];
    size_t outside_count;
    unsigned out_before; /* of the threads' own, when the scripts begin */
    sched_history history;
    bool running; /* the scripts: what is leased before is no history */
} * w;

extern const nm__os sched_os;

static void misused(const nm_misuse *misuse, void *context) {
    (void)context;
    sched_say("misuse: %s", misuse->what);
    SCHED_CHECK(strstr(misuse->what, "twice") != NULL, "misuse: %s", misuse->what);
    w->misuses++;
}

/* ---- leases ------------------------------------------------------------------------------------------------------ */

static size_t begins(unsigned thread, history_kind kind) {
    return w->running ? history_begin(&w->history, thread, kind) : 0;
}
static void ends(size_t entry, history_result result) {
    if (w->running) history_end(&w->history, entry, result);
}

/* Nobody else may have these bytes. */
static void check_alone(const nm_lease *lease, unsigned family, unsigned thread) {
    SCHED_CHECK(sched_is_committed(lease->data, lease->size), "thread %u has a buffer without memory", thread);
    for (unsigned j = 0; j < LEASES; j++)
        SCHED_CHECK(!w->at[j].held || w->at[j].lease.data != lease->data || (family != 0 && w->at[j].family == family),
                    "thread %u has the buffer of lease %u", thread, j);
    for (size_t j = 0; j < w->outside_count; j++)
        SCHED_CHECK(w->outside[j].data != lease->data, "thread %u has a buffer that is out", thread);
}

/* The two accesses to the buffer's bytes, here and at the release, are points as all others are: between them another
 * thread may write there, if it believes that the buffer is its own. */
static void lease_begins(const pool_scenario *s, unsigned i, unsigned thread) {
    uint32_t *bytes = w->at[i].lease.data;
    check_alone(&w->at[i].lease, 0, thread);
    w->at[i].held = true;
    w->at[i].family = 0;
    w->at[i].mark = 1 + i + 16 * thread;
    if (s->zeroing) {
        SCHED_CHECK(nm_atomic_load(bytes, NM_RELAXED) == 0, "thread %u has a buffer that is not zero", thread);
    }
    nm_atomic_store(bytes, w->at[i].mark, NM_RELAXED);
}

static void lease_ends(unsigned i, unsigned thread) {
    uint32_t mark = nm_atomic_load((uint32_t *)w->at[i].lease.data, NM_RELAXED);
    SCHED_CHECK(mark == w->at[i].mark, "somebody wrote into the buffer of lease %u, which thread %u has", i, thread);
    w->at[i].held = false;
}

static void do_lease(const pool_scenario *s, char operation, unsigned i, unsigned thread) {
    nm_lease *lease = &w->at[i].lease;
    SCHED_CHECK(!w->at[i].held, "script: lease %u is out", i);
    size_t entry = begins(thread, operation == 'W' || operation == 'V' ? HISTORY_WAIT : HISTORY_LEASE);
    nm_status status = operation == 'W'   ? nm_pool_lease_wait_at(w->pool, lease, UINT64_MAX, "wait")
                       : operation == 'V' ? nm_pool_lease_wait_at(w->pool, lease, 1000, "wait a while")
                       : operation == 'H' ? nm_pool_lease_in_at(w->pool, w->holder, lease, "held")
                                          : nm_pool_try_lease_at(w->pool, lease, "lease");
    bool ok = status == NM_OK;
    sched_say("lease %u: %s", i, nm_status_name(status));
    SCHED_CHECK(ok == nm_lease_ok(*lease), "%s, and the lease is %s", nm_status_name(status), ok ? "empty" : "not");
    SCHED_CHECK(ok || !s->roomy, "thread %u is refused though there is room: %s", thread, nm_status_name(status));
    SCHED_CHECK(ok || status == NM_ECAPACITY || (operation == 'V' && status == NM_ETIMEDOUT),
                "thread %u is refused: %s", thread, nm_status_name(status));
    ends(entry, ok ? HISTORY_DONE : HISTORY_REFUSED);
    if (ok) lease_begins(s, i, thread);
}

static void do_lease_two(const pool_scenario *s, unsigned i, unsigned thread) {
    size_t entry[2] = {begins(thread, HISTORY_LEASE), begins(thread, HISTORY_LEASE)};
    nm_lease two[2];
    size_t got = nm_pool_lease_many_at(w->pool, two, 2, "two");
    sched_say("leases %u and %u: %zu", i, i + 1, got);
    SCHED_CHECK(got == 2 || !s->roomy, "thread %u is refused though there is room", thread);
    for (unsigned j = 0; j < 2; j++) {
        SCHED_CHECK(nm_lease_ok(two[j]) == (j < got), "%zu of 2 leases, and number %u is wrong", got, j);
        ends(entry[j], j < got ? HISTORY_DONE : HISTORY_REFUSED);
        w->at[i + j].lease = two[j];
        if (j < got) lease_begins(s, i + j, thread);
    }
}

/* One of two copies: it may well be wrong, which may be found only later. */
static void release_copy(unsigned i) {
    for (unsigned j = 0; j < LEASES; j++)
        if (w->at[j].copied) w->at[j].held = false;
    nm_lease_release_at(&w->at[i].lease, "release of a copy");
    sched_say("copy %u released", i);
}

static void do_release(char operation, unsigned i, unsigned thread) {
    if (w->at[i].copied) {
        release_copy(i);
        return;
    }
    if (!w->at[i].held) return;
    lease_ends(i, thread);
    size_t entry = begins(thread, HISTORY_RELEASE);
    if (operation == 'A')
        nm_pool_release_data_at(w->pool, w->at[i].lease.data, "by address");
    else
        nm_lease_release_at(&w->at[i].lease, "release");
    sched_say("lease %u released", i);
    ends(entry, HISTORY_DONE);
}

static void do_release_two(unsigned i, unsigned thread) {
    nm_lease two[2];
    size_t entry[2];
    for (unsigned j = 0; j < 2; j++) {
        lease_ends(i + j, thread);
        two[j] = w->at[i + j].lease;
    }
    for (unsigned j = 0; j < 2; j++) entry[j] = begins(thread, HISTORY_RELEASE);
    nm_lease_release_many_at(two, 2, "release two");
    sched_say("leases %u and %u released", i, i + 1);
    for (unsigned j = 0; j < 2; j++) ends(entry[j], HISTORY_DONE);
}

static void do_lease_by_event(const pool_scenario *s, unsigned i, unsigned thread) {
    for (do_lease(s, 'L', i, thread); !w->at[i].held; do_lease(s, 'L', i, thread)) sched_await_event();
}

static void do_copy(unsigned from, unsigned to) {
    w->at[to].lease = w->at[from].lease;
    w->at[from].copied = w->at[to].copied = true;
    w->copies++;
}

static void do_share(unsigned from, unsigned to, unsigned thread) {
    nm_status status = nm_lease_share_at(&w->at[from].lease, &w->at[to].lease, "share");
    SCHED_CHECK(status == NM_OK, "thread %u cannot share: %s", thread, nm_status_name(status));
    if (w->at[from].family == 0) w->at[from].family = 1 + from;
    w->at[to].family = w->at[from].family;
    w->at[to].mark = w->at[from].mark;
    check_alone(&w->at[to].lease, w->at[to].family, thread);
    w->at[to].held = true;
}

static void do_close_holder(unsigned i, unsigned thread) {
    w->at[i].held = false;
    size_t entry = begins(thread, HISTORY_RELEASE);
    size_t leaks = nm_scope_close(w->holder, NULL);
    SCHED_CHECK(leaks == 0, "%zu leaks of a scope that held a lease", leaks);
    w->holder = NULL;
    ends(entry, HISTORY_DONE);
}

static void do_stats(void) {
    nm_pool_stats stats;
    nm_pool_get_stats(w->pool, &stats);
    SCHED_CHECK(stats.free_count + stats.leased_count == stats.total_count, "%zu free, %zu out, %zu in all",
                stats.free_count, stats.leased_count, stats.total_count);
}

static size_t station_count(void) {
    nm_pool_stats stats;
    nm_pool_get_stats(w->pool, &stats);
    return stats.thread_count;
}

static void do_visit(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        nm_lease lease = nm_pool_lease_at(w->pool, "first");
        SCHED_CHECK(nm_lease_ok(lease), "script: nothing to lease");
        nm_lease_release_at(&lease, "first");
    }
}

static void do_get_station(void) {
    size_t before = station_count();
    for (unsigned i = 0; i < 16 && station_count() == before; i++) do_visit(1);
    SCHED_CHECK(station_count() == before + 1, "a thread has no station though it leases often");
}

/* ---- scripts ----------------------------------------------------------------------------------------------------- */

static void do_operation(const pool_scenario *s, const char *word, unsigned thread) {
    unsigned i = word[1] >= '0' && word[1] <= '9' ? (unsigned)(word[1] - '0') : 0;
    unsigned j = i != 0 && word[2] >= '0' && word[2] <= '9' ? (unsigned)(word[2] - '0') : 0;
    switch (word[0]) {
    case 'L':
    case 'W':
    case 'V':
    case 'H': do_lease(s, word[0], i, thread); break;
    case 'B': do_lease_two(s, i, thread); break;
    case 'R':
    case 'A': do_release(word[0], i, thread); break;
    case 'P': nm_atomic_store(&w->at[i].known, 1u, NM_RELEASE); break;
    case 'X':
        if (nm_atomic_load(&w->at[i].known, NM_ACQUIRE) != 0) do_release('R', i, thread);
        break;
    case 'M': do_release_two(i, thread); break;
    case 'Y': do_lease_by_event(s, i, thread); break;
    case 'O': SCHED_CHECK(nm_pool_event_fd(w->pool) >= 0, "there is no event"); break;
    case 'Q': (void)nm_scope_reclaim(w->scope, SIZE_MAX); break;
    case 'C': do_copy(i, j); break;
    case 'S': do_share(i, j, thread); break;
    case 'Z': do_close_holder(i, thread); break;
    case 'T': (void)nm_pool_trim(w->pool, 0); break;
    case 'G': do_stats(); break;
    case 'F': do_get_station(); break;
    case 'E': do_visit(8); break;
    default: sched_fail("script: no operation %c", word[0]);
    }
}

static void do_script(const pool_scenario *s, const char *script, unsigned thread) {
    while (script != NULL && *script != '\0') {
        do_operation(s, script, thread);
        while (*script != '\0' && *script != ' ') script++;
        while (*script == ' ') script++;
    }
}

static void run(const void *argument, unsigned thread) {
    const pool_scenario *s = argument;
    if (!s->end) sched_stay();
    do_script(s, s->script[thread], thread);
}

static void unseen(const void *argument, unsigned thread, uint64_t store) {
    (void)argument;
    history_unseen(&w->history, thread, store);
}

/* ---- before ------------------------------------------------------------------------------------------------------ */

static void take_identity(void *context) { nm__thread_pointer = context; }

/* All buffers get memory: later leases do not come by growth. */
static void take_all(void *context) {
    const size_t *count = context;
    static nm_lease leases[OUTSIDE];
    nm__thread_pointer = &w->stranger;
    size_t got = nm_pool_lease_many_at(w->pool, leases, *count, "memory");
    SCHED_CHECK(got == *count, "script: too few buffers");
    nm_lease_release_many_at(leases, *count, "memory");
}

/* By threads that come seldom: they get no station. */
static void take_outside(void *context) {
    const size_t *wanted = context;
    nm__thread_pointer = &w->stranger;
    for (unsigned i = 0; i < 8 && w->outside_count < *wanted; i++) {
        nm_lease *lease = &w->outside[w->outside_count];
        *lease = nm_pool_lease_at(w->pool, "outside");
        SCHED_CHECK(nm_lease_ok(*lease), "script: too few buffers");
        w->outside_count++;
    }
}

typedef struct prologue {
    const pool_scenario *scenario;
    unsigned thread;
} prologue;

static void run_prologue(void *context) {
    const prologue *p = context;
    do_script(p->scenario, p->scenario->prologue[p->thread], p->thread);
}

/* Handed down by the root. */
static size_t root_granted(void) {
    nm_scope_stats stats;
    nm_scope_get_stats(w->root, &stats);
    return stats.granted_bytes - stats.idle_bytes - stats.own_bytes;
}

static void must(nm_status status, const char *what) {
    SCHED_CHECK(status == NM_OK, "%s: %s", what, nm_status_name(status));
}

/* Counts and sites, which are shown and decide nothing. */
static void leave_out_figures(void) {
    nm_pool *pool = w->pool;
    sched_leave_out(&pool->refused_count, sizeof pool->refused_count);
    sched_leave_out(&pool->wait_count, sizeof pool->wait_count);
    sched_leave_out(&pool->grow_count, sizeof pool->grow_count);
    sched_leave_out(&pool->peak_count, sizeof pool->peak_count);
    for (size_t i = 0; i < pool->group_count * NM__GROUP_COUNT; i++) {
        nm__slot *slot = nm__pool_slot_of_index(pool, i);
        sched_leave_out(&slot->leased_at, sizeof slot->leased_at);
        sched_leave_out(&slot->released_at, sizeof slot->released_at);
    }
}

static void prepare(const void *argument) {
    const pool_scenario *s = argument;
    nm__os_replace(&sched_os);
    nm_set_misuse_handler(misused, NULL);
    w = sched_memory(sizeof *w);
    for (unsigned i = 0; i < SCHED_THREADS; i++) sched_as_thread(i, take_identity, &w->threads[i]);
    take_identity(&w->threads[SCHED_THREADS]);

    must(nm_scope_open(&w->root, NULL, NM_SCOPE_OPTIONS(.name = "root", .hard_bytes = 4 << 20)), "root");
    w->root_granted = root_granted();
    must(nm_scope_open(&w->scope, w->root, NM_SCOPE_OPTIONS(.name = "io", .kind = NM_SCOPE_SERVICE)), "scope");
    must(nm_scope_open(&w->holder, w->root, NM_SCOPE_OPTIONS(.name = "session", .kind = NM_SCOPE_SESSION)), "holder");
    must(nm_pool_open(&w->pool, w->scope,
                      NM_POOL_OPTIONS(.name = "pool", .chunk_bytes = s->chunk_bytes != 0 ? s->chunk_bytes : 64,
                                      .max_count = s->max_count, .magazine_count = s->magazine_count,
                                      .zero_on_release = s->zeroing)),
         "pool");
    size_t outside = s->free_count != 0 ? s->max_count - s->free_count : 0;
    while (w->outside_count < outside) sched_as_stranger(take_outside, &outside);
    size_t left = s->free_count;
    if (left != 0) sched_as_stranger(take_all, &left);
    for (unsigned i = 0; i < SCHED_THREADS; i++) sched_as_thread(i, run_prologue, &(prologue){s, i});
    for (unsigned i = 0; i < LEASES; i++) w->out_before += w->at[i].held;
    w->running = true;
    leave_out_figures();
}

/* ---- after ------------------------------------------------------------------------------------------------------- */

/* That nobody thaws them at once may happen; the next who comes by does. */
static void check_stations(void) {
    const nm_pool *pool = w->pool;
    SCHED_CHECK(pool->frozen == 0, "at the end the stations are frozen, for nobody");
    for (size_t i = 0; i < pool->station_count; i++) {
        const nm__station *station = nm__station_at(pool, i);
        SCHED_CHECK((station->magazine.top & NM__MAGAZINE_FROZEN) == 0, "at the end station %zu is frozen", i);
        SCHED_CHECK((station->out_top & NM__MAGAZINE_FROZEN) == 0, "at the end station %zu's letters are frozen", i);
        SCHED_CHECK((station->moves & 1) == 0, "at the end station %zu is moving buffers", i);
    }
}

/* All that is free can be leased, and not one more. */
static void check_free(const pool_scenario *s, size_t out) {
    static nm_lease leases[OUTSIDE];
    size_t want = s->free_count != 0 ? s->max_count - out : 4, got = 0;
    for (; got < want; got++) {
        nm_status status = nm_pool_try_lease_at(w->pool, &leases[got], "rest");
        SCHED_CHECK(status == NM_OK, "at the end %zu of %zu buffers are out, and no more than %zu can be leased: %s",
                    out, s->max_count, got, nm_status_name(status));
        check_alone(&leases[got], 0, SCHED_THREADS);
        for (size_t j = 0; j < got; j++) SCHED_CHECK(leases[j].data != leases[got].data, "a buffer is free twice");
    }
    if (s->free_count != 0) {
        nm_lease one_more;
        nm_status status = nm_pool_try_lease_at(w->pool, &one_more, "one more");
        SCHED_CHECK(status == NM_ECAPACITY, "one more than there are: %s", nm_status_name(status));
    }
    while (got != 0) nm_lease_release_at(&leases[--got], "rest");
}

static void check_close(void) {
    if (w->holder != NULL) (void)nm_scope_close(w->holder, NULL);
    size_t leaks = nm_scope_close(w->scope, NULL);
    SCHED_CHECK(leaks == w->outside_count, "%zu leases were out at the close, %zu are said to be", w->outside_count,
                leaks);
    size_t granted = root_granted();
    SCHED_CHECK(granted == w->root_granted, "%zu bytes granted before, %zu behind it", w->root_granted, granted);
    (void)nm_scope_close(w->root, NULL);
    SCHED_CHECK(sched_committed() == 0, "%zu bytes are still committed", sched_committed());
}

static void check(const void *argument) {
    const pool_scenario *s = argument;
    size_t out = w->outside_count;
    unsigned families = 0;
    SCHED_CHECK(w->pool->waiting == 0 && w->pool->oldest == NULL, "at the end %u wait", w->pool->waiting);
    for (unsigned i = 0; i < LEASES; i++) {
        if (!w->at[i].held) continue;
        unsigned family = w->at[i].family;
        bool counted = family != 0 && (families >> family & 1) != 0;
        families |= 1u << family;
        out += !counted;
    }
    nm_pool_stats stats;
    nm_pool_get_stats(w->pool, &stats);
    SCHED_CHECK(stats.leased_count + stats.free_count == stats.total_count, "%zu out, %zu free, %zu in all",
                stats.leased_count, stats.free_count, stats.total_count);
    SCHED_CHECK(stats.leased_count == out, "at the end %zu are out, and %zu are said to be", out, stats.leased_count);
    if (s->free_count != 0 && history_has_refusal(&w->history) &&
        !history_is_explained(&w->history, (unsigned)s->free_count, w->out_before)) {
        history_say(&w->history);
        sched_fail("a lease was refused though fewer than %zu were out", s->max_count);
    }
    /* Looks at all releases that nobody has looked at yet, in the leases' next life if they have one. */
    if (w->copies != 0) (void)nm_pool_trim(w->pool, SIZE_MAX);
    check_free(s, out);
    check_stations();
    for (unsigned i = 0; i < LEASES; i++)
        if (w->at[i].held) nm_lease_release_at(&w->at[i].lease, "end");
    SCHED_CHECK(w->misuses == w->copies, "%u releases were wrong, %u were told", w->copies, w->misuses);

    /* Closing takes as long as all the rest, and hardly depends on what was before. */
    if (sched_executions() % 8 == 0) check_close();
}

/* ---- table ------------------------------------------------------------------------------------------------------- */

/* Stations need a pool of some size: with 128 buffers there is room for two, with 192 for three; each of two buffers
 * and a letter. */
#define STATIONS   .max_count = 128, .magazine_count = 2
#define STATIONS_3 .max_count = 192, .magazine_count = 2

/* What takes longest comes first, so that no processor is left alone with it. Names say what meets what. */
static const pool_scenario table[] = {
    /* releases of another's lease */
    {"far", STATIONS, .free_count = 3, .prologue = {"F", "F L1 L2"}, .script = {"R1 R2", "L3"}},
    {"far_direct", STATIONS, .free_count = 2, .prologue = {"F L1", "", "F"}, .script = {"L2 R2", "R1 L3"}},
    {"far_sent", STATIONS, .free_count = 3, .prologue = {"F", "F L1 L2"}, .script = {"R2 L4", "L3 R3"}},
    {"far_handed", STATIONS, .free_count = 2, .prologue = {"F", "F"}, .script = {"L1 P1 L2", "X1 L3"}},
    {"far_address", STATIONS, .free_count = 2, .prologue = {"F L1", "F"}, .script = {"L2 R2", "A1 L3"}},
    {"far_many", STATIONS, .free_count = 2, .prologue = {"F", "F L1 L2"}, .script = {"M1", "L3"}},
    {"far_3", STATIONS_3, .free_count = 2, .prologue = {"F L1", "F", "F"}, .script = {"L2", "R1", "L3"}},
    /* waits, in line and in an event loop */
    {"wait_far", STATIONS, .free_count = 1, .prologue = {"F", "F L1"}, .script = {"R1", "W2 R2"}},
    {"wait_again", STATIONS, .free_count = 1, .prologue = {"F L1"}, .script = {"R1 W3 R3", "W2 R2"}},
    {"wait_depot", .max_count = 4, .free_count = 1, .prologue = {"L1"}, .script = {"R1", "W2 R2"}},
    {"wait_own", STATIONS, .free_count = 1, .prologue = {"F L1"}, .script = {"R1", "W2 R2"}},
    {"wait_two", STATIONS, .free_count = 2, .prologue = {"F L1 L2"}, .script = {"R1 R2", "W3", "W4"}},
    {"wait_pass", STATIONS, .free_count = 1, .prologue = {"F L1"}, .script = {"R1", "W2 R2", "W3 R3"}},
    {"wait_barge", STATIONS, .free_count = 1, .prologue = {"F L1"}, .script = {"R1 L3 R3", "W2"}},
    {"wait_far_3", STATIONS, .free_count = 1, .prologue = {"F", "F L1"}, .script = {"R1", "", "W2 R2"}},
    {"wait_station", STATIONS, .free_count = 1, .prologue = {"E", "F L1"}, .script = {"L3 R3", "R1", "W2 R2"}},
    {"wait_lease", STATIONS, .free_count = 1, .prologue = {"F L1"}, .script = {"R1", "W2 R2", "L3 R3"}},
    {"event", STATIONS, .free_count = 1, .prologue = {"O F L1"}, .script = {"R1", "Y2 R2"}},
    {"event_far", STATIONS, .free_count = 1, .prologue = {"O F", "F L1"}, .script = {"R1", "Y2 R2"}},
    {"event_barge", STATIONS, .free_count = 1, .prologue = {"O F L1"}, .script = {"R1 L3 R3", "Y2 R2"}},
    {"event_two", STATIONS, .free_count = 1, .prologue = {"O F L1"}, .script = {"R1", "Y2 R2", "Y3 R3"}},
    {"event_timed", STATIONS, .free_count = 1, .prologue = {"O F L1"}, .script = {"R1", "Y2 R2", "V3 R3"}},
    {"event_wait", STATIONS, .free_count = 1, .prologue = {"O F L1"}, .script = {"R1", "Y2 R2", "W3 R3"}},
    {"wait_end", STATIONS, .free_count = 1, .end = true, .prologue = {"F L1"}, .script = {"R1", "W2"}},
    {"wait_timed", STATIONS, .free_count = 1, .prologue = {"F L1"}, .script = {"R1 L3", "V2 R2"}},
    /* taking what other threads keep */
    {"first_station", STATIONS, .free_count = 2, .prologue = {"F", "E"}, .script = {"L1 L2 R1", "L3 R3 L4"}},
    {"stations", STATIONS, .free_count = 6, .prologue = {"F", "F"},
     .script = {"L1 L2 L3 R1 R2 R3", "L4 L5 L6 R4 R5 R6"}},
    {"steal", STATIONS, .free_count = 2, .prologue = {"F L1 L2 R1 R2"}, .script = {"L1 R1", "L3 L4 R3 R4"}},
    {"steal_last", STATIONS, .free_count = 1, .prologue = {"F"}, .script = {"L1 R1 L2 R2", "L3 R3"}},
    {"steal_each", STATIONS, .free_count = 2, .prologue = {"F", "F"}, .script = {"L1 L2", "L3 R3 L4"}},
    {"steal_3", STATIONS, .free_count = 2, .prologue = {"F", "F"}, .script = {"L1 R1", "L2 R2", "L3 R3"}},
    {"many", STATIONS, .free_count = 2, .prologue = {"F L1 L2 R1 R2"}, .script = {"B1 R1 R2", "L4 R4"}},
    {"many_releases", STATIONS, .free_count = 2, .prologue = {"F L1 L2"}, .script = {"M1 L3", "L4 L5"}},
    {"spill", STATIONS, .free_count = 3, .prologue = {"F L1 L2 L3"}, .script = {"R1 R2 R3", "L4 L5"}},
    {"station_ends", STATIONS, .free_count = 2, .end = true, .prologue = {"F L1", "F"}, .script = {"R1", "L3 L4"}},
    {"station_ends_far", STATIONS, .free_count = 2, .end = true, .prologue = {"F", "F L1"}, .script = {"R1", "L2"}},
    /* memory that comes and goes */
    {"trim_station", STATIONS, .roomy = true, .chunk_bytes = 4096, .prologue = {"F L1 L2 R1 R2"},
     .script = {"L1 R1 L2", "T G"}},
    {"reclaim", STATIONS, .roomy = true, .chunk_bytes = 4096, .prologue = {"F L1 L2 R1 R2"},
     .script = {"L1 R1 L2", "Q L3"}},
    {"trim_depot", .max_count = 8, .roomy = true, .chunk_bytes = 4096, .prologue = {"L1 L2 R1 R2"},
     .script = {"L1 R1 L2", "T L3"}},
    {"trim_grow", .max_count = 8, .roomy = true, .chunk_bytes = 4096, .prologue = {"L1 R1"},
     .script = {"T L1", "L2 R2"}},
    {"grow", .max_count = 8, .roomy = true, .chunk_bytes = 4096, .script = {"L1 R1 L2", "L3 R3 L4"}},
    /* no stations */
    {"depot", .max_count = 4, .free_count = 2, .script = {"L1 R1 L2 R2", "L3 R3 L4 R4"}},
    {"depot_last", .max_count = 4, .free_count = 1, .script = {"L1 R1 L2", "L3 R3 L4"}},
    {"depot_aba", .max_count = 4, .free_count = 3, .script = {"L1", "L2 L3 R2 L4"}},
    {"depot_3", .max_count = 4, .free_count = 2, .script = {"L1 R1", "L2 R2", "L3 R3"}},
    {"zeroing", .max_count = 4, .free_count = 1, .zeroing = true, .script = {"L1 R1 L2", "L3 R3"}},
    /* the same lease released twice */
    {"twice_common", STATIONS, .roomy = true, .prologue = {"L1 C12"}, .script = {"R1 L3", "R2 L4"}},
    {"twice_own_far", STATIONS, .roomy = true, .prologue = {"F L1 C12", "F"}, .script = {"R1 L3", "R2 T L4"}},
    {"twice_own_direct", STATIONS, .roomy = true, .prologue = {"F L1 C12", "", "F"}, .script = {"R1 L3", "R2 L4"}},
    {"twice_far", STATIONS_3, .roomy = true, .prologue = {"F L1 C12", "F", "F"}, .script = {"T L3", "R1", "R2"}},
    {"twice_sent", STATIONS, .roomy = true, .prologue = {"F", "F L1 L3 C12"}, .script = {"R3 R2 T", "R1 L4"}},
    /* shares */
    {"share_common", STATIONS, .roomy = true, .prologue = {"L1 S12"}, .script = {"R1 L3", "R2 L4"}},
    {"share_own", STATIONS, .roomy = true, .prologue = {"F L1 S12"}, .script = {"R1 L3", "R2 L4"}},
    {"share_far", STATIONS, .roomy = true, .prologue = {"F L1 S12", "F"}, .script = {"R2 L3", "R1 L4"}},
    {"share_now", STATIONS, .roomy = true, .prologue = {"F L1"}, .script = {"S12 R1 L3", "L4 R4"}},
    {"share_3", STATIONS_3, .roomy = true, .prologue = {"F L1 S12 S13"}, .script = {"R1 L4", "R2", "R3"}},
    /* held by a scope */
    {"held", STATIONS, .free_count = 2, .prologue = {"F H1", "F"}, .script = {"Z1 L2", "L3 L4"}},
    {"held_far", STATIONS, .free_count = 2, .prologue = {"F H1", "F"}, .script = {"L3 R3 L4", "Z1 L2"}},
};
#define COUNT (sizeof table / sizeof table[0])

static const sched_fault_case fault_cases[] = {
    {SCHED_FAULT_freeze_without_barrier, {"trim_station", "steal_each"}},
    {SCHED_FAULT_refuse_without_collecting, {"steal_last"}},
    {SCHED_FAULT_never_thaw, {"steal_last"}},
    {SCHED_FAULT_release_without_answer, {"wait_depot"}},
    {SCHED_FAULT_no_look_after_unlock, {"wait_two", "wait_pass"}},
    {SCHED_FAULT_letter_without_generation, {"twice_own_far", "twice_sent"}},
    {SCHED_FAULT_depot_untagged, {"depot_aba"}},
    {SCHED_FAULT_depot_tag_narrow, {"depot_aba", "depot"}},
    {SCHED_FAULT_claim_after_look, {"steal"}},
    {SCHED_FAULT_decide_without_compare, {"twice_own_direct"}},
    {SCHED_FAULT_claim_without_barrier, {"twice_own_direct"}},
    {SCHED_FAULT_overlook_letters, {"far_address", "far_sent", "far"}},
    {SCHED_FAULT_spill_unchecked, {"spill"}},
    {SCHED_FAULT_collect_once, {"steal"}},
    {SCHED_FAULT_answer_without_collecting, {"wait_own"}},
    {SCHED_FAULT_refuse_unfrozen, {"steal_3"}},
    {SCHED_FAULT_generation_before_mark, {"twice_own_direct"}},
    {SCHED_FAULT_arm_without_look, {"event_wait"}},
    {SCHED_FAULT_leave_untold, {"event_timed"}},
};

/* More threads have more ways to interleave with each preemption. */
static sched_bounds bounds_of(unsigned thread_count) {
    return (sched_bounds){.preemptions = thread_count == 2 ? 3 : 2, .stale = 2, .timeouts = 1};
}

int main(int argc, char **argv) {
    static sched_scenario scenarios[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        unsigned threads = 0;
        while (threads < SCHED_THREADS && table[i].script[threads] != NULL) threads++;
        scenarios[i] = (sched_scenario){
            .name = table[i].name,
            .thread_count = threads,
            .bounds = bounds_of(threads),
            .prepare = prepare,
            .run = run,
            .check = check,
            .unseen = unseen,
            .argument = &table[i],
        };
    }
    static const sched_program program = {
        .name = "sched-pool",
        .scenarios = scenarios,
        .scenario_count = COUNT,
        .faults = fault_cases,
        .fault_count = sizeof fault_cases / sizeof fault_cases[0],
    };
    return sched_main(&program, argc, argv);
}
