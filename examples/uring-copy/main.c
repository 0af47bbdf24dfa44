// SPDX-License-Identifier: Apache-2.0 OR MIT
/* uring-copy: options, files, memory, and what is left behind when something fails: nothing. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copy.h"

enum { EXIT_USAGE = 2 };

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

typedef struct options {
    const char *from, *to;
    size_t depth, block_bytes;
    bool huge_pages, vectors, buffered, fsync;
} options;

static const char usage[] =
    "usage: uring-copy [options] FROM TO\n"
    "Copies a file through io_uring, from buffers that are registered with the kernel, past the page cache.\n"
    "TO appears under its name when all of it is there; until then, and after a failure, it is what it was.\n"
    "  --depth N         buffers, so most requests at work at one time; default 8\n"
    "  --block BYTES     size of a buffer, a multiple of 4096; default 262144, with --huge-pages 2097152\n"
    "  --huge-pages      buffers in huge pages\n"
    "  --no-uring        with preadv and pwritev, which is the way where io_uring is refused\n"
    "  --buffered        through the page cache, which is the way where O_DIRECT is refused\n"
    "  --fsync           waits until the copy is on the device";

static bool number(const char *option, const char *text, size_t least, size_t most, size_t multiple, size_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && n >= least && n <= most && n % multiple == 0) {
        *out = (size_t)n;
        return true;
    }
    fprintf(stderr, "uring-copy: %s: \"%s\" is not a number from %zu to %zu", option, text, least, most);
    fprintf(stderr, multiple > 1 ? " and a multiple of %zu\n" : "\n", multiple);
    return false;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, options *o) {
    static const struct option known[] = {
        {"depth", required_argument, NULL, 'd'}, {"block", required_argument, NULL, 'b'},
        {"huge-pages", no_argument, NULL, 'p'},  {"no-uring", no_argument, NULL, 'n'},
        {"buffered", no_argument, NULL, 'c'},    {"fsync", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},        {0}};
    opterr = 0;
    int c;
    bool ok = true;
    while (ok && (c = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        switch (c) {
        case 'd': ok = number("--depth", optarg, 1, 256, 1, &o->depth); break;
        case 'b': ok = number("--block", optarg, COPY_ALIGN, (size_t)64 << 20, COPY_ALIGN, &o->block_bytes); break;
        case 'p': o->huge_pages = true; break;
        case 'n': o->vectors = true; break;
        case 'c': o->buffered = true; break;
        case 'f': o->fsync = true; break;
        case 'h': puts(usage); return EXIT_SUCCESS;
        default:
            fprintf(stderr, "uring-copy: %s: %s\n", argv[optind - 1],
                    c == ':' ? "needs a value"
                             : "no such option, or a value that it does not take (--help lists them)");
            ok = false;
        }
    }
    if (!ok) return EXIT_USAGE;
    if (argc - optind != 2) {
        fprintf(stderr, "uring-copy: %s: FROM and TO are wanted, nothing else\n",
                argc - optind > 2 ? argv[optind + 2] : "arguments");
        return EXIT_USAGE;
    }
    o->from = argv[optind];
    o->to = argv[optind + 1];
    if (o->block_bytes == 0) o->block_bytes = o->huge_pages ? HUGE_PAGE_BYTES : (size_t)256 << 10;
    return -1;
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

/* What is made before it has its name. */
typedef struct target {
    const char *name; /* as it will be called: TO, or what TO is a link to */
    char *folder, *part;
    mode_t mode;
    bool replaces;
} target;

static void open_source(copy *c, const char *name, struct stat *status) {
    c->from_name = name;
    c->from =
        open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold it up, though it is refused below */
    if (c->from < 0 || fstat(c->from, status) != 0)
        copy_fail(c, name, errno, NULL);
    else if (S_ISDIR(status->st_mode))
        copy_fail(c, name, EISDIR, NULL);
    else if (!S_ISREG(status->st_mode))
        copy_fail(c, name, 0, "not a regular file");
    else
        c->bytes = (uint64_t)status->st_size;
}

