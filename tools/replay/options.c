// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "units.h"
#include "workload.h"

#define DEFAULT_POLICIES "slru,lru"
#define DEFAULT_BUDGETS  "1%,10%"
#define DEFAULT_SIZE     4096
#define REQUESTS_MAX     UINT64_C(1000000000000)

static const replay_policy policies[] = {
    {"slru", NM_CACHE_SLRU},
    {"lru", NM_CACHE_LRU},
    {"s3fifo", NM_CACHE_S3FIFO},
    {"adaptive", NM_CACHE_ADAPTIVE},
};
#define POLICY_NAMES "slru, lru, s3fifo, adaptive"

static const replay_objective objectives[] = {{"hits", NM_OBJECTIVE_HITS}, {"bytes", NM_OBJECTIVE_BYTES}};

enum { /* options without a letter */
       KEY_POLICY = 256,
       KEY_BUDGET,
       KEY_OBJECTIVE,
       KEY_SHARDS,
       KEY_THREADS,
       KEY_CSV,
       KEY_JSON,
       KEY_CHART,
       KEY_CURVE,
       KEY_FORMAT,
       KEY_DEFAULT_SIZE,
       KEY_SKIP_BAD,
       KEY_SEED,
       KEY_REQUESTS,
};

static const struct argp_option option_list[] = {
    {.doc = "What is replayed:"},
    {"policy", KEY_POLICY, "LIST", 0, "eviction policies: " POLICY_NAMES " (default " DEFAULT_POLICIES ")", 0},
    {"budget", KEY_BUDGET, "LIST", 0,
     "cache budgets: 64MiB, 1.5GiB, 4096, or 5% of the trace's footprint (default " DEFAULT_BUDGETS
     "); each is run with each policy",
     0},
    {"objective", KEY_OBJECTIVE, "hits|bytes", 0,
     "what to save misses of, requests or bytes (default hits); only adaptive takes notice of it", 0},
    {"shards", KEY_SHARDS, "N", 0,
     "shards of the cache, a power of two up to 256 (default: one for each 4 MiB, at most 16)", 0},
    {"threads", KEY_THREADS, "N", 0, "threads that serve requests, 1 to 256 (default 1: in exact order)", 0},
    {.doc = "Traces:"},
    {"format", KEY_FORMAT, "text|oracle", 0,
     "lines of \"key size\", or libCacheSim's oracleGeneral records (default text); plain, .gz, .xz or .zst", 0},
    {"default-size", KEY_DEFAULT_SIZE, "BYTES", 0,
     "size of an object where the trace gives none, and where all its sizes are 1 (default 4KiB)", 0},
    {"skip-bad", KEY_SKIP_BAD, NULL, 0, "count broken lines instead of stopping at the first", 0},
    {.doc = "The built-in workload, where no TRACE is given:"},
    {"requests", KEY_REQUESTS, "N", 0, "its length (default 1000000)", 0},
    {"seed", KEY_SEED, "N", 0, "its seed (default 1)", 0},
    {.doc = "Output:"},
    {"csv", KEY_CSV, "FILE", 0, "write the rows as CSV too (-: standard output; the table then goes to standard error)",
     0},
    {"json", KEY_JSON, "FILE", 0, "write the rows as a JSON array too (-: as above)", 0},
    {"chart", KEY_CHART, "FILE.svg", 0,
     "draw the miss ratio against the budget, measured and predicted (by gnuplot; -: as above)", 0},
    {"curve", KEY_CURVE, "FILE", OPTION_ARG_OPTIONAL,
     "replay at the budgets for which the caches predict their miss ratio too, and print both; with FILE also as CSV",
     0},
    {"quiet", 'q', NULL, 0, "no progress bar (there is none anyway if standard error is no terminal)", 0},
    {0},
};

bool options_is_stdout(const char *path) { return path != NULL && strcmp(path, "-") == 0; }

