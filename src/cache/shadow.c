// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/shadow.h"

#include <string.h>

/* A node is three units, and its number for the policy three times its place. */
#define UNITS 3u
_Static_assert(sizeof(nm__shadow_node) == UNITS * NM__UNIT_BYTES, "a node is as many units");

static size_t weight_of(void *context, uint32_t number) {
    return ((nm__shadow *)context)->nodes[number / UNITS].weight;
}

/* Nobody but the ghosts asks, and they spread what they get: 32 bits of the sample are as good as all. */
static uint64_t hash_for(uint32_t sample) { return (uint64_t)sample * 0x9e3779b97f4a7c15u; }
static uint64_t hash_of(void *context, uint32_t number) {
    return hash_for(((nm__shadow *)context)->nodes[number / UNITS].hash);
}

static const nm__policy_owner owner = {.weight = weight_of, .hash = hash_of};

static size_t tables_bytes(nm_cache_policy policy, uint32_t nodes) { return nm__policy_tables_bytes(policy, 0, nodes); }

static size_t nodes_bytes(uint32_t nodes) { return (((size_t)nodes + 1) * sizeof(nm__shadow_node) + 63) / 64 * 64; }

size_t nm__shadow_bytes(nm_cache_policy policy, uint32_t nodes) {
    return nodes_bytes(nodes) + tables_bytes(policy, nodes);
}

void nm__shadow_open(nm__shadow *s, nm_cache_policy policy, nm_cache_objective objective, unsigned protected_percent,
                     void *memory, uint32_t nodes) {
    memset(s, 0, sizeof *s);
    s->nodes = memory;
    s->node_count = nodes;
    for (uint32_t i = nodes; i > 0; i--) {
        s->nodes[i].chain = (uint16_t)s->free;
        s->free = i;
    }
    size_t bytes = tables_bytes(policy, nodes);
    nm__policy_open(&s->policy, &owner, s, s->nodes, policy, objective, protected_percent,
                    bytes != 0 ? (unsigned char *)memory + nodes_bytes(nodes) : NULL, bytes);
}

/* As many ghosts for its entries as a cache has for its own: more would make it a better one. */
static void fit_tables(nm__shadow *s) {
    if (s->used_count <= s->tables_for / 4 * 5 && s->used_count >= s->tables_for / 2) return;
    s->tables_for = s->used_count;
    size_t bytes = tables_bytes((nm_cache_policy)s->policy.policy, s->used_count);
    if (bytes != 0) nm__policy_set_tables(&s->policy, (unsigned char *)s->nodes + nodes_bytes(s->node_count), bytes);
}

void nm__shadow_set_room(nm__shadow *s, size_t bytes, size_t largest) {
    s->largest = largest;
    nm__policy_set_room(&s->policy, bytes);
}

/* Sampled keys are those with a small sample: all but its high bits are even among them. */
static uint16_t *bucket_of(const nm__shadow *s, uint32_t sample) {
    return &s->nodes[1 + (sample * 0x85ebca6bu) % s->node_count].bucket;
}

static uint32_t find(const nm__shadow *s, uint32_t sample) {
    uint32_t at = *bucket_of(s, sample);
    while (at != 0 && s->nodes[at].hash != sample) at = s->nodes[at].chain;
    return at;
}

uint32_t nm__shadow_find(const nm__shadow *s, uint64_t hash) { return find(s, nm__sample_of(hash)); }

static void drop(nm__shadow *s, uint32_t at) {
    nm__policy_remove(&s->policy, at * UNITS);
    uint16_t *link = bucket_of(s, s->nodes[at].hash);
    while (*link != at) link = &s->nodes[*link].chain;
    *link = s->nodes[at].chain;
    s->nodes[at].chain = (uint16_t)s->free;
    s->free = at;
    s->used_count--;
}

size_t nm__shadow_used_bytes(const nm__shadow *s) {
    size_t bytes = 0;
    for (unsigned i = 0; i < NM__SEGMENTS; i++) bytes += nm__policy_bytes(&s->policy, (nm__segment)i);
    return bytes;
}

/* Makes room for as many bytes more. */
static void evict(nm__shadow *s, size_t incoming) {
    for (uint32_t victim; nm__shadow_used_bytes(s) + incoming > s->policy.room;) {
        if ((victim = nm__policy_victim(&s->policy, incoming)) == 0) return;
        drop(s, victim / UNITS);
    }
}

bool nm__shadow_look(nm__shadow *s, uint64_t hash, size_t *weight_out) {
    uint32_t at = find(s, nm__sample_of(hash));
    if (at == 0) return false;
    if (weight_out != NULL) *weight_out = s->nodes[at].weight;
    nm__policy_hit(&s->policy, at * UNITS, hash_for(s->nodes[at].hash));
    return true;
}

static uint32_t kept_weight(const nm__shadow *s, size_t weight) {
    if (weight > s->policy.room) weight = s->policy.room;
    return weight < UINT32_MAX ? (uint32_t)weight : UINT32_MAX;
}

static void keep(nm__shadow *s, uint32_t sample, uint32_t kept) {
    evict(s, kept);
    if (s->free == 0) {
        s->crowded = true;
        uint32_t victim = nm__policy_victim(&s->policy, kept);
        if (victim == 0) return;
        drop(s, victim / UNITS);
    }
    uint32_t at = s->free;
    nm__shadow_node *node = &s->nodes[at];
    s->free = node->chain;
    uint16_t *bucket = bucket_of(s, sample);
    node->weight = kept;
    node->hash = sample;
    node->chain = *bucket;
    *bucket = (uint16_t)at;
    nm__node_set_state(&node->node, 0);
    s->used_count++;
    nm__policy_add(&s->policy, at * UNITS, hash_for(sample));
    fit_tables(s);
}

static void reweigh(nm__shadow *s, uint32_t at, uint32_t kept) {
    uint32_t state = nm__node_state(&s->nodes[at].node);
    nm__policy_remove(&s->policy, at * UNITS);
    s->nodes[at].weight = kept;
    nm__policy_add_as(&s->policy, at * UNITS, state);
    evict(s, 0);
}

bool nm__shadow_use(nm__shadow *s, uint64_t hash, size_t weight) {
    uint32_t sample = nm__sample_of(hash), at = find(s, sample), kept = kept_weight(s, weight);
    if (at == 0) {
        if (weight <= s->largest) keep(s, sample, kept);
        return false;
    }
    nm__policy_hit(&s->policy, at * UNITS, hash_for(sample));
    if (s->nodes[at].weight != kept) reweigh(s, at, kept);
    return true;
}

bool nm__shadow_put(nm__shadow *s, uint64_t hash, size_t weight) {
    uint32_t sample = nm__sample_of(hash), at = find(s, sample);
    if (weight > s->largest) return at != 0; /* what was there stays */
    if (at != 0)
        reweigh(s, at, kept_weight(s, weight));
    else
        keep(s, sample, kept_weight(s, weight));
    return at != 0;
}

void nm__shadow_remove(nm__shadow *s, uint64_t hash) {
    uint32_t at = find(s, nm__sample_of(hash));
    if (at != 0) drop(s, at);
}

void nm__shadow_thin(nm__shadow *s, uint32_t threshold) {
    /* A node that is in no bucket has no state bit that says so: the buckets are walked. */
    for (uint32_t b = 1; b <= s->node_count; b++)
        for (uint32_t at = s->nodes[b].bucket, next; at != 0; at = next) {
            next = s->nodes[at].chain;
            if (s->nodes[at].hash >= threshold) drop(s, at);
        }
}