/* What stands under the name TO already, and whether it may be replaced. */
static void look_at_target(copy *c, const char *name, const struct stat *source, target *t) {
    struct stat status;
    t->name = name;
    t->mode = source->st_mode & 0777;
    if (lstat(name, &status) != 0) {
        if (errno != ENOENT) copy_fail(c, name, errno, NULL);
        return;
    }
    if (S_ISLNK(status.st_mode)) { /* the link stays, and the file behind it is replaced */
        char *real = realpath(name, NULL);
        if (real == NULL || stat(real, &status) != 0) {
            copy_fail(c, name, errno, NULL);
            free(real);
            return;
        }
        t->name = nm_arena_strdup(c->arena, real);
        free(real);
        if (t->name == NULL) {
            copy_fail(c, name, 0, nm_status_text(nm_arena_status(c->arena)));
            return;
        }
    }
    t->mode = status.st_mode & 0777;
    t->replaces = true;
    if (S_ISDIR(status.st_mode))
        copy_fail(c, name, EISDIR, NULL);
    else if (!S_ISREG(status.st_mode))
        copy_fail(c, name, 0, "not a regular file");
    else if (status.st_dev == source->st_dev && status.st_ino == source->st_ino)
        copy_fail(c, name, 0, "the same file as FROM");
    else if (access(t->name, W_OK) != 0)
        copy_fail(c, name, errno, NULL);
}

