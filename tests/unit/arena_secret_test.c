// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Secret arenas: what is undone is wiped, whichever way, and their pages stay out of core dumps. */
#include "arena_fixture.h"
#include "os/os.h"

#define MANY ((size_t)100000)

static bool is_wiped(const void *p, size_t n) {
    const volatile unsigned char *bytes = p;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0) return false;
    return true;
}

/* Memory that the library has poisoned is looked at all the same. */
static bool is_wiped_at(const void *p, size_t n) {
    nm__check_unpoison(p, n);
    bool wiped = is_wiped(p, n);
    nm__check_poison(p, n);
    return wiped;
}

static unsigned char *secret(nm_arena *a, size_t n) {
    unsigned char *p = nm_arena_alloc(a, n);
    assert_non_null(p);
    memset(p, 0x5e, n);
    return p;
}

typedef struct kind {
    size_t capacity_bytes;
    bool contiguous;
} kind;
static const kind kinds[] = {{0, false}, {(size_t)4 << 20, false}, {(size_t)4 << 20, true}};
#define EACH_KIND(k) for (const kind *k = kinds; k < kinds + sizeof kinds / sizeof *kinds; k++)

static nm_arena *open_secret(void **state, const kind *k) {
    nm_arena *a;
    assert_int_equal(nm_arena_open(&a, root_of(state),
                                   NM_ARENA_OPTIONS(.secret = true, .contiguous = k->contiguous,
                                                    .capacity_bytes = k->capacity_bytes)),
                     NM_OK);
    return a;
}

static void a_reset_wipes_the_block_that_is_kept(void **state) {
    EACH_KIND(k) {
        nm_arena *a = open_secret(state, k);
        for (int round = 0; round < 3; round++) {
            unsigned char *p = secret(a, 1000), *q = secret(a, 33);
            nm_arena_reset(a);
            assert_true(is_wiped_at(p, 1000));
            assert_true(is_wiped_at(q, 33));
        }
        nm_arena_close(a);
    }
}

static void a_reset_wipes_all_blocks_that_are_kept(void **state) {
    EACH_KIND(k) {
        nm_arena *a = open_secret(state, k);
        unsigned char *p[200];
        size_t granted = 0;
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < 200; i++) p[i] = secret(a, 500);
            granted = nm_arena_granted(a);
            nm_arena_reset(a);
        }
        assert_int_equal(nm_arena_granted(a), granted); /* so all of them can still be read */
        for (int i = 0; i < 200; i++) assert_true(is_wiped_at(p[i], 500));
        nm_arena_close(a);
    }
}

static void a_rewind_and_the_end_of_a_temp_block_wipe(void **state) {
    EACH_KIND(k) {
        nm_arena *a = open_secret(state, k);
        unsigned char *kept = secret(a, 100);
        nm_mark mark = nm_arena_mark(a);
        unsigned char *p = secret(a, 700), *q = secret(a, 1);
        assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
        assert_true(is_wiped_at(p, 700));
        assert_true(is_wiped_at(q, 1));
        NM_ARENA_TEMP (a) {
            p = secret(a, 900);
        }
        assert_true(is_wiped_at(p, 900));
        for (int i = 0; i < 100; i++) assert_int_equal(kept[i], 0x5e);
        nm_arena_close(a);
    }
}

/* The newest block that a rewind empties is kept as a spare, and can be read. */
static void a_rewind_over_blocks_wipes(void **state) {
    nm_arena *a = open_secret(state, &kinds[0]);
    nm_mark mark = nm_arena_mark(a);
    unsigned char *p = NULL;
    for (int i = 0; i < 100; i++) p = secret(a, 500);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_true(is_wiped_at(p, 500));
    nm_arena_close(a);
}

static void marks_with_nothing_between_are_the_same_mark_here_too(void **state) {
    EACH_KIND(k) {
        nm_arena *a = open_secret(state, k);
        nm_mark first = nm_arena_mark(a), second = nm_arena_mark(a);
        assert_true(first.record == second.record && first.id == second.id);
        secret(a, 10);
        assert_int_equal(nm_arena_rewind(a, second), NM_OK);
        assert_int_equal(nm_arena_rewind(a, first), NM_OK);
        assert_int_equal(nm_arena_used(a), 16);
        nm_arena_close(a);
    }
}

