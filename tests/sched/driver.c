// SPDX-License-Identifier: Apache-2.0 OR MIT
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* clock_gettime, fileno */
#endif
#include "driver.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX 256u
/* A scenario that needs more is too large for a test: its bounds are to be made smaller, not this number larger. */
#define EXECUTIONS_MAX ((uint64_t)20 * 1000 * 1000)

sched_fault_name sched_fault;

static const struct {
    const char *name, *text;
} faults[] = {
#define FAULT_ROW(name, text) {#name, text},
    SCHED_FAULTS(FAULT_ROW)
#undef FAULT_ROW
};

static const sched_program *program;
static const char *program_path;

_Noreturn static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s: %s\n", program->name, what, why);
    exit(2);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static const sched_scenario *scenario_named(const char *name) {
    for (size_t i = 0; i < program->scenario_count; i++)
        if (strcmp(program->scenarios[i].name, name) == 0) return &program->scenarios[i];
    die(name, "there is no such scenario");
}

static sched_fault_name fault_named(const char *name) {
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (strcmp(faults[i].name, name) == 0) return (sched_fault_name)i;
    die(name, "there is no such fault");
}

/* ---- one scenario ------------------------------------------------------------------------------------------------ */

static bool must_fail(const sched_scenario *scenario) {
    const char *prefix = program->faulty_prefix;
    return prefix != NULL && strncmp(scenario->name, prefix, strlen(prefix)) == 0;
}

static void print_result(const sched_scenario *scenario, const sched_result *result, double took) {
    printf("%-28s %u threads  %9" PRIu64 " executions, %9" PRIu64 " redundant  %5.1f s  ", scenario->name,
           scenario->thread_count, result->executions, result->redundant, took);
    if (result->failed)
        printf("bound %u: fails: %s\n", result->bound, result->what);
    else
        printf("bound %u %s\n", result->bound, result->exhausted ? "exhausted" : "NOT exhausted");
}

static void print_replay(const sched_scenario *scenario, const char *schedule) {
    printf("    again: %s --scenario %s%s%s --schedule \"%s\"\n", program_path, scenario->name,
           sched_fault != SCHED_FAULT_none ? " --fault " : "",
           sched_fault != SCHED_FAULT_none ? faults[sched_fault].name : "", schedule);
}

static bool run_scenario(const sched_scenario *scenario) {
    sched_result result;
    double from = seconds();
    sched_explore(scenario, EXECUTIONS_MAX, &result);
    print_result(scenario, &result, seconds() - from);
    if (must_fail(scenario)) {
        if (result.failed) return true;
        printf("    %s has a fault that was not found\n", scenario->name);
        return false;
    }
    if (result.failed) {
        print_replay(scenario, result.schedule);
        char schedule[SCHED_SCHEDULE_BYTES];
        memcpy(schedule, result.schedule, sizeof schedule);
        sched_replay(scenario, schedule, true, &result);
        if (!result.failed)
            printf("    the same schedule passes when it is replayed: the scenario is not deterministic\n");
    }
    return !result.failed && result.exhausted;
}

/* A planted fault must be found, by the first of its scenarios that can. */
static bool run_fault(const sched_fault_case *one) {
    sched_fault = one->fault;
    uint64_t executions = 0;
    double from = seconds();
    for (size_t i = 0; i < sizeof one->scenarios / sizeof one->scenarios[0] && one->scenarios[i] != NULL; i++) {
        const sched_scenario *scenario = scenario_named(one->scenarios[i]);
        sched_result result;
        sched_explore(scenario, EXECUTIONS_MAX, &result);
        executions += result.executions;
        if (!result.failed) continue;
        printf("%-28s found by %s after %" PRIu64 " executions, %u preemptions, %.1f s: %s\n", faults[one->fault].name,
               scenario->name, executions, result.bound, seconds() - from, result.what);
        print_replay(scenario, result.schedule);
        sched_result again;
        sched_replay(scenario, result.schedule, false, &again);
        if (!again.failed) printf("    which passes when it is replayed\n");
        return again.failed;
    }
    printf("%-28s NOT FOUND in %" PRIu64 " executions, %.1f s: %s\n", faults[one->fault].name, executions,
           seconds() - from, faults[one->fault].text);
    return false;
}

/* ---- many, each in a process of its own -------------------------------------------------------------------------- */

