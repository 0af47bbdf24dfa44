// SPDX-License-Identifier: Apache-2.0 OR MIT
// The C++ way to open things: the _init functions in place of C's compound literals.
#include <cstdio>
#include <cstring>
#include <nebula/memory.h>

static int fail(const char *what, nm_status status) {
    std::fprintf(stderr, "%s: %s\n", what, nm_status_text(status));
    return 1;
}

int main() {
    nm_scope_options so = nm_scope_options_init();
    so.name = "c++";
    so.hard_bytes = 8u << 20;
    nm_scope *scope = nullptr;
    nm_status status = nm_scope_open(&scope, nullptr, &so);
    if (status != NM_OK) return fail("nm_scope_open", status);

    nm_arena_options ao = nm_arena_options_init();
    ao.capacity_bytes = 64u << 10;
    nm_arena *arena = nullptr;
    status = nm_arena_open(&arena, scope, &ao);
    if (status != NM_OK) return fail("nm_arena_open", status);
    char *text = nm_arena_strdup(arena, "text");
    if (text == nullptr || std::strcmp(text, "text") != 0) return fail("nm_arena_strdup", nm_arena_status(arena));
    long *numbers = NM_NEW_ARRAY(arena, long, 100);
    if (numbers == nullptr || numbers[99] != 0) return fail("NM_NEW_ARRAY", nm_arena_status(arena));

    nm_pool_options po = nm_pool_options_init();
    po.chunk_bytes = 4096;
    nm_pool *pool = nullptr;
    status = nm_pool_open(&pool, scope, &po);
    if (status != NM_OK) return fail("nm_pool_open", status);

    nm_cache_options co = nm_cache_options_init();
    co.budget_bytes = 1u << 20;
    nm_cache *cache = nullptr;
    status = nm_cache_open(&cache, scope, &co);
    if (status != NM_OK) return fail("nm_cache_open", status);
    status = nm_cache_put(cache, "k", 1, "v", 1);
    if (status != NM_OK) return fail("nm_cache_put", status);

    return nm_scope_close(scope, nullptr) == 0 ? 0 : 1;
}
