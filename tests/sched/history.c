// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "history.h"

#include <string.h>

#include "explorer.h"

size_t history_begin(sched_history *history, unsigned thread, history_kind kind) {
    SCHED_CHECK(history->count < HISTORY_MAX, "a history of more than %u operations", HISTORY_MAX);
    size_t entry = history->count++;
    history->entries[entry].kind = kind;
    history->entries[entry].result = HISTORY_UNDER_WAY;
    history->entries[entry].thread = thread;
    history->entries[entry].began = history->clock++;
    return entry;
}

void history_end(sched_history *history, size_t entry, history_result result) {
    history->entries[entry].result = result;
    history->entries[entry].ended = history->clock++;
    history->entries[entry].stores = sched_stores();
}

void history_unseen(sched_history *history, unsigned thread, uint64_t store) {
    for (size_t i = 0; i < history->count; i++)
        if (history->entries[i].thread == thread && history->entries[i].result != HISTORY_UNDER_WAY &&
            history->entries[i].stores > store)
            history->entries[i].ended = history->clock++;
}

bool history_has_refusal(const sched_history *history) {
    for (size_t i = 0; i < history->count; i++)
        if (history->entries[i].result == HISTORY_REFUSED) return true;
    return false;
}

/* ---- the search for an order ------------------------------------------------------------------------------------- */

/* How far each operation is, 4 bits of a word for each. */
typedef enum phase { BEFORE = 0, IN_HAND = 1, PUT_BACK = 2, SAW_NONE = 4, AFTER = 8 } phase;

static phase phase_of(uint64_t phases, size_t i) { return (phase)(phases >> 4 * i & 15); }
static uint64_t with_phase(uint64_t phases, size_t i, unsigned to) {
    return (phases & ~((uint64_t)15 << 4 * i)) | (uint64_t)to << 4 * i;
}

/* States from which there is no way to the end. Where there is no room, a state is looked at again. */
#define DEAD 4096u
static uint64_t dead[DEAD];

static uint64_t *dead_at(uint64_t phases) { return &dead[(phases * 0x9e3779b97f4a7c15u) >> 52]; }

typedef struct search {
    const sched_history *history;
    unsigned most;
} search;

static bool explain(const search *s, uint64_t phases, unsigned out);

static bool may_step(const search *s, uint64_t phases, size_t i) {
    for (size_t j = 0; j < s->history->count; j++)
        if (phase_of(phases, j) != AFTER && j != i && s->history->entries[j].ended < s->history->entries[i].began)
            return false;
    return true;
}

/* One more step of a lease or a wait. */
static bool explain_lease(const search *s, uint64_t phases, unsigned out, size_t i) {
    phase now = phase_of(phases, i);
    unsigned hand = now & (IN_HAND | PUT_BACK), saw_none = now & SAW_NONE;
    bool refused = s->history->entries[i].result == HISTORY_REFUSED;
    bool waited = s->history->entries[i].kind == HISTORY_WAIT;
    if (hand == IN_HAND) return explain(s, with_phase(phases, i, PUT_BACK | saw_none), out - 1);
    if (!refused && out < s->most && explain(s, with_phase(phases, i, AFTER), out + 1)) return true;
    if (refused && (out == s->most || saw_none != 0) && explain(s, with_phase(phases, i, AFTER), out)) return true;
    if (refused && waited && saw_none == 0 && out == s->most && explain(s, with_phase(phases, i, hand | SAW_NONE), out))
        return true;
    return hand == 0 && out < s->most && explain(s, with_phase(phases, i, IN_HAND | saw_none), out + 1);
}

static bool explain(const search *s, uint64_t phases, unsigned out) {
    if (*dead_at(phases) == phases + 1) return false;
    bool complete = true;
    for (size_t i = 0; i < s->history->count; i++) {
        if (phase_of(phases, i) == AFTER) continue;
        complete = false;
        if (!may_step(s, phases, i)) continue;
        bool release = s->history->entries[i].kind == HISTORY_RELEASE;
        if (release ? explain(s, with_phase(phases, i, AFTER), out - 1) : explain_lease(s, phases, out, i)) return true;
    }
    if (!complete) *dead_at(phases) = phases + 1;
    return complete;
}

bool history_is_explained(const sched_history *history, unsigned most, unsigned out) {
    _Static_assert(HISTORY_MAX * 4 <= 64, "4 bits for each");
    memset(dead, 0, sizeof dead);
    return explain(&(search){history, most}, 0, out);
}

void history_say(const sched_history *history) {
    static const char *const names[] = {"lease", "wait", "release"};
    for (size_t i = 0; i < history->count; i++)
        sched_say("history: thread %u %s %s, from %u to %u", history->entries[i].thread,
                  names[history->entries[i].kind], history->entries[i].result == HISTORY_REFUSED ? "refused" : "done",
                  history->entries[i].began, history->entries[i].ended);
}
