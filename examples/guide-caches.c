// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Caches, as docs/guide/caches.md has them: opening, putting and getting, writing in place, changing what is there, objects,
 * walking. */
#include <nebula/memory.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static nm_status pages_open(nm_scope *root, nm_cache **pages) {
    return nm_cache_open(pages, root,
                         NM_CACHE_OPTIONS(.name = "pages", .budget_bytes = 1 << 20, .ttl_ms = 10 * 60 * 1000));
}

/* Before there is a cache: how many entries of one kind a budget holds. Ten bytes for each are the index and free room. */
static size_t entries_in(const nm_cache_options *options, size_t key_len, size_t value_len) {
    size_t charge = nm_cache_charge(options, key_len, value_len);
    return charge != SIZE_MAX ? options->budget_bytes / (charge + 10) : 0; /* SIZE_MAX: no cache can hold one */
}

static int opening(nm_scope *root) {
    nm_cache *cache;
    nm_cache_options options = nm_cache_options_init();
    options.budget_bytes = 4096; /* one page is not enough for any cache, */
    CHECK(nm_cache_open(&cache, root, &options) == NM_EINVAL && cache == NULL);
    options.budget_bytes = nm_cache_min_bytes(&options); /* and this is just enough */
    CHECK(nm_cache_open(&cache, root, &options) == NM_OK);
    CHECK(nm_cache_put(cache, "k", 1, "value", 5) == NM_OK);
    CHECK(nm_cache_close(cache) == NM_OK);

    options.budget_bytes = 4 << 20;
    size_t guess = entries_in(&options, 16, 1000);
    CHECK(nm_cache_open(&cache, root, &options) == NM_OK);
    for (unsigned i = 0; i < 8000; i++) {
        char key[17], value[1000] = {0};
        snprintf(key, sizeof key, "%016x", i);
        CHECK(nm_cache_put(cache, key, 16, value, sizeof value) == NM_OK);
    }
    CHECK(nm_cache_count(cache) > guess / 20 * 19 && nm_cache_count(cache) < guess / 20 * 21);
    return nm_cache_close(cache) == NM_OK ? 0 : 1;
}

/* ---- putting and getting ------------------------------------------------------------------------------------------- */

static int first_steps(nm_cache *pages) {
    CHECK(nm_cache_put(pages, "/index", 6, "<html>...", 9) == NM_OK); /* both are copied */

    nm_entry page;
    CHECK(nm_cache_get(pages, "/index", 6, &page)); /* false: it is not there */
    fwrite(page.value, 1, page.value_len, stdout);
    nm_entry_release(&page); /* by any thread; the entry is emptied, and an empty one is ignored */
    putchar('\n');
    CHECK(!nm_cache_get(pages, "/nowhere", 8, &page) && page.value == NULL);
    return 0;
}

static int pinned(nm_cache *pages) {
    nm_entry old;
    CHECK(nm_cache_put(pages, "/news", 5, "yesterday", 9) == NM_OK);
    CHECK(nm_cache_get(pages, "/news", 5, &old));
    CHECK(nm_cache_put(pages, "/news", 5, "today", 5) == NM_OK); /* replaced, */
    CHECK(nm_cache_remove(pages, "/news", 5) == NM_OK);          /* and removed: */
    CHECK(memcmp(old.value, "yesterday", 9) == 0);               /* who holds it reads what was found */
    nm_entry_release(&old);                                      /* its bytes go now */
    return 0;
}

struct route {
    uint64_t next_hop;
    uint32_t metric, mask;
};

static int alignment(nm_cache *routes) {
    struct route new = {.next_hop = 1, .metric = 10};
    nm_entry found;
    CHECK(nm_cache_put(routes, "10.0.0.0", 8, &new, sizeof new) == NM_OK);
    CHECK(nm_cache_get(routes, "10.0.0.0", 8, &found));
    const struct route *route = found.value; /* read where it lies */
    CHECK(route->metric == 10 && (uintptr_t)route % 16 == 0);
    nm_entry_release(&found);
    return 0;
}