typedef struct job {
    pid_t pid;
    FILE *out;
    bool done;
    int status;
} job;

static void job_start(job *j, bool is_fault, size_t index) {
    j->out = tmpfile();
    if (j->out == NULL) die("temporary file", "cannot be made");
    fflush(NULL);
    j->pid = fork();
    if (j->pid < 0) die("fork", "refused");
    if (j->pid != 0) return;
    if (dup2(fileno(j->out), STDOUT_FILENO) < 0) _exit(2);
    bool good = is_fault ? run_fault(&program->faults[index]) : run_scenario(&program->scenarios[index]);
    fflush(stdout);
    _exit(good ? 0 : 1);
}

static bool job_finish(job *j) {
    char buffer[4096];
    size_t n;
    rewind(j->out);
    while ((n = fread(buffer, 1, sizeof buffer, j->out)) > 0) fwrite(buffer, 1, n, stdout);
    fclose(j->out);
    if (WIFSIGNALED(j->status)) printf("    killed by signal %d\n", WTERMSIG(j->status));
    return WIFEXITED(j->status) && WEXITSTATUS(j->status) == 0;
}

static int run_all(bool is_fault, size_t count) {
    static job jobs[JOBS_MAX];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t most = processors > 1 ? (size_t)processors : 1, started = 0, running = 0, shown = 0, bad = 0;
    double from = seconds();
    if (count > JOBS_MAX) die("scenarios", "too many");
    while (shown < count) {
        while (started < count && running < most) {
            job_start(&jobs[started], is_fault, started);
            started++;
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        if (pid < 0) die("wait", "no process is left");
        running--;
        for (size_t i = 0; i < started; i++)
            if (jobs[i].pid == pid) {
                jobs[i].done = true;
                jobs[i].status = status;
            }
        for (; shown < started && jobs[shown].done; shown++) bad += !job_finish(&jobs[shown]);
        fflush(stdout);
    }
    printf("%zu %s, %zu bad, %.1f s\n", count, is_fault ? "planted faults" : "scenarios", bad, seconds() - from);
    return bad == 0 ? 0 : 1;
}

/* ---- command line ------------------------------------------------------------------------------------------------ */

static int usage(void) {
    printf("%s                      goes through all scenarios\n"
           "%s --faults             plants each fault, which must be found\n"
           "%s --list               names of scenarios and faults\n"
           "%s --scenario NAME      one of them\n"
           "    --preemptions N  --stale N  --timeouts N   other bounds\n"
           "    --fault NAME                               with that fault\n"
           "    --schedule TEXT                            that one execution, each step printed\n",
           program->name, program->name, program->name, program->name);
    return 2;
}

static void list(void) {
    for (size_t i = 0; i < program->scenario_count; i++) printf("scenario %s\n", program->scenarios[i].name);
    for (size_t i = 0; i < program->fault_count; i++) {
        sched_fault_name fault = program->faults[i].fault;
        printf("fault %-24s %s\n", faults[fault].name, faults[fault].text);
    }
}

int sched_main(const sched_program *of, int argc, char **argv) {
    program = of;
    program_path = argv[0];
    sched_scenario chosen = {0};
    const char *schedule = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--faults") == 0) return run_all(true, program->fault_count);
        if (strcmp(argv[i], "--list") == 0) {
            list();
            return 0;
        }
        if (i + 1 == argc) return usage();
        const char *option = argv[i], *value = argv[++i];
        if (strcmp(option, "--scenario") == 0)
            chosen = *scenario_named(value);
        else if (strcmp(option, "--fault") == 0)
            sched_fault = fault_named(value);
        else if (strcmp(option, "--schedule") == 0)
            schedule = value;
        else if (strcmp(option, "--preemptions") == 0)
            chosen.bounds.preemptions = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(option, "--stale") == 0)
            chosen.bounds.stale = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(option, "--timeouts") == 0)
            chosen.bounds.timeouts = (unsigned)strtoul(value, NULL, 10);
        else
            return usage();
    }
    if (argc == 1) return run_all(false, program->scenario_count);
    if (chosen.name == NULL) return usage();
    if (schedule == NULL) return run_scenario(&chosen) ? 0 : 1;
    sched_result result;
    sched_replay(&chosen, schedule, true, &result);
    printf("%s: %s\n", chosen.name, result.failed ? result.what : "passes");
    return result.failed ? 1 : 0;
}
