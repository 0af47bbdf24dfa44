// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Faults that a test can plant, by name, to prove that it would find them. None in any other build: the condition is the
 * constant 0. */
#ifndef NM_SRC_BASE_FAULT_H
#define NM_SRC_BASE_FAULT_H

#ifndef NM__FAULT
#define NM__FAULT(name) 0
#endif

#endif