static int full(nm_scope *root) {
    enum { PINS = 4000 };
    static nm_entry pins[PINS];
    static char value[1000];
    nm_cache *cache;
    size_t count = 0;
    CHECK(nm_cache_open(&cache, root, NM_CACHE_OPTIONS(.budget_bytes = 1 << 20)) == NM_OK);
    for (; count < PINS; count++) {
        if (nm_cache_put(cache, &count, sizeof count, value, sizeof value) != NM_OK) break;
        if (!nm_cache_get(cache, &count, sizeof count, &pins[count])) break; /* there is no room to note a pin */
    }
    CHECK(count < PINS);
    CHECK(nm_cache_put(cache, "more", 4, value, sizeof value) == NM_ECAPACITY); /* all that is there is pinned */
    for (size_t i = 0; i < count / 2; i++) nm_entry_release(&pins[i]);
    CHECK(nm_cache_put(cache, "more", 4, value, sizeof value) == NM_OK); /* a refusal changes nothing */
    for (size_t i = count / 2; i < count; i++) nm_entry_release(&pins[i]);

    size_t before = nm_cache_count(cache);
    CHECK(nm_cache_put(cache, "large", 5, value, 2 << 20) == NM_ETOOLARGE); /* no byte of it was looked at, */
    CHECK(nm_cache_count(cache) == before);                                 /* and nothing evicted */
    return nm_cache_close(cache) == NM_OK ? 0 : 1;
}

static int held(nm_scope *root, nm_cache *pages) {
    nm_scope *request;
    nm_entry header, body;
    CHECK(nm_cache_put(pages, "header", 6, "h", 1) == NM_OK && nm_cache_put(pages, "body", 4, "b", 1) == NM_OK);
    CHECK(nm_scope_open(&request, root, NM_SCOPE_OPTIONS(.name = "GET /", .kind = NM_SCOPE_REQUEST)) == NM_OK);
    CHECK(nm_cache_get_in(pages, request, "header", 6, &header) && nm_cache_get_in(pages, request, "body", 4, &body));
    nm_entry_release(&header);                 /* as soon as it is not needed any more */
    CHECK(nm_scope_close(request, NULL) == 0); /* body goes back now, and that is no leak */
    nm_cache_stats stats;
    nm_cache_get_stats(pages, &stats);
    CHECK(stats.pinned_count == 0);
    return 0;
}

/* ---- writing in place ---------------------------------------------------------------------------------------------- */

/* Reads a file into the cache, with no buffer in between. */
static nm_status page_from_file(nm_cache *pages, const char *path, FILE *file, size_t bytes) {
    nm_entry room;
    nm_status st = nm_cache_reserve(pages, path, strlen(path), bytes, &room);
    if (st != NM_OK) return st;
    if (fread(room.value, 1, bytes, file) != bytes) {
        nm_cache_abort(&room); /* nobody has seen what was written */
        return NM_ESYSTEM;
    }
    st = nm_cache_commit(&room, NULL);
    nm_cache_abort(&room); /* a commit that was refused leaves the reservation; else this one is empty, and ignored */
    return st;
}

static int reserving(nm_cache *pages) {
    FILE *file = tmpfile();
    nm_entry page;
    CHECK(file != NULL && fputs("from a file", file) >= 0);
    rewind(file);
    CHECK(page_from_file(pages, "/file", file, 11) == NM_OK);
    CHECK(page_from_file(pages, "/none", file, 11) == NM_ESYSTEM && !nm_cache_contains(pages, "/none", 5));
    fclose(file);
    CHECK(nm_cache_get(pages, "/file", 5, &page) && memcmp(page.value, "from a file", 11) == 0);
    nm_entry_release(&page);
    return 0;
}

/* ---- options of a put ---------------------------------------------------------------------------------------------- */

enum { GZIPPED = 1 };

static int options_of_a_put(nm_cache *pages) {
    nm_entry page;
    CHECK(nm_cache_put_with(pages, "/logo", 5, "...", 3, NM_PUT_OPTIONS(.ttl_ms = 5000, .flags = GZIPPED)) == NM_OK);
    CHECK(nm_cache_get(pages, "/logo", 5, &page));
    CHECK(page.flags == GZIPPED && page.expires_ms <= 5000); /* the time that is left */
    nm_entry_release(&page);

    CHECK(nm_cache_put_with(pages, "/logo", 5, "!!!", 3, NM_PUT_OPTIONS(.mode = NM_PUT_ADD)) == NM_EEXISTS);
    CHECK(nm_cache_put_with(pages, "/icon", 5, "!!!", 3, NM_PUT_OPTIONS(.mode = NM_PUT_REPLACE)) == NM_ENOTFOUND);
    return 0;
}

