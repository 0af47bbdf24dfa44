// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "against.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "units.h"

#define NEAR 0.005
/* Runs of a policy that asks for hashes, each with others. */
#define RUNS 3

typedef struct row {
    char trace[64]; /* without its ending */
    unsigned policy;
    nm_cache_objective objective;
    uint64_t budget_bytes, used_bytes;
    double misses; /* of objects, or of bytes if that is the objective */
} row;

typedef struct rows {
    row *all;
    size_t count, room;
} rows;

static const struct {
    const char *name;
    nm_cache_policy policy;
} policies[] = {
    {"lru", NM_CACHE_LRU}, {"slru", NM_CACHE_SLRU}, {"s3fifo", NM_CACHE_S3FIFO}, {"adaptive", NM_CACHE_ADAPTIVE}};
#define POLICIES (sizeof policies / sizeof *policies)

static const struct {
    const char *name;
    uint64_t least, most;
} classes[] = {{"below 4 MiB", 0, (4u << 20) - 1},
               {"4 to 16 MiB", 4u << 20, (16u << 20) - 1},
               {"from 16 MiB", 16u << 20, UINT64_MAX},
               {"from 4 MiB", 4u << 20, UINT64_MAX}};
#define CLASSES (sizeof classes / sizeof *classes)

/* Of a policy in a class of budgets. The mean of reductions is over traces of each trace's mean. */
typedef struct tally {
    size_t points, far, far_in_bytes, traces;
    double worst, worst_in_bytes, sum, sum_in_bytes, reductions, worst_reduction;
    double trace_reductions;
    size_t trace_points;
    char worst_at[96], worst_in_bytes_at[96];
} tally;

/* ---- the CSV ---- */

#define COLUMNS 18
#define HEADER_BEGIN                                                                                                   \
    "trace,policy,objective,threads,budget_bytes,requests,object_miss_ratio,byte_miss_ratio,evictions,rejections,"     \
    "used_bytes,"

static bool row_read(row *out, char *line) {
    char *fields[COLUMNS];
    size_t count = 0;
    for (char *at = line; at != NULL && count < COLUMNS;) fields[count++] = strsep(&at, ",");
    if (count < COLUMNS) return false;
    (void)snprintf(out->trace, sizeof out->trace, "%s", fields[0]);
    char *dot = strchr(out->trace, '.');
    if (dot != NULL && dot != out->trace) *dot = 0;
    for (out->policy = 0; out->policy < POLICIES; out->policy++)
        if (strcmp(policies[out->policy].name, fields[1]) == 0) break;
    out->objective = strcmp(fields[2], "bytes") == 0 ? NM_OBJECTIVE_BYTES : NM_OBJECTIVE_HITS;
    out->budget_bytes = strtoull(fields[4], NULL, 10);
    out->used_bytes = strtoull(fields[10], NULL, 10);
    out->misses = strtod(fields[out->objective == NM_OBJECTIVE_BYTES ? 7 : 6], NULL);
    return out->policy < POLICIES && out->budget_bytes > 0 && out->misses > 0 && out->misses <= 1;
}

static bool rows_read(rows *r, const char *program, const char *path) {
    char line[512];
    FILE *from = fopen(path, "r");
    const char *why = from == NULL ? strerror(errno) : NULL;
    size_t number = 0;
    while (why == NULL && fgets(line, sizeof line, from) != NULL) {
        if (number++ == 0) {
            if (strncmp(line, HEADER_BEGIN, sizeof HEADER_BEGIN - 1) != 0)
                why = "not the header of nebula-replay's CSV";
            continue;
        }
        if (r->count == r->room) {
            r->room = r->room * 2 + 64;
            row *more = realloc(r->all, r->room * sizeof *more);
            if (more == NULL) {
                why = "out of memory";
                break;
            }
            r->all = more;
        }
        if (!row_read(&r->all[r->count++], line)) why = "not a row of nebula-replay's CSV";
    }
    if (why == NULL && r->count == 0) why = "no rows in it";
    if (why != NULL && number > 0) fprintf(stderr, "%s: %s:%zu: %s\n", program, path, number, why);
    if (why != NULL && number == 0) fprintf(stderr, "%s: %s: %s\n", program, path, why);
    if (from != NULL) (void)fclose(from);
    return why == NULL;
}

