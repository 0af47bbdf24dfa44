// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define INTERVAL_NS 100000000u
#define BAR_CELLS   24

void progress_start(progress *p, bool quiet, uint64_t total, const char *trace, const char *what) {
    *p = (progress){.on = !quiet && isatty(STDERR_FILENO) != 0, .total = total};
    snprintf(p->label, sizeof p->label, "%.40s %.20s", trace, what);
}

void progress_update(progress *p, uint64_t done) {
    if (!p->on) return;
    uint64_t now = clock_now_ns();
    if (now - p->drawn_ns < INTERVAL_NS) return;
    p->drawn_ns = now;
    if (p->total == 0) {
        fprintf(stderr, "\r\033[K%s: %llu requests", p->label, (unsigned long long)done);
    } else {
        double share = done < p->total ? (double)done / (double)p->total : 1.0;
        char bar[BAR_CELLS + 1];
        int full = (int)(share * BAR_CELLS);
        memset(bar, '#', (size_t)full);
        memset(bar + full, '.', (size_t)(BAR_CELLS - full));
        bar[BAR_CELLS] = '\0';
        fprintf(stderr, "\r\033[K%s [%s] %3.0f %%", p->label, bar, share * 100);
    }
    fflush(stderr);
}

void progress_end(progress *p) {
    if (!p->on || p->drawn_ns == 0) return;
    fprintf(stderr, "\r\033[K");
    fflush(stderr);
}