/* Adds an item to a list that others change too. */
static nm_status append(nm_cache *lists, const char *key, const char *item) {
    for (;;) {
        nm_entry old;
        char list[1000];
        if (!nm_cache_get(lists, key, strlen(key), &old)) return NM_ENOTFOUND;
        int n = snprintf(list, sizeof list, "%.*s,%s", (int)old.value_len, (const char *)old.value, item);
        uint64_t seen = old.cas;
        nm_entry_release(&old);
        if (n < 0 || (size_t)n >= sizeof list) return NM_ETOOLARGE;
        nm_status st = nm_cache_put_with(lists, key, strlen(key), list, (size_t)n, NM_PUT_OPTIONS(.cas = seen));
        if (st != NM_ESTALE) return st; /* else somebody was faster: once more */
    }
}

static int versions(nm_cache *lists) {
    nm_entry list;
    CHECK(nm_cache_put(lists, "list", 4, "a", 1) == NM_OK);
    CHECK(append(lists, "list", "b") == NM_OK && append(lists, "none", "b") == NM_ENOTFOUND);
    CHECK(nm_cache_get(lists, "list", 4, &list) && list.value_len == 3 && memcmp(list.value, "a,b", 3) == 0);
    uint64_t seen = list.cas;
    nm_entry_release(&list);

    CHECK(append(lists, "list", "c") == NM_OK);
    CHECK(nm_cache_remove_if(lists, "list", 4, seen) == NM_ESTALE); /* it is not what was seen any more */
    return 0;
}

/* ---- changing what is there ---------------------------------------------------------------------------------------- */

static int touching(nm_cache *sessions) {
    nm_entry session;
    CHECK(nm_cache_put(sessions, "cookie", 6, "user 7", 6) == NM_OK);
    CHECK(nm_cache_get_touch(sessions, "cookie", 6, 30 * 60 * 1000, &session)); /* half an hour from its last use */
    nm_entry_release(&session);
    CHECK(nm_cache_touch(sessions, "cookie", 6, NM_TTL_NEVER) == NM_OK);
    return 0;
}

static int counting(nm_cache *counts) {
    uint64_t n;
    CHECK(nm_cache_put(counts, "visits", 6, "98", 2) == NM_OK);
    CHECK(nm_cache_increment(counts, "visits", 6, 3, &n) == NM_OK && n == 101);  /* "101" */
    CHECK(nm_cache_decrement(counts, "visits", 6, 1000, &n) == NM_OK && n == 0); /* "0  ": it stops at 0 */
    CHECK(nm_cache_increment(counts, "calls", 5, 1, &n) == NM_ENOTFOUND);        /* NM_PUT_ADD a "0", and once more */
    CHECK(nm_cache_put(counts, "text", 4, "12 apples", 9) == NM_OK);
    CHECK(nm_cache_increment(counts, "text", 4, 1, &n) == NM_EINVAL);
    return 0;
}

/* ---- objects ------------------------------------------------------------------------------------------------------- */

struct font {
    size_t bytes;
    char *glyphs;
};

static struct font *font_load(size_t bytes) {
    struct font *font = malloc(sizeof *font);
    if (font == NULL) return NULL;
    *font = (struct font){.bytes = bytes, .glyphs = calloc(1, bytes)};
    if (font->glyphs != NULL) return font;
    free(font);
    return NULL;
}

static void font_free(struct font *font) {
    free(font->glyphs);
    free(font);
}

/* Once for each object that the cache had, whyever it left, after its last pin is gone. */
static void font_left(nm_evict_reason reason, const void *key, size_t key_len, void *font, size_t bytes, void *count) {
    (void)reason, (void)key, (void)key_len, (void)bytes;
    font_free(font);
    ++*(size_t *)count;
}

static nm_status font_put(nm_cache *fonts, const char *name, size_t bytes) {
    struct font *font = font_load(bytes);
    if (font == NULL) return NM_ENOMEM;
    nm_status st = nm_cache_put_object(fonts, name, strlen(name), font, sizeof *font + bytes);
    if (st != NM_OK) font_free(font); /* it remains ours */
    return st;
}