/* ---- the table ---- */

static double misses_of(const requests *r, const row *at, const outcome *out) {
    if (at->objective == NM_OBJECTIVE_BYTES) return 1 - (double)out->hit_bytes / (double)r->bytes;
    return 1 - (double)out->hits / (double)r->count;
}

static void note_worst(double *worst, char *at, size_t at_bytes, double by, const row *of, const char *budget_text) {
    if (fabs(by) <= fabs(*worst)) return;
    *worst = by;
    (void)snprintf(at, at_bytes, "%s at %s", of->trace, budget_text);
}

/* As bench/policies has it: against the LRU of the same run, the whole cache's here. */
static bool reduction(const rows *r, const row *at, double *out) {
    for (size_t i = 0; i < r->count; i++) {
        const row *lru = &r->all[i];
        if (policies[lru->policy].policy != NM_CACHE_LRU || strcmp(lru->trace, at->trace) != 0 ||
            lru->budget_bytes != at->budget_bytes || lru->objective != at->objective)
            continue;
        *out = at->misses <= lru->misses ? (lru->misses - at->misses) / lru->misses
                                         : -(at->misses - lru->misses) / at->misses;
        return true;
    }
    return false;
}

/* Misses of a policy alone. */
typedef struct alone {
    double mean, least, most;
} alone;

static bool run_alone(requests *r, const row *at, uint64_t bytes, alone *out) {
    nm_cache_policy policy = policies[at->policy].policy;
    int runs = policy == NM_CACHE_S3FIFO || policy == NM_CACHE_ADAPTIVE ? RUNS : 1;
    *out = (alone){.least = 1};
    for (int i = 0; i < runs; i++) {
        outcome result;
        if (!policies_replay(r, policy, at->objective, bytes, &result)) return false;
        double misses = misses_of(r, at, &result);
        out->mean += misses / runs;
        out->least = fmin(out->least, misses);
        out->most = fmax(out->most, misses);
        if (runs > 1) requests_rehash(r);
    }
    return true;
}

static bool is_far(const row *at, const alone *of) {
    return at->misses < of->least - NEAR || at->misses > of->most + NEAR;
}

static void note(tally *t, const rows *all, const row *at, const alone *in_budget, const alone *in_bytes,
                 const char *budget_text) {
    double reduced, by = at->misses - in_budget->mean, by_in_bytes = at->misses - in_bytes->mean;
    t->points++;
    t->far += is_far(at, in_budget);
    t->far_in_bytes += is_far(at, in_bytes);
    t->sum += fabs(by);
    t->sum_in_bytes += fabs(by_in_bytes);
    note_worst(&t->worst, t->worst_at, sizeof t->worst_at, by, at, budget_text);
    note_worst(&t->worst_in_bytes, t->worst_in_bytes_at, sizeof t->worst_in_bytes_at, by_in_bytes, at, budget_text);
    if (!reduction(all, at, &reduced)) return;
    if (reduced < t->worst_reduction) t->worst_reduction = reduced;
    t->trace_reductions += reduced;
    t->trace_points++;
}

