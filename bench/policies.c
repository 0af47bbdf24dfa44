// SPDX-License-Identifier: Apache-2.0 OR MIT
/* How well do the cache's policies choose, memory and threads apart?
 *
 * Drives the policy code of src/cache over traces as simulators do: an object costs its size in the trace, metadata nothing; each
 * miss puts the object. With --charged it costs what nm_cache_charge says, and percentages are of the sum of that, as with
 * nebula-replay; with --against the rows that nebula-replay wrote are compared with that, see policies/against.h. ADAPTIVE is one shard and its adaptation with all the nodes that it ever uses, told of each request as the
 * cache tells it. gdsf and belady are references. Reduction of the miss ratio against the LRU of the same run: (LRU - x) / LRU, or
 * -(x - LRU) / x where x is worse; byte misses for the objective bytes. The mean is over traces of each trace's mean. */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/adapt.h"
#include "policies/against.h"
#include "policies/references.h"
#include "units.h"

#define PROGRAM      "bench/policies"
#define POLICIES_MAX 8
#define BUDGETS_MAX  32
/* A budget below so many average objects says nothing: it is left out. */
#define OBJECTS_MIN 10

typedef struct subject {
    const char *name;
    nm_cache_policy policy;
    bool (*reference)(const requests *r, uint64_t budget, outcome *out); /* NULL: the cache's */
} subject;

static const subject subjects[] = {
    {"lru", NM_CACHE_LRU, NULL},
    {"slru", NM_CACHE_SLRU, NULL},
    {"s3fifo", NM_CACHE_S3FIFO, NULL},
    {"adaptive", NM_CACHE_ADAPTIVE, NULL},
    {"gdsf", NM_CACHE_DEFAULT, reference_gdsf},
    {"belady", NM_CACHE_DEFAULT, reference_belady},
};
#define SUBJECTS (sizeof subjects / sizeof *subjects)

typedef struct budget {
    double percent; /* of the unique bytes; 0: bytes */
    uint64_t bytes;
} budget;

typedef struct plan {
    const subject *subjects[POLICIES_MAX];
    size_t subject_count;
    budget budgets[BUDGETS_MAX];
    size_t budget_count;
    nm_cache_objective objective;
    requests_weights weights;
    FILE *csv;
} plan;

/* Of one policy over all traces. */
typedef struct tally {
    double sum, sum_without_build_headers, worst;
    char worst_at[128];
} tally;

/* ---- a cache without memory: two units for each key of the trace ---- */

typedef struct place {
    nm__node node;
    uint32_t present;
} place;
_Static_assert(sizeof(place) == 2 * NM__UNIT_BYTES, "a key has two units");

static size_t weight_of(void *context, uint32_t number) { return ((const requests *)context)->weights[number / 2]; }
static uint64_t hash_of(void *context, uint32_t number) { return ((const requests *)context)->hashes[number / 2]; }
static const nm__policy_owner owner = {.weight = weight_of, .hash = hash_of};

typedef struct cache {
    nm__policy policy;
    nm__adapt adapt;
    place *places;
    void *tables, *adapt_memory;
    size_t tables_least, tables_most; /* entries for which the tables are neither too many nor too few */
    bool adapting;
    uint32_t version;
} cache;

static void *zeroed(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, bytes);
    if (memory != NULL) memset(memory, 0, bytes);
    return memory;
}

static void cache_close(cache *c) {
    free(c->places);
    free(c->tables);
    free(c->adapt_memory);
    free(c);
}

