// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Arenas, as docs/guide/scopes-and-arenas.md has them. */
#include <nebula/memory.h>
#include <stdio.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* ---- allocate freely, check once --------------------------------------------------------------------------------- */

struct header {
    const char *name, *value;
    struct header *next;
};

/* "Name: value" lines into a list. Copies may be refused anywhere; the arena remembers the first refusal. */
static nm_status parse_headers(nm_arena *arena, const char *text, struct header **out) {
    *out = NULL;
    while (*text != 0) {
        size_t line = strcspn(text, "\n"), name = strcspn(text, ":\n");
        if (name == line) return NM_EFORMAT;
        struct header *h = NM_NEW(arena, struct header);
        if (h == NULL) break;
        h->name = nm_arena_strndup(arena, text, name);
        h->value = nm_arena_strndup(arena, text + name + 1, line - name - 1);
        h->next = *out;
        *out = h;
        text += line + (text[line] == '\n');
    }
    return nm_arena_status(arena);
}

static int parse(nm_scope *root) {
    nm_scope *request;
    nm_arena *arena;
    struct header *list;
    CHECK(nm_scope_open(&request, root, NM_SCOPE_OPTIONS(.kind = NM_SCOPE_REQUEST, .hard_bytes = 64 << 10)) == NM_OK);
    CHECK(nm_arena_open(&arena, request, NULL) == NM_OK);
    CHECK(parse_headers(arena, "Host: x\nAccept: *\n", &list) == NM_OK && list != NULL && list->next != NULL);
    CHECK(strcmp(list->name, "Accept") == 0 && strcmp(list->next->value, " x") == 0 && list->next->next == NULL);
    CHECK(parse_headers(arena, "no header\n", &list) == NM_EFORMAT);

    CHECK(nm_arena_alloc(arena, 64 << 10) == NULL);        /* more than the request may have */
    CHECK(nm_arena_alloc(arena, 100) != NULL);             /* the next one that fits is granted */
    CHECK(nm_arena_status(arena) == NM_EBUDGET);           /* and the refusal is not forgotten */
    CHECK(parse_headers(arena, "A: b\n", &list) != NM_OK); /* so this says that the arena has refused something */
    nm_arena_reset(arena);
    CHECK(nm_arena_status(arena) == NM_OK);
    return (int)nm_scope_close(request, NULL);
}

/* ---- the ways to allocate ---------------------------------------------------------------------------------------- */

static int ways(nm_scope *scope) {
    nm_arena *arena;
    CHECK(nm_arena_open(&arena, scope, NM_ARENA_OPTIONS(.name = "ways", .block_bytes = 16 << 10)) == NM_OK);

    char *raw = nm_arena_alloc(arena, 100);                 /* 16-aligned, contents undefined */
    void *page = nm_arena_alloc_aligned(arena, 4096, 4096); /* to a power of two up to 2 MiB */
    char *zeros = nm_arena_zalloc(arena, 100);              /* filled with zeros */
    double *many = NM_NEW_ARRAY(arena, double, 1000);       /* zeroed, aligned, the product checked for overflow */
    char *name = nm_arena_printf(arena, "session-%d", 17);  /* as long as it comes out */
    char *copy = nm_arena_memdup(arena, name, 8);           /* bytes */
    void *nothing = nm_arena_alloc(arena, 0);               /* a distinct pointer to no byte */
    if (nm_arena_status(arena) != NM_OK) return 1;          /* one look for all of them */
    CHECK(raw != NULL && (uintptr_t)page % 4096 == 0 && zeros[99] == 0 && many[999] == 0 && nothing != NULL);
    CHECK(memcmp(copy, "session-", 8) == 0 && nm_arena_owns(arena, copy) && !nm_arena_owns(arena, &copy));

    volatile size_t count = SIZE_MAX / 4; /* as if from a client */
    CHECK(NM_NEW_ARRAY(arena, double, count) == NULL && nm_arena_status(arena) == NM_ETOOLARGE);
    nm_arena_close(arena);
    return 0;
}

