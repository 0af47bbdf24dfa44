// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "check/check.h"

static const char *or_unknown(const char *site) { return site != NULL ? site : "?"; }

static void print_and_abort(const nm_misuse *misuse, void *context) {
    (void)context;
    fprintf(stderr, "nebula-memory: %s: %s \"%s\", %p\n  found at    %s\n", or_unknown(misuse->part),
            or_unknown(misuse->what), misuse->name != NULL ? misuse->name : "", misuse->address,
            or_unknown(misuse->site));
    if (misuse->leased_at != NULL) fprintf(stderr, "  leased at   %s\n", misuse->leased_at);
    if (misuse->released_at != NULL) fprintf(stderr, "  released at %s\n", misuse->released_at);
    abort();
}

/* The one setting that belongs to the process: misuse is found where no scope is at hand (a stale lease has none). */
static struct {
    pthread_mutex_t lock;
    nm_misuse_fn *handler;
    void *context;
} setting = {PTHREAD_MUTEX_INITIALIZER, print_and_abort, NULL};

void nm_set_misuse_handler(nm_misuse_fn *handler, void *context) {
    pthread_mutex_lock(&setting.lock);
    setting.handler = handler != NULL ? handler : print_and_abort;
    setting.context = handler != NULL ? context : NULL;
    pthread_mutex_unlock(&setting.lock);
}

void nm__misuse(const nm_misuse *misuse) {
    pthread_mutex_lock(&setting.lock);
    nm_misuse_fn *handler = setting.handler;
    void *context = setting.context;
    pthread_mutex_unlock(&setting.lock);
    handler(misuse, context);
}