static cache *cache_open(requests *r, nm_cache_policy policy, nm_cache_objective objective, uint64_t bytes) {
    cache *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    size_t tables_bytes = nm__policy_tables_bytes(policy, 0, r->key_count);
    c->adapting = policy == NM_CACHE_ADAPTIVE;
    size_t adapt_bytes = c->adapting ? nm__adapt_bytes(NM__ADAPT_NODES_MAX) : 0;
    c->places = calloc((size_t)r->key_count + 1, sizeof *c->places);
    if (tables_bytes != 0) c->tables = zeroed(tables_bytes);
    if (adapt_bytes != 0) c->adapt_memory = zeroed(adapt_bytes);
    if (c->places == NULL || (tables_bytes != 0 && c->tables == NULL) ||
        (adapt_bytes != 0 && c->adapt_memory == NULL)) {
        cache_close(c);
        return NULL;
    }
    nm__policy_open(&c->policy, &owner, r, c->places, policy, objective, 80, NULL, 0);
    nm__policy_set_room(&c->policy, bytes);
    if (c->adapting) {
        nm__adapt_open(&c->adapt, objective, 80, c->adapt_memory, adapt_bytes);
        nm__adapt_set_room(&c->adapt, bytes, bytes);
    }
    return c;
}

/* As src/cache/tables.c. */
static void fit_tables(cache *c) {
    size_t count = c->policy.count;
    if (c->tables == NULL || (count >= c->tables_least && count <= c->tables_most)) return;
    nm__policy_set_tables(&c->policy, c->tables,
                          nm__policy_tables_bytes((nm_cache_policy)c->policy.policy, 0, count != 0 ? count : 1));
    c->tables_least = count / 2;
    c->tables_most = count + count / 4;
}

static void adapt(cache *c, uint64_t hash, size_t weight, bool hit) {
    if (nm__adapt_sampled(&c->adapt, hash)) nm__adapt_request(&c->adapt, hash, weight, hit);
    if (nm__adapt_version(&c->adapt) == c->version) return;
    c->version = nm__adapt_version(&c->adapt);
    nm__policy_set(&c->policy, nm__adapt_setting(&c->adapt));
}

bool policies_replay(requests *r, nm_cache_policy policy, nm_cache_objective objective, uint64_t bytes, outcome *out) {
    cache *c = cache_open(r, policy, objective, bytes);
    if (c == NULL) return false;
    *out = (outcome){0};
    for (size_t i = 0; i < r->count; i++) {
        uint32_t key = r->keys[i], number = key * 2;
        uint64_t weight = r->weights[key], hash = r->hashes[key];
        bool hit = c->places[key].present != 0;
        if (hit) {
            out->hits++;
            out->hit_bytes += r->sizes[key];
            nm__policy_hit(&c->policy, number, hash);
        } else if (weight > bytes) {
            out->rejections++;
            continue; /* nothing can keep it, so it tells nothing */
        } else {
            while (out->used_bytes + weight > bytes) {
                uint32_t victim = nm__policy_victim(&c->policy, weight);
                nm__policy_remove(&c->policy, victim);
                c->places[victim / 2] = (place){.present = 0};
                out->used_bytes -= r->weights[victim / 2];
                out->evictions++;
            }
            fit_tables(c);
            c->places[key].present = 1;
            nm__policy_add(&c->policy, number, hash);
            out->used_bytes += weight;
        }
        if (c->adapting) adapt(c, hash, weight, hit);
    }
    cache_close(c);
    return true;
}

/* ---- tables ---- */

static double reduction(double lru, double x) {
    if (x <= lru) return lru > 0 ? (lru - x) / lru : 0;
    return -(x - lru) / x;
}

static bool run_one(requests *r, const plan *p, const subject *s, uint64_t bytes, outcome *out, double *misses) {
    uint64_t begin = bench_now_ns();
    bool good =
        s->reference != NULL ? s->reference(r, bytes, out) : policies_replay(r, s->policy, p->objective, bytes, out);
    if (!good) {
        fprintf(stderr, "%s: %s: out of memory\n", PROGRAM, r->name);
        return false;
    }
    double seconds = (double)(bench_now_ns() - begin) / 1e9;
    double objects = 1 - (double)out->hits / (double)r->count, in_bytes = 1 - (double)out->hit_bytes / (double)r->bytes;
    *misses = p->objective == NM_OBJECTIVE_BYTES ? in_bytes : objects;
    if (p->csv != NULL)
        fprintf(p->csv, "%s,%s,%s,1,%llu,%zu,%.6f,%.6f,%llu,%llu,%llu,%.0f\n", r->name, s->name,
                p->objective == NM_OBJECTIVE_BYTES ? "bytes" : "hits", (unsigned long long)bytes, r->count, objects,
                in_bytes, (unsigned long long)out->evictions, (unsigned long long)out->rejections,
                (unsigned long long)out->used_bytes, (double)r->count / seconds);
    return true;
}

