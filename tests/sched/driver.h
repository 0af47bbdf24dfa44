// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The command line of the explorer's programs. */
#ifndef NM_TESTS_SCHED_DRIVER_H
#define NM_TESTS_SCHED_DRIVER_H

#include "explorer.h"
#include "faults.h"

/* A fault, and where it has to be found: one of the scenarios is enough. */
typedef struct sched_fault_case {
    sched_fault_name fault;
    const char *scenarios[4]; /* tried in that order, up to NULL */
} sched_fault_case;

typedef struct sched_program {
    const char *name;
    const sched_scenario *scenarios;
    size_t scenario_count;
    const sched_fault_case *faults;
    size_t fault_count;
    /* Scenarios of this name have a fault of their own: they must fail. NULL: none. */
    const char *faulty_prefix;
} sched_program;

int sched_main(const sched_program *program, int argc, char **argv);

#endif
