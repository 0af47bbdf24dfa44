// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A request that moves from the thread that reads it to the one that works on it, as docs/guide/scopes-and-arenas.md has it. */
#include <nebula/memory.h>
#include <pthread.h>
#include <stdio.h>

/* Lies in its own arena. */
struct job {
    nm_scope *scope;
    nm_arena *arena;
    struct job *next;
    char *answer;
    int number;
};

/* A queue as any other: its lock is what hands the job's memory from one thread to the next. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct job *first;
} queue = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL};

static void push(struct job *job) {
    pthread_mutex_lock(&queue.lock);
    job->next = queue.first;
    queue.first = job;
    pthread_cond_signal(&queue.filled);
    pthread_mutex_unlock(&queue.lock);
}

static struct job *pop(void) {
    pthread_mutex_lock(&queue.lock);
    while (queue.first == NULL) pthread_cond_wait(&queue.filled, &queue.lock);
    struct job *job = queue.first;
    queue.first = job->next;
    pthread_mutex_unlock(&queue.lock);
    return job;
}

/* The reader: opens the request, fills it in, and does not touch it any more once it is pushed. */
static nm_status read_request(nm_scope *listener, int number) {
    nm_scope *scope;
    nm_arena *arena;
    nm_status st = nm_scope_open(&scope, listener,
                                 NM_SCOPE_OPTIONS(.name = "job", .kind = NM_SCOPE_REQUEST, .hard_bytes = 64 << 10));
    if (st != NM_OK) return st;
    st = nm_arena_open(&arena, scope, NULL);
    struct job *job = st == NM_OK ? NM_NEW(arena, struct job) : NULL;
    if (job == NULL) {
        if (st == NM_OK) st = nm_arena_status(arena);
        nm_scope_close(scope, NULL);
        return st;
    }
    *job = (struct job){.scope = scope, .arena = arena, .number = number};
    push(job);
    return NM_OK;
}

/* The worker: allocates in the arena that another thread opened, and closes the scope. */
static void *work(void *leaks) {
    for (int i = 0; i < 100; i++) {
        struct job *job = pop();
        job->answer = nm_arena_printf(job->arena, "%d squared is %d", job->number, job->number * job->number);
        *(size_t *)leaks += nm_scope_close(job->scope, NULL); /* and with it the job */
    }
    return NULL;
}

int main(void) {
    nm_scope *root;
    pthread_t worker;
    size_t leaks = 0;
    if (nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 16 << 20)) != NM_OK) return 1;
    if (pthread_create(&worker, NULL, work, &leaks) != 0) return 1;
    for (int i = 0; i < 100; i++)
        if (read_request(root, i) != NM_OK) return 1;
    pthread_join(worker, NULL);
    leaks += nm_scope_close(root, NULL);
    printf("100 requests, %zu leaks\n", leaks);
    return leaks == 0 ? 0 : 1;
}
