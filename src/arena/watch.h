// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What an arena has beside itself where somebody wants to see what it does: tracing and sampling by call site (watch.c), a log
 * of its allocations with guards behind them (guard.c), a quarantine of what was undone (quarantine.c).
 *
 * Under a checker that sees memory itself, guards and quarantine are off: it sees more, and sooner. */
#ifndef NM_SRC_ARENA_WATCH_H
#define NM_SRC_ARENA_WATCH_H

#include "arena/arena_internal.h"

#define NM__FILL_NEW    0xa5
#define NM__FILL_UNDONE 0xdd
#define NM__FILL_GUARD  0xfd

/* An allocation, newest last. The bytes from data + bytes to `end`, padding and red zone, are the guard's. */
typedef struct nm__arena_note {
    unsigned char *data;
    size_t bytes;
    unsigned char *end;
    const char
        *site; /* nm__arena_hole: no allocation but memory that was undone and is not used again before a reset */
} nm__arena_note;

typedef struct nm__arena_log {
    nm__block block;
    struct nm__arena_log *previous;
    size_t count, max;
    nm__arena_note notes[];
} nm__arena_log;

struct nm__arena_watch {
    bool tracing;                     /* each allocation is counted by its site */
    bool filling;                     /* what is allocated is filled */
    bool burying;                     /* what is undone is filled */
    bool guarding;                    /* there is a log, and guards are checked */
    bool holding;                     /* what is undone goes into the quarantine */
    bool pooling;                     /* there is a log, for memcheck's pool */
    size_t side_bytes;                /* granted for this and the log */
    size_t sample_bytes, sample_left; /* of bytes handed out; 0: no samples */
    unsigned char *sampled_to;        /* up to here in the current block they are counted */
    nm__arena_log *log;
    size_t log_count;
    nm__arena_block *held_first, *held_last; /* the quarantine, oldest first, linked by `previous` */
    size_t held_bytes, held_limit;
    nm__arena_record *rewound; /* nothing was taken since a rewind to this mark, though `ptr` did not go back */
};
_Static_assert(sizeof(struct nm__arena_watch) <= NM__RECORD_BYTES, "it is one record");

/* ---- watch.c ----------------------------------------------------------------------------------------------------- */

/* Sets up what the arena's scope and the checkers ask for. NULL stays NULL where nobody asks. */
nm_status nm__arena_watch_open(nm__arena *a);
/* Checks and gives back all of it. The chain is undone before. */
void nm__arena_watch_close(nm__arena *a);

/* Around an allocation: makes room in the log (NM_EBUSY, NM_EBUDGET, NM_ENOMEM), then notes it. */
nm_status nm__arena_watch_before(nm__arena *a);
void nm__arena_watch_after(nm__arena *a, unsigned char *p, size_t n, const char *site);

/* Counts what the inline path handed out since the last settle. Before any other change of ptr. */
void nm__arena_sample_sync(nm__arena *a);
/* The last word of nm__arena_settle: lowers `end` to the next sample. */
void nm__arena_sample_settle(nm__arena *a);

/* ---- guard.c ----------------------------------------------------------------------------------------------------- */

extern const char nm__arena_hole[];

nm_status nm__arena_log_ready(nm__arena *a); /* for one more note */
void nm__arena_log_trim(nm__arena *a);       /* after a refusal: gives back a page without notes */
void nm__arena_log_push(nm__arena *a, unsigned char *p, size_t n, const char *site);
/* Checks the guards of the notes above that count and takes them off. The memory is still as the program left it. */
void nm__arena_log_rewind(nm__arena *a, size_t count);
void nm__arena_log_check_all(const nm__arena *a);
void nm__arena_log_close(nm__arena *a);
/* The last allocation is taken back unseen. */
void nm__arena_log_take_back(nm__arena *a, const unsigned char *p);
/* realloc: checks the guard before anything moves; then it was resized in place, with the guard up to `end` (NULL: as it
 * was); or what was there is undone after a move, and its memory lies still in the arena, or goes back now. */
void nm__arena_log_check(nm__arena *a, const unsigned char *p);
void nm__arena_log_resized(nm__arena *a, const unsigned char *p, size_t n, unsigned char *end);
void nm__arena_log_moved(nm__arena *a, const unsigned char *p, bool goes_back);
/* After a rewind that left `ptr` where it was: what lies before it from p on is out of use. */
void nm__arena_log_hole(nm__arena *a, unsigned char *p);

void nm__arena_report(const nm__arena *a, const char *what, const void *address, const char *site);

/* ---- quarantine.c ------------------------------------------------------------------------------------------------ */

/* The block is undone and filled up to `filled` bytes of its payload. Takes it over; the oldest go back to the scope. */
void nm__arena_hold(nm__arena *a, nm__arena_block *b, size_t filled);
/* Checks and gives back all. False: there was nothing. */
bool nm__arena_release_held(nm__arena *a);

/* Keeps a closed arena, so that its use is found out. False: no room for one more, close it for good. */
bool nm__arena_bury(nm__arena *a);
/* A buried arena's scope closes. */
void nm__arena_exhume(nm__arena *a);
/* Gives back what is kept of closed arenas of that scope. False: there was nothing. */
bool nm__arena_release_buried(const nm_scope *scope);

#endif
