// SPDX-License-Identifier: Apache-2.0 OR MIT
/* http-request: options, the loop, and a clean end at SIGTERM or SIGINT. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "http.h"

enum { EXIT_USAGE = 2 };

static int fail(const char *what, const char *why) {
    fprintf(stderr, "http-request: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

typedef struct options {
    size_t port, request_bytes, threads, buffers;
} options;

static bool number(const char *option, const char *text, size_t least, size_t most, size_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && n >= least && n <= most) {
        *out = (size_t)n;
        return true;
    }
    fprintf(stderr, "http-request: %s: \"%s\" is not a number from %zu to %zu\n", option, text, least, most);
    return false;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, options *o) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},    {"request-bytes", required_argument, NULL, 'r'},
        {"threads", required_argument, NULL, 't'}, {"buffers", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},          {0}};
    opterr = 0;
    int c;
    bool ok = true;
    while (ok && (c = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        switch (c) {
        case 'p': ok = number("--port", optarg, 0, 65535, &o->port); break;
        case 'r': ok = number("--request-bytes", optarg, 16 << 10, 16 << 20, &o->request_bytes); break;
        case 't': ok = number("--threads", optarg, 0, 64, &o->threads); break;
        case 'b': ok = number("--buffers", optarg, 1, 512, &o->buffers); break;
        case 'h':
            puts("usage: http-request [--port N] [--request-bytes N] [--threads N] [--buffers N]\n"
                 "A small HTTP service on 127.0.0.1 whose memory hangs on one tree of budgets.\n"
                 "  --port N            0, the default, takes one that is free; it is printed\n"
                 "  --request-bytes N   hard limit of a request's scope; default 262144\n"
                 "  --threads N         that serve; default 2; 0: none but the main one\n"
                 "  --buffers N         I/O buffers, so most requests at work at one time; default 64");
            return EXIT_SUCCESS;
        default:
            fprintf(stderr, "http-request: %s: %s\n", argv[optind - 1],
                    c == ':' ? "needs a value" : "no such option (--help lists them)");
            ok = false;
        }
    }
    if (ok && optind < argc) {
        fprintf(stderr, "http-request: %s: no arguments are taken\n", argv[optind]);
        ok = false;
    }
    return ok ? -1 : EXIT_USAGE;
}

/* The earlier of what the server waits for and the next time that idle memory has decayed; -1: neither. */
static int timeout_ms(http *h, nm_scope *root) {
    int server_ms = http_timeout_ms(h);
    uint64_t idle_ns = nm_scope_maintain(root);
    if (idle_ns == UINT64_MAX) return server_ms;
    int idle_ms = (int)(idle_ns / 1000000u) + 1; /* a period at most */
    return server_ms >= 0 && server_ms < idle_ms ? server_ms : idle_ms;
}

/* Until a signal comes. 0: one came. */
static int serve(http *h, nm_scope *root, int signal_fd) {
    int pressure_fd = nm_scope_pressure_fd(root); /* -1: the system has none, and poll passes it over */
    for (;;) {
        struct pollfd fds[3] = {{.fd = signal_fd, .events = POLLIN},
                                {.fd = http_poll_fd(h), .events = POLLIN},
                                {.fd = pressure_fd, .events = POLLPRI}};
        if (poll(fds, 3, timeout_ms(h, root)) < 0 && errno != EINTR) return errno;
        if (fds[0].revents != 0) return 0;
        if (http_poll_fd(h) >= 0) http_run(h);
        /* the machine is short, whatever our own budget says: give it what lies idle */
        if ((fds[2].revents & POLLPRI) != 0) (void)nm_scope_reclaim(root, (size_t)4 << 20);
        if ((fds[2].revents & POLLERR) != 0) pressure_fd = -1;
    }
}

int main(int argc, char **argv) {
    options o = {.request_bytes = 256 << 10, .threads = 2, .buffers = 64};
    int status = parse(argc, argv, &o);
    if (status >= 0) return status;

    /* Blocked before there are threads, so in all of them: signals are read from a descriptor, and nothing is interrupted. */
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigaddset(&end, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &end, NULL) != 0) return fail("signals", strerror(errno));
    int signal_fd = signalfd(-1, &end, SFD_CLOEXEC);
    if (signal_fd < 0) return fail("signals", strerror(errno));

    service s;
    nm_leak_report report;
    const char *what;
    nm_status st = service_open(&s, o.request_bytes, o.buffers, &what);
    if (st != NM_OK) {
        close(signal_fd);
        return fail(what, nm_status_text(st));
    }
    http *h = http_open(&s, (uint16_t)o.port, (unsigned)o.threads, &what);
    if (h == NULL) {
        service_close(&s, &report);
        close(signal_fd);
        return fail("http", what);
    }
    printf("http-request: http://127.0.0.1:%u\n", (unsigned)http_port(h));
    fflush(stdout);

    status = serve(h, s.root, signal_fd);
    http_close(h);
    close(signal_fd);
    size_t requests = atomic_load_explicit(&s.request_count, memory_order_relaxed);
    size_t found = atomic_load_explicit(&s.leak_count, memory_order_relaxed);
    size_t leaks = service_close(&s, &report);
    printf("http-request: closed: %zu requests with %zu leaks; the rest: %zu leaks, peak %zu of %zu bytes\n", requests,
           found, leaks, report.peak_bytes, report.hard_bytes);
    if (status != 0) return fail("poll", strerror(status));
    return leaks == 0 ? EXIT_SUCCESS : fail("root scope", "not everything was returned");
}