static bool compare(requests *r, const rows *all, const row *at, tally tallies[CLASSES][POLICIES]) {
    alone in_budget, in_bytes;
    char text[UNITS_TEXT_BYTES];
    if (!run_alone(r, at, at->budget_bytes, &in_budget) || !run_alone(r, at, at->used_bytes, &in_bytes)) return false;
    const char *budget_text = units_bytes(text, at->budget_bytes);
    bool counts = at->budget_bytes >= classes[CLASSES - 1].least;
    printf("%-18s %10s %5.3g%% %-8s  %.4f  %.4f %.4f %+.4f%s  %5.1f%%  %.4f %.4f %+.4f%s\n", at->trace, budget_text,
           100 * (double)at->budget_bytes / (double)r->unique_weight, policies[at->policy].name, at->misses,
           in_budget.mean, in_budget.most - in_budget.least, at->misses - in_budget.mean,
           counts && is_far(at, &in_budget) ? "*" : " ", 100 * (double)at->used_bytes / (double)at->budget_bytes,
           in_bytes.mean, in_bytes.most - in_bytes.least, at->misses - in_bytes.mean,
           counts && is_far(at, &in_bytes) ? "*" : " ");
    fflush(stdout);
    for (size_t c = 0; c < CLASSES; c++)
        if (at->budget_bytes >= classes[c].least && at->budget_bytes <= classes[c].most)
            note(&tallies[c][at->policy], all, at, &in_budget, &in_bytes, budget_text);
    return true;
}

static void end_trace(tally tallies[CLASSES][POLICIES]) {
    for (size_t c = 0; c < CLASSES; c++)
        for (size_t p = 0; p < POLICIES; p++) {
            tally *t = &tallies[c][p];
            if (t->trace_points == 0) continue;
            t->reductions += t->trace_reductions / (double)t->trace_points;
            t->traces++;
            t->trace_reductions = 0;
            t->trace_points = 0;
        }
}

static void print_summary(tally tallies[CLASSES][POLICIES]) {
    for (size_t c = 0; c < CLASSES; c++) {
        printf("\n%-11s  points  same budget: mean  worst   over %.3f  same bytes: mean  worst   over %.3f  less than "
               "lru\n",
               classes[c].name, NEAR, NEAR);
        for (size_t p = 0; p < POLICIES; p++) {
            const tally *t = &tallies[c][p];
            if (t->points == 0) continue;
            double n = (double)t->points;
            printf("%-11s  %6zu  %17.4f  %+.4f  %10zu  %16.4f  %+.4f  %10zu  %19.4f  %+.4f (%zu traces)\n",
                   policies[p].name, t->points, t->sum / n, t->worst, t->far, t->sum_in_bytes / n, t->worst_in_bytes,
                   t->far_in_bytes, t->traces != 0 ? t->reductions / (double)t->traces : 0, t->worst_reduction,
                   t->traces);
        }
    }
    printf("\nworst from 4 MiB\n");
    for (size_t p = 0; p < POLICIES; p++) {
        const tally *t = &tallies[CLASSES - 1][p];
        if (t->points != 0)
            printf("%-11s  same budget: %s; same bytes: %s\n", policies[p].name, t->worst_at, t->worst_in_bytes_at);
    }
}

int against(const char *program, const char *csv, char **paths, int path_count) {
    rows all = {0};
    tally tallies[CLASSES][POLICIES] = {0};
    size_t found = 0;
    if (!rows_read(&all, program, csv)) {
        free(all.all);
        return 1;
    }
    printf("%-18s %10s %6s %-8s  %-6s  %-6s %-6s %-7s   %6s  %-6s %-6s %s\n", "trace", "budget", "", "policy", "whole",
           "alone", "spread", "differs", "used", "alone", "spread", "differs");
    bool good = true;
    for (int i = 0; i < path_count && good; i++) {
        requests r;
        if (!requests_read(&r, REQUESTS_CHARGED, program, paths[i])) {
            free(all.all);
            return 1;
        }
        for (size_t n = 0; n < all.count && good; n++) {
            if (strcmp(all.all[n].trace, r.name) != 0) continue;
            found++;
            good = compare(&r, &all, &all.all[n], tallies);
        }
        end_trace(tallies);
        if (!good) fprintf(stderr, "%s: %s: out of memory\n", program, r.name);
        requests_free(&r);
    }
    if (good && found == 0) fprintf(stderr, "%s: %s: no row of these traces\n", program, csv);
    if (good && found != 0) print_summary(tallies);
    free(all.all);
    return good && found != 0 ? 0 : 1;
}
