// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "cache/flight.h"

#include <pthread.h>
#include <string.h>

#include "os/os.h"

/* A thread, as far as it loads. Threads that load and wait at once could wait for each other in a ring, of any number
 * of caches; so each of those says what it waits for. It is found while a load that it leads is in a list, so it
 * lives. */
struct nm__loader {
    size_t lead_count;         /* its own */
    const nm__load *waits_for; /* under `ties`: a load that has not ended */
};

static _Thread_local nm__loader me __attribute__((tls_model("initial-exec")));

/* Only taken with a stripe's lock held, so fork, which holds all stripes, finds it free. */
static pthread_mutex_t ties = PTHREAD_MUTEX_INITIALIZER;

void nm__flight_open(nm__flight *flight) {
    for (unsigned i = 0; i < NM__FLIGHT_STRIPES; i++) {
        flight->stripes[i].first = NULL;
        nm__lock_open(&flight->stripes[i].lock);
    }
}

void nm__flight_close(nm__flight *flight) {
    for (unsigned i = 0; i < NM__FLIGHT_STRIPES; i++) nm__lock_close(&flight->stripes[i].lock);
}

/* ---- lists; atomic for the sake of nm__flight_put_seen, which looks at their heads without the lock ---- */

static void push(nm__load **head, nm__load *load) {
    load->next = *head;
    load->link = head;
    if (load->next != NULL) load->next->link = &load->next;
    nm_atomic_store(head, load, NM_RELAXED);
}

static void unlink_load(nm__load *load) {
    if (load->next != NULL) load->next->link = load->link;
    nm_atomic_store(load->link, load->next, NM_RELAXED);
}

static bool is_of(const nm__load *load, uint64_t hash, const void *key, size_t key_len) {
    return load->hash == hash && load->key_len == key_len && (key_len == 0 || memcmp(load->key, key, key_len) == 0);
}

/* ---- rings ---- */

/* False: waiting for that leader would be waiting for oneself. Else, if others may come to wait for this thread, they
 * know what for. */
static bool tie(nm__load *own, const nm__load *leader) {
    if (me.lead_count == 0) return true; /* nobody waits for a thread that loads nothing */
    pthread_mutex_lock(&ties);
    const nm__loader *last = leader->loader;
    while (last != &me && last->waits_for != NULL) last = last->waits_for->loader;
    own->tied = last != &me;
    if (own->tied) me.waits_for = leader;
    pthread_mutex_unlock(&ties);
    return own->tied;
}

static void untie(const nm__load *followers) {
    bool any = false;
    for (const nm__load *f = followers; f != NULL && !any; f = f->next) any = f->tied;
    if (!any) return;
    pthread_mutex_lock(&ties);
    for (const nm__load *f = followers; f != NULL; f = f->next)
        if (f->tied) f->loader->waits_for = NULL;
    pthread_mutex_unlock(&ties);
}

/* ---- a load ---- */

nm__flight_role nm__flight_begin(nm__flight *flight, uint64_t hash, const void *key, size_t key_len, nm__load *own) {
    nm__flight_stripe *stripe = nm__flight_stripe_of(flight, hash);
    nm__flight_role role = NM__FLIGHT_FOLLOWER;
    *own = (nm__load){.key = key, .key_len = key_len, .hash = hash, .loader = &me};
    nm__lock_take(&stripe->lock);
    nm__load *leader = stripe->first;
    while (leader != NULL && !is_of(leader, hash, key, key_len)) leader = leader->next;
    if (leader == NULL) {
        role = NM__FLIGHT_LEADER;
        me.lead_count++;
        push(&stripe->first, own);
    } else if (tie(own, leader)) {
        own->leader = leader;
        push(&leader->followers, own);
    } else {
        own->status = NM_EBUSY;
        own->landed = 1;
    }
    nm__lock_give(&stripe->lock);
    return role;
}

