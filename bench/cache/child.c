// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/child.h"
#include "cache/subject.h"

void cache_child_start(cache_child *child, const char *name, char *const argv[]) {
    int in[2], out[2];
    signal(SIGPIPE, SIG_IGN);
    fflush(stdout);
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) cache_fail(name, "no pipe");
    child->name = name;
    child->pid = fork();
    if (child->pid < 0) cache_fail(name, "no process");
    if (child->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(in[0], 0) == 0 && dup2(out[1], 1) == 1) execv(argv[0], argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    child->to = fdopen(in[1], "w");
    child->from = fdopen(out[0], "r");
    if (child->to == NULL || child->from == NULL) cache_fail(name, "no pipe");
}

void cache_child_say(cache_child *child, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(child->to, format, arguments);
    va_end(arguments);
    if (fflush(child->to) != 0) cache_fail(child->name, "has ended");
}

void cache_child_hear(cache_child *child, int count, const char *format, ...) {
    char line[256];
    va_list arguments;
    if (fgets(line, sizeof line, child->from) == NULL) cache_fail(child->name, "has ended");
    va_start(arguments, format);
    if (vsscanf(line, format, arguments) != count) cache_fail(child->name, line);
    va_end(arguments);
}

int cache_child_end(cache_child *child) {
    char line[256];
    int status;
    fclose(child->to);
    while (fgets(line, sizeof line, child->from) != NULL) fputs(line, stdout);
    fclose(child->from);
    if (waitpid(child->pid, &status, 0) != child->pid) cache_fail(child->name, "cannot be waited for");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