/* ---- a buffer that grows ----------------------------------------------------------------------------------------- */

struct text {
    char *bytes;
    size_t length, room;
};

/* In place, and without a copy, while the text is the arena's last allocation. */
static nm_status text_add(nm_arena *arena, struct text *t, const char *s, size_t n) {
    if (n > t->room - t->length) {
        size_t room = t->length + n > 2 * t->room ? t->length + n : 2 * t->room;
        char *bytes = nm_arena_realloc(arena, t->bytes, t->room, room);
        if (bytes == NULL) return nm_arena_status(arena); /* t->bytes are as they were */
        t->bytes = bytes;
        t->room = room;
    }
    memcpy(t->bytes + t->length, s, n);
    t->length += n;
    return NM_OK;
}

static int grow(nm_scope *scope) {
    nm_arena *arena;
    struct text t = {0};
    CHECK(nm_arena_open(&arena, scope, NM_ARENA_OPTIONS(.capacity_bytes = 8 << 10)) == NM_OK);
    nm_status st = NM_OK;
    while (st == NM_OK) st = text_add(arena, &t, "0123456789", 10);
    CHECK(st == NM_ECAPACITY); /* the arena's own limit; the scope's would be NM_EBUDGET */
    CHECK(t.length > 1000 && memcmp(t.bytes + t.length - 10, "0123456789", 10) == 0);
    CHECK(nm_arena_used(arena) <= nm_arena_capacity(arena));
    nm_arena_close(arena);
    return 0;
}

/* ---- marks ------------------------------------------------------------------------------------------------------- */

static int marks(nm_scope *scope) {
    nm_arena *arena;
    CHECK(nm_arena_open(&arena, scope, NULL) == NM_OK);
    char *kept = nm_arena_strdup(arena, "kept");
    size_t used = nm_arena_used(arena);

    nm_mark before = nm_arena_mark(arena);
    for (int attempt = 0; attempt < 3; attempt++) {
        char *draft = nm_arena_printf(arena, "attempt %d of %s", attempt, kept);
        CHECK(draft != NULL);
        CHECK(nm_arena_rewind(arena, before) == NM_OK); /* draft is gone, kept is not; the mark can be used again */
    }

    NM_ARENA_TEMP (arena) { /* undone at its end, also by break, goto and return */
        char *scratch = nm_arena_alloc(arena, 1000);
        CHECK(scratch != NULL);
    }
    CHECK(strcmp(kept, "kept") == 0 && nm_arena_used(arena) <= used + 16); /* a mark is 16 bytes */

    nm_arena_reset(arena);
    CHECK(nm_arena_used(arena) == 0);
    CHECK(nm_arena_rewind(arena, before) == NM_ESTALE); /* found out, and nothing changed */
    nm_arena_close(arena);
    return 0;
}

/* ---- deferred ---------------------------------------------------------------------------------------------------- */

static void count_down(void *count) { --*(int *)count; }

static int deferred(nm_scope *scope) {
    nm_arena *arena;
    int open_things = 2;
    CHECK(nm_arena_open(&arena, scope, NULL) == NM_OK);
    CHECK(nm_arena_defer(arena, count_down, &open_things) == NM_OK);
    nm_mark mark = nm_arena_mark(arena);
    CHECK(nm_arena_defer(arena, count_down, &open_things) == NM_OK);
    CHECK(nm_arena_rewind(arena, mark) == NM_OK && open_things == 1); /* what was deferred after the mark has run */
    nm_arena_reset(arena);
    CHECK(open_things == 0);
    nm_arena_close(arena);
    return 0;
}

int main(void) {
    nm_scope *root;
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "guide", .hard_bytes = 4 << 20)) == NM_OK);
    int failed = parse(root) || ways(root) || grow(root) || marks(root) || deferred(root);
    return failed || nm_scope_close(root, NULL) != 0;
}
