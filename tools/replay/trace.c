// SPDX-License-Identifier: Apache-2.0 OR MIT
#define _GNU_SOURCE /* O_TMPFILE, mkostemp */
#include "trace.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gzip_check.h"
#include "workload.h"

#define READ_BYTES ((size_t)64 << 10)

struct trace_source {
    int fd; /* of a file that can seek; -1: built-in */
    struct archive *archive;
    const char *block; /* libarchive's, until its next call */
    size_t block_len, block_at;
    bool ended;
    bool checking; /* the first pass over gzip: its checksum is compared */
    bool checked;
    gzip_check gzip;
    uint64_t number; /* of the last line given out */
    uint64_t request_count, seed;
    workload built_in;
    char line[RECORD_LINE_MAX + 1]; /* a line that lies across two blocks, or a built-in one */
};

__attribute__((format(printf, 2, 3))) static bool fail(trace *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(t->error, sizeof t->error, format, args);
    va_end(args);
    return false;
}

/* ---- open ---------------------------------------------------------------------------------------------------------- */

static int open_unlinked(const char *folder) {
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    /* not every file system has nameless files */
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/nebula-replay-XXXXXX", folder);
    if (len < 0 || (size_t)len >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

static bool copy_all(int from, int to) {
    char *buffer = malloc(READ_BYTES);
    if (buffer == NULL) return false;
    bool ok = false;
    for (;;) {
        ssize_t got = read(from, buffer, READ_BYTES);
        if (got < 0 && errno == EINTR) continue;
        ok = got == 0;
        if (got <= 0) break;
        ssize_t done = 0;
        while (done < got) {
            ssize_t put = write(to, buffer + done, (size_t)(got - done));
            if (put < 0 && errno == EINTR) continue;
            if (put < 0) break;
            done += put;
        }
        if (done < got) break;
    }
    int error = errno;
    free(buffer);
    errno = error;
    return ok;
}

/* What cannot be read twice goes, as it comes (compressed, if so), into a temporary file. */
static int spool(trace *t, int fd) {
    const char *folder = getenv("TMPDIR");
    if (folder == NULL || *folder == '\0') folder = "/tmp";
    int copy = open_unlinked(folder);
    if (copy < 0) {
        fail(t, "cannot make a temporary file in %s: %s", folder, strerror(errno));
        return -1;
    }
    if (!copy_all(fd, copy)) {
        fail(t, "cannot copy it to a temporary file in %s: %s", folder, strerror(errno));
        close(copy);
        return -1;
    }
    return copy;
}

static bool add_source(trace *t, int fd) {
    t->source = calloc(1, sizeof *t->source);
    if (t->source == NULL) return fail(t, "out of memory");
    t->source->fd = fd;
    return true;
}

bool trace_open(trace *t, const char *path, record_format format) {
    bool is_stdin = strcmp(path, "-") == 0;
    const char *slash = strrchr(path, '/');
    *t = (trace){.name = slash != NULL && slash[1] != '\0' ? slash + 1 : path, .format = format};

    int fd = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        fail(t, "%s", strerror(errno));
        goto refuse;
    }
    if (S_ISDIR(info.st_mode)) {
        fail(t, "is a directory");
        goto refuse;
    }
    /* Standard input is copied even if it is a file: its offset is shared with whoever handed it over. */
    if (is_stdin || !S_ISREG(info.st_mode)) {
        int copy = spool(t, fd);
        if (copy < 0) goto refuse;
        close(fd);
        fd = copy;
    }
    if (add_source(t, fd)) return true;

refuse:
    if (fd >= 0) close(fd);
    return false;
}

bool trace_open_builtin(trace *t, uint64_t request_count, uint64_t seed) {
    *t = (trace){.name = "built-in", .format = RECORD_TEXT};
    if (!add_source(t, -1)) return false;
    t->source->request_count = request_count;
    t->source->seed = seed;
    return true;
}

void trace_close(trace *t) {
    if (t->source == NULL) return;
    if (t->source->archive != NULL) archive_read_free(t->source->archive);
    if (t->source->fd >= 0) close(t->source->fd);
    free(t->source);
    t->source = NULL;
}

/* ---- read ---------------------------------------------------------------------------------------------------------- */

static bool fail_archive(trace *t, const char *what) {
    const char *why = archive_error_string(t->source->archive);
    if (t->source->number == 0) return fail(t, "%s: %s", what, why != NULL ? why : "damaged or cut short");
    return fail(t, "%s after line %llu: %s", what, (unsigned long long)t->source->number,
                why != NULL ? why : "damaged or cut short");
}

/* A reader that stands before the first byte. False: the error says why. */
static bool restart(trace *t) {
    struct trace_source *s = t->source;
    s->block_len = s->block_at = 0;
    s->ended = false;
    if (s->archive != NULL) archive_read_free(s->archive);
    s->archive = archive_read_new();
    if (s->archive == NULL) return fail(t, "out of memory");
    /* These three and no more: of others some are programs to be run, and some take plain text for theirs. */
    if (archive_read_support_filter_gzip(s->archive) != ARCHIVE_OK ||
        archive_read_support_filter_xz(s->archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(s->archive) != ARCHIVE_OK ||
        archive_read_support_format_raw(s->archive) != ARCHIVE_OK ||
        archive_read_support_format_empty(s->archive) != ARCHIVE_OK)
        return fail_archive(t, "libarchive cannot read gzip, xz and zstd by itself");
    if (lseek(s->fd, 0, SEEK_SET) != 0) return fail(t, "cannot go back to its start: %s", strerror(errno));
    if (archive_read_open_fd(s->archive, s->fd, READ_BYTES) != ARCHIVE_OK) return fail_archive(t, "cannot read");
    struct archive_entry *entry;
    int status = archive_read_next_header(s->archive, &entry);
    if (status == ARCHIVE_EOF) s->ended = true;
    return status == ARCHIVE_EOF || status == ARCHIVE_OK || fail_archive(t, "cannot read");
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

bool trace_rewind(trace *t) {
    struct trace_source *s = t->source;
    s->number = 0;
    if (s->fd < 0) {
        workload_start(&s->built_in, s->request_count, s->seed);
        return true;
    }
    if (!restart(t)) return false;
    if (s->ended) return true;
    bool packed = archive_filter_count(s->archive) > 1; /* the last one counted is the file itself */
    /* Cut so short that its kind is not recognised, it would pass for text. */
    if (!packed && (has_suffix(t->name, ".gz") || has_suffix(t->name, ".xz") || has_suffix(t->name, ".zst")))
        return fail(t, "is not compressed as its name says: damaged or cut short");
    s->checking = !s->checked && packed && archive_filter_code(s->archive, 0) == ARCHIVE_FILTER_GZIP &&
                  archive_filter_count(s->archive) == 2;
    if (s->checking && !gzip_check_start(&s->gzip, s->fd, 0)) return fail(t, "damaged or cut short");
    return true;
}

static bool read_block(trace *t) {
    struct trace_source *s = t->source;
    s->block_at = s->block_len = 0;
    while (!s->ended && s->block_len == 0) {
        const void *block;
        la_int64_t offset;
        int status = archive_read_data_block(s->archive, &block, &s->block_len, &offset);
        if (status == ARCHIVE_EOF) {
            s->block_len = 0;
            s->ended = true;
        } else if (status != ARCHIVE_OK) {
            s->block_len = 0;
            return fail_archive(t, "damaged");
        }
        s->block = block;
    }
    if (s->checking && s->block_len > 0) gzip_check_add(&s->gzip, s->block, s->block_len);
    return true;
}

/* At the end of the first pass. If the file as a whole is not what its end says, its last member may be: that takes a pass
 * of its own. The reader is at the end again afterwards. */
static bool check_gzip(trace *t) {
    struct trace_source *s = t->source;
    bool holds = gzip_check_holds(&s->gzip);
    uint64_t total = s->gzip.total;
    if (!holds && total > s->gzip.wanted_len) {
        if (!restart(t) || !gzip_check_start(&s->gzip, s->fd, total - s->gzip.wanted_len))
            return fail(t, "cannot read it again to check it");
        while (!s->ended)
            if (!read_block(t)) return false;
        holds = gzip_check_holds(&s->gzip);
    }
    s->checking = false;
    s->checked = true;
    return holds || fail(t, "damaged: its checksum is not that of its contents");
}

/* The next piece of the trace, decompressed; of length 0 at its end. */
static bool next_block(trace *t) {
    struct trace_source *s = t->source;
    return read_block(t) && (s->block_len > 0 || !s->checking || check_gzip(t));
}

static trace_status next_line(trace *t, trace_line *out) {
    struct trace_source *s = t->source;
    size_t held = 0; /* bytes of this line that are in s->line */
    bool any = false;
    for (;;) {
        if (s->block_at == s->block_len) {
            if (!next_block(t)) return TRACE_ERROR;
            if (s->block_len == 0) break;
        }
        const char *first = s->block + s->block_at;
        size_t room = s->block_len - s->block_at;
        const char *newline = memchr(first, '\n', room);
        size_t len = newline != NULL ? (size_t)(newline - first) : room;
        s->block_at += len + (newline != NULL);
        any = true;
        if (newline != NULL && held == 0 && len <= RECORD_LINE_MAX) {
            *out = (trace_line){.text = first, .len = len, .number = ++s->number};
            return TRACE_LINE;
        }
        size_t kept = len < sizeof s->line - held ? len : sizeof s->line - held;
        memcpy(s->line + held, first, kept);
        held += kept;
        if (newline != NULL) break;
    }
    if (!any) return TRACE_END;
    *out = (trace_line){.text = s->line, .len = held, .number = ++s->number};
    return TRACE_LINE;
}

static trace_status next_oracle(trace *t, trace_line *out) {
    struct trace_source *s = t->source;
    size_t held = 0;
    while (held < RECORD_ORACLE_BYTES) {
        if (s->block_at == s->block_len) {
            if (!next_block(t)) return TRACE_ERROR;
            if (s->block_len == 0) break;
        }
        size_t room = s->block_len - s->block_at, wanted = RECORD_ORACLE_BYTES - held;
        size_t len = room < wanted ? room : wanted;
        memcpy(s->line + held, s->block + s->block_at, len);
        s->block_at += len;
        held += len;
    }
    if (held == 0) return TRACE_END;
    *out = (trace_line){.text = s->line, .len = held, .number = ++s->number};
    return TRACE_LINE;
}

trace_status trace_next(trace *t, trace_line *out) {
    struct trace_source *s = t->source;
    if (s->fd >= 0) return t->format == RECORD_ORACLE ? next_oracle(t, out) : next_line(t, out);
    size_t len = workload_next(&s->built_in, s->line);
    if (len == 0) return TRACE_END;
    *out = (trace_line){.text = s->line, .len = len, .number = ++s->number};
    return TRACE_LINE;
}
