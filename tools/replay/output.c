// SPDX-License-Identifier: Apache-2.0 OR MIT
#define _GNU_SOURCE /* asprintf */
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool complain(const char *path, int error) {
    fprintf(stderr, "nebula-replay: %s: cannot write: %s\n", path, strerror(error));
    return false;
}

static bool write_all(FILE *to, output_fn *write, const void *what) {
    return write(to, what) && fflush(to) == 0 && ferror(to) == 0;
}

/* Where the bytes go. A link is followed, and what is no file (a device, a pipe) is written to as it is. */
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

bool output_check(const char *path) {
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

static bool replace_file(const struct place *place, output_fn *write, const void *what) {
    char *name;
    int fd = open_beside(place, &name);
    if (fd < 0) return false;
    FILE *to = fdopen(fd, "w");
    bool ok = to != NULL && fchmod(fd, place->mode) == 0 && write_all(to, write, what) && fsync(fd) == 0;
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

static bool write_direct(const char *path, output_fn *write, const void *what) {
    FILE *to = fopen(path, "we");
    if (to == NULL) return false;
    bool ok = write_all(to, write, what);
    int error = errno;
    if (fclose(to) != 0 && ok) return false;
    errno = error;
    return ok;
}

bool output_write(const char *path, output_fn *write, const void *what) {
    if (strcmp(path, "-") == 0) return write_all(stdout, write, what) || complain("standard output", errno);
    struct place place;
    if (!find_place(path, &place)) return complain(path, errno);
    bool ok = place.direct ? write_direct(path, write, what) : replace_file(&place, write, what);
    int error = errno;
    free(place.path);
    return ok || complain(path, error);
}
