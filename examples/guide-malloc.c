// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Memory that is freed one by one, as docs/guide/scopes-and-arenas.md has it: another library inside a scope. */
#include <nebula/memory.h>
#include <stdio.h>

/* ---- a library that takes allocator hooks, as most do ------------------------------------------------------------ */

struct hooks {
    void *(*allocate)(void *context, size_t bytes);
    void (*release)(void *context, void *p);
    void *context;
};

struct list {
    struct hooks hooks;
    struct node {
        struct node *next;
        int value;
    } * first;
};

static bool list_add(struct list *l, int value) {
    struct node *n = l->hooks.allocate(l->hooks.context, sizeof *n);
    if (n == NULL) return false;
    *n = (struct node){l->first, value};
    l->first = n;
    return true;
}

static void list_clear(struct list *l) {
    while (l->first != NULL) {
        struct node *n = l->first;
        l->first = n->next;
        l->hooks.release(l->hooks.context, n);
    }
}

/* ---- our side of it ---------------------------------------------------------------------------------------------- */

static void *allocate_in_scope(void *scope, size_t bytes) { return nm_scope_malloc(scope, bytes); }

static void free_in_scope(void *scope, void *p) {
    (void)scope;
    nm_scope_free(p);
}

static void clear(void *list) { list_clear(list); }

static nm_status list_open(struct list *l, nm_scope *scope) {
    *l = (struct list){.hooks = {allocate_in_scope, free_in_scope, scope}};
    return nm_scope_defer(scope, clear, l); /* closed before its memory goes */
}

static int within_a_budget(nm_scope *root) {
    nm_scope *scope;
    struct list list;
    if (nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "list", .hard_bytes = 64 << 10)) != NM_OK) return 1;
    if (list_open(&list, scope) != NM_OK) return 1;
    int count = 0;
    while (list_add(&list, count)) count++;

    nm_scope_stats stats;
    nm_scope_get_stats(scope, &stats);
    printf("after %d nodes: %s (scope \"%s\")\n", count, nm_status_text(stats.last_refusal.status),
           stats.last_refusal.name);
    if (count < 1000 || stats.last_refusal.status != NM_EBUDGET || stats.granted_bytes > stats.hard_bytes) return 1;
    return nm_scope_close(scope, NULL) == 0 ? 0 : 1;
}

static int by_hand(nm_scope *root) {
    char *name = nm_scope_malloc(root, 20);
    int *numbers = nm_scope_calloc(root, 100, sizeof *numbers); /* zeros; the product is checked */
    void *page = nm_scope_aligned_alloc(root, 4096, 4096);
    if (name == NULL || numbers == NULL || page == NULL || numbers[99] != 0 || (uintptr_t)page % 4096 != 0) return 1;

    char *longer = nm_scope_realloc(root, name, 200); /* NULL would leave name as it was */
    if (longer == NULL || nm_scope_malloc_size(longer) < 200) return 1;
    nm_scope_free(longer); /* from any thread */
    nm_scope_free(numbers);
    nm_scope_free(page);
    return 0;
}

int main(void) {
    nm_scope *root;
    nm_leak_report report;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 4 << 20)) != NM_OK) return 1;
    if (within_a_budget(root) != 0 || by_hand(root) != 0) return 1;

    if (nm_scope_malloc(root, 100) == NULL) return 1; /* forgotten: in the report, and freed */
    if (nm_scope_close(root, &report) != 1 || report.sites[0].kind != NM_LEAK_MALLOC) return 1;
    nm_leak_report_print(&report, stdout);
    return 0;
}