static int objects(nm_scope *root) {
    nm_cache *fonts;
    size_t left = 0;
    CHECK(nm_cache_open(&fonts, root,
                        NM_CACHE_OPTIONS(.name = "fonts", .budget_bytes = 1 << 20, .on_evict = font_left,
                                         .context = &left)) == NM_OK);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "font-%d", i);
        CHECK(font_put(fonts, name, 100000) == NM_OK);
    }
    CHECK(left + nm_cache_count(fonts) == 20 && nm_cache_count(fonts) < 11);
    CHECK(nm_cache_granted(fonts) > 100000 * nm_cache_count(fonts));

    nm_entry font;
    CHECK(nm_cache_get(fonts, "font-19", 7, &font));
    CHECK(nm_cache_remove(fonts, "font-19", 7) == NM_OK);
    CHECK(((const struct font *)font.value)->bytes == 100000); /* the pointer that was put: not freed yet, */
    size_t before = left;
    nm_entry_release(&font); /* but here */
    CHECK(left == before + 1);
    CHECK(font_put(fonts, "huge", 2 << 20) == NM_ETOOLARGE);
    CHECK(nm_cache_close(fonts) == NM_OK && left == 20); /* a close tells of all the rest */
    return 0;
}

/* ---- all entries --------------------------------------------------------------------------------------------------- */

/* Removes what was made from a template that has changed: its number is in the flags. */
static size_t remove_made_from(nm_cache *pages, uint32_t template_number) {
    nm_cursor cursor = {0};
    nm_entry page;
    size_t removed = 0;
    while (nm_cache_next(pages, &cursor, &page) == NM_OK) {
        if (page.flags == template_number)
            removed += nm_cache_remove_if(pages, page.key, page.key_len, page.cas) == NM_OK;
        nm_entry_release(&page);
    }
    return removed;
}

static int walking(nm_cache *pages) {
    nm_cache_clear(pages);
    CHECK(nm_cache_count(pages) == 0 && nm_cache_used(pages) == 0);
    for (uint32_t i = 0; i < 1000; i++)
        CHECK(nm_cache_put_with(pages, &i, sizeof i, "page", 4, NM_PUT_OPTIONS(.flags = i % 10)) == NM_OK);
    CHECK(remove_made_from(pages, 7) == 100 && nm_cache_count(pages) == 900);
    return 0;
}

static int resizing(nm_cache *pages) {
    static char value[1000];
    for (uint32_t i = 0; i < 2000; i++) CHECK(nm_cache_put(pages, &i, sizeof i, value, sizeof value) == NM_OK);
    CHECK(nm_cache_resize(pages, 256 << 10) == NM_OK); /* evicts what is too much, and gives its memory back */
    CHECK(nm_cache_granted(pages) <= 256 << 10);
    CHECK(nm_cache_resize(pages, 2 << 20) == NM_OK);
    CHECK(nm_cache_resize(pages, 17 << 20) == NM_ECAPACITY); /* more than 16 times what it was opened with */
    CHECK(nm_cache_resize(pages, 4096) == NM_EINVAL);        /* less than nm_cache_min_bytes */
    CHECK(nm_cache_budget(pages) == 2 << 20);                /* as it was */
    return 0;
}

static int statistics(nm_cache *pages) {
    static char value[1000];
    nm_entry page;
    for (uint32_t i = 0; i < 4000; i++) CHECK(nm_cache_put(pages, &i, sizeof i, value, sizeof value) == NM_OK);
    CHECK(nm_cache_put(pages, "/index", 6, "<html>...", 9) == NM_OK);
    CHECK(nm_cache_get(pages, "/index", 6, &page));
    nm_entry_release(&page);
    nm_cache_stats s;
    nm_cache_get_stats(pages, &s);
    printf("\"%s\": %zu entries; used %zu <= granted %zu <= budget %zu\n", s.name, s.entry_count, s.used_bytes,
           s.granted_bytes, s.budget_bytes);
    printf("%zu on probation, %zu protected; the index has %zu\n", s.probation_bytes, s.protected_bytes, s.index_bytes);
    CHECK(s.used_bytes <= s.granted_bytes && s.granted_bytes <= s.budget_bytes);
    return 0;
}

int main(void) {
    nm_scope *root;
    nm_cache *pages;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 64 << 20)) == NM_OK);
    CHECK(pages_open(root, &pages) == NM_OK);
    CHECK(opening(root) == 0 && first_steps(pages) == 0 && pinned(pages) == 0 && alignment(pages) == 0);
    CHECK(full(root) == 0 && held(root, pages) == 0 && reserving(pages) == 0);
    CHECK(options_of_a_put(pages) == 0 && versions(pages) == 0 && touching(pages) == 0 && counting(pages) == 0);
    CHECK(objects(root) == 0 && walking(pages) == 0 && resizing(pages) == 0 && statistics(pages) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1; /* and with it the cache */
}
