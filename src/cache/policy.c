// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/policy.h"

#include <string.h>

static nm__segment segment_of(const nm__node *node) {
    return node->state & NM__NODE_PROTECTED ? NM__PROTECTED : NM__PROBATION;
}

static void link_head(nm__segments *s, nm__list *list, uint32_t number) {
    nm__node *node = nm__segments_node(s, number);
    node->prev = 0;
    node->next = list->head;
    if (list->head != 0)
        nm__segments_node(s, list->head)->prev = number;
    else
        list->tail = number;
    list->head = number;
}

static void unlink_from(nm__segments *s, nm__list *list, uint32_t number) {
    const nm__node *node = nm__segments_node(s, number);
    if (node->prev != 0)
        nm__segments_node(s, node->prev)->next = node->next;
    else
        list->head = node->next;
    if (node->next != 0)
        nm__segments_node(s, node->next)->prev = node->prev;
    else
        list->tail = node->prev;
}

/* Only bytes and mark: the links are the caller's. */
static void assign(nm__segments *s, nm__node *node, nm__segment segment, size_t weight) {
    s->bytes[segment_of(node)] -= weight;
    s->bytes[segment] += weight;
    node->state = segment == NM__PROTECTED ? node->state | NM__NODE_PROTECTED : node->state & ~NM__NODE_PROTECTED;
}

/* Held nodes count but cannot be demoted, so the segment may stay above its limit until they are unpinned. */
static void demote(nm__segments *s) {
    uint32_t tail;
    while (s->bytes[NM__PROTECTED] > s->protected_limit && (tail = s->lists[NM__PROTECTED].tail) != 0) {
        nm__node *node = nm__segments_node(s, tail);
        unlink_from(s, &s->lists[NM__PROTECTED], tail);
        assign(s, node, NM__PROBATION, s->weight(node));
        link_head(s, &s->lists[NM__PROBATION], tail);
    }
}

void nm__segments_open(nm__segments *s, void *base, size_t (*weight)(const nm__node *)) {
    memset(s, 0, sizeof *s);
    s->base = base;
    s->weight = weight;
}

void nm__segments_limit(nm__segments *s, size_t protected_limit) {
    s->protected_limit = protected_limit;
    demote(s);
}

void nm__segments_add(nm__segments *s, uint32_t number) {
    size_t weight = s->weight(nm__segments_node(s, number));
    bool room = s->bytes[NM__PROTECTED] <= s->protected_limit && weight <= s->protected_limit - s->bytes[NM__PROTECTED];
    nm__segments_add_to(s, number, room ? NM__PROTECTED : NM__PROBATION);
}

void nm__segments_add_to(nm__segments *s, uint32_t number, nm__segment segment) {
    nm__node *node = nm__segments_node(s, number);
    node->state &= ~NM__NODE_PROTECTED;
    size_t weight = s->weight(node);
    s->bytes[NM__PROBATION] += weight;
    assign(s, node, segment, weight);
    link_head(s, &s->lists[segment], number);
    demote(s);
}

/* Moves a node that is in no list to the segment that a hit earns it. One that is larger than the whole protected segment
 * stays where it is: it would empty that segment and then fall out of it. */
static void promote(nm__segments *s, nm__node *node) {
    if (node->state & NM__NODE_PROTECTED) return;
    size_t weight = s->weight(node);
    if (weight <= s->protected_limit) assign(s, node, NM__PROTECTED, weight);
}

void nm__segments_hit(nm__segments *s, uint32_t number) {
    nm__node *node = nm__segments_node(s, number);
    unlink_from(s, &s->lists[segment_of(node)], number);
    promote(s, node);
    link_head(s, &s->lists[segment_of(node)], number);
    demote(s);
}

void nm__segments_pin(nm__segments *s, uint32_t number) {
    nm__node *node = nm__segments_node(s, number);
    unlink_from(s, &s->lists[segment_of(node)], number);
    promote(s, node);
    link_head(s, &s->lists[NM__HELD], number);
    demote(s);
}

void nm__segments_unpin(nm__segments *s, uint32_t number) {
    unlink_from(s, &s->lists[NM__HELD], number);
    link_head(s, &s->lists[segment_of(nm__segments_node(s, number))], number);
    demote(s);
}

void nm__segments_remove(nm__segments *s, uint32_t number, bool held) {
    nm__node *node = nm__segments_node(s, number);
    nm__segment segment = segment_of(node);
    unlink_from(s, &s->lists[held ? NM__HELD : segment], number);
    s->bytes[segment] -= s->weight(node);
}

void nm__segments_move(nm__segments *s, uint32_t to) {
    const nm__node *node = nm__segments_node(s, to);
    nm__list *list = &s->lists[segment_of(node)];
    if (node->prev != 0)
        nm__segments_node(s, node->prev)->next = to;
    else
        list->head = to;
    if (node->next != 0)
        nm__segments_node(s, node->next)->prev = to;
    else
        list->tail = to;
}

uint32_t nm__segments_victim(const nm__segments *s) {
    return s->lists[NM__PROBATION].tail != 0 ? s->lists[NM__PROBATION].tail : s->lists[NM__PROTECTED].tail;
}