static void note_point(tally *t, double by, const requests *r, const char *budget_text) {
    if (by >= t->worst) return;
    t->worst = by;
    (void)snprintf(t->worst_at, sizeof t->worst_at, "%s at %s", r->name, budget_text);
}

/* A row for each budget. *points: how many budgets counted. */
static bool run_trace(requests *r, const plan *p, tally tallies[POLICIES_MAX], size_t *points) {
    double sums[POLICIES_MAX] = {0};
    *points = 0;
    for (size_t b = 0; b < p->budget_count; b++) {
        const budget *at = &p->budgets[b];
        uint64_t bytes = at->percent > 0 ? (uint64_t)((double)r->unique_weight * at->percent / 100) : at->bytes;
        char text[UNITS_TEXT_BYTES], percent[32];
        (void)snprintf(percent, sizeof percent, "%g%%", at->percent);
        const char *budget_text = at->percent > 0 ? percent : units_bytes(text, bytes);
        if ((double)bytes * r->key_count < OBJECTS_MIN * (double)r->unique_weight) continue;
        outcome out;
        double lru, misses;
        plan silent = *p;
        silent.csv = NULL;
        if (!run_one(r, &silent, &subjects[0], bytes, &out, &lru)) return false;
        printf("%-18s %8s", r->name, budget_text);
        for (size_t s = 0; s < p->subject_count; s++) {
            if (!run_one(r, p, p->subjects[s], bytes, &out, &misses)) return false;
            sums[s] += reduction(lru, misses);
            note_point(&tallies[s], reduction(lru, misses), r, budget_text);
            printf("  %.4f %+.3f", misses, reduction(lru, misses));
        }
        printf("\n");
        fflush(stdout);
        (*points)++;
    }
    for (size_t s = 0; s<p->subject_count && * points> 0; s++) {
        tallies[s].sum += sums[s] / (double)*points;
        if (strcmp(r->name, "build-headers") != 0) tallies[s].sum_without_build_headers += sums[s] / (double)*points;
    }
    return true;
}

static int run(const plan *p, char **paths, int path_count) {
    tally tallies[POLICIES_MAX] = {0};
    int traces = 0, others = 0;
    printf("%-18s %8s", "trace", "budget");
    for (size_t s = 0; s < p->subject_count; s++) printf("  %-13s", p->subjects[s]->name);
    printf("\n");
    for (int i = 0; i < path_count; i++) {
        requests r;
        size_t points;
        if (!requests_read(&r, p->weights, PROGRAM, paths[i])) return 1;
        bool good = run_trace(&r, p, tallies, &points);
        if (points > 0) traces++;
        if (points > 0 && strcmp(r.name, "build-headers") != 0) others++;
        requests_free(&r);
        if (!good) return 1;
    }
    if (traces == 0) {
        fprintf(stderr, "%s: no budget holds %d average objects\n", PROGRAM, OBJECTS_MIN);
        return 1;
    }
    printf("\npolicy     mean reduction  without build-headers  worst point\n");
    for (size_t s = 0; s < p->subject_count; s++)
        printf("%-10s %14.4f  %21.4f  %+.3f %s\n", p->subjects[s]->name, tallies[s].sum / traces,
               others > 0 ? tallies[s].sum_without_build_headers / others : 0, tallies[s].worst, tallies[s].worst_at);
    return 0;
}

/* ---- options ---- */

