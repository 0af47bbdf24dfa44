// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nm_scope_pressure_fd, over files that the test makes up and over the machine's own. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>

#include "fake_files.h"
#include "nebula/scope.h"
#include "testing.h"

#define GIB ((size_t)1 << 30)

enum { THREADS = 8 };

static int reset(void **state) {
    (void)state;
    fake_files_remove();
    return 0;
}

#define OWN       "/sys/fs/cgroup/a/memory.pressure"
#define SYSTEM    "/proc/pressure/memory"
#define TREE(...) FILES({CGROUP, "4:memory:/x\n0::/a\n"}, {MOUNTS, V1_MOUNTS V2_MOUNT}, __VA_ARGS__)

static nm_scope *open_fake_root(const fake_file *files) {
    nm_scope *root;
    fake_files_install(files, GIB);
    assert_ok(nm_scope_open(&root, NULL, NULL));
    return root;
}

static void the_groups_own_pressure_comes_first(void **state) {
    (void)state;
    nm_scope *root = open_fake_root(TREE({OWN, ""}, {SYSTEM, ""}));
    assert_int_equal(fake.opened, 0); /* nobody asked */
    int fd = nm_scope_pressure_fd(root);
    assert_int_equal(fd, FAKE_FD);
    assert_string_equal(fake.tried, OWN);
    unsigned stall, window;
    char end;
    assert_int_equal(sscanf(fake.written, "some %u %u%c", &stall, &window, &end), 2);
    assert_int_equal(window % 2000000, 0);
    assert_true(stall > 0 && stall < window);
    assert_int_equal(nm_scope_pressure_fd(root), fd);
    assert_int_equal(fake.opened, 1);
    assert_int_equal(fake.closed, 0);
    nm_scope_close(root, NULL);
    assert_int_equal(fake.closed, 1);
}

static void each_root_has_its_own(void **state) {
    (void)state;
    nm_scope *first = open_fake_root(TREE({OWN, ""})), *second;
    assert_ok(nm_scope_open(&second, NULL, NULL));
    int fd = nm_scope_pressure_fd(first);
    assert_int_not_equal(fd, nm_scope_pressure_fd(second));
    nm_scope_close(first, NULL);
    assert_int_equal(fake.closed, 1);
    nm_scope_close(second, NULL);
    assert_int_equal(fake.closed, 2);
}

static void a_root_that_nobody_asked_closes_nothing(void **state) {
    (void)state;
    nm_scope_close(open_fake_root(TREE({OWN, ""})), NULL);
    assert_int_equal(fake.closed, 0);
}

static void the_systems_pressure_is_next(void **state) {
    (void)state;
    const fake_file *trees[] = {TREE({SYSTEM, ""}), TREE({OWN, ""}, {SYSTEM, ""}), TREE({OWN, ""}, {SYSTEM, ""}),
                                FILES({SYSTEM, ""})};
    for (int i = 0; i < 4; i++) { /* not there; not to be opened; not to be written; no groups at all */
        nm_scope *root = open_fake_root(trees[i]);
        fake.no_open = i == 1 ? OWN : NULL;
        fake.no_write = i == 2 ? OWN : NULL;
        assert_true(nm_scope_pressure_fd(root) >= 0);
        assert_string_equal(fake.tried, SYSTEM);
        if (i < 3) assert_string_equal(fake.tried_before, OWN);
        assert_int_equal(fake.opened - fake.closed, 1);
        nm_scope_close(root, NULL);
        assert_int_equal(fake.opened, fake.closed);
    }
}

