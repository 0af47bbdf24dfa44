// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Wrong use of nm_scope_malloc that is found, in release builds too; and what the address sanitizer finds beside it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nebula/memory.h"
#include "testing.h"

extern int __asan_address_is_poisoned(void const volatile *p) __attribute__((weak));
static bool under_asan(void) { return __asan_address_is_poisoned != NULL; }
static bool poisoned(const void *p) { return __asan_address_is_poisoned(p) != 0; }

static nm_scope *root, *scope;
static struct {
    size_t count;
    nm_misuse last;
    char name[NM_NAME_BYTES];
} told;

static void listen(const nm_misuse *misuse, void *context) {
    (void)context;
    told.count++;
    told.last = *misuse;
    snprintf(told.name, sizeof told.name, "%s", misuse->name != NULL ? misuse->name : "");
}

static int set_up(void **state) {
    (void)state;
    memset(&told, 0, sizeof told);
    nm_set_misuse_handler(listen, NULL);
    if (nm_scope_open(&root, NULL, NULL) != NM_OK) return -1;
    return nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "rest")) == NM_OK ? 0 : -1;
}
static int tear_down(void **state) {
    (void)state;
    nm_set_misuse_handler(NULL, NULL);
    return nm_scope_close(scope, NULL) == 0 && nm_scope_close(root, NULL) == 0 ? 0 : -1;
}

/* Through volatile: the compiler shall neither see the misuse nor warn of it. */
static void *same(void *p) {
    void *volatile q = p;
    return q;
}

static size_t used(void) {
    nm_scope_stats st;
    nm_scope_get_stats(scope, &st);
    return st.used_bytes;
}

static void check_told(size_t count, const char *what, const void *p, const char *site) {
    assert_int_equal(told.count, count);
    assert_string_equal(told.last.part, "malloc");
    assert_string_equal(told.last.what, what);
    assert_ptr_equal(told.last.address, p);
    assert_string_equal(told.last.site, site);
}

static const char twice[] = "allocation freed already";
static const char foreign[] = "not an allocation of nm_scope_malloc, or the bytes before it were overwritten";
static const char closed[] = "allocation of a scope that is closed";
static const char other_scope[] = "allocation given to realloc with another scope than its own";
static const char written[] = "freed memory, or the end of what lies before it, was written over";

/* ---- freed twice ------------------------------------------------------------------------------------------------- */

static void a_second_free_is_told_with_all_three_sites(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 100, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *keep = nm_scope_malloc(scope, sizes[i]), *p = nm_scope_malloc_at(scope, sizes[i], "taken.c:1");
        nm_scope_free_at(p, "freed.c:2");
        nm_scope_free_at(same(p), "again.c:3");
        check_told(i + 1, twice, p, "again.c:3");
        assert_string_equal(told.last.leased_at, "taken.c:1");
        assert_string_equal(told.last.released_at, "freed.c:2");
        assert_int_equal(used(), sizes[i]); /* nothing was done */
        nm_scope_free(keep);
        void *q = nm_scope_malloc(scope, sizes[i]), *r = nm_scope_malloc(scope, sizes[i]);
        assert_ptr_not_equal(q, r); /* not twice in the list */
        nm_scope_free(q);
        nm_scope_free(r);
    }
}

static void an_aligned_one_too(void **state) {
    (void)state;
    void *p = nm_scope_aligned_alloc_at(scope, 512, 0, "taken.c:1");
    nm_scope_free_at(p, "freed.c:2");
    nm_scope_free_at(same(p), "again.c:3");
    check_told(1, twice, p, "again.c:3");
    assert_string_equal(told.last.leased_at, "taken.c:1");
    assert_string_equal(told.last.released_at, "freed.c:2");
}

static void where_it_was_freed_is_not_made_up_if_it_was_written_over(void **state) {
    (void)state;
    if (under_asan()) skip(); /* it stops at the write itself */
    void *p = nm_scope_malloc_at(scope, 100, "taken.c:1");
    nm_scope_free_at(p, "freed.c:2");
    memset(same(p), 0x41, 100);
    nm_scope_free_at(same(p), "again.c:3");
    check_told(1, twice, p, "again.c:3");
    assert_string_equal(told.last.leased_at, "taken.c:1");
    assert_null(told.last.released_at);
}

