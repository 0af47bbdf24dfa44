// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A cache and threads, as docs/guide/caches.md has it: pins that travel, and a child process. */
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

/* Gets what another thread has pinned, and releases it: the copy that it was given is the only one in use. */
static void *send_page(void *of) {
    nm_entry *page = of;
    size_t sent = page->value_len; /* write(socket, page->value, page->value_len) */
    nm_entry_release(page);
    return sent == 9 ? of : NULL;
}

static int across_threads(nm_cache *pages) {
    nm_entry page;
    pthread_t sender;
    void *sent;
    CHECK(nm_cache_put(pages, "/index", 6, "<html>...", 9) == NM_OK);
    CHECK(nm_cache_get(pages, "/index", 6, &page));
    CHECK(pthread_create(&sender, NULL, send_page, &page) == 0);
    CHECK(nm_cache_put(pages, "/index", 6, "<html>!!!", 9) == NM_OK); /* meanwhile: neither waits for the other */
    CHECK(pthread_join(sender, &sent) == 0 && sent != NULL);
    nm_cache_stats stats;
    nm_cache_get_stats(pages, &stats);
    CHECK(stats.pinned_count == 0);
    return 0;
}

struct worker {
    nm_cache *pages;
    uint32_t seed, wrong;
};

/* Reads and writes the same keys as all others: what is found is always whole, and that key's. */
static void *work(void *of) {
    struct worker *w = of;
    for (uint32_t i = 0; i < 50000; i++) {
        w->seed = w->seed * 1664525 + 1013904223;
        uint32_t key = w->seed >> 20, value[25];
        nm_entry page;
        for (int n = 0; n < 25; n++) value[n] = key;
        if (nm_cache_get(w->pages, &key, sizeof key, &page)) {
            w->wrong += page.value_len != sizeof value || memcmp(page.value, value, sizeof value) != 0;
            nm_entry_release(&page);
        } else if (nm_cache_put(w->pages, &key, sizeof key, value, sizeof value) != NM_OK) {
            w->wrong++;
        }
    }
    return NULL;
}

static int many(nm_cache *pages) {
    struct worker workers[4];
    pthread_t threads[4];
    for (uint32_t i = 0; i < 4; i++) {
        workers[i] = (struct worker){.pages = pages, .seed = i};
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0 && workers[i].wrong == 0);
    return 0;
}

/* The child has a copy of the cache, and of the pins that were out. */
static int in_a_child(nm_cache *pages) {
    nm_entry page;
    CHECK(nm_cache_put(pages, "/index", 6, "<html>...", 9) == NM_OK);
    CHECK(nm_cache_get(pages, "/index", 6, &page));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int good = memcmp(page.value, "<html>...", 9) == 0;
        nm_entry_release(&page); /* the child's copy of it: the parent's is still out */
        good = good && nm_cache_remove(pages, "/index", 6) == NM_OK && nm_cache_put(pages, "k", 1, "v", 1) == NM_OK;
        _exit(good ? 0 : 1);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(nm_cache_contains(pages, "/index", 6) && !nm_cache_contains(pages, "k", 1));
    nm_entry_release(&page);
    return 0;
}

int main(void) {
    nm_scope *root;
    nm_cache *pages;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 8 << 20)) == NM_OK);
    CHECK(nm_cache_open(&pages, root, NM_CACHE_OPTIONS(.name = "pages", .budget_bytes = 256 << 10)) == NM_OK);
    CHECK(across_threads(pages) == 0 && many(pages) == 0 && in_a_child(pages) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