static void realloc_wipes_what_it_leaves(void **state) {
    EACH_KIND(k) {
        nm_arena *a = open_secret(state, k);
        unsigned char *p = secret(a, 300);
        secret(a, 16);
        unsigned char *q = nm_arena_realloc(a, p, 300, 600); /* moves */
        assert_non_null(q);
        assert_ptr_not_equal(p, q);
        assert_int_equal(q[299], 0x5e);
        assert_true(is_wiped_at(p, 300));
        memset(q, 0x5e, 600);
        unsigned char *r = nm_arena_realloc(a, q, 600, 211); /* shrinks in place */
        assert_ptr_equal(r, q);
        assert_int_equal(r[210], 0x5e);
        assert_true(is_wiped_at(r + 211, 600 - 211));
        unsigned char *old = secret(a, 64);
        for (int i = 0; i < 20; i++) secret(a, 1000); /* now it lies in a block that is full */
        unsigned char *moved = nm_arena_realloc(a, old, 64, 128);
        assert_non_null(moved);
        assert_ptr_not_equal(moved, old);
        assert_true(is_wiped_at(old, 64));
        nm_arena_close(a);
    }
}

static void what_a_mark_can_come_back_to_is_not_wiped_by_realloc_but_by_its_end(void **state) {
    nm_arena *a = open_secret(state, &kinds[0]);
    unsigned char *p = secret(a, 100);
    nm_mark mark = nm_arena_mark(a);
    unsigned char *q = nm_arena_realloc(a, p, 100, 200);
    assert_non_null(q);
    assert_int_equal(p[99], 0x5e);
    assert_int_equal(nm_arena_rewind(a, mark), NM_OK);
    assert_true(is_wiped_at(q, 200));
    assert_int_equal(p[99], 0x5e);
    nm_arena_reset(a);
    assert_true(is_wiped_at(p, 100));
    nm_arena_close(a);
}

static void printf_leaves_nothing_behind_the_string(void **state) {
    EACH_KIND(k) {
        nm_arena *a = open_secret(state, k);
        for (int i = 0; i < 500; i++) {
            char *p = nm_arena_printf(a, "%s %d", "password", i);
            assert_non_null(p);
            nm_arena_reset(a);
            assert_true(is_wiped_at(p, 32));
            secret(a, (size_t)i * 16 % 4000);
            p = nm_arena_printf(a, "%0300d", i);
            assert_non_null(p);
            nm_arena_reset(a);
        }
        nm_arena_close(a);
    }
}

/* ---- what goes back ---------------------------------------------------------------------------------------------- */

/* A table of system calls that looks at each range before it goes. */
static nm__os table;
static size_t looked_at, found, hidden;

typedef struct committed {
    unsigned char *base;
    size_t bytes;
} committed;
static committed list[4096];
static size_t list_count;

static bool watching_commit(void *address, size_t bytes) {
    if (!nm__os_system.commit(address, bytes)) return false;
    assert_true(list_count < sizeof list / sizeof *list);
    list[list_count++] = (committed){address, bytes};
    return true;
}

static void look(unsigned char *base, size_t bytes, bool forget) {
    for (size_t i = 0; i < list_count; i++) {
        committed *c = &list[i];
        if (c->base < base || c->base >= base + bytes) continue;
        nm__check_unpoison(c->base, c->bytes);
        looked_at += c->bytes;
        for (size_t k = 0; k + 8 <= c->bytes; k++)
            if (memcmp(c->base + k, "\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e", 8) == 0) found++;
        if (forget) list[i--] = list[--list_count];
    }
}

static void watching_unreserve(void *address, size_t bytes) {
    look(address, bytes, true);
    nm__os_system.unreserve(address, bytes);
}
static bool watching_decommit(void *address, size_t bytes) {
    look(address, bytes, false);
    return nm__os_system.decommit(address, bytes);
}
static bool refusing_dumps(void *address, size_t bytes) {
    (void)address;
    hidden += bytes;
    return false; /* as a kernel that does not know how */
}