/* In the folder of TO, so that it can be given the name TO in one step. */
static void create_part(copy *c, const char *name, target *t) {
    c->to_name = name;
    const char *slash = strrchr(t->name, '/');
    int folder = slash != NULL ? (int)(slash - t->name) + 1 : 0;
    t->folder = nm_arena_printf(c->arena, "%.*s.", folder, t->name);
    t->part = nm_arena_printf(c->arena, "%.*s.uring-copy-%ld", folder, t->name, (long)getpid());
    if (nm_arena_status(c->arena) != NM_OK) {
        copy_fail(c, name, 0, nm_status_text(nm_arena_status(c->arena)));
        return;
    }
    c->to = open(t->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, t->mode);
    if (c->to < 0) {
        copy_fail(c, name, errno, NULL);
        t->part = NULL; /* not ours to remove */
        return;
    }
    if (t->replaces && fchmod(c->to, t->mode) != 0) copy_fail(c, name, errno, NULL); /* whatever the umask says */
    /* Now is the time to learn that there is no room for it. Where the system cannot tell, it shows when it is written. */
    if (c->bytes > 0 && fallocate(c->to, 0, 0, (off_t)c->bytes) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        copy_fail(c, name, errno, NULL);
}

static bool set_direct(int file, bool on) {
    int flags = fcntl(file, F_GETFL);
    return flags >= 0 && fcntl(file, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

static bool open_direct(int file, const char *name) {
    if (set_direct(file, true)) return true;
    fprintf(stderr, "uring-copy: %s: O_DIRECT: %s: going through the page cache\n", name, strerror(errno));
    return false;
}

static void sync_folder(copy *c, const char *folder) {
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0 || fsync(file) != 0) copy_fail(c, folder, errno, NULL);
    if (file >= 0) close(file);
}

/* The length as it should be, everything on its way to the device, and only then the name. */
static void finish(copy *c, const options *o, target *t) {
    struct stat from, to;
    if (ftruncate(c->to, (off_t)c->bytes) != 0 || (o->fsync && fsync(c->to) != 0) || fstat(c->to, &to) != 0)
        copy_fail(c, o->to, errno, NULL);
    else if ((uint64_t)to.st_size != c->bytes)
        copy_fail(c, o->to, 0, "has not the size that was written");
    if (fstat(c->from, &from) != 0)
        copy_fail(c, o->from, errno, NULL);
    else if ((uint64_t)from.st_size != c->bytes)
        copy_fail(c, o->from, 0, "has changed its size meanwhile");
    int closed = close(c->to); /* a network file system may say only now that it failed */
    c->to = -1;
    if (closed != 0) copy_fail(c, o->to, errno, NULL);
    if (copy_failed(c)) return;
    if (rename(t->part, t->name) != 0) {
        copy_fail(c, o->to, errno, NULL);
        return;
    }
    t->part = NULL;
    if (o->fsync) sync_folder(c, t->folder);
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

static void open_pool(copy *c, nm_scope *root, const options *o) {
    /* no more than the file needs */
    uint64_t blocks = c->bytes / o->block_bytes + 1;
    c->depth = blocks < o->depth ? (size_t)blocks : o->depth;
    c->block_bytes = o->block_bytes;
    /* All buffers from the beginning: only then have they numbers that can be registered. */
    nm_status st =
        nm_pool_open(&c->pool, root,
                     NM_POOL_OPTIONS(.name = "blocks", .chunk_bytes = o->block_bytes, .prealloc_count = c->depth,
                                     .max_count = c->depth, .align_bytes = o->huge_pages ? HUGE_PAGE_BYTES : COPY_ALIGN,
                                     .huge_pages = o->huge_pages));
    if (st != NM_OK) copy_fail(c, "pool", 0, nm_status_text(st));
}

/* ---- the copy ------------------------------------------------------------------------------------------------------ */

/* Returns the way that was taken. */
static const char *run(copy *c, bool vectors) {
    int error;
    if (!vectors) {
        if (copy_by_uring(c, &error)) return "io_uring";
        fprintf(stderr, "uring-copy: io_uring: %s: copying with preadv and pwritev\n", strerror(error));
    }
    copy_by_vectors(c);
    return "preadv and pwritev";
}

static void copy_file(copy *c, nm_scope *root, const options *o, target *t) {
    struct stat source;
    open_source(c, o->from, &source);
    if (!copy_failed(c)) look_at_target(c, o->to, &source, t);
    if (!copy_failed(c)) open_pool(c, root, o);
    if (!copy_failed(c)) create_part(c, o->to, t);
    if (copy_failed(c)) return;
    c->from_direct = !o->buffered && open_direct(c->from, o->from);
    c->to_direct = !o->buffered && open_direct(c->to, o->to);

    const char *way = run(c, o->vectors);
    if (c->error == EINVAL && (c->from_direct || c->to_direct)) {
        /* There are file systems that take the flag and refuse the requests, and devices with larger blocks. */
        fprintf(stderr, "uring-copy: %s: O_DIRECT: %s: going through the page cache\n", c->what, c->why);
        if (set_direct(c->from, false) && set_direct(c->to, false)) {
            c->from_direct = c->to_direct = false;
            c->what = NULL;
            c->error = 0;
            way = run(c, o->vectors);
        }
    }
    if (!copy_failed(c)) finish(c, o, t);
    if (!copy_failed(c))
        printf("uring-copy: %llu bytes, %s, read %s, written %s, %zu of %zu buffers at work at most\n",
               (unsigned long long)c->bytes, way, c->from_direct ? "past the page cache" : "through it",
               c->to_direct ? "past the page cache" : "through it", c->peak, c->depth);
}

static void on_signal(int number) { copy_signal = number; }

int main(int argc, char **argv) {
    options o = {.depth = 8};
    int status = parse(argc, argv, &o);
    if (status >= 0) return status;

    struct sigaction end = {.sa_handler = on_signal}; /* no SA_RESTART: a call that waits returns */
    sigemptyset(&end.sa_mask);
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGHUP, &end, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file too large is an error like others */

    copy c = {.from = -1, .to = -1};
    target t = {0};
    nm_scope *root;
    nm_status st = nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "uring-copy", .hard_bytes = NM_BYTES_AUTO));
    if (st == NM_OK) {
        st = nm_arena_open(&c.arena, root, NM_ARENA_OPTIONS(.name = "requests"));
        if (st != NM_OK) nm_scope_close(root, NULL);
    }
    if (st != NM_OK) {
        fprintf(stderr, "uring-copy: memory: %s\n", nm_status_text(st));
        return EXIT_FAILURE;
    }
    copy_file(&c, root, &o, &t);
    if (t.part != NULL && unlink(t.part) != 0)
        fprintf(stderr, "uring-copy: %s: could not be removed: %s\n", t.part, strerror(errno));
    if (c.from >= 0) close(c.from);
    if (c.to >= 0) close(c.to);
    if (copy_failed(&c)) fprintf(stderr, "uring-copy: %s: %s\n", c.what, c.why);

    nm_leak_report report;
    size_t leaks = nm_scope_close(root, &report);
    if (leaks > 0) nm_leak_report_print(&report, stderr);
    return copy_failed(&c) || leaks > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