static void where_there_is_none_errno_tells_and_later_it_may_come(void **state) {
    (void)state;
    nm_scope *root = open_fake_root(TREE({"/x", ""}));
    errno = 0;
    assert_int_equal(nm_scope_pressure_fd(root), -1);
    assert_int_equal(errno, ENOENT);
    fake_files_install(TREE({SYSTEM, ""}), GIB);
    fake.no_open = SYSTEM;
    assert_int_equal(nm_scope_pressure_fd(root), -1);
    assert_int_equal(errno, EACCES);
    fake.no_open = NULL;
    fake.no_write = SYSTEM;
    assert_int_equal(nm_scope_pressure_fd(root), -1);
    assert_int_equal(errno, EOPNOTSUPP); /* of the write, not of the close that followed */
    assert_int_equal(fake.opened, fake.closed);
    fake.no_write = NULL;
    assert_true(nm_scope_pressure_fd(root) >= 0);
    nm_scope_close(root, NULL);
    assert_int_equal(fake.opened, fake.closed);
}

static void unread_groups_leave_the_systems_pressure(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        nm_scope *root = open_fake_root(TREE({OWN, ""}, {SYSTEM, ""}));
        fake.fail_read = n;
        assert_true(nm_scope_pressure_fd(root) >= 0);
        bool came = fake.reads >= n;
        assert_string_equal(fake.tried, came ? SYSTEM : OWN);
        nm_scope_close(root, NULL);
        if (!came) break;
    }
}

static void what_is_no_root_has_none(void **state) {
    (void)state;
    nm_scope *root = open_fake_root(TREE({OWN, ""})), *child;
    assert_ok(nm_scope_open(&child, root, NULL));
    errno = 0;
    assert_int_equal(nm_scope_pressure_fd(child), -1);
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_int_equal(nm_scope_pressure_fd(NULL), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fake.opened, 0);
    nm_scope_close(child, NULL);
    nm_scope_close(root, NULL);
}

static pthread_barrier_t start;

static void *ask(void *root) {
    pthread_barrier_wait(&start);
    return (void *)(intptr_t)nm_scope_pressure_fd(root);
}

static void threads_that_race_share_one(void **state) {
    (void)state;
    for (int round = 0; round < (TEST_SLOW ? 50 : 500); round++) {
        nm_scope *root = open_fake_root(TREE({OWN, ""}));
        pthread_t threads[THREADS];
        pthread_barrier_init(&start, NULL, THREADS);
        for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, ask, root), 0);
        for (int i = 0; i < THREADS; i++) {
            void *fd;
            pthread_join(threads[i], &fd);
            assert_int_equal((intptr_t)fd, FAKE_FD);
        }
        pthread_barrier_destroy(&start);
        assert_int_equal(fake.opened, 1);
        nm_scope_close(root, NULL);
        assert_int_equal(fake.closed, 1);
    }
}

static void this_machines_pressure_can_be_polled(void **state) {
    (void)state;
    nm_scope *root;
    assert_ok(nm_scope_open(&root, NULL, NULL));
    int fd = nm_scope_pressure_fd(root);
    if (fd < 0) {
        print_message("  skipped: no pressure descriptor here: %s\n", strerror(errno));
        nm_scope_close(root, NULL);
        skip();
    }
    assert_int_equal(nm_scope_pressure_fd(root), fd);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    /* POLLERR would say that the trigger is gone */
    struct pollfd p = {.fd = fd, .events = POLLPRI};
    assert_true(poll(&p, 1, 0) >= 0);
    assert_int_equal(p.revents & (POLLERR | POLLNVAL | POLLHUP), 0);
    nm_scope_close(root, NULL);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
}

#define RESET(test) cmocka_unit_test_teardown(test, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        RESET(the_groups_own_pressure_comes_first),
        RESET(each_root_has_its_own),
        RESET(a_root_that_nobody_asked_closes_nothing),
        RESET(the_systems_pressure_is_next),
        RESET(where_there_is_none_errno_tells_and_later_it_may_come),
        RESET(unread_groups_leave_the_systems_pressure),
        RESET(what_is_no_root_has_none),
        RESET(threads_that_race_share_one),
        RESET(this_machines_pressure_can_be_polled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
