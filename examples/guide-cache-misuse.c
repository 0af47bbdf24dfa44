// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What is caught when entries of a cache are used wrongly, and what it prints, as docs/guide/caches.md has it. Each wrong
 * thing is done in a child process, for it ends there. */
#include <nebula/memory.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void release_twice(nm_cache *pages) {
    nm_entry page, copy;
    if (!nm_cache_get(pages, "/index", 6, &page)) return;
    copy = page;
    nm_entry_release(&page);
    nm_entry_release(&copy);
}

static void release_late(nm_cache *pages) {
    nm_entry page, copy;
    if (!nm_cache_get(pages, "/index", 6, &page)) return;
    copy = page;
    nm_entry_release(&page);
    if (nm_cache_close(pages) == NM_OK) nm_entry_release(&copy);
}

static void commit_twice(nm_cache *pages) {
    nm_entry room, copy;
    if (nm_cache_reserve(pages, "/new", 4, 100, &room) != NM_OK) return;
    copy = room;
    if (nm_cache_commit(&room, NULL) == NM_OK) (void)!nm_cache_commit(&copy, NULL);
}

static void commit_a_pin(nm_cache *pages) {
    nm_entry page;
    if (nm_cache_get(pages, "/index", 6, &page)) (void)!nm_cache_commit(&page, NULL);
}

/* True: the library has stopped the child. */
static bool is_caught(void (*wrong)(nm_cache *), nm_cache *pages) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        wrong(pages);
        _exit(0);
    }
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* A leak is no misuse: it is found when cache or scope are closed, and told by the line that pinned or reserved. */
static size_t leave_open(nm_scope *root) {
    nm_scope *scope;
    nm_cache *pages;
    nm_entry page, again, room;
    nm_leak_report report;
    if (nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "cache")) != NM_OK) return 0;
    if (nm_cache_open(&pages, scope, NM_CACHE_OPTIONS(.name = "pages", .budget_bytes = 1 << 20)) != NM_OK) return 0;
    if (nm_cache_put(pages, "/index", 6, "<html>...", 9) != NM_OK) return 0;
    if (!nm_cache_get(pages, "/index", 6, &page) || !nm_cache_get(pages, "/index", 6, &again)) return 0;
    if (nm_cache_reserve(pages, "/new", 4, 100, &room) != NM_OK || nm_cache_close(pages) != NM_EBUSY) return 0;
    size_t leaks = nm_scope_close(scope, &report);
    nm_leak_report_print(&report, stdout);
    return leaks;
}

int main(void) {
    static void (*const wrong[])(nm_cache *) = {release_twice, release_late, commit_twice, commit_a_pin};
    nm_scope *root;
    nm_cache *pages;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 4 << 20)) != NM_OK) return 1;
    if (nm_cache_open(&pages, root, NM_CACHE_OPTIONS(.name = "pages", .budget_bytes = 1 << 20)) != NM_OK) return 1;
    if (nm_cache_put(pages, "/index", 6, "<html>...", 9) != NM_OK) return 1;
    size_t caught = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) caught += is_caught(wrong[i], pages);
    size_t leaks = leave_open(root);
    return caught == sizeof wrong / sizeof wrong[0] && leaks == 3 && nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
