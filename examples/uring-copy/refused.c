// SPDX-License-Identifier: Apache-2.0 OR MIT
/* refused WHAT ERROR PROGRAM ARGUMENT...: runs a program to which the kernel refuses one thing, for test.sh. WHAT: uring
 * (io_uring_setup), register (io_uring_register), direct (F_SETFL, which sets O_DIRECT), fallocate. ERROR: a number. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
    const char *name;
    unsigned call;
    int second; /* only with this second argument; -1: with any */
} refusals[] = {{"uring", SYS_io_uring_setup, -1},
                {"register", SYS_io_uring_register, -1},
                {"direct", SYS_fcntl, F_SETFL},
                {"fallocate", SYS_fallocate, -1}};

/* Everything else is allowed, and so are calls of another architecture: this is a test, not a fence. */
static int refuse(unsigned call, int second, unsigned error) {
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])), /* its low half: little endian */
        BPF_JUMP(BPF_JMP | (second < 0 ? BPF_JGE : BPF_JEQ) | BPF_K, second < 0 ? 0 : (unsigned)second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof steps / sizeof steps[0], steps};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : errno;
}

int main(int argc, char **argv) {
    int error = argc > 3 ? atoi(argv[2]) : 0;
    for (size_t i = 0; error > 0 && i < sizeof refusals / sizeof refusals[0]; i++) {
        if (strcmp(argv[1], refusals[i].name) != 0) continue;
        int refused = refuse(refusals[i].call, refusals[i].second, (unsigned)error);
        if (refused != 0) {
            fprintf(stderr, "refused: seccomp: %s\n", strerror(refused));
            return 77;
        }
        execvp(argv[3], argv + 3);
        fprintf(stderr, "refused: %s: %s\n", argv[3], strerror(errno));
        return 1;
    }
    fprintf(stderr, "usage: refused uring|register|direct|fallocate ERROR PROGRAM ARGUMENT...\n");
    return 2;
}
