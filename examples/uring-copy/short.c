// SPDX-License-Identifier: Apache-2.0 OR MIT
/* For test.sh: linked in front of stretch_advance, it makes most results shorter than they were, at odd places too, and some
 * of them interrupted, which no file system does when it is asked to. */
#include <errno.h>
#include <stdlib.h>

#include "copy.h"

stretch_step __real_stretch_advance(copy *c, stretch *s, long result);
stretch_step __wrap_stretch_advance(copy *c, stretch *s, long result);

stretch_step __wrap_stretch_advance(copy *c, stretch *s, long result) {
    bool direct = s->writing ? c->to_direct : c->from_direct;
    long least = direct ? (long)COPY_ALIGN : 1; /* less than a block would be no progress at all, and is an error */
    if (random() % 16 == 0)
        result = -EINTR;
    else if (result > least && random() % 4 != 0)
        result = least + random() % (result - least);
    return __real_stretch_advance(c, s, result);
}