bool nm__flight_end(nm__flight *flight, nm__load *own, nm_status status) {
    nm__flight_stripe *stripe = nm__flight_stripe_of(flight, own->hash);
    nm__lock_take(&stripe->lock);
    unlink_load(own);
    me.lead_count--;
    bool overtaken = nm_atomic_load(&own->overtaken, NM_RELAXED) != 0;
    nm__load *first = own->followers;
    for (nm__load *f = first; f != NULL; f = f->next) {
        f->status = overtaken ? NM_OK : status;
        f->leader = NULL; /* it stays where it is until the word below */
    }
    untie(first);
    nm__lock_give(&stripe->lock);
    for (nm__load *f = first, *next; f != NULL; f = next) {
        NM_ATOMIC(uint32_t) *landed = &f->landed;
        next = f->next;
        /* release: pairs with the acquire in nm__flight_wait, which lets the frame go; only the address is used then */
        nm_atomic_store(landed, 1u, NM_RELEASE);
        nm__os_get()->wake(landed);
    }
    return overtaken;
}

/* False: too late, the leader has called it. */
static bool leave(nm__flight *flight, nm__load *own) {
    nm__flight_stripe *stripe = nm__flight_stripe_of(flight, own->hash);
    nm__lock_take(&stripe->lock);
    bool in_line = own->leader != NULL;
    if (in_line) {
        unlink_load(own);
        own->next = NULL;
        untie(own);
    }
    nm__lock_give(&stripe->lock);
    return in_line;
}

nm_status nm__flight_wait(nm__flight *flight, nm__load *own, uint64_t timeout_ns) {
    const nm__os *os = nm__os_get();
    uint64_t begin = 0, left = timeout_ns;
    if (timeout_ns != UINT64_MAX) begin = os->clock_ns();
    while (nm_atomic_load(&own->landed, NM_ACQUIRE) == 0) { /* pairs with the release in nm__flight_end */
        if (timeout_ns != UINT64_MAX) {
            uint64_t passed = os->clock_ns() - begin;
            left = passed < timeout_ns ? timeout_ns - passed : 0;
        }
        if (left == 0) {
            if (leave(flight, own)) return NM_ETIMEDOUT;
            timeout_ns = left = UINT64_MAX; /* it is only a few instructions away */
        }
        os->wait(&own->landed, 0, left);
    }
    return own->status;
}

/* ---- what overtakes ---- */

void nm__flight_overtake(nm__flight_stripe *stripe, uint64_t hash, const void *key, size_t key_len) {
    nm__lock_take(&stripe->lock);
    for (nm__load *load = stripe->first; load != NULL; load = load->next)
        if (is_of(load, hash, key, key_len)) {
            nm_atomic_store(&load->overtaken, 1u, NM_RELAXED); /* relaxed: see nm__load_is_overtaken */
            break;
        }
    nm__lock_give(&stripe->lock);
}

void nm__flight_clear_seen(nm__flight *flight) {
    for (unsigned i = 0; i < NM__FLIGHT_STRIPES; i++) {
        nm__flight_stripe *stripe = &flight->stripes[i];
        if (nm_atomic_load(&stripe->first, NM_RELAXED) == NULL) continue; /* relaxed: as in nm__flight_put_seen */
        nm__lock_take(&stripe->lock);
        for (nm__load *load = stripe->first; load != NULL; load = load->next)
            nm_atomic_store(&load->overtaken, 1u, NM_RELAXED);
        nm__lock_give(&stripe->lock);
    }
}

/* ---- fork ---- */

void nm__flight_before_fork(nm__flight *flight) {
    for (unsigned i = 0; i < NM__FLIGHT_STRIPES; i++) nm__lock_take(&flight->stripes[i].lock);
}

/* Only what this thread leads goes on in the child; it may be forking inside a loader. Nobody follows it there. */
static void keep_own(nm__flight_stripe *stripe) {
    for (nm__load *load = stripe->first, *next; load != NULL; load = next) {
        next = load->next;
        load->followers = NULL;
        if (load->loader != &me) unlink_load(load);
    }
}

void nm__flight_after_fork(nm__flight *flight, bool in_child) {
    for (unsigned i = NM__FLIGHT_STRIPES; i-- > 0;) {
        nm__flight_stripe *stripe = &flight->stripes[i];
        if (in_child) {
            keep_own(stripe);
            nm__lock_open(&stripe->lock); /* anew: threads that are gone may have been on their way to sleep in it */
        } else {
            nm__lock_give(&stripe->lock);
        }
    }
}
