// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/math.h"
#include "os/os.h"

static void *reserve(size_t bytes, size_t align) {
    /* Asks for `align` more than needed and cuts both ends: one call where the kernel's own alignment is enough. */
    size_t slack = align > NM__PAGE_BYTES ? align : 0;
    size_t asked;
    if (nm__add_overflows(bytes, slack, &asked)) return NULL;
    unsigned char *p = mmap(NULL, asked, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t head = slack != 0 ? (size_t)(-(uintptr_t)p & (align - 1)) : 0;
    if (head != 0) munmap(p, head);
    if (slack - head != 0) munmap(p + head + bytes, slack - head);
    return p + head;
}

static void unreserve(void *address, size_t bytes) {
    /* Fails only if the kernel cannot split a mapping; the addresses are lost then, but no memory is. */
    if (munmap(address, bytes) != 0) madvise(address, bytes, MADV_DONTNEED);
}

static bool commit(void *address, size_t bytes) { return mprotect(address, bytes, PROT_READ | PROT_WRITE) == 0; }

static bool decommit(void *address, size_t bytes) {
    /* The protection stays: another mprotect would cost a mapping of its own for every piece given back. */
    return madvise(address, bytes, MADV_DONTNEED) == 0;
}

static bool use_huge_pages(void *address, size_t bytes) { return madvise(address, bytes, MADV_HUGEPAGE) == 0; }

/* Linux 6.1; older headers do not name it. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
static bool make_huge_pages(void *address, size_t bytes) { return madvise(address, bytes, MADV_COLLAPSE) == 0; }

static bool keep_out_of_dumps(void *address, size_t bytes) { return madvise(address, bytes, MADV_DONTDUMP) == 0; }

static uint64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t clock_coarse_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static bool random_bytes(void *out, size_t bytes) {
    unsigned char *p = out;
    /* A few tries: a signal may interrupt, and a short answer is allowed above 256 bytes. */
    for (int tries = 0; bytes > 0 && tries < 16; tries++) {
        ssize_t got = getrandom(p, bytes, 0);
        if (got < 0 && errno != EINTR) return false;
        if (got > 0) {
            p += got;
            bytes -= (size_t)got;
        }
    }
    return bytes == 0;
}

static size_t page_bytes(void) {
    long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (size_t)n : 0;
}

static uint64_t physical_bytes(void) {
    struct sysinfo info;
    uint64_t bytes;
    if (sysinfo(&info) != 0 || nm__mul_overflows((uint64_t)info.totalram, (uint64_t)info.mem_unit, &bytes)) return 0;
    return bytes;
}

static int open_again(const char *path, int flags) {
    int file;
    do file = open(path, flags | O_CLOEXEC | O_NOCTTY);
    while (file < 0 && errno == EINTR);
    return file;
}

static bool no_means(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

static ptrdiff_t read_file(const char *path, uint64_t offset, char *out, size_t bytes) {
    int file = open_again(path, O_RDONLY);
    if (file < 0) return no_means(errno) ? -1 : 0;
    size_t got = 0;
    bool refused = false;
    while (got < bytes) {
        ssize_t n = pread(file, out + got, bytes - got, (off_t)(offset + got));
        if (n > 0) {
            got += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            refused = n < 0 && no_means(errno);
            break;
        }
    }
    close(file);
    return refused ? -1 : (ptrdiff_t)got;
}

static int open_file(const char *path) { return open_again(path, O_RDWR | O_NONBLOCK); }

static bool write_file(int file, const void *from, size_t bytes) {
    ssize_t n;
    do n = write(file, from, bytes);
    while (n < 0 && errno == EINTR);
    if (n >= 0 && (size_t)n != bytes) errno = EIO;
    return n >= 0 && (size_t)n == bytes;
}

static void close_file(int file) { close(file); }

static int membarrier(int command) { return (int)syscall(SYS_membarrier, command, 0, 0); }

static bool barrier(void) {
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return true;
    /* Not registered: the process's first call, or the first of a child. */
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
           membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
}

static void wait_on(const uint32_t *word, uint32_t value, uint64_t timeout_ns) {
    struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ns != UINT64_MAX ? &t : NULL, NULL, 0);
}

static void wake(const uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static void yield(void) { sched_yield(); }

static int event_open(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

static void event_signal(int event) {
    uint64_t one = 1;
    /* Fails only if the counter is full: then it is readable. */
    ssize_t n = write(event, &one, sizeof one);
    (void)n;
}

static void event_clear(int event) {
    uint64_t count;
    /* Fails only if it is not readable. */
    ssize_t n = read(event, &count, sizeof count);
    (void)n;
}

const nm__os nm__os_system = {
    .reserve = reserve,
    .unreserve = unreserve,
    .commit = commit,
    .decommit = decommit,
    .keep_out_of_dumps = keep_out_of_dumps,
    .use_huge_pages = use_huge_pages,
    .make_huge_pages = make_huge_pages,
    .clock_ns = clock_ns,
    .clock_coarse_ms = clock_coarse_ms,
    .random = random_bytes,
    .page_bytes = page_bytes,
    .physical_bytes = physical_bytes,
    .read_file = read_file,
    .open_file = open_file,
    .write_file = write_file,
    .close_file = close_file,
    .barrier = barrier,
    .wait = wait_on,
    .wake = wake,
    .yield = yield,
    .event_open = event_open,
    .event_signal = event_signal,
    .event_clear = event_clear,
};

static NM_ATOMIC(const nm__os *) table_in_force = &nm__os_system;

/* acquire, release: a test may replace the table while other threads run */
const nm__os *nm__os_get(void) { return nm_atomic_load(&table_in_force, NM_ACQUIRE); }
void nm__os_replace(const nm__os *table) {
    nm_atomic_store(&table_in_force, table != NULL ? table : &nm__os_system, NM_RELEASE);
}
