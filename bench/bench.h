// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the benchmarks share: a clock, pinning, medians of interleaved rounds, and the CSV table.
 *
 * All subjects of one question run in the same process, one after the other within each round, so that a change of clock
 * rate or a noisy neighbour hits them alike. The first subject is the limit that the ratios refer to; where a question has
 * two limits (bench_compare_to_two), the second subject is the other one. */
#ifndef NM_BENCH_BENCH_H
#define NM_BENCH_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BENCH_ROUNDS_MAX   101
#define BENCH_SUBJECTS_MAX 16

/* Makes the compiler believe that the value is used, and that memory may have been read and written. */
#define bench_keep(value) __asm__ volatile("" : : "r"(value) : "memory")

/* Makes the compiler forget what it knows about a pointer: it is then one that somebody passed. */
#define bench_forget(pointer) __asm__ volatile("" : "+r"(pointer))

static inline uint64_t bench_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Keeps the calling thread on one processor; false where that is not allowed. */
static inline bool bench_pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

/* xorshift64*: the same numbers in every run. state != 0 */
static inline uint64_t bench_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

static inline int bench__compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the values. */
static inline double bench_median(double *values, size_t n) {
    qsort(values, n, sizeof *values, bench__compare);
    return n % 2 != 0 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* Rounds to run: the first argument of the program, else 9; at least 1. */
static inline size_t bench_rounds(int argc, char **argv) {
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 9;
    return rounds < 1 ? 1 : rounds > BENCH_ROUNDS_MAX ? BENCH_ROUNDS_MAX : (size_t)rounds;
}

typedef struct bench_subject {
    const char *name;
    void (*run)(void *context); /* does all operations of one round */
    void *context;
} bench_subject;

static inline void bench_header(void) { printf("work,subject,ns_per_op,ratio,operations,rounds\n"); }

/* Runs all subjects once to warm up, then `rounds` times in turn; ns[s] becomes the median of an operation of subject s. */
static inline void bench_measure(size_t operations, size_t rounds, const bench_subject *subjects, size_t count,
                                 double ns[BENCH_SUBJECTS_MAX]) {
    static double all[BENCH_SUBJECTS_MAX][BENCH_ROUNDS_MAX];
    if (count > BENCH_SUBJECTS_MAX || rounds > BENCH_ROUNDS_MAX) abort();
    for (size_t s = 0; s < count; s++) subjects[s].run(subjects[s].context);
    for (size_t r = 0; r < rounds; r++)
        for (size_t s = 0; s < count; s++) {
            uint64_t begin = bench_now_ns();
            subjects[s].run(subjects[s].context);
            all[s][r] = (double)(bench_now_ns() - begin);
        }
    for (size_t s = 0; s < count; s++) ns[s] = bench_median(all[s], rounds) / (double)operations;
}

/* Measures, and prints a row for each subject. */
static inline void bench_compare(const char *work, size_t operations, size_t rounds, const bench_subject *subjects,
                                 size_t count) {
    double ns[BENCH_SUBJECTS_MAX];
    bench_measure(operations, rounds, subjects, count, ns);
    for (size_t s = 0; s < count; s++)
        printf("%s,%s,%.3f,%.3f,%zu,%zu\n", work, subjects[s].name, ns[s], ns[s] / ns[0], operations, rounds);
    fflush(stdout);
}

/* The same with two limits: the first and the second subject, whose name is `second`. */
static inline void bench_header_two(const char *second) {
    printf("work,subject,ns_per_op,ratio,ratio_%s,operations,rounds\n", second);
}

static inline void bench_compare_to_two(const char *work, size_t operations, size_t rounds,
                                        const bench_subject *subjects, size_t count) {
    double ns[BENCH_SUBJECTS_MAX];
    bench_measure(operations, rounds, subjects, count, ns);
    for (size_t s = 0; s < count; s++)
        printf("%s,%s,%.3f,%.3f,%.3f,%zu,%zu\n", work, subjects[s].name, ns[s], ns[s] / ns[0], ns[s] / ns[1],
               operations, rounds);
    fflush(stdout);
}

#endif
