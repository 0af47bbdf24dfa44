// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Finds the process's control groups in the file system and reads their limits. */
#include "os/limits.h"

#include <errno.h>
#include <string.h>

#include "base/math.h"
#include "os/os.h"

#define NO_LIMIT SIZE_MAX

/* The kernel's longest path, its final 0 included. */
#define PATH_BYTES ((size_t)4096)
/* Room for "/" and the name of a group's file behind the path of a group. */
#define NAME_BYTES ((size_t)32)
/* Longer lines are skipped: they are of other mounts, whose options have no bound (the layers of an overlay, say). */
#define LINE_BYTES ((size_t)8192)

/* Stalls of 150 ms within 2 s. Without privileges the kernel takes windows of whole multiples of 2 s only. */
#define TRIGGER "some 150000 2000000"

/* ---- the kernel's lines ------------------------------------------------------------------------------------------ */

size_t nm__limit_value(const char *text) {
    size_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (nm__mul_overflows(value, (size_t)10, &value) || nm__add_overflows(value, (size_t)(*p - '0'), &value))
            return NO_LIMIT;
    if (p == text || (*p != 0 && *p != '\n')) return NO_LIMIT;
    return value < NM__BYTES_MAX ? value : NO_LIMIT;
}

/* True if the word stands in the list, which has commas between its words and ends at `end`. */
static bool list_has(const char *list, const char *end, const char *word) {
    size_t length = strlen(word);
    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma != NULL ? comma : end;
        if ((size_t)(stop - list) == length && memcmp(list, word, length) == 0) return true;
        list = stop + 1;
    }
    return false;
}

const char *nm__group_line(const char *line, nm__group_version version) {
    /* number:controllers:path; the path may have colons of its own */
    const char *first = strchr(line, ':');
    const char *second = first != NULL ? strchr(first + 1, ':') : NULL;
    if (second == NULL || second[1] != '/') return NULL;
    bool unified = first == line + 1 && *line == '0' && second == first + 1;
    bool wanted = version == NM__GROUP_V2 ? unified : list_has(first + 1, second, "memory");
    return wanted ? second + 1 : NULL;
}

/* Cuts the next field off *rest, which is NULL after the last. Fields may be empty. */
static char *cut_field(char **rest) {
    char *field = *rest;
    if (field == NULL) return NULL;
    char *space = strchr(field, ' ');
    if (space != NULL) *space++ = 0;
    *rest = space;
    return field;
}

static bool is_octal(char c) { return c >= '0' && c <= '7'; }

/* \040 and the like, in place: the kernel writes white space and backslashes so. */
static void unescape(char *text) {
    char *to = text;
    for (const char *p = text; *p != 0; to++) {
        if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && is_octal(p[2]) && is_octal(p[3])) {
            *to = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
            p += 4;
        } else {
            *to = *p++;
        }
    }
    *to = 0;
}

bool nm__mount_line(char *line, nm__group_version version, char **root, char **point) {
    /* mount parent device ROOT POINT options [tag...] - TYPE source OPTIONS */
    char *rest = line;
    for (int i = 0; i < 3; i++) cut_field(&rest);
    *root = cut_field(&rest);
    *point = cut_field(&rest);
    cut_field(&rest);
    const char *tag = cut_field(&rest);
    while (tag != NULL && strcmp(tag, "-") != 0) tag = cut_field(&rest);
    const char *type = cut_field(&rest);
    cut_field(&rest);
    const char *options = cut_field(&rest);
    if (options == NULL || **root != '/' || **point != '/') return false;
    if (version == NM__GROUP_V2) {
        if (strcmp(type, "cgroup2") != 0) return false;
    } else {
        if (strcmp(type, "cgroup") != 0 || !list_has(options, options + strlen(options), "memory")) return false;
    }
    unescape(*root);
    unescape(*point);
    return true;
}

const char *nm__group_below(const char *group, const char *root) {
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(group, root, length) != 0) return NULL;
    const char *rest = group + length;
    if (*rest != 0 && *rest != '/') return NULL;
    for (const char *p = strstr(rest, "/.."); p != NULL; p = strstr(p + 1, "/.."))
        if (p[3] == 0 || p[3] == '/') return NULL;
    return strcmp(rest, "/") == 0 ? "" : rest;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* A file read line by line, for there may be thousands of mounts. */
typedef struct lines {
    const nm__os *os;
    const char *path;
    uint64_t offset;
    size_t begin, end; /* of what is read and not yet given out */
    bool skipping;     /* inside a line that is too long */
    bool refused;
    char text[LINE_BYTES];
} lines;

static void lines_open(lines *l, const nm__os *os, const char *path) {
    l->os = os;
    l->path = path;
    l->offset = 0;
    l->begin = l->end = 0;
    l->skipping = l->refused = false;
}

/* False: at the end of the file, or refused. */
static bool read_on(lines *l) {
    memmove(l->text, l->text + l->begin, l->end - l->begin);
    l->end -= l->begin;
    l->begin = 0;
    if (l->end == LINE_BYTES - 1) {
        l->skipping = true;
        l->end = 0;
    }
    ptrdiff_t got = l->os->read_file(l->path, l->offset, l->text + l->end, LINE_BYTES - 1 - l->end);
    l->refused = got < 0;
    if (got <= 0) return false;
    l->end += (size_t)got;
    l->offset += (size_t)got;
    return true;
}