static int usage(FILE *to) {
    fprintf(
        to,
        "usage: policies [--policy LIST] [--objective hits|bytes] [--budget LIST] [--charged] [--csv FILE] TRACE...\n"
        "       policies --against CSV TRACE...     CSV: of nebula-replay --shards 1, over these traces\n"
        "  LIST of policies: lru slru s3fifo adaptive gdsf belady, or all; default lru,slru,s3fifo,adaptive\n"
        "  LIST of budgets:  64MiB, or 5%% of the trace's unique bytes; default 0.1%%,1%%,5%%,10%%,20%%\n");
    return 2;
}

static bool add_policies(plan *p, char *list) {
    p->subject_count = 0;
    for (char *save, *name = strtok_r(list, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
        bool known = false;
        for (size_t i = 0; i < SUBJECTS; i++) {
            if (strcmp(name, subjects[i].name) != 0 && strcmp(name, "all") != 0) continue;
            if (p->subject_count == POLICIES_MAX) return false;
            p->subjects[p->subject_count++] = &subjects[i];
            known = true;
        }
        if (!known) return false;
    }
    return p->subject_count > 0;
}

static bool add_budgets(plan *p, char *list) {
    p->budget_count = 0;
    for (char *save, *text = strtok_r(list, ",", &save); text != NULL; text = strtok_r(NULL, ",", &save)) {
        budget b = {0};
        if (p->budget_count == BUDGETS_MAX) return false;
        size_t len = strlen(text);
        if (!units_parse_percent(text, len, &b.percent) && (!units_parse_bytes(text, len, &b.bytes) || b.bytes == 0))
            return false;
        p->budgets[p->budget_count++] = b;
    }
    return p->budget_count > 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"policy", required_argument, NULL, 'p'}, {"objective", required_argument, NULL, 'o'},
        {"budget", required_argument, NULL, 'b'}, {"csv", required_argument, NULL, 'c'},
        {"charged", no_argument, NULL, 'w'},      {"against", required_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    plan p = {0};
    char policies[] = "lru,slru,s3fifo,adaptive", budgets[] = "0.1%,1%,5%,10%,20%";
    const char *csv = NULL, *against_csv = NULL;
    (void)add_policies(&p, policies);
    (void)add_budgets(&p, budgets);
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool good = true;
        if (option == 'p') good = add_policies(&p, optarg);
        if (option == 'b') good = add_budgets(&p, optarg);
        if (option == 'c') csv = optarg;
        if (option == 'w') p.weights = REQUESTS_CHARGED;
        if (option == 'a') against_csv = optarg;
        if (option == 'o') {
            good = strcmp(optarg, "hits") == 0 || strcmp(optarg, "bytes") == 0;
            p.objective = strcmp(optarg, "bytes") == 0 ? NM_OBJECTIVE_BYTES : NM_OBJECTIVE_HITS;
        }
        if (option == 'h') {
            (void)usage(stdout);
            return 0;
        }
        if (option == '?') return usage(stderr);
        if (!good) {
            fprintf(stderr, "%s: --%s: not one that is known\n", PROGRAM,
                    option == 'p'   ? "policy"
                    : option == 'b' ? "budget"
                                    : "objective");
            return usage(stderr);
        }
    }
    if (optind == argc) return usage(stderr);
    if (against_csv != NULL) return against(PROGRAM, against_csv, argv + optind, argc - optind);
    if (csv != NULL) {
        if ((p.csv = fopen(csv, "w")) == NULL) {
            fprintf(stderr, "%s: %s: %s\n", PROGRAM, csv, strerror(errno));
            return 1;
        }
        fputs("trace,policy,objective,threads,budget_bytes,requests,object_miss_ratio,byte_miss_ratio,evictions,"
              "rejections,"
              "used_bytes,requests_per_second\n",
              p.csv);
    }
    int status = run(&p, argv + optind, argc - optind);
    if (p.csv != NULL && (ferror(p.csv) | fclose(p.csv)) != 0) {
        fprintf(stderr, "%s: %s: cannot be written\n", PROGRAM, csv);
        return 1;
    }
    return status;
}