static void realloc_and_size_of_what_is_freed(void **state) {
    (void)state;
    void *p = nm_scope_malloc(scope, 100);
    nm_scope_free(p);
    assert_null(nm_scope_realloc_at(scope, same(p), 200, "again.c:3"));
    check_told(1, twice, p, "again.c:3");
    assert_int_equal(nm_scope_malloc_size(same(p)), 0);
    assert_int_equal(told.count, 2);
    assert_int_equal(used(), 0);
}

static void one_that_realloc_moved_away(void **state) {
    (void)state;
    void *p = nm_scope_malloc_at(scope, 100, "taken.c:1"), *old = same(p);
    void *q = nm_scope_realloc_at(scope, p, 10000, "moved.c:2");
    nm_scope_free_at(old, "again.c:3");
    check_told(1, twice, old, "again.c:3");
    assert_string_equal(told.last.released_at, "moved.c:2");
    nm_scope_free(q);
}

static void *free_it(void *p) {
    nm_scope_free_at(p, "thread.c:9");
    return NULL;
}
static void on_another_thread(void **state) {
    (void)state;
    void *p = nm_scope_malloc(scope, 100);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, free_it, p), 0);
    pthread_join(thread, NULL);
    nm_scope_free_at(same(p), "again.c:3");
    check_told(1, twice, p, "again.c:3");
    assert_string_equal(told.last.released_at, "thread.c:9");
}

static void a_large_one_while_its_block_is_mapped(void **state) {
    (void)state;
    void *keep = nm_scope_malloc(scope, 20000), *p = nm_scope_malloc_at(scope, 20000, "taken.c:1");
    nm_scope_free(p);
    nm_scope_free_at(same(p), "again.c:3");
    check_told(1, twice, p, "again.c:3");
    assert_string_equal(told.last.leased_at, "taken.c:1");
    nm_scope_free(keep);
}

static void all_of_a_page_that_went_back(void **state) {
    (void)state;
    enum { COUNT = 200 };
    void *p[COUNT], *keep = nm_scope_malloc(scope, 100);
    for (int i = 0; i < COUNT; i++) p[i] = nm_scope_malloc(scope, 100);
    for (int i = 0; i < COUNT; i++) nm_scope_free(p[i]);
    nm_scope_reclaim(scope, 1);
    for (int i = 0; i < COUNT; i++) {
        nm_scope_free(same(p[i]));
        assert_int_equal(told.count, (size_t)i + 1);
    }
    nm_scope_free(keep);
}

/* ---- not ours ---------------------------------------------------------------------------------------------------- */

static void pointers_of_others(void **state) {
    (void)state;
    _Alignas(16) unsigned char local[64] = {0};
    static _Alignas(16) unsigned char constant[64];
    unsigned char *heap = calloc(1, 200); /* not its first byte: before that there may be nothing to read */
    unsigned char *p = nm_scope_calloc(scope, 1, 400); /* no old headers inside */
    nm_arena *arena;
    assert_ok(nm_arena_open(&arena, scope, NULL));
    (void)!nm_arena_zalloc(arena, 64);
    void *of_arena = nm_arena_zalloc(arena, 64);
    void *wrong[] = {local + 16, constant + 32, heap + 32, p + 16, p + 160, p + 1, p + 8, of_arena};
    size_t before = used();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        nm_scope_free_at(same(wrong[i]), "wrong.c:1");
        check_told(i + 1, foreign, wrong[i], "wrong.c:1");
        assert_null(told.last.leased_at);
    }
    assert_null(nm_scope_realloc_at(scope, same(local + 16), 10, "wrong.c:2"));
    assert_string_equal(told.last.site, "wrong.c:2");
    assert_int_equal(used(), before);
    free(heap);
    nm_scope_free(p);
}