/* Without its end of line; NULL: no more. Lives until the next call. */
static char *next_line(lines *l) {
    for (;;) {
        char *line = l->text + l->begin;
        char *newline = memchr(line, '\n', l->end - l->begin);
        bool skip = l->skipping;
        if (newline != NULL) {
            *newline = 0;
            l->begin = (size_t)(newline + 1 - l->text);
            l->skipping = false;
            if (!skip) return line;
        } else if (!read_on(l)) {
            bool last = !l->refused && !l->skipping && l->end != 0;
            l->text[l->end] = 0;
            l->begin = l->end = 0;
            return last ? l->text : NULL;
        }
    }
}

/* Where the process's group lies in the file system. */
typedef struct place {
    bool found;
    size_t mount_length; /* of `path`: the groups lie behind it */
    size_t length;
    char path[PATH_BYTES + NAME_BYTES];
} place;

/* What does not fit is left out: no such path can be opened. */
static void set_place(place *p, const char *point, const char *below) {
    size_t mount_length = strcmp(point, "/") == 0 ? 0 : strlen(point);
    size_t below_length = strlen(below);
    if (mount_length >= PATH_BYTES || below_length >= PATH_BYTES - mount_length) return;
    memcpy(p->path, point, mount_length);
    memcpy(p->path + mount_length, below, below_length);
    p->mount_length = mount_length;
    p->length = mount_length + below_length;
    p->found = true;
}

/* False: the system has no means to look. */
static bool find_place(const nm__os *os, nm__group_version version, place *out) {
    lines l;
    char group[PATH_BYTES];
    size_t group_length = 0;
    out->found = false;
    lines_open(&l, os, "/proc/self/cgroup");
    for (const char *line; group_length == 0 && (line = next_line(&l)) != NULL;) {
        const char *path = nm__group_line(line, version);
        if (path == NULL || strlen(path) >= PATH_BYTES) continue;
        group_length = strlen(path);
        memcpy(group, path, group_length + 1);
    }
    if (l.refused) return false;
    if (group_length == 0) return true;

    /* A hierarchy may be mounted more than once, a container's from the container's own group on. The mount with the shortest
     * root above our group shows the most of the groups above it. Where none is above it, the first is taken as it is:
     * what a container sees there is the nearest to its group that can be known. */
    size_t shortest = SIZE_MAX;
    lines_open(&l, os, "/proc/self/mountinfo");
    for (char *line; (line = next_line(&l)) != NULL;) {
        char *root, *point;
        if (!nm__mount_line(line, version, &root, &point)) continue;
        const char *below = nm__group_below(group, root);
        if (below != NULL && strlen(root) < shortest) {
            shortest = strlen(root);
            set_place(out, point, below);
        } else if (below == NULL && !out->found) {
            set_place(out, point, "");
        }
    }
    return !l.refused;
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

/* Lowers *least to what the group's file says. False: no means to look. */
static bool read_limit(const nm__os *os, place *group, size_t length, const char *name, size_t *least) {
    char text[NAME_BYTES];
    memcpy(group->path + length, name, strlen(name) + 1);
    ptrdiff_t got = os->read_file(group->path, 0, text, sizeof text - 1);
    if (got < 0) return false;
    text[got] = 0;
    *least = nm__min(*least, nm__limit_value(text));
    return true;
}

/* Of the group and of all above it: a group may have more than what is above it allows. */
static bool read_limits(const nm__os *os, nm__group_version version, size_t *least) {
    /* at `high` the kernel throttles the group until it hardly runs: no less a limit to a service than `max` */
    static const char *const files[][2] = {
        [NM__GROUP_V1] = {"/memory.limit_in_bytes", NULL},
        [NM__GROUP_V2] = {"/memory.max", "/memory.high"},
    };
    place group;
    if (!find_place(os, version, &group)) return false;
    if (!group.found) return true;
    for (size_t length = group.length;;) {
        for (size_t i = 0; i < 2 && files[version][i] != NULL; i++)
            if (!read_limit(os, &group, length, files[version][i], least)) return false;
        if (length == group.mount_length) return true;
        do length--;
        while (length > group.mount_length && group.path[length] != '/');
    }
}

bool nm__memory_limit(size_t *bytes) {
    const nm__os *os = nm__os_get();
    size_t least = NO_LIMIT;
    /* Both: beside a first version that counts memory the second may be mounted without, and has no such files then. */
    if (!read_limits(os, NM__GROUP_V2, &least) || !read_limits(os, NM__GROUP_V1, &least)) return false;
    uint64_t physical = os->physical_bytes();
    if (physical != 0) least = nm__min(least, nm__min(physical, NM__BYTES_MAX));
    *bytes = least;
    return least != NO_LIMIT;
}

/* ---- pressure ---------------------------------------------------------------------------------------------------- */

static int open_trigger(const nm__os *os, const char *path) {
    int file = os->open_file(path);
    /* with its final 0: the kernel ends the text at the last byte it is given */
    if (file < 0 || os->write_file(file, TRIGGER, sizeof TRIGGER)) return file;
    int error = errno; /* which the caller is to see, not the close's */
    os->close_file(file);
    errno = error;
    return -1;
}

int nm__pressure_open(void) {
    const nm__os *os = nm__os_get();
    place group;
    int file = -1;
    if (find_place(os, NM__GROUP_V2, &group) && group.found) {
        memcpy(group.path + group.length, "/memory.pressure", sizeof "/memory.pressure");
        file = open_trigger(os, group.path);
    }
    return file >= 0 ? file : open_trigger(os, "/proc/pressure/memory");
}