/* Calls `take` for each comma-separated entry. */
static void each_entry(replay_options *o, char *list, struct argp_state *state,
                       void (*take)(replay_options *, const char *, size_t, struct argp_state *)) {
    const char *at = list;
    for (;;) {
        size_t len = strcspn(at, ",");
        take(o, at, len, state);
        if (at[len] == '\0') return;
        at += len + 1;
    }
}

static void take_policy(replay_options *o, const char *text, size_t len, struct argp_state *state) {
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        if (strlen(policies[i].name) != len || memcmp(policies[i].name, text, len) != 0) continue;
        if (o->policy_count == OPTIONS_LIST_MAX) argp_error(state, "--policy: more than %d entries", OPTIONS_LIST_MAX);
        o->policies[o->policy_count++] = &policies[i];
        return;
    }
    argp_error(state, "--policy %.*s: unknown policy; allowed: " POLICY_NAMES, (int)len, text);
}

static void take_budget(replay_options *o, const char *text, size_t len, struct argp_state *state) {
    replay_budget budget = {0};
    bool ok = len > 0 && text[len - 1] == '%' ? units_parse_percent(text, len, &budget.percent)
                                              : units_parse_bytes(text, len, &budget.bytes) && budget.bytes > 0;
    if (!ok || budget.bytes > OPTIONS_BUDGET_MAX)
        argp_error(
            state,
            "--budget: %.*s: must be a size between 1 byte and %lluTiB, such as 4096, 64MiB or 1.5GiB, or a share of "
            "the trace's footprint above 0%% and up to %.0f%%, such as 5%%",
            (int)len, text, (unsigned long long)(OPTIONS_BUDGET_MAX >> 40), UNITS_PERCENT_MAX);
    if (o->budget_count == OPTIONS_LIST_MAX) argp_error(state, "--budget: more than %d entries", OPTIONS_LIST_MAX);
    o->budgets[o->budget_count++] = budget;
}

static uint64_t number_of(const char *name, const char *text, uint64_t least, uint64_t most, struct argp_state *state) {
    uint64_t value = 0;
    bool ok = *text != '\0';
    for (const char *p = text; ok && *p != '\0'; p++)
        ok = *p >= '0' && *p <= '9' && !__builtin_mul_overflow(value, 10, &value) &&
             !__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
    if (!ok || value < least || value > most)
        argp_error(state, "--%s %s: must be a number from %llu to %llu", name, text, (unsigned long long)least,
                   (unsigned long long)most);
    return value;
}

static size_t choice_of(const char *name, const char *text, const char *first, const char *second,
                        struct argp_state *state) {
    if (strcmp(text, first) == 0) return 0;
    if (strcmp(text, second) != 0) argp_error(state, "--%s %s: must be %s or %s", name, text, first, second);
    return 1;
}

static void check_together(replay_options *o, struct argp_state *state) {
    char fallback_policies[] = DEFAULT_POLICIES, fallback_budgets[] = DEFAULT_BUDGETS;
    if (o->policy_count == 0) each_entry(o, fallback_policies, state, take_policy);
    if (o->budget_count == 0) each_entry(o, fallback_budgets, state, take_budget);
    const char *const outputs[] = {o->csv_path, o->json_path, o->chart_path, o->curve_path};
    size_t to_stdout = 0;
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) to_stdout += options_is_stdout(outputs[i]);
    if (to_stdout > 1) argp_error(state, "--csv, --json, --chart, --curve: standard output takes only one of them");

    size_t inputs = 0;
    for (size_t i = 0; i < o->trace_count; i++) inputs += strcmp(o->traces[i], "-") == 0;
    if (inputs > 1) argp_error(state, "-: standard input can be replayed only once");

    bool built_in = o->trace_count == 0;
    if (!built_in && (o->request_count != 0 || o->seed != UINT64_MAX))
        argp_error(state, "--requests, --seed: only for the built-in workload, without a TRACE");
    if (built_in && o->format != RECORD_TEXT) argp_error(state, "--format oracle: needs a TRACE");
    if (o->request_count == 0) o->request_count = WORKLOAD_REQUESTS;
    if (o->seed == UINT64_MAX) o->seed = WORKLOAD_SEED;
}

