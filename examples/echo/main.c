// SPDX-License-Identifier: Apache-2.0 OR MIT
/* echo: options, the listening socket, and a clean end at SIGTERM or SIGINT. */
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "service.h"

enum { EXIT_USAGE = 2 };

typedef struct options {
    const char *address;
    size_t port;
    service_options service;
} options;

static const char usage[] = "usage: echo [options]\n"
                            "Sends back what it is sent. Connections share a few buffers, and hold one only while "
                            "there is something to send back.\n"
                            "  --address A         numeric, to listen on; default 127.0.0.1\n"
                            "  --port N            0, the default, takes one that is free; it is printed\n"
                            "  --connections N     most that are open at one time; default 10000\n"
                            "  --buffers N         most that there are; default 64\n"
                            "  --buffer-bytes N    size of a buffer; default 16384\n"
                            "  --timeout-ms N      the longest that a connection may hold a buffer; default 5000";

static int fail(const char *what, const char *why) {
    fprintf(stderr, "echo: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static bool number(const char *option, const char *text, size_t least, size_t most, size_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && n >= least && n <= most) {
        *out = (size_t)n;
        return true;
    }
    fprintf(stderr, "echo: %s: \"%s\" is not a number from %zu to %zu\n", option, text, least, most);
    return false;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, options *o) {
    static const struct option known[] = {{"address", required_argument, NULL, 'a'},
                                          {"port", required_argument, NULL, 'p'},
                                          {"connections", required_argument, NULL, 'c'},
                                          {"buffers", required_argument, NULL, 'b'},
                                          {"buffer-bytes", required_argument, NULL, 's'},
                                          {"timeout-ms", required_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    opterr = 0;
    int c;
    bool ok = true;
    while (ok && (c = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        switch (c) {
        case 'a': o->address = optarg; break;
        case 'p': ok = number("--port", optarg, 0, 65535, &o->port); break;
        case 'c': ok = number("--connections", optarg, 1, 1000000, &o->service.connections); break;
        case 'b': ok = number("--buffers", optarg, 1, 100000, &o->service.buffers); break;
        case 's': ok = number("--buffer-bytes", optarg, 1, 16 << 20, &o->service.buffer_bytes); break;
        case 't': ok = number("--timeout-ms", optarg, 1, 3600000, &o->service.timeout_ms); break;
        case 'h': puts(usage); return EXIT_SUCCESS;
        default:
            fprintf(stderr, "echo: %s: %s\n", argv[optind - 1],
                    c == ':' ? "needs a value" : "no such option (--help lists them)");
            ok = false;
        }
    }
    if (ok && optind < argc) {
        fprintf(stderr, "echo: %s: no arguments are taken\n", argv[optind]);
        ok = false;
    }
    return ok ? -1 : EXIT_USAGE;
}

/* -1: *why_out tells. */
static int listen_on(const options *o, unsigned *port_out, const char **why_out) {
    char port[8];
    snprintf(port, sizeof port, "%zu", o->port);
    struct addrinfo *found, hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(o->address, port, &hints, &found);
    if (error != 0) {
        *why_out = gai_strerror(error);
        return -1;
    }
    int on = 1, bytes = (int)o->service.buffer_bytes;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    /* Connections inherit the sizes: what the system keeps for a client that is not read, or does not read, is bounded as
     * our own memory is. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &length) != 0) {
        *why_out = strerror(errno);
        if (fd >= 0) close(fd);
        fd = -1;
    } else {
        *port_out = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                      : ((struct sockaddr_in *)&bound)->sin_port);
    }
    freeaddrinfo(found);
    return fd;
}

/* As many descriptors as the system lets us have: the usual limit is 1,024. */
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    options o = {.address = "127.0.0.1",
                 .service = {.connections = 10000, .buffers = 64, .buffer_bytes = 16 << 10, .timeout_ms = 5000}};
    int status = parse(argc, argv, &o);
    if (status >= 0) return status;

    /* Blocked, and read from a descriptor, so that nothing is interrupted and no work is done in a handler. */
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigaddset(&end, SIGINT);
    if (sigprocmask(SIG_BLOCK, &end, NULL) != 0) return fail("signals", strerror(errno));
    int signal_fd = signalfd(-1, &end, SFD_CLOEXEC);
    if (signal_fd < 0) return fail("signals", strerror(errno));
    raise_file_limit();

    service s;
    const char *why;
    nm_status st = service_open(&s, &o.service, &why);
    if (st != NM_OK) {
        close(signal_fd);
        return fail(why, nm_status_text(st));
    }
    unsigned port = 0;
    int listen_fd = listen_on(&o, &port, &why);
    if (listen_fd >= 0) {
        printf(strchr(o.address, ':') != NULL ? "echo: [%s]:%u\n" : "echo: %s:%u\n", o.address, port);
        fflush(stdout);
        int error = service_run(&s, listen_fd, signal_fd);
        close(listen_fd);
        if (error != 0) status = fail("poll", strerror(error));
    } else {
        status = fail(o.address, why);
    }
    close(signal_fd);
    if (service_close(&s) > 0) status = fail("root scope", "not everything was returned");
    return status < 0 ? EXIT_SUCCESS : status;
}