static void a_header_that_was_written_over(void **state) {
    (void)state;
    if (under_asan()) skip();
    unsigned char *p = nm_scope_malloc(scope, 48), *q = nm_scope_malloc(scope, 48);
    assert_ptr_equal(p + 64, q);
    unsigned char header[16];
    memcpy(header, same(q - 16), 16);
    memset(same(p), 0x41, 48 + 16); /* 16 too many */
    nm_scope_free_at(q, "wrong.c:1");
    check_told(1, foreign, q, "wrong.c:1");
    memcpy(same(q - 16), header, 16);
    nm_scope_free(q);
    nm_scope_free(p);
    assert_int_equal(told.count, 1);
}

static void a_free_slot_that_was_written_over_is_not_handed_out(void **state) {
    (void)state;
    if (under_asan()) skip();
    enum { COUNT = 10 };
    unsigned char *p[COUNT];
    for (int i = 0; i < COUNT; i++) p[i] = nm_scope_malloc(scope, 48);
    nm_scope_free(p[3]);
    nm_scope_free(p[5]);
    memset(same(p[4]), 0x41, 48 + 16); /* over the header of the fifth, which is the next to be used */
    unsigned char *q = nm_scope_malloc_at(scope, 48, "next.c:1");
    check_told(1, written, p[5], "next.c:1");
    assert_non_null(q);
    for (int i = 0; i < COUNT; i++) assert_ptr_not_equal(q, p[i]);
    nm_scope_free(q);
    for (int i = 0; i < COUNT; i++)
        if (i != 3 && i != 5) nm_scope_free(p[i]);
    for (int i = 0; i < COUNT; i++) assert_non_null(p[i] = nm_scope_malloc(scope, 48));
    for (int i = 0; i < COUNT; i++) nm_scope_free(p[i]);
    assert_int_equal(told.count, 1);
    assert_int_equal(used(), 0);
}

/* ---- of another scope -------------------------------------------------------------------------------------------- */

static void realloc_in_another_scope(void **state) {
    (void)state;
    nm_scope *other;
    assert_ok(nm_scope_open(&other, root, NULL));
    void *p = nm_scope_malloc_at(scope, 100, "taken.c:1");
    assert_null(nm_scope_realloc_at(other, same(p), 200, "wrong.c:2"));
    check_told(1, other_scope, p, "wrong.c:2");
    assert_string_equal(told.name, "rest");
    assert_string_equal(told.last.leased_at, "taken.c:1");
    assert_int_equal(used(), 100);
    assert_int_equal(nm_scope_close(other, NULL), 0);
    nm_scope_free(p);
}

static void one_whose_scope_is_closed(void **state) {
    (void)state;
    for (int mode = NM_LEAKS_DEFAULT; mode <= NM_LEAKS_OFF; mode++) {
        nm_scope *other;
        assert_ok(nm_scope_open(&other, root, NM_SCOPE_OPTIONS(.leak_report = (nm_leak_mode)mode)));
        void *p = nm_scope_malloc_at(other, 100, "taken.c:1");
        nm_scope_close(other, NULL);
        nm_scope_free_at(same(p), "late.c:2");
        check_told((size_t)mode + 1, closed, p, "late.c:2");
        assert_string_equal(told.last.leased_at, "taken.c:1");
    }
}

/* ---- without a handler, and under the sanitizer ------------------------------------------------------------------ */

/* Runs it in a child; true if the child did not end well and said `says`. */
static bool ends_with(void (*misuse)(void), const char *says) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        nm_set_misuse_handler(NULL, NULL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        misuse();
        _exit(0);
    }
    close(ends[1]);
    char text[65536];
    size_t length = 0;
    for (;;) {
        char spill[4096];
        ssize_t n = read(ends[0], spill, sizeof spill);
        if (n <= 0) break;
        size_t take = (size_t)n < sizeof text - 1 - length ? (size_t)n : sizeof text - 1 - length;
        memcpy(text + length, spill, take);
        length += take;
    }
    text[length] = 0;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0) && strstr(text, says) != NULL;
}

static void free_twice(void) {
    void *p = nm_scope_malloc(scope, 100);
    nm_scope_free(p);
    nm_scope_free(same(p));
}
static void a_second_free_aborts_by_default(void **state) {
    (void)state;
    assert_true(ends_with(free_twice, twice));
}