static void nothing_secret_is_left_in_memory_that_goes_back(void **state) {
    (void)state;
    for (size_t i = 0; i < 3 * 4; i++) {
        const kind *k = &kinds[i % 3];
        looked_at = found = hidden = list_count = 0;
        table = nm__os_system;
        table.commit = watching_commit;
        table.unreserve = watching_unreserve;
        table.decommit = watching_decommit;
        table.keep_out_of_dumps = refusing_dumps;
        nm__os_replace(&table);
        nm_scope *root, *scope;
        nm_arena *a;
        assert_int_equal(nm_scope_open(&root, NULL, NULL), NM_OK);
        assert_int_equal(nm_scope_open(&scope, root, NULL), NM_OK);
        assert_int_equal(nm_arena_open(&a, scope,
                                       NM_ARENA_OPTIONS(.secret = true, .contiguous = k->contiguous,
                                                        .capacity_bytes = k->capacity_bytes)),
                         NM_OK);
        for (int n = 0; n < 100; n++) secret(a, 3000);
        unsigned char *large = secret(a, 1 << 20);
        large = nm_arena_realloc(a, large, 1 << 20, 2 << 20); /* grows in place, or is copied and given back */
        assert_non_null(large);
        memset(large, 0x5e, 2 << 20);
        if (i / 3 == 0) nm_arena_close(a);
        if (i / 3 == 1) nm_arena_reset(a);
        if (i / 3 == 2)
            for (int n = 0; n < 60; n++) {
                nm_arena_reset(a); /* until the spike is given back */
                secret(a, 100);
            }
        assert_int_equal(nm_scope_close(scope, NULL), 0);
        assert_int_equal(nm_scope_close(root, NULL), 0);
        nm__os_replace(NULL);
        assert_true(looked_at > (size_t)2 << 20);
        assert_true(hidden >= (size_t)2 << 20);
        assert_int_equal(found, 0);
    }
}

/* ---- core dumps -------------------------------------------------------------------------------------------------- */

/* The flags of the mapping that p lies in. */
static bool is_out_of_dumps(const void *p) {
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    char line[512];
    bool here = false, out = false;
    while (fgets(line, sizeof line, f) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) here = (uintptr_t)p >= from && (uintptr_t)p < to;
        if (here && strncmp(line, "VmFlags:", 8) == 0) out = strstr(line, " dd") != NULL;
    }
    fclose(f);
    return out;
}

static void pages_are_left_out_of_core_dumps(void **state) {
    nm_arena *plain;
    assert_int_equal(nm_arena_open(&plain, root_of(state), NULL), NM_OK);
    void *other = nm_arena_alloc(plain, 100);
    bool all = is_out_of_dumps(other); /* the sanitizers leave everything out */
    EACH_KIND(k) {
        nm_arena *a = open_secret(state, k);
        assert_true(is_out_of_dumps(secret(a, 10)));
        for (int i = 0; i < 50; i++) assert_true(is_out_of_dumps(secret(a, 1000)));
        assert_true(is_out_of_dumps(secret(a, MANY) + MANY - 1));
        assert_int_equal(is_out_of_dumps(other), all);
        nm_arena_close(a);
    }
    nm_arena_close(plain);
}

static void a_hard_limit_is_kept_in_whole_pages(void **state) {
    nm_scope *scope;
    nm_arena *a;
    size_t hard = 256 + (size_t)37 * 4096;
    assert_int_equal(nm_scope_open(&scope, root_of(state), NM_SCOPE_OPTIONS(.hard_bytes = hard)), NM_OK);
    assert_int_equal(nm_arena_open(&a, scope, NM_ARENA_OPTIONS(.secret = true)), NM_OK);
    size_t count = 0;
    while (nm_arena_alloc(a, 16) != NULL) count++;
    assert_int_equal(nm_arena_status(a), NM_EBUDGET);
    assert_int_equal(granted_to(scope), hard);
    assert_int_equal(nm_arena_granted(a), hard);
    assert_true(count > 36 * 4096 / (nm__check_active() ? 32 : 16));
    nm_arena_reset(a);
    assert_usable(a);
    assert_int_equal(nm_scope_close(scope, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ARENA_TEST(a_reset_wipes_the_block_that_is_kept),
        ARENA_TEST(a_reset_wipes_all_blocks_that_are_kept),
        ARENA_TEST(a_rewind_and_the_end_of_a_temp_block_wipe),
        ARENA_TEST(a_rewind_over_blocks_wipes),
        ARENA_TEST(marks_with_nothing_between_are_the_same_mark_here_too),
        ARENA_TEST(realloc_wipes_what_it_leaves),
        ARENA_TEST(what_a_mark_can_come_back_to_is_not_wiped_by_realloc_but_by_its_end),
        ARENA_TEST(printf_leaves_nothing_behind_the_string),
        cmocka_unit_test(nothing_secret_is_left_in_memory_that_goes_back),
        ARENA_TEST(pages_are_left_out_of_core_dumps),
        ARENA_TEST(a_hard_limit_is_kept_in_whole_pages),
    };
    return cmocka_run_group_tests_name("arena_secret", tests, NULL, NULL);
}
