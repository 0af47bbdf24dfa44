// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula/base.h: what all parts share: status values, sites, the misuse handler, the version. */
#ifndef NEBULA_BASE_H
#define NEBULA_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NM_VERSION_MAJOR 0
#define NM_VERSION_MINOR 1
#define NM_VERSION_PATCH 0

#define NM__STR_(x) #x
#define NM__STR(x)  NM__STR_(x)
#define NM_VERSION  NM__STR(NM_VERSION_MAJOR) "." NM__STR(NM_VERSION_MINOR) "." NM__STR(NM_VERSION_PATCH)

/* Marks what the shared library exports. */
#define NM_API                         __attribute__((__visibility__("default")))
#define NM_NODISCARD                   __attribute__((__warn_unused_result__))
#define NM_ALLOC_SIZE(...)             __attribute__((__alloc_size__(__VA_ARGS__)))
#define NM_PRINTF(string_index, first) __attribute__((__format__(__printf__, string_index, first)))
#define NM_LIKELY(x)                   __builtin_expect(!!(x), 1)
#define NM_UNLIKELY(x)                 __builtin_expect(!!(x), 0)

/* Every pointer that the library hands out is a multiple of this many bytes, if not asked for more. (A cache's values: of 8,
 * and of this where their length is a multiple of it, as that of all types is which need it.) */
#define NM_ALIGN ((size_t)16)

/* The caller's file and line as one constant pointer. Functions that grant, hold or release exist as X_at(..., site);
 * X is a macro that passes NM_SITE, and a plain function beside it, for pointers and bindings, with site "?". */
#define NM_SITE (__FILE__ ":" NM__STR(__LINE__))

/* A time to live that does not end. */
#define NM_TTL_NEVER UINT64_MAX

/* As a root's hard_bytes: what the machine allows, see nm_scope_options. */
#define NM_BYTES_AUTO SIZE_MAX

/* Bytes of a name that are kept, its final 0 included; a longer name is cut. */
#define NM_NAME_BYTES 32

/* name, value, text */
#define NM_STATUS_LIST(X)                                                                                              \
    X(NM_OK, 0, "success")                                                                                             \
    X(NM_ENOMEM, -1, "the system refused memory")                                                                      \
    X(NM_EBUDGET, -2, "the scope's hard limit refused the bytes")                                                      \
    X(NM_ECAPACITY, -3, "the object's own capacity is reached")                                                        \
    X(NM_EINVAL, -4, "an argument or option is out of its range")                                                      \
    X(NM_ETOOLARGE, -5, "the size is larger than can ever fit")                                                        \
    X(NM_ENOTFOUND, -6, "no such entry")                                                                               \
    X(NM_EEXISTS, -7, "the entry is already present")                                                                  \
    X(NM_ESTALE, -8, "the mark, version or handle is no longer the current one")                                       \
    X(NM_ETIMEDOUT, -9, "the time ran out")                                                                            \
    X(NM_EBUSY, -10, "still in use")                                                                                   \
    X(NM_ECLOSED, -11, "already closed")                                                                               \
    X(NM_EFORMAT, -12, "the input is malformed")                                                                       \
    X(NM_ESYSTEM, -13, "a system call failed")

typedef enum nm_status {
#define NM__STATUS_ENUM(name, value, text) name = (value),
    NM_STATUS_LIST(NM__STATUS_ENUM)
#undef NM__STATUS_ENUM
} nm_status;

/* The status as it is written in C ("NM_EBUDGET"), and as a sentence for a log. Any value is answered; the string is
 * constant and never NULL. Any thread. O(1). */
NM_API const char *nm_status_name(nm_status status);
NM_API const char *nm_status_text(nm_status status);

/* What a misuse handler is told. Strings are constant or live until the handler returns; any of them may be NULL. */
typedef struct nm_misuse {
    const char *what;        /* "lease released twice" */
    const char *part;        /* "pool", "cache", ... */
    const char *name;        /* the name given to that pool or cache */
    const void *address;     /* the buffer or entry in question */
    const char *site;        /* the call that was found to be wrong */
    const char *leased_at;   /* where the thing was leased, pinned or reserved last */
    const char *released_at; /* where it was released last */
} nm_misuse;

typedef void nm_misuse_fn(const nm_misuse *misuse, void *context);

/* Installs the handler of detected misuse: a lease released twice, a foreign pointer. NULL brings back the default, which
 * prints what, where leased and where released to standard error and aborts. If a handler returns, the call that was
 * found wrong does nothing. The handler may be called on any thread, with no lock of the library held.
 * Process-wide; meant to be set once, early. Any thread. O(1). */
NM_API void nm_set_misuse_handler(nm_misuse_fn *handler, void *context);

/* The version of the library that is linked, which may differ from NM_VERSION, that of the header. Constant. O(1). */
NM_API const char *nm_version(void);

#ifdef __cplusplus
}
#endif

#endif