static void touch(void *p, size_t i) { ((volatile unsigned char *)p)[i] = 1; }
static void write_one_past_the_end(void) { touch(same(nm_scope_malloc(scope, 32)), 32); }
static void write_into_padding(void) { touch(same(nm_scope_malloc(scope, 20)), 20); }
static void write_past_a_large_one(void) { touch(same(nm_scope_malloc(scope, 100000)), 100000); }
static void write_before_the_start(void) { touch((unsigned char *)same(nm_scope_malloc(scope, 32)) - 1, 0); }
static void write_after_free(void) {
    void *p = same(nm_scope_malloc(scope, 32));
    nm_scope_free(p);
    touch(same(p), 20);
}
static void write_after_shrinking(void) {
    void *p = nm_scope_malloc(scope, 100);
    p = nm_scope_realloc(scope, p, 80);
    touch(same(p), 80);
}
static void write_after_the_scope_closed(void) {
    void *p = nm_scope_malloc(scope, 100);
    nm_scope_close(scope, NULL);
    touch(same(p), 50);
}
static void right_use(void) {
    for (size_t n = 0; n < 20000; n += 13) {
        unsigned char *p = nm_scope_malloc(scope, n);
        memset(p, 1, nm_scope_malloc_size(p));
        p = nm_scope_realloc(scope, p, n + 1000);
        memset(p, 1, nm_scope_malloc_size(p));
        p = nm_scope_realloc(scope, p, n + 500);
        memset(p, 1, n + 500);
        unsigned char *q = nm_scope_aligned_alloc(scope, 64, n);
        memset(q, 1, n);
        nm_scope_free(p);
        nm_scope_free(q);
    }
    _exit(1);
}

static void the_sanitizer_sees_every_byte_that_is_not_the_user_s(void **state) {
    (void)state;
    if (!under_asan()) skip();
    static void (*const planted[])(void) = {write_one_past_the_end,      write_into_padding, write_past_a_large_one,
                                            write_before_the_start,      write_after_free,   write_after_shrinking,
                                            write_after_the_scope_closed};
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++)
        if (!ends_with(planted[i], "use-after-poison")) fail_msg("the %zuth was not seen", i);
    assert_false(ends_with(right_use, "use-after-poison"));
}

static void just_the_bytes_asked_for_can_be_touched(void **state) {
    (void)state;
    if (!under_asan()) skip();
    static const size_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 100, 1000, 5000, 8176, 8177, 100000, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t align = 16; align <= 4096; align *= 16) {
            size_t n = sizes[i];
            unsigned char *p = nm_scope_aligned_alloc(scope, align, n);
            assert_non_null(p);
            assert_int_equal(nm_scope_malloc_size(p), n);
            for (size_t k = 0; k < n; k++)
                if (poisoned(p + k)) fail_msg("byte %zu of %zu is poisoned", k, n);
            for (size_t k = n; k < ((n + 15) & ~(size_t)15) + 16; k++)
                if (!poisoned(p + k)) fail_msg("byte %zu behind %zu is not poisoned", k, n);
            assert_true(poisoned(p - 1) && poisoned(p - 16));
            nm_scope_free(p);
        }
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_second_free_is_told_with_all_three_sites),
        T(an_aligned_one_too),
        T(where_it_was_freed_is_not_made_up_if_it_was_written_over),
        T(realloc_and_size_of_what_is_freed),
        T(one_that_realloc_moved_away),
        T(on_another_thread),
        T(a_large_one_while_its_block_is_mapped),
        T(all_of_a_page_that_went_back),
        T(pointers_of_others),
        T(a_header_that_was_written_over),
        T(a_free_slot_that_was_written_over_is_not_handed_out),
        T(realloc_in_another_scope),
        T(one_whose_scope_is_closed),
        T(a_second_free_aborts_by_default),
        T(the_sanitizer_sees_every_byte_that_is_not_the_user_s),
        T(just_the_bytes_asked_for_can_be_touched),
    };
    return cmocka_run_group_tests_name("malloc_misuse", tests, NULL, NULL);
}
