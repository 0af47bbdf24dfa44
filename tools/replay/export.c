// SPDX-License-Identifier: Apache-2.0 OR MIT
#define _GNU_SOURCE /* asprintf */
#include "export.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool complain(const char *path, int error) {
    fprintf(stderr, "nebula-replay: %s: cannot write: %s\n", path, strerror(error));
    return false;
}

/* ---- formats -------------------------------------------------------------------------------------------------------- */

/* RFC 4180: quoted where it must be. */
static void write_csv_text(FILE *to, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text != '\0'; text++) {
        if (*text == '"') fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

static bool write_csv(FILE *to, const export_row *rows, size_t count) {
    fputs("trace,policy,objective,threads,budget_bytes,requests,object_miss_ratio,byte_miss_ratio,evictions,rejections,"
          "used_bytes,granted_bytes,rss_peak_bytes,requests_per_second,p50_ns,p99_ns,p999_ns,leaks\n",
          to);
    for (size_t i = 0; i < count; i++) {
        const run_plan *p = &rows[i].plan;
        const run_result *r = &rows[i].result;
        write_csv_text(to, rows[i].trace);
        fprintf(to, ",%s,%s,%u,%llu,%llu,%.6f,%.6f,%llu,%llu,%llu,%llu,%llu,%.0f,%llu,%llu,%llu,%llu\n",
                p->policy->name, p->objective, p->thread_count, (unsigned long long)p->budget_bytes,
                (unsigned long long)r->request_count, r->object_miss_ratio, r->byte_miss_ratio,
                (unsigned long long)r->evictions, (unsigned long long)r->rejections, (unsigned long long)r->used_bytes,
                (unsigned long long)r->granted_bytes, (unsigned long long)r->rss_peak_bytes, r->requests_per_second,
                (unsigned long long)r->p50_ns, (unsigned long long)r->p99_ns, (unsigned long long)r->p999_ns,
                (unsigned long long)r->leaks);
    }
    return true;
}

/* A file name is any bytes, JSON is UTF-8: what is not becomes question marks. */
static json_t *json_text(const char *text) {
    json_t *value = json_string(text);
    if (value != NULL) return value;
    char *copy = strdup(text);
    if (copy == NULL) return NULL;
    for (char *p = copy; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80) *p = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

static json_t *json_row(const export_row *row) {
    const run_plan *p = &row->plan;
    const run_result *r = &row->result;
    return json_pack("{s:o, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", //
                     "trace", json_text(row->trace), "policy", p->policy->name, "objective", p->objective,         //
                     "threads", (json_int_t)p->thread_count, "budget_bytes", (json_int_t)p->budget_bytes,          //
                     "requests", (json_int_t)r->request_count, "object_miss_ratio", r->object_miss_ratio,
                     "byte_miss_ratio", r->byte_miss_ratio, "evictions", (json_int_t)r->evictions,     //
                     "rejections", (json_int_t)r->rejections, "used_bytes", (json_int_t)r->used_bytes, //
                     "granted_bytes", (json_int_t)r->granted_bytes, "rss_peak_bytes", (json_int_t)r->rss_peak_bytes,
                     "requests_per_second", (json_int_t)llround(r->requests_per_second), //
                     "p50_ns", (json_int_t)r->p50_ns, "p99_ns", (json_int_t)r->p99_ns,   //
                     "p999_ns", (json_int_t)r->p999_ns, "leaks", (json_int_t)r->leaks);
}

static bool write_json(FILE *to, const export_row *rows, size_t count) {
    json_t *array = json_array();
    bool ok = array != NULL;
    for (size_t i = 0; ok && i < count; i++) ok = json_array_append_new(array, json_row(&rows[i])) == 0;
    errno = ENOMEM; /* the only way in which building it fails; writing sets its own */
    ok = ok && json_dumpf(array, to, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) == 0;
    json_decref(array);
    return ok && fputc('\n', to) != EOF;
}

static bool write_rows(FILE *to, export_format format, const export_row *rows, size_t count) {
    bool ok = format == EXPORT_CSV ? write_csv(to, rows, count) : write_json(to, rows, count);
    return fflush(to) == 0 && ok && ferror(to) == 0;
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

/* Where the rows go. A link is followed, and what is no file (a device, a pipe) is written to as it is. */
struct place {
    char *path;  /* to be freed */
    bool direct; /* no file: no rename */
    mode_t mode;
};

static bool find_place(const char *path, struct place *out) {
    struct stat info;
    bool present = stat(path, &info) == 0;
    if (!present && errno != ENOENT) return false;
    mode_t mask = umask(0);
    umask(mask);
    out->mode = present ? info.st_mode & 0777 : 0666 & ~mask;
    out->direct = present && !S_ISREG(info.st_mode);
    out->path = present && !out->direct ? realpath(path, NULL) : strdup(path);
    return out->path != NULL;
}

/* A new file beside the place; *name is its name, to be freed. */
static int open_beside(const struct place *place, char **name) {
    if (asprintf(name, "%s.XXXXXX", place->path) < 0) {
        *name = NULL;
        errno = ENOMEM;
        return -1;
    }
    int fd = mkstemp(*name);
    if (fd >= 0) return fd;
    int error = errno;
    free(*name);
    *name = NULL;
    errno = error;
    return -1;
}

bool export_check(const char *path) {
    if (strcmp(path, "-") == 0) return true;
    struct place place;
    if (!find_place(path, &place)) return complain(path, errno);
    int error = 0;
    if (place.direct) {
        if (access(path, W_OK) != 0) error = errno;
    } else {
        char *name;
        int fd = open_beside(&place, &name);
        if (fd < 0) {
            error = errno;
        } else {
            close(fd);
            unlink(name);
            free(name);
        }
    }
    free(place.path);
    return error == 0 || complain(path, error);
}

static bool replace_file(const struct place *place, export_format format, const export_row *rows, size_t count) {
    char *name;
    int fd = open_beside(place, &name);
    if (fd < 0) return false;
    FILE *to = fdopen(fd, "w");
    bool ok = to != NULL && fchmod(fd, place->mode) == 0 && write_rows(to, format, rows, count) && fsync(fd) == 0;
    int error = errno;
    if (to == NULL) {
        close(fd);
    } else if (fclose(to) != 0 && ok) {
        error = errno;
        ok = false;
    }
    if (ok && rename(name, place->path) != 0) {
        error = errno;
        ok = false;
    }
    if (!ok) unlink(name);
    free(name);
    errno = error;
    return ok;
}

static bool write_direct(const char *path, export_format format, const export_row *rows, size_t count) {
    FILE *to = fopen(path, "we");
    if (to == NULL) return false;
    bool ok = write_rows(to, format, rows, count);
    int error = errno;
    if (fclose(to) != 0 && ok) return false;
    errno = error;
    return ok;
}

bool export_rows(const char *path, export_format format, const export_row *rows, size_t count) {
    if (strcmp(path, "-") == 0) return write_rows(stdout, format, rows, count) || complain("standard output", errno);
    struct place place;
    if (!find_place(path, &place)) return complain(path, errno);
    bool ok = place.direct ? write_direct(path, format, rows, count) : replace_file(&place, format, rows, count);
    int error = errno;
    free(place.path);
    return ok || complain(path, error);
}
