// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "fake_files.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"

fake_system fake;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for what a race could do twice */

static const char *text_of(const char *path) {
    for (const fake_file *f = fake.files; f != NULL && f->path != NULL; f++)
        if (strcmp(f->path, path) == 0) return f->text;
    return NULL;
}

static ptrdiff_t fake_read(const char *path, uint64_t offset, char *out, size_t bytes) {
    if (++fake.reads == fake.fail_read) return -1;
    const char *text = text_of(path);
    size_t length = text != NULL ? strlen(text) : 0;
    if (offset >= length) return 0;
    size_t got = length - offset < bytes ? length - offset : bytes;
    memcpy(out, text + offset, got);
    return (ptrdiff_t)got;
}

static uint64_t fake_physical(void) { return fake.physical_bytes; }

static int fake_open(const char *path) {
    pthread_mutex_lock(&lock);
    memcpy(fake.tried_before, fake.tried, sizeof fake.tried);
    snprintf(fake.tried, sizeof fake.tried, "%s", path);
    int fd = -1;
    errno = EACCES;
    if (text_of(path) == NULL)
        errno = ENOENT;
    else if (fake.no_open == NULL || strcmp(fake.no_open, path) != 0)
        fd = FAKE_FD + fake.opened++;
    pthread_mutex_unlock(&lock);
    return fd;
}

static void wrong(const char *what) {
    fprintf(stderr, "fake_files: %s\n", what);
    abort();
}

static bool fake_write(int fd, const void *from, size_t bytes) {
    if (fd != FAKE_FD + fake.opened - 1) wrong("written to another than the file opened last");
    if (fake.no_write != NULL && strcmp(fake.no_write, fake.tried) == 0) {
        errno = EOPNOTSUPP;
        return false;
    }
    if (bytes == 0 || ((const char *)from)[bytes - 1] != 0) wrong("the kernel would cut the last byte off");
    if (bytes > sizeof fake.written) wrong("more is written than any trigger has");
    memset(fake.written, 0, sizeof fake.written);
    memcpy(fake.written, from, bytes);
    return true;
}

static void fake_close(int fd) {
    if (fd < FAKE_FD || fd >= FAKE_FD + fake.opened || fake.closed == fake.opened) wrong("closed what was not open");
    fake.closed++;
    errno = EIO; /* so that who reports errno after it is found */
}

void fake_files_install(const fake_file *files, uint64_t physical_bytes) {
    static nm__os table;
    table = nm__os_system;
    table.read_file = fake_read;
    table.physical_bytes = fake_physical;
    table.open_file = fake_open;
    table.write_file = fake_write;
    table.close_file = fake_close;
    memset(&fake, 0, sizeof fake);
    fake.files = files;
    fake.physical_bytes = physical_bytes;
    nm__os_replace(&table);
}

void fake_files_remove(void) { nm__os_replace(NULL); }
