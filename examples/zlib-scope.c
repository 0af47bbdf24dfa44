// SPDX-License-Identifier: Apache-2.0 OR MIT
/* zlib in a scope of its own: its memory is charged, limited, and none of it is left when the scope closes. */
#include <nebula/memory.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

static void *take(void *scope, uInt count, uInt size) { return nm_scope_calloc(scope, count, size); }
static void give(void *scope, void *p) {
    (void)scope;
    nm_scope_free(p);
}

static void end_deflate(void *stream) { deflateEnd(stream); }
static void end_inflate(void *stream) { inflateEnd(stream); }

static unsigned char text[200000], packed[200000], unpacked[200000];

/* Both streams live until the scope closes: it ends them first, then finds their memory freed. */
static bool round_trip(nm_scope *scope, z_stream *out, z_stream *in) {
    *out = (z_stream){.zalloc = take, .zfree = give, .opaque = scope};
    *in = *out;
    CHECK(deflateInit(out, Z_BEST_COMPRESSION) == Z_OK);
    CHECK(nm_scope_defer(scope, end_deflate, out) == NM_OK);
    CHECK(inflateInit(in) == Z_OK);
    CHECK(nm_scope_defer(scope, end_inflate, in) == NM_OK);

    out->next_in = text;
    out->avail_in = sizeof text;
    out->next_out = packed;
    out->avail_out = sizeof packed;
    CHECK(deflate(out, Z_FINISH) == Z_STREAM_END);
    in->next_in = packed;
    in->avail_in = (uInt)out->total_out;
    in->next_out = unpacked;
    in->avail_out = sizeof unpacked;
    CHECK(inflate(in, Z_FINISH) == Z_STREAM_END);
    CHECK(in->total_out == sizeof text && memcmp(text, unpacked, sizeof text) == 0);
    return true;
}

static bool works(nm_scope *root) {
    enum { HARD = 1 << 20 };
    nm_scope *scope;
    nm_scope_stats stats;
    z_stream out, in;
    CHECK(nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "zlib", .hard_bytes = HARD)) == NM_OK);
    bool done = round_trip(scope, &out, &in);
    nm_scope_get_stats(scope, &stats);
    size_t leaks = nm_scope_close(scope, NULL);
    CHECK(done && leaks == 0);
    /* a deflate stream of the default size is 256 KiB and more: all of it is here */
    CHECK(stats.used_bytes > 256 << 10 && stats.granted_bytes >= stats.used_bytes && stats.granted_bytes <= HARD);
    printf("%zu bytes packed into %lu and back: %zu bytes charged, %zu leaks\n", sizeof text, out.total_out,
           stats.granted_bytes, leaks);
    return true;
}

/* zlib's own answer where memory is short. */
static bool is_refused_cleanly(nm_scope *root) {
    nm_scope *scope;
    nm_scope_stats stats;
    CHECK(nm_scope_open(&scope, root, NM_SCOPE_OPTIONS(.name = "zlib", .hard_bytes = 100 << 10)) == NM_OK);
    z_stream out = {.zalloc = take, .zfree = give, .opaque = scope};
    int code = deflateInit(&out, Z_BEST_COMPRESSION);
    nm_scope_get_stats(scope, &stats);
    size_t leaks = nm_scope_close(scope, NULL);
    CHECK(code == Z_MEM_ERROR && leaks == 0);
    CHECK(stats.last_refusal.status == NM_EBUDGET && stats.granted_bytes <= 100 << 10);
    printf("in 100 KiB: zlib says %d, the scope: %s\n", code, nm_status_text(stats.last_refusal.status));
    return true;
}

int main(void) {
    for (size_t i = 0; i < sizeof text; i++) text[i] = (unsigned char)(i * i / 1000 + i % 13);
    nm_scope *root;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "program", .hard_bytes = 16 << 20)) != NM_OK) return 1;
    bool ok = works(root) && is_refused_cleanly(root);
    return nm_scope_close(root, NULL) == 0 && ok ? 0 : 1;
}