static error_t parse_one(int key, char *argument, struct argp_state *state) {
    replay_options *o = state->input;
    switch (key) {
    case KEY_POLICY:
        o->policy_count = 0; /* the last one given counts, as with any option */
        each_entry(o, argument, state, take_policy);
        break;
    case KEY_BUDGET:
        o->budget_count = 0;
        each_entry(o, argument, state, take_budget);
        break;
    case KEY_OBJECTIVE:
        o->objective = &objectives[choice_of("objective", argument, objectives[0].name, objectives[1].name, state)];
        break;
    case KEY_SHARDS:
        o->shard_count = (unsigned)number_of("shards", argument, 1, OPTIONS_SHARDS_MAX, state);
        if ((o->shard_count & (o->shard_count - 1)) != 0)
            argp_error(state, "--shards %s: must be a power of two from 1 to %d", argument, OPTIONS_SHARDS_MAX);
        break;
    case KEY_THREADS: o->thread_count = (unsigned)number_of("threads", argument, 1, OPTIONS_THREADS_MAX, state); break;
    case KEY_CSV: o->csv_path = argument; break;
    case KEY_JSON: o->json_path = argument; break;
    case KEY_CHART: o->chart_path = argument; break;
    case KEY_CURVE:
        o->curve = true;
        o->curve_path = argument;
        break;
    case KEY_FORMAT:
        o->format = choice_of("format", argument, "text", "oracle", state) == 0 ? RECORD_TEXT : RECORD_ORACLE;
        break;
    case KEY_DEFAULT_SIZE:
        if (!units_parse_bytes(argument, strlen(argument), &o->default_size) || o->default_size == 0 ||
            o->default_size > RECORD_SIZE_MAX)
            argp_error(state, "--default-size %s: must be a size from 1 to 1TiB", argument);
        break;
    case KEY_SKIP_BAD: o->skip_bad = true; break;
    case KEY_SEED: o->seed = number_of("seed", argument, 0, UINT64_MAX - 1, state); break;
    case KEY_REQUESTS: o->request_count = number_of("requests", argument, 1, REQUESTS_MAX, state); break;
    case 'q': o->quiet = true; break;
    case ARGP_KEY_ARGS:
        o->traces = state->argv + state->next;
        o->trace_count = (size_t)(state->argc - state->next);
        break;
    case ARGP_KEY_SUCCESS: check_together(o, state); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void print_version(FILE *to, struct argp_state *state) {
    (void)state;
    fprintf(to, "nebula-replay %s (library %s)\n", NM_VERSION, nm_version());
}

void options_parse(replay_options *options, int argc, char **argv) {
    static const struct argp parser = {
        .options = option_list,
        .parser = parse_one,
        .args_doc = "[TRACE...]",
        .doc =
            "Replays request traces through a scope tree, arenas, a buffer pool and a cache, as a look-aside service "
            "would use them, and prints what came of it: a row for each trace, budget and policy.\v"
            "TRACE is a file or - for standard input; without one a built-in workload is replayed. A list is separated "
            "by commas. A budget below the cache's least one, or below 10 average entries, is skipped.\n\n"
            "Exit status: 0; 1 a run failed or a law of the library broke; 2 wrong usage.",
    };
    *options = (replay_options){.objective = &objectives[0],
                                .thread_count = 1,
                                .default_size = DEFAULT_SIZE,
                                .seed = UINT64_MAX /* not given */};
    argp_err_exit_status = 2;
    argp_program_version_hook = print_version;
    static char name[] = "nebula-replay";
    if (argc > 0) argv[0] = name; /* error lines begin with it, whatever path it was called by */
    argp_parse(&parser, argc, argv, 0, NULL, options);
}
