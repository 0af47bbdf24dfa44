// SPDX-License-Identifier: Apache-2.0 OR MIT
/* nebula/memory.h: the whole library. Read the parts in this order. */
#ifndef NEBULA_MEMORY_H
#define NEBULA_MEMORY_H

#include "nebula/arena.h"
#include "nebula/base.h"
#include "nebula/cache.h"
#include "nebula/pool.h"
#include "nebula/scope.h"

#endif
